/*! Jobs: what the workbench has others carry out, in processes that may outlive it. */

use super::work::Results;
use crate::engine::Cancel;
use crate::event::Event;
use crate::plan::Plan;
use crate::session::tables::PackError;
use crate::session::{Session, SessionError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a job is to reach; each includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Profiles of both sides and the link.
    Profile,
    /// Heads and confidence tables.
    Train,
    /// The parts on their targets, and the report.
    Run,
}

impl Goal {
    /// Names the job in a word or two, for panels.
    pub fn name(self) -> &'static str {
        match self {
            Goal::Profile => "profile",
            Goal::Train => "train",
            Goal::Run => "run",
        }
    }

    /// Says in a sentence what the job does, for the log.
    pub fn sentence(self) -> &'static str {
        match self {
            Goal::Profile => "profiling both sides and the link",
            Goal::Train => "training a head at every exit point",
            Goal::Run => "running the parts on their targets",
        }
    }
}

/// Work that a process of its own does for the workbench.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// How far it goes.
    pub goal: Goal,
    /// The settings, paths as the file has them.
    pub session: Session,
    /// The folder paths start at.
    pub folder: PathBuf,
    /// The plan on screen, so that what runs is what was seen.
    pub plan: Option<Plan>,
    /// Nobody asked for it: it ends with the workbench.
    pub background: bool,
}

/// A run of a session in another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunningJob {
    /// Number of the process.
    pub pid: u32,
    /// How far it is to go.
    pub goal: Goal,
}

/// What a job is asked for while it runs.
#[derive(Debug, Clone, Default)]
pub struct JobControl {
    /// Raised: it is to stop.
    pub cancel: Cancel,
    paused: Arc<AtomicBool>,
    leave: Arc<AtomicBool>,
}

impl JobControl {
    /// Lets it wait, or go on.
    pub fn pause(&self, waits: bool) {
        self.paused.store(waits, Ordering::Relaxed);
    }

    /// Whether it is to wait.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Leaves it to itself.
    pub fn leave(&self) {
        self.leave.store(true, Ordering::Relaxed);
    }

    /// Whether it is left to itself: who follows it returns, and it goes on.
    pub fn is_left(&self) -> bool {
        self.leave.load(Ordering::Relaxed)
    }
}

/// Why a job ended without reaching its goal.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// It was told to.
    #[error("stopped; what was finished is kept")]
    Stopped,
    /// Nobody follows it any more.
    #[error("it goes on by itself")]
    Left,
    /// There is no such job.
    #[error("nothing runs here that could be followed")]
    None,
    /// The run's own words.
    #[error("{0}")]
    Failed(String),
    /// The process ended without a word.
    #[error("it ended early; {} has what it said", .log.display())]
    EndedEarly {
        /// File that holds what the process printed.
        log: PathBuf,
    },
    /// The process can't be started.
    #[error("the run can't be started: {0}")]
    Start(std::io::Error),
    /// The process can't be told to stop.
    #[error("process {pid} can't be stopped: {error}")]
    Stop {
        /// Number of the process.
        pid: u32,
        /// Reason that the operating system gives.
        error: std::io::Error,
    },
    /// The file that lets a run wait.
    #[error("{}: {error}", .file.display())]
    Pause {
        /// Path of the file.
        file: PathBuf,
        /// Reason that the operating system gives.
        error: std::io::Error,
    },
    /// What the run left can't be read.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A table that the run left is damaged.
    #[error(transparent)]
    Damaged(#[from] PackError),
    /// The job's process ended by a panic.
    #[error("the job broke; its report is in the temporary folder")]
    Broke,
    /// The system has no thread left.
    #[error("no thread for the job: {0}")]
    Thread(std::io::Error),
}

/// Carries jobs out. Called on a thread of its own; several may run at once.
pub trait JobRunner: Send + Sync {
    /// Runs a job to its end, reporting what happens with the milliseconds since its start.
    ///
    /// # Errors
    /// What failed. A stopped or left job gives an error too.
    fn run(
        &self,
        job: &Job,
        on: &mut dyn FnMut(u64, Event),
        control: &JobControl,
    ) -> Result<Results, JobError>;

    /// What earlier runs of this session left.
    fn results(&self, _session: &Session, _folder: &Path) -> Results {
        Results::default()
    }

    /// The run of this session that goes on in another process, if there is one.
    fn running(&self, _session: &Session, _folder: &Path) -> Option<RunningJob> {
        None
    }

    /// Follows it to its end, as [`JobRunner::run`] does.
    ///
    /// # Errors
    /// As [`JobRunner::run`].
    fn join(
        &self,
        _job: &Job,
        _running: RunningJob,
        _on: &mut dyn FnMut(u64, Event),
        _control: &JobControl,
    ) -> Result<Results, JobError> {
        Err(JobError::None)
    }
}
