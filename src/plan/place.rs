/*! Exits inside each part: targets as shares of the part's MACs, each at the nearest free legal
point, never across a split. */

use super::remark::Fewer;
use super::{ExitRule, Placement, Plan, Remark, Tier};
use crate::exits::ExitPoint;
use crate::model::layers::LayerTable;

/// Where exits stand, and what the user should know of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Placed {
    /// Indices into the points given, ascending, with their tier.
    pub exits: Vec<(usize, Tier)>,
    /// One for each part that got fewer than were asked for.
    pub remarks: Vec<Remark>,
}

/// The targets, as shares of a part's MACs.
pub fn targets(placement: Placement, count: usize) -> Vec<f64> {
    (1..=count)
        .map(|i| match placement {
            Placement::Linear => i as f64 / (count + 1) as f64,
            Placement::Pareto => 1.0 - 0.8f64.powi(i as i32),
        })
        .collect()
}

/// Places `rule.per_part` exits in each part of a plan, whose own exits play no part. A part that
/// offloads has one of its exits at the split where the rule says so.
pub fn place(points: &[ExitPoint], plan: &Plan, table: &LayerTable, rule: &ExitRule) -> Placed {
    let mut placed = Placed::default();
    for tier in plan.chain() {
        let rows = plan.rows(tier, table.layers.len());
        if rows.is_empty() {
            continue;
        }
        let split = plan.split_behind(tier).and_then(|split| split.row());
        let taken = in_part(points, table, rule, rows, split);
        let (count, asked) = (taken.exits.len(), rule.per_part);
        if count < asked {
            let why = if taken.available < asked {
                Fewer::LegalPoints(taken.available)
            } else {
                Fewer::Taken
            };
            placed.remarks.push(Remark::FewerExits {
                tier,
                placed: count,
                asked,
                why,
            });
        }
        placed
            .exits
            .extend(taken.exits.into_iter().map(|i| (i, tier)));
    }
    placed
}

/// The exits of one part, and how many legal points it has for them.
struct Taken {
    /// Indices into the points, ascending.
    exits: Vec<usize>,
    available: usize,
}

fn in_part(
    points: &[ExitPoint],
    table: &LayerTable,
    rule: &ExitRule,
    rows: std::ops::Range<usize>,
    split: Option<usize>,
) -> Taken {
    let macs_before = |rows: usize| {
        let last = rows.checked_sub(1).and_then(|i| table.layers.get(i));
        last.map_or(0, |layer| layer.prefix_macs)
    };
    let from = macs_before(rows.start);
    let to = if rows.end == table.layers.len() {
        table.macs
    } else {
        macs_before(rows.end)
    };
    let place = |i: &usize| points[*i].layer;
    let legal: Vec<usize> = (0..points.len())
        .filter(|i| rows.contains(&place(i)) && Some(place(i)) != split)
        .collect();
    let mut exits: Vec<usize> = Vec::new();
    let mut wanted = rule.per_part;
    let mut available = legal.len();
    let at_split = (0..points.len()).find(|i| Some(place(i)) == split);
    if let (true, Some(at)) = (rule.at_split && wanted > 0, at_split) {
        exits.push(at);
        wanted -= 1;
        available += 1;
    }
    for share in targets(rule.placement, wanted) {
        let target = from as f64 + share * (to - from) as f64;
        let distance = |i: &usize| (points[*i].macs as f64 - target).abs();
        // `min_by` keeps the first of equal ones: ties go to the earlier point.
        let nearest = legal
            .iter()
            .copied()
            .min_by(|a, b| distance(a).total_cmp(&distance(b)));
        if let Some(point) = nearest.filter(|p| !exits.contains(p)) {
            exits.push(point);
        }
    }
    exits.sort_unstable();
    Taken { exits, available }
}
