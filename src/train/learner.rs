/*! One graph that learns: its loss and its optimizer; and the seeded order of samples. */

use super::TrainError;
use super::hyper::{Hyper, Optimizer};
use crate::engine::training::{Gradients, TrainableGraph};
use crate::model::{Graph, Op, ValueId};
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;

/// SplitMix64: all the randomness a shuffle needs, the same on every machine and for good.
#[derive(Debug, Clone)]
pub(super) struct Rng(pub u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// The order of `samples` in `epoch`.
pub(super) fn order(samples: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let mut rng = Rng(seed ^ (epoch as u64 + 1).wrapping_mul(0xa076_1d64_78bd_642f));
    let mut order: Vec<usize> = (0..samples).collect();
    for i in (1..samples).rev() {
        order.swap(i, rng.below(i + 1));
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

/// What a batch's logits come to.
pub(super) struct Loss {
    /// Mean over the batch.
    pub mean: f64,
    /// How many were right.
    pub right: usize,
    /// Of the mean, by the logits.
    pub gradient: Vec<f32>,
}

/// Cross-entropy with label smoothing, of logits `[samples, classes]`.
pub(super) fn cross_entropy(
    logits: &Tensor,
    labels: &[u16],
    smoothing: f64,
) -> Result<Loss, TrainError> {
    let logits = logits.flatten_all()?.to_vec1::<f32>()?;
    let classes = logits.len() / labels.len().max(1);
    let low = smoothing as f32 / classes as f32;
    let share = 1.0 / labels.len() as f32;
    let mut loss = Loss {
        mean: 0.0,
        right: 0,
        gradient: logits,
    };
    for (row, &label) in loss.gradient.chunks_exact_mut(classes.max(1)).zip(labels) {
        let label = usize::from(label);
        if label >= classes {
            return Err(TrainError::Request(format!(
                "a sample has label {label}, the network only {classes} classes"
            )));
        }
        let (mut top, mut best) = (f32::NEG_INFINITY, 0);
        for (i, &v) in row.iter().enumerate() {
            if v > top {
                (top, best) = (v, i);
            }
        }
        loss.right += usize::from(best == label);
        let total = row.iter().map(|v| (v - top).exp()).sum::<f32>();
        let log_total = total.ln() + top;
        for (i, v) in row.iter_mut().enumerate() {
            let hit = if i == label {
                1.0 - smoothing as f32
            } else {
                0.0
            };
            let target = low + hit;
            loss.mean += f64::from(target) * f64::from(log_total - *v);
            *v = share * ((*v - log_total).exp() - target);
        }
    }
    loss.mean /= labels.len() as f64;
    Ok(loss)
}

/// A graph, the value it is trained on, and the optimizer's memory.
pub(super) struct Learner {
    pub net: TrainableGraph,
    pub logits: ValueId,
    /// Two for each parameter, in their order.
    slots: Vec<[Vec<f32>; 2]>,
    steps: usize,
}

impl Learner {
    pub(super) fn new(graph: &Graph) -> Result<Learner, TrainError> {
        let net = TrainableGraph::new(graph)?;
        let slots = net.parameters();
        let zeros = |n: usize| [vec![0.0; n], vec![0.0; n]];
        let slots = slots.iter().map(|p| zeros(p.tensor.elem_count())).collect();
        Ok(Learner {
            net,
            logits: logits(graph)?,
            slots,
            steps: 0,
        })
    }

    /// Moves the parameters that have a gradient.
    pub(super) fn step(
        &mut self,
        grads: &Gradients,
        rate: f64,
        hyper: &Hyper,
    ) -> Result<(), TrainError> {
        self.steps += 1;
        let rate = rate as f32;
        let warm = |beta: f64| (1.0 - beta.powi(self.steps.min(1 << 20) as i32)) as f32;
        let (warm1, warm2) = (warm(0.9), warm(0.999));
        for (param, [m, v]) in self.net.parameters().iter().zip(&mut self.slots) {
            let Some(grad) = grads.get(param.id) else {
                continue;
            };
            let decay = match param.tensor.rank() > 1 {
                true => hyper.weight_decay as f32,
                false => 0.0,
            };
            param.change(|value| match hyper.optimizer {
                Optimizer::Sgd => {
                    for ((w, &g), m) in value.iter_mut().zip(grad).zip(&mut *m) {
                        *m = 0.9 * *m + g + decay * *w;
                        *w -= rate * *m;
                    }
                }
                Optimizer::AdamW => {
                    for (((w, &g), m), v) in value.iter_mut().zip(grad).zip(&mut *m).zip(&mut *v) {
                        *m = 0.9 * *m + 0.1 * g;
                        *v = 0.999 * *v + 0.001 * g * g;
                        let move_by = *m / warm1 / ((*v / warm2).sqrt() + 1e-8);
                        *w -= rate * (move_by + decay * *w);
                    }
                }
            })?;
        }
        Ok(())
    }

    /// Everything a resumed training needs, under `prefix`.
    pub(super) fn save(
        &self,
        prefix: &str,
        to: &mut BTreeMap<String, Tensor>,
    ) -> Result<(), TrainError> {
        for (name, tensor) in self.net.state()? {
            to.insert(format!("{prefix}/state/{name}"), tensor);
        }
        for (param, slots) in self.net.parameters().iter().zip(&self.slots) {
            for (i, slot) in slots.iter().enumerate() {
                let slot = Tensor::from_slice(slot, slot.len(), &Device::Cpu)?;
                to.insert(format!("{prefix}/slot{i}/{}", param.name), slot);
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
        let start = format!("{prefix}/state/");
        let state = from.iter();
        let state =
            state.filter_map(|(k, t)| Some((k.strip_prefix(&start)?.to_string(), t.clone())));
        self.net.restore(&state.collect())?;
        for (param, slots) in self.net.parameters().iter().zip(&mut self.slots) {
            for (i, slot) in slots.iter_mut().enumerate() {
                if let Some(kept) = from.get(&format!("{prefix}/slot{i}/{}", param.name)) {
                    *slot = kept.to_vec1::<f32>()?;
                }
            }
        }
        if let Some(steps) = from.get(&format!("{prefix}/steps")) {
            self.steps = steps.to_vec1::<i64>()?.first().map_or(0, |&s| s as usize);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_and_its_gradient_agree() {
        let logits = [0.3f32, -1.2, 0.8, 2.0, 0.1, -0.4];
        let at = |v: &[f32]| {
            let v = Tensor::from_slice(v, (2, 3), &Device::Cpu).unwrap();
            cross_entropy(&v, &[2, 1], 0.1).unwrap()
        };
        let found = at(&logits);
        assert_eq!(found.right, 1);
        // -log softmax of the label's logit weighs 0.9 + 0.1 / 3, the others' 0.1 / 3.
        let plain = |row: [f64; 3], label: usize| -> f64 {
            let total: f64 = row.iter().map(|v| v.exp()).sum();
            let terms = row.iter().enumerate().map(|(i, v)| {
                let weight = 0.1 / 3.0 + if i == label { 0.9 } else { 0.0 };
                weight * (total.ln() - v)
            });
            terms.sum()
        };
        let mean = (plain([0.3, -1.2, 0.8], 2) + plain([2.0, 0.1, -0.4], 1)) / 2.0;
        assert!((found.mean - mean).abs() < 1e-6);
        for i in 0..6 {
            let mut moved = logits;
            moved[i] += 1e-2;
            let up = at(&moved).mean;
            moved[i] -= 2e-2;
            let slope = (up - at(&moved).mean) / 2e-2;
            assert!((slope - f64::from(found.gradient[i])).abs() < 1e-4);
        }
    }
}
