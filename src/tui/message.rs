/*!
What the workbench is told (messages), what it asks of the world (effects), and the small words both are
made of. Everything else in this room imports this file, and this file imports none of it but the ports.
*/

use super::error::{FileError, NetworkError};
use super::ports::{Job, JobError, RunningJob};
use super::state::finder::{Folder, Found};
use super::work::{Explored, HeadFacts, NetworkFacts, Results};
use crate::event::{Event, TargetId};
use crate::exits::ExitError;
use crate::explore::{Candidate, Goal, Guarantee, Limits, Promise, Tuned, Verdict};
use crate::plan::{Plan, TierNames};
use crate::predict::{Evidence, HeadPays, Outcome, ReplayError, Terms};
use crate::report::WhatIfReport;
use crate::run::{RunError, RunEvidence};
use crate::session::{self, ExitSettings, Session, Target};
use crossterm::event::{KeyEvent, MouseEvent};
use std::path::PathBuf;
use std::sync::Arc;

/// What the workbench is told.
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
    Network(Result<Box<NetworkFacts>, NetworkError>),
    /// Results of earlier runs of the session.
    Kept(Box<Results>),
    /// Results of earlier runs that ship with the program, measured on another machine.
    Shipped(Box<Results>),
    /// A run of the session goes on without the workbench.
    Running(RunningJob),
    /// Sessions that were opened before, and those in and below this folder.
    Sessions(Found),
    /// The names in a folder that was asked for as it was typed.
    Names(Folder),
    /// The exit classifier's text, where the session names a file.
    Classifier(Option<Result<String, Arc<FileError>>>),
    /// What the test of this number says of a target.
    Tested(u64, TargetId, Tested),
    /// Whether each agent of the session takes connections.
    Reached(Vec<(TargetId, bool)>),
    /// A session's file is written, and has this content now.
    Saved {
        file: PathBuf,
        session: Box<Session>,
        content: Content,
    },
    /// There is a file of that name already; whether the table was to be exported to it.
    Exists {
        file: PathBuf,
        export: bool,
    },
    /// The session's file isn't what was opened any more.
    Changed(PathBuf),
    /// A file the user asked for is written.
    Wrote(PathBuf),
    Failed(FileError),
    /// The session that was asked for can't be opened.
    NotOpened(FileError),
    Heads(u64, Result<Vec<HeadFacts>, Box<ExitError>>),
    Curves(u64, Box<Result<CurvesAnswer, ReplayError>>),
    Explored(u64, Box<Result<Explored, ReplayError>>),
    /// What the last run showed, and whether that is all of it.
    Evidence(u64, Box<Result<RunEvidence, RunError>>, bool),
    /// Settings searched for "what if", and how many there are.
    WhatIfProgress(u64, usize, usize),
    WhatIf(u64, Box<Result<WhatIfReport, ReplayError>>),
    Mouse(MouseEvent),
    /// What the mouse means where it is.
    Hit(Hit),
    /// Of the job of this number, at so many milliseconds since its start.
    Run(usize, u64, Box<Event>),
    /// Likewise; whether it was asked to stop, and what came of it.
    RunEnded(usize, u64, bool, Result<Box<Results>, JobError>),
}

/// What the world is asked to do.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Read a session, and then its network.
    Open(Source),
    /// See whether agents at these addresses take connections.
    Reach(Vec<(TargetId, String)>),
    /// Look for sessions opened before, and in the folder and below.
    List,
    /// See what lies in a folder, as it is typed; empty: in this one.
    LookInto(String),
    /// Read what an edit names anew: the network where it is another, the exit classifier's file, and
    /// what earlier runs left of such a session.
    Reload {
        session: Box<Session>,
        folder: PathBuf,
        network: bool,
    },
    /// Test each of these targets: whether it is reached, takes the token, and is of this release.
    Test {
        /// Number of the test.
        number: u64,
        /// Targets to be tested, paths resolved.
        targets: Vec<(TargetId, Target)>,
    },
    /// Stop the test that goes on.
    StopTest,
    /// Put a text into the terminal's clipboard.
    Clip(String),
    /// Write the session; its journal is forgotten, unless there is a draft to keep.
    Save {
        session: Box<Session>,
        file: PathBuf,
        over: Over,
        draft: Option<String>,
        journal: PathBuf,
    },
    /// Keep unsaved edits, and the exit source as it is typed where it doesn't check.
    Journal {
        session: Box<Session>,
        draft: Option<String>,
        file: PathBuf,
    },
    /// Nothing is unsaved any more.
    Forget(PathBuf),
    /// Write a file the user asked for; over one that is there only if told so.
    Write {
        file: PathBuf,
        text: String,
        over: bool,
    },
    /// To the terminal's clipboard, and to a file since tmux may drop the former.
    Copy,
    /// Make a head of the source at every point.
    Heads(HeadsRequest),
    /// Predict outcomes over the thresholds.
    Curves(Box<CurvesRequest>),
    /// Find the Pareto-optimal plans.
    Explore(Box<ExploreRequest>),
    /// Gather what the last run showed.
    Evidence(EvidenceRequest),
    /// Find the best plans under other links, devices and prices; an earlier search is stopped.
    WhatIf(Box<WhatIfRequest>),
    StopWhatIf,
    /// Take the mouse, or leave it to the terminal.
    Mouse(bool),
    /// A message after some milliseconds; a newer one of the same timer replaces it.
    Later {
        timer: Timer,
        ms: u64,
    },
    /// Start a job in a process of its own.
    Start {
        id: usize,
        job: Box<Job>,
    },
    /// Ask a job to stop.
    Stop(usize),
    /// Let a job wait, or go on.
    Pause(usize, bool),
    /// Follow a run in another process.
    Join {
        id: usize,
        job: Box<Job>,
        running: RunningJob,
    },
    /// Leave a job to itself.
    Leave(usize),
    /// Give the terminal to the shell.
    Suspend,
    /// Leave the workbench.
    Quit,
}

/// A source to make heads of.
#[derive(Debug, Clone)]
pub struct HeadsRequest {
    pub generation: u64,
    pub source: String,
    /// Where what the source includes is looked for, paths resolved.
    pub settings: Box<ExitSettings>,
    pub network: Arc<NetworkFacts>,
    pub seed: u64,
    /// A source may make other heads for other tiers.
    pub tiers: TierNames,
    /// The point whose findings are told first.
    pub first: usize,
}

/// Thresholds at which a plan's outcome is to be predicted.
#[derive(Debug, Clone)]
pub struct CurvesRequest {
    pub generation: u64,
    pub evidence: Arc<Evidence>,
    pub terms: Terms,
    pub plan: Plan,
    /// The exit whose threshold varies; all of them if absent.
    pub exit: Option<usize>,
    pub thresholds: Vec<f64>,
    /// What is wanted of a deployment.
    pub goal: Goal,
    /// Plans to choose the best of, if any were searched for.
    pub explored: Vec<Candidate>,
    /// What thresholds are to keep to, where the session asks for a guarantee.
    pub promise: Option<Promise>,
    /// Whether the best thresholds are searched for, too.
    pub tune: bool,
}

/// What the curves show, whether each exit of the plan pays, and what to deploy.
#[derive(Debug, Clone, PartialEq)]
pub struct CurvesAnswer {
    /// In the order of the thresholds.
    pub outcomes: Vec<Outcome>,
    /// In the order of the plan's exits.
    pub pays: Vec<HeadPays>,
    pub verdict: Verdict,
    /// The best thresholds, where they were searched for.
    pub best: Option<BestThresholds>,
}

/// Thresholds that a search found, one per exit.
#[derive(Debug, Clone, PartialEq)]
pub struct BestThresholds {
    /// What was found, with its proof.
    pub tuned: Tuned,
    /// What they keep, where the session asks for a guarantee.
    pub guarantee: Option<Guarantee>,
}

/// Limits to search within.
#[derive(Debug, Clone)]
pub struct ExploreRequest {
    pub generation: u64,
    /// What is wanted of a deployment.
    pub goal: Goal,
    pub evidence: Arc<Evidence>,
    pub terms: Terms,
    pub thresholds: Vec<f64>,
    pub limits: Limits,
}

/// Results whose evidence is to be gathered.
#[derive(Debug, Clone)]
pub struct EvidenceRequest {
    pub generation: u64,
    /// The session, paths resolved.
    pub session: Box<Session>,
    pub results: Arc<session::Results>,
}

/// What is to be searched under other links, devices and prices.
#[derive(Debug, Clone)]
pub struct WhatIfRequest {
    pub generation: u64,
    pub goal: Goal,
    pub evidence: Arc<Evidence>,
    pub terms: Terms,
    pub thresholds: Vec<f64>,
    /// Whether bandwidth by round trip is searched, too.
    pub with_map: bool,
}

/// What a test says of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tested {
    /// The target was asked and hasn't answered yet.
    Asked,
    /// Somebody takes connections there; the agent is asked who it is.
    Reached,
    /// It answers, and believes the token.
    Answers {
        /// Name of its machine.
        device: String,
        threads: usize,
        /// Release that it is of.
        version: String,
    },
    /// A process of this program, which a run starts.
    Local,
    /// A server that is no agent takes connections; more only a run can tell.
    Open,
    Failed(String),
    Stopped,
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
    /// It is worth seeing again whether agents can be reached.
    Reach,
}

/// A hash of what a file held, to tell whether somebody else has written to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content(pub u64);

/// What a session's file may hold for it to be written over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// There is to be no such file.
    Nothing,
    /// What it held when it was last read or written.
    Known(Content),
    /// Overwrite the file whatever it holds.
    Anything,
}

/// Edits of a workbench that didn't end well.
#[derive(Debug, Clone, PartialEq)]
pub struct Recovered {
    pub session: Session,
    /// The exit source as it was typed, where it didn't check.
    pub draft: Option<String>,
}

/// Which session is opened.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// The one that ships.
    Demo,
    /// A session in a file.
    File(PathBuf),
}

/// A session as it was opened.
#[derive(Debug, Clone)]
pub struct Opened {
    pub session: Session,
    /// `None` for the one that ships.
    pub file: Option<PathBuf>,
    /// Where its paths start.
    pub folder: PathBuf,
    /// Text of the exit classifier, where it is a file.
    pub classifier: Option<Result<String, Arc<FileError>>>,
    /// What the file held.
    pub content: Option<Content>,
    pub recovered: Option<Recovered>,
    pub journal: PathBuf,
    /// Another workbench has it open.
    pub shared: bool,
    /// What a run left in the file; the session itself is without.
    pub results: Option<Box<crate::session::Results>>,
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
    Evidence,
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

    pub const ALL: [Panel; 8] = [
        Panel::Layers,
        Panel::Plan,
        Panel::Exits,
        Panel::Runs,
        Panel::Threshold,
        Panel::Explore,
        Panel::Session,
        Panel::Evidence,
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
            Panel::Evidence => "Evidence",
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
    /// One per tier there can be.
    pub profiles: [bool; 4],
    pub measured: bool,
}
