/*! Parts cut from a network, their bundles, and what is refused. */

use super::parts::*;
use crate::backend::Compiled;
use crate::engine::{Cancel, Engine, Options};
use crate::exits;
use crate::model::layers::LayerTable;
use crate::model::{Activation, Builder, Graph, Shape, fuse};
use crate::plan::{ExitRule, Placement, Split, plan_at};
use pretty_assertions::assert_eq;

fn network() -> Graph {
    let weights = |n: usize| {
        (0..n)
            .map(|i| ((i * 37 % 23) as f32 - 11.0) / 40.0)
            .collect()
    };
    let mut b = Builder::new("small");
    let x = b.input("x", Shape::batched(&[3, 8, 8]));
    let relu = Activation::RELU;
    let a = b.conv_with("a", x, weights(8 * 27), 8, 3, 1, 1, relu);
    let c = b.conv_with("c", a, weights(8 * 72), 8, 3, 1, 1, relu);
    let d = b.conv_with("d", c, weights(8 * 72), 8, 3, 1, 1, relu);
    let e = b.conv_with("e", d, weights(4 * 512), 4, 8, 1, 0, Activation::NONE);
    let to = vec![crate::model::Dim::Batch(1), crate::model::Dim::Fixed(4)];
    let op = crate::model::Op::Reshape { to };
    let y = b.node("y", op, &[e], Shape::batched(&[4]), 0);
    b.output(y);
    fuse(&b.finish())
}

fn specs() -> (Graph, Vec<PartSpec>) {
    let graph = network();
    let table = LayerTable::new(&graph).unwrap();
    let points = exits::points(&table, &graph);
    let rule = ExitRule {
        placement: Placement::Linear,
        per_part: 1,
        at_split: false,
        threshold: 0.5,
        thresholds: vec![],
    };
    let split = table.find("c").unwrap();
    let plan = plan_at(&table, &points, vec![Split::After(split)], &rule);
    assert_eq!(plan.exits.len(), 2, "{plan:?}");
    let heads: Vec<exits::Head> = points
        .iter()
        .map(|p| exits::head("[GlobalAvgPool, Linear(classes)]", p, "edge", 1).unwrap())
        .collect();
    let head = |name: &str, _| {
        let head = heads.iter().find(|h| h.point.after == name);
        head.map(|h| (h, 1.5))
    };
    let specs = parts(&graph, &table, &plan, &head).unwrap();
    (graph, specs)
}

fn read(bytes: &[u8]) -> Result<PartBundle, PartError> {
    PartBundle::read(&mut &*bytes, bytes.len() as u64)
}

fn run(graph: &Graph, x: &[f32]) -> Vec<f32> {
    let engine = Engine::new(graph.clone(), &Options::default()).unwrap();
    engine.run_f32(1, &[x], &Cancel::new()).unwrap().remove(0)
}

#[test]
fn parts_compose_to_the_whole_bit_for_bit_through_bundles() {
    let (graph, specs) = specs();
    let x: Vec<f32> = (0..192).map(|i| (i as f32 * 0.7).sin()).collect();
    let mut at = x.clone();
    for spec in specs {
        let settings = serde_json::json!({"wire": "f32"});
        let bundle = PartBundle { spec, settings };
        let bytes = bundle.encode().unwrap();
        assert_eq!(address(&bytes), address(&bundle.encode().unwrap()));
        let back = read(&bytes).unwrap();
        assert_eq!(back.settings, bundle.settings);
        let pairs = back.spec.segments.iter().zip(&bundle.spec.segments);
        for (segment, sent) in pairs {
            at = run(&segment.graph, &at);
            if let (Some(exit), Some(before)) = (&segment.exit, &sent.exit) {
                assert_eq!(run(&exit.head, &at), run(&before.head, &at));
                assert_eq!((exit.temperature, exit.threshold), (1.5, 0.5));
            }
        }
    }
    assert_eq!(at, run(&graph, &x));
}

#[test]
fn a_damaged_bundle_is_refused_wherever_it_was_hit() {
    let (_, specs) = specs();
    let bundle = PartBundle {
        spec: specs[0].clone(),
        settings: serde_json::Value::Null,
    };
    let bytes = bundle.encode().unwrap();
    for cut in [0, 7, 12, 40, bytes.len() / 2, bytes.len() - 1] {
        assert!(read(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let error = read(&flipped).unwrap_err().to_string();
    assert!(error.contains("checksum"), "{error}");
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(read(&longer).is_err());
}

#[test]
fn a_length_beyond_the_bundle_is_not_believed() {
    let (_, specs) = specs();
    let (spec, settings) = (specs[0].clone(), serde_json::Value::Null);
    let bytes = PartBundle { spec, settings }.encode().unwrap();
    let (head, rest) = bytes.split_at(16);
    let length = u64::from_le_bytes(head[8..].try_into().unwrap()) as usize;
    let mut manifest: serde_json::Value = serde_json::from_slice(&rest[..length]).unwrap();
    manifest["files"][0]["bytes"] = (1u64 << 52).into();
    let json = serde_json::to_vec(&manifest).unwrap();
    let mut forged = [&head[..8], &(json.len() as u64).to_le_bytes(), &json].concat();
    // A graph, a tensor in it and its elements, each said to be longer than any memory, and short
    // enough for the file that the manifest tells of.
    for (key, bits) in [(0x3a, 50), (0x2a, 49), (0x4a, 48)] {
        forged.push(key);
        prost::encoding::encode_varint(1 << bits, &mut forged);
    }
    let error = read(&forged).unwrap_err().to_string();
    assert!(error.contains("the bundle ends inside it"), "{error}");
    let mut forged = bytes.clone();
    forged[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    let error = read(&forged).unwrap_err().to_string();
    assert!(error.contains("ends inside the manifest"), "{error}");
}
