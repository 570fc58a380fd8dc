/*! One head that learns from features, and is judged by others. */

use super::HeadSpec;
use crate::autograd::Run;
use crate::model::ValueId;
use crate::train::learner::{Learner, generator};
use crate::train::loss::{LossTarget, loss};
use crate::train::standard::Standard;
use crate::train::{Task, TrainError};
use candle_core::{Device, Tensor};
use rand::Rng;

/// One head, and how far it is in the epoch.
pub(super) struct HeadTrainer<'a> {
    pub spec: &'a HeadSpec<'a>,
    pub learner: Learner,
    pub dropout: Vec<(ValueId, f32)>,
    /// The output of the backbone it learns from, and its extents for one sample.
    pub feed: usize,
    pub shape: Vec<usize>,
    pub standard: Option<Standard>,
    /// Sum of losses, and hits, of the epoch.
    pub score: (f64, usize),
    /// Sum of the losses and right answers on the images that judge, in the last epoch.
    pub judged: (f64, usize),
    /// Whether it has stopped early.
    pub over: bool,
}

/// Which samples a step is about.
pub(super) struct Batch<'a> {
    pub indices: &'a [usize],
    pub epoch: usize,
    pub step: usize,
    pub steps: usize,
}

impl HeadTrainer<'_> {
    /// Features as the head's graph takes them.
    fn input(&self, mut rows: Vec<f32>, samples: usize) -> Result<Tensor, TrainError> {
        let mut shape = self.shape.clone();
        if let Some(first) = shape.first_mut() {
            *first *= samples;
        }
        if let Some(standard) = &self.standard {
            rows = standard.apply(rows)?;
        }
        Ok(Tensor::from_vec(rows, shape, &Device::Cpu)?)
    }

    /// A step on a batch, whose features and, for those that are taught, final logits are given.
    pub(super) fn learn(
        &mut self,
        task: &Task<'_>,
        batch: &Batch<'_>,
        rows: Vec<f32>,
        teacher: Option<&[f32]>,
    ) -> Result<(), TrainError> {
        let labels: Vec<u16> = batch.indices.iter().map(|&i| task.data.label(i)).collect();
        let x = self.input(rows, labels.len())?;
        let learner = &mut self.learner;
        let run = Run {
            dropout: &self.dropout,
            seed: generator(task.hyper.seed ^ (batch.step as u64) << 16).next_u64(),
            ..Run::new(task.cancel)
        };
        let (y, tape) = learner.net.record(&[x], &[learner.logits], &run)?;
        let loss = loss(&y[0], &self.spec.target(task.hyper, &labels, teacher))?;
        if !loss.mean.is_finite() {
            return Err(TrainError::Diverged {
                name: self.spec.name.clone(),
                epoch: batch.epoch + 1,
            });
        }
        self.score.0 += loss.mean * labels.len() as f64;
        self.score.1 += loss.right;
        let grads = tape.backward(vec![(learner.logits, loss.gradient)], task.cancel)?;
        let height = task.hyper.height(batch.step, batch.steps);
        let rate = match self.spec.recipe.learning_rate {
            None if self.standard.is_some() => task.hyper.hurried(batch.steps) * height,
            _ => self.spec.rate(task.hyper, height),
        };
        learner.step(&grads, rate, self.spec.rule(task.hyper))
    }

    /// Adds the loss and the right answers on a batch it doesn't learn from, by the labels alone.
    pub(super) fn judge(&mut self, rows: Vec<f32>, labels: &[u16]) -> Result<(), TrainError> {
        let x = self.input(rows, labels.len())?;
        let y = self.learner.net.forward(&[x], &[self.learner.logits])?;
        let target = LossTarget {
            labels,
            smoothing: 0.0,
            teacher: None,
        };
        let loss = loss(&y[0], &target)?;
        self.judged.0 += loss.mean * labels.len() as f64;
        self.judged.1 += loss.right;
        Ok(())
    }
}
