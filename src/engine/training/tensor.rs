/*! Candle's tensors as plain slices, for the custom ops. */

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor};

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

/// A tensor shaped like `like` from its floats.
pub(super) fn shaped(data: Vec<f32>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(data, like.shape(), like.device())
}

/// Samples each thread takes of `samples`.
pub(super) fn share(samples: usize) -> usize {
    samples.div_ceil(rayon::current_num_threads()).max(1)
}
