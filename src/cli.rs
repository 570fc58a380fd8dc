/*!
The commands, one file a subcommand. The only room that prints: results to standard output, progress
and errors to standard error. With `--json` standard output holds one document and nothing else.
*/

pub mod agent;
pub mod completions;
pub mod data;
pub mod engine;
pub mod error;
pub mod exits;
pub mod export;
pub mod infer;
pub mod interrupt;
pub mod layers;
pub mod man;
pub mod network;
pub mod new;
mod pictures;
pub mod plan;
pub mod profile;
pub mod progress;
pub mod run;
pub mod session;
pub mod start;
pub mod sweep;
pub mod table;
pub mod train;
pub mod tui;
pub mod tune;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Distributed and progressive inference for the edge-cloud continuum: where to cut a network
/// between edge and cloud, where to put early exits, at which threshold, and what that gives.
/// Without a command the workbench opens, on a session or on the demo; with a network and labelled
/// images it first makes a session for them.
#[derive(Debug, Parser)]
#[command(name = "edgelesspart", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    start: start::StartArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    New(new::NewArgs),
    Layers(layers::LayersArgs),
    Infer(infer::InferArgs),
    Agent(agent::AgentArgs),
    Profile(profile::ProfileArgs),
    Run(run::RunArgs),
    Plan(plan::PlanArgs),
    Sweep(sweep::SweepArgs),
    Tune(tune::TuneArgs),
    Explore(sweep::ExploreArgs),
    Table(table::TableArgs),
    Export(export::ExportArgs),
    Exits(exits::ExitsArgs),
    Train(train::TrainArgs),
    Tui(tui::TuiArgs),
    #[command(visible_alias = "replay")]
    Playback(tui::PlaybackArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

/// Runs the command and turns its outcome into an exit code: 0 done, 1 failed, 2 wrong use.
pub fn main(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Some(command) => dispatch(command),
        None => start::run(&cli.start),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::note(format_args!("edgelesspart: {}", error::line(&error)));
            error::exit_code(&error)
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::New(args) => new::run(&args, &interrupt::token()?),
        Command::Layers(args) => layers::run(&args),
        Command::Infer(args) => infer::run(&args, &interrupt::token()?),
        Command::Agent(args) => agent::run(&args),
        Command::Profile(args) => profile::run(&args, &interrupt::token()?),
        Command::Plan(args) => plan::run(&args, &interrupt::token()?),
        Command::Sweep(args) => sweep::run(&args),
        Command::Tune(args) => tune::run(&args),
        Command::Explore(args) => sweep::explore(&args),
        Command::Table(args) => table::run(&args),
        Command::Run(args) => run::run(&args, &interrupt::token()?),
        Command::Export(args) => export::run(&args, &interrupt::token()?),
        Command::Exits(args) => exits::run(&args),
        Command::Train(args) => train::run(&args, &interrupt::token()?),
        Command::Tui(args) => tui::run(&args),
        Command::Playback(args) => tui::playback(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}

/// What a reader that left early (`| head`) has of the output is enough.
fn printed(done: std::io::Result<()>) -> anyhow::Result<()> {
    match done {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing to standard output"),
    }
}

/// Reads a number of threads: 0 for one per core, and no more than the machine can bear.
fn threads(text: &str) -> Result<usize, String> {
    let most = crate::engine::most_threads();
    match text.parse() {
        Ok(threads) if threads <= most => Ok(threads),
        Ok(_) => Err(format!(
            "at most {most}, four for each core of this machine"
        )),
        Err(_) => Err("it is a whole number; 0 for one thread per core".to_string()),
    }
}
