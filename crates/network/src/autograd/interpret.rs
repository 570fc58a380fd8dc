/*! Runs the nodes a request needs, in order, and keeps what the way back needs. */

use super::clamp::Clamp;
use super::conv::Conv;
use super::linear::Linear;
use super::norm::{Affine, BatchNorm, Stats};
use super::pool::Pool;
use super::tape::{Step, Tape, means, variables};
use super::tensor::{tensor, with};
use super::{Run, TrainableGraph, ops};
use crate::engine::{Cancel, EngineError};
use crate::model::op::{Binary, Unary};
use crate::model::{Activation, Constant, Data, Node, Op, ValueId};
use candle_core::{DType, Device, Result, Tensor, bail};
use rand::SeedableRng;
use rand_xoshiro::SplitMix64;
use std::collections::{BTreeMap, BTreeSet};

/// Weight of a new batch in the running statistics.
const MOMENTUM: f32 = 0.1;

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

/// A pass forward under way.
struct Pass<'a> {
    net: &'a TrainableGraph,
    /// The values asked for, which no fusion may skip.
    asked: BTreeSet<ValueId>,
    batch: usize,
    values: BTreeMap<ValueId, Tensor>,
    /// Values the loss is differentiated by, and all that depend on them.
    tracked: BTreeSet<ValueId>,
    /// Steps to go back over; `None` outside training.
    tape: Option<Tape>,
    run: &'a Run<'a>,
}

impl TrainableGraph {
    /// Runs as much of the graph as `outputs` need (any values of it: its outputs, cuts, what an
    /// exit reads) as in inference, and returns them in order. `inputs` are the graph's inputs,
    /// F32, with the batch in front.
    pub fn forward(
        &self,
        inputs: &[Tensor],
        outputs: &[ValueId],
    ) -> std::result::Result<Vec<Tensor>, EngineError> {
        let cancel = Cancel::new();
        let (values, _) = self.pass(inputs, outputs, None, &Run::new(&cancel))?;
        Ok(values)
    }

    /// Like [`TrainableGraph::forward`], in training: batch norms go by the batch's statistics and
    /// move the running ones, and the tape leads back to the gradients.
    pub fn record(
        &self,
        inputs: &[Tensor],
        outputs: &[ValueId],
        run: &Run<'_>,
    ) -> std::result::Result<(Vec<Tensor>, Tape), EngineError> {
        let (values, tape) = self.pass(inputs, outputs, Some(Tape::default()), run)?;
        Ok((values, tape.unwrap_or_default()))
    }

    fn pass(
        &self,
        inputs: &[Tensor],
        outputs: &[ValueId],
        tape: Option<Tape>,
        run: &Run<'_>,
    ) -> std::result::Result<(Vec<Tensor>, Option<Tape>), EngineError> {
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
        let mut tracked = BTreeSet::new();
        if tape.is_some() {
            let moving = |id: &&ValueId| !self.frozen.contains(id);
            tracked.extend(self.params.keys().filter(moving).copied());
        }
        let mut pass = Pass {
            net: self,
            asked: outputs.iter().copied().collect(),
            batch: 1,
            values: BTreeMap::new(),
            tracked,
            tape,
            run,
        };
        for (&id, tensor) in graph.inputs.iter().zip(inputs) {
            let shape = &graph.value(id).shape;
            let given = tensor.dims().first().copied().unwrap_or(1);
            if let Some(crate::model::Dim::Batch(k)) = shape.0.first() {
                pass.batch = given / (*k).max(1);
            }
            if shape.at(pass.batch) != tensor.dims() {
                return Err(EngineError::Input {
                    name: graph.value(id).name.clone(),
                    expected: shape.to_string(),
                    found: format!("{:?}", tensor.dims()),
                });
            }
            pass.values.insert(id, tensor.clone());
            if run.input_gradients {
                pass.tracked.insert(id);
            }
            let name = &graph.value(id).name;
            pass.drop_out(name, id).map_err(|e| self.failed(id, e))?;
        }
        for n in self.needed(outputs) {
            let node = &graph.nodes[n];
            if run.cancel.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            if node.outputs.iter().all(|o| pass.values.contains_key(o)) {
                continue;
            }
            let done = pass.node(node).and_then(|()| {
                let outputs = node.outputs.iter();
                outputs
                    .copied()
                    .try_for_each(|id| pass.drop_out(&node.name, id))
            });
            done.map_err(|e| EngineError::Run {
                node: node.name.clone(),
                what: e.to_string(),
            })?;
        }
        let take = |id: &ValueId| {
            let known = pass.values.get(id).cloned().or_else(|| self.known(*id));
            known.ok_or_else(|| EngineError::Run {
                node: graph.value(*id).name.clone(),
                what: "can't be computed from the network's inputs".into(),
            })
        };
        let outputs = outputs
            .iter()
            .map(take)
            .collect::<std::result::Result<_, _>>()?;
        Ok((outputs, pass.tape))
    }

    /// The nodes behind `outputs`, in order.
    fn needed(&self, outputs: &[ValueId]) -> BTreeSet<usize> {
        let graph = self.graph();
        let mut needed = BTreeSet::new();
        let mut stack = outputs.to_vec();
        while let Some(id) = stack.pop() {
            if graph.inputs.contains(&id) {
                continue;
            }
            if let Some(&n) = self.producers.get(&id)
                && needed.insert(n)
            {
                stack.extend(&graph.nodes[n].inputs);
            }
        }
        needed
    }

    /// A value that needs no node.
    fn known(&self, id: ValueId) -> Option<Tensor> {
        let known = self.params.get(&id).or_else(|| self.constants.get(&id));
        known.cloned().or_else(|| self.running().get(&id).cloned())
    }
}

impl Pass<'_> {
    /// The clamp right behind `node`, if nobody else reads the node's result, and its own result.
    fn clamp_behind(&self, node: &Node) -> Option<(Activation, ValueId)> {
        let out = *node.outputs.first()?;
        let [next] = self.net.consumers.get(&out)?.as_slice() else {
            return None;
        };
        let named = |id: &ValueId| self.run.dropout.iter().any(|(d, _)| d == id);
        if self.asked.contains(&out) || self.net.graph.outputs.contains(&out) || named(&out) {
            return None;
        }
        let next = &self.net.graph.nodes[*next];
        Some((clamp_of(&next.op)?, *next.outputs.first()?))
    }

    /// Keeps a result, and in training the step that made it.
    fn keep(
        &mut self,
        at: &str,
        inputs: &[ValueId],
        to: ValueId,
        result: Tensor,
        step: impl FnOnce() -> Step,
    ) {
        let wanted: Vec<bool> = inputs.iter().map(|i| self.tracked.contains(i)).collect();
        if let Some(tape) = self.tape.as_mut().filter(|_| wanted.contains(&true)) {
            tape.push(at, step(), inputs, &wanted, &[to]);
            self.tracked.insert(to);
        }
        self.values.insert(to, result);
    }

    fn node(&mut self, node: &Node) -> Result<()> {
        let at = node.name.as_str();
        let mut ins = Vec::with_capacity(node.inputs.len());
        for id in &node.inputs {
            let value = self.values.get(id).cloned().or_else(|| self.net.known(*id));
            match value {
                Some(tensor) => ins.push(tensor),
                None => bail!(
                    "its input `{}` is not there",
                    self.net.graph.value(*id).name
                ),
            }
        }
        let out = node.outputs[0];
        let (fused, behind) = self.clamp_behind(node).unwrap_or((Activation::NONE, out));
        // A node with a clamp of its own leaves the one behind to the next.
        let clamps = |own: &Activation| match own.is_none() {
            true => (fused, behind),
            false => (*own, out),
        };
        let same = ins.len() > 1 && ins[0].shape() == ins[1].shape();
        match &node.op {
            Op::Conv { activation, .. } => {
                let (act, to) = clamps(activation);
                self.convolve(node, &ins, (act, to))?;
            }
            Op::BatchNorm { epsilon } => self.batch_norm(node, *epsilon, fused, &ins, behind)?,
            Op::Binary(Binary::Add, activation) if same && ins[0].dtype() == DType::F32 => {
                let (act, to) = clamps(activation);
                let [a, b] = [0, 1].map(|i| (node.inputs[i], ins[i].clone()));
                self.sum(at, [a, b], to, act)?;
            }
            Op::Pool { .. } => self.pool(node, &ins)?,
            Op::GlobalPool { average: true } if ins[0].elem_count() > 0 => {
                let plane = ins[0].dims()[2..].iter().product();
                let mut dims = ins[0].dims().to_vec();
                dims[2..].fill(1);
                let y = tensor(with(&ins[0], |x| Ok(means(x, plane)))?, &dims)?;
                self.keep(at, &node.inputs, out, y, || Step::Mean { plane });
            }
            Op::Reshape { to } => {
                let to: Vec<usize> = to.iter().map(|d| d.at(self.batch)).collect();
                let y = ins[0].contiguous()?.reshape(to)?;
                self.keep(at, &node.inputs, out, y, || Step::View);
            }
            Op::Identity => self.keep(at, &node.inputs, out, ins[0].clone(), || Step::View),
            Op::Gemm {
                trans_a: false,
                trans_b,
                alpha,
                beta,
                activation,
            } if *alpha == 1.0 && *beta == 1.0 && plain_bias(&ins) => {
                self.linear(node, &ins, *trans_b, *activation)?;
            }
            Op::Concat { axis } if ins.iter().all(|t| t.dtype() == DType::F32) => {
                let runs = ins.iter().map(|t| t.dims()[*axis..].iter().product());
                let runs: Vec<usize> = runs.collect();
                let y = Tensor::cat(&ins, *axis)?.contiguous()?;
                self.keep(at, &node.inputs, out, y, || Step::Concat { runs });
            }
            Op::Split { axis, sizes } => {
                self.island(node, &ins, |ins| {
                    let mut start = 0;
                    let piece = |&size: &usize| {
                        start += size;
                        ins[0].narrow(*axis, start - size, size)
                    };
                    sizes.iter().map(piece).collect()
                })?;
            }
            op => match clamp_of(op) {
                Some(act) => self.clamp(at, (node.inputs[0], ins[0].clone()), out, act)?,
                None => {
                    let batch = self.batch;
                    self.island(node, &ins, |ins| Ok(vec![ops::run(op, ins, batch)?]))?;
                }
            },
        }
        Ok(())
    }

    /// A convolution, whose result is `to` once it is held within the bounds of `act`.
    fn convolve(
        &mut self,
        node: &Node,
        ins: &[Tensor],
        (act, to): (Activation, ValueId),
    ) -> Result<()> {
        let Op::Conv {
            window,
            groups,
            bias,
            residual,
            ..
        } = &node.op
        else {
            bail!("no convolution");
        };
        let at = node.name.as_str();
        let line = window.kernel.len() == 1;
        let conv = Conv {
            window: ops::flat(window)?,
            groups: *groups,
            activation: if *residual { Activation::NONE } else { act },
        };
        let raise = |t: &Tensor| if line { t.unsqueeze(2) } else { t.contiguous() };
        let (x, w) = (raise(&ins[0])?, raise(&ins[1])?);
        let y = conv.run(&x, &w, bias.then(|| &ins[2]))?;
        let y = if line { y.squeeze(2)? } else { y };
        let kept = (!conv.activation.is_none()).then(|| y.clone());
        let reads = &node.inputs[..2 + usize::from(*bias)];
        self.keep(at, reads, to, y.clone(), || Step::Conv {
            conv,
            x,
            w,
            y: kept,
        });
        if *residual {
            let other = ins.len() - 1;
            self.sum(
                at,
                [(to, y), (node.inputs[other], ins[other].clone())],
                to,
                act,
            )?;
        }
        Ok(())
    }

    fn pool(&mut self, node: &Node, ins: &[Tensor]) -> Result<()> {
        let Op::Pool {
            kind,
            window,
            extra,
            ..
        } = &node.op
        else {
            bail!("no pool");
        };
        let line = window.kernel.len() == 1;
        let mut extra = extra.clone();
        if line {
            extra.insert(0, 0);
        }
        let pool = Pool {
            kind: *kind,
            window: ops::flat(window)?,
            extra,
        };
        let x = if line {
            ins[0].unsqueeze(2)?
        } else {
            ins[0].contiguous()?
        };
        let y = pool.run(&x)?;
        let y = if line { y.squeeze(2)? } else { y };
        self.keep(&node.name, &node.inputs, node.outputs[0], y, || {
            Step::Pool { pool, x }
        });
        Ok(())
    }

    /// A product of two matrices and a bias, if there is one; the second is transposed if `turned`.
    fn linear(
        &mut self,
        node: &Node,
        ins: &[Tensor],
        turned: bool,
        activation: Activation,
    ) -> Result<()> {
        let (at, out) = (node.name.as_str(), node.outputs[0]);
        let linear = Linear {
            rows: ins[0].dim(0)?,
            deep: ins[0].dim(1)?,
            wide: ins[1].dim(usize::from(!turned))?,
            turned,
        };
        let (x, w) = (ins[0].clone(), ins[1].clone());
        let y = with(&x, |x| {
            with(&w, |w| match ins.get(2) {
                Some(bias) => with(bias, |b| Ok(linear.forward(x, w, Some(b)))),
                None => Ok(linear.forward(x, w, None)),
            })
        })?;
        let y = tensor(y, &[linear.rows, linear.wide])?;
        self.keep(at, &node.inputs, out, y.clone(), || Step::Linear {
            linear,
            x,
            w,
        });
        if !activation.is_none() {
            self.clamp(at, (out, y), out, activation)?;
        }
        Ok(())
    }

    fn sum(
        &mut self,
        at: &str,
        [(a, x), (b, y)]: [(ValueId, Tensor); 2],
        to: ValueId,
        activation: Activation,
    ) -> Result<()> {
        let sum = with(&x, |x| with(&y, |y| Ok(Clamp(activation).of_sum(x, y))))?;
        let sum = tensor(sum, x.dims())?;
        let kept = (!activation.is_none()).then(|| sum.clone());
        self.keep(at, &[a, b], to, sum, || Step::Sum {
            activation,
            y: kept,
        });
        Ok(())
    }

    fn clamp(
        &mut self,
        at: &str,
        (from, x): (ValueId, Tensor),
        to: ValueId,
        activation: Activation,
    ) -> Result<()> {
        let y = tensor(with(&x, |x| Ok(Clamp(activation).of(x)))?, x.dims())?;
        let kept = y.clone();
        self.keep(at, &[from], to, y, || Step::Clamp {
            activation,
            y: kept,
        });
        Ok(())
    }

    /// Runs a node by candle, and lets candle differentiate it.
    fn island(
        &mut self,
        node: &Node,
        ins: &[Tensor],
        run: impl FnOnce(&[Tensor]) -> Result<Vec<Tensor>>,
    ) -> Result<()> {
        let wanted: Vec<bool> = node
            .inputs
            .iter()
            .map(|i| self.tracked.contains(i))
            .collect();
        if !wanted.contains(&true) || self.tape.is_none() {
            for (&id, y) in node.outputs.iter().zip(run(ins)?) {
                self.values.insert(id, y.contiguous()?);
            }
            return Ok(());
        }
        let ins = variables(ins, &wanted)?;
        let outs = run(&ins)?;
        for (&id, y) in node.outputs.iter().zip(&outs) {
            self.values.insert(id, y.detach().contiguous()?);
            self.tracked.insert(id);
        }
        if let Some(tape) = &mut self.tape {
            let step = Step::Island { ins, outs };
            tape.push(&node.name, step, &node.inputs, &wanted, &node.outputs);
        }
        Ok(())
    }

    fn batch_norm(
        &mut self,
        node: &Node,
        epsilon: f32,
        activation: Activation,
        ins: &[Tensor],
        to: ValueId,
    ) -> Result<()> {
        let [x, scale, shift, mean, variance] = ins else {
            bail!("batch norm takes 5 inputs, has {}", ins.len());
        };
        let (at, ids) = (node.name.as_str(), &node.inputs);
        let frozen = ids[1..3].iter().all(|id| !self.tracked.contains(id));
        if self.tape.is_none() || frozen {
            let affine = Affine::new(
                x.dims(),
                [scale, shift, mean, variance],
                epsilon,
                activation,
            )?;
            let y = affine.forward(x)?;
            let kept = (!activation.is_none()).then(|| y.clone());
            self.keep(at, &ids[..1], to, y, || Step::Affine { affine, y: kept });
            return Ok(());
        }
        let mut norm = BatchNorm {
            epsilon,
            activation,
            stats: Stats::default(),
        };
        let y = norm.forward(x, scale, shift)?;
        let count = norm.stats.count as f32;
        for (id, now, factor) in [
            (ids[3], &norm.stats.mean, 1.0),
            (ids[4], &norm.stats.variance, count / (count - 1.0)),
        ] {
            if let Some(old) = self.net.running().get_mut(&id) {
                let moved = old.flatten_all()?.to_vec1::<f32>()?;
                let moved = moved.iter().zip(now);
                let moved = moved.map(|(o, n)| o * (1.0 - MOMENTUM) + n * (MOMENTUM * factor));
                *old = tensor(moved.collect(), old.dims())?;
            }
        }
        let (x, scale, shift) = (x.clone(), scale.clone(), shift.clone());
        self.keep(at, &ids[..3], to, y, || Step::Norm {
            norm,
            x,
            scale,
            shift,
        });
        Ok(())
    }

    /// Drops some of the elements of a value that dropout stands behind.
    fn drop_out(&mut self, at: &str, id: ValueId) -> Result<()> {
        let found = self
            .run
            .dropout
            .iter()
            .position(|(d, rate)| *d == id && *rate > 0.0);
        let (Some(found), true) = (found, self.tape.is_some()) else {
            return Ok(());
        };
        let Some(x) = self.values.get(&id).cloned() else {
            return Ok(());
        };
        let rate = self.run.dropout[found].1;
        let seed = self.run.seed ^ (found as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut rng = SplitMix64::seed_from_u64(seed);
        let keep = 1.0 / (1.0 - rate);
        let factors: Vec<f32> = (0..x.elem_count())
            .map(|_| match super::uniform(&mut rng) < rate {
                true => 0.0,
                false => keep,
            })
            .collect();
        let y = with(&x, |x| {
            Ok(x.iter().zip(&factors).map(|(x, f)| x * f).collect())
        })?;
        let y = tensor(y, x.dims())?;
        self.keep(at, &[id], id, y, || Step::Dropout { factors });
        Ok(())
    }
}

/// Whether a Gemm is of matrices, its third input, if any, one value a column.
fn plain_bias(ins: &[Tensor]) -> bool {
    let matrices = ins[0].rank() == 2 && ins[1].rank() == 2;
    let wide = |bias: &Tensor| {
        let columns = ins[1].dims().contains(&bias.elem_count());
        columns && bias.dims().last() == Some(&bias.elem_count())
    };
    matrices && ins[0].is_contiguous() && ins[1].is_contiguous() && ins.get(2).is_none_or(wide)
}
