/*! The split rules. Each reads the layer table (and profiles) and says what it did in a remark. */

use super::remark::Share;
use super::{PlanError, Remark, Split, Tier, TierNames};
use crate::device::Profile;
use crate::model::layers::LayerTable;

/// A cut so near the bound that a new measurement might move it.
const UNSTABLE: f64 = 0.05;

/// What a split rule chose, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitOutcome {
    /// Place of the split in the chain of layers.
    pub split: Split,
    /// What was asked for: a share (0 to 1), or milliseconds for the latency rule.
    pub target: f64,
    /// What the split reaches, in the target's unit; 0 where it stands at the start.
    pub reached: f64,
    /// Whether it lies within 5 % of a measured bound.
    pub unstable: bool,
    /// What was asked for and reached.
    pub remark: Remark,
}

/// The last legal cut whose prefix needs at most `share` of the whole network's split memory, behind
/// which the tier after `tier` goes on.
///
/// # Errors
/// A share that isn't between 0 and 1.
pub fn memory(table: &LayerTable, tier: Tier, share: f64) -> Result<SplitOutcome, PlanError> {
    let whole = table.memory_bytes.max(1) as f64;
    let prefix = |i: usize| table.layers[i].prefix_memory_bytes as f64 / whole;
    by_share(table, tier, share, Share::Memory, &prefix)
}

/// The last legal cut whose prefix has at most `share` of the layers.
///
/// # Errors
/// A share that isn't between 0 and 1.
pub fn layers(table: &LayerTable, tier: Tier, share: f64) -> Result<SplitOutcome, PlanError> {
    let whole = table.layers.len().max(1) as f64;
    by_share(table, tier, share, Share::Layers, &|i| {
        (i + 1) as f64 / whole
    })
}

fn by_share(
    table: &LayerTable,
    tier: Tier,
    asked: f64,
    share: Share,
    prefix: &dyn Fn(usize) -> f64,
) -> Result<SplitOutcome, PlanError> {
    if !(0.0..=1.0).contains(&asked) {
        return Err(PlanError::Share(asked));
    }
    let outcome = |split, reached, remark| SplitOutcome {
        split,
        target: asked,
        reached,
        unstable: false,
        remark,
    };
    if asked >= 1.0 {
        let remark = Remark::AllWithinShare { tier, share, asked };
        return Ok(outcome(Split::End, 1.0, remark));
    }
    let cut = table.splits().filter(|&i| prefix(i) <= asked).last();
    let Some(i) = cut else {
        let none = Remark::NoneWithinShare { tier, share, asked };
        let remark = no_cut(table, tier).unwrap_or(none);
        return Ok(outcome(Split::Start, 0.0, remark));
    };
    let reached = prefix(i);
    let remark = Remark::WithinShare {
        tier,
        share,
        asked,
        after: table.layers[i].name.clone(),
        reached,
        next: table.splits().find(|&j| j > i).map(prefix),
    };
    Ok(outcome(Split::After(i), reached, remark))
}

/// What to say of a network that can be split nowhere, whatever the bound.
fn no_cut(table: &LayerTable, tier: Tier) -> Option<Remark> {
    let why = table.why_no_split()?.to_string();
    Some(Remark::NoCut { tier, why })
}

/// The last legal cut whose prefix takes `tier` no more time than the whole network takes the one
/// behind it, by the medians of the stored profiles of both.
///
/// # Errors
/// A profile with other layers, or without a time for the rows up to a legal split.
pub fn latency(
    table: &LayerTable,
    tier: Tier,
    near: &Profile,
    far: &Profile,
    names: &TierNames,
) -> Result<SplitOutcome, PlanError> {
    let behind = Tier::at(tier.index() + 1).unwrap_or(Tier::Fourth);
    for (tier, profile) in [(tier, near), (behind, far)] {
        if !profile.fits(table) {
            return Err(PlanError::OtherProfile {
                part: names.name(tier).to_string(),
                network: table.network.clone(),
            });
        }
    }
    let bound_ms = far.total_ms.median;
    let end = table.layers.len();
    let sum = near.rows_ms(table, 0..end)?;
    let mut prefix = vec![f64::INFINITY; end];
    for at in table.splits() {
        prefix[at] = near.rows_ms(table, 0..at + 1)?;
    }
    let is_near = |ms: f64| (ms - bound_ms).abs() <= UNSTABLE * bound_ms;
    let outcome = |split, reached: f64, unstable, remark| SplitOutcome {
        split,
        target: bound_ms,
        reached,
        unstable,
        remark,
    };
    if sum <= bound_ms {
        let (ms, unstable) = (sum, is_near(sum));
        let remark = Remark::AllWithinTime {
            tier,
            ms,
            bound_ms,
            unstable,
        };
        return Ok(outcome(Split::End, ms, unstable, remark));
    }
    let cut = table.splits().filter(|&i| prefix[i] <= bound_ms).last();
    let Some(i) = cut else {
        let first = table.splits().next().map(|i| prefix[i]);
        let unstable = first.is_some_and(is_near);
        let none = Remark::NoneWithinTime {
            tier,
            bound_ms,
            unstable,
        };
        let remark = no_cut(table, tier).unwrap_or(none);
        return Ok(outcome(Split::Start, 0.0, unstable, remark));
    };
    // The cut moves where its own time, or that of the next one, may cross the bound.
    let next = table.splits().find(|&j| j > i).map_or(sum, |j| prefix[j]);
    let (ms, unstable) = (prefix[i], is_near(prefix[i]) || is_near(next));
    let remark = Remark::WithinTime {
        tier,
        after: table.layers[i].name.clone(),
        ms,
        bound_ms,
        unstable,
    };
    Ok(outcome(Split::After(i), ms, unstable, remark))
}

/// Behind the layer the user names.
///
/// # Errors
/// No such layer, or no split may stand there.
pub fn after(table: &LayerTable, tier: Tier, name: &str) -> Result<SplitOutcome, PlanError> {
    let at = table.find(name)?;
    let layer = &table.layers[at];
    if !layer.split_legal {
        let why = layer.why_not.clone();
        return Err(PlanError::IllegalSplit {
            name: layer.name.clone(),
            why: why.unwrap_or_else(|| "more than one live tensor crosses it".to_string()),
        });
    }
    let memory = layer.prefix_memory_bytes as f64 / table.memory_bytes.max(1) as f64;
    Ok(SplitOutcome {
        split: Split::After(at),
        target: memory,
        reached: memory,
        unstable: false,
        remark: Remark::Named {
            tier,
            after: layer.name.clone(),
            memory,
        },
    })
}
