/*!
Memory of each tier's part: the packed weights of its segments and heads, and the arena that they
share, which is as large as the largest of them needs. Profiles hold these numbers of every segment and
head, each compiled by itself, so that a part that was never assembled takes what it would take.
*/

use super::chain::Chain;
use super::times::head;
use super::{Evidence, ReplayError};
use crate::device::Profile;
use crate::model::layers::LayerTable;
use crate::plan::{Plan, Tier};
use std::ops::Range;

/// Bytes of each tier's part, in order; 0 for a tier that runs nothing.
pub(super) fn predicted(
    chain: &Chain,
    plan: &Plan,
    evidence: &Evidence,
) -> Result<Vec<usize>, ReplayError> {
    let tiers = plan.chain();
    tiers
        .map(|tier| part(chain, plan, evidence, tier))
        .collect()
}

fn part(chain: &Chain, plan: &Plan, evidence: &Evidence, tier: Tier) -> Result<usize, ReplayError> {
    let layers = &evidence.layers;
    let rows = plan.rows(tier, layers.layers.len());
    if rows.is_empty() {
        return Ok(0);
    }
    let profile = evidence.profile(tier)?;
    let (mut weights, mut arena) = (0, 0);
    let mut add = |rows: Range<usize>| -> Result<(), ReplayError> {
        let found = profile.segment(&rows);
        let segment = found.ok_or_else(|| unknown(profile, layers, &rows))?;
        weights += segment.weight_bytes;
        arena = arena.max(segment.arena_bytes);
        Ok(())
    };
    let mut from = rows.start;
    for exit in plan.exits.iter().filter(|exit| exit.tier == tier) {
        add(from..exit.layer + 1)?;
        from = exit.layer + 1;
    }
    if from < rows.end {
        add(from..rows.end)?;
    }
    for (exit, stage) in plan.exits.iter().zip(&chain.stages) {
        if exit.tier == tier {
            let head = head(profile, &exit.after, stage.hash)?;
            weights += head.bytes.saturating_sub(head.arena_bytes);
            arena = arena.max(head.arena_bytes);
        }
    }
    Ok(weights + arena)
}

fn unknown(profile: &Profile, layers: &LayerTable, rows: &Range<usize>) -> ReplayError {
    let name = |row: Option<usize>| row.and_then(|row| layers.layers.get(row));
    let name = |row| name(row).map_or(String::new(), |layer| layer.name.clone());
    ReplayError::NoMemory {
        target: profile.target.clone(),
        from: name(Some(rows.start)),
        to: name(rows.end.checked_sub(1)),
    }
}
