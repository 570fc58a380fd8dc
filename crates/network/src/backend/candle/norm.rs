/*! Normalisations over axes of a device's tensors. */

use candle_core::{Result, Tensor};

/// `ins` are the tensor, scale, shift, mean and variance, one value per channel.
pub(super) fn batch(ins: &[Tensor], epsilon: f32) -> Result<Tensor> {
    let x = &ins[0];
    let [scale, shift, mean, variance] = [1, 2, 3, 4].map(|i| &ins[i]);
    let factor = (scale / (variance + f64::from(epsilon))?.sqrt()?)?;
    let y = x.broadcast_sub(&channel(mean, x)?)?;
    y.broadcast_mul(&channel(&factor, x)?)?
        .broadcast_add(&channel(shift, x)?)
}

/// `ins` are the tensor, scale and, where there is one, shift, over the axes from `axis` on.
pub(super) fn layer(ins: &[Tensor], axis: usize, epsilon: f32) -> Result<Tensor> {
    let x = &ins[0];
    let inner: usize = x.dims()[axis..].iter().product();
    let y = normalised(&x.reshape(((), inner))?, epsilon)?;
    let row = |t: &Tensor| t.reshape((1, inner));
    let mut y = y.broadcast_mul(&row(&ins[1])?)?;
    if let Some(shift) = ins.get(2) {
        y = y.broadcast_add(&row(shift)?)?;
    }
    y.reshape(x.dims())
}

/// `ins` are the tensor, scale and shift, one value per channel.
pub(super) fn instance(ins: &[Tensor], epsilon: f32) -> Result<Tensor> {
    let x = &ins[0];
    let inner: usize = x.dims()[2..].iter().product();
    let y = normalised(&x.reshape(((), inner))?, epsilon)?.reshape(x.dims())?;
    y.broadcast_mul(&channel(&ins[1], x)?)?
        .broadcast_add(&channel(&ins[2], x)?)
}

/// Each channel by the sum of squares of the `size` channels around it.
pub(super) fn local_response(
    x: &Tensor,
    [alpha, beta, bias]: [f32; 3],
    size: usize,
) -> Result<Tensor> {
    let squares = x.sqr()?.pad_with_zeros(1, (size - 1) / 2, size / 2)?;
    let channels = x.dim(1)?;
    let mut sum = squares.narrow(1, 0, channels)?.contiguous()?;
    for i in 1..size {
        sum = (sum + squares.narrow(1, i, channels)?)?;
    }
    let base = sum.affine(f64::from(alpha) / size as f64, f64::from(bias))?;
    x / &base.powf(f64::from(beta))?
}

/// Over `axis`, or over all axes from it on where `flatten`; its logarithm if `log`.
pub(super) fn softmax(x: &Tensor, axis: usize, flatten: bool, log: bool) -> Result<Tensor> {
    let dims = x.dims();
    let (x, over) = match flatten {
        true => {
            let outer: usize = x.dims()[..axis].iter().product();
            (x.reshape((outer, ()))?, 1)
        }
        false => (x.clone(), axis),
    };
    let y = x.broadcast_sub(&x.max_keepdim(over)?)?;
    let e = y.exp()?;
    let sum = e.sum_keepdim(over)?;
    match log {
        true => y.broadcast_sub(&sum.log()?)?,
        false => e.broadcast_div(&sum)?,
    }
    .reshape(dims)
}

/// One value per channel, to be broadcast over `x`.
fn channel(t: &Tensor, x: &Tensor) -> Result<Tensor> {
    let mut dims = vec![1; x.rank()];
    dims[1] = t.elem_count();
    t.reshape(dims)
}

/// Rows with mean 0 and variance 1.
fn normalised(rows: &Tensor, epsilon: f32) -> Result<Tensor> {
    let centred = rows.broadcast_sub(&rows.mean_keepdim(1)?)?;
    let variance = centred.sqr()?.mean_keepdim(1)?;
    centred.broadcast_div(&(variance + f64::from(epsilon))?.sqrt()?)
}
