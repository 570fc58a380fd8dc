/*!
A run over samples, sharded over the edge targets. Records are fetched while it goes, so that an edge
that dies takes along only what it hadn't told yet; that, and what it hadn't come to, the others take
over. A record that was fetched stays, and its sample isn't run again: nothing counts twice.
*/

use super::pause_relay::{PauseRelay, connection};
use super::resume_file::ResumeFile;
use super::{Delivery, Fleet, LAST_WORDS, POLL_INTERVAL, Reached};
use crate::engine::Cancel;
use crate::event::{Connection, Event, Note, TargetId};
use crate::plan::{Tier, TierNames};
use crate::predict::Record;
use crate::protocol::client::{Client, ClientError};
use crate::protocol::message::{
    Evaluate, Evaluated, JobEvent, JobRequest, JobResult, Progress, RefusalKind,
};
use crate::run::RunError;
use crate::run::pause::Pause;
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
    /// Records of it that were judged, and those that were right.
    judged: (usize, u64),
    /// Tells it that its agent has died.
    gone: Option<oneshot::Sender<ClientError>>,
}

impl Running {
    /// How many of its records were fetched so far, and how many of those answers are right.
    fn judge(&mut self, labels: &[u16]) -> (u64, u64) {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let (seen, right) = &mut self.judged;
        let fresh = records.get(*seen..).unwrap_or(&[]);
        let is_right = |r: &&Record| labels.get(r.sample as usize) == Some(&r.prediction);
        *right += fresh.iter().filter(is_right).count() as u64;
        *seen = records.len();
        (*seen as u64, *right)
    }
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
    mut report: impl FnMut(&JobEvent) + Send,
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
        let mut follow = std::pin::pin!(client.follow(&job, &mut report));
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
    now.judged += before.judged;
    now.right += before.right;
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

/// What one shard's target is asked, and how.
struct Assignment<'a> {
    shard: &'a Shard,
    client: Client,
}

/// Ended shards, and the notes on the targets that were lost by their index.
type Gathered = (Vec<Delivery>, HashMap<usize, String>);

/// What a message from a shard is: its number, its target's index, and the event.
type Message = (usize, usize, JobEvent);

/// Who is told what the target of an index does.
type Told<'a> = &'a mut dyn FnMut(&mut Reporter, usize, JobEvent);

/// The shards of one evaluation under way, and what came of those that are over.
struct Evaluation<'a> {
    assignments: Vec<Assignment<'a>>,
    /// Classes of the set, by sample.
    labels: &'a [u16],
    resume: Option<&'a ResumeFile>,
    names: &'a TierNames,
    pause: PauseRelay<'a>,
    events: mpsc::UnboundedSender<Message>,
    tasks: JoinSet<(usize, End)>,
    running: Vec<Running>,
    /// Shards started so far, which numbers them.
    started: usize,
    /// Places of `assignments` whose target still answers.
    alive: Vec<usize>,
    /// Progress of ended shards by place.
    before: Vec<Progress>,
    /// Progress with the running shard's by place.
    last: Vec<Progress>,
    done: Vec<Delivery>,
    lost: HashMap<usize, String>,
    failure: Option<RunError>,
    /// Since when the run is being stopped.
    stopped: Option<Instant>,
}

impl<'a> Evaluation<'a> {
    fn new(
        assignments: Vec<Assignment<'a>>,
        labels: &'a [u16],
        (resume, names, pause): (Option<&'a ResumeFile>, &'a TierNames, &'a Pause),
        events: mpsc::UnboundedSender<Message>,
    ) -> Evaluation<'a> {
        let count = assignments.len();
        let mut evaluation = Evaluation {
            assignments,
            labels,
            resume,
            names,
            pause: PauseRelay::new(pause),
            events,
            tasks: JoinSet::new(),
            running: Vec::new(),
            started: 0,
            alive: (0..count).collect(),
            before: vec![Progress::default(); count],
            last: vec![Progress::default(); count],
            done: Vec::new(),
            lost: HashMap::new(),
            failure: None,
            stopped: None,
        };
        for at in 0..count {
            let samples = evaluation.assignments[at].shard.run.samples.clone();
            evaluation.start(at, samples);
        }
        evaluation
    }

    /// The place of the target with this index.
    fn place(&self, index: usize) -> usize {
        let mut shards = self.assignments.iter();
        shards.position(|a| a.shard.index == index).unwrap_or(0)
    }

    /// Hands samples to the target at this place.
    fn start(&mut self, at: usize, samples: Vec<u32>) {
        let Assignment { shard, client } = &self.assignments[at];
        self.started += 1;
        let (number, index) = (self.started, shard.index);
        let mut run = shard.run.clone();
        run.warm_up = run.warm_up.min(samples.len());
        run.samples.clone_from(&samples);
        let request = JobRequest::Evaluate(Box::new(run));
        let key = self.resume.map(|resume| resume.key(&request));
        let (gone, is_gone) = oneshot::channel();
        let (job, records) = (Arc::default(), Arc::default());
        self.running.push(Running {
            number,
            index,
            samples,
            client: client.clone(),
            job: Arc::clone(&job),
            records: Arc::clone(&records),
            judged: (0, 0),
            gone: Some(gone),
        });
        let events = self.events.clone();
        let report = move |event: &JobEvent| {
            // Nobody listens only when the run is given up.
            let _ = events.send((number, index, event.clone()));
        };
        let client = client.clone();
        self.tasks.spawn(async move {
            let end = follow(client, (request, key), job, records, is_gone, report).await;
            (number, end)
        });
    }

    /// Passes an event of a shard on, with the progress of all shards that its target has had. Absent for
    /// progress of a shard that is over, which is counted already.
    fn heard(&mut self, reporter: &mut Reporter, message: Message) -> Option<(usize, JobEvent)> {
        let (number, index, event) = message;
        // A target runs its own shard while one it took over queues behind it.
        let own = self.running.iter_mut().find(|r| r.number == number);
        let JobEvent::Progress(mut progress) = event else {
            if own.is_some() {
                connection(reporter, Tier::First, index, &event);
            }
            return Some((index, event));
        };
        (progress.judged, progress.right) = own?.judge(self.labels);
        let at = self.place(index);
        self.last[at] = add(&self.before[at], progress);
        let mut all = self
            .running
            .iter()
            .map(|r| self.last[self.place(r.index)].held);
        let held = all.all(|held| held);
        self.pause.report(reporter, held);
        Some((index, JobEvent::Progress(self.last[at].clone())))
    }

    /// Gives the whole run up for this reason, unless there is one already.
    async fn fail(&mut self, error: RunError) {
        if self.failure.is_none() {
            self.failure = Some(error);
            stop(&self.running).await;
        }
    }

    /// Looks after a stop, dead children and a pause. Returns whether to go on waiting.
    async fn attend(&mut self, cancel: &Cancel, edge: &mut [Option<Reached>]) -> bool {
        if cancel.is_cancelled() && self.failure.is_none() {
            self.stopped = Some(Instant::now());
            self.fail(RunError::Stopped).await;
        }
        // Those that don't answer any more aren't waited for.
        if self.stopped.is_some_and(|then| then.elapsed() > LAST_WORDS) {
            self.tasks.abort_all();
            return false;
        }
        bury(edge, &mut self.running);
        let jobs: Vec<(Client, String)> = self
            .running
            .iter()
            .filter_map(|r| Some((r.client.clone(), take(&r.job)?)))
            .collect();
        let jobs = jobs.iter().map(|(client, job)| (client, job.as_str()));
        self.pause.relay(jobs).await;
        true
    }

    /// Takes in a shard that is over, and tells how far its target is with it.
    async fn ended(
        &mut self,
        reporter: &mut Reporter<'_>,
        (number, end): (usize, End),
        on: Told<'_>,
    ) {
        let Some(at) = self.running.iter().position(|r| r.number == number) else {
            return;
        };
        let mut over = self.running.remove(at);
        let at = self.place(over.index);
        // The last records were fetched after its last progress.
        let (judged, right) = over.judge(self.labels);
        let before = std::mem::take(&mut self.before[at]);
        self.last[at].judged = before.judged + judged;
        self.last[at].right = before.right + right;
        self.before[at] = self.last[at].clone();
        let records = take(&over.records);
        match end {
            End::Done(evaluated) => {
                let result = JobResult::Evaluated(evaluated);
                self.done.push(Delivery { result, records });
                let progress = JobEvent::Progress(self.last[at].clone());
                on(reporter, over.index, progress);
            }
            End::Failed(error) => self.fail(error.into()).await,
            End::Lost(error) => {
                // What it ran and took along doesn't count.
                let counted = before.done + records.len().min(over.samples.len()) as u64;
                self.before[at].done = self.before[at].done.min(counted);
                self.last[at] = self.before[at].clone();
                self.taken_over(reporter, &over, (records, error), on);
            }
        }
    }

    /// Shares what a lost target left among those that answer.
    fn taken_over(
        &mut self,
        reporter: &mut Reporter,
        over: &Running,
        (mut records, error): (Vec<Record>, ClientError),
        on: Told<'_>,
    ) {
        let (at, index, part) = (self.place(over.index), over.index, Tier::First);
        self.alive.retain(|&alive| alive != at);
        if self.failure.is_some() {
            return;
        }
        // It may have been asked for a sample twice, by a caller's mistake.
        let fetched: HashSet<u32> = records.iter().map(|r| r.sample).collect();
        records.truncate(over.samples.len());
        let samples = over.samples.iter().copied();
        let left: Vec<u32> = samples.filter(|s| !fetched.contains(s)).collect();
        if self.alive.is_empty() && !left.is_empty() {
            self.failure = Some(error.into());
            return;
        }
        // How far it came is told before that it is lost, and both before others begin with the rest.
        on(reporter, index, JobEvent::Progress(self.last[at].clone()));
        let target = TargetId { part, index };
        let note = Note::TakenOver {
            error: error.to_string(),
            done: fetched.len(),
            left: left.len(),
        };
        self.lost
            .insert(index, format!("{}: {note}", target.named(self.names)));
        reporter.say_of(target, note);
        reporter.event(Event::Target {
            part,
            index,
            connection: Connection::Lost,
        });
        for (turn, at) in self.alive.clone().into_iter().enumerate() {
            let mine = left.iter().skip(turn).step_by(self.alive.len()).copied();
            let mine: Vec<u32> = mine.collect();
            if !mine.is_empty() {
                self.start(at, mine);
            }
        }
        let evaluated = Evaluated {
            records: records.len() as u64,
            ..Evaluated::default()
        };
        self.done.push(Delivery {
            result: JobResult::Evaluated(evaluated),
            records,
        });
    }

    fn gathered(self) -> Result<Gathered, RunError> {
        match self.failure {
            Some(error) => Err(error),
            None => Ok((self.done, self.lost)),
        }
    }
}

impl Fleet<'_> {
    /// Runs the shards at the same time, each target's to its end, and judges what was fetched by the
    /// labels of the set; what a target that is lost leaves is shared among the others. A failure of the work itself (and the cancel token) stops all.
    pub fn evaluate(
        &mut self,
        reporter: &mut Reporter,
        shards: Vec<Shard>,
        labels: &[u16],
        on: Told<'_>,
    ) -> Result<Vec<Delivery>, RunError> {
        let several = shards.len() > 1;
        let mut assignments = Vec::new();
        for shard in &shards {
            let reached = self.reach(reporter, Tier::First, shard.index)?;
            let client = match several {
                true => reached.client.clone().patience(PATIENCE),
                false => reached.client.clone(),
            };
            assignments.push(Assignment { shard, client });
        }
        for shard in &shards {
            self.watch.leave_alone((Tier::First, shard.index), true);
        }
        let means = (self.resume.as_ref(), &self.names, &self.pause);
        let (cancel, watch) = (self.cancel, &mut self.watch);
        let edge = self.tiers[Tier::First.index()].as_mut_slice();
        let gathered = self.runtime.block_on(async {
            let (events, mut inbox) = mpsc::unbounded_channel();
            // Its tasks start at once, which takes a runtime.
            let mut evaluation = Evaluation::new(assignments, labels, means, events);
            loop {
                tokio::select! {
                    Some(message) = inbox.recv() => {
                        if let Some((index, event)) = evaluation.heard(reporter, message) {
                            on(reporter, index, event);
                        }
                    }
                    joined = evaluation.tasks.join_next() => match joined {
                        None => break,
                        Some(Ok(over)) => {
                            // All it said before it ended has come, and counts.
                            while let Ok(message) = inbox.try_recv() {
                                if let Some((index, event)) = evaluation.heard(reporter, message) {
                                    on(reporter, index, event);
                                }
                            }
                            evaluation.ended(reporter, over, on).await;
                        }
                        Some(Err(error)) => evaluation.fail(RunError::Runtime(error.into())).await,
                    },
                    () = tokio::time::sleep(POLL_INTERVAL) => {
                        if !evaluation.attend(cancel, edge).await {
                            break;
                        }
                        watch.tell(reporter);
                    }
                }
            }
            evaluation.gathered()
        });
        for shard in &shards {
            self.watch.leave_alone((Tier::First, shard.index), false);
        }
        let (done, lost) = gathered.map_err(|error| self.explain(error))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Stage;
    use crate::plan::Wire;
    use crate::predict::Confidence;
    use crate::protocol::message::Route;
    use pretty_assertions::assert_eq;
    use std::cell::RefCell;

    fn shard(index: usize, samples: std::ops::Range<u32>) -> Shard {
        let run = Evaluate {
            route: Route {
                part: None,
                onward: Vec::new(),
            },
            data: String::new(),
            preprocessing: Default::default(),
            samples: samples.collect(),
            warm_up: 0,
            confidence: Confidence::MaxProbability,
            thresholds: Vec::new(),
            last_exit_answers: false,
            wire: Wire::default(),
            jpeg: None,
            deadline_ms: None,
            degrade: false,
        };
        Shard { index, run }
    }

    /// A record of a sample whose answer is class 0.
    fn record(sample: u32) -> Record {
        Record {
            sample,
            exit: 0,
            prediction: 0,
            confidence: 1.0,
            degraded: false,
            latency_ms: 1.0,
            tier_ms: Vec::new(),
            hops: Vec::new(),
        }
    }

    fn done(done: u64) -> JobEvent {
        JobEvent::Progress(Progress {
            done,
            total: 4,
            ..Progress::default()
        })
    }

    fn words(event: &JobEvent) -> String {
        match event {
            JobEvent::Progress(p) => format!("{} done, {} of {} right", p.done, p.right, p.judged),
            other => format!("{other:?}"),
        }
    }

    fn hear(run: &mut Evaluation, reporter: &mut Reporter, message: Message) -> Option<String> {
        let heard = run.heard(reporter, message);
        heard.map(|(_, event)| words(&event))
    }

    fn lost() -> End {
        End::Lost(ClientError::Unreachable {
            url: String::new(),
            cause: String::new(),
        })
    }

    /// Two targets with four samples each, of which the second target is lost after two: what the first
    /// has of its own four and then of the two it takes over counts once, and is judged to the last.
    #[test]
    fn a_survivor_counts_and_judges_its_own_shard_while_the_one_it_took_over_waits() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let said = RefCell::new(Vec::new());
        let (names, pause) = (TierNames::usual(2), Pause::new(None));
        let shards = [shard(0, 0..4), shard(1, 4..8)];
        // Sample 3 is the only one of another class.
        let labels = [0, 0, 0, 1, 0, 0, 0, 0];
        let mut told = |event: Event| match event {
            Event::Target { connection, .. } => said.borrow_mut().push(format!("{connection:?}")),
            Event::Say(_) => said.borrow_mut().push("note".to_owned()),
            _ => {}
        };
        let mut reporter = Reporter {
            stage: Stage::Run,
            on: &mut told,
        };
        let mut on = |_: &mut Reporter, index: usize, event: JobEvent| {
            said.borrow_mut()
                .push(format!("{index}: {}", words(&event)));
        };
        runtime.block_on(async {
            let assign = |shard| Assignment {
                shard,
                client: Client::of_nobody(),
            };
            // No task runs, since nothing is waited for.
            let (events, _inbox) = mpsc::unbounded_channel();
            let assignments = shards.iter().map(assign).collect();
            let means = (None, &names, &pause);
            let mut run = Evaluation::new(assignments, &labels, means, events);
            let fetch = |run: &Evaluation, number: usize, samples: std::ops::Range<u32>| {
                let shard = run.running.iter().find(|r| r.number == number).unwrap();
                shard.records.lock().unwrap().extend(samples.map(record));
            };
            fetch(&run, 2, 4..6);
            assert_eq!(
                hear(&mut run, &mut reporter, (2, 1, done(3))).unwrap(),
                "3 done, 2 of 2 right"
            );
            run.ended(&mut reporter, (2, lost()), &mut on).await;
            let numbers: Vec<usize> = run.running.iter().map(|r| r.number).collect();
            assert_eq!(numbers, [1, 3]);
            assert_eq!(said.take(), ["1: 2 done, 2 of 2 right", "note", "Lost"]);

            fetch(&run, 1, 0..2);
            assert_eq!(
                hear(&mut run, &mut reporter, (1, 0, done(3))).unwrap(),
                "3 done, 2 of 2 right"
            );
            assert_eq!(
                hear(&mut run, &mut reporter, (1, 0, done(4))).unwrap(),
                "4 done, 2 of 2 right"
            );
            fetch(&run, 1, 2..4);
            let end = End::Done(Evaluated::default());
            run.ended(&mut reporter, (1, end), &mut on).await;
            assert_eq!(said.take(), ["0: 4 done, 3 of 4 right"]);
            // It ended with four; what comes late of it was counted.
            assert_eq!(hear(&mut run, &mut reporter, (1, 0, done(4))), None);
            fetch(&run, 3, 6..7);
            assert_eq!(
                hear(&mut run, &mut reporter, (3, 0, done(2))).unwrap(),
                "6 done, 4 of 5 right"
            );
            // Lost in its turn, it keeps what was fetched of both its shards.
            run.alive.push(1);
            run.ended(&mut reporter, (3, lost()), &mut on).await;
            assert_eq!(said.take(), ["0: 5 done, 4 of 5 right", "note", "Lost"]);
        });
    }
}
