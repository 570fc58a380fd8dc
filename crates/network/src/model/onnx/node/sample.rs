/*!
Ops that look at an image elsewhere: affine grids and sampling at them (spatial transformers), and the
middle cut out or padded.
*/

use super::super::{ImportError, Importer};
use super::forms::binary;
use crate::model::constant::Constant;
use crate::model::graph::ValueId;
use crate::model::op::{Binary, Op, PadMode, Reduction, Unary};
use crate::model::shape::Dim;
use candle_onnx::onnx as proto;

impl Importer<'_> {
    pub(super) fn sample(&mut self, node: &proto::NodeProto) -> Result<bool, ImportError> {
        match node.op_type.as_str() {
            "AffineGrid" => self.affine_grid(node)?,
            "GridSample" => self.grid_sample(node)?,
            "CenterCropPad" => self.centre_crop_pad(node)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Every place of the output, from -1 to 1, times the affine matrix of each sample.
    fn affine_grid(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let theta = self.input_id(node, 0)?;
        let batch = self.shape(theta).0.first().copied();
        let size = self.ints(self.input_id(node, 1)?);
        let extents: Option<Vec<usize>> = size.and_then(|size| {
            let behind = size.values.iter().skip(2);
            behind.map(|i| usize::try_from(i.known()?).ok()).collect()
        });
        let Some((batch, extents)) = batch.zip(extents) else {
            return Err(self.unknown_input(node, &node.input[1], "a size"));
        };
        let axes = extents.len();
        let corners = self.int(node, "align_corners", 0) != 0;
        let places: usize = extents.iter().product();
        if !(2..=3).contains(&axes) || self.may_fill(places).is_none() {
            return Err(self.fail(node, "its size is none of an image or a volume"));
        }
        let mut base = Vec::with_capacity(places * (axes + 1));
        for place in 0..places {
            let mut rest = place;
            // The last axis comes first in a matrix, and varies fastest.
            for &n in extents.iter().rev() {
                let (at, n) = ((rest % n) as f32, n);
                rest /= n;
                base.push(match corners {
                    true if n == 1 => 0.0,
                    true => 2.0 * at / (n - 1) as f32 - 1.0,
                    false => (2.0 * at + 1.0) / n as f32 - 1.0,
                });
            }
            base.push(1.0);
        }
        let base = self.known(node, Constant::f32(&[1, places, axes + 1], base));
        let perm = vec![0, 2, 1];
        let turned = self.aside(node, Op::Transpose { perm }, vec![theta])?;
        let grid = self.main(node, Op::MatMul, vec![base, turned])?;
        let mut to = vec![batch];
        to.extend(extents.iter().map(|&n| Dim::Fixed(n)));
        to.push(Dim::Fixed(axes));
        let grid = self.seen_as(node, grid, to)?;
        self.name_output(node, 0, grid);
        Ok(())
    }

    /// Each sampled value is a sum over the rows and columns of the image, by how near they are:
    /// `out[p] = Σ_h near_h[p, h] · Σ_w x[h, w] · near_w[p, w]`.
    fn grid_sample(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let (x, grid) = (self.input_id(node, 0)?, self.input_id(node, 1)?);
        let (dims, places) = (self.shape(x).0.clone(), self.shape(grid).0.clone());
        let ([n, c, h, w], [_, rows, columns, _]) = (&dims[..], &places[..]) else {
            return Err(self.fail(node, "samples a volume; only images are supported"));
        };
        let (n, c) = (*n, *c);
        let [height, width] = [(*h, 2), (*w, 3)].map(|(d, axis)| self.fixed_extent(node, d, axis));
        let [rows, columns] =
            [(*rows, 1), (*columns, 2)].map(|(d, axis)| self.fixed_extent(node, d, axis));
        let (height, width, rows, columns) = (height?, width?, rows?, columns?);
        let nearest = match self.text(node, "mode", "linear").as_str() {
            "linear" | "bilinear" => false,
            "nearest" => true,
            other => return Err(self.fail(node, format!("mode {other} is not supported"))),
        };
        let count = rows * columns;
        let flat = self.seen_as(
            node,
            grid,
            vec![n, Dim::Fixed(1), Dim::Fixed(count), Dim::Fixed(2)],
        )?;
        let sizes = vec![1, 1];
        let halves = self.split_in_two(node, flat, 3, sizes)?;
        let near_w = self.nearness(node, halves[0], width, nearest)?;
        let near_h = self.nearness(node, halves[1], height, nearest)?;
        let perm = || Op::Transpose {
            perm: vec![0, 1, 3, 2],
        };
        let near_w = self.aside(node, perm(), vec![near_w])?;
        let near_h = self.aside(node, perm(), vec![near_h])?;
        let across = self.main(node, Op::MatMul, vec![x, near_w])?;
        let both = self.aside(node, binary(Binary::Mul), vec![across, near_h])?;
        let sum = Op::Reduce {
            kind: Reduction::Sum,
            axes: vec![2],
            keep: false,
        };
        let y = self.aside(node, sum, vec![both])?;
        let y = self.seen_as(node, y, vec![n, c, Dim::Fixed(rows), Dim::Fixed(columns)])?;
        self.name_output(node, 0, y);
        Ok(())
    }

    /// The two pieces of a value along an axis.
    pub(super) fn split_in_two(
        &mut self,
        node: &proto::NodeProto,
        x: ValueId,
        axis: usize,
        sizes: Vec<usize>,
    ) -> Result<[ValueId; 2], ImportError> {
        let name = self.step_name(node);
        let names = [format!("{name}/a"), format!("{name}/b")];
        let split = proto::NodeProto {
            name: format!("{}/split{}", super::super::name::of_node(node), self.steps),
            op_type: node.op_type.clone(),
            ..Default::default()
        };
        let names = names.each_ref().map(String::as_str);
        let halves = self.emit(&split, Op::Split { axis, sizes }, vec![x], &names)?;
        Ok([halves[0], halves[1]])
    }

    /// How near each place `[N, 1, P, 1]`, from -1 to 1, is to each of `n` cells: `[N, 1, P, n]`.
    fn nearness(
        &mut self,
        node: &proto::NodeProto,
        at: ValueId,
        n: usize,
        nearest: bool,
    ) -> Result<ValueId, ImportError> {
        let corners = self.int(node, "align_corners", 0) != 0;
        let cells = n as f32;
        // From -1 to 1 to the number of a cell.
        let (scale, shift) = match corners {
            true => ((cells - 1.0) / 2.0, (cells - 1.0) / 2.0),
            false => (cells / 2.0, (cells - 1.0) / 2.0),
        };
        let [scale, shift, one] = [scale, shift, 1.0].map(|x| self.single(node, x));
        let mut at = self.aside(node, binary(Binary::Mul), vec![at, scale])?;
        at = self.aside(node, binary(Binary::Add), vec![at, shift])?;
        if nearest {
            at = self.aside(node, Op::Unary(Unary::Round), vec![at])?;
        }
        let last = cells - 1.0;
        match self.text(node, "padding_mode", "zeros").as_str() {
            "zeros" => {}
            "border" => {
                let clip = Unary::Clip {
                    low: 0.0,
                    high: last,
                };
                at = self.aside(node, Op::Unary(clip), vec![at])?;
            }
            "reflection" => {
                let (low, span) = match corners {
                    true => (0.0, last),
                    false => (-0.5, cells),
                };
                at = self.reflected(node, at, low, span)?;
                let clip = Unary::Clip {
                    low: 0.0,
                    high: last,
                };
                at = self.aside(node, Op::Unary(clip), vec![at])?;
            }
            other => {
                let what = format!("padding_mode {other} is not known");
                return Err(self.fail(node, what));
            }
        }
        let every = (0..n).map(|i| i as f32).collect();
        let every = self.known(node, Constant::f32(&[n], every));
        let far = self.aside(node, binary(Binary::Sub), vec![at, every])?;
        let far = self.aside(node, Op::Unary(Unary::Abs), vec![far])?;
        let near = self.aside(node, binary(Binary::Sub), vec![one, far])?;
        self.aside(node, Op::Unary(Unary::Relu), vec![near])
    }

    /// Numbers thrown back into `low..=low + span` as by mirrors: `span − |(x − low) mod 2·span − span|`.
    fn reflected(
        &mut self,
        node: &proto::NodeProto,
        at: ValueId,
        low: f32,
        span: f32,
    ) -> Result<ValueId, ImportError> {
        if span <= 0.0 {
            let zero = self.single(node, 0.0);
            return self.aside(node, binary(Binary::Mul), vec![at, zero]);
        }
        let [low, span, twice] = [low, span, 2.0 * span].map(|x| self.single(node, x));
        let from = self.aside(node, binary(Binary::Sub), vec![at, low])?;
        let turns = self.aside(node, binary(Binary::Div), vec![from, twice])?;
        let turns = self.aside(node, Op::Unary(Unary::Floor), vec![turns])?;
        let turns = self.aside(node, binary(Binary::Mul), vec![turns, twice])?;
        let rest = self.aside(node, binary(Binary::Sub), vec![from, turns])?;
        let rest = self.aside(node, binary(Binary::Sub), vec![rest, span])?;
        let rest = self.aside(node, Op::Unary(Unary::Abs), vec![rest])?;
        let rest = self.aside(node, binary(Binary::Sub), vec![span, rest])?;
        self.aside(node, binary(Binary::Add), vec![rest, low])
    }

    /// The middle of some axes, cut out or with zeros around; of an odd rest the smaller part comes first.
    fn centre_crop_pad(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let dims = self.shape(x).0.clone();
        let wanted = self.known_ints(node, 1)?.unwrap_or_default();
        let axes = match self.int_list(node, "axes") {
            Some(axes) => axes,
            None => (0..dims.len() as i64).collect(),
        };
        if axes.len() != wanted.len() {
            return Err(self.fail(node, "names another number of axes than of extents"));
        }
        let mut pads = vec![(0, 0); dims.len()];
        for (&axis, &to) in axes.iter().zip(&wanted) {
            let axis = self.axis(node, axis, dims.len())?;
            let n = self.fixed_extent(node, dims[axis], axis)? as i64;
            let rest = to - n;
            // Rounded down on the way out as on the way in.
            let before = if rest < 0 { -(-rest / 2) } else { rest / 2 };
            pads[axis] = (before, rest - before);
        }
        let pad = Op::Pad {
            mode: PadMode::Constant,
            pads,
            value: 0.0,
        };
        self.push(node, pad, vec![x])
    }
}
