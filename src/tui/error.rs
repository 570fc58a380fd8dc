/*! What goes wrong in the workbench, and why a key does nothing now. The text is made where it is shown. */

use crate::exits::ExitError;
use crate::explore::PlannerError;
use crate::session::SessionError;
use std::path::PathBuf;
use std::sync::Arc;

/// What is wrong with the user's configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The name of a key isn't known.
    #[error("`{0}` is no key; keys are written as `s`, `S`, `ctrl-r`, `alt-x`, `left`, `f1`")]
    Key(String),
    /// The name of a command isn't known.
    #[error("keys: there is no command `{0}`; `:` lists them")]
    Command(String),
    /// The name of a theme isn't known.
    #[error("there is no theme `{name}`; there are {}", .known.join(", "))]
    Theme {
        /// The name asked for.
        name: String,
        /// Names of the themes that ship.
        known: Vec<&'static str>,
    },
    /// A theme that ships.
    #[error("{0}")]
    Shipped(Box<ron::error::SpannedError>),
    /// A file that can't be read.
    #[error("{}: {error}", .file.display())]
    Read {
        /// Path of the file.
        file: PathBuf,
        /// Reason, in the words of what failed.
        error: std::io::Error,
    },
    /// A file that says something else than was expected.
    #[error("{}:{error}", .file.display())]
    Parse {
        /// Path of the file.
        file: PathBuf,
        /// Line, column and what was expected.
        error: Box<ron::error::SpannedError>,
    },
}

/// Why there is no network on screen.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The session's model can't be had.
    #[error(transparent)]
    Model(#[from] crate::session::ModelError),
    /// The session itself can't be opened.
    #[error(transparent)]
    Session(#[from] FileError),
    /// The model isn't one that can be cut.
    #[error(transparent)]
    Layers(#[from] crate::model::LayerError),
}

/// Why a network's own classifier isn't at hand as an exit source.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NoReplica {
    /// The classifier has a layer that no exit source can name.
    #[error(transparent)]
    Unnamed(#[from] ExitError),
    /// Only what a run left of the network is at hand.
    #[error("without the network's file: {why}")]
    NoFile {
        /// Why the file can't be had.
        why: String,
    },
}

/// Why a file wasn't read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The session can't be read.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The session that a run left.
    #[error(transparent)]
    Results(#[from] crate::session::tables::PackError),
    /// Another file can't be read.
    #[error("{}: {error}", .file.display())]
    Io {
        /// Path of the file.
        file: PathBuf,
        /// Reason, in the words of what failed.
        error: std::io::Error,
    },
    /// The journal of unsaved edits.
    #[error("no autosave in {}: {error}", .file.display())]
    Journal {
        /// Path of the journal of unsaved edits.
        file: PathBuf,
        /// Reason, in the words of what failed.
        error: std::io::Error,
    },
}

/// Why a command can't be run now.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    /// The network isn't there yet.
    #[error("the network is still being read")]
    Reading,
    /// There is no network.
    #[error("{0}")]
    Network(Arc<NetworkError>),
    /// There is no plan.
    #[error(transparent)]
    Plan(PlannerError),
    /// No run is in the history.
    #[error("nothing has run yet; r runs the plan")]
    NoRuns,
    /// Only one run is in the history.
    #[error("a comparison takes two runs")]
    OneRun,
    /// The shown run goes on.
    #[error("it still runs; a run can be played again when it has ended")]
    StillRuns,
    /// The shown run can't be played.
    #[error("no events were kept of this run")]
    NoEvents,
}

/// What is wrong with the answer to a prompt.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// Something else than a number.
    #[error("`{0}` is no number")]
    Number(String),
    /// A share outside of its range.
    #[error("accuracy lies between 0 and 100 %")]
    Accuracy,
    /// A limit that is none, and what it may be.
    #[error("`{0}`: it must be {1}, or empty")]
    Limit(String, &'static str),
    /// The name of the file is empty.
    #[error("a file needs a name")]
    NoName,
    /// Something else than a share.
    #[error("`{0}`: it must be 0 to 1")]
    Share(String),
    /// A setting that isn't there, or that can't be so.
    #[error(transparent)]
    Setting(#[from] crate::session::catalog::SettingError),
    /// A theme that doesn't ship.
    #[error("{0}")]
    Theme(String),
    /// A pattern that isn't one.
    #[error("{0}")]
    Pattern(String),
    /// The table can't be written in the format asked for.
    #[error(transparent)]
    Export(#[from] ExportError),
}

/// Why the layer table can't be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The name ends in a format that isn't written.
    #[error("the name ends in .csv or .json")]
    Format,
    /// The figures can't be written as JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The figures can't be written as CSV.
    #[error(transparent)]
    Csv(#[from] csv::Error),
}
