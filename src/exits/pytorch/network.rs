/*!
A network from a file as PyTorch source: a module with the network's constants under their own names,
whose `forward` is the network node by node.
*/

use super::PyTorchError;
use crate::model::op::{Binary, PoolKind, Reduction, Unary, Window};
use crate::model::{Activation, Constant, DType, Dim, Graph, Node, Op, ValueId};
use std::fmt::Write;

/// Gives a module parameters and buffers under names with dots, as modules in modules have them.
pub(super) const PLACE: &str = "def place(module, name, value, trained):\n    \
    *path, last = name.split(\".\")\n    for part in path:\n        \
    if part not in module._modules:\n            module.add_module(part, nn.Module())\n        \
    module = module._modules[part]\n    if trained:\n        \
    module.register_parameter(last, nn.Parameter(value))\n    else:\n        \
    module.register_buffer(last, value)\n";

/// Makes of `x` what the tensor at the path of names in `module` is.
pub(super) const AT: &str = "def at(module, name):\n    for part in name.split(\".\"):\n        \
    module = getattr(module, part)\n    return module\n";

/// The class `class` of the nodes under `path` in a head's graph.
pub(super) fn class(
    head: &Graph,
    path: &str,
    class: &str,
    file: &str,
    trainable: bool,
) -> Result<String, PyTorchError> {
    let refuse = |what: &str| PyTorchError::Network {
        file: file.to_string(),
        what: what.to_string(),
    };
    let prefix = format!("{path}.");
    let inside = |n: &&Node| n.name.starts_with(&prefix);
    let nodes: Vec<&Node> = head.nodes.iter().filter(inside).collect();
    let made = |v: &ValueId| nodes.iter().any(|n| n.outputs.contains(v));
    let read = nodes.iter().flat_map(|n| &n.inputs);
    let input = read
        .clone()
        .find(|v| !made(v) && !head.constants.contains_key(v));
    let outside = |v: &ValueId| {
        let reads = |n: &Node| !n.name.starts_with(&prefix) && n.inputs.contains(v);
        head.outputs.contains(v) || head.nodes.iter().any(reads)
    };
    let output = nodes.iter().flat_map(|n| &n.outputs).find(|v| outside(v));
    let (Some(&input), Some(&output)) = (input, output) else {
        return Err(refuse("an answer that doesn't depend on its input"));
    };
    let mut constants = Vec::new();
    for &v in read {
        if head.constants.contains_key(&v) && !constants.contains(&v) {
            constants.push(v);
        }
    }
    let name = |v: ValueId| {
        let name = head.value(v).name.as_str();
        name.strip_prefix(&prefix).unwrap_or(name)
    };
    let mut text = format!(
        "class {class}(nn.Module):\n    \"\"\"The network of `{}`.\"\"\"\n\n    def __init__(self):\n        \
         super().__init__()\n",
        file.replace(['\\', '"', '\n', '\r'], " ")
    );
    for &v in &constants {
        let (kind, zeros) = zeros(&head.constants[&v]);
        let trained = match trainable && kind == "float32" && !is_statistic(&nodes, v) {
            true => "True",
            false => "False",
        };
        let _ = writeln!(
            text,
            "        place(self, {:?}, {zeros}, {trained})",
            name(v)
        );
    }
    let _ = writeln!(text, "\n    def forward(self, x):");
    let term = |v: ValueId| match v {
        v if v == input => "x".to_string(),
        v if head.constants.contains_key(&v) => format!("at(self, {:?})", name(v)),
        v => format!("v{}", v.0),
    };
    for node in &nodes {
        let [to] = node.outputs.as_slice() else {
            return Err(refuse(&format!(
                "`{}`, a node of several outputs",
                node.name
            )));
        };
        let ins: Vec<String> = node.inputs.iter().map(|&v| term(v)).collect();
        let rank = node
            .inputs
            .first()
            .map_or(0, |&v| head.value(v).shape.0.len());
        let Some(value) = expression(&node.op, &ins, rank) else {
            let op = format!("{:?}", node.op);
            let op = op.split([' ', '(']).next().unwrap_or_default();
            return Err(refuse(&format!("`{}`, whose op is {op}", node.name)));
        };
        let _ = writeln!(text, "        {} = {value}", term(*to));
    }
    let _ = writeln!(text, "        return {}", term(output));
    Ok(text)
}

/// Whether a constant is a running mean or variance.
fn is_statistic(nodes: &[&Node], v: ValueId) -> bool {
    let mut norms = nodes
        .iter()
        .filter(|n| matches!(n.op, Op::BatchNorm { .. }));
    norms.any(|n| n.inputs.iter().skip(3).any(|&i| i == v))
}

fn zeros(constant: &Constant) -> (&'static str, String) {
    let kind = match constant.dtype() {
        DType::F32 => "float32",
        DType::I64 => "int64",
        DType::I32 => "int32",
        DType::U8 => "uint8",
        DType::I8 => "int8",
        DType::Bool => "bool",
    };
    let shape = format!("{:?}", constant.shape);
    (kind, format!("torch.zeros({shape}, dtype=torch.{kind})"))
}

/// A node as an expression; none for what has no such form here.
fn expression(op: &Op, ins: &[String], rank: usize) -> Option<String> {
    let x = ins.first()?;
    let at = |i: usize| ins.get(i).map_or("None", String::as_str);
    Some(match op {
        Op::Identity => x.clone(),
        Op::Conv {
            window,
            groups,
            bias,
            residual,
            activation,
        } => {
            let bias = if *bias { at(2) } else { "None" };
            let mut made = conv(x, at(1), bias, window, *groups);
            if *residual {
                let _ = write!(made, " + {}", ins.last()?);
            }
            clamped(&made, activation)
        }
        Op::Gemm {
            trans_a,
            trans_b,
            alpha,
            beta,
            activation,
        } => {
            let turned = |v: &str, turn: bool| format!("{v}{}", if turn { ".T" } else { "" });
            let product = format!("{} @ {}", turned(x, *trans_a), turned(at(1), *trans_b));
            let made = match ins.get(2) {
                Some(c) => format!("{alpha:?} * ({product}) + {beta:?} * {c}"),
                None => format!("{alpha:?} * ({product})"),
            };
            clamped(&made, activation)
        }
        Op::MatMul => format!("{x} @ {}", at(1)),
        Op::BatchNorm { epsilon } => format!(
            "F.batch_norm({x}, {}, {}, {}, {}, self.training, 0.1, {epsilon:e})",
            at(3),
            at(4),
            at(1),
            at(2)
        ),
        Op::LayerNorm { axis, epsilon } => format!(
            "F.layer_norm({x}, {x}.shape[{axis}:], {}, {}, {epsilon:e})",
            at(1),
            at(2)
        ),
        Op::Pool {
            kind,
            window,
            extra,
            column_major: false,
        } => pool(x, *kind, window, extra)?,
        Op::GlobalPool { average } => {
            let axes: Vec<String> = (2..rank).map(|a| a.to_string()).collect();
            let how = if *average { "mean" } else { "amax" };
            format!("{x}.{how}(({},), keepdim=True)", axes.join(", "))
        }
        Op::Unary(unary) => unary_text(unary, x)?,
        Op::Binary(op, activation) => clamped(&binary(*op, x, at(1))?, activation),
        Op::Softmax {
            axis,
            flatten: false,
            log,
        } => match log {
            true => format!("{x}.log_softmax({axis})"),
            false => format!("{x}.softmax({axis})"),
        },
        Op::Reshape { to } => reshape(x, to)?,
        Op::Transpose { perm } => format!("{x}.permute({})", list(perm)),
        Op::Concat { axis } => format!("torch.cat([{}], {axis})", ins.join(", ")),
        Op::Reduce { kind, axes, keep } => reduce(x, *kind, axes, *keep)?,
        _ => return None,
    })
}

fn conv(x: &str, weight: &str, bias: &str, window: &Window, groups: usize) -> String {
    format!(
        "F.conv{}d({}, {weight}, {bias}, stride={}, dilation={}, groups={groups})",
        window.kernel.len(),
        padded(x, window, "0.0"),
        tuple(&window.strides),
        tuple(&window.dilations)
    )
}

/// `x` in another shape; none where the batch is more than its first extent.
fn reshape(x: &str, to: &[Dim]) -> Option<String> {
    let extents = to.iter().map(|d| match d {
        Dim::Batch(1) => Some("-1".to_string()),
        Dim::Fixed(n) => Some(n.to_string()),
        _ => None,
    });
    let extents: Vec<String> = extents.collect::<Option<_>>()?;
    Some(format!("{x}.reshape({})", extents.join(", ")))
}

fn reduce(x: &str, kind: Reduction, axes: &[usize], keep: bool) -> Option<String> {
    let how = match kind {
        Reduction::Mean => "mean",
        Reduction::Sum => "sum",
        Reduction::Max => "amax",
        Reduction::Min => "amin",
        _ => return None,
    };
    let keep = if keep { "True" } else { "False" };
    Some(format!("{x}.{how}(({},), keepdim={keep})", list(axes)))
}

fn binary(op: Binary, x: &str, y: &str) -> Option<String> {
    let sign = match op {
        Binary::Add => "+",
        Binary::Sub => "-",
        Binary::Mul => "*",
        Binary::Div => "/",
        Binary::Pow => "**",
        Binary::Min => return Some(format!("torch.minimum({x}, {y})")),
        Binary::Max => return Some(format!("torch.maximum({x}, {y})")),
        Binary::PRelu => return Some(format!("torch.where({x} > 0, {x}, {x} * {y})")),
        _ => return None,
    };
    Some(format!("{x} {sign} {y}"))
}

/// `x` with a window's padding, the last axis first as PyTorch has it.
fn padded(x: &str, window: &Window, with: &str) -> String {
    if window.pads.iter().all(|p| *p == (0, 0)) {
        return x.to_string();
    }
    let pads = window.pads.iter().rev();
    let pads: Vec<String> = pads.map(|(a, b)| format!("{a}, {b}")).collect();
    format!("F.pad({x}, ({}), value={with})", pads.join(", "))
}

fn pool(x: &str, kind: PoolKind, window: &Window, extra: &[usize]) -> Option<String> {
    let axes = window.kernel.len();
    let (kernel, strides) = (tuple(&window.kernel), tuple(&window.strides));
    Some(match kind {
        PoolKind::Max => format!(
            "F.max_pool{axes}d({}, {kernel}, {strides}, dilation={})",
            padded(x, window, "-torch.inf"),
            tuple(&window.dilations)
        ),
        // A mean over what is there: the padded sum over the padded count.
        PoolKind::Average { count_include_pad } => {
            if window.dilations.iter().any(|&d| d != 1) {
                return None;
            }
            let mean = |of: &str| format!("F.avg_pool{axes}d({of}, {kernel}, {strides})");
            if count_include_pad && extra.iter().all(|&e| e == 0) {
                return Some(mean(&padded(x, window, "0.0")));
            }
            let mut counted = window.clone();
            let inner = match count_include_pad {
                false => format!("torch.ones_like({x})"),
                true => {
                    let pads = counted.pads.iter_mut().zip(extra);
                    pads.for_each(|(p, &e)| p.1 -= e);
                    let whole = padded(&format!("torch.ones_like({x})"), &counted, "1.0");
                    let ends = counted.pads.iter_mut().zip(extra);
                    ends.for_each(|(p, &e)| *p = (0, e));
                    whole
                }
            };
            format!(
                "{} / {}",
                mean(&padded(x, window, "0.0")),
                mean(&padded(&inner, &counted, "0.0"))
            )
        }
    })
}

fn unary_text(unary: &Unary, x: &str) -> Option<String> {
    Some(match unary {
        Unary::Relu => format!("F.relu({x})"),
        Unary::LeakyRelu { alpha } => format!("F.leaky_relu({x}, {alpha:?})"),
        Unary::Elu { alpha } => format!("F.elu({x}, {alpha:?})"),
        Unary::Sigmoid => format!("torch.sigmoid({x})"),
        Unary::HardSwish => format!("F.hardswish({x})"),
        Unary::HardSigmoid { alpha, beta } => {
            format!("torch.clamp({alpha:?} * {x} + {beta:?}, 0.0, 1.0)")
        }
        Unary::Silu => format!("F.silu({x})"),
        Unary::Tanh => format!("torch.tanh({x})"),
        Unary::Gelu { tanh } => {
            let how = if *tanh { "tanh" } else { "none" };
            format!("F.gelu({x}, approximate=\"{how}\")")
        }
        Unary::Softplus => format!("F.softplus({x})"),
        Unary::Mish => format!("F.mish({x})"),
        Unary::Erf => format!("torch.erf({x})"),
        Unary::Exp => format!("torch.exp({x})"),
        Unary::Log => format!("torch.log({x})"),
        Unary::Sqrt => format!("torch.sqrt({x})"),
        Unary::Reciprocal => format!("torch.reciprocal({x})"),
        Unary::Neg => format!("-({x})"),
        Unary::Abs => format!("torch.abs({x})"),
        Unary::Clip { low, high } => clamp(x, *low, *high),
        _ => return None,
    })
}

fn clamped(value: &str, activation: &Activation) -> String {
    match *activation == Activation::NONE {
        true => value.to_string(),
        false => clamp(&format!("({value})"), activation.low, activation.high),
    }
}

fn clamp(x: &str, low: f32, high: f32) -> String {
    let bound = |b: f32| match b.is_finite() {
        true => format!("{b:?}"),
        false => "None".to_string(),
    };
    match (low.is_finite(), high.is_finite()) {
        (false, false) => x.to_string(),
        _ => format!("torch.clamp({x}, {}, {})", bound(low), bound(high)),
    }
}

fn tuple(extents: &[usize]) -> String {
    format!("({},)", list(extents))
}

fn list(extents: &[usize]) -> String {
    let all: Vec<String> = extents.iter().map(usize::to_string).collect();
    all.join(", ")
}
