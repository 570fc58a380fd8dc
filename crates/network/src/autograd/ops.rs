/*! The ops that candle's own differentiable operations cover. */

use super::clamp::Clamp;
use crate::model::op::{Binary, PadMode, Reduction, SliceRange, Unary, Window};
use crate::model::{Activation, Op};
use candle_core::{DType, Device, Result, Tensor, bail};

/// A window over one or two spatial axes as one over two.
pub(super) fn flat(window: &Window) -> Result<Window> {
    let mut w = window.clone();
    match w.kernel.len() {
        1 => {
            w.kernel.insert(0, 1);
            w.strides.insert(0, 1);
            w.dilations.insert(0, 1);
            w.pads.insert(0, (0, 0));
            Ok(w)
        }
        2 => Ok(w),
        n => bail!("training over {n} spatial axes is not supported"),
    }
}

fn unary(x: &Tensor, op: Unary) -> Result<Tensor> {
    let relu = |x: &Tensor| x.contiguous()?.apply_op1(Clamp(Activation::RELU));
    let unit = |x: &Tensor, a: f64, b: f64| {
        let line = x.affine(a, b)?;
        line.apply_op1(Clamp(Activation {
            low: 0.0,
            high: 1.0,
        }))
    };
    match op {
        Unary::LeakyRelu { alpha } => relu(x)?.sub(&(relu(&x.neg()?)? * f64::from(alpha))?),
        Unary::Elu { alpha } => x.elu(alpha.into()),
        Unary::Sigmoid => candle_nn::ops::sigmoid(x),
        Unary::HardSigmoid { alpha, beta } => unit(x, alpha.into(), beta.into()),
        Unary::HardSwish => x.mul(&unit(x, 1.0 / 6.0, 0.5)?),
        Unary::Silu => x.mul(&candle_nn::ops::sigmoid(x)?),
        Unary::Tanh => x.tanh(),
        Unary::Gelu { tanh: true } => x.gelu(),
        Unary::Gelu { tanh: false } => x.gelu_erf(),
        Unary::Erf => x.erf(),
        Unary::Exp => x.exp(),
        Unary::Log => x.log(),
        Unary::Sqrt => x.sqrt(),
        Unary::Reciprocal => x.recip(),
        Unary::Neg => x.neg(),
        Unary::Abs => x.abs(),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        other => bail!("{other:?} is not supported in training"),
    }
}

fn binary(a: &Tensor, b: &Tensor, op: Binary, activation: Activation) -> Result<Tensor> {
    let y = match op {
        Binary::Add => a.broadcast_add(b)?,
        Binary::Sub => a.broadcast_sub(b)?,
        Binary::Mul => a.broadcast_mul(b)?,
        Binary::Div => a.broadcast_div(b)?,
        Binary::Min => a.broadcast_minimum(b)?,
        Binary::Max => a.broadcast_maximum(b)?,
        Binary::Pow if b.elem_count() == 1 && b.dtype() == DType::F32 => {
            a.powf(b.flatten_all()?.get(0)?.to_scalar::<f32>()?.into())?
        }
        Binary::PRelu => {
            let a = a.contiguous()?;
            let up = a.apply_op1(Clamp(Activation::RELU))?;
            let down = a.neg()?.apply_op1(Clamp(Activation::RELU))?;
            up.sub(&down.broadcast_mul(b)?)?
        }
        other => bail!("{other:?} is not supported in training"),
    };
    match activation.is_none() {
        true => Ok(y),
        false => y.contiguous()?.apply_op1(Clamp(activation)),
    }
}

fn layer_norm(ins: &[Tensor], axes: &[usize], epsilon: f32) -> Result<Tensor> {
    let x = &ins[0];
    let mut mean = x.clone();
    for &axis in axes {
        mean = mean.mean_keepdim(axis)?;
    }
    let centred = x.broadcast_sub(&mean)?;
    let mut variance = centred.sqr()?;
    for &axis in axes {
        variance = variance.mean_keepdim(axis)?;
    }
    centred.broadcast_div(&(variance + f64::from(epsilon))?.sqrt()?)
}

fn reduce(x: &Tensor, kind: Reduction, axes: &[usize], keep: bool) -> Result<Tensor> {
    let mut y = match kind {
        Reduction::SumSquare | Reduction::L2 => x.sqr()?,
        Reduction::L1 => x.abs()?,
        _ => x.clone(),
    };
    for &axis in axes {
        y = match kind {
            Reduction::Mean => y.mean_keepdim(axis)?,
            Reduction::Max => y.max_keepdim(axis)?,
            Reduction::Min => y.min_keepdim(axis)?,
            Reduction::Prod => bail!("a product is not supported in training"),
            _ => y.sum_keepdim(axis)?,
        };
    }
    if kind == Reduction::L2 {
        y = y.sqrt()?;
    }
    if !keep {
        for &axis in axes.iter().rev() {
            y = y.squeeze(axis)?;
        }
    }
    Ok(y)
}

/// Runs any op that isn't treated apart.
pub(super) fn run(op: &Op, ins: &[Tensor], batch: usize) -> Result<Tensor> {
    let x = &ins[0];
    match op {
        Op::Gemm { .. } => gemm(op, ins),
        Op::MatMul => x.contiguous()?.broadcast_matmul(&ins[1].contiguous()?),
        Op::LayerNorm { axis, epsilon } => {
            let axes: Vec<usize> = (*axis..x.rank()).collect();
            let mut y = layer_norm(ins, &axes, *epsilon)?.broadcast_mul(&ins[1])?;
            if let Some(shift) = ins.get(2) {
                y = y.broadcast_add(shift)?;
            }
            Ok(y)
        }
        Op::InstanceNorm { epsilon } => {
            let axes: Vec<usize> = (2..x.rank()).collect();
            let mut each = vec![1; x.rank()];
            each[1] = x.dim(1)?;
            let y = layer_norm(ins, &axes, *epsilon)?;
            let y = y.broadcast_mul(&ins[1].reshape(each.as_slice())?)?;
            y.broadcast_add(&ins[2].reshape(each.as_slice())?)
        }
        Op::GlobalPool { average } => {
            let axes: Vec<usize> = (2..x.rank()).collect();
            let kind = if *average {
                Reduction::Mean
            } else {
                Reduction::Max
            };
            reduce(x, kind, &axes, true)
        }
        Op::Unary(op) => unary(x, *op),
        Op::Binary(op, activation) => binary(x, &ins[1], *op, *activation),
        Op::Softmax { axis, flatten, log } => softmax(x, *axis, *flatten, *log),
        Op::Reshape { to } => {
            let to: Vec<usize> = to.iter().map(|d| d.at(batch)).collect();
            x.reshape(to)
        }
        Op::Transpose { perm } => x.permute(perm.as_slice())?.contiguous(),
        Op::Concat { axis } => Tensor::cat(ins, *axis),
        Op::Slice { ranges } => slice(x, ranges),
        Op::Pad { mode, pads, value } => pad(x, *mode, pads, *value),
        Op::Gather { axis } => gather(x, &ins[1], *axis),
        Op::Expand { to } => {
            let to: Vec<usize> = to.iter().map(|d| d.at(batch)).collect();
            x.broadcast_as(to)?.contiguous()
        }
        Op::Reduce { kind, axes, keep } => reduce(x, *kind, axes, *keep),
        Op::Identity => Ok(x.clone()),
        Op::Lrn {
            alpha,
            beta,
            bias,
            size,
        } => local_response(x, [*alpha, *beta, *bias], *size),
        other => {
            let text = format!("{other:?}");
            let name = text
                .split([' ', '(', '{'])
                .next()
                .unwrap_or("op")
                .to_string();
            bail!("{name} is not supported in training")
        }
    }
}

fn gemm(op: &Op, ins: &[Tensor]) -> Result<Tensor> {
    let Op::Gemm {
        trans_a,
        trans_b,
        alpha,
        beta,
        activation,
    } = op
    else {
        bail!("no product of matrices");
    };
    let turn = |t: &Tensor, turn: bool| if turn { t.t() } else { Ok(t.clone()) };
    let (a, b) = (turn(&ins[0], *trans_a)?, turn(&ins[1], *trans_b)?);
    let mut y = a.contiguous()?.matmul(&b.contiguous()?)?;
    if *alpha != 1.0 {
        y = (y * f64::from(*alpha))?;
    }
    if let Some(c) = ins.get(2) {
        let c = if *beta == 1.0 {
            c.clone()
        } else {
            (c * f64::from(*beta))?
        };
        y = y.broadcast_add(&c)?;
    }
    match activation.is_none() {
        true => Ok(y),
        false => y.apply_op1(Clamp(*activation)),
    }
}

fn softmax(x: &Tensor, axis: usize, flatten: bool, log: bool) -> Result<Tensor> {
    let dims = x.dims().to_vec();
    let x = match flatten {
        true => x.reshape((dims[..axis].iter().product::<usize>(), ()))?,
        false => x.clone(),
    };
    let over = if flatten { 1 } else { axis };
    let y = match log {
        true => candle_nn::ops::log_softmax(&x, over)?,
        false => candle_nn::ops::softmax(&x, over)?,
    };
    y.reshape(dims)
}

fn slice(x: &Tensor, ranges: &[Option<SliceRange>]) -> Result<Tensor> {
    let mut y = x.clone();
    for (axis, range) in ranges.iter().enumerate() {
        let Some(r) = range else { continue };
        if r.step == 1 {
            y = y.narrow(axis, r.start, r.count)?;
        } else {
            let index = (0..r.count as i64).map(|i| (r.start as i64 + i * r.step) as u32);
            let index = Tensor::from_iter(index, &Device::Cpu)?;
            y = y.contiguous()?.index_select(&index, axis)?;
        }
    }
    Ok(y)
}

fn pad(x: &Tensor, mode: PadMode, pads: &[(i64, i64)], value: f32) -> Result<Tensor> {
    if mode != PadMode::Constant || value != 0.0 {
        bail!("padding other than by zeros is not supported in training");
    }
    let mut y = x.clone();
    for (axis, &(before, after)) in pads.iter().enumerate() {
        let crop = (before.min(0).unsigned_abs(), after.min(0).unsigned_abs());
        let crop = (crop.0 as usize, crop.1 as usize);
        if crop != (0, 0) {
            let Some(left) = y.dim(axis)?.checked_sub(crop.0 + crop.1) else {
                bail!("crops more than there is on axis {axis}");
            };
            y = y.narrow(axis, crop.0, left)?;
        }
        let (before, after) = (before.max(0) as usize, after.max(0) as usize);
        if before + after > 0 {
            y = y.pad_with_zeros(axis, before, after)?;
        }
    }
    Ok(y)
}

/// The elements of `x` along `axis` that `index` names; negative ones count from the end.
fn gather(x: &Tensor, index: &Tensor, axis: usize) -> Result<Tensor> {
    let dims = index.dims().to_vec();
    let index = index.flatten_all()?;
    let extent = x.dim(axis)? as i64;
    let index = index.to_dtype(DType::I64)?.to_vec1::<i64>()?;
    let index = index
        .iter()
        .map(|&i| if i < 0 { i + extent } else { i } as u32);
    let y = x
        .contiguous()?
        .index_select(&Tensor::from_iter(index, &Device::Cpu)?, axis)?;
    let mut to = x.dims()[..axis].to_vec();
    to.extend(dims);
    to.extend(&x.dims()[axis + 1..]);
    y.reshape(to)
}

/// Each channel by the sum of squares of the `size` channels around it.
fn local_response(x: &Tensor, [alpha, beta, bias]: [f32; 3], size: usize) -> Result<Tensor> {
    let (before, after) = ((size - 1) / 2, size / 2);
    let squares = x.sqr()?.pad_with_zeros(1, before, after)?;
    let channels = x.dim(1)?;
    let mut sum = squares.narrow(1, 0, channels)?;
    for i in 1..size {
        sum = (sum + squares.narrow(1, i, channels)?)?;
    }
    let base = sum.affine(f64::from(alpha) / size as f64, f64::from(bias))?;
    x.div(&base.powf(f64::from(beta))?)
}
