/*! The sentences of a run, as data. */

use crate::predict::Doubt;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a run says of itself or of a target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// A target that was left out answers.
    Answers,
    /// A target wasn't reached, and there are others.
    LeftOut {
        /// Reason, in the words of what failed.
        error: String,
    },
    /// A target was lost while it ran, and there are others.
    TakenOver {
        /// Reason, in the words of what failed.
        error: String,
        /// Samples it had done.
        done: usize,
        /// Samples the others do for it.
        left: usize,
    },
    /// An earlier run left the target running.
    Rejoined,
    /// Other jobs go first on the target.
    Queued {
        /// Jobs ahead of this one.
        ahead: usize,
    },
    /// A server of the Open Inference Protocol can't be profiled.
    StandsIn {
        /// Address of the server.
        url: String,
    },
    /// The run's folder is another process's.
    WaitsFor {
        /// Number of the process.
        pid: u32,
    },
    /// No head can be made at an exit point.
    NoExit {
        /// Layer the exit point is behind.
        after: String,
        /// Reason, in words for the user.
        why: String,
    },
    /// Exits that were trained by an earlier run.
    HeadsCached {
        /// Exits taken from the out folder.
        cached: usize,
        /// Number of exits in all.
        all: usize,
    },
    /// A sign that network, preprocessing or labels don't belong together.
    Doubt(Doubt),
    /// Anything else; what an agent says comes as text.
    #[serde(untagged)]
    Text(String),
}

impl From<String> for Note {
    fn from(text: String) -> Note {
        Note::Text(text)
    }
}

impl From<&str> for Note {
    fn from(text: &str) -> Note {
        Note::Text(text.to_owned())
    }
}

impl From<&String> for Note {
    fn from(text: &String) -> Note {
        Note::Text(text.clone())
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Answers => write!(f, "answers now"),
            Note::LeftOut { error } => write!(f, "{error}; the others do without it"),
            Note::TakenOver { error, done, left } => write!(
                f,
                "{error}; {done} of its samples are done, the others take over {left}"
            ),
            Note::Rejoined => write!(f, "rejoined, an earlier run left it running"),
            Note::Queued { ahead } => write!(f, "waits behind {ahead} other jobs"),
            Note::StandsIn { url } => write!(
                f,
                "{url} serves one model and can't be profiled; this machine stands in for it where \
                 more is needed, so times predicted for the cloud are this machine's"
            ),
            Note::WaitsFor { pid } => write!(f, "waits for the run in process {pid}"),
            Note::NoExit { after, why } => write!(f, "no exit can stand after `{after}`: {why}"),
            Note::HeadsCached { cached, all } => write!(
                f,
                "{cached} of {all} exits are as they were trained before; --fresh trains them again"
            ),
            Note::Doubt(doubt) => write!(f, "{doubt}"),
            Note::Text(text) => write!(f, "{text}"),
        }
    }
}
