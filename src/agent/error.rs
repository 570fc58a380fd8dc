/*! What an agent refuses, and the answer that becomes of it: `{"error": …}` with its status. */

use super::offload::OffloadError;
use crate::backend::BackendError;
use crate::engine::EngineError;
use crate::protocol::message::{FailureKind, Refusal, RefusalKind};
use crate::runtime::RunnerError;
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
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
    /// A token that nobody can show.
    #[error("the token: {0}")]
    Token(#[from] crate::protocol::tls::TokenError),
    /// More threads than the machine can bear.
    #[error("{asked} threads are too many for this machine: {most} at most, four for each core")]
    Threads {
        /// Number of threads that were asked for.
        asked: usize,
        /// Threads there may be.
        most: usize,
    },
    /// A model that can't be served.
    #[error("the model {name}: {what}")]
    Model {
        /// Name of the part or file.
        name: String,
        /// Reason that it is refused.
        what: String,
    },
    /// The address can't be had.
    #[error("listening on {address}: {cause}")]
    Listen {
        /// Address that was to be listened on.
        address: std::net::SocketAddr,
        /// Reason that the operating system gives.
        cause: std::io::Error,
    },
    /// An engine or provider that isn't there, or that this build doesn't know.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// Cores that this machine doesn't have.
    #[error("core {core} is not among those this process may use ({available:?})")]
    Core {
        /// Number of the core that was asked for.
        core: usize,
        /// Those it may use.
        available: Vec<usize>,
    },
    /// The operating system refuses a step.
    #[error("{what}: {cause}")]
    System {
        /// The step, in words.
        what: String,
        /// Reason that the operating system gives.
        cause: std::io::Error,
    },
    /// A folder or file that can't be used.
    #[error("{}: {cause}", .path.display())]
    Path {
        /// Path of the file.
        path: PathBuf,
        /// Reason that the operating system gives.
        cause: std::io::Error,
    },
}

/// A request that is refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// The kind of the reason, which the status follows from.
    pub kind: RefusalKind,
    /// The reason, and what to do.
    pub error: String,
}

impl Refused {
    pub(super) fn new(kind: RefusalKind, error: impl Into<String>) -> Refused {
        Refused {
            kind,
            error: error.into(),
        }
    }

    pub(super) fn bad(error: impl std::fmt::Display) -> Refused {
        Refused::new(RefusalKind::Invalid, error.to_string())
    }

    pub(super) fn missing(error: impl Into<String>) -> Refused {
        Refused::new(RefusalKind::NotFound, error)
    }

    pub(super) fn internal(error: impl std::fmt::Display) -> Refused {
        Refused::new(RefusalKind::Failed, error.to_string())
    }

    pub(super) fn too_large(max: usize) -> Refused {
        Refused::new(
            RefusalKind::TooLarge,
            format!("at most {max} bytes are taken; start the agent with a larger --max-body"),
        )
    }

    /// The HTTP status of the answer.
    pub(super) fn status(&self) -> StatusCode {
        match self.kind {
            RefusalKind::Invalid | RefusalKind::Incomplete | RefusalKind::Encrypted => {
                StatusCode::BAD_REQUEST
            }
            RefusalKind::Unauthorized => StatusCode::UNAUTHORIZED,
            RefusalKind::Foreign => StatusCode::FORBIDDEN,
            RefusalKind::NotFound | RefusalKind::NoSuchJob | RefusalKind::NotStored => {
                StatusCode::NOT_FOUND
            }
            RefusalKind::Method => StatusCode::METHOD_NOT_ALLOWED,
            RefusalKind::TooSlow => StatusCode::REQUEST_TIMEOUT,
            RefusalKind::Conflict => StatusCode::CONFLICT,
            RefusalKind::NextTier => StatusCode::BAD_GATEWAY,
            RefusalKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            RefusalKind::Unsupported => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            RefusalKind::Unanswerable => StatusCode::UNPROCESSABLE_ENTITY,
            RefusalKind::Busy | RefusalKind::Ending => StatusCode::SERVICE_UNAVAILABLE,
            RefusalKind::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
            RefusalKind::Failed | RefusalKind::Other => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = self.status();
        let busy = self.kind == RefusalKind::Busy;
        let Refused { kind, error } = self;
        let mut response = (status, Json(Refusal { error, kind })).into_response();
        if busy {
            let seconds = HeaderValue::from_static("1");
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

impl From<RunnerError> for Refused {
    fn from(error: RunnerError) -> Refused {
        let kind = match &error {
            RunnerError::Engine(_) => RefusalKind::Failed,
            RunnerError::Policy(_) => RefusalKind::Unanswerable,
            _ => RefusalKind::Invalid,
        };
        Refused::new(kind, error.to_string())
    }
}

/// Why a job ends before its time.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum JobError {
    /// The job was asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// Another error, in its own words.
    #[error("{error}")]
    Failed {
        /// The kind of the reason.
        kind: FailureKind,
        /// The reason, in words for the user.
        error: String,
    },
}

impl JobError {
    pub(super) fn new(kind: FailureKind, error: impl std::fmt::Display) -> JobError {
        let error = error.to_string();
        JobError::Failed { kind, error }
    }

    /// A request for what can't be done.
    pub(super) fn invalid(error: impl std::fmt::Display) -> JobError {
        JobError::new(FailureKind::Invalid, error)
    }
}

impl From<RunnerError> for JobError {
    fn from(error: RunnerError) -> JobError {
        match error {
            RunnerError::Engine(EngineError::Cancelled) => JobError::Cancelled,
            RunnerError::Engine(_) => JobError::new(FailureKind::Internal, error),
            RunnerError::Memory { .. } => JobError::new(FailureKind::Memory, error),
            _ => JobError::invalid(error),
        }
    }
}

impl From<Refused> for JobError {
    fn from(refused: Refused) -> JobError {
        let kind = match refused.kind {
            RefusalKind::NotStored => FailureKind::NotStored,
            RefusalKind::StorageFull => FailureKind::Storage,
            RefusalKind::Failed => FailureKind::Internal,
            RefusalKind::NextTier => FailureKind::CloudUnreachable,
            _ => FailureKind::Invalid,
        };
        JobError::new(kind, refused.error)
    }
}

impl From<OffloadError> for JobError {
    fn from(error: OffloadError) -> JobError {
        let kind = match error {
            OffloadError::Cancelled => return JobError::Cancelled,
            OffloadError::Url { .. } => FailureKind::Invalid,
            OffloadError::Unreachable { .. }
            | OffloadError::Refused {
                kind: RefusalKind::NextTier,
                ..
            } => FailureKind::CloudUnreachable,
            OffloadError::Late { .. } => FailureKind::CloudLate,
            OffloadError::Refused { .. } => FailureKind::CloudRefused,
            OffloadError::Answer { .. } => FailureKind::CloudAnswer,
        };
        JobError::new(kind, error)
    }
}
