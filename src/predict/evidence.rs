/*! What predictions rest on: everything measured or computed of a network and its chain of tiers,
owned, so that it can be handed to another thread; and the terms a prediction is asked under. */

use super::combination::Fits;
use super::replay::{HeadKey, HeldBack, WireTable};
use super::{Billing, ConfidenceTable, EnergySettings, Policy};
use crate::data::Set;
use crate::device::{LinkProfile, Profile};
use crate::exits::ExitPoint;
use crate::model::layers::LayerTable;
use crate::plan::{Compression, Tier, TierNames, Wire};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What every classifier says of the samples of one set.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    /// Computed from tensors that crossed no wire, or one that carries F32.
    pub table: ConfidenceTable,
    /// The columns behind a split whose wire carries another element type, of any splits.
    pub wires: Vec<WireTable>,
    /// The final classifier's of images that were coded; `None` where that was never computed.
    pub images: Option<ImageTable>,
}

/// What compression leaves of the tensor behind a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompressionRatio {
    /// Name of the layer.
    pub after: String,
    /// Element type and compression.
    pub wire: Wire,
    /// Compressed bytes as a share of those of the elements; the mean over some calibration images.
    pub ratio: f64,
}

/// What the network says of images that went over the wire as JPEG files.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageTable {
    /// Quality they were coded at, 1 to 100.
    pub quality: u8,
    /// Mean bytes of a file.
    pub bytes: f64,
    /// The final classifier's column, over the same samples as the table it stands in for.
    pub table: ConfidenceTable,
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
    /// How many bytes of tensors compression leaves, by layer and wire; absent where it was never measured.
    pub ratios: Vec<CompressionRatio>,
    /// Which head stands where; needed only where several were trained behind one layer.
    pub heads: Vec<HeadKey>,
    /// What thresholds and plans are chosen on.
    pub calibration: Option<Arc<Answers>>,
    /// What a guarantee rests on; absent where the tables hold nothing back.
    pub held_back: Option<Arc<HeldBack>>,
    /// What only a chosen plan is judged on.
    pub test: Option<Arc<Answers>>,
    /// The learned combinations that were fitted to these calibration answers so far.
    pub fits: Fits,
}

/// What a prediction lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// No tier was profiled and no table computed.
    #[error("no profiles and no confidence table yet")]
    Everything,
    /// No table of this set's images as JPEG files.
    #[error(
        "the images of this set were never coded and put through the network; run the session again"
    )]
    Images(Set),
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
            ratios: Vec::new(),
            heads: Vec::new(),
            calibration: None,
            held_back: None,
            test: None,
            fits: Fits::default(),
        }
    }

    /// Share of a tensor's bytes that compression leaves behind a layer: 1 where nothing is compressed, or
    /// it was never measured.
    pub fn ratio(&self, after: &str, wire: Wire) -> f64 {
        let found = self.ratios.iter();
        let found = found.filter(|_| wire.compression != Compression::None);
        let mut found = found.filter(|r| r.after == after && r.wire == wire);
        found.next().map_or(1.0, |r| r.ratio)
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
    /// How energy is predicted.
    pub energy: EnergySettings,
    /// Requests per second, which tell how often a radio is found asleep.
    pub rate_hz: f64,
    /// Seed of the draws behind the percentiles.
    pub seed: u64,
}

impl Terms {
    /// The usual wire, prices and energy, one request per second, and seed 0.
    pub fn new(policy: Policy) -> Terms {
        Terms {
            policy,
            wire: Wire::default(),
            billing: Billing::default(),
            energy: EnergySettings::default(),
            rate_hz: 1.0,
            seed: 0,
        }
    }
}
