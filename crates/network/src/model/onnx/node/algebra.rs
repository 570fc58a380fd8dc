/*! Products, element-wise functions, normalisations, reductions. */

use super::super::{ImportError, Importer};
use crate::model::constant::{Constant, DType};
use crate::model::graph::ValueId;
use crate::model::op::{Activation, Binary, Op, Reduction, Unary};
use candle_onnx::onnx as proto;

impl Importer<'_> {
    pub(super) fn algebra(&mut self, node: &proto::NodeProto) -> Result<bool, ImportError> {
        if let Some(unary) = unary(&node.op_type) {
            return self.unary(node, unary);
        }
        if let Some(binary) = binary(&node.op_type) {
            return self.binary(node, binary);
        }
        if let Some(unary) = self.shaped(node) {
            return self.unary(node, unary);
        }
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
            "LayerNormalization" => self.layer_norm(node)?,
            "Pow" => self.power(node)?,
            "Mod" => {
                let float = self.graph.value(self.input_id(node, 0)?).dtype == DType::F32;
                if float != (self.int(node, "fmod", 0) != 0) {
                    let what = "takes fmod = 1 for floats and 0 for integers";
                    return Err(self.fail(node, what));
                }
                return self.binary(node, Binary::Mod);
            }
            "ThresholdedRelu" => self.thresholded(node)?,
            "ReduceLogSum" | "ReduceLogSumExp" => self.reduce_log(node)?,
            "Sum" => self.chain(node, Binary::Add, false)?,
            "Mean" => self.chain(node, Binary::Add, true)?,
            "Max" => self.chain(node, Binary::Max, false)?,
            "Min" => self.chain(node, Binary::Min, false)?,
            "Where" => {
                let inputs = self.all_inputs(node)?;
                self.push(node, Op::Where, inputs)?;
            }
            "Softmax" | "LogSoftmax" => self.softmax(node)?,
            "Cast" => self.cast(node)?,
            "ArgMax" | "ArgMin" => self.arg_max(node)?,
            op => match reduction(op) {
                Some(kind) => self.reduce(node, kind)?,
                None => return Ok(false),
            },
        }
        Ok(true)
    }

    fn layer_norm(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let inputs = self.leading(node, 3)?;
        let x = self.input_id(node, 0)?;
        let axis = self.axis(node, self.int(node, "axis", -1), self.shape(x).rank())?;
        let epsilon = self.float(node, "epsilon", 1e-5);
        let y = self.main(node, Op::LayerNorm { axis, epsilon }, inputs)?;
        self.name_output(node, 0, y);
        self.statistics(node, x, axis, epsilon)
    }

    fn softmax(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
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
        self.push(node, op, vec![x])
    }

    fn cast(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let to = self.type_attribute(node, "to")?;
        let x = self.input_id(node, 0)?;
        if self.graph.value(x).dtype == to {
            self.alias(node)
        } else {
            self.push(node, Op::Cast { to }, vec![x])
        }
    }

    /// `ArgMax` and `ArgMin`.
    fn arg_max(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let axis = self.axis(node, self.int(node, "axis", 0), self.shape(x).rank())?;
        let op = Op::ArgMax {
            axis,
            keep: self.int(node, "keepdims", 1) != 0,
            last: self.int(node, "select_last_index", 0) != 0,
            min: node.op_type == "ArgMin",
        };
        self.push(node, op, vec![x])
    }

    /// An element-wise function whose form the node's attributes give; none for any other op.
    fn shaped(&self, node: &proto::NodeProto) -> Option<Unary> {
        let float = |name, default| self.float(node, name, default);
        Some(match node.op_type.as_str() {
            "LeakyRelu" => Unary::LeakyRelu {
                alpha: float("alpha", 0.01),
            },
            "Elu" => Unary::Elu {
                alpha: float("alpha", 1.0),
            },
            "Selu" => {
                // The defaults are the specification's own digits.
                #[allow(clippy::excessive_precision)]
                let (alpha, gamma) = (1.673_263_192_176_818_8, 1.050_700_987_130_066_2);
                Unary::Selu {
                    alpha: float("alpha", alpha),
                    gamma: float("gamma", gamma),
                }
            }
            "HardSigmoid" => Unary::HardSigmoid {
                alpha: float("alpha", 0.2),
                beta: float("beta", 0.5),
            },
            "Gelu" => Unary::Gelu {
                tanh: self.text(node, "approximate", "none") == "tanh",
            },
            _ => return None,
        })
    }

    /// Mean and reciprocal deviation of a layer norm, where they are outputs too.
    fn statistics(
        &mut self,
        node: &proto::NodeProto,
        x: ValueId,
        axis: usize,
        epsilon: f32,
    ) -> Result<(), ImportError> {
        if node.output.iter().skip(1).all(String::is_empty) {
            return Ok(());
        }
        let binary = |b| Op::Binary(b, Activation::NONE);
        let mean_of = Op::Reduce {
            kind: Reduction::Mean,
            axes: (axis..self.shape(x).rank()).collect(),
            keep: true,
        };
        let mean = self.aside(node, mean_of.clone(), vec![x])?;
        let centred = self.aside(node, binary(Binary::Sub), vec![x, mean])?;
        let square = self.aside(node, binary(Binary::Mul), vec![centred, centred])?;
        let variance = self.aside(node, mean_of, vec![square])?;
        let epsilon = self.single(node, epsilon);
        let variance = self.aside(node, binary(Binary::Add), vec![variance, epsilon])?;
        let deviation = self.aside(node, Op::Unary(Unary::Sqrt), vec![variance])?;
        let inverse = self.aside(node, Op::Unary(Unary::Reciprocal), vec![deviation])?;
        self.name_output(node, 1, mean);
        self.name_output(node, 2, inverse);
        Ok(())
    }

    /// The exponent may be of another type than the base.
    fn power(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let (x, mut by) = (self.input_id(node, 0)?, self.input_id(node, 1)?);
        let (base, exponent) = (self.graph.value(x).dtype, self.graph.value(by).dtype);
        if base != exponent {
            if base != DType::F32 {
                let what = format!("raises {base:?} to the power of {exponent:?}");
                return Err(self.fail(node, what));
            }
            by = self.step(node, Op::Cast { to: base }, vec![by], 1)?;
        }
        let op = Op::Binary(Binary::Pow, Activation::NONE);
        self.push(node, op, vec![x, by])
    }

    /// `x` where it is above `alpha`, else 0.
    fn thresholded(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let name = |part: &str| format!("{}/{part}", node.output[0]);
        let number = |n: f32| Constant::f32(&[], vec![n]);
        let alpha = number(self.float(node, "alpha", 1.0));
        let alpha = self.constant(&name("alpha"), alpha);
        let zero = self.constant(&name("zero"), number(0.0));
        let above = Op::Binary(Binary::Greater, Activation::NONE);
        let above = self.step(node, above, vec![x, alpha], 1)?;
        self.push(node, Op::Where, vec![above, x, zero])
    }

    /// The logarithm of a sum, or of a sum of exponentials taken relative to the largest.
    fn reduce_log(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let Some(axes) = self.reduced_axes(node, 1)? else {
            return self.alias(node);
        };
        let keep = self.int(node, "keepdims", 1) != 0;
        let reduce = |kind, keep| Op::Reduce {
            kind,
            axes: axes.clone(),
            keep,
        };
        if node.op_type == "ReduceLogSum" {
            let sum = self.step(node, reduce(Reduction::Sum, keep), vec![x], 1)?;
            return self.push(node, Op::Unary(Unary::Log), vec![sum]);
        }
        let binary = |b| Op::Binary(b, Activation::NONE);
        let top = self.step(node, reduce(Reduction::Max, true), vec![x], 1)?;
        let below = self.step(node, binary(Binary::Sub), vec![x, top], 2)?;
        let powers = self.step(node, Op::Unary(Unary::Exp), vec![below], 3)?;
        let sum = self.step(node, reduce(Reduction::Sum, keep), vec![powers], 4)?;
        let log = self.step(node, Op::Unary(Unary::Log), vec![sum], 5)?;
        let top = self.step(node, reduce(Reduction::Max, keep), vec![x], 6)?;
        self.push(node, binary(Binary::Add), vec![log, top])
    }

    fn reduce(&mut self, node: &proto::NodeProto, kind: Reduction) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let Some(axes) = self.reduced_axes(node, 1)? else {
            return self.alias(node);
        };
        let keep = self.int(node, "keepdims", 1) != 0;
        self.push(node, Op::Reduce { kind, axes, keep }, vec![x])
    }

    /// The axes a reduction names, all if it names none; `None` if it then does nothing.
    pub(super) fn reduced_axes(
        &self,
        node: &proto::NodeProto,
        at: usize,
    ) -> Result<Option<Vec<usize>>, ImportError> {
        let rank = self.shape(self.input_id(node, 0)?).rank();
        let named = match self.int_list(node, "axes") {
            Some(axes) => axes,
            None => self.known_ints(node, at)?.unwrap_or_default(),
        };
        if named.is_empty() && self.int(node, "noop_with_empty_axes", 0) != 0 {
            return Ok(None);
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
        Ok(Some(axes))
    }
}

/// The function of one input, without settings, that an ONNX op is.
fn unary(op: &str) -> Option<Unary> {
    Some(match op {
        "Relu" => Unary::Relu,
        "Sigmoid" => Unary::Sigmoid,
        "HardSwish" => Unary::HardSwish,
        "Tanh" => Unary::Tanh,
        "Softplus" => Unary::Softplus,
        "Softsign" => Unary::Softsign,
        "Mish" => Unary::Mish,
        "Erf" => Unary::Erf,
        "Exp" => Unary::Exp,
        "Log" => Unary::Log,
        "Sqrt" => Unary::Sqrt,
        "Reciprocal" => Unary::Reciprocal,
        "Neg" => Unary::Neg,
        "Abs" => Unary::Abs,
        "Sign" => Unary::Sign,
        "Floor" => Unary::Floor,
        "Ceil" => Unary::Ceil,
        "Round" => Unary::Round,
        "Sin" => Unary::Sin,
        "Cos" => Unary::Cos,
        "Not" => Unary::Not,
        _ => return None,
    })
}

/// The function of two inputs, without settings, that an ONNX op is.
fn binary(op: &str) -> Option<Binary> {
    Some(match op {
        "Add" => Binary::Add,
        "Sub" => Binary::Sub,
        "Mul" => Binary::Mul,
        "Div" => Binary::Div,
        "Equal" => Binary::Equal,
        "Greater" => Binary::Greater,
        "GreaterOrEqual" => Binary::GreaterOrEqual,
        "Less" => Binary::Less,
        "LessOrEqual" => Binary::LessOrEqual,
        "And" => Binary::And,
        "Or" => Binary::Or,
        "Xor" => Binary::Xor,
        "PRelu" => Binary::PRelu,
        _ => return None,
    })
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
