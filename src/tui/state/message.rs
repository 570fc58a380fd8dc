/*! What the update is told, and the small words it is told in. */

use super::explore::Explored;
use crate::exits::ExitError;
use crate::predict::Outcome;
use crate::predict::ReplayError;
use crate::run::Event;
use crate::session::Session;
use crate::tui::effects::{Opened, Timer};
use crate::tui::work::{Going, HeadFacts, Network, Results};
use crossterm::event::{KeyEvent, MouseEvent};
use std::path::PathBuf;

/// What happened.
#[derive(Debug)]
pub enum Msg {
    Key(KeyEvent),
    Paste(String),
    Resize(u16, u16),
    Timer(Timer),
    /// Something was handed to the terminal's line, or couldn't be.
    Written(std::io::Result<()>),
    /// The terminal is gone.
    HangUp,
    Suspend,
    /// Somebody continued the process.
    Resume,
    Opened(Box<Opened>),
    Network(Result<Box<Network>, String>),
    /// Results of earlier runs of the session.
    Kept(Box<Results>),
    /// Likewise, as they ship with the program, measured on another machine.
    Shipped(Box<Results>),
    /// A run of the session goes on without the workbench.
    Going(Going),
    Sessions(Vec<PathBuf>),
    Saved(PathBuf, Box<Session>),
    /// There is a file of that name already.
    Exists(PathBuf),
    Said(String),
    Failed(String),
    Heads(u64, Result<Vec<HeadFacts>, Box<ExitError>>),
    Curves(u64, Result<Vec<Outcome>, ReplayError>),
    Explored(u64, Result<Explored, ReplayError>),
    Mouse(MouseEvent),
    /// What the mouse means where it is.
    Hit(Hit),
    /// Of the job of this number, at so many milliseconds since its start.
    Run(usize, u64, Box<Event>),
    /// Likewise; whether it was asked to stop, and what came of it.
    RunEnded(usize, u64, bool, Result<Box<Results>, String>),
}

/// What is in the focus: a panel of the overview, a page on a small screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Panel {
    Layers,
    Plan,
    Exits,
    Runs,
    Threshold,
    Explore,
    Session,
}

/// What lies under the mouse.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Hit {
    Panel(Panel),
    /// A row of the layer table.
    Layer(usize),
    /// A place on the slider.
    Threshold(f64),
    /// A plan of the explore page.
    Explored(usize),
    /// A turn of the wheel over a panel.
    Wheel(Panel, bool),
}

impl Panel {
    /// Those that the overview of a wide screen shows.
    pub const OVERVIEW: usize = 5;

    pub const ALL: [Panel; 7] = [
        Panel::Layers,
        Panel::Plan,
        Panel::Exits,
        Panel::Runs,
        Panel::Threshold,
        Panel::Explore,
        Panel::Session,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Panel::Layers => "Layers",
            Panel::Plan => "Plan",
            Panel::Exits => "Exits",
            Panel::Runs => "Runs",
            Panel::Threshold => "Threshold",
            Panel::Explore => "Explore",
            Panel::Session => "Session",
        }
    }
}

/// How urgent a notice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Info,
    Problem,
}

/// What of the results was measured on another machine than this, and ships with the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shipped {
    pub edge: bool,
    pub cloud: bool,
    pub measured: bool,
}
