/*!
The confidence tables of a run: every sample of the calibration and the test set through every exit
and the final classifier, once; and the cloud's columns again where the wire changes what it sees.
*/

use super::keep::Teller;
use super::samples::Images;
use super::{Network, RunError};
use crate::data::{LoadedData, Set};
use crate::engine::{Cancel, Engine, EngineError, Options};
use crate::evaluate::policy::Output;
use crate::evaluate::{Column, ConfidenceTable};
use crate::exits::{Head, Part};
use crate::model::{Graph, ValueId};
use crate::partition::{Plan, Split};
use crate::remote::{Wire, wire};
use crate::session::Session;
use crate::session::results::WireTables;
use crate::session::tables::PackedTable;
use crate::train::{Samples, fit_temperature};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::sync::Mutex;

/// Samples between two words of progress.
const CHUNK: usize = 256;

/// Both tables, and the temperature of each head.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Tables {
    pub temperatures: Vec<f32>,
    pub calibration: PackedTable,
    pub test: PackedTable,
}

/// Runs both sets through all heads, and fits the temperatures on the calibration set.
pub(super) fn make(
    teller: &mut Teller,
    session: &Session,
    network: &Network,
    data: &LoadedData,
    heads: &[(Part, Head)],
    cancel: &Cancel,
) -> Result<Tables, RunError> {
    let total = data.len(Set::Calibration) + data.len(Set::Test);
    let mut before = 0;
    let mut scores = Vec::new();
    for set in [Set::Calibration, Set::Test] {
        let samples = Images::new(data, set, &session.preprocessing)?;
        let note = match set {
            Set::Calibration => "calibration images through every exit",
            _ => "test images through every exit",
        };
        scores.push(through(
            &network.fused,
            heads,
            &samples,
            cancel,
            &mut |done| teller.progress(before + done, total, note),
        )?);
        before += data.len(set);
    }
    let labels = data.labels(Set::Calibration);
    let temperatures: Vec<f32> = scores[0]
        .iter()
        .take(heads.len())
        .map(|logits| fit_temperature(logits, network.table.classes, labels))
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

/// The outputs of each head and, last, of `graph`, over all samples: one sample at a time, as the
/// distributed run has it, on all cores.
fn through(
    graph: &Graph,
    heads: &[(Part, Head)],
    samples: &dyn Samples,
    cancel: &Cancel,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Vec<f32>>, RunError> {
    let one = Options { threads: 1 };
    let mut cuts = Vec::new();
    let mut feeds = Vec::new();
    let mut engines = Vec::new();
    for (_, head) in heads {
        let cut = graph.find(&head.point.value)?;
        let at = cuts.iter().position(|&c| c == cut).unwrap_or_else(|| {
            cuts.push(cut);
            cuts.len() - 1
        });
        feeds.push(at);
        engines.push(Engine::new(head.graph.clone(), &one)?);
    }
    let outputs: Vec<ValueId> = cuts.iter().chain(&graph.outputs).copied().collect();
    let backbone = Engine::new(graph.subgraph(&graph.inputs, &outputs)?, &one)?;
    let size = graph.value(graph.inputs[0]).shape.elements(1);
    let mut scores = vec![Vec::new(); heads.len() + 1];
    let indices: Vec<usize> = (0..samples.len()).collect();
    for chunk in indices.chunks(CHUNK) {
        let found: Vec<Vec<Vec<f32>>> = chunk
            .par_iter()
            .map(|&index| {
                let mut input = vec![0.0; size];
                samples.input(index, &mut input);
                let mut values = backbone.run_f32(1, &[&input], cancel)?;
                let last = values.pop().unwrap_or_default();
                let heads = engines.iter().zip(&feeds);
                let mut all: Vec<Vec<f32>> = heads
                    .map(|(engine, &at)| {
                        let outputs = engine.run_f32(1, &[&values[at]], cancel)?;
                        Ok(outputs.into_iter().next().unwrap_or_default())
                    })
                    .collect::<Result<_, EngineError>>()?;
                all.push(last);
                Ok(all)
            })
            .collect::<Result<_, EngineError>>()?;
        for sample in found {
            for (all, one) in scores.iter_mut().zip(sample) {
                all.extend(one);
            }
        }
        progress(chunk[chunk.len() - 1] + 1);
    }
    Ok(scores)
}

fn columns(
    network: &Network,
    heads: &[(Part, Head)],
    temperatures: &[f32],
    scores: &[Vec<f32>],
    set: Set,
    labels: Vec<u16>,
) -> Result<ConfidenceTable, RunError> {
    let classes = network.table.classes;
    let mut table = ConfidenceTable::new(set, labels);
    for ((scores, (_, head)), &temperature) in scores.iter().zip(heads).zip(temperatures) {
        let mut column = Column::new(Some(&head.point.after), &head.hash, temperature);
        column.extend(scores, classes, Output::Logits)?;
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
    prefix: Engine,
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
    teller: &mut Teller,
    session: &Session,
    network: &Network,
    data: &LoadedData,
    heads: &[(Part, Head, f32)],
    plan: &Plan,
    cancel: &Cancel,
) -> Result<Option<WireTables>, RunError> {
    let (Split::After(at), Some(after)) = (&plan.split, &plan.split_after) else {
        return Ok(None);
    };
    let fused = &network.fused;
    let layer = &network.table.layers[*at];
    let cut = fused.find(&layer.value)?;
    let prefix = fused.subgraph(&fused.inputs, &[cut])?;
    let suffix = fused.subgraph(&[cut], &fused.outputs)?;
    let behind: Vec<&(Part, Head, f32)> = heads
        .iter()
        .filter(|(_, h, _)| h.point.layer > *at)
        .collect();
    let temperatures: Vec<f32> = behind.iter().map(|(_, _, t)| *t).collect();
    let behind: Vec<(Part, Head)> = behind.iter().map(|(p, h, _)| (*p, h.clone())).collect();
    let shape = layer.shape.at(1);
    let [calibration, test] = [Set::Calibration, Set::Test].map(|set| {
        let samples = Delivered {
            images: Images::new(data, set, &session.preprocessing)?,
            pixels: data.shape().iter().product(),
            prefix: Engine::new(prefix.clone(), &Options { threads: 1 })?,
            shape: shape.clone(),
            wire: session.wire,
            cancel,
            failed: Mutex::new(None),
        };
        let total = data.len(set);
        let scores = through(&suffix, &behind, &samples, cancel, &mut |done| {
            teller.progress(done, total, "images as the wire delivers them");
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
