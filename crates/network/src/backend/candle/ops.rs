/*! One op over tensors of a device. */

use super::clamp::clamp;
use super::layout;
use super::norm;
use super::window::{self, Convolution};
use crate::engine::TensorInfo;
use crate::model::op::{Binary, Reduction, Unary};
use crate::model::{Activation, DType, Op};
use candle_core::{DType as Kind, Result, Tensor, bail};

/// Runs `op`, which [`super::support::check`] has accepted, and returns its outputs.
pub(super) fn run(op: &Op, ins: &[Tensor], outs: &[TensorInfo]) -> Result<Vec<Tensor>> {
    if let Op::Split { axis, sizes } = op {
        let mut start = 0;
        let piece = |&size: &usize| {
            start += size;
            ins[0].narrow(*axis, start - size, size)
        };
        return sizes.iter().map(piece).collect();
    }
    Ok(vec![one(op, ins, &outs[0])?])
}

fn one(op: &Op, ins: &[Tensor], out: &TensorInfo) -> Result<Tensor> {
    let x = &ins[0];
    let dims = out.dims.as_slice();
    match op {
        Op::Conv {
            window,
            groups,
            bias,
            residual,
            activation,
        } => {
            let convolution = Convolution {
                window,
                groups: *groups,
                bias: *bias,
                residual: *residual,
                activation: *activation,
            };
            convolution.run(ins, out)
        }
        Op::Pool {
            kind,
            window,
            extra,
            ..
        } => window::pool(*kind, window, extra, x, out),
        Op::GlobalPool { average } => global_pool(x, *average)?.reshape(dims),
        Op::Gemm { .. } => gemm(op, ins),
        Op::MatMul => matmul(x, &ins[1])?.reshape(dims),
        Op::BatchNorm { epsilon } => norm::batch(ins, *epsilon),
        Op::LayerNorm { axis, epsilon } => norm::layer(ins, *axis, *epsilon),
        Op::InstanceNorm { epsilon } => norm::instance(ins, *epsilon),
        Op::Lrn {
            alpha,
            beta,
            bias,
            size,
        } => norm::local_response(x, [*alpha, *beta, *bias], *size),
        Op::Softmax { axis, flatten, log } => norm::softmax(x, *axis, *flatten, *log),
        Op::Unary(op) => unary(x, *op),
        Op::Binary(op, activation) => clamp(&binary(x, &ins[1], *op)?, *activation),
        Op::Where => {
            let wide = |t: &Tensor| t.broadcast_as(dims)?.contiguous();
            wide(x)?.where_cond(&wide(&ins[1])?, &wide(&ins[2])?)
        }
        Op::Cast { to } => match to {
            DType::F32 => x.to_dtype(Kind::F32),
            DType::I64 => x.to_dtype(Kind::I64),
            DType::Bool => x.ne(&x.zeros_like()?),
            _ => Ok(x.clone()),
        },
        Op::Reshape { .. } => x.contiguous()?.reshape(dims),
        Op::Identity => Ok(x.clone()),
        Op::Transpose { perm } => x.permute(perm.as_slice())?.contiguous(),
        Op::Concat { axis } => Tensor::cat(ins, *axis),
        Op::Slice { ranges } => layout::slice(x, ranges),
        Op::Pad { mode, pads, value } => layout::pad(x, *mode, pads, *value),
        Op::Gather { axis } => layout::gather(x, &ins[1], *axis),
        Op::Expand { .. } => x.broadcast_as(dims)?.contiguous(),
        Op::Tile { repeats } => tile(x, repeats),
        Op::Resize {
            to,
            linear,
            half_pixel,
        } => layout::resize(x, to, *linear, *half_pixel),
        Op::Reduce { kind, axes, .. } => reduce(x, *kind, axes)?.reshape(dims),
        Op::ArgMax {
            axis, last, min, ..
        } => arg_max(x, *axis, *last, *min)?.reshape(dims),
        Op::Quantize { axis, to } => quantize(ins, *axis, *to),
        Op::Dequantize { axis } => dequantize(ins, *axis),
        Op::Split { .. } => bail!("a split has several outputs"),
    }
}

fn global_pool(x: &Tensor, average: bool) -> Result<Tensor> {
    let flat = x.flatten_from(2)?;
    match average {
        true => flat.mean_keepdim(2),
        false => flat.max_keepdim(2),
    }
}

/// A [`Op::Gemm`] of two matrices and what is added to their product, if anything.
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
    let turn = |t: &Tensor, turn: bool| match turn {
        true => t.t()?.contiguous(),
        false => t.contiguous(),
    };
    let y = turn(&ins[0], *trans_a)?.matmul(&turn(&ins[1], *trans_b)?)?;
    let mut y = scaled(&y, *alpha)?;
    if let Some(c) = ins.get(2) {
        y = y.broadcast_add(&scaled(c, *beta)?)?;
    }
    clamp(&y, *activation)
}

/// A vector on the left is a row, on the right a column.
fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let a = if a.rank() == 1 {
        a.unsqueeze(0)?
    } else {
        a.contiguous()?
    };
    let b = if b.rank() == 1 {
        b.unsqueeze(1)?
    } else {
        b.contiguous()?
    };
    a.broadcast_matmul(&b.contiguous()?)
}

fn tile(x: &Tensor, repeats: &[usize]) -> Result<Tensor> {
    let mut y = x.contiguous()?;
    for (axis, &times) in repeats.iter().enumerate() {
        if times > 1 {
            y = Tensor::cat(&vec![y; times], axis)?;
        }
    }
    Ok(y)
}

/// `ins` are the tensor, its scale and, where there is one, its zero point.
fn quantize(ins: &[Tensor], axis: usize, to: DType) -> Result<Tensor> {
    let x = &ins[0];
    let scaled = x.broadcast_div(&along(&ins[1], x, axis)?)?;
    let mut y = round(&scaled)?;
    if let Some(zero) = ins.get(2) {
        y = y.broadcast_add(&along(zero, x, axis)?)?;
    }
    match to {
        DType::U8 => y.clamp(0f32, 255f32)?.to_dtype(Kind::U8),
        _ => y.clamp(-128f32, 127f32)?.to_dtype(Kind::I64),
    }
}

/// `ins` are as in [`quantize`].
fn dequantize(ins: &[Tensor], axis: usize) -> Result<Tensor> {
    let x = &ins[0];
    let mut y = x.to_dtype(Kind::F32)?;
    if let Some(zero) = ins.get(2) {
        y = y.broadcast_sub(&along(zero, x, axis)?)?;
    }
    y.broadcast_mul(&along(&ins[1], x, axis)?)
}

fn scaled(x: &Tensor, by: f32) -> Result<Tensor> {
    match by == 1.0 {
        true => Ok(x.clone()),
        false => x * f64::from(by),
    }
}

/// One number for all of `x` or for each index of `axis`, as floats.
fn along(t: &Tensor, x: &Tensor, axis: usize) -> Result<Tensor> {
    let mut dims = vec![1; x.rank()];
    if t.elem_count() > 1 {
        dims[axis] = t.elem_count();
    }
    t.to_dtype(Kind::F32)?.reshape(dims)
}

/// Half to even: candle's own rounds half away from zero.
fn round(x: &Tensor) -> Result<Tensor> {
    let floor = x.floor()?;
    let over = (x - &floor)?;
    let odd = (&floor - ((&floor * 0.5)?.floor()? * 2.0)?)?;
    let up = over.gt(0.5)?.to_dtype(Kind::F32)?;
    let half = over.eq(0.5)?.to_dtype(Kind::F32)?;
    floor + (up + (half * odd)?)?
}

fn sigmoid(x: &Tensor) -> Result<Tensor> {
    (x.neg()?.exp()? + 1.0)?.recip()
}

fn softplus(x: &Tensor) -> Result<Tensor> {
    x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?
}

fn unit(x: &Tensor, alpha: f32, beta: f32) -> Result<Tensor> {
    x.affine(f64::from(alpha), f64::from(beta))?
        .clamp(0f32, 1f32)
}

fn unary(x: &Tensor, op: Unary) -> Result<Tensor> {
    match op {
        Unary::Relu => x.relu(),
        Unary::LeakyRelu { alpha } => x.relu()? - (x.neg()?.relu()? * f64::from(alpha))?,
        Unary::Elu { alpha } => x.elu(alpha.into()),
        Unary::Selu { alpha, gamma } => x.elu(alpha.into())? * f64::from(gamma),
        Unary::Sigmoid => sigmoid(x),
        Unary::HardSigmoid { alpha, beta } => unit(x, alpha, beta),
        Unary::HardSwish => x * unit(x, 1.0 / 6.0, 0.5)?,
        Unary::Silu => x.silu(),
        Unary::Tanh => x.tanh(),
        Unary::Gelu { tanh: true } => x.gelu(),
        Unary::Gelu { tanh: false } => x.gelu_erf(),
        Unary::Softplus => softplus(x),
        Unary::Softsign => x / (x.abs()? + 1.0)?,
        Unary::Mish => x * softplus(x)?.tanh()?,
        Unary::Erf => x.erf(),
        Unary::Exp => x.exp(),
        Unary::Log => x.log(),
        Unary::Sqrt => x.sqrt(),
        Unary::Reciprocal => x.recip(),
        Unary::Neg => x.neg(),
        Unary::Abs => x.abs(),
        Unary::Sign => x.sign(),
        Unary::Floor => x.floor(),
        Unary::Ceil => x.ceil(),
        Unary::Round => round(x),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        Unary::Not => x.eq(&x.zeros_like()?),
        Unary::Clip { low, high } => clamp(x, Activation { low, high }),
    }
}

fn binary(a: &Tensor, b: &Tensor, op: Binary) -> Result<Tensor> {
    match op {
        Binary::Add => a.broadcast_add(b),
        Binary::Sub => a.broadcast_sub(b),
        Binary::Mul | Binary::And => a.broadcast_mul(b),
        Binary::Div => a.broadcast_div(b),
        Binary::Pow => {
            let exponent = b.flatten_all()?.get(0)?.to_scalar::<f32>()?;
            let dims = a.shape().broadcast_shape_binary_op(b.shape(), "pow")?;
            match exponent {
                2.0 => a.sqr()?,
                0.5 => a.sqrt()?,
                e => a.powf(e.into())?,
            }
            .reshape(dims)
        }
        Binary::Min => a.broadcast_minimum(b),
        Binary::Max | Binary::Or => a.broadcast_maximum(b),
        Binary::Mod => {
            // The sign of the dividend: what is left of the quotient's whole part, towards zero.
            let quotient = a.broadcast_div(b)?;
            let whole = (quotient.abs()?.floor()? * quotient.sign()?)?;
            a.broadcast_sub(&whole.broadcast_mul(b)?)
        }
        Binary::Equal => a.broadcast_eq(b),
        Binary::Greater => a.broadcast_gt(b),
        Binary::GreaterOrEqual => a.broadcast_ge(b),
        Binary::Less => a.broadcast_lt(b),
        Binary::LessOrEqual => a.broadcast_le(b),
        Binary::Xor => a.broadcast_ne(b),
        Binary::PRelu => a.relu()?.broadcast_sub(&a.neg()?.relu()?.broadcast_mul(b)?),
    }
}

/// Over `axes`, each kept with extent 1.
fn reduce(x: &Tensor, kind: Reduction, axes: &[usize]) -> Result<Tensor> {
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
            Reduction::Prod => {
                let mut all = y.narrow(axis, 0, 1)?.contiguous()?;
                for i in 1..y.dim(axis)? {
                    all = (all * y.narrow(axis, i, 1)?)?;
                }
                all
            }
            _ => y.sum_keepdim(axis)?,
        };
    }
    match kind {
        Reduction::L2 => y.sqrt(),
        _ => Ok(y),
    }
}

/// Candle doesn't say which of equal ones it finds: the index is the first or last that equals the
/// extreme.
fn arg_max(x: &Tensor, axis: usize, last: bool, min: bool) -> Result<Tensor> {
    let x = if min { x.neg()? } else { x.clone() };
    let n = x.dim(axis)?;
    let top = x.broadcast_eq(&x.max_keepdim(axis)?)?;
    let mut dims = vec![1; x.rank()];
    dims[axis] = n;
    // The largest number belongs to the index wanted; floats hold every index exactly.
    let rank = |i: usize| if last { i } else { n - 1 - i } as f32 + 1.0;
    let ranks = Tensor::from_vec((0..n).map(rank).collect(), dims, x.device())?;
    let best = top
        .to_dtype(Kind::F32)?
        .broadcast_mul(&ranks)?
        .max_keepdim(axis)?;
    let index = match last {
        true => (best - 1.0)?,
        false => best.affine(-1.0, n as f64)?,
    };
    index.to_dtype(Kind::I64)
}
