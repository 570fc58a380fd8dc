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
        /// As given.
        url: String,
        /// What is wrong.
        what: String,
    },
    /// Nobody answers, or the connection broke twice.
    #[error("the cloud at {url} doesn't answer: {cause}")]
    Unreachable {
        /// Its address.
        url: String,
        /// What the connection said.
        cause: String,
    },
    /// Not in time.
    #[error("the cloud at {url} didn't answer within {ms} ms")]
    Late {
        /// Its address.
        url: String,
        /// The deadline.
        ms: f64,
    },
    /// It answers, and says no.
    #[error("the cloud at {url} refuses ({status}): {error}")]
    Refused {
        /// Its address.
        url: String,
        /// HTTP status.
        status: u16,
        /// The kind of the reason, where it is an agent.
        kind: RefusalKind,
        /// Its own words.
        error: String,
    },
    /// An answer that isn't what was agreed on.
    #[error("the cloud at {url} answers what this release doesn't understand: {what}")]
    Answer {
        /// Its address.
        url: String,
        /// What.
        what: String,
    },
    /// Somebody asked to stop.
    #[error("stopped")]
    Cancelled,
}

/// An answer, as it came.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}
