/*! The layers a head may have: their names, fields, bounds, defaults and meaning, in one table. */

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
    SqueezeExcite,
    AttentionPool,
    Residual,
    Parallel,
    Repeat,
    Onnx,
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
    /// One of these words.
    Word(&'static [&'static str]),
    /// A string in quotes.
    Text,
    /// A list of layers.
    List,
    /// A list of lists of layers; a layer that stands alone in it is a list of one.
    Branches,
}

impl Takes {
    pub fn says(self) -> String {
        match self {
            Takes::Whole(low, high) => format!("a whole number from {low} to {high}"),
            Takes::Real(low, high) if low > 0.0 && low < 1e-4 => {
                format!("a number from {low:e} to {high}")
            }
            Takes::Real(low, high) => format!("a number from {low} to {high}"),
            Takes::Flag => "`true` or `false`".to_string(),
            Takes::Word(words) => format!("`{}`", words.join("` or `")),
            Takes::Text => "a name in quotes".to_string(),
            Takes::List => "a list of layers".to_string(),
            Takes::Branches => "a list of lists of layers".to_string(),
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
    /// How many of the fields may be given by position, without their names.
    pub positional: usize,
    /// What it does, for the language reference.
    pub says: &'static str,
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
        Kind::BatchNorm2d | Kind::LayerNorm => 0,
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

/// Every layer.
pub(super) const LAYERS: &[Spec] = &[
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
            Takes::Real(0.0, 1.0),
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
        &[field("out", Takes::Whole(1, 1024), None)],
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
        &[field("rate", Takes::Real(0.0, 0.95), None)],
        "sets a share of the values to zero while training; nothing afterwards",
    ),
    spec(
        "SqueezeExcite",
        Kind::SqueezeExcite,
        &[field(
            "reduction",
            Takes::Whole(1, 1024),
            Some(Default::Is(16.0)),
        )],
        "weighs the channels by what all positions say (Hu et al. 2018): mean, channels / \
         reduction, Relu, channels, Sigmoid, product",
    ),
    spec(
        "AttentionPool",
        Kind::AttentionPool,
        &[field("heads", Takes::Whole(1, 256), Some(Default::Is(1.0)))],
        "a learnt weighted mean over positions (or tokens), each of the heads weighing its share \
         of the channels: features out; features pass unchanged",
    ),
    spec(
        "Residual",
        Kind::Residual,
        &[field("layers", Takes::List, None)],
        "x + layers(x); the layers must keep the shape",
    ),
    spec(
        "Parallel",
        Kind::Parallel,
        &[
            field("branches", Takes::Branches, None),
            field(
                "join",
                Takes::Word(&["concat", "sum", "mix"]),
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
            field("times", Takes::Whole(1, 64), None),
            field("layers", Takes::List, None),
        ],
        "the layers so many times in a row, each time with weights of their own",
    ),
    spec(
        "Onnx",
        Kind::Onnx,
        &[
            field("file", Takes::Text, None),
            field("trainable", Takes::Flag, Some(Default::Is(1.0))),
        ],
        "a network from an ONNX file with its weights, trained further or (`trainable: false`) \
         kept; a softmax at its end is left out",
    ),
];

/// What a field is in a rendered head.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// A number; a flag is 0 or 1, a word its place among those the field takes.
    Number(f64),
    /// A name.
    Text(String),
    /// Branches; a list of layers is the only one.
    Lists(Vec<Vec<Layer>>),
}

/// One layer of a rendered head.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub spec: &'static Spec,
    /// One value a field, in the spec's order.
    pub values: Vec<Value>,
    /// Where it stands in the rendered text.
    pub span: (usize, usize),
}

impl Layer {
    fn get(&self, name: &str) -> Option<&Value> {
        let at = self.spec.fields.iter().position(|f| f.name == name);
        at.and_then(|i| self.values.get(i))
    }

    fn number(&self, name: &str) -> f64 {
        match self.get(name) {
            Some(Value::Number(n)) => *n,
            _ => 0.0,
        }
    }

    /// A whole-number field; 0 where the layer has no such field.
    pub fn whole(&self, name: &str) -> usize {
        self.number(name) as usize
    }

    pub fn real(&self, name: &str) -> f32 {
        self.number(name) as f32
    }

    pub fn flag(&self, name: &str) -> bool {
        self.number(name) != 0.0
    }

    pub fn text(&self, name: &str) -> &str {
        match self.get(name) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }

    /// The branches of a combinator; one, where it takes a list.
    pub fn branches(&self) -> &[Vec<Layer>] {
        let lists = self.values.iter().find_map(|v| match v {
            Value::Lists(lists) => Some(lists.as_slice()),
            _ => None,
        });
        lists.unwrap_or_default()
    }

    /// Name and fields without the lists, as one line shows it.
    pub fn title(&self) -> String {
        let shown: Vec<String> = self
            .shown()
            .filter_map(|(s, list)| (!list).then_some(s))
            .collect();
        match shown.is_empty() {
            true => self.spec.name.to_string(),
            false => format!("{}({})", self.spec.name, shown.join(", ")),
        }
    }

    /// The fields that aren't left to their defaults, and whether each is a list.
    fn shown(&self) -> impl Iterator<Item = (String, bool)> {
        let fields = self.spec.fields.iter().zip(&self.values).enumerate();
        fields.filter_map(|(i, (field, value))| {
            let (text, list) = match value {
                Value::Number(n) => {
                    let default = field.default.map(|d| match d {
                        Default::Is(d) => d,
                        Default::As(other) => self.number(other),
                    });
                    if default == Some(*n) {
                        return None;
                    }
                    let text = match field.takes {
                        Takes::Flag => (*n != 0.0).to_string(),
                        Takes::Word(words) => words.get(*n as usize).map(|w| w.to_string())?,
                        _ => n.to_string(),
                    };
                    (text, false)
                }
                Value::Text(text) => (format!("\"{text}\""), false),
                Value::Lists(lists) => {
                    let lists: Vec<String> = lists.iter().map(|l| list(l)).collect();
                    let text = match field.takes {
                        Takes::Branches => nested(&lists),
                        _ => lists.concat(),
                    };
                    (text, true)
                }
            };
            let named = field.default.is_some() || i >= self.spec.positional;
            Some(match named {
                true => (format!("{}: {text}", field.name), list),
                false => (text, list),
            })
        })
    }
}

impl std::fmt::Display for Layer {
    /// The canonical form: defaults left out, fields that may be given by position so.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.spec.name)?;
        let shown: Vec<String> = self.shown().map(|(text, _)| text).collect();
        match shown.is_empty() {
            true => Ok(()),
            false => write!(f, "({})", shown.join(", ")),
        }
    }
}

fn nested(items: &[String]) -> String {
    if items.is_empty() {
        return "[]".to_string();
    }
    let lines: String = items
        .iter()
        .map(|item| format!("    {},\n", item.replace('\n', "\n    ")))
        .collect();
    format!("[\n{lines}]")
}

fn list(layers: &[Layer]) -> String {
    nested(&layers.iter().map(Layer::to_string).collect::<Vec<_>>())
}

/// The canonical text of a head: what is shown, hashed and trained.
pub(super) fn canonical(layers: &[Layer]) -> String {
    format!("{}\n", list(layers))
}
