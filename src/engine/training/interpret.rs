/*! Runs the nodes a request needs, in order, on candle tensors. */

use super::clamp::Clamp;
use super::conv::Conv;
use super::norm::{BatchNorm, Stats};
use super::{Mode, TrainableGraph, ops};
use crate::engine::EngineError;
use crate::model::op::{Binary, Unary};
use crate::model::{Activation, Constant, Data, Node, Op, ValueId};
use candle_core::{Device, Result, Tensor, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Weight of a new batch in the running statistics.
const MOMENTUM: f64 = 0.1;

/// A constant as a tensor: floats as F32, integers as I64, small integers and booleans as U8.
pub(super) fn constant(constant: &Constant) -> Result<Tensor> {
    let shape = constant.shape.as_slice();
    match &constant.data {
        Data::F32(v) => Tensor::from_slice(v, shape, &Device::Cpu),
        Data::I64(v) => Tensor::from_slice(v, shape, &Device::Cpu),
        Data::I32(v) => {
            let wide: Vec<i64> = v.iter().map(|&v| v.into()).collect();
            Tensor::from_vec(wide, shape, &Device::Cpu)
        }
        Data::I8(v) => {
            let wide: Vec<i64> = v.iter().map(|&v| v.into()).collect();
            Tensor::from_vec(wide, shape, &Device::Cpu)
        }
        Data::U8(v) | Data::Bool(v) => Tensor::from_slice(v, shape, &Device::Cpu),
    }
}

/// The clamp a node applies by itself.
fn clamp_of(op: &Op) -> Option<Activation> {
    match op {
        Op::Unary(Unary::Relu) => Some(Activation::RELU),
        Op::Unary(Unary::Clip { low, high }) => Some(Activation {
            low: *low,
            high: *high,
        }),
        _ => None,
    }
}

impl TrainableGraph {
    /// Runs as much of the graph as `outputs` need (any values of it: its outputs, cuts, what an
    /// exit reads) and returns them in order. `inputs` are the graph's inputs, F32, with the batch
    /// in front. In [`Mode::Train`] the results are tracked for `backward`.
    pub fn forward(
        &self,
        inputs: &[Tensor],
        outputs: &[ValueId],
        mode: Mode,
    ) -> std::result::Result<Vec<Tensor>, EngineError> {
        let graph = self.graph();
        if inputs.len() != graph.inputs.len() {
            return Err(EngineError::Run {
                node: graph.name.clone(),
                what: format!(
                    "{} inputs given, {} taken",
                    inputs.len(),
                    graph.inputs.len()
                ),
            });
        }
        let mut values: BTreeMap<ValueId, Tensor> = BTreeMap::new();
        let mut batch = 1;
        for (&id, tensor) in graph.inputs.iter().zip(inputs) {
            let shape = &graph.value(id).shape;
            let given = tensor.dims().first().copied().unwrap_or(1);
            if let Some(crate::model::Dim::Batch(k)) = shape.0.first() {
                batch = given / k;
            }
            if shape.at(batch) != tensor.dims() {
                return Err(EngineError::Input {
                    name: graph.value(id).name.clone(),
                    expected: shape.to_string(),
                    found: format!("{:?}", tensor.dims()),
                });
            }
            values.insert(id, tensor.clone());
        }
        let producers = graph.producers();
        let mut needed = BTreeSet::new();
        let mut stack = outputs.to_vec();
        while let Some(id) = stack.pop() {
            if values.contains_key(&id) {
                continue;
            }
            if let Some(&n) = producers.get(&id)
                && needed.insert(n)
            {
                stack.extend(&graph.nodes[n].inputs);
            }
        }
        let asked: BTreeSet<ValueId> = outputs.iter().copied().collect();
        for n in needed {
            let node = &graph.nodes[n];
            if node.outputs.iter().all(|o| values.contains_key(o)) {
                continue;
            }
            let run = self.run(node, batch, &asked, &mut values, mode);
            run.map_err(|e| EngineError::Run {
                node: node.name.clone(),
                what: e.to_string(),
            })?;
        }
        let take = |id: &ValueId| {
            let known = values.get(id).cloned().or_else(|| self.known(*id, mode));
            known.ok_or_else(|| EngineError::Run {
                node: graph.value(*id).name.clone(),
                what: "can't be computed from the network's inputs".into(),
            })
        };
        outputs.iter().map(take).collect()
    }

    /// A value that needs no node.
    fn known(&self, id: ValueId, mode: Mode) -> Option<Tensor> {
        if let Some(var) = self.vars.get(&id) {
            let fixed = mode == Mode::Eval || self.frozen.contains(&id);
            return Some(match fixed {
                true => var.as_detached_tensor(),
                false => var.as_tensor().clone(),
            });
        }
        let running = self.running().get(&id).cloned();
        running.or_else(|| self.constants.get(&id).cloned())
    }

    /// The clamp right behind `node`, if nobody else reads the node's result, and its own result.
    fn clamp_behind(
        &self,
        node: &Node,
        asked: &BTreeSet<ValueId>,
    ) -> Option<(Activation, ValueId)> {
        let out = *node.outputs.first()?;
        let [next] = self.consumers.get(&out)?.as_slice() else {
            return None;
        };
        if asked.contains(&out) || self.graph.outputs.contains(&out) {
            return None;
        }
        let next = &self.graph.nodes[*next];
        Some((clamp_of(&next.op)?, *next.outputs.first()?))
    }

    fn run(
        &self,
        node: &Node,
        batch: usize,
        asked: &BTreeSet<ValueId>,
        values: &mut BTreeMap<ValueId, Tensor>,
        mode: Mode,
    ) -> Result<()> {
        let mut ins = Vec::with_capacity(node.inputs.len());
        for id in &node.inputs {
            let value = values.get(id).cloned().or_else(|| self.known(*id, mode));
            match value {
                Some(tensor) => ins.push(tensor),
                None => bail!("its input `{}` is not there", self.graph.value(*id).name),
            }
        }
        let behind = self.clamp_behind(node, asked);
        let fused = behind.map_or(Activation::NONE, |b| b.0);
        let mut to = behind.map_or(node.outputs[0], |b| b.1);
        let result = match &node.op {
            Op::Conv {
                window,
                groups,
                bias,
                residual,
                activation,
            } => {
                let own = !activation.is_none();
                if own {
                    to = node.outputs[0];
                }
                let act = if own { *activation } else { fused };
                let conv = Conv {
                    window: window.clone(),
                    groups: *groups,
                    activation: if *residual { Activation::NONE } else { act },
                    input_grad: ins[0].track_op(),
                    weight_grad: ins[1..]
                        .iter()
                        .take(1 + usize::from(*bias))
                        .any(Tensor::track_op),
                };
                let y = ops::conv(conv, &ins[0], &ins[1], bias.then(|| &ins[2]))?;
                match residual {
                    true => {
                        let other = ins[ins.len() - 1].contiguous()?;
                        y.apply_op2(&other, Clamp(act))?
                    }
                    false => y,
                }
            }
            Op::BatchNorm { epsilon } => self.batch_norm(node, *epsilon, fused, &ins, mode)?,
            Op::Binary(Binary::Add, activation) if ins[0].shape() == ins[1].shape() => {
                let own = !activation.is_none();
                if own {
                    to = node.outputs[0];
                }
                let act = if own { *activation } else { fused };
                ins[0]
                    .contiguous()?
                    .apply_op2(&ins[1].contiguous()?, Clamp(act))?
            }
            Op::Split { axis, sizes } => {
                let mut start = 0;
                for (&id, &size) in node.outputs.iter().zip(sizes) {
                    values.insert(id, ins[0].narrow(*axis, start, size)?);
                    start += size;
                }
                return Ok(());
            }
            op => {
                to = node.outputs[0];
                match clamp_of(op) {
                    Some(act) => ins[0].contiguous()?.apply_op1(Clamp(act))?,
                    None => ops::run(op, &ins, batch)?,
                }
            }
        };
        values.insert(to, result);
        Ok(())
    }

    fn batch_norm(
        &self,
        node: &Node,
        epsilon: f32,
        activation: Activation,
        ins: &[Tensor],
        mode: Mode,
    ) -> Result<Tensor> {
        let [x, scale, shift, mean, variance] = ins else {
            bail!("batch norm takes 5 inputs, has {}", ins.len());
        };
        let frozen = node.inputs[1..3].iter().all(|id| self.frozen.contains(id));
        if mode == Mode::Eval || frozen {
            let mut each = vec![1; x.rank()];
            each[1] = x.dim(1)?;
            let factor = (scale / (variance + f64::from(epsilon))?.sqrt()?)?;
            let level = (shift - (mean * &factor)?)?;
            let y = x.broadcast_mul(&factor.reshape(each.as_slice())?)?;
            let y = y.broadcast_add(&level.reshape(each.as_slice())?)?;
            return match activation.is_none() {
                true => Ok(y),
                false => y.apply_op1(Clamp(activation)),
            };
        }
        let stats: Arc<Mutex<Stats>> = Arc::default();
        let op = BatchNorm {
            epsilon,
            activation,
            stats: stats.clone(),
        };
        let y = x.contiguous()?.apply_op3(scale, shift, op)?;
        let stats = stats.lock().unwrap_or_else(PoisonError::into_inner);
        let unbiased = stats.count as f64 / (stats.count as f64 - 1.0);
        let mut running = self.running();
        for (id, now, factor) in [
            (node.inputs[3], &stats.mean, 1.0),
            (node.inputs[4], &stats.variance, unbiased),
        ] {
            if let Some(old) = running.get_mut(&id) {
                let now = Tensor::from_slice(now, now.len(), &Device::Cpu)?;
                *old = ((&*old * (1.0 - MOMENTUM))? + (now * (MOMENTUM * factor))?)?;
            }
        }
        Ok(y)
    }
}
