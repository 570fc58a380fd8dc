//! Agents with arguments of their own, and a client that says what it is told to.

use edgelesspart::protocol::message::CloudTarget;
use edgelesspart::protocol::message::Ready;
use edgelesspart::protocol::{TlsTrust, tls};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Long enough for a machine that builds something else meanwhile; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(240);

/// Looks again and again until it is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let pause = Duration::from_millis(20);
    for _ in 0..PATIENCE.as_millis() / pause.as_millis() {
        if is_so() {
            return;
        }
        std::thread::sleep(pause);
    }
    panic!("still not so: {what}");
}

/// What comes of something that would otherwise take far longer than anybody waits here.
pub async fn in_time<T>(what: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, what).await;
    done.expect("it goes on although it should have ended")
}

/// An agent; killed when dropped.
pub struct Agent(pub Child, pub Ready);

impl Agent {
    pub fn command(arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_edgelesspart"));
        command.arg("agent").args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn start(arguments: &[&str]) -> Agent {
        Agent::at("127.0.0.1:0", arguments)
    }

    pub fn at(address: &str, arguments: &[&str]) -> Agent {
        let mut command = Self::command(&["--listen", address, "--threads", "1"]);
        command.args(arguments);
        Agent::spawn(command)
    }

    /// One to which every file of more than so many kilobytes is a full disk.
    pub fn with_little_disk(kilobytes: usize, arguments: &[&str]) -> Agent {
        let mut command = Command::new("sh");
        // In blocks of 512 bytes; without the signal, a write that is too much is an error.
        let script = format!(
            "trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"",
            2 * kilobytes
        );
        command.args(["-c", &script, env!("CARGO_BIN_EXE_edgelesspart"), "agent"]);
        command.args(["--listen", "127.0.0.1:0", "--threads", "1"]);
        command.args(arguments).stdout(Stdio::piped());
        Agent::spawn(command)
    }

    pub fn spawn(mut command: Command) -> Agent {
        // Nobody reads what it logs.
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        Agent(child, serde_json::from_str(&line).unwrap())
    }

    pub fn url(&self) -> &str {
        &self.1.url
    }

    pub fn address(&self) -> &str {
        self.url().split("://").nth(1).unwrap()
    }

    pub fn path(&self, path: &str) -> String {
        format!("{}{path}", self.url())
    }

    pub fn target(&self) -> CloudTarget {
        CloudTarget::new(self.url())
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }

    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        if self.1.temporary {
            let _ = std::fs::remove_dir_all(&self.1.data);
        }
    }
}

/// A client without manners of its own.
pub fn http(believed: &TlsTrust) -> reqwest::Client {
    let tls = match believed {
        TlsTrust::System => tls::no_trust().unwrap(),
        other => tls::client(other).unwrap(),
    };
    let builder = reqwest::Client::builder().no_proxy();
    builder.tls_backend_preconfigured(tls).build().unwrap()
}

/// Stands between a client and an agent, and cuts connections.
pub struct Between {
    pub url: String,
    /// Bytes that went to the agent.
    pub passed: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Between {
    /// Each connection ends after the next of `cuts` bytes to the agent; those behind them don't.
    pub async fn start(agent: &Agent, cuts: &[usize]) -> Between {
        use std::sync::atomic::Ordering;
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = agent.url().split("://").next().unwrap();
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let passed = std::sync::Arc::<std::sync::atomic::AtomicUsize>::default();
        let (to, count, cuts) = (agent.address().to_string(), passed.clone(), cuts.to_vec());
        tokio::spawn(async move {
            let mut cuts = cuts.into_iter();
            while let Ok((near, _)) = listener.accept().await {
                let mut left = cuts.next().unwrap_or(usize::MAX);
                let Ok(far) = tokio::net::TcpStream::connect(&to).await else {
                    continue;
                };
                let count = count.clone();
                tokio::spawn(async move {
                    let ((mut from, mut back), (mut answers, mut there)) =
                        (near.into_split(), far.into_split());
                    let answered = tokio::spawn(async move {
                        let _ = tokio::io::copy(&mut answers, &mut back).await;
                    });
                    let mut bytes = vec![0; 1 << 14];
                    while left > 0 {
                        let most = bytes.len().min(left);
                        match from.read(&mut bytes[..most]).await {
                            Ok(n @ 1..) => {
                                if there.write_all(&bytes[..n]).await.is_err() {
                                    break;
                                }
                                count.fetch_add(n, Ordering::Relaxed);
                                left -= n;
                            }
                            _ => break,
                        }
                    }
                    answered.abort();
                });
            }
        });
        Between { url, passed }
    }

    pub fn passed(&self) -> usize {
        self.passed.load(std::sync::atomic::Ordering::Relaxed)
    }
}
