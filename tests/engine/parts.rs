//! A network cut in two or three is the same network: at the same batch size, its parts one after the
//! other give the bits of the whole, at every legal split. `PARTS_MODELS_DIR` names a folder of other
//! ONNX files to try.

use edgelesspart::backend::Compiled;
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
    check(Path::new(&path), every);
}

#[test]
fn parts_of_other_networks_equal_the_whole() {
    let Some(folder) = std::env::var_os("PARTS_MODELS_DIR") else {
        println!("skipped: PARTS_MODELS_DIR is not set");
        return;
    };
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|e| e == "onnx") {
            println!("{}", path.display());
            check(&path, 3);
        }
    }
}

fn check(path: &Path, every: usize) {
    let graph = fuse(&import_file(path).unwrap());
    let table = LayerTable::new(&graph).unwrap();
    let compile = |inputs: &[_], outputs: &[_]| {
        let piece = graph.subgraph(inputs, outputs).unwrap();
        Engine::new(piece, &Options::default()).unwrap()
    };
    let run = |engine: &Engine, batch: usize, input: &[f32]| {
        let mut outputs = engine.run_f32(batch, &[input], &Cancel::new()).unwrap();
        outputs.swap_remove(0)
    };
    let whole = compile(&graph.inputs, &graph.outputs);
    // Each piece takes what the whole says beforehand that it will.
    let name = |ids: &[_]| graph.value(ids[0]).name.as_str();
    let same = |piece: &Engine, batch: usize, from: &[_], to: &[_]| {
        let expected = piece.memory(batch).unwrap();
        let told = whole.memory_between(batch, name(from), name(to)).unwrap();
        assert_eq!(told, expected, "{} to {}", name(from), name(to));
    };
    let cuts: Vec<usize> = table.splits().step_by(every).collect();
    assert!(cuts.len() >= 3, "{} cuts", cuts.len());
    for batch in [1, 3] {
        let input: Vec<f32> = (0..table.input.elements(batch))
            .map(|i| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0)
            .collect();
        let expected = run(&whole, batch, &input);
        let mut before: Option<(usize, Vec<f32>)> = None;
        for &cut in &cuts {
            let name = &table.layers[cut].name;
            let at = [table.layers[cut].output];
            let (prefix, suffix) = (compile(&graph.inputs, &at), compile(&at, &graph.outputs));
            same(&prefix, batch, &graph.inputs, &at);
            same(&suffix, batch, &at, &graph.outputs);
            let between = run(&prefix, batch, &input);
            let found = run(&suffix, batch, &between);
            assert!(found == expected, "batch {batch}, cut after {name}");
            if let Some((from, value)) = before {
                let middle = compile(&[table.layers[from].output], &at);
                same(&middle, batch, &[table.layers[from].output], &at);
                let found = run(&middle, batch, &value);
                let from = &table.layers[from].name;
                assert!(found == between, "batch {batch}, from {from} to {name}");
            }
            before = Some((cut, between));
        }
    }
}
