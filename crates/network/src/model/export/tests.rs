use super::*;
use crate::model::fuse::fuse;
use crate::model::layers::LayerTable;
use crate::model::onnx::{import_bytes, import_file};
use pretty_assertions::assert_eq;
use rstest::rstest;
use std::collections::HashMap;

fn shared(name: &str) -> Option<Graph> {
    let path = format!("{}/../../../shared/{name}.onnx", env!("CARGO_MANIFEST_DIR"));
    if !Path::new(&path).is_file() {
        println!("skipped: no {path}");
        return None;
    }
    Some(import_file(Path::new(&path)).unwrap())
}

/// What a graph says, whatever the numbers of its values and the order of its constants.
fn said(graph: &Graph) -> Vec<String> {
    let name = |v: &ValueId| {
        let value = graph.value(*v);
        let constant = graph.constants.get(v).map(|c| match &c.data {
            Data::F32(v) => v
                .iter()
                .fold(7u64, |h, x| h.rotate_left(5) ^ u64::from(x.to_bits())),
            other => format!("{other:?}").len() as u64,
        });
        format!(
            "{}: {:?} {} {constant:?}",
            value.name, value.dtype, value.shape
        )
    };
    let names = |ids: &[ValueId]| ids.iter().map(name).collect::<Vec<_>>().join(", ");
    let mut lines = vec![format!(
        "{} -> {}",
        names(&graph.inputs),
        names(&graph.outputs)
    )];
    lines.extend(graph.nodes.iter().map(|n| {
        let (inputs, outputs) = (names(&n.inputs), names(&n.outputs));
        format!(
            "{} {:?} [{inputs}] -> [{outputs}] {}",
            n.name, n.op, n.params
        )
    }));
    lines
}

/// The first line that differs says enough; all of them would fill pages.
fn same(found: &Graph, expected: &Graph, what: &str) {
    let (found, expected) = (said(found), said(expected));
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected, "{what}");
    }
    assert_eq!(found.len(), expected.len(), "{what}");
}

#[rstest]
#[case("models/cifar10/resnet20_cifar10")]
#[case("models/cifar10/resnet8_float")]
#[case("models/torchvision/resnet50_32")]
#[case("models/torchvision/mobilenetv2_32")]
#[case("models/torchvision/inceptionv3_75")]
fn a_network_comes_back_as_it_went(#[case] name: &str) {
    let Some(graph) = shared(name) else { return };
    let fused = fuse(&graph);
    let back = fuse(&import_bytes(&to_onnx(&fused).unwrap(), "fused").unwrap());
    same(&back, &fused, "fused");
    let back = import_bytes(&to_onnx(&graph).unwrap(), "as imported").unwrap();
    same(&fuse(&back), &fused, "as imported, then fused");
    let table = LayerTable::new(&fused).unwrap();
    println!(
        "{name}: {} parameters, {} bytes",
        table.params, table.memory_bytes
    );
    let splits: Vec<usize> = table.splits().collect();
    for at in [splits[0], splits[splits.len() / 2]] {
        let cut = table.layers[at].output;
        let prefix = fused.subgraph(&fused.inputs, &[cut]).unwrap();
        let suffix = fused.subgraph(&[cut], &fused.outputs).unwrap();
        for part in [prefix, suffix] {
            let back = fuse(&import_bytes(&to_onnx(&part).unwrap(), "part").unwrap());
            same(&back, &part, &table.layers[at].name);
        }
    }
}

#[test]
fn resnet20_counts_what_its_file_holds() {
    let Some(graph) = shared("models/cifar10/resnet20_cifar10") else {
        return;
    };
    let table = LayerTable::new(&fuse(&graph)).unwrap();
    assert_eq!(table.memory_bytes, 1_275_496);
    let whole = table.memory_bytes as f64;
    let share = |i: usize| (table.layers[i].prefix_memory_bytes as f64 / whole * 100.0).round();
    let memory: Vec<f64> = table.splits().map(share).collect();
    assert_eq!(
        memory,
        [6.0, 17.0, 18.0, 20.0, 24.0, 30.0, 36.0, 53.0, 77.0]
    );
}

#[test]
fn a_file_is_replaced_as_a_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.onnx");
    let mut b = crate::model::Builder::new("one");
    let x = b.input("x", Shape::batched(&[4]));
    let op = crate::model::Op::Unary(crate::model::op::Unary::Relu);
    let y = b.node("y", op, &[x], Shape::batched(&[4]), 0);
    b.output(y);
    let graph = b.finish();
    write_file(&graph, &path).unwrap();
    assert_eq!(said(&import_file(&path).unwrap()), said(&graph));
    let nowhere = folder.path().join("no/such/x.onnx");
    let err = write_file(&graph, &nowhere).unwrap_err().to_string();
    assert!(err.contains("no/such/x.onnx"), "{err}");
    let names: HashMap<_, _> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|e| (e.unwrap().file_name(), ()))
        .collect();
    assert_eq!(names.len(), 1, "a temporary file is left behind");
}
