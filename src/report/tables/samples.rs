/*! One row per sample and classifier, of the calibration and the test set. */

use super::{Table, Values};
use crate::data::Set;
use crate::plan::{Plan, Tier};
use crate::predict::{Answers, Column, Confidence, Evidence};
use std::sync::Arc;

/// A classifier whose answers are listed.
struct Listed<'a> {
    column: &'a Column,
    /// Element type of the tensors it saw.
    wire: Arc<str>,
    /// Layer behind which the split was that they crossed; empty where they crossed none.
    split_after: Arc<str>,
    /// Its number among the set's classifiers, in order of depth.
    number: u64,
    /// Tier and threshold, where the plan has it.
    planned: Option<(Tier, f64)>,
}

/// Every sample through every exit there is a head for, the final classifier last; and once more through
/// those behind a split whose wire carries another element type. Where the plan has the exit, the row tells
/// its tier and threshold: a sample leaves at the first of these rows whose `confidence` is above its
/// `threshold`. Logits are not kept.
pub fn samples(evidence: &Evidence, measure: Confidence, plan: &Plan) -> Table {
    let mut out = Rows::default();
    for set in [Set::Calibration, Set::Test] {
        if let Ok(answers) = evidence.answers(set) {
            let listed = listed(answers, evidence, plan);
            for (sample, &label) in answers.table.labels.iter().enumerate() {
                for one in &listed {
                    out.add(set, sample, label, one, measure, evidence);
                }
            }
        }
    }
    out.table()
}

/// Tier and threshold of a classifier, if the plan has it.
fn planned(column: &Column, evidence: &Evidence, plan: &Plan) -> Option<(Tier, f64)> {
    let Some(after) = &column.after else {
        return Some((plan.last_tier(), 0.0));
    };
    let exit = plan.exits.iter().find(|exit| exit.after == *after)?;
    let mut keys = evidence.heads.iter();
    let key = keys.find(|key| key.after == *after && key.tier == exit.tier);
    let this = key.is_none_or(|key| key.hash == column.head);
    this.then_some((exit.tier, exit.threshold))
}

fn listed<'a>(answers: &'a Answers, evidence: &Evidence, plan: &Plan) -> Vec<Listed<'a>> {
    let number = |column: &Column| {
        let mut all = answers.table.columns.iter();
        all.position(|c| c.after == column.after && c.head == column.head)
    };
    let of = |column: &'a Column, wire: &str, split_after: &str| Listed {
        column,
        wire: wire.into(),
        split_after: split_after.into(),
        number: number(column).unwrap_or(answers.table.columns.len()) as u64,
        planned: planned(column, evidence, plan),
    };
    let own = answers.table.columns.iter().map(|c| of(c, "F32", ""));
    let wires = answers.wires.iter().flat_map(|wire| {
        let element = format!("{:?}", wire.element);
        let columns = wire.table.columns.iter();
        columns.map(move |c| of(c, &element, &wire.split_after))
    });
    own.chain(wires).collect()
}

#[derive(Default)]
struct Rows {
    set: Vec<Arc<str>>,
    wire: Vec<Arc<str>>,
    split_after: Vec<Arc<str>>,
    sample: Vec<Option<u64>>,
    label: Vec<Option<u64>>,
    classifier: Vec<Option<u64>>,
    after: Vec<Arc<str>>,
    head: Vec<Arc<str>>,
    tier: Vec<Arc<str>>,
    threshold: Vec<f64>,
    temperature: Vec<f32>,
    prediction: Vec<Option<u64>>,
    correct: Vec<bool>,
    confidence: Vec<f32>,
    max_probability: Vec<f32>,
    entropy: Vec<f32>,
    margin: Vec<f32>,
}

impl Rows {
    fn add(
        &mut self,
        set: Set,
        sample: usize,
        label: u16,
        one: &Listed,
        measure: Confidence,
        evidence: &Evidence,
    ) {
        let column = one.column;
        let prediction = column.prediction[sample];
        let (tier, threshold) = one.planned.unzip();
        self.set.push(match set {
            Set::Calibration => "calibration".into(),
            Set::Test => "test".into(),
            Set::Train => "train".into(),
        });
        self.wire.push(one.wire.clone());
        self.split_after.push(one.split_after.clone());
        self.sample.push(Some(sample as u64));
        self.label.push(Some(label.into()));
        self.classifier.push(Some(one.number));
        self.after
            .push(column.after.as_deref().unwrap_or("").into());
        self.head.push(column.head.as_str().into());
        self.tier
            .push(tier.map_or("", |tier| evidence.tiers.name(tier)).into());
        self.threshold.push(threshold.unwrap_or(f64::NAN));
        self.temperature.push(column.temperature);
        self.prediction.push(Some(prediction.into()));
        self.correct.push(prediction == label);
        self.confidence.push(column.confidence(measure)[sample]);
        self.max_probability.push(column.max_probability[sample]);
        self.entropy.push(column.entropy[sample]);
        self.margin.push(column.margin[sample]);
    }

    fn table(self) -> Table {
        Table::of(vec![
            ("set", Values::Text(self.set)),
            ("wire", Values::Text(self.wire)),
            ("split_after", Values::Text(self.split_after)),
            ("sample", Values::Whole(self.sample)),
            ("label", Values::Whole(self.label)),
            ("classifier", Values::Whole(self.classifier)),
            ("after", Values::Text(self.after)),
            ("head", Values::Text(self.head)),
            ("tier", Values::Text(self.tier)),
            ("threshold", Values::Double(self.threshold)),
            ("temperature", Values::Single(self.temperature)),
            ("prediction", Values::Whole(self.prediction)),
            ("correct", Values::Flag(self.correct)),
            ("confidence", Values::Single(self.confidence)),
            ("max_probability", Values::Single(self.max_probability)),
            ("entropy", Values::Single(self.entropy)),
            ("margin", Values::Single(self.margin)),
        ])
    }
}
