/*! How an agent is to serve. */

use crate::backend::BackendId;
use crate::runtime::runner::ExecutionOptions;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

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
    /// Threads of the engine; 0 for one per core.
    pub threads: usize,
    /// Cores to run on; any if empty.
    pub cores: Vec<usize>,
    /// Factor the engine's times are stretched by.
    pub slowdown: f64,
    /// Folder for what is sent; a temporary one if absent.
    pub data: Option<PathBuf>,
    /// Bytes of the largest body taken.
    pub max_body: usize,
    /// Bytes that all requests in flight may take together.
    pub max_in_flight: usize,
    /// The only addresses that jobs may offload to and measure links to; any if empty.
    pub clouds: Vec<url::Url>,
    /// Networks and parts served from the start: name and file of each.
    pub models: Vec<(String, PathBuf)>,
    /// Bytes kept in the folder at most.
    pub max_data: u64,
    /// The token that every request must show, if any.
    pub token: Option<String>,
    /// Seconds with neither client nor job after which the agent ends.
    pub idle_exit: Option<Duration>,
}

impl AgentConfig {
    /// What runs the parts.
    pub(super) fn execution(&self) -> ExecutionOptions {
        ExecutionOptions {
            backend: self.backend,
            threads: self.threads,
            slowdown: self.slowdown,
        }
    }
}
