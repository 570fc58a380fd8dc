/*!
Serving: binds, tells its parent where, runs until it is told to end or nobody has wanted anything
for long enough. Requests are served on the runtime's threads, which compute nothing; parts run on
blocking threads, jobs on a thread of their own.
*/

use super::config::AgentConfig;
use super::error::AgentError;
use super::files::FileBudget;
use super::listen;
use super::state::Agent;
use super::{routes, v2, work};
use crate::device::machine::available_cores;
use crate::engine::{most_threads, share_threads};
use crate::protocol::message::Ready;
use crate::protocol::tls;
use crate::runtime::runner::Runner;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// How long clients may take to end what they began, once the agent is told to end and no job runs.
const GRACE: Duration = Duration::from_secs(5);
/// How long they may take once a second signal came.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Connections that wait to be taken.
const BACKLOG: u32 = 4096;
const POLL_INTERVAL: Duration = Duration::from_millis(50);

fn system(what: &str, cause: impl Into<std::io::Error>) -> AgentError {
    AgentError::System {
        what: what.to_string(),
        cause: cause.into(),
    }
}

/// Lets this process, and the threads it will start, run on these cores only.
fn pin(cores: &[usize]) -> Result<(), AgentError> {
    let available = available_cores();
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

/// Why the agent stopped serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// What was in flight was finished.
    Finished,
    /// A second signal stopped it.
    Stopped,
}

/// Checks that it may and can be served like this, and keeps to the cores, of which threads are counted;
/// gives the encryption that is asked for.
fn prepared(config: &AgentConfig) -> Result<Option<rustls::ServerConfig>, AgentError> {
    let safe = config.tls.is_some() && config.token.is_some();
    if !config.listen.ip().is_loopback() && !safe && !config.insecure {
        return Err(AgentError::Open(config.listen));
    }
    let encryption = match &config.tls {
        Some((certificate, key)) => Some(tls::server(certificate, key)?),
        None => None,
    };
    if let Some(token) = &config.token {
        tls::check_token(token)?;
    }
    config.backend.open()?;
    pin(&config.cores)?;
    let (asked, most) = (config.threads, most_threads());
    if asked > most {
        return Err(AgentError::Threads { asked, most });
    }
    Ok(encryption)
}

/// Serves until it is told to end (SIGTERM, Ctrl-C: what is in flight is finished; a second time: at
/// once) or has been idle for long enough. `ready` is called with the bound address.
///
/// # Errors
/// Where it can't listen, or not as safely as asked.
pub fn serve(config: &AgentConfig, ready: impl FnOnce(&Ready)) -> Result<Ended, AgentError> {
    let encryption = prepared(config)?;
    // Jobs that train run on a pool of their own, which keeps to the same cores.
    share_threads(config.threads);
    // Removed when this function returns.
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
    let files = FileBudget::of_process();
    let agent = Agent::open(config, &folder, available_cores(), models(config)?, files)?;
    let agent = Arc::new(agent);
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
        let listener = bind(listen).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let mut signals = Signals::listen()?;
        ready(&Ready {
            url: format!("{}://{bound}", scheme(&encryption)),
            pid: std::process::id(),
            data: folder.clone(),
            temporary: temporary.is_some(),
        });
        let token = config.token.is_some();
        tracing::info!(%bound, encrypted = encryption.is_some(), token, "serving");
        let end = Arc::new(Notify::new());
        let router = routes::routes(agent.clone());
        let (connections, end_of) = (files.connections, end.clone());
        let serving = listen::serve(listener, encryption, router, connections, end_of);
        let serving = tokio::spawn(serving);
        until_told(&agent, config.idle_exit, &mut signals).await;
        tracing::info!("ending: what is in flight is finished");
        agent.jobs.close(false);
        end.notify_one();
        Ok(finish(&agent, serving, &mut signals).await)
    });
    agent.jobs.close(served.is_err());
    // A job that was stopped may take its time to notice; it ends with the process.
    if !matches!(served, Ok(Ended::Stopped)) {
        let _ = worker.join();
    }
    // Connections that are still open end here; so do threads that wait for a client.
    runtime.shutdown_background();
    served
}

/// Listens; many may connect at the same moment without one of them having to ask again, which takes a
/// second.
fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // A port is free again as soon as its agent has ended.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
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
        let runner = v2::load(name, opened, &config.execution());
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

/// What tells a process to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Signals, AgentError> {
        let listen = |kind| signal(kind).map_err(|e| system("listening to signals", e));
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Waits for a signal, or for the agent to be idle for long enough; tidies up meanwhile.
async fn until_told(agent: &Arc<Agent>, idle: Option<Duration>, signals: &mut Signals) {
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    let mut sweep = tokio::time::interval(Duration::from_secs(60));
    loop {
        tokio::select! {
            () = signals.next() => return,
            _ = sweep.tick() => {
                agent.store.sweep();
                let agent = agent.clone();
                // Not on this thread: connections end here.
                tokio::task::spawn_blocking(move || agent.ways.sweep());
            }
            _ = tick.tick() => {
                if idle.is_some_and(|idle| agent.idle_for() >= idle) {
                    return;
                }
            }
        }
    }
}

/// Waits until the running job and every connection have ended, clients for no longer than
/// [`GRACE`] after the job; a second signal stops both.
async fn finish(agent: &Agent, mut serving: JoinHandle<()>, signals: &mut Signals) -> Ended {
    let mut served = false;
    let finished = async {
        while agent.jobs.busy() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        served = tokio::time::timeout(GRACE, &mut serving).await.is_ok();
    };
    let ended = tokio::select! {
        () = signals.next() => Ended::Stopped,
        () = finished => Ended::Finished,
    };
    agent.jobs.close(true);
    if !served {
        // Followers of a job that is stopped hear of its end.
        let _ = tokio::time::timeout(LAST_WORDS, serving).await;
    }
    ended
}
