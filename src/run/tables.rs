/*!
The confidence tables of a run: every sample of the calibration and the test set through every exit
and the final classifier, once; and the cloud's columns again where the wire changes what it sees.
*/

use super::samples::Images;
use super::stage_cache::Reporter;
use super::{Network, RunError};
use crate::backend::{BackendId, CompileOptions, Compiled};
use crate::data::{LoadedData, Set};
use crate::engine::Cancel;
use crate::model::Graph;
use crate::plan::Wire;
use crate::plan::{Plan, TierHead};
use crate::predict::policy::Output;
use crate::predict::{Column, ConfidenceTable, parted, reliability};
use crate::protocol::wire;
use crate::session::Session;
use crate::session::results::WireTables;
use crate::session::tables::PackedTable;
use crate::train::{Samples, ScoreOptions, fit_temperature, forward_scores_with};
use serde::{Deserialize, Serialize};
use std::sync::Mutex;

/// Both tables, and the temperature of each head.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Tables {
    pub temperatures: Vec<f32>,
    pub calibration: PackedTable,
    pub test: PackedTable,
}

/// Runs both sets through all heads, and fits the temperatures on the calibration set, without the part
/// of it that a guarantee holds back.
pub(super) fn make(
    reporter: &mut Reporter,
    session: &Session,
    network: &Network,
    data: &LoadedData,
    heads: &[TierHead],
    cancel: &Cancel,
) -> Result<Tables, RunError> {
    let total = data.len(Set::Calibration) + data.len(Set::Test);
    let mut before = 0;
    let mut scores = Vec::new();
    for set in [Set::Calibration, Set::Test] {
        let samples = Images::new(data, set, session.pixels())?;
        let note = match set {
            Set::Calibration => "calibration images through every exit",
            _ => "test images through every exit",
        };
        scores.push(through(
            session.table_engine(),
            &network.fused,
            heads,
            &samples,
            cancel,
            &mut |done| reporter.progress(before + done, total, note),
        )?);
        before += data.len(set);
    }
    let fitted = fitting(session, data.labels(Set::Calibration));
    let temperatures: Vec<f32> = scores[0]
        .iter()
        .take(heads.len())
        .map(|logits| fitted.temperature(logits, network.table.classes))
        .collect();
    let table = |at: usize, set: Set| -> Result<PackedTable, RunError> {
        let labels = data.labels(set).to_vec();
        let table = columns(network, heads, &temperatures, &scores[at], set, labels)?;
        Ok(PackedTable::pack(&table)?)
    };
    Ok(Tables {
        calibration: table(0, Set::Calibration)?,
        test: table(1, Set::Test)?,
        temperatures,
    })
}

/// Calibration samples that temperatures are fitted on.
enum Fitting<'a> {
    All(&'a [u16]),
    /// Those that a guarantee doesn't hold back, by number, and their labels.
    Some(Vec<usize>, Vec<u16>),
}

fn fitting<'a>(session: &Session, labels: &'a [u16]) -> Fitting<'a> {
    if session.guarantee.is_none() {
        return Fitting::All(labels);
    }
    let (tuning, _) = parted(labels.len());
    let own = tuning.iter().map(|&i| labels[i]).collect();
    Fitting::Some(tuning, own)
}

impl Fitting<'_> {
    fn temperature(&self, logits: &[f32], classes: usize) -> f32 {
        match self {
            Fitting::All(labels) => fit_temperature(logits, classes, labels),
            Fitting::Some(samples, labels) => {
                let rows = samples.iter().map(|i| &logits[i * classes..][..classes]);
                fit_temperature(&rows.collect::<Vec<_>>().concat(), classes, labels)
            }
        }
    }
}

/// The outputs of each head and, last, of `graph`, over all samples, one at a time as the
/// distributed run has it.
fn through(
    backend: BackendId,
    graph: &Graph,
    heads: &[TierHead],
    samples: &dyn Samples,
    cancel: &Cancel,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Vec<f32>>, RunError> {
    let heads: Vec<(&str, &Graph)> = heads
        .iter()
        .map(|TierHead { head, .. }| (head.point.value.as_str(), &head.graph))
        .collect();
    let options = ScoreOptions {
        backend,
        ..ScoreOptions::default()
    };
    let scores = forward_scores_with(&options, graph, &heads, samples, cancel, progress);
    Ok(scores?)
}

fn columns(
    network: &Network,
    heads: &[TierHead],
    temperatures: &[f32],
    scores: &[Vec<f32>],
    set: Set,
    labels: Vec<u16>,
) -> Result<ConfidenceTable, RunError> {
    let classes = network.table.classes;
    let mut table = ConfidenceTable::new(set, labels);
    for ((scores, of), &temperature) in scores.iter().zip(heads).zip(temperatures) {
        let head = &of.head;
        let mut column = Column::new(Some(&head.point.after), &head.hash, temperature);
        column.extend(scores, classes, Output::Logits)?;
        let mut raw = Column::new(None, "", 1.0);
        raw.extend(scores, classes, Output::Logits)?;
        let right = raw
            .prediction
            .iter()
            .zip(&table.labels)
            .map(|(p, l)| p == l);
        let raw = reliability(raw.max_probability.iter().copied().zip(right));
        column.raw_error = Some(raw.error as f32);
        table.push(column)?;
    }
    if let Some(scores) = scores.get(heads.len()) {
        let output = match network.ends_in_softmax {
            true => Output::Probabilities,
            false => Output::Logits,
        };
        let mut column = Column::new(None, "", 1.0);
        column.extend(scores, classes, output)?;
        table.push(column)?;
    }
    Ok(table)
}

/// The tensor at the split as the cloud gets it: through the edge part, encoded, decoded.
struct Delivered<'a> {
    images: Images<'a>,
    pixels: usize,
    prefix: Box<dyn Compiled>,
    shape: Vec<usize>,
    wire: Wire,
    cancel: &'a Cancel,
    failed: Mutex<Option<RunError>>,
}

impl Delivered<'_> {
    fn deliver(&self, index: usize, out: &mut [f32]) -> Result<(), RunError> {
        let mut pixels = vec![0.0; self.pixels];
        self.images.input(index, &mut pixels);
        let mut tensor = vec![0.0; out.len()];
        self.prefix
            .run_into(1, &[&pixels], &mut [&mut tensor], self.cancel)?;
        let bytes = wire::encode(self.wire, &self.shape, &tensor)?;
        let (_, arrived) = wire::decode(&bytes, out.len())?;
        out.copy_from_slice(&arrived);
        Ok(())
    }
}

impl Samples for Delivered<'_> {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn label(&self, index: usize) -> u16 {
        self.images.label(index)
    }

    fn input(&self, index: usize, out: &mut [f32]) {
        if let Err(error) = self.deliver(index, out) {
            out.fill(f32::NAN);
            if let Ok(mut failed) = self.failed.lock() {
                failed.get_or_insert(error);
            }
        }
    }

    fn identity(&self) -> String {
        format!(
            "{} {:?} {:?}",
            self.images.identity(),
            self.shape,
            self.wire
        )
    }
}

/// The columns behind the plan's split, computed from tensors as the session's wire delivers them.
pub(super) fn over_the_wire(
    reporter: &mut Reporter,
    session: &Session,
    network: &Network,
    data: &LoadedData,
    heads: &[TierHead],
    plan: &Plan,
    cancel: &Cancel,
) -> Result<Option<WireTables>, RunError> {
    // Only of the first split: what crosses several is encoded several times.
    let at = plan.splits.first().and_then(|split| split.row());
    let after = plan.split_layers.first().and_then(Option::as_ref);
    let (Some(at), Some(after)) = (at, after) else {
        return Ok(None);
    };
    let fused = &network.fused;
    let layer = &network.table.layers[at];
    let cut = fused.find(&layer.value)?;
    let prefix = fused.subgraph(&fused.inputs, &[cut])?;
    let suffix = fused.subgraph(&[cut], &fused.outputs)?;
    let behind = heads.iter().filter(|h| h.head.point.layer > at);
    let behind: Vec<TierHead> = behind.cloned().collect();
    let temperatures: Vec<f32> = behind.iter().map(|h| h.temperature).collect();
    let shape = layer.shape.at(1);
    let engine = session.table_engine();
    let backend = engine.open()?;
    let [calibration, test] = [Set::Calibration, Set::Test].map(|set| {
        let samples = Delivered {
            images: Images::new(data, set, session.pixels())?,
            pixels: data.shape().iter().product(),
            prefix: backend.compile(prefix.clone(), &CompileOptions { threads: 1 })?,
            shape: shape.clone(),
            wire: session.wire,
            cancel,
            failed: Mutex::new(None),
        };
        let total = data.len(set);
        let scores = through(engine, &suffix, &behind, &samples, cancel, &mut |done| {
            reporter.progress(done, total, "images as the wire delivers them");
        });
        if let Ok(Some(error)) = samples.failed.into_inner() {
            return Err(error);
        }
        let labels = data.labels(set).to_vec();
        let table = columns(network, &behind, &temperatures, &scores?, set, labels)?;
        Ok(PackedTable::pack(&table)?)
    });
    Ok(Some(WireTables {
        split_after: after.clone(),
        wire: session.wire,
        calibration: calibration?,
        test: test?,
    }))
}
