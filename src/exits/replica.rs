/*!
The network's own classifier: everything behind the last features, found in the fused graph by
walking back from the output, and written as a source for any exit point.
*/

use super::ExitError;
use super::diagnostic::Finding;
use super::refusal;
use crate::model::op::{Binary, PoolKind, Reduction, Unary};
use crate::model::{Activation, Graph, Node, Op, ValueId};
use std::collections::HashMap;

/// The source: layers with their hidden sizes; the last `Linear` is `classes` wide.
pub(super) fn source(fused: &Graph) -> Result<String, ExitError> {
    let mut lines = Walk::new(fused).source_lines().map_err(|node| {
        let message = match node {
            Some(node) => format!(
                "the classifier of `{}` has a form that is not known: node `{}`",
                fused.name, node.name
            ),
            None => format!("the network `{}` doesn't end in a classifier", fused.name),
        };
        let help = "write a head of your own, or take a template: `edgelesspart exits templates`";
        let finding = Finding::new((0, 1), message).help(help);
        refusal("Replica", None, vec![finding])
    })?;
    lines.reverse();
    let list: String = lines.iter().map(|l| format!("    {l}\n")).collect();
    Ok(format!(
        "// The classifier of {}, resized for each exit point.\n[\n{list}]\n",
        fused.name
    ))
}

/// Whether a classifier goes on before a node.
#[derive(PartialEq, Eq)]
enum Step {
    Further,
    BeginsHere,
}

/// A walk from the network's output back to its last features.
struct Walk<'a> {
    graph: &'a Graph,
    producers: HashMap<ValueId, usize>,
    /// Layers of the source, last first.
    lines: Vec<String>,
    linears: usize,
}

impl<'a> Walk<'a> {
    fn new(graph: &'a Graph) -> Walk<'a> {
        Walk {
            graph,
            producers: graph.producers(),
            lines: Vec::new(),
            linears: 0,
        }
    }

    /// Lines of the list, last layer first. On error the node that stands in the way.
    fn source_lines(mut self) -> Result<Vec<String>, Option<&'a Node>> {
        let mut at = *self.graph.outputs.first().ok_or(None)?;
        loop {
            let Some(node) = self.producer(at) else {
                // A plain perceptron: its input is all there is before.
                return if self.linears > 0 {
                    self.lines.push(global(true));
                    Ok(self.lines)
                } else {
                    Err(None)
                };
            };
            let from = self.input(node).ok_or(Some(node))?;
            if self.step(node, from, at).ok_or(Some(node))? == Step::BeginsHere {
                return Ok(self.lines);
            }
            at = from;
        }
    }

    fn producer(&self, v: ValueId) -> Option<&'a Node> {
        let graph = self.graph;
        self.producers.get(&v).map(|&i| &graph.nodes[i])
    }

    /// The one value a node computes from.
    fn input(&self, node: &Node) -> Option<ValueId> {
        let from = node.inputs.iter().copied();
        let mut from = from.filter(|v| !self.graph.constants.contains_key(v));
        match (from.next(), from.next(), &node.op) {
            (Some(x), None, _) => Some(x),
            // Classifiers whose answers are averaged (DeiT's with its distilled one): one stands for
            // both.
            (Some(x), Some(_), Op::Binary(Binary::Add, _)) if self.linears == 0 => Some(x),
            _ => None,
        }
    }

    /// Writes the line of a node that makes `to` of `from`; none where its form is not known.
    fn step(&mut self, node: &Node, from: ValueId, to: ValueId) -> Option<Step> {
        let dims = |v: ValueId| self.graph.value(v).shape.at(1);
        let (input, output) = (dims(from), dims(to));
        match &node.op {
            Op::Softmax { .. } if self.lines.is_empty() => {}
            Op::Identity | Op::Transpose { .. } | Op::Cast { .. } => {}
            Op::Binary(Binary::Add | Binary::Sub, activation) => self.push_clamp(*activation),
            // A factor is one with the weights that come before or behind it.
            Op::Binary(Binary::Mul | Binary::Div, activation) => self.push_clamp(*activation),
            Op::BatchNorm { .. } if input.len() == 2 => self.push("BatchNorm1d,"),
            Op::Gemm { activation, .. } => {
                self.push_clamp(*activation);
                self.push_linear(output.last().copied());
            }
            Op::MatMul => self.push_linear(output.last().copied()),
            Op::Conv { activation, .. }
                if output[2..].iter().all(|&n| n == 1)
                    && input == [vec![1], input[1..2].to_vec(), vec![1, 1]].concat() =>
            {
                self.push_clamp(*activation);
                self.push_linear(output.get(1).copied());
            }
            // SqueezeNet's: a 1×1 convolution to the classes stands before the pooling.
            Op::Conv {
                window, activation, ..
            } if self.linears == 0
                && window.kernel.iter().all(|&k| k == 1)
                && !self.lines.is_empty() =>
            {
                self.push_clamp(*activation);
                self.push("Conv2d(classes, kernel: 1),");
                return Some(Step::BeginsHere);
            }
            Op::Unary(unary) => self.lines.push(activation_line(unary)?),
            Op::LayerNorm { .. } if self.linears > 0 => self.push("LayerNorm,"),
            _ => return self.pool(node, from, &input, &output),
        }
        Some(Step::Further)
    }

    /// The same for a node that takes positions together: behind weights a classifier begins with it.
    fn pool(
        &mut self,
        node: &Node,
        from: ValueId,
        input: &[usize],
        output: &[usize],
    ) -> Option<Step> {
        let begins = self.linears > 0;
        match &node.op {
            Op::Binary(Binary::Pow, _) if begins => {
                let gem = generalised_mean(self.graph, node, &|v| self.producer(v))?;
                self.lines.push(gem);
            }
            Op::Reshape { .. } => {
                let spatial = input.len() == 4 && input[2..].iter().product::<usize>() > 1;
                if !(spatial && output.len() == 2 && begins) {
                    return Some(Step::Further);
                }
                self.push_flatten(input[2]);
            }
            Op::GlobalPool { average } => {
                self.lines.push(global(*average));
                if !begins && !leads_to_conv(self.graph, self.producer(from)) {
                    return None;
                }
            }
            Op::Pool { kind, .. } if output[2..].iter().all(|&n| n == 1) => {
                self.lines
                    .push(global(matches!(kind, PoolKind::Average { .. })));
            }
            Op::Reduce { kind, axes, .. } if matches!(kind, Reduction::Mean | Reduction::Max) => {
                self.lines.push(global(*kind == Reduction::Mean));
                if begins && input.len() == 3 && axes == &[1] {
                    self.push_token_norm();
                }
            }
            // The class token: what it has gathered, the mean of all tokens stands for.
            Op::Gather { .. } | Op::Slice { .. } if begins && input.len() == 3 => {
                self.lines.push(global(true));
                self.push_token_norm();
            }
            _ => return None,
        }
        Some(if begins {
            Step::BeginsHere
        } else {
            Step::Further
        })
    }

    fn push(&mut self, line: &str) {
        self.lines.push(line.to_string());
    }

    /// The first met is the network's last: as wide as it has classes.
    fn push_linear(&mut self, out: Option<usize>) {
        self.lines.push(match (self.linears, out) {
            (0, _) | (_, None) => "Linear(classes),".to_string(),
            (_, Some(n)) => format!("Linear({n}),"),
        });
        self.linears += 1;
    }

    fn push_clamp(&mut self, activation: Activation) {
        if activation == Activation::RELU {
            self.push("Relu,");
        } else if activation == Activation::RELU6 {
            self.push("Relu6,");
        }
    }

    /// Behind tokens stands a norm, which only token points need of their own.
    fn push_token_norm(&mut self) {
        let has_norm = self.lines.iter().any(|l| l == "LayerNorm,");
        if !has_norm {
            self.push("LayerNorm,");
        }
    }

    /// The weights behind expect a grid of `grid` × `grid` positions, so a point that can be pooled to
    /// the same grid gets it; any other is pooled to one position.
    fn push_flatten(&mut self, grid: usize) {
        let test = format!("height % {grid} == 0 and width % {grid} == 0");
        self.push("{% endif %}");
        self.push("GlobalAvgPool,");
        self.push("{% else %}");
        self.push("Flatten,");
        self.lines.push(format!("AdaptiveAvgPool2d({grid}),"));
        self.lines.push(format!("{{% if {test} %}}"));
    }
}

/// The pooling whose last step is this root, if it is the generalised mean: a floor, a power, the
/// mean over all positions, and the root.
fn generalised_mean<'a>(
    graph: &'a Graph,
    root: &Node,
    producer: &dyn Fn(ValueId) -> Option<&'a Node>,
) -> Option<String> {
    let exponent = |node: &Node| {
        let by = graph.constants.get(node.inputs.get(1)?)?;
        by.floats().and_then(|f| f.first().copied())
    };
    let before = |node: &Node| producer(*node.inputs.first()?);
    let mut mean = before(root)?;
    while matches!(mean.op, Op::Reshape { .. }) {
        mean = before(mean)?;
    }
    let averages = match &mean.op {
        Op::GlobalPool { average } => *average,
        Op::Pool { kind, .. } => matches!(kind, PoolKind::Average { .. }),
        Op::Reduce { kind, .. } => *kind == Reduction::Mean,
        _ => false,
    };
    let raised = before(mean).filter(|n| averages && matches!(n.op, Op::Binary(Binary::Pow, _)))?;
    let power = exponent(raised)?;
    if (power * exponent(root)? - 1.0).abs() > 1e-3 || !(0.1..=100.0).contains(&power) {
        return None;
    }
    // The floor may be a clamp of its own or that of what stands before it; the usual one serves then.
    let floor = match before(raised).map(|n| &n.op) {
        Some(Op::Unary(Unary::Clip { low, .. })) => *low,
        Some(Op::Conv { activation, .. } | Op::Binary(_, activation)) => activation.low,
        _ => 1e-6,
    };
    let usual = !(1e-12..=1.0).contains(&floor) || (floor - 1e-6).abs() < 1e-9;
    Some(match (power == 3.0, usual) {
        (true, true) => "GemPool,".to_string(),
        (_, true) => format!("GemPool({power}),"),
        (_, false) => format!("GemPool({power}, epsilon: {floor}),"),
    })
}

fn leads_to_conv(graph: &Graph, node: Option<&Node>) -> bool {
    let mut node = node;
    while let Some(n) = node {
        match n.op {
            Op::Conv { ref window, .. } => return window.kernel.iter().all(|&k| k == 1),
            Op::Unary(_) => {
                let producers = graph.producers();
                let from = n.inputs.first().and_then(|v| producers.get(v));
                node = from.map(|&i| &graph.nodes[i]);
            }
            _ => return false,
        }
    }
    false
}

fn global(average: bool) -> String {
    let name = if average {
        "GlobalAvgPool,"
    } else {
        "GlobalMaxPool,"
    };
    name.to_string()
}

fn activation_line(unary: &Unary) -> Option<String> {
    let line = match unary {
        Unary::Relu => "Relu,",
        Unary::Clip { low, high } if (*low, *high) == (0.0, 6.0) => "Relu6,",
        Unary::LeakyRelu { alpha } => return Some(format!("LeakyRelu({alpha}),")),
        Unary::Gelu { .. } => "Gelu,",
        Unary::Silu => "Silu,",
        Unary::HardSwish => "HardSwish,",
        Unary::Sigmoid => "Sigmoid,",
        Unary::Tanh => "Tanh,",
        _ => return None,
    };
    Some(line.to_string())
}
