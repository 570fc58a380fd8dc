/*! What the user should know of how a plan was made: data, and the sentences made of it. */

use super::{Tier, TierNames};
use serde::{Deserialize, Serialize};

/// What a share is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Share {
    /// The network's split memory.
    Memory,
    /// The count of its layers.
    Layers,
}

impl Share {
    fn name(self) -> &'static str {
        match self {
            Share::Memory => "memory",
            Share::Layers => "layers",
        }
    }
}

/// Why a part has fewer exits than were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fewer {
    /// It has no more legal points than this.
    LegalPoints(usize),
    /// The nearest point of a target was taken by another.
    Taken,
}

/// A remark on a plan. Shares are 0 to 1, times milliseconds; `tier` is the one before a split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Remark {
    /// The machine was busy when the tier was timed, and why it counts as that.
    Busy { tier: Tier, signs: String },
    /// The last legal cut within a share, and what the next one would have.
    WithinShare {
        tier: Tier,
        share: Share,
        asked: f64,
        after: String,
        reached: f64,
        next: Option<f64>,
    },
    /// The whole network is within a share.
    AllWithinShare {
        tier: Tier,
        share: Share,
        asked: f64,
    },
    /// No legal cut is within a share.
    NoneWithinShare {
        tier: Tier,
        share: Share,
        asked: f64,
    },
    /// The last legal cut whose prefix takes no more time than the whole network takes behind it.
    WithinTime {
        tier: Tier,
        after: String,
        ms: f64,
        bound_ms: f64,
        unstable: bool,
    },
    /// The whole network takes no more time than it takes behind the split.
    AllWithinTime {
        tier: Tier,
        ms: f64,
        bound_ms: f64,
        unstable: bool,
    },
    /// No legal cut takes at most that time.
    NoneWithinTime {
        tier: Tier,
        bound_ms: f64,
        unstable: bool,
    },
    /// No split may stand anywhere, for the commonest of the reasons.
    NoCut { tier: Tier, why: String },
    /// The user named the layer; its share of the split memory.
    Named {
        tier: Tier,
        after: String,
        memory: f64,
    },
    /// The best predicted of all legal splits, by mean latency or by cost.
    BestPredicted { by: Predicted },
    /// A part got fewer exits than were asked for.
    FewerExits {
        tier: Tier,
        placed: usize,
        asked: usize,
        why: Fewer,
    },
    /// A threshold is set for a layer behind which no exit of the plan stands.
    UnusedThreshold { after: String },
    /// A sentence of a plan that was made by version 1.
    Said(String),
}

/// What the best split was chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Predicted {
    /// The least mean latency.
    Fastest,
    /// Least cost of the requests, rounded as billed.
    Cheapest,
}

impl Predicted {
    /// The rule's name, as a session writes it.
    pub fn name(self) -> &'static str {
        match self {
            Predicted::Fastest => "Fastest",
            Predicted::Cheapest => "Cheapest",
        }
    }
}

impl Remark {
    /// The sentence for the user.
    #[expect(clippy::too_many_lines, reason = "one match, a sentence per remark")]
    pub fn text(&self, names: &TierNames) -> String {
        let percent = |share: &f64| format!("{:.0} %", 100.0 * share);
        let behind = |tier: &Tier| {
            let next = Tier::at(tier.index() + 1).unwrap_or(Tier::Fourth);
            names.name(next).to_string()
        };
        let unstable = |unstable: &bool| {
            if *unstable {
                "; within 5 % of the bound, so a new profile may move it"
            } else {
                ""
            }
        };
        match self {
            Remark::Busy { tier, signs } => format!(
                "{} was busy while it was timed, so times are less sure: {signs}; measure again \
                 (`p` in the workbench, `edgelesspart run --fresh`)",
                names.name(*tier)
            ),
            Remark::WithinShare {
                share,
                asked,
                after,
                reached,
                next,
                ..
            } => {
                let next = next.map_or(String::new(), |n| {
                    format!("; the next cut has {}", percent(&n))
                });
                let (share, asked, reached) = (share.name(), percent(asked), percent(reached));
                format!("after `{after}`: {share} {asked} asked, {reached} reached{next}")
            }
            Remark::AllWithinShare { tier, share, asked } => format!(
                "the whole network is within {} of its {}: {} only",
                percent(asked),
                share.name(),
                names.name(*tier)
            ),
            Remark::NoneWithinShare { tier, share, asked } => format!(
                "no legal cut needs at most {} of the {}: {} only",
                percent(asked),
                share.name(),
                behind(tier)
            ),
            Remark::WithinTime {
                tier,
                after,
                ms,
                bound_ms,
                unstable: near,
            } => format!(
                "after `{after}`: {ms:.2} ms at the {}, the whole takes the {} {bound_ms:.2} ms{}",
                names.name(*tier),
                behind(tier),
                unstable(near)
            ),
            Remark::AllWithinTime {
                tier,
                ms,
                bound_ms,
                unstable: near,
            } => format!(
                "the whole network takes the {tier} {ms:.2} ms, no more than the {}'s \
                 {bound_ms:.2} ms: {tier} only{}",
                behind(tier),
                unstable(near),
                tier = names.name(*tier),
            ),
            Remark::NoneWithinTime {
                tier,
                bound_ms,
                unstable: near,
            } => format!(
                "no legal cut takes the {} at most the {behind}'s {bound_ms:.2} ms: {behind} only{}",
                names.name(*tier),
                unstable(near),
                behind = behind(tier),
            ),
            Remark::NoCut { tier, why } => {
                format!("no split may stand anywhere ({why}): {} only", behind(tier))
            }
            Remark::Named { after, memory, .. } => {
                format!("after `{after}`: {} of the memory", percent(memory))
            }
            Remark::BestPredicted { by } => {
                format!("{}: best predicted of all legal splits", by.name())
            }
            Remark::FewerExits {
                tier,
                placed,
                asked,
                why,
            } => {
                let why = match why {
                    Fewer::LegalPoints(0) => "no legal point".to_string(),
                    Fewer::LegalPoints(1) => "only 1 legal point".to_string(),
                    Fewer::LegalPoints(n) => format!("only {n} legal points"),
                    Fewer::Taken => "the others' nearest points were taken".to_string(),
                };
                format!("{}: {placed} of {asked} placed: {why}", names.name(*tier))
            }
            Remark::UnusedThreshold { after } => {
                format!("the threshold set for `{after}` is not used: no exit stands there")
            }
            Remark::Said(text) => text.clone(),
        }
    }

    /// Whether it speaks of where exits were spread, which exits set by hand make void.
    pub fn is_of_spread(&self) -> bool {
        matches!(self, Remark::FewerExits { .. })
    }
}
