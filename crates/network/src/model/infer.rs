/*!
Shape and type inference: what an op makes of its inputs, one function a family of ops.

Every check that needs shapes lives here, so that a graph built by hand, a head written by the user
and a file imported are held to the same rules. Arithmetic is checked: extents come from files.
*/

mod algebra;
mod layout;
mod spatial;

use super::constant::DType;
use super::op::Op;
use super::shape::{Dim, Shape};

/// Shape and element type of one input or output.
pub type Operand<'a> = (&'a Shape, DType);

/// The largest value a graph may hold at batch size 1, in elements (8 GiB of floats). Beyond it a
/// file is broken or hostile, and nothing may be allocated on its word.
pub const MAX_ELEMENTS: usize = 1 << 31;

/// The largest extent of a kernel, stride, dilation or padding.
const MAX_WINDOW: usize = 1 << 24;

/// Why an op can't take its inputs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// Too few or too many inputs.
    #[error("takes {takes} inputs, has {found}")]
    Inputs {
        /// How many it takes.
        takes: &'static str,
        /// How many there are.
        found: usize,
    },
    /// Extents that don't fit each other or the op's settings.
    #[error("{0}")]
    Mismatch(String),
    /// An element type the op can't take.
    #[error("takes {takes}, not {found:?}")]
    Type {
        /// Element types that the op accepts, in words.
        takes: &'static str,
        /// Element type of the input that was given.
        found: DType,
    },
    /// The result would be larger than [`MAX_ELEMENTS`].
    #[error("the result has more than {MAX_ELEMENTS} elements")]
    TooLarge,
}

pub(crate) type Inferred = Result<Vec<(Shape, DType)>, ShapeError>;

pub(crate) fn mismatch<T>(what: impl Into<String>) -> Result<T, ShapeError> {
    Err(ShapeError::Mismatch(what.into()))
}

/// Shapes and types of the outputs of `op`. A maximum pool yields two (values and indices), of
/// which a node may use only the first; every other op yields as many as its node has.
pub fn infer(op: &Op, inputs: &[Operand]) -> Result<Vec<(Shape, DType)>, ShapeError> {
    let outputs = match op {
        Op::Conv { .. } => spatial::conv(op, inputs),
        Op::Pool {
            kind,
            window,
            extra,
            ..
        } => spatial::pool(*kind, window, extra, inputs),
        Op::GlobalPool { .. } => spatial::global_pool(inputs),
        Op::Resize { to, .. } => spatial::resize(to, inputs),
        Op::BatchNorm { .. } => spatial::channel_norm(inputs, "5", 5),
        Op::InstanceNorm { .. } => spatial::channel_norm(inputs, "3", 3),
        Op::Lrn { size, .. } => spatial::lrn(*size, inputs),
        Op::LayerNorm { axis, .. } => algebra::layer_norm(*axis, inputs),
        Op::Gemm {
            trans_a, trans_b, ..
        } => algebra::gemm(*trans_a, *trans_b, inputs),
        Op::MatMul => algebra::matmul(inputs),
        Op::Unary(u) => algebra::unary(*u, inputs),
        Op::Binary(b, _) => algebra::binary(*b, inputs),
        Op::Where => algebra::choose(inputs),
        Op::Softmax { axis, .. } => algebra::softmax(*axis, inputs),
        Op::Reduce { axes, keep, .. } => algebra::reduce(axes, *keep, inputs),
        Op::ArgMax { axis, keep, .. } => algebra::arg_max(*axis, *keep, inputs),
        Op::Cast { to } => one(inputs).map(|(s, _)| vec![(s.clone(), *to)]),
        Op::Quantize { axis, to } => algebra::quantize(*axis, Some(*to), inputs),
        Op::Dequantize { axis } => algebra::quantize(*axis, None, inputs),
        Op::Identity => one(inputs).map(|(s, t)| vec![(s.clone(), t)]),
        Op::Reshape { to } => layout::reshape(to, inputs),
        Op::Transpose { perm } => layout::transpose(perm, inputs),
        Op::Concat { axis } => layout::concat(*axis, inputs),
        Op::Split { axis, sizes } => layout::split(*axis, sizes, inputs),
        Op::Slice { ranges } => layout::slice(ranges, inputs),
        Op::Pad { mode, pads, .. } => layout::pad(*mode, pads, inputs),
        Op::Gather { axis } => layout::gather(*axis, inputs),
        Op::Expand { to } => layout::expand(to, inputs),
        Op::Tile { repeats } => layout::tile(repeats, inputs),
    }?;
    for (shape, _) in &outputs {
        match volume(shape) {
            Some(v) if v.fixed <= MAX_ELEMENTS => {}
            _ => return Err(ShapeError::TooLarge),
        }
    }
    Ok(outputs)
}

/// Number of elements as `fixed · N^degree`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Volume {
    pub fixed: usize,
    pub degree: usize,
}

/// The number of elements of a shape; `None` if it doesn't fit a `usize`.
pub(crate) fn volume(shape: &Shape) -> Option<Volume> {
    let mut v = Volume {
        fixed: 1,
        degree: 0,
    };
    // A zero among the extents must not hide an overflow of the others: strides multiply them too.
    let mut nonzero = 1usize;
    for d in &shape.0 {
        let n = match *d {
            Dim::Fixed(n) => n,
            Dim::Batch(k) => {
                v.degree += 1;
                k
            }
        };
        nonzero = nonzero.checked_mul(n.max(1))?;
        v.fixed *= n;
    }
    if v.fixed == 0 {
        v.degree = 0;
    }
    Some(v)
}

/// Gives the input of an op that takes one alone.
fn one<'a>(inputs: &[Operand<'a>]) -> Result<Operand<'a>, ShapeError> {
    count(inputs, "1", 1, 1)?;
    Ok(inputs[0])
}

/// Checks the number of inputs.
fn count(
    inputs: &[Operand],
    takes: &'static str,
    low: usize,
    high: usize,
) -> Result<(), ShapeError> {
    if (low..=high).contains(&inputs.len()) {
        Ok(())
    } else {
        Err(ShapeError::Inputs {
            takes,
            found: inputs.len(),
        })
    }
}

/// Checks that an input holds floats.
fn float(operand: Operand<'_>) -> Result<&Shape, ShapeError> {
    match operand.1 {
        DType::F32 => Ok(operand.0),
        found => Err(ShapeError::Type {
            takes: "floats",
            found,
        }),
    }
}

/// The extent of an axis that may not depend on the batch.
fn fixed(shape: &Shape, axis: usize) -> Result<usize, ShapeError> {
    match shape.0[axis] {
        Dim::Fixed(n) => Ok(n),
        Dim::Batch(_) => mismatch(format!("axis {axis} of {shape} depends on the batch size")),
    }
}

/// Checks that `axis` is one of the shape's.
fn axis_of(shape: &Shape, axis: usize) -> Result<(), ShapeError> {
    if axis < shape.rank() {
        Ok(())
    } else {
        mismatch(format!("there is no axis {axis} in {shape}"))
    }
}

/// Numpy broadcasting. An extent of 1 stretches to any other, the batch included.
pub fn broadcast(a: &Shape, b: &Shape) -> Result<Shape, ShapeError> {
    let rank = a.rank().max(b.rank());
    let at = |s: &Shape, i: usize| match (i + s.rank()).checked_sub(rank) {
        Some(k) => s.0[k],
        None => Dim::Fixed(1),
    };
    let dims: Option<Vec<Dim>> = (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Some(x),
            (Dim::Fixed(1), y) => Some(y),
            (x, Dim::Fixed(1)) => Some(x),
            _ => None,
        })
        .collect();
    match dims {
        Some(dims) => Ok(Shape(dims)),
        None => mismatch(format!("{a} and {b} don't broadcast")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::op::{Activation, PoolKind, Window};
    use super::*;
    use pretty_assertions::assert_eq;

    fn shape_of(op: &Op, inputs: &[&Shape]) -> Result<String, String> {
        let operands: Vec<Operand> = inputs.iter().map(|s| (*s, DType::F32)).collect();
        infer(op, &operands)
            .map(|o| o[0].0.to_string())
            .map_err(|e| e.to_string())
    }

    fn conv(window: Window, groups: usize) -> Op {
        Op::Conv {
            window,
            groups,
            bias: false,
            residual: false,
            activation: Activation::NONE,
        }
    }

    #[test]
    fn convolutions_carry_the_batch_and_round_down() {
        let x = Shape::batched(&[3, 224, 224]);
        let w = Shape::fixed(&[64, 3, 7, 7]);
        let op = conv(Window::square(7, 2, 3), 1);
        assert_eq!(shape_of(&op, &[&x, &w]).unwrap(), "N×64×112×112");
    }

    #[test]
    fn a_convolution_that_does_not_fit_says_so() {
        let x = Shape::batched(&[3, 4, 4]);
        let op = conv(Window::square(7, 1, 0), 1);
        let w = Shape::fixed(&[8, 3, 7, 7]);
        let e = shape_of(&op, &[&x, &w]).unwrap_err();
        assert!(e.contains("does not fit"), "{e}");
        let w = Shape::fixed(&[8, 4, 7, 7]);
        let e = shape_of(&op, &[&x, &w]).unwrap_err();
        assert!(e.contains("channels"), "{e}");
    }

    #[test]
    fn reshapes_keep_the_number_of_elements_with_the_batch() {
        let x = Shape::batched(&[8, 4]);
        let to = |dims: Vec<Dim>| Op::Reshape { to: dims };
        let ok = to(vec![Dim::Batch(2), Dim::Fixed(16)]);
        assert_eq!(shape_of(&ok, &[&x]).unwrap(), "2N×16");
        assert!(shape_of(&to(vec![Dim::Fixed(32)]), &[&x]).is_err());
    }

    #[test]
    fn gigantic_results_are_refused_before_anything_is_allocated() {
        let x = Shape::fixed(&[1, 1]);
        let op = Op::Tile {
            repeats: vec![1 << 40, 1 << 40],
        };
        assert!(shape_of(&op, &[&x]).is_err());
        let op = Op::Expand {
            to: vec![Dim::Fixed(usize::MAX), Dim::Fixed(3)],
        };
        assert!(shape_of(&op, &[&x]).is_err());
    }

    #[test]
    fn broadcasting_follows_numpy_and_knows_the_batch() {
        let b = |a: &Shape, b: &Shape| broadcast(a, b).map(|s| s.to_string()).ok();
        let x = Shape::batched(&[3, 4]);
        assert_eq!(b(&x, &Shape::fixed(&[4])).as_deref(), Some("N×3×4"));
        assert_eq!(b(&Shape::fixed(&[1, 1, 4]), &x).as_deref(), Some("N×3×4"));
        assert_eq!(b(&x, &Shape::fixed(&[2, 3, 4])), None);
    }

    #[test]
    fn a_maximum_pool_yields_indices_too() {
        let op = Op::Pool {
            kind: PoolKind::Max,
            window: Window::square(2, 2, 0),
            extra: vec![0, 0],
            column_major: false,
        };
        let x = Shape::batched(&[4, 8, 8]);
        let out = infer(&op, &[(&x, DType::U8)]).unwrap();
        assert_eq!(out.len(), 2);
        assert_eq!(out[0], (Shape::batched(&[4, 4, 4]), DType::U8));
        assert_eq!(out[1].1, DType::I64);
    }
}
