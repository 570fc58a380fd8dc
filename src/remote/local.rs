/*!
A target on this machine: this program as a child process, serving on loopback, in a session of its
own, on its own cores. It outlives a hang-up of its parent; it ends when the run is done, or when
nobody has asked it for anything for a while.
*/

use super::message::CloudTarget;
use super::{Client, ClientError, tls};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Longest a child may take until it serves.
const START: Duration = Duration::from_secs(20);
/// How long it may finish what it does before it is killed.
const GRACE: Duration = Duration::from_secs(2);
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
        /// Which.
        program: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// It ended before it served.
    #[error("the target on this machine ended before it served: {0}")]
    Ended(String),
    /// It neither ended nor served.
    #[error("the target on this machine didn't serve within 20 s: {0}")]
    Silent(String),
}

/// The one line that an agent writes to standard output, once it serves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Ready {
    pub url: String,
    pub pid: u32,
    /// Where it keeps what it is sent.
    pub data: PathBuf,
    /// Whether that folder ends with it.
    pub temporary: bool,
}

/// A target on this machine. Killed when dropped, unless [`LocalAgent::keep`] was called.
#[derive(Debug)]
pub struct LocalAgent {
    ready: Ready,
    child: Option<Child>,
    stderr: NamedTempFile,
    notes: Vec<String>,
    token: Secret,
}

/// A token that is not printed.
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// The variable in which a child finds its token: arguments can be read by every user of a machine,
/// the environment of a process by its own user alone.
pub const TOKEN_VARIABLE: &str = "EDGELESSPART_AGENT_TOKEN";

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
        let (cores, notes) = usable(&options.cores, &available());
        let token = tls::token().map_err(|e| failed(&program, std::io::Error::other(e)))?;
        // A file and no pipe: nobody may be left to read it.
        let stderr = NamedTempFile::new().map_err(|e| failed(&program, e))?;
        let for_child = stderr.reopen().map_err(|e| failed(&program, e))?;
        let mut command = Command::new(&program);
        command
            .args(["agent", "--listen", "127.0.0.1:0", "--own-session"])
            .arg(format!("--slowdown={}", options.slowdown))
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
            child: Some(child),
            stderr,
            notes,
            token: Secret(token),
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

    /// Where it serves.
    pub fn url(&self) -> &str {
        &self.ready.url
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.ready.pid
    }

    /// What the user should know: cores that this machine doesn't have.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// If it has ended: how, and its last words.
    pub fn died(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        Some(format!(
            "the target on this machine ended ({status}). {}",
            tail(&self.stderr)
        ))
    }

    /// Lets it run on, for whoever knows its address and its token (this way round); it ends by
    /// itself when idle.
    pub fn keep(mut self) -> (String, String) {
        self.child = None;
        (self.ready.url.clone(), self.token.0.clone())
    }

    /// Ends it: it may finish what it does for two seconds.
    pub async fn stop(mut self) {
        let Some(child) = &mut self.child else { return };
        signal(self.ready.pid, Signal::SIGTERM);
        // Dropping `self` kills what is still there.
        if tokio::time::timeout(GRACE, child.wait()).await.is_ok() {
            self.child = None;
        }
    }
}

impl Drop for LocalAgent {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        // Only while it is not reaped is the number still its own.
        if matches!(child.try_wait(), Ok(None)) {
            let _ = child.start_kill();
        }
        if self.ready.temporary {
            let _ = std::fs::remove_dir_all(&self.ready.data);
        }
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

/// Of the cores asked for, those there are; and what there is to say about the others.
fn usable(wanted: &[usize], available: &[usize]) -> (Vec<usize>, Vec<String>) {
    let mut cores: Vec<usize> = wanted.to_vec();
    if available.is_empty() {
        let note = "cores can't be chosen on this system; the target runs on any";
        let notes = (!wanted.is_empty()).then(|| note.to_string());
        return (Vec::new(), notes.into_iter().collect());
    }
    cores.retain(|c| available.contains(c));
    if cores.len() == wanted.len() {
        return (cores, Vec::new());
    }
    let missing: Vec<String> = wanted
        .iter()
        .filter(|c| !available.contains(c))
        .map(usize::to_string)
        .collect();
    let missing = missing.join(", ");
    let instead = match cores.len() {
        0 => "any core".to_string(),
        _ => "the others".to_string(),
    };
    let note = format!("this machine has no core {missing}; the target runs on {instead}");
    (cores, vec![note])
}

/// Cores this process may use; none where the system doesn't say.
#[cfg(target_os = "linux")]
pub fn available() -> Vec<usize> {
    use nix::sched::{CpuSet, sched_getaffinity};
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else {
        return Vec::new();
    };
    let has = |&core: &usize| set.is_set(core).unwrap_or(false);
    (0..CpuSet::count()).filter(has).collect()
}

/// Cores this process may use; none where the system doesn't say.
#[cfg(not(target_os = "linux"))]
pub fn available() -> Vec<usize> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(&[0], &[0, 1], &[0], "")]
    #[case(&[], &[0, 1], &[], "")]
    #[case(&[0, 7], &[0, 1], &[0], "no core 7; the target runs on the others")]
    #[case(&[7], &[0, 1], &[], "no core 7; the target runs on any core")]
    #[case(&[7], &[], &[], "can't be chosen")]
    fn takes_the_cores_there_are(
        #[case] wanted: &[usize],
        #[case] available: &[usize],
        #[case] cores: &[usize],
        #[case] note: &str,
    ) {
        let (found, notes) = usable(wanted, available);
        assert_eq!(found, cores);
        assert_eq!(notes.is_empty(), note.is_empty());
        assert!(notes.iter().all(|n| n.contains(note)), "{notes:?}");
    }
}
