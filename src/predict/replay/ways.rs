/*! A plan over a set as sums: what each sample gives and takes wherever it may leave. Searches over
thresholds read this; a threshold then does no more than choose where each sample leaves. */

use super::times::Pace;
use super::{ANSWER_BYTES, PreparedPlan, Tier, energy};

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
    /// Of each stage, millijoules of computing and transfer on the first tier, in the mean.
    pub energy_mj: Vec<f64>,
    /// The first stage behind the first link; their number where there is none. Who gets there is sent.
    pub sent_from: usize,
    /// By number of samples sent, the millijoules per inference that a radio takes beside the transfers;
    /// empty without one.
    pub standby_mj: Vec<f64>,
    /// By number of samples sent, the milliseconds that waiting for a radio adds to the mean latency; empty
    /// where nobody waits.
    pub waiting_ms: Vec<f64>,
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
        let reached = energy::reached(&times, &self.pace);
        let energy = self.spending.stages(&reached, None);
        // By number of samples sent.
        let by_sent = |of: &dyn Fn(f64) -> f64| {
            let shares = (0..=samples).map(|sent| sent as f64 / samples as f64);
            shares.map(of).collect::<Vec<f64>>()
        };
        let spending = &self.spending;
        let standby = spending
            .radio
            .map(|radio| by_sent(&|share| radio.standby_mj(spending.rate_hz, share)));
        let waiting = match self.sleeps.is_empty() {
            true => Vec::new(),
            false => by_sent(&|share| share * spending.wait_ms(share)),
        };
        Ways {
            energy_mj: energy
                .iter()
                .map(|(compute, radio)| compute + radio)
                .collect(),
            sent_from: reached.iter().take_while(|r| !r.is_sent).count(),
            standby_mj: standby.unwrap_or_default(),
            waiting_ms: waiting,
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
    use crate::predict::Radio;
    use rstest::rstest;

    #[rstest]
    #[case(Radio::Wired, 1.0)]
    #[case(Radio::Wlan, 3.0)]
    #[case(Radio::Lte, 0.1)]
    fn sums_over_the_ways_are_the_outcome(#[case] radio: Radio, #[case] rate_hz: f64) {
        let mut s = setting(200, 6);
        s.terms.energy.radio = radio;
        s.terms.rate_hz = rate_hz;
        let chosen = plan(Split::After(3), &[1, 4], 0.7);
        let set = Set::Calibration;
        let prepared = PreparedPlan::new(&s.evidence, &s.terms, set, &chosen).unwrap();
        let ways = prepared.ways();
        for thresholds in [[0.7, 0.7], [0.9, 0.4], [1.0, 1.0]] {
            let (mut ms, mut usd, mut mj, mut right, mut sent) = (0.0, 0.0, 0.0, 0, 0);
            for i in 0..200 {
                let mut exits = ways.confidence.iter().zip(thresholds);
                let at = exits
                    .position(|(column, t)| leaves(column[i], t))
                    .unwrap_or(2);
                ms += ways.latency_ms[at] / 200.0;
                mj += ways.energy_mj[at] / 200.0;
                sent += usize::from(at >= ways.sent_from);
                usd += ways.cost[at][i];
                right += usize::from(!ways.wrong[at][i]);
            }
            ms += ways.waiting_ms.get(sent).copied().unwrap_or(0.0);
            mj += ways.standby_mj.get(sent).copied().unwrap_or(0.0);
            let outcome = prepared.with_thresholds(&thresholds);
            assert!((outcome.latency_ms.unwrap().mean - ms).abs() < 1e-9);
            assert!((outcome.energy_mj() - mj).abs() < 1e-9 * mj);
            assert!((outcome.cost_per_million.unwrap().rounded - usd).abs() < 1e-9);
            assert!((outcome.accuracy - right as f64 / 200.0).abs() < 1e-12);
        }
    }
}
