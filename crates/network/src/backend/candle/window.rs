/*!
Convolutions and pools. Candle has them with one stride, dilation and padding for both axes; other
windows are padded first, and where that isn't enough taken apart into their taps, each a view of
the input under one cell of the kernel.
*/

use super::clamp::clamp;
use super::layout::{border, every};
use crate::engine::TensorInfo;
use crate::model::Activation;
use crate::model::op::{PoolKind, Window};
use candle_core::{Result, Tensor, bail};

/// A window over rows and columns.
struct Plane {
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    pads: [(usize, usize); 2],
    output: [usize; 2],
}

impl Plane {
    /// A window over one axis is one over two, of which the first has extent 1.
    fn new(window: &Window, out: &TensorInfo) -> Result<Plane> {
        fn two<T: Copy>(of: &[T], missing: T) -> Result<[T; 2]> {
            match *of {
                [w] => Ok([missing, w]),
                [h, w] => Ok([h, w]),
                _ => bail!("{} spatial axes", of.len()),
            }
        }
        Ok(Plane {
            kernel: two(&window.kernel, 1)?,
            strides: two(&window.strides, 1)?,
            dilations: two(&window.dilations, 1)?,
            pads: two(&window.pads, (0, 0))?,
            output: two(&out.dims[2..], 1)?,
        })
    }

    fn pad(&self, x: &Tensor, value: f64) -> Result<Tensor> {
        let x = border(x, 2, self.pads[0], value)?;
        border(&x, 3, self.pads[1], value)
    }

    /// What lies under tap (`ky`, `kx`) of each output cell of a padded input.
    fn tap(&self, x: &Tensor, ky: usize, kx: usize) -> Result<Tensor> {
        let [oh, ow] = self.output;
        let x = every(x, 2, ky * self.dilations[0], self.strides[0], oh)?;
        every(&x, 3, kx * self.dilations[1], self.strides[1], ow)
    }

    fn taps(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let [kh, kw] = self.kernel;
        (0..kh).flat_map(move |ky| (0..kw).map(move |kx| (ky, kx)))
    }

    /// `fold` over the taps.
    fn fold(
        &self,
        x: &Tensor,
        fold: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let mut all = self.tap(x, 0, 0)?.contiguous()?;
        for (ky, kx) in self.taps().skip(1) {
            all = fold(&all, &self.tap(x, ky, kx)?.contiguous()?)?;
        }
        Ok(all)
    }
}

/// Adds `y` to what is there already.
fn add(sum: Option<Tensor>, y: Tensor) -> Result<Option<Tensor>> {
    Ok(Some(match sum {
        Some(sum) => (sum + y)?,
        None => y,
    }))
}

/// A window over one axis sees its tensor as one row.
fn raise(x: &Tensor) -> Result<Tensor> {
    match x.rank() {
        3 => x.unsqueeze(2),
        _ => Ok(x.clone()),
    }
}

pub(super) struct Convolution<'a> {
    pub window: &'a Window,
    pub groups: usize,
    pub bias: bool,
    pub residual: bool,
    pub activation: Activation,
}

impl Convolution<'_> {
    pub(super) fn run(&self, ins: &[Tensor], out: &TensorInfo) -> Result<Tensor> {
        let plane = Plane::new(self.window, out)?;
        let (x, w) = (raise(&ins[0])?, raise(&ins[1])?);
        let (strides, dilations) = (plane.strides, plane.dilations);
        let even = strides[0] == strides[1] && dilations[0] == dilations[1];
        let channels = x.dim(1)?;
        let mut y = if self.groups == channels && self.groups > 1 {
            depthwise(&plane, &x, &w)?
        } else if even {
            let [rows, columns] = plane.pads;
            let one = rows == columns && rows.0 == rows.1;
            let x = if one { x } else { plane.pad(&x, 0.0)? };
            let pad = if one { rows.0 } else { 0 };
            x.contiguous()?
                .conv2d(&w, pad, strides[0], dilations[0], self.groups)?
        } else {
            by_taps(&plane, &x, &w, self.groups)?
        };
        if self.bias {
            let bias = ins[2].reshape((1, ins[2].elem_count(), 1, 1))?;
            y = y.broadcast_add(&bias)?;
        }
        let mut y = y.reshape(out.dims.as_slice())?;
        if self.residual {
            y = (y + &ins[ins.len() - 1])?;
        }
        clamp(&y, self.activation)
    }
}

/// Each output channel reads one input channel. Candle would run as many convolutions as there are
/// groups; this is as many products as the kernel has taps.
fn depthwise(plane: &Plane, x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let (samples, channels, ..) = x.dims4()?;
    let each = w.dim(0)? / channels;
    let x = plane.pad(x, 0.0)?;
    let mut sum = None;
    for (ky, kx) in plane.taps() {
        let w = w.narrow(2, ky, 1)?.narrow(3, kx, 1)?.contiguous()?;
        let w = w.reshape((1, channels, each, 1, 1))?;
        let x = plane.tap(&x, ky, kx)?.unsqueeze(2)?;
        sum = add(sum, x.broadcast_mul(&w)?)?;
    }
    let [oh, ow] = plane.output;
    match sum {
        Some(sum) => sum.reshape((samples, channels * each, oh, ow)),
        None => bail!("a kernel without cells"),
    }
}

/// A product of matrices for each tap.
fn by_taps(plane: &Plane, x: &Tensor, w: &Tensor, groups: usize) -> Result<Tensor> {
    let samples = x.dim(0)?;
    let [oh, ow] = plane.output;
    let (deep, wide) = (w.dim(1)?, w.dim(0)? / groups);
    let x = plane.pad(x, 0.0)?;
    let mut all = vec![];
    for group in 0..groups {
        let x = x.narrow(1, group * deep, deep)?;
        let w = w.narrow(0, group * wide, wide)?;
        let mut sum = None;
        for (ky, kx) in plane.taps() {
            let x = plane.tap(&x, ky, kx)?.contiguous()?;
            let x = x.reshape((samples, deep, oh * ow))?;
            let w = w.narrow(2, ky, 1)?.narrow(3, kx, 1)?.contiguous()?;
            sum = add(sum, w.reshape((wide, deep))?.broadcast_matmul(&x)?)?;
        }
        match sum {
            Some(sum) => all.push(sum.reshape((samples, wide, oh, ow))?),
            None => bail!("a kernel without cells"),
        }
    }
    Tensor::cat(&all, 1)
}

pub(super) fn pool(
    kind: PoolKind,
    window: &Window,
    extra: &[usize],
    x: &Tensor,
    out: &TensorInfo,
) -> Result<Tensor> {
    let plane = Plane::new(window, out)?;
    let x = raise(x)?;
    let (kernel, strides) = (
        (plane.kernel[0], plane.kernel[1]),
        (plane.strides[0], plane.strides[1]),
    );
    let direct = plane.dilations == [1, 1];
    let y = match kind {
        PoolKind::Max => {
            let x = plane.pad(&x, f64::NEG_INFINITY)?;
            match direct {
                true => x.contiguous()?.max_pool2d_with_stride(kernel, strides)?,
                false => plane.fold(&x, |a, b| a.maximum(b))?,
            }
        }
        PoolKind::Average { count_include_pad } => {
            let padded = plane.pad(&x, 0.0)?;
            let mean = match direct {
                true => padded
                    .contiguous()?
                    .avg_pool2d_with_stride(kernel, strides)?,
                false => (plane.fold(&padded, |a, b| a + b)? / (kernel.0 * kernel.1) as f64)?,
            };
            let whole =
                plane.pads == [(0, 0); 2] || (count_include_pad && extra.iter().all(|&e| e == 0));
            match whole {
                true => mean,
                // The cells counted differ from window to window.
                false => {
                    let extents = [x.dim(2)?, x.dim(3)?];
                    let scale = scales(&plane, extents, count_include_pad, extra);
                    let [oh, ow] = plane.output;
                    let scale = Tensor::from_vec(scale, (1, 1, oh, ow), x.device())?;
                    mean.broadcast_mul(&scale)?
                }
            }
        }
    };
    y.reshape(out.dims.as_slice())
}

/// Cells of the kernel divided by the cells that count, for each output cell; zero where none does.
fn scales(plane: &Plane, input: [usize; 2], with_padding: bool, extra: &[usize]) -> Vec<f32> {
    let extra = [1, 2].map(|back| match extra.len().checked_sub(back) {
        Some(at) => extra[at],
        None => 0,
    });
    let counted = |axis: usize, o: usize| {
        let (before, after) = plane.pads[axis];
        let (first, end) = match with_padding {
            true => (0, input[axis] + before + after - extra[1 - axis]),
            false => (before, before + input[axis]),
        };
        (0..plane.kernel[axis])
            .map(|k| o * plane.strides[axis] + k * plane.dilations[axis])
            .filter(|at| (first..end).contains(at))
            .count()
    };
    let [oh, ow] = plane.output;
    let all = (plane.kernel[0] * plane.kernel[1]) as f32;
    let scale = |count: usize| if count == 0 { 0.0 } else { all / count as f32 };
    (0..oh * ow)
        .map(|o| scale(counted(0, o / ow) * counted(1, o % ow)))
        .collect()
}
