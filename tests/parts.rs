//! A network cut in two is the same network: at the same batch size, prefix and suffix give the bits
//! of the whole, at every legal split.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure should stop a test

use edgelesspart::engine::{Cancel, Engine, Options};
use edgelesspart::model::fuse::fuse;
use edgelesspart::model::layers::LayerTable;
use edgelesspart::model::onnx::import_file;
use rstest::rstest;
use std::path::Path;

#[rstest]
#[case("cifar10/resnet20_cifar10", 1)]
#[case("cifar10/resnet8_float", 1)]
#[case("torchvision/mobilenetv2_32", 4)]
#[case("torchvision/inceptionv3_75", 6)]
fn parts_equal_the_whole(#[case] name: &str, #[case] every: usize) {
    let path = format!(
        concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/models/{}.onnx"),
        name
    );
    if !Path::new(&path).is_file() {
        println!("skipped: no {path}");
        return;
    }
    let graph = fuse(&import_file(Path::new(&path)).unwrap());
    let table = LayerTable::new(&graph).unwrap();
    let compile = |inputs: &[_], outputs: &[_]| {
        let piece = graph.subgraph(inputs, outputs).unwrap();
        Engine::new(piece, &Options::default()).unwrap()
    };
    let whole = compile(&graph.inputs, &graph.outputs);
    let cuts: Vec<usize> = table.splits().step_by(every).collect();
    assert!(cuts.len() >= 3, "{} cuts", cuts.len());
    for batch in [1, 3] {
        let input: Vec<f32> = (0..table.input.elements(batch))
            .map(|i| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0)
            .collect();
        let expected = whole.run_f32(batch, &[&input], &Cancel::new()).unwrap();
        for &cut in &cuts {
            let at = [table.layers[cut].output];
            let (prefix, suffix) = (compile(&graph.inputs, &at), compile(&at, &graph.outputs));
            let between = prefix.run_f32(batch, &[&input], &Cancel::new()).unwrap();
            let found = suffix
                .run_f32(batch, &[&between[0]], &Cancel::new())
                .unwrap();
            assert!(
                found == expected,
                "batch {batch}, cut after {}",
                table.layers[cut].name
            );
        }
    }
}
