/*! What an agent refuses, and the answer that becomes of it: `{"error": …}` with its status. */

use crate::backend::BackendError;
use crate::engine::EngineError;
use crate::protocol::message::Refusal;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use std::path::PathBuf;

/// Why an agent can't serve, or can't go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Anybody could reach it.
    #[error(
        "{0} can be reached from other machines: give it --tls-cert, --tls-key and --token-file \
         (`edgelesspart agent --init DIR` makes all three), listen on 127.0.0.1 and use a tunnel, or \
         say --insecure in a network you trust"
    )]
    Open(std::net::SocketAddr),
    /// Nothing to encrypt with.
    #[error(transparent)]
    Tls(#[from] crate::protocol::tls::TlsError),
    /// A model that can't be served.
    #[error("the model {name}: {what}")]
    Model {
        /// Its name.
        name: String,
        /// Why not.
        what: String,
    },
    /// The address can't be had.
    #[error("listening on {address}: {cause}")]
    Listen {
        /// Which.
        address: std::net::SocketAddr,
        /// Why not.
        cause: std::io::Error,
    },
    /// A GPU that isn't there, or that this build doesn't know.
    #[error("{0}; leave --device out to run on the CPU")]
    Backend(#[from] BackendError),
    /// Cores that this machine doesn't have.
    #[error("core {core} is not among those this process may use ({available:?})")]
    Core {
        /// Which.
        core: usize,
        /// Those it may use.
        available: Vec<usize>,
    },
    /// The system refuses.
    #[error("{what}: {cause}")]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        cause: std::io::Error,
    },
    /// A folder or file that can't be used.
    #[error("{}: {cause}", .path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
}

/// A request that is refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// Its status.
    pub status: StatusCode,
    /// Why, and what to do.
    pub error: String,
}

impl Refused {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Refused {
        Refused {
            status,
            error: error.into(),
        }
    }

    pub(super) fn bad(error: impl std::fmt::Display) -> Refused {
        Refused::new(StatusCode::BAD_REQUEST, error.to_string())
    }

    pub(super) fn missing(error: impl Into<String>) -> Refused {
        Refused::new(StatusCode::NOT_FOUND, error)
    }

    pub(super) fn internal(error: impl std::fmt::Display) -> Refused {
        Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }

    pub(super) fn too_large(max: usize) -> Refused {
        Refused::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("at most {max} bytes are taken; start the agent with a larger --max-body"),
        )
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(Refusal { error: self.error })).into_response()
    }
}

/// Why a job ends before its time.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum JobError {
    /// Somebody asked.
    #[error("cancelled")]
    Cancelled,
    /// Anything else, in words for the user.
    #[error("{0}")]
    Failed(String),
}

impl JobError {
    pub(super) fn of(error: impl std::fmt::Display) -> JobError {
        JobError::Failed(error.to_string())
    }
}

impl From<crate::runtime::RunnerError> for JobError {
    fn from(error: crate::runtime::RunnerError) -> JobError {
        match error {
            crate::runtime::RunnerError::Engine(EngineError::Cancelled) => JobError::Cancelled,
            other => JobError::Failed(other.to_string()),
        }
    }
}

impl From<Refused> for JobError {
    fn from(refused: Refused) -> JobError {
        JobError::Failed(refused.error)
    }
}
