/*! `tui`, and what happens without a command: the workbench. */

use super::CliError;
use crate::engine::Cancel;
use crate::run::{self, Event, Stage};
use crate::session::Session;
use crate::tui::{self, ColorChoice, Goal, Job, Replay, Results, Work};
use std::path::{Path, PathBuf};
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

/// The jobs of the workbench, by the stages of a run; kept where `run` keeps them.
struct Stages;

/// Where the results of a session go.
fn out(session: &Session) -> (String, PathBuf) {
    let name = session.name.clone().unwrap_or_else(|| "unnamed".into());
    let out = Path::new("runs").join(&name);
    (name, out)
}

/// Whether what one session measured is of the other: all but plan, policy and what runs where it is
/// computed afresh.
fn same_ground(one: &Session, other: &Session) -> bool {
    one.model == other.model
        && one.data == other.data
        && one.preprocessing == other.preprocessing
        && one.calibration == other.calibration
        && one.test_samples == other.test_samples
        && (&one.edge, &one.cloud, one.link) == (&other.edge, &other.cloud, other.link)
}

impl Work for Stages {
    fn run(
        &self,
        job: &Job,
        tell: &mut dyn FnMut(Event),
        cancel: &Cancel,
    ) -> Result<Results, String> {
        let folder = std::path::absolute(&job.folder).map_err(|e| e.to_string())?;
        let session = job.session.resolved(&folder);
        let (name, out) = out(&session);
        let options = run::Options {
            out: out.clone(),
            name,
            fresh: false,
            until: match job.goal {
                Goal::Profile => Stage::Link,
                Goal::Train => Stage::Tables,
                Goal::Run => Stage::Report,
            },
            program: None,
        };
        let done = run::run(&session, &options, tell, cancel).map_err(|e| e.to_string())?;
        if job.goal == Goal::Run {
            super::run::keep(&done, &out).map_err(|e| e.to_string())?;
        }
        match &done.session.results {
            Some(results) => Results::of(results),
            None => Ok(Results::default()),
        }
    }

    fn kept(&self, session: &Session, folder: &Path) -> Results {
        let Ok(folder) = std::path::absolute(folder) else {
            return Results::default();
        };
        let session = session.resolved(&folder);
        let file = out(&session).1.join("session.ron");
        let kept = Session::read(&file).ok();
        let kept = kept.filter(|k| same_ground(k, &session));
        let results = kept.and_then(|k| k.results);
        results
            .and_then(|r| Results::of(&r).ok())
            .unwrap_or_default()
    }
}
