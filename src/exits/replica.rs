/*!
The network's own classifier: everything behind the last features, found in the fused graph by
walking back from the output, and written as a source for any exit point.
*/

use super::ExitError;
use super::diagnostic::Finding;
use super::refusal;
use crate::model::op::{Binary, PoolKind, Reduction, Unary};
use crate::model::{Activation, Graph, Node, Op, ValueId};

/// The source: layers with their hidden sizes; the last `Linear` is `classes` wide.
pub(super) fn source(fused: &Graph) -> Result<String, ExitError> {
    let mut lines = walk(fused).map_err(|node| {
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

/// Lines of the list, last layer first. On error the node that stands in the way.
fn walk(graph: &Graph) -> Result<Vec<String>, Option<&Node>> {
    let producers = graph.producers();
    let mut lines: Vec<String> = Vec::new();
    let mut at = *graph.outputs.first().ok_or(None)?;
    let mut linears = 0;
    let producer = |v: ValueId| producers.get(&v).map(|&i| &graph.nodes[i]);
    loop {
        let Some(node) = producer(at) else {
            // A plain perceptron: its input is all there is before.
            return if linears > 0 {
                lines.push(global(true));
                Ok(lines)
            } else {
                Err(None)
            };
        };
        let from = node.inputs.iter().copied();
        let mut from = from.filter(|v| !graph.constants.contains_key(v));
        let x = match (from.next(), from.next(), &node.op) {
            (Some(x), None, _) => x,
            // Classifiers whose answers are averaged (DeiT's with its distilled one): one stands for
            // both.
            (Some(x), Some(_), Op::Binary(Binary::Add, _)) if linears == 0 => x,
            _ => return Err(Some(node)),
        };
        let dims = |v: ValueId| graph.value(v).shape.at(1);
        let (input, output) = (dims(x), dims(at));
        match &node.op {
            Op::Softmax { .. } if lines.is_empty() => {}
            Op::Identity | Op::Transpose { .. } | Op::Cast { .. } => {}
            Op::Binary(Binary::Add | Binary::Sub, activation) => {
                push_clamp(&mut lines, *activation);
            }
            // A factor is one with the weights that come before or behind it.
            Op::Binary(Binary::Mul | Binary::Div, activation) => {
                push_clamp(&mut lines, *activation);
            }
            Op::Binary(Binary::Pow, _) if linears > 0 => {
                let gem = generalised_mean(graph, node, &producer).ok_or(Some(node))?;
                lines.push(gem);
                return Ok(lines);
            }
            Op::BatchNorm { .. } if input.len() == 2 => lines.push("BatchNorm1d,".to_string()),
            Op::Gemm { activation, .. } => {
                push_clamp(&mut lines, *activation);
                push_linear(&mut lines, &mut linears, output.last().copied());
            }
            Op::MatMul => push_linear(&mut lines, &mut linears, output.last().copied()),
            Op::Conv { activation, .. }
                if output[2..].iter().all(|&n| n == 1)
                    && input == [vec![1], input[1..2].to_vec(), vec![1, 1]].concat() =>
            {
                push_clamp(&mut lines, *activation);
                push_linear(&mut lines, &mut linears, output.get(1).copied());
            }
            // SqueezeNet's: a 1×1 convolution to the classes stands before the pooling.
            Op::Conv {
                window, activation, ..
            } if linears == 0 && window.kernel.iter().all(|&k| k == 1) && !lines.is_empty() => {
                push_clamp(&mut lines, *activation);
                lines.push("Conv2d(classes, kernel: 1),".to_string());
                return Ok(lines);
            }
            Op::Unary(unary) => lines.push(activation_line(unary).ok_or(Some(node))?),
            Op::LayerNorm { .. } if linears > 0 => lines.push("LayerNorm,".to_string()),
            Op::Reshape { .. } => {
                let spatial = input.len() == 4 && input[2..].iter().product::<usize>() > 1;
                if spatial && output.len() == 2 && linears > 0 {
                    // The weights behind it expect this grid, so a point that can be pooled to
                    // the same grid gets it; any other is pooled to one position.
                    let grid = input[2];
                    let test = format!("height % {grid} == 0 and width % {grid} == 0");
                    lines.push("{% endif %}".to_string());
                    lines.push("GlobalAvgPool,".to_string());
                    lines.push("{% else %}".to_string());
                    lines.push("Flatten,".to_string());
                    lines.push(format!("AdaptiveAvgPool2d({grid}),"));
                    lines.push(format!("{{% if {test} %}}"));
                    return Ok(lines);
                }
            }
            Op::GlobalPool { average } if linears > 0 || !leads_to_conv(graph, producer(x)) => {
                lines.push(global(*average));
                return if linears > 0 {
                    Ok(lines)
                } else {
                    Err(Some(node))
                };
            }
            Op::GlobalPool { average } => lines.push(global(*average)),
            Op::Pool { kind, .. } if output[2..].iter().all(|&n| n == 1) => {
                lines.push(global(matches!(kind, PoolKind::Average { .. })));
                if linears > 0 {
                    return Ok(lines);
                }
            }
            Op::Reduce { kind, axes, .. } if matches!(kind, Reduction::Mean | Reduction::Max) => {
                lines.push(global(*kind == Reduction::Mean));
                if linears > 0 {
                    if input.len() == 3 && axes == &[1] {
                        push_token_norm(&mut lines);
                    }
                    return Ok(lines);
                }
            }
            // The class token: what it has gathered, the mean of all tokens stands for.
            Op::Gather { .. } | Op::Slice { .. } if linears > 0 && input.len() == 3 => {
                lines.push(global(true));
                push_token_norm(&mut lines);
                return Ok(lines);
            }
            _ => return Err(Some(node)),
        }
        at = x;
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

/// Behind tokens stands a norm, which only token points need of their own.
fn push_token_norm(lines: &mut Vec<String>) {
    let has_norm = lines.iter().any(|l| l == "LayerNorm,");
    if !has_norm {
        lines.push("LayerNorm,".to_string());
    }
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

/// The first met is the network's last: as wide as it has classes.
fn push_linear(lines: &mut Vec<String>, linears: &mut usize, out: Option<usize>) {
    lines.push(match (*linears, out) {
        (0, _) | (_, None) => "Linear(classes),".to_string(),
        (_, Some(n)) => format!("Linear({n}),"),
    });
    *linears += 1;
}

fn push_clamp(lines: &mut Vec<String>, activation: Activation) {
    if activation == Activation::RELU {
        lines.push("Relu,".to_string());
    } else if activation == Activation::RELU6 {
        lines.push("Relu6,".to_string());
    }
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
