/*! A plan over a set as sums: what each sample gives and takes wherever it may leave. Searches over
thresholds read this; a threshold then does no more than choose where each sample leaves. */

use super::times::Pace;
use super::{ANSWER_BYTES, PreparedPlan, Tier};

/// What leaves where. Stages are the plan's exits in order, and last the final classifier.
#[derive(Debug, Clone, PartialEq)]
pub struct Ways<'a> {
    /// Of each exit, the confidence of every sample, 0 to 1.
    pub confidence: Vec<&'a [f32]>,
    /// Of each stage, whether its answer to a sample is wrong.
    pub wrong: Vec<Vec<bool>>,
    /// Of each stage, milliseconds to its answer in the mean.
    pub latency_ms: Vec<f64>,
    /// Of each stage, what a sample that leaves there adds to the rounded bill of a million inferences, in
    /// US dollars; empty where nothing is billed.
    pub cost: Vec<Vec<f64>>,
    /// Number of samples.
    pub samples: usize,
}

impl PreparedPlan<'_> {
    /// The plan as sums over samples and stages.
    pub fn ways(&self) -> Ways<'_> {
        let chain = &self.chain;
        let samples = chain.labels.len();
        let exits = &chain.stages[..chain.stages.len() - 1];
        let wrong = chain.stages.iter().map(|stage| {
            let pairs = stage.prediction.iter().zip(chain.labels);
            pairs
                .map(|(prediction, label)| prediction != label)
                .collect()
        });
        let times = self.times.reaching(None);
        let cost = chain.stages.iter().zip(&times).map(|(stage, spent)| {
            let one = |jitter: &Pace<f32>| {
                let billed = self.rented.iter().filter(|(tier, ..)| *tier <= stage.tier);
                let bill = billed.map(|(tier, memory, clock)| {
                    let index = Tier::index(*tier);
                    let ms = spent.tiers[index] * f64::from(jitter.tiers[index]);
                    memory
                        .per_million([ms], samples, *clock, ANSWER_BYTES)
                        .rounded
                });
                bill.sum()
            };
            self.jitter.iter().map(one).collect()
        });
        Ways {
            confidence: exits.iter().map(|stage| stage.confidence()).collect(),
            wrong: wrong.collect(),
            latency_ms: times.iter().map(|spent| spent.at(&self.pace)).collect(),
            cost: if self.rented.is_empty() {
                Vec::new()
            } else {
                cost.collect()
            },
            samples,
        }
    }

    /// The plan's own thresholds, one per exit.
    pub fn planned(&self) -> Vec<f64> {
        self.chain.planned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::policy::leaves;
    use super::super::tests::{plan, setting};
    use super::*;
    use crate::data::Set;
    use crate::plan::Split;

    #[test]
    fn sums_over_the_ways_are_the_outcome() {
        let s = setting(200, 6);
        let chosen = plan(Split::After(3), &[1, 4], 0.7);
        let set = Set::Calibration;
        let prepared = PreparedPlan::new(&s.evidence, &s.terms, set, &chosen).unwrap();
        let ways = prepared.ways();
        for thresholds in [[0.7, 0.7], [0.9, 0.4], [1.0, 1.0]] {
            let (mut ms, mut usd, mut right) = (0.0, 0.0, 0);
            for i in 0..200 {
                let mut exits = ways.confidence.iter().zip(thresholds);
                let at = exits
                    .position(|(column, t)| leaves(column[i], t))
                    .unwrap_or(2);
                ms += ways.latency_ms[at] / 200.0;
                usd += ways.cost[at][i];
                right += usize::from(!ways.wrong[at][i]);
            }
            let outcome = prepared.with_thresholds(&thresholds);
            assert!((outcome.latency_ms.unwrap().mean - ms).abs() < 1e-9);
            assert!((outcome.cost_per_million.unwrap().rounded - usd).abs() < 1e-9);
            assert!((outcome.accuracy - right as f64 / 200.0).abs() < 1e-12);
        }
    }
}
