/*!
Where to split and where to put exits. Pure functions over the layer table and stored profiles.
*/

pub mod link;
pub mod manual;
pub mod place;
pub mod split;
#[cfg(test)]
mod tests;

use crate::device::Profile;
use crate::exits::ExitPoint;
pub use crate::exits::Part;
use crate::model::layers::LayerTable;
pub use link::{Compression, Element, Link, Wire};
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

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// Not between 0 and 1.
    #[error("a share lies between 0 and 1, not {0}")]
    Share(f64),
    /// Not between 0 and 1.
    #[error("a threshold lies between 0 and 1, not {0}")]
    Threshold(f64),
    /// More than three exits a part.
    #[error("at most {MAX_PER_PART} exits stand in a part, not {0}")]
    TooManyExits(usize),
    /// No layer of this name.
    #[error(transparent)]
    Layer(#[from] crate::model::layers::LayerError),
    /// A place where no split may stand.
    #[error("no split may stand after `{name}`: {why}; `edgelesspart layers` marks where one may")]
    IllegalSplit {
        /// The layer.
        name: String,
        /// Why not.
        why: String,
    },
    /// A place where no exit may stand.
    #[error("no exit may stand after `{name}`: {why}; `edgelesspart layers` marks where one may")]
    IllegalExit {
        /// The layer.
        name: String,
        /// Why not.
        why: String,
    },
    /// The latency rule reads measured times.
    #[error("the latency rule needs both devices' profiles; run `edgelesspart profile` first")]
    NoProfiles,
    /// A profile with other layers.
    #[error("the {part} profile is of another network than `{network}`; profile it anew")]
    OtherProfile {
        /// `edge` or `cloud`.
        part: String,
        /// The network.
        network: String,
    },
    /// `Fastest` and `Cheapest` compare predictions.
    #[error("{0} needs predictions of every split; there are none without profiles and a table")]
    NoScore(&'static str),
}

/// The most exits a part may have.
pub const MAX_PER_PART: usize = 3;

/// How exits are spread and when they are left.
#[derive(Debug, Clone, PartialEq)]
pub struct ExitRule {
    /// How they are spread.
    pub placement: Placement,
    /// How many a part, at most [`MAX_PER_PART`].
    pub per_part: usize,
    /// One of the edge part's stands at the split.
    pub at_split: bool,
    /// Threshold of every exit that has none of its own.
    pub threshold: f64,
    /// Thresholds of single exits, by layer name.
    pub thresholds: Vec<(String, f64)>,
}

/// What predicts a plan: smaller is better, `None` where it can't be predicted.
pub type Score<'a> = &'a dyn Fn(&Plan) -> Option<f64>;

/// The plan by the user's rules. `profiles` are the edge's and the cloud's, needed by the latency
/// rule; `score` is needed by `Fastest` and `Cheapest`, which try every split.
///
/// # Errors
/// Where a setting is out of range, a split illegal, or what the rule reads is not there.
pub fn plan(
    table: &LayerTable,
    points: &[ExitPoint],
    rule: &SplitRule,
    exits: &ExitRule,
    profiles: Option<(&Profile, &Profile)>,
    score: Option<Score>,
) -> Result<Plan, PlanError> {
    if exits.per_part > MAX_PER_PART {
        return Err(PlanError::TooManyExits(exits.per_part));
    }
    let common = std::iter::once(exits.threshold);
    let thresholds = common.chain(exits.thresholds.iter().map(|t| t.1));
    for t in thresholds {
        if !(0.0..=1.0).contains(&t) {
            return Err(PlanError::Threshold(t));
        }
    }
    for (name, _) in &exits.thresholds {
        table.find(name)?;
    }
    let outcome = match rule {
        SplitRule::Memory { share } => split::memory(table, *share)?,
        SplitRule::Layers { share } => split::layers(table, *share)?,
        SplitRule::After(name) => split::after(table, name)?,
        SplitRule::Latency => {
            let (edge, cloud) = profiles.ok_or(PlanError::NoProfiles)?;
            split::latency(table, edge, cloud)?
        }
        SplitRule::Fastest => return best(table, points, exits, score, "Fastest"),
        SplitRule::Cheapest => return best(table, points, exits, score, "Cheapest"),
    };
    Ok(plan_at(
        table,
        points,
        outcome.split,
        exits,
        vec![outcome.sentence],
    ))
}

/// The plan with the exits placed around a given split.
pub fn plan_at(
    table: &LayerTable,
    points: &[ExitPoint],
    split: Split,
    exits: &ExitRule,
    mut notes: Vec<String>,
) -> Plan {
    let layer = match split {
        Split::After(i) => table.layers.get(i),
        Split::EdgeOnly | Split::CloudOnly => None,
    };
    let before = layer.map_or(0, |l| l.prefix_macs);
    let (placement, n) = (exits.placement, exits.per_part);
    let placed = place::place(
        points,
        &split,
        before,
        table.macs,
        placement,
        n,
        exits.at_split,
    );
    notes.extend(placed.notes);
    let threshold = |name: &str| {
        let own = exits.thresholds.iter().find(|(n, _)| n == name);
        own.map_or(exits.threshold, |t| t.1)
    };
    let exit = |(i, part): (usize, Part)| PlannedExit {
        layer: points[i].layer,
        after: points[i].after.clone(),
        part,
        threshold: threshold(&points[i].after),
    };
    Plan {
        split_after: layer.map(|l| l.name.clone()),
        exits: placed.exits.into_iter().map(exit).collect(),
        split,
        notes,
    }
}

/// Every split tried, the ends included; of equal ones the earliest.
fn best(
    table: &LayerTable,
    points: &[ExitPoint],
    exits: &ExitRule,
    score: Option<Score>,
    rule: &'static str,
) -> Result<Plan, PlanError> {
    let score = score.ok_or(PlanError::NoScore(rule))?;
    let inner = table.splits().map(Split::After);
    let all = std::iter::once(Split::CloudOnly).chain(inner);
    let plans = all
        .chain(std::iter::once(Split::EdgeOnly))
        .map(|split| plan_at(table, points, split, exits, vec![]));
    let scored = plans.filter_map(|p| score(&p).filter(|s| s.is_finite()).map(|s| (s, p)));
    let best = scored.min_by(|a, b| a.0.total_cmp(&b.0));
    let (_, mut plan) = best.ok_or(PlanError::NoScore(rule))?;
    plan.notes
        .insert(0, format!("{rule}: best predicted of all legal splits"));
    Ok(plan)
}
