/*! The rules worked by table, on resnet20's numbers. */

use super::*;
use crate::device::{LayerProfile, Stats};
use crate::model::layers::Layer;
use crate::model::{Shape, ValueId};
use pretty_assertions::assert_eq;
use rstest::rstest;

/// resnet20: prefix memory and MACs after the stem and blocks 1 to 8, in hundredths.
const MEMORY: [usize; 9] = [6, 17, 19, 20, 24, 30, 36, 53, 77];
const MACS: [u64; 9] = [1, 13, 24, 36, 45, 56, 68, 77, 88];

fn table() -> LayerTable {
    let layer = |i: usize, memory: usize, macs: u64| Layer {
        name: format!("b{i}"),
        op: "conv".into(),
        nodes: i..i + 1,
        output: ValueId(i as u32),
        value: format!("v{i}"),
        shape: Shape::batched(&[16, 8, 8]),
        params: 0,
        param_bytes: 0,
        macs: 0,
        activation_bytes: 0,
        prefix_memory_bytes: memory,
        prefix_macs: macs,
        prefix_params: 0,
        is_cut: true,
        split_legal: i < 9,
        exit_legal: i < 9,
        why_not: (i == 9).then(|| "the end of the network".into()),
    };
    let rows = MEMORY.iter().zip(MACS).enumerate();
    let mut layers: Vec<Layer> = rows.map(|(i, (&m, c))| layer(i, m, c)).collect();
    layers.push(layer(9, 100, 100));
    LayerTable {
        network: "resnet20".into(),
        layers,
        params: 0,
        macs: 100,
        memory_bytes: 100,
        input: Shape::batched(&[3, 32, 32]),
        classes: 10,
    }
}

fn points(layers: &[usize]) -> Vec<ExitPoint> {
    let point = |(index, &layer): (usize, &usize)| ExitPoint {
        layer,
        after: format!("b{layer}"),
        value: format!("v{layer}"),
        index,
        count: layers.len(),
        depth: MACS[layer] as f64 / 100.0,
        macs: MACS[layer],
        sample: vec![16, 8, 8],
        classes: 10,
    };
    layers.iter().enumerate().map(point).collect()
}

fn profile(each: f64, total: f64) -> Profile {
    let stats = |ms: f64| Stats {
        min: ms,
        median: ms,
        mean: ms,
        p95: ms,
    };
    let layer = |i| LayerProfile {
        name: format!("b{i}"),
        ms: stats(each),
        bytes: 0,
    };
    Profile {
        target: "t".into(),
        device: "d".into(),
        ghz: None,
        threads: 1,
        batch: 1,
        slowdown: 1.0,
        total_ms: stats(total),
        layers: (0..10).map(layer).collect(),
        heads: vec![],
        samples_ms: vec![],
        weight_bytes: 0,
        arena_bytes: 0,
        resident_bytes: 0,
    }
}

#[rstest]
#[case(0.7, Split::After(7), 0.53)]
#[case(0.53, Split::After(7), 0.53)]
#[case(0.52, Split::After(6), 0.36)]
#[case(0.99, Split::After(8), 0.77)]
#[case(0.05, Split::CloudOnly, 0.0)]
#[case(1.0, Split::EdgeOnly, 1.0)]
fn memory_takes_the_last_cut_within_the_share(
    #[case] share: f64,
    #[case] expected: Split,
    #[case] reached: f64,
) {
    let outcome = split::memory(&table(), share).unwrap();
    assert_eq!((outcome.split, outcome.reached), (expected, reached));
}

#[test]
fn memory_says_what_was_asked_and_reached() {
    let sentence = split::memory(&table(), 0.7).unwrap().sentence;
    let expected = "after `b7`: memory 70 % asked, 53 % reached; the next cut has 77 %";
    assert_eq!(sentence, expected);
}

#[test]
fn layers_counts_rows() {
    let outcome = split::layers(&table(), 0.5).unwrap();
    assert_eq!(outcome.split, Split::After(4));
    assert!(split::layers(&table(), 1.5).is_err());
}

#[rstest]
#[case(4.5, Split::After(3), false)]
#[case(4.1, Split::After(3), true)]
#[case(4.9, Split::After(3), true)]
#[case(0.5, Split::CloudOnly, false)]
#[case(20.0, Split::EdgeOnly, false)]
#[case(10.2, Split::EdgeOnly, true)]
fn latency_compares_the_prefix_with_the_whole_cloud(
    #[case] cloud_ms: f64,
    #[case] expected: Split,
    #[case] unstable: bool,
) {
    let (edge, cloud) = (profile(1.0, 10.0), profile(0.1, cloud_ms));
    let outcome = split::latency(&table(), &edge, &cloud).unwrap();
    assert_eq!((outcome.split, outcome.unstable), (expected, unstable));
}

#[test]
fn a_profile_of_another_network_is_refused() {
    let mut edge = profile(1.0, 10.0);
    edge.layers.pop();
    let error = split::latency(&table(), &edge, &profile(1.0, 4.0)).unwrap_err();
    assert!(matches!(error, PlanError::OtherProfile { .. }));
}

#[test]
fn an_illegal_place_is_refused_with_its_reason() {
    let error = split::after(&table(), "b9").unwrap_err().to_string();
    assert!(error.contains("the end of the network"), "{error}");
}

fn placed(split: Split, layers: &[usize], placement: Placement, at_split: bool) -> place::Placed {
    let macs = match split {
        Split::After(i) => MACS[i],
        _ => 0,
    };
    place::place(&points(layers), &split, macs, 100, placement, 3, at_split)
}

#[test]
fn exits_stand_nearest_their_targets_and_not_across_the_split() {
    let all: Vec<usize> = (0..9).collect();
    // Edge part 77: targets 19.25, 38.5, 57.75. Cloud part 77..100: only one point, at 88.
    let got = placed(Split::After(7), &all, Placement::Linear, false);
    let edge = [(2, Part::Edge), (3, Part::Edge), (5, Part::Edge)];
    assert_eq!(got.exits[..3], edge);
    assert_eq!(got.exits[3..], [(8, Part::Cloud)]);
    assert_eq!(got.notes, ["cloud: 1 of 3 placed: only 1 legal point"]);
    // Pareto, 0.2, 0.36, 0.488 of 77: 15.4, 27.7, 37.6.
    let got = placed(Split::After(7), &all, Placement::Pareto, false);
    let edge = [(1, Part::Edge), (2, Part::Edge), (3, Part::Edge)];
    assert_eq!(got.exits[..3], edge);
}

#[test]
fn an_exit_at_the_split_counts_towards_the_three() {
    let all: Vec<usize> = (0..9).collect();
    // Two targets remain: 77/3 and 154/3.
    let got = placed(Split::After(7), &all, Placement::Linear, true);
    let edge = [(2, Part::Edge), (5, Part::Edge), (7, Part::Edge)];
    assert_eq!(got.exits[..3], edge);
}

#[test]
fn ties_go_to_the_earlier_point_and_taken_targets_are_dropped() {
    // Target 1/2 of 2..: points at 24 and 36 lie equally far from 30.
    let ends = points(&[2, 3]);
    let got = place::place(&ends, &Split::CloudOnly, 0, 60, Placement::Linear, 1, false);
    assert_eq!(got.exits, [(0, Part::Cloud)]);
    let got = place::place(&ends, &Split::CloudOnly, 0, 60, Placement::Linear, 3, false);
    assert_eq!(got.exits, [(0, Part::Cloud), (1, Part::Cloud)]);
    assert_eq!(got.notes, ["cloud: 2 of 3 placed: only 2 legal points"]);
}

#[test]
fn the_best_scored_split_is_taken() {
    let rule = ExitRule {
        placement: Placement::Linear,
        per_part: 1,
        at_split: false,
        threshold: 0.7,
        thresholds: vec![("b3".into(), 0.9)],
    };
    let (table, points) = (table(), points(&[0, 1, 2, 3, 4, 5, 6, 7, 8]));
    let score = |p: &Plan| match p.split {
        Split::After(i) => Some((i as f64 - 4.0).abs()),
        _ => None,
    };
    let fastest = SplitRule::Fastest;
    let plan = plan(&table, &points, &fastest, &rule, None, Some(&score)).unwrap();
    assert_eq!(plan.split, Split::After(4));
    assert_eq!(plan.split_after.as_deref(), Some("b4"));
    let without = super::plan(&table, &points, &fastest, &rule, None, None);
    assert_eq!(without.unwrap_err(), PlanError::NoScore("Fastest"));
}

mod parts {
    use super::super::parts::*;
    use super::*;
    use crate::engine::{Cancel, Engine, Options};
    use crate::exits;
    use crate::model::{Activation, Builder, Graph, fuse};
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
        let after = SplitRule::After("c".into());
        let plan = plan(&table, &points, &after, &rule, None, None).unwrap();
        assert_eq!(plan.exits.len(), 2, "{plan:?}");
        let heads: Vec<exits::Head> = points
            .iter()
            .map(|p| exits::head("[GlobalAvgPool, Linear(classes)]", p, Part::Edge, 1).unwrap())
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
}
