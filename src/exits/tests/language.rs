/*! Layers that hold layers, blocks, includes, networks from files, warnings. */

use super::support::{learns, point, sound};
use crate::exits::{Head, Library, head, head_with, points, reference};
use crate::model::{LayerTable, fuse, zoo::ZooModel};
use pretty_assertions::assert_eq;
use rstest::rstest;

fn made(source: &str, sample: &[usize]) -> Head {
    head(source, &point(sample), "edge", 3).unwrap()
}

fn refused(source: &str, sample: &[usize]) -> Vec<(usize, usize, String)> {
    let error = head(source, &point(sample), "edge", 3).unwrap_err();
    let all = error.diagnostics.into_iter();
    all.map(|d| (d.line, d.column, d.message)).collect()
}

#[rstest]
#[case("[Residual([Conv2d(16, pad: 1), BatchNorm2d, Relu]), GlobalAvgPool, Linear(classes)]", &[16, 8, 8])]
#[case("[Parallel([MaxPool2d(2), [AvgPool2d(2)], [Conv2d(5, stride: 2, pad: 1)]]), Flatten, Linear(classes)]", &[4, 8, 8])]
#[case("[Parallel([[], [Conv2d(4, kernel: 1), Sigmoid]], sum), GlobalMaxPool, Linear(classes)]", &[4, 5, 5])]
#[case("[Repeat(3, [Linear(6), Gelu]), Linear(classes, bias: false)]", &[20])]
#[case("[SqueezeExcite(reduction: 4), GlobalAvgPool, Linear(classes)]", &[16, 8, 8])]
#[case("[AttentionPool, Linear(classes)]", &[16, 3, 5])]
#[case("[AttentionPool(heads: 4), LayerNorm, Linear(classes)]", &[9, 16])]
#[case("[Parallel([MaxPool2d(2), AvgPool2d(2)], mix), Flatten, Linear(classes)]", &[4, 8, 8])]
#[case("[Parallel([[], Relu, [Linear(16)]], mix), GlobalAvgPool, Linear(classes)]", &[9, 16])]
#[case("[Linear(8), Parallel([Linear(4), Linear(4)], concat), AttentionPool(heads: 2), Linear(classes)]", &[9, 16])]
#[case("[SeparableConv2d(6), BatchNorm2d, HardSwish, AdaptiveAvgPool2d(2), Flatten, Linear(classes)]", &[3, 8, 8])]
#[case("[Residual([Dropout(0.3), Linear(12)]), Dropout(0.5), Linear(classes)]", &[12])]
#[case("[Repeat(2, [Residual([Repeat(2, [Linear(12)]), Silu])]), LeakyRelu(0.1), Tanh, Linear(classes)]", &[12])]
fn layers_build_run_export_and_learn(#[case] source: &str, #[case] sample: &[usize]) {
    let head = made(source, sample);
    sound(&head, 1e-4).unwrap();
    learns(&head).unwrap();
    let weights = head.weights();
    let names: Vec<&String> = weights.keys().collect();
    assert_eq!(names.len(), head.graph.constants.len(), "{names:?}");
    // The canonical text is a source of the same head.
    let again = made(&head.rendered, sample);
    assert_eq!((again.hash, again.rendered), (head.hash, head.rendered));
}

#[rstest]
#[case(
    "[Residual([\n Conv2d(8)]), GlobalAvgPool, Linear(classes)]",
    1,
    2,
    "the layers of a Residual turn 16×8×8 into 8×6×6"
)]
#[case(
    "[Parallel([[Conv2d(4)], []],\n sum), Flatten, Linear(classes)]",
    1,
    2,
    "branches of 4×6×6 and 16×8×8 can't be summed"
)]
#[case(
    "[Parallel([Conv2d(4), []], mix), Linear(classes)]",
    1,
    2,
    "branches of 4×6×6 and 16×8×8 can't be mixed"
)]
#[case(
    "[Parallel([Flatten, []]), Linear(classes)]",
    1,
    2,
    "branches of 1024 and 16×8×8 can't be put side by side"
)]
#[case(
    "[Parallel([Relu]), GlobalAvgPool, Linear(classes)]",
    1,
    2,
    "Parallel has 1 branches"
)]
#[case(
    "[Repeat(2, []), GlobalAvgPool, Linear(classes)]",
    1,
    2,
    "the list of Repeat is empty"
)]
#[case(
    "[Parallel([Relu, Relu], sun)]",
    1,
    25,
    "`join` takes `concat` or `sum` or `mix`, not `sun`"
)]
#[case(
    "[Repeat([Relu], 2)]",
    1,
    9,
    "`times` takes a whole number from 1 to 64, not `[`"
)]
#[case(
    "[Repeat(2, Relu)]",
    1,
    12,
    "`layers` takes a list of layers, not `Relu`"
)]
#[case(
    "[AttentionPool(heads: 5), Linear(classes)]",
    1,
    2,
    "16 channels can't be shared by 5 heads"
)]
#[case(
    "[Repeat(64, [Repeat(64, [Relu])]), GlobalAvgPool, Linear(classes)]",
    1,
    26,
    "more than 1000 layers"
)]
#[case("[Residual([Residual([Rellu])])]", 1, 22, "there is no layer `Rellu`")]
#[case("[Onnx(head)]", 1, 7, "`file` takes a name in quotes, not `head`")]
#[case("[Onnx(\"head.onnx)]", 1, 7, "`file` takes a name in quotes")]
#[case(
    "[Onnx(\"head.onnx\")]",
    1,
    2,
    "`head.onnx` can't be read: there are no files here"
)]
fn what_holds_layers_is_refused_at_its_place(
    #[case] source: &str,
    #[case] line: usize,
    #[case] column: usize,
    #[case] message: &str,
) {
    let found = refused(source, &[16, 8, 8]);
    assert!(found[0].2.starts_with(message), "{found:?}");
    assert_eq!((found[0].0, found[0].1), (line, column), "{found:?}");
}

#[test]
fn findings_of_all_branches_come_together() {
    let source = "[Parallel([\n [Linear(4)],\n [MaxPool2d(9)],\n]), Linear(classes)]";
    let found = refused(source, &[16, 8, 8]);
    let at: Vec<_> = found.iter().map(|f| (f.0, f.1)).collect();
    assert_eq!(at, [(2, 3), (3, 3)], "{found:?}");
}

#[test]
fn lists_deeper_than_any_head_needs_are_refused() {
    let source = format!("[{}Relu{}]", "Residual([".repeat(5000), "])".repeat(5000));
    let found = refused(&source, &[4]);
    assert!(found[0].2.contains("16 deep"), "{found:?}");
}

const BLOCK: &str = "{% macro wide(out) %}\n    Linear({{ out }}), Rellu\n{% endmacro %}\n[\n    \
                     GlobalAvgPool,\n    {{ wide(8) }},\n    Linear(classes),\n]";

#[test]
fn a_finding_in_a_block_stands_in_the_block() {
    let found = refused(BLOCK, &[16, 8, 8]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].0, found[0].1), (2, 24), "{found:?}");
    let good = made(&BLOCK.replace("Rellu", "Relu"), &[16, 8, 8]);
    assert_eq!(good.rendered.matches("Linear(8)").count(), 1);
}

#[test]
fn blocks_and_whole_templates_come_from_the_library() {
    let source = "{% from \"blocks\" import down, bottleneck %}\n[\n {{ down(8) }},\n \
                  {{ bottleneck(8, 2) }},\n GlobalAvgPool,\n Linear(classes),\n]";
    let head = made(source, &[3, 8, 8]);
    sound(&head, 1e-4).unwrap();
    assert!(head.rendered.contains("Residual(["), "{}", head.rendered);
    let included = made("{% include \"gap-mlp.ron.j2\" %}", &[16, 8, 8]);
    assert!(included.rendered.contains("Dropout"));
}

#[test]
fn own_templates_go_before_those_that_ship_and_findings_in_them_name_them() {
    let source = "{# mine #}\n{% include \"gap-mlp\" %}";
    let library =
        Library::new().with_template("gap-mlp.ron.j2", "[\n  GlobalAvgPool,\n  Linear(7),\n]");
    let error = head_with(source, &point(&[4, 4, 4]), "edge", 0, &library).unwrap_err();
    let d = &error.diagnostics[0];
    assert_eq!((d.line, d.column), (2, 1), "{error}");
    assert!(
        d.message
            .starts_with("in `gap-mlp`, line 3: the head gives 7"),
        "{error}"
    );
    let found = refused("[\n{% include \"gap-mpl\" %}]", &[4]);
    assert_eq!(
        (found[0].0, &*found[0].2),
        (2, "there is no template `gap-mpl` to include")
    );
    let library = Library::new().with_template("mine", "[\n{{ nothing }}\n]");
    let error = head_with("\n{% include 'mine' %}", &point(&[4]), "edge", 0, &library).unwrap_err();
    let d = &error.diagnostics[0];
    assert!(d.message.starts_with("in `mine`, line 2"), "{error}");
    assert_eq!(d.line, 2, "{error}");
}

#[test]
fn a_template_that_includes_itself_is_stopped() {
    let library = Library::new().with_template("a", "{% include 'a' %}");
    let error = head_with("{% include 'a' %}", &point(&[4]), "edge", 0, &library).unwrap_err();
    assert!(
        error.diagnostics[0].message.contains("recursion"),
        "{error}"
    );
}

#[test]
fn a_block_sees_the_variables() {
    let source = "{% macro wide() %}Linear({{ channels * 2 }}), Relu{% endmacro %}\
                  [GlobalAvgPool, {{ wide() }}, Linear(classes)]";
    assert!(made(source, &[16, 8, 8]).rendered.contains("Linear(32)"));
}

#[test]
fn text_that_a_template_counts_still_has_places() {
    // Marks would change what it counts: findings then stand at the whole, not at a wrong place.
    let source = "{% set x %}Relu, Rellu,{% endset %}[{% if x | length == 12 %}{{ x }}{% endif %}]";
    let found = refused(source, &[4]);
    assert_eq!((found[0].0, found[0].1), (1, 1), "{found:?}");
    assert_eq!(found[0].2, "there is no layer `Rellu`");
}

#[test]
fn a_head_heavier_than_the_network_before_it_is_warned_of() {
    let mut at = point(&[16, 8, 8]);
    at.macs = 100_000;
    let source = "[\n  Conv2d(32),\n  GlobalAvgPool,\n  Linear(classes),\n]";
    let heavy = head(source, &at, "edge", 0).unwrap();
    assert_eq!(heavy.warnings.len(), 1);
    let warning = &heavy.warnings[0];
    assert_eq!((warning.line, warning.column), (2, 3), "{warning:?}");
    assert!(
        warning.message.contains("more than the 100000"),
        "{warning:?}"
    );
    at.macs = 1_000_000;
    assert_eq!(head(source, &at, "edge", 0).unwrap().warnings, []);
}

#[test]
fn lines_tell_shapes_and_costs() {
    let head = made(
        "[Residual([Conv2d(4, pad: 1)]), GlobalAvgPool, Linear(classes)]",
        &[4, 6, 6],
    );
    let told: Vec<_> = head
        .lines
        .iter()
        .map(|l| {
            (
                l.depth,
                l.text.as_str(),
                l.output.as_slice(),
                l.params,
                l.macs,
            )
        })
        .collect();
    let conv = 4 * 4 * 9;
    assert_eq!(
        told,
        [
            (
                0,
                "Residual",
                &[4usize, 6, 6][..],
                conv + 4,
                conv as u64 * 36
            ),
            (
                1,
                "Conv2d(4, pad: 1)",
                &[4, 6, 6],
                conv + 4,
                conv as u64 * 36
            ),
            (0, "GlobalAvgPool", &[4], 0, 0),
            (0, "Linear(10)", &[10], 50, 40),
        ]
    );
}

#[test]
fn garbage_in_the_file_is_a_finding() {
    let files = |_: &str| Ok(vec![7; 100]);
    let library = Library::new().with_files(&files);
    let error = head_with("[Onnx(\"a.onnx\")]", &point(&[4]), "edge", 0, &library).unwrap_err();
    assert_eq!(error.diagnostics[0].column, 2, "{error}");
}

#[test]
fn the_reference_is_the_tables() {
    let written = include_str!("../../../assets/exits/reference.md");
    if written != reference() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/target/reference.md");
        std::fs::write(path, reference()).unwrap();
        panic!("assets/exits/reference.md is out of date: copy {path} over it");
    }
}

#[test]
fn every_point_of_a_network_gets_the_shape_it_has() {
    let network = ZooModel::ResNet { depth: 8, width: 4 };
    let fused = fuse(&network.build((3, 32, 32), 10, 1).unwrap());
    let table = LayerTable::new(&fused).unwrap();
    for point in points(&table, &fused) {
        let head = head("[GlobalAvgPool, Linear(classes)]", &point, "edge", 0).unwrap();
        assert_eq!(head.lines[0].input, point.sample);
    }
}
