/*! `agent`: serve on a target, for a workbench elsewhere. */

use super::{CliError, error::Context};
use crate::agent::{AgentConfig, serve};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Serve on this machine: run parts and jobs for a workbench, here or elsewhere.
///
/// One line of JSON on standard output says where it serves; it ends on SIGTERM or Ctrl-C when what
/// is in flight is done, a second time at once.
#[derive(Debug, clap::Args)]
pub struct AgentArgs {
    /// Address to listen on; port 0 for any that is free.
    #[arg(long, default_value = "127.0.0.1:7070")]
    listen: SocketAddr,
    /// Let other machines in although nothing is encrypted.
    #[arg(long)]
    insecure: bool,
    /// Threads of the engine; one for each core it may use if 0.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Cores to run on, such as 0,1; any if left out.
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
    /// Stretch the times of everything that computes by this factor, to emulate a slower machine.
    #[arg(long, default_value_t = 1.0, value_parser = slowdown)]
    slowdown: f64,
    /// Folder for models, parts, data sets and records; a temporary one if left out.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Bytes of the largest body it takes.
    #[arg(long, default_value_t = 1 << 29)]
    max_body: usize,
    /// Bytes it keeps in the folder at most; what was not asked for the longest goes first.
    #[arg(long, default_value_t = 1 << 33)]
    max_data: u64,
    /// File whose first line every client must show as its token.
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// End after so many seconds with neither client nor job.
    #[arg(long)]
    idle_exit: Option<u64>,
    /// Start a session of its own, so that a hang-up of the parent's terminal doesn't reach it.
    #[arg(long, hide = true)]
    own_session: bool,
}

fn slowdown(text: &str) -> Result<f64, String> {
    let factor: f64 = text.parse().map_err(|_| "it is a number".to_string())?;
    if factor.is_finite() && factor >= 1.0 {
        Ok(factor)
    } else {
        Err("a machine can only be made slower: at least 1".to_string())
    }
}

/// Runs the command.
pub fn run(args: &AgentArgs) -> Result<(), CliError> {
    if args.own_session {
        nix::unistd::setsid().context("starting a session of its own")?;
    }
    let token = match &args.token_file {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path).context(path.display().to_string())?;
            match text.lines().next().map(str::trim) {
                Some(line) if !line.is_empty() => Some(line.to_string()),
                _ => {
                    let what = format!("{}: its first line holds no token", path.display());
                    return Err(CliError::usage(what));
                }
            }
        }
    };
    let config = AgentConfig {
        listen: args.listen,
        insecure: args.insecure,
        threads: args.threads,
        cores: args.cores.clone(),
        slowdown: args.slowdown,
        data: args.data.clone(),
        max_body: args.max_body,
        max_data: args.max_data,
        token,
        idle_exit: args.idle_exit.map(Duration::from_secs),
    };
    serve(&config, |ready| {
        // A parent that is gone already reads no line; the agent serves all the same.
        if let Ok(line) = serde_json::to_string(ready) {
            let _ =
                std::io::Write::write_all(&mut std::io::stdout(), format!("{line}\n").as_bytes());
        }
    })?;
    Ok(())
}
