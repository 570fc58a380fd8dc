/*! The classifiers a sample meets on its way, in order, with their columns and thresholds; and the
comparison of a run with them. */

use super::super::evidence::{Answers, Evidence, Missing, Terms};
use super::super::outcome::Record;
use super::super::policy::{PolicyError, leaves};
use super::super::table::TableError;
use super::super::{Column, Combination, Confidence, ConfidenceTable};
use super::{HeadKey, ReplayError};
use crate::data::Set;
use crate::plan::{Element, Plan, PlannedExit, Tier};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Confidences this near to a threshold may fall on either side of it.
pub const WITHIN: f64 = 1e-5;

/// A classifier a sample meets.
#[derive(Debug, Clone)]
pub(super) struct Classifier<'a> {
    /// `None` for the final classifier.
    pub after: Option<String>,
    pub tier: Tier,
    /// Hash of its head.
    pub hash: &'a str,
    threshold: f64,
    /// Whether the policy names it, so that it keeps its threshold.
    named: bool,
    pub prediction: &'a [u16],
    confidence: Cow<'a, [f32]>,
}

/// All of them, the final classifier last.
#[derive(Debug, Clone)]
pub(super) struct Chain<'a> {
    pub set: Set,
    pub labels: &'a [u16],
    pub stages: Vec<Classifier<'a>>,
    /// Whether some column behind a split is of F32 tensors though the wire carries another type.
    pub as_f32: bool,
    /// Mean bytes of the images, where such are sent.
    pub image_bytes: Option<f64>,
    /// How confidence is measured.
    measure: Confidence,
}

/// A classifier that the samples of a plan meet, as tables tell it.
#[derive(Debug, Clone)]
pub struct Met<'a> {
    /// The answers it gives there: those of a column of the set's tables.
    pub prediction: &'a [u16],
    /// How sure it is of each sample by the policy's measure, 0 to 1; where that looks at the exits before, these
    /// are the plan's.
    pub confidence: Cow<'a, [f32]>,
    /// Tier that runs it.
    pub tier: Tier,
    /// A sample leaves there above this confidence, 0 to 1; 0 for the final classifier, at which all leave.
    pub threshold: f64,
}

/// The classifiers that a plan's samples meet, in order, the final one last.
///
/// # Errors
/// Where the set's tables lack one.
pub fn met<'a>(
    evidence: &'a Evidence,
    terms: &Terms,
    set: Set,
    plan: &Plan,
) -> Result<Vec<Met<'a>>, ReplayError> {
    let stages = Chain::new(evidence, terms, evidence.answers(set)?, plan)?
        .stages
        .into_iter();
    let met = stages.map(|stage| Met {
        prediction: stage.prediction,
        confidence: stage.confidence,
        tier: stage.tier,
        threshold: stage.threshold,
    });
    Ok(met.collect())
}

/// The models of a plan's exits, in order, where the measure is learned; else none. They are fitted to what
/// the exits say of calibration images that crossed no wire, so that they hold whatever the wire.
///
/// # Errors
/// Where the calibration table lacks an exit, or is missing.
pub fn combinations(
    evidence: &Evidence,
    measure: Confidence,
    plan: &Plan,
) -> Result<Vec<Combination>, ReplayError> {
    if measure != Confidence::Learned || plan.exits.is_empty() {
        return Ok(Vec::new());
    }
    let answers = evidence.calibration.as_ref();
    let answers = answers.filter(|answers| answers.table.set == Set::Calibration);
    let answers = answers.ok_or(Missing::Table(Set::Calibration))?;
    let table = &answers.table;
    let place = |exit: &PlannedExit| {
        let column = head_column(table, exit, evidence)?;
        let place = table.columns.iter().position(|c| std::ptr::eq(c, column));
        place.ok_or_else(|| {
            ReplayError::Table(TableError::Missing {
                after: exit.after.clone(),
                set: table.set,
            })
        })
    };
    let places: Result<Vec<usize>, ReplayError> = plan.exits.iter().map(place).collect();
    Ok(evidence.fits.of(answers, &places?))
}

/// How sure each exit is of each sample, `columns` being those of the plan's exits, all of one length.
fn confidences<'a>(
    measure: Confidence,
    columns: &[&'a Column],
    models: &[Combination],
) -> Result<Vec<Cow<'a, [f32]>>, PolicyError> {
    if !measure.looks_back() {
        let own = columns.iter().map(|column| column.confidence(measure));
        return Ok(own.map(Cow::Borrowed).collect());
    }
    let samples = columns.first().map_or(0, |column| column.len());
    let mut all = vec![Vec::with_capacity(samples); columns.len()];
    let mut said = Vec::with_capacity(columns.len());
    for sample in 0..samples {
        said.clear();
        for (exit, column) in columns.iter().enumerate() {
            let decision = column.decision(sample);
            all[exit].push(decision.at_exit(measure, &said, models.get(exit))?);
            said.push(decision);
        }
    }
    Ok(all.into_iter().map(Cow::Owned).collect())
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

impl Classifier<'_> {
    /// How sure the classifier is of each sample, by the policy's measure.
    pub fn confidence(&self) -> &[f32] {
        &self.confidence
    }
}

impl Equality {
    /// Whether no sample differs.
    pub fn holds(&self) -> bool {
        self.differing.is_empty()
    }
}

impl<'a> Chain<'a> {
    pub fn new(
        evidence: &'a Evidence,
        terms: &Terms,
        answers: &'a Answers,
        plan: &Plan,
    ) -> Result<Chain<'a>, ReplayError> {
        fits(plan, evidence)?;
        let table = &answers.table;
        if table.labels.is_empty() {
            return Err(ReplayError::Empty(table.set));
        }
        let wires = Wires {
            evidence,
            answers,
            plan,
            element: terms.wire.tensor,
        };
        let mut as_f32 = false;
        let measure = terms.policy.confidence;
        let models = combinations(evidence, measure, plan)?;
        let mut stages = Vec::with_capacity(plan.exits.len() + 1);
        let mut columns = Vec::with_capacity(plan.exits.len());
        for exit in &plan.exits {
            let mut column = head_column(table, exit, evidence)?;
            match wires.before(exit.tier)? {
                Carried::AsIs => {}
                Carried::Otherwise(wire) => {
                    let found = wire.and_then(|w| w.column(&exit.after, Some(&column.head)).ok());
                    as_f32 |= found.is_none();
                    column = found.unwrap_or(column);
                }
            }
            let mut own = terms.policy.exits.iter();
            columns.push(column);
            stages.push(Classifier {
                after: Some(exit.after.clone()),
                tier: exit.tier,
                hash: &column.head,
                threshold: exit.threshold,
                named: own.any(|(name, _)| *name == exit.after),
                prediction: &column.prediction,
                confidence: Cow::Borrowed(&[]),
            });
        }
        let mut last = table.final_column()?;
        if plan.sends_images() {
            let images = answers.images.as_ref();
            last = images
                .ok_or(Missing::Images(table.set))?
                .table
                .final_column()?;
        } else if let Carried::Otherwise(wire) = wires.before(plan.last_tier())? {
            let found = wire.and_then(|w| w.final_column().ok());
            as_f32 |= found.is_none();
            last = found.unwrap_or(last);
        }
        stages.push(Classifier {
            after: None,
            tier: plan.last_tier(),
            hash: "",
            threshold: 0.0,
            named: false,
            prediction: &last.prediction,
            confidence: Cow::Borrowed(last.confidence(measure)),
        });
        let samples = table.labels.len();
        if let Some(short) = stages.iter().find(|s| s.prediction.len() != samples) {
            return Err(ReplayError::Table(TableError::Length {
                after: short.after.clone().unwrap_or("the final classifier".into()),
                found: short.prediction.len(),
                expected: samples,
            }));
        }
        let confidences = confidences(measure, &columns, &models)?;
        for (stage, confidence) in stages.iter_mut().zip(confidences) {
            stage.confidence = confidence;
        }
        Ok(Chain {
            set: table.set,
            labels: &table.labels,
            stages,
            as_f32,
            image_bytes: answers.images.as_ref().map(|images| images.bytes),
            measure,
        })
    }

    /// The plan's own thresholds, one per exit.
    pub fn planned(&self) -> Vec<f64> {
        let exits = &self.stages[..self.stages.len() - 1];
        exits.iter().map(|s| s.threshold).collect()
    }

    /// A common one, but for exits the policy names.
    pub fn common(&self, threshold: f64) -> Vec<f64> {
        let exits = &self.stages[..self.stages.len() - 1];
        let own = |s: &Classifier| if s.named { s.threshold } else { threshold };
        exits.iter().map(own).collect()
    }

    /// Where a sample leaves, given a threshold for each exit.
    pub fn leaves_at(&self, sample: usize, thresholds: &[f64]) -> usize {
        let mut exits = self.stages.iter().zip(thresholds);
        exits
            .position(|(stage, &threshold)| leaves(stage.confidence[sample], threshold))
            .unwrap_or(thresholds.len())
    }

    /// Where each sample leaves. Exit by exit, the last first: a pass over a column without a branch.
    pub fn leave(&self, thresholds: &[f64]) -> Vec<u8> {
        let mut at = vec![thresholds.len() as u8; self.labels.len()];
        let exits = self.stages.iter().zip(thresholds).enumerate();
        for (exit, (stage, &threshold)) in exits.rev() {
            // Above it lie the same confidences as above the threshold.
            let threshold = at_most(threshold);
            for (at, confidence) in at.iter_mut().zip(stage.confidence()) {
                *at = if *confidence > threshold {
                    exit as u8
                } else {
                    *at
                };
            }
        }
        at
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
            // Whole numbers of exits agree: nothing is nearly so.
            let near = |(stage, &threshold): (&Classifier, &f64)| {
                self.measure != Confidence::Patience
                    && (f64::from(stage.confidence[sample]) - threshold).abs() <= WITHIN
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

/// The largest F32 that is no larger than a number.
fn at_most(number: f64) -> f32 {
    let nearest = number as f32;
    match f64::from(nearest) > number {
        true => nearest.next_down(),
        false => nearest,
    }
}

/// A plan whose layers the network has, splits and exits in order of depth, exits on their side.
fn fits(plan: &Plan, evidence: &Evidence) -> Result<(), ReplayError> {
    let network = &evidence.layers;
    let refuse = |what: String| {
        Err(ReplayError::OtherPlan {
            network: network.network.clone(),
            what,
        })
    };
    let (found, expected) = (plan.tiers(), evidence.tiers.count());
    if found != expected {
        return refuse(format!("it has {found} tiers, the session {expected}"));
    }
    let layers = &network.layers;
    for at in plan.splits.iter().filter_map(|split| split.row()) {
        if at + 1 >= layers.len() {
            return refuse(format!("there is nothing behind row {at} to split off"));
        }
    }
    if !plan.splits.is_sorted() {
        return refuse("its splits are out of order".into());
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
        if plan.tier_of(exit.layer) != exit.tier {
            return refuse(format!("the exit after `{name}` is across the split"));
        }
    }
    Ok(())
}

fn head_column<'a>(
    table: &'a ConfidenceTable,
    exit: &PlannedExit,
    evidence: &Evidence,
) -> Result<&'a Column, ReplayError> {
    if let Some(key) = HeadKey::find(&evidence.heads, exit) {
        return Ok(table.column(&exit.after, Some(&key.hash))?);
    }
    let same = |c: &&Column| c.after.as_deref() == Some(exit.after.as_str());
    let count = table.columns.iter().filter(same).count();
    if count > 1 {
        return Err(ReplayError::Ambiguous {
            after: exit.after.clone(),
            tier: exit.tier,
            count,
        });
    }
    Ok(table.column(&exit.after, None)?)
}

/// The tables of what crossed a wire.
struct Wires<'a, 'b> {
    evidence: &'a Evidence,
    answers: &'a Answers,
    plan: &'b Plan,
    element: Element,
}

/// How the tensor that a tier works on came to it.
enum Carried<'a> {
    /// As it was computed: over no wire, or over one that changes nothing.
    AsIs,
    /// As another element type; with the columns that were computed of it, if they were.
    Otherwise(Option<&'a ConfidenceTable>),
}

impl<'a> Wires<'a, '_> {
    fn before(&self, tier: Tier) -> Result<Carried<'a>, ReplayError> {
        // Pixels travel as they are, and so does what is split off at neither end.
        let crossed = self.plan.splits.iter().take(tier.index());
        let mut crossed: Vec<usize> = crossed.filter_map(|split| split.row()).collect();
        crossed.dedup();
        if crossed.is_empty() || self.element == Element::F32 {
            return Ok(Carried::AsIs);
        }
        // Columns are computed of a tensor that was encoded once.
        let &[at] = crossed.as_slice() else {
            return Ok(Carried::Otherwise(None));
        };
        let table = &self.answers.table;
        let split = &self.evidence.layers.layers[at].name;
        let found = self.answers.wires.iter().find(|w| {
            w.split_after == *split && w.element == self.element && w.table.set == table.set
        });
        match found {
            Some(found) if found.table.labels != table.labels => {
                Err(ReplayError::Table(TableError::Length {
                    after: split.clone(),
                    found: found.table.labels.len(),
                    expected: table.labels.len(),
                }))
            }
            found => Ok(Carried::Otherwise(found.map(|found| &found.table))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_threshold_in_f32_parts_the_same(bits: u32, near in -2_i32..=2, other: f64) {
            let confidence = f32::from_bits(bits);
            let mut threshold = f64::from(confidence);
            for _ in 0..near.abs() {
                threshold = if near > 0 { threshold.next_up() } else { threshold.next_down() };
            }
            for threshold in [threshold, other, f64::INFINITY, f64::NEG_INFINITY] {
                prop_assert_eq!(confidence > at_most(threshold), leaves(confidence, threshold));
            }
        }
    }
}
