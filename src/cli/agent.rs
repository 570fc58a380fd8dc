/*! `agent`: serve on a target, for a workbench elsewhere. */

mod init;

use super::engine::EngineArgs;
use super::error::usage;
use crate::agent::{AgentConfig, Ended, is_name, serve};
use crate::protocol::message::TOKEN_VARIABLE;
use crate::protocol::tls::check_token;
use crate::units;
use anyhow::Context;
use std::env::VarError;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
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
    /// Make a certificate and a token in this folder, say how to use them, and end.
    #[arg(long, value_name = "DIR")]
    init: Option<PathBuf>,
    /// Certificate to encrypt with (PEM, the chain if there is one).
    #[arg(long, requires = "tls_key", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(long, requires = "tls_cert", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Let other machines in although nothing is encrypted, or no token is asked for.
    #[arg(long)]
    insecure: bool,
    /// Serve this network (ONNX) or part (bundle) from the start, as a model of the Open Inference
    /// Protocol under this name; may be given more than once.
    #[arg(long = "model", value_name = "NAME=FILE", value_parser = model)]
    models: Vec<(String, PathBuf)>,
    /// Write what happens to standard error as JSON, a line each.
    #[arg(long)]
    log_json: bool,
    #[command(flatten)]
    engine: EngineArgs,
    /// Threads of the engine; one for each core it may use if 0.
    #[arg(long, default_value_t = 0, value_parser = super::threads)]
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
    #[arg(long, value_name = "BYTES", default_value = "512 MiB", value_parser = units::read_memory)]
    max_body: usize,
    /// Bytes that all requests in flight may take together; one more is asked to try again.
    #[arg(long, value_name = "BYTES", default_value = "1 GiB", value_parser = units::read_memory)]
    max_in_flight: usize,
    /// Offload to, and measure links to, this address alone; may be given more than once. Any address
    /// that a job names if left out.
    #[arg(long = "cloud", value_name = "URL")]
    clouds: Vec<url::Url>,
    /// Bytes it keeps in the folder at most; what was not asked for the longest goes first.
    #[arg(long, value_name = "BYTES", default_value = "8 GiB", value_parser = units::read)]
    max_data: u64,
    /// File whose first line every client must show as its token; without it, the token is what the
    /// environment variable EDGELESSPART_AGENT_TOKEN holds, if anything.
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

fn model(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if is_name(name) && !file.is_empty() => {
            Ok((name.to_string(), PathBuf::from(file)))
        }
        _ => Err("it is NAME=FILE, the name of letters, digits, `-`, `_` and `.`".to_string()),
    }
}

/// What happens, to standard error: for people, or for machines.
fn log(json: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        // Of ONNX Runtime what is wrong alone: it tells much.
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,ort=warn"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    // One may be set already where the agent runs inside another program.
    let _ = match json {
        true => log.json().flatten_event(true).try_init(),
        false => log.with_target(false).try_init(),
    };
}

/// The token of a file's first line, or the one that a parent gave where no list of processes shows it.
fn token(file: Option<&Path>) -> anyhow::Result<Option<String>> {
    let (text, from) = match file {
        Some(path) => {
            let from = path.display().to_string();
            let text = std::fs::read_to_string(path).context(from.clone())?;
            (text.lines().next().unwrap_or_default().to_string(), from)
        }
        None => match std::env::var(TOKEN_VARIABLE) {
            Ok(text) => (text, TOKEN_VARIABLE.to_string()),
            Err(VarError::NotPresent) => return Ok(None),
            Err(error) => return Err(usage(format!("{TOKEN_VARIABLE}: {error}"))),
        },
    };
    match check_token(&text) {
        Ok(token) => Ok(Some(token.to_string())),
        Err(error) => Err(usage(format!("{from}: the token: {error}"))),
    }
}

/// Runs the command.
pub fn run(args: &AgentArgs) -> anyhow::Result<()> {
    if let Some(folder) = &args.init {
        let said = init::init(folder, args.listen)?;
        let _ = std::io::Write::write_all(&mut std::io::stdout(), said.as_bytes());
        return Ok(());
    }
    if args.own_session {
        nix::unistd::setsid().context("starting a session of its own")?;
    }
    log(args.log_json);
    let token = token(args.token_file.as_deref())?;
    let config = AgentConfig {
        listen: args.listen,
        insecure: args.insecure,
        tls: args.tls_cert.clone().zip(args.tls_key.clone()),
        models: args.models.clone(),
        backend: args.engine.backend()?,
        threads: args.threads,
        cores: args.cores.clone(),
        slowdown: args.slowdown,
        data: args.data.clone(),
        max_body: args.max_body,
        max_in_flight: args.max_in_flight,
        clouds: args.clouds.clone(),
        max_data: args.max_data,
        token,
        idle_exit: args.idle_exit.map(Duration::from_secs),
    };
    let ended = serve(&config, |ready| {
        // A parent that is gone already reads no line; the agent serves all the same.
        if let Ok(line) = serde_json::to_string(ready) {
            let _ =
                std::io::Write::write_all(&mut std::io::stdout(), format!("{line}\n").as_bytes());
        }
    })?;
    match ended {
        Ended::Finished => Ok(()),
        // Jobs that were stopped and didn't notice yet end here.
        Ended::Stopped => std::process::exit(130),
    }
}
