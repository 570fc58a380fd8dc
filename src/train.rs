/*!
Training: heads on cached features, backbones, both together.

What may live here: the optimizers, the loops over epochs, the feature cache, checkpoints, the fit of
temperatures, and the raw scores the confidence tables are made of. Graphs are run by the engine; this
room decides what is learnt from what.

| session's `training` | function        | settings                                    |
|----------------------|-----------------|---------------------------------------------|
| `Frozen`             | [`train_heads`] | [`TrainingConfig::for_heads`]                        |
| `Joint`              | [`train_joint`] | [`TrainingConfig::for_joint`]                        |
| `Mixed`              | [`train_mixed`] | [`TrainingConfig::for_backbone`], then `for_joint`   |

What a session sets of these for its heads, all or one, is a [`Recipe`].
*/

mod cache;
pub mod calibrate;
mod checkpoint;
mod config;
mod feature_store;
mod graft;
pub mod heads;
pub mod joint;
mod learner;
mod loss;
mod scores;
pub mod settings;
mod standard;
#[cfg(test)]
mod tests;

pub use cache::{CacheLimits, FEATURE_BATCH};
pub use calibrate::fit_temperature;
pub use checkpoint::learnt_so_far;
pub use config::{Optimizer, TrainingConfig};
pub use heads::{HeadSpec, train_heads};
pub use joint::{Branch, mixed_checkpoints, train_joint, train_mixed};
pub use scores::{ScoreOptions, forward_scores, forward_scores_with};
pub use settings::{Distill, HeadRecipe, Recipe, Training, recipe};

use crate::engine::{Cancel, EngineError};
use crate::model::graph::{Graph, GraphError};
use crate::units;
use std::path::{Path, PathBuf};

/// What can go wrong in training.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The engine can't run what is to be trained, or was stopped.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An engine that isn't there.
    #[error(transparent)]
    Backend(#[from] crate::backend::BackendError),
    /// A head or branch that doesn't fit its network.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Settings or data that can't be trained with.
    #[error("{0}")]
    Request(String),
    /// A computation candle refused.
    #[error("training: {0}")]
    Tensor(#[from] candle_core::Error),
    /// The loss is no number any more.
    #[error("the loss of `{name}` is not a number in epoch {epoch}; lower the learning rate")]
    Diverged {
        /// The head or network.
        name: String,
        /// Epoch in which it happened, counted from 1.
        epoch: usize,
    },
    /// A feature cache that can't be written or read.
    #[error("the feature cache in {}: {source}; free disk there, or lower its bound", path.display())]
    Cache {
        /// Folder of the checkpoints.
        path: PathBuf,
        /// Reason that the operating system gives.
        source: std::io::Error,
    },
    /// A checkpoint that can't be written or read.
    #[error("checkpoint {path}: {what}")]
    Checkpoint {
        /// Path of the checkpoint.
        path: PathBuf,
        /// What the checkpoint holds, and what it should.
        what: String,
    },
}

/// What a training learns from, how, and where it goes on after a kill.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    /// What is learnt from.
    pub data: &'a dyn Samples,
    /// Epochs, batch, optimizer and the other settings.
    pub hyper: &'a TrainingConfig,
    /// Images nothing learns from: accuracy on them is told after each epoch, and with patience early
    /// stopping judges by them.
    pub judge: Option<&'a dyn Samples>,
    /// The checkpoint, written after each epoch; the caller's to remove when all is done.
    pub saved: Option<&'a Path>,
    /// Looked at between layers, forward and backward.
    pub cancel: &'a Cancel,
}

impl<'a> Task<'a> {
    /// One that goes through all its epochs and keeps no checkpoint.
    pub fn new(data: &'a dyn Samples, hyper: &'a TrainingConfig, cancel: &'a Cancel) -> Task<'a> {
        Task {
            data,
            hyper,
            judge: None,
            saved: None,
            cancel,
        }
    }

    /// What its checkpoint must be of.
    fn fingerprint(&self, backbone: &Graph, heads: &[HeadSpec<'_>], more: &str) -> Vec<u8> {
        let mut graphs = vec![backbone];
        graphs.extend(heads.iter().map(|h| h.graph));
        let own: Vec<_> = heads
            .iter()
            .map(|h| (&h.value, h.dropout, h.recipe))
            .collect();
        // Without patience the images that judge change nothing in what is learnt.
        let stops = self.stops_early().then(|| self.judge()).flatten();
        let judge = stops.map(|j| (j.len(), j.identity()));
        let more = format!("{more} {own:?} {judge:?}");
        checkpoint::fingerprint(self.hyper, self.data, &graphs, &more)
    }
}

impl<'a> Task<'a> {
    /// The images that judge, if there are any.
    fn judge(&self) -> Option<&'a dyn Samples> {
        self.judge.filter(|j| !j.is_empty())
    }

    /// Whether it may end before its last epoch.
    fn stops_early(&self) -> bool {
        self.judge().is_some() && self.hyper.patience.is_some()
    }

    /// Whether something judged that often since its best is to stop.
    fn is_over(&self, waited: usize) -> bool {
        self.judge().is_some() && self.hyper.patience.is_some_and(|p| waited >= p)
    }
}

/// Images (or any inputs) with labels, preprocessed as the network takes them.
pub trait Samples: Sync {
    /// Number of samples.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The class of sample `index`.
    fn label(&self, index: usize) -> u16;
    /// Writes sample `index`, in the network's own axis order.
    fn input(&self, index: usize, out: &mut [f32]);
    /// What tells these samples from others, such as a hash of all of them: a checkpoint is of a
    /// training on these only. Their count alone if empty.
    fn identity(&self) -> String {
        String::new()
    }
}

/// What a training tells while it runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Epochs up to this one were found in a checkpoint.
    Resumed {
        /// Epochs that the checkpoint holds.
        epoch: usize,
    },
    /// A checkpoint was there, but of another training; it is overwritten.
    StaleCheckpoint,
    /// The backbone's features are computed for the cache.
    Features {
        /// Samples whose features are there.
        done: usize,
        /// Samples in all.
        total: usize,
    },
    /// Features of an earlier training serve this one too.
    KeptFeatures {
        /// Of so many places in the network.
        places: usize,
    },
    /// Features could not be kept for the next training, which will compute them again.
    UnkeptFeatures {
        /// Reason that features are computed anew in each epoch.
        why: String,
    },
    /// One stopped early, and is as it was at its best.
    Stopped {
        /// The head, or the network with all of its heads.
        name: String,
        /// The last epoch it learnt in, counted from 1.
        epoch: usize,
        /// The one after which it was at its best.
        best: usize,
    },
    /// The features exceed their bound: the backbone runs again in every epoch.
    NoCache {
        /// What the cache would take.
        bytes: u64,
        /// What it may take.
        bound: u64,
        /// Time of the backbone in an epoch, as far as a few samples tell.
        seconds: f64,
    },
    /// A phase of [`train_mixed`] begins.
    Phase {
        /// What is trained: `backbone`, or `together` with its heads.
        name: &'static str,
        /// Epochs that are planned for it.
        epochs: usize,
    },
    /// An epoch is over.
    Epoch {
        /// Epoch in which it happened, counted from 1.
        epoch: usize,
        /// Epochs in all.
        epochs: usize,
        /// Seconds that the epoch took.
        seconds: f64,
        /// Mean loss and accuracy over the epoch's training samples, by name.
        scores: Vec<(String, f64, f64)>,
        /// Accuracy (0 to 1) on images nothing learns from, in the order of `scores`; none for what
        /// wasn't judged.
        validation: Vec<Option<f64>>,
    },
}

impl Event {
    /// What is worth a line in a log, in words; absent for how far the training is.
    pub fn remark(&self) -> Option<String> {
        let text = match self {
            Event::Features { .. } | Event::Epoch { .. } => return None,
            Event::Resumed { epoch } => format!("goes on after epoch {epoch}"),
            Event::StaleCheckpoint => {
                "a checkpoint of another training is replaced; it begins anew".to_owned()
            }
            Event::KeptFeatures { places } => {
                let s = if *places == 1 { "" } else { "s" };
                format!("features of {places} place{s} in the network are there from before")
            }
            Event::UnkeptFeatures { why } => {
                format!("the features can't be kept ({why}): the next training computes them again")
            }
            Event::Stopped { name, epoch, best } => format!(
                "{name}: stopped after epoch {epoch}, as it was best after epoch {best} on calibration \
                 images"
            ),
            Event::NoCache {
                bytes,
                bound,
                seconds,
            } => format!(
                "the features take {}, more than the {} there are for them: the network runs again in every \
                 epoch, {seconds:.0} s each",
                units::bytes(*bytes as f64),
                units::bytes(*bound as f64)
            ),
            Event::Phase { name, epochs } => match *name {
                "backbone" => format!("the network alone, {epochs} epochs"),
                _ => format!("network and exits together, {epochs} epochs"),
            },
        };
        Some(text)
    }
}
