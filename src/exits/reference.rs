/*! The reference of the language, written from the tables that make it. */

use super::layer::{Default, Field, FieldKind, LAYERS, Spec};
use super::render::VARIABLES;
use super::template::{BLOCKS, TEMPLATES};
use std::fmt::Write;

/// The template engine's filters that are of use in a head.
const FILTERS: &[(&str, &str)] = &[
    ("[a, b] | min", "the smaller of several numbers"),
    ("[a, b] | max", "the larger"),
    (
        "x | round",
        "to the nearest whole number (`round(2)`: to two places)",
    ),
    ("x | int", "the whole part"),
    ("x | float", "with a fraction"),
    ("x | abs", "without its sign"),
    ("list | length", "how many"),
    ("list | sum", "their sum"),
    ("list | join(\", \")", "as text, with a text between"),
    ("x | default(y)", "y where x is not defined"),
];

/// Its functions, and what else it has of use.
const FUNCTIONS: &[(&str, &str)] = &[
    (
        "range(n)",
        "0 to n − 1, for loops: `{% for i in range(3) %} … {% endfor %}`",
    ),
    (
        "namespace(x=0)",
        "a variable that loops can change: `{% set ns.x = ns.x + 1 %}`",
    ),
    ("dict(a=1)", "numbers by name"),
    (
        "{% if … %} … {% elif … %} … {% else %} … {% endif %}",
        "one or the other",
    ),
    ("{% set x = … %}", "a name for a value"),
    (
        "{{ a // b }}, {{ a % b }}, {{ a ** b }}",
        "whole quotient, remainder, power",
    ),
    ("{# … #}, // …", "comments"),
];

/// The whole language, as Markdown.
pub fn reference() -> String {
    let mut text = String::new();
    let out = &mut text;
    let _ = out.write_str(
        "# The language of exit classifiers\n\n\
         A source is a template (minijinja, which is Jinja2): what stands outside of tags is text, \
         `{{ … }}` writes a value, `{% … %}` decides and repeats. What it renders to is a list of \
         layers in RON, the head at one exit point; one source serves all exit points.\n\n\
         ```text\n[\n    {% if depth < 0.3 %}\n    Conv2d({{ channels * 2 }}, kernel: 3, stride: 2, pad: 1),\n    \
         BatchNorm2d,\n    Relu,\n    {% endif %}\n    GlobalAvgPool,\n    Linear(classes),\n]\n```\n\n\
         The first layer gets the tensor at the exit point, channels×height×width of a sample (of \
         transformers tokens×features, or only features); the last must give one number per class, the \
         logits. Softmax is applied behind the head and is no layer.\n\n## Variables\n\n",
    );
    table(out, ["variable", "is"], VARIABLES.iter().copied());
    let _ = out.write_str(
        "\n`classes`, `channels`, `height` and `width` may also stand for a number among a layer's \
         fields, without braces: `Linear(classes)`.\n\n## Filters\n\n",
    );
    table(out, ["filter", "gives"], FILTERS.iter().copied());
    let _ = out.write_str("\n## Functions and statements\n\n");
    table(out, ["written", "is"], FUNCTIONS.iter().copied());
    let _ = out.write_str(
        "\n## Layers\n\nFields in the order given; those before the bar `|` may go without their names, \
         and those with a default may be left out.\n\n",
    );
    table(
        out,
        ["layer", "does"],
        LAYERS.iter().map(|spec| (signature(spec), spec.says)),
    );
    let _ = out.write_str(
        "\nLists stand in lists at most 16 deep, a head has at most 1000 layers and 2^28 parameters. \
         Layers that hold layers:\n\n\
         ```text\nResidual([Conv2d(channels, kernel: 3, pad: 1), BatchNorm2d, Relu]),\n\
         Parallel([MaxPool2d(2), AvgPool2d(2)], concat),\n\
         Parallel([[Conv2d(64, kernel: 1)], [Conv2d(64, kernel: 3, pad: 1), Relu]], sum),\n\
         Parallel([MaxPool2d(2), AvgPool2d(2)], mix),\n\
         Repeat(2, [Linear(64), Relu]),\n```\n\n\
         ## Named blocks\n\nA macro is a block with a name and parameters. It is used like a layer:\n\n\
         ```text\n{% macro down(out) %}\n    Conv2d({{ out }}, kernel: 3, stride: 2, pad: 1, bias: false), \
         BatchNorm2d, Relu\n{% endmacro %}\n[\n    {{ down(64) }},\n    {{ down(128) }},\n    \
         GlobalAvgPool,\n    Linear(classes),\n]\n```\n\n\
         A macro sees its parameters and, in the file it is written in, the variables above.\n\n\
         ## Other files\n\n\
         `{% include \"gap-mlp\" %}` puts a whole template in place, `{% from \"blocks\" import down %}` \
         takes a block from another; both look among your own first, then among those \
         that ship. Your own are the files that end in `.j2` beside the source (beside the session, \
         where the source stands in it), or in the folder of `exits: (templates: \"…\")` or \
         `--templates DIR`; they go by their name, ending or not, without a path. \
         `Onnx(\"head.onnx\")` is a network with its weights from a file beside the source or below; \
         paths that lead out of there are refused. `trainable: false` keeps its weights as they are, batch norms at their running \
         statistics.\n\n## Templates\n\n",
    );
    let templates = TEMPLATES.iter().map(|t| (t.name.to_string(), t.says()));
    let blocks = "blocks to import: `conv`, `down`, `separable`, `bottleneck`".to_string();
    let all = templates.chain([(BLOCKS.name.to_string(), blocks)]);
    table(out, ["template", "is"], all);
    text
}

fn table<A: AsRef<str>, B: AsRef<str>>(
    out: &mut String,
    titles: [&str; 2],
    rows: impl Iterator<Item = (A, B)>,
) {
    let _ = writeln!(out, "| {} | {} |\n|---|---|", titles[0], titles[1]);
    for (name, says) in rows {
        let bar = |text: &str| text.replace('|', "\\|");
        let (name, says) = (bar(name.as_ref()), bar(says.as_ref()));
        let _ = writeln!(out, "| `{name}` | {says} |");
    }
}

/// `Conv2d(out | kernel: 3, stride: 1, pad: 0, bias: true)`.
fn signature(spec: &Spec) -> String {
    if spec.fields.is_empty() {
        return spec.name.to_string();
    }
    let written: Vec<String> = spec.fields.iter().map(written).collect();
    let (first, rest) = written.split_at(spec.positional.min(written.len()));
    let bar = if first.is_empty() || rest.is_empty() {
        ""
    } else {
        " | "
    };
    format!(
        "{}({}{bar}{})",
        spec.name,
        first.join(", "),
        rest.join(", ")
    )
}

fn written(field: &Field) -> String {
    let default = match field.default {
        None => {
            return match field.takes {
                FieldKind::List => format!("{}: […]", field.name),
                FieldKind::Branches => format!("{}: [[…], […]]", field.name),
                FieldKind::Text => format!("{}: \"…\"", field.name),
                _ => field.name.to_string(),
            };
        }
        Some(Default::As(other)) => other.to_string(),
        Some(Default::Is(n)) => match field.takes {
            FieldKind::Flag => (n != 0.0).to_string(),
            FieldKind::Word(words) => words.join("/"),
            _ => n.to_string(),
        },
    };
    format!("{}: {default}", field.name)
}
