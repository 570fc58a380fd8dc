/*!
Heads over a frozen backbone: the backbone runs once, on the engine, with as much of each head as
has no parameters; the heads then learn from the cached features, each on its own, side by side.
*/

use super::cache::{CacheLimits, Extractor, Features};
use super::graft::graft;
use super::joint::sample_shape;
use super::learner::{Learner, Rng, cross_entropy, order};
use super::standard::Standard;
use super::{Event, Task, TrainError, checkpoint};
use crate::engine::training::Run;
use crate::engine::{Engine, EngineError, Options};
use crate::exits::{Dropout, Head};
use crate::model::{Graph, Op, ValueId};
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use std::time::Instant;

/// Samples whose features say how to standardise them.
const MEASURED: usize = 4096;

/// A head to train.
#[derive(Debug, Clone)]
pub struct HeadSpec<'a> {
    /// For the reports.
    pub name: String,
    /// Name of the backbone's value the head reads.
    pub value: String,
    /// One input, one output `[N, classes]`.
    pub graph: &'a Graph,
    /// Where values are dropped while it learns.
    pub dropout: &'a [Dropout],
}

impl<'a> From<&'a Head> for HeadSpec<'a> {
    fn from(head: &'a Head) -> Self {
        HeadSpec {
            name: head.point.after.clone(),
            value: head.point.value.clone(),
            graph: &head.graph,
            dropout: &head.dropout,
        }
    }
}

impl HeadSpec<'_> {
    /// The dropouts that lie in `graph`, the head or its rest, by its own values.
    pub(super) fn dropout_in(&self, graph: &Graph) -> Vec<(ValueId, f32)> {
        let dropout = self.dropout.iter();
        dropout
            .filter_map(|d| Some((graph.find(&d.value).ok()?, d.rate)))
            .collect()
    }

    /// The last value of the chain behind the head's input that needs no parameters, drops nothing
    /// and is smallest.
    fn split(&self) -> Result<ValueId, TrainError> {
        let graph = self.graph;
        let [input] = graph.inputs.as_slice() else {
            return Err(TrainError::Request(format!(
                "head `{}` must have one input",
                graph.name
            )));
        };
        let consumers = graph.consumers();
        let drops = |id: ValueId| self.dropout.iter().any(|d| d.value == graph.value(id).name);
        let (mut at, mut best) = (*input, *input);
        while let Some([next]) = consumers.get(&at).map(Vec::as_slice) {
            let node = &graph.nodes[*next];
            let plain = matches!(
                node.op,
                Op::GlobalPool { .. }
                    | Op::Pool { .. }
                    | Op::Reshape { .. }
                    | Op::Unary(_)
                    | Op::Reduce { .. }
                    | Op::Transpose { .. }
                    | Op::Identity
            );
            if !plain || node.inputs.len() != 1 || node.outputs.len() != 1 || drops(at) {
                break;
            }
            at = node.outputs[0];
            if graph.outputs.contains(&at) {
                break;
            }
            if graph.value(at).shape.elements(1) <= graph.value(best).shape.elements(1) {
                best = at;
            }
        }
        Ok(best)
    }
}

/// The backbone with the heads' prefixes grown on it, and which output feeds which head.
fn feature_graph(
    backbone: &Graph,
    heads: &[HeadSpec<'_>],
    splits: &[ValueId],
) -> Result<(Graph, Vec<usize>), TrainError> {
    let mut cuts = Vec::new();
    for head in heads {
        let cut = backbone.find(&head.value)?;
        if !cuts.contains(&cut) {
            cuts.push(cut);
        }
    }
    let mut graph = backbone.subgraph(&backbone.inputs, &cuts)?;
    graph.outputs.clear();
    let mut known: Vec<(String, ValueId)> = Vec::new();
    let mut feeds = Vec::new();
    for (head, &end) in heads.iter().zip(splits) {
        let piece = head.graph.subgraph(&head.graph.inputs, &[end])?;
        let ops: Vec<&Op> = piece.nodes.iter().map(|n| &n.op).collect();
        let key = format!("{} {ops:?} ", head.value);
        let value = match known.iter().find(|(k, _)| *k == key) {
            Some((_, value)) => *value,
            None => {
                let at = graph.find(&head.value)?;
                let value = match piece.nodes.is_empty() {
                    true => at,
                    false => graft(&mut graph, at, &piece, &key)?,
                };
                known.push((key, value));
                value
            }
        };
        let at = graph.outputs.iter().position(|&o| o == value);
        feeds.push(at.unwrap_or_else(|| {
            graph.outputs.push(value);
            graph.outputs.len() - 1
        }));
    }
    Ok((graph, feeds))
}

/// One head, and how far it is in the epoch.
struct Pupil {
    learner: Learner,
    name: String,
    dropout: Vec<(ValueId, f32)>,
    /// The output of the backbone it learns from, and its extents for one sample.
    feed: usize,
    shape: Vec<usize>,
    standard: Option<Standard>,
    /// Sum of losses, and hits, of the epoch.
    score: (f64, usize),
}

/// Which samples a step is about.
struct Batch<'a> {
    indices: &'a [usize],
    epoch: usize,
    step: usize,
    steps: usize,
}

impl Pupil {
    fn learn(
        &mut self,
        task: &Task<'_>,
        batch: &Batch<'_>,
        mut rows: Vec<f32>,
    ) -> Result<(), TrainError> {
        let labels: Vec<u16> = batch.indices.iter().map(|&i| task.data.label(i)).collect();
        let mut shape = self.shape.clone();
        if let Some(first) = shape.first_mut() {
            *first *= labels.len();
        }
        if let Some(standard) = &self.standard {
            standard.apply(&mut rows);
        }
        let learner = &mut self.learner;
        let x = Tensor::from_vec(rows, shape, &Device::Cpu)?;
        let run = Run {
            dropout: &self.dropout,
            seed: Rng(task.hyper.seed ^ (batch.step as u64) << 16).next(),
            ..Run::new(task.cancel)
        };
        let (y, tape) = learner.net.record(&[x], &[learner.logits], &run)?;
        let loss = cross_entropy(&y[0], &labels, task.hyper.label_smoothing)?;
        if !loss.mean.is_finite() {
            return Err(TrainError::Diverged {
                name: self.name.clone(),
                epoch: batch.epoch + 1,
            });
        }
        self.score.0 += loss.mean * labels.len() as f64;
        self.score.1 += loss.right;
        let grads = tape.backward(vec![(learner.logits, loss.gradient)], task.cancel)?;
        let rate = task.hyper.rate(batch.step, batch.steps);
        learner.step(&grads, rate, task.hyper)
    }
}

/// Trains `heads` on `backbone` (fused, frozen), and returns their graphs with the trained weights,
/// in order. The backbone's features are computed once and cached within `limits`; beyond them it
/// runs again in each epoch, which [`Event::NoCache`] tells beforehand. Resumes like
/// [`super::train_joint`].
///
/// # Errors
/// Where a head doesn't fit, a loss diverges, a file can't be written, or `task` is cancelled.
pub fn train_heads(
    backbone: &Graph,
    heads: &[HeadSpec<'_>],
    task: &Task<'_>,
    limits: &CacheLimits,
    progress: &mut dyn FnMut(Event),
) -> Result<Vec<Graph>, TrainError> {
    let (hyper, data) = (task.hyper, task.data);
    hyper.check(data.len())?;
    let sample = sample_shape(backbone)?.iter().product();
    let splits = heads.iter().map(HeadSpec::split);
    let splits = splits.collect::<Result<Vec<_>, _>>()?;
    let (graph, feeds) = feature_graph(backbone, heads, &splits)?;
    let shapes = graph.outputs.iter().map(|&o| graph.value(o).shape.at(1));
    let shapes: Vec<Vec<usize>> = shapes.collect();
    let mut pupils = Vec::new();
    for ((head, &split), &feed) in heads.iter().zip(&splits).zip(&feeds) {
        let rest = head.graph.subgraph(&[split], &head.graph.outputs)?;
        pupils.push(Pupil {
            learner: Learner::new(&rest)?,
            name: head.name.clone(),
            dropout: head.dropout_in(&rest),
            feed,
            shape: shapes[feed].clone(),
            standard: None,
            score: (0.0, 0),
        });
    }
    let print = task.fingerprint(backbone, heads, "heads");
    let mut learners: Vec<&mut Learner> = pupils.iter_mut().map(|p| &mut p.learner).collect();
    let first = checkpoint::resume(task.saved, &print, &mut learners, progress)?;
    let engine = Engine::new(graph, &Options::default())?;
    let extractor = Extractor {
        engine: &engine,
        data,
        sample,
        dims: shapes.iter().map(|s| s.iter().product()).collect(),
        cancel: task.cancel,
    };
    let features = match first < hyper.epochs {
        true => Features::make(&extractor, limits, progress)?,
        false => Features::Nowhere,
    };
    let measured = features.first(&extractor, MEASURED)?;
    for pupil in &mut pupils {
        let features = &measured[pupil.feed];
        pupil.standard = Standard::new(pupil.learner.net.graph(), features);
    }
    drop(measured);
    let per_epoch = data.len().div_ceil(hyper.batch);
    for epoch in first..hyper.epochs {
        let start = Instant::now();
        let order = order(data.len(), hyper.seed, epoch);
        let batch = |(i, indices)| Batch {
            indices,
            epoch,
            step: epoch * per_epoch + i,
            steps: hyper.epochs * per_epoch,
        };
        // Batch norm has no statistics of a single sample.
        let learnable = |(_, indices): &(usize, &[usize])| indices.len() > 1 || data.len() == 1;
        let batches = order.chunks(hyper.batch).enumerate().filter(learnable);
        let batches: Vec<Batch> = batches.map(batch).collect();
        pupils.iter_mut().for_each(|p| p.score = (0.0, 0));
        if features.are_nowhere() {
            for batch in &batches {
                let rows = extractor.run(batch.indices)?;
                pupils
                    .par_iter_mut()
                    .try_for_each(|pupil| pupil.learn(task, batch, rows[pupil.feed].clone()))?;
            }
        } else {
            pupils.par_iter_mut().try_for_each(|pupil| {
                batches.iter().try_for_each(|batch| {
                    let dim = extractor.dims[pupil.feed];
                    let rows = features.gather(pupil.feed, dim, batch.indices)?;
                    pupil.learn(task, batch, rows)
                })
            })?;
        }
        if task.cancel.is_cancelled() {
            return Err(EngineError::Cancelled.into());
        }
        let learners: Vec<&Learner> = pupils.iter().map(|p| &p.learner).collect();
        checkpoint::keep(task.saved, &print, epoch + 1, &learners)?;
        let count = data.len() as f64;
        let score = |p: &Pupil| (p.name.clone(), p.score.0 / count, p.score.1 as f64 / count);
        progress(Event::Epoch {
            epoch: epoch + 1,
            epochs: hyper.epochs,
            seconds: start.elapsed().as_secs_f64(),
            scores: pupils.iter().map(score).collect(),
        });
    }
    heads
        .iter()
        .zip(&pupils)
        .map(|(head, pupil)| {
            let mut rest = pupil.learner.net.to_graph()?;
            if let Some(standard) = &pupil.standard {
                standard.fold(&mut rest);
            }
            merge(head.graph, &rest)
        })
        .collect()
}

/// The whole head with the constants its trained rest has.
fn merge(head: &Graph, rest: &Graph) -> Result<Graph, TrainError> {
    let mut whole = head.clone();
    for (id, constant) in &rest.constants {
        let id = whole.find(&rest.value(*id).name)?;
        whole.constants.insert(id, constant.clone());
    }
    Ok(whole)
}
