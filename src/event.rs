/*!
What a run reports while it goes: data, made into text only where it is shown. A session keeps the
events of its last run as a journal, so old ones must stay readable (`stored`).
*/

mod note;
mod stored;

pub use note::Note;

use crate::device::telemetry::Telemetry;
use crate::device::{LinkProfile, Profile};
use crate::plan::{Tier, TierNames};
use crate::predict::Record;
use crate::protocol::message::Progress;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The stages, in the order they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Images are read and split into training, calibration and test.
    Data,
    /// A network that comes untrained, or is to be fine-tuned, learns.
    Backbone,
    /// Agents are started or reached.
    Targets,
    /// Layers are timed on both sides.
    Profile,
    /// Round trips between edge and cloud.
    Link,
    /// Exit classifiers learn from the backbone's features.
    Heads,
    /// Every sample through every exit.
    Tables,
    /// Split and exits are chosen, and the parts cut out.
    Plan,
    /// The parts run over the test set.
    Run,
    /// Unmodified network and single sides.
    Baselines,
    /// What came of it.
    Report,
}

/// A target of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TargetId {
    /// Tier that the target belongs to.
    pub part: Tier,
    /// Its number among the side's targets, from 0.
    pub index: usize,
}

impl TargetId {
    /// The target by what the session calls its tier, and its number.
    pub fn named(&self, names: &TierNames) -> String {
        format!("{} {}", names.name(self.part), self.index)
    }
}

/// By the usual names of two tiers.
impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.named(&TierNames::default()))
    }
}

/// How a target can be reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "stored::Connection", rename_all = "snake_case")]
pub enum Connection {
    /// The first request is under way.
    Connecting {
        /// Address of the agent.
        url: String,
    },
    /// The target answered the first request.
    Connected {
        /// Name of its machine.
        device: String,
        /// The engine that computes, and what it runs on, where it isn't our own.
        processor: Option<String>,
        /// Threads of its engine; unknown in journals of earlier releases.
        threads: Option<usize>,
        /// Factor by which its times are stretched; 1 for none.
        slowdown: f64,
    },
    /// The target answers again after a pause.
    Reconnected,
    /// The target doesn't answer and is asked again.
    Reconnecting {
        /// Milliseconds until the next request.
        after_ms: u64,
        /// Why the last request failed.
        error: String,
    },
    /// One of several targets that wasn't reached: the others do without it for a while.
    LeftOut,
    /// The target was lost while it ran: its samples go to the others.
    Lost,
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Connection::Connecting { url } => write!(f, "connecting to {url}"),
            Connection::Connected {
                device,
                processor,
                threads,
                slowdown,
            } => {
                write!(f, "connected: {device}")?;
                if let Some(processor) = processor {
                    write!(f, " on {processor}")?;
                }
                match threads {
                    Some(1) => write!(f, ", 1 thread")?,
                    Some(n) => write!(f, ", {n} threads")?,
                    None => {}
                }
                if *slowdown > 1.0 {
                    write!(f, ", slowed down {slowdown}× (emulated)")?;
                }
                Ok(())
            }
            Connection::Reconnected => write!(f, "connected again"),
            Connection::Reconnecting { after_ms, error } => {
                let seconds = (*after_ms as f64 / 1000.0).ceil();
                write!(f, "reconnecting in {seconds} s: {error}")
            }
            Connection::LeftOut => write!(f, "not reached; tried again later"),
            Connection::Lost => write!(f, "lost; its samples go to the others"),
        }
    }
}

/// A sentence of a run that stays: a fallback taken, a dropped target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "stored::Said")]
pub struct Said {
    /// The stage it belongs to.
    pub stage: Stage,
    /// The target it is about, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<TargetId>,
    /// What there is to say.
    pub note: Note,
}

impl Said {
    /// The sentence, its target by what the session calls its tier.
    pub fn named(&self, names: &TierNames) -> String {
        match self.origin {
            Some(target) => format!("{}: {}", target.named(names), self.note),
            None => self.note.to_string(),
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.named(&TierNames::default()))
    }
}

/// A link that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Linked {
    /// The tier before it; release 0.1 knew one link and left it out.
    #[serde(default = "first")]
    pub before: Tier,
    /// Round trip and bandwidth of the link behind that tier.
    #[serde(flatten)]
    pub link: LinkProfile,
}

fn first() -> Tier {
    Tier::First
}

/// Readings of a target's sensors, in short; what they don't report is absent.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Vitals {
    /// Temperature of its hottest zone.
    pub celsius: Option<f64>,
    /// Power drawn by the board.
    pub watts: Option<f64>,
    /// Share of all cores' time that isn't idle, 0 to 1.
    pub cpu: Option<f64>,
    /// Share of the GPU's time that isn't idle, 0 to 1.
    pub gpu: Option<f64>,
    /// Memory of the machine in use.
    pub memory_used_bytes: usize,
    /// Memory of the machine.
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

/// What a run reports while it goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// A stage has begun.
    Started(Stage),
    /// How far it is (`total` 0: unknown), and a word about it.
    Progress {
        /// Stage that this is about.
        stage: Stage,
        /// Steps that are done.
        done: u64,
        /// Steps that the stage takes in all.
        total: u64,
        /// What is done just now, in words for the user.
        note: String,
    },
    /// A sentence that stays.
    Say(Said),
    /// The loss and training accuracy of each learner at the end of an epoch.
    Epoch {
        /// Stage that trains: `Backbone` or `Heads`.
        stage: Stage,
        /// Number of the epoch, from 1.
        epoch: usize,
        /// Epochs that are planned.
        epochs: usize,
        /// Name, loss, accuracy (0 to 1).
        scores: Vec<(String, f64, f64)>,
        /// Accuracy (0 to 1) on calibration images, in the order of `scores`; none for what wasn't judged,
        /// and in what was told by an earlier release.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        validation: Vec<Option<f64>>,
    },
    /// A target's connection changed.
    Target {
        /// Tier that the target belongs to.
        part: Tier,
        /// Its number among the side's targets.
        index: usize,
        /// How it can be reached now.
        #[serde(alias = "state")]
        connection: Connection,
    },
    /// What a target's sensors say.
    Vitals {
        /// Tier that the target belongs to.
        part: Tier,
        /// Its number among the side's targets.
        index: usize,
        /// Latest readings of the target's sensors.
        vitals: Vitals,
    },
    /// The run waits because it was asked to (true), or goes on again (false).
    #[serde(alias = "Held")]
    Paused(bool),
    /// The run over the test set, as the edge target of this number sees it.
    Evaluating {
        /// Number of the edge target.
        index: usize,
        /// Its samples so far.
        progress: Progress,
    },
    /// Some records of the run, in the order they came.
    Records(Vec<Record>),
    /// The layers of a side are timed, or were before.
    Profiled {
        /// Tier that the target belongs to.
        part: Tier,
        /// Of its first target.
        profile: Box<Profile>,
    },
    /// A link is measured, or was before.
    Linked(Linked),
    /// A stage is over: what came of it, and whether it was taken from the out folder.
    Finished {
        /// Stage that this is about.
        stage: Stage,
        /// What the stage gave, in words for the user.
        outcome: String,
        /// Whether it was done before and kept.
        kept: bool,
        /// Seconds that the stage took.
        seconds: f64,
    },
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
