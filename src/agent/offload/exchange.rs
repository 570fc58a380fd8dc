/*! A request, its answer, and why there is none. */

use crate::protocol::message::RefusalKind;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::HeaderMap;

/// Why the cloud doesn't answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OffloadError {
    /// An address that can't be one.
    #[error("`{url}` is no address of an agent: {what}")]
    Url {
        /// Address as it was given.
        url: String,
        /// What is wrong with the address.
        what: String,
    },
    /// Nobody answers, or the connection broke twice.
    #[error("the cloud at {url} doesn't answer: {cause}")]
    Unreachable {
        /// Address of the target.
        url: String,
        /// What the connection said.
        cause: String,
    },
    /// No answer came before the deadline.
    #[error("the cloud at {url} didn't answer within {ms} ms")]
    Late {
        /// Address of the target.
        url: String,
        /// Milliseconds that were allowed.
        ms: f64,
    },
    /// It answers, and says no.
    #[error("the cloud at {url} refuses ({status}): {error}")]
    Refused {
        /// Address of the target.
        url: String,
        /// Status of the HTTP answer.
        status: u16,
        /// The kind of the reason, where it is an agent.
        kind: RefusalKind,
        /// What the target said.
        error: String,
    },
    /// An answer that isn't what was agreed on.
    #[error("the cloud at {url} answers what this release doesn't understand: {what}")]
    Answer {
        /// Address of the target.
        url: String,
        /// What of the answer can't be read.
        what: String,
    },
    /// Somebody asked to stop.
    #[error("stopped")]
    Cancelled,
}

impl OffloadError {
    /// Whether the target has too much to do for a moment.
    pub fn is_busy(&self) -> bool {
        let kind = match self {
            OffloadError::Refused { kind, .. } => Some(*kind),
            _ => None,
        };
        kind == Some(RefusalKind::Busy)
    }

    /// Whether it is of this target alone, so that another may be asked.
    pub fn is_away(&self) -> bool {
        match self {
            OffloadError::Unreachable { .. } => true,
            OffloadError::Refused { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }
}

/// An answer, as it came.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}
