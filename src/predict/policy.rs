/*!
The exit policy: logits to prediction and confidence, confidence to the decision to leave. Table
building and the agent both come here, so that a run and a replay cannot disagree.
*/

use super::{Combination, Confidence, Policy};
use crate::plan::{Plan, exit_threshold};
use serde::{Deserialize, Serialize};

/// What a classifier says of one sample.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Decision {
    /// Predicted class; of equal ones the lowest.
    pub prediction: u16,
    /// Largest probability, 0 to 1.
    pub max_probability: f32,
    /// 1 − entropy / ln(classes), 0 to 1; 1 for a single class.
    pub entropy: f32,
    /// Difference of the two largest probabilities, 0 to 1.
    pub margin: f32,
}

impl Confidence {
    /// Whether an exit's confidence depends on what the exits before it said.
    pub fn looks_back(self) -> bool {
        match self {
            Confidence::MaxProbability | Confidence::Entropy | Confidence::Margin => false,
            Confidence::Patience | Confidence::Learned => true,
        }
    }

    /// By [`Confidence::Patience`], how many successive exits have to agree so that a sample leaves above this
    /// threshold; `None` by other measures, and where no number of exits is enough.
    pub fn agreeing(self, threshold: f64) -> Option<usize> {
        let enough = |count: &usize| leaves(patience(*count), threshold);
        (1..=MOST_AGREEING)
            .find(enough)
            .filter(|_| self == Confidence::Patience)
    }
}

/// More exits than a plan can have.
const MOST_AGREEING: usize = 1 << 10;

/// The confidence of an exit at which `agreeing` successive ones name the same class.
fn patience(agreeing: usize) -> f32 {
    agreeing as f32 / (agreeing + 1) as f32
}

impl Decision {
    /// The confidence of a classifier that stands alone, by the given measure. By one that looks at the exits
    /// before, it is the largest probability: so is that of the final classifier, which answers whatever its
    /// confidence.
    pub fn confidence(&self, measure: Confidence) -> f32 {
        match measure {
            Confidence::MaxProbability | Confidence::Patience | Confidence::Learned => {
                self.max_probability
            }
            Confidence::Entropy => self.entropy,
            Confidence::Margin => self.margin,
        }
    }

    /// The confidence of an exit by any measure, given what the exits before it said, in order of depth, and
    /// the exit's model where the measure is learned.
    ///
    /// # Errors
    /// Where a learned measure has no model, or one that was fitted behind other exits.
    pub fn at_exit(
        &self,
        measure: Confidence,
        earlier: &[Decision],
        model: Option<&Combination>,
    ) -> Result<f32, PolicyError> {
        match measure {
            Confidence::MaxProbability | Confidence::Entropy | Confidence::Margin => {
                Ok(self.confidence(measure))
            }
            Confidence::Patience => {
                let agree = |before: &&Decision| before.prediction == self.prediction;
                Ok(patience(1 + earlier.iter().rev().take_while(agree).count()))
            }
            Confidence::Learned => model
                .ok_or(PolicyError::NotFitted)?
                .confidence(earlier, self),
        }
    }
}

/// What the numbers of a classifier are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Scores before softmax.
    Logits,
    /// Of a network that ends in Softmax, which is never applied a second time.
    Probabilities,
}

/// What is wrong with a classifier's output.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// No class, or more than a prediction can number.
    #[error("a classifier gives {0} classes; between 1 and 65,536 are possible")]
    Classes(usize),
    /// NaN or infinite: a comparison with a threshold would mean nothing.
    #[error("class {class} of a classifier is {value}; check the weights and the preprocessing")]
    NotFinite {
        /// Class whose score is no number.
        class: usize,
        /// Score that was found.
        value: f32,
    },
    /// Division by it would mean nothing.
    #[error("the temperature is {0}; it must be larger than 0")]
    Temperature(f32),
    /// A learned measure of an exit that has no model.
    #[error("the exit has no learned combination; run the session again, or export its parts anew")]
    NotFitted,
    /// A model that was fitted behind another number of exits.
    #[error(
        "the exit's learned combination has {found} weights, and {expected} are needed behind the exits \
         before it; run the session again, or export its parts anew"
    )]
    Combination {
        /// Number of weights that it takes here.
        expected: usize,
        /// Number that it has.
        found: usize,
    },
}

/// Prediction and confidences of one sample, `scores` being one number per class, at `temperature`.
///
/// Stable for logits of any size: softmax is taken relative to the largest, in f64. Probabilities
/// at a temperature other than 1 go through their logarithm, since softmax(ln p) = p.
pub fn decide(scores: &[f32], output: Output, temperature: f32) -> Result<Decision, PolicyError> {
    if scores.is_empty() || scores.len() > 1 << 16 {
        return Err(PolicyError::Classes(scores.len()));
    }
    if !(temperature.is_finite() && temperature > 0.0) {
        return Err(PolicyError::Temperature(temperature));
    }
    if let Some(class) = scores.iter().position(|x| !x.is_finite()) {
        let value = scores[class];
        return Err(PolicyError::NotFinite { class, value });
    }
    let mut best = 0;
    for (class, &score) in scores.iter().enumerate() {
        if score > scores[best] {
            best = class;
        }
    }
    let weight: Vec<f64> = if output == Output::Probabilities && temperature == 1.0 {
        // Rounding may leave a zero or something just below it.
        scores.iter().map(|&p| f64::from(p).max(0.0)).collect()
    } else {
        let logit = |x: f32| match output {
            Output::Logits => f64::from(x),
            Output::Probabilities => f64::from(x.max(f32::MIN_POSITIVE)).ln(),
        };
        let top = logit(scores[best]);
        let scaled = |x: f32| ((logit(x) - top) / f64::from(temperature)).exp();
        scores.iter().map(|&x| scaled(x)).collect()
    };
    let sum: f64 = weight.iter().sum();
    // All-zero "probabilities" know nothing: the uniform distribution.
    let uniform = 1.0 / scores.len() as f64;
    let p = |class: usize| {
        if sum > 0.0 {
            weight[class] / sum
        } else {
            uniform
        }
    };
    let (mut second, mut entropy) = (0.0_f64, 0.0_f64);
    for class in 0..scores.len() {
        let p = p(class);
        if class != best {
            second = second.max(p);
        }
        if p > 0.0 {
            entropy -= p * p.ln();
        }
    }
    let certainty = if scores.len() == 1 {
        1.0
    } else {
        (1.0 - entropy / (scores.len() as f64).ln()).clamp(0.0, 1.0)
    };
    Ok(Decision {
        prediction: best as u16,
        max_probability: p(best) as f32,
        entropy: certainty as f32,
        margin: (p(best) - second) as f32,
    })
}

/// Whether a sample leaves: strictly, so that nothing leaves at threshold 1.
pub fn leaves(confidence: f32, threshold: f64) -> bool {
    f64::from(confidence) > threshold
}

impl Policy {
    /// The threshold of the exit behind the layer `after`.
    pub fn threshold_of(&self, after: &str) -> f64 {
        exit_threshold(&self.exits, self.threshold, after)
    }

    /// Takes over the thresholds of a plan: a common one where all are equal, else one per exit.
    pub fn set_thresholds(&mut self, plan: &Plan) {
        let Some(first) = plan.exits.first().map(|exit| exit.threshold) else {
            return;
        };
        self.exits.clear();
        if plan.exits.iter().all(|exit| exit.threshold == first) {
            self.threshold = first;
        } else {
            let own = plan.exits.iter();
            self.exits = own.map(|e| (e.after.clone(), e.threshold)).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case(&[0.0, 0.0], 0, 0.5, 0.0, 0.0)]
    #[case(&[1000.0, -1000.0], 0, 1.0, 1.0, 1.0)]
    #[case(&[0.0, 3.0_f32.ln()], 1, 0.75, 0.188_722, 0.5)]
    #[case(&[5.0], 0, 1.0, 1.0, 1.0)]
    fn known_values(
        #[case] logits: &[f32],
        #[case] class: u16,
        #[case] max: f32,
        #[case] entropy: f32,
        #[case] margin: f32,
    ) {
        let d = decide(logits, Output::Logits, 1.0).unwrap();
        assert_eq!(d.prediction, class);
        assert!((d.max_probability - max).abs() < 1e-5, "{d:?}");
        assert!((d.entropy - entropy).abs() < 1e-5, "{d:?}");
        if logits.len() > 1 {
            assert!((d.margin - margin).abs() < 1e-5, "{d:?}");
        }
    }

    fn named(prediction: u16) -> Decision {
        Decision {
            prediction,
            ..Decision::default()
        }
    }

    #[rstest]
    #[case::first(&[], 3, 0.5)]
    #[case::second(&[3], 3, 2.0 / 3.0)]
    #[case::third(&[3, 3], 3, 0.75)]
    #[case::broken(&[3, 3], 4, 0.5)]
    #[case::anew(&[3, 4, 3, 3], 3, 0.75)]
    fn successive_exits_that_agree(
        #[case] before: &[u16],
        #[case] class: u16,
        #[case] expected: f32,
    ) {
        let before: Vec<Decision> = before.iter().map(|class| named(*class)).collect();
        let found = named(class).at_exit(Confidence::Patience, &before, None);
        assert_eq!(found.unwrap(), expected);
    }

    #[rstest]
    #[case(0.0, Some(1))]
    #[case(0.5, Some(2))]
    #[case(0.7, Some(3))]
    #[case(0.75, Some(4))]
    #[case(0.95, Some(20))]
    #[case(1.0, None)]
    fn a_threshold_says_how_many_exits_agree(#[case] threshold: f64, #[case] count: Option<usize>) {
        assert_eq!(Confidence::Patience.agreeing(threshold), count);
        assert_eq!(Confidence::Margin.agreeing(threshold), None);
    }

    #[test]
    fn nobody_learned_without_a_model() {
        let found = named(0).at_exit(Confidence::Learned, &[], None);
        assert_eq!(found, Err(PolicyError::NotFitted));
    }

    #[test]
    fn softmax_is_not_applied_twice() {
        let d = decide(&[0.1, 0.9], Output::Probabilities, 1.0).unwrap();
        assert!((d.max_probability - 0.9).abs() < 1e-6);
        let hot = decide(&[0.1, 0.9], Output::Probabilities, 2.0).unwrap();
        // p^(1/2): 0.9487 and 0.3162, that is 3 to 1.
        assert!((hot.max_probability - 0.75).abs() < 1e-5);
    }

    #[test]
    fn nothing_leaves_at_one_and_all_leave_at_zero() {
        let sure = decide(&[1e30, -1e30], Output::Logits, 1.0).unwrap();
        assert!(!leaves(sure.max_probability, 1.0));
        let unsure = decide(&[0.0; 10], Output::Logits, 1.0).unwrap();
        assert!(leaves(unsure.max_probability, 0.0));
    }

    #[test]
    fn bad_scores_are_refused() {
        assert!(decide(&[], Output::Logits, 1.0).is_err());
        assert!(decide(&[f32::NAN], Output::Logits, 1.0).is_err());
        assert!(decide(&[1.0], Output::Logits, 0.0).is_err());
    }

    #[test]
    fn an_exits_own_threshold_goes_before_the_common_one() {
        let policy = Policy {
            confidence: Confidence::Margin,
            threshold: 0.7,
            exits: vec![("a".into(), 0.2)],
        };
        assert_eq!(policy.threshold_of("a"), 0.2);
        assert_eq!(policy.threshold_of("b"), 0.7);
    }

    proptest! {
        #[test]
        fn confidences_stay_in_range(
            logits in prop::collection::vec(-1e4_f32..1e4, 2..20),
            temperature in 0.05_f32..20.0,
        ) {
            let d = decide(&logits, Output::Logits, temperature).unwrap();
            for c in [d.max_probability, d.entropy, d.margin] {
                prop_assert!((0.0..=1.0).contains(&c));
            }
            prop_assert!(d.margin <= d.max_probability);
            prop_assert!(logits.iter().all(|&x| x <= logits[d.prediction as usize]));
        }
    }
}
