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
