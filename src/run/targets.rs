/*!
The devices of a run: children of this program on this machine, agents elsewhere. Each is started or
reached when the first stage needs it, and let go with the run. Of several on a side, one that can't be
reached is passed over, named, and tried again by a later stage.

| file       | what it is                                                       |
|------------|------------------------------------------------------------------|
| `shards`   | samples shared by the edges, taken over from one that is lost    |
| `clouds`   | the cloud targets, as the edges get to know them                 |
| `training` | heads trained on a target                                        |
| `left`     | what a killed run left: found again by the next                  |
| `secrets`  | tokens and certificates                                          |
*/

mod clouds;
mod left;
mod secrets;
mod shards;
mod training;

pub(super) use shards::Shard;
pub(super) use training::Away;

use super::keep::Teller;
use super::{Event, Options, RunError};
use crate::engine::Cancel;
use crate::evaluate::Record;
use crate::exits::Part;
use crate::remote::Believed;
use crate::remote::client::{Client, ClientError};
use crate::remote::local::{LocalAgent, LocalOptions};
use crate::remote::message::{Address, AgentInfo, JobEvent, JobRequest, JobResult};
use crate::session::{Session, Target};
use left::Left;
use secrets::{believed, read_token};
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// How often the cancel token is looked at while agents work.
const LOOK: Duration = Duration::from_millis(50);
/// How long a cancelled agent may take to say so.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long a target that couldn't be reached is left alone, where there are others.
const BREAK: Duration = Duration::from_secs(20);

/// A target that answers.
struct Reached {
    client: Client,
    info: AgentInfo,
    token: Option<String>,
    believed: Believed,
    local: Option<LocalAgent>,
}

/// The targets of a run.
pub(super) struct Fleet<'a> {
    runtime: Runtime,
    session: &'a Session,
    program: Option<PathBuf>,
    edge: Vec<Option<Reached>>,
    cloud: Vec<Option<Reached>>,
    /// Those that couldn't be reached: since when, and what to tell of it.
    away: HashMap<(Part, usize), (Instant, RunError)>,
    /// The one of a side that profiles and single jobs are for, if it still answers.
    lead: HashMap<Part, usize>,
    left: Option<Left>,
    /// For the report.
    notes: Vec<String>,
    cancel: &'a Cancel,
}

/// What came of it, and the records where it was an evaluation.
pub(super) struct Delivery {
    pub result: JobResult,
    pub records: Vec<Record>,
}

fn side_name(part: Part) -> &'static str {
    match part {
        Part::Edge => "edge",
        Part::Cloud => "cloud",
    }
}

fn is_away(error: &RunError) -> bool {
    matches!(error, RunError::Client(ClientError::Unreachable { .. }))
}

impl<'a> Fleet<'a> {
    pub fn new(
        session: &'a Session,
        program: Option<PathBuf>,
        cancel: &'a Cancel,
    ) -> Result<Fleet<'a>, RunError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(RunError::Runtime)?;
        Ok(Fleet {
            runtime,
            session,
            program,
            edge: session.edge.iter().map(|_| None).collect(),
            cloud: session.cloud.iter().map(|_| None).collect(),
            away: HashMap::new(),
            lead: HashMap::new(),
            left: None,
            notes: Vec::new(),
            cancel,
        })
    }

    /// Takes up what a killed run left in the out folder, and can be taken up itself.
    pub fn keep_findable(&mut self, options: &Options) -> Result<(), RunError> {
        let mut left = Left::open(&options.out, options.fresh)?;
        if options.fresh {
            self.runtime.block_on(left.end());
        }
        self.left = Some(left);
        Ok(())
    }

    /// What the report has to say of the targets.
    pub fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    fn targets(&self, part: Part) -> &'a [Target] {
        match part {
            Part::Edge => &self.session.edge,
            Part::Cloud => &self.session.cloud,
        }
    }

    fn side(&mut self, part: Part) -> &mut Vec<Option<Reached>> {
        match part {
            Part::Edge => &mut self.edge,
            Part::Cloud => &mut self.cloud,
        }
    }

    /// Starts or reaches a target, unless it was before.
    fn reach(
        &mut self,
        teller: &mut Teller,
        part: Part,
        index: usize,
    ) -> Result<&Reached, RunError> {
        let targets = self.targets(part);
        let target = &targets[index % targets.len().max(1)];
        if self.side(part)[index].is_none() {
            let reached = self.open(teller, part, index, target)?;
            let machine = &reached.info.device;
            let processor = match reached.info.processor.as_str() {
                "" | "cpu" => String::new(),
                gpu => format!(" on {gpu}"),
            };
            let stretched = match reached.info.slowdown {
                s if s > 1.0 => format!(", slowed down {s}× (emulated)"),
                _ => String::new(),
            };
            let threads = match reached.info.threads {
                1 => "1 thread".to_owned(),
                n => format!("{n} threads"),
            };
            let state = format!("connected: {machine}{processor}, {threads}{stretched}");
            teller.event(Event::Target { part, index, state });
            self.side(part)[index] = Some(reached);
        }
        match &self.side(part)[index] {
            Some(reached) => Ok(reached),
            None => Err(RunError::Stopped),
        }
    }

    /// Those of a side that answer. One of several that doesn't is named and left alone for a while.
    ///
    /// # Errors
    /// Where none answers; and what is wrong with the session rather than with a network.
    pub fn answering(&mut self, teller: &mut Teller, part: Part) -> Result<Vec<usize>, RunError> {
        let all = self.targets(part).len();
        let mut there = Vec::new();
        for index in 0..all {
            if self.left_alone(part, index) {
                continue;
            }
            match self.reach(teller, part, index) {
                Ok(_) => {
                    if self.away.remove(&(part, index)).is_some() {
                        let side = side_name(part);
                        teller.say(format!("{side} {index} answers now"));
                    }
                    there.push(index);
                }
                Err(error) if is_away(&error) && all > 1 => {
                    self.miss(teller, part, index, error);
                }
                Err(error) => return Err(error),
            }
        }
        match there.is_empty() {
            true => Err(self.nobody(part, None)),
            false => Ok(there),
        }
    }

    /// Whether a target that couldn't be reached is not to be asked yet.
    fn left_alone(&self, part: Part, index: usize) -> bool {
        let away = self.away.get(&(part, index));
        away.is_some_and(|(since, _)| since.elapsed() < BREAK)
    }

    /// What to tell where nobody on a side answers: of this one, or of the first.
    pub fn nobody(&mut self, part: Part, index: Option<usize>) -> RunError {
        let all = self.targets(part).len();
        let mut of = |index| self.away.remove(&(part, index)).map(|(_, error)| error);
        let told = index.and_then(&mut of);
        let told = told.or_else(|| (0..all).find_map(of));
        told.unwrap_or(RunError::NothingToRun)
    }

    /// Does without a target that was lost on the way, where there are `others`.
    ///
    /// # Errors
    /// The error itself, where it is another one or there are none.
    pub fn lose(
        &mut self,
        teller: &mut Teller,
        part: Part,
        index: usize,
        error: RunError,
        others: bool,
    ) -> Result<(), RunError> {
        if !is_away(&error) || !others {
            return Err(error);
        }
        self.miss(teller, part, index, error);
        Ok(())
    }

    /// Does without a target for a while, and says so.
    pub fn miss(&mut self, teller: &mut Teller, part: Part, index: usize, error: RunError) {
        let side = side_name(part);
        self.side(part)[index] = None;
        let place = (part, index);
        if !self.away.contains_key(&place) {
            teller.say(format!("{side} {index}: {error}; the others do without it"));
            let state = "not reached; tried again later".to_string();
            teller.event(Event::Target { part, index, state });
            let note = format!("The {side} target {index} was left out for a time: {error}.");
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
        self.away.insert(place, (Instant::now(), error));
    }

    /// Says which one of a side single jobs are for.
    pub fn prefer(&mut self, part: Part, index: usize) {
        self.lead.insert(part, index);
    }

    /// The one of a side that single jobs are for: the preferred one, or the first that answers.
    pub fn lead(&mut self, teller: &mut Teller, part: Part) -> Result<usize, RunError> {
        if self.targets(part).len() < 2 {
            return Ok(0);
        }
        let there = self.answering(teller, part)?;
        let preferred = self.lead.get(&part).filter(|at| there.contains(at));
        let lead = *preferred.unwrap_or(&there[0]);
        self.lead.insert(part, lead);
        Ok(lead)
    }

    fn open(
        &mut self,
        teller: &mut Teller,
        part: Part,
        index: usize,
        target: &Target,
    ) -> Result<Reached, RunError> {
        let side = side_name(part);
        match target {
            Target::Local {
                cores,
                slowdown,
                threads,
            } => {
                let options = LocalOptions {
                    program: self.program.clone(),
                    cores: cores.clone(),
                    threads: *threads,
                    slowdown: *slowdown,
                    ..LocalOptions::default()
                };
                self.child(teller, (part, index), &options)
            }
            Target::Agent { url, token, trust } => {
                let believed = believed(trust)?;
                let token = token.as_ref().map(read_token).transpose()?;
                let state = format!("connecting to {url}");
                teller.event(Event::Target { part, index, state });
                // Its jobs, too, are taken up by the next run, should this one be killed.
                if let Some(left) = &self.left {
                    left.write()?;
                }
                self.runtime.block_on(async {
                    let client = Client::connect_to(url, token.as_deref(), &believed).await?;
                    let info = client.info().await?;
                    Ok(Reached {
                        client,
                        info,
                        token,
                        believed,
                        local: None,
                    })
                })
            }
            // It infers and does nothing else: what has to be timed layer by layer, and a part that
            // it doesn't serve, needs somebody else.
            Target::V2 { url, .. } => {
                teller.say(format!(
                    "{side}: {url} serves one model and can't be profiled; this machine stands in \
                     for it where more is needed, so times predicted for the cloud are this machine's"
                ));
                let options = LocalOptions {
                    program: self.program.clone(),
                    ..LocalOptions::default()
                };
                self.child(teller, (part, index), &options)
            }
        }
    }

    /// A child of this program: one that a killed run left, or a new one.
    fn child(
        &mut self,
        teller: &mut Teller,
        (part, index): (Part, usize),
        options: &LocalOptions,
    ) -> Result<Reached, RunError> {
        let side = side_name(part);
        let left = &mut self.left;
        self.runtime.block_on(async {
            let rejoined = match left {
                Some(left) => left.rejoin(part, index, options).await,
                None => None,
            };
            let local = match rejoined {
                Some(local) => {
                    teller.say(format!(
                        "{side} {index}: rejoined, an earlier run left it running"
                    ));
                    local
                }
                None => LocalAgent::start(options).await?,
            };
            if let Some(left) = left {
                left.note(part, index, options, &local)?;
            }
            for note in local.notes() {
                teller.say(format!("{side}: {note}"));
            }
            let client = local.connect().await?;
            let info = client.info().await?;
            Ok(Reached {
                client,
                info,
                token: Some(local.token().to_string()),
                believed: Believed::System,
                local: Some(local),
            })
        })
    }

    /// Hands a target some bytes, unless it has them.
    pub fn put(
        &mut self,
        teller: &mut Teller,
        part: Part,
        index: usize,
        bytes: &[u8],
    ) -> Result<Address, RunError> {
        let client = self.reach(teller, part, index)?.client.clone();
        let bytes = bytes.to_vec();
        Ok(self.runtime.block_on(client.put(bytes))?)
    }

    /// One job on the leading target of a side, to its end. The cancel token stops it.
    pub fn job(
        &mut self,
        teller: &mut Teller,
        part: Part,
        request: JobRequest,
    ) -> Result<JobResult, RunError> {
        let index = self.lead(teller, part)?;
        let (result, ..) = self.job_at(teller, part, index, &request, &mut |teller, event| {
            if let JobEvent::Progress(p) = event {
                teller.progress(p.done as usize, p.total as usize, &p.note);
            }
        })?;
        Ok(result)
    }

    /// The same on one target, its events told; gives the job's id, too.
    fn job_at(
        &mut self,
        teller: &mut Teller,
        part: Part,
        index: usize,
        request: &JobRequest,
        on: &mut dyn FnMut(&mut Teller, JobEvent),
    ) -> Result<(JobResult, Client, String), RunError> {
        let client = self.reach(teller, part, index)?.client.clone();
        let key = self.left.as_ref().map(|left| left.key(request));
        let cancel = self.cancel;
        let done = self.runtime.block_on(async {
            let id = match &key {
                Some(key) => client.submit_as(key, request).await?,
                None => client.submit(request).await?,
            };
            let (events, mut inbox) = mpsc::unbounded_channel();
            let mut told = |event: &JobEvent| {
                // Its other end lives as long as this.
                let _ = events.send(event.clone());
            };
            let mut follow = std::pin::pin!(client.follow(&id, &mut told));
            let mut stopped = false;
            let end = loop {
                tokio::select! {
                    // What came before the end is told before it.
                    biased;
                    Some(event) = inbox.recv() => on(teller, event),
                    end = &mut follow => break end,
                    () = tokio::time::sleep(LOOK) => if cancel.is_cancelled() && !stopped {
                        stopped = true;
                        // One that is over, or gone, needs no stopping.
                        let _ = tokio::time::timeout(LAST_WORDS, client.cancel(&id)).await;
                    }
                }
            };
            while let Ok(event) = inbox.try_recv() {
                on(teller, event);
            }
            match (end, stopped) {
                (_, true) => Err(RunError::Stopped),
                (end, false) => Ok((end?, id.clone())),
            }
        });
        let (result, id) = done.map_err(|error| self.explain(error))?;
        Ok((result, client, id))
    }

    /// A connection that broke because the child behind it died is better told by its last words.
    fn explain(&mut self, error: RunError) -> RunError {
        if !matches!(error, RunError::Client(ClientError::Unreachable { .. })) {
            return error;
        }
        for reached in self.edge.iter_mut().chain(&mut self.cloud).flatten() {
            if let Some(local) = &mut reached.local
                && let Some(words) = local.died()
            {
                return RunError::Died(words);
            }
        }
        error
    }
}

impl Drop for Fleet<'_> {
    fn drop(&mut self) {
        if let Some(left) = &mut self.left {
            self.runtime.block_on(left.end());
        }
    }
}
