/*!
Quantised networks. Their forms with operators of their own (`QLinearConv`, `MatMulInteger`, …) come in
as what they are defined by: dequantise, compute in floats, quantise; so the places between their
layers carry floats, and may be cut.

Integers of 8 bits between `QuantizeLinear` and its reader have a type of their own. Those of 16, 4
and 2 bits, those of `DynamicQuantizeLinear`, and the sums of integer products are held as floats with whole
values, which are exact up to 2^24.
*/

use super::super::tensor::{INT4, UINT4, type_name};
use super::super::{ImportError, Importer};
use crate::model::constant::{Constant, DType, Data};
use crate::model::graph::ValueId;
use crate::model::op::{Activation, Binary, Op, Reduction, Unary};
use crate::model::shape::Dim;
use candle_onnx::onnx as proto;
use proto::tensor_proto::DataType;

/// Whole values that an element type holds.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Range {
    low: f32,
    high: f32,
}

impl Range {
    /// Of a type that quantised values may have; `None` for any other.
    fn of(code: i32) -> Option<Range> {
        if code == UINT4 || code == INT4 {
            let (low, high) = if code == INT4 {
                (-8.0, 7.0)
            } else {
                (0.0, 15.0)
            };
            return Some(Range { low, high });
        }
        let (low, high) = match DataType::try_from(code).ok()? {
            DataType::Uint8 => (0.0, 255.0),
            DataType::Int8 => (-128.0, 127.0),
            DataType::Uint16 => (0.0, 65_535.0),
            DataType::Int16 => (-32_768.0, 32_767.0),
            _ => return None,
        };
        Some(Range { low, high })
    }

    /// The element type that holds the values as the file has them, where there is one.
    fn dtype(self) -> Option<DType> {
        match (self.low as i32, self.high as i32) {
            (0, 255) => Some(DType::U8),
            (-128, 127) => Some(DType::I8),
            _ => None,
        }
    }
}

/// What there may be several zero points for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Along {
    /// The rows of a left operand.
    Rows,
    /// The columns of a right operand.
    Columns,
    /// The output channels of a convolution's weights.
    Channels,
}

const fn binary(op: Binary) -> Op {
    Op::Binary(op, Activation::NONE)
}

impl Importer<'_> {
    pub(super) fn quantized(&mut self, node: &proto::NodeProto) -> Result<bool, ImportError> {
        match node.op_type.as_str() {
            "QuantizeLinear" => self.quantize_linear(node)?,
            "DequantizeLinear" => self.dequantize_linear(node)?,
            "DynamicQuantizeLinear" => self.dynamic_quantize(node)?,
            "ConvInteger" => self.conv_integer(node)?,
            "MatMulInteger" => {
                let product = self.integer_product(node, [0, 1, 2, 3])?;
                self.name_output(node, 0, product);
            }
            "MatMulIntegerToFloat" => {
                let product = self.integer_product(node, [0, 1, 4, 5])?;
                let (a, b) = (self.input_id(node, 2)?, self.input_id(node, 3)?);
                let scale = self.aside(node, binary(Binary::Mul), vec![a, b])?;
                self.scaled_product(node, product, scale, 6)?;
            }
            "DynamicQuantizeMatMul" => {
                let x = self.input_id(node, 0)?;
                let [quantised, scale, zero] = self.dynamic_range(node, x)?;
                let shifted = self.aside(node, binary(Binary::Sub), vec![quantised, zero])?;
                let weights = self.shifted(node, 1, 3, Along::Columns)?;
                let product = self.main(node, Op::MatMul, vec![shifted, weights])?;
                let by = self.input_id(node, 2)?;
                let scale = self.aside(node, binary(Binary::Mul), vec![scale, by])?;
                self.scaled_product(node, product, scale, 4)?;
            }
            "QLinearConv" => self.qlinear_conv(node)?,
            "QLinearMatMul" => {
                let a = self.dequantised(node, [0, 1, 2], 0)?;
                let axis = self.shape(self.input_id(node, 3)?).rank().saturating_sub(1);
                let b = self.dequantised(node, [3, 4, 5], axis)?;
                let y = self.main(node, Op::MatMul, vec![a, b])?;
                self.requantise(node, y, 6, 7)?;
            }
            "QGemm" => self.qgemm(node)?,
            "QLinearAdd" | "QLinearMul" => {
                let a = self.dequantised(node, [0, 1, 2], 0)?;
                let b = self.dequantised(node, [3, 4, 5], 0)?;
                let op = match node.op_type.as_str() {
                    "QLinearAdd" => Binary::Add,
                    _ => Binary::Mul,
                };
                let y = self.main(node, binary(op), vec![a, b])?;
                self.requantise(node, y, 6, 7)?;
            }
            "QLinearConcat" => self.qlinear_concat(node)?,
            "QLinearSigmoid"
            | "QLinearLeakyRelu"
            | "QLinearSoftmax"
            | "QLinearGlobalAveragePool"
            | "QLinearAveragePool"
            | "QLinearReduceMean" => {
                let x = self.dequantised(node, [0, 1, 2], 0)?;
                let op = self.float_form(node, x)?;
                let y = self.main(node, op, vec![x])?;
                self.requantise(node, y, 3, 4)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What a quantised op of one input does between dequantising and quantising.
    fn float_form(&mut self, node: &proto::NodeProto, x: ValueId) -> Result<Op, ImportError> {
        if self.int(node, "channels_last", 0) != 0 {
            return Err(self.fail(node, "channels_last is not supported"));
        }
        let rank = self.shape(x).rank();
        Ok(match node.op_type.as_str() {
            "QLinearSigmoid" => Op::Unary(Unary::Sigmoid),
            "QLinearLeakyRelu" => Op::Unary(Unary::LeakyRelu {
                alpha: self.float(node, "alpha", 0.01),
            }),
            "QLinearSoftmax" => {
                let old = self.int(node, "opset", 13) < 13;
                let axis = self.int(node, "axis", if old { 1 } else { -1 });
                let axis = self.axis(node, axis, rank)?;
                Op::Softmax {
                    axis,
                    flatten: old && axis + 1 != rank,
                    log: false,
                }
            }
            "QLinearGlobalAveragePool" => Op::GlobalPool { average: true },
            "QLinearReduceMean" => Op::Reduce {
                kind: Reduction::Mean,
                axes: self.reduced_axes(node, 5)?.unwrap_or_default(),
                keep: self.int(node, "keepdims", 1) != 0,
            },
            _ => self.pool_op(node, x, false)?,
        })
    }

    /// The range of a zero point's type: that of the file, which may be narrower than what holds it.
    fn range(&self, node: &proto::NodeProto, zero: ValueId) -> Result<Range, ImportError> {
        let dtype = self.graph.value(zero).dtype;
        let code = self.codes.get(&zero).copied();
        let code = code.unwrap_or_else(|| crate::model::export::code(dtype));
        Range::of(code).ok_or_else(|| {
            self.fail(
                node,
                format!(
                    "quantises to {}, which is not supported: 4, 8 and 16 bits are",
                    type_name(code)
                ),
            )
        })
    }

    fn quantize_linear(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let (x, scale) = (self.input_id(node, 0)?, self.input_id(node, 1)?);
        let zero = self.optional(node, 2);
        let named = self.int(node, "output_dtype", 0) as i32;
        let range = match zero {
            Some(zero) => self.range(node, zero)?,
            None if named != 0 => Range::of(named).ok_or_else(|| {
                let name = type_name(named);
                self.fail(node, format!("quantises to {name}, which is not supported"))
            })?,
            None => Range {
                low: 0.0,
                high: 255.0,
            },
        };
        let y = self.quantised(node, x, scale, zero, range)?;
        self.name_output(node, 0, y);
        Ok(())
    }

    /// `x` quantised, by an op of its own or, where the range has no element type, as floats.
    fn quantised(
        &mut self,
        node: &proto::NodeProto,
        x: ValueId,
        scale: ValueId,
        zero: Option<ValueId>,
        range: Range,
    ) -> Result<ValueId, ImportError> {
        let x = self.as_floats(node, x)?;
        let blocks = self.int(node, "block_size", 0) != 0;
        let held = zero.is_some_and(|z| self.graph.value(z).dtype == DType::F32);
        let axis = self.scale_axis(node, x, scale)?;
        if let (Some(to), false, false) = (range.dtype(), blocks, held) {
            let inputs = [Some(x), Some(scale), zero];
            let inputs = inputs.into_iter().flatten().collect();
            return self.main(node, Op::Quantize { axis, to }, inputs);
        }
        let scale = self.spread(node, scale, axis, x)?;
        let ratio = self.aside(node, binary(Binary::Div), vec![x, scale])?;
        let mut y = self.main(node, Op::Unary(Unary::Round), vec![ratio])?;
        if let Some(zero) = zero {
            let zero = self.as_floats(node, zero)?;
            let zero = self.spread(node, zero, axis, x)?;
            y = self.aside(node, binary(Binary::Add), vec![y, zero])?;
        }
        let clip = Unary::Clip {
            low: range.low,
            high: range.high,
        };
        let y = self.aside(node, Op::Unary(clip), vec![y])?;
        self.whole.insert(y);
        Ok(y)
    }

    fn dequantize_linear(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let (x, scale) = (self.input_id(node, 0)?, self.input_id(node, 1)?);
        let zero = self.optional(node, 2);
        let axis = self.scale_axis(node, x, scale)?;
        let blocks = self.int(node, "block_size", 0) != 0;
        let held = [Some(x), zero].into_iter().flatten();
        let held = held
            .into_iter()
            .any(|v| self.graph.value(v).dtype == DType::F32);
        if !blocks && !held {
            let inputs = [Some(x), Some(scale), zero].into_iter().flatten();
            return self.push(node, Op::Dequantize { axis }, inputs.collect());
        }
        let parameters = self.unclaimed.remove(&x);
        let mut y = self.as_floats(node, x)?;
        if let Some(size) = parameters.filter(|_| self.graph.constants.contains_key(&y)) {
            self.unclaimed.insert(y, size);
        }
        let by = self.spread(node, scale, axis, x)?;
        if let Some(zero) = zero {
            let zero = self.as_floats(node, zero)?;
            let zero = self.spread(node, zero, axis, x)?;
            y = self.aside(node, binary(Binary::Sub), vec![y, zero])?;
        }
        self.push(node, binary(Binary::Mul), vec![y, by])
    }

    /// The axis of per-channel scales; without a meaning, and possibly out of range, for one scale.
    fn scale_axis(
        &self,
        node: &proto::NodeProto,
        x: ValueId,
        scale: ValueId,
    ) -> Result<usize, ImportError> {
        match self.shape(scale).elements(1) {
            1 => Ok(0),
            _ => self.axis(node, self.int(node, "axis", 1), self.shape(x).rank()),
        }
    }

    /// Scales or zero points as they broadcast against `x`: along `axis`, or in blocks on it.
    fn spread(
        &mut self,
        node: &proto::NodeProto,
        scale: ValueId,
        axis: usize,
        x: ValueId,
    ) -> Result<ValueId, ImportError> {
        // How a tensor is quantised is no parameter.
        self.unclaimed.remove(&scale);
        let (dims, own) = (self.shape(x).clone(), self.shape(scale).clone());
        let block = usize::try_from(self.int(node, "block_size", 0)).unwrap_or(0);
        if own.elements(1) == 1 && own.rank() <= dims.rank() {
            return Ok(scale);
        }
        if block == 0 {
            if own.rank() != 1 {
                return Err(self.fail(node, format!("scales of {own} for {dims}")));
            }
            let mut to = vec![Dim::Fixed(1); dims.rank()];
            to[axis] = own.0[0];
            return self.seen_as(node, scale, to);
        }
        let extent = self.fixed_extent(node, dims.0[axis], axis)?;
        let fits = own.rank() == dims.rank()
            && own.0[axis] == Dim::Fixed(extent.div_ceil(block))
            && extent.is_multiple_of(block);
        if !fits {
            return Err(self.fail(
                node,
                format!("scales of {own} for {dims} in blocks of {block} along axis {axis}"),
            ));
        }
        let mut split = own.0.clone();
        split.insert(axis + 1, Dim::Fixed(1));
        let apart = self.seen_as(node, scale, split.clone())?;
        split[axis + 1] = Dim::Fixed(block);
        let each = self.aside(node, Op::Expand { to: split }, vec![apart])?;
        let mut to = own.0;
        to[axis] = Dim::Fixed(extent);
        self.seen_as(node, each, to)
    }

    /// A value as floats: a constant is converted now.
    pub(super) fn as_floats(
        &mut self,
        node: &proto::NodeProto,
        id: ValueId,
    ) -> Result<ValueId, ImportError> {
        if self.graph.value(id).dtype == DType::F32 {
            return Ok(id);
        }
        if let Some(&known) = self.floats_of.get(&id) {
            return Ok(known);
        }
        let floats = match self.graph.constants.get(&id) {
            Some(constant) => {
                let floats = Constant::f32(&constant.shape, numbers(constant));
                let name = format!("{}/floats", self.graph.value(id).name);
                self.constant(&name, floats)
            }
            None => self.aside(node, Op::Cast { to: DType::F32 }, vec![id])?,
        };
        self.floats_of.insert(id, floats);
        Ok(floats)
    }

    /// The floats behind quantised inputs: value, scale and zero point stand at `at`.
    fn dequantised(
        &mut self,
        node: &proto::NodeProto,
        at: [usize; 3],
        axis: usize,
    ) -> Result<ValueId, ImportError> {
        let (x, scale) = (self.input_id(node, at[0])?, self.input_id(node, at[1])?);
        let zero = self.optional(node, at[2]);
        let key = (x, scale, zero);
        if let Some(&known) = self.dequantised.get(&key) {
            return Ok(known);
        }
        let axis = match self.shape(scale).elements(1) {
            1 => 0,
            _ => axis,
        };
        let inputs = [Some(x), Some(scale), zero].into_iter().flatten();
        let floats = self.aside(node, Op::Dequantize { axis }, inputs.collect())?;
        self.dequantised.insert(key, floats);
        Ok(floats)
    }

    /// The node's output: `y` quantised by the scale and zero point at these inputs.
    fn requantise(
        &mut self,
        node: &proto::NodeProto,
        y: ValueId,
        scale: usize,
        zero: usize,
    ) -> Result<(), ImportError> {
        let scale = self.input_id(node, scale)?;
        let zero = self.optional(node, zero);
        let range = match zero {
            Some(zero) => self.range(node, zero)?,
            None => Range {
                low: 0.0,
                high: 255.0,
            },
        };
        let Some(to) = range.dtype() else {
            return Err(self.fail(node, "quantises to other than 8 bits"));
        };
        let inputs = [Some(y), Some(scale), zero].into_iter().flatten();
        let y = self.aside(node, Op::Quantize { axis: 0, to }, inputs.collect())?;
        self.name_output(node, 0, y);
        Ok(())
    }

    /// A bias of 32-bit integers, whose scale is the product of two others, as floats.
    fn bias(
        &mut self,
        node: &proto::NodeProto,
        bias: ValueId,
        scales: [usize; 2],
        factor: f32,
    ) -> Result<ValueId, ImportError> {
        let mut known = Vec::new();
        for at in scales {
            let id = self.input_id(node, at)?;
            let floats = self.graph.constants.get(&id).and_then(Constant::floats);
            known.push(floats.map(<[f32]>::to_vec).ok_or_else(|| {
                let name = &node.input[at];
                self.fail(
                    node,
                    format!("the scale `{name}` is only known while running"),
                )
            })?);
        }
        let Some(constant) = self.graph.constants.get(&bias).cloned() else {
            return Err(self.fail(node, "the bias is only known while running"));
        };
        let scale = |i: usize| {
            let one = |s: &[f32]| s.get(if s.len() == 1 { 0 } else { i }).copied();
            Some(one(&known[0])? * one(&known[1])? * factor)
        };
        let values = numbers(&constant).into_iter().enumerate();
        let values: Option<Vec<f32>> = values.map(|(i, b)| Some(b * scale(i)?)).collect();
        let values = values.ok_or_else(|| self.fail(node, "fewer scales than biases"))?;
        let name = format!("{}/floats", self.graph.value(bias).name);
        let id = self.constant(&name, Constant::f32(&constant.shape, values));
        if let Some(size) = self.unclaimed.remove(&bias) {
            self.unclaimed.insert(id, size);
        }
        Ok(id)
    }

    fn qlinear_conv(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.dequantised(node, [0, 1, 2], 0)?;
        let w = self.dequantised(node, [3, 4, 5], 0)?;
        let bias = match self.optional(node, 8) {
            Some(bias) => Some(self.bias(node, bias, [1, 4], 1.0)?),
            None => None,
        };
        let (op, inputs) = self.conv_op(node, x, w, bias)?;
        let y = self.main(node, op, inputs)?;
        self.requantise(node, y, 6, 7)
    }

    fn qgemm(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let trans_b = self.int(node, "transB", 0) != 0;
        let alpha = self.float(node, "alpha", 1.0);
        let a = self.dequantised(node, [0, 1, 2], 0)?;
        let b = self.dequantised(node, [3, 4, 5], usize::from(!trans_b))?;
        let mut inputs = vec![a, b];
        if let Some(c) = self.optional(node, 6) {
            inputs.push(self.bias(node, c, [1, 4], alpha)?);
        }
        let op = Op::Gemm {
            trans_a: self.int(node, "transA", 0) != 0,
            trans_b,
            alpha,
            beta: 1.0,
            activation: Activation::NONE,
        };
        let y = self.main(node, op, inputs)?;
        match self.optional(node, 7) {
            Some(_) => self.requantise(node, y, 7, 8),
            None => {
                self.name_output(node, 0, y);
                Ok(())
            }
        }
    }

    fn qlinear_concat(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let mut inputs = Vec::new();
        for at in (2..node.input.len()).step_by(3) {
            inputs.push(self.dequantised(node, [at, at + 1, at + 2], 0)?);
        }
        let Some(&first) = inputs.first() else {
            return Err(self.fail(node, "joins nothing"));
        };
        let axis = self.axis(node, self.int(node, "axis", 1), self.shape(first).rank())?;
        let y = self.main(node, Op::Concat { axis }, inputs)?;
        self.requantise(node, y, 0, 1)
    }

    fn dynamic_quantize(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let found = self.dynamic_range(node, x)?;
        for (at, id) in found.into_iter().enumerate() {
            self.name_output(node, at, id);
        }
        Ok(())
    }

    /// `x` quantised to 0..=255 over what it holds, with its scale and its zero point, whole values as
    /// floats.
    fn dynamic_range(
        &mut self,
        node: &proto::NodeProto,
        x: ValueId,
    ) -> Result<[ValueId; 3], ImportError> {
        let number = |n: f32| Constant::f32(&[], vec![n]);
        let zero = self.known(node, number(0.0));
        let steps = self.known(node, number(255.0));
        let one = self.known(node, number(1.0));
        let axes: Vec<usize> = (0..self.shape(x).rank()).collect();
        let reduce = |kind| Op::Reduce {
            kind,
            axes: axes.clone(),
            keep: false,
        };
        let lowest = self.main(node, reduce(Reduction::Min), vec![x])?;
        let lowest = self.aside(node, binary(Binary::Min), vec![lowest, zero])?;
        let highest = self.aside(node, reduce(Reduction::Max), vec![x])?;
        let highest = self.aside(node, binary(Binary::Max), vec![highest, zero])?;
        let span = self.aside(node, binary(Binary::Sub), vec![highest, lowest])?;
        let scale = self.aside(node, binary(Binary::Div), vec![span, steps])?;
        // Of nothing but zeros any scale gives zeros.
        let flat = self.aside(node, binary(Binary::Equal), vec![scale, zero])?;
        let scale = self.aside(node, Op::Where, vec![flat, one, scale])?;
        let bytes = Unary::Clip {
            low: 0.0,
            high: 255.0,
        };
        let first = self.aside(node, binary(Binary::Div), vec![lowest, scale])?;
        let first = self.aside(node, Op::Unary(Unary::Neg), vec![first])?;
        let first = self.aside(node, Op::Unary(Unary::Round), vec![first])?;
        let first = self.aside(node, Op::Unary(bytes), vec![first])?;
        let ratio = self.aside(node, binary(Binary::Div), vec![x, scale])?;
        let ratio = self.aside(node, Op::Unary(Unary::Round), vec![ratio])?;
        let y = self.aside(node, binary(Binary::Add), vec![ratio, first])?;
        let y = self.aside(node, Op::Unary(bytes), vec![y])?;
        self.whole.extend([first, y]);
        Ok([y, scale, first])
    }

    /// An operand of an integer product: its numbers less their zero points.
    fn shifted(
        &mut self,
        node: &proto::NodeProto,
        at: usize,
        zero: usize,
        along: Along,
    ) -> Result<ValueId, ImportError> {
        let x = self.input_id(node, at)?;
        let zero = self.optional(node, zero);
        let known = self.graph.constants.get(&x);
        let none = zero.is_none_or(|z| self.graph.constants.contains_key(&z));
        if let (Some(constant), true) = (known, none) {
            let shape = constant.shape.clone();
            let mut values = numbers(constant);
            let zeros = zero.and_then(|z| self.graph.constants.get(&z));
            let zeros = zeros.map_or_else(|| vec![0.0], numbers);
            let inner = match along {
                Along::Columns => 1,
                Along::Rows => shape.last().copied().unwrap_or(1).max(1),
                Along::Channels => shape.iter().skip(1).product::<usize>().max(1),
            };
            for (i, value) in values.iter_mut().enumerate() {
                *value -= zeros[i / inner % zeros.len()];
            }
            let name = format!("{}/floats", self.graph.value(x).name);
            let id = self.constant(&name, Constant::f32(&shape, values));
            if let Some(size) = self.unclaimed.remove(&x) {
                self.unclaimed.insert(id, size);
            }
            return Ok(id);
        }
        let mut y = self.as_floats(node, x)?;
        if let Some(zero) = zero {
            let mut zero = self.as_floats(node, zero)?;
            let extents = self.shape(zero).clone();
            let behind = match along {
                Along::Columns => 0,
                Along::Rows => 1,
                Along::Channels => self.shape(x).rank().saturating_sub(1),
            };
            if extents.rank() == 1 && extents.elements(1) > 1 && behind > 0 {
                let ones = std::iter::repeat_n(Dim::Fixed(1), behind);
                let to = std::iter::once(extents.0[0]).chain(ones).collect();
                zero = self.seen_as(node, zero, to)?;
            }
            y = self.aside(node, binary(Binary::Sub), vec![y, zero])?;
        }
        Ok(y)
    }

    fn conv_integer(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.shifted(node, 0, 2, Along::Columns)?;
        let w = self.shifted(node, 1, 3, Along::Channels)?;
        let (op, inputs) = self.conv_op(node, x, w, None)?;
        let sums = self.main(node, op, inputs)?;
        // Some kernels of the engine convolve by transforms: whole again before anything scales them.
        let whole = self.aside(node, Op::Unary(Unary::Round), vec![sums])?;
        self.whole.insert(whole);
        self.name_output(node, 0, whole);
        Ok(())
    }

    fn integer_product(
        &mut self,
        node: &proto::NodeProto,
        [a, b, a_zero, b_zero]: [usize; 4],
    ) -> Result<ValueId, ImportError> {
        let a = self.shifted(node, a, a_zero, Along::Rows)?;
        let b = self.shifted(node, b, b_zero, Along::Columns)?;
        let product = self.main(node, Op::MatMul, vec![a, b])?;
        self.whole.insert(product);
        Ok(product)
    }

    /// The node's output: a product times its scale, and the bias at input `bias`, if there is one.
    fn scaled_product(
        &mut self,
        node: &proto::NodeProto,
        product: ValueId,
        scale: ValueId,
        bias: usize,
    ) -> Result<(), ImportError> {
        let mut y = self.aside(node, binary(Binary::Mul), vec![product, scale])?;
        if let Some(bias) = self.optional(node, bias) {
            y = self.aside(node, binary(Binary::Add), vec![y, bias])?;
        }
        self.name_output(node, 0, y);
        Ok(())
    }
}

/// The elements of a constant as floats.
pub(super) fn numbers(constant: &Constant) -> Vec<f32> {
    match &constant.data {
        Data::F32(v) => Vec::clone(v),
        Data::I64(v) => v.iter().map(|&x| x as f32).collect(),
        Data::I32(v) => v.iter().map(|&x| x as f32).collect(),
        Data::U8(v) | Data::Bool(v) => v.iter().map(|&x| f32::from(x)).collect(),
        Data::I8(v) => v.iter().map(|&x| f32::from(x)).collect(),
    }
}

/// A constant of a shape that `x` may have with the same elements.
pub(super) fn reshaped(constant: &Constant, shape: Vec<usize>) -> Option<Constant> {
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    let fits = count == constant.len();
    fits.then(|| Constant {
        shape,
        data: constant.data.clone(),
    })
}
