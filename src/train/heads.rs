/*!
Heads over a frozen backbone: the backbone runs once, on the engine, with as much of each head as
has no parameters; the heads then learn from the cached features, all in one pass.
*/

use super::joint::sample_shape;
use super::learner::{Hyper, Learner, cross_entropy, order};
use super::{Event, Samples, TrainError, checkpoint};
use crate::engine::training::Run;
use crate::engine::{Cancel, Engine, EngineError, Options};
use crate::model::{Graph, Op, ValueId};
use candle_core::{Device, Tensor};
use std::path::Path;
use std::time::Instant;

/// Samples the backbone takes at once.
const PASS: usize = 64;

/// A head to train.
#[derive(Debug, Clone)]
pub struct HeadSpec<'a> {
    /// For the reports.
    pub name: String,
    /// Name of the backbone's value the head reads.
    pub value: String,
    /// One input, one output `[N, classes]`.
    pub graph: &'a Graph,
}

/// The last value of the chain behind the head's input that needs no parameters and is smallest.
fn split(graph: &Graph) -> Result<ValueId, TrainError> {
    let [input] = graph.inputs.as_slice() else {
        return Err(TrainError::Request(format!(
            "head `{}` must have one input",
            graph.name
        )));
    };
    let consumers = graph.consumers();
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
        if !plain || node.inputs.len() != 1 || node.outputs.len() != 1 {
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
        let key = format!("{} {ops:?}", head.value);
        let value = match known.iter().find(|(k, _)| *k == key) {
            Some((_, value)) => *value,
            None => {
                let mut value = graph.find(&head.value)?;
                for node in &piece.nodes {
                    let mut out = piece.value(node.outputs[0]).clone();
                    out.name = format!("{key} {}", out.name);
                    let id = ValueId(graph.values.len() as u32);
                    graph.values.push(out);
                    let mut node = node.clone();
                    node.name = format!("{key} {}", node.name);
                    node.inputs = vec![value];
                    node.outputs = vec![id];
                    graph.nodes.push(node);
                    value = id;
                }
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

/// Features of some samples, one buffer an output.
fn features(
    engine: &Engine,
    data: &dyn Samples,
    indices: &[usize],
    sample: usize,
    cancel: &Cancel,
) -> Result<Vec<Vec<f32>>, TrainError> {
    let mut input = vec![0.0; indices.len() * sample];
    for (out, &index) in input.chunks_exact_mut(sample.max(1)).zip(indices) {
        data.input(index, out);
    }
    Ok(engine.run_f32(indices.len(), &[&input], cancel)?)
}

/// Trains `heads` on `backbone` (fused, frozen), and returns their graphs with the trained weights,
/// in order. Features are cached in memory up to `cache_bytes`; beyond it the backbone runs again in
/// each epoch, which is told by [`Event::NoCache`]. Resumes from `saved` like
/// [`super::train_joint`].
#[allow(clippy::too_many_arguments)] // Each is a thing of its own; a struct would only rename them.
pub fn train_heads(
    backbone: &Graph,
    heads: &[HeadSpec<'_>],
    data: &dyn Samples,
    hyper: &Hyper,
    cache_bytes: usize,
    saved: Option<&Path>,
    cancel: &Cancel,
    progress: &mut dyn FnMut(Event),
) -> Result<Vec<Graph>, TrainError> {
    hyper.check(data.len())?;
    let sample = sample_shape(backbone)?.iter().product();
    let splits = heads
        .iter()
        .map(|h| split(h.graph))
        .collect::<Result<Vec<_>, _>>()?;
    let mut learners = Vec::new();
    for (head, &split) in heads.iter().zip(&splits) {
        learners.push(Learner::new(
            &head.graph.subgraph(&[split], &head.graph.outputs)?,
        )?);
    }
    let mut graphs = vec![backbone];
    graphs.extend(heads.iter().map(|h| h.graph));
    let print = checkpoint::fingerprint(hyper, data, &graphs, "heads");
    let first = match saved {
        Some(path) => checkpoint::load(path, &print, &mut learners, progress)?,
        None => 0,
    };
    let (graph, feeds) = feature_graph(backbone, heads, &splits)?;
    let shapes: Vec<Vec<usize>> = graph
        .outputs
        .iter()
        .map(|&o| graph.value(o).shape.at(1))
        .collect();
    let dims: Vec<usize> = shapes.iter().map(|s| s.iter().product()).collect();
    let engine = Engine::new(graph, &Options::default())?;
    let bytes = dims.iter().sum::<usize>() * data.len() * size_of::<f32>();
    let mut cache: Option<Vec<Vec<f32>>> = None;
    if bytes > cache_bytes {
        progress(Event::NoCache {
            bytes,
            bound: cache_bytes,
        });
    } else if first < hyper.epochs {
        let mut all: Vec<Vec<f32>> = dims
            .iter()
            .map(|d| Vec::with_capacity(d * data.len()))
            .collect();
        let indices: Vec<usize> = (0..data.len()).collect();
        for chunk in indices.chunks(PASS) {
            let part = features(&engine, data, chunk, sample, cancel)?;
            all.iter_mut()
                .zip(&part)
                .for_each(|(a, p)| a.extend_from_slice(p));
            progress(Event::Features {
                done: chunk[chunk.len() - 1] + 1,
                total: data.len(),
            });
        }
        cache = Some(all);
    }
    let per_epoch = data.len().div_ceil(hyper.batch);
    for epoch in first..hyper.epochs {
        let start = Instant::now();
        let mut scores = vec![(0.0, 0usize); learners.len()];
        for (i, batch) in order(data.len(), hyper.seed, epoch)
            .chunks(hyper.batch)
            .enumerate()
        {
            if cancel.is_cancelled() {
                return Err(EngineError::Cancelled.into());
            }
            let rows = match &cache {
                None => features(&engine, data, batch, sample, cancel)?,
                Some(cache) => {
                    let gather = |(all, &d): (&Vec<f32>, &usize)| {
                        batch
                            .iter()
                            .flat_map(|&i| &all[i * d..(i + 1) * d])
                            .copied()
                            .collect()
                    };
                    cache.iter().zip(&dims).map(gather).collect()
                }
            };
            let labels: Vec<u16> = batch.iter().map(|&i| data.label(i)).collect();
            let rate = hyper.rate(epoch * per_epoch + i, hyper.epochs * per_epoch);
            for (n, learner) in learners.iter_mut().enumerate() {
                let mut shape = shapes[feeds[n]].clone();
                if let Some(first) = shape.first_mut() {
                    *first *= batch.len();
                }
                let x = Tensor::from_slice(&rows[feeds[n]], shape, &Device::Cpu)?;
                let (y, tape) = learner
                    .net
                    .record(&[x], &[learner.logits], &Run::new(cancel))?;
                let loss = cross_entropy(&y[0], &labels, hyper.label_smoothing)?;
                if !loss.mean.is_finite() {
                    let name = heads[n].name.clone();
                    return Err(TrainError::Diverged {
                        name,
                        epoch: epoch + 1,
                    });
                }
                scores[n].0 += loss.mean * batch.len() as f64;
                scores[n].1 += loss.right;
                let grads = tape.backward(vec![(learner.logits, loss.gradient)], cancel)?;
                learner.step(&grads, rate, hyper)?;
            }
        }
        if let Some(path) = saved {
            checkpoint::save(path, &print, epoch + 1, &learners)?;
        }
        let count = data.len() as f64;
        let scores = heads.iter().zip(scores);
        progress(Event::Epoch {
            epoch: epoch + 1,
            epochs: hyper.epochs,
            seconds: start.elapsed().as_secs_f64(),
            scores: scores
                .map(|(h, (l, r))| (h.name.clone(), l / count, r as f64 / count))
                .collect(),
        });
    }
    heads
        .iter()
        .zip(&learners)
        .map(|(head, learner)| merge(head.graph, &learner.net.to_graph()?))
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
