/*!
Training: heads on cached features, backbones, both together.

What may live here: the optimizers, the loops over epochs, the feature cache, checkpoints, and the
fit of temperatures. Graphs are run by the engine; this room decides what is learnt from what.
*/

pub mod calibrate;
mod checkpoint;
pub mod heads;
pub mod joint;
mod learner;
pub mod settings;
#[cfg(test)]
mod tests;

pub use calibrate::fit_temperature;
pub use checkpoint::learnt_so_far;
pub use heads::{HeadSpec, train_heads};
pub use joint::{Branch, train_joint};
pub use learner::{Hyper, Optimizer};
pub use settings::Training;

use crate::engine::EngineError;
use crate::model::graph::GraphError;
use std::path::PathBuf;

/// What can go wrong in training.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The engine can't run what is to be trained, or was stopped.
    #[error(transparent)]
    Engine(#[from] EngineError),
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
        /// Counted from 1.
        epoch: usize,
    },
    /// A checkpoint that can't be written or read.
    #[error("checkpoint {path}: {what}")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// Images (or any inputs) with labels, preprocessed as the network takes them.
pub trait Samples: Sync {
    /// How many.
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
        /// Epochs done.
        epoch: usize,
    },
    /// A checkpoint was there, but of another training; it is overwritten.
    StaleCheckpoint,
    /// Features are computed.
    Features {
        /// Samples done.
        done: usize,
        /// Of so many.
        total: usize,
    },
    /// The features exceed their bound: the backbone runs again in every epoch.
    NoCache {
        /// What the cache would take.
        bytes: usize,
        /// What it may take.
        bound: usize,
    },
    /// An epoch is over.
    Epoch {
        /// Counted from 1.
        epoch: usize,
        /// Of so many.
        epochs: usize,
        /// Its time.
        seconds: f64,
        /// Mean loss and accuracy over the epoch's training samples, by name.
        scores: Vec<(String, f64, f64)>,
    },
}
