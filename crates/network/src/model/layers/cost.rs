/*! Costs and labels of single nodes. */

use crate::model::op::{Binary, PoolKind, Reduction, Unary, Window};
use crate::model::{Graph, Node, Op};

/// Multiply-accumulates of a node for one sample. Convolutions and matrix products count; what
/// costs a few operations an element (pools, norms, sums) counts nothing, as is usual.
pub(super) fn macs(graph: &Graph, node: &Node) -> u64 {
    let shape = |i: usize| graph.value(node.inputs[i]).shape.at(1);
    let out: u64 = graph.value(node.outputs[0]).shape.elements(1) as u64;
    match &node.op {
        // The weight is [Cout, Cin/groups, kernel…]: all but the first axis are summed over.
        Op::Conv { .. } => out * product(&shape(1)[1..]),
        Op::Gemm { trans_a, .. } => {
            let a = shape(0);
            out * a.get(usize::from(!trans_a)).copied().unwrap_or(1) as u64
        }
        Op::MatMul => out * shape(0).last().copied().unwrap_or(1) as u64,
        _ => 0,
    }
}

fn product(dims: &[usize]) -> u64 {
    dims.iter().map(|&d| d as u64).product()
}

/// A short label such as `conv 3×3/2`.
pub(super) fn label(graph: &Graph, node: &Node) -> String {
    let channels = || graph.value(node.outputs[0]).shape.at(1).get(1).copied();
    match &node.op {
        Op::Conv {
            window,
            groups,
            residual,
            ..
        } => {
            let kind = match *groups {
                1 => "conv",
                n if Some(n) == channels() => "dwconv",
                _ => "grouped conv",
            };
            let sum = if *residual { " + add" } else { "" };
            format!("{kind} {}{sum}", windowed(window))
        }
        Op::Gemm { .. } => "linear".into(),
        Op::MatMul if graph.constants.contains_key(&node.inputs[1]) => "linear".into(),
        Op::MatMul => "matmul".into(),
        Op::BatchNorm { .. } => "batch norm".into(),
        Op::LayerNorm { .. } => "layer norm".into(),
        Op::InstanceNorm { .. } => "instance norm".into(),
        Op::Lrn { .. } => "lrn".into(),
        Op::Pool { kind, window, .. } => {
            let kind = match kind {
                PoolKind::Max => "max",
                PoolKind::Average { .. } => "avg",
            };
            format!("{kind} {}", windowed(window))
        }
        Op::GlobalPool { average: true } => "global avg".into(),
        Op::GlobalPool { average: false } => "global max".into(),
        Op::Unary(unary) => unary_label(unary).into(),
        Op::Binary(binary, _) => binary_label(*binary).into(),
        Op::Where => "where".into(),
        Op::Softmax { log: false, .. } => "softmax".into(),
        Op::Softmax { log: true, .. } => "log softmax".into(),
        Op::Reshape { .. } => "reshape".into(),
        Op::Transpose { .. } => "transpose".into(),
        Op::Concat { .. } => "concat".into(),
        Op::Split { .. } => "split".into(),
        Op::Slice { .. } => "slice".into(),
        Op::Pad { .. } => "pad".into(),
        Op::Gather { .. } => "gather".into(),
        Op::Expand { .. } => "expand".into(),
        Op::Tile { .. } => "tile".into(),
        Op::Resize { .. } => "resize".into(),
        Op::Cast { .. } => "cast".into(),
        Op::Reduce { kind, .. } => reduction_label(*kind).into(),
        Op::ArgMax { min, .. } => if *min { "argmin" } else { "argmax" }.into(),
        Op::Quantize { .. } => "quantize".into(),
        Op::Dequantize { .. } => "dequantize".into(),
        Op::Identity => "identity".into(),
    }
}

/// `3×3/2`: kernel and stride, the stride left out where it is 1; `d2` for a dilation of 2.
fn windowed(window: &Window) -> String {
    let times = |dims: &[usize]| {
        let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
        dims.join("×")
    };
    let steps = |dims: &[usize], mark: &str| match dims {
        [first, rest @ ..] if rest.iter().all(|d| d == first) => match first {
            1 => String::new(),
            n => format!("{mark}{n}"),
        },
        _ => format!("{mark}{}", times(dims)),
    };
    let kernel = times(&window.kernel);
    let strides = steps(&window.strides, "/");
    let dilations = steps(&window.dilations, " d");
    format!("{kernel}{strides}{dilations}")
}

fn unary_label(unary: &Unary) -> &'static str {
    match unary {
        Unary::Relu => "relu",
        Unary::LeakyRelu { .. } => "leaky relu",
        Unary::Elu { .. } => "elu",
        Unary::Selu { .. } => "selu",
        Unary::Sigmoid => "sigmoid",
        Unary::HardSigmoid { .. } => "hard sigmoid",
        Unary::HardSwish => "hard swish",
        Unary::Silu => "silu",
        Unary::Tanh => "tanh",
        Unary::Gelu { .. } => "gelu",
        Unary::Softplus => "softplus",
        Unary::Softsign => "softsign",
        Unary::Mish => "mish",
        Unary::Erf => "erf",
        Unary::Exp => "exp",
        Unary::Log => "log",
        Unary::Sqrt => "sqrt",
        Unary::Reciprocal => "reciprocal",
        Unary::Neg => "neg",
        Unary::Abs => "abs",
        Unary::Sign => "sign",
        Unary::Floor => "floor",
        Unary::Ceil => "ceil",
        Unary::Round => "round",
        Unary::Sin => "sin",
        Unary::Cos => "cos",
        Unary::Not => "not",
        Unary::Clip { .. } => "clip",
    }
}

fn binary_label(binary: Binary) -> &'static str {
    match binary {
        Binary::Add => "add",
        Binary::Sub => "sub",
        Binary::Mul => "mul",
        Binary::Div => "div",
        Binary::Pow => "pow",
        Binary::Min => "min",
        Binary::Max => "max",
        Binary::Mod => "mod",
        Binary::Equal => "equal",
        Binary::Greater => "greater",
        Binary::GreaterOrEqual => "greater or equal",
        Binary::Less => "less",
        Binary::LessOrEqual => "less or equal",
        Binary::And => "and",
        Binary::Or => "or",
        Binary::Xor => "xor",
        Binary::PRelu => "prelu",
    }
}

fn reduction_label(kind: Reduction) -> &'static str {
    match kind {
        Reduction::Mean => "mean",
        Reduction::Sum => "sum",
        Reduction::Max => "max over",
        Reduction::Min => "min over",
        Reduction::Prod => "product",
        Reduction::SumSquare => "sum of squares",
        Reduction::L1 => "L1 norm",
        Reduction::L2 => "L2 norm",
    }
}
