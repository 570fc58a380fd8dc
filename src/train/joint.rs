/*!
Backbones: from scratch or fine-tuned, alone or with heads on their cuts by a weighted sum of the
losses.
*/

use super::config::{Optimizer, TrainingConfig};
use super::heads::HeadSpec;
use super::learner::{Learner, below, generator, order};
use super::loss::{LossTarget, loss};
use super::scores::forward_scores;
use super::{Event, Task, TrainError, checkpoint};
use crate::autograd::Run;
use crate::engine::EngineError;
use crate::model::{Graph, ValueId, fuse};
use candle_core::{Device, Tensor};
use rand::Rng;
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A head trained together with the backbone.
#[derive(Debug, Clone)]
pub struct Branch<'a> {
    /// Head, with the value of the backbone that it reads.
    pub head: HeadSpec<'a>,
    /// Factor of its loss.
    pub weight: f64,
}

/// Trains `backbone` (as imported, with its batch norms, or fused) together with `branches`, heads on its
/// cuts, by the weighted sum of the losses; `weight` is the factor of the backbone's own. Without branches
/// it is plain training, or fine-tuning of a backbone that comes trained.
///
/// A head may have a recipe of its own, and a teacher: the final classifier in the same step. Label
/// smoothing is for heads without a teacher. With patience and images that judge, everything stops at once,
/// by the weighted sum of the losses on them. The state after each epoch goes to the task's checkpoint; the
/// same training resumes from it after a kill, to the same result on as many threads. Gives the trained
/// backbone, and the heads in order.
///
/// # Errors
/// Where a head doesn't fit, a loss diverges, a file can't be written, or `task` is cancelled.
pub fn train_joint(
    backbone: &Graph,
    weight: f64,
    branches: &[Branch<'_>],
    task: &Task<'_>,
    progress: &mut dyn FnMut(Event),
) -> Result<(Graph, Vec<Graph>), TrainError> {
    let Task {
        data, hyper, saved, ..
    } = *task;
    hyper.check(data.len())?;
    let sample = sample_shape(backbone)?;
    let mut wanted: Vec<ValueId> = Vec::new();
    let mut learners = vec![Learner::new(backbone)?];
    let mut dropout = vec![Vec::new()];
    wanted.push(learners[0].logits);
    for Branch { head, .. } in branches {
        wanted.push(backbone.find(&head.value)?);
        learners.push(Learner::new(head.graph)?);
        dropout.push(head.dropout_in(head.graph));
    }
    let weights: Vec<f64> = std::iter::once(weight)
        .chain(branches.iter().map(|b| b.weight))
        .collect();
    let heads: Vec<HeadSpec> = branches.iter().map(|b| b.head.clone()).collect();
    let names: Vec<&String> = std::iter::once(&backbone.name)
        .chain(heads.iter().map(|h| &h.name))
        .collect();
    let print = task.fingerprint(backbone, &heads, &format!("{weights:?}"));
    let chain = Chain {
        task,
        sample: &sample,
        heads: &heads,
        names: &names,
        weights: &weights,
        dropout: &dropout,
        wanted: &wanted,
    };
    let mut all: Vec<&mut Learner> = learners.iter_mut().collect();
    let first = checkpoint::resume(saved, &print, &mut all, progress)?;
    for epoch in first..hyper.epochs {
        if task.is_over(learners[0].waited()) {
            break;
        }
        let start = Instant::now();
        let (scores, count) = chain.epoch(&mut learners, epoch)?;
        let (sum, validation) = judged(&learners, &heads, &weights, task)?;
        if task.stops_early() {
            for learner in &mut learners {
                learner.judge(sum)?;
            }
            let waited = learners[0].waited();
            if task.is_over(waited) {
                progress(Event::Stopped {
                    name: names[0].clone(),
                    epoch: epoch + 1,
                    best: epoch + 1 - waited,
                });
            }
        }
        let all: Vec<&Learner> = learners.iter().collect();
        checkpoint::keep(saved, &print, epoch + 1, &all)?;
        let count = count.max(1) as f64;
        let scores = names.iter().zip(scores);
        progress(Event::Epoch {
            epoch: epoch + 1,
            epochs: hyper.epochs,
            seconds: start.elapsed().as_secs_f64(),
            scores: scores
                .map(|(n, (l, r))| (n.to_string(), l / count, r as f64 / count))
                .collect(),
            validation,
        });
    }
    for learner in &mut learners {
        learner.take_best()?;
    }
    let mut trained = learners.iter().map(|l| l.net.to_graph());
    let backbone = trained.next().unwrap_or_else(|| Ok(backbone.clone()))?;
    Ok((backbone, trained.collect::<Result<_, _>>()?))
}

/// Where in the training a step is, counted from 0.
#[derive(Clone, Copy)]
struct At {
    epoch: usize,
    step: usize,
    steps: usize,
}

/// What does not change from step to step: the backbone, at index 0 of each list, and its heads.
struct Chain<'a> {
    task: &'a Task<'a>,
    sample: &'a [usize],
    /// Heads in order; network n of the lists is head n − 1.
    heads: &'a [HeadSpec<'a>],
    names: &'a [&'a String],
    weights: &'a [f64],
    dropout: &'a [Vec<(ValueId, f32)>],
    /// The backbone's logits, and the value each head reads.
    wanted: &'a [ValueId],
}

impl Chain<'_> {
    /// Learns from every batch of an epoch. Gives the sum of the losses and the right answers of each
    /// learner, and over how many samples.
    fn epoch(
        &self,
        learners: &mut [Learner],
        epoch: usize,
    ) -> Result<(Vec<(f64, usize)>, usize), TrainError> {
        let Task {
            data,
            hyper,
            cancel,
            ..
        } = *self.task;
        let per_epoch = data.len().div_ceil(hyper.batch);
        let mut scores = vec![(0.0, 0usize); learners.len()];
        let mut count = 0;
        let order = order(data.len(), hyper.seed, epoch);
        for (i, batch) in order.chunks(hyper.batch).enumerate() {
            if cancel.is_cancelled() {
                return Err(EngineError::Cancelled.into());
            }
            // Batch norm has no statistics of a single sample.
            if batch.len() == 1 && data.len() > 1 {
                continue;
            }
            count += batch.len();
            let at = At {
                epoch,
                step: epoch * per_epoch + i,
                steps: hyper.epochs * per_epoch,
            };
            self.step(learners, batch, at, &mut scores)?;
        }
        Ok((scores, count))
    }

    /// Learns from one batch; adds each loss, times the samples, and the right answers to `scores`.
    fn step(
        &self,
        learners: &mut [Learner],
        batch: &[usize],
        at: At,
        scores: &mut [(f64, usize)],
    ) -> Result<(), TrainError> {
        let Task { hyper, cancel, .. } = *self.task;
        let (input, labels) = load(self.task, batch, self.sample, at.epoch)?;
        let run = Run::new(cancel);
        let (values, tape) = learners[0].net.record(&[input], self.wanted, &run)?;
        // What the backbone's values owe to the losses behind them.
        let mut seeds = Vec::new();
        let mut grads = Vec::new();
        let taught = self.heads.iter().any(|h| h.distill().is_some());
        let teacher = taught.then(|| values[0].flatten_all()?.to_vec1::<f32>());
        let teacher = teacher.transpose()?;
        for (n, value) in values.iter().enumerate() {
            let learner = &learners[n];
            let (logits, branch) = match n {
                0 => (value.clone(), None),
                _ => {
                    let run = Run {
                        input_gradients: true,
                        dropout: &self.dropout[n],
                        seed: generator(hyper.seed ^ (at.step as u64) << 16).next_u64(),
                        ..run
                    };
                    let inputs = std::slice::from_ref(value);
                    let (mut y, tape) = learner.net.record(inputs, &[learner.logits], &run)?;
                    (y.remove(0), Some(tape))
                }
            };
            let mut loss = loss(&logits, &self.target(n, &labels, teacher.as_deref()))?;
            if !loss.mean.is_finite() {
                return Err(TrainError::Diverged {
                    name: self.names[n].clone(),
                    epoch: at.epoch + 1,
                });
            }
            scores[n].0 += loss.mean * batch.len() as f64;
            scores[n].1 += loss.right;
            let weight = self.weights[n] as f32;
            loss.gradient.iter_mut().for_each(|g| *g *= weight);
            let Some(branch) = branch else {
                seeds.push((learner.logits, loss.gradient));
                continue;
            };
            let mut found = branch.backward(vec![(learner.logits, loss.gradient)], cancel)?;
            let input = learner.net.graph().inputs[0];
            if let Some(grad) = found.take(input) {
                seeds.push((self.wanted[n], grad));
            }
            grads.push(found);
        }
        grads.insert(0, tape.backward(seeds, cancel)?);
        let height = hyper.height(at.step, at.steps);
        for (n, (learner, grads)) in learners.iter_mut().zip(&grads).enumerate() {
            let (rate, rule) = self.rate(n, height);
            learner.step(grads, rate, rule)?;
        }
        Ok(())
    }

    /// What the logits of network `n` are held against.
    fn target<'t>(
        &self,
        n: usize,
        labels: &'t [u16],
        teacher: Option<&'t [f32]>,
    ) -> LossTarget<'t> {
        let hyper = self.task.hyper;
        match n {
            0 => LossTarget {
                labels,
                smoothing: hyper.label_smoothing,
                teacher: None,
            },
            _ => self.heads[n - 1].target(hyper, labels, teacher),
        }
    }

    /// Learning rate of network `n`, and its optimizer with the weight decay.
    fn rate(&self, n: usize, height: f64) -> (f64, (Optimizer, f64)) {
        let hyper = self.task.hyper;
        match n {
            0 => (
                hyper.learning_rate * height,
                (hyper.optimizer, hyper.weight_decay),
            ),
            _ => (
                self.heads[n - 1].rate(hyper, height),
                self.heads[n - 1].rule(hyper),
            ),
        }
    }
}

/// The weighted sum of the losses on the images that judge, and the accuracy (0 to 1) of each learner on
/// them; nothing and none where there are no such images.
fn judged(
    learners: &[Learner],
    heads: &[HeadSpec<'_>],
    weights: &[f64],
    task: &Task<'_>,
) -> Result<(f64, Vec<Option<f64>>), TrainError> {
    let Some(judge) = task.judge() else {
        return Ok((0.0, vec![None; learners.len()]));
    };
    let mut backbone = learners[0].net.to_graph()?;
    // Heads may stand on values that fusion would take away.
    let ends = heads.iter().map(|h| backbone.find(&h.value));
    let ends = ends.collect::<Result<Vec<ValueId>, _>>()?;
    backbone.outputs = vec![learners[0].logits];
    backbone.outputs.extend(ends);
    let mut backbone = fuse(&backbone);
    backbone.outputs.truncate(1);
    let graphs = learners[1..].iter().map(|l| l.net.to_graph());
    let graphs = graphs.collect::<Result<Vec<Graph>, _>>()?;
    let graphs: Vec<Graph> = graphs.iter().map(fuse).collect();
    let pairs: Vec<(&str, &Graph)> = heads
        .iter()
        .zip(&graphs)
        .map(|(head, graph)| (head.value.as_str(), graph))
        .collect();
    let mut scores = forward_scores(&backbone, &pairs, judge, task.cancel, &mut |_| {})?;
    // The network's own come last, its weight first.
    scores.rotate_right(1);
    let labels: Vec<u16> = (0..judge.len()).map(|i| judge.label(i)).collect();
    let target = LossTarget {
        labels: &labels,
        smoothing: 0.0,
        teacher: None,
    };
    let (mut sum, mut right) = (0.0, Vec::new());
    for (scores, weight) in scores.into_iter().zip(weights) {
        let classes = scores.len() / labels.len().max(1);
        let scores = Tensor::from_vec(scores, (labels.len(), classes), &Device::Cpu)?;
        let loss = loss(&scores, &target)?;
        sum += weight * loss.mean;
        right.push(Some(loss.right as f64 / labels.len() as f64));
    }
    Ok((sum, right))
}

/// Trains `backbone` alone by `first`, then it and `branches` together by `task`'s settings. Each
/// phase is told by [`Event::Phase`] and has a checkpoint of its own: the task's with
/// `.backbone` and `.together` behind its name, both the caller's to remove.
///
/// # Errors
/// Those of [`train_joint`].
pub fn train_mixed(
    backbone: &Graph,
    weight: f64,
    branches: &[Branch<'_>],
    first: &TrainingConfig,
    task: &Task<'_>,
    progress: &mut dyn FnMut(Event),
) -> Result<(Graph, Vec<Graph>), TrainError> {
    let [alone, together] = mixed_checkpoints(task.saved);
    progress(Event::Phase {
        name: "backbone",
        epochs: first.epochs,
    });
    // The heads, by which it could be judged too soon, come later.
    let first = TrainingConfig {
        patience: None,
        ..first.clone()
    };
    let phase = Task {
        hyper: &first,
        saved: alone.as_deref(),
        ..*task
    };
    let (learnt, _) = train_joint(backbone, 1.0, &[], &phase, progress)?;
    progress(Event::Phase {
        name: "together",
        epochs: task.hyper.epochs,
    });
    let phase = Task {
        saved: together.as_deref(),
        ..*task
    };
    train_joint(&learnt, weight, branches, &phase, progress)
}

/// The checkpoints of [`train_mixed`]'s two phases.
pub fn mixed_checkpoints(saved: Option<&Path>) -> [Option<PathBuf>; 2] {
    ["backbone", "together"].map(|phase| {
        let mut name = saved?.as_os_str().to_owned();
        name.push(format!(".{phase}"));
        Some(name.into())
    })
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
    task: &Task<'_>,
    batch: &[usize],
    sample: &[usize],
    epoch: usize,
) -> Result<(Tensor, Vec<u16>), TrainError> {
    let (data, hyper) = (task.data, task.hyper);
    let len: usize = sample.iter().product();
    let mut input = vec![0.0; batch.len() * len];
    let samples = input.par_chunks_mut(len.max(1)).zip(batch);
    match (hyper.flip || hyper.shift > 0, sample) {
        (false, _) => samples.for_each(|(out, &index)| data.input(index, out)),
        (true, &[_, height, width]) => samples.for_each_init(
            || vec![0.0; len],
            |plain, (out, &index)| {
                data.input(index, plain);
                augment(plain, out, (height, width), hyper, (epoch, index));
            },
        ),
        (true, _) => {
            return Err(TrainError::Request(format!(
                "only images can be flipped or shifted, not {sample:?}"
            )));
        }
    }
    let mut shape = vec![batch.len()];
    shape.extend(sample);
    let labels = batch.iter().map(|&i| data.label(i)).collect();
    Ok((Tensor::from_vec(input, shape, &Device::Cpu)?, labels))
}

/// Mirrors and moves an image.
fn augment(
    plain: &[f32],
    out: &mut [f32],
    (height, width): (usize, usize),
    hyper: &TrainingConfig,
    (epoch, index): (usize, usize),
) {
    let mut rng = generator(hyper.seed ^ ((epoch as u64) << 40) ^ (index as u64) << 8);
    let flip = hyper.flip && below(&mut rng, 2) == 1;
    let range = 2 * hyper.shift + 1;
    let (dy, dx) = (below(&mut rng, range), below(&mut rng, range));
    let at =
        |i: usize, d: usize, extent: usize| (i + d).saturating_sub(hyper.shift).min(extent - 1);
    let lines = out.chunks_exact_mut(width).enumerate();
    for (line, out) in lines {
        let (c, y) = (line / height, line % height);
        let from = &plain[(c * height + at(y, dy, height)) * width..][..width];
        for (x, out) in out.iter_mut().enumerate() {
            *out = from[at(if flip { width - 1 - x } else { x }, dx, width)];
        }
    }
}
