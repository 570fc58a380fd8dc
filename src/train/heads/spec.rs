/*! A head as training is given it. */

use crate::exits::{Dropout, Head};
use crate::model::{Graph, Op, ValueId};
use crate::train::TrainError;
use crate::train::config::{Optimizer, TrainingConfig};
use crate::train::loss::LossTarget;
use crate::train::settings::{Distill, HeadRecipe};

/// A head to train.
#[derive(Debug, Clone)]
pub struct HeadSpec<'a> {
    /// Name of the exit, for events and errors.
    pub name: String,
    /// Name of the backbone's value the head reads.
    pub value: String,
    /// One input, one output `[N, classes]`.
    pub graph: &'a Graph,
    /// Where values are dropped while it learns.
    pub dropout: &'a [Dropout],
    /// How it learns, where not as the training's settings say.
    pub recipe: HeadRecipe,
}

impl<'a> From<&'a Head> for HeadSpec<'a> {
    fn from(head: &'a Head) -> Self {
        HeadSpec {
            name: head.point.after.clone(),
            value: head.point.value.clone(),
            graph: &head.graph,
            dropout: &head.dropout,
            recipe: HeadRecipe::default(),
        }
    }
}

impl HeadSpec<'_> {
    /// Its own learning rate at a share of its height, or the training's.
    pub(in crate::train) fn rate(&self, hyper: &TrainingConfig, height: f64) -> f64 {
        self.recipe.learning_rate.unwrap_or(hyper.learning_rate) * height
    }

    /// The rule, and its own pull towards zero or the training's.
    pub(in crate::train) fn rule(&self, hyper: &TrainingConfig) -> (Optimizer, f64) {
        let decay = self.recipe.weight_decay;
        (hyper.optimizer, decay.unwrap_or(hyper.weight_decay))
    }

    /// What its logits are held against; `teacher` gives the final classifier's for these samples.
    pub(in crate::train) fn target<'t>(
        &self,
        hyper: &TrainingConfig,
        labels: &'t [u16],
        teacher: Option<&'t [f32]>,
    ) -> LossTarget<'t> {
        let smoothing = self.recipe.label_smoothing;
        LossTarget {
            labels,
            smoothing: smoothing.unwrap_or(hyper.label_smoothing),
            teacher: self.distill().zip(teacher),
        }
    }

    /// What it learns of the final classifier, if anything.
    pub(in crate::train) fn distill(&self) -> Option<Distill> {
        self.recipe.distill.filter(|d| d.weight > 0.0)
    }

    /// The dropouts that lie in `graph`, the head or its rest, by its own values.
    pub(in crate::train) fn dropout_in(&self, graph: &Graph) -> Vec<(ValueId, f32)> {
        let dropout = self.dropout.iter();
        dropout
            .filter_map(|d| Some((graph.find(&d.value).ok()?, d.rate)))
            .collect()
    }

    /// The last value of the chain behind the head's input that needs no parameters, drops nothing
    /// and is smallest.
    pub(super) fn split(&self) -> Result<ValueId, TrainError> {
        let graph = self.graph;
        let [input] = graph.inputs.as_slice() else {
            return Err(TrainError::Request(format!(
                "head `{}` must have one input",
                graph.name
            )));
        };
        let consumers = graph.consumers();
        let drops = |id: ValueId| self.dropout.iter().any(|d| d.value == graph.value(id).name);
        let (mut at, mut best) = (*input, *input);
        while let Some([next]) = consumers.get(&at).map(Vec::as_slice) {
            let node = &graph.nodes[*next];
            let plain = matches!(
                node.op,
                Op::GlobalPool { .. }
                    | Op::Pool { .. }
                    | Op::Reshape { .. }
                    | Op::Unary(_)
                    | Op::Reduce { .. }
                    | Op::Transpose { .. }
                    | Op::Identity
            );
            if !plain || node.inputs.len() != 1 || node.outputs.len() != 1 || drops(at) {
                break;
            }
            at = node.outputs[0];
            if graph.outputs.contains(&at) {
                break;
            }
            if graph.value(at).shape.elements(1) <= graph.value(best).shape.elements(1) {
                best = at;
            }
        }
        Ok(best)
    }
}
