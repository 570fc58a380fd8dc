/*! Each typed op as the ONNX ops that say the same. */

use super::writer::{Call, Writer};
use super::{ExportError, code};
use crate::model::constant::DType;
use crate::model::graph::Node;
use crate::model::op::{
    Activation, Binary, Op, PadMode, PoolKind, Reduction, SliceRange, Unary, Window,
};
use crate::model::shape::Dim;

impl Writer<'_> {
    /// Appends what `node` is in ONNX.
    pub(super) fn node(&mut self, node: &Node) -> Result<(), ExportError> {
        match &node.op {
            Op::Conv {
                window,
                groups,
                residual,
                activation,
                ..
            } => self.conv(node, window, *groups, *residual, *activation),
            Op::Gemm {
                trans_a,
                trans_b,
                alpha,
                beta,
                activation,
            } => {
                let call = Call::new("Gemm")
                    .int("transA", i64::from(*trans_a))
                    .int("transB", i64::from(*trans_b))
                    .float("alpha", *alpha)
                    .float("beta", *beta);
                self.clamped(node, call, *activation);
            }
            Op::Binary(binary, activation) => {
                let mut call = Call::new(binary_name(*binary));
                if *binary == Binary::Mod && self.dtype(node.inputs[0]) == DType::F32 {
                    call = call.int("fmod", 1);
                }
                self.clamped(node, call, *activation);
            }
            Op::Unary(unary) => self.unary(node, *unary),
            Op::Pool {
                kind,
                window,
                extra,
                column_major,
            } => self.pool(node, *kind, window, extra, *column_major),
            Op::Softmax { axis, flatten, log } => return self.softmax(node, *axis, *flatten, *log),
            Op::Reshape { to } => self.reshape(node, to)?,
            Op::Split { axis, sizes } => {
                let sizes = sizes.iter().map(|&n| n as i64).collect();
                let sizes = self.ints(node, "sizes", sizes);
                let call = Call::new("Split").int("axis", *axis as i64);
                self.with_inputs(node, call, vec![sizes]);
            }
            Op::Slice { ranges } => self.slice(node, ranges),
            Op::Pad { mode, pads, value } => self.pad(node, *mode, pads, *value),
            Op::Expand { to } => {
                let extents = self.extents(node, to)?;
                self.with_inputs(node, Call::new("Expand"), vec![extents]);
            }
            Op::Tile { repeats } => {
                let repeats = repeats.iter().map(|&n| n as i64).collect();
                let repeats = self.ints(node, "repeats", repeats);
                self.with_inputs(node, Call::new("Tile"), vec![repeats]);
            }
            Op::Resize {
                linear, half_pixel, ..
            } => self.resize(node, *linear, *half_pixel)?,
            Op::Reduce { kind, axes, keep } => {
                let axes = axes.iter().map(|&a| a as i64).collect();
                let axes = self.ints(node, "axes", axes);
                let call = Call::new(reduction_name(*kind)).int("keepdims", i64::from(*keep));
                self.with_inputs(node, call, vec![axes]);
            }
            Op::Quantize { axis, to } => return self.quantize(node, *axis, *to),
            simple => {
                let call = simple_call(simple);
                let Some(call) = call else {
                    return self.unsupported(node, format!("{simple:?}"));
                };
                self.plain(node, call);
            }
        }
        Ok(())
    }

    /// One ONNX node with the node's own inputs and outputs.
    fn plain(&mut self, node: &Node, call: Call) {
        self.with_inputs(node, call, Vec::new());
    }

    /// The same with more inputs behind the node's own.
    fn with_inputs(&mut self, node: &Node, call: Call, more: Vec<String>) {
        let mut inputs = self.names(&node.inputs);
        inputs.extend(more);
        let outputs = self.names(&node.outputs);
        self.own(node, call, inputs, outputs);
    }

    /// Pools over windows; cells that only `ceil_mode` adds are left to that setting.
    fn pool(
        &mut self,
        node: &Node,
        kind: PoolKind,
        window: &Window,
        extra: &[usize],
        column_major: bool,
    ) {
        let inner: Vec<(usize, usize)> = window.pads.clone();
        let ends = inner
            .iter()
            .enumerate()
            .map(|(axis, &(_, end))| end.saturating_sub(extra.get(axis).copied().unwrap_or(0)));
        let call = match kind {
            PoolKind::Max => Call::new("MaxPool").int("storage_order", i64::from(column_major)),
            PoolKind::Average { count_include_pad } => {
                Call::new("AveragePool").int("count_include_pad", i64::from(count_include_pad))
            }
        };
        let pads = inner.iter().map(|p| p.0).chain(ends);
        let call = call
            .sizes("kernel_shape", window.kernel.iter().copied())
            .sizes("strides", window.strides.iter().copied())
            .sizes("dilations", window.dilations.iter().copied())
            .sizes("pads", pads)
            .int("ceil_mode", i64::from(extra.iter().any(|&e| e > 0)));
        self.plain(node, call);
    }

    /// Reshapes to extents of which one at most is open, or to a tensor of extents.
    fn reshape(&mut self, node: &Node, to: &[Dim]) -> Result<(), ExportError> {
        let x = self.name(node.inputs[0]);
        let batches = to.iter().filter(|d| d.fixed().is_none()).count();
        let target = match batches {
            // One open extent is what is left of the elements.
            0 | 1 if !to.contains(&Dim::Fixed(0)) => {
                let target = to.iter().map(|d| d.fixed().map_or(-1, |n| n as i64));
                self.ints(node, "extents", target.collect())
            }
            _ => self.extents(node, to)?,
        };
        let allow_zero = i64::from(to.contains(&Dim::Fixed(0)));
        let call = Call::new("Reshape").int("allowzero", allow_zero);
        let outputs = self.names(&node.outputs);
        self.own(node, call, vec![x, target], outputs);
        Ok(())
    }

    /// Slices the axes that have a range.
    fn slice(&mut self, node: &Node, ranges: &[Option<SliceRange>]) {
        let [mut starts, mut ends, mut axes, mut steps] = [const { Vec::new() }; 4];
        for (axis, range) in ranges.iter().enumerate() {
            let Some(range) = range else { continue };
            let start = range.start as i64;
            let end = start.saturating_add(range.step.saturating_mul(range.count as i64));
            starts.push(start);
            // A negative end would count from the back; far below it means "all of it".
            ends.push(if end < 0 { i64::MIN + 1 } else { end });
            axes.push(axis as i64);
            steps.push(range.step);
        }
        let inputs = vec![
            self.ints(node, "starts", starts),
            self.ints(node, "ends", ends),
            self.ints(node, "axes", axes),
            self.ints(node, "steps", steps),
        ];
        self.with_inputs(node, Call::new("Slice"), inputs);
    }

    /// Pads each axis; ONNX lists all beginnings before all ends.
    fn pad(&mut self, node: &Node, mode: PadMode, pads: &[(i64, i64)], value: f32) {
        let all = pads.iter().map(|p| p.0).chain(pads.iter().map(|p| p.1));
        let mut inputs = vec![self.ints(node, "pads", all.collect())];
        let mode = match mode {
            PadMode::Constant => "constant",
            PadMode::Reflect => "reflect",
            PadMode::Edge => "edge",
            PadMode::Wrap => "wrap",
        };
        if mode == "constant" {
            let dtype = self.dtype(node.inputs[0]);
            inputs.push(self.number(node, "value", value, dtype));
        }
        self.with_inputs(node, Call::new("Pad").text("mode", mode), inputs);
    }

    /// Resizes to the extents of the output.
    fn resize(&mut self, node: &Node, linear: bool, half_pixel: bool) -> Result<(), ExportError> {
        let to = self.shape(node.outputs[0]).0.clone();
        let sizes = self.extents(node, &to)?;
        let coordinates = if half_pixel {
            "half_pixel"
        } else {
            "asymmetric"
        };
        let call = Call::new("Resize")
            .text("mode", if linear { "linear" } else { "nearest" })
            .text("coordinate_transformation_mode", coordinates)
            .text(
                "nearest_mode",
                if half_pixel {
                    "round_prefer_floor"
                } else {
                    "floor"
                },
            );
        self.with_inputs(node, call, vec![String::new(), String::new(), sizes]);
        Ok(())
    }

    /// Quantises; where the graph has no zero point, one of the wanted type is written, since it sets the type.
    fn quantize(&mut self, node: &Node, axis: usize, to: DType) -> Result<(), ExportError> {
        let call = Call::new("QuantizeLinear").int("axis", axis as i64);
        if node.inputs.len() > 2 || to == DType::U8 {
            self.plain(node, call);
        } else {
            let shape = self.shape(node.inputs[1]).clone();
            if shape.elements(1) != 1 {
                let what = format!("quantising to {to:?} by channel without a zero point");
                return self.unsupported(node, what);
            }
            let zero = self.number(node, "zero", 0.0, to);
            self.with_inputs(node, call, vec![zero]);
        }
        Ok(())
    }

    /// One ONNX node, and the clamp behind it where there is one.
    fn clamped(&mut self, node: &Node, call: Call, activation: Activation) {
        if activation.is_none() {
            return self.plain(node, call);
        }
        let inputs = self.names(&node.inputs);
        let before = self.fresh(node, "before_clamp");
        self.own(node, call, inputs, vec![before.clone()]);
        self.clamp(node, activation, before);
    }

    fn conv(
        &mut self,
        node: &Node,
        window: &Window,
        groups: usize,
        residual: bool,
        activation: Activation,
    ) {
        let starts = window.pads.iter().map(|p| p.0);
        let call = Call::new("Conv")
            .sizes("kernel_shape", window.kernel.iter().copied())
            .sizes("strides", window.strides.iter().copied())
            .sizes("dilations", window.dilations.iter().copied())
            .sizes("pads", starts.chain(window.pads.iter().map(|p| p.1)))
            .int("group", groups as i64);
        if !residual {
            return self.clamped(node, call, activation);
        }
        let mut inputs = self.names(&node.inputs);
        let other = inputs.pop().unwrap_or_default();
        let product = self.fresh(node, "before_sum");
        self.own(node, call, inputs, vec![product.clone()]);
        let sum = if activation.is_none() {
            self.name(node.outputs[0])
        } else {
            self.fresh(node, "before_clamp")
        };
        self.beside(
            node,
            "sum",
            Call::new("Add"),
            vec![product, other],
            sum.clone(),
        );
        if !activation.is_none() {
            self.clamp(node, activation, sum);
        }
    }

    fn unary(&mut self, node: &Node, unary: Unary) {
        let call = match unary {
            Unary::Clip { low, high } => {
                let x = self.name(node.inputs[0]);
                let dtype = self.dtype(node.inputs[0]);
                let (call, inputs) = self.clip(node, Activation { low, high }, x, dtype);
                let outputs = self.names(&node.outputs);
                return self.own(node, call, inputs, outputs);
            }
            Unary::Silu => {
                let x = self.name(node.inputs[0]);
                let gate = self.fresh(node, "gate");
                self.beside(
                    node,
                    "sigmoid",
                    Call::new("Sigmoid"),
                    vec![x.clone()],
                    gate.clone(),
                );
                let outputs = self.names(&node.outputs);
                return self.own(node, Call::new("Mul"), vec![x, gate], outputs);
            }
            Unary::LeakyRelu { alpha } => Call::new("LeakyRelu").float("alpha", alpha),
            Unary::Elu { alpha } => Call::new("Elu").float("alpha", alpha),
            Unary::Selu { alpha, gamma } => Call::new("Selu")
                .float("alpha", alpha)
                .float("gamma", gamma),
            Unary::HardSigmoid { alpha, beta } => Call::new("HardSigmoid")
                .float("alpha", alpha)
                .float("beta", beta),
            Unary::Gelu { tanh } => {
                Call::new("Gelu").text("approximate", if tanh { "tanh" } else { "none" })
            }
            Unary::Relu => Call::new("Relu"),
            Unary::Sigmoid => Call::new("Sigmoid"),
            Unary::HardSwish => Call::new("HardSwish"),
            Unary::Tanh => Call::new("Tanh"),
            Unary::Softplus => Call::new("Softplus"),
            Unary::Softsign => Call::new("Softsign"),
            Unary::Mish => Call::new("Mish"),
            Unary::Erf => Call::new("Erf"),
            Unary::Exp => Call::new("Exp"),
            Unary::Log => Call::new("Log"),
            Unary::Sqrt => Call::new("Sqrt"),
            Unary::Reciprocal => Call::new("Reciprocal"),
            Unary::Neg => Call::new("Neg"),
            Unary::Abs => Call::new("Abs"),
            Unary::Sign => Call::new("Sign"),
            Unary::Floor => Call::new("Floor"),
            Unary::Ceil => Call::new("Ceil"),
            Unary::Round => Call::new("Round"),
            Unary::Sin => Call::new("Sin"),
            Unary::Cos => Call::new("Cos"),
            Unary::Not => Call::new("Not"),
        };
        self.plain(node, call);
    }

    /// Softmax over all axes from one on (as before opset 13) is softmax over a flattened tensor.
    fn softmax(
        &mut self,
        node: &Node,
        axis: usize,
        flatten: bool,
        log: bool,
    ) -> Result<(), ExportError> {
        let call = Call::new(if log { "LogSoftmax" } else { "Softmax" });
        if !flatten {
            self.plain(node, call.int("axis", axis as i64));
            return Ok(());
        }
        let dims = self.shape(node.inputs[0]).0.clone();
        let x = self.name(node.inputs[0]);
        let [flat, soft] = ["flat", "soft"].map(|what| self.fresh(node, what));
        let flatten = Call::new("Flatten").int("axis", axis as i64);
        self.beside(node, "flatten", flatten, vec![x], flat.clone());
        self.own(node, call.int("axis", 1), vec![flat], vec![soft.clone()]);
        let extents = self.extents(node, &dims)?;
        let output = self.name(node.outputs[0]);
        self.beside(
            node,
            "reshape",
            Call::new("Reshape"),
            vec![soft, extents],
            output,
        );
        Ok(())
    }
}

/// Ops that are one ONNX op with attributes only.
fn simple_call(op: &Op) -> Option<Call> {
    Some(match op {
        Op::MatMul => Call::new("MatMul"),
        Op::BatchNorm { epsilon } => Call::new("BatchNormalization").float("epsilon", *epsilon),
        Op::LayerNorm { axis, epsilon } => Call::new("LayerNormalization")
            .int("axis", *axis as i64)
            .float("epsilon", *epsilon),
        Op::InstanceNorm { epsilon } => {
            Call::new("InstanceNormalization").float("epsilon", *epsilon)
        }
        Op::Lrn {
            alpha,
            beta,
            bias,
            size,
        } => Call::new("LRN")
            .float("alpha", *alpha)
            .float("beta", *beta)
            .float("bias", *bias)
            .int("size", *size as i64),
        Op::GlobalPool { average: true } => Call::new("GlobalAveragePool"),
        Op::GlobalPool { average: false } => Call::new("GlobalMaxPool"),
        Op::Where => Call::new("Where"),
        Op::Transpose { perm } => Call::new("Transpose").sizes("perm", perm.iter().copied()),
        Op::Concat { axis } => Call::new("Concat").int("axis", *axis as i64),
        Op::Gather { axis } => Call::new("Gather").int("axis", *axis as i64),
        Op::Cast { to } => Call::new("Cast").int("to", i64::from(code(*to))),
        Op::ArgMax {
            axis,
            keep,
            last,
            min,
        } => Call::new(if *min { "ArgMin" } else { "ArgMax" })
            .int("axis", *axis as i64)
            .int("keepdims", i64::from(*keep))
            .int("select_last_index", i64::from(*last)),
        Op::Dequantize { axis } => Call::new("DequantizeLinear").int("axis", *axis as i64),
        Op::Identity => Call::new("Identity"),
        _ => return None,
    })
}

fn binary_name(binary: Binary) -> &'static str {
    match binary {
        Binary::Add => "Add",
        Binary::Sub => "Sub",
        Binary::Mul => "Mul",
        Binary::Div => "Div",
        Binary::Pow => "Pow",
        Binary::Min => "Min",
        Binary::Max => "Max",
        Binary::Mod => "Mod",
        Binary::Equal => "Equal",
        Binary::Greater => "Greater",
        Binary::GreaterOrEqual => "GreaterOrEqual",
        Binary::Less => "Less",
        Binary::LessOrEqual => "LessOrEqual",
        Binary::And => "And",
        Binary::Or => "Or",
        Binary::Xor => "Xor",
        Binary::PRelu => "PRelu",
    }
}

fn reduction_name(kind: Reduction) -> &'static str {
    match kind {
        Reduction::Mean => "ReduceMean",
        Reduction::Sum => "ReduceSum",
        Reduction::Max => "ReduceMax",
        Reduction::Min => "ReduceMin",
        Reduction::Prod => "ReduceProd",
        Reduction::SumSquare => "ReduceSumSquare",
        Reduction::L1 => "ReduceL1",
        Reduction::L2 => "ReduceL2",
    }
}
