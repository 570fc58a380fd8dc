/*! One graph that learns: its loss, its optimizer, its schedule; and the seeded order of samples. */

use super::TrainError;
use crate::engine::training::TrainableGraph;
use crate::model::{Graph, Op, ValueId};
use candle_core::{Device, Tensor, backprop::GradStore};
use std::collections::BTreeMap;

/// How parameters follow their gradients.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Optimizer {
    /// Gradient descent with momentum 0.9; weight decay is added to the gradient.
    Sgd,
    /// AdamW (0.9, 0.999); weight decay acts on the parameter.
    AdamW,
}

/// The settings of a training.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hyper {
    /// Passes over the samples.
    pub epochs: usize,
    /// Samples a step.
    pub batch: usize,
    /// At the start; it falls to 0 along a cosine.
    pub learning_rate: f64,
    /// Pull towards zero, on weights (not on biases and norms).
    pub weight_decay: f64,
    /// Share of the target spread over all classes.
    pub label_smoothing: f64,
    /// The rule.
    pub optimizer: Optimizer,
    /// Of the order of samples and the augmentation.
    pub seed: u64,
    /// Mirror images left to right, at random (backbones only).
    pub flip: bool,
    /// Move images by up to so many pixels, edges repeated (backbones only).
    pub shift: usize,
}

impl Default for Hyper {
    fn default() -> Self {
        Hyper {
            epochs: 20,
            batch: 256,
            learning_rate: 2e-3,
            weight_decay: 1e-4,
            label_smoothing: 0.0,
            optimizer: Optimizer::AdamW,
            seed: 0,
            flip: false,
            shift: 0,
        }
    }
}

impl Hyper {
    /// Refuses what can't be trained with.
    pub(super) fn check(&self, samples: usize) -> Result<(), TrainError> {
        if self.batch == 0 || samples == 0 || !self.learning_rate.is_finite() {
            return Err(TrainError::Request(format!(
                "training needs samples, a batch and a learning rate; given {samples}, {}, {}",
                self.batch, self.learning_rate
            )));
        }
        Ok(())
    }

    /// The learning rate at step `step` of `steps`.
    pub(super) fn rate(&self, step: usize, steps: usize) -> f64 {
        let share = step as f64 / steps.max(1) as f64;
        self.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * share).cos())
    }
}

/// SplitMix64: all the randomness a shuffle needs, the same on every machine and for good.
#[derive(Debug, Clone)]
pub(super) struct Random(pub u64);

impl Random {
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }
}

/// The order of `samples` in `epoch`.
pub(super) fn order(samples: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let mut random = Random(seed ^ (epoch as u64 + 1).wrapping_mul(0xa076_1d64_78bd_642f));
    let mut order: Vec<usize> = (0..samples).collect();
    for i in (1..samples).rev() {
        order.swap(i, random.below(i + 1));
    }
    order
}

/// The value to train: the graph's first output, before a softmax it may end in.
pub(super) fn logits(graph: &Graph) -> Result<ValueId, TrainError> {
    let missing = || TrainError::Request(format!("`{}` has no output to train", graph.name));
    let out = *graph.outputs.first().ok_or_else(missing)?;
    let producer = graph.nodes.iter().find(|n| n.outputs.contains(&out));
    Ok(match producer {
        Some(node) if matches!(node.op, Op::Softmax { .. }) => node.inputs[0],
        _ => out,
    })
}

/// Cross-entropy with label smoothing, its mean over the batch, and how many were right.
pub(super) fn cross_entropy(
    logits: &Tensor,
    labels: &[u16],
    smoothing: f64,
) -> Result<(Tensor, usize), TrainError> {
    let logits = logits.reshape((labels.len(), ()))?;
    let classes = logits.dim(1)?;
    let mut target = vec![(smoothing / classes as f64) as f32; labels.len() * classes];
    for (row, &label) in target.chunks_exact_mut(classes).zip(labels) {
        let Some(at) = row.get_mut(usize::from(label)) else {
            return Err(TrainError::Request(format!(
                "a sample has label {label}, the network only {classes} classes"
            )));
        };
        *at += 1.0 - smoothing as f32;
    }
    let right = logits.detach().argmax(1)?.to_vec1::<u32>()?;
    let right = right
        .iter()
        .zip(labels)
        .filter(|(a, b)| **a == u32::from(**b))
        .count();
    let target = Tensor::from_vec(target, (labels.len(), classes), &Device::Cpu)?;
    let log = candle_nn::ops::log_softmax(&logits, 1)?;
    let loss = ((log * target)?.sum_all()? * (-1.0 / labels.len() as f64))?;
    Ok((loss, right))
}

/// A graph, the value it is trained on, and the optimizer's memory.
pub(super) struct Learner {
    pub net: TrainableGraph,
    pub logits: ValueId,
    slots: BTreeMap<String, [Vec<f32>; 2]>,
    steps: usize,
}

impl Learner {
    pub(super) fn new(graph: &Graph) -> Result<Learner, TrainError> {
        Ok(Learner {
            net: TrainableGraph::new(graph)?,
            logits: logits(graph)?,
            slots: BTreeMap::new(),
            steps: 0,
        })
    }

    /// Moves the parameters that have a gradient.
    pub(super) fn step(
        &mut self,
        grads: &GradStore,
        rate: f64,
        hyper: &Hyper,
    ) -> Result<(), TrainError> {
        self.steps += 1;
        let (rate, decay) = (rate as f32, hyper.weight_decay as f32);
        let warm = |beta: f64| (1.0 - beta.powi(self.steps.min(1 << 20) as i32)) as f32;
        let (warm1, warm2) = (warm(0.9), warm(0.999));
        for (name, var) in self.net.vars() {
            let Some(grad) = grads.get(var) else { continue };
            let grad = grad.flatten_all()?.to_vec1::<f32>()?;
            let mut value = var.flatten_all()?.to_vec1::<f32>()?;
            let decay = if var.rank() > 1 { decay } else { 0.0 };
            let fresh = || [vec![0.0; grad.len()], vec![0.0; grad.len()]];
            let [m, v] = self.slots.entry(name.to_string()).or_insert_with(fresh);
            for (((w, &g), m), v) in value.iter_mut().zip(&grad).zip(m).zip(v) {
                match hyper.optimizer {
                    Optimizer::Sgd => {
                        *m = 0.9 * *m + g + decay * *w;
                        *w -= rate * *m;
                    }
                    Optimizer::AdamW => {
                        *m = 0.9 * *m + 0.1 * g;
                        *v = 0.999 * *v + 0.001 * g * g;
                        let move_by = *m / warm1 / ((*v / warm2).sqrt() + 1e-8);
                        *w -= rate * (move_by + decay * *w);
                    }
                }
            }
            var.set(&Tensor::from_vec(value, var.shape(), &Device::Cpu)?)?;
        }
        Ok(())
    }

    /// Everything a resumed training needs, under `prefix`.
    pub(super) fn save(
        &self,
        prefix: &str,
        to: &mut BTreeMap<String, Tensor>,
    ) -> Result<(), TrainError> {
        for (name, tensor) in self.net.state() {
            to.insert(format!("{prefix}/state/{name}"), tensor);
        }
        for (name, slots) in &self.slots {
            for (i, slot) in slots.iter().enumerate() {
                let slot = Tensor::from_slice(slot, slot.len(), &Device::Cpu)?;
                to.insert(format!("{prefix}/slot{i}/{name}"), slot);
            }
        }
        let steps = Tensor::new(&[self.steps as i64], &Device::Cpu)?;
        to.insert(format!("{prefix}/steps"), steps);
        Ok(())
    }

    /// Takes back what [`Learner::save`] gave.
    pub(super) fn load(
        &mut self,
        prefix: &str,
        from: &BTreeMap<String, Tensor>,
    ) -> Result<(), TrainError> {
        let part = |kind: &str| -> BTreeMap<String, Tensor> {
            let start = format!("{prefix}/{kind}/");
            let hits = from.iter();
            hits.filter_map(|(k, t)| Some((k.strip_prefix(&start)?.to_string(), t.clone())))
                .collect()
        };
        self.net.restore(&part("state"))?;
        let seconds = part("slot1");
        for (name, first) in part("slot0") {
            let first = first.to_vec1::<f32>()?;
            let second = match seconds.get(&name) {
                Some(t) => t.to_vec1::<f32>()?,
                None => vec![0.0; first.len()],
            };
            self.slots.insert(name, [first, second]);
        }
        if let Some(steps) = from.get(&format!("{prefix}/steps")) {
            self.steps = steps.to_vec1::<i64>()?.first().map_or(0, |&s| s as usize);
        }
        Ok(())
    }
}
