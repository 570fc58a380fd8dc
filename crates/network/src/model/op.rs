/*!
Typed operations: what an ONNX node means once every attribute default, opset difference and
constant input is settled. Axes are counted from the front, never negative.

`inputs` named below are the node's inputs in order; those in brackets may be absent and are then
left out at the end of the list, or named explicitly by a flag of the op.
*/

use super::constant::DType;
use super::shape::Dim;

/// A clamp fused into the op that produces a value: `min(max(x, low), high)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Activation {
    /// Lower bound, −∞ for none.
    pub low: f32,
    /// Upper bound, +∞ for none.
    pub high: f32,
}

impl Activation {
    /// Leaves every value as it is.
    pub const NONE: Activation = Activation {
        low: f32::NEG_INFINITY,
        high: f32::INFINITY,
    };
    /// Rectified linear unit: `max(x, 0)`.
    pub const RELU: Activation = Activation {
        low: 0.0,
        high: f32::INFINITY,
    };
    /// Rectified linear unit with a ceiling: `min(max(x, 0), 6)`.
    pub const RELU6: Activation = Activation {
        low: 0.0,
        high: 6.0,
    };

    /// Whether it changes nothing.
    pub fn is_none(self) -> bool {
        self == Activation::NONE
    }
}

/// A sliding window over the spatial axes (1, 2 or 3 of them), as convolutions and pools share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Window {
    /// Extent of the kernel on each spatial axis.
    pub kernel: Vec<usize>,
    /// Step on each spatial axis.
    pub strides: Vec<usize>,
    /// Distance between taps on each spatial axis.
    pub dilations: Vec<usize>,
    /// Padding before and after, on each spatial axis; `auto_pad` is settled at import.
    pub pads: Vec<(usize, usize)>,
}

impl Window {
    /// A square 2-D window with equal padding on all sides.
    pub fn square(kernel: usize, stride: usize, pad: usize) -> Self {
        Window {
            kernel: vec![kernel; 2],
            strides: vec![stride; 2],
            dilations: vec![1; 2],
            pads: vec![(pad, pad); 2],
        }
    }

    /// Output extent on spatial axis `axis` for input extent `input`, rounding down.
    /// `None` where the window doesn't fit.
    pub fn output(&self, axis: usize, input: usize) -> Option<usize> {
        let (before, after) = self.pads[axis];
        let reach = self.dilations[axis] * (self.kernel[axis] - 1) + 1;
        (input + before + after)
            .checked_sub(reach)
            .map(|room| room / self.strides[axis] + 1)
    }
}

/// Which value a pool keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolKind {
    /// The largest value in the window.
    Max,
    /// The mean, over the padding too if `count_include_pad`.
    Average {
        /// Divide by the whole window even where it hangs over the edge.
        count_include_pad: bool,
    },
}

/// Element-wise functions of one input.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub enum Unary {
    Relu,
    LeakyRelu {
        alpha: f32,
    },
    Elu {
        alpha: f32,
    },
    Selu {
        alpha: f32,
        gamma: f32,
    },
    Sigmoid,
    /// `max(0, min(1, alpha·x + beta))`
    HardSigmoid {
        alpha: f32,
        beta: f32,
    },
    /// `x · max(0, min(1, x/6 + 1/2))`
    HardSwish,
    /// Sigmoid linear unit, also called swish: `x · sigmoid(x)`.
    Silu,
    Tanh,
    /// Exact (`erf`) or tanh approximation.
    Gelu {
        tanh: bool,
    },
    Softplus,
    Softsign,
    Mish,
    Erf,
    Exp,
    Log,
    Sqrt,
    Reciprocal,
    Neg,
    Abs,
    Sign,
    Floor,
    Ceil,
    /// Nearest whole number; halves go to the even one.
    Round,
    Sin,
    Cos,
    Not,
    /// Fixed bounds; ±∞ for none.
    Clip {
        low: f32,
        high: f32,
    },
}

/// Element-wise functions of two inputs with numpy broadcasting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Min,
    Max,
    /// Floats: sign of the dividend (C's `fmod`). Integers: sign of the divisor.
    Mod,
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    And,
    Or,
    Xor,
    /// `slope` is the second input.
    PRelu,
}

/// How `Reduce` makes one value of many, by ONNX's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Reduction {
    Mean,
    Sum,
    Max,
    Min,
    Prod,
    SumSquare,
    L1,
    L2,
}

/// What `Pad` puts into the cells it adds, by ONNX's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PadMode {
    Constant,
    Reflect,
    Edge,
    Wrap,
}

/// One operation of the graph.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// `x [N, Cin, …], weight [Cout, Cin/groups, …], (bias [Cout]), (residual [N, Cout, …])`.
    /// Residual is added before the activation.
    Conv {
        /// Kernel, strides, dilations, padding.
        window: Window,
        /// Groups; equal to Cin for a depthwise convolution.
        groups: usize,
        /// Whether a bias is among the inputs.
        bias: bool,
        /// Whether the last input is a residual.
        residual: bool,
        /// Clamp of the result, fused from a ReLU that follows.
        activation: Activation,
    },
    /// `a, b, (c)`: `alpha · a' · b' + beta · c`, a' and b' transposed if asked; 2-D, c broadcast.
    /// The classifier's op.
    Gemm {
        /// Whether `a` is transposed before the product.
        trans_a: bool,
        /// Whether `b` is transposed before the product.
        trans_b: bool,
        /// Factor of the product.
        alpha: f32,
        /// Factor that `c` is multiplied by.
        beta: f32,
        /// Clamp of the result, fused from a ReLU that follows.
        activation: Activation,
    },
    /// `a, b`, numpy semantics with broadcast batch axes.
    MatMul,
    /// `x [N, C, …], scale, shift, mean, variance` (each `[C]`); gone after fusion where a
    /// convolution stands before it.
    BatchNorm {
        /// Added to the variance.
        epsilon: f32,
    },
    /// `x, scale, (shift)`, normalised over the axes from `axis` on.
    LayerNorm {
        /// First of the axes that mean and variance are taken over.
        axis: usize,
        /// Added to the variance.
        epsilon: f32,
    },
    /// `x [N, C, …], scale [C], shift [C]`, normalised over each channel's positions.
    InstanceNorm {
        /// Added to the variance.
        epsilon: f32,
    },
    /// Local response normalisation over `size` channels.
    Lrn {
        /// Factor of the window's mean square (ONNX's `alpha`).
        alpha: f32,
        /// Exponent of the divisor (ONNX's `beta`).
        beta: f32,
        /// Number added before the power is taken (ONNX's `bias`).
        bias: f32,
        /// Channels in the window.
        size: usize,
    },
    /// `x [N, C, …]`; a second output, where it is there, holds the indices of the maxima (I64,
    /// flat over the whole input tensor).
    Pool {
        /// Whether the window's maximum or its mean is taken.
        kind: PoolKind,
        /// The window, with the cells that `ceil_mode` adds already in `pads`' end.
        window: Window,
        /// How many cells at the end of each spatial axis only `ceil_mode` added (part of `pads`):
        /// they never count in a mean, even where the padding does.
        extra: Vec<usize>,
        /// Indices count columns first (`storage_order` 1).
        column_major: bool,
    },
    /// `x [N, C, …]` → `[N, C, 1, …]`.
    GlobalPool {
        /// Whether the mean is taken rather than the largest value.
        average: bool,
    },
    /// One input, element by element.
    Unary(Unary),
    /// Two inputs, broadcast, and a fused clamp (for the sum at the end of a residual block).
    Binary(Binary, Activation),
    /// `condition, x, y`, broadcast.
    Where,
    /// Over one axis, or (`flatten`, opset < 13) over all axes from `axis` on.
    Softmax {
        /// Axis along which the exponentials are divided by their sum.
        axis: usize,
        /// Opset < 13 semantics.
        flatten: bool,
        /// Whether the logarithm of the probabilities is given.
        log: bool,
    },
    /// Same elements, new extents. Also what Flatten, Squeeze, Unsqueeze become.
    Reshape {
        /// Extents of the output.
        to: Vec<Dim>,
    },
    /// Output axis `i` is input axis `perm[i]`.
    Transpose {
        /// Axis of the input that stands at each place of the output.
        perm: Vec<usize>,
    },
    /// Any number of inputs.
    Concat {
        /// Axis along which the inputs are joined.
        axis: usize,
    },
    /// One output a size.
    Split {
        /// Axis along which the input is cut.
        axis: usize,
        /// Extent of each output on it.
        sizes: Vec<usize>,
    },
    /// For each axis: start, step (may be negative) and number of elements taken.
    /// An untouched axis is `None`.
    Slice {
        /// One entry an axis.
        ranges: Vec<Option<SliceRange>>,
    },
    /// Pads of each axis (begin, end); negative ones crop.
    Pad {
        /// What the added cells hold.
        mode: PadMode,
        /// One entry an axis.
        pads: Vec<(i64, i64)>,
        /// Value of the added cells where the mode is `PadMode::Constant`.
        value: f32,
    },
    /// `x, indices`: the slices of `x` along an axis that the indices name.
    Gather {
        /// The axis of `x`.
        axis: usize,
    },
    /// Broadcast to these extents.
    Expand {
        /// Extents of the output.
        to: Vec<Dim>,
    },
    /// Repeat along each axis.
    Tile {
        /// Times, one an axis.
        repeats: Vec<usize>,
    },
    /// Nearest or linear resampling of the spatial axes (all but the first two), the scale being
    /// output extent / input extent. Other modes come in as `Gather` or `MatMul` by constants.
    /// Source coordinate of `i`: half pixel `(i + ½)·in/out − ½`, asymmetric `i·in/out`; clamped to
    /// the edge. Nearest takes the floor when asymmetric, and rounds (half down) for half pixel.
    Resize {
        /// Output extents of the spatial axes.
        to: Vec<usize>,
        /// Linear rather than nearest.
        linear: bool,
        /// Coordinates by half pixel rather than asymmetric.
        half_pixel: bool,
    },
    /// Conversion of every element to another type.
    Cast {
        /// Element type of the result.
        to: DType,
    },
    /// One value for all elements along `axes`.
    Reduce {
        /// How that value is computed.
        kind: Reduction,
        /// Sorted; all axes if the file named none.
        axes: Vec<usize>,
        /// Keep reduced axes with extent 1.
        keep: bool,
    },
    /// Index (I64) of the largest (or smallest) along an axis.
    ArgMax {
        /// Axis along which the largest element is looked for.
        axis: usize,
        /// Keep the axis with extent 1.
        keep: bool,
        /// The last of equal ones.
        last: bool,
        /// Whether the smallest value is looked for instead.
        min: bool,
    },
    /// `x, scale, (zero point)` → U8 or I8 (or I32).
    Quantize {
        /// Axis of the scales where they are a vector.
        axis: usize,
        /// Element type of the result.
        to: DType,
    },
    /// `x, scale, (zero point)` → F32.
    Dequantize {
        /// Axis of the scales where they are a vector.
        axis: usize,
    },
    /// Output = input. Only where an output of the graph is an input or a constant; else gone.
    Identity,
}

/// Elements of one axis that a slice takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SliceRange {
    /// Index of the first.
    pub start: usize,
    /// Distance; negative runs backwards.
    pub step: i64,
    /// Number of elements taken.
    pub count: usize,
}
