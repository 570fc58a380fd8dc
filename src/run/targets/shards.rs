/*!
A run over samples, sharded over the edge targets. Records are fetched while it goes, so that an edge
that dies takes along only what it hadn't told yet; that, and what it hadn't come to, the others take
over. A record that was fetched stays, and its sample isn't run again: nothing counts twice.
*/

use super::holding::{Holding, connection};
use super::{Delivery, Fleet, LAST_WORDS, LOOK, Reached};
use crate::event::{Connection, Event, Note, TargetId};
use crate::plan::Tier;
use crate::predict::Record;
use crate::protocol::client::{Client, ClientError};
use crate::protocol::message::{
    Evaluate, Evaluated, JobEvent, JobRequest, JobResult, Progress, RefusalKind,
};
use crate::run::RunError;
use crate::run::stage_cache::Reporter;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Time between two fetches of records.
const FETCH: Duration = Duration::from_secs(1);
/// What one fetch may take before it is put off.
const FETCH_TIME: Duration = Duration::from_secs(5);
/// How long an edge may be out of reach while others could take over.
const PATIENCE: Duration = Duration::from_secs(15);

/// An edge target, and what it is to run.
#[derive(Clone)]
pub(in crate::run) struct Shard {
    pub index: usize,
    pub run: Evaluate,
}

/// What became of a shard.
enum End {
    Done(Evaluated),
    /// Nobody answers any more.
    Lost(ClientError),
    Failed(ClientError),
}

/// A shard under way.
struct Running {
    number: usize,
    index: usize,
    samples: Vec<u32>,
    client: Client,
    job: Arc<Mutex<Option<String>>>,
    records: Arc<Mutex<Vec<Record>>>,
    /// Tells it that its agent has died.
    gone: Option<oneshot::Sender<ClientError>>,
}

fn take<T: Clone>(shared: &Mutex<T>) -> T {
    shared
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}

/// Fetches what is new.
async fn fetch(
    client: &Client,
    job: &str,
    records: &Mutex<Vec<Record>>,
) -> Result<(), ClientError> {
    loop {
        let have = records.lock().unwrap_or_else(PoisonError::into_inner).len();
        let more = client.records(job, have as u64).await?;
        if more.is_empty() {
            return Ok(());
        }
        let mut records = records.lock().unwrap_or_else(PoisonError::into_inner);
        records.extend(more);
    }
}

/// Hands the shard in and follows it to its end.
async fn follow(
    client: Client,
    (request, key): (JobRequest, Option<String>),
    id: Arc<Mutex<Option<String>>>,
    records: Arc<Mutex<Vec<Record>>>,
    mut gone: oneshot::Receiver<ClientError>,
    mut told: impl FnMut(&JobEvent) + Send,
) -> End {
    let ended = |error: ClientError| match error {
        ClientError::Unreachable { .. } => End::Lost(error),
        // It came back without the job.
        ClientError::Refused {
            kind: RefusalKind::NoSuchJob,
            ..
        } => End::Lost(error),
        other => End::Failed(other),
    };
    let submitted = match &key {
        Some(key) => client.submit_as(key, &request).await,
        None => client.submit(&request).await,
    };
    let job = match submitted {
        Ok(job) => job,
        Err(error) => return ended(error),
    };
    *id.lock().unwrap_or_else(PoisonError::into_inner) = Some(job.clone());
    let followed = {
        let mut follow = std::pin::pin!(client.follow(&job, &mut told));
        loop {
            tokio::select! {
                end = &mut follow => break end,
                Ok(error) = &mut gone => return End::Lost(error),
                // One that fails is tried again with the next; the end fetches all.
                () = tokio::time::sleep(FETCH) => {
                    let _ = timeout(FETCH_TIME, fetch(&client, &job, &records)).await;
                }
            }
        }
    };
    let evaluated = match followed {
        Ok(JobResult::Evaluated(evaluated)) => evaluated,
        Ok(_) => {
            let what = "its result is that of another job".to_string();
            return End::Failed(client.answer(what));
        }
        Err(error) => return ended(error),
    };
    let rest = tokio::select! {
        rest = fetch(&client, &job, &records) => rest,
        Ok(error) = &mut gone => Err(error),
    };
    match rest {
        Ok(()) => End::Done(evaluated),
        Err(error) => ended(error),
    }
}

/// What an edge did in shards that are over, under the progress of the one that runs.
fn add(before: &Progress, mut now: Progress) -> Progress {
    now.done += before.done;
    now.total += before.done;
    now.offloaded += before.offloaded;
    now.bytes_sent += before.bytes_sent;
    for (now, before) in now.exits.iter_mut().zip(&before.exits) {
        *now += before;
    }
    for share in &before.clouds {
        match now
            .clouds
            .iter_mut()
            .find(|s| (s.tier, &s.url) == (share.tier, &share.url))
        {
            Some(now) => {
                now.answered += share.answered;
                now.failed += share.failed;
            }
            None => now.clouds.push(share.clone()),
        }
    }
    now
}

impl Fleet<'_> {
    /// Runs the shards at the same time, each target's to its end; what a target that is lost leaves
    /// is shared among the others. A failure of the work itself (and the cancel token) stops all.
    pub fn evaluate(
        &mut self,
        reporter: &mut Reporter,
        shards: Vec<Shard>,
        on: &mut dyn FnMut(&mut Reporter, usize, JobEvent),
    ) -> Result<Vec<Delivery>, RunError> {
        let several = shards.len() > 1;
        let mut clients = Vec::new();
        for shard in &shards {
            let client = self
                .reach(reporter, Tier::First, shard.index)?
                .client
                .clone();
            clients.push(match several {
                true => client.patience(PATIENCE),
                false => client,
            });
        }
        let cancel = self.cancel;
        let edge = self.tiers[Tier::First.index()].as_mut_slice();
        let left = self.left.as_ref();
        let names = self.names.clone();
        let watch = &mut self.watch;
        let mut holding = Holding::new(&self.pause);
        for shard in &shards {
            watch.leave_alone((Tier::First, shard.index), true);
        }
        let done = self.runtime.block_on(async {
            let (events, mut inbox) = mpsc::unbounded_channel();
            let mut tasks = JoinSet::new();
            let mut running: Vec<Running> = Vec::new();
            let mut number = 0;
            let mut start = |tasks: &mut JoinSet<(usize, End)>,
                             running: &mut Vec<Running>,
                             at: usize,
                             samples: Vec<u32>| {
                number += 1;
                let (number, shard, client) = (number, &shards[at], clients[at].clone());
                let mut run = shard.run.clone();
                run.warm_up = run.warm_up.min(samples.len());
                run.samples.clone_from(&samples);
                let request = JobRequest::Evaluate(Box::new(run));
                let key = left.map(|left| left.key(&request));
                let (gone, is_gone) = oneshot::channel();
                let (job, records) = (Arc::default(), Arc::default());
                running.push(Running {
                    number,
                    index: shard.index,
                    samples,
                    client: client.clone(),
                    job: Arc::clone(&job),
                    records: Arc::clone(&records),
                    gone: Some(gone),
                });
                let (events, index) = (events.clone(), shard.index);
                let told = move |event: &JobEvent| {
                    // Nobody listens only when the run is given up.
                    let _ = events.send((number, index, event.clone()));
                };
                tasks.spawn(async move {
                    let end = follow(client, (request, key), job, records, is_gone, told).await;
                    (number, end)
                });
            };
            for (at, shard) in shards.iter().enumerate() {
                start(&mut tasks, &mut running, at, shard.run.samples.clone());
            }
            let mut alive: Vec<usize> = (0..shards.len()).collect();
            let mut done = Vec::new();
            let mut before = vec![Progress::default(); shards.len()];
            let mut last = before.clone();
            let mut failure: Option<RunError> = None;
            let mut stopped: Option<Instant> = None;
            let mut lost: HashMap<usize, String> = HashMap::new();
            let place = |index: usize| shards.iter().position(|s| s.index == index).unwrap_or(0);
            loop {
                let (number, end) = tokio::select! {
                    Some((_, index, event)) = inbox.recv() => {
                        let event = match event {
                            JobEvent::Progress(progress) => {
                                let at = place(index);
                                last[at] = add(&before[at], progress);
                                let mut all = running.iter().map(|r| last[place(r.index)].held);
                                holding.told(reporter, all.all(|held| held));
                                JobEvent::Progress(last[at].clone())
                            }
                            other => {
                                connection(reporter, Tier::First, index, &other);
                                other
                            }
                        };
                        on(reporter, index, event);
                        continue;
                    }
                    joined = tasks.join_next() => match joined {
                        None => break,
                        Some(Ok(end)) => end,
                        Some(Err(error)) => {
                            failure.get_or_insert(RunError::Runtime(error.into()));
                            stop(&running).await;
                            continue;
                        }
                    },
                    () = tokio::time::sleep(LOOK) => {
                        if cancel.is_cancelled() && failure.is_none() {
                            failure = Some(RunError::Stopped);
                            stopped = Some(Instant::now());
                            stop(&running).await;
                        }
                        // Those that don't answer any more aren't waited for.
                        if stopped.is_some_and(|then| then.elapsed() > LAST_WORDS) {
                            tasks.abort_all();
                            break;
                        }
                        bury(edge, &mut running);
                        let jobs: Vec<(Client, String)> = running
                            .iter()
                            .filter_map(|r| Some((r.client.clone(), take(&r.job)?)))
                            .collect();
                        holding.mind(jobs.iter().map(|(c, job)| (c, job.as_str()))).await;
                        watch.tell(reporter);
                        continue;
                    }
                };
                let Some(at) = running.iter().position(|r| r.number == number) else {
                    continue;
                };
                let over = running.remove(at);
                let at = place(over.index);
                before[at] = last[at].clone();
                let mut records = take(&over.records);
                let found = match end {
                    End::Done(evaluated) => evaluated,
                    End::Failed(error) => {
                        if failure.is_none() {
                            failure = Some(error.into());
                            stop(&running).await;
                        }
                        continue;
                    }
                    End::Lost(error) => {
                        alive.retain(|&a| a != at);
                        if failure.is_some() {
                            continue;
                        }
                        // It may have been asked for a sample twice, by a caller's mistake.
                        let told: HashSet<u32> = records.iter().map(|r| r.sample).collect();
                        records.truncate(over.samples.len());
                        let samples = over.samples.iter().copied();
                        let left: Vec<u32> = samples.filter(|s| !told.contains(s)).collect();
                        if alive.is_empty() && !left.is_empty() {
                            failure = Some(error.into());
                            continue;
                        }
                        // What it told of and took along doesn't count.
                        before[at].done = before[at].done.min(told.len() as u64);
                        last[at] = before[at].clone();
                        on(reporter, over.index, JobEvent::Progress(last[at].clone()));
                        let (part, index) = (Tier::First, over.index);
                        let target = TargetId { part, index };
                        let note = Note::TakenOver {
                            error: error.to_string(),
                            done: told.len(),
                            left: left.len(),
                        };
                        lost.insert(index, format!("{}: {note}", target.named(&names)));
                        reporter.say_of(target, note);
                        reporter.event(Event::Target {
                            part,
                            index,
                            connection: Connection::Lost,
                        });
                        for (turn, &at) in alive.iter().enumerate() {
                            let mine = left.iter().skip(turn).step_by(alive.len()).copied();
                            let mine: Vec<u32> = mine.collect();
                            if !mine.is_empty() {
                                start(&mut tasks, &mut running, at, mine);
                            }
                        }
                        Evaluated {
                            records: records.len() as u64,
                            ..Evaluated::default()
                        }
                    }
                };
                done.push(Delivery {
                    result: JobResult::Evaluated(found),
                    records,
                });
            }
            match failure {
                Some(error) => Err(error),
                None => Ok((done, lost)),
            }
        });
        drop(holding);
        for shard in &shards {
            self.watch.leave_alone((Tier::First, shard.index), false);
        }
        let (done, lost) = done.map_err(|error| self.explain(error))?;
        for (index, text) in lost {
            // Whoever needs it again has to find out whether it is back.
            self.tiers[Tier::First.index()][index] = None;
            self.notes.push(format!("Of the run: {text}."));
        }
        Ok(done)
    }
}

/// Tells the shards of a child that died: nobody needs to wait for it.
fn bury(edge: &mut [Option<Reached>], running: &mut [Running]) {
    for shard in running {
        let reached = edge.get_mut(shard.index).and_then(Option::as_mut);
        let local = reached.and_then(|r| r.local.as_mut());
        if let Some(words) = local.and_then(|l| l.died())
            && let Some(gone) = shard.gone.take()
        {
            let error = ClientError::Unreachable {
                url: shard.client.url().to_string(),
                cause: words,
            };
            // It may just have ended by itself.
            let _ = gone.send(error);
        }
    }
}

async fn stop(running: &[Running]) {
    let mut all = JoinSet::new();
    for shard in running {
        if let Some(job) = take(&shard.job) {
            let client = shard.client.clone();
            // One that is over, or gone, needs no stopping.
            all.spawn(async move { timeout(LAST_WORDS, client.cancel(&job)).await.is_ok() });
        }
    }
    all.join_all().await;
}
