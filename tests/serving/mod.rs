//! Agents with arguments of their own, and a client that says what it is told to.

#![allow(dead_code)] // each test takes what it needs

use edgelesspart::remote::local::Ready;
use edgelesspart::remote::message::CloudTarget;
use edgelesspart::remote::{Believed, tls};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

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
        // Nobody reads what it logs.
        let mut child = command
            .args(arguments)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
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
pub fn http(believed: &Believed) -> reqwest::Client {
    let tls = match believed {
        Believed::System => tls::nobody().unwrap(),
        other => tls::client(other).unwrap(),
    };
    let builder = reqwest::Client::builder().no_proxy();
    builder.tls_backend_preconfigured(tls).build().unwrap()
}
