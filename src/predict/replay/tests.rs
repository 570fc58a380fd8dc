/*! The replay against a second, naive one, over random networks, tables, plans and thresholds. */

use super::*;
use crate::data::Set;
use crate::device::{HeadProfile, LayerProfile, Stats};
use crate::model::layers::Layer;
use crate::model::{Shape, ValueId};
use crate::plan::Compression;
use crate::plan::PlannedExit;
use crate::predict::{Column, Confidence};
use crate::protocol::wire;
use proptest::prelude::*;

/// Owns what a [`World`] borrows; small, but nothing in it is equal to anything else.
pub(crate) struct Setting {
    pub table: ConfidenceTable,
    pub layers: LayerTable,
    pub edge: Profile,
    pub cloud: Profile,
    pub link: LinkProfile,
    pub policy: Policy,
}

pub(crate) const LAYERS: usize = 7;

pub(crate) fn stats(ms: f64) -> Stats {
    Stats {
        min: 0.9 * ms,
        median: 0.95 * ms,
        mean: ms,
        p95: 1.5 * ms,
    }
}

pub(crate) fn layer_table() -> LayerTable {
    let layer = |i: usize| Layer {
        name: format!("l{i}"),
        op: "conv".into(),
        nodes: i..i + 1,
        output: ValueId(i as u32),
        value: format!("v{i}"),
        shape: Shape::batched(&[i + 1, 4, 4]),
        params: 100,
        param_bytes: 400,
        macs: 10,
        activation_bytes: 64 * (i + 1),
        prefix_memory_bytes: 400 * (i + 1) + 64 * (2 * i + 1),
        prefix_macs: 10 * (i as u64 + 1),
        prefix_params: 100 * (i + 1),
        is_cut: true,
        split_legal: i + 1 < LAYERS,
        exit_legal: i + 1 < LAYERS,
        why_not: None,
    };
    LayerTable {
        network: "net".into(),
        layers: (0..LAYERS).map(layer).collect(),
        params: 100 * LAYERS,
        macs: 10 * LAYERS as u64,
        memory_bytes: 400 * LAYERS + 64 * (2 * LAYERS - 1),
        input: Shape::batched(&[3, 4, 4]),
        classes: 3,
    }
}

pub(crate) fn profile(target: &str, factor: f64) -> Profile {
    let layer = |i: usize| LayerProfile {
        name: format!("l{i}"),
        ms: stats(factor * (i + 1) as f64),
        bytes: 0,
    };
    let head = |i: usize| HeadProfile {
        after: format!("l{i}"),
        hash: format!("h{i}"),
        ms: stats(factor * 0.1 * (i + 1) as f64),
        bytes: 1000 + i,
    };
    Profile {
        target: target.into(),
        device: "d".into(),
        ghz: Some(2.0),
        threads: 1,
        batch: 1,
        slowdown: factor,
        total_ms: stats(factor * 27.0),
        layers: (0..LAYERS).map(layer).collect(),
        heads: (0..LAYERS - 1).map(head).collect(),
        samples_ms: vec![factor * 20.0, factor * 30.0, factor * 25.0, factor * 45.0],
        weight_bytes: 70_000,
        arena_bytes: 9_000,
        resident_bytes: 40 << 20,
    }
}

/// A table whose numbers come from a seed; a head's confidences grow with its depth.
pub(crate) fn table(set: Set, samples: usize, seed: u64) -> ConfidenceTable {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let labels = (0..samples).map(|_| rng.random_range(0..3)).collect();
    let mut table = ConfidenceTable::new(set, labels);
    let layers: Vec<String> = (0..LAYERS - 1).map(|i| format!("l{i}")).collect();
    let heads = layers.iter().enumerate();
    let heads = heads.map(|(i, l)| (Some(l.as_str()), format!("h{i}")));
    for (after, hash) in heads.chain([(None, String::new())]) {
        let mut column = Column::new(after, &hash, 1.0);
        for _ in 0..samples {
            column.prediction.push(rng.random_range(0..3));
            // Probabilities of three classes: the largest is never below a third.
            column.max_probability.push(rng.random_range(0.34..1.0));
            column.entropy.push(rng.random_range(0.0..1.0));
            column.margin.push(rng.random_range(0.0..1.0));
        }
        table.push(column).unwrap();
    }
    table
}

pub(crate) fn setting(samples: usize, seed: u64) -> Setting {
    Setting {
        table: table(Set::Calibration, samples, seed),
        layers: layer_table(),
        edge: profile("edge", 6.0),
        cloud: profile("cloud", 1.0),
        link: LinkProfile {
            idle: vec![],
            warm: vec![(100, 1.0), (1000, 3.0)],
            emulated: false,
        },
        policy: Policy {
            confidence: Confidence::MaxProbability,
            threshold: 0.7,
            exits: vec![],
        },
    }
}

impl Setting {
    pub(crate) fn world(&self) -> World<'_> {
        World::new(
            &self.layers,
            &self.edge,
            &self.cloud,
            &self.link,
            &self.policy,
        )
    }
}

/// A plan with exits after these layers.
pub(crate) fn plan(split: Split, exits: &[usize], threshold: f64) -> Plan {
    let exit = |&layer: &usize| PlannedExit {
        layer,
        after: format!("l{layer}"),
        part: match split {
            Split::After(at) if layer <= at => Part::Edge,
            Split::EdgeOnly => Part::Edge,
            _ => Part::Cloud,
        },
        threshold,
    };
    Plan {
        split_after: match split {
            Split::After(at) => Some(format!("l{at}")),
            _ => None,
        },
        exits: exits.iter().map(exit).collect(),
        split,
        notes: vec![],
    }
}

fn any_plan() -> impl Strategy<Value = Plan> {
    let split = prop_oneof![
        1 => Just(Split::EdgeOnly),
        1 => Just(Split::CloudOnly),
        6 => (0..LAYERS - 1).prop_map(Split::After),
    ];
    let exits = prop::collection::vec(any::<bool>(), LAYERS - 1);
    (split, exits).prop_map(|(split, chosen)| {
        let exits: Vec<usize> = (0..LAYERS - 1).filter(|&i| chosen[i]).collect();
        plan(split, &exits, 0.7)
    })
}

/// What one sample costs, told layer by layer: time at the edge, link, time in the cloud.
fn walk(s: &Setting, plan: &Plan, sample: usize, threshold: f64) -> (usize, u16, [f64; 3]) {
    let mut spent = [0.0; 3];
    let crossing = match plan.split {
        Split::After(at) => Some(at + 1),
        Split::CloudOnly => Some(0),
        Split::EdgeOnly => None,
    };
    for i in 0..LAYERS {
        if crossing == Some(i) {
            spent[1] = match i {
                // 3 × 4 × 4 pixels and a header of 28 bytes.
                0 => 1.0,
                i => {
                    let bytes = (28 + 64 * i) as f64;
                    1.0 + ((bytes - 100.0).max(0.0)) * 2.0 / 900.0
                }
            };
        }
        let in_cloud = crossing.is_some_and(|at| i >= at);
        let (profile, side) = if in_cloud {
            (&s.cloud, 2)
        } else {
            (&s.edge, 0)
        };
        spent[side] += profile.layers[i].ms.mean;
        if let Some(k) = plan.exits.iter().position(|e| e.layer == i) {
            spent[side] += profile.heads[i].ms.mean;
            let column = s.table.column(&format!("l{i}"), None).unwrap();
            if f64::from(column.max_probability[sample]) > threshold {
                return (k, column.prediction[sample], spent);
            }
        }
    }
    let last = s.table.final_column().unwrap();
    // Without exits the whole was measured as a whole.
    if plan.exits.is_empty() {
        match plan.split {
            Split::EdgeOnly => spent[0] = s.edge.total_ms.mean,
            Split::CloudOnly => spent[2] = s.cloud.total_ms.mean,
            Split::After(_) => {}
        }
    }
    (plan.exits.len(), last.prediction[sample], spent)
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * (1.0 + a.abs() + b.abs())
}

proptest! {
    #[test]
    fn equals_brute_force(plan in any_plan(), seed: u64, threshold in 0.0..1.0) {
        let s = setting(60, seed);
        let outcome = Prepared::new(&s.table, &plan, &s.world()).unwrap().at(threshold);
        let mut shares = vec![0.0; plan.exits.len() + 1];
        let (mut right, mut away, mut sum, mut cloud) = (0, 0, 0.0, vec![]);
        for i in 0..60 {
            let (at, prediction, [edge, link, in_cloud]) = walk(&s, &plan, i, threshold);
            shares[at] += 1.0 / 60.0;
            right += usize::from(prediction == s.table.labels[i]);
            sum += edge + link + in_cloud;
            if link > 0.0 {
                away += 1;
                cloud.push(in_cloud);
            }
        }
        prop_assert!(near(outcome.accuracy, f64::from(right as u32) / 60.0));
        prop_assert!(near(outcome.offloaded, f64::from(away) / 60.0));
        let latency = outcome.latency_ms.unwrap();
        prop_assert!(near(latency.mean, sum / 60.0), "{} {}", latency.mean, sum / 60.0);
        prop_assert!(latency.p50 <= latency.p95 && latency.p95 <= latency.p99);
        for (exit, share) in outcome.exits.iter().zip(&shares) {
            prop_assert!(near(exit.share, *share));
            prop_assert_eq!(exit.accuracy.is_some(), *share > 0.0);
        }
        match plan.split {
            Split::EdgeOnly => prop_assert!(outcome.cost_per_million.is_none()),
            _ => {
                // 128 MB at 0.2 GHz: ten times slower than the 2 GHz measured on.
                let ms: f64 = cloud.iter().map(|ms| ms * 10.0).sum();
                let second = 0.125 * 2.5e-6 + 0.2 * 1e-5;
                let each = 4e-7 + 64.0 * 0.12 / f64::from(1 << 30);
                let none = cloud.is_empty();
                // Percentiles and bill scale each sample; recorded runs are 20 to 45 around 30.
                let bill = 1e6 / 60.0 * (ms / 1000.0 * second + f64::from(away) * each);
                let cost = outcome.cost_per_million.unwrap();
                let (low, high) = (bill * 20.0 / 30.0, bill * 45.0 / 30.0);
                prop_assert!(none || (low..=high).contains(&cost.unrounded), "{} {}", cost.unrounded, bill);
                prop_assert!(cost.rounded >= cost.unrounded);
            }
        }
    }

    #[test]
    fn more_is_offloaded_as_the_threshold_grows(plan in any_plan(), seed: u64) {
        let s = setting(40, seed);
        let prepared = Prepared::new(&s.table, &plan, &s.world()).unwrap();
        let outcomes: Vec<Outcome> = (0..=20).map(|t| prepared.at(f64::from(t) / 20.0)).collect();
        for pair in outcomes.windows(2) {
            prop_assert!(pair[0].offloaded <= pair[1].offloaded);
            let mean = |o: &Outcome| o.latency_ms.unwrap().mean;
            prop_assert!(mean(&pair[0]) <= mean(&pair[1]) + 1e-9);
        }
        // At 1 nothing leaves before the final classifier, at 0 all leave at the first.
        prop_assert!(near(outcomes[20].exits.last().unwrap().share, 1.0));
        prop_assert!(near(outcomes[0].exits[0].share, 1.0));
        let last = s.table.final_column().unwrap().accuracy(&s.table.labels);
        prop_assert!(near(outcomes[20].accuracy, last));
    }

    #[test]
    fn without_a_head_is_the_plan_without_it(seed: u64, threshold in 0.3..1.0) {
        let s = setting(50, seed);
        let whole = plan(Split::After(3), &[1, 2, 4], threshold);
        let prepared = Prepared::new(&s.table, &whole, &s.world()).unwrap();
        for (k, pays) in prepared.head_pays().into_iter().enumerate() {
            let mut less = whole.clone();
            less.exits.remove(k);
            let less = replay(&s.table, &less, &s.world()).unwrap();
            let mean = less.latency_ms.unwrap().mean;
            prop_assert!(near(pays.latency_without_ms, mean));
            prop_assert!(near(pays.accuracy_without, less.accuracy));
            prop_assert_eq!(pays.pays, pays.latency_without_ms > pays.latency_ms);
        }
    }
}

#[test]
fn the_payload_is_what_the_wire_makes_of_it() {
    let s = setting(5, 1);
    for tensor in [Element::F32, Element::F16, Element::U8] {
        let compression = Compression::None;
        let mut world = s.world();
        world.wire = Wire {
            tensor,
            compression,
        };
        let p = Prepared::new(&s.table, &plan(Split::After(2), &[], 0.7), &world).unwrap();
        let encoded = wire::encode(world.wire, &[1, 3, 4, 4], &[0.5; 48]).unwrap();
        assert_eq!(p.payload_bytes(), encoded.len() as f64);
    }
}

#[test]
fn a_named_exit_keeps_its_threshold() {
    let mut s = setting(200, 3);
    s.policy.exits = vec![("l1".into(), 1.0)];
    let mut plan = plan(Split::After(3), &[1, 2], 0.7);
    plan.exits[0].threshold = 1.0;
    let prepared = Prepared::new(&s.table, &plan, &s.world()).unwrap();
    let outcome = prepared.at(0.0);
    assert_eq!((outcome.exits[0].share, outcome.exits[1].share), (0.0, 1.0));
    let own = prepared.with_thresholds(&[0.0]);
    assert_eq!(own.exits[0].share, 1.0);
}

#[test]
fn edge_only_never_asks_the_cloud() {
    let s = setting(100, 4);
    let world = s.world();
    let at = |exits: &[usize]| plan(Split::After(3), exits, 0.9);
    let prepared = Prepared::new(&s.table, &at(&[1, 2, 5]), &world).unwrap();
    let outcome = prepared.edge_only().unwrap();
    assert_eq!((outcome.offloaded, outcome.bytes_sent), (0.0, 0.0));
    assert_eq!(outcome.exits.len(), 2);
    assert!(near(outcome.exits.iter().map(|e| e.share).sum(), 1.0));
    assert!(outcome.cost_per_million.is_none());
    let none = Prepared::new(&s.table, &at(&[5]), &world).unwrap();
    assert!(none.edge_only().is_none());
    let whole = plan(Split::EdgeOnly, &[2], 0.9);
    let whole = Prepared::new(&s.table, &whole, &world).unwrap();
    assert_eq!(whole.edge_only(), Some(whole.outcome()));
}

#[test]
fn baselines_are_the_whole_network() {
    let s = setting(100, 5);
    let plan = plan(Split::After(3), &[1], 0.7);
    let b = baselines(&s.table, &plan, &s.world()).unwrap();
    let last = s.table.final_column().unwrap().accuracy(&s.table.labels);
    assert_eq!((b.original.accuracy, b.cloud_only.accuracy), (last, last));
    assert!(near(b.original.latency_ms.unwrap().mean, 6.0 * 27.0));
    // 28 bytes of header and 48 pixels.
    assert_eq!(b.cloud_only.bytes_sent, 76.0);
    assert!(near(b.cloud_only.latency_ms.unwrap().mean, 1.0 + 27.0));
    let memory = |o: &Outcome| (o.edge_memory_bytes, o.cloud_memory_bytes);
    assert_eq!(memory(&b.original), (79_000, 0));
    assert_eq!(memory(&b.cloud_only), (0, 79_000));
    assert!(b.original.emulated && !b.cloud_only.emulated);
}

#[test]
fn measured_parts_go_before_sums_of_layers() {
    let s = setting(100, 6);
    let chosen = plan(Split::After(3), &[1, 3, 5], 0.7);
    let part = |ms: &[f64], heads: &[f64]| PartProfile {
        segments: ms.iter().map(|&ms| stats(ms)).collect(),
        heads: heads.iter().map(|&ms| stats(ms)).collect(),
        weight_bytes: 500,
        arena_bytes: 50,
    };
    // No trailing segment at the edge: an exit stands at the split.
    let edge = part(&[10.0, 20.0], &[1.0, 2.0]);
    let cloud = part(&[3.0, 4.0], &[0.5, 0.0]);
    let parts = [Assembled::new(&chosen, Some(edge), Some(cloud))];
    let mut world = s.world();
    world.assembled = &parts;
    let prepared = Prepared::new(&s.table, &chosen, &world).unwrap();
    assert!(prepared.from_parts());
    let all = prepared.at(1.0);
    let link = 1.0 + (28.0 + 256.0 - 100.0) * 2.0 / 900.0;
    assert!(near(all.latency_ms.unwrap().mean, 33.0 + link + 7.5));
    assert_eq!((all.edge_memory_bytes, all.cloud_memory_bytes), (550, 550));
    let other = plan(Split::After(3), &[1, 5], 0.7);
    let other = Prepared::new(&s.table, &other, &world).unwrap();
    assert!(!other.from_parts());
}

#[test]
fn another_element_type_needs_its_own_columns() {
    let s = setting(100, 7);
    let plan = plan(Split::After(2), &[1, 4], 0.8);
    let mut world = s.world();
    world.wire.tensor = Element::U8;
    assert!(replay(&s.table, &plan, &world).unwrap().as_f32);
    let mut seen = table(Set::Calibration, 100, 99);
    seen.labels = s.table.labels.clone();
    let tables = [WireTable {
        split_after: "l2".into(),
        element: Element::U8,
        table: seen,
    }];
    world.wire_tables = &tables;
    let outcome = replay(&s.table, &plan, &world).unwrap();
    assert!(!outcome.as_f32);
    // What leaves at the edge is the same, the cloud's answers are others.
    world.wire.tensor = Element::F32;
    let plain = replay(&s.table, &plan, &world).unwrap();
    assert_eq!(plain.exits[0], outcome.exits[0]);
    assert_ne!(plain.exits[1..], outcome.exits[1..]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let s = setting(10, 8);
    let world = s.world();
    let mut wrong = plan(Split::After(3), &[1, 2], 0.7);
    wrong.exits.swap(0, 1);
    let error = replay(&s.table, &wrong, &world).unwrap_err();
    assert!(error.to_string().contains("out of order"), "{error}");
    let mut across = plan(Split::After(3), &[4], 0.7);
    across.exits[0].part = Part::Edge;
    assert!(replay(&s.table, &across, &world).is_err());
    let mut other = s.edge.clone();
    other.layers.pop();
    let bad = World {
        edge: &other,
        ..world
    };
    let chosen = plan(Split::After(3), &[1], 0.7);
    let error = replay(&s.table, &chosen, &bad).unwrap_err();
    assert!(matches!(error, ReplayError::OtherProfile { .. }), "{error}");
    let mut untimed = s.edge.clone();
    untimed.heads.clear();
    let bad = World {
        edge: &untimed,
        ..world
    };
    let error = replay(&s.table, &chosen, &bad).unwrap_err();
    assert!(matches!(error, ReplayError::HeadNotTimed { .. }), "{error}");
    let link = LinkProfile::default();
    let bad = World {
        link: &link,
        ..world
    };
    assert_eq!(replay(&s.table, &chosen, &bad), Err(ReplayError::NoLink));
    let whole = plan(Split::EdgeOnly, &[], 0.7);
    assert!(replay(&s.table, &whole, &bad).is_ok());
}

#[test]
fn two_heads_after_a_layer_are_told_apart_by_part() {
    let mut s = setting(50, 9);
    let mut second = s.table.column("l1", None).unwrap().clone();
    second.head = "other".into();
    s.table.push(second).unwrap();
    let mut other = s.edge.heads[1].clone();
    other.hash = "other".into();
    s.edge.heads.push(other);
    let chosen = plan(Split::After(3), &[1], 0.7);
    let error = replay(&s.table, &chosen, &s.world()).unwrap_err();
    assert!(matches!(error, ReplayError::Ambiguous { count: 2, .. }));
    let keys = [HeadKey {
        after: "l1".into(),
        part: Part::Edge,
        hash: "other".into(),
    }];
    let world = World {
        heads: &keys,
        ..s.world()
    };
    assert!(replay(&s.table, &chosen, &world).is_ok());
}

#[test]
fn a_run_that_follows_the_table_equals_it() {
    let s = setting(80, 10);
    let chosen = plan(Split::After(3), &[1, 4], 0.7);
    let mut table = s.table.clone();
    // One sample on the threshold: it may go either way.
    table.columns[1].max_probability[5] = 0.700_001;
    let prepared = Prepared::new(&table, &chosen, &s.world()).unwrap();
    let record = |i: u32| {
        let i = i as usize;
        let columns = [&table.columns[1], &table.columns[4], &table.columns[6]];
        let leaves = |k: usize| k == 2 || columns[k].max_probability[i] > 0.7;
        let exit = (0..3).find(|&k| leaves(k)).unwrap();
        Record {
            sample: i as u32,
            exit: exit as u16,
            prediction: columns[exit].prediction[i],
            confidence: columns[exit].max_probability[i],
            offloaded: exit > 0,
            degraded: false,
            latency_ms: 1.0,
            edge_ms: 1.0,
            encode_ms: 0.0,
            network_ms: 0.0,
            cloud_ms: 0.0,
            bytes_sent: 0,
        }
    };
    let mut records: Vec<Record> = (0..80).map(record).collect();
    records[5].exit = 2;
    let equal = prepared.equality(&records).unwrap();
    assert!(equal.holds(), "{equal:?}");
    assert_eq!((equal.compared, equal.within_band), (80, 1));
    assert_eq!(equal.largest_difference, 0.0);
    records[7].prediction = (records[7].prediction + 1) % 3;
    records[9].exit = (records[9].exit + 1) % 3;
    records[11].degraded = true;
    records[12].confidence += 1e-3;
    let unequal = prepared.equality(&records).unwrap();
    let differing: Vec<u32> = unequal.differing.iter().map(|d| d.sample).collect();
    assert_eq!((unequal.compared, differing), (79, vec![7, 9]));
    assert!((unequal.largest_difference - 1e-3).abs() < 1e-5);
    records[0].sample = 80;
    assert!(prepared.equality(&records).is_err());
}

#[test]
fn one_disturbed_run_moves_the_mean_but_no_percentile() {
    let s = setting(200, 5);
    let chosen = plan(Split::After(3), &[1], 1.0);
    let part = |mean: f64| {
        let stats = |ms: f64, mean: f64| crate::device::Stats {
            min: ms,
            median: ms,
            mean,
            p95: ms,
        };
        crate::device::PartProfile {
            segments: vec![stats(1.0, mean); 2],
            heads: vec![stats(0.0, 0.0); 2],
            ..crate::device::PartProfile::default()
        }
    };
    let latency = |mean: f64| {
        let assembled = [Assembled::new(&chosen, Some(part(mean)), None)];
        let world = World {
            assembled: &assembled,
            ..s.world()
        };
        replay(&s.table, &chosen, &world)
            .unwrap()
            .latency_ms
            .unwrap()
    };
    let (quiet, disturbed) = (latency(1.0), latency(4.0));
    assert!(near(disturbed.mean, quiet.mean + 6.0), "{disturbed:?}");
    assert_eq!((disturbed.p50, disturbed.p99), (quiet.p50, quiet.p99));
}
