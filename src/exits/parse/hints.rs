/*!
Ways out for slips that are habits: names as other libraries have them, sums among the fields, an equals
sign for a colon.
*/

use super::Names;
use super::token::Token;
use crate::exits::diagnostic::nearest;
use crate::exits::layer::{Field, FieldKind, Kind, LAYERS, Spec};

/// What to write in place of a layer that isn't there.
pub(super) fn layer(name: &str) -> String {
    let known = match name.to_lowercase().as_str() {
        "softmax" | "logsoftmax" | "log_softmax" => {
            Some("softmax is applied behind the head, to its logits; leave it out")
        }
        "sequential" | "nn" | "modulelist" => {
            Some("a head is a list of layers in brackets: [GlobalAvgPool, Linear(classes)]")
        }
        "identity" => Some("leave it out; in a Parallel an empty branch `[]` passes its input on"),
        "concat" | "add" | "sum" => {
            Some("branches are joined by Parallel([[…], […]], concat), or sum, or mix")
        }
        "dense" | "fc" | "fullyconnected" => Some("did you mean `Linear`?"),
        "conv" => Some("did you mean `Conv2d`?"),
        "swish" => Some("did you mean `Silu`?"),
        "gap" | "globalpool" | "globalaveragepool" | "globalaveragepooling2d" => {
            Some("did you mean `GlobalAvgPool`?")
        }
        _ => None,
    };
    if let Some(known) = known {
        return known.to_string();
    }
    match nearest(name, LAYERS.iter().map(|s| s.name)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let all: Vec<&str> = LAYERS.iter().map(|s| s.name).collect();
            format!("there are {}", all.join(", "))
        }
    }
}

/// What to write in place of a field that a layer doesn't have.
pub(super) fn field(spec: &Spec, word: &str) -> String {
    let has = |name: &str| spec.fields.iter().any(|f| f.name == name);
    let meant = match word {
        "kernel_size" | "size" => Some("kernel"),
        "padding" => Some("pad"),
        "strides" => Some("stride"),
        "p" => Some("rate"),
        "eps" => Some("epsilon"),
        "negative_slope" | "alpha" => Some("slope"),
        "out_features" | "out_channels" | "units" | "filters" | "output_size" => Some("out"),
        "num_heads" => Some("heads"),
        _ => None,
    };
    let names = spec.fields.iter().map(|f| f.name);
    let near = meant
        .filter(|m| has(m))
        .or_else(|| nearest(word, names.clone()));
    match (word, near) {
        (_, Some(near)) => format!("did you mean `{near}`?"),
        ("in" | "in_features" | "in_channels" | "channels" | "num_features", _) => {
            "what comes in is known from the layer before; leave it out".to_string()
        }
        ("groups", _) if spec.kind == Kind::Conv2d => {
            "a group for each channel is DepthwiseConv2d".to_string()
        }
        _ if spec.fields.is_empty() => "it has none".to_string(),
        _ => format!("it has {}", names.collect::<Vec<_>>().join(", ")),
    }
}

/// What to write in place of a value that a field doesn't take.
pub(super) fn value(field: &Field, found: Option<&Token>, names: Names) -> Option<String> {
    match (field.takes, found?) {
        (FieldKind::Word(words), Token::Word(word)) => {
            let near = nearest(word, words.iter().copied())?;
            Some(format!("did you mean `{near}`?"))
        }
        (FieldKind::Whole(..) | FieldKind::Real(..), Token::Word(word)) => {
            let known = names.iter().map(|n| n.0);
            Some(match nearest(word, known.clone()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!(
                    "write a number, or `{}`; what a template knows stands in braces: `{{{{ … }}}}`",
                    known.collect::<Vec<_>>().join("`, `")
                ),
            })
        }
        (FieldKind::Whole(..), Token::Sign('(')) => {
            Some("one number, for height and width alike".to_string())
        }
        (FieldKind::Whole(..), Token::Number(n)) if n.fract() != 0.0 => {
            Some("round it: `{{ (…) | round | int }}`, or divide by `//`".to_string())
        }
        (FieldKind::Real(_, high), Token::Number(n)) if high <= 1.0 && *n > 1.0 => {
            Some("it is a share: 0.5 is half".to_string())
        }
        (FieldKind::List | FieldKind::Branches, Token::Word(_)) => {
            Some("put the layers in brackets: `[…]`".to_string())
        }
        _ => None,
    }
}

/// What to write where a field was to end.
pub(super) fn behind_value(found: Option<&Token>) -> &'static str {
    match found {
        Some(Token::Odd(odd)) if odd.starts_with(['/', '*', '%', '+', '-']) => {
            "sums stand in braces: `{{ channels // 2 }}`"
        }
        // `channels -2` reads as two numbers.
        Some(Token::Number(_)) => {
            "part fields by commas; sums stand in braces: `{{ channels // 2 }}`"
        }
        _ => "part fields by commas",
    }
}

/// What to write in place of a field without its name, the fields before it being given.
pub(super) fn unnamed(spec: &Spec, given: usize, found: &str) -> String {
    match spec.fields.get(given) {
        _ if matches!(
            spec.kind,
            Kind::BatchNorm1d | Kind::BatchNorm2d | Kind::LayerNorm
        ) =>
        {
            format!("it knows its channels: write `{}` alone", spec.name)
        }
        Some(next) if spec.positional > 0 => {
            format!(
                "only the first goes without its name: write `{}: {}`",
                next.name,
                found.trim_matches('`')
            )
        }
        _ => format!("write `{}: …`", spec.fields.first().map_or("", |f| f.name)),
    }
}
