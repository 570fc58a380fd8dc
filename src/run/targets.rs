/*!
The devices of a run: children of this program on this machine, agents elsewhere. Each is started or
reached when the first stage needs it, and let go with the run.
*/

use super::keep::Teller;
use super::{Event, RunError};
use crate::engine::Cancel;
use crate::evaluate::Record;
use crate::exits::Part;
use crate::remote::client::{Client, ClientError};
use crate::remote::local::{LocalAgent, LocalOptions};
use crate::remote::message::{Address, AgentInfo, CloudTarget, JobEvent, JobRequest, JobResult};
use crate::session::{Session, Target, Token};
use std::path::PathBuf;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How often the cancel token is looked at while agents work.
const LOOK: Duration = Duration::from_millis(50);
/// How long a cancelled agent may take to say so.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A target that answers.
struct Reached {
    client: Client,
    info: AgentInfo,
    token: Option<String>,
    local: Option<LocalAgent>,
}

/// The targets of a run.
pub(super) struct Fleet<'a> {
    runtime: Runtime,
    session: &'a Session,
    program: Option<PathBuf>,
    edge: Vec<Option<Reached>>,
    cloud: Vec<Option<Reached>>,
    cancel: &'a Cancel,
}

/// A job for one target of a side.
pub(super) struct Order {
    pub index: usize,
    pub request: JobRequest,
}

/// What came of it, and the records where it was an evaluation.
pub(super) struct Delivery {
    pub result: JobResult,
    pub records: Vec<Record>,
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
            cancel,
        })
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
        let targets = match part {
            Part::Edge => &self.session.edge,
            Part::Cloud => &self.session.cloud,
        };
        let target = &targets[index % targets.len().max(1)];
        if self.side(part)[index].is_none() {
            let reached = self.open(teller, part, index, target)?;
            let machine = &reached.info.device;
            let stretched = match reached.info.slowdown {
                s if s > 1.0 => format!(", slowed down {s}× (emulated)"),
                _ => String::new(),
            };
            let threads = match reached.info.threads {
                1 => "1 thread".to_owned(),
                n => format!("{n} threads"),
            };
            let state = format!("connected: {machine}, {threads}{stretched}");
            teller.event(Event::Target { part, index, state });
            self.side(part)[index] = Some(reached);
        }
        match &self.side(part)[index] {
            Some(reached) => Ok(reached),
            None => Err(RunError::Stopped),
        }
    }

    fn open(
        &self,
        teller: &mut Teller,
        part: Part,
        index: usize,
        target: &Target,
    ) -> Result<Reached, RunError> {
        let side = match part {
            Part::Edge => "edge",
            Part::Cloud => "cloud",
        };
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
                self.runtime.block_on(async {
                    let local = LocalAgent::start(&options).await?;
                    for note in local.notes() {
                        teller.say(format!("{side}: {note}"));
                    }
                    let client = Client::connect(local.url(), None).await?;
                    let info = client.info().await?;
                    Ok(Reached {
                        client,
                        info,
                        token: None,
                        local: Some(local),
                    })
                })
            }
            Target::Agent { url, token, .. } => {
                let token = token.as_ref().map(read_token).transpose()?;
                let state = format!("connecting to {url}");
                teller.event(Event::Target { part, index, state });
                self.runtime.block_on(async {
                    let client = Client::connect(url, token.as_deref()).await?;
                    let info = client.info().await?;
                    Ok(Reached {
                        client,
                        info,
                        token,
                        local: None,
                    })
                })
            }
            Target::V2 { url, .. } => Err(RunError::NotYet(format!(
                "offloading to a server of the Open Inference Protocol ({url}) is not there yet; \
                 name an agent: cloud: [Agent(url: \"http://…\")]"
            ))),
        }
    }

    /// Where an edge target finds a cloud target.
    pub fn cloud_target(
        &mut self,
        teller: &mut Teller,
        index: usize,
    ) -> Result<CloudTarget, RunError> {
        let reached = self.reach(teller, Part::Cloud, index)?;
        Ok(CloudTarget {
            url: reached.client.url().to_owned(),
            token: reached.token.clone(),
            fingerprint: None,
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

    /// One job on one target.
    pub fn job(
        &mut self,
        teller: &mut Teller,
        part: Part,
        request: JobRequest,
    ) -> Result<Delivery, RunError> {
        let orders = vec![Order { index: 0, request }];
        let mut deliveries = self.jobs(teller, part, orders, &mut |teller, _, event| {
            if let JobEvent::Progress(p) = event {
                teller.progress(p.done as usize, p.total as usize, &p.note);
            }
        })?;
        deliveries.pop().ok_or(RunError::Stopped)
    }

    /// Jobs on targets of one side at the same time, to the end of the last. The first failure (and
    /// the cancel token) stops the others.
    pub fn jobs(
        &mut self,
        teller: &mut Teller,
        part: Part,
        orders: Vec<Order>,
        on: &mut dyn FnMut(&mut Teller, usize, JobEvent),
    ) -> Result<Vec<Delivery>, RunError> {
        let mut clients = Vec::new();
        for order in orders {
            let client = self.reach(teller, part, order.index)?.client.clone();
            clients.push((order, client));
        }
        let cancel = self.cancel;
        let done = self.runtime.block_on(async {
            let (events, mut inbox) = mpsc::unbounded_channel();
            let mut tasks = JoinSet::new();
            let mut running = Vec::new();
            for (order, client) in clients {
                let id = client.submit(&order.request).await?;
                running.push((client.clone(), id.clone()));
                let events = events.clone();
                tasks.spawn(async move {
                    let mut told = |event: &JobEvent| {
                        // Nobody listens only when the run is given up.
                        let _ = events.send((order.index, event.clone()));
                    };
                    let result = client.follow(&id, &mut told).await?;
                    let records = match &result {
                        JobResult::Evaluated(_) => client.all_records(&id).await?,
                        _ => Vec::new(),
                    };
                    Ok::<_, ClientError>(Delivery { result, records })
                });
            }
            drop(events);
            let mut done = Vec::new();
            let mut failure: Option<RunError> = None;
            loop {
                tokio::select! {
                    Some((index, event)) = inbox.recv() => on(teller, index, event),
                    joined = tasks.join_next() => match joined {
                        None => break,
                        Some(Ok(Ok(delivery))) => done.push(delivery),
                        Some(Ok(Err(error))) => {
                            failure.get_or_insert(error.into());
                            stop(&running).await;
                        }
                        Some(Err(error)) => {
                            failure.get_or_insert(RunError::Runtime(error.into()));
                        }
                    },
                    () = tokio::time::sleep(LOOK) => if cancel.is_cancelled() && failure.is_none() {
                        failure = Some(RunError::Stopped);
                        stop(&running).await;
                    }
                }
            }
            while let Ok((index, event)) = inbox.try_recv() {
                on(teller, index, event);
            }
            match failure {
                Some(error) => Err(error),
                None => Ok(done),
            }
        });
        done.map_err(|error| self.explain(error))
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

async fn stop(running: &[(Client, String)]) {
    for (client, id) in running {
        // One that is over, or gone, needs no stopping.
        let _ = tokio::time::timeout(LAST_WORDS, client.cancel(id)).await;
    }
}

fn read_token(token: &Token) -> Result<String, RunError> {
    match token {
        Token::Env(name) => std::env::var(name).map_err(|_| RunError::Token(name.clone())),
        Token::File(path) => {
            let text = std::fs::read_to_string(path).map_err(|source| RunError::Io {
                file: path.clone(),
                source,
            })?;
            Ok(text.trim().to_owned())
        }
    }
}
