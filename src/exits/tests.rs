/*! The way from source to head, and what is said where it fails. */

use super::*;
use crate::backend::Compiled;
use crate::engine::{Cancel, Engine, Options};
use crate::model::Shape;
use pretty_assertions::assert_eq;
use rstest::rstest;

mod files;
mod gallery;
mod grammar;
mod habits;
mod language;
mod pytorch;
mod support;

fn point(sample: &[usize]) -> ExitPoint {
    ExitPoint {
        layer: 3,
        after: "block3".into(),
        value: "v".into(),
        index: 1,
        count: 4,
        depth: 0.3,
        macs: 1000,
        sample: sample.to_vec(),
        classes: 10,
    }
}

#[rstest]
#[case(
    "[GlobalAvgPol, Linear(classes)]",
    1,
    2,
    "there is no layer `GlobalAvgPol`"
)]
#[case("[\n  GlobalAvgPool,\n  Linear(clases),\n]", 3, 10, "`out` takes")]
#[case(
    "[\n  GlobalAvgPool,\n  Linear({{ chanels }}),\n]",
    3,
    13,
    "there is no variable `chanels`"
)]
#[case(
    "[\n  {# é #}GlobalAvgPool, Conv2d(8, kernal: 3)]",
    2,
    35,
    "`Conv2d` has no field `kernal`"
)]
#[case(
    "[\n Relu,\n Linear(classes)]",
    3,
    2,
    "Linear takes features, not 16×8×8"
)]
#[case(
    "{% if depth < 0.5 %}\n[GlobalAvgPool,\n {% endif %} Linear({{ classes + 1 }})]",
    3,
    14,
    "the head gives 11 per sample"
)]
#[case(
    "[GlobalAvgPool Linear(classes)]",
    1,
    16,
    "expected `,` or `]` after the layer"
)]
#[case(
    "[GlobalAvgPool, Linear(classes)",
    1,
    31,
    "expected `]` to close the list, found the end"
)]
#[case(
    "[MaxPool2d(kernel: 9), GlobalAvgPool, Linear(classes)]",
    1,
    2,
    "a window of 9×9 doesn't fit 16×8×8"
)]
#[case("[Linear]", 1, 2, "`Linear` needs `out`")]
#[case("[GlobalAvgPool(3)]", 1, 16, "`GlobalAvgPool` takes no fields")]
#[case("{% for i in [1] %}", 1, 1, "`{% for … %}` is never closed")]
fn findings_stand_in_the_users_own_source(
    #[case] source: &str,
    #[case] line: usize,
    #[case] column: usize,
    #[case] message: &str,
) {
    let error = head(source, &point(&[16, 8, 8]), "edge", 0).unwrap_err();
    let first = &error.diagnostics[0];
    assert!(first.message.starts_with(message), "{error}");
    if !message.starts_with("in the template") {
        assert_eq!((first.line, first.column), (line, column), "{error}");
    }
}

#[test]
fn several_findings_come_at_once_each_with_a_caret() {
    let source = "[\n    Rellu,\n    Conv2d(out: x),\n    Linear(classes, bais: true),\n]";
    let error = head(source, &point(&[16, 8, 8]), "edge", 0).unwrap_err();
    assert_eq!(error.diagnostics.len(), 3, "{error}");
    let text = error.text();
    assert!(
        text.contains("2 |     Rellu,\n  |     ^^^^^\n  = did you mean `Relu`?"),
        "{text}"
    );
}

#[test]
fn one_source_grows_early_heads_and_its_canonical_text_is_hashed() {
    let gap = TEMPLATES
        .iter()
        .find(|t| t.name == "gap-mlp")
        .unwrap()
        .source;
    let early = head(gap, &point(&[16, 8, 8]), "edge", 0).unwrap();
    let text = "[\n    GlobalAvgPool,\n    Linear(32),\n    Relu,\n    Dropout(0.1),\n    Linear(10),\n]\n";
    assert_eq!(early.rendered, text);
    assert_eq!(early.params, 16 * 32 + 32 + 32 * 10 + 10);
    assert_eq!(early.dropout.len(), 1);
    let same = head(text, &point(&[16, 8, 8]), "cloud", 0).unwrap();
    assert_eq!(same.hash, early.hash);
}

#[test]
fn a_source_that_tells_parts_apart_gives_two_heads() {
    let source =
        "[GlobalAvgPool, {% if part == 'cloud' %}Linear(20), Relu,{% endif %} Linear(classes)]";
    let both = heads_with(
        source,
        &point(&[16, 8, 8]),
        &["edge", "cloud"],
        0,
        &Library::new(),
    )
    .unwrap();
    assert_eq!(both.len(), 2);
    let one = heads_with(
        "[GlobalAvgPool, Linear(classes)]",
        &point(&[16, 8, 8]),
        &["edge", "cloud"],
        0,
        &Library::new(),
    )
    .unwrap();
    assert_eq!(one.len(), 1);
}

#[rstest]
#[case(&[16, 8, 8])]
#[case(&[3, 31, 17])]
#[case(&[32, 1, 1])]
#[case(&[65, 48])]
#[case(&[128])]
fn every_template_builds_and_runs_at_any_point(#[case] sample: &[usize]) {
    for template in TEMPLATES {
        let head = head(template.source, &point(sample), "edge", 7).unwrap();
        let graph = head.graph;
        assert_eq!(graph.value(graph.outputs[0]).shape, Shape::batched(&[10]));
        let engine = Engine::new(graph, &Options::default()).unwrap();
        let x = vec![0.5; 2 * sample.iter().product::<usize>()];
        let y = engine.run_f32(2, &[&x], &Cancel::new()).unwrap();
        assert_eq!(y[0].len(), 20);
        assert!(y[0].iter().all(|v| v.is_finite()));
    }
}

#[test]
fn weights_are_replaced_by_name_and_shape() {
    let head = head(
        "[GlobalAvgPool, Linear(classes)]",
        &point(&[16, 8, 8]),
        "edge",
        1,
    )
    .unwrap();
    let mut weights = head.weights();
    assert_eq!(weights.len(), 2);
    weights.insert("linear_2.bias".into(), Constant::f32(&[10], vec![1.0; 10]));
    let trained = head.clone().with_weights(&weights).unwrap();
    assert_eq!(trained.weights(), weights);
    weights.insert("linear_2.bias".into(), Constant::f32(&[9], vec![1.0; 9]));
    assert!(matches!(
        head.with_weights(&weights),
        Err(WeightError::Shape { .. })
    ));
}

#[test]
fn a_template_without_end_is_stopped() {
    let source = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
    let error = head(source, &point(&[16, 8, 8]), "edge", 0).unwrap_err();
    assert!(error.diagnostics[0].help.is_some(), "{error}");
}

#[rstest]
#[case::gem("head_gem.onnx", "GemPool,\n    Linear(classes),")]
#[case::pplcnet(
    "head_pplcnet.onnx",
    "GlobalAvgPool,\n    Linear(32),\n    HardSwish,\n    Linear(classes),"
)]
fn endings_people_bring_are_replicated(#[case] file: &str, #[case] layers: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx");
    let graph = crate::model::fuse(&crate::model::onnx::import_file(&path.join(file)).unwrap());
    let source = replica(&graph).unwrap();
    let list = source.split_once('\n').unwrap().1;
    assert_eq!(list, format!("[\n    {layers}\n]\n"));
    let table = LayerTable::new(&graph).unwrap();
    for point in &points(&table, &graph) {
        head(&source, point, "edge", 0).unwrap();
    }
}

#[test]
fn resnets_own_classifier_is_found() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../shared/models/cifar10/resnet20_cifar10.onnx"
    );
    let path = std::path::Path::new(path);
    if !path.exists() {
        eprintln!("skipped: {} is not here", path.display());
        return;
    }
    let graph = crate::model::fuse(&crate::model::onnx::import_file(path).unwrap());
    let source = replica(&graph).unwrap();
    let list = source.split_once('\n').unwrap().1;
    assert_eq!(list, "[\n    GlobalAvgPool,\n    Linear(classes),\n]\n");
    let table = LayerTable::new(&graph).unwrap();
    let points = points(&table, &graph);
    assert!(points.len() >= 9, "{}", points.len());
    for point in &points {
        head(&source, point, "edge", 0).unwrap();
    }
}
