/*! The training stages: exit classifiers over the frozen network, or network and exits together. */

use super::keep::{Keep, Listener, Teller, finished, told};
use super::samples::Images;
use super::targets::{Away, Fleet};
use super::{Event, Network, RunError, Stage};
use crate::data::{Layout, LoadedData, Set, Source};
use crate::engine::Cancel;
use crate::exits::{Head, Part};
use crate::model::Graph;
use crate::model::export::to_onnx;
use crate::model::onnx::import_bytes;
use crate::session::Session;
use crate::session::results::TrainedHead;
use crate::session::stages::Inputs;
use crate::train::{self, Branch, CacheLimits, HeadSpec, Hyper, Task, Training};
use std::path::Path;

/// Memory for cached features.
const CACHE_BYTES: u64 = 1 << 30;
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
        fleet: &mut Fleet,
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
                let hyper = Hyper::for_heads(epochs, self.session.batch.train, self.session.seed);
                if let Some(side) = self.session.train_on.side() {
                    let away = Away {
                        session: self.session,
                        network: self.network,
                        data: self.data,
                        heads,
                        hyper,
                    };
                    return pack(heads, fleet.train(teller, side, &away)?);
                }
                let specs: Vec<HeadSpec> = heads.iter().map(|(_, h)| h.into()).collect();
                let samples = self.samples(Set::Train)?;
                let saved = self.folder.join("heads.checkpoint");
                let task = Task {
                    data: &samples,
                    hyper: &hyper,
                    saved: Some(&saved),
                    cancel: self.cancel,
                };
                let limits = CacheLimits {
                    memory_bytes: CACHE_BYTES,
                    folder: Some(self.folder.to_owned()),
                };
                let trained = train::train_heads(
                    &self.network.fused,
                    &specs,
                    &task,
                    &limits,
                    &mut |event| {
                        tell(teller, event);
                    },
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
        let samples = self.samples(Set::Train)?;
        let branches: Vec<Branch> = heads
            .iter()
            .map(|(_, head)| Branch {
                head: head.into(),
                weight: HEAD_WEIGHT,
            })
            .collect();
        // A network that learnt before is tuned, at a tenth of the rate.
        let hyper = |epochs, fresh: bool| {
            let hyper = match fresh {
                true => Hyper::for_backbone(epochs, batch, seed),
                false => Hyper::for_joint(epochs, batch, seed),
            };
            self.augmented(hyper)
        };
        let network = &self.network.imported;
        let fresh = self.network.untrained;
        let saved = self.folder.join("network.checkpoint");
        let task = |hyper| Task {
            data: &samples,
            hyper,
            saved: Some(&saved),
            cancel: self.cancel,
        };
        let mut progress = |event| tell(teller, event);
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
    fn augmented(&self, hyper: Hyper) -> Hyper {
        let planes = self.session.preprocessing.layout == Layout::Nchw;
        let characters = matches!(self.session.data, Source::Idx(_));
        Hyper {
            flip: hyper.flip && planes && !characters,
            shift: if planes { hyper.shift } else { 0 },
            ..hyper
        }
    }

    fn samples(&self, set: Set) -> Result<Images<'_>, RunError> {
        Ok(Images::new(self.data, set, &self.session.preprocessing)?)
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
        train::Event::NoCache {
            bytes,
            bound,
            seconds,
        } => teller.say(format!(
            "the features take {} MB, more than the {} MB there are for them: the network runs again \
             in every epoch, {seconds:.0} s each",
            bytes >> 20,
            bound >> 20
        )),
        train::Event::Phase { name, epochs } => {
            teller.say(match name {
                "backbone" => format!("the network alone, {epochs} epochs"),
                _ => format!("network and exits together, {epochs} epochs"),
            });
        }
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
