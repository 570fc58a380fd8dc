/*!
Where to split and where to put exits. Pure functions over the layer table and stored profiles.
*/

mod head;
pub mod link;
pub mod manual;
pub mod place;
pub mod remark;
pub mod split;
mod stored;
#[cfg(test)]
mod tests;
pub mod tier;

use crate::exits::ExitPoint;
use crate::model::layers::LayerTable;
pub use head::TierHead;
pub use link::{Compression, Element, Link, Wire};
pub use remark::Remark;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;
pub use tier::{Tier, TierNames};

/// How the split is chosen, as the session writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum SplitRule {
    /// The last legal cut whose prefix needs at most `share` of the network's split memory.
    Memory {
        /// Largest part of the whole that lies before the split, 0 to 1.
        share: f64,
    },
    /// Likewise by count of layers.
    Layers {
        /// Largest part of the whole that lies before the split, 0 to 1.
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

/// The rule in a word or two, as people say it: "memory 70 %".
impl fmt::Display for SplitRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SplitRule::Memory { share } => write!(f, "memory {:.0} %", 100.0 * share),
            SplitRule::Layers { share } => write!(f, "layers {:.0} %", 100.0 * share),
            SplitRule::Latency => f.write_str("latency"),
            SplitRule::After(_) => f.write_str("by hand"),
            SplitRule::Fastest => f.write_str("fastest"),
            SplitRule::Cheapest => f.write_str("cheapest"),
        }
    }
}

/// How exits are spread inside a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, strum::Display)]
pub enum Placement {
    /// Targets at i/(n+1) of the part's MACs.
    Linear,
    /// Targets at 1 − 0.8^i: early and dense.
    #[default]
    Pareto,
}

/// Where the layers of one tier end and those of the next begin; ordered by depth.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
pub enum Split {
    /// Before the first layer: all of it runs behind.
    #[default]
    #[serde(alias = "CloudOnly")]
    Start,
    /// Behind the layer of this row of the layer table.
    After(usize),
    /// Behind the last layer: nothing runs behind.
    #[serde(alias = "EdgeOnly")]
    End,
}

impl Split {
    /// How many of a network's `rows` lie before the split.
    pub fn rows_before(self, rows: usize) -> usize {
        match self {
            Split::Start => 0,
            Split::After(row) => (row + 1).min(rows),
            Split::End => rows,
        }
    }

    /// The row it stands behind, where it lies inside the network.
    pub fn row(self) -> Option<usize> {
        match self {
            Split::After(row) => Some(row),
            Split::Start | Split::End => None,
        }
    }

    /// Every place a split may stand, ends included, by depth.
    pub fn all(table: &LayerTable) -> impl Iterator<Item = Split> + Clone {
        let inner = table.splits().map(Split::After);
        std::iter::once(Split::Start)
            .chain(inner.collect::<Vec<_>>())
            .chain(std::iter::once(Split::End))
    }
}

/// An exit of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedExit {
    /// Row of the layer table behind which the head stands.
    pub layer: usize,
    /// Name of that layer.
    pub after: String,
    /// The tier in whose part the exit stands.
    #[serde(alias = "part")]
    pub tier: Tier,
    /// Leave when the confidence is larger.
    pub threshold: f64,
}

/// What a sample that no exit lets go is sent on as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Sends {
    /// The tensor at the split, or, where nothing ran before the link, the pixels.
    #[default]
    Tensor,
    /// The image, coded as a JPEG file: the last tier then runs the whole network.
    Image,
}

impl Sends {
    /// Whether tensors are sent, as every plan of an older file does.
    pub fn is_tensor(&self) -> bool {
        *self == Sends::Tensor
    }
}

/// Splits, exits and thresholds: what runs. Every question of which tier something lies in is
/// answered here.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(from = "stored::Plan")]
pub struct Plan {
    /// One between each tier and the next, none before the one in front of it.
    pub splits: Vec<Split>,
    /// For each split the name of the layer before it, if there is one.
    pub split_layers: Vec<Option<String>>,
    /// In order of depth.
    pub exits: Vec<PlannedExit>,
    /// What crosses the links.
    #[serde(skip_serializing_if = "Sends::is_tensor")]
    pub sends: Sends,
    /// What the user should know of how it was made.
    pub remarks: Vec<Remark>,
}

impl Plan {
    /// A plan without exits, cut at `splits`, which must not descend.
    pub fn cut(table: &LayerTable, splits: Vec<Split>) -> Plan {
        let name = |split: &Split| Some(table.layers.get(split.row()?)?.name.clone());
        Plan {
            split_layers: splits.iter().map(name).collect(),
            splits,
            ..Plan::default()
        }
    }

    /// The unmodified network, whole and without exits, on one tier of a chain of `tiers`.
    pub fn unmodified(tier: Tier, tiers: usize) -> Plan {
        let before = tier.index().min(tiers.saturating_sub(1));
        let split = |hop: usize| {
            if hop < before {
                Split::Start
            } else {
                Split::End
            }
        };
        let splits: Vec<Split> = (1..tiers).map(|hop| split(hop - 1)).collect();
        Plan {
            split_layers: vec![None; splits.len()],
            splits,
            ..Plan::default()
        }
    }

    /// The same with its images coded, where it sends pixels.
    pub fn with_images(self) -> Plan {
        Plan {
            sends: Sends::Image,
            ..self
        }
    }

    /// With the same exits in the first tier, from which what none of them lets go is sent on as the image
    /// that it was; `None` where no exit stands there, or there is nobody to send to.
    pub fn sending_images(&self) -> Option<Plan> {
        let last = self.exits_in(Tier::First).last()?;
        let hops = self.splits.len();
        (hops > 0).then(|| Plan {
            splits: vec![Split::After(last.layer); hops],
            split_layers: vec![Some(last.after.clone()); hops],
            exits: self.exits_in(Tier::First).cloned().collect(),
            sends: Sends::Image,
            remarks: Vec::new(),
        })
    }

    /// How many tiers the plan runs over, those with nothing to do included.
    pub fn tiers(&self) -> usize {
        self.splits.len() + 1
    }

    /// The tiers, in order.
    pub fn chain(&self) -> impl DoubleEndedIterator<Item = Tier> + Clone {
        Tier::chain(self.tiers())
    }

    /// The split between a tier and the next; `None` behind the last.
    pub fn split_behind(&self, tier: Tier) -> Option<Split> {
        self.splits.get(tier.index()).copied()
    }

    /// The tier that runs a row of the layer table.
    pub fn tier_of(&self, row: usize) -> Tier {
        let behind = |split: &&Split| **split < Split::After(row);
        let index = self.splits.iter().take_while(behind).count();
        Tier::at(index).unwrap_or(Tier::Fourth)
    }

    /// The rows that a tier runs, of a network of `rows`.
    pub fn rows(&self, tier: Tier, rows: usize) -> Range<usize> {
        // An image is a network's input, and not what stands at a split.
        if self.sends == Sends::Image && tier == self.last_tier() {
            return 0..rows;
        }
        let before = |index: usize| self.splits.get(index).map(|s| s.rows_before(rows));
        let from = tier.index().checked_sub(1).and_then(before).unwrap_or(0);
        from..before(tier.index()).unwrap_or(rows).max(from)
    }

    /// The last tier with something to run, whose part ends in the final classifier.
    pub fn last_tier(&self) -> Tier {
        let to_the_end = self.splits.iter().position(|s| *s == Split::End);
        let index = to_the_end.unwrap_or(self.splits.len());
        Tier::at(index).unwrap_or(Tier::Fourth)
    }

    /// The first tier with something to run.
    pub fn first_tier(&self) -> Tier {
        let from_the_start = self.splits.iter().take_while(|s| **s == Split::Start);
        Tier::at(from_the_start.count()).unwrap_or(Tier::Fourth)
    }

    /// Whether a sample can leave the tier it begins in: whether any link is used.
    pub fn offloads(&self) -> bool {
        self.last_tier() != Tier::First
    }

    /// Whether coded images cross a link.
    pub fn sends_images(&self) -> bool {
        self.sends == Sends::Image && self.offloads()
    }

    /// The exits that stand in a tier's part, in order of depth.
    pub fn exits_in(&self, tier: Tier) -> impl Iterator<Item = &PlannedExit> + Clone {
        self.exits.iter().filter(move |e| e.tier == tier)
    }

    /// Where it is cut, in a few words: the layers before each split, or the one tier that runs all.
    pub fn place(&self, names: &TierNames) -> String {
        let inside = self.splits.iter().zip(&self.split_layers);
        let inside: Vec<&str> = inside
            .filter_map(|(split, name)| split.row().and(name.as_deref()))
            .collect();
        let last = names.name(self.last_tier());
        match (self.sends, inside.last()) {
            (Sends::Tensor, Some(_)) => inside.join(", "),
            (Sends::Image, Some(last)) => format!("{last}, else image"),
            (Sends::Image, None) if self.offloads() => format!("{last} only, image"),
            (_, None) => format!("{last} only"),
        }
    }

    /// Where it is cut and where it may be left, in a few words.
    pub fn describe(&self, names: &TierNames) -> String {
        let place = self.place_in_words(names);
        let Some(first) = self.exits.first() else {
            return format!("{place}, no exits");
        };
        let common = self.exits.iter().all(|e| e.threshold == first.threshold);
        let exit = |e: &PlannedExit| {
            if common {
                e.after.clone()
            } else {
                format!("{} at {:.2}", e.after, e.threshold)
            }
        };
        let exits: Vec<String> = self.exits.iter().map(exit).collect();
        let exits = exits.join(", ");
        if common {
            format!("{place}, exits after {exits} at {:.2}", first.threshold)
        } else {
            format!("{place}, exits after {exits}")
        }
    }

    /// Where it is split and what it sends on, in words.
    fn place_in_words(&self, names: &TierNames) -> String {
        let place = self.place(names);
        let split = self.splits.iter().any(|split| split.row().is_some());
        match self.sends {
            Sends::Tensor if split => format!("split after {place}"),
            _ => place,
        }
    }

    /// [`Plan::describe`] without the thresholds.
    pub fn describe_places(&self, names: &TierNames) -> String {
        let exits: Vec<&str> = self.exits.iter().map(|exit| exit.after.as_str()).collect();
        let exits = match exits.is_empty() {
            true => "no exits".to_owned(),
            false => format!("exits after {}", exits.join(", ")),
        };
        format!("{}, {exits}", self.place_in_words(names))
    }

    /// With one more exit, in the tier that runs its layer.
    pub fn with_exit(&self, layer: usize, after: &str, threshold: f64) -> Plan {
        let mut plan = self.clone();
        plan.exits.push(PlannedExit {
            layer,
            after: after.to_string(),
            tier: self.tier_of(layer),
            threshold,
        });
        plan.exits.sort_by_key(|e| e.layer);
        plan
    }

    /// Whether two plans run the same: splits, exits and thresholds.
    pub fn runs_as(&self, other: &Plan) -> bool {
        self.splits == other.splits && self.exits == other.exits && self.sends == other.sends
    }
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// Not between 0 and 1.
    #[error("a share lies between 0 and 1, not {0}")]
    Share(f64),
    /// Rules for another number of hops than the chain has.
    #[error("{found} split rules for {tiers} tiers; one is needed between each tier and the next")]
    Hops {
        /// Number of split rules given.
        found: usize,
        /// Number of tiers in the chain.
        tiers: usize,
    },
    /// Not between 0 and 1.
    #[error("a threshold lies between 0 and 1, not {0}")]
    Threshold(f64),
    /// More than three exits per part.
    #[error("at most {MAX_PER_PART} exits stand in a part, not {0}")]
    TooManyExits(usize),
    /// No layer of this name.
    #[error(transparent)]
    Layer(#[from] crate::model::layers::LayerError),
    /// A place where no split may stand.
    #[error("no split may stand after `{name}`: {why}; `edgelesspart layers` marks where one may")]
    IllegalSplit {
        /// Layer that was asked for.
        name: String,
        /// Reason that it is refused, with the nearest layers that are not.
        why: String,
    },
    /// A place where no exit may stand.
    #[error("no exit may stand after `{name}`: {why}; `edgelesspart layers` marks where one may")]
    IllegalExit {
        /// Layer that was asked for.
        name: String,
        /// Reason that it is refused, with the nearest layers that are not.
        why: String,
    },
    /// The latency rule reads measured times.
    #[error("the latency rule needs a profile of every tier; run `edgelesspart profile` first")]
    NoProfiles,
    /// A profile with other layers.
    #[error("the {part} profile is of another network than `{network}`; profile it anew")]
    OtherProfile {
        /// What the tier is called.
        part: String,
        /// Name of the network that is planned for.
        network: String,
    },
    /// Every place is ruled out.
    #[error("no split is left to choose from; `edgelesspart layers` marks where one may stand")]
    NoSplit,
    /// A profile without the times the latency rule reads.
    #[error(transparent)]
    NotTimed(#[from] crate::device::NotTimed),
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
    /// One of those of each part that offloads stands at its split.
    pub at_split: bool,
    /// Threshold of every exit that has none of its own.
    pub threshold: f64,
    /// Thresholds of single exits, by layer name.
    pub thresholds: Vec<(String, f64)>,
}

/// The threshold of the exit behind a layer: its own where one is named, else the common one.
pub fn exit_threshold(own: &[(String, f64)], common: f64, after: &str) -> f64 {
    let own = own.iter().find(|(name, _)| name == after);
    own.map_or(common, |(_, threshold)| *threshold)
}

impl ExitRule {
    /// The threshold of the exit behind a layer: its own, else the common one.
    pub fn threshold_of(&self, after: &str) -> f64 {
        exit_threshold(&self.thresholds, self.threshold, after)
    }

    /// Refuses counts and thresholds out of range, and thresholds of layers that aren't there.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self, table: &LayerTable) -> Result<(), PlanError> {
        if self.per_part > MAX_PER_PART {
            return Err(PlanError::TooManyExits(self.per_part));
        }
        let common = std::iter::once(self.threshold);
        let thresholds = common.chain(self.thresholds.iter().map(|t| t.1));
        for t in thresholds {
            if !(0.0..=1.0).contains(&t) {
                return Err(PlanError::Threshold(t));
            }
        }
        for (name, _) in &self.thresholds {
            table.find(name)?;
        }
        Ok(())
    }
}

/// A user's rules for a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// Split rules, one per hop from a tier to the next.
    pub splits: Vec<SplitRule>,
    /// How exits are spread, and at which thresholds they are left.
    pub exits: ExitRule,
    /// The layers behind which exits stand, in place of the spread.
    pub at: Option<Vec<String>>,
    /// What crosses the links.
    pub sends: Sends,
}

/// The plan with its exits spread around given splits, which must not descend.
pub fn plan_at(
    table: &LayerTable,
    points: &[ExitPoint],
    splits: Vec<Split>,
    exits: &ExitRule,
) -> Plan {
    let mut plan = Plan::cut(table, splits);
    let placed = place::place(points, &plan, table, exits);
    let exit = |(i, tier): (usize, Tier)| PlannedExit {
        layer: points[i].layer,
        after: points[i].after.clone(),
        tier,
        threshold: exits.threshold_of(&points[i].after),
    };
    plan.exits = placed.exits.into_iter().map(exit).collect();
    plan.remarks = placed.remarks;
    plan
}
