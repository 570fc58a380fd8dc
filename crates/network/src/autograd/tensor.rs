/*! Candle's tensors as plain slices, and what is done to slices everywhere. */

use crate::engine::kernels::planes;
use crate::model::Activation;
use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Result, Storage, Tensor};
use rayon::prelude::*;
use std::cell::RefCell;

/// Elements a thread should have at least, where each costs next to nothing.
const LEAST: usize = 1 << 14;

/// The floats of a contiguous tensor on the CPU, as a custom op's forward gets it.
pub(super) fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let slice = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&slice[from..to]),
        None => candle_core::bail!("a training op needs contiguous tensors"),
    }
}

/// Hands the floats of a tensor on the CPU to `f`.
pub(super) fn with<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(floats(storage, layout)?),
        _ => candle_core::bail!("a training op needs tensors on the CPU"),
    }
}

/// A tensor from its floats.
pub(super) fn tensor(data: Vec<f32>, dims: &[usize]) -> Result<Tensor> {
    Tensor::from_vec(data, dims, &Device::Cpu)
}

struct Change<F>(RefCell<F>);

impl<F: FnMut(&mut [f32])> InplaceOp1 for Change<F> {
    fn name(&self) -> &'static str {
        "change in place"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (CpuStorage::F32(all), Some((from, to))) = (storage, layout.contiguous_offsets())
        else {
            candle_core::bail!("only contiguous floats are changed in place")
        };
        (self.0.borrow_mut())(&mut all[from..to]);
        Ok(())
    }
}

/// Changes a tensor's floats where they lie. Whoever shares its storage sees it.
pub(super) fn change(tensor: &Tensor, f: impl FnMut(&mut [f32])) -> Result<()> {
    tensor.inplace_op1(&Change(RefCell::new(f)))
}

/// Samples each thread takes of `samples`.
pub(super) fn share(samples: usize) -> usize {
    samples.div_ceil(rayon::current_num_threads()).max(1)
}

/// How many elements of `len` a thread takes, where each costs next to nothing.
pub(super) fn light_share(len: usize) -> usize {
    share(len).max(LEAST)
}

/// Adds `more` to `sum`, element by element.
pub(super) fn add(sum: &mut [f32], more: &[f32]) {
    let each = light_share(sum.len());
    let parts = sum.par_chunks_mut(each).zip(more.par_chunks(each));
    parts.for_each(|(sum, more)| planes::add(sum, more));
}

/// Clamps, and lets NaN through, so that a diverging training shows.
#[inline(always)]
pub(super) fn clamp(v: f32, act: Activation) -> f32 {
    if v < act.low {
        act.low
    } else if v > act.high {
        act.high
    } else {
        v
    }
}

/// The gradient behind a clamp: it passes where the result lies strictly inside.
pub(super) fn mask(grad: &mut [f32], res: &[f32], act: Activation) {
    let each = light_share(grad.len());
    let parts = grad.par_chunks_mut(each).zip(res.par_chunks(each));
    parts.for_each(|(grad, res)| planes::mask(grad, res, (act.low, act.high)));
}

/// The sum of equally long vectors, in order, so that it doesn't depend on who finished first.
pub(super) fn sum(parts: Vec<Vec<f32>>, len: usize) -> Vec<f32> {
    let mut parts = parts.into_iter();
    let mut total = parts.next().unwrap_or_else(|| vec![0.0; len]);
    for part in parts {
        total.iter_mut().zip(&part).for_each(|(t, p)| *t += p);
    }
    total
}
