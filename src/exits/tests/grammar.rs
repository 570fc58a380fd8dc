/*!
Programs and text at random: whatever the grammar can say builds, runs and has finite gradients, or
is refused with a place in the source; and no text at all brings the program down.

`PROPTEST_CASES` sets how many are tried, for a long search; a few by default.
*/

use super::files::network;
use super::support::{learns, point, sound};
use crate::exits::layer::{FieldKind, LAYERS};
use crate::exits::{BLOCKS, ExitError, Library, TEMPLATES, head, head_with};
use crate::model::export::to_onnx;
use proptest::prelude::*;
use rstest::rstest;

const SAMPLES: [&[usize]; 5] = [&[4, 6, 6], &[3, 1, 1], &[5, 8], &[12], &[10]];

fn cases(few: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig::with_cases(asked.and_then(|n| n.parse().ok()).unwrap_or(few))
}

/// A layer that holds no other, fields given by name or left out.
fn plain() -> impl Strategy<Value = String> {
    let specs: Vec<usize> = (0..LAYERS.len())
        .filter(|&i| {
            let mut takes = LAYERS[i].fields.iter().map(|f| f.takes);
            !takes.any(|t| matches!(t, FieldKind::List | FieldKind::Branches | FieldKind::Text))
        })
        .collect();
    let args = prop::collection::vec(prop::option::weighted(0.7, 0u32..10), 5);
    (prop::sample::select(specs), args).prop_map(|(i, args)| {
        let fields = LAYERS[i].fields.iter().zip(args);
        let fields: Vec<String> = fields
            .filter_map(|(f, a)| {
                let a = match f.default {
                    None => a.unwrap_or(3),
                    Some(_) => a?,
                };
                Some(match f.takes {
                    FieldKind::Flag => format!("{}: {}", f.name, a % 2 == 0),
                    FieldKind::Real(..) => format!("{}: 0.{a}", f.name),
                    _ => format!("{}: {a}", f.name),
                })
            })
            .collect();
        format!("{}({})", LAYERS[i].name, fields.join(", "))
    })
}

/// A network from a file: one that takes images, one that takes as many features as it gives.
fn onnx() -> impl Strategy<Value = String> {
    (any::<bool>(), any::<bool>()).prop_map(|(image, kept)| {
        let file = if image { "own" } else { "features" };
        let kept = if kept { ", trainable: false" } else { "" };
        format!("Onnx(\"{file}\"{kept})")
    })
}

fn files(name: &str) -> Result<Vec<u8>, String> {
    let source = "[Linear(12), Gelu, LayerNorm, Linear(classes)]";
    match name {
        "own" => Ok(network()),
        "features" => {
            let made = head(source, &point(&[10]), "edge", 2).map_err(|e| e.to_string())?;
            to_onnx(&made.graph).map_err(|e| e.to_string())
        }
        _ => Err("no such file".into()),
    }
}

fn list(layer: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    prop::collection::vec(layer, 0..4).prop_map(|layers| format!("[{}]", layers.join(",\n")))
}

fn layer() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![9 => plain().boxed(), 1 => onnx().boxed()];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let inner = inner.boxed();
        let branches = prop::collection::vec(list(inner.clone()), 1..4);
        prop_oneof![
            list(inner.clone()).prop_map(|l| format!("Residual({l})")),
            (
                branches,
                prop::sample::select(&["concat", "sum", "mix"][..])
            )
                .prop_map(|(b, join)| format!("Parallel([{}], {join})", b.join(", "))),
            (0usize..4, list(inner)).prop_map(|(n, l)| format!("Repeat({n}, {l})")),
        ]
    })
}

/// Each finding has a place in the source and something to say.
fn placed(source: &str, error: &ExitError) -> Result<(), TestCaseError> {
    prop_assert!(!error.diagnostics.is_empty());
    for d in &error.diagnostics {
        let lines: Vec<&str> = source.split('\n').collect();
        prop_assert!((1..=lines.len()).contains(&d.line), "{d:?} in {source}");
        let columns = lines[d.line - 1].chars().count();
        prop_assert!((1..=columns + 1).contains(&d.column), "{d:?} in {source}");
        prop_assert!(d.length >= 1 && !d.message.is_empty());
    }
    prop_assert!(error.text().contains('^'));
    Ok(())
}

fn holds(source: &str, sample: &[usize]) -> Result<(), TestCaseError> {
    let library = Library::new().with_files(&files);
    match head_with(source, &point(sample), "edge", 5, &library) {
        Ok(head) => {
            // Norms of nothing but one value can turn rounding into anything.
            sound(&head, 0.1).map_err(TestCaseError::fail)?;
            learns(&head).map_err(TestCaseError::fail)?;
            Ok(())
        }
        Err(error) => placed(source, &error),
    }
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn every_program_builds_runs_and_learns_or_is_refused_with_a_place(
        layers in prop::collection::vec(layer(), 0..5),
        sample in prop::sample::select(&SAMPLES[..]),
        end in prop::sample::select(vec!["", "Linear(classes)", "GlobalAvgPool, Linear(classes)",
            "Flatten, Linear(classes)", "AttentionPool, Linear(classes)"]),
    ) {
        let mut items = layers;
        items.extend((!end.is_empty()).then(|| end.to_string()));
        holds(&format!("[{}]", items.join(",\n")), sample)?;
    }
}

/// What a slip of the hand or a half-typed line puts into a source.
const TOKENS: &[&str] = &[
    "[",
    "]",
    "(",
    ")",
    ",",
    ":",
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    "-",
    "\"",
    "'",
    "\\",
    "//",
    "/*",
    "*/",
    "\n",
    " ",
    "é",
    "\u{f3a01}",
    "\u{f3a02}",
    "0",
    "9",
    "-1",
    "1e9",
    "0.5",
    "NaN",
    "true",
    "x",
    "classes",
    "channels",
    "depth",
    "part",
    "Relu",
    "Linear",
    "Conv2d(8)",
    "Residual(",
    "Parallel([",
    "Repeat(3, [",
    "Onnx(\"a\")",
    "sum",
    "{% if depth < 0.5 %}",
    "{% else %}",
    "{% endif %}",
    "{% for i in range(3) %}",
    "{% endfor %}",
    "{% macro m(a) %}",
    "{% endmacro %}",
    "{{ m(1) }}",
    "{{ m }}",
    "{% include \"blocks\" %}",
    "{% include \"gap-mlp\" %}",
    "{% from \"blocks\" import down %}",
    "{{ down(4) }}",
    "{% set x = 3 %}",
    "{{ x }}",
    "| min",
    "| int",
    "{% raw %}",
    "{% endraw %}",
    "{%- ",
    " -%}",
    "{{- ",
    " -}}",
    "{% filter upper %}",
    "{% endfilter %}",
    "{{ 1 // 0 }}",
    "{{ range(99) }}",
    "{{ \"a\" * 999 }}",
    "loop.index",
    "{% call m(1) %}",
];

#[derive(Debug, Clone)]
enum Edit {
    Insert(prop::sample::Index, usize),
    Delete(prop::sample::Index, usize),
    Copy(prop::sample::Index, usize, prop::sample::Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        3 => (at(), 0..TOKENS.len()).prop_map(|(at, t)| Edit::Insert(at, t)),
        2 => (at(), 1usize..30).prop_map(|(at, n)| Edit::Delete(at, n)),
        1 => (at(), 1usize..60, at()).prop_map(|(at, n, to)| Edit::Copy(at, n, to)),
    ]
}

fn edited(source: &str, edits: &[Edit]) -> String {
    let mut text: Vec<char> = source.chars().collect();
    for edit in edits {
        let room = text.len() + 1;
        match edit {
            Edit::Insert(at, token) => {
                let at = at.index(room);
                text.splice(at..at, TOKENS[*token].chars());
            }
            Edit::Delete(at, n) => {
                let at = at.index(room);
                let end = (at + n).min(text.len());
                text.drain(at..end);
            }
            Edit::Copy(at, n, to) => {
                let at = at.index(room);
                let piece = text[at..(at + n).min(text.len())].to_vec();
                let to = to.index(room);
                text.splice(to..to, piece);
            }
        }
    }
    text.into_iter().collect()
}

/// Sources that edits start from.
fn corpus() -> Vec<&'static str> {
    let mut all: Vec<&str> = TEMPLATES.iter().map(|t| t.source).collect();
    all.extend([
        BLOCKS.source,
        "{% from \"blocks\" import down, bottleneck %}\n[{{ down(8) }}, {{ bottleneck(8, 2) }}, \
         GlobalAvgPool, Linear(classes)]",
        "{% macro m(a) %}Linear({{ a }}), Relu{% endmacro %}\n[Flatten, {% for i in range(3) %}\n  \
         {{ m(i + 2) }},\n{% endfor %} Linear(classes)]",
        "[Repeat(2, [Residual([Conv2d(channels, kernel: 1), Relu])]), GlobalMaxPool, Linear(classes)]",
        "{%- set x = [channels, 8] | min -%}\n[GlobalAvgPool, Linear({{ x }}), Silu, Linear(classes)]",
    ]);
    all
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn no_text_panics(source in "[\\[\\](){}#%,:a-zA-Z0-9 \n.é'\"-]{0,60}") {
        if let Err(error) = head_with(&source, &point(&[4, 6, 6]), "edge", 0, &Library::new()) {
            placed(&source, &error)?;
        }
    }

    #[test]
    fn no_edit_of_a_template_panics(
        source in prop::sample::select(corpus()),
        edits in prop::collection::vec(edit(), 1..8),
        sample in prop::sample::select(&SAMPLES[..]),
    ) {
        let source = edited(source, &edits);
        if let Err(error) = head_with(&source, &point(sample), "edge", 0, &Library::new()) {
            placed(&source, &error)?;
        }
    }
}

/// What the searches above found before.
#[rstest]
#[case("[]", &[4, 6, 6])]
#[case("", &[10])]
#[case("[]", &[10])]
#[case("[Residual([DepthwiseConv2d(kernel: 2, stride: 2, pad: 3)]), GlobalAvgPool, Linear(classes)]", &[4, 6, 6])]
fn found_before(#[case] source: &str, #[case] sample: &[usize]) {
    holds(source, sample).unwrap();
}
