/*! How exits are trained, as the session writes it. */

use serde::{Deserialize, Serialize};

/// What is trained, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Training {
    /// Heads over a frozen backbone and cached features.
    Frozen {
        /// Passes over the training images.
        #[serde(default = "frozen_epochs")]
        epochs: usize,
    },
    /// Backbone and heads together, by a weighted sum of the losses.
    Joint {
        /// Passes over the training images.
        #[serde(default = "joint_epochs")]
        epochs: usize,
    },
    /// The backbone first, then all.
    Mixed {
        /// Passes for the backbone alone.
        #[serde(default = "joint_epochs")]
        backbone: usize,
        /// Passes for all together.
        #[serde(default = "joint_epochs")]
        epochs: usize,
    },
}

impl Default for Training {
    fn default() -> Self {
        Training::Frozen {
            epochs: frozen_epochs(),
        }
    }
}

fn frozen_epochs() -> usize {
    20
}

fn joint_epochs() -> usize {
    10
}
