/*!
The devices of a run: children of this program on this machine, agents elsewhere. Each is started or
reached when the first stage needs it, and let go with the run. Of several on a side, one that can't be
reached is passed over, named, and tried again by a later stage.

| file       | what it is                                                       |
|------------|------------------------------------------------------------------|
| `availability` | targets that can't be reached, and for how long             |
| `job`      | one job on one target                                            |
| `pause_relay` | jobs that wait while the run is asked to                      |
| `shards`   | samples shared by the edges, taken over from one that is lost    |
| `clouds`   | the targets behind a link, as those before it get to know them   |
| `training` | heads trained on a target                                        |
| `resume_file` | what a killed run left: found again by the next               |
| `probe`    | whether one answers, asked before there is a run                  |
| `secrets`  | tokens and certificates                                          |
| `watch`    | whether targets answer, and what their sensors say               |
*/

mod availability;
mod clouds;
mod job;
mod pause_relay;
mod probe;
mod resume_file;
mod secrets;
mod shards;
mod training;
mod watch;

use probe::has_engine;
pub use probe::probe;
pub(super) use shards::Shard;
pub(super) use training::RemoteTraining;

use super::pause::Pause;
use super::stage_cache::Reporter;
use super::{Options, RunError};
use crate::backend::BackendId;
use crate::engine::Cancel;
use crate::event::{Connection, Event, Note, TargetId};
use crate::plan::{Tier, TierNames};
use crate::predict::Record;
use crate::protocol::TlsTrust;
use crate::protocol::client::{Client, ClientError};
use crate::protocol::message::{Address, AgentInfo, JobResult};
use crate::run::local::{LocalAgent, LocalOptions};
use crate::session::{Session, Target};
use resume_file::ResumeFile;
use secrets::{believed, read_token};
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use watch::Watch;

/// How often the cancel token is looked at while agents work.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long a cancelled agent may take to say so.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What a future gives, unless the run is stopped first: a target that doesn't answer is not waited for.
async fn unless_stopped<T>(
    cancel: &Cancel,
    future: impl Future<Output = Result<T, RunError>>,
) -> Result<T, RunError> {
    let raised = async {
        while !cancel.is_cancelled() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    tokio::select! {
        done = future => done,
        () = raised => Err(RunError::Stopped),
    }
}

/// A target that answers.
struct Reached {
    client: Client,
    info: AgentInfo,
    token: Option<String>,
    believed: TlsTrust,
    local: Option<LocalAgent>,
}

/// The targets of a run.
pub(super) struct Fleet<'a> {
    runtime: Runtime,
    session: &'a Session,
    program: Option<PathBuf>,
    /// The targets of each tier, in the session's order.
    tiers: Vec<Vec<Option<Reached>>>,
    names: TierNames,
    /// Those that couldn't be reached: since when, and what to tell of it.
    away: HashMap<(Tier, usize), (Instant, RunError)>,
    /// The one of a side that profiles and single jobs are for, if it still answers.
    lead: HashMap<Tier, usize>,
    resume: Option<ResumeFile>,
    /// Notes for the report.
    notes: Vec<String>,
    cancel: &'a Cancel,
    pause: Pause,
    watch: Watch,
}

/// What came of it, and the records where it was an evaluation.
pub(super) struct Delivery {
    pub result: JobResult,
    pub records: Vec<Record>,
}

fn is_away(error: &RunError) -> bool {
    matches!(error, RunError::Client(ClientError::Unreachable { .. }))
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
            tiers: session
                .tier_names()
                .tiers()
                .map(|tier| session.targets(tier).iter().map(|_| None).collect())
                .collect(),
            names: session.tier_names(),
            away: HashMap::new(),
            lead: HashMap::new(),
            resume: None,
            notes: Vec::new(),
            cancel,
            pause,
            watch: Watch::new(),
        })
    }

    /// Takes up what a killed run left in the out folder, and can be taken up itself.
    pub fn make_resumable(&mut self, options: &Options) -> Result<(), RunError> {
        let mut resume = ResumeFile::open(&options.out, options.fresh)?;
        if options.fresh {
            self.runtime.block_on(resume.end());
        }
        self.resume = Some(resume);
        Ok(())
    }

    /// What the report has to say of the targets.
    pub fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    fn targets(&self, part: Tier) -> &'a [Target] {
        self.session.targets(part)
    }

    fn side(&mut self, part: Tier) -> &mut Vec<Option<Reached>> {
        let beyond = self.tiers.len().max(part.index() + 1);
        self.tiers.resize_with(beyond, Vec::new);
        &mut self.tiers[part.index()]
    }

    /// Starts or reaches a target, unless it was before.
    fn reach(
        &mut self,
        reporter: &mut Reporter,
        part: Tier,
        index: usize,
    ) -> Result<&Reached, RunError> {
        let targets = self.targets(part);
        let target = &targets[index % targets.len().max(1)];
        if self.side(part)[index].is_none() {
            let reached = self.open(reporter, part, index, target)?;
            let processor = match reached.info.engine {
                BackendId::Native => None,
                other => Some(other.to_string()),
            };
            let connection = Connection::Connected {
                device: reached.info.device.clone(),
                processor,
                threads: Some(reached.info.threads),
                slowdown: reached.info.slowdown,
            };
            reporter.event(Event::Target {
                part,
                index,
                connection,
            });
            self.note_engine(part, reached.info.engine);
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

    /// Notes for the report that the last digits of a tier's confidences are another engine's than the table's.
    fn note_engine(&mut self, part: Tier, engine: BackendId) {
        let table = self.session.table_engine();
        if engine == table {
            return;
        }
        let note = format!(
            "{} runs by {engine}, and the confidence tables are made by {table}: confidences differ in their \
             last digits.",
            self.names.name(part)
        );
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn open(
        &mut self,
        reporter: &mut Reporter,
        part: Tier,
        index: usize,
        target: &Target,
    ) -> Result<Reached, RunError> {
        match target {
            Target::Local {
                cores,
                slowdown,
                threads,
                engine,
            } => {
                let options = LocalOptions {
                    program: self.program.clone(),
                    cores: cores.clone(),
                    threads: *threads,
                    slowdown: *slowdown,
                    engine: *engine,
                    ..LocalOptions::default()
                };
                self.child(reporter, (part, index), &options)
            }
            Target::Agent {
                url,
                token,
                trust,
                engine,
            } => {
                let believed = believed(trust)?;
                let token = token.as_ref().map(read_token).transpose()?;
                let connection = Connection::Connecting { url: url.clone() };
                reporter.event(Event::Target {
                    part,
                    index,
                    connection,
                });
                // Its jobs, too, are taken up by the next run, should this one be killed.
                if let Some(resume) = &self.resume {
                    resume.write()?;
                }
                self.runtime.block_on(unless_stopped(self.cancel, async {
                    let client = Client::connect_to(url, token.as_deref(), &believed).await?;
                    let info = client.info().await?;
                    has_engine(url, *engine, &info)?;
                    Ok(Reached {
                        client,
                        info,
                        token,
                        believed,
                        local: None,
                    })
                }))
            }
            // It infers and does nothing else: what has to be timed layer by layer, and a part that
            // it doesn't serve, needs somebody else.
            Target::V2 { url, .. } => {
                reporter.say_of(
                    TargetId { part, index },
                    Note::StandsIn { url: url.clone() },
                );
                let options = LocalOptions {
                    program: self.program.clone(),
                    ..LocalOptions::default()
                };
                self.child(reporter, (part, index), &options)
            }
        }
    }

    /// A child of this program: one that a killed run left, or a new one.
    fn child(
        &mut self,
        reporter: &mut Reporter,
        (part, index): (Tier, usize),
        options: &LocalOptions,
    ) -> Result<Reached, RunError> {
        let resume = &mut self.resume;
        self.runtime.block_on(async {
            let rejoined = match resume {
                Some(resume) => resume.rejoin(part, index, options).await,
                None => None,
            };
            let local = match rejoined {
                Some(local) => {
                    reporter.say_of(TargetId { part, index }, Note::Rejoined);
                    local
                }
                None => LocalAgent::start(options).await?,
            };
            if let Some(resume) = resume {
                resume.note(part, index, options, &local)?;
            }
            for note in local.notes() {
                reporter.say_of(TargetId { part, index }, note);
            }
            let client = local.connect().await?;
            let info = client.info().await?;
            Ok(Reached {
                client,
                info,
                token: Some(local.token().to_string()),
                believed: TlsTrust::System,
                local: Some(local),
            })
        })
    }

    /// Hands a target some bytes, unless it has them.
    pub fn put(
        &mut self,
        reporter: &mut Reporter,
        part: Tier,
        index: usize,
        bytes: &[u8],
    ) -> Result<Address, RunError> {
        let client = self.reach(reporter, part, index)?.client.clone();
        let bytes = bytes.to_vec();
        let put = async { Ok(client.put(bytes).await?) };
        self.runtime.block_on(unless_stopped(self.cancel, put))
    }
}

impl Drop for Fleet<'_> {
    fn drop(&mut self) {
        if let Some(resume) = &mut self.resume {
            self.runtime.block_on(resume.end());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_never_answers_is_not_waited_for_once_the_run_is_stopped() {
        let cancel = Cancel::new();
        cancel.cancel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let never = std::future::pending::<Result<(), RunError>>();
        let ended = runtime.block_on(unless_stopped(&cancel, never));
        assert!(matches!(ended, Err(RunError::Stopped)));
    }
}
