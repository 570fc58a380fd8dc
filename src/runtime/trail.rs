/*!
What the exits said of each sample of a batch so far: where the confidence of an exit depends on those before
it, the parts before told theirs with the sample, and the parts behind are told these.
*/

use super::RunnerError;
use super::parts::PartSettings;
use super::runner::ExitRules;
use crate::predict::Confidence;
use crate::predict::combination::Combination;
use crate::predict::policy::{Decision, PolicyError};

/// One row per sample: what the exits before the part said, then those of the part.
#[derive(Debug, Default)]
pub struct Trail {
    said: Vec<Decision>,
    /// Exits before the part, and all up to its end; both 0 where the measure looks at none of them.
    before: usize,
    width: usize,
    measure: Confidence,
}

impl Trail {
    /// Begins anew for a batch on a part of so many exits.
    pub(super) fn begin(
        &mut self,
        batch: usize,
        rules: &ExitRules,
        settings: &PartSettings,
        exits: usize,
    ) -> Result<(), RunnerError> {
        self.said.clear();
        (self.before, self.width, self.measure) = (0, 0, rules.confidence);
        if !rules.confidence.looks_back() || exits + settings.exits_before.len() == 0 {
            return Ok(());
        }
        // A part of another measure doesn't know which exits stand before it, nor has it a model.
        if rules.confidence != settings.confidence {
            return Err(RunnerError::Measure {
                asked: rules.confidence,
                made_for: settings.confidence,
            });
        }
        let before = settings.exits_before.len();
        if rules.earlier.len() != batch * before {
            return Err(RunnerError::Earlier {
                exits: settings.exits_before.clone(),
                batch,
                found: rules.earlier.len(),
            });
        }
        (self.before, self.width) = (before, before + exits);
        for sample in 0..batch {
            let told = &rules.earlier[sample * before..(sample + 1) * before];
            self.said.extend_from_slice(told);
            self.said.extend(vec![Decision::default(); exits]);
        }
        Ok(())
    }

    /// How confident an exit of the part is of a sample, by the run's measure; notes what it said.
    pub(super) fn confidence(
        &mut self,
        sample: usize,
        exit: usize,
        decision: Decision,
        model: Option<&Combination>,
    ) -> Result<f32, PolicyError> {
        let row = sample * self.width..(sample + 1) * self.width;
        let row = self.said.get_mut(row).unwrap_or_default();
        let (earlier, own) = row.split_at_mut((self.before + exit).min(self.width));
        if let Some(own) = own.first_mut() {
            *own = decision;
        }
        decision.at_exit(self.measure, earlier, model)
    }

    /// What the parts behind need to know of a sample that passed every exit of the part; nothing where the
    /// measure doesn't look at it.
    pub fn of(&self, sample: usize) -> &[Decision] {
        let row = sample * self.width..(sample + 1) * self.width;
        self.said.get(row).unwrap_or_default()
    }
}
