/*! One row per sample and classifier, of the calibration and the test set. */

use super::{Table, Values};
use crate::data::Set;
use crate::plan::Plan;
use crate::predict::replay::{Met, met, parted};
use crate::predict::{Answers, Column, Confidence, Evidence, Terms};
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
    /// As the plan's samples meet it, where they do.
    planned: Option<&'a Met<'a>>,
}

/// Every sample through every exit there is a head for, the final classifier last; and once more through
/// those behind a split whose wire carries another element type, and the final one of images sent as JPEG
/// files. Where the plan's samples meet the classifier, the row tells its tier and threshold: a sample leaves
/// at the first of these rows whose `confidence` is above its `threshold`. Where the measure looks at the exits
/// before, the plan's rows alone have a confidence. Where half of the calibration images is held back for a
/// guarantee, the other half is listed. Logits are not kept.
pub fn samples(evidence: &Evidence, terms: &Terms, plan: &Plan) -> Table {
    let measure = terms.policy.confidence;
    let mut out = Rows::default();
    for set in [Set::Calibration, Set::Test] {
        if let Ok(answers) = evidence.answers(set) {
            // Without all of the plan's classifiers in the tables, none of them is the plan's.
            let met = met(evidence, terms, set, plan).unwrap_or_default();
            let listed = listed(answers, &met);
            let labels = &answers.table.labels;
            let held = evidence
                .held_back
                .as_ref()
                .filter(|_| set == Set::Calibration);
            let numbers = match held {
                Some(held) => parted(labels.len() + held.samples()).0,
                None => (0..labels.len()).collect(),
            };
            for (at, (&label, number)) in labels.iter().zip(numbers).enumerate() {
                for one in &listed {
                    out.add(set, (at, number), label, one, measure, evidence);
                }
            }
        }
    }
    out.table()
}

fn listed<'a>(answers: &'a Answers, met: &'a [Met<'a>]) -> Vec<Listed<'a>> {
    let number = |column: &Column| {
        let mut all = answers.table.columns.iter();
        all.position(|c| c.after == column.after && c.head == column.head)
    };
    let of = |column: &'a Column, wire: &str, split_after: &str| Listed {
        column,
        wire: wire.into(),
        split_after: split_after.into(),
        number: number(column).unwrap_or(answers.table.columns.len()) as u64,
        // The very column, since each wire has one of its own.
        planned: met
            .iter()
            .find(|met| std::ptr::eq(met.prediction, column.prediction.as_slice())),
    };
    let own = answers.table.columns.iter().map(|c| of(c, "F32", ""));
    let wires = answers.wires.iter().flat_map(|wire| {
        let element = wire.element.to_string();
        let columns = wire.table.columns.iter();
        columns.map(move |c| of(c, &element, &wire.split_after))
    });
    let images = answers
        .images
        .iter()
        .flat_map(|images| &images.table.columns);
    let images = images.map(|c| of(c, "JPEG", ""));
    own.chain(wires).chain(images).collect()
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
        (sample, number): (usize, usize),
        label: u16,
        one: &Listed,
        measure: Confidence,
        evidence: &Evidence,
    ) {
        let column = one.column;
        let prediction = column.prediction[sample];
        let tier = one.planned.map(|met| met.tier);
        let threshold = one.planned.map(|met| met.threshold);
        let confidence = match one.planned {
            Some(met) => met.confidence[sample],
            None if measure.looks_back() => f32::NAN,
            None => column.confidence(measure)[sample],
        };
        self.set.push(set.to_string().into());
        self.wire.push(one.wire.clone());
        self.split_after.push(one.split_after.clone());
        self.sample.push(Some(number as u64));
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
        self.confidence.push(confidence);
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
