/*!
Backbones: from scratch or fine-tuned, alone or with heads on their cuts by a weighted sum of the
losses.
*/

use super::learner::{Hyper, Learner, Random, cross_entropy, order};
use super::{Event, Samples, TrainError, checkpoint};
use crate::engine::training::Run;
use crate::engine::{Cancel, EngineError};
use crate::model::{Graph, ValueId};
use candle_core::{Device, Tensor};
use std::path::Path;
use std::time::Instant;

/// A head trained together with the backbone.
#[derive(Debug, Clone)]
pub struct Branch<'a> {
    /// For the reports.
    pub name: String,
    /// Name of the backbone's value the head reads.
    pub value: String,
    /// One input, one output `[N, classes]`.
    pub graph: &'a Graph,
    /// Factor of its loss.
    pub weight: f64,
}

/// Trains `backbone` (as imported, with its batch norms, or fused) and `branches` on its cuts;
/// the backbone's own loss counts `weight`. Without branches it is plain training. After each epoch
/// the state goes to `saved`, where the same training resumes after a kill, to the same result on
/// as many threads. Returns the trained backbone and heads, in order.
#[allow(clippy::too_many_arguments)] // Each is a thing of its own; a struct would only rename them.
pub fn train_joint(
    backbone: &Graph,
    weight: f64,
    branches: &[Branch<'_>],
    data: &dyn Samples,
    hyper: &Hyper,
    saved: Option<&Path>,
    cancel: &Cancel,
    progress: &mut dyn FnMut(Event),
) -> Result<(Graph, Vec<Graph>), TrainError> {
    hyper.check(data.len())?;
    let sample = sample_shape(backbone)?;
    let mut wanted: Vec<ValueId> = Vec::new();
    let mut learners = vec![Learner::new(backbone)?];
    wanted.push(learners[0].logits);
    for branch in branches {
        wanted.push(backbone.find(&branch.value)?);
        learners.push(Learner::new(branch.graph)?);
    }
    let weights: Vec<f64> = std::iter::once(weight)
        .chain(branches.iter().map(|b| b.weight))
        .collect();
    let mut graphs = vec![backbone];
    graphs.extend(branches.iter().map(|b| b.graph));
    let print = checkpoint::fingerprint(hyper, data, &graphs, &format!("{weights:?}"));
    let first = match saved {
        Some(path) => checkpoint::load(path, &print, &mut learners, progress)?,
        None => 0,
    };
    let per_epoch = data.len().div_ceil(hyper.batch);
    for epoch in first..hyper.epochs {
        let start = Instant::now();
        let mut scores = vec![(0.0, 0usize); learners.len()];
        let order = order(data.len(), hyper.seed, epoch);
        for (i, batch) in order.chunks(hyper.batch).enumerate() {
            if cancel.is_cancelled() {
                return Err(EngineError::Cancelled.into());
            }
            // Batch norm has no statistics of a single sample.
            if batch.len() == 1 && data.len() > 1 {
                continue;
            }
            let (input, labels) = load(data, batch, &sample, hyper, epoch)?;
            let run = Run::new(cancel);
            let (values, tape) = learners[0].net.record(&[input], &wanted, &run)?;
            // What the backbone's values owe to the losses behind them.
            let mut seeds = Vec::new();
            let mut grads = Vec::new();
            for (n, value) in values.iter().enumerate() {
                let learner = &learners[n];
                let (logits, branch) = match n {
                    0 => (value.clone(), None),
                    _ => {
                        let run = Run {
                            input_gradients: true,
                            ..run
                        };
                        let inputs = std::slice::from_ref(value);
                        let (mut y, tape) = learner.net.record(inputs, &[learner.logits], &run)?;
                        (y.remove(0), Some(tape))
                    }
                };
                let mut loss = cross_entropy(&logits, &labels, hyper.label_smoothing)?;
                if !loss.mean.is_finite() {
                    let name = if n == 0 {
                        &backbone.name
                    } else {
                        &branches[n - 1].name
                    };
                    return Err(TrainError::Diverged {
                        name: name.clone(),
                        epoch: epoch + 1,
                    });
                }
                scores[n].0 += loss.mean * batch.len() as f64;
                scores[n].1 += loss.right;
                let weight = weights[n] as f32;
                loss.gradient.iter_mut().for_each(|g| *g *= weight);
                let Some(branch) = branch else {
                    seeds.push((learner.logits, loss.gradient));
                    continue;
                };
                let mut found = branch.backward(vec![(learner.logits, loss.gradient)], cancel)?;
                let input = learner.net.graph().inputs[0];
                if let Some(grad) = found.take(input) {
                    seeds.push((wanted[n], grad));
                }
                grads.push(found);
            }
            grads.insert(0, tape.backward(seeds, cancel)?);
            let rate = hyper.rate(epoch * per_epoch + i, hyper.epochs * per_epoch);
            for (learner, grads) in learners.iter_mut().zip(&grads) {
                learner.step(grads, rate, hyper)?;
            }
        }
        if let Some(path) = saved {
            checkpoint::save(path, &print, epoch + 1, &learners)?;
        }
        let count = data.len() as f64;
        let names = std::iter::once(&backbone.name).chain(branches.iter().map(|b| &b.name));
        let scores = names.zip(scores);
        progress(Event::Epoch {
            epoch: epoch + 1,
            epochs: hyper.epochs,
            seconds: start.elapsed().as_secs_f64(),
            scores: scores
                .map(|(n, (l, r))| (n.clone(), l / count, r as f64 / count))
                .collect(),
        });
    }
    let mut trained = learners.iter().map(|l| l.net.to_graph());
    let backbone = trained.next().unwrap_or_else(|| Ok(backbone.clone()))?;
    Ok((backbone, trained.collect::<Result<_, _>>()?))
}

/// Extents of one sample of the graph's only input.
pub(super) fn sample_shape(graph: &Graph) -> Result<Vec<usize>, TrainError> {
    let shape = match graph.inputs.as_slice() {
        [input] => graph.value(*input).shape.sample(),
        _ => None,
    };
    shape.ok_or_else(|| {
        TrainError::Request(format!(
            "`{}` must have one input of fixed extents",
            graph.name
        ))
    })
}

/// A batch, augmented by what seed, epoch and sample say.
fn load(
    data: &dyn Samples,
    batch: &[usize],
    sample: &[usize],
    hyper: &Hyper,
    epoch: usize,
) -> Result<(Tensor, Vec<u16>), TrainError> {
    let len: usize = sample.iter().product();
    let mut input = vec![0.0; batch.len() * len];
    let mut plain = vec![0.0; len];
    for (out, &index) in input.chunks_exact_mut(len.max(1)).zip(batch) {
        if !hyper.flip && hyper.shift == 0 {
            data.input(index, out);
            continue;
        }
        let &[_, height, width] = sample else {
            return Err(TrainError::Request(format!(
                "only images can be flipped or shifted, not {sample:?}"
            )));
        };
        data.input(index, &mut plain);
        let mut random = Random(hyper.seed ^ ((epoch as u64) << 40) ^ (index as u64) << 8);
        let flip = hyper.flip && random.below(2) == 1;
        let (dy, dx) = (
            random.below(2 * hyper.shift + 1),
            random.below(2 * hyper.shift + 1),
        );
        let at =
            |i: usize, d: usize, extent: usize| (i + d).saturating_sub(hyper.shift).min(extent - 1);
        for (i, out) in out.iter_mut().enumerate() {
            let (c, y, x) = (i / (height * width), i / width % height, i % width);
            let x = at(if flip { width - 1 - x } else { x }, dx, width);
            *out = plain[(c * height + at(y, dy, height)) * width + x];
        }
    }
    let mut shape = vec![batch.len()];
    shape.extend(sample);
    let labels = batch.iter().map(|&i| data.label(i)).collect();
    Ok((Tensor::from_vec(input, shape, &Device::Cpu)?, labels))
}
