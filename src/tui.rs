/*!
The workbench: the terminal application.

What may live here: its state and the pure `update` over messages, the registry of commands and keys,
views that draw borrowed state, themes, and the terminal itself. It draws what the rooms below hand
it, and computes nothing they could.

- `term` owns the terminal, `input` reads keys, `app` is the loop between them;
- `message` is what the workbench is told and what it asks of the world; all others import it;
- `state` is everything on screen, `update` what a message changes, `command` lists what keys do;
- `views` draw the state with `widgets` in the styles of a `theme`;
- `effects` carry out what the state asks of the world, `ports` say what jobs others do for it, `work`
  what it asks them.
*/

mod app;
mod command;
mod config;
mod effects;
mod error;
mod input;
mod keymap;
mod message;
mod ports;
mod state;
mod term;
#[cfg(test)]
mod tests;
mod theme;
mod update;
mod views;
mod widgets;
mod work;

pub use error::{ConfigError, NoReplica};
pub use ports::{Goal, Job, JobControl, JobError, JobRunner, RunningJob};
pub use term::color::ColorChoice;
pub use work::{Explored, HeadFacts, Measured, NetworkFacts, Results};

use effects::Runner;
use message::{Effect, Source};
use state::State;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;

/// How the workbench is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The session to open; the demo if absent.
    pub session: Option<PathBuf>,
    /// Number of colours, or what the terminal tells of itself.
    pub color: ColorChoice,
    /// Borders, bars and marks in ASCII.
    pub ascii: bool,
    /// A theme's name, over the configuration's.
    pub theme: Option<String>,
    /// Plays the session's last run, so many times as fast as it was.
    pub playback: Option<f64>,
    /// Called once the terminal is taken, for tests of what becomes of it in a panic.
    #[doc(hidden)]
    pub once_taken: Option<fn()>,
}

/// Why the workbench couldn't start or go on.
#[derive(Debug, thiserror::Error)]
pub enum TuiError {
    /// Reading from or writing to the terminal failed.
    #[error("the terminal: {0}")]
    Terminal(#[from] std::io::Error),
    /// Standard input or output is something else.
    #[error(
        "the workbench needs a terminal; for scripts there are commands, see `edgelesspart --help`"
    )]
    NoTerminal,
    /// The terminal shows lines, one after the other.
    #[error(
        "a terminal with TERM=dumb can't show the workbench: set TERM to what it is, or use the \
         commands, see `edgelesspart --help`"
    )]
    Dumb,
    /// The user's configuration or theme.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The demo that ships.
    #[error(transparent)]
    Session(#[from] crate::session::SessionError),
}

/// Opens the workbench and runs it until the user leaves; `jobs` carries out its jobs.
///
/// # Errors
/// The terminal is none or goes wrong, or the configuration is wrong.
pub fn run(options: &Options, jobs: Arc<dyn JobRunner>) -> Result<(), TuiError> {
    let folder = config::folder();
    let config = match &folder {
        Some(folder) => config::read(folder)?,
        None => config::Config::default(),
    };
    let name = options.theme.clone().or(config.theme.clone());
    let name = name.unwrap_or_else(|| "default".into());
    let theme = config::theme(&name, folder.as_deref())?;
    let keymap = command::keymap(&config.keys)?;

    let mut state = State::new(crate::session::Session::demo()?, theme, keymap);
    state.ascii =
        options.ascii || config.ascii || !term::shows_unicode(|name| std::env::var(name).ok());
    let depth = options.color.depth(|name| std::env::var(name).ok());
    state.pictures = !state.ascii && depth != term::color::Depth::None;
    state.theme_name = name;
    state.playback_speed = options.playback;
    let source = options.session.clone().map_or(Source::Demo, Source::File);

    let (tell, messages) = channel();
    let mut runner = Runner::new(tell.clone(), jobs)?;
    let mut terminal = term::Terminal::take(depth, &tell)?;
    term::watch(&tell)?;
    if let Some(once_taken) = options.once_taken {
        once_taken();
    }
    input::start(tell)?;
    let first = vec![Effect::Open(source)];
    let ended = app::run(&mut state, &mut terminal, &messages, &mut runner, first);
    // The terminal first: whoever leaves doesn't wait for what is still written.
    drop(terminal);
    runner.finish();
    match ended {
        // A terminal that is gone can't be written to; that is how it ended, not a failure.
        Err(_) if state.gone => Ok(()),
        other => Ok(other?),
    }
}
