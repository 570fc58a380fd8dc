/*! What can go wrong while measuring a device. */

use crate::backend::BackendError;
use crate::engine::EngineError;
use std::path::PathBuf;

/// Why something can't be measured.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// A file of the system that isn't there or can't be read.
    #[error("{}: {source}; this is measured on Linux, with /proc mounted", path.display())]
    Read {
        /// Path under /proc or /sys.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of the system that says something else than expected.
    #[error("{}: no `{what}` in it", path.display())]
    Missing {
        /// Path under /proc or /sys.
        path: PathBuf,
        /// What was looked for.
        what: String,
    },
    /// The kernel keeps the peak of resident memory.
    #[error("the peak of resident memory can't be reset ({0}): it counts from the process's start")]
    PeakStays(std::io::Error),
    /// A setting out of range.
    #[error("{what} is {found}: {expected}")]
    Setting {
        /// Name of the setting.
        what: &'static str,
        /// Value that was given.
        found: String,
        /// Range that is allowed, in words.
        expected: &'static str,
    },
    /// A network of another form than a classifier's.
    #[error("`{0}` can't be timed: {1}")]
    Network(String, String),
    /// A backend whose device isn't there.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The engine refused or failed.
    #[error(transparent)]
    Engine(EngineError),
    /// Stopped through its token.
    #[error("stopped")]
    Cancelled,
}

impl From<EngineError> for DeviceError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Cancelled => DeviceError::Cancelled,
            other => DeviceError::Engine(other),
        }
    }
}
