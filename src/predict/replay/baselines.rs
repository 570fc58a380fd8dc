/*! What a plan is compared with: the unmodified network on either side, and the edge part alone. */

use super::super::ConfidenceTable;
use super::super::outcome::Outcome;
use super::{Prepared, ReplayError, World, replay};
use crate::plan::{Plan, Split};
use serde::{Deserialize, Serialize};

/// The baselines, all predicted or all measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baselines {
    /// The unmodified network on the edge.
    pub original: Outcome,
    /// The unmodified network in the cloud, its input sent as pixels and preprocessed there.
    pub cloud_only: Outcome,
    /// The edge part, its last exit always answering; `None` where it has none.
    pub edge_only: Option<Outcome>,
}

/// A plan without a split and without exits.
fn unmodified(split: Split) -> Plan {
    Plan {
        split,
        split_after: None,
        exits: Vec::new(),
        notes: Vec::new(),
    }
}

/// The baselines of a plan, predicted.
///
/// # Errors
/// As [`Prepared::new`].
pub fn baselines(
    table: &ConfidenceTable,
    plan: &Plan,
    world: &World,
) -> Result<Baselines, ReplayError> {
    Ok(Baselines {
        original: replay(table, &unmodified(Split::EdgeOnly), world)?,
        cloud_only: replay(table, &unmodified(Split::CloudOnly), world)?,
        edge_only: Prepared::new(table, plan, world)?.edge_only(),
    })
}
