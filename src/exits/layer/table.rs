/*! The layers a head may have: their names, fields, bounds, defaults and meaning, in one table. */

use super::{Default, Field, FieldKind, Kind, Spec};

const fn field(name: &'static str, takes: FieldKind, default: Option<Default>) -> Field {
    Field {
        name,
        takes,
        default,
    }
}

const OUT: Field = field("out", FieldKind::Whole(1, 65_536), None);
const KERNEL: Field = field("kernel", FieldKind::Whole(1, 64), Some(Default::Is(3.0)));
const STRIDE: Field = field("stride", FieldKind::Whole(1, 64), Some(Default::Is(1.0)));
const PAD: Field = field("pad", FieldKind::Whole(0, 64), Some(Default::Is(0.0)));
const BIAS: Field = field("bias", FieldKind::Flag, Some(Default::Is(1.0)));
const EPSILON: Field = field(
    "epsilon",
    FieldKind::Real(1e-12, 1.0),
    Some(Default::Is(1e-5)),
);
const POOL: &[Field] = &[
    field("kernel", FieldKind::Whole(1, 1024), None),
    field(
        "stride",
        FieldKind::Whole(1, 1024),
        Some(Default::As("kernel")),
    ),
    PAD,
];
const CONV: &[Field] = &[OUT, KERNEL, STRIDE, PAD, BIAS];
const NONE: &[Field] = &[];

const fn spec(
    name: &'static str,
    kind: Kind,
    fields: &'static [Field],
    says: &'static str,
) -> Spec {
    // Fields whose order nobody could guess are named; the first, and what joins or counts a
    // combinator's list, reads better without.
    let positional = match kind {
        Kind::Parallel | Kind::Repeat => 2,
        // A number there would be taken for the channels, which these know.
        Kind::BatchNorm1d | Kind::BatchNorm2d | Kind::LayerNorm => 0,
        _ => 1,
    };
    Spec {
        name,
        kind,
        fields,
        positional,
        says,
    }
}

/// Every layer a head may name, with its fields; the parser, `--help` and completion read it.
pub(in crate::exits) const LAYERS: &[Spec] = &[
    spec(
        "Conv2d",
        Kind::Conv2d,
        CONV,
        "convolution with a square kernel; channels×height×width in and out",
    ),
    spec(
        "DepthwiseConv2d",
        Kind::DepthwiseConv2d,
        &[KERNEL, STRIDE, PAD, BIAS],
        "a convolution of each channel by itself",
    ),
    spec(
        "SeparableConv2d",
        Kind::SeparableConv2d,
        CONV,
        "a depthwise convolution (without bias), then one of 1×1 to `out` channels",
    ),
    spec(
        "BatchNorm2d",
        Kind::BatchNorm2d,
        &[EPSILON],
        "normalises each channel by the batch while training, by running statistics afterwards",
    ),
    spec(
        "BatchNorm1d",
        Kind::BatchNorm1d,
        &[EPSILON],
        "as BatchNorm2d, of features: put it behind the pooling",
    ),
    spec(
        "LayerNorm",
        Kind::LayerNorm,
        &[EPSILON],
        "normalises each sample; of tokens each token",
    ),
    spec("Relu", Kind::Relu, NONE, "max(x, 0)"),
    spec("Relu6", Kind::Relu6, NONE, "min(max(x, 0), 6)"),
    spec(
        "LeakyRelu",
        Kind::LeakyRelu,
        &[field(
            "slope",
            FieldKind::Real(0.0, 1.0),
            Some(Default::Is(0.01)),
        )],
        "x where positive, slope · x elsewhere",
    ),
    spec("Gelu", Kind::Gelu, NONE, "x · Φ(x), exact"),
    spec("Silu", Kind::Silu, NONE, "x · sigmoid(x)"),
    spec(
        "HardSwish",
        Kind::HardSwish,
        NONE,
        "x · min(max(x + 3, 0), 6) / 6",
    ),
    spec("Sigmoid", Kind::Sigmoid, NONE, "1 / (1 + exp(−x))"),
    spec("Tanh", Kind::Tanh, NONE, "hyperbolic tangent"),
    spec(
        "MaxPool2d",
        Kind::MaxPool2d,
        POOL,
        "the largest of each window; the stride is the kernel unless given",
    ),
    spec(
        "AvgPool2d",
        Kind::AvgPool2d,
        POOL,
        "the mean of each window, padding counted; the stride is the kernel unless given",
    ),
    spec(
        "AdaptiveAvgPool2d",
        Kind::AdaptiveAvgPool2d,
        &[field("out", FieldKind::Whole(1, 1024), None)],
        "means over out×out equal windows; height and width must be multiples of it",
    ),
    spec(
        "GlobalAvgPool",
        Kind::GlobalAvgPool,
        NONE,
        "the mean over all positions (or tokens): features out; features pass unchanged",
    ),
    spec(
        "GlobalMaxPool",
        Kind::GlobalMaxPool,
        NONE,
        "the largest over all positions (or tokens): features out; features pass unchanged",
    ),
    spec(
        "GemPool",
        Kind::GemPool,
        &[
            field("power", FieldKind::Real(0.1, 100.0), Some(Default::Is(3.0))),
            field(
                "epsilon",
                FieldKind::Real(1e-12, 1.0),
                Some(Default::Is(1e-6)),
            ),
        ],
        "generalised mean over all positions (or tokens): the root of the mean of powers of \
         max(x, epsilon); features out",
    ),
    spec("Flatten", Kind::Flatten, NONE, "everything as features"),
    spec(
        "Linear",
        Kind::Linear,
        &[OUT, BIAS],
        "fully connected, on features or on each token",
    ),
    spec(
        "Dropout",
        Kind::Dropout,
        &[field("rate", FieldKind::Real(0.0, 0.95), None)],
        "sets a share of the values to zero while training; nothing afterwards",
    ),
    spec(
        "SqueezeExcite",
        Kind::SqueezeExcite,
        &[field(
            "reduction",
            FieldKind::Whole(1, 1024),
            Some(Default::Is(16.0)),
        )],
        "weighs the channels by what all positions say (Hu et al. 2018): mean, channels / \
         reduction, Relu, channels, Sigmoid, product",
    ),
    spec(
        "AttentionPool",
        Kind::AttentionPool,
        &[field(
            "heads",
            FieldKind::Whole(1, 256),
            Some(Default::Is(1.0)),
        )],
        "a learnt weighted mean over positions (or tokens), each of the heads weighing its share \
         of the channels: features out; features pass unchanged",
    ),
    spec(
        "Residual",
        Kind::Residual,
        &[field("layers", FieldKind::List, None)],
        "x + layers(x); the layers must keep the shape",
    ),
    spec(
        "Parallel",
        Kind::Parallel,
        &[
            field("branches", FieldKind::Branches, None),
            field(
                "join",
                FieldKind::Word(&["concat", "sum", "mix"]),
                Some(Default::Is(0.0)),
            ),
        ],
        "each branch on the same input, joined along the channels, summed, or mixed by learned \
         shares (which start equal and add up to 1); an empty branch passes its input on",
    ),
    spec(
        "Repeat",
        Kind::Repeat,
        &[
            field("times", FieldKind::Whole(1, 64), None),
            field("layers", FieldKind::List, None),
        ],
        "the layers so many times in a row, each time with weights of their own",
    ),
    spec(
        "Onnx",
        Kind::Onnx,
        &[
            field("file", FieldKind::Text, None),
            field("trainable", FieldKind::Flag, Some(Default::Is(1.0))),
        ],
        "a network from an ONNX file with its weights, trained further or (`trainable: false`) \
         kept; a softmax at its end is left out",
    ),
];
