/*!
The raw scores of every exit: one pass of the engine over a set, through the backbone with all heads
grown on it.

Confidences decide who leaves where, and a run must repeat what its table says, so scores are computed
as the run computes them: one sample at a time. That is as fast as in batches, because the samples go
to single-threaded engines side by side. An engine's result doesn't depend on its threads: they share
out rows and channels, never the terms of a sum.
*/

use super::graft::graft;
use super::joint::sample_shape;
use super::{Samples, TrainError};
use crate::backend::{BackendId, CompileOptions};
use crate::engine::{Cancel, EngineError};
use crate::model::Graph;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

/// A run's first sample, and what came of it.
type Done = Result<(usize, Vec<Vec<f32>>), EngineError>;

/// How scores are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScoreOptions {
    /// Samples a run of an engine. The last bits of a score may depend on it; the run has 1.
    pub batch: usize,
    /// Engines of one thread each, side by side; 0 for as many as there are cores to use.
    pub workers: usize,
    /// Engine that computes them. Other than our own has the cores itself, and takes one run at a time.
    pub backend: BackendId,
}

impl Default for ScoreOptions {
    fn default() -> Self {
        ScoreOptions {
            batch: 1,
            workers: 0,
            backend: BackendId::Native,
        }
    }
}

/// The scores of all samples, `[samples, classes]` each: of every head (the backbone's value it
/// reads, its graph), in order, and last of `backbone` (fused) itself, as it puts them out.
/// `progress` hears how many samples are done.
///
/// # Errors
/// Where a head doesn't fit, the engine can't run it, or `cancel` was raised.
pub fn forward_scores(
    backbone: &Graph,
    heads: &[(&str, &Graph)],
    samples: &dyn Samples,
    cancel: &Cancel,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Vec<f32>>, TrainError> {
    let options = ScoreOptions::default();
    forward_scores_with(&options, backbone, heads, samples, cancel, progress)
}

/// [`forward_scores`] with other than the usual options.
///
/// # Errors
/// Those of [`forward_scores`].
pub fn forward_scores_with(
    options: &ScoreOptions,
    backbone: &Graph,
    heads: &[(&str, &Graph)],
    samples: &dyn Samples,
    cancel: &Cancel,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Vec<f32>>, TrainError> {
    let graph = grown(backbone, heads)?;
    let sample: usize = sample_shape(backbone)?.iter().product();
    let outputs = graph.outputs.iter();
    let dims: Vec<usize> = outputs.map(|&o| graph.value(o).shape.elements(1)).collect();
    let threads = match options.backend {
        BackendId::Native => 1,
        _ => 0,
    };
    let backend = options.backend.open()?;
    let network = backend.compile(graph, &CompileOptions { threads })?;
    let count = samples.len();
    let batch = options.batch.max(1);
    let workers = match options.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    };
    let mut scores: Vec<Vec<f32>> = dims.iter().map(|d| vec![0.0; d * count]).collect();
    let next = AtomicUsize::new(0);
    let work = |send: mpsc::SyncSender<Done>| {
        let mut input = vec![0.0; batch * sample];
        loop {
            let first = next.fetch_add(1, Ordering::Relaxed) * batch;
            if first >= count {
                return;
            }
            let size = batch.min(count - first);
            let input = &mut input[..size * sample];
            for (i, input) in input.chunks_exact_mut(sample.max(1)).enumerate() {
                samples.input(first + i, input);
            }
            let result = network.run_f32(size, &[input], cancel);
            let failed = result.is_err();
            if send.send(result.map(|y| (first, y))).is_err() || failed {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        let (send, receive) = mpsc::sync_channel(64);
        for _ in 0..workers.clamp(1, count.max(1)) {
            let send = send.clone();
            scope.spawn(|| work(send));
        }
        drop(send);
        let mut done = 0;
        for result in receive {
            let (first, outputs) = result?;
            for ((all, part), dim) in scores.iter_mut().zip(&outputs).zip(&dims) {
                all[first * dim..][..part.len()].copy_from_slice(part);
            }
            done += batch.min(count - first);
            progress(done);
        }
        Ok::<(), EngineError>(())
    })?;
    Ok(scores)
}

/// The backbone with all heads on it, their outputs before its own.
fn grown(backbone: &Graph, heads: &[(&str, &Graph)]) -> Result<Graph, TrainError> {
    let mut graph = backbone.clone();
    let last = graph
        .outputs
        .first()
        .copied()
        .ok_or_else(|| TrainError::Request(format!("`{}` has no output", backbone.name)))?;
    graph.outputs.clear();
    for (i, (value, head)) in heads.iter().enumerate() {
        let at = graph.find(value)?;
        let piece = head.subgraph(&head.inputs, &head.outputs)?;
        let out = graft(&mut graph, at, &piece, &format!("head {i} "))?;
        graph.outputs.push(out);
    }
    graph.outputs.push(last);
    Ok(graph)
}
