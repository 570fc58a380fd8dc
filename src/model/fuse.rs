/*!
Fusion: from the graph as imported to the graph as it runs.

Batch norm and constant offsets fold into the convolution before them, a product with a constant
matrix becomes a `Gemm`, clamps and the sum at the end of a residual block move into the op that
produces their input. A fused node keeps the name of the convolution and the *last* value's name, so
that a place in the fused graph has the name the user's file gives it.

Deterministic and idempotent: a fused graph written out, read back and fused is the same graph.
*/

use super::constant::{Constant, DType};
use super::graph::{Graph, Node, Value, ValueId};
use super::op::{Activation, Binary, Op, Unary};
use super::shape::Shape;
use std::collections::HashMap;

/// The graph as it runs. The parameters each node counts are kept.
pub fn fuse(graph: &Graph) -> Graph {
    let mut fusion = Fusion {
        graph: graph.clone(),
        gone: vec![false; graph.nodes.len()],
    };
    fusion.pass(Fusion::batch_norm);
    fusion.pass(Fusion::matmul);
    fusion.pass(Fusion::offset);
    fusion.pass(Fusion::clamp);
    fusion.pass(Fusion::residual);
    let Fusion { mut graph, gone } = fusion;
    let mut gone = gone.into_iter();
    graph.nodes.retain(|_| !gone.next().unwrap_or(false));
    // Cutting the whole out of itself drops values that nothing reads any more. It can't fail: every
    // output was computable before, and no pass takes away what an output needs.
    graph
        .subgraph(&graph.inputs, &graph.outputs)
        .unwrap_or(graph)
}

/// The value that enters the softmax a classifier ends in, if it ends in one: its logits. What
/// comes out of such a network are probabilities, and softmax must not be applied to them again.
pub fn logits_before_softmax(graph: &Graph) -> Option<ValueId> {
    let &output = graph.outputs.first()?;
    let last = graph.nodes.iter().find(|n| n.outputs.contains(&output))?;
    matches!(last.op, Op::Softmax { log: false, .. }).then(|| last.inputs[0])
}

struct Fusion {
    graph: Graph,
    gone: Vec<bool>,
}

/// Who produces a value, and how often it is read (outputs of the graph count).
struct Uses {
    producer: HashMap<ValueId, usize>,
    reads: HashMap<ValueId, usize>,
}

impl Fusion {
    /// Tries `rule` on every node in order; it returns the node that took this one in.
    fn pass(&mut self, rule: fn(&mut Fusion, usize, &Uses) -> bool) {
        let mut uses = self.uses();
        for at in 0..self.graph.nodes.len() {
            if !self.gone[at] && rule(self, at, &uses) {
                uses = self.uses();
            }
        }
    }

    fn uses(&self) -> Uses {
        let mut uses = Uses {
            producer: HashMap::new(),
            reads: HashMap::new(),
        };
        for (i, node) in self
            .graph
            .nodes
            .iter()
            .enumerate()
            .filter(|(i, _)| !self.gone[*i])
        {
            uses.producer.extend(node.outputs.iter().map(|&o| (o, i)));
            node.inputs
                .iter()
                .for_each(|&v| *uses.reads.entry(v).or_default() += 1);
        }
        self.graph
            .outputs
            .iter()
            .for_each(|&v| *uses.reads.entry(v).or_default() += 1);
        uses
    }

    /// The node that produces `value` for one reader alone.
    fn sole_producer(&self, value: ValueId, uses: &Uses) -> Option<usize> {
        let at = *uses.producer.get(&value)?;
        (uses.reads.get(&value) == Some(&1)).then_some(at)
    }

    fn floats(&self, value: ValueId) -> Option<&[f32]> {
        self.graph.constants.get(&value)?.floats()
    }

    /// Puts a constant in the place of `old` if nobody else reads that, beside it otherwise.
    fn replace(&mut self, old: ValueId, data: Vec<f32>, uses: &Uses) -> ValueId {
        let shape = self.graph.constants[&old].shape.clone();
        let constant = Constant::f32(&shape, data);
        if uses.reads.get(&old) == Some(&1) {
            self.graph.constants.insert(old, constant);
            return old;
        }
        let name = format!("{}.folded", self.graph.value(old).name);
        self.add(&name, constant)
    }

    fn add(&mut self, name: &str, constant: Constant) -> ValueId {
        let taken = |name: &str| self.graph.values.iter().any(|v| v.name == name);
        let mut unique = name.to_string();
        let mut n = 2;
        while taken(&unique) {
            unique = format!("{name}_{n}");
            n += 1;
        }
        let id = ValueId(self.graph.values.len() as u32);
        let shape = Shape::fixed(&constant.shape);
        self.graph.values.push(Value {
            name: unique,
            dtype: constant.dtype(),
            shape,
        });
        self.graph.constants.insert(id, constant);
        id
    }

    /// Lets `into` produce what `from` produced, and counts its parameters there.
    fn absorb(&mut self, into: usize, from: usize) {
        let absorbed: Node = self.graph.nodes[from].clone();
        let node = &mut self.graph.nodes[into];
        node.outputs = absorbed.outputs;
        node.params += absorbed.params;
        self.gone[from] = true;
    }

    /// A plain convolution: weights and bias constant, nothing fused behind it yet.
    fn plain_conv(&self, at: usize) -> bool {
        let node = &self.graph.nodes[at];
        let plain =
            matches!(node.op, Op::Conv { residual: false, activation, .. } if activation.is_none());
        plain && node.inputs[1..].iter().all(|&i| self.floats(i).is_some())
    }

    /// `conv(x) · s + t` with one `s` and `t` a channel, as new weights and bias.
    fn scale_conv(&mut self, conv: usize, scale: &[f32], shift: &[f32], uses: &Uses) {
        let inputs = self.graph.nodes[conv].inputs.clone();
        let (mut weights, channels) = match self.floats(inputs[1]) {
            Some(w) => (w.to_vec(), scale.len()),
            None => return,
        };
        let each = weights.len() / channels.max(1);
        if scale.iter().any(|&s| s != 1.0) {
            for (row, s) in weights.chunks_mut(each.max(1)).zip(scale) {
                row.iter_mut().for_each(|w| *w *= s);
            }
            self.graph.nodes[conv].inputs[1] = self.replace(inputs[1], weights, uses);
        }
        let old = inputs
            .get(2)
            .and_then(|&b| self.floats(b))
            .map(<[f32]>::to_vec);
        let bias = |old: &[f32]| {
            (0..channels)
                .map(|c| old[c] * scale[c] + shift[c])
                .collect()
        };
        match old {
            Some(old) => {
                self.graph.nodes[conv].inputs[2] = self.replace(inputs[2], bias(&old), uses);
            }
            None => {
                let name = format!("{}.bias", self.graph.nodes[conv].name);
                let id = self.add(&name, Constant::f32(&[channels], shift.to_vec()));
                self.graph.nodes[conv].inputs.push(id);
                if let Op::Conv { bias, .. } = &mut self.graph.nodes[conv].op {
                    *bias = true;
                }
            }
        }
    }

    fn channels(&self, conv: usize) -> usize {
        self.graph.constants[&self.graph.nodes[conv].inputs[1]].shape[0]
    }

    fn batch_norm(&mut self, at: usize, uses: &Uses) -> bool {
        let node = &self.graph.nodes[at];
        let Op::BatchNorm { epsilon } = node.op else {
            return false;
        };
        let inputs = node.inputs.clone();
        let Some(conv) = self
            .sole_producer(inputs[0], uses)
            .filter(|&p| self.plain_conv(p))
        else {
            return false;
        };
        let stats: Option<Vec<Vec<f32>>> = inputs[1..]
            .iter()
            .map(|&i| self.floats(i).map(<[f32]>::to_vec))
            .collect();
        let Some([gamma, beta, mean, variance]) = stats.as_deref() else {
            return false;
        };
        let channels = self.channels(conv);
        if [gamma, beta, mean, variance]
            .iter()
            .any(|v| v.len() != channels)
        {
            return false;
        }
        let scale: Vec<f32> = gamma
            .iter()
            .zip(variance)
            .map(|(g, v)| g / (v + epsilon).sqrt())
            .collect();
        let shift: Vec<f32> = (0..channels)
            .map(|c| beta[c] - mean[c] * scale[c])
            .collect();
        self.scale_conv(conv, &scale, &shift, uses);
        self.absorb(conv, at);
        true
    }

    /// A product of rows with a constant matrix, and the offset behind it.
    fn matmul(&mut self, at: usize, uses: &Uses) -> bool {
        let node = &self.graph.nodes[at];
        match &node.op {
            Op::MatMul => {
                let rank = |v: ValueId| self.graph.value(v).shape.rank();
                let rows = rank(node.inputs[0]) == 2 && rank(node.inputs[1]) == 2;
                if !rows || self.floats(node.inputs[1]).is_none() {
                    return false;
                }
                self.graph.nodes[at].op = Op::Gemm {
                    trans_a: false,
                    trans_b: false,
                    alpha: 1.0,
                    beta: 1.0,
                    activation: Activation::NONE,
                };
                true
            }
            Op::Binary(Binary::Add, activation) if activation.is_none() => {
                let inputs = node.inputs.clone();
                let pair = [(inputs[0], inputs[1]), (inputs[1], inputs[0])]
                    .into_iter()
                    .find_map(|(product, offset)| {
                        let gemm = self.sole_producer(product, uses)?;
                        let node = &self.graph.nodes[gemm];
                        let plain =
                            matches!(node.op, Op::Gemm { activation, .. } if activation.is_none());
                        let columns = self.graph.value(product).shape.0.get(1)?.fixed()?;
                        let fits = self.floats(offset).is_some_and(|o| o.len() == columns)
                            && self.graph.value(offset).shape.rank() <= 2
                            && self.graph.value(offset).shape.0.last()?.fixed() == Some(columns);
                        (plain && node.inputs.len() == 2 && fits).then_some((gemm, offset))
                    });
                let Some((gemm, offset)) = pair else {
                    return false;
                };
                self.graph.nodes[gemm].inputs.push(offset);
                if let Op::Gemm { beta, .. } = &mut self.graph.nodes[gemm].op {
                    *beta = 1.0;
                }
                self.absorb(gemm, at);
                true
            }
            _ => false,
        }
    }

    /// A constant added to each channel of a convolution, as TensorFlow exports write its bias.
    fn offset(&mut self, at: usize, uses: &Uses) -> bool {
        let node = &self.graph.nodes[at];
        if !matches!(node.op, Op::Binary(Binary::Add, a) if a.is_none()) {
            return false;
        }
        let inputs = node.inputs.clone();
        let pair = [(inputs[0], inputs[1]), (inputs[1], inputs[0])]
            .into_iter()
            .find_map(|(x, c)| {
                let conv = self
                    .sole_producer(x, uses)
                    .filter(|&p| self.plain_conv(p))?;
                let shape = &self.graph.constants.get(&c)?.shape;
                let rank = self.graph.value(x).shape.rank();
                let channels = self.channels(conv);
                // Aligned at the end: [C, 1, 1] or [1, C, 1, 1] under [N, C, H, W].
                let ones = shape.iter().rev().take(rank - 2).all(|&d| d == 1);
                let aligned = shape.len() == rank - 1 || (shape.len() == rank && shape[0] == 1);
                let fits = aligned && ones && shape[shape.len() + 1 - rank] == channels;
                fits.then_some((conv, c))
            });
        let Some((conv, constant)) = pair else {
            return false;
        };
        let Some(shift) = self.floats(constant).map(<[f32]>::to_vec) else {
            return false;
        };
        self.scale_conv(conv, &vec![1.0; shift.len()], &shift, uses);
        self.absorb(conv, at);
        true
    }

    fn clamp(&mut self, at: usize, uses: &Uses) -> bool {
        let node = &self.graph.nodes[at];
        let clamp = match node.op {
            Op::Unary(Unary::Relu) => Activation::RELU,
            Op::Unary(Unary::Clip { low, high }) if low <= high => Activation { low, high },
            _ => return false,
        };
        let Some(before) = self.sole_producer(node.inputs[0], uses) else {
            return false;
        };
        if self.graph.value(node.inputs[0]).dtype != DType::F32 {
            return false;
        }
        match &mut self.graph.nodes[before].op {
            Op::Conv { activation, .. }
            | Op::Gemm { activation, .. }
            | Op::Binary(Binary::Add, activation)
                if activation.is_none() =>
            {
                *activation = clamp;
            }
            _ => return false,
        }
        self.absorb(before, at);
        true
    }

    /// The sum at the end of a residual block moves into the later of the convolutions it adds.
    fn residual(&mut self, at: usize, uses: &Uses) -> bool {
        let node = &self.graph.nodes[at];
        let Op::Binary(Binary::Add, clamp) = node.op else {
            return false;
        };
        let (a, b) = (node.inputs[0], node.inputs[1]);
        if a == b || self.graph.value(a).shape != self.graph.value(b).shape {
            return false;
        }
        let takes = |value: ValueId, other: ValueId| {
            let conv = self
                .sole_producer(value, uses)
                .filter(|&p| self.plain_conv(p))?;
            let ready = uses.producer.get(&other).is_none_or(|&p| p < conv);
            ready.then_some((conv, other))
        };
        let Some((conv, other)) = takes(a, b).max(takes(b, a)) else {
            return false;
        };
        self.graph.nodes[conv].inputs.push(other);
        if let Op::Conv {
            residual,
            activation,
            ..
        } = &mut self.graph.nodes[conv].op
        {
            *residual = true;
            *activation = clamp;
        }
        self.absorb(conv, at);
        true
    }
}
