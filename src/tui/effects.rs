/*!
Effects: what the pure update asks the world to do. Everything that may take longer than a frame runs
on a thread and comes back as a message; of questions that supersede one another only the latest waits.
*/

mod files;
mod questions;
mod runner;

pub use files::Opened;
pub use questions::{CurvesRequest, ExploreRequest, HeadsRequest, make_heads};
pub use runner::Runner;

use super::work::{Going, Job};
use crate::session::Session;
use std::path::PathBuf;

/// Which session is opened.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// The one that ships.
    Demo,
    /// A file.
    File(PathBuf),
}

/// What the world is asked to do.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Read a session, and then its network.
    Open(Source),
    /// Look for sessions.
    List,
    /// Write the session, and forget its journal; over a file that is there only if told so.
    Save {
        session: Box<Session>,
        file: PathBuf,
        over: bool,
        journal: PathBuf,
    },
    /// Keep unsaved edits.
    Journal {
        session: Box<Session>,
        file: PathBuf,
    },
    /// Nothing is unsaved any more.
    Forget(PathBuf),
    /// Write a file the user asked for.
    Write { file: PathBuf, text: String },
    /// To the terminal's clipboard, and to a file since tmux may drop the former.
    Copy,
    /// Make a head of the source at every point.
    Heads(HeadsRequest),
    /// Outcomes over thresholds.
    Curves(Box<CurvesRequest>),
    /// The plans that no other beats.
    Explore(Box<ExploreRequest>),
    /// Take the mouse, or leave it to the terminal.
    Mouse(bool),
    /// A message after some milliseconds; a newer one of the same timer replaces it.
    Later { timer: Timer, ms: u64 },
    /// Start a job.
    Start { id: usize, job: Box<Job> },
    /// Ask a job to stop.
    Stop(usize),
    /// Let a job wait, or go on.
    Pause(usize, bool),
    /// Follow a run in another process.
    Join {
        id: usize,
        job: Box<Job>,
        going: Going,
    },
    /// Leave a job to itself.
    Leave(usize),
    /// Give the terminal to the shell.
    Suspend,
    /// End.
    Quit,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Timer {
    /// The source of the exit classifier rests.
    Source,
    /// Edits rest and are worth a journal.
    Journal,
    /// Curves are worth computing.
    Curves,
    /// A playback goes on.
    Playback,
    /// What the explore page shows is out of date.
    Explore,
}
