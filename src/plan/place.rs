/*! Exits inside each part: targets as shares of the part's MACs, each at the nearest free legal
point, never across the split. */

use super::{Placement, Split};
use crate::exits::ExitPoint;
use crate::plan::Part;

/// Where exits stand, and what the user should know of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Placed {
    /// Indices into the points given, ascending, with their part.
    pub exits: Vec<(usize, Part)>,
    /// A sentence for each part that got fewer than were asked for.
    pub notes: Vec<String>,
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

/// Places `per_part` exits in each part. `split_macs` is the number of MACs before the split,
/// `total_macs` that of the whole. With `at_split`, one of the edge part's stands at the split.
pub fn place(
    points: &[ExitPoint],
    split: &Split,
    split_macs: u64,
    total_macs: u64,
    placement: Placement,
    per_part: usize,
    at_split: bool,
) -> Placed {
    let edge_end = match split {
        Split::After(_) => split_macs,
        Split::EdgeOnly => total_macs,
        Split::CloudOnly => 0,
    };
    let mut placed = Placed::default();
    for part in [Part::Edge, Part::Cloud] {
        let (from, to) = match part {
            Part::Edge => (0, edge_end),
            Part::Cloud => (edge_end, total_macs),
        };
        if from == to {
            continue;
        }
        let inside = |p: &ExitPoint| match (split, part) {
            (Split::After(s), Part::Edge) => p.layer < *s,
            (Split::After(s), Part::Cloud) => p.layer > *s,
            (Split::EdgeOnly, Part::Edge) | (Split::CloudOnly, Part::Cloud) => true,
            _ => false,
        };
        let legal: Vec<usize> = (0..points.len()).filter(|&i| inside(&points[i])).collect();
        let mut taken: Vec<usize> = Vec::new();
        let at = points
            .iter()
            .position(|p| matches!(split, Split::After(s) if *s == p.layer));
        let mut wanted = per_part;
        let mut available = legal.len();
        if let (true, Part::Edge, Some(at)) = (at_split && per_part > 0, part, at) {
            taken.push(at);
            wanted -= 1;
            available += 1;
        }
        for share in targets(placement, wanted) {
            let target = from as f64 + share * (to - from) as f64;
            let distance = |i: &usize| (points[*i].macs as f64 - target).abs();
            // `min_by` keeps the first of equal ones: ties go to the earlier point.
            let nearest = legal
                .iter()
                .copied()
                .min_by(|a, b| distance(a).total_cmp(&distance(b)));
            if let Some(point) = nearest.filter(|p| !taken.contains(p)) {
                taken.push(point);
            }
        }
        if taken.len() < per_part {
            let name = match part {
                Part::Edge => "edge",
                Part::Cloud => "cloud",
            };
            let why = match available {
                0 => "no legal point".to_string(),
                1 => "only 1 legal point".to_string(),
                n if n < per_part => format!("only {n} legal points"),
                _ => "the others' nearest points were taken".to_string(),
            };
            let got = taken.len();
            placed
                .notes
                .push(format!("{name}: {got} of {per_part} placed: {why}"));
        }
        taken.sort_unstable();
        placed.exits.extend(taken.into_iter().map(|i| (i, part)));
    }
    placed
}
