/*!
Memory of each tier, predicted: packed weights, arena and heads.

Where the part was measured these are its own. Else they are apportioned from the profile of the whole
network. Packed weights: by the share of the network's parameters that lies in the part. The arena: by
the part's largest set of live activations as a share of the network's. For a part that begins at the
input that is known from the layer table; for others it is the network's where the peak lies behind
the split, and else that of its largest layer, input and output together.
*/

use super::chain::Chain;
use super::times::head;
use super::{Evidence, ReplayError};
use crate::device::Profile;
use crate::model::layers::LayerTable;
use crate::plan::Plan;
use std::ops::Range;

/// Bytes of each tier's part, in order; 0 for a tier that runs nothing.
pub(super) fn predicted(
    chain: &Chain,
    plan: &Plan,
    evidence: &Evidence,
) -> Result<Vec<usize>, ReplayError> {
    let measured = evidence.assembled.iter().find(|a| a.is_of(plan));
    plan.chain()
        .map(|tier| {
            let rows = plan.rows(tier, evidence.layers.layers.len());
            if rows.is_empty() {
                return Ok(0);
            }
            if let Some(part) = measured.and_then(|m| m.part(tier)) {
                return Ok(part.weight_bytes + part.arena_bytes);
            }
            let profile = evidence.profile(tier)?;
            let mut bytes = apportioned(profile, &evidence.layers, rows);
            for (exit, stage) in plan.exits.iter().zip(&chain.stages) {
                if exit.tier == tier {
                    bytes += head(profile, &exit.after, stage.hash)?.bytes;
                }
            }
            Ok(bytes)
        })
        .collect()
}

fn apportioned(profile: &Profile, table: &LayerTable, rows: Range<usize>) -> usize {
    let params: usize = table.layers[rows.clone()].iter().map(|l| l.params).sum();
    let weights = share(profile.weight_bytes, params, table.params);
    let arena = share(
        profile.arena_bytes,
        peak(table, rows),
        table.memory_bytes.saturating_sub(4 * table.params),
    );
    weights + arena
}

fn share(bytes: usize, part: usize, whole: usize) -> usize {
    if whole == 0 {
        return bytes;
    }
    (bytes as f64 * part.min(whole) as f64 / whole as f64).ceil() as usize
}

/// The largest set of live activations over these rows, in bytes.
fn peak(table: &LayerTable, rows: Range<usize>) -> usize {
    let before = |end: usize| {
        let row = end.checked_sub(1).and_then(|i| table.layers.get(i));
        row.map_or(0, |l| {
            l.prefix_memory_bytes.saturating_sub(4 * l.prefix_params)
        })
    };
    let whole = before(table.layers.len());
    if rows.start == 0 {
        return before(rows.end);
    }
    if before(rows.start) < whole {
        return whole;
    }
    let layers = &table.layers;
    let both = |i: usize| {
        let input = i.checked_sub(1).map_or(0, |i| layers[i].activation_bytes);
        input + layers[i].activation_bytes
    };
    rows.map(both).max().unwrap_or(0).min(whole)
}
