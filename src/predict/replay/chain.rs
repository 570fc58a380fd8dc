/*! The classifiers a sample meets on its way, in order, with their columns and thresholds; and the
comparison of a run with them. */

use super::super::outcome::Record;
use super::super::policy::leaves;
use super::super::table::TableError;
use super::super::{Column, ConfidenceTable};
use super::{ReplayError, World};
use crate::data::Set;
use crate::plan::Element;
use crate::plan::Part;
use crate::plan::{Plan, PlannedExit, Split};
use serde::{Deserialize, Serialize};

/// Confidences this near to a threshold may fall on either side of it.
pub const WITHIN: f64 = 1e-5;

/// A classifier a sample meets.
#[derive(Debug, Clone)]
pub(super) struct Stage<'a> {
    /// `None` for the final classifier.
    pub after: Option<String>,
    pub part: Part,
    /// Hash of its head.
    pub hash: &'a str,
    threshold: f64,
    /// Whether the policy names it, so that it keeps its threshold.
    named: bool,
    pub prediction: &'a [u16],
    confidence: &'a [f32],
}

/// All of them, the final classifier last.
#[derive(Debug, Clone)]
pub(super) struct Chain<'a> {
    pub set: Set,
    pub labels: &'a [u16],
    pub stages: Vec<Stage<'a>>,
    /// The first stage in the cloud; the count of stages if there is none.
    pub first_cloud: usize,
    /// Whether some cloud column is of F32 tensors though the wire carries another type.
    pub as_f32: bool,
}

/// A sample that didn't go the way the table says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Number in its set.
    pub sample: u32,
    /// Exit by the table, counted over the plan's exits; their count is the final classifier.
    pub expected_exit: u16,
    /// Exit in the run.
    pub exit: u16,
    /// Class by the table.
    pub expected_prediction: u16,
    /// Class in the run.
    pub prediction: u16,
    /// Confidence by the table, where the run left.
    pub expected_confidence: f32,
    /// Confidence in the run.
    pub confidence: f32,
}

/// A run beside its replay, sample by sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Equality {
    /// Samples compared: all but the degraded, which the table knows nothing of.
    pub compared: usize,
    /// Of those, how many met an exit at a confidence within 1e-5 of its threshold; they count as
    /// neither equal nor different.
    pub within_band: usize,
    /// Of the others, those with another exit or another prediction.
    pub differing: Vec<Difference>,
    /// Largest difference of confidence where run and table left at the same classifier.
    pub largest_difference: f32,
}

impl Equality {
    /// Whether no sample differs.
    pub fn holds(&self) -> bool {
        self.differing.is_empty()
    }
}

impl<'a> Chain<'a> {
    pub fn new(
        table: &'a ConfidenceTable,
        plan: &Plan,
        world: &World<'a>,
    ) -> Result<Chain<'a>, ReplayError> {
        fits(plan, world)?;
        if table.labels.is_empty() {
            return Err(ReplayError::Empty(table.set));
        }
        let wire = wire_table(table, plan, world)?;
        let travels_as_f32 = match plan.split {
            Split::After(_) => world.wire.tensor == Element::F32,
            // Pixels travel as they are.
            Split::EdgeOnly | Split::CloudOnly => true,
        };
        let mut as_f32 = false;
        let measure = world.policy.confidence;
        let mut stages = Vec::with_capacity(plan.exits.len() + 1);
        for exit in &plan.exits {
            let mut column = head_column(table, exit, world)?;
            if exit.part == Part::Cloud && !travels_as_f32 {
                match wire.and_then(|w| w.column(&exit.after, Some(&column.head)).ok()) {
                    Some(over_the_wire) => column = over_the_wire,
                    None => as_f32 = true,
                }
            }
            let named = world
                .policy
                .exits
                .iter()
                .any(|(name, _)| *name == exit.after);
            stages.push(Stage {
                after: Some(exit.after.clone()),
                part: exit.part,
                hash: &column.head,
                threshold: exit.threshold,
                named,
                prediction: &column.prediction,
                confidence: column.confidence(measure),
            });
        }
        let mut last = table.final_column()?;
        if !travels_as_f32 {
            match wire.and_then(|w| w.final_column().ok()) {
                Some(over_the_wire) => last = over_the_wire,
                None => as_f32 = true,
            }
        }
        let part = match plan.split {
            Split::EdgeOnly => Part::Edge,
            Split::After(_) | Split::CloudOnly => Part::Cloud,
        };
        stages.push(Stage {
            after: None,
            part,
            hash: "",
            threshold: 0.0,
            named: false,
            prediction: &last.prediction,
            confidence: last.confidence(measure),
        });
        let samples = table.labels.len();
        if let Some(short) = stages.iter().find(|s| s.prediction.len() != samples) {
            return Err(ReplayError::Table(TableError::Length {
                after: short.after.clone().unwrap_or("the final classifier".into()),
                found: short.prediction.len(),
                expected: samples,
            }));
        }
        Ok(Chain {
            set: table.set,
            labels: &table.labels,
            first_cloud: stages.iter().take_while(|s| s.part == Part::Edge).count(),
            stages,
            as_f32,
        })
    }

    /// The plan's own thresholds, one an exit.
    pub fn planned(&self) -> Vec<f64> {
        let exits = &self.stages[..self.stages.len() - 1];
        exits.iter().map(|s| s.threshold).collect()
    }

    /// A common one, but for exits the policy names.
    pub fn common(&self, threshold: f64) -> Vec<f64> {
        let exits = &self.stages[..self.stages.len() - 1];
        let own = |s: &Stage| if s.named { s.threshold } else { threshold };
        exits.iter().map(own).collect()
    }

    /// Where a sample leaves, given a threshold for each exit.
    pub fn leaves_at(&self, sample: usize, thresholds: &[f64]) -> usize {
        let mut exits = self.stages.iter().zip(thresholds);
        exits
            .position(|(stage, &threshold)| leaves(stage.confidence[sample], threshold))
            .unwrap_or(thresholds.len())
    }

    pub fn equality(&self, records: &[Record]) -> Result<Equality, ReplayError> {
        let thresholds = self.planned();
        let mut equality = Equality {
            compared: 0,
            within_band: 0,
            differing: Vec::new(),
            largest_difference: 0.0,
        };
        for record in records {
            let refuse = |what| ReplayError::Record {
                sample: record.sample,
                what,
            };
            let sample = record.sample as usize;
            if sample >= self.labels.len() {
                return Err(refuse("the set has fewer samples"));
            }
            let Some(left) = self.stages.get(usize::from(record.exit)) else {
                return Err(refuse("the plan has fewer exits"));
            };
            if record.degraded {
                continue;
            }
            equality.compared += 1;
            let at = self.leaves_at(sample, &thresholds);
            let confidence = left.confidence[sample];
            if at == usize::from(record.exit) {
                let difference = (confidence - record.confidence).abs();
                equality.largest_difference = equality.largest_difference.max(difference);
            }
            let met = self.stages[..=at].iter().zip(&thresholds);
            let near = |(stage, &threshold): (&Stage, &f64)| {
                (f64::from(stage.confidence[sample]) - threshold).abs() <= WITHIN
            };
            if met.into_iter().any(near) {
                equality.within_band += 1;
                continue;
            }
            let expected = self.stages[at].prediction[sample];
            if at != usize::from(record.exit) || expected != record.prediction {
                equality.differing.push(Difference {
                    sample: record.sample,
                    expected_exit: at as u16,
                    exit: record.exit,
                    expected_prediction: expected,
                    prediction: record.prediction,
                    expected_confidence: confidence,
                    confidence: record.confidence,
                });
            }
        }
        Ok(equality)
    }
}

/// A plan whose layers the network has, exits in order of depth and on their side of the split.
fn fits(plan: &Plan, world: &World) -> Result<(), ReplayError> {
    let refuse = |what: String| {
        Err(ReplayError::OtherPlan {
            network: world.layers.network.clone(),
            what,
        })
    };
    let layers = &world.layers.layers;
    if let Split::After(at) = plan.split
        && at + 1 >= layers.len()
    {
        return refuse(format!("there is nothing behind row {at} to split off"));
    }
    let mut last = None;
    for exit in &plan.exits {
        let name = &exit.after;
        if layers.get(exit.layer).is_none_or(|l| l.name != *name) {
            return refuse(format!("row {} is not the layer `{name}`", exit.layer));
        }
        if last.is_some_and(|last| exit.layer <= last) {
            return refuse(format!("the exit after `{name}` is out of order"));
        }
        last = Some(exit.layer);
        let on_its_side = match (&plan.split, exit.part) {
            (Split::After(at), Part::Edge) => exit.layer <= *at,
            (Split::After(at), Part::Cloud) => exit.layer > *at,
            (Split::EdgeOnly, part) => part == Part::Edge,
            (Split::CloudOnly, part) => part == Part::Cloud,
        };
        if !on_its_side {
            return refuse(format!("the exit after `{name}` is across the split"));
        }
    }
    Ok(())
}

fn head_column<'a>(
    table: &'a ConfidenceTable,
    exit: &PlannedExit,
    world: &World,
) -> Result<&'a Column, ReplayError> {
    let mut keys = world.heads.iter();
    if let Some(key) = keys.find(|k| k.after == exit.after && k.part == exit.part) {
        return Ok(table.column(&exit.after, Some(&key.hash))?);
    }
    let same = |c: &&Column| c.after.as_deref() == Some(exit.after.as_str());
    let count = table.columns.iter().filter(same).count();
    if count > 1 {
        return Err(ReplayError::Ambiguous {
            after: exit.after.clone(),
            part: exit.part,
            count,
        });
    }
    Ok(table.column(&exit.after, None)?)
}

fn wire_table<'a>(
    table: &ConfidenceTable,
    plan: &Plan,
    world: &World<'a>,
) -> Result<Option<&'a ConfidenceTable>, ReplayError> {
    let Split::After(at) = plan.split else {
        return Ok(None);
    };
    let split = &world.layers.layers[at].name;
    let found = world.wire_tables.iter().find(|w| {
        w.split_after == *split && w.element == world.wire.tensor && w.table.set == table.set
    });
    let Some(found) = found else {
        return Ok(None);
    };
    if found.table.labels != table.labels {
        return Err(ReplayError::Table(TableError::Length {
            after: split.clone(),
            found: found.table.labels.len(),
            expected: table.labels.len(),
        }));
    }
    Ok(Some(&found.table))
}
