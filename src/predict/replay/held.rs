/*!
Calibration images that are held back for a guarantee, and what leaving early does to their answers.

A guarantee of risk control rests on images that nothing was chosen by: no temperature was fitted on them,
no threshold tuned, no plan searched for. So the calibration set is parted by a fixed draw, and the half
that is held back has a type of its own, which no replay, slider or search takes: only counts leave it.
*/

use super::super::evidence::{Answers, Evidence, ImageTable, Terms};
use super::super::{Column, ConfidenceTable};
use super::chain::Chain;
use super::{ReplayError, WireTable};
use crate::data::Set;
use crate::plan::Plan;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Seed of the draw that parts the calibration set; of no session, so that nobody draws until it suits.
const SEED: u64 = 0x6865_6c64;

/// Samples of a calibration set, by number and ascending: those that thresholds and temperatures are
/// tuned on, and the half that is held back.
pub fn parted(samples: usize) -> (Vec<usize>, Vec<usize>) {
    let mut all: Vec<usize> = (0..samples).collect();
    all.shuffle(&mut ChaCha8Rng::seed_from_u64(SEED));
    let mut held = all.split_off(samples.div_ceil(2));
    all.sort_unstable();
    held.sort_unstable();
    (all, held)
}

/// Answers to images that nothing was chosen by.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldBack(Answers);

/// What leaving early does to answers, at each step of a path of thresholds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Harm {
    /// Number of images.
    pub samples: usize,
    /// At each step, the images that the plan answers wrongly and the whole network rightly.
    pub harmed: Vec<usize>,
    /// At each step, the images harmed there or at a step before.
    pub ever: Vec<usize>,
    /// Whether some column is of F32 tensors though the wire carries another type.
    pub as_f32: bool,
}

impl Answers {
    /// Parts calibration answers in those to tune on and those that are held back.
    pub fn hold_back(&self) -> (Answers, HeldBack) {
        let (tuning, held) = parted(self.table.labels.len());
        (self.only(&tuning), HeldBack(self.only(&held)))
    }

    fn only(&self, samples: &[usize]) -> Answers {
        let wires = self.wires.iter().map(|wire| WireTable {
            split_after: wire.split_after.clone(),
            element: wire.element,
            table: wire.table.only(samples),
        });
        let images = self.images.as_ref().map(|images| ImageTable {
            table: images.table.only(samples),
            ..*images
        });
        Answers {
            table: self.table.only(samples),
            wires: wires.collect(),
            images,
        }
    }
}

impl ConfidenceTable {
    /// The table of some of its samples, by number.
    fn only(&self, samples: &[usize]) -> ConfidenceTable {
        fn pick<T: Copy>(all: &[T], samples: &[usize]) -> Vec<T> {
            samples
                .iter()
                .filter_map(|&i| all.get(i).copied())
                .collect()
        }
        let columns = self.columns.iter().map(|column| Column {
            prediction: pick(&column.prediction, samples),
            max_probability: pick(&column.max_probability, samples),
            entropy: pick(&column.entropy, samples),
            margin: pick(&column.margin, samples),
            ..column.clone()
        });
        ConfidenceTable {
            set: self.set,
            labels: pick(&self.labels, samples),
            columns: columns.collect(),
        }
    }
}

impl HeldBack {
    /// Number of images.
    pub fn samples(&self) -> usize {
        self.0.table.labels.len()
    }

    /// What a plan does to them along a path of thresholds, each step one threshold per exit.
    ///
    /// # Errors
    /// Where the plan doesn't fit the answers.
    pub fn harm(
        &self,
        evidence: &Evidence,
        terms: &Terms,
        plan: &Plan,
        path: &[Vec<f64>],
    ) -> Result<Harm, ReplayError> {
        harm(evidence, terms, &self.0, plan, path)
    }
}

/// What a plan does to the test images at its own thresholds: to judge a choice that was made, never to
/// make one.
///
/// # Errors
/// Where the plan doesn't fit the answers, or there are none.
pub fn harm_on_test(evidence: &Evidence, terms: &Terms, plan: &Plan) -> Result<Harm, ReplayError> {
    let own = plan.exits.iter().map(|e| e.threshold).collect();
    harm(evidence, terms, evidence.answers(Set::Test)?, plan, &[own])
}

fn harm(
    evidence: &Evidence,
    terms: &Terms,
    answers: &Answers,
    plan: &Plan,
    path: &[Vec<f64>],
) -> Result<Harm, ReplayError> {
    let chain = Chain::new(evidence, terms, answers, plan)?;
    // The network as it came, whatever the plan's wire does to its tensors.
    let whole = answers.table.final_column()?;
    let mut found = Harm {
        samples: chain.labels.len(),
        harmed: vec![0; path.len()],
        ever: vec![0; path.len()],
        as_f32: chain.as_f32,
    };
    for (sample, &label) in chain.labels.iter().enumerate() {
        if whole.prediction.get(sample) != Some(&label) {
            continue;
        }
        let mut ever = false;
        for (step, thresholds) in path.iter().enumerate() {
            let at = chain.leaves_at(sample, thresholds);
            let harmed = chain.stages[at].prediction[sample] != label;
            ever |= harmed;
            found.harmed[step] += usize::from(harmed);
            found.ever[step] += usize::from(ever);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{plan, setting};
    use super::*;
    use crate::plan::Split;

    #[test]
    fn the_calibration_set_is_parted_once_and_for_all() {
        let (tuning, held) = parted(1001);
        assert_eq!((tuning.len(), held.len()), (501, 500));
        let mut all = [tuning.clone(), held].concat();
        all.sort_unstable();
        assert_eq!(all, (0..1001).collect::<Vec<_>>());
        assert_eq!(parted(1001).0, tuning);
        assert_eq!(parted(0), (vec![], vec![]));
        assert_eq!(parted(1), (vec![0], vec![]));
    }

    /// Beside a count sample by sample over the whole table.
    #[test]
    fn harm_is_what_the_network_alone_had_right() {
        let mut s = setting(300, 5);
        let chosen = plan(Split::After(3), &[1, 4], 0.7);
        let all = s.evidence.answers(Set::Calibration).unwrap().clone();
        let (tuning, held) = all.hold_back();
        assert_eq!(tuning.table.labels.len() + held.samples(), 300);
        let path = [vec![1.0, 1.0], vec![0.8, 0.9], vec![0.5, 0.4]];
        let found = held.harm(&s.evidence, &s.terms, &chosen, &path).unwrap();
        let table = &all.table;
        let column = |after| table.column(after, None).unwrap();
        let (first, second) = (column("l1"), column("l4"));
        let last = table.final_column().unwrap();
        let mut expected = [0; 3];
        for i in parted(300).1 {
            for (step, thresholds) in path.iter().enumerate() {
                let answer = if f64::from(first.max_probability[i]) > thresholds[0] {
                    first.prediction[i]
                } else if f64::from(second.max_probability[i]) > thresholds[1] {
                    second.prediction[i]
                } else {
                    last.prediction[i]
                };
                let right = last.prediction[i] == table.labels[i];
                expected[step] += usize::from(right && answer != table.labels[i]);
            }
        }
        assert_eq!(found.harmed, expected);
        assert_eq!(found.harmed[0], 0);
        assert!(found.ever.is_sorted() && found.ever[2] >= found.harmed[2]);
        // What is held back stands under no set's name.
        s.evidence.calibration = None;
        assert!(s.evidence.answers(Set::Calibration).is_err());
    }
}
