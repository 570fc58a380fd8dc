/*! The rules worked by table, on resnet20's numbers. */

use super::remark::{Fewer, Share};
use super::*;
use crate::device::{LayerProfile, PrefixProfile, Profile, Stats};
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
        prefixes: vec![],
        heads: vec![],
        samples_ms: vec![],
        weight_bytes: 0,
        arena_bytes: 0,
        segments: vec![],
        boundaries: vec![],
        codec: vec![],
        load: None,
        watts: None,
        resident_bytes: 0,
    }
}

#[rstest]
#[case(0.7, Split::After(7), 0.53)]
#[case(0.53, Split::After(7), 0.53)]
#[case(0.52, Split::After(6), 0.36)]
#[case(0.99, Split::After(8), 0.77)]
#[case(0.05, Split::Start, 0.0)]
#[case(1.0, Split::End, 1.0)]
fn memory_takes_the_last_cut_within_the_share(
    #[case] share: f64,
    #[case] expected: Split,
    #[case] reached: f64,
) {
    let outcome = split::memory(&table(), Tier::First, share).unwrap();
    assert_eq!((outcome.split, outcome.reached), (expected, reached));
}

#[test]
fn memory_says_what_was_asked_and_reached() {
    let remark = split::memory(&table(), Tier::First, 0.7).unwrap().remark;
    let expected = Remark::WithinShare {
        tier: Tier::First,
        share: Share::Memory,
        asked: 0.7,
        after: "b7".into(),
        reached: 0.53,
        next: Some(0.77),
    };
    assert_eq!(remark, expected);
    let sentence = "after `b7`: memory 70 % asked, 53 % reached; the next cut has 77 %";
    assert_eq!(remark.text(&TierNames::default()), sentence);
}

#[test]
fn layers_counts_rows() {
    let outcome = split::layers(&table(), Tier::First, 0.5).unwrap();
    assert_eq!(outcome.split, Split::After(4));
    assert!(split::layers(&table(), Tier::First, 1.5).is_err());
}

#[rstest]
#[case(4.5, Split::After(3), false)]
#[case(4.1, Split::After(3), true)]
#[case(4.9, Split::After(3), true)]
#[case(0.5, Split::Start, false)]
#[case(20.0, Split::End, false)]
#[case(10.2, Split::End, true)]
fn latency_compares_the_prefix_with_the_whole_cloud(
    #[case] cloud_ms: f64,
    #[case] expected: Split,
    #[case] unstable: bool,
) {
    let (edge, cloud) = (profile(1.0, 10.0), profile(0.1, cloud_ms));
    let outcome =
        split::latency(&table(), Tier::First, &edge, &cloud, &TierNames::default()).unwrap();
    assert_eq!((outcome.split, outcome.unstable), (expected, unstable));
}

#[test]
fn a_profile_of_another_network_is_refused() {
    let mut edge = profile(1.0, 10.0);
    edge.layers.pop();
    let error = split::latency(
        &table(),
        Tier::First,
        &edge,
        &profile(1.0, 4.0),
        &TierNames::default(),
    )
    .unwrap_err();
    assert!(matches!(error, PlanError::OtherProfile { .. }));
}

/// Every row one millisecond, told up to each legal split alone.
fn by_prefixes() -> Profile {
    let prefix = |at: usize| PrefixProfile {
        after: format!("b{at}"),
        ms: Stats {
            median: at as f64 + 1.0,
            ..Stats::default()
        },
    };
    Profile {
        layers: vec![],
        prefixes: table().splits().map(prefix).collect(),
        ..profile(1.0, 10.0)
    }
}

#[rstest]
#[case(4.5)]
#[case(4.1)]
#[case(0.5)]
#[case(20.0)]
fn latency_is_content_with_prefixes_at_the_edge_and_the_whole_in_the_cloud(#[case] cloud_ms: f64) {
    let (layers, cloud) = (profile(1.0, 10.0), profile(0.1, cloud_ms));
    let names = TierNames::default();
    let by = |edge: &Profile, cloud: &Profile| {
        split::latency(&table(), Tier::First, edge, cloud, &names).unwrap()
    };
    let expected = by(&layers, &cloud);
    let cloud = Profile {
        layers: vec![],
        ..cloud
    };
    assert_eq!(by(&by_prefixes(), &cloud), expected);
}

#[test]
fn latency_needs_more_than_the_whole_at_the_edge() {
    let edge = Profile {
        prefixes: vec![],
        ..by_prefixes()
    };
    let (cloud, names) = (profile(0.1, 4.5), TierNames::default());
    let error = split::latency(&table(), Tier::First, &edge, &cloud, &names).unwrap_err();
    let PlanError::NotTimed(missing) = &error else {
        panic!("{error}");
    };
    assert_eq!(missing.after, "b0");
    assert!(error.to_string().contains("profile it again"), "{error}");
}

#[test]
fn an_illegal_place_is_refused_with_its_reason() {
    let error = split::after(&table(), Tier::First, "b9")
        .unwrap_err()
        .to_string();
    assert!(error.contains("the end of the network"), "{error}");
}

fn linear(per_part: usize) -> ExitRule {
    ExitRule {
        placement: Placement::Linear,
        per_part,
        at_split: false,
        threshold: 0.7,
        thresholds: vec![],
    }
}

fn placed(splits: &[Split], layers: &[usize], rule: &ExitRule) -> place::Placed {
    let plan = Plan::cut(&table(), splits.to_vec());
    place::place(&points(layers), &plan, &table(), rule)
}

fn fewer(tier: Tier, placed: usize, points: usize) -> Remark {
    Remark::FewerExits {
        tier,
        placed,
        asked: 3,
        why: Fewer::LegalPoints(points),
    }
}

#[test]
fn exits_stand_nearest_their_targets_and_not_across_the_split() {
    let all: Vec<usize> = (0..9).collect();
    // Edge part 77: targets 19.25, 38.5, 57.75. Cloud part 77..100: only one point, at 88.
    let got = placed(&[Split::After(7)], &all, &linear(3));
    let edge = [(2, Tier::First), (3, Tier::First), (5, Tier::First)];
    assert_eq!(got.exits[..3], edge);
    assert_eq!(got.exits[3..], [(8, Tier::Second)]);
    assert_eq!(got.remarks, [fewer(Tier::Second, 1, 1)]);
    let sentence = "cloud: 1 of 3 placed: only 1 legal point";
    assert_eq!(got.remarks[0].text(&TierNames::default()), sentence);
    // Pareto, 0.2, 0.36, 0.488 of 77: 15.4, 27.7, 37.6.
    let got = placed(
        &[Split::After(7)],
        &all,
        &ExitRule {
            placement: Placement::Pareto,
            ..linear(3)
        },
    );
    let edge = [(1, Tier::First), (2, Tier::First), (3, Tier::First)];
    assert_eq!(got.exits[..3], edge);
}

#[test]
fn an_exit_at_the_split_counts_towards_the_three() {
    let all: Vec<usize> = (0..9).collect();
    // Two targets remain: 77/3 and 154/3.
    let got = placed(
        &[Split::After(7)],
        &all,
        &ExitRule {
            at_split: true,
            ..linear(3)
        },
    );
    let edge = [(2, Tier::First), (5, Tier::First), (7, Tier::First)];
    assert_eq!(got.exits[..3], edge);
}

#[test]
fn ties_go_to_the_earlier_point_and_taken_targets_are_dropped() {
    // Target 1/2 of 60: points at 24 and 36 lie equally far from 30.
    let mut table = table();
    table.macs = 60;
    table
        .layers
        .iter_mut()
        .for_each(|l| l.prefix_macs = l.prefix_macs.min(60));
    let place = |rule| {
        let plan = Plan::cut(&table, vec![Split::Start]);
        place::place(&points(&[2, 3]), &plan, &table, &rule)
    };
    assert_eq!(place(linear(1)).exits, [(0, Tier::Second)]);
    let got = place(linear(3));
    assert_eq!(got.exits, [(0, Tier::Second), (1, Tier::Second)]);
    assert_eq!(got.remarks, [fewer(Tier::Second, 2, 2)]);
}

#[test]
fn every_tier_of_a_longer_chain_gets_its_exits() {
    let all: Vec<usize> = (0..9).collect();
    let splits = [Split::After(3), Split::After(6)];
    let got = placed(&splits, &all, &linear(2));
    // 36 MACs: targets 12, 24. 36 to 68: 46.7, 57.3. 68 to 100: 78.7, 89.3.
    let expected = [
        (1, Tier::First),
        (2, Tier::First),
        (4, Tier::Second),
        (5, Tier::Second),
        (7, Tier::Third),
        (8, Tier::Third),
    ];
    assert_eq!(got.exits, expected);
    assert_eq!(got.remarks, []);
    // A tier with nothing to run gets none.
    let got = placed(&[Split::After(3), Split::After(3)], &all, &linear(1));
    let tiers: Vec<Tier> = got.exits.iter().map(|(_, tier)| *tier).collect();
    assert_eq!(tiers, [Tier::First, Tier::Third]);
}

#[rstest]
#[case(&[Split::After(3)], &[0..4, 4..10])]
#[case(&[Split::Start], &[0..0, 0..10])]
#[case(&[Split::End], &[0..10, 10..10])]
#[case(&[Split::After(2), Split::After(2)], &[0..3, 3..3, 3..10])]
#[case(&[Split::Start, Split::After(4), Split::End], &[0..0, 0..5, 5..10, 10..10])]
fn a_row_lies_in_the_tier_whose_rows_hold_it(
    #[case] splits: &[Split],
    #[case] rows: &[std::ops::Range<usize>],
) {
    let plan = Plan::cut(&table(), splits.to_vec());
    let of_tiers: Vec<_> = plan.chain().map(|tier| plan.rows(tier, 10)).collect();
    assert_eq!(of_tiers, rows);
    for row in 0..10 {
        assert!(plan.rows(plan.tier_of(row), 10).contains(&row), "{row}");
    }
    assert!(plan.rows(plan.last_tier(), 10).contains(&9));
    assert!(plan.rows(plan.first_tier(), 10).contains(&0));
}

#[rstest]
#[case(Tier::First, &[Split::End, Split::End])]
#[case(Tier::Second, &[Split::Start, Split::End])]
#[case(Tier::Third, &[Split::Start, Split::Start])]
fn an_unmodified_plan_runs_all_on_one_tier(#[case] tier: Tier, #[case] splits: &[Split]) {
    let plan = Plan::unmodified(tier, 3);
    assert_eq!(plan.splits, splits);
    assert_eq!((plan.first_tier(), plan.last_tier()), (tier, tier));
    assert_eq!(plan.offloads(), tier != Tier::First);
}

#[test]
fn a_plan_that_sends_images_begins_anew_behind_the_link() {
    let mut plan = Plan::cut(&table(), vec![Split::After(5), Split::After(7)]);
    for layer in [2, 4, 6] {
        plan = plan.with_exit(layer, &format!("b{layer}"), 0.7);
    }
    let sends = plan.sending_images().unwrap();
    let rows: Vec<_> = sends.chain().map(|tier| sends.rows(tier, 10)).collect();
    assert_eq!(rows, [0..5, 5..5, 0..10]);
    assert_eq!((sends.exits.len(), sends.sends_images()), (2, true));
    assert!(!sends.runs_as(&plan));
    // Nobody is there to send to, or nothing can leave before.
    assert_eq!(Plan::unmodified(Tier::First, 1).sending_images(), None);
    assert_eq!(
        Plan::cut(&table(), vec![Split::After(5)]).sending_images(),
        None
    );
    let written = ron::to_string(&sends).unwrap();
    assert_eq!(ron::from_str::<Plan>(&written).unwrap(), sends);
}
