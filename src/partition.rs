/*!
Where to split, where to put exits, and what the parts are. Pure functions over the layer table and
stored profiles.
*/

use crate::exits::Part;
use serde::{Deserialize, Serialize};

/// How the split is chosen, as the session writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum SplitRule {
    /// The last legal cut whose prefix needs at most `share` of the network's split memory.
    Memory {
        /// 0 to 1.
        share: f64,
    },
    /// Likewise by count of layers.
    Layers {
        /// 0 to 1.
        share: f64,
    },
    /// The last legal cut whose prefix takes the edge no more time than the whole takes the cloud.
    Latency,
    /// After the layer of this name.
    After(String),
    /// The plan with the least predicted mean latency on the calibration set.
    Fastest,
    /// The plan with the least predicted cost on the calibration set.
    Cheapest,
}

/// How exits are spread inside a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Placement {
    /// Targets at i/(n+1) of the part's MACs.
    Linear,
    /// Targets at 1 − 0.8^i: early and dense.
    #[default]
    Pareto,
}

/// Where the network is cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Split {
    /// Behind this layer (row of the layer table).
    After(usize),
    /// The whole network meets the bound on the edge.
    EdgeOnly,
    /// No legal cut meets the bound.
    CloudOnly,
}

/// An exit of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedExit {
    /// Row of the layer table behind which the head stands.
    pub layer: usize,
    /// Name of that layer.
    pub after: String,
    /// Its part.
    pub part: Part,
    /// Leave when the confidence is larger.
    pub threshold: f64,
}

/// Split, exits and thresholds: what runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Where the network is cut.
    pub split: Split,
    /// Name of the layer before the cut, if there is one.
    pub split_after: Option<String>,
    /// In order of depth.
    pub exits: Vec<PlannedExit>,
    /// What the user should know: the share asked for and reached, dropped targets, an unstable cut.
    pub notes: Vec<String>,
}
