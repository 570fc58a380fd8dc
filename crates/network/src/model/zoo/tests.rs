use super::*;
use crate::model::fuse::fuse;
use crate::model::onnx::import_file;
use crate::model::{LayerTable, Op};
use pretty_assertions::assert_eq;
use rstest::rstest;
use std::path::Path;

#[rstest]
#[case("resnet50", (3, 224, 224), 25_557_032)]
#[case("mobilenetv2", (3, 224, 224), 3_504_872)]
#[case("inceptionv3", (3, 299, 299), 23_834_568)]
fn has_the_parameters_of_its_paper(
    #[case] name: &str,
    #[case] input: (usize, usize, usize),
    #[case] params: usize,
) {
    let model: ZooModel = name.parse().unwrap();
    let graph = model.build(input, 1000, 1).unwrap();
    assert_eq!(graph.nodes.iter().map(|n| n.params).sum::<usize>(), params);
    assert_eq!(LayerTable::new(&fuse(&graph)).unwrap().params, params);
}

/// Convolutions and pools in order: what decides whether weights trained elsewhere would fit.
fn structure(graph: &Graph) -> Vec<String> {
    let table = LayerTable::new(&fuse(graph)).unwrap();
    let mut rows: Vec<String> = table
        .layers
        .iter()
        .map(|l| format!("{} {} {}", l.op.replace(" + add", ""), l.shape, l.macs))
        .collect();
    rows.sort();
    rows
}

#[rstest]
#[case("resnet50", 32, "resnet50_32")]
#[case("mobilenetv2", 32, "mobilenetv2_32")]
#[case("inceptionv3", 75, "inceptionv3_75")]
fn is_laid_out_as_torchvision_does(#[case] name: &str, #[case] size: usize, #[case] file: &str) {
    let path = format!(
        "{}/../../../shared/models/torchvision/{file}.onnx",
        env!("CARGO_MANIFEST_DIR")
    );
    if !Path::new(&path).is_file() {
        println!("skipped: no {path}");
        return;
    }
    let theirs = import_file(Path::new(&path)).unwrap();
    let model: ZooModel = name.parse().unwrap();
    let ours = model.build((3, size, size), 10, 1).unwrap();
    assert_eq!(structure(&ours), structure(&theirs));
    let windows = |graph: &Graph| -> Vec<String> {
        let mut all: Vec<String> = fuse(graph)
            .nodes
            .iter()
            .filter_map(|n| match &n.op {
                Op::Conv { window, groups, .. } => Some(format!("{window:?} {groups}")),
                Op::Pool { kind, window, .. } => Some(format!("{kind:?} {window:?}")),
                _ => None,
            })
            .collect();
        all.sort();
        all
    };
    assert_eq!(windows(&ours), windows(&theirs));
}

#[test]
fn too_small_an_input_names_the_smallest() {
    let err = ZooModel::InceptionV3.build((3, 32, 32), 10, 1).unwrap_err();
    assert!(err.to_string().contains("75×75 pixels and more"), "{err}");
    assert!(
        "resnet51"
            .parse::<ZooModel>()
            .unwrap_err()
            .to_string()
            .contains("resnet50")
    );
}

#[test]
fn the_smallest_input_is_enough_and_the_seed_decides_the_weights() {
    for name in ["resnet50", "mobilenetv2", "resnet8", "resnet14", "resnet20"] {
        let model: ZooModel = name.parse().unwrap();
        let least = model.least_input();
        model.build((3, least, least), 2, 1).unwrap();
    }
    let small: ZooModel = "resnet8".parse().unwrap();
    let build = |seed| small.build((3, 32, 32), 10, seed).unwrap();
    assert_eq!(build(1), build(1));
    assert_ne!(build(1), build(2));
}
