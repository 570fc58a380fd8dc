/*!
The devices of a run: children of this program on this machine, agents elsewhere. Each is started or
reached when the first stage needs it, and let go with the run.
*/

mod holding;
mod shards;
mod watch;

pub(super) use shards::Shard;

use holding::{Holding, connection};
use watch::Watch;

use super::keep::Teller;
use super::pause::Pause;
use super::{Event, RunError};
use crate::engine::Cancel;
use crate::evaluate::Record;
use crate::exits::Part;
use crate::remote::Believed;
use crate::remote::client::{Client, ClientError};
use crate::remote::local::{LocalAgent, LocalOptions};
use crate::remote::message::{
    Address, AgentInfo, CloudTarget, JobEvent, JobRequest, JobResult, V2Model,
};
use crate::session::{Session, Target, Token, Trust};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// How often the cancel token is looked at while agents work.
const LOOK: Duration = Duration::from_millis(50);
/// How long a cancelled agent may take to say so.
const LAST_WORDS: Duration = Duration::from_secs(2);

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
    cancel: &'a Cancel,
    pause: Pause,
    watch: Watch,
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
        pause: Pause,
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
            pause,
            watch: Watch::new(),
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
            // The stand-in for a server of another kind tells nothing of that server.
            if !matches!(target, Target::V2 { .. }) {
                let client = reached.client.clone();
                self.watch.look_at(&self.runtime, (part, index), client);
            }
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
                self.child(teller, side, &options)
            }
            Target::Agent { url, token, trust } => {
                let believed = believed(trust)?;
                let token = token.as_ref().map(read_token).transpose()?;
                let state = format!("connecting to {url}");
                teller.event(Event::Target { part, index, state });
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
                self.child(teller, side, &options)
            }
        }
    }

    /// A child of this program.
    fn child(
        &self,
        teller: &mut Teller,
        side: &str,
        options: &LocalOptions,
    ) -> Result<Reached, RunError> {
        self.runtime.block_on(async {
            let local = LocalAgent::start(options).await?;
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

    /// Where an edge target finds a cloud target. With `probabilities` the cloud part of the plan is
    /// meant, which a server of the Open Inference Protocol may serve (and whether it ends in
    /// Softmax); without, any part is.
    ///
    /// # Errors
    /// Where it can't be reached, or its token would have to travel unencrypted.
    pub fn cloud_target(
        &mut self,
        teller: &mut Teller,
        index: usize,
        probabilities: Option<bool>,
    ) -> Result<CloudTarget, RunError> {
        if let (Some(Target::V2 { url, model }), Some(probabilities)) =
            (self.session.cloud.get(index), probabilities)
        {
            return Ok(CloudTarget {
                v2: Some(V2Model {
                    name: model.clone(),
                    probabilities,
                }),
                ..CloudTarget::new(url)
            });
        }
        let reached = self.reach(teller, Part::Cloud, index)?;
        let target = CloudTarget {
            token: reached.token.clone(),
            believed: reached.believed.clone(),
            ..CloudTarget::new(reached.client.url())
        };
        if target.token.is_some() {
            self.edges_are_private(&target.url)?;
        }
        Ok(target)
    }

    /// Whether what the edges are told stays between them and this machine.
    fn edges_are_private(&self, cloud: &str) -> Result<(), RunError> {
        let open = |target: &&Target| match target {
            Target::Agent { url, .. } => !is_private(url),
            _ => false,
        };
        match self.session.edge.iter().find(open) {
            Some(Target::Agent { url, .. }) => Err(RunError::TokenInTheOpen {
                edge: url.clone(),
                cloud: cloud.to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// Hands all cloud targets the part that they are to run, and says where an edge finds which. One
    /// that can't be reached is named and passed over, as long as another can.
    ///
    /// # Errors
    /// Where none can be reached.
    pub fn clouds(
        &mut self,
        teller: &mut Teller,
        bytes: &[u8],
        probabilities: Option<bool>,
    ) -> Result<Vec<(usize, CloudTarget)>, RunError> {
        let is_v2 = |target: &Target| matches!(target, Target::V2 { .. });
        let all = self.session.cloud.len().max(1);
        let mut wanted: Vec<usize> = (0..all).collect();
        // What isn't the plan's part no such server has.
        if probabilities.is_none() && !self.session.cloud.iter().all(is_v2) {
            wanted.retain(|&at| !self.session.cloud.get(at).is_some_and(is_v2));
        }
        let mut targets = Vec::new();
        let mut failure = None;
        for index in wanted {
            let served =
                self.session.cloud.get(index).is_some_and(is_v2) && probabilities.is_some();
            let put = match served {
                true => Ok(()),
                false => self.put(teller, Part::Cloud, index, bytes).map(drop),
            };
            match put.and_then(|()| self.cloud_target(teller, index, probabilities)) {
                Ok(target) => targets.push((index, target)),
                Err(error @ RunError::Client(ClientError::Unreachable { .. })) if all > 1 => {
                    teller.say(format!("cloud {index}: {error}; the others are asked"));
                    failure.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        match (targets.is_empty(), failure) {
            (true, Some(error)) => Err(error),
            _ => Ok(targets),
        }
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

    /// One job on the first target of a side, to its end. The cancel token stops it.
    pub fn job(
        &mut self,
        teller: &mut Teller,
        part: Part,
        request: JobRequest,
    ) -> Result<JobResult, RunError> {
        let client = self.reach(teller, part, 0)?.client.clone();
        let (cancel, watch) = (self.cancel, &mut self.watch);
        let mut holding = Holding::new(&self.pause);
        watch.leave_alone((part, 0), true);
        let done = self.runtime.block_on(async {
            let id = client.submit(&request).await?;
            let (events, mut inbox) = mpsc::unbounded_channel();
            let mut told = |event: &JobEvent| {
                // Its other end lives as long as this.
                let _ = events.send(event.clone());
            };
            let mut follow = std::pin::pin!(client.follow(&id, &mut told));
            let mut stopped = false;
            let end = loop {
                tokio::select! {
                    end = &mut follow => break end,
                    Some(event) = inbox.recv() => match event {
                        JobEvent::Progress(p) => {
                            teller.progress(p.done as usize, p.total as usize, &p.note);
                            holding.told(teller, p.held);
                        }
                        other => connection(teller, part, 0, &other),
                    },
                    () = tokio::time::sleep(LOOK) => {
                        if cancel.is_cancelled() && !stopped {
                            stopped = true;
                            // One that is over, or gone, needs no stopping.
                            let _ = tokio::time::timeout(LAST_WORDS, client.cancel(&id)).await;
                        }
                        holding.mind([(&client, id.as_str())].into_iter()).await;
                        watch.tell(teller);
                    }
                }
            };
            match (end, stopped) {
                (_, true) => Err(RunError::Stopped),
                (end, false) => Ok(end?),
            }
        });
        drop(holding);
        self.watch.leave_alone((part, 0), false);
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

/// Whether nobody can listen in on the way to an address: encrypted, or on this machine (where the end
/// of a tunnel is, too).
fn is_private(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else {
        return true;
    };
    let host = match rest.strip_prefix('[') {
        Some(six) => six.split(']').next().unwrap_or_default(),
        None => rest.split([':', '/']).next().unwrap_or_default(),
    };
    let loopback = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    loopback || host == "localhost"
}

fn believed(trust: &Trust) -> Result<Believed, RunError> {
    Ok(match trust {
        Trust::System => Believed::System,
        Trust::Fingerprint(print) => Believed::Fingerprint(print.clone()),
        Trust::Ca(file) => {
            let read = std::fs::read_to_string(file);
            Believed::Authorities(read.map_err(|source| RunError::Io {
                file: file.clone(),
                source,
            })?)
        }
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("https://jetson:7070", true)]
    #[case("http://127.0.0.1:7070", true)]
    #[case("http://[::1]:7070", true)]
    #[case("http://localhost", true)]
    #[case("http://jetson:7070", false)]
    #[case("http://127.0.0.1.example.com", false)]
    #[case("http://10.0.0.7/", false)]
    fn a_token_goes_only_where_nobody_listens(#[case] url: &str, #[case] private: bool) {
        assert_eq!(is_private(url), private);
    }
}
