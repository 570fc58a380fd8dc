//! Whole networks with constant weights, exported long ago (opset 9, weights among the inputs, the
//! batch fixed at 1): they must import with the right shapes and fall apart at the right places.

use edgelesspart::model::Op;
use edgelesspart::model::fuse::fuse;
use edgelesspart::model::layers::LayerTable;
use edgelesspart::model::onnx::{import_file, read_tensor};
use rstest::rstest;
use std::path::Path;

const FOLDER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../shared/onnx-conformance/light"
);

#[rstest]
#[case("light_squeezenet", &[("r2", [64, 55, 55]), ("r60", [512, 13, 13])])]
#[case("light_resnet50", &[("r3", [64, 56, 56]), ("r171", [2048, 7, 7])])]
#[case("light_inception_v2", &[("r73", [256, 28, 28]), ("r504", [1024, 7, 7])])]
fn imports_with_the_right_shapes(#[case] name: &str, #[case] inside: &[(&str, [usize; 3])]) {
    let path = Path::new(FOLDER).join(format!("{name}.onnx"));
    if !path.is_file() {
        println!("skipped: no {}", path.display());
        return;
    }
    let graph = import_file(&path).unwrap();
    let expected = std::fs::read(Path::new(FOLDER).join(format!("{name}_output_0.pb"))).unwrap();
    let expected = read_tensor(&expected, name).unwrap();
    let output = &graph.value(graph.outputs[0]).shape;
    assert_eq!(output.at(1), expected.shape, "output");
    assert_eq!(output.at(3)[0], 3, "the batch is symbolic");
    for (value, shape) in inside {
        let found = graph.find(value).map(|v| graph.value(v).shape.sample());
        assert_eq!(found, Ok(Some(shape.to_vec())), "{value}");
    }
    let fused = fuse(&graph);
    // Everything but the convolutions, pools, joins and the classifier went into a convolution.
    let left: Vec<&str> = fused
        .nodes
        .iter()
        .filter(|n| matches!(n.op, Op::BatchNorm { .. } | Op::Unary(_) | Op::Binary(..)))
        .map(|n| n.name.as_str())
        .collect();
    assert!(left.is_empty(), "left: {left:?}");
    let table = LayerTable::new(&fused).unwrap();
    assert!(
        table.splits().count() > 5,
        "{} splits",
        table.splits().count()
    );
    assert!(table.layers.len() > 20);
}
