/*! The guarantee, for the report. */

use crate::data::Set;
use crate::explore::risk::Finding;
use crate::explore::{Guarantee, Promise};
use crate::plan::Plan;
use crate::predict::{Evidence, PreparedPlan, ReplayError, Terms, harm_on_test};
use serde::{Deserialize, Serialize};

/// What leaving early is promised to cost, and what it cost on the test images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GuaranteeReport {
    /// The guarantee in words.
    pub text: String,
    /// ε in points of accuracy, and δ.
    #[serde(flatten)]
    pub promise: Promise,
    /// Calibration images held back for it.
    pub held_back: usize,
    /// What came of it.
    pub finding: Finding,
    /// What the thresholds that keep it did to the test images; absent where none do.
    pub on_test: Option<OnTest>,
}

/// Thresholds judged on the test images, which had no part in their choice.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OnTest {
    /// Number of images.
    pub samples: usize,
    /// Images answered wrongly that the whole network answers rightly.
    pub harmed: usize,
    /// Share answered right, 0 to 1.
    pub accuracy: f64,
    /// The whole network's, over the same images.
    pub unmodified_accuracy: f64,
}

impl GuaranteeReport {
    /// A guarantee of a plan, judged on the test images.
    ///
    /// # Errors
    /// Where the plan can't be replayed over them.
    pub fn new(
        found: &Guarantee,
        evidence: &Evidence,
        terms: &Terms,
        plan: &Plan,
    ) -> Result<GuaranteeReport, ReplayError> {
        let on_test = match found.kept() {
            None => None,
            Some(kept) => {
                let mut plan = plan.clone();
                for (exit, threshold) in plan.exits.iter_mut().zip(&kept.thresholds) {
                    exit.threshold = *threshold;
                }
                let harm = harm_on_test(evidence, terms, &plan)?;
                let outcome = PreparedPlan::new(evidence, terms, Set::Test, &plan)?.outcome();
                let table = &evidence.answers(Set::Test)?.table;
                Some(OnTest {
                    samples: harm.samples,
                    harmed: harm.harmed.first().copied().unwrap_or(0),
                    accuracy: outcome.accuracy,
                    unmodified_accuracy: table.final_column()?.accuracy(&table.labels),
                })
            }
        };
        Ok(GuaranteeReport {
            text: found.text(),
            promise: found.promise,
            held_back: found.samples,
            finding: found.finding.clone(),
            on_test,
        })
    }

    /// The guarantee, and what became of it on the test images.
    pub fn sentence(&self) -> String {
        let Some(test) = &self.on_test else {
            return self.text.clone();
        };
        let share = |x: f64| format!("{:.1}", 100.0 * x);
        let harmed = share(test.harmed as f64 / test.samples.max(1) as f64);
        format!(
            "{}. On the {} test images these thresholds have {} % where the whole network has {} %, and harm \
             {harmed} of 100",
            self.text,
            super::number::count(test.samples),
            share(test.accuracy),
            share(test.unmodified_accuracy),
        )
    }
}
