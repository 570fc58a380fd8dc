/*! What a plan is compared with: the unmodified network on either side, and the edge part alone. */

use super::super::outcome::Outcome;
use super::super::{Evidence, Terms};
use super::{PreparedPlan, ReplayError, replay};
use crate::data::Set;
use crate::plan::{Plan, Tier};
use serde::{Deserialize, Serialize};

/// The baselines, all predicted or all measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baselines {
    /// The unmodified network on the first tier.
    pub original: Outcome,
    /// The unmodified network on the last tier, its input sent as pixels and preprocessed there.
    pub cloud_only: Outcome,
    /// The same, its input sent as a JPEG file; `None` where the network was never given such.
    #[serde(default)]
    pub cloud_only_jpeg: Option<Outcome>,
    /// The first tier's exits, and the image for the whole network on the last tier where none of them is
    /// sure; `None` without such an exit, and as above.
    #[serde(default)]
    pub exits_else_image: Option<Outcome>,
    /// The first tier's part, its last exit always answering; `None` where it has none.
    pub edge_only: Option<Outcome>,
}

/// The baselines of a plan, predicted on a set.
///
/// # Errors
/// As [`PreparedPlan::new`].
pub fn baselines(
    evidence: &Evidence,
    terms: &Terms,
    set: Set,
    plan: &Plan,
) -> Result<Baselines, ReplayError> {
    let tiers = evidence.tiers.count();
    let last = evidence.tiers.tiers().next_back().unwrap_or(Tier::First);
    let on = |tier| replay(evidence, terms, set, &Plan::unmodified(tier, tiers));
    let images = evidence.answers(set)?.images.is_some();
    let sending = |plan: Option<Plan>| {
        let plan = plan.filter(|_| images);
        plan.map(|plan| replay(evidence, terms, set, &plan))
            .transpose()
    };
    Ok(Baselines {
        cloud_only_jpeg: sending(
            (last != Tier::First).then(|| Plan::unmodified(last, tiers).with_images()),
        )?,
        exits_else_image: sending(plan.sending_images())?,
        original: on(Tier::First)?,
        cloud_only: on(last)?,
        edge_only: PreparedPlan::new(evidence, terms, set, plan)?.edge_only(),
    })
}
