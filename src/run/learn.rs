/*! The training stages: exit classifiers over the frozen network, or network and exits together. */

use super::keep::{Keep, Listener, Teller, finished, told};
use super::samples::Images;
use super::{Event, Network, RunError, Stage};
use crate::data::{LoadedData, Set};
use crate::engine::Cancel;
use crate::exits::{Head, Part};
use crate::model::Graph;
use crate::model::export::to_onnx;
use crate::model::onnx::import_bytes;
use crate::session::Session;
use crate::session::results::TrainedHead;
use crate::session::stages::Inputs;
use crate::train::{self, Branch, HeadSpec, Hyper, Training};
use std::path::Path;

/// Memory for cached features.
const CACHE_BYTES: usize = 1 << 30;
/// Factor of an exit's loss beside the network's own.
const HEAD_WEIGHT: f64 = 0.5;

/// Heads that learnt, and the network they belong to where it learnt too.
pub(super) struct Learnt {
    pub heads: Vec<(Part, Head)>,
    pub network: Option<Network>,
}

/// What both training stages need.
pub(super) struct Lesson<'a> {
    pub session: &'a Session,
    pub network: &'a Network,
    pub data: &'a LoadedData,
    pub keep: &'a Keep,
    /// Where checkpoints lie.
    pub folder: &'a Path,
    pub cancel: &'a Cancel,
}

/// The hash of all that trained heads depend on.
pub(super) fn key(
    session: &Session,
    network: &Network,
    train_hash: &str,
    heads: &[(Part, Head)],
) -> String {
    let mut inputs = Inputs::new()
        .with("network", &network.hash)
        .with("train", train_hash)
        .with("pixels", format!("{:?}", session.preprocessing))
        .with("training", format!("{:?}", session.exits.training))
        .with("seed", session.seed.to_string())
        .with("batch", session.batch.train.to_string());
    for (part, head) in heads {
        let name = format!("{part:?} {}", head.point.after);
        inputs = inputs.with(&name, &head.hash);
    }
    inputs.key()
}

impl Lesson<'_> {
    /// Trains `heads` over the frozen network.
    pub fn frozen(
        &self,
        on: Listener,
        heads: &[(Part, Head)],
        epochs: usize,
    ) -> Result<Learnt, RunError> {
        let key = key(
            self.session,
            self.network,
            &self.data.hash(Set::Train),
            heads,
        );
        let kept = self.keep.stage(
            on,
            (Stage::Heads, "heads", &key),
            |kept: &Vec<TrainedHead>| described(kept, "over the frozen network"),
            |teller| {
                let specs: Vec<HeadSpec> = heads.iter().map(|(_, h)| spec(h)).collect();
                let samples = self.samples(Set::Train)?;
                let hyper = Hyper {
                    epochs,
                    batch: self.session.batch.train,
                    seed: self.session.seed,
                    ..Hyper::default()
                };
                let saved = self.folder.join("heads.checkpoint");
                let trained = train::train_heads(
                    &self.network.fused,
                    &specs,
                    &samples,
                    &hyper,
                    CACHE_BYTES,
                    Some(&saved),
                    self.cancel,
                    &mut |event| tell(teller, event),
                )?;
                let _ = std::fs::remove_file(saved);
                pack(heads, trained)
            },
        )?;
        Ok(Learnt {
            heads: unpack(&kept)?,
            network: None,
        })
    }

    /// Trains the network, and `heads` with it.
    pub fn together(&self, on: Listener, heads: &[(Part, Head)]) -> Result<Learnt, RunError> {
        let key = key(
            self.session,
            self.network,
            &self.data.hash(Set::Train),
            heads,
        );
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
            _ => told(on, Stage::Heads, outcome, |teller| {
                let (graph, trained) = self.train_together(teller, heads)?;
                let kept = (pack(heads, trained)?, to_onnx(&graph)?);
                self.keep.stages.store_bytes("backbone", &key, &kept.1)?;
                self.keep.stages.store("heads", &key, &kept.0)?;
                Ok(kept)
            })?,
        };
        let graph = import_bytes(&backbone, "backbone.onnx")?;
        Ok(Learnt {
            heads: unpack(&heads)?,
            network: Some(Network::of(graph, false)?),
        })
    }

    fn train_together(
        &self,
        teller: &mut Teller,
        heads: &[(Part, Head)],
    ) -> Result<(Graph, Vec<Graph>), RunError> {
        let (batch, seed) = (self.session.batch.train, self.session.seed);
        let hyper = |epochs| Hyper {
            epochs,
            batch,
            seed,
            flip: true,
            shift: 2,
            ..Hyper::default()
        };
        let samples = self.samples(Set::Train)?;
        let branches: Vec<Branch> = heads
            .iter()
            .map(|(_, head)| Branch {
                name: head.point.after.clone(),
                value: head.point.value.clone(),
                graph: &head.graph,
                weight: HEAD_WEIGHT,
            })
            .collect();
        let (alone, epochs) = match self.session.exits.training {
            Training::Mixed { backbone, epochs } => (backbone, epochs),
            Training::Joint { epochs } | Training::Frozen { epochs } => (0, epochs),
        };
        let mut graph = self.network.imported.clone();
        let first = self.folder.join("backbone.checkpoint");
        if alone > 0 {
            graph = train::train_joint(
                &graph,
                1.0,
                &[],
                &samples,
                &hyper(alone),
                Some(&first),
                self.cancel,
                &mut |event| tell(teller, event),
            )?
            .0;
        }
        let second = self.folder.join("joint.checkpoint");
        let trained = train::train_joint(
            &graph,
            1.0,
            &branches,
            &samples,
            &hyper(epochs),
            Some(&second),
            self.cancel,
            &mut |event| tell(teller, event),
        )?;
        for file in [first, second] {
            // Left behind it would only take space.
            let _ = std::fs::remove_file(file);
        }
        Ok(trained)
    }

    fn samples(&self, set: Set) -> Result<Images<'_>, RunError> {
        Ok(Images::new(self.data, set, &self.session.preprocessing)?)
    }
}

fn spec(head: &Head) -> HeadSpec<'_> {
    HeadSpec {
        name: head.point.after.clone(),
        value: head.point.value.clone(),
        graph: &head.graph,
    }
}

fn described(heads: &[TrainedHead], how: &str) -> String {
    let params: usize = heads.iter().map(|h| h.params).sum();
    let s = if heads.len() == 1 { "" } else { "s" };
    format!("{} exit{s} trained {how}, {params} parameters", heads.len())
}

fn pack(heads: &[(Part, Head)], trained: Vec<Graph>) -> Result<Vec<TrainedHead>, RunError> {
    let pairs = heads.iter().zip(trained);
    pairs
        .map(|((part, head), graph)| {
            let head = Head {
                graph,
                ..head.clone()
            };
            // Temperatures are fitted on the calibration table, which is made next.
            Ok(TrainedHead::pack(*part, &head, 1.0)?)
        })
        .collect()
}

fn unpack(heads: &[TrainedHead]) -> Result<Vec<(Part, Head)>, RunError> {
    heads.iter().map(|h| Ok((h.part, h.unpack()?))).collect()
}

/// What a training tells, told on.
pub(super) fn tell(teller: &mut Teller, event: train::Event) {
    match event {
        train::Event::Resumed { epoch } => teller.say(format!("goes on after epoch {epoch}")),
        train::Event::StaleCheckpoint => teller.say("a checkpoint of another training is replaced"),
        train::Event::Features { done, total } => teller.progress(done, total, "images through the network"),
        train::Event::NoCache { bytes, bound } => teller.say(format!(
            "the features take {} MB, more than the {} MB there are for them: the network runs again in every epoch",
            bytes >> 20,
            bound >> 20
        )),
        train::Event::Epoch {
            epoch,
            epochs,
            scores,
            ..
        } => {
            let last = scores.last();
            let note = last.map_or_else(String::new, |(name, loss, accuracy)| {
                format!("{name}: loss {loss:.3}, {:.1} % right", 100.0 * accuracy)
            });
            teller.progress(epoch, epochs, &note);
            let stage = teller.stage;
            teller.event(Event::Epoch {
                stage,
                epoch,
                epochs,
                scores,
            });
        }
    }
}
