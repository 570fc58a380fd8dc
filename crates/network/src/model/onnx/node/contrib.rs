/*! Ops that ONNX Runtime's optimiser writes (domain com.microsoft): several of ONNX's fused to one. */

use super::super::attributes::attribute;
use super::super::{ImportError, Importer};
use crate::model::constant::DType;
use crate::model::graph::ValueId;
use crate::model::op::{Activation, Binary, Op, Unary};
use candle_onnx::onnx as proto;

const fn binary(op: Binary) -> Op {
    Op::Binary(op, Activation::NONE)
}

impl Importer<'_> {
    /// Ops of this domain alone; where it shares a name with ONNX, it shares the meaning too.
    pub(super) fn contrib(&mut self, node: &proto::NodeProto) -> Result<bool, ImportError> {
        match node.op_type.as_str() {
            "FusedConv" => self.fused_conv(node)?,
            "FusedGemm" => {
                let op = Op::Gemm {
                    trans_a: self.int(node, "transA", 0) != 0,
                    trans_b: self.int(node, "transB", 0) != 0,
                    alpha: self.float(node, "alpha", 1.0),
                    beta: self.float(node, "beta", 1.0),
                    activation: Activation::NONE,
                };
                let inputs = self.leading(node, 3)?;
                let y = self.main(node, op, inputs)?;
                let activation = self.text(node, "activation", "");
                let parameters = [
                    self.float(node, "activation_alpha", 0.0),
                    self.float(node, "activation_beta", 0.0),
                ];
                let y = self.activated(node, y, &activation, &parameters)?;
                self.name_output(node, 0, y);
            }
            "FusedMatMul" | "TransposeMatMul" => self.fused_matmul(node)?,
            "BiasGelu" | "FastGelu" => {
                let mut x = self.input_id(node, 0)?;
                if let Some(bias) = self.optional(node, 1) {
                    x = self.aside(node, binary(Binary::Add), vec![x, bias])?;
                }
                let tanh = node.op_type == "FastGelu";
                let y = self.main(node, Op::Unary(Unary::Gelu { tanh }), vec![x])?;
                self.name_output(node, 0, y);
            }
            "SkipLayerNormalization" => self.skip_layer_norm(node)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn activated(
        &mut self,
        node: &proto::NodeProto,
        x: ValueId,
        name: &str,
        parameters: &[f32],
    ) -> Result<ValueId, ImportError> {
        let at = |i: usize, default: f32| parameters.get(i).copied().unwrap_or(default);
        let unary = match name {
            "" => return Ok(x),
            "Relu" => Unary::Relu,
            "Sigmoid" => Unary::Sigmoid,
            "Tanh" => Unary::Tanh,
            "Gelu" => Unary::Gelu { tanh: false },
            "LeakyRelu" => Unary::LeakyRelu { alpha: at(0, 0.01) },
            "Clip" => Unary::Clip {
                low: at(0, f32::NEG_INFINITY),
                high: at(1, f32::INFINITY),
            },
            "HardSigmoid" => Unary::HardSigmoid {
                alpha: at(0, 0.2),
                beta: at(1, 0.5),
            },
            other => return Err(self.fail(node, format!("the activation `{other}` is unknown"))),
        };
        self.aside(node, Op::Unary(unary), vec![x])
    }

    fn fused_conv(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let (x, w) = (self.input_id(node, 0)?, self.input_id(node, 1)?);
        let bias = self.optional(node, 2);
        let (op, inputs) = self.conv_op(node, x, w, bias)?;
        let mut y = self.main(node, op, inputs)?;
        if let Some(sum) = self.optional(node, 3) {
            y = self.aside(node, binary(Binary::Add), vec![y, sum])?;
        }
        let activation = self.text(node, "activation", "");
        let parameters = attribute(node, "activation_params").map(|a| a.floats.clone());
        let y = self.activated(node, y, &activation, &parameters.unwrap_or_default())?;
        self.name_output(node, 0, y);
        Ok(())
    }

    fn fused_matmul(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        for name in ["transBatchA", "transBatchB"] {
            if self.int(node, name, 0) != 0 {
                return Err(self.fail(node, format!("{name} is not supported")));
            }
        }
        let mut inputs = self.all_inputs(node)?;
        for (x, name) in inputs.iter_mut().zip(["transA", "transB"]) {
            if self.int(node, name, 0) != 0 {
                let rank = self.shape(*x).rank();
                if rank < 2 {
                    return Err(self.fail(node, "transposes a vector"));
                }
                let mut perm: Vec<usize> = (0..rank).collect();
                perm.swap(rank - 2, rank - 1);
                *x = self.aside(node, Op::Transpose { perm }, vec![*x])?;
            }
        }
        let mut y = self.main(node, Op::MatMul, inputs)?;
        let alpha = self.float(node, "alpha", 1.0);
        if alpha != 1.0 {
            let alpha = self.single(node, alpha);
            y = self.aside(node, binary(Binary::Mul), vec![y, alpha])?;
        }
        self.name_output(node, 0, y);
        Ok(())
    }

    fn skip_layer_norm(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let (x, skip) = (self.input_id(node, 0)?, self.input_id(node, 1)?);
        let mut sum = self.aside(node, binary(Binary::Add), vec![x, skip])?;
        if let Some(bias) = self.optional(node, 4) {
            sum = self.aside(node, binary(Binary::Add), vec![sum, bias])?;
        }
        let axis = self.shape(sum).rank() - 1;
        let epsilon = self.float(node, "epsilon", 1e-12);
        let scale = self.input_id(node, 2)?;
        let inputs = [Some(sum), Some(scale), self.optional(node, 3)];
        let inputs = inputs.into_iter().flatten().collect();
        let y = self.main(node, Op::LayerNorm { axis, epsilon }, inputs)?;
        self.name_output(node, 0, y);
        if node.output.get(3).is_some_and(|o| !o.is_empty()) {
            self.name_output(node, 3, sum);
        }
        Ok(())
    }

    /// A product of operands of two types, one of them whole values held as floats.
    pub(super) fn alike(
        &mut self,
        node: &proto::NodeProto,
        [a, b]: [ValueId; 2],
    ) -> Result<[ValueId; 2], ImportError> {
        let float = |v| self.graph.value(v).dtype == DType::F32;
        let (fa, fb) = (float(a), float(b));
        Ok(
            match (fa && self.whole.contains(&a), fb && self.whole.contains(&b)) {
                (true, _) if !fb => [a, self.as_floats(node, b)?],
                (_, true) if !fa => [self.as_floats(node, a)?, b],
                _ => [a, b],
            },
        )
    }
}
