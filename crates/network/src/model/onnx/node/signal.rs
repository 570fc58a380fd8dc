/*!
Ops of signals, in the steps that their definitions name: windows, mel weights, Fourier transforms as products
with constant matrices; and two that are sums over gathered elements (`Det`, `Col2Im`).
*/

use super::super::{ImportError, Importer};
use super::forms::binary;
use crate::model::constant::Constant;
use crate::model::graph::ValueId;
use crate::model::op::{Binary, Op, PadMode, Reduction};
use crate::model::shape::Dim;
use candle_onnx::onnx as proto;
use std::f64::consts::TAU;

/// The largest matrix whose determinant is taken: a sum over 120 permutations.
const LARGEST_DET: usize = 5;

/// A Fourier transform along an axis: how long the signal is, and what of its spectrum is wanted.
#[derive(Debug, Clone, Copy)]
struct Transform {
    /// Numbers of the signal; those beyond `length` are cut off, missing ones are 0.
    signal: usize,
    length: usize,
    /// Frequencies of the result.
    kept: usize,
    /// 1 for real numbers, 2 for complex ones.
    channels: usize,
    inverse: bool,
}

impl Transform {
    /// Row `(l, channel)`, column `(k, real or imaginary)`; rows are weighed by `window`.
    fn matrix(self, window: Option<&[f32]>) -> Constant {
        let (sign, scale) = match self.inverse {
            true => (1.0, 1.0 / self.length as f64),
            false => (-1.0, 1.0),
        };
        let mut values = Vec::with_capacity(self.signal * self.channels * self.kept * 2);
        for l in 0..self.signal {
            let weight = match window {
                _ if l >= self.length => 0.0,
                Some(window) => scale * f64::from(window[l]),
                None => scale,
            };
            for channel in 0..self.channels {
                for k in 0..self.kept {
                    // The product is taken modulo the length first: angles stay small and exact.
                    let turn = TAU * (l * k % self.length) as f64 / self.length as f64;
                    let (real, imaginary) = (weight * turn.cos(), weight * sign * turn.sin());
                    let pair = match channel {
                        0 => [real, imaginary],
                        _ => [-imaginary, real],
                    };
                    values.extend(pair.map(|x| x as f32));
                }
            }
        }
        Constant::f32(&[self.signal * self.channels, self.kept * 2], values)
    }

    fn size(self) -> Option<usize> {
        let rows = self.signal.checked_mul(self.channels)?;
        rows.checked_mul(self.kept)?.checked_mul(2)
    }
}

impl Importer<'_> {
    pub(super) fn signal(&mut self, node: &proto::NodeProto) -> Result<bool, ImportError> {
        match node.op_type.as_str() {
            "HannWindow" => self.cosine_window(node, [0.5, 0.5, 0.0])?,
            "HammingWindow" => self.cosine_window(node, [25.0 / 46.0, 21.0 / 46.0, 0.0])?,
            "BlackmanWindow" => self.cosine_window(node, [0.42, 0.5, 0.08])?,
            "MelWeightMatrix" => self.mel_weights(node)?,
            "DFT" => self.dft(node)?,
            "STFT" => self.stft(node)?,
            "Det" => self.det(node)?,
            "Col2Im" => self.col2im(node)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// A number given as a constant input.
    fn number(&self, node: &proto::NodeProto, at: usize) -> Result<f32, ImportError> {
        let given = self.scalar(node, at)?;
        given.ok_or_else(|| self.fail(node, format!("input {at} is missing")))
    }

    /// A positive whole number given as a constant input; `None` if it is left out.
    fn length(&self, node: &proto::NodeProto, at: usize) -> Result<Option<usize>, ImportError> {
        let Some(number) = self.scalar(node, at)? else {
            return Ok(None);
        };
        if number < 1.0 || self.may_fill(number as usize).is_none() {
            return Err(self.fail(node, format!("input {at} is {number}, which is no length")));
        }
        Ok(Some(number as usize))
    }

    /// `a − b cos(2πi/n) + c cos(4πi/n)`.
    fn cosine_window(
        &mut self,
        node: &proto::NodeProto,
        [a, b, c]: [f64; 3],
    ) -> Result<(), ImportError> {
        let size = self.length(node, 0)?;
        let size = size.ok_or_else(|| self.fail(node, "input 0 is missing"))?;
        let periodic = self.int(node, "periodic", 1) != 0;
        let n = if periodic { size } else { (size - 1).max(1) } as f64;
        let values = (0..size).map(|i| {
            let turn = TAU * i as f64 / n;
            (a - b * turn.cos() + c * (2.0 * turn).cos()) as f32
        });
        let values = values.collect();
        let id = self.constant(&node.output[0], Constant::f32(&[size], values));
        self.env.insert(node.output[0].clone(), id);
        Ok(())
    }

    /// Triangles over the bins of a spectrum, as wide as pitch is heard.
    fn mel_weights(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let mut given = [0.0_f64; 5];
        for (at, number) in given.iter_mut().enumerate() {
            *number = f64::from(self.number(node, at)?);
        }
        let [bins, length, rate, low, high] = given;
        let size = (length / 2.0).floor() + 1.0;
        let fits = bins >= 1.0 && length >= 1.0 && rate > 0.0 && bins * size < 1e8;
        if !fits {
            return Err(self.fail(node, "its numbers make no matrix"));
        }
        let (bins, rows) = (bins as usize, size as usize);
        let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
        let step = (mel(high) - mel(low)) / (bins + 2) as f64;
        let place = |i: usize| {
            let hertz = 700.0 * (10f64.powf((i as f64 * step + mel(low)) / 2595.0) - 1.0);
            ((length + 1.0) * hertz / rate).floor() as usize
        };
        let mut values = vec![0.0; rows * bins];
        for bin in 0..bins {
            let [from, centre, to] = [bin, bin + 1, bin + 2].map(place);
            if to > rows || centre >= rows {
                return Err(self.fail(node, "its upper edge lies above half the sample rate"));
            }
            for row in from..=centre {
                values[row * bins + bin] = match centre - from {
                    0 => 1.0,
                    width => (row - from) as f32 / width as f32,
                };
            }
            for row in centre..to {
                values[row * bins + bin] = (to - row) as f32 / (to - centre) as f32;
            }
        }
        let id = self.constant(&node.output[0], Constant::f32(&[rows, bins], values));
        self.env.insert(node.output[0].clone(), id);
        Ok(())
    }

    /// Numbers a place of the last axis: 1 if real, 2 if complex.
    fn channels(&self, node: &proto::NodeProto, last: Dim) -> Result<usize, ImportError> {
        match last.fixed() {
            Some(channels @ (1 | 2)) => Ok(channels),
            _ => Err(self.fail(node, "its last axis holds neither real nor complex numbers")),
        }
    }

    fn transform(
        &mut self,
        node: &proto::NodeProto,
        x: ValueId,
        transform: Transform,
        window: Option<&[f32]>,
    ) -> Result<ValueId, ImportError> {
        let fits = transform.size().and_then(|size| self.may_fill(size));
        fits.ok_or_else(|| self.fail(node, "the transform is too large for a matrix"))?;
        let mut dims = self.shape(x).0.clone();
        dims.truncate(dims.len() - 2);
        let wide = Dim::Fixed(transform.signal * transform.channels);
        let flat = self.seen_as(node, x, [&dims[..], &[wide]].concat())?;
        let matrix = self.known(node, transform.matrix(window));
        let y = self.main(node, Op::MatMul, vec![flat, matrix])?;
        dims.extend([Dim::Fixed(transform.kept), Dim::Fixed(2)]);
        self.seen_as(node, y, dims)
    }

    /// A product with the matrix of the transform, the axis moved before the last for it.
    fn dft(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let dims = self.shape(x).0.clone();
        let rank = dims.len();
        let named = match self.scalar(node, 2)? {
            Some(axis) => axis as i64,
            // An input from opset 20 on.
            None if self.opset < 20 => self.int(node, "axis", 1),
            None => self.int(node, "axis", -2),
        };
        let axis = self.axis(node, named, rank)?;
        if rank < 2 || axis + 1 == rank {
            return Err(self.fail(node, "its axis is the one of real and imaginary parts"));
        }
        let signal = self.fixed_extent(node, dims[axis], axis)?;
        let length = self.length(node, 1)?.unwrap_or(signal);
        let inverse = self.int(node, "inverse", 0) != 0;
        let onesided = self.int(node, "onesided", 0) != 0;
        if inverse && onesided {
            return Err(self.fail(node, "a one-sided inverse transform is not supported"));
        }
        let transform = Transform {
            signal,
            length,
            kept: if onesided { length / 2 + 1 } else { length },
            channels: self.channels(node, dims[rank - 1])?,
            inverse,
        };
        let mut perm: Vec<usize> = (0..rank).filter(|&at| at != axis).collect();
        perm.insert(rank - 2, axis);
        let moved = axis != rank - 2;
        let mut at = x;
        if moved {
            let perm = perm.clone();
            at = self.aside(node, Op::Transpose { perm }, vec![at])?;
        }
        let mut y = self.transform(node, at, transform, None)?;
        if moved {
            let mut back = vec![0; rank];
            for (to, from) in perm.into_iter().enumerate() {
                back[from] = to;
            }
            y = self.aside(node, Op::Transpose { perm: back }, vec![y])?;
        }
        self.name_output(node, 0, y);
        Ok(())
    }

    /// The frames of the signal gathered, each transformed.
    fn stft(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let dims = self.shape(x).0.clone();
        let (batch, signal, channels) = match dims[..] {
            [n, signal] => (n, signal, 1),
            [n, signal, last] => (n, signal, self.channels(node, last)?),
            _ => return Err(self.fail(node, "its signal has two or three axes")),
        };
        let signal = self.fixed_extent(node, signal, 1)?;
        let step = self.length(node, 1)?;
        let step = step.ok_or_else(|| self.fail(node, "input 1 is missing"))?;
        let window = self.known_floats(node, 2)?;
        let length = self.length(node, 3)?.or(window.as_ref().map(Vec::len));
        let length = length.filter(|&n| n <= signal);
        let length =
            length.ok_or_else(|| self.fail(node, "its frames are longer than the signal"))?;
        if window.as_ref().is_some_and(|window| window.len() != length) {
            return Err(self.fail(node, "window and frames have other lengths"));
        }
        let frames = (signal - length) / step + 1;
        let transform = Transform {
            signal: length,
            length,
            kept: match self.int(node, "onesided", 1) {
                0 => length,
                _ => length / 2 + 1,
            },
            channels,
            inverse: false,
        };
        let fits = frames.checked_mul(length).and_then(|n| self.may_fill(n));
        fits.ok_or_else(|| self.fail(node, "the result is too large"))?;
        let places = (0..frames).flat_map(|frame| (0..length).map(move |l| frame * step + l));
        let places = places.map(|place| place as i64).collect();
        let places = self.known(node, Constant::i64(&[frames * length], places));
        let x = self.seen_as(
            node,
            x,
            vec![batch, Dim::Fixed(signal), Dim::Fixed(channels)],
        )?;
        let gathered = self.aside(node, Op::Gather { axis: 1 }, vec![x, places])?;
        let to = [frames, length, channels].map(Dim::Fixed);
        let gathered = self.seen_as(node, gathered, [&[batch][..], &to].concat())?;
        let y = self.transform(node, gathered, transform, window.as_deref())?;
        self.name_output(node, 0, y);
        Ok(())
    }

    /// The sum over all permutations of the products of the elements that they choose, by Leibniz.
    fn det(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let dims = self.shape(x).0.clone();
        let (&[rows, columns], before) = dims
            .split_last_chunk::<2>()
            .map(|(before, last)| (last, before))
            .ok_or_else(|| self.fail(node, "a matrix has two axes"))?;
        let n = self.fixed_extent(node, rows, before.len())?;
        if columns.fixed() != Some(n) || !(1..=LARGEST_DET).contains(&n) {
            let what = format!("only square matrices of up to {LARGEST_DET} rows are supported");
            return Err(self.fail(node, what));
        }
        let chosen = permutations(n);
        let places = chosen.iter().flat_map(|(order, _)| {
            let places = order.iter().enumerate();
            places.map(move |(row, column)| (row * n + column) as i64)
        });
        let places = places.collect();
        let count = chosen.len();
        let places = self.known(node, Constant::i64(&[count * n], places));
        let signs = chosen
            .iter()
            .map(|(_, even)| if *even { 1.0 } else { -1.0 });
        let signs = self.known(node, Constant::f32(&[count], signs.collect()));
        let axis = before.len();
        let flat = self.seen_as(node, x, [before, &[Dim::Fixed(n * n)]].concat())?;
        let gathered = self.aside(node, Op::Gather { axis }, vec![flat, places])?;
        let to = [before, &[count, n].map(Dim::Fixed)].concat();
        let gathered = self.seen_as(node, gathered, to)?;
        let over = |kind, axis| Op::Reduce {
            kind,
            axes: vec![axis],
            keep: false,
        };
        let products = self.aside(node, over(Reduction::Prod, axis + 1), vec![gathered])?;
        let signed = self.aside(node, binary(Binary::Mul), vec![products, signs])?;
        let y = self.main(node, over(Reduction::Sum, axis), vec![signed])?;
        self.name_output(node, 0, y);
        Ok(())
    }

    /// Every cell of the image is a sum over the places of a block at which it stands, 0 where it doesn't.
    fn col2im(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let lists = [self.known_ints(node, 1)?, self.known_ints(node, 2)?];
        let names = ["strides", "dilations", "pads"];
        let attributes = names.map(|name| self.int_list(node, name).unwrap_or_default());
        let blocks = Blocks::of(lists.map(Option::unwrap_or_default), attributes);
        let blocks = blocks.map_err(|what| self.fail(node, what))?;
        let [taps, count, cells] =
            [&blocks.block, &blocks.counts, &blocks.image].map(|e| e.iter().product::<usize>());
        let fits = taps.checked_mul(cells).and_then(|n| self.may_fill(n));
        fits.ok_or_else(|| self.fail(node, "the result is too large"))?;
        let dims = self.shape(x).0.clone();
        let &[n, columns, found] = dims.as_slice() else {
            return Err(self.fail(node, "its blocks have three axes"));
        };
        let columns = self.fixed_extent(node, columns, 1)?;
        if found.fixed() != Some(count) || columns % taps != 0 {
            let what = format!("it takes {count} blocks of a multiple of {taps} numbers");
            return Err(self.fail(node, what));
        }
        let places = Constant::i64(&[taps * cells], blocks.places());
        let places = self.known(node, places);
        let channels = Dim::Fixed(columns / taps);
        let x = self.seen_as(node, x, vec![n, channels, Dim::Fixed(taps * count)])?;
        let pad = Op::Pad {
            mode: PadMode::Constant,
            pads: vec![(0, 0), (0, 0), (0, 1)],
            value: 0.0,
        };
        let padded = self.aside(node, pad, vec![x])?;
        let gathered = self.aside(node, Op::Gather { axis: 2 }, vec![padded, places])?;
        let to = vec![n, channels, Dim::Fixed(taps), Dim::Fixed(cells)];
        let gathered = self.seen_as(node, gathered, to)?;
        let sum = Op::Reduce {
            kind: Reduction::Sum,
            axes: vec![2],
            keep: false,
        };
        let y = self.main(node, sum, vec![gathered])?;
        let mut to = vec![n, channels];
        to.extend(blocks.image.iter().map(|&n| Dim::Fixed(n)));
        let y = self.seen_as(node, y, to)?;
        self.name_output(node, 0, y);
        Ok(())
    }
}

/// Blocks that an image is made of, on each of its axes.
struct Blocks {
    image: Vec<usize>,
    block: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    /// Cells before the image.
    before: Vec<usize>,
    /// How many blocks there are.
    counts: Vec<usize>,
}

impl Blocks {
    /// `[image, block]` and `[strides, dilations, pads]` as ONNX has them; empty lists have their defaults.
    fn of(
        [image, block]: [Vec<i64>; 2],
        [strides, dilations, pads]: [Vec<i64>; 3],
    ) -> Result<Blocks, &'static str> {
        let axes = image.len();
        let listed = |list: Vec<i64>, count: usize, least: i64| -> Option<Vec<usize>> {
            let list = match list.is_empty() {
                true => vec![least; count],
                false => list,
            };
            let fits = count > 0 && list.len() == count && list.iter().all(|&n| n >= least);
            let whole = || list.iter().map(|&n| usize::try_from(n).ok());
            fits.then(|| whole().collect()).flatten()
        };
        let wrong = "image, block, strides, dilations or pads don't fit each other";
        let [image, block, strides, dilations] =
            [image, block, strides, dilations].map(|list| listed(list, axes, 1).ok_or(wrong));
        let (image, block, strides, dilations) = (image?, block?, strides?, dilations?);
        let pads = listed(pads, 2 * axes, 0).ok_or(wrong)?;
        let (before, behind) = pads.split_at(axes);
        let counts: Option<Vec<usize>> = (0..axes)
            .map(|a| {
                let reach = dilations[a].checked_mul(block[a] - 1)?.checked_add(1)?;
                let whole = image[a].checked_add(before[a])?.checked_add(behind[a])?;
                Some(whole.checked_sub(reach)? / strides[a] + 1)
            })
            .collect();
        Ok(Blocks {
            counts: counts.ok_or("a block doesn't fit the image")?,
            before: before.to_vec(),
            image,
            block,
            strides,
            dilations,
        })
    }

    /// For each place of a block and each cell of the image the number that stands there, of those of all
    /// places one behind the other; the one behind the last is nothing.
    fn places(&self) -> Vec<i64> {
        let [taps, count, cells] =
            [&self.block, &self.counts, &self.image].map(|e| e.iter().product::<usize>());
        let mut places = Vec::with_capacity(taps * cells);
        for tap in 0..taps {
            let tap_at = coordinates(tap, &self.block);
            for cell in 0..cells {
                let cell_at = coordinates(cell, &self.image);
                let block_at = (0..self.image.len()).try_fold(0, |at, a| {
                    let from = cell_at[a] + self.before[a];
                    let from = from.checked_sub(self.dilations[a] * tap_at[a])?;
                    let nth = from / self.strides[a];
                    let stands = from % self.strides[a] == 0 && nth < self.counts[a];
                    stands.then_some(at * self.counts[a] + nth)
                });
                let nothing = taps * count;
                places.push(block_at.map_or(nothing, |at| tap * count + at) as i64);
            }
        }
        places
    }
}

/// The place on each axis of an element.
fn coordinates(mut at: usize, extents: &[usize]) -> Vec<usize> {
    let mut places = vec![0; extents.len()];
    for (place, extent) in places.iter_mut().zip(extents).rev() {
        *place = at % extent;
        at /= extent;
    }
    places
}

/// All orders of `0..n`, and whether each is even.
fn permutations(n: usize) -> Vec<(Vec<usize>, bool)> {
    let mut all = vec![(Vec::new(), true)];
    for next in 0..n {
        all = all
            .into_iter()
            .flat_map(|(order, even): (Vec<usize>, bool)| {
                (0..=next).map(move |at| {
                    let mut longer = order.clone();
                    longer.insert(at, next);
                    // It passes those behind it.
                    (longer, even == ((next - at) % 2 == 0))
                })
            })
            .collect();
    }
    all
}
