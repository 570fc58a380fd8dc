/*!
Heads over a frozen backbone: the backbone runs once, on the engine, with as much of each head as
has no parameters; the heads then learn from the cached features, each on its own, side by side.
*/

mod feature_graph;
mod head_trainer;
mod spec;

pub use spec::HeadSpec;

use super::cache::{CacheLimits, Extractor, Features};
use super::joint::sample_shape;
use super::learner::{Learner, order};
use super::standard::Standard;
use super::{Event, Samples, Task, TrainError, checkpoint};
use crate::engine::EngineError;
use crate::model::{Graph, ValueId};
use feature_graph::{feature_graph, merge};
use head_trainer::{Batch, HeadTrainer};
use rayon::prelude::*;
use std::time::Instant;

/// Samples whose features say how to standardise them.
const MEASURED: usize = 4096;
/// Samples judged at once.
const JUDGED: usize = 256;

/// Trains `heads` on `backbone` (fused, frozen), and returns their graphs with the trained weights,
/// in order. The backbone's features are computed once and cached within `limits`; beyond them it
/// runs again in each epoch, which [`Event::NoCache`] tells beforehand. Resumes like
/// [`super::train_joint`]. With patience and images that judge, each head stops on its own.
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
    if heads.is_empty() {
        return Ok(Vec::new());
    }
    let sample = sample_shape(backbone)?.iter().product();
    let splits = heads.iter().map(HeadSpec::split);
    let splits = splits.collect::<Result<Vec<_>, _>>()?;
    let taught = heads.iter().any(|h| h.distill().is_some());
    let (graph, feeds) = feature_graph(backbone, heads, &splits, taught)?;
    let shapes = graph.outputs.iter().map(|&o| graph.value(o).shape.at(1));
    let shapes: Vec<Vec<usize>> = shapes.collect();
    let teacher = taught.then(|| shapes.len() - 1);
    let mut trainers = trainers(heads, &splits, &feeds, &shapes)?;
    let print = task.fingerprint(backbone, heads, "heads");
    let mut learners: Vec<&mut Learner> = trainers.iter_mut().map(|p| &mut p.learner).collect();
    let first = checkpoint::resume(task.saved, &print, &mut learners, progress)?;
    let judge = task.judge();
    let size = (sample, limits.batch);
    let judged_by = judge.map(|judge| Extractor::new(graph.clone(), judge, size, task.cancel));
    let extractor = Extractor::new(graph, data, size, task.cancel);
    let goes_on = first < hyper.epochs;
    let features = match goes_on {
        true => Features::make(&extractor, limits, progress)?,
        false => Features::Nowhere,
    };
    let exam = match (&judged_by, goes_on) {
        (Some(by), true) => Some((by, Features::make(by, limits, progress)?)),
        _ => None,
    };
    let measured = features.first(&extractor, MEASURED)?;
    for trainer in &mut trainers {
        trainer.over = task.is_over(trainer.learner.waited());
        trainer.standard = Standard::new(
            trainer.learner.net.graph(),
            &measured[trainer.feed],
            data.len(),
        );
    }
    drop(measured);
    for epoch in first..hyper.epochs {
        if trainers.iter().all(|p| p.over) {
            break;
        }
        let start = Instant::now();
        let order = order(data.len(), hyper.seed, epoch);
        let batches = batches(task, &order, epoch);
        let mut learning: Vec<&mut HeadTrainer> = trainers.iter_mut().filter(|p| !p.over).collect();
        learning.iter_mut().for_each(|p| p.score = (0.0, 0));
        learn(
            task,
            &mut learning,
            &batches,
            (&extractor, &features),
            teacher,
        )?;
        if task.cancel.is_cancelled() {
            return Err(EngineError::Cancelled.into());
        }
        if let Some((by, features)) = &exam {
            examine(&mut learning, by, features)?;
            if task.stops_early() {
                stop_those_without_progress(learning, (task, by.data.len()), epoch + 1, progress)?;
            }
        }
        let learners: Vec<&Learner> = trainers.iter().map(|t| &t.learner).collect();
        checkpoint::keep(task.saved, &print, epoch + 1, &learners)?;
        progress(Event::Epoch {
            epoch: epoch + 1,
            epochs: hyper.epochs,
            seconds: start.elapsed().as_secs_f64(),
            scores: scores(&trainers, data.len()),
            validation: validation(&trainers, judge),
        });
    }
    finished(heads, &mut trainers)
}

/// Name, mean loss and share right of each head over `samples`.
fn scores(trainers: &[HeadTrainer], samples: usize) -> Vec<(String, f64, f64)> {
    let count = samples as f64;
    let score = |trainer: &HeadTrainer| {
        let (loss, right) = trainer.score;
        (
            trainer.spec.name.clone(),
            loss / count,
            right as f64 / count,
        )
    };
    trainers.iter().map(score).collect()
}

/// Accuracy (0 to 1) of each head on the images that judge, if there are any.
fn validation(trainers: &[HeadTrainer], judge: Option<&dyn Samples>) -> Vec<Option<f64>> {
    let share = |right: usize, judge: &dyn Samples| right as f64 / judge.len() as f64;
    let of = |trainer: &HeadTrainer| judge.map(|judge| share(trainer.judged.1, judge));
    trainers.iter().map(of).collect()
}

/// Ends the training of each head whose loss on the judging images has not fallen for as long as the
/// recipe's patience; `epoch` counts from 1, `judges` are the images.
fn stop_those_without_progress(
    learning: Vec<&mut HeadTrainer>,
    (task, judges): (&Task<'_>, usize),
    epoch: usize,
    progress: &mut dyn FnMut(Event),
) -> Result<(), TrainError> {
    for trainer in learning {
        trainer.learner.judge(trainer.judged.0 / judges as f64)?;
        let waited = trainer.learner.waited();
        trainer.over = task.is_over(waited);
        if trainer.over {
            progress(Event::Stopped {
                name: trainer.spec.name.clone(),
                epoch,
                best: epoch - waited,
            });
        }
    }
    Ok(())
}

/// The heads with the best weights of their training.
fn finished(
    heads: &[HeadSpec<'_>],
    trainers: &mut [HeadTrainer<'_>],
) -> Result<Vec<Graph>, TrainError> {
    let finished = heads.iter().zip(trainers).map(|(head, trainer)| {
        trainer.learner.take_best()?;
        let mut rest = trainer.learner.net.to_graph()?;
        if let Some(standard) = &trainer.standard {
            standard.fold(&mut rest);
        }
        merge(head.graph, &rest)
    });
    finished.collect()
}

/// The heads' own parts behind the features they share, untrained.
fn trainers<'a>(
    heads: &'a [HeadSpec<'a>],
    splits: &[ValueId],
    feeds: &[usize],
    shapes: &[Vec<usize>],
) -> Result<Vec<HeadTrainer<'a>>, TrainError> {
    let trainer = |((spec, &split), &feed): ((&'a HeadSpec<'a>, &ValueId), &usize)| {
        let rest = spec.graph.subgraph(&[split], &spec.graph.outputs)?;
        Ok(HeadTrainer {
            spec,
            learner: Learner::new(&rest)?,
            dropout: spec.dropout_in(&rest),
            feed,
            shape: shapes[feed].clone(),
            standard: None,
            score: (0.0, 0),
            judged: (0.0, 0),
            over: false,
        })
    };
    heads.iter().zip(splits).zip(feeds).map(trainer).collect()
}

/// An epoch's batches in their order.
fn batches<'o>(task: &Task<'_>, order: &'o [usize], epoch: usize) -> Vec<Batch<'o>> {
    let hyper = task.hyper;
    let per_epoch = order.len().div_ceil(hyper.batch);
    let batch = |(i, indices)| Batch {
        indices,
        epoch,
        step: epoch * per_epoch + i,
        steps: hyper.epochs * per_epoch,
    };
    // Batch norm has no statistics of a single sample.
    let learnable = |(_, indices): &(usize, &[usize])| indices.len() > 1 || order.len() == 1;
    let batches = order.chunks(hyper.batch).enumerate().filter(learnable);
    batches.map(batch).collect()
}

/// Runs an epoch's batches through every head that still learns, each head on its own where the features
/// are kept.
fn learn(
    task: &Task<'_>,
    learning: &mut [&mut HeadTrainer<'_>],
    batches: &[Batch<'_>],
    (extractor, features): (&Extractor<'_>, &Features),
    teacher: Option<usize>,
) -> Result<(), TrainError> {
    if features.are_nowhere() {
        for batch in batches {
            let rows = extractor.run(batch.indices)?;
            let taught = teacher.map(|t| rows[t].as_slice());
            learning.par_iter_mut().try_for_each(|trainer| {
                trainer.learn(task, batch, rows[trainer.feed].clone(), taught)
            })?;
        }
        return Ok(());
    }
    learning.par_iter_mut().try_for_each(|trainer| {
        let of = |output: usize, batch: &Batch<'_>| {
            features.gather(output, extractor.dims[output], batch.indices)
        };
        let teacher = teacher.filter(|_| trainer.spec.distill().is_some());
        batches.iter().try_for_each(|batch| {
            let taught = teacher.map(|t| of(t, batch)).transpose()?;
            trainer.learn(task, batch, of(trainer.feed, batch)?, taught.as_deref())
        })
    })
}

/// Lets the images that judge judge those that still learn.
fn examine(
    learning: &mut [&mut HeadTrainer<'_>],
    by: &Extractor<'_>,
    features: &Features,
) -> Result<(), TrainError> {
    let judge: &dyn Samples = by.data;
    let all: Vec<usize> = (0..judge.len()).collect();
    learning.iter_mut().for_each(|p| p.judged = (0.0, 0));
    for indices in all.chunks(JUDGED) {
        let labels: Vec<u16> = indices.iter().map(|&i| judge.label(i)).collect();
        let fresh = match features.are_nowhere() {
            true => Some(by.run(indices)?),
            false => None,
        };
        learning.par_iter_mut().try_for_each(|trainer| {
            let rows = match &fresh {
                Some(rows) => rows[trainer.feed].clone(),
                None => features.gather(trainer.feed, by.dims[trainer.feed], indices)?,
            };
            trainer.judge(rows, &labels)
        })?;
    }
    Ok(())
}
