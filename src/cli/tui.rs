/*! `tui`, and what happens without a command: the workbench. */

use super::CliError;
use crate::engine::Cancel;
use crate::run::Event;
use crate::tui::{self, ColorChoice, Job, Replay, Results, Work};
use std::path::PathBuf;
use std::sync::Arc;

/// How the workbench looks.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Look {
    /// How many colours the workbench uses.
    #[arg(long, value_enum, default_value_t)]
    color: ColorChoice,
    /// Borders, bars and marks in ASCII.
    #[arg(long)]
    ascii: bool,
    /// default, dark, light, high-contrast, colour-blind or mono; or one of your own.
    #[arg(long, value_name = "NAME")]
    theme: Option<String>,
}

/// Open the workbench on a session, or on the demo.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TuiArgs {
    /// The session file; the demo that ships if absent.
    pub session: Option<PathBuf>,
    #[command(flatten)]
    pub(super) look: Look,
}

/// Runs the command.
pub fn run(args: &TuiArgs) -> Result<(), CliError> {
    let options = tui::Options {
        session: args.session.clone(),
        color: args.look.color,
        ascii: args.look.ascii,
        theme: args.look.theme.clone(),
    };
    Ok(tui::run(&options, Arc::new(Stages), Arc::new(Replay))?)
}

/// The jobs of the workbench, by the stages of a run.
struct Stages;

impl Work for Stages {
    fn run(
        &self,
        job: &Job,
        _tell: &mut dyn FnMut(Event),
        _cancel: &Cancel,
    ) -> Result<Results, String> {
        let goal = job.goal.name();
        Err(format!("this build has no stages to {goal} with"))
    }
}
