/*! The split rules. Each reads the layer table (and profiles) and says what it did in a sentence. */

use super::{PlanError, Split};
use crate::device::Profile;
use crate::model::layers::LayerTable;

/// A cut so near the bound that a new measurement might move it.
const UNSTABLE: f64 = 0.05;

/// What a split rule chose, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitOutcome {
    /// Where.
    pub split: Split,
    /// What was asked for: a share (0 to 1), or milliseconds for the latency rule.
    pub target: f64,
    /// What the split reaches, in the target's unit; 0 for `CloudOnly`.
    pub reached: f64,
    /// Whether it lies within 5 % of a measured bound.
    pub unstable: bool,
    /// For the user.
    pub sentence: String,
}

/// The last legal cut whose prefix needs at most `share` of the whole network's split memory.
pub fn memory(table: &LayerTable, share: f64) -> Result<SplitOutcome, PlanError> {
    let whole = table.memory_bytes.max(1) as f64;
    let prefix = |i: usize| table.layers[i].prefix_memory_bytes as f64 / whole;
    by_share(table, share, "memory", &prefix)
}

/// The last legal cut whose prefix has at most `share` of the layers.
pub fn layers(table: &LayerTable, share: f64) -> Result<SplitOutcome, PlanError> {
    let whole = table.layers.len().max(1) as f64;
    by_share(table, share, "layers", &|i| (i + 1) as f64 / whole)
}

fn by_share(
    table: &LayerTable,
    share: f64,
    what: &str,
    prefix: &dyn Fn(usize) -> f64,
) -> Result<SplitOutcome, PlanError> {
    if !(0.0..=1.0).contains(&share) {
        return Err(PlanError::Share(share));
    }
    let percent = 100.0 * share;
    if share >= 1.0 {
        return Ok(SplitOutcome {
            split: Split::EdgeOnly,
            target: share,
            reached: 1.0,
            unstable: false,
            sentence: format!(
                "the whole network is within {percent:.0} % of its {what}: edge only"
            ),
        });
    }
    let cut = table.splits().filter(|&i| prefix(i) <= share).last();
    Ok(match cut {
        Some(i) => {
            let (name, reached) = (&table.layers[i].name, prefix(i));
            let next = table.splits().find(|&j| j > i).map(prefix);
            let next = next.map_or(String::new(), |n| {
                format!("; the next cut has {:.0} %", 100.0 * n)
            });
            let got = 100.0 * reached;
            SplitOutcome {
                split: Split::After(i),
                target: share,
                reached,
                unstable: false,
                sentence: format!(
                    "after `{name}`: {what} {percent:.0} % asked, {got:.0} % reached{next}"
                ),
            }
        }
        None => SplitOutcome {
            split: Split::CloudOnly,
            target: share,
            reached: 0.0,
            unstable: false,
            sentence: format!(
                "no legal cut needs at most {percent:.0} % of the {what}: cloud only"
            ),
        },
    })
}

/// The last legal cut whose prefix takes the edge no more time than the whole network takes the
/// cloud, by the medians of the stored profiles.
pub fn latency(
    table: &LayerTable,
    edge: &Profile,
    cloud: &Profile,
) -> Result<SplitOutcome, PlanError> {
    for (part, profile) in [("edge", edge), ("cloud", cloud)] {
        let fits = profile.layers.len() == table.layers.len()
            && profile
                .layers
                .iter()
                .zip(&table.layers)
                .all(|(p, l)| p.name == l.name);
        if !fits {
            return Err(PlanError::OtherProfile {
                part: part.to_string(),
                network: table.network.clone(),
            });
        }
    }
    let bound = cloud.total_ms.median;
    let mut sum = 0.0;
    let prefix: Vec<f64> = edge
        .layers
        .iter()
        .map(|l| {
            sum += l.ms.median;
            sum
        })
        .collect();
    let near = |ms: f64| (ms - bound).abs() <= UNSTABLE * bound;
    let outcome = |split, reached: f64, unstable, sentence: String| SplitOutcome {
        split,
        target: bound,
        reached,
        unstable,
        sentence: if unstable {
            format!("{sentence}; within 5 % of the bound, so a new profile may move it")
        } else {
            sentence
        },
    };
    if sum <= bound {
        let sentence = format!(
            "the whole network takes the edge {sum:.2} ms, no more than the cloud's {bound:.2} ms: edge only"
        );
        return Ok(outcome(Split::EdgeOnly, sum, near(sum), sentence));
    }
    let cut = table.splits().filter(|&i| prefix[i] <= bound).last();
    Ok(match cut {
        Some(i) => {
            // The cut moves where its own time, or that of the next one, may cross the bound.
            let next = table.splits().find(|&j| j > i).map_or(sum, |j| prefix[j]);
            let (name, ms) = (&table.layers[i].name, prefix[i]);
            let sentence = format!(
                "after `{name}`: {ms:.2} ms at the edge, the whole takes the cloud {bound:.2} ms"
            );
            outcome(Split::After(i), ms, near(ms) || near(next), sentence)
        }
        None => {
            let first = table.splits().next().map(|i| prefix[i]);
            let sentence = format!(
                "no legal cut takes the edge at most the cloud's {bound:.2} ms: cloud only"
            );
            outcome(Split::CloudOnly, 0.0, first.is_some_and(near), sentence)
        }
    })
}

/// After the layer the user names.
pub fn after(table: &LayerTable, name: &str) -> Result<SplitOutcome, PlanError> {
    let at = table.find(name)?;
    let layer = &table.layers[at];
    if !layer.split_legal {
        let why = layer.why_not.clone();
        return Err(PlanError::IllegalSplit {
            name: layer.name.clone(),
            why: why.unwrap_or_else(|| "more than one live tensor crosses it".to_string()),
        });
    }
    let reached = layer.prefix_memory_bytes as f64 / table.memory_bytes.max(1) as f64;
    Ok(SplitOutcome {
        split: Split::After(at),
        target: reached,
        reached,
        unstable: false,
        sentence: format!(
            "after `{}`: {:.0} % of the memory",
            layer.name,
            100.0 * reached
        ),
    })
}
