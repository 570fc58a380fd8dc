/*!
A learned combination of exits: how likely an exit is right, from what it and the exits before it say.

One logistic model per exit, over the confidences, margins and agreement of the exits so far, fitted to the
calibration set. The inputs are those of EENet (Ilhan et al., WACV 2024, "EENet: Learning to Early Exit for
Adaptive Inference", arXiv 2301.07099), whose scores read an exit's confidences and its agreement with the
exits before; the model here has no hidden layer, so that a thousand images are enough for it, and one answer.
*/

use super::policy::{Decision, PolicyError};
use super::{Answers, Column};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

/// Weights for the exit itself: one that stands alone, one for its log-odds, one for its margin.
const OWN: usize = 3;
/// Weights for each exit before it: for log-odds, margin, and agreement alone, all counted negative where that
/// exit named another class.
const EARLIER: usize = 3;
/// Log-odds are those of probabilities this far from 0 and 1.
const LEAST: f64 = 1e-6;
/// Penalty on half the square of each weight, as scikit-learn's `LogisticRegression` has it at C = 1.
const PENALTY: f64 = 1.0;
/// Penalty on the weight that stands alone: enough to keep it finite where an exit is always right.
const PENALTY_ALONE: f64 = 1e-3;
/// Steps of Newton's method; a dozen are enough.
const STEPS: usize = 50;
/// Where no weight moves by more, the fit is done.
const STILL: f64 = 1e-9;

/// The model of one exit: the weights of a logistic regression.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Combination {
    /// Alone, own log-odds, own margin; then log-odds, margin and agreement of each exit before, in order of
    /// depth.
    pub weights: Vec<f32>,
}

impl Combination {
    /// How likely the exit is right, 0 to 1, from what it says and what the exits before it said.
    ///
    /// # Errors
    /// Where the model was fitted behind another number of exits.
    pub fn confidence(&self, earlier: &[Decision], own: &Decision) -> Result<f32, PolicyError> {
        let expected = OWN + EARLIER * earlier.len();
        if self.weights.len() != expected {
            return Err(PolicyError::Combination {
                expected,
                found: self.weights.len(),
            });
        }
        let mut weights = self.weights.iter();
        let mut sum = 0.0;
        inputs(earlier, own, |input| {
            sum += input * f64::from(*weights.next().unwrap_or(&0.0));
        });
        Ok(logistic(sum) as f32)
    }

    /// Fits the model of an exit behind `earlier` ones to the samples of a table, all of one length.
    pub fn fit(labels: &[u16], earlier: &[&Column], own: &Column) -> Combination {
        let width = OWN + EARLIER * earlier.len();
        let mut rows = Vec::with_capacity(width * labels.len());
        let mut said = Vec::with_capacity(earlier.len());
        for sample in 0..labels.len() {
            said.clear();
            said.extend(earlier.iter().map(|column| column.decision(sample)));
            inputs(&said, &own.decision(sample), |input| rows.push(input));
        }
        let right = own.prediction.iter().zip(labels).map(|(p, l)| p == l);
        let weights = regression(&rows, width, &right.collect::<Vec<bool>>());
        Combination {
            weights: weights.into_iter().map(|weight| weight as f32).collect(),
        }
    }
}

impl Column {
    /// What the classifier says of a sample.
    pub fn decision(&self, sample: usize) -> Decision {
        Decision {
            prediction: self.prediction[sample],
            max_probability: self.max_probability[sample],
            entropy: self.entropy[sample],
            margin: self.margin[sample],
        }
    }
}

/// The inputs of the model, in the order of its weights.
fn inputs(earlier: &[Decision], own: &Decision, mut take: impl FnMut(f64)) {
    take(1.0);
    take(log_odds(own.max_probability));
    take(f64::from(own.margin));
    for before in earlier {
        let sign = if before.prediction == own.prediction {
            1.0
        } else {
            -1.0
        };
        take(sign * log_odds(before.max_probability));
        take(sign * f64::from(before.margin));
        take(sign);
    }
}

fn log_odds(probability: f32) -> f64 {
    let p = f64::from(probability).clamp(LEAST, 1.0 - LEAST);
    (p / (1.0 - p)).ln()
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Weights of the penalised logistic regression, by Newton's method with halved steps: `rows` has `width`
/// inputs per sample, the first of them 1.
fn regression(rows: &[f64], width: usize, right: &[bool]) -> Vec<f64> {
    let penalty = |weight: usize| if weight == 0 { PENALTY_ALONE } else { PENALTY };
    let dot =
        |row: &[f64], weights: &[f64]| -> f64 { row.iter().zip(weights).map(|(x, w)| x * w).sum() };
    let loss = |weights: &[f64]| -> f64 {
        let of = |(row, right): (&[f64], &bool)| {
            let sum = dot(row, weights);
            let wrong = if *right { -sum } else { sum };
            // ln(1 + e^x), which is x where e^x has no room.
            wrong.max(0.0) + (-wrong.abs()).exp().ln_1p()
        };
        let penalties = weights.iter().enumerate();
        let penalties = penalties.map(|(at, w)| penalty(at) * w * w / 2.0);
        rows.chunks_exact(width).zip(right).map(of).sum::<f64>() + penalties.sum::<f64>()
    };
    let mut weights = vec![0.0; width];
    let mut lowest = loss(&weights);
    for _ in 0..STEPS {
        let mut slope: Vec<f64> = (0..width).map(|at| penalty(at) * weights[at]).collect();
        let mut bend = vec![0.0; width * width];
        for (row, right) in rows.chunks_exact(width).zip(right) {
            let likely = logistic(dot(row, &weights));
            let error = likely - f64::from(u8::from(*right));
            let weight = likely * (1.0 - likely);
            for (i, x) in row.iter().enumerate() {
                slope[i] += error * x;
                for (j, y) in row[..=i].iter().enumerate() {
                    bend[i * width + j] += weight * x * y;
                }
            }
        }
        for at in 0..width {
            bend[at * width + at] += penalty(at);
        }
        let step = solve(&mut bend, width, &slope);
        let mut share = 1.0;
        let mut moved = 0.0;
        while share > 1e-6 {
            let next: Vec<f64> = weights
                .iter()
                .zip(&step)
                .map(|(w, s)| w - share * s)
                .collect();
            let found = loss(&next);
            if found <= lowest {
                let each = step.iter().map(|s| (share * s).abs());
                moved = each.fold(0.0, f64::max);
                (weights, lowest) = (next, found);
                break;
            }
            share /= 2.0;
        }
        if moved < STILL {
            break;
        }
    }
    weights
}

/// Solves a symmetric positive definite system of which the lower half is given, by Cholesky's decomposition.
fn solve(lower: &mut [f64], width: usize, right: &[f64]) -> Vec<f64> {
    for i in 0..width {
        for j in 0..=i {
            let before: f64 = (0..j)
                .map(|k| lower[i * width + k] * lower[j * width + k])
                .sum();
            let rest = lower[i * width + j] - before;
            // The penalties keep the diagonal away from zero.
            lower[i * width + j] = if i == j {
                rest.sqrt()
            } else {
                rest / lower[j * width + j]
            };
        }
    }
    let mut x = right.to_vec();
    for i in 0..width {
        let before: f64 = (0..i).map(|k| lower[i * width + k] * x[k]).sum();
        x[i] = (x[i] - before) / lower[i * width + i];
    }
    for i in (0..width).rev() {
        let behind: f64 = (i + 1..width).map(|k| lower[k * width + i] * x[k]).sum();
        x[i] = (x[i] - behind) / lower[i * width + i];
    }
    x
}

/// Models that were fitted already: plans share their first exits, and a search asks for thousands of them.
/// They are of certain calibration answers, and forgotten with those; two of these are always equal, since
/// what they hold follows from the answers.
#[derive(Debug, Clone, Default)]
pub struct Fits(Arc<Mutex<Fitted>>);

impl PartialEq for Fits {
    fn eq(&self, _: &Fits) -> bool {
        true
    }
}

/// The answers that models were fitted to, and the model of each exit behind others: the columns' places in
/// the table, the exit's own last.
#[derive(Debug, Default)]
struct Fitted {
    of: Option<Arc<Answers>>,
    models: HashMap<Vec<usize>, Combination>,
}

impl Fitted {
    fn is_of(&self, answers: &Arc<Answers>) -> bool {
        let of = self.of.as_ref();
        of.is_some_and(|of| Arc::ptr_eq(of, answers))
    }
}

impl Fits {
    /// The models of exits, in order of depth, by the places of their columns in the table of `answers`.
    pub(super) fn of(&self, answers: &Arc<Answers>, exits: &[usize]) -> Vec<Combination> {
        let columns = &answers.table.columns;
        let model = |upto: usize| {
            let places = &exits[..=upto];
            if let Some(known) = self.known(answers, places) {
                return known;
            }
            let earlier: Vec<&Column> = places[..upto].iter().map(|at| &columns[*at]).collect();
            let fitted = Combination::fit(&answers.table.labels, &earlier, &columns[exits[upto]]);
            let mut all = self.0.lock();
            // Meanwhile somebody may have asked of other answers.
            if all.is_of(answers) {
                all.models.insert(places.to_vec(), fitted.clone());
            }
            fitted
        };
        (0..exits.len()).map(model).collect()
    }

    fn known(&self, answers: &Arc<Answers>, places: &[usize]) -> Option<Combination> {
        let mut all = self.0.lock();
        if !all.is_of(answers) {
            *all = Fitted {
                of: Some(answers.clone()),
                models: HashMap::new(),
            };
        }
        all.models.get(places).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Set;
    use crate::predict::ConfidenceTable;

    fn column(of: impl Fn(u16) -> (u16, f32, f32)) -> Column {
        let mut column = Column::new(Some("l"), "h", 1.0);
        for sample in 0..400 {
            let (prediction, max_probability, margin) = of(sample);
            column.prediction.push(prediction);
            column.max_probability.push(max_probability);
            column.entropy.push(0.0);
            column.margin.push(margin);
        }
        column
    }

    fn share(sample: u16, step: u32) -> f64 {
        f64::from(u32::from(sample) * step % 400) / 400.0
    }

    fn before() -> Column {
        column(|i| {
            let (p, margin) = (0.34 + 0.65 * share(i, 37), 0.9 * share(i, 53));
            (i * 7 % 3, p as f32, margin as f32)
        })
    }

    fn own() -> Column {
        column(|i| {
            let (p, margin) = (0.40 + 0.59 * share(i, 71), 0.95 * share(i, 91));
            let class = if i % 4 == 0 { i * 5 % 3 } else { i * 7 % 3 };
            (class, p as f32, margin as f32)
        })
    }

    fn labels(own: &Column) -> Vec<u16> {
        let samples = own.prediction.iter().zip(&own.max_probability).enumerate();
        let label = |(i, (class, p)): (usize, (&u16, &f32))| {
            let right = ((i * 13 % 10) as f64) < 4.0 + 5.0 * f64::from(*p);
            if right { *class } else { (class + 1) % 3 }
        };
        samples.map(label).collect()
    }

    /// Beside scikit-learn's `LogisticRegression(C=1.0)`, whose intercept has no penalty, on the same inputs.
    #[test]
    fn the_model_is_scikit_learn_s() {
        let (before, own) = (before(), own());
        let labels = labels(&own);
        let found = Combination::fit(&labels, &[&before], &own);
        let expected = [
            1.236_229_3,
            0.488_543_72,
            -0.048_503_82,
            0.026_141_97,
            -0.539_567_38,
            -0.126_384_99,
        ];
        assert_eq!(found.weights.len(), expected.len());
        for (found, expected) in found.weights.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-3, "{found} {expected}");
        }
        let likely = [0.709_800_9, 0.737_625_95, 0.763_764_2, 0.791_646_7];
        for (sample, expected) in likely.into_iter().enumerate() {
            let said = [before.decision(sample)];
            let confidence = found.confidence(&said, &own.decision(sample)).unwrap();
            assert!(
                (confidence - expected).abs() < 1e-4,
                "{confidence} {expected}"
            );
        }
    }

    #[test]
    fn an_exit_that_is_always_right_has_a_model_and_none_behind_others() {
        let own = own();
        let found = Combination::fit(&own.prediction, &[], &own);
        assert!(found.weights.iter().all(|weight| weight.is_finite()));
        let decision = own.decision(0);
        assert!(found.confidence(&[], &decision).unwrap() > 0.99);
        assert!(found.confidence(&[decision], &decision).is_err());
    }

    #[test]
    fn a_model_is_of_certain_answers() {
        let (before, own) = (before(), own());
        let mut table = ConfidenceTable::new(Set::Calibration, labels(&own));
        for (after, column) in [("a", &before), ("b", &own)] {
            let after = Some(after.to_owned());
            table
                .push(Column {
                    after,
                    ..column.clone()
                })
                .unwrap();
        }
        let mut answers = Arc::new(Answers {
            table,
            wires: vec![],
            images: None,
        });
        let fits = Fits::default();
        let first = fits.of(&answers, &[0, 1]);
        let apart = Combination::fit(&answers.table.labels, &[&before], &own);
        assert_eq!(first[1], apart);
        assert_eq!(fits.of(&answers, &[0, 1]), first);
        Arc::make_mut(&mut answers).table.labels.reverse();
        assert_ne!(fits.of(&answers, &[0, 1]), first);
    }
}
