/*!
Resize as ONNX defines it. Doubling and the other plain forms have an op of their own; every other
form works axis by axis with what is known now: nearest picks elements, linear and cubic are
products with a matrix of weights.
*/

use super::super::{ImportError, Importer};
use crate::model::constant::Constant;
use crate::model::graph::ValueId;
use crate::model::op::Op;
use crate::model::shape::Dim;
use candle_onnx::onnx as proto;

/// Most elements of a matrix of weights.
const MAX_WEIGHTS: usize = 1 << 26;

/// What one axis becomes.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Axis {
    axis: usize,
    from: usize,
    to: usize,
    /// Output cells per input cell, as the file gives it or as the extents do.
    scale: f32,
    /// Start and end of the part that is resized (`tf_crop_and_resize`).
    region: (f32, f32),
}

/// The settings of a node.
struct Resize {
    mode: String,
    coordinates: String,
    rounding: String,
    cubic: f32,
    exclude_outside: bool,
    antialias: bool,
}

impl Importer<'_> {
    pub(super) fn resize(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let old = node.op_type == "Upsample" || self.opset < 11;
        let axes = self.resized_axes(node, x, old)?;
        let coordinates = if old { "asymmetric" } else { "half_pixel" };
        let mut settings = Resize {
            mode: self.text(node, "mode", "nearest"),
            coordinates: self.text(node, "coordinate_transformation_mode", coordinates),
            rounding: self.text(node, "nearest_mode", "round_prefer_floor"),
            cubic: self.float(node, "cubic_coeff_a", -0.75),
            exclude_outside: self.int(node, "exclude_outside", 0) != 0,
            antialias: self.int(node, "antialias", 0) != 0,
        };
        if settings.mode == "bilinear" {
            settings.mode = "linear".to_string();
        }
        if old {
            settings.rounding = "floor".to_string();
        }
        let known = |list: &[&str], text: &str| list.contains(&text);
        if !known(&["nearest", "linear", "cubic"], &settings.mode) {
            return Err(self.fail(node, format!("mode `{}` is unknown", settings.mode)));
        }
        if settings.coordinates == "tf_crop_and_resize"
            && self.float(node, "extrapolation_value", 0.0) != 0.0
        {
            return Err(self.fail(node, "an extrapolation_value other than 0 is not supported"));
        }
        let rank = self.shape(x).rank();
        if let Some(op) = settings.plain(&axes, rank) {
            return self.push(node, op, vec![x]);
        }
        let mut y = x;
        for axis in &axes {
            y = self.resized(node, y, *axis, &settings)?;
        }
        self.name_output(node, 0, y);
        Ok(())
    }

    /// Sets what each axis becomes, by the policy on proportions, the sizes, or else the scales.
    fn extents_of(
        &self,
        node: &proto::NodeProto,
        axes: &mut [Axis],
        named: &[usize],
        sizes: Option<&[i64]>,
    ) -> Result<(), ImportError> {
        let policy = self.text(node, "keep_aspect_ratio_policy", "stretch");
        let common = match (policy.as_str(), sizes) {
            ("not_larger", Some(_)) => axes.iter().map(|a| a.scale).reduce(f32::min),
            ("not_smaller", Some(_)) => axes.iter().map(|a| a.scale).reduce(f32::max),
            _ => None,
        };
        for (i, axis) in axes.iter_mut().enumerate() {
            let extent = axis.from as f32;
            let cropped = extent * (axis.region.1 - axis.region.0);
            let to = match (common, sizes) {
                (Some(scale), _) => {
                    axis.scale = scale;
                    (scale * extent + 0.5).floor()
                }
                (None, Some(sizes)) => {
                    let at = named.iter().position(|&a| a == axis.axis).unwrap_or(i);
                    sizes[at] as f32
                }
                (None, None) => (cropped * axis.scale).floor(),
            };
            if !(1.0..=65_536.0).contains(&to) {
                return Err(self.fail(node, format!("resizes axis {} to {to} cells", axis.axis)));
            }
            axis.to = to as usize;
        }
        Ok(())
    }

    /// The axes a node names with what they become, those that stay left out.
    fn resized_axes(
        &self,
        node: &proto::NodeProto,
        x: ValueId,
        old: bool,
    ) -> Result<Vec<Axis>, ImportError> {
        let dims = self.shape(x).0.clone();
        let (scales_at, sizes_at) = if old { (1, usize::MAX) } else { (2, 3) };
        let named: Vec<usize> = match self.int_list(node, "axes") {
            Some(list) => list
                .iter()
                .map(|&a| self.axis(node, a, dims.len()))
                .collect::<Result<_, _>>()?,
            None => (0..dims.len()).collect(),
        };
        let regions = match self
            .text(node, "coordinate_transformation_mode", "")
            .as_str()
        {
            "tf_crop_and_resize" => self.known_floats(node, 1)?,
            _ => None,
        };
        let region = |i: usize| match &regions {
            Some(r) if r.len() == 2 * named.len() => (r[i], r[named.len() + i]),
            _ => (0.0, 1.0),
        };
        let (sizes, scales) = match self.known_ints(node, sizes_at)? {
            Some(sizes) if !sizes.is_empty() => (Some(sizes), None),
            _ => match self.known_floats(node, scales_at)? {
                Some(scales) => (None, Some(scales)),
                None => (
                    None,
                    super::super::attributes::attribute(node, "scales").map(|a| a.floats.clone()),
                ),
            },
        };
        let count = sizes
            .as_ref()
            .map(Vec::len)
            .or(scales.as_ref().map(Vec::len));
        if count != Some(named.len()) {
            return Err(self.fail(node, "needs one scale or one size for each axis"));
        }
        let mut axes = Vec::new();
        for (i, &axis) in named.iter().enumerate() {
            let Dim::Fixed(from) = dims[axis] else {
                let stays = scales.as_ref().is_some_and(|s| s[i] == 1.0);
                // A size in the place of the batch was worked out from it.
                if stays || sizes.is_some() {
                    continue;
                }
                return Err(self.fail(node, "resizes the batch"));
            };
            let scale = match (&sizes, &scales) {
                (Some(sizes), _) => sizes[i] as f32 / from.max(1) as f32,
                (None, Some(scales)) => scales[i],
                (None, None) => 1.0,
            };
            axes.push(Axis {
                axis,
                from,
                to: 0,
                scale,
                region: region(i),
            });
        }
        self.extents_of(node, &mut axes, &named, sizes.as_deref())?;
        axes.sort_by_key(|a| a.axis);
        axes.retain(|a| a.to != a.from || a.scale != 1.0 || a.region != (0.0, 1.0));
        Ok(axes)
    }

    /// Resamples one axis to its new extent.
    fn resized(
        &mut self,
        node: &proto::NodeProto,
        x: ValueId,
        axis: Axis,
        settings: &Resize,
    ) -> Result<ValueId, ImportError> {
        if settings.mode == "nearest" {
            let picked = (0..axis.to).map(|i| settings.nearest(&axis, i));
            let picked = Constant::i64(&[axis.to], picked.collect());
            let picked = self.known(node, picked);
            return self.main(node, Op::Gather { axis: axis.axis }, vec![x, picked]);
        }
        if axis
            .from
            .checked_mul(axis.to)
            .is_none_or(|n| n > MAX_WEIGHTS)
        {
            return Err(self.fail(node, "the extents are too large"));
        }
        let mut rows = vec![0.0; axis.from * axis.to];
        for (i, row) in rows.chunks_mut(axis.from).enumerate() {
            settings.weights(&axis, i, row);
        }
        self.times_matrix(node, x, axis.axis, [axis.to, axis.from], rows)
    }

    /// A matrix `[to, from]` applied along an axis.
    pub(super) fn times_matrix(
        &mut self,
        node: &proto::NodeProto,
        x: ValueId,
        axis: usize,
        [to, from]: [usize; 2],
        rows: Vec<f32>,
    ) -> Result<ValueId, ImportError> {
        let rank = self.shape(x).rank();
        if axis + 2 == rank {
            let matrix = self.known(node, Constant::f32(&[to, from], rows));
            return self.main(node, Op::MatMul, vec![matrix, x]);
        }
        let mut columns = vec![0.0; rows.len()];
        for (i, &weight) in rows.iter().enumerate() {
            columns[i % from * to + i / from] = weight;
        }
        let matrix = self.known(node, Constant::f32(&[from, to], columns));
        if axis + 1 == rank {
            return self.main(node, Op::MatMul, vec![x, matrix]);
        }
        let mut perm: Vec<usize> = (0..rank).collect();
        perm.swap(axis, rank - 1);
        let turn = Op::Transpose { perm };
        let turned = self.aside(node, turn.clone(), vec![x])?;
        let y = self.main(node, Op::MatMul, vec![turned, matrix])?;
        self.aside(node, turn, vec![y])
    }
}

impl Resize {
    /// The op for the forms it has, over the spatial axes.
    fn plain(&self, axes: &[Axis], rank: usize) -> Option<Op> {
        let spatial = rank > 2 && axes.iter().all(|a| a.axis >= 2) && axes.len() == rank - 2;
        let linear = self.mode == "linear";
        let half_pixel = match self.coordinates.as_str() {
            "asymmetric" => false,
            "half_pixel" => true,
            "pytorch_half_pixel" if axes.iter().all(|a| a.to > 1) => true,
            _ => return None,
        };
        // The op knows the extents alone: a scale that they don't give would sample elsewhere.
        let whole = axes
            .iter()
            .all(|a| (a.from as f64 * f64::from(a.scale) - a.to as f64).abs() <= 1e-4);
        let twice = axes.iter().all(|a| a.to == a.from || a.to == 2 * a.from);
        let rounds_so = match (linear, half_pixel, self.rounding.as_str()) {
            (true, ..) | (_, true, "round_prefer_floor") | (_, false, "floor") => true,
            // Upsampling by one or two, both ways of rounding land on the same element.
            (_, false, "round_prefer_floor") => twice,
            _ => false,
        };
        let fits = spatial && whole && rounds_so && !self.antialias && self.mode != "cubic";
        fits.then(|| Op::Resize {
            to: axes.iter().map(|a| a.to).collect(),
            linear,
            half_pixel,
        })
    }

    /// Where the centre of output cell `i` lies among the input cells. In single precision, as other
    /// runtimes work it out: which of two cells is nearer hangs on it.
    fn source(&self, axis: &Axis, i: usize) -> f32 {
        let (i, from, to) = (i as f32, axis.from as f32, axis.to as f32);
        let half = (i + 0.5) / axis.scale - 0.5;
        match self.coordinates.as_str() {
            "asymmetric" => i / axis.scale,
            "align_corners" if axis.to == 1 => 0.0,
            "align_corners" => i * (from - 1.0) / (to - 1.0),
            "pytorch_half_pixel" if axis.to == 1 => 0.0,
            "half_pixel_symmetric" => {
                let adjusted = to / (axis.scale * from);
                from / 2.0 * (1.0 - adjusted) + half
            }
            "tf_crop_and_resize" => {
                let (start, end) = axis.region;
                match axis.to {
                    1 => 0.5 * (start + end) * (from - 1.0),
                    _ => start * (from - 1.0) + i * (end - start) * (from - 1.0) / (to - 1.0),
                }
            }
            _ => half,
        }
    }

    fn nearest(&self, axis: &Axis, i: usize) -> i64 {
        let at = self.source(axis, i);
        let down = at.floor();
        let cell = match self.rounding.as_str() {
            "floor" => down,
            "ceil" => at.ceil(),
            "round_prefer_ceil" => at.round(),
            _ if at - down == 0.5 => down,
            _ => at.round(),
        };
        cell.clamp(0.0, (axis.from - 1) as f32) as i64
    }

    /// Weights of the input cells for output cell `i`.
    fn weights(&self, axis: &Axis, i: usize, row: &mut [f32]) {
        let mut at = self.source(axis, i);
        let last = axis.from as i64 - 1;
        let crops = self.coordinates == "tf_crop_and_resize";
        if crops && !(0.0..=last as f32).contains(&at) {
            return;
        }
        let shrink = match self.antialias {
            true => axis.scale.min(1.0),
            false => 1.0,
        };
        if self.mode == "linear" && shrink == 1.0 {
            at = at.clamp(0.0, last as f32);
        }
        let reach = if self.mode == "linear" { 1.0 } else { 2.0 };
        let first = (at - reach / shrink).floor() as i64;
        let end = (at + reach / shrink).ceil() as i64;
        let mut sum = 0.0;
        for cell in first..=end {
            let weight = self.kernel((cell as f32 - at) * shrink);
            let outside = !(0..=last).contains(&cell);
            if weight != 0.0 && !(outside && self.exclude_outside) {
                row[cell.clamp(0, last) as usize] += weight;
                sum += weight;
            }
        }
        if self.exclude_outside || shrink < 1.0 {
            row.iter_mut().for_each(|w| *w /= sum);
        }
    }

    /// Weight of a cell at a distance from the centre.
    fn kernel(&self, distance: f32) -> f32 {
        let (x, a) = (distance.abs(), self.cubic);
        match self.mode.as_str() {
            "linear" => (1.0 - x).max(0.0),
            _ if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
            _ if x < 2.0 => ((x - 5.0) * x + 8.0) * x * a - 4.0 * a,
            _ => 0.0,
        }
    }
}
