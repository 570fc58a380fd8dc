/*! What a layer of a head is: its kind, its fields and what they take, and one as a source has it. */

mod table;

pub(super) use table::LAYERS;

/// What a layer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Conv2d,
    DepthwiseConv2d,
    SeparableConv2d,
    BatchNorm1d,
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
    GemPool,
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
pub(super) enum FieldKind {
    /// A whole number within bounds, both included.
    Whole(u32, u32),
    /// A number within bounds, both included.
    Real(f64, f64),
    /// One of the words `true` and `false`.
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

impl FieldKind {
    pub fn says(self) -> String {
        match self {
            FieldKind::Whole(low, high) => format!("a whole number from {low} to {high}"),
            FieldKind::Real(low, high) if low > 0.0 && low < 1e-4 => {
                format!("a number from {low:e} to {high}")
            }
            FieldKind::Real(low, high) => format!("a number from {low} to {high}"),
            FieldKind::Flag => "`true` or `false`".to_string(),
            FieldKind::Word(words) => format!("`{}`", words.join("` or `")),
            FieldKind::Text => "a name in quotes".to_string(),
            FieldKind::List => "a list of layers".to_string(),
            FieldKind::Branches => "a list of lists of layers".to_string(),
        }
    }
}

/// A field of a layer.
#[derive(Debug)]
pub(super) struct Field {
    pub name: &'static str,
    pub takes: FieldKind,
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

/// What a field is in a rendered head.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// A number; a flag is 0 or 1, a word its place among those the field takes.
    Number(f64),
    /// A word in quotes: the name of a branch or a skip connection.
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
                        FieldKind::Flag => (*n != 0.0).to_string(),
                        FieldKind::Word(words) => words.get(*n as usize).map(|w| w.to_string())?,
                        _ => n.to_string(),
                    };
                    (text, false)
                }
                Value::Text(text) => (format!("\"{text}\""), false),
                Value::Lists(lists) => {
                    let lists: Vec<String> = lists.iter().map(|l| list(l)).collect();
                    let text = match field.takes {
                        FieldKind::Branches => nested(&lists),
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
