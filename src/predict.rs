/*!
From confidence tables to predictions: the exit policy, the replay of a plan, its times, memory and
bill, and the same figures from a measured run. Pure; a replay takes milliseconds, so that it can
follow a key held down.
*/

pub mod billing;
pub mod calibration;
pub mod combination;
pub mod doubt;
pub mod energy;
pub mod evidence;
pub mod head_cost;
pub mod interval;
pub mod measured;
pub mod outcome;
pub mod policy;
pub mod replay;
pub mod table;

pub use billing::{Billing, Clock};
pub use calibration::{Bin, Reliability, reliability};
pub use combination::Combination;
pub use doubt::Doubt;
pub use energy::{EnergySettings, Radio, RadioModel};
pub use evidence::{Answers, CompressionRatio, Evidence, ImageTable, Missing, Terms};
pub use interval::{Interval, Intervals};
pub use measured::{Run, measured};
pub use outcome::{
    Bytes, Cost, Energy, ExitOutcome, HopOutcome, HopRecord, Kind, Latency, Outcome, Power, Record,
    SampleResult, Slowest, TierOutcome,
};
pub use replay::{
    Baselines, Difference, Equality, Harm, HeadKey, HeadPays, HeldBack, PreparedPlan, ReplayError,
    Ways, WireTable, baselines, harm_on_test, parted, replay,
};

use crate::data::Set;
use serde::{Deserialize, Serialize};

/// What counts as confidence: a number from 0 to 1 that is compared with an exit's threshold, computed from
/// the logits at the exits' temperatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Confidence {
    /// The largest softmax probability.
    #[default]
    MaxProbability,
    /// 1 − entropy / ln(classes).
    Entropy,
    /// Difference of the two largest probabilities.
    Margin,
    /// k / (k + 1), k being the number of successive exits, this one the last of them, that name the same
    /// class: above a threshold of 0.7 three agree (Zhou et al. 2020, "BERT Loses Patience", arXiv 2006.04152,
    /// whose patience is k − 1).
    Patience,
    /// How likely the exit is right by a model of what it and the exits before it say, fitted to the
    /// calibration set ([`Combination`]).
    Learned,
}

/// When a sample leaves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// How confidence is measured.
    #[serde(default)]
    pub confidence: Confidence,
    /// Leave when the confidence is larger (c_thr).
    pub threshold: f64,
    /// Thresholds of single exits, by layer name, over the common one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exits: Vec<(String, f64)>,
}

/// Prediction and confidences of one head (or of the final classifier) for every sample of a set.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Layer behind which the head stands; `None` for the network's own final classifier.
    pub after: Option<String>,
    /// Hash of the rendered head; empty for the final classifier.
    pub head: String,
    /// Temperature the logits were divided by.
    pub temperature: f32,
    /// Expected calibration error at a temperature of 1, 0 to 1; absent where it wasn't computed.
    pub raw_error: Option<f32>,
    /// Predicted class of each sample.
    pub prediction: Vec<u16>,
    /// Largest probability of each sample, 0 to 1.
    pub max_probability: Vec<f32>,
    /// 1 − entropy / ln(classes).
    pub entropy: Vec<f32>,
    /// Difference of the two largest probabilities.
    pub margin: Vec<f32>,
}

/// The confidence table of one set: one column a head, the final classifier last.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfidenceTable {
    /// Set of samples that this is of.
    pub set: Set,
    /// True class of each sample.
    pub labels: Vec<u16>,
    /// In order of depth.
    pub columns: Vec<Column>,
}
