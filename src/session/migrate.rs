/*!
Sessions of version 1, which knew an edge and a cloud by name. What this form has no place for is told
when the file is opened; saving writes version 2, and keeps the file as it was beside.
*/

use super::{
    BatchSizes, ExitSettings, ModelSource, Offload, Results, Session, Sweep, Target, TierSettings,
    TrainOn, settings,
};
use crate::data::{Calibration, Channels, Fit, Layout, Preprocessing, Source};
use crate::explore::{Goal, Promise};
use crate::plan::{Link, Sends, SplitRule, Wire};
use crate::predict::{Billing, EnergySettings, Policy};
use serde::Deserialize;
use std::path::PathBuf;

/// A session of version 1.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename = "Session")]
pub(super) struct SessionV1 {
    #[serde(rename = "version")]
    _version: u32,
    #[serde(default)]
    name: Option<String>,
    model: ModelSource,
    data: Source,
    #[serde(default)]
    preprocessing: Option<PreprocessingV1>,
    #[serde(default = "settings::calibration")]
    calibration: Calibration,
    // What came later means the same in both forms, and is added to old files too.
    #[serde(default)]
    classes: Vec<(String, usize)>,
    #[serde(default)]
    guarantee: Option<Promise>,
    #[serde(default)]
    sends: Sends,
    #[serde(default = "settings::jpeg_quality")]
    jpeg_quality: u8,
    #[serde(default)]
    train_samples: Option<usize>,
    #[serde(default)]
    test_samples: Option<usize>,
    #[serde(default = "split")]
    split: SplitRule,
    #[serde(default)]
    exits: ExitSettings,
    #[serde(default = "settings::policy")]
    policy: Policy,
    #[serde(default)]
    goal: Goal,
    #[serde(default)]
    sweep: Sweep,
    #[serde(default = "edge")]
    edge: Vec<Target>,
    #[serde(default = "cloud")]
    cloud: Vec<Target>,
    #[serde(default)]
    train_on: TrainOnV1,
    #[serde(default)]
    link: Link,
    #[serde(default)]
    wire: Wire,
    #[serde(default)]
    offload: Offload,
    #[serde(default)]
    billing: Billing,
    #[serde(default = "settings::seed")]
    seed: u64,
    #[serde(default)]
    threads: Option<usize>,
    #[serde(default)]
    batch: BatchSizes,
    #[serde(default)]
    recorded: Option<PathBuf>,
    #[serde(default)]
    results: Option<Box<Results>>,
}

/// Preprocessing of version 1: it had a size, and did nothing with it.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename = "Preprocessing")]
struct PreprocessingV1 {
    scale: f32,
    mean: Vec<f32>,
    std: Vec<f32>,
    resize: Option<(usize, usize)>,
    layout: Layout,
    channels: Channels,
    fit: Fit,
}

impl Default for PreprocessingV1 {
    fn default() -> Self {
        let Preprocessing {
            scale,
            mean,
            std,
            layout,
            channels,
            fit,
        } = Preprocessing::default();
        PreprocessingV1 {
            scale,
            mean,
            std,
            resize: None,
            layout,
            channels,
            fit,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename = "TrainOn")]
enum TrainOnV1 {
    #[default]
    Here,
    Edge,
    Cloud,
}

fn split() -> SplitRule {
    SplitRule::Memory { share: 0.7 }
}

fn edge() -> Vec<Target> {
    vec![settings::local(0, 6.0)]
}

fn cloud() -> Vec<Target> {
    vec![settings::local(1, 1.0)]
}

impl From<SessionV1> for Session {
    fn from(old: SessionV1) -> Session {
        let tier = |name: &str, targets| TierSettings {
            name: name.to_owned(),
            targets,
        };
        let resize = old.preprocessing.as_ref().and_then(|p| p.resize);
        let resize = resize.map(|(height, width)| {
            format!(
                "preprocessing.resize: ({height}, {width}) is gone: it never did anything, images come \
                 in the size that the network takes"
            )
        });
        Session {
            version: super::VERSION,
            name: old.name,
            model: old.model,
            data: old.data,
            preprocessing: old.preprocessing.map(|old| Preprocessing {
                scale: old.scale,
                mean: old.mean,
                std: old.std,
                layout: old.layout,
                channels: old.channels,
                fit: old.fit,
            }),
            classes: old.classes,
            calibration: old.calibration,
            train_samples: old.train_samples,
            test_samples: old.test_samples,
            splits: vec![old.split],
            exits: old.exits,
            policy: old.policy,
            goal: old.goal,
            guarantee: old.guarantee,
            sweep: old.sweep,
            tiers: vec![tier("edge", old.edge), tier("cloud", old.cloud)],
            train_on: match old.train_on {
                TrainOnV1::Here => TrainOn::Here,
                TrainOnV1::Edge => TrainOn::Tier("edge".to_owned()),
                TrainOnV1::Cloud => TrainOn::Tier("cloud".to_owned()),
            },
            links: vec![old.link],
            wire: old.wire,
            sends: old.sends,
            jpeg_quality: old.jpeg_quality,
            offload: old.offload,
            billing: old.billing,
            energy: EnergySettings::default(),
            seed: old.seed,
            threads: old.threads,
            batch: old.batch,
            recorded: old.recorded,
            results: old.results,
            migrated: resize.into_iter().collect(),
        }
    }
}
