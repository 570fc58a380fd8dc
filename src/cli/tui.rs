/*! `tui`, and what happens without a command: the workbench. */

mod work;

use crate::tui::{self, ColorChoice};
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

/// Play the last run of a session again, as it went; nothing but the session file is needed.
#[derive(Debug, clap::Args)]
pub struct PlaybackArgs {
    /// A session file that a run left; the demo that ships if absent.
    pub session: Option<PathBuf>,
    /// So many times as fast as it was.
    #[arg(long, default_value_t = 1.0, value_name = "N", value_parser = speed)]
    speed: f64,
    #[command(flatten)]
    look: Look,
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if (0.125..=256.0).contains(&speed) => Ok(speed),
        _ => Err("a number from 0.125 to 256".to_string()),
    }
}

/// Runs `tui`.
pub fn run(args: &TuiArgs) -> anyhow::Result<()> {
    open(args.session.clone(), &args.look, None)
}

/// Runs `playback`.
pub fn playback(args: &PlaybackArgs) -> anyhow::Result<()> {
    open(args.session.clone(), &args.look, Some(args.speed))
}

pub(super) fn open(
    session: Option<PathBuf>,
    look: &Look,
    playback: Option<f64>,
) -> anyhow::Result<()> {
    let options = tui::Options {
        session,
        color: look.color,
        ascii: look.ascii,
        theme: look.theme.clone(),
        playback,
        once_taken: None,
    };
    Ok(tui::run(&options, Arc::new(work::Processes))?)
}
