/*! Products, element-wise functions, normalisations, reductions, quantisation. */

use super::super::{ImportError, Importer};
use crate::model::constant::DType;
use crate::model::op::{Activation, Binary, Op, Reduction, Unary};
use candle_onnx::onnx as proto;

impl Importer<'_> {
    pub(super) fn algebra(&mut self, node: &proto::NodeProto) -> Result<bool, ImportError> {
        let float = |name, default| self.float(node, name, default);
        match node.op_type.as_str() {
            "Gemm" => {
                let op = Op::Gemm {
                    trans_a: self.int(node, "transA", 0) != 0,
                    trans_b: self.int(node, "transB", 0) != 0,
                    alpha: float("alpha", 1.0),
                    beta: float("beta", 1.0),
                    activation: Activation::NONE,
                };
                let inputs = self.leading(node, 3)?;
                self.push(node, op, inputs)?;
            }
            "MatMul" => {
                let inputs = self.all_inputs(node)?;
                self.push(node, Op::MatMul, inputs)?;
            }
            "LayerNormalization" => {
                let inputs = self.leading(node, 3)?;
                let x = self.input_id(node, 0)?;
                let axis = self.axis(node, self.int(node, "axis", -1), self.shape(x).rank())?;
                let epsilon = self.float(node, "epsilon", 1e-5);
                self.push(node, Op::LayerNorm { axis, epsilon }, inputs)?;
            }
            "Relu" => return self.unary(node, Unary::Relu),
            "LeakyRelu" => {
                return self.unary(
                    node,
                    Unary::LeakyRelu {
                        alpha: float("alpha", 0.01),
                    },
                );
            }
            "Elu" => {
                return self.unary(
                    node,
                    Unary::Elu {
                        alpha: float("alpha", 1.0),
                    },
                );
            }
            "Selu" => {
                // The defaults are the specification's own digits.
                #[allow(clippy::excessive_precision)]
                let (alpha, gamma) = (1.673_263_192_176_818_8, 1.050_700_987_130_066_2);
                let op = Unary::Selu {
                    alpha: float("alpha", alpha),
                    gamma: float("gamma", gamma),
                };
                return self.unary(node, op);
            }
            "Sigmoid" => return self.unary(node, Unary::Sigmoid),
            "HardSigmoid" => {
                let op = Unary::HardSigmoid {
                    alpha: float("alpha", 0.2),
                    beta: float("beta", 0.5),
                };
                return self.unary(node, op);
            }
            "HardSwish" => return self.unary(node, Unary::HardSwish),
            "Tanh" => return self.unary(node, Unary::Tanh),
            "Gelu" => {
                let tanh = self.text(node, "approximate", "none") == "tanh";
                return self.unary(node, Unary::Gelu { tanh });
            }
            "Softplus" => return self.unary(node, Unary::Softplus),
            "Softsign" => return self.unary(node, Unary::Softsign),
            "Mish" => return self.unary(node, Unary::Mish),
            "Erf" => return self.unary(node, Unary::Erf),
            "Exp" => return self.unary(node, Unary::Exp),
            "Log" => return self.unary(node, Unary::Log),
            "Sqrt" => return self.unary(node, Unary::Sqrt),
            "Reciprocal" => return self.unary(node, Unary::Reciprocal),
            "Neg" => return self.unary(node, Unary::Neg),
            "Abs" => return self.unary(node, Unary::Abs),
            "Sign" => return self.unary(node, Unary::Sign),
            "Floor" => return self.unary(node, Unary::Floor),
            "Ceil" => return self.unary(node, Unary::Ceil),
            "Round" => return self.unary(node, Unary::Round),
            "Sin" => return self.unary(node, Unary::Sin),
            "Cos" => return self.unary(node, Unary::Cos),
            "Not" => return self.unary(node, Unary::Not),
            "Add" => return self.binary(node, Binary::Add),
            "Sub" => return self.binary(node, Binary::Sub),
            "Mul" => return self.binary(node, Binary::Mul),
            "Div" => return self.binary(node, Binary::Div),
            "Pow" => return self.binary(node, Binary::Pow),
            "Mod" => return self.binary(node, Binary::Mod),
            "Equal" => return self.binary(node, Binary::Equal),
            "Greater" => return self.binary(node, Binary::Greater),
            "GreaterOrEqual" => return self.binary(node, Binary::GreaterOrEqual),
            "Less" => return self.binary(node, Binary::Less),
            "LessOrEqual" => return self.binary(node, Binary::LessOrEqual),
            "And" => return self.binary(node, Binary::And),
            "Or" => return self.binary(node, Binary::Or),
            "Xor" => return self.binary(node, Binary::Xor),
            "PRelu" => return self.binary(node, Binary::PRelu),
            "Sum" => self.chain(node, Binary::Add, false)?,
            "Mean" => self.chain(node, Binary::Add, true)?,
            "Max" => self.chain(node, Binary::Max, false)?,
            "Min" => self.chain(node, Binary::Min, false)?,
            "Where" => {
                let inputs = self.all_inputs(node)?;
                self.push(node, Op::Where, inputs)?;
            }
            "Softmax" | "LogSoftmax" => {
                let x = self.input_id(node, 0)?;
                let rank = self.shape(x).rank();
                let default = if self.opset < 13 { 1 } else { -1 };
                let axis = self.axis(node, self.int(node, "axis", default), rank)?;
                // Over the last axis both meanings agree.
                let flatten = self.opset < 13 && axis + 1 != rank;
                let op = Op::Softmax {
                    axis,
                    flatten,
                    log: node.op_type == "LogSoftmax",
                };
                self.push(node, op, vec![x])?;
            }
            "Cast" => {
                let op = Op::Cast {
                    to: self.type_attribute(node, "to")?,
                };
                let x = self.input_id(node, 0)?;
                if self.graph.value(x).dtype == self.type_attribute(node, "to")? {
                    self.alias(node)?;
                } else {
                    self.push(node, op, vec![x])?;
                }
            }
            "ArgMax" | "ArgMin" => {
                let x = self.input_id(node, 0)?;
                let axis = self.axis(node, self.int(node, "axis", 0), self.shape(x).rank())?;
                let op = Op::ArgMax {
                    axis,
                    keep: self.int(node, "keepdims", 1) != 0,
                    last: self.int(node, "select_last_index", 0) != 0,
                    min: node.op_type == "ArgMin",
                };
                self.push(node, op, vec![x])?;
            }
            "QuantizeLinear" => self.quantize(node)?,
            "DequantizeLinear" => {
                let inputs = self.leading(node, 3)?;
                let axis = self.scale_axis(node)?;
                self.push(node, Op::Dequantize { axis }, inputs)?;
            }
            op => match reduction(op) {
                Some(kind) => self.reduce(node, kind)?,
                None => return Ok(false),
            },
        }
        Ok(true)
    }

    fn quantize(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let inputs = self.leading(node, 3)?;
        let to = match inputs.get(2) {
            Some(&zero) => self.graph.value(zero).dtype,
            None if self.int(node, "output_dtype", 0) != 0 => {
                self.type_attribute(node, "output_dtype")?
            }
            None => DType::U8,
        };
        let axis = self.scale_axis(node)?;
        self.push(node, Op::Quantize { axis, to }, inputs)
    }

    /// The axis of per-channel scales; without a meaning, and possibly out of range, for one scale.
    fn scale_axis(&self, node: &proto::NodeProto) -> Result<usize, ImportError> {
        if self.int(node, "block_size", 0) != 0 {
            return Err(self.fail(node, "quantisation in blocks is not supported"));
        }
        let scale = self.input_id(node, 1)?;
        let x = self.input_id(node, 0)?;
        match self.shape(scale).elements(1) {
            1 => Ok(0),
            _ => self.axis(node, self.int(node, "axis", 1), self.shape(x).rank()),
        }
    }

    fn reduce(&mut self, node: &proto::NodeProto, kind: Reduction) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let rank = self.shape(x).rank();
        let named = match self.int_list(node, "axes") {
            Some(axes) => axes,
            None => self.known_ints(node, 1)?.unwrap_or_default(),
        };
        if named.is_empty() && self.int(node, "noop_with_empty_axes", 0) != 0 {
            return self.alias(node);
        }
        let mut axes = Vec::new();
        for &axis in &named {
            axes.push(self.axis(node, axis, rank)?);
        }
        axes.sort_unstable();
        axes.dedup();
        if axes.is_empty() {
            axes = (0..rank).collect();
        }
        let keep = self.int(node, "keepdims", 1) != 0;
        self.push(node, Op::Reduce { kind, axes, keep }, vec![x])
    }
}

fn reduction(op: &str) -> Option<Reduction> {
    Some(match op {
        "ReduceMean" => Reduction::Mean,
        "ReduceSum" => Reduction::Sum,
        "ReduceMax" => Reduction::Max,
        "ReduceMin" => Reduction::Min,
        "ReduceProd" => Reduction::Prod,
        "ReduceSumSquare" => Reduction::SumSquare,
        "ReduceL1" => Reduction::L1,
        "ReduceL2" => Reduction::L2,
        _ => return None,
    })
}
