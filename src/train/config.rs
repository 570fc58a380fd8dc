/*! The settings of a training, values that work well, and the schedule of the learning rate. */

use super::TrainError;
use serde::{Deserialize, Serialize};

/// How far weights on standardised features move until they are right, amply: with 1,000 to 50,000
/// samples, linear heads of resnet20 that were given less ended up to 10 points short.
const TRAVEL: f64 = 15.0;

/// How parameters follow their gradients.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Optimizer {
    /// Gradient descent with momentum 0.9; weight decay is added to the gradient.
    Sgd,
    /// AdamW (0.9, 0.999); weight decay acts on the parameter.
    AdamW,
}

/// The settings of a training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingConfig {
    /// Passes over the samples.
    pub epochs: usize,
    /// Samples per step.
    pub batch: usize,
    /// At its height; it falls to 0 along a cosine.
    pub learning_rate: f64,
    /// Share of the steps over which the learning rate first rises from 0, in a line.
    pub warmup: f64,
    /// Pull towards zero, on weights (not on biases and norms).
    pub weight_decay: f64,
    /// Share of the target spread over all classes.
    pub label_smoothing: f64,
    /// Optimizer: how parameters follow their gradients.
    pub optimizer: Optimizer,
    /// Of the order of samples, the augmentation and the dropout.
    pub seed: u64,
    /// Mirror images left to right, at random (backbones only). Not for digits and letters.
    pub flip: bool,
    /// Move images by up to so many pixels, edges repeated (backbones only).
    pub shift: usize,
    /// Stop after so many epochs without a lower loss on the images that judge
    /// (`Task::judge`), and keep what was best; all epochs if absent.
    pub patience: Option<usize>,
}

impl Default for TrainingConfig {
    /// Gives the settings that heads learn by where a session says nothing.
    fn default() -> Self {
        TrainingConfig {
            epochs: 20,
            batch: 256,
            learning_rate: 5e-3,
            warmup: 0.0,
            weight_decay: 1e-4,
            label_smoothing: 0.0,
            optimizer: Optimizer::AdamW,
            seed: 0,
            flip: false,
            shift: 0,
            patience: None,
        }
    }
}

impl TrainingConfig {
    /// For heads over a frozen backbone: AdamW at 5e-3. A head is a small convex or nearly convex
    /// problem on fixed features, whitened where it starts with a linear layer, so that a few
    /// thousand steps of this length reach its optimum; where there are fewer steps, such a head
    /// takes longer ones, up to four times (`TrainingConfig::hurried`). No label smoothing: it would
    /// distort the confidences exits go by.
    pub fn for_heads(epochs: usize, batch: usize, seed: u64) -> TrainingConfig {
        TrainingConfig {
            epochs,
            batch,
            seed,
            ..TrainingConfig::default()
        }
    }

    /// For a backbone from scratch, with batch norms, on natural images: SGD at 0.1 for 128 samples
    /// a step (He et al. 2016, section 4.2) and in proportion for others (Goyal et al. 2017), where
    /// the proportion ends at 0.4; warm-up over a twentieth of the steps, because a fresh network
    /// bears no such rate; weight decay 5e-4; mirrored and moved by up to 4 pixels.
    pub fn for_backbone(epochs: usize, batch: usize, seed: u64) -> TrainingConfig {
        TrainingConfig {
            learning_rate: (0.1 * batch as f64 / 128.0).min(0.4),
            warmup: 0.05,
            weight_decay: 5e-4,
            optimizer: Optimizer::Sgd,
            flip: true,
            shift: 4,
            ..TrainingConfig::for_heads(epochs, batch, seed)
        }
    }

    /// For a trained backbone and its heads together, and for fine-tuning: like
    /// [`TrainingConfig::for_backbone`] at a tenth of its rate, which a fused network without batch norms
    /// bears too. Heads that start untrained catch up, the backbone isn't thrown off its place.
    pub fn for_joint(epochs: usize, batch: usize, seed: u64) -> TrainingConfig {
        let scratch = TrainingConfig::for_backbone(epochs, batch, seed);
        TrainingConfig {
            learning_rate: scratch.learning_rate / 10.0,
            ..scratch
        }
    }

    /// Refuses what can't be trained with.
    pub(super) fn check(&self, samples: usize) -> Result<(), TrainError> {
        let sound = self.learning_rate.is_finite() && (0.0..=1.0).contains(&self.warmup);
        if self.batch == 0 || samples == 0 || !sound {
            return Err(TrainError::Request(format!(
                "training needs samples, a batch, a learning rate and a warm-up between 0 and 1; \
                 given {samples}, {}, {} and {}",
                self.batch, self.learning_rate, self.warmup
            )));
        }
        Ok(())
    }

    /// The learning rate of a head on standardised features, at its height. AdamW moves a parameter
    /// by about the rate a step, and the optimum is some [`TRAVEL`] away.
    pub(super) fn hurried(&self, steps: usize) -> f64 {
        let needed = 2.0 * TRAVEL / steps.max(1) as f64;
        match self.optimizer {
            Optimizer::AdamW => needed.clamp(self.learning_rate, 4.0 * self.learning_rate),
            Optimizer::Sgd => self.learning_rate,
        }
    }

    /// The share of its height that the learning rate has at step `step` of `steps`.
    pub(super) fn height(&self, step: usize, steps: usize) -> f64 {
        let rise = self.warmup * steps as f64;
        let step = step as f64;
        if step < rise {
            return (step + 1.0) / (rise + 1.0);
        }
        let share = (step - rise) / (steps as f64 - rise).max(1.0);
        0.5 * (1.0 + (std::f64::consts::PI * share).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_steps_are_longer_within_bounds() {
        let hyper = TrainingConfig::for_heads(15, 128, 0);
        let rates = [100, 3000, 5860, 100_000].map(|steps| hyper.hurried(steps));
        assert_eq!((rates[0], rates[1], rates[3]), (0.02, 0.01, 0.005));
        assert!((rates[2] - 0.00512).abs() < 1e-4);
    }

    #[test]
    fn the_rate_rises_then_falls() {
        let hyper = TrainingConfig {
            warmup: 0.1,
            ..TrainingConfig::default()
        };
        let rates: Vec<f64> = (0..100).map(|s| hyper.height(s, 100)).collect();
        let top = rates.iter().position(|&r| r == 1.0).unwrap();
        assert_eq!(top, 10);
        assert!(rates[..=top].is_sorted());
        assert!(rates[top..].iter().rev().is_sorted());
        assert!(rates[0] > 0.0 && rates[99] < 1e-3);
    }
}
