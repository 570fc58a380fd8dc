/*! The training stages: exit classifiers over the frozen network, or network and exits together. */

mod tell;

pub(super) use tell::tell;

use super::samples::Images;
use super::stage_cache::{Listener, Reporter, StageCache, finished, told};
use super::targets::{Fleet, RemoteTraining};
use super::{Network, RunError};
use crate::data::{Layout, LoadedData, Set, Source};
use crate::engine::Cancel;
use crate::event::{Event, Note, Stage};
use crate::exits::{Classifier, Head};
use crate::model::Graph;
use crate::model::export::to_onnx;
use crate::model::onnx::import_bytes;
use crate::plan::{Plan, PlannedExit, Tier, TierHead};
use crate::session::Session;
use crate::session::results::TrainedHead;
use crate::session::stages::{Inputs, Stages};
use crate::train::{
    self, Branch, CacheLimits, FEATURE_BATCH, HeadSpec, Task, Training, TrainingConfig,
};
use std::path::Path;

/// Memory for cached features.
const CACHE_BYTES: u64 = 1 << 30;
/// Factor of an exit's loss beside the network's own.
const HEAD_WEIGHT: f64 = 0.5;

/// What kept heads may take on the disk.
const SHELF_BYTES: u64 = 256 << 20;
/// Digits of a head's hash in the name of its file.
const SHORT: usize = 32;

/// Heads that learnt, and the network they belong to where it learnt too.
pub(super) struct Learnt {
    pub heads: Vec<TierHead>,
    /// Hashes of all that each head depends on; empty where the network learnt too.
    pub keys: Vec<String>,
    pub network: Option<Network>,
}

/// What both training stages need.
pub(super) struct TrainingContext<'a> {
    pub session: &'a Session,
    pub network: &'a Network,
    pub data: &'a LoadedData,
    pub keep: &'a StageCache,
    /// Folder of the checkpoints.
    pub folder: &'a Path,
    pub cancel: &'a Cancel,
}

/// The hash of all that a head depends on besides its own source and recipe.
fn inputs(session: &Session, network: &Network, data: &LoadedData) -> Inputs {
    let inputs = Inputs::new()
        .with("network", &network.hash)
        .with("train", data.hash(Set::Train))
        .with("pixels", session.pixels().key())
        .with("training", format!("{:?}", session.exits.training))
        .with("seed", session.seed.to_string())
        .with("batch", session.batch.train.to_string());
    // A network may answer a sample otherwise in another batch (DynamicQuantizeLinear scales all of it).
    // The usual number is left out, so that heads kept before it could be set are still found.
    let inputs = match session.batch.evaluate {
        FEATURE_BATCH => inputs,
        other => inputs.with("evaluate", other.to_string()),
    };
    match session.exits.recipe.patience {
        Some(patience) => inputs
            .with("patience", patience.to_string())
            .with("judge", data.hash(Set::Calibration)),
        None => inputs,
    }
}

/// The hash of all that trained heads depend on.
pub(super) fn key(
    session: &Session,
    network: &Network,
    data: &LoadedData,
    heads: &[TierHead],
) -> String {
    let mut inputs = inputs(session, network, data);
    if !session.exits.recipe.is_usual() {
        inputs = inputs.with("recipe", format!("{:?}", session.exits.recipe));
    }
    for TierHead { tier, head, .. } in heads {
        let name = format!("{} {}", key_name(*tier), head.point.after);
        inputs = inputs.with(&name, &head.hash);
    }
    inputs.key()
}

/// What a tier is called in keys. Two of them are called as when there were no others, so that heads
/// kept since then are still found.
fn key_name(tier: Tier) -> &'static str {
    match tier {
        Tier::First => "Edge",
        Tier::Second => "Cloud",
        Tier::Third => "Third",
        Tier::Fourth => "Fourth",
    }
}

/// The hash of all that each head depends on by itself, whatever the others are.
pub(super) fn head_keys(
    session: &Session,
    network: &Network,
    data: &LoadedData,
    heads: &[TierHead],
) -> Vec<String> {
    let inputs = inputs(session, network, data);
    let recipe = &session.exits.recipe;
    let key = |TierHead { head, .. }: &TierHead| {
        let after = &head.point.after;
        inputs
            .clone()
            .with("after", after)
            .with("head", &head.hash)
            .with("recipe", format!("{:?}", recipe.of(after)))
            .key()
    };
    heads.iter().map(key).collect()
}

/// The heads at a plan's exits, in their order: those made for the exit's tier, else those that serve
/// all.
pub(super) fn planned_heads(plan: &Plan, heads: &[TierHead]) -> Vec<TierHead> {
    let head = |exit: &PlannedExit| TierHead::find(heads, &exit.after, exit.tier);
    plan.exits.iter().filter_map(head).cloned().collect()
}

impl TrainingContext<'_> {
    fn specs<'h>(&self, heads: &[&'h TierHead]) -> Vec<HeadSpec<'h>> {
        let recipe = &self.session.exits.recipe;
        let spec = |of: &&'h TierHead| HeadSpec {
            recipe: recipe.of(&of.head.point.after),
            ..HeadSpec::from(&of.head)
        };
        heads.iter().map(spec).collect()
    }

    /// Trains `heads` over the frozen network; of those that an earlier run or the session's results
    /// have trained alike, none again.
    pub fn frozen(
        &self,
        on: Listener,
        heads: &[TierHead],
        epochs: usize,
        fleet: &mut Fleet,
    ) -> Result<Learnt, RunError> {
        let key = key(self.session, self.network, self.data, heads);
        let keys = head_keys(self.session, self.network, self.data, heads);
        let shelf = self.keep.stages.within("heads")?;
        let kept = self.keep.stage(
            on,
            (Stage::Heads, "heads", &key),
            |kept: &Vec<TrainedHead>| described(kept, "over the frozen network"),
            |reporter| {
                let mut all: Vec<Option<TrainedHead>> = Vec::with_capacity(heads.len());
                for (pair, key) in heads.iter().zip(&keys) {
                    all.push(self.kept_head(&shelf, pair, key));
                }
                let of = |i: &usize| (&heads[*i], &keys[*i]);
                let missing: Vec<usize> = (0..heads.len()).filter(|&i| all[i].is_none()).collect();
                if missing.len() < heads.len() {
                    let kept = heads.len() - missing.len();
                    reporter.say(Note::HeadsCached {
                        cached: kept,
                        all: heads.len(),
                    });
                }
                let wanted: Vec<&TierHead> = missing.iter().map(|i| of(i).0).collect();
                let trained = self.train_frozen(reporter, &wanted, epochs, fleet)?;
                let packed = pack(&wanted, trained)?;
                for (i, mut head) in missing.into_iter().zip(packed) {
                    head.key.clone_from(&keys[i]);
                    all[i] = Some(head);
                }
                Ok(all.into_iter().flatten().collect())
            },
        )?;
        // Also those that came as a whole, so that the next edit finds each by itself.
        let names: Vec<String> = keys.iter().map(|k| k[..SHORT].to_owned()).collect();
        for ((head, key), name) in kept.iter().zip(&keys).zip(&names) {
            if !matches!(shelf.load_bytes(name, key), Ok(Some(_))) {
                shelf.store(name, key, head)?;
            }
        }
        shelf.prune(SHELF_BYTES, &names)?;
        Ok(Learnt {
            heads: unpack(&kept)?,
            keys,
            network: None,
        })
    }

    /// A head trained alike before: in this folder, or in the results that the session brought.
    fn kept_head(&self, shelf: &Stages, of: &TierHead, key: &str) -> Option<TrainedHead> {
        if self.keep.fresh {
            return None;
        }
        // A damaged file counts as none.
        let here = shelf.load(&key[..SHORT], key).ok().flatten();
        let brought = || {
            let results = self.session.results.as_deref()?;
            results.heads.iter().find(|h| h.key == key).cloned()
        };
        let found: TrainedHead = here.or_else(brought)?;
        Some(TrainedHead {
            tier: of.tier,
            point: of.head.point.clone(),
            ..found
        })
    }

    fn train_frozen(
        &self,
        reporter: &mut Reporter,
        heads: &[&TierHead],
        epochs: usize,
        fleet: &mut Fleet,
    ) -> Result<Vec<Graph>, RunError> {
        if self.session.exits.classifier == Classifier::OwnExits {
            // Trained by whoever made the network.
            return Ok(heads.iter().map(|of| of.head.graph.clone()).collect());
        }
        let hyper = TrainingConfig {
            patience: self.session.exits.recipe.patience,
            ..TrainingConfig::for_heads(epochs, self.session.batch.train, self.session.seed)
        };
        if let Some(side) = self.session.trains_on() {
            let away = RemoteTraining {
                session: self.session,
                network: self.network,
                data: self.data,
                heads: &self.specs(heads),
                hyper,
            };
            return fleet.train(reporter, side, &away);
        }
        let samples = self.samples(Set::Train)?;
        let judge = self.samples(Set::Calibration)?;
        let saved = self.folder.join("heads.checkpoint");
        let task = Task {
            data: &samples,
            hyper: &hyper,
            judge: Some(&judge),
            saved: Some(&saved),
            cancel: self.cancel,
        };
        let features = self.folder.join("features");
        if self.keep.fresh {
            // Not even these are taken over; where there are none, there is nothing to remove.
            let _ = std::fs::remove_dir_all(&features);
        }
        let limits = CacheLimits {
            memory_bytes: CACHE_BYTES,
            folder: Some(self.folder.to_owned()),
            kept: Some(features),
            batch: self.session.batch.evaluate,
        };
        let mut progress = |event| tell(reporter, event);
        let specs = self.specs(heads);
        let network = &self.network.fused;
        let trained = train::train_heads(network, &specs, &task, &limits, &mut progress)?;
        // Left behind it would only take space.
        let _ = std::fs::remove_file(saved);
        Ok(trained)
    }

    /// Trains the network, and `heads` with it.
    pub fn together(&self, on: Listener, heads: &[TierHead]) -> Result<Learnt, RunError> {
        let key = key(self.session, self.network, self.data, heads);
        let outcome =
            |kept: &(Vec<TrainedHead>, Vec<u8>)| described(&kept.0, "together with the network");
        let (heads, backbone) = match (
            self.keep.find("heads", &key),
            self.keep.bytes("backbone", &key),
        ) {
            (Some(heads), Some(backbone)) => {
                let kept = (heads, backbone);
                on(Event::Started(Stage::Heads));
                on(finished(Stage::Heads, outcome(&kept), true, 0.0));
                kept
            }
            _ => told(on, Stage::Heads, outcome, |reporter| {
                let (graph, trained) = self.train_together(reporter, heads)?;
                let all: Vec<&TierHead> = heads.iter().collect();
                let kept = (pack(&all, trained)?, to_onnx(&graph)?);
                self.keep.stages.store_bytes("backbone", &key, &kept.1)?;
                self.keep.stages.store("heads", &key, &kept.0)?;
                Ok(kept)
            })?,
        };
        let graph = import_bytes(&backbone, "backbone.onnx")?;
        Ok(Learnt {
            keys: vec![String::new(); heads.len()],
            heads: unpack(&heads)?,
            network: Some(Network::of(graph, false)?),
        })
    }

    fn train_together(
        &self,
        reporter: &mut Reporter,
        heads: &[TierHead],
    ) -> Result<(Graph, Vec<Graph>), RunError> {
        let (batch, seed) = (self.session.batch.train, self.session.seed);
        let samples = self.samples(Set::Train)?;
        let judge = self.samples(Set::Calibration)?;
        let all: Vec<&TierHead> = heads.iter().collect();
        let specs = self.specs(&all).into_iter();
        let branches: Vec<Branch> = specs
            .map(|head| Branch {
                head,
                weight: HEAD_WEIGHT,
            })
            .collect();
        // A network that learnt before is tuned, at a tenth of the rate.
        let hyper = |epochs, fresh: bool| {
            let hyper = match fresh {
                true => TrainingConfig::for_backbone(epochs, batch, seed),
                false => TrainingConfig::for_joint(epochs, batch, seed),
            };
            let patience = self.session.exits.recipe.patience;
            self.augmented(TrainingConfig { patience, ..hyper })
        };
        let network = &self.network.imported;
        let fresh = self.network.untrained;
        let saved = self.folder.join("network.checkpoint");
        let task = |hyper| Task {
            data: &samples,
            hyper,
            judge: Some(&judge),
            saved: Some(&saved),
            cancel: self.cancel,
        };
        let mut progress = |event| tell(reporter, event);
        let trained = match self.session.exits.training {
            Training::Mixed { backbone, epochs } => train::train_mixed(
                network,
                1.0,
                &branches,
                &hyper(backbone, fresh),
                &task(&hyper(epochs, false)),
                &mut progress,
            )?,
            Training::Joint { epochs } | Training::Frozen { epochs } => train::train_joint(
                network,
                1.0,
                &branches,
                &task(&hyper(epochs, fresh)),
                &mut progress,
            )?,
        };
        let phases = train::mixed_checkpoints(Some(&saved));
        for file in phases.into_iter().flatten().chain([saved]) {
            // Left behind it would only take space.
            let _ = std::fs::remove_file(file);
        }
        Ok(trained)
    }

    /// Only pictures of things may be mirrored, and only images with channels first are moved.
    fn augmented(&self, hyper: TrainingConfig) -> TrainingConfig {
        let planes = self.session.pixels().layout == Layout::Nchw;
        let characters = matches!(self.session.data, Source::Idx(_));
        TrainingConfig {
            flip: hyper.flip && planes && !characters,
            shift: if planes { hyper.shift } else { 0 },
            ..hyper
        }
    }

    fn samples(&self, set: Set) -> Result<Images<'_>, RunError> {
        Ok(Images::new(self.data, set, self.session.pixels())?)
    }
}

fn described(heads: &[TrainedHead], how: &str) -> String {
    let params: usize = heads.iter().map(|h| h.params).sum();
    let s = if heads.len() == 1 { "" } else { "s" };
    format!("{} exit{s} trained {how}, {params} parameters", heads.len())
}

fn pack(heads: &[&TierHead], trained: Vec<Graph>) -> Result<Vec<TrainedHead>, RunError> {
    let pairs = heads.iter().zip(trained);
    pairs
        .map(|(of, graph)| {
            let head = Head {
                graph,
                ..of.head.clone()
            };
            // Temperatures are fitted on the calibration table, which is made next.
            let made = TierHead::new(of.tier, head);
            Ok(TrainedHead::pack(&made)?)
        })
        .collect()
}

fn unpack(heads: &[TrainedHead]) -> Result<Vec<TierHead>, RunError> {
    heads.iter().map(|h| Ok(h.unpack()?)).collect()
}

#[cfg(test)]
mod tests;
