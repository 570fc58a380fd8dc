/*! Convolutions, pools, and what else slides or works on channels. */

use super::super::{ImportError, Importer};
use crate::model::graph::ValueId;
use crate::model::op::{Activation, Binary, Op, PoolKind, Unary, Window};
use crate::model::shape::Dim;
use candle_onnx::onnx as proto;

impl Importer<'_> {
    pub(super) fn spatial(&mut self, node: &proto::NodeProto) -> Result<bool, ImportError> {
        match node.op_type.as_str() {
            "Conv" => self.conv(node)?,
            "MaxPool" | "AveragePool" => self.pool(node)?,
            "GlobalAveragePool" | "GlobalMaxPool" => {
                let x = self.input_id(node, 0)?;
                let average = node.op_type == "GlobalAveragePool";
                self.push(node, Op::GlobalPool { average }, vec![x])?;
            }
            "BatchNormalization" => {
                if self.int(node, "training_mode", 0) != 0
                    || node.output.iter().skip(1).any(|o| !o.is_empty())
                {
                    return Err(self.fail(
                        node,
                        "is in training mode: export the network for inference",
                    ));
                }
                if self.int(node, "spatial", 1) != 1 {
                    self.norm_by_position(node)?;
                    return Ok(true);
                }
                let inputs = self.all_inputs(node)?;
                self.push(
                    node,
                    Op::BatchNorm {
                        epsilon: self.float(node, "epsilon", 1e-5),
                    },
                    inputs,
                )?;
            }
            "InstanceNormalization" => {
                let inputs = self.all_inputs(node)?;
                self.push(
                    node,
                    Op::InstanceNorm {
                        epsilon: self.float(node, "epsilon", 1e-5),
                    },
                    inputs,
                )?;
            }
            "LRN" => {
                let size = usize::try_from(self.int(node, "size", 0)).unwrap_or(0);
                let op = Op::Lrn {
                    alpha: self.float(node, "alpha", 1e-4),
                    beta: self.float(node, "beta", 0.75),
                    bias: self.float(node, "bias", 1.0),
                    size,
                };
                let x = self.input_id(node, 0)?;
                self.push(node, op, vec![x])?;
            }
            "Clip" => return self.clip(node),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn conv(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let inputs = self.leading(node, 3)?;
        let [x, w, ..] = inputs[..] else {
            return Err(self.fail(node, "takes an input and weights"));
        };
        let (op, inputs) = self.conv_op(node, x, w, inputs.get(2).copied())?;
        self.push(node, op, inputs)
    }

    /// A batch norm with statistics of its own for each position (`spatial` 0, up to opset 8).
    fn norm_by_position(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let inputs = self.all_inputs(node)?;
        let [x, scale, shift, mean, variance] = inputs[..] else {
            return Err(self.fail(node, "takes five inputs"));
        };
        let binary = |op| Op::Binary(op, Activation::NONE);
        let epsilon = self.single(node, self.float(node, "epsilon", 1e-5));
        let spread = self.aside(node, binary(Binary::Add), vec![variance, epsilon])?;
        let spread = self.aside(node, Op::Unary(Unary::Sqrt), vec![spread])?;
        let y = self.main(node, binary(Binary::Sub), vec![x, mean])?;
        let y = self.aside(node, binary(Binary::Div), vec![y, spread])?;
        let y = self.aside(node, binary(Binary::Mul), vec![y, scale])?;
        self.push_after(node, binary(Binary::Add), vec![y, shift])
    }

    /// A convolution as the node's attributes describe it.
    pub(super) fn conv_op(
        &self,
        node: &proto::NodeProto,
        x: ValueId,
        w: ValueId,
        bias: Option<ValueId>,
    ) -> Result<(Op, Vec<ValueId>), ImportError> {
        let kernel: Option<Vec<usize>> =
            self.shape(w).0.iter().skip(2).map(|d| d.fixed()).collect();
        let kernel =
            kernel.ok_or_else(|| self.fail(node, "the weights' shape depends on the batch"))?;
        if let Some(named) = self.int_list(node, "kernel_shape")
            && named
                .iter()
                .map(|&k| usize::try_from(k).ok())
                .ne(kernel.iter().map(|&k| Some(k)))
        {
            let what = format!("kernel_shape is {named:?}, that of its weights {kernel:?}");
            return Err(self.fail(node, what));
        }
        let (window, _) = self.window(node, self.spatial_extents(node, x)?, kernel, false)?;
        let groups = usize::try_from(self.int(node, "group", 1)).unwrap_or(0);
        let op = Op::Conv {
            window,
            groups,
            bias: bias.is_some(),
            residual: false,
            activation: Activation::NONE,
        };
        let inputs = [Some(x), Some(w), bias].into_iter().flatten();
        Ok((op, inputs.collect()))
    }

    fn pool(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let op = self.pool_op(node, x, node.op_type == "MaxPool")?;
        self.push(node, op, vec![x])
    }

    /// A pool as the node's attributes describe it.
    pub(super) fn pool_op(
        &self,
        node: &proto::NodeProto,
        x: ValueId,
        max: bool,
    ) -> Result<Op, ImportError> {
        let extents = self.spatial_extents(node, x)?;
        let kernel = self.sizes(node, "kernel_shape", extents.len(), 0)?;
        let pads = self.sizes(node, "pads", 2 * extents.len(), 0)?;
        if pads.iter().zip(kernel.iter().cycle()).any(|(p, k)| p >= k) {
            let what = format!(
                "pads {pads:?} as large as its kernel {kernel:?}: a window would see nothing else"
            );
            return Err(self.fail(node, what));
        }
        let ceil = self.int(node, "ceil_mode", 0) != 0;
        let (window, extra) = self.window(node, extents, kernel, ceil)?;
        let kind = match max {
            true => PoolKind::Max,
            false => PoolKind::Average {
                count_include_pad: self.int(node, "count_include_pad", 0) != 0,
            },
        };
        Ok(Op::Pool {
            kind,
            window,
            extra,
            column_major: self.int(node, "storage_order", 0) != 0,
        })
    }

    pub(super) fn spatial_extents(
        &self,
        node: &proto::NodeProto,
        x: ValueId,
    ) -> Result<Vec<usize>, ImportError> {
        let shape = self.shape(x);
        let extents: Option<Vec<usize>> = shape.0.iter().skip(2).map(|d| d.fixed()).collect();
        extents.filter(|e| !e.is_empty()).ok_or_else(|| {
            self.fail(
                node,
                format!("needs fixed spatial axes, its input is {shape}"),
            )
        })
    }

    /// The window a node's attributes describe over these extents, `auto_pad` and `ceil_mode`
    /// settled, and the cells at each end that only `ceil_mode` added.
    fn window(
        &self,
        node: &proto::NodeProto,
        extents: Vec<usize>,
        kernel: Vec<usize>,
        ceil: bool,
    ) -> Result<(Window, Vec<usize>), ImportError> {
        let n = extents.len();
        let strides = self.sizes(node, "strides", n, 1)?;
        let dilations = self.sizes(node, "dilations", n, 1)?;
        let flat = self.sizes(node, "pads", 2 * n, 0)?;
        const LARGEST: usize = 1 << 24;
        let odd = |list: &[usize], low| list.iter().any(|&v| v < low || v > LARGEST);
        if kernel.len() != n
            || odd(&kernel, 1)
            || odd(&strides, 1)
            || odd(&dilations, 1)
            || odd(&flat, 0)
        {
            return Err(self.fail(
                node,
                "kernel, strides, dilations or pads don't fit its input",
            ));
        }
        let reach: Vec<usize> = (0..n).map(|i| dilations[i] * (kernel[i] - 1) + 1).collect();
        let mut pads: Vec<(usize, usize)> = (0..n).map(|i| (flat[i], flat[n + i])).collect();
        let auto = self.text(node, "auto_pad", "NOTSET");
        for i in 0..n {
            match auto.as_str() {
                "NOTSET" => {}
                "VALID" => pads[i] = (0, 0),
                "SAME_UPPER" | "SAME_LOWER" => {
                    let outputs = extents[i].div_ceil(strides[i]);
                    let total = (outputs.saturating_sub(1) * strides[i] + reach[i])
                        .saturating_sub(extents[i]);
                    let (small, large) = (total / 2, total - total / 2);
                    pads[i] = if auto == "SAME_UPPER" {
                        (small, large)
                    } else {
                        (large, small)
                    };
                }
                other => return Err(self.fail(node, format!("auto_pad `{other}` is unknown"))),
            }
        }
        let mut extra = vec![0; n];
        for i in 0..n {
            let room = (extents[i] + pads[i].0 + pads[i].1).checked_sub(reach[i]);
            let room = room.ok_or_else(|| {
                self.fail(
                    node,
                    format!(
                        "the kernel reaches over {} cells, its padded input has {}",
                        reach[i],
                        extents[i] + pads[i].0 + pads[i].1
                    ),
                )
            })?;
            // A window that would start in the padding at the end is not taken.
            let starts_inside = (room / strides[i] + 1) * strides[i] < extents[i] + pads[i].0;
            if ceil && auto == "NOTSET" && room % strides[i] != 0 && starts_inside {
                extra[i] = strides[i] - room % strides[i];
                pads[i].1 += extra[i];
            }
        }
        Ok((
            Window {
                kernel,
                strides,
                dilations,
                pads,
            },
            extra,
        ))
    }

    fn clip(&mut self, node: &proto::NodeProto) -> Result<bool, ImportError> {
        let x = self.input_id(node, 0)?;
        // Up to opset 10 the bounds are attributes.
        let bound = |at: usize, name: &str, default: f32| match self.scalar(node, at)? {
            Some(value) => Ok(value),
            None if self.opset < 11 => Ok(self.float(node, name, default)),
            None => Ok(default),
        };
        let low = bound(1, "min", f32::NEG_INFINITY)?;
        let high = bound(2, "max", f32::INFINITY)?;
        self.push(node, Op::Unary(Unary::Clip { low, high }), vec![x])?;
        Ok(true)
    }

    /// The extent of axis `axis`, which may not depend on the batch.
    pub(super) fn fixed_extent(
        &self,
        node: &proto::NodeProto,
        dim: Dim,
        axis: usize,
    ) -> Result<usize, ImportError> {
        dim.fixed()
            .ok_or_else(|| self.fail(node, format!("axis {axis} depends on the batch size")))
    }
}
