/*!
The general path: every op of the model over contiguous row-major tensors of any element type.

What may live here: one file a family of ops, each turning an op with settled extents into a
closure over plain slices. Nothing here is tuned and nothing here is `unsafe`; what has to be fast
has a kernel of its own in `kernels`. Whatever a closure relies on is checked when it is made, so
that an op the engine can't run is refused before anything runs.
*/

mod arrange;
mod broadcast;
mod combine;
mod elementwise;
mod linear;
mod normalize;
mod quantize;
mod reduce;
mod view;
mod window;

pub(crate) use super::kernels::threads::Team;
pub(crate) use view::{View, ViewMut};

use crate::model::{DType, Graph, Op, ValueId};

/// Extents and type of a tensor, which is all the general path knows of it when it compiles.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TensorInfo {
    /// Extents, the batch settled.
    pub dims: Vec<usize>,
    /// Type of the elements.
    pub dtype: DType,
}

impl TensorInfo {
    /// Extents and type of a graph's value at batch size `batch`.
    pub(crate) fn of(graph: &Graph, id: ValueId, batch: usize) -> TensorInfo {
        let value = graph.value(id);
        TensorInfo {
            dims: value.shape.at(batch),
            dtype: value.dtype,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.dims.iter().product()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.len() * self.dtype.bytes()
    }
}

/// A compiled op: reads its inputs, fills its outputs. What is large is handed out in pieces whose
/// extents don't depend on the threads, so that neither does the result; once the run is stopped the
/// rest is left undone.
pub(crate) type Work =
    Box<dyn Fn(&[View<'_>], &mut [ViewMut<'_>], Team<'_>) -> Result<(), String> + Send + Sync>;

/// Floats of a piece that is worth handing to a thread, of an op that does about this much for each.
fn piece(cost: usize) -> usize {
    (1 << 16) / cost.max(1)
}

/// Compiles `op` for tensors of exactly these extents and types. The error says what is not
/// supported.
pub(crate) fn compile(op: &Op, ins: &[TensorInfo], outs: &[TensorInfo]) -> Result<Work, String> {
    let fits = arity(op, ins.len());
    if !fits || outs.is_empty() {
        return Err(format!("{} inputs", ins.len()));
    }
    match op {
        Op::Conv {
            window,
            groups,
            bias,
            residual,
            activation,
        } => window::conv(window, *groups, *bias, *residual, *activation, ins, outs),
        Op::Pool {
            kind,
            window,
            extra,
            column_major,
        } => window::pool(*kind, window, extra, *column_major, ins, outs),
        Op::GlobalPool { average } => reduce::global_pool(*average, ins, outs),
        Op::Gemm {
            trans_a,
            trans_b,
            alpha,
            beta,
            activation,
        } => linear::gemm(*trans_a, *trans_b, *alpha, *beta, *activation, ins, outs),
        Op::MatMul => linear::matmul(ins, outs),
        Op::BatchNorm { epsilon } => normalize::batch(*epsilon, ins, outs),
        Op::LayerNorm { axis, epsilon } => normalize::layer(*axis, *epsilon, ins, outs),
        Op::InstanceNorm { epsilon } => normalize::instance(*epsilon, ins, outs),
        Op::Lrn {
            alpha,
            beta,
            bias,
            size,
        } => normalize::lrn(*alpha, *beta, *bias, *size, ins, outs),
        Op::Softmax { axis, flatten, log } => normalize::softmax(*axis, *flatten, *log, ins, outs),
        Op::Unary(unary) => elementwise::unary(*unary, ins, outs),
        Op::Binary(binary, activation) => elementwise::binary(*binary, *activation, ins, outs),
        Op::Cast { to } => elementwise::cast(*to, ins, outs),
        Op::Where => combine::choose(ins, outs),
        Op::Reshape { .. } | Op::Identity => arrange::copy(ins, outs),
        Op::Transpose { perm } => arrange::transpose(perm, ins, outs),
        Op::Slice { ranges } => arrange::slice(ranges, ins, outs),
        Op::Expand { .. } => arrange::expand(ins, outs),
        Op::Tile { repeats } => arrange::tile(repeats, ins, outs),
        Op::Pad { mode, pads, value } => arrange::pad(*mode, pads, *value, ins, outs),
        Op::Resize {
            to,
            linear,
            half_pixel,
        } => arrange::resize(to, *linear, *half_pixel, ins, outs),
        Op::Concat { axis } => combine::concat(*axis, ins, outs),
        Op::Split { axis, sizes } => combine::split(*axis, sizes, ins, outs),
        Op::Gather { axis } => combine::gather(*axis, ins, outs),
        Op::Reduce { kind, axes, keep } => reduce::reduce(*kind, axes, *keep, ins, outs),
        Op::ArgMax {
            axis,
            keep,
            last,
            min,
        } => reduce::arg_max(*axis, *keep, *last, *min, ins, outs),
        Op::Quantize { axis, to } => quantize::quantize(*axis, *to, ins, outs),
        Op::Dequantize { axis } => quantize::dequantize(*axis, ins, outs),
    }
}

/// Whether `op` can be computed on tensors of these extents and types. The error says what is not
/// supported.
pub(crate) fn check(op: &Op, ins: &[TensorInfo], outs: &[TensorInfo]) -> Result<(), String> {
    compile(op, ins, outs).map(drop)
}

fn arity(op: &Op, inputs: usize) -> bool {
    match op {
        Op::Conv { bias, residual, .. } => {
            inputs == 2 + usize::from(*bias) + usize::from(*residual)
        }
        Op::Gemm { .. } | Op::LayerNorm { .. } => inputs == 2 || inputs == 3,
        Op::Quantize { .. } | Op::Dequantize { .. } => inputs == 2 || inputs == 3,
        Op::MatMul | Op::Binary(..) | Op::Gather { .. } => inputs == 2,
        Op::Where | Op::InstanceNorm { .. } => inputs == 3,
        Op::BatchNorm { .. } => inputs == 5,
        Op::Concat { .. } => inputs >= 1,
        _ => inputs == 1,
    }
}

/// Refuses extents that don't follow from the op: a graph whose shapes were inferred wrongly must
/// not write past a tensor's end.
fn expect_dims(what: &str, info: &TensorInfo, dims: &[usize]) -> Result<(), String> {
    if info.dims == dims {
        return Ok(());
    }
    Err(format!(
        "{what} of extents {:?} instead of {dims:?}",
        info.dims
    ))
}

fn expect_type(what: &str, info: &TensorInfo, dtype: DType) -> Result<(), String> {
    if info.dtype == dtype {
        return Ok(());
    }
    Err(format!(
        "{what} of type {:?} instead of {dtype:?}",
        info.dtype
    ))
}

/// All of `infos` are floats.
fn expect_floats(what: &str, infos: &[&TensorInfo]) -> Result<(), String> {
    let mut infos = infos.iter();
    infos.try_for_each(|info| expect_type(what, info, DType::F32))
}

fn expect_axis(axis: usize, info: &TensorInfo) -> Result<(), String> {
    if axis < info.dims.len() {
        return Ok(());
    }
    Err(format!("axis {axis} of {} axes", info.dims.len()))
}

/// `[before, at, after]`: the tensor seen as three axes around `axis`.
fn around(dims: &[usize], axis: usize) -> [usize; 3] {
    [
        dims[..axis].iter().product(),
        dims[axis],
        dims[axis + 1..].iter().product(),
    ]
}

/// Row-major strides in elements.
fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i] * dims[i];
    }
    strides
}
