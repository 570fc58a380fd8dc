/*!
Jobs: one runs, the others wait and say how many are ahead. Each has its events and, in a file of its
own that only grows, its records.
*/

use super::budget::Charge;
use super::error::{AgentError, JobError, Refused};
use super::events::Events;
use super::pause::PauseLease;
use crate::engine::Cancel;
use crate::plan::Tier;
use crate::predict::Record;
use crate::protocol::message::{FailureKind, JobEvent, JobRequest, JobResult, RefusalKind};
use crate::protocol::record;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Jobs remembered, ended ones included.
const REMEMBERED: usize = 64;
/// Jobs that wait at most.
const WAITING: usize = 32;
/// Records in one answer.
const ANSWER: u64 = 1 << 17;
/// Bytes of the largest answer with records, its head included.
pub(super) const LARGEST_RECORDS: usize = (ANSWER as usize + 1) * record::width(Tier::ALL.len());

/// Work that outlives the request which started it.
pub(super) struct Job {
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) cancel: Cancel,
    pub(super) pause: PauseLease,
    pub(super) events: Arc<Events>,
    /// Under which it was handed in: who asks for it again gets this job.
    key: Option<String>,
    /// Until it runs: nobody needs to remember a token, or a hundred thousand samples, for longer.
    request: Mutex<Option<(JobRequest, Charge)>>,
    /// Of its records, and beside it of its results.
    file: PathBuf,
    /// Tiers that its records tell of.
    tiers: usize,
    /// Whole records in the file.
    written: AtomicU64,
    /// Where each result ends in its file.
    results: Mutex<Vec<u64>>,
}

impl Job {
    /// Appends records to the job's file; from then on they can be fetched.
    pub(super) fn append(&self, records: &[Record]) -> Result<(), JobError> {
        if records.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(records.len() * record::width(self.tiers));
        for r in records {
            record::encode(r, self.tiers, &mut bytes);
        }
        let open = File::options().create(true).append(true).open(&self.file);
        let written = open.and_then(|mut file| file.write_all(&bytes));
        if let Err(error) = written {
            // Half a record would shift all that follow.
            let whole = self.written.load(Ordering::Acquire) * record::width(self.tiers) as u64;
            let _ = File::options()
                .write(true)
                .open(&self.file)
                .and_then(|file| file.set_len(whole));
            let what = format!("writing the job's records: {error}");
            return Err(JobError::new(FailureKind::Storage, what));
        }
        self.written
            .fetch_add(records.len() as u64, Ordering::Release);
        Ok(())
    }

    fn results_file(&self) -> PathBuf {
        self.file.with_extension("results")
    }

    /// Keeps something the job made; from then on it can be fetched.
    pub(super) fn keep(&self, bytes: &[u8]) -> Result<(), JobError> {
        let mut ends = self.results.lock();
        let open = File::options()
            .create(true)
            .append(true)
            .open(self.results_file());
        let written = open.and_then(|mut file| file.write_all(bytes));
        written.map_err(|e| {
            JobError::new(
                FailureKind::Storage,
                format!("writing the job's results: {e}"),
            )
        })?;
        let start = ends.last().copied().unwrap_or(0);
        ends.push(start + bytes.len() as u64);
        Ok(())
    }

    /// Bytes of what it made, by its place.
    pub(super) fn result_bytes(&self, at: usize) -> Option<u64> {
        let ends = self.results.lock();
        let start = at.checked_sub(1).and_then(|before| ends.get(before));
        Some(ends.get(at)? - start.copied().unwrap_or(0))
    }

    /// What it made, by its place.
    pub(super) fn result(&self, at: usize) -> std::io::Result<Option<Vec<u8>>> {
        let (start, end) = {
            let ends = self.results.lock();
            let start = at.checked_sub(1).and_then(|before| ends.get(before));
            match ends.get(at) {
                Some(&end) => (start.copied().unwrap_or(0), end),
                None => return Ok(None),
            }
        };
        let mut file = File::open(self.results_file())?;
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(end - start).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Gives back what the request takes, of a job that won't run.
    fn forget_request(&self) {
        *self.request.lock() = None;
    }

    fn forget(&self) {
        // It may never have had either.
        let _ = std::fs::remove_file(&self.file);
        let _ = std::fs::remove_file(self.results_file());
    }

    /// Records from a position on, as they travel.
    pub(super) fn records(&self, from: u64) -> std::io::Result<Vec<u8>> {
        let mut out = record::header(from, self.tiers);
        let there = self.written.load(Ordering::Acquire);
        let count = there.saturating_sub(from).min(ANSWER);
        if count > 0 {
            let width = record::width(self.tiers) as u64;
            let mut file = File::open(&self.file)?;
            file.seek(SeekFrom::Start(from * width))?;
            file.take(count * width).read_to_end(&mut out)?;
        }
        Ok(out)
    }
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Arc<Job>>,
    running: Option<Arc<Job>>,
    known: VecDeque<Arc<Job>>,
    count: u64,
    closed: bool,
}

/// The jobs of an agent.
pub(super) struct Jobs {
    queue: Mutex<Queue>,
    changed: Condvar,
    folder: PathBuf,
    /// Tells the jobs of one life of the agent from those of another.
    life: u64,
}

impl Jobs {
    pub(super) fn open(folder: &Path, life: u64) -> Result<Jobs, AgentError> {
        std::fs::create_dir_all(folder).map_err(|cause| AgentError::Path {
            path: folder.to_path_buf(),
            cause,
        })?;
        Ok(Jobs {
            queue: Mutex::default(),
            changed: Condvar::new(),
            folder: folder.to_path_buf(),
            life,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }

    /// Hands a job in. One that was handed in under the same key, and has not failed, is the same job:
    /// a client may ask twice where an answer got lost, or come back after its own end.
    pub(super) fn submit(
        &self,
        request: JobRequest,
        charge: Charge,
        key: Option<&str>,
    ) -> Result<Arc<Job>, Refused> {
        let mut queue = self.lock();
        let lives = |job: &&Arc<Job>| {
            let end = job.events.latest();
            !matches!(end, Some(JobEvent::Failed { .. } | JobEvent::Cancelled))
        };
        let same = |job: &&Arc<Job>| key.is_some() && job.key.as_deref() == key;
        if let Some(job) = queue.known.iter().find(|j| same(j) && lives(j)) {
            return Ok(job.clone());
        }
        if queue.closed {
            let what = "the agent is ending";
            return Err(Refused::new(RefusalKind::Ending, what));
        }
        if queue.waiting.len() >= WAITING {
            let what = "too many jobs are waiting; try again later";
            return Err(Refused::new(RefusalKind::Busy, what));
        }
        queue.count += 1;
        let id = format!("{:x}-{}", self.life, queue.count);
        let job = Arc::new(Job {
            file: self.folder.join(format!("{id}.records")),
            id,
            kind: request.kind(),
            tiers: match &request {
                JobRequest::Evaluate(run) => run.route.tiers().min(Tier::ALL.len()),
                _ => 1,
            },
            cancel: Cancel::new(),
            pause: PauseLease::default(),
            events: Arc::new(Events::new()),
            key: key.map(str::to_string),
            request: Mutex::new(Some((request, charge))),
            written: AtomicU64::new(0),
            results: Mutex::default(),
        });
        let ahead = queue.waiting.len() + usize::from(queue.running.is_some());
        if ahead > 0 {
            job.events.push(JobEvent::Queued { ahead });
        }
        queue.waiting.push_back(job.clone());
        queue.known.push_back(job.clone());
        while queue.known.len() > REMEMBERED {
            let Some(ended) = queue.known.iter().position(|j| j.events.ended()) else {
                break;
            };
            if let Some(job) = queue.known.remove(ended) {
                job.forget();
            }
        }
        drop(queue);
        self.changed.notify_all();
        Ok(job)
    }

    pub(super) fn find(&self, id: &str) -> Result<Arc<Job>, Refused> {
        let queue = self.lock();
        let job = queue.known.iter().find(|j| j.id == id).cloned();
        job.ok_or_else(|| {
            let what = format!("there is no job {id} (any more)");
            Refused::new(RefusalKind::NoSuchJob, what)
        })
    }

    /// Ids of all known jobs, oldest first.
    pub(super) fn ids(&self) -> Vec<String> {
        self.lock().known.iter().map(|j| j.id.clone()).collect()
    }

    /// Stops a job: at once if it waits, else as soon as its work looks up.
    pub(super) fn cancel(&self, id: &str) -> Result<(), Refused> {
        let job = self.find(id)?;
        job.cancel.cancel();
        let mut queue = self.lock();
        if let Some(at) = queue.waiting.iter().position(|j| j.id == id) {
            queue.waiting.remove(at);
            job.forget_request();
            job.events.push(JobEvent::Cancelled);
            tell_places(&queue);
        }
        Ok(())
    }

    /// How many run, and how many wait.
    pub(super) fn counts(&self) -> (usize, usize) {
        let queue = self.lock();
        (usize::from(queue.running.is_some()), queue.waiting.len())
    }

    /// Whether a job runs or waits.
    pub(super) fn busy(&self) -> bool {
        let queue = self.lock();
        queue.running.is_some() || !queue.waiting.is_empty()
    }

    /// Takes no more jobs, and ends those that wait. The one that runs goes on; with `all` it is
    /// stopped, too.
    pub(super) fn close(&self, all: bool) {
        let mut queue = self.lock();
        queue.closed = true;
        for job in std::mem::take(&mut queue.waiting) {
            let error = "the agent ended before the job's turn came".to_string();
            let kind = FailureKind::Ending;
            job.forget_request();
            job.events.push(JobEvent::Failed { error, kind });
        }
        if let Some(job) = queue.running.as_ref().filter(|_| all) {
            job.cancel.cancel();
        }
        drop(queue);
        self.changed.notify_all();
    }

    /// Runs jobs one after the other, until [`Jobs::close`].
    pub(super) fn work(&self, run: impl Fn(&Job, &JobRequest) -> Result<JobResult, JobError>) {
        loop {
            let mut queue = self.lock();
            let job = loop {
                if let Some(job) = queue.waiting.pop_front() {
                    break job;
                }
                if queue.closed {
                    return;
                }
                self.changed.wait(&mut queue);
            };
            queue.running = Some(job.clone());
            tell_places(&queue);
            drop(queue);
            let start = Instant::now();
            tracing::info!(job = job.id, kind = job.kind, "job starts");
            let request = job.request.lock().take();
            // A job that panics must not take the agent along.
            let result = catch_unwind(AssertUnwindSafe(|| match &request {
                Some((request, _charge)) => run(&job, request),
                None => Err(JobError::Cancelled),
            }));
            let end = match result {
                Ok(Ok(result)) => JobEvent::Done(Box::new(result)),
                Ok(Err(JobError::Cancelled)) => JobEvent::Cancelled,
                Ok(Err(JobError::Failed { kind, error })) => JobEvent::Failed { error, kind },
                Err(_) => JobEvent::Failed {
                    error: "the agent failed in a way it shouldn't; its log says where".to_string(),
                    kind: FailureKind::Internal,
                },
            };
            let (end_state, error) = match &end {
                JobEvent::Failed { error, .. } => ("failed", error.as_str()),
                JobEvent::Cancelled => ("cancelled", ""),
                _ => ("done", ""),
            };
            let seconds = start.elapsed().as_secs_f64();
            tracing::info!(job = job.id, end = end_state, error, seconds, "job ends");
            // No longer running before it is told to have ended: what is submitted upon that
            // doesn't wait.
            self.lock().running = None;
            job.events.push(end);
        }
    }
}

fn tell_places(queue: &Queue) {
    for (at, job) in queue.waiting.iter().enumerate() {
        let ahead = at + usize::from(queue.running.is_some());
        job.events.push(JobEvent::Queued { ahead });
    }
}
