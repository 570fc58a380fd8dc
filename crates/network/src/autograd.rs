/*!
Graphs in training mode: any graph, as imported or fused, interpreted on candle tensors (on the CPU),
with a tape that leads back from a loss to the gradients of its parameters.

Candle has no backward for pools whose kernel and stride differ, its convolution is an order of
magnitude behind, and its way back can't be stopped: the ops of networks for images have a forward
and a backward of their own here, and the rest are single candle ops.

Which constants are parameters: weights and biases of convolutions, of Gemm and MatMul and of the sum
right behind them, scale and shift of norms. Anything else stays as the file has it.
*/

mod clamp;
mod conv;
mod gather;
mod interpret;
mod linear;
mod norm;
mod ops;
mod pool;
mod tape;
mod tensor;
#[cfg(test)]
mod tests;

pub use tape::{Gradients, Tape};

use crate::engine::{Cancel, EngineError};
use crate::model::op::Binary;
use crate::model::{Constant, Graph, Op, ValueId};
use candle_core::{Device, Tensor};
use parking_lot::{Mutex, MutexGuard};
use rand::Rng;
use rand_xoshiro::SplitMix64;
use std::collections::{BTreeMap, BTreeSet};

/// What a recorded pass is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// Whether the gradients of the graph's inputs are wanted.
    pub input_gradients: bool,
    /// Values behind which elements are dropped, and which share of them.
    pub dropout: &'a [(ValueId, f32)],
    /// Of the choice of those elements.
    pub seed: u64,
    /// Looked at between steps.
    pub cancel: &'a Cancel,
}

impl<'a> Run<'a> {
    /// A pass for the gradients of the parameters, without dropout.
    pub fn new(cancel: &'a Cancel) -> Run<'a> {
        Run {
            input_gradients: false,
            dropout: &[],
            seed: 0,
            cancel,
        }
    }
}

/// A number from 0 up to, but not including, 1.
fn uniform(rng: &mut SplitMix64) -> f32 {
    (rng.next_u64() >> 40) as f32 / (1 << 24) as f32
}

/// A graph whose parameters can be trained.
#[derive(Debug)]
pub struct TrainableGraph {
    graph: Graph,
    params: BTreeMap<ValueId, Tensor>,
    frozen: BTreeSet<ValueId>,
    /// Running means and variances of batch norms.
    running: Mutex<BTreeMap<ValueId, Tensor>>,
    /// Constants that are neither trained nor running statistics.
    constants: BTreeMap<ValueId, Tensor>,
    consumers: BTreeMap<ValueId, Vec<usize>>,
    producers: BTreeMap<ValueId, usize>,
}

impl TrainableGraph {
    /// Takes the graph's parameters as the starting point. Which ops can be run shows when they
    /// are.
    pub fn new(graph: &Graph) -> Result<TrainableGraph, EngineError> {
        let (parameters, statistics) = roles(graph);
        let mut params = BTreeMap::new();
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
                params.insert(id, tensor);
            } else {
                constants.insert(id, tensor);
            }
        }
        Ok(TrainableGraph {
            consumers: graph.consumers().into_iter().collect(),
            producers: graph.producers().into_iter().collect(),
            graph: graph.clone(),
            params,
            frozen: BTreeSet::new(),
            running: Mutex::new(running),
            constants,
        })
    }

    /// The graph, with the parameters it came with.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The parameters that are trained, in a fixed order.
    pub fn parameters(&self) -> Vec<Parameter<'_>> {
        let trained = self.params.iter();
        let trained = trained.filter(|(id, _)| !self.frozen.contains(id));
        trained
            .map(|(&id, tensor)| Parameter {
                id,
                name: &self.graph.value(id).name,
                tensor,
            })
            .collect()
    }

    /// Everything training changes (frozen parameters and running statistics too), by name.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>, EngineError> {
        let running = self.running();
        let all = self.params.iter().chain(running.iter());
        all.map(|(&id, tensor)| {
            let name = self.graph.value(id).name.clone();
            // Parameters change in place: the state must not share their storage.
            let copy = tensor.copy().map_err(|e| self.failed(id, e))?;
            Ok((name, copy))
        })
        .collect()
    }

    fn failed(&self, id: ValueId, e: candle_core::Error) -> EngineError {
        EngineError::Run {
            node: self.graph.value(id).name.clone(),
            what: e.to_string(),
        }
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
        for (&id, param) in &self.params {
            let floats = wanted(&id, param.shape())?.flatten_all();
            let floats = floats.and_then(|t| t.to_vec1::<f32>());
            let floats = floats.map_err(|e| self.failed(id, e))?;
            let changed = tensor::change(param, |to| to.copy_from_slice(&floats));
            changed.map_err(|e| self.failed(id, e))?;
        }
        for (id, tensor) in self.running().iter_mut() {
            *tensor = wanted(id, tensor.shape())?.clone();
        }
        Ok(())
    }

    /// Stops training parameters whose name begins with `prefix`, and how many those are. Batch
    /// norms among them keep to their running statistics.
    pub fn freeze(&mut self, prefix: &str) -> usize {
        let ids: Vec<ValueId> = self.params.keys().copied().collect();
        let hit = |id: &ValueId| self.graph.value(*id).name.starts_with(prefix);
        let hits: Vec<ValueId> = ids.into_iter().filter(hit).collect();
        self.frozen.extend(&hits);
        hits.len()
    }

    /// The graph with the parameters and running statistics as they are now.
    pub fn to_graph(&self) -> Result<Graph, EngineError> {
        let mut graph = self.graph.clone();
        let running = self.running();
        for (id, tensor) in self.params.iter().chain(running.iter()) {
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
        self.running.lock()
    }

    /// Where the tensors live: training runs on the CPU.
    pub fn device(&self) -> Device {
        Device::Cpu
    }
}

/// A constant that is trained.
#[derive(Debug, Clone, Copy)]
pub struct Parameter<'a> {
    /// Its value in the graph, by which its gradient is found.
    pub id: ValueId,
    /// Name of the value in the graph.
    pub name: &'a str,
    /// What it is now.
    pub tensor: &'a Tensor,
}

impl Parameter<'_> {
    /// Changes it where it lies.
    ///
    /// # Errors
    /// Where its tensor isn't made of contiguous floats.
    pub fn change(&self, f: impl FnMut(&mut [f32])) -> candle_core::Result<()> {
        tensor::change(self.tensor, f)
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
