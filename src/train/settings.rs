/*! How exits are trained, as the session writes it: what learns, how long, and by which recipe. */

use serde::{Deserialize, Serialize};

/// What is trained, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Training {
    /// Heads over a frozen backbone and cached features.
    Frozen {
        /// Passes over the training images.
        #[serde(default = "frozen_epochs")]
        epochs: usize,
    },
    /// Backbone and heads together, by a weighted sum of the losses.
    Joint {
        /// Passes over the training images.
        #[serde(default = "joint_epochs")]
        epochs: usize,
    },
    /// The backbone first, then all.
    Mixed {
        /// Passes for the backbone alone.
        #[serde(default = "joint_epochs")]
        backbone: usize,
        /// Passes for all together.
        #[serde(default = "joint_epochs")]
        epochs: usize,
    },
}

impl Default for Training {
    fn default() -> Self {
        Training::Frozen {
            epochs: frozen_epochs(),
        }
    }
}

fn frozen_epochs() -> usize {
    20
}

fn joint_epochs() -> usize {
    10
}

/// Ranges of a recipe's numbers.
pub mod recipe {
    /// Learning rate at its height.
    pub const LEARNING_RATES: [f64; 2] = [1e-7, 10.0];
    /// Weight decay.
    pub const WEIGHT_DECAYS: [f64; 2] = [0.0, 1.0];
    /// Share of the target spread over all classes.
    pub const SMOOTHINGS: [f64; 2] = [0.0, 0.9];
}

/// How heads learn, where it is to differ from what usually works.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// Learning rate at its height; by the kind of training if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Pull of weights towards zero; by the kind of training if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// Share of the target spread over all classes; none if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_smoothing: Option<f64>,
    /// To learn from the final classifier too; only from labels if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distill: Option<Distill>,
    /// Stop a head after so many epochs in which its loss on calibration images didn't fall, and
    /// keep it as it was at its best; all epochs if absent. Together with the network, all stop at
    /// once, by the sum of their losses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
    /// Heads that learn in another way than the rest, by the layer before them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<(String, HeadRecipe)>,
}

/// How one head learns; what is absent is as for all.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeadRecipe {
    /// Learning rate at its height.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Pull of weights towards zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// Share of the target spread over all classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_smoothing: Option<f64>,
    /// To learn from the final classifier too; a weight of 0 turns it off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distill: Option<Distill>,
}

/// Learning from the final classifier: its softened answers are a second target beside the labels
/// (Hinton, Vinyals and Dean 2015).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Distill {
    /// Divides the logits of both before the softmax; above 1 it shows which wrong classes come near.
    pub temperature: f64,
    /// Share of the loss that is about these answers; the rest is about the labels.
    pub weight: f64,
}

impl Default for Distill {
    fn default() -> Self {
        Distill {
            temperature: 4.0,
            weight: 0.5,
        }
    }
}

impl Recipe {
    /// Whether nothing differs from what usually works.
    pub fn is_usual(&self) -> bool {
        *self == Recipe::default()
    }

    /// How the head behind this layer learns.
    pub fn of(&self, after: &str) -> HeadRecipe {
        let own = self.heads.iter().find(|(name, _)| name == after);
        let own = own.map(|(_, own)| *own).unwrap_or_default();
        HeadRecipe {
            learning_rate: own.learning_rate.or(self.learning_rate),
            weight_decay: own.weight_decay.or(self.weight_decay),
            label_smoothing: own.label_smoothing.or(self.label_smoothing),
            distill: own.distill.or(self.distill),
        }
    }

    /// Refuses what can't be trained by: the setting, and what it may be.
    ///
    /// # Errors
    /// The first setting that can't be.
    pub fn check(&self) -> Result<(), (String, String)> {
        let all = HeadRecipe {
            learning_rate: self.learning_rate,
            weight_decay: self.weight_decay,
            label_smoothing: self.label_smoothing,
            distill: self.distill,
        };
        all.check("")?;
        if self.patience == Some(0) {
            return Err(("patience".into(), "0, it must be at least 1".into()));
        }
        for (i, (name, own)) in self.heads.iter().enumerate() {
            own.check(&format!("heads[{i}]."))?;
            if self.heads[..i].iter().any(|(other, _)| other == name) {
                return Err((
                    format!("heads[{i}]"),
                    format!("`{name}` stands there twice"),
                ));
            }
        }
        Ok(())
    }
}

impl HeadRecipe {
    fn check(&self, at: &str) -> Result<(), (String, String)> {
        let within = |name: &str, value: Option<f64>, [low, high]: [f64; 2]| match value {
            Some(v) if !(low..=high).contains(&v) => {
                let problem = format!("{v}, it may be {low} to {high}");
                Err((format!("{at}{name}"), problem))
            }
            _ => Ok(()),
        };
        within("learning_rate", self.learning_rate, recipe::LEARNING_RATES)?;
        within("weight_decay", self.weight_decay, recipe::WEIGHT_DECAYS)?;
        within("label_smoothing", self.label_smoothing, recipe::SMOOTHINGS)?;
        let (temperature, weight) = match self.distill {
            Some(d) => (Some(d.temperature), Some(d.weight)),
            None => (None, None),
        };
        within("distill.temperature", temperature, [0.1, 100.0])?;
        within("distill.weight", weight, [0.0, 1.0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    #[test]
    fn a_head_takes_its_own_before_what_is_for_all() {
        let own = HeadRecipe {
            weight_decay: Some(0.1),
            ..HeadRecipe::default()
        };
        let recipe = Recipe {
            learning_rate: Some(0.01),
            weight_decay: Some(0.2),
            heads: vec![("a".into(), own)],
            ..Recipe::default()
        };
        let of = |after: &str| {
            (
                recipe.of(after).learning_rate,
                recipe.of(after).weight_decay,
            )
        };
        assert_eq!(of("a"), (Some(0.01), Some(0.1)));
        assert_eq!(of("b"), (Some(0.01), Some(0.2)));
    }

    #[rstest]
    #[case("(learning_rate: 0)", "learning_rate: 0, it may be 0.0000001 to 10")]
    #[case("(weight_decay: -1)", "weight_decay: -1, it may be 0 to 1")]
    #[case("(label_smoothing: 1)", "label_smoothing: 1, it may be 0 to 0.9")]
    #[case("(distill: (weight: 1.5))", "distill.weight: 1.5, it may be 0 to 1")]
    #[case(
        "(distill: (temperature: 0))",
        "distill.temperature: 0, it may be 0.1 to 100"
    )]
    #[case("(patience: 0)", "patience: 0, it must be at least 1")]
    #[case(
        "(heads: [(\"a\", (learning_rate: inf))])",
        "heads[0].learning_rate: inf, it may be 0.0000001 to 10"
    )]
    #[case(
        "(heads: [(\"a\", ()), (\"a\", ())])",
        "heads[1]: `a` stands there twice"
    )]
    fn what_cant_be_is_named(#[case] text: &str, #[case] expected: &str) {
        let implicit = ron::extensions::Extensions::IMPLICIT_SOME;
        let dialect = ron::Options::default().with_default_extension(implicit);
        let recipe: Recipe = dialect.from_str(text).unwrap();
        let (field, problem) = recipe.check().unwrap_err();
        assert_eq!(format!("{field}: {problem}"), expected);
    }
}
