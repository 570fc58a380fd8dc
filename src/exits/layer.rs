/*! The layers a head may have: their names, fields, bounds and defaults, in one table. */

/// What a layer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Conv2d,
    DepthwiseConv2d,
    SeparableConv2d,
    BatchNorm2d,
    LayerNorm,
    Relu,
    Relu6,
    LeakyRelu,
    Gelu,
    Silu,
    HardSwish,
    Sigmoid,
    Tanh,
    MaxPool2d,
    AvgPool2d,
    AdaptiveAvgPool2d,
    GlobalAvgPool,
    GlobalMaxPool,
    Flatten,
    Linear,
    Dropout,
}

/// What a field takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Takes {
    /// A whole number within bounds, both included.
    Whole(u32, u32),
    /// A number within bounds, both included.
    Real(f64, f64),
    /// `true` or `false`.
    Flag,
}

impl Takes {
    pub fn says(self) -> String {
        match self {
            Takes::Whole(low, high) => format!("a whole number from {low} to {high}"),
            Takes::Real(low, high) => format!("a number from {low} to {high}"),
            Takes::Flag => "`true` or `false`".to_string(),
        }
    }
}

/// A field of a layer.
#[derive(Debug)]
pub(super) struct Field {
    pub name: &'static str,
    pub takes: Takes,
    /// What it is where the source leaves it out; `None` must be given.
    pub default: Option<Default>,
}

/// What a field is where the source leaves it out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Default {
    Is(f64),
    /// As large as another field, which stands before it.
    As(&'static str),
}

/// A layer's name, fields and meaning.
#[derive(Debug)]
pub(super) struct Spec {
    pub name: &'static str,
    pub kind: Kind,
    pub fields: &'static [Field],
}

const fn field(name: &'static str, takes: Takes, default: Option<Default>) -> Field {
    Field {
        name,
        takes,
        default,
    }
}

const OUT: Field = field("out", Takes::Whole(1, 65_536), None);
const KERNEL: Field = field("kernel", Takes::Whole(1, 64), Some(Default::Is(3.0)));
const STRIDE: Field = field("stride", Takes::Whole(1, 64), Some(Default::Is(1.0)));
const PAD: Field = field("pad", Takes::Whole(0, 64), Some(Default::Is(0.0)));
const BIAS: Field = field("bias", Takes::Flag, Some(Default::Is(1.0)));
const EPSILON: Field = field("epsilon", Takes::Real(1e-12, 1.0), Some(Default::Is(1e-5)));
const POOL: &[Field] = &[
    field("kernel", Takes::Whole(1, 1024), None),
    field("stride", Takes::Whole(1, 1024), Some(Default::As("kernel"))),
    PAD,
];
const CONV: &[Field] = &[OUT, KERNEL, STRIDE, PAD, BIAS];

const fn spec(name: &'static str, kind: Kind, fields: &'static [Field]) -> Spec {
    Spec { name, kind, fields }
}

/// Every layer.
pub(super) const LAYERS: &[Spec] = &[
    spec("Conv2d", Kind::Conv2d, CONV),
    spec(
        "DepthwiseConv2d",
        Kind::DepthwiseConv2d,
        &[KERNEL, STRIDE, PAD, BIAS],
    ),
    spec("SeparableConv2d", Kind::SeparableConv2d, CONV),
    spec("BatchNorm2d", Kind::BatchNorm2d, &[EPSILON]),
    spec("LayerNorm", Kind::LayerNorm, &[EPSILON]),
    spec("Relu", Kind::Relu, &[]),
    spec("Relu6", Kind::Relu6, &[]),
    spec(
        "LeakyRelu",
        Kind::LeakyRelu,
        &[field(
            "slope",
            Takes::Real(0.0, 1.0),
            Some(Default::Is(0.01)),
        )],
    ),
    spec("Gelu", Kind::Gelu, &[]),
    spec("Silu", Kind::Silu, &[]),
    spec("HardSwish", Kind::HardSwish, &[]),
    spec("Sigmoid", Kind::Sigmoid, &[]),
    spec("Tanh", Kind::Tanh, &[]),
    spec("MaxPool2d", Kind::MaxPool2d, POOL),
    spec("AvgPool2d", Kind::AvgPool2d, POOL),
    spec(
        "AdaptiveAvgPool2d",
        Kind::AdaptiveAvgPool2d,
        &[field("out", Takes::Whole(1, 1024), None)],
    ),
    spec("GlobalAvgPool", Kind::GlobalAvgPool, &[]),
    spec("GlobalMaxPool", Kind::GlobalMaxPool, &[]),
    spec("Flatten", Kind::Flatten, &[]),
    spec("Linear", Kind::Linear, &[OUT, BIAS]),
    spec(
        "Dropout",
        Kind::Dropout,
        &[field("rate", Takes::Real(0.0, 0.95), None)],
    ),
];

/// One layer of a rendered head.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub spec: &'static Spec,
    /// One value a field, in the spec's order; flags are 0 or 1.
    pub values: Vec<f64>,
    /// Where it stands in the rendered text.
    pub span: (usize, usize),
}

impl Layer {
    fn get(&self, name: &str) -> f64 {
        let at = self.spec.fields.iter().position(|f| f.name == name);
        at.and_then(|i| self.values.get(i)).copied().unwrap_or(0.0)
    }

    /// A whole-number field; 0 where the layer has no such field.
    pub fn whole(&self, name: &str) -> usize {
        self.get(name) as usize
    }

    pub fn real(&self, name: &str) -> f32 {
        self.get(name) as f32
    }

    pub fn flag(&self, name: &str) -> bool {
        self.get(name) != 0.0
    }
}

impl std::fmt::Display for Layer {
    /// The canonical form: defaults left out, the first field without its name.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.spec.name)?;
        let mut shown = Vec::new();
        for (i, (field, &value)) in self.spec.fields.iter().zip(&self.values).enumerate() {
            let default = match field.default {
                None => None,
                Some(Default::Is(d)) => Some(d),
                Some(Default::As(other)) => Some(self.get(other)),
            };
            if default == Some(value) {
                continue;
            }
            let text = match field.takes {
                Takes::Flag => (value != 0.0).to_string(),
                _ => value.to_string(),
            };
            match (i, field.default) {
                (0, None) => shown.push(text),
                _ => shown.push(format!("{}: {text}", field.name)),
            }
        }
        if shown.is_empty() {
            Ok(())
        } else {
            write!(f, "({})", shown.join(", "))
        }
    }
}

/// The canonical text of a head: what is shown, hashed and trained.
pub(super) fn canonical(layers: &[Layer]) -> String {
    let lines: String = layers.iter().map(|l| format!("    {l},\n")).collect();
    format!("[\n{lines}]\n")
}
