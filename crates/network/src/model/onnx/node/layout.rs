/*! Ops that move elements without computing: shapes, slices, pads, joins. */

use super::super::ints::Int;
use super::super::{ImportError, Importer};
use crate::model::constant::{Constant, Data};
use crate::model::infer;
use crate::model::op::{Op, PadMode, SliceRange};
use crate::model::shape::{Dim, Shape};
use candle_onnx::onnx as proto;
use std::sync::Arc;

impl Importer<'_> {
    pub(super) fn layout(&mut self, node: &proto::NodeProto) -> Result<bool, ImportError> {
        match node.op_type.as_str() {
            "Reshape" => {
                let to = self.reshape_target(node)?;
                self.reshape(node, to)?;
            }
            "Flatten" => self.flatten(node)?,
            "Squeeze" | "Unsqueeze" => {
                let to = self.squeezed(node)?;
                self.reshape(node, to)?;
            }
            "Transpose" => self.transpose(node)?,
            "Concat" => {
                let inputs = self.all_inputs(node)?;
                let first = *inputs
                    .first()
                    .ok_or_else(|| self.fail(node, "has no inputs"))?;
                let axis = self.axis(node, self.int(node, "axis", 1), self.shape(first).rank())?;
                self.push(node, Op::Concat { axis }, inputs)?;
            }
            "Split" => self.split(node)?,
            "Slice" => {
                let x = self.input_id(node, 0)?;
                let dims = self.shape(x).0.clone();
                let ranges = self.slice_ranges(node, &dims)?;
                self.push(node, Op::Slice { ranges }, vec![x])?;
            }
            "Pad" => self.pad(node)?,
            "Gather" => {
                let inputs = self.all_inputs(node)?;
                let x = self.input_id(node, 0)?;
                let axis = self.axis(node, self.int(node, "axis", 0), self.shape(x).rank())?;
                self.push(node, Op::Gather { axis }, inputs)?;
            }
            "GatherND" => self.gather_nd(node)?,
            "Expand" => {
                let x = self.input_id(node, 0)?;
                let target = self.target_dims(node, 1)?;
                let to = infer::broadcast(self.shape(x), &Shape(target));
                let to = to.map_err(|e| self.fail(node, e.to_string()))?.0;
                self.push(node, Op::Expand { to }, vec![x])?;
            }
            "Tile" => {
                let x = self.input_id(node, 0)?;
                let repeats = self.known_ints(node, 1)?.unwrap_or_default();
                let repeats: Option<Vec<usize>> =
                    repeats.iter().map(|&n| usize::try_from(n).ok()).collect();
                let repeats = repeats.ok_or_else(|| self.fail(node, "negative repeats"))?;
                self.push(node, Op::Tile { repeats }, vec![x])?;
            }
            "Resize" | "Upsample" => self.resize(node)?,
            "DepthToSpace" => self.depth_to_space(node)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn flatten(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let dims = self.shape(self.input_id(node, 0)?).0.clone();
        let axis = self.int(node, "axis", 1);
        // One past the last axis is allowed.
        let axis = if axis < 0 {
            axis + dims.len() as i64
        } else {
            axis
        };
        let axis = usize::try_from(axis).ok().filter(|&a| a <= dims.len());
        let axis = axis.ok_or_else(|| self.fail(node, "the axis is out of range"))?;
        let to = vec![
            self.product(node, &dims[..axis])?,
            self.product(node, &dims[axis..])?,
        ];
        self.reshape(node, to)
    }

    /// A transposition; of a constant, a constant in the new order.
    fn transpose(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let rank = self.shape(x).rank();
        let perm = match self.int_list(node, "perm") {
            Some(_) => self.sizes(node, "perm", rank, 0)?,
            None => (0..rank).rev().collect(),
        };
        let folded = self.graph.constants.get(&x).filter(|_| {
            let mut sorted = perm.clone();
            sorted.sort_unstable();
            sorted.into_iter().eq(0..rank)
        });
        let Some(constant) = folded.map(|c| transposed(c, &perm)) else {
            return self.push(node, Op::Transpose { perm }, vec![x]);
        };
        let id = self.constant(&node.output[0], constant);
        if let Some(size) = self.unclaimed.remove(&x) {
            self.unclaimed.insert(id, size);
        }
        self.env.insert(node.output[0].clone(), id);
        Ok(())
    }

    /// A reshape; of a constant, a constant with the same data.
    fn reshape(&mut self, node: &proto::NodeProto, to: Vec<Dim>) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let fixed: Option<Vec<usize>> = to.iter().map(|d| d.fixed()).collect();
        if let (Some(constant), Some(shape)) = (self.graph.constants.get(&x), fixed) {
            let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
            if count != Some(constant.len()) {
                let what = format!("{} elements don't fit {shape:?}", constant.len());
                return Err(self.fail(node, what));
            }
            let reshaped = Constant {
                shape,
                data: constant.data.clone(),
            };
            let id = self.constant(&node.output[0], reshaped);
            if let Some(size) = self.unclaimed.remove(&x) {
                self.unclaimed.insert(id, size);
            }
            self.env.insert(node.output[0].clone(), id);
            return Ok(());
        }
        if self.shape(x).0 == to {
            return self.alias(node);
        }
        self.push(node, Op::Reshape { to }, vec![x])
    }

    fn target(&self, node: &proto::NodeProto, at: usize) -> Result<Vec<Int>, ImportError> {
        if let Some(list) = (at == 1).then(|| self.int_list(node, "shape")).flatten() {
            return Ok(list.into_iter().map(Int::new).collect());
        }
        let id = self.input_id(node, at)?;
        let ints = self.ints(id).map(|i| i.values);
        ints.ok_or_else(|| self.unknown_input(node, &node.input[at], "a shape"))
    }

    /// A shape input as extents, none of which may be inferred.
    fn target_dims(&self, node: &proto::NodeProto, at: usize) -> Result<Vec<Dim>, ImportError> {
        let dims: Option<Vec<Dim>> = self.target(node, at)?.into_iter().map(Int::dim).collect();
        dims.ok_or_else(|| self.fail(node, "the shape holds something that is no extent"))
    }

    /// The extents `Reshape` asks for: 0 copies (unless `allowzero`), −1 takes the rest.
    fn reshape_target(&self, node: &proto::NodeProto) -> Result<Vec<Dim>, ImportError> {
        let from = self.shape(self.input_id(node, 0)?).0.clone();
        let target = self.target(node, 1)?;
        let allow_zero = self.int(node, "allowzero", 0) != 0;
        let mut to = Vec::new();
        let mut rest = None;
        for (axis, int) in target.iter().enumerate() {
            match int.known() {
                Some(-1) if rest.is_none() => {
                    rest = Some(axis);
                    to.push(Dim::Fixed(1));
                }
                Some(0) if !allow_zero => {
                    let copied = from.get(axis).copied();
                    to.push(copied.ok_or_else(|| {
                        self.fail(
                            node,
                            format!("axis {axis} copies an axis the input doesn't have"),
                        )
                    })?);
                }
                _ => {
                    let dim = int.dim();
                    to.push(dim.ok_or_else(|| {
                        self.fail(node, format!("{int} on axis {axis} is no extent"))
                    })?);
                }
            }
        }
        if let Some(axis) = rest {
            to[axis] = self.quotient(node, &from, &to)?;
        }
        Ok(to)
    }

    /// What is left of `from`'s elements for the axis that takes the rest.
    fn quotient(
        &self,
        node: &proto::NodeProto,
        from: &[Dim],
        known: &[Dim],
    ) -> Result<Dim, ImportError> {
        let volume = |dims: &[Dim]| infer::volume(&Shape(dims.to_vec()));
        let fail = || {
            self.fail(
                node,
                format!(
                    "{} doesn't fit what is asked for ({})",
                    Shape(from.to_vec()),
                    Shape(known.to_vec())
                ),
            )
        };
        let (all, taken) = (
            volume(from).ok_or_else(fail)?,
            volume(known).ok_or_else(fail)?,
        );
        if taken.fixed == 0 || all.fixed % taken.fixed != 0 {
            return Err(fail());
        }
        let left = all.fixed / taken.fixed;
        match all.degree.checked_sub(taken.degree) {
            Some(0) => Ok(Dim::Fixed(left)),
            Some(1) => Ok(Dim::Batch(left)),
            _ => Err(fail()),
        }
    }

    fn squeezed(&self, node: &proto::NodeProto) -> Result<Vec<Dim>, ImportError> {
        let from = self.shape(self.input_id(node, 0)?).0.clone();
        let named = match self.int_list(node, "axes") {
            Some(axes) => Some(axes),
            None => self.known_ints(node, 1)?,
        };
        if node.op_type == "Squeeze" {
            let Some(named) = named else {
                return Ok(from.into_iter().filter(|&d| d != Dim::Fixed(1)).collect());
            };
            let mut to: Vec<Option<Dim>> = from.iter().copied().map(Some).collect();
            for axis in named {
                let axis = self.axis(node, axis, from.len())?;
                if from[axis] != Dim::Fixed(1) {
                    return Err(self.fail(node, format!("axis {axis} is {}, not 1", from[axis])));
                }
                to[axis] = None;
            }
            return Ok(to.into_iter().flatten().collect());
        }
        let named = named.ok_or_else(|| self.fail(node, "names no axes"))?;
        let rank = from.len() + named.len();
        let mut new = vec![false; rank];
        for axis in named {
            new[self.axis(node, axis, rank)?] = true;
        }
        if new.iter().filter(|&&n| !n).count() != from.len() {
            return Err(self.fail(node, "names an axis twice"));
        }
        let mut rest = from.into_iter();
        Ok(new
            .iter()
            .filter_map(|&n| if n { Some(Dim::Fixed(1)) } else { rest.next() })
            .collect())
    }

    fn split(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let shape = self.shape(x).clone();
        let axis = self.axis(node, self.int(node, "axis", 0), shape.rank())?;
        let extent = self.fixed_extent(node, shape.0[axis], axis)?;
        let named = match self.int_list(node, "split") {
            Some(sizes) => Some(sizes),
            None => self.known_ints(node, 1)?,
        };
        let sizes = match named {
            Some(sizes) => {
                let sizes: Option<Vec<usize>> =
                    sizes.iter().map(|&n| usize::try_from(n).ok()).collect();
                sizes.ok_or_else(|| self.fail(node, "a negative size"))?
            }
            None => {
                let n = node.output.len();
                let each = extent.div_ceil(n.max(1));
                (0..n)
                    .map(|i| each.min(extent.saturating_sub(i * each)))
                    .collect()
            }
        };
        if sizes.len() != node.output.len() {
            return Err(self.fail(
                node,
                format!("{} sizes for {} outputs", sizes.len(), node.output.len()),
            ));
        }
        self.push(node, Op::Split { axis, sizes }, vec![x])
    }

    /// What a `Slice` takes of each axis, from attributes (opset 9) or inputs.
    pub(in super::super) fn slice_ranges(
        &self,
        node: &proto::NodeProto,
        dims: &[Dim],
    ) -> Result<Vec<Option<SliceRange>>, ImportError> {
        let list = |name: &str, at: usize| match self.int_list(node, name) {
            Some(list) => Ok(Some(list)),
            None => self.known_ints(node, at),
        };
        let missing = || self.fail(node, "starts or ends are missing");
        let starts = list("starts", 1)?.ok_or_else(missing)?;
        let ends = list("ends", 2)?.ok_or_else(missing)?;
        let axes = list("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = list("steps", 4)?.unwrap_or_else(|| vec![1; starts.len()]);
        if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
            return Err(self.fail(node, "starts, ends, axes and steps differ in length"));
        }
        let mut ranges = vec![None; dims.len()];
        for i in 0..starts.len() {
            let axis = self.axis(node, axes[i], dims.len())?;
            let (start, end, step) = (starts[i], ends[i], steps[i]);
            let Dim::Fixed(extent) = dims[axis] else {
                // All of the batch is the only slice of it that means the same at every size.
                if start == 0 && step == 1 && end >= i64::from(i32::MAX) {
                    continue;
                }
                return Err(self.fail(node, "slices the batch"));
            };
            let n = extent as i64;
            let from_front = |v: i64| if v < 0 { v.saturating_add(n) } else { v };
            let (start, count) = match step {
                0 => return Err(self.fail(node, "a step of 0")),
                1.. => {
                    let start = from_front(start).clamp(0, n);
                    let end = from_front(end).clamp(0, n);
                    let span = (end - start).max(0);
                    (start, span / step + i64::from(span % step != 0))
                }
                _ => {
                    let start = from_front(start).clamp(0, (n - 1).max(0));
                    let end = from_front(end).clamp(-1, (n - 1).max(0));
                    let span = if n == 0 { 0 } else { (start - end).max(0) };
                    let back = step.unsigned_abs() as i64;
                    let back = if back <= 0 { i64::MAX } else { back };
                    (start, span / back + i64::from(span % back != 0))
                }
            };
            ranges[axis] = Some(SliceRange {
                start: start as usize,
                step,
                count: count as usize,
            });
        }
        Ok(ranges)
    }

    fn pad(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let rank = self.shape(x).rank();
        let list = match self.int_list(node, "pads") {
            Some(pads) => pads,
            None => self
                .known_ints(node, 1)?
                .ok_or_else(|| self.fail(node, "pads are missing"))?,
        };
        let axes: Vec<usize> = match self.known_ints(node, 3)? {
            Some(axes) => axes
                .iter()
                .map(|&a| self.axis(node, a, rank))
                .collect::<Result<_, _>>()?,
            None => (0..rank).collect(),
        };
        if list.len() != 2 * axes.len() {
            return Err(self.fail(node, format!("{} pads for {} axes", list.len(), axes.len())));
        }
        let mut pads = vec![(0, 0); rank];
        for (i, &axis) in axes.iter().enumerate() {
            pads[axis] = (list[i], list[axes.len() + i]);
        }
        let mode = match self.text(node, "mode", "constant").as_str() {
            "constant" => PadMode::Constant,
            "reflect" => PadMode::Reflect,
            "edge" => PadMode::Edge,
            "wrap" => PadMode::Wrap,
            other => return Err(self.fail(node, format!("mode `{other}` is unknown"))),
        };
        let given = self.scalar(node, 2)?;
        let value = given.unwrap_or_else(|| self.float(node, "value", 0.0));
        self.push(node, Op::Pad { mode, pads, value }, vec![x])
    }

    fn depth_to_space(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let dims = self.shape(x).0.clone();
        let block = usize::try_from(self.int(node, "blocksize", 0)).unwrap_or(0);
        let [n, c, h, w] = dims[..] else {
            return Err(self.fail(node, "takes a 4-D input"));
        };
        let (c, h, w) = (
            self.fixed_extent(node, c, 1)?,
            self.fixed_extent(node, h, 2)?,
            self.fixed_extent(node, w, 3)?,
        );
        if block == 0 || block > 1024 || c % (block * block) != 0 {
            return Err(self.fail(
                node,
                format!("{c} channels don't divide into blocks of {block}×{block}"),
            ));
        }
        let out = c / (block * block);
        let crd = self.text(node, "mode", "DCR") == "CRD";
        let (split, perm) = match crd {
            true => ([out, block, block], vec![0, 1, 4, 2, 5, 3]),
            false => ([block, block, out], vec![0, 3, 4, 1, 5, 2]),
        };
        let mut six = vec![n];
        six.extend(split.iter().chain(&[h, w]).map(|&d| Dim::Fixed(d)));
        let apart = self.step(node, Op::Reshape { to: six }, vec![x], 1)?;
        let turned = self.step(node, Op::Transpose { perm }, vec![apart], 2)?;
        let to = vec![
            n,
            Dim::Fixed(out),
            Dim::Fixed(h * block),
            Dim::Fixed(w * block),
        ];
        self.push(node, Op::Reshape { to }, vec![turned])
    }
}

/// The elements of a constant in a new order of axes.
fn transposed(constant: &Constant, perm: &[usize]) -> Constant {
    let shape: Vec<usize> = perm.iter().map(|&p| constant.shape[p]).collect();
    let mut strides = vec![1usize; constant.shape.len()];
    for i in (0..strides.len().saturating_sub(1)).rev() {
        strides[i] = strides[i + 1] * constant.shape[i + 1];
    }
    let mut at = vec![0usize; shape.len()];
    let order = (0..constant.len()).map(|_| {
        let from = at.iter().zip(perm).map(|(i, &p)| i * strides[p]).sum();
        for axis in (0..shape.len()).rev() {
            at[axis] += 1;
            if at[axis] < shape[axis] {
                break;
            }
            at[axis] = 0;
        }
        from
    });
    let data = match &constant.data {
        Data::F32(data) => Data::F32(Arc::new(order.map(|i: usize| data[i]).collect())),
        Data::I64(data) => Data::I64(Arc::new(order.map(|i: usize| data[i]).collect())),
        Data::I32(data) => Data::I32(Arc::new(order.map(|i: usize| data[i]).collect())),
        Data::U8(data) => Data::U8(Arc::new(order.map(|i: usize| data[i]).collect())),
        Data::I8(data) => Data::I8(Arc::new(order.map(|i: usize| data[i]).collect())),
        Data::Bool(data) => Data::Bool(Arc::new(order.map(|i: usize| data[i]).collect())),
    };
    Constant { shape, data }
}
