/*! Ops that are several of ours, one behind the other. */

use super::super::attributes::attribute;
use super::super::{ImportError, Importer};
use crate::model::constant::Constant;
use crate::model::graph::ValueId;
use crate::model::op::{Activation, Binary, Op, PadMode, PoolKind, Reduction, Unary, Window};
use crate::model::shape::Dim;
use candle_onnx::onnx as proto;

pub(super) const fn binary(op: Binary) -> Op {
    Op::Binary(op, Activation::NONE)
}

impl Importer<'_> {
    pub(super) fn forms(&mut self, node: &proto::NodeProto) -> Result<bool, ImportError> {
        match node.op_type.as_str() {
            "GroupNormalization" | "GroupNorm" => self.group_norm(node)?,
            "RMSNormalization" | "SimplifiedLayerNormalization" => self.rms_norm(node)?,
            "MeanVarianceNormalization" => self.mean_variance(node)?,
            "LpNormalization" => self.lp_norm(node)?,
            "LpPool" => self.lp_pool(node)?,
            "GlobalLpPool" => {
                let x = self.input_id(node, 0)?;
                let axes = (2..self.shape(x).rank()).collect();
                let y = self.p_norm(node, x, |kind| Op::Reduce {
                    kind,
                    axes: Vec::clone(&axes),
                    keep: true,
                })?;
                self.name_output(node, 0, y);
            }
            "SpaceToDepth" => self.space_to_depth(node)?,
            "ConvTranspose" => self.conv_transpose(node)?,
            "Einsum" => self.einsum(node)?,
            "Celu" => {
                let x = self.input_id(node, 0)?;
                let alpha = self.single(node, self.float(node, "alpha", 1.0));
                let x = self.aside(node, binary(Binary::Div), vec![x, alpha])?;
                let y = self.main(node, Op::Unary(Unary::Elu { alpha: 1.0 }), vec![x])?;
                self.push_after(node, binary(Binary::Mul), vec![y, alpha])?;
            }
            "Shrink" => self.shrink(node)?,
            "Swish" | "QuickGelu" => {
                let x = self.input_id(node, 0)?;
                let default = if node.op_type == "Swish" { 1.0 } else { 1.702 };
                let alpha = self.single(node, self.float(node, "alpha", default));
                let scaled = self.aside(node, binary(Binary::Mul), vec![x, alpha])?;
                let gate = self.main(node, Op::Unary(Unary::Sigmoid), vec![scaled])?;
                self.push_after(node, binary(Binary::Mul), vec![x, gate])?;
            }
            "Tan" | "Sinh" | "Cosh" | "Asinh" | "Acosh" | "Atanh" => self.by_others(node)?,
            "Asin" | "Acos" | "Atan" => self.arc(node)?,
            "SwiGLU" => {
                let (gate, x) = (self.input_id(node, 0)?, self.input_id(node, 1)?);
                let alpha = self.single(node, self.float(node, "alpha", 1.0));
                let scaled = self.aside(node, binary(Binary::Mul), vec![gate, alpha])?;
                let open = self.main(node, Op::Unary(Unary::Sigmoid), vec![scaled])?;
                let gate = self.aside(node, binary(Binary::Mul), vec![gate, open])?;
                self.push_after(node, binary(Binary::Mul), vec![gate, x])?;
            }
            "Attention" => self.attention(node)?,
            "RotaryEmbedding" => self.rotary(node)?,
            "IsNaN" => {
                let x = self.input_id(node, 0)?;
                let same = self.main(node, binary(Binary::Equal), vec![x, x])?;
                self.push_after(node, Op::Unary(Unary::Not), vec![same])?;
            }
            "IsInf" => self.is_infinite(node)?,
            "CastLike" => {
                let (x, like) = (self.input_id(node, 0)?, self.input_id(node, 1)?);
                let to = self.graph.value(like).dtype;
                match self.graph.value(x).dtype == to {
                    true => self.alias(node)?,
                    false => self.push(node, Op::Cast { to }, vec![x])?,
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// One number as a constant.
    pub(super) fn single(&mut self, node: &proto::NodeProto, number: f32) -> ValueId {
        self.known(node, Constant::f32(&[], vec![number]))
    }

    /// The last step of a node whose main one came before: its output.
    pub(super) fn push_after(
        &mut self,
        node: &proto::NodeProto,
        op: Op,
        inputs: Vec<ValueId>,
    ) -> Result<(), ImportError> {
        let y = self.aside(node, op, inputs)?;
        self.name_output(node, 0, y);
        Ok(())
    }

    /// A group is seen as one channel, and normalised as one.
    fn group_norm(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        if node.op_type == "GroupNorm" && self.int(node, "channels_last", 1) != 0 {
            return Err(self.fail(node, "channels_last is not supported"));
        }
        let [x, scale, shift] = [0, 1, 2].map(|i| self.input_id(node, i));
        let (x, scale, shift) = (x?, scale?, shift?);
        let dims = self.shape(x).0.clone();
        let contrib = node.op_type == "GroupNorm";
        let groups = self.int(node, if contrib { "groups" } else { "num_groups" }, 0);
        let channels = match dims.get(1) {
            Some(&d) => self.fixed_extent(node, d, 1)?,
            None => 0,
        };
        let groups = usize::try_from(groups)
            .ok()
            .filter(|g| *g > 0 && channels % g == 0);
        let groups = groups.ok_or_else(|| {
            self.fail(
                node,
                format!("{channels} channels don't divide into its groups"),
            )
        })?;
        let inside = self.product(node, &dims[1..])?.at(1) / groups;
        let split = vec![dims[0], Dim::Fixed(groups), Dim::Fixed(inside)];
        let apart = self.seen_as(node, x, split)?;
        let ones = self.known(node, Constant::f32(&[groups], vec![1.0; groups]));
        let zeros = self.known(node, Constant::f32(&[groups], vec![0.0; groups]));
        let epsilon = self.float(node, "epsilon", 1e-5);
        let norm = Op::InstanceNorm { epsilon };
        let y = self.main(node, norm, vec![apart, ones, zeros])?;
        // Scale and shift are one a group up to opset 20, one a channel since.
        let per_group = self.shape(scale).elements(1) == groups && groups != channels;
        let (y, spread) = match per_group {
            true => (y, vec![Dim::Fixed(groups), Dim::Fixed(1)]),
            false => {
                let y = self.seen_as(node, y, dims.clone())?;
                let ones = std::iter::repeat_n(Dim::Fixed(1), dims.len() - 2);
                (
                    y,
                    std::iter::once(Dim::Fixed(channels)).chain(ones).collect(),
                )
            }
        };
        let scale = self.seen_as(node, scale, spread.clone())?;
        let shift = self.seen_as(node, shift, spread)?;
        let y = self.aside(node, binary(Binary::Mul), vec![y, scale])?;
        let mut y = self.aside(node, binary(Binary::Add), vec![y, shift])?;
        if self.int(node, "activation", 0) == 1 {
            y = self.aside(node, Op::Unary(Unary::Silu), vec![y])?;
        }
        let y = self.seen_as(node, y, dims)?;
        self.name_output(node, 0, y);
        Ok(())
    }

    /// `x / sqrt(mean(x²) + ε) · scale` over the axes from `axis` on.
    fn rms_norm(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let (x, scale) = (self.input_id(node, 0)?, self.input_id(node, 1)?);
        let rank = self.shape(x).rank();
        let axis = self.axis(node, self.int(node, "axis", -1), rank)?;
        let epsilon = self.single(node, self.float(node, "epsilon", 1e-5));
        let square = self.aside(node, binary(Binary::Mul), vec![x, x])?;
        let mean = Op::Reduce {
            kind: Reduction::Mean,
            axes: (axis..rank).collect(),
            keep: true,
        };
        let mean = self.main(node, mean, vec![square])?;
        let mean = self.aside(node, binary(Binary::Add), vec![mean, epsilon])?;
        let root = self.aside(node, Op::Unary(Unary::Sqrt), vec![mean])?;
        let y = self.aside(node, binary(Binary::Div), vec![x, root])?;
        self.push_after(node, binary(Binary::Mul), vec![y, scale])
    }

    fn mean_variance(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let rank = self.shape(x).rank();
        let named = self.int_list(node, "axes").unwrap_or_else(|| vec![0, 2, 3]);
        let axes = named.iter().map(|&a| self.axis(node, a, rank));
        let mut axes = axes.collect::<Result<Vec<_>, _>>()?;
        axes.sort_unstable();
        let mean = Op::Reduce {
            kind: Reduction::Mean,
            axes,
            keep: true,
        };
        let middle = self.main(node, mean.clone(), vec![x])?;
        let centred = self.aside(node, binary(Binary::Sub), vec![x, middle])?;
        let square = self.aside(node, binary(Binary::Mul), vec![centred, centred])?;
        let variance = self.aside(node, mean, vec![square])?;
        let deviation = self.aside(node, Op::Unary(Unary::Sqrt), vec![variance])?;
        let small = self.single(node, 1e-9);
        let deviation = self.aside(node, binary(Binary::Add), vec![deviation, small])?;
        self.push_after(node, binary(Binary::Div), vec![centred, deviation])
    }

    fn lp_norm(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let axis = self.axis(node, self.int(node, "axis", -1), self.shape(x).rank())?;
        let size = self.p_norm(node, x, |kind| Op::Reduce {
            kind,
            axes: vec![axis],
            keep: true,
        })?;
        // Nothing but zeros stays as it is.
        let zero = self.single(node, 0.0);
        let one = self.single(node, 1.0);
        let empty = self.aside(node, binary(Binary::Equal), vec![size, zero])?;
        let size = self.aside(node, Op::Where, vec![empty, one, size])?;
        self.push_after(node, binary(Binary::Div), vec![x, size])
    }

    /// The p-norm over what a reduction takes together.
    fn p_norm(
        &mut self,
        node: &proto::NodeProto,
        x: ValueId,
        reduce: impl Fn(Reduction) -> Op,
    ) -> Result<ValueId, ImportError> {
        let p = match attribute(node, "p") {
            // A float before opset 2.
            Some(a) if a.i == 0 => a.f,
            Some(a) => a.i as f32,
            None => 2.0,
        };
        if p == 1.0 {
            return self.main(node, reduce(Reduction::L1), vec![x]);
        }
        if p == 2.0 {
            return self.main(node, reduce(Reduction::L2), vec![x]);
        }
        let [power, root] = [p, 1.0 / p].map(|n| self.single(node, n));
        let size = self.aside(node, Op::Unary(Unary::Abs), vec![x])?;
        let powers = self.aside(node, binary(Binary::Pow), vec![size, power])?;
        let sum = self.main(node, reduce(Reduction::Sum), vec![powers])?;
        self.aside(node, binary(Binary::Pow), vec![sum, root])
    }

    /// The p-norm over each window: the mean of powers, padding counted, times the cells of a window.
    fn lp_pool(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let p = self.int(node, "p", 2) as f32;
        let Op::Pool {
            mut window, extra, ..
        } = self.pool_op(node, x, true)?
        else {
            return Err(self.fail(node, "is no pool"));
        };
        let cells: usize = window.kernel.iter().product();
        let [power, root] = [p, 1.0 / p].map(|n| self.single(node, n));
        let cells = self.single(node, cells as f32);
        let size = self.aside(node, Op::Unary(Unary::Abs), vec![x])?;
        let mut powers = self.aside(node, binary(Binary::Pow), vec![size, power])?;
        // Cells that only rounding up adds are zeros like any padding here.
        if window.pads.iter().any(|&p| p != (0, 0)) {
            let spatial = window.pads.iter().map(|p| (p.0 as i64, p.1 as i64));
            let pads = [(0, 0), (0, 0)].into_iter().chain(spatial).collect();
            let pad = Op::Pad {
                mode: PadMode::Constant,
                pads,
                value: 0.0,
            };
            powers = self.aside(node, pad, vec![powers])?;
            window.pads.fill((0, 0));
        }
        let pool = Op::Pool {
            kind: PoolKind::Average {
                count_include_pad: true,
            },
            extra: vec![0; extra.len()],
            window,
            column_major: false,
        };
        let mean = self.main(node, pool, vec![powers])?;
        let sum = self.aside(node, binary(Binary::Mul), vec![mean, cells])?;
        self.push_after(node, binary(Binary::Pow), vec![sum, root])
    }

    fn space_to_depth(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let dims = self.shape(x).0.clone();
        let block = usize::try_from(self.int(node, "blocksize", 0)).unwrap_or(0);
        let [n, c, h, w] = dims[..] else {
            return Err(self.fail(node, "takes a 4-D input"));
        };
        let c = self.fixed_extent(node, c, 1)?;
        let h = self.fixed_extent(node, h, 2)?;
        let w = self.fixed_extent(node, w, 3)?;
        if block == 0 || h % block != 0 || w % block != 0 {
            return Err(self.fail(
                node,
                format!("{h}×{w} doesn't divide into blocks of {block}"),
            ));
        }
        let fixed = |list: &[usize]| -> Vec<Dim> {
            let rest = list.iter().map(|&d| Dim::Fixed(d));
            std::iter::once(n).chain(rest).collect()
        };
        let (rows, columns) = (h / block, w / block);
        let apart = self.seen_as(node, x, fixed(&[c, rows, block, columns, block]))?;
        let perm = match self.text(node, "mode", "DCR").as_str() {
            "CRD" => vec![0, 1, 3, 5, 2, 4],
            _ => vec![0, 3, 5, 1, 2, 4],
        };
        let turned = self.main(node, Op::Transpose { perm }, vec![apart])?;
        let y = self.seen_as(node, turned, fixed(&[c * block * block, rows, columns]))?;
        self.name_output(node, 0, y);
        Ok(())
    }

    fn shrink(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let bound = self.float(node, "lambd", 0.5);
        let bias = self.single(node, self.float(node, "bias", 0.0));
        let [high, low, zero] = [bound, -bound, 0.0].map(|n| self.single(node, n));
        let above = self.aside(node, binary(Binary::Greater), vec![x, high])?;
        let below = self.main(node, binary(Binary::Less), vec![x, low])?;
        let less = self.aside(node, binary(Binary::Sub), vec![x, bias])?;
        let more = self.aside(node, binary(Binary::Add), vec![x, bias])?;
        let y = self.aside(node, Op::Where, vec![below, more, zero])?;
        self.push_after(node, Op::Where, vec![above, less, y])
    }

    /// Functions by those there are.
    fn by_others(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let unary = Op::Unary;
        let [one, half] = [1.0, 0.5].map(|n| self.single(node, n));
        match node.op_type.as_str() {
            "Tan" => {
                let sine = self.main(node, unary(Unary::Sin), vec![x])?;
                let cosine = self.aside(node, unary(Unary::Cos), vec![x])?;
                self.push_after(node, binary(Binary::Div), vec![sine, cosine])
            }
            "Sinh" | "Cosh" => {
                let up = self.main(node, unary(Unary::Exp), vec![x])?;
                let down = self.aside(node, unary(Unary::Neg), vec![x])?;
                let down = self.aside(node, unary(Unary::Exp), vec![down])?;
                let op = match node.op_type.as_str() {
                    "Sinh" => Binary::Sub,
                    _ => Binary::Add,
                };
                let both = self.aside(node, binary(op), vec![up, down])?;
                self.push_after(node, binary(Binary::Mul), vec![both, half])
            }
            "Atanh" => {
                let above = self.aside(node, binary(Binary::Add), vec![one, x])?;
                let below = self.aside(node, binary(Binary::Sub), vec![one, x])?;
                let ratio = self.main(node, binary(Binary::Div), vec![above, below])?;
                let log = self.aside(node, unary(Unary::Log), vec![ratio])?;
                self.push_after(node, binary(Binary::Mul), vec![log, half])
            }
            // ln(|x| + √(x² ± 1)), with the sign of x where the function is odd.
            name => {
                let op = if name == "Asinh" {
                    Binary::Add
                } else {
                    Binary::Sub
                };
                let size = self.aside(node, unary(Unary::Abs), vec![x])?;
                let square = self.aside(node, binary(Binary::Mul), vec![x, x])?;
                let square = self.aside(node, binary(op), vec![square, one])?;
                let root = self.aside(node, unary(Unary::Sqrt), vec![square])?;
                let sum = self.aside(node, binary(Binary::Add), vec![size, root])?;
                let log = self.main(node, unary(Unary::Log), vec![sum])?;
                let sign = self.aside(node, unary(Unary::Sign), vec![x])?;
                match op {
                    Binary::Add => self.push_after(node, binary(Binary::Mul), vec![log, sign]),
                    _ => {
                        self.name_output(node, 0, log);
                        Ok(())
                    }
                }
            }
        }
    }

    /// The inverse of a trigonometric function: `atan x`, `asin x = 2 atan(x / (1 + √(1 − x²)))`, and
    /// `acos x = π/2 − asin x`.
    fn arc(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        if node.op_type == "Atan" {
            let y = self.atan(node, x)?;
            self.name_output(node, 0, y);
            return Ok(());
        }
        let half = self.half_angle(node, x, Binary::Sub)?;
        let angle = self.atan(node, half)?;
        let two = self.single(node, 2.0);
        let y = self.aside(node, binary(Binary::Mul), vec![angle, two])?;
        if node.op_type == "Asin" {
            self.name_output(node, 0, y);
            return Ok(());
        }
        let right = self.single(node, std::f32::consts::FRAC_PI_2);
        self.push_after(node, binary(Binary::Sub), vec![right, y])
    }

    /// `x / (1 + √(1 ± x²))`: the tangent of half the angle that has the tangent (+) or the sine (−) x.
    fn half_angle(
        &mut self,
        node: &proto::NodeProto,
        x: ValueId,
        sign: Binary,
    ) -> Result<ValueId, ImportError> {
        let one = self.single(node, 1.0);
        let square = self.aside(node, binary(Binary::Mul), vec![x, x])?;
        let other = self.aside(node, binary(sign), vec![one, square])?;
        let root = self.aside(node, Op::Unary(Unary::Sqrt), vec![other])?;
        let below = self.aside(node, binary(Binary::Add), vec![one, root])?;
        self.main(node, binary(Binary::Div), vec![x, below])
    }

    /// The angle whose tangent is x: halved twice, which leaves tangents below √2 − 1, and there Cephes'
    /// polynomial for F32 (atanf), to 2e-7.
    fn atan(&mut self, node: &proto::NodeProto, x: ValueId) -> Result<ValueId, ImportError> {
        // Beyond 1e8 the angle is a right one in F32, and the square of what is larger overflows.
        let clip = Unary::Clip {
            low: -1e8,
            high: 1e8,
        };
        let x = self.aside(node, Op::Unary(clip), vec![x])?;
        let x = self.half_angle(node, x, Binary::Add)?;
        let x = self.half_angle(node, x, Binary::Add)?;
        let square = self.aside(node, binary(Binary::Mul), vec![x, x])?;
        let terms = [
            8.053_744_5e-2,
            -1.387_768_6e-1,
            1.997_771_1e-1,
            -3.333_295e-1,
            1.0,
        ];
        let mut sum = self.single(node, terms[0]);
        for term in &terms[1..] {
            let term = self.single(node, *term);
            sum = self.aside(node, binary(Binary::Mul), vec![sum, square])?;
            sum = self.aside(node, binary(Binary::Add), vec![sum, term])?;
        }
        let angle = self.aside(node, binary(Binary::Mul), vec![x, sum])?;
        let four = self.single(node, 4.0);
        self.aside(node, binary(Binary::Mul), vec![angle, four])
    }

    fn is_infinite(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let up = self.int(node, "detect_positive", 1) != 0;
        let down = self.int(node, "detect_negative", 1) != 0;
        let (x, bound) = match (up, down) {
            (true, true) => (
                self.aside(node, Op::Unary(Unary::Abs), vec![x])?,
                f32::INFINITY,
            ),
            (true, false) => (x, f32::INFINITY),
            (false, true) => (x, f32::NEG_INFINITY),
            (false, false) => return Err(self.fail(node, "looks for no infinity")),
        };
        let bound = self.single(node, bound);
        self.push(node, binary(Binary::Equal), vec![x, bound])
    }

    /// The input with zeros between its cells, convolved with the kernel turned round.
    fn conv_transpose(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let inputs = self.leading(node, 3)?;
        let [x, w, ..] = inputs[..] else {
            return Err(self.fail(node, "takes an input and weights"));
        };
        let extents = self.spatial_extents(node, x)?;
        let n = extents.len();
        let known = self.graph.constants.get(&w).cloned();
        let weights = known.filter(|c| c.shape.len() == n + 2);
        let Some(weights) = weights else {
            return Err(self.unknown_input(node, &node.input[1], "weights"));
        };
        let groups = usize::try_from(self.int(node, "group", 1)).unwrap_or(0);
        if groups == 0 || weights.shape[0] % groups != 0 {
            return Err(self.fail(node, format!("{groups} groups don't fit its weights")));
        }
        let kernel = weights.shape[2..].to_vec();
        let strides = self.sizes(node, "strides", n, 1)?;
        let dilations = self.sizes(node, "dilations", n, 1)?;
        let more = self.sizes(node, "output_padding", n, 0)?;
        let reach: Vec<usize> = (0..n).map(|i| dilations[i] * (kernel[i] - 1) + 1).collect();
        if strides.contains(&0) || dilations.contains(&0) || kernel.contains(&0) {
            return Err(self.fail(node, "a stride, dilation or kernel of 0"));
        }
        let pads = self.transposed_pads(node, &extents, &strides, &reach, &more)?;
        let mut wide = self.spaced(node, x, &extents, &strides)?;
        // What is left of the kernel's reach around the input; less than nothing is cut off.
        let around: Vec<(i64, i64)> = (0..n)
            .map(|i| {
                let reach = reach[i] as i64 - 1;
                (reach - pads[i].0, reach - pads[i].1 + more[i] as i64)
            })
            .collect();
        let mut inside = vec![(0, 0); n];
        if around.iter().any(|p| p.0 < 0 || p.1 < 0) {
            let all = [(0, 0), (0, 0)].into_iter().chain(around.iter().copied());
            let pad = Op::Pad {
                mode: PadMode::Constant,
                pads: all.collect(),
                value: 0.0,
            };
            wide = self.aside(node, pad, vec![wide])?;
        } else {
            inside = around
                .iter()
                .map(|p| (p.0 as usize, p.1 as usize))
                .collect();
        }
        let turned = turned_round(&weights, groups);
        let turned = turned.ok_or_else(|| self.fail(node, "its weights are no floats"))?;
        let turned = self.known(node, turned);
        if let Some(size) = self.unclaimed.remove(&w) {
            self.unclaimed.insert(turned, size);
        }
        let op = Op::Conv {
            window: Window {
                kernel,
                strides: vec![1; n],
                dilations,
                pads: inside,
            },
            groups,
            bias: inputs.len() == 3,
            residual: false,
            activation: Activation::NONE,
        };
        let inputs = [&[wide, turned], &inputs[2..]].concat();
        self.push(node, op, inputs)
    }

    /// The input with stride − 1 zeros behind each cell but the last of each spatial axis.
    fn spaced(
        &mut self,
        node: &proto::NodeProto,
        x: ValueId,
        extents: &[usize],
        strides: &[usize],
    ) -> Result<ValueId, ImportError> {
        if strides.iter().all(|&s| s == 1) {
            return Ok(x);
        }
        let dims = self.shape(x).0.clone();
        let mut apart = dims[..2].to_vec();
        let mut fill = vec![(0, 0); 2];
        let mut joined = dims[..2].to_vec();
        let mut crop = vec![(0, 0); 2];
        for (&extent, &stride) in extents.iter().zip(strides) {
            apart.extend([Dim::Fixed(extent), Dim::Fixed(1)]);
            fill.extend([(0, 0), (0, stride as i64 - 1)]);
            joined.push(Dim::Fixed(extent * stride));
            crop.push((0, 1 - stride as i64));
        }
        let pad = |pads| Op::Pad {
            mode: PadMode::Constant,
            pads,
            value: 0.0,
        };
        let wide = self.seen_as(node, x, apart)?;
        let wide = self.aside(node, pad(fill), vec![wide])?;
        let wide = self.seen_as(node, wide, joined)?;
        self.aside(node, pad(crop), vec![wide])
    }

    /// Cells that a transposed convolution leaves out at each end of its result.
    fn transposed_pads(
        &self,
        node: &proto::NodeProto,
        extents: &[usize],
        strides: &[usize],
        reach: &[usize],
        more: &[usize],
    ) -> Result<Vec<(i64, i64)>, ImportError> {
        let n = extents.len();
        let flat = self.sizes(node, "pads", 2 * n, 0)?;
        let shape = self.int_list(node, "output_shape");
        let shape = shape.map(|s| s[s.len().saturating_sub(n)..].to_vec());
        let auto = self.text(node, "auto_pad", "NOTSET");
        let mut pads: Vec<(i64, i64)> = (0..n)
            .map(|i| (flat[i] as i64, flat[n + i] as i64))
            .collect();
        for i in 0..n {
            let full = (strides[i] * (extents[i] - 1) + more[i] + reach[i]) as i64;
            let same = auto
                .starts_with("SAME")
                .then(|| (extents[i] * strides[i]) as i64);
            let wanted = shape.as_ref().and_then(|s| s.get(i).copied()).or(same);
            if auto == "VALID" {
                pads[i] = (0, 0);
            }
            if let Some(wanted) = wanted {
                let total = match shape {
                    Some(_) => full - wanted,
                    None => (full - wanted).max(0),
                };
                let (small, large) = (total / 2, total - total / 2);
                pads[i] = match auto.as_str() {
                    // What is asked for beyond the full result comes behind it.
                    _ if total < 0 => (0, total),
                    "SAME_UPPER" => (small, large),
                    _ => (large, small),
                };
            }
        }
        Ok(pads)
    }
}

/// Weights `[in, out/groups, …]` as those of the convolution that does the same: `[out, in/groups, …]`,
/// each kernel turned round.
fn turned_round(weights: &Constant, groups: usize) -> Option<Constant> {
    let data = weights.floats()?;
    let (inputs, out) = (weights.shape[0], weights.shape[1]);
    let taps: usize = weights.shape[2..].iter().product();
    let deep = inputs / groups;
    let mut turned = vec![0.0; data.len()];
    for (i, kernel) in data.chunks(taps.max(1)).enumerate() {
        let (input, output) = (i / out, i % out);
        let (group, inner) = (input / deep, input % deep);
        let at = ((group * out + output) * deep + inner) * taps;
        for (t, &tap) in kernel.iter().rev().enumerate() {
            turned[at + t] = tap;
        }
    }
    let shape = [&[out * groups, deep], &weights.shape[2..]].concat();
    Some(Constant::f32(&shape, turned))
}
