/*! What every request of an agent sees: its files, jobs and parts, what it counts, and whom it admits. */

use super::budget::Budget;
use super::config::AgentConfig;
use super::error::{AgentError, JobError};
use super::files::FileBudget;
use super::jobs::Jobs;
use super::metrics::Metrics;
use super::onward::Ways;
use super::parts::Parts;
use super::stats::Stats;
use super::store::Store;
use crate::backend::BackendId;
use crate::device::machine::Machine;
use crate::device::telemetry::{Telemeter, Telemetry};
use crate::runtime::runner::Runner;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

/// The state of an agent.
pub(super) struct Agent {
    pub(super) store: Store,
    pub(super) jobs: Jobs,
    pub(super) parts: Parts,
    /// To the next tier, where parts here send on.
    pub(super) ways: Ways,
    /// Everything it was sent, and makes, lies below.
    pub(super) folder: PathBuf,
    pub(super) backend: BackendId,
    pub(super) threads: usize,
    pub(super) cores: Vec<usize>,
    pub(super) slowdown: f64,
    pub(super) max_body: usize,
    /// Memory of all requests in flight.
    pub(super) budget: Budget,
    /// The only addresses that jobs and parts may connect to; any if empty.
    pub(super) clouds: Vec<url::Url>,
    /// Whether the agent can be reached from this machine alone.
    pub(super) loopback: bool,
    /// The machine in words, and its clock in GHz.
    pub(super) machine: (String, Option<f64>),
    /// Models served from the start, by name.
    pub(super) models: Vec<(String, Arc<Runner>)>,
    pub(super) metrics: Metrics,
    pub(super) stats: Stats,
    /// Requests for inference that wait or run.
    pub(super) outstanding: AtomicU32,
    sensors: Mutex<Telemeter>,
    /// Joules per inference in the last run.
    energy: Mutex<Option<f64>>,
    /// SHA-256 of the token.
    token: Option<[u8; 32]>,
    /// Requests for inference answered.
    pub(super) requests: AtomicU64,
    /// One part runs at a time; who waits is served in order.
    pub(super) engine: Arc<Semaphore>,
    clients: AtomicUsize,
    started: Instant,
    /// Milliseconds after `started` when the last client left.
    left: AtomicU64,
}

/// A client that is being served.
pub(super) struct Served(Arc<Agent>);

impl Drop for Served {
    fn drop(&mut self) {
        let now = self.0.started.elapsed().as_millis();
        self.0.left.store(now as u64, Ordering::Relaxed);
        self.0.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request for inference that waits or runs.
pub(super) struct Outstanding(Arc<Agent>);

impl Drop for Outstanding {
    fn drop(&mut self) {
        self.0.outstanding.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The machine in words, and its clock in GHz; what the machine doesn't tell is left out.
fn machine() -> (String, Option<f64>) {
    match Machine::read(Path::new("/")) {
        Ok(machine) => (machine.to_string(), machine.ghz()),
        Err(_) => (std::env::consts::ARCH.to_string(), None),
    }
}

impl Agent {
    /// Opens the folder, which keeps what an earlier agent left there. `cores` and `files` are those of the
    /// process.
    ///
    /// # Errors
    /// Where the folder can't be used.
    pub(super) fn open(
        config: &AgentConfig,
        folder: &Path,
        cores: Vec<usize>,
        models: Vec<(String, Arc<Runner>)>,
        files: FileBudget,
    ) -> Result<Agent, AgentError> {
        let life = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let life = life.map_or(0, |t| t.as_nanos() as u64);
        let token = config.token.as_ref();
        Ok(Agent {
            store: Store::open(&folder.join("blobs"), config.max_data)?,
            jobs: Jobs::open(&folder.join("jobs"), life)?,
            parts: Parts::new(config.execution()),
            ways: Ways::new(files.ways),
            folder: folder.to_path_buf(),
            backend: config.backend,
            threads: match config.threads {
                0 => std::thread::available_parallelism().map_or(1, usize::from),
                n => n,
            },
            cores,
            slowdown: config.slowdown,
            max_body: config.max_body,
            budget: Budget::new(config.max_in_flight),
            clouds: config.clouds.clone(),
            loopback: config.listen.ip().is_loopback(),
            machine: machine(),
            models,
            metrics: Metrics::default(),
            stats: Stats::default(),
            outstanding: AtomicU32::new(0),
            sensors: Mutex::new(Telemeter::new(Path::new("/"))),
            energy: Mutex::default(),
            token: token.map(|t| Sha256::digest(t.trim().as_bytes()).into()),
            requests: AtomicU64::new(0),
            engine: Arc::new(Semaphore::new(1)),
            clients: AtomicUsize::new(0),
            started: Instant::now(),
            left: AtomicU64::new(0),
        })
    }

    /// Counts a client until the result is dropped.
    pub(super) fn serve_one(self: &Arc<Self>) -> Served {
        self.clients.fetch_add(1, Ordering::Relaxed);
        Served(self.clone())
    }

    /// Whether this is the token. Digests are compared in constant time: their length and content say
    /// nothing of the token's.
    pub(super) fn admits(&self, shown: Option<&str>) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        let shown: [u8; 32] = Sha256::digest(shown.unwrap_or_default().as_bytes()).into();
        token.ct_eq(&shown).into()
    }

    /// Whether every client is let in, whatever it shows.
    pub(super) fn is_open(&self) -> bool {
        self.token.is_none()
    }

    /// Whether a job, or a part that sends on, may connect to this address.
    pub(super) fn may_reach(&self, url: &str) -> Result<(), JobError> {
        let same = |a: &url::Url, b: &url::Url| {
            (a.scheme(), a.host(), a.port_or_known_default())
                == (b.scheme(), b.host(), b.port_or_known_default())
        };
        let asked = url::Url::parse(url);
        let named = |asked: &url::Url| self.clouds.iter().any(|cloud| same(cloud, asked));
        if self.clouds.is_empty() || asked.is_ok_and(|asked| named(&asked)) {
            return Ok(());
        }
        Err(JobError::invalid(format!(
            "{url} is none of the addresses this agent was started for (--cloud)"
        )))
    }

    /// Counts a request for inference until the result is dropped.
    pub(super) fn outstanding(self: &Arc<Self>) -> Outstanding {
        self.outstanding.fetch_add(1, Ordering::Relaxed);
        Outstanding(self.clone())
    }

    /// The sensors now; rates are since they were last asked for.
    pub(super) fn telemetry(&self) -> Option<Telemetry> {
        self.sensors.lock().sample(self.started.elapsed()).ok()
    }

    /// Keeps the joules that an inference of a run took.
    pub(super) fn note_energy(&self, joules: Option<f64>) {
        *self.energy.lock() = joules;
    }

    /// Joules that an inference of the last run took.
    pub(super) fn energy(&self) -> Option<f64> {
        *self.energy.lock()
    }

    /// How long there has been neither client nor job.
    pub(super) fn idle_for(&self) -> Duration {
        if self.clients.load(Ordering::Relaxed) > 0 || self.jobs.busy() {
            return Duration::ZERO;
        }
        let left = Duration::from_millis(self.left.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(left)
    }
}
