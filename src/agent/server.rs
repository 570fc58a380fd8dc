/*!
Serving: binds, tells its parent where, runs until it is told to end or nobody has wanted anything
for long enough. Requests are served on the runtime's threads, which compute nothing; parts run on
blocking threads, jobs on a thread of their own.
*/

use super::error::AgentError;
use super::jobs::Jobs;
use super::listen::{self, Incoming};
use super::metrics::Metrics;
use super::parts::Parts;
use super::store::Store;
use super::v2::{self, Stats};
use super::{about, routes, work};
use crate::backend::BackendId;
use crate::device::telemetry::{Telemeter, Telemetry};
use crate::engine::share_threads;
use crate::protocol::tls;
use crate::run::local::{Ready, available};
use crate::runtime::runner::{Means, Runner};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};

/// How long clients may take to end what they began, once the agent is told to end and no job runs.
const GRACE: Duration = Duration::from_secs(5);

/// How to serve. Not `Debug`: its token belongs in no log.
#[derive(Clone)]
pub struct AgentConfig {
    /// Address; port 0 for any that is free.
    pub listen: SocketAddr,
    /// Serve to other machines though nothing is encrypted, or anybody is let in.
    pub insecure: bool,
    /// Certificate and key (PEM files) to encrypt with.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// What runs parts and networks.
    pub backend: BackendId,
    /// Threads of the engine; 0 for one a core.
    pub threads: usize,
    /// Cores to run on; any if empty.
    pub cores: Vec<usize>,
    /// Factor the engine's times are stretched by.
    pub slowdown: f64,
    /// Folder for what is sent; a temporary one if absent.
    pub data: Option<PathBuf>,
    /// The largest body taken.
    pub max_body: usize,
    /// Networks and parts served from the start: name and file of each.
    pub models: Vec<(String, PathBuf)>,
    /// Bytes kept in the folder at most.
    pub max_data: u64,
    /// What every request must show, if anything.
    pub token: Option<String>,
    /// End after so long with neither client nor job.
    pub idle_exit: Option<Duration>,
}

impl AgentConfig {
    fn means(&self) -> Means {
        Means {
            backend: self.backend,
            threads: self.threads,
            slowdown: self.slowdown,
        }
    }
}

/// What every request sees.
pub(super) struct Agent {
    pub(super) store: Store,
    pub(super) jobs: Jobs,
    pub(super) parts: Parts,
    /// Everything it was sent, and makes, lies below.
    pub(super) folder: PathBuf,
    pub(super) backend: BackendId,
    pub(super) threads: usize,
    pub(super) cores: Vec<usize>,
    pub(super) slowdown: f64,
    pub(super) max_body: usize,
    /// In words, and its clock in GHz.
    pub(super) machine: (String, Option<f64>),
    /// Served from the start, by name.
    pub(super) models: Vec<(String, Arc<Runner>)>,
    pub(super) metrics: Metrics,
    pub(super) stats: Stats,
    /// Requests for inference that wait or run.
    pub(super) outstanding: AtomicU32,
    sensors: Mutex<Telemeter>,
    /// Of an inference in the last run, in joules.
    energy: Mutex<Option<f64>>,
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

impl Agent {
    pub(super) fn serve_one(self: &Arc<Self>) -> Served {
        self.clients.fetch_add(1, Ordering::Relaxed);
        Served(self.clone())
    }

    /// Whether this is the token. Digests are compared, and all of them: how long it takes says
    /// nothing about where the first difference is.
    pub(super) fn admits(&self, shown: Option<&str>) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        let shown: [u8; 32] = Sha256::digest(shown.unwrap_or_default().as_bytes()).into();
        let differ = token.iter().zip(&shown).fold(0, |d, (a, b)| d | (a ^ b));
        std::hint::black_box(differ) == 0
    }

    /// Counts a request for inference until it is dropped.
    pub(super) fn outstanding(self: &Arc<Self>) -> Outstanding {
        self.outstanding.fetch_add(1, Ordering::Relaxed);
        Outstanding(self.clone())
    }

    /// The sensors now; rates are since they were last asked for.
    pub(super) fn telemetry(&self) -> Option<Telemetry> {
        let mut sensors = self.sensors.lock().unwrap_or_else(PoisonError::into_inner);
        sensors.sample(self.started.elapsed()).ok()
    }

    /// Keeps what an inference of a run took.
    pub(super) fn note_energy(&self, joules: Option<f64>) {
        *self.energy.lock().unwrap_or_else(PoisonError::into_inner) = joules;
    }

    /// What an inference of the last run took, in joules.
    pub(super) fn energy(&self) -> Option<f64> {
        *self.energy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle_for(&self) -> Duration {
        if self.clients.load(Ordering::Relaxed) > 0 || self.jobs.busy() {
            return Duration::ZERO;
        }
        let left = Duration::from_millis(self.left.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(left)
    }
}

fn system(what: &str, cause: impl Into<std::io::Error>) -> AgentError {
    AgentError::System {
        what: what.to_string(),
        cause: cause.into(),
    }
}

/// Lets this process, and the threads it will start, run on these cores only.
fn pin(cores: &[usize]) -> Result<(), AgentError> {
    let available = available();
    for &core in cores {
        if !available.contains(&core) {
            return Err(AgentError::Core { core, available });
        }
    }
    #[cfg(target_os = "linux")]
    if !cores.is_empty() {
        use nix::sched::{CpuSet, sched_setaffinity};
        let mut set = CpuSet::new();
        for &core in cores {
            set.set(core).map_err(|e| system("choosing cores", e))?;
        }
        sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)
            .map_err(|e| system("choosing cores", e))?;
    }
    Ok(())
}

/// Serves until it is told to end (SIGTERM, Ctrl-C: what is in flight is finished; a second time: at
/// once) or has been idle for long enough. `ready` is called with the bound address.
///
/// # Errors
/// Where it can't listen, or not as safely as asked.
pub fn serve(config: &AgentConfig, ready: impl FnOnce(&Ready)) -> Result<(), AgentError> {
    let safe = config.tls.is_some() && config.token.is_some();
    if !config.listen.ip().is_loopback() && !safe && !config.insecure {
        return Err(AgentError::Open(config.listen));
    }
    let encryption = match &config.tls {
        Some((certificate, key)) => Some(tls::server(certificate, key)?),
        None => None,
    };
    config.backend.open()?;
    pin(&config.cores)?;
    // Jobs that train run on a pool of their own, which keeps to the same cores.
    share_threads(config.threads);
    let temporary = match config.data {
        Some(_) => None,
        None => {
            let folder = tempfile::Builder::new().prefix("edgelesspart-").tempdir();
            Some(folder.map_err(|e| system("making a temporary folder", e))?)
        }
    };
    let folder = match (&config.data, &temporary) {
        (Some(folder), _) => folder.clone(),
        (None, Some(folder)) => folder.path().to_path_buf(),
        (None, None) => PathBuf::from("."),
    };
    let models = models(config)?;
    let life = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let agent = Arc::new(Agent {
        store: Store::open(&folder.join("blobs"), config.max_data)?,
        jobs: Jobs::open(
            &folder.join("jobs"),
            life.map_or(0, |t| t.as_nanos() as u64),
        )?,
        parts: Parts::new(config.means()),
        folder: folder.clone(),
        backend: config.backend,
        threads: match config.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        },
        cores: available(),
        slowdown: config.slowdown,
        max_body: config.max_body,
        machine: about::machine(),
        models,
        metrics: Metrics::default(),
        stats: Stats::default(),
        outstanding: AtomicU32::new(0),
        sensors: Mutex::new(Telemeter::new(Path::new("/"))),
        energy: Mutex::default(),
        token: config
            .token
            .as_ref()
            .map(|t| Sha256::digest(t.as_bytes()).into()),
        requests: AtomicU64::new(0),
        engine: Arc::new(Semaphore::new(1)),
        clients: AtomicUsize::new(0),
        started: Instant::now(),
        left: AtomicU64::new(0),
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("agent")
        .enable_all()
        .build()
        .map_err(|e| system("starting threads", e))?;
    let worker = {
        let agent = agent.clone();
        std::thread::Builder::new()
            .name("jobs".into())
            .spawn(move || {
                agent
                    .jobs
                    .work(|job, request| work::run(job, request, &agent))
            })
            .map_err(|e| system("starting the thread of the jobs", e))?
    };
    let listen = config.listen;
    let failed = |cause| AgentError::Listen {
        address: listen,
        cause,
    };
    let served = runtime.block_on(async {
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let end = Arc::new(Notify::new());
        let leave = temporary.as_ref().map(|t| t.path().to_path_buf());
        // Not ended with the serving: the last job may still run then, and be told to stop.
        tokio::spawn(watch(agent.clone(), config.idle_exit, end.clone(), leave)?);
        ready(&Ready {
            url: format!("{}://{bound}", scheme(&encryption)),
            pid: std::process::id(),
            data: folder.clone(),
            temporary: temporary.is_some(),
        });
        let token = config.token.is_some();
        tracing::info!(%bound, encrypted = encryption.is_some(), token, "serving");
        let incoming = Incoming::new(listener, encryption);
        listen::serve(incoming, routes::routes(agent.clone()), end).await;
        Ok(())
    });
    agent.jobs.close(served.is_err());
    // The last job's end was told to its followers before their streams ended.
    let _ = worker.join();
    served
}

/// Makes the models ready that were given; one that can't be is no reason to serve without it.
fn models(config: &AgentConfig) -> Result<Vec<(String, Arc<Runner>)>, AgentError> {
    let mut models: Vec<(String, Arc<Runner>)> = Vec::new();
    for (name, file) in &config.models {
        let wrong = |what: String| AgentError::Model {
            name: name.clone(),
            what,
        };
        if models.iter().any(|(n, _)| n == name) {
            return Err(wrong("the name was given twice".to_string()));
        }
        let open = || {
            let opened = std::fs::File::open(file)?;
            match opened.metadata()?.is_dir() {
                true => Err(std::io::ErrorKind::IsADirectory.into()),
                false => Ok(opened),
            }
        };
        let opened = open().map_err(|cause| AgentError::Path {
            path: file.clone(),
            cause,
        })?;
        let runner = v2::load(name, opened, &config.means());
        models.push((name.clone(), Arc::new(runner.map_err(wrong)?)));
    }
    Ok(models)
}

fn scheme(encryption: &Option<rustls::ServerConfig>) -> &'static str {
    match encryption {
        Some(_) => "https",
        None => "http",
    }
}

type Watch = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Ends the serving on a signal, or when it is idle; the process on a second signal, which leaves no
/// temporary folder either.
fn watch(
    agent: Arc<Agent>,
    idle: Option<Duration>,
    end: Arc<Notify>,
    temporary: Option<PathBuf>,
) -> Result<Watch, AgentError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| system("signals", e))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| system("signals", e))?;
    Ok(Box::pin(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        let mut sweep = tokio::time::interval(Duration::from_secs(60));
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = sweep.tick() => agent.store.sweep(),
                _ = tick.tick() => {
                    if idle.is_some_and(|idle| agent.idle_for() >= idle) {
                        break;
                    }
                }
            }
        }
        tracing::info!("ending: what is in flight is finished");
        agent.jobs.close(false);
        end.notify_one();
        let finished = async {
            while agent.jobs.busy() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            tokio::time::sleep(GRACE).await;
        };
        let code = tokio::select! {
            _ = terminate.recv() => 130,
            _ = interrupt.recv() => 130,
            () = finished => 0,
        };
        agent.jobs.close(true);
        // Connections that are still open end with the process, a moment after the job.
        tokio::time::sleep(Duration::from_millis(500)).await;
        if let Some(folder) = temporary {
            let _ = std::fs::remove_dir_all(folder);
        }
        std::process::exit(code);
    }))
}
