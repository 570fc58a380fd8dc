/*!
From a session to its report: the stages of a run, in order, each kept under the out folder when it is
done, so that a stopped run goes on where it was. The commands and the workbench both come here; this
room prints and draws nothing, it tells what happens through [`Event`].
*/

mod course;
mod distribute;
mod error;
pub mod head_cost;
mod keep;
mod learn;
pub mod local;
pub mod lock;
mod network;
mod pause;
mod replayed;
mod report;
pub mod samples;
mod source;
mod summary;
mod tables;
mod targets;

pub use error::RunError;
pub use network::Network;
pub use pause::pause_file;
pub use replayed::Replayed;
pub use source::ExitSource;

use crate::device::telemetry::Telemetry;
use crate::device::{LinkProfile, Profile};
use crate::engine::Cancel;
use crate::plan::Tier;
use crate::predict::Record;
use crate::protocol::message::Progress;
use crate::report::Report;
use crate::session::Session;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How a session is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where results and finished stages go.
    pub out: PathBuf,
    /// Of the run.
    pub name: String,
    /// Whether everything is done again, whatever is there.
    pub fresh: bool,
    /// The last stage that is wanted.
    pub until: Stage,
    /// The program that local targets run; the running one if absent.
    pub program: Option<PathBuf>,
}

/// What a run leaves. The out folder is its own until this is dropped, so that whoever waits for the
/// folder finds there what its owner wrote of the run.
#[derive(Debug)]
pub struct Done {
    /// The session with its results, as far as they go.
    pub session: Session,
    /// What came of it, if the run went that far.
    pub report: Option<Report>,
    _held: Option<lock::Lock>,
}

/// Runs a session (its paths resolved) up to the stage asked for. Every finished stage is in the out
/// folder, so that the next run takes it from there.
///
/// # Errors
/// Where a stage fails, with what to do; [`RunError::Stopped`] when told to.
pub fn run(
    session: &Session,
    options: &Options,
    on: &mut dyn FnMut(Event),
    cancel: &Cancel,
) -> Result<Done, RunError> {
    course::go(session, options, on, cancel)
}

/// The stages, in the order they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Images are read.
    Data,
    /// A network that comes untrained, or is to be fine-tuned, learns.
    Backbone,
    /// Agents are started or reached.
    Targets,
    /// Layers are timed on both sides.
    Profile,
    /// Round trips between edge and cloud.
    Link,
    /// Exit classifiers learn.
    Heads,
    /// Every sample through every exit.
    Tables,
    /// Split, exits, parts.
    Plan,
    /// The parts run over the test set.
    Run,
    /// Unmodified network and single sides.
    Baselines,
    /// What came of it.
    Report,
}

impl Event {
    /// Whether it belongs into a journal. Results have a place of their own, and would only be there
    /// twice.
    pub fn is_journalled(&self) -> bool {
        !matches!(
            self,
            Event::Records(_) | Event::Profiled { .. } | Event::Linked(_)
        )
    }
}

/// What a target's sensors say, in short; what it doesn't tell is absent.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Vitals {
    /// Of its hottest zone.
    pub celsius: Option<f64>,
    pub watts: Option<f64>,
    /// Share of all cores' time that isn't idle, 0 to 1.
    pub cpu: Option<f64>,
    /// Likewise of the GPU.
    pub gpu: Option<f64>,
    /// Of the machine.
    pub memory_used_bytes: usize,
    pub memory_total_bytes: usize,
}

impl From<&Telemetry> for Vitals {
    fn from(told: &Telemetry) -> Vitals {
        let tenth = |n: f64| (n * 10.0).round() / 10.0;
        let hundredth = |n: f64| (n * 100.0).round() / 100.0;
        Vitals {
            celsius: told.hottest().map(|t| tenth(t.celsius)),
            watts: told.watts.map(hundredth),
            cpu: told.cpu_load.map(hundredth),
            gpu: told.gpu_load.map(hundredth),
            memory_used_bytes: told.memory_used_bytes,
            memory_total_bytes: told.memory_total_bytes,
        }
    }
}

/// What a run tells while it goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// A stage begins.
    Started(Stage),
    /// How far it is (`total` 0: unknown), and a word about it.
    Progress {
        /// Which.
        stage: Stage,
        /// Steps done.
        done: u64,
        /// Of so many.
        total: u64,
        /// For the user.
        note: String,
    },
    /// A sentence that stays: a fallback taken, a dropped target.
    Say {
        /// Which.
        stage: Stage,
        /// For the user.
        text: String,
    },
    /// The loss and training accuracy of each learner at the end of an epoch.
    Epoch {
        /// `Backbone` or `Heads`.
        stage: Stage,
        /// From 1.
        epoch: usize,
        /// Of so many.
        epochs: usize,
        /// Name, loss, accuracy (0 to 1).
        scores: Vec<(String, f64, f64)>,
    },
    /// A target's state changed, in words ("connected", "reconnecting in 2 s").
    Target {
        /// Its side.
        part: Tier,
        /// Its number among the side's targets.
        index: usize,
        /// In words.
        state: String,
    },
    /// What a target's sensors say.
    Vitals {
        /// Its side.
        part: Tier,
        /// Its number among the side's targets.
        index: usize,
        /// Now.
        vitals: Vitals,
    },
    /// The run waits because it was asked to, or goes on again.
    Held(bool),
    /// The run over the test set, as the edge target of this number sees it.
    Evaluating {
        /// Which edge target.
        index: usize,
        /// Aggregated.
        progress: Progress,
    },
    /// Some records of the run, in the order they came.
    Records(Vec<Record>),
    /// The layers of a side are timed, or were before.
    Profiled {
        /// Its side.
        part: Tier,
        /// Of its first target.
        profile: Box<Profile>,
    },
    /// The link is measured, or was before.
    Linked(LinkProfile),
    /// A stage is over: what came of it, and whether it was taken from the out folder.
    Finished {
        /// Which.
        stage: Stage,
        /// For the user.
        outcome: String,
        /// Whether it was done before and kept.
        kept: bool,
        /// Its time.
        seconds: f64,
    },
}
