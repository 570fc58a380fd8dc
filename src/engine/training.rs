/*!
Graphs in training mode: any graph, as imported or fused, interpreted on candle tensors (on the CPU)
with its parameters as variables, so that `backward` reaches them.

Stock candle has no backward for pools whose kernel and stride differ, and its convolution is an
order of magnitude behind; the heavy ops here are custom ops with their own forward and backward.
Which constants are parameters: weights and biases of convolutions, of Gemm and MatMul and of the
sum right behind them, scale and shift of norms. Anything else stays as the file has it.
*/

mod clamp;
mod conv;
mod gather;
mod interpret;
mod norm;
mod ops;
mod pool;
mod tensor;
#[cfg(test)]
mod tests;

use super::EngineError;
use crate::model::op::Binary;
use crate::model::{Constant, Graph, Op, ValueId};
use candle_core::{Device, Tensor, Var};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whether batch norm uses the batch's statistics (and updates the running ones), or the running
/// ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Variables are tracked, running statistics move.
    Train,
    /// Nothing is tracked, nothing moves.
    Eval,
}

/// A graph whose parameters can be trained.
#[derive(Debug)]
pub struct TrainableGraph {
    graph: Graph,
    vars: BTreeMap<ValueId, Var>,
    frozen: BTreeSet<ValueId>,
    /// Running means and variances of batch norms.
    running: Mutex<BTreeMap<ValueId, Tensor>>,
    /// All other constants.
    constants: BTreeMap<ValueId, Tensor>,
    consumers: BTreeMap<ValueId, Vec<usize>>,
}

impl TrainableGraph {
    /// Takes the graph's parameters as the starting point. Which ops can be run shows when they
    /// are.
    pub fn new(graph: &Graph) -> Result<TrainableGraph, EngineError> {
        let (parameters, statistics) = roles(graph);
        let mut vars = BTreeMap::new();
        let mut running = BTreeMap::new();
        let mut constants = BTreeMap::new();
        for (&id, constant) in &graph.constants {
            let failed = |e: candle_core::Error| EngineError::Run {
                node: graph.value(id).name.clone(),
                what: e.to_string(),
            };
            let tensor = interpret::constant(constant).map_err(failed)?;
            if statistics.contains(&id) {
                running.insert(id, tensor);
            } else if parameters.contains(&id) && constant.floats().is_some() {
                vars.insert(id, Var::from_tensor(&tensor).map_err(failed)?);
            } else {
                constants.insert(id, tensor);
            }
        }
        Ok(TrainableGraph {
            consumers: graph.consumers().into_iter().collect(),
            graph: graph.clone(),
            vars,
            frozen: BTreeSet::new(),
            running: Mutex::new(running),
            constants,
        })
    }

    /// The graph, with the parameters it came with.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The parameters that are trained, by name, in a fixed order.
    pub fn vars(&self) -> Vec<(&str, &Var)> {
        let trained = self.vars.iter().filter(|(id, _)| !self.frozen.contains(id));
        trained
            .map(|(id, var)| (self.graph.value(*id).name.as_str(), var))
            .collect()
    }

    /// Everything training changes (frozen parameters and running statistics too), by name.
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let name = |id: &ValueId| self.graph.value(*id).name.clone();
        let vars = self
            .vars
            .iter()
            .map(|(id, v)| (name(id), v.as_detached_tensor()));
        let running = self.running();
        let running = running.iter().map(|(id, t)| (name(id), t.clone()));
        vars.chain(running).collect()
    }

    /// Takes back what [`TrainableGraph::state`] gave; a missing or misshapen tensor is an error.
    pub fn restore(&self, state: &BTreeMap<String, Tensor>) -> Result<(), EngineError> {
        let wanted = |id: &ValueId, shape: &candle_core::Shape| {
            let name = &self.graph.value(*id).name;
            let found = state.get(name).filter(|t| t.shape() == shape);
            found.ok_or_else(|| EngineError::Run {
                node: name.clone(),
                what: format!("the stored state has no tensor of shape {shape:?} for it"),
            })
        };
        for (id, var) in &self.vars {
            let tensor = wanted(id, var.shape())?;
            var.set(tensor).map_err(|e| EngineError::Run {
                node: self.graph.value(*id).name.clone(),
                what: e.to_string(),
            })?;
        }
        for (id, tensor) in self.running().iter_mut() {
            *tensor = wanted(id, tensor.shape())?.clone();
        }
        Ok(())
    }

    /// Stops training parameters whose name begins with `prefix`, and how many those are. Batch
    /// norms among them keep to their running statistics.
    pub fn freeze(&mut self, prefix: &str) -> usize {
        let ids: Vec<ValueId> = self.vars.keys().copied().collect();
        let hit = |id: &ValueId| self.graph.value(*id).name.starts_with(prefix);
        let hits: Vec<ValueId> = ids.into_iter().filter(hit).collect();
        self.frozen.extend(&hits);
        hits.len()
    }

    /// The graph with the parameters and running statistics as they are now.
    pub fn to_graph(&self) -> Result<Graph, EngineError> {
        let mut graph = self.graph.clone();
        let running = self.running();
        let now = self.vars.iter().map(|(id, v)| (id, v.as_tensor()));
        for (id, tensor) in now.chain(running.iter()) {
            let floats = tensor.flatten_all().and_then(|t| t.to_vec1::<f32>());
            let floats = floats.map_err(|e| EngineError::Run {
                node: graph.value(*id).name.clone(),
                what: e.to_string(),
            })?;
            let constant = Constant::f32(tensor.dims(), floats);
            graph.constants.insert(*id, constant);
        }
        Ok(graph)
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<ValueId, Tensor>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the tensors live. The custom ops are for CPUs.
    pub fn device(&self) -> Device {
        Device::Cpu
    }
}

/// The constants that are parameters, and those that are running statistics.
fn roles(graph: &Graph) -> (BTreeSet<ValueId>, BTreeSet<ValueId>) {
    let producers = graph.producers();
    let linear = |id: &ValueId| {
        let producer = producers.get(id).map(|&n| &graph.nodes[n].op);
        matches!(
            producer,
            Some(Op::MatMul | Op::Gemm { .. } | Op::Conv { .. })
        )
    };
    let (mut parameters, mut statistics) = (BTreeSet::new(), BTreeSet::new());
    for node in &graph.nodes {
        let inputs = &node.inputs;
        match &node.op {
            Op::Conv { .. }
            | Op::Gemm { .. }
            | Op::MatMul
            | Op::LayerNorm { .. }
            | Op::InstanceNorm { .. } => parameters.extend(inputs),
            Op::BatchNorm { .. } => {
                parameters.extend(inputs.iter().take(3));
                statistics.extend(inputs.iter().skip(3));
            }
            Op::Binary(Binary::Add, _) if inputs.iter().any(linear) => parameters.extend(inputs),
            Op::Binary(Binary::PRelu, _) => parameters.extend(inputs.iter().skip(1)),
            _ => {}
        }
    }
    (parameters, statistics)
}
