/*!
Fusion: from the graph as imported to one node a step of inference.

Constants are folded, batch norms and channel-wise factors go into the convolution before them, the
sum at the end of a residual block into one of its convolutions, clamps into whatever they clamp, a
product with constant weights and its bias become `Gemm`. The surviving node keeps its own name and
takes the last fused value as its output, so that a cut is called what the file calls it. Nothing is
fused across a quantisation, since those nodes round. Every choice depends on the order of the nodes
alone, and fusing twice changes nothing.
*/

mod channel;
mod fold;
mod softmax;

pub use softmax::{ends_in_softmax, logits_before_softmax, without_softmax};

use super::constant::{Constant, DType, Data};
use super::graph::{Graph, Node, Value, ValueId};
use super::op::{Activation, Binary, Op, Unary};
use super::shape::Shape;
use std::collections::HashSet;
use std::sync::Arc;

/// Fuses a graph. The result computes the same, up to rounding; it shares the constants that did
/// not change.
pub fn fuse(graph: &Graph) -> Graph {
    fused(graph.clone())
}

/// Like [`fuse`], of a graph that nobody needs any more: each weight is let go as the one in its place is
/// made, so that there is one set of them throughout.
pub fn fused(graph: Graph) -> Graph {
    let mut work = Rewriting::new(graph);
    let phases: [&[Pass]; 3] = [
        &[
            fold::fold,
            no_op,
            channel::batch_norm,
            product,
            product_bias,
            channel::affine,
        ],
        &[residual],
        &[clamp],
    ];
    for passes in phases {
        work.exhaust(passes);
    }
    work.finish()
}

/// Tries to fuse at one node. Whether it changed anything.
type Pass = fn(&mut Rewriting, usize) -> bool;

/// A graph being rewritten: nodes vanish in place, so that indices keep their order.
struct Rewriting {
    graph: Graph,
    nodes: Vec<Option<Node>>,
    /// For each value, the index of its producer.
    producer: Vec<Option<usize>>,
    /// For each value, how often it is read, graph outputs included.
    uses: Vec<usize>,
    names: HashSet<String>,
}

impl Rewriting {
    fn new(mut graph: Graph) -> Self {
        let nodes: Vec<Option<Node>> = std::mem::take(&mut graph.nodes)
            .into_iter()
            .map(Some)
            .collect();
        let mut work = Rewriting {
            producer: vec![None; graph.values.len()],
            uses: vec![0; graph.values.len()],
            names: graph.values.iter().map(|v| v.name.clone()).collect(),
            graph,
            nodes,
        };
        for (i, node) in work.nodes.iter().flatten().enumerate() {
            for v in &node.outputs {
                work.producer[v.0 as usize] = Some(i);
            }
            for v in &node.inputs {
                work.uses[v.0 as usize] += 1;
            }
        }
        for v in &work.graph.outputs {
            work.uses[v.0 as usize] += 1;
        }
        work
    }

    fn exhaust(&mut self, passes: &[Pass]) {
        loop {
            let mut changed = false;
            for i in 0..self.nodes.len() {
                while self.nodes[i].is_some() && passes.iter().any(|pass| pass(self, i)) {
                    changed = true;
                }
            }
            if !changed {
                return;
            }
        }
    }

    fn finish(mut self) -> Graph {
        self.graph.nodes = self.nodes.into_iter().flatten().collect();
        let pruned = self.graph.subgraph(&self.graph.inputs, &self.graph.outputs);
        // The outputs were computable before, and every rewrite keeps its inputs.
        pruned.unwrap_or(self.graph)
    }

    fn node(&self, i: usize) -> Option<&Node> {
        self.nodes[i].as_ref()
    }

    fn shape(&self, id: ValueId) -> &Shape {
        &self.graph.value(id).shape
    }

    fn constant(&self, id: ValueId) -> Option<&Constant> {
        self.graph.constants.get(&id)
    }

    fn floats(&self, id: ValueId) -> Option<&[f32]> {
        self.constant(id).and_then(Constant::floats)
    }

    /// The elements of a constant that one node reads, and that nobody else holds.
    fn own_floats(&mut self, id: ValueId) -> Option<&mut [f32]> {
        let constant = self.graph.constants.get_mut(&id)?;
        match &mut constant.data {
            Data::F32(v) if self.uses[id.0 as usize] == 1 => Arc::get_mut(v).map(Vec::as_mut_slice),
            _ => None,
        }
    }

    /// The node that produces `id`, if nothing else reads that value.
    fn sole_producer(&self, id: ValueId) -> Option<usize> {
        let i = self.producer[id.0 as usize]?;
        let node = self.node(i)?;
        (self.uses[id.0 as usize] == 1 && node.outputs.len() == 1).then_some(i)
    }

    /// Removes node `gone`, whose result `keeper` now yields in its place.
    fn absorb(&mut self, keeper: usize, gone: usize) {
        let Some(gone) = self.remove(gone) else {
            return;
        };
        if let (Some(keeper_node), Some(&output)) = (&mut self.nodes[keeper], gone.outputs.first())
        {
            keeper_node.params += gone.params;
            keeper_node.outputs = vec![output];
            self.producer[output.0 as usize] = Some(keeper);
        }
    }

    /// Moves a node to a free place behind it, before its readers.
    fn postpone(&mut self, from: usize, to: usize) {
        self.nodes[to] = self.nodes[from].take();
        for v in self.nodes[to].iter().flat_map(|n| &n.outputs) {
            self.producer[v.0 as usize] = Some(to);
        }
    }

    /// How many nodes, this one the last, work on a value that nothing else reads.
    fn branch(&self, mut last: usize) -> usize {
        let mut nodes = 1;
        while let Some(before) = self
            .node(last)
            .and_then(|n| self.sole_producer(*n.inputs.first()?))
        {
            nodes += 1;
            last = before;
        }
        nodes
    }

    /// Takes a node out and its reads back.
    fn remove(&mut self, i: usize) -> Option<Node> {
        let node = self.nodes[i].take()?;
        for v in &node.inputs {
            self.uses[v.0 as usize] -= 1;
        }
        Some(node)
    }

    /// Replaces op and inputs of a node.
    fn set(&mut self, i: usize, op: Op, inputs: Vec<ValueId>) {
        if let Some(node) = &mut self.nodes[i] {
            for v in &node.inputs {
                self.uses[v.0 as usize] -= 1;
            }
            for v in &inputs {
                self.uses[v.0 as usize] += 1;
            }
            node.op = op;
            node.inputs = inputs;
        }
    }

    /// A new constant, named like `wanted` as far as that is free.
    fn add(&mut self, wanted: &str, constant: Constant) -> ValueId {
        let mut name = wanted.to_string();
        let mut n = 2;
        while !self.names.insert(name.clone()) {
            name = format!("{wanted}_{n}");
            n += 1;
        }
        let id = ValueId(self.graph.values.len() as u32);
        self.graph.values.push(Value {
            name,
            dtype: constant.dtype(),
            shape: Shape::fixed(&constant.shape),
        });
        self.graph.constants.insert(id, constant);
        self.producer.push(None);
        self.uses.push(0);
        id
    }

    /// `constant` in the place of `old`: under its name if only one node reads it, else beside it.
    fn replace(&mut self, old: ValueId, constant: Constant) -> ValueId {
        if self.uses[old.0 as usize] == 1 {
            self.graph.values[old.0 as usize].shape = Shape::fixed(&constant.shape);
            self.graph.constants.insert(old, constant);
            return old;
        }
        let name = self.graph.value(old).name.clone();
        self.add(&name, constant)
    }

    /// Removes node `i`, which only hands on its first input. A graph output must keep its name.
    fn bypass(&mut self, i: usize) -> bool {
        let Some(node) = self.node(i) else {
            return false;
        };
        let (Some(&from), Some(&to)) = (node.inputs.first(), node.outputs.first()) else {
            return false;
        };
        let params = node.params;
        if self.graph.outputs.contains(&to) {
            let Some(p) = self.sole_producer(from) else {
                return false;
            };
            self.absorb(p, i);
            return true;
        }
        self.remove(i);
        let mut charged = false;
        for node in self.nodes.iter_mut().flatten() {
            for input in node.inputs.iter_mut().filter(|v| **v == to) {
                *input = from;
                self.uses[to.0 as usize] -= 1;
                self.uses[from.0 as usize] += 1;
                if !charged {
                    node.params += params;
                    charged = true;
                }
            }
        }
        true
    }
}

/// A clamp without bounds, or an identity, hands on its input.
fn no_op(work: &mut Rewriting, i: usize) -> bool {
    let Some(node) = work.node(i) else {
        return false;
    };
    let idle = match &node.op {
        Op::Identity => true,
        Op::Unary(Unary::Clip { low, high }) => *low == f32::NEG_INFINITY && *high == f32::INFINITY,
        _ => false,
    };
    idle && work.bypass(i)
}

/// `MatMul` of a matrix by constant weights is a `Gemm`.
fn product(work: &mut Rewriting, i: usize) -> bool {
    let Some(Node {
        op: Op::MatMul,
        inputs,
        ..
    }) = work.node(i)
    else {
        return false;
    };
    let inputs = inputs.clone();
    let plain = inputs.iter().all(|&v| work.shape(v).rank() == 2)
        && work.constant(inputs[0]).is_none()
        && work.floats(inputs[1]).is_some();
    if plain {
        let op = Op::Gemm {
            trans_a: false,
            trans_b: false,
            alpha: 1.0,
            beta: 1.0,
            activation: Activation::NONE,
        };
        work.set(i, op, inputs);
    }
    plain
}

/// A constant row added to a `Gemm` without bias is its bias.
fn product_bias(work: &mut Rewriting, i: usize) -> bool {
    let Some((x, bias)) = constant_operand(work, i, Binary::Add) else {
        return false;
    };
    let Some(g) = work.sole_producer(x) else {
        return false;
    };
    let Some(Node {
        op:
            Op::Gemm {
                trans_a,
                trans_b,
                alpha,
                activation,
                ..
            },
        inputs,
        outputs,
        ..
    }) = work.node(g)
    else {
        return false;
    };
    let columns = work.shape(outputs[0]).0[1].fixed();
    let row = match work.shape(bias).at(1)[..] {
        [n] | [1, n] => Some(n) == columns,
        _ => false,
    };
    if inputs.len() != 2 || !activation.is_none() || !row {
        return false;
    }
    let op = Op::Gemm {
        trans_a: *trans_a,
        trans_b: *trans_b,
        alpha: *alpha,
        beta: 1.0,
        activation: Activation::NONE,
    };
    let inputs = vec![inputs[0], inputs[1], bias];
    work.set(g, op, inputs);
    work.absorb(g, i);
    true
}

/// Node `i` as `x ∘ constant`, for a commutative `∘` in either order.
fn constant_operand(work: &Rewriting, i: usize, wanted: Binary) -> Option<(ValueId, ValueId)> {
    let node = work.node(i)?;
    let Op::Binary(op, activation) = node.op else {
        return None;
    };
    if op != wanted || !activation.is_none() {
        return None;
    }
    let (a, b) = (node.inputs[0], node.inputs[1]);
    let commutes = matches!(op, Binary::Add | Binary::Mul);
    match (work.floats(a), work.floats(b)) {
        (None, Some(_)) => Some((a, b)),
        (Some(_), None) if commutes => Some((b, a)),
        _ => None,
    }
}

/// The sum at the end of a residual block goes into the last convolution of the longer branch, which
/// takes its place: the shortcut is there by then, wherever the file has it.
fn residual(work: &mut Rewriting, i: usize) -> bool {
    let Some(node) = work.node(i) else {
        return false;
    };
    let Op::Binary(Binary::Add, activation) = node.op else {
        return false;
    };
    let (a, b, sum) = (node.inputs[0], node.inputs[1], node.outputs[0]);
    let same = [a, b].iter().all(|&v| work.shape(v) == work.shape(sum));
    let constant = work.constant(a).is_some() || work.constant(b).is_some();
    if !same || constant || work.graph.value(sum).dtype != DType::F32 {
        return false;
    }
    let candidate = |own: ValueId, other: ValueId| {
        let c = work.sole_producer(own)?;
        let free = matches!(
            work.node(c)?.op,
            Op::Conv { residual: false, activation, .. } if activation.is_none()
        );
        free.then_some((c, other))
    };
    let best = [candidate(a, b), candidate(b, a)];
    let longest = |(c, _): &(usize, ValueId)| (work.branch(*c), *c);
    let Some((c, other)) = best.into_iter().flatten().max_by_key(longest) else {
        return false;
    };
    let Some(conv) = work.node(c) else {
        return false;
    };
    let mut op = conv.op.clone();
    if let Op::Conv {
        residual,
        activation: own,
        ..
    } = &mut op
    {
        *residual = true;
        *own = activation;
    }
    let mut inputs = conv.inputs.clone();
    inputs.push(other);
    work.set(c, op, inputs);
    work.absorb(c, i);
    work.postpone(c, i);
    true
}

/// A clamp goes into the convolution, product or sum before it.
fn clamp(work: &mut Rewriting, i: usize) -> bool {
    let Some(node) = work.node(i) else {
        return false;
    };
    let (low, high) = match node.op {
        Op::Unary(Unary::Relu) => (0.0, f32::INFINITY),
        Op::Unary(Unary::Clip { low, high }) if low <= high => (low, high),
        _ => return false,
    };
    let Some(p) = work.sole_producer(node.inputs[0]) else {
        return false;
    };
    let Some(before) = work.node(p) else {
        return false;
    };
    if work.graph.value(before.outputs[0]).dtype != DType::F32 {
        return false;
    }
    let (mut op, inputs) = (before.op.clone(), before.inputs.clone());
    match &mut op {
        Op::Conv { activation, .. }
        | Op::Gemm { activation, .. }
        | Op::Binary(Binary::Add, activation) => {
            // A clamp of a clamp clamps its bounds.
            *activation = Activation {
                low: activation.low.max(low).min(high),
                high: activation.high.max(low).min(high),
            };
        }
        _ => return false,
    }
    work.set(p, op, inputs);
    work.absorb(p, i);
    true
}

#[cfg(test)]
mod tests;
