/*! What predictions rest on: everything measured or computed of a network and its chain of tiers,
owned, so that it can be handed to another thread; and the terms a prediction is asked under. */

use super::replay::{HeadKey, HeldBack, WireTable};
use super::{Billing, ConfidenceTable, Policy};
use crate::data::Set;
use crate::device::{LinkProfile, Profile};
use crate::exits::ExitPoint;
use crate::model::layers::LayerTable;
use crate::plan::{Tier, TierNames, Wire};
use std::sync::Arc;

/// What every classifier says of the samples of one set.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    /// Computed from tensors that crossed no wire, or one that carries F32.
    pub table: ConfidenceTable,
    /// The columns behind a split whose wire carries another element type, of any splits.
    pub wires: Vec<WireTable>,
}

/// All that was measured and computed. What wasn't is absent; nothing is made up in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// Layers and cuts of the network.
    pub layers: Arc<LayerTable>,
    /// Where exits may stand, in order of depth.
    pub points: Arc<Vec<ExitPoint>>,
    /// What the tiers are called; their number is the chain's length.
    pub tiers: TierNames,
    /// One per tier, of its first target.
    pub profiles: Vec<Option<Arc<Profile>>>,
    /// Measured links, one per hop from a tier to the next.
    pub links: Vec<Option<Arc<LinkProfile>>>,
    /// Which head stands where; needed only where several were trained behind one layer.
    pub heads: Vec<HeadKey>,
    /// What thresholds and plans are chosen on.
    pub calibration: Option<Arc<Answers>>,
    /// What a guarantee rests on; absent where the tables hold nothing back.
    pub held_back: Option<Arc<HeldBack>>,
    /// What only a chosen plan is judged on.
    pub test: Option<Arc<Answers>>,
}

/// What a prediction lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// No tier was profiled and no table computed.
    #[error("no profiles and no confidence table yet")]
    Everything,
    /// No confidence table of this set.
    #[error("no confidence table yet")]
    Table(Set),
    /// A tier without a profile.
    #[error("no profile of every tier yet")]
    Profile(Tier),
    /// The link behind this tier was never measured.
    #[error("the link was not measured yet")]
    Link(Tier),
}

impl Evidence {
    /// Evidence of a network on a chain of tiers, nothing measured.
    pub fn new(layers: Arc<LayerTable>, points: Arc<Vec<ExitPoint>>, tiers: TierNames) -> Evidence {
        let count = tiers.count();
        Evidence {
            layers,
            points,
            tiers,
            profiles: vec![None; count],
            links: vec![None; count.saturating_sub(1)],
            heads: Vec::new(),
            calibration: None,
            held_back: None,
            test: None,
        }
    }

    /// What was measured of a tier.
    ///
    /// # Errors
    /// Where it never was.
    pub fn profile(&self, tier: Tier) -> Result<&Profile, Missing> {
        let found = self.profiles.get(tier.index()).and_then(Option::as_deref);
        found.ok_or(Missing::Profile(tier))
    }

    /// What was measured of the link behind a tier.
    ///
    /// # Errors
    /// Where it never was.
    pub fn link(&self, tier: Tier) -> Result<&LinkProfile, Missing> {
        let found = self.links.get(tier.index()).and_then(Option::as_deref);
        found.ok_or(Missing::Link(tier))
    }

    /// The answers of a set's samples; there are none of the training set.
    ///
    /// # Errors
    /// Where they were never computed, or are another set's.
    pub fn answers(&self, set: Set) -> Result<&Answers, Missing> {
        let found = match set {
            Set::Calibration => self.calibration.as_deref(),
            Set::Test => self.test.as_deref(),
            Set::Train => None,
        };
        // A table that lies under another set's name would be tuned on where it may not be.
        found
            .filter(|answers| answers.table.set == set)
            .ok_or_else(|| {
                if self.profiles.iter().all(Option::is_none) {
                    Missing::Everything
                } else {
                    Missing::Table(set)
                }
            })
    }
}

/// What a prediction is asked under: settings, not measurements.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// Measure of confidence, common threshold, and the exits with one of their own.
    pub policy: Policy,
    /// How the split tensor travels.
    pub wire: Wire,
    /// Price model of the cloud.
    pub billing: Billing,
    /// Seed of the draws behind the percentiles.
    pub seed: u64,
}

impl Terms {
    /// The usual wire and prices, and seed 0.
    pub fn new(policy: Policy) -> Terms {
        Terms {
            policy,
            wire: Wire::default(),
            billing: Billing::default(),
            seed: 0,
        }
    }
}
