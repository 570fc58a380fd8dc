/*!
A target on this machine: this program as a child process, serving on loopback, in a session of its
own, on its own cores. It outlives a hang-up of its parent; it ends when the run is done, or when
nobody has asked it for anything for a while.
*/

mod cores;

use crate::backend::BackendId;
use crate::device::machine::available_cores;
use crate::protocol::message::{CloudTarget, Ready, TOKEN_VARIABLE};
use crate::protocol::{Client, ClientError, tls};
use cores::usable;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Longest a child may take until it serves.
const START: Duration = Duration::from_secs(20);
/// Time between two looks at one that ends.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long it may finish what it does before it is killed.
const GRACE: Duration = Duration::from_secs(2);
/// Where a target left behind keeps its token, in its folder: readable by its owner alone.
const TOKEN_FILE: &str = "token";
/// Bytes of its last words that are repeated.
const TAIL: u64 = 2000;

/// How to start a target on this machine.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalOptions {
    /// The program; the running one if absent.
    pub program: Option<PathBuf>,
    /// Cores it may use; any if empty.
    pub cores: Vec<usize>,
    /// Threads of its engine; one a core if absent.
    pub threads: Option<usize>,
    /// Factor its times are stretched by.
    pub slowdown: f64,
    /// Engine that runs its parts.
    pub engine: BackendId,
    /// It ends after so long with neither client nor job.
    pub idle_exit: Duration,
}

impl Default for LocalOptions {
    fn default() -> Self {
        LocalOptions {
            program: None,
            cores: Vec::new(),
            threads: None,
            slowdown: 1.0,
            engine: BackendId::Native,
            idle_exit: Duration::from_secs(600),
        }
    }
}

/// Why there is no target.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The program can't be started.
    #[error("starting `{}` as a target: {cause}", .program.display())]
    Start {
        /// Path of the program that was to be started.
        program: PathBuf,
        /// Reason that the operating system gives.
        cause: std::io::Error,
    },
    /// It ended before it served.
    #[error("the target on this machine ended before it served: {0}")]
    Ended(String),
    /// It neither ended nor served.
    #[error("the target on this machine didn't serve within 20 s: {0}")]
    Silent(String),
}

/// A target on this machine. Killed when dropped, unless [`LocalAgent::keep`] was called.
#[derive(Debug)]
pub struct LocalAgent {
    ready: Ready,
    process: Process,
    notes: Vec<String>,
    token: Secret,
}

/// What is behind it.
#[derive(Debug)]
enum Process {
    /// A child of this process, and what it writes to standard error.
    Child(Child, NamedTempFile),
    /// One that an earlier process of this program started, and couldn't end.
    Rejoined,
    /// Nothing to be ended (any more).
    LeftAlone,
}

/// A token that is not printed.
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl LocalAgent {
    /// Starts it, and waits until it serves.
    ///
    /// # Errors
    /// Where the program can't be started, ends at once (with its last words) or stays silent.
    pub async fn start(options: &LocalOptions) -> Result<LocalAgent, LocalError> {
        let program = match &options.program {
            Some(program) => Ok(program.clone()),
            None => std::env::current_exe(),
        };
        let failed = |program: &PathBuf, cause| LocalError::Start {
            program: program.clone(),
            cause,
        };
        let program = program.map_err(|e| failed(&PathBuf::from("edgelesspart"), e))?;
        let (cores, notes) = usable(&options.cores, &available_cores());
        let token = tls::token().map_err(|e| failed(&program, std::io::Error::other(e)))?;
        // A file and no pipe: nobody may be left to read it.
        let stderr = NamedTempFile::new().map_err(|e| failed(&program, e))?;
        let for_child = stderr.reopen().map_err(|e| failed(&program, e))?;
        let mut command = Command::new(&program);
        command
            .args(["agent", "--listen", "127.0.0.1:0", "--own-session"])
            .arg(format!("--slowdown={}", options.slowdown))
            .arg(format!("--engine={}", options.engine.engine()))
            .arg(format!("--provider={}", options.engine.provider()))
            .arg(format!("--idle-exit={}", options.idle_exit.as_secs()))
            .arg(format!(
                "--threads={}",
                options.threads.unwrap_or(cores.len())
            ))
            .env(TOKEN_VARIABLE, &token)
            // Its last words should be about why it ended.
            .env(
                "RUST_LOG",
                std::env::var("RUST_LOG").unwrap_or("warn".into()),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(for_child);
        if !cores.is_empty() {
            let list: Vec<String> = cores.iter().map(usize::to_string).collect();
            command.arg(format!("--cores={}", list.join(",")));
        }
        let mut child = command.spawn().map_err(|e| failed(&program, e))?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            let mut stdout = BufReader::new(stdout);
            let read = tokio::time::timeout(START, stdout.read_line(&mut line)).await;
            if read.is_err() {
                let _ = child.start_kill();
                return Err(LocalError::Silent(tail(&stderr)));
            }
        }
        let Ok(ready) = serde_json::from_str::<Ready>(&line) else {
            let _ = child.start_kill();
            let status = child.wait().await;
            let status = status.map_or_else(|e| e.to_string(), |s| s.to_string());
            return Err(LocalError::Ended(format!("{status}. {}", tail(&stderr))));
        };
        Ok(LocalAgent {
            ready,
            process: Process::Child(child, stderr),
            notes,
            token: Secret(token),
        })
    }

    /// Makes sure that it can be found again by [`LocalAgent::rejoin`], should this process end without
    /// a chance to end it: its token goes into its own folder, to be read by its owner alone. What is
    /// returned holds no secret, and may be written down anywhere.
    ///
    /// # Errors
    /// Where the file can't be written.
    pub fn persist(&self) -> std::io::Result<Ready> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(self.ready.data.join(TOKEN_FILE))?;
        file.write_all(self.token().as_bytes())?;
        Ok(self.ready.clone())
    }

    /// A target that an earlier process of this program left behind, if it still answers.
    pub async fn rejoin(ready: &Ready) -> Option<LocalAgent> {
        let token = std::fs::read_to_string(ready.data.join(TOKEN_FILE)).ok()?;
        let agent = LocalAgent {
            ready: ready.clone(),
            process: Process::LeftAlone,
            notes: Vec::new(),
            token: Secret(token),
        };
        // Nobody else knows that token, so who takes it is the one.
        agent.connect().await.ok()?;
        Some(LocalAgent {
            process: Process::Rejoined,
            ready: agent.ready.clone(),
            notes: Vec::new(),
            token: Secret(agent.token().to_string()),
        })
    }

    /// A client of it.
    ///
    /// # Errors
    /// Where it has died.
    pub async fn connect(&self) -> Result<Client, ClientError> {
        Client::connect(self.url(), Some(self.token())).await
    }

    /// It as the cloud of an edge on this machine.
    pub fn cloud_target(&self) -> CloudTarget {
        CloudTarget {
            token: Some(self.token().to_string()),
            ..CloudTarget::new(self.url())
        }
    }

    /// What it asks its clients for.
    pub fn token(&self) -> &str {
        &self.token.0
    }

    /// Gives the address that the agent serves at.
    pub fn url(&self) -> &str {
        &self.ready.url
    }

    /// Gives the number of the agent's process.
    pub fn pid(&self) -> u32 {
        self.ready.pid
    }

    /// What the user should know: cores that this machine doesn't have.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// If it has ended: how, and its last words.
    pub fn died(&mut self) -> Option<String> {
        match &mut self.process {
            Process::Child(child, stderr) => {
                let status = child.try_wait().ok()??;
                let words = tail(stderr);
                Some(format!(
                    "the target on this machine ended ({status}). {words}"
                ))
            }
            Process::Rejoined if !is_agent(self.ready.pid) => {
                Some("the target on this machine, left by an earlier run, ended".to_string())
            }
            Process::Rejoined | Process::LeftAlone => None,
        }
    }

    /// Lets it run on, for whoever knows its address and its token (this way round); it ends by
    /// itself when idle.
    pub fn keep(mut self) -> (String, String) {
        self.process = Process::LeftAlone;
        (self.ready.url.clone(), self.token.0.clone())
    }

    /// Ends it: it may finish what it does for two seconds.
    pub async fn stop(mut self) {
        let pid = self.ready.pid;
        let ended = match &mut self.process {
            Process::Child(child, _) => {
                signal(pid, Signal::SIGTERM);
                tokio::time::timeout(GRACE, child.wait()).await.is_ok()
            }
            Process::Rejoined if is_agent(pid) => {
                signal(pid, Signal::SIGTERM);
                let gone = async {
                    while is_agent(pid) {
                        tokio::time::sleep(POLL_INTERVAL).await;
                    }
                };
                tokio::time::timeout(GRACE, gone).await.is_ok()
            }
            Process::Rejoined | Process::LeftAlone => true,
        };
        // Dropping `self` kills what is still there.
        if ended {
            self.process = Process::LeftAlone;
        }
    }
}

impl Drop for LocalAgent {
    fn drop(&mut self) {
        match &mut self.process {
            // Only while it is not reaped is the number still its own.
            Process::Child(child, _) => {
                if matches!(child.try_wait(), Ok(None)) {
                    let _ = child.start_kill();
                }
            }
            Process::Rejoined => {
                if is_agent(self.ready.pid) {
                    signal(self.ready.pid, Signal::SIGKILL);
                }
            }
            Process::LeftAlone => return,
        }
        if self.ready.temporary {
            let _ = std::fs::remove_dir_all(&self.ready.data);
        }
    }
}

/// Whether a process is a target of this program: its number may be another's by now.
fn is_agent(pid: u32) -> bool {
    match std::fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline")) {
        Ok(line) => {
            let mut words = line.split(|&b| b == 0).skip(1);
            words.next() == Some(b"agent") && words.any(|w| w == b"--own-session")
        }
        Err(_) => false,
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        // It may have ended in the meantime; that is what was wanted.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

fn tail(file: &NamedTempFile) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = file.reopen()?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_string())
    };
    match read() {
        Ok(text) if text.is_empty() => "It left no message.".to_string(),
        Ok(text) => format!("Its last words: {text}"),
        Err(error) => format!("Its last words can't be read: {error}"),
    }
}
