/*! What can be wrong with a data set: always which file, where in it, and what to do. */

use std::path::{Path, PathBuf};

/// A data set that can't be used as it stands.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file or folder can't be read.
    #[error("{}: {source}; {remedy}", .file.display())]
    Io {
        /// Path that was to be read.
        file: PathBuf,
        /// Reason that the operating system gives.
        source: std::io::Error,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A file isn't what its place in the data set says it is.
    #[error("{}: {problem}; {remedy}", .file.display())]
    File {
        /// Path that was to be read.
        file: PathBuf,
        /// What was found and what was expected.
        problem: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A record of a file is short or mislabelled.
    #[error("{}, record {record} (byte {offset}): {problem}; {remedy}", .file.display())]
    Record {
        /// Path of the file.
        file: PathBuf,
        /// Number of the record in it, from 0.
        record: usize,
        /// Where in the (unpacked) file it is.
        offset: u64,
        /// What was found and what was expected.
        problem: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// What was asked for can't be had from this data set.
    #[error("{0}")]
    Request(String),
    /// Stopped through its cancel token.
    #[error("loading the data was stopped")]
    Cancelled,
}

/// What to do about a damaged file.
pub(super) const FETCH_AGAIN: &str = "fetch or unpack the data set again";

impl DataError {
    pub(super) fn file(file: &Path, problem: impl Into<String>, remedy: &'static str) -> Self {
        DataError::File {
            file: file.to_owned(),
            problem: problem.into(),
            remedy,
        }
    }

    pub(super) fn io(file: &Path, source: std::io::Error, remedy: &'static str) -> Self {
        DataError::Io {
            file: file.to_owned(),
            source,
            remedy,
        }
    }
}
