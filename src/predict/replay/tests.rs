/*! The replay against a second, naive one, over random networks, tables, plans and thresholds. */

use super::*;
use crate::data::Set;
use crate::device::{
    Boundary, CodecTime, Form, HeadProfile, LayerProfile, LinkProfile, PrefixProfile, Profile,
    SegmentMemory, Stats,
};
use crate::exits::ExitPoint;
use crate::model::layers::{Layer, LayerTable};
use crate::model::{Shape, ValueId};
use crate::plan::{Compression, PlannedExit, Split, TierNames, Wire};
use crate::predict::{
    Answers, Column, CompressionRatio, Confidence, ImageTable, Missing, Policy, Power, Radio,
};
use crate::protocol::wire;
use proptest::prelude::*;
use rstest::rstest;
use std::sync::Arc;

/// Evidence of a small network in which nothing is equal to anything else, and terms.
pub(crate) struct Setting {
    pub evidence: Evidence,
    pub terms: Terms,
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
        arena_bytes: 100 + i,
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
        prefixes: vec![],
        heads: (0..LAYERS - 1).map(head).collect(),
        samples_ms: vec![factor * 20.0, factor * 30.0, factor * 25.0, factor * 45.0],
        weight_bytes: 70_000,
        arena_bytes: 9_000,
        segments: (0..LAYERS).flat_map(segments).collect(),
        boundaries: vec![],
        codec: vec![],
        load: None,
        watts: None,
        resident_bytes: 40 << 20,
    }
}

/// Of all segments that begin with a layer: 10,000 bytes of weights a layer, and the larger an arena the
/// earlier they begin.
fn segments(from: usize) -> impl Iterator<Item = SegmentMemory> {
    (from + 1..=LAYERS).map(move |to| SegmentMemory {
        from,
        to,
        weight_bytes: 10_000 * (to - from),
        arena_bytes: 9_000 - 1_000 * from,
    })
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

/// Two tiers; the first takes six times as long.
pub(crate) fn setting(samples: usize, seed: u64) -> Setting {
    chain(samples, seed, 2)
}

/// Up to four tiers, each faster than the one before, and links, each slower.
fn chain(samples: usize, seed: u64, tiers: usize) -> Setting {
    let names = TierNames::usual(tiers);
    let factors = [6.0, 1.0, 0.5, 0.25];
    let profiles = names.all().into_iter().zip(factors);
    let profiles = profiles.map(|(name, factor)| Some(Arc::new(profile(name, factor))));
    let link = |hop: usize| LinkProfile {
        idle: vec![],
        warm: vec![(100, 1.0 + hop as f64), (1000, 3.0 + hop as f64)],
        emulated: false,
        jitter_ms: vec![],
    };
    let answers = Answers {
        table: table(Set::Calibration, samples, seed),
        wires: vec![],
        images: None,
    };
    let layers = Arc::new(layer_table());
    Setting {
        evidence: Evidence {
            profiles: profiles.collect(),
            links: (1..tiers)
                .map(|hop| Some(Arc::new(link(hop - 1))))
                .collect(),
            calibration: Some(Arc::new(answers)),
            ..Evidence::new(layers, Arc::new(points()), names)
        },
        terms: Terms::new(Policy {
            confidence: Confidence::MaxProbability,
            threshold: 0.7,
            exits: vec![],
        }),
    }
}

/// One behind every layer but the last.
pub(crate) fn points() -> Vec<ExitPoint> {
    let point = |layer: usize| ExitPoint {
        layer,
        after: format!("l{layer}"),
        value: format!("v{layer}"),
        index: layer,
        count: LAYERS - 1,
        depth: 0.0,
        macs: 10 * (layer as u64 + 1),
        sample: vec![1],
        classes: 3,
    };
    (0..LAYERS - 1).map(point).collect()
}

impl Setting {
    pub(crate) fn table(&self) -> &ConfidenceTable {
        &self.evidence.answers(Set::Calibration).unwrap().table
    }

    pub(crate) fn answers_mut(&mut self) -> &mut Answers {
        Arc::make_mut(self.evidence.calibration.as_mut().unwrap())
    }

    pub(crate) fn profile_mut(&mut self, tier: Tier) -> &mut Profile {
        Arc::make_mut(self.evidence.profiles[tier.index()].as_mut().unwrap())
    }

    pub(crate) fn profile(&self, tier: Tier) -> &Profile {
        self.evidence.profile(tier).unwrap()
    }

    pub(crate) fn prepare(&self, plan: &Plan) -> Result<PreparedPlan<'_>, ReplayError> {
        PreparedPlan::new(&self.evidence, &self.terms, Set::Calibration, plan)
    }

    pub(crate) fn prepared(&self, plan: &Plan) -> PreparedPlan<'_> {
        self.prepare(plan).unwrap()
    }

    pub(crate) fn replay(&self, plan: &Plan) -> Result<Outcome, ReplayError> {
        replay(&self.evidence, &self.terms, Set::Calibration, plan)
    }
}

/// A plan of two tiers with exits after these layers.
pub(crate) fn plan(split: Split, exits: &[usize], threshold: f64) -> Plan {
    cut(vec![split], exits, threshold)
}

fn cut(splits: Vec<Split>, exits: &[usize], threshold: f64) -> Plan {
    let mut plan = Plan::cut(&layer_table(), splits);
    let exit = |&layer: &usize| PlannedExit {
        layer,
        after: format!("l{layer}"),
        tier: plan.tier_of(layer),
        threshold,
    };
    let exits: Vec<PlannedExit> = exits.iter().map(exit).collect();
    plan.exits = exits;
    plan
}

fn any_split() -> impl Strategy<Value = Split> {
    prop_oneof![
        1 => Just(Split::End),
        1 => Just(Split::Start),
        6 => (0..LAYERS - 1).prop_map(Split::After),
    ]
}

fn plans(tiers: usize) -> impl Strategy<Value = Plan> {
    let splits = prop::collection::vec(any_split(), tiers - 1);
    let exits = prop::collection::vec(any::<bool>(), LAYERS - 1);
    (splits, exits).prop_map(|(mut splits, chosen)| {
        splits.sort();
        let exits: Vec<usize> = (0..LAYERS - 1).filter(|&i| chosen[i]).collect();
        cut(splits, &exits, 0.7)
    })
}

fn any_plan() -> impl Strategy<Value = Plan> {
    plans(2)
}

/// A plan of any chain, and how many tiers that has.
fn any_chain() -> impl Strategy<Value = (usize, Plan)> {
    (1..=4_usize).prop_flat_map(|tiers| plans(tiers).prop_map(move |plan| (tiers, plan)))
}

/// What one sample costs, told layer by layer: where it leaves with which answer, milliseconds on
/// each tier, milliseconds on links, and over how many links it went.
struct Walked {
    exit: usize,
    prediction: u16,
    tiers: [f64; 4],
    links: f64,
    hops: usize,
}

/// The runs of 20, 25, 30 and 45, the last of which counts as 42.75, the 95th percentile, beside the
/// network's median.
const PACE: f64 = (20.0 + 25.0 + 30.0 + 42.75) / 4.0 / (0.95 * 27.0);
/// The network takes 27 where its layers take 28.
const SCALE: f64 = 27.0 / 28.0;

fn walk(s: &Setting, plan: &Plan, sample: usize, threshold: f64) -> Walked {
    let mut walked = Walked {
        exit: plan.exits.len(),
        prediction: s.table().final_column().unwrap().prediction[sample],
        tiers: [0.0; 4],
        links: 0.0,
        hops: 0,
    };
    for i in 0..LAYERS {
        // Over every link whose split lies before this layer.
        while walked.hops < plan.splits.len() && plan.splits[walked.hops].rows_before(LAYERS) <= i {
            // 3 × 4 × 4 pixels as they are, or a tensor of F32 and a header of 28 bytes.
            let at = plan.splits[walked.hops].rows_before(LAYERS);
            let bytes = if at == 0 { 48.0 } else { (28 + 64 * at) as f64 };
            let warm = 1.0 + walked.hops as f64;
            walked.links += warm + (bytes - 100.0_f64).max(0.0) * 2.0 / 900.0;
            walked.hops += 1;
        }
        let profile = s.profile(Tier::at(walked.hops).unwrap());
        walked.tiers[walked.hops] += PACE * SCALE * profile.layers[i].ms.median;
        if let Some(k) = plan.exits.iter().position(|e| e.layer == i) {
            walked.tiers[walked.hops] += PACE * profile.heads[i].ms.median;
            let column = s.table().column(&format!("l{i}"), None).unwrap();
            if f64::from(column.max_probability[sample]) > threshold {
                walked.exit = k;
                walked.prediction = column.prediction[sample];
                return walked;
            }
        }
    }
    walked
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * (1.0 + a.abs() + b.abs())
}

proptest! {
    #[test]
    fn equals_brute_force((tiers, plan) in any_chain(), seed: u64, threshold in 0.0..1.0) {
        let s = chain(60, seed, tiers);
        let outcome = s.prepared(&plan).at(threshold);
        let mut shares = vec![0.0; plan.exits.len() + 1];
        let mut crossed = vec![0.0; tiers - 1];
        let (mut right, mut sum, mut behind) = (0, 0.0, vec![]);
        for i in 0..60 {
            let walked = walk(&s, &plan, i, threshold);
            shares[walked.exit] += 1.0 / 60.0;
            right += usize::from(walked.prediction == s.table().labels[i]);
            sum += walked.tiers.iter().sum::<f64>() + walked.links;
            for share in &mut crossed[..walked.hops] {
                *share += 1.0 / 60.0;
            }
            for tier in 1..=walked.hops {
                if !plan.rows(Tier::at(tier).unwrap(), LAYERS).is_empty() {
                    behind.push(walked.tiers[tier]);
                }
            }
        }
        prop_assert!(near(outcome.accuracy, f64::from(right as u32) / 60.0));
        prop_assert_eq!(outcome.hops.len(), tiers - 1);
        for (hop, share) in outcome.hops.iter().zip(&crossed) {
            prop_assert!(near(hop.share, *share), "{} {}", hop.share, share);
        }
        let latency = outcome.latency_ms.unwrap();
        prop_assert!(near(latency.mean, sum / 60.0), "{} {}", latency.mean, sum / 60.0);
        prop_assert!(latency.p50 <= latency.p95 && latency.p95 <= latency.p99);
        for (exit, share) in outcome.exits.iter().zip(&shares) {
            prop_assert!(near(exit.share, *share));
            prop_assert_eq!(exit.accuracy.is_some(), *share > 0.0);
        }
        for (tier, memory) in plan.chain().zip(&outcome.tiers) {
            prop_assert_eq!(memory.memory_bytes == 0, plan.rows(tier, LAYERS).is_empty());
        }
        prop_assert_eq!(outcome.cost_per_million.is_some(), plan.offloads());
        if let Some(cost) = outcome.cost_per_million {
            // 128 MB at 0.2 GHz: ten times slower than the 2 GHz measured on.
            let ms: f64 = behind.iter().map(|ms| ms * 10.0).sum();
            let second = 0.125 * 2.5e-6 + 0.2 * 1e-5;
            let each = 4e-7 + 64.0 * 0.12 / f64::from(1 << 30);
            // Percentiles and bill scale each sample by a recorded run, of 20 to 45.
            let calls = behind.len() as f64;
            let bill = |jitter: f64| {
                1e6 / 60.0 * (jitter * ms / 1000.0 * second + calls * each)
            };
            let (low, high) = (bill(20.0 / 29.4375 - 1e-6), bill(45.0 / 29.4375 + 1e-6));
            prop_assert!((low..=high).contains(&cost.unrounded), "{} {}", cost.unrounded, bill(1.0));
            prop_assert!(cost.rounded >= cost.unrounded);
        }
    }

    #[test]
    fn more_is_offloaded_as_the_threshold_grows(plan in any_plan(), seed: u64) {
        let s = setting(40, seed);
        let prepared = s.prepared(&plan);
        let outcomes: Vec<Outcome> = (0..=20).map(|t| prepared.at(f64::from(t) / 20.0)).collect();
        for pair in outcomes.windows(2) {
            prop_assert!(pair[0].offloaded() <= pair[1].offloaded());
            let mean = |o: &Outcome| o.latency_ms.unwrap().mean;
            prop_assert!(mean(&pair[0]) <= mean(&pair[1]) + 1e-9);
        }
        // At 1 nothing leaves before the final classifier, at 0 all leave at the first.
        prop_assert!(near(outcomes[20].exits.last().unwrap().share, 1.0));
        prop_assert!(near(outcomes[0].exits[0].share, 1.0));
        let last = s.table().final_column().unwrap().accuracy(&s.table().labels);
        prop_assert!(near(outcomes[20].accuracy, last));
    }

    #[test]
    fn without_a_head_is_the_plan_without_it(seed: u64, threshold in 0.3..1.0) {
        let s = setting(50, seed);
        let whole = plan(Split::After(3), &[1, 2, 4], threshold);
        let prepared = s.prepared(&whole);
        for (k, pays) in prepared.head_pays().into_iter().enumerate() {
            let mut less = whole.clone();
            less.exits.remove(k);
            let less = s.replay(&less).unwrap();
            let mean = less.latency_ms.unwrap().mean;
            prop_assert!(near(pays.latency_without_ms, mean));
            prop_assert!(near(pays.accuracy_without, less.accuracy));
            prop_assert_eq!(pays.pays, pays.latency_without_ms > pays.latency_ms);
        }
    }
}

#[rstest]
#[case(Element::F32)]
#[case(Element::F16)]
#[case(Element::U8)]
fn the_payload_is_what_the_wire_makes_of_it(#[case] tensor: Element) {
    let mut s = setting(5, 1);
    s.terms.wire = Wire {
        tensor,
        compression: Compression::None,
    };
    let all = s.prepared(&plan(Split::After(2), &[], 0.7)).outcome();
    let encoded = wire::encode(s.terms.wire, &[1, 3, 4, 4], &[0.5; 48]).unwrap();
    assert_eq!(all.bytes_sent(), encoded.len() as f64);
}

#[test]
fn a_named_exit_keeps_its_threshold() {
    let mut s = setting(200, 3);
    s.terms.policy.exits = vec![("l1".into(), 1.0)];
    let mut plan = plan(Split::After(3), &[1, 2], 0.7);
    plan.exits[0].threshold = 1.0;
    let prepared = s.prepared(&plan);
    let outcome = prepared.at(0.0);
    assert_eq!((outcome.exits[0].share, outcome.exits[1].share), (0.0, 1.0));
    let own = prepared.with_thresholds(&[0.0]);
    assert_eq!(own.exits[0].share, 1.0);
}

#[test]
fn edge_only_never_asks_the_cloud() {
    let s = setting(100, 4);
    let at = |exits: &[usize]| plan(Split::After(3), exits, 0.9);
    let outcome = s.prepared(&at(&[1, 2, 5])).edge_only().unwrap();
    assert_eq!((outcome.offloaded(), outcome.bytes_sent()), (0.0, 0.0));
    assert_eq!(outcome.exits.len(), 2);
    assert!(near(outcome.exits.iter().map(|e| e.share).sum(), 1.0));
    assert!(outcome.cost_per_million.is_none());
    assert!(s.prepared(&at(&[5])).edge_only().is_none());
    let whole = plan(Split::End, &[2], 0.9);
    let whole = s.prepared(&whole);
    assert_eq!(whole.edge_only(), Some(whole.outcome()));
}

#[test]
fn baselines_are_the_whole_network() {
    let s = setting(100, 5);
    let plan = plan(Split::After(3), &[1], 0.7);
    let b = baselines(&s.evidence, &s.terms, Set::Calibration, &plan).unwrap();
    let last = s.table().final_column().unwrap();
    let last = last.accuracy(&s.table().labels);
    assert_eq!((b.original.accuracy, b.cloud_only.accuracy), (last, last));
    let usual = PACE * 0.95 * 27.0;
    assert!(near(b.original.latency_ms.unwrap().mean, 6.0 * usual));
    // The pixels alone: they have no header.
    assert_eq!(b.cloud_only.bytes_sent(), 48.0);
    assert!(near(b.cloud_only.latency_ms.unwrap().mean, 1.0 + usual));
    let memory = |o: &Outcome| [Tier::First, Tier::Second].map(|tier| o.memory_bytes(tier));
    assert_eq!(memory(&b.original), [79_000, 0]);
    assert_eq!(memory(&b.cloud_only), [0, 79_000]);
    assert!(b.original.emulated && !b.cloud_only.emulated);
}

#[test]
fn another_element_type_needs_its_own_columns() {
    let mut s = setting(100, 7);
    let plan = plan(Split::After(2), &[1, 4], 0.8);
    s.terms.wire.tensor = Element::U8;
    assert!(s.replay(&plan).unwrap().as_f32);
    let mut seen = table(Set::Calibration, 100, 99);
    seen.labels = s.table().labels.clone();
    s.answers_mut().wires = vec![WireTable {
        split_after: "l2".into(),
        element: Element::U8,
        table: seen,
    }];
    let outcome = s.replay(&plan).unwrap();
    assert!(!outcome.as_f32);
    // What leaves at the edge is the same, the cloud's answers are others.
    s.terms.wire.tensor = Element::F32;
    let plain = s.replay(&plan).unwrap();
    assert_eq!(plain.exits[0], outcome.exits[0]);
    assert_ne!(plain.exits[1..], outcome.exits[1..]);
}

/// The same times, as a backend that fuses layers tells them.
fn by_prefixes(profile: &Profile) -> Profile {
    let mut sum = 0.0;
    let prefix = |layer: &LayerProfile| {
        sum += SCALE * layer.ms.mean;
        PrefixProfile {
            after: layer.name.clone(),
            ms: stats(sum),
        }
    };
    Profile {
        prefixes: profile.layers.iter().map(prefix).collect(),
        total_ms: stats(sum),
        layers: vec![],
        ..profile.clone()
    }
}

#[test]
fn times_of_prefixes_predict_what_times_of_layers_do() {
    let mut s = setting(10, 8);
    let chosen = plan(Split::After(3), &[1, 4], 0.7);
    let mean = |s: &Setting| s.replay(&chosen).unwrap().latency_ms.unwrap().mean;
    let expected = mean(&s);
    for tier in [Tier::First, Tier::Second] {
        let prefixes = by_prefixes(s.profile(tier));
        *s.profile_mut(tier) = prefixes;
    }
    let found = mean(&s);
    assert!((found - expected).abs() < 1e-9, "{found} {expected}");
}

#[test]
fn a_plan_is_not_predicted_from_times_of_the_whole_alone() {
    let mut s = setting(10, 8);
    s.profile_mut(Tier::First).layers.clear();
    let error = s.replay(&plan(Split::After(3), &[], 0.7)).unwrap_err();
    let ReplayError::NotTimed(missing) = &error else {
        panic!("{error}");
    };
    assert_eq!(missing.after, "l3");
    // Nothing but the whole is needed where nothing is cut.
    assert!(s.replay(&plan(Split::End, &[], 0.7)).is_ok());
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut s = setting(10, 8);
    let mut wrong = plan(Split::After(3), &[1, 2], 0.7);
    wrong.exits.swap(0, 1);
    let error = s.replay(&wrong).unwrap_err();
    assert!(error.to_string().contains("out of order"), "{error}");
    let mut across = plan(Split::After(3), &[4], 0.7);
    across.exits[0].tier = Tier::First;
    assert!(s.replay(&across).is_err());
    let longer = cut(vec![Split::After(1), Split::After(3)], &[], 0.7);
    assert!(matches!(
        s.replay(&longer),
        Err(ReplayError::OtherPlan { .. })
    ));
    let chosen = plan(Split::After(3), &[1], 0.7);
    let edge = s.profile(Tier::First).clone();
    s.profile_mut(Tier::First).layers.pop();
    let error = s.replay(&chosen).unwrap_err();
    assert!(matches!(error, ReplayError::OtherProfile { .. }), "{error}");
    *s.profile_mut(Tier::First) = edge;
    let heads = std::mem::take(&mut s.profile_mut(Tier::First).heads);
    let error = s.replay(&chosen).unwrap_err();
    assert!(matches!(error, ReplayError::HeadNotTimed { .. }), "{error}");
    s.profile_mut(Tier::First).heads = heads;
    s.evidence.links[0] = Some(Arc::new(LinkProfile::default()));
    assert_eq!(s.replay(&chosen), Err(ReplayError::NoLink));
    s.evidence.links[0] = None;
    let missing = ReplayError::Missing(Missing::Link(Tier::First));
    assert_eq!(s.replay(&chosen), Err(missing));
    // What stays on the first tier needs neither link nor a second profile.
    s.evidence.profiles[1] = None;
    assert!(s.replay(&plan(Split::End, &[], 0.7)).is_ok());
}

#[test]
fn two_heads_after_a_layer_are_told_apart_by_tier() {
    let mut s = setting(50, 9);
    let mut second = s.table().column("l1", None).unwrap().clone();
    second.head = "other".into();
    s.answers_mut().table.push(second).unwrap();
    let mut other = s.profile(Tier::First).heads[1].clone();
    other.hash = "other".into();
    s.profile_mut(Tier::First).heads.push(other);
    let chosen = plan(Split::After(3), &[1], 0.7);
    let error = s.replay(&chosen).unwrap_err();
    assert!(matches!(error, ReplayError::Ambiguous { count: 2, .. }));
    s.evidence.heads = vec![HeadKey {
        after: "l1".into(),
        tier: Tier::First,
        hash: "other".into(),
    }];
    assert!(s.replay(&chosen).is_ok());
}

#[test]
fn a_run_that_follows_the_table_equals_it() {
    let mut s = setting(80, 10);
    let chosen = plan(Split::After(3), &[1, 4], 0.7);
    let table = &mut s.answers_mut().table;
    // One sample on the threshold: it may go either way.
    table.columns[1].max_probability[5] = 0.700_001;
    let table = s.table();
    let prepared = s.prepared(&chosen);
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
            degraded: false,
            latency_ms: 1.0,
            tier_ms: vec![1.0],
            hops: Vec::new(),
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

/// A part is its segments and heads, which work in one arena.
#[test]
fn memory_follows_from_the_segments_of_a_part() {
    let s = setting(20, 6);
    let memory = |split, exits: &[usize]| {
        let outcome = s.replay(&plan(split, exits, 0.7)).unwrap();
        [Tier::First, Tier::Second].map(|tier| outcome.memory_bytes(tier))
    };
    assert_eq!(memory(Split::End, &[]), [79_000, 0]);
    // Heads of 900 bytes of weights each behind rows 1 and 3, the largest arena that of the first
    // segment.
    let (first, second) = (40_000 + 2 * 900 + 9_000, 30_000 + 900 + 5_000);
    assert_eq!(memory(Split::After(3), &[1, 3, 5]), [first, second]);
}

#[test]
fn a_profile_without_memory_is_asked_for_anew() {
    let mut s = setting(20, 6);
    s.profile_mut(Tier::Second).segments.clear();
    assert!(s.replay(&plan(Split::End, &[2], 0.7)).is_ok());
    let error = s.replay(&plan(Split::After(3), &[1], 0.7)).unwrap_err();
    assert!(
        error.to_string().contains("`l4` to `l6`; profile it again"),
        "{error}"
    );
}

#[test]
fn a_stall_in_the_profile_moves_no_mean_above_its_p95() {
    let mut s = setting(200, 5);
    let chosen = plan(Split::End, &[1], 1.0);
    let mut latency = |stall: f64| {
        let profile = s.profile_mut(Tier::First);
        profile.samples_ms = vec![6.0 * 27.0; 99];
        profile.samples_ms.push(stall);
        profile.total_ms = Stats::of(&profile.samples_ms);
        profile.layers[2].ms.mean = stall;
        s.replay(&chosen).unwrap().latency_ms.unwrap()
    };
    let (quiet, disturbed) = (latency(6.0 * 27.0), latency(1e5));
    assert!(near(disturbed.mean, quiet.mean), "{disturbed:?}");
    assert_eq!((disturbed.p50, disturbed.p95), (quiet.p50, quiet.p95));
    assert!(f64::from(disturbed.mean as f32) <= disturbed.p95 + 1e-3);
}

#[test]
fn a_plan_that_sends_images_is_the_exits_of_the_first_tier_and_else_the_whole_network() {
    let mut s = setting(120, 12);
    let cut = plan(Split::After(4), &[1, 3, 5], 0.7);
    let sends = cut.sending_images().unwrap();
    assert_eq!(sends.splits, [Split::After(3)]);
    let missing = ReplayError::Missing(Missing::Images(Set::Calibration));
    assert_eq!(s.replay(&sends), Err(missing));
    // What the network says of coded images differs from what it says of the others.
    let mut coded = table(Set::Calibration, 120, 99);
    coded.labels = s.table().labels.clone();
    s.answers_mut().images = Some(ImageTable {
        quality: 90,
        bytes: 550.0,
        table: coded.clone(),
    });
    for (tier, scale) in [(Tier::First, 6.0), (Tier::Second, 1.0)] {
        s.profile_mut(tier).codec = vec![CodecTime {
            form: Form::Jpeg,
            elements: 48,
            encode_ms: 0.5 * scale,
            decode_ms: 0.25 * scale,
        }];
    }
    let outcome = s.replay(&sends).unwrap();
    let (table, images) = (s.table(), coded.final_column().unwrap());
    let heads = [1, 3].map(|l| table.column(&format!("l{l}"), None).unwrap());
    let (mut right, mut sent, mut ms) = (0, 0, 0.0);
    // Medians are 0.95 of the figures of layers (1 to 7, scaled to 27 in all) and heads.
    let scale = 0.95 * 27.0 / 28.0;
    let heads_ms = [0.95 * 1.2, 0.95 * 2.4];
    let first = 6.0 * scale * 3.0 + heads_ms[0];
    let second = 6.0 * scale * 10.0 + heads_ms[0] + heads_ms[1];
    // The mean of the recorded runs, of that median.
    let pace = winsorised_mean(&[20.0, 25.0, 30.0, 45.0]) / (0.95 * 27.0);
    for (i, label) in table.labels.iter().enumerate() {
        let leaves = heads.iter().position(|c| c.max_probability[i] > 0.7);
        let answer = match leaves {
            Some(at) => heads[at].prediction[i],
            None => images.prediction[i],
        };
        right += usize::from(answer == *label);
        ms += match leaves {
            Some(0) => pace * first,
            Some(_) => pace * second,
            None => {
                sent += 1;
                // The link has 1 ms at 100 bytes and 3 ms at 1,000.
                pace * (second + 0.95 * 27.0 + 0.25) + 3.0 + 2.0
            }
        };
    }
    let n = 120.0;
    assert_eq!(outcome.accuracy, right as f64 / n);
    assert!((outcome.bytes_sent() - 550.0 * sent as f64 / n).abs() < 1e-9);
    let mean = outcome.latency_ms.unwrap().mean;
    assert!((mean - ms / n).abs() < 1e-4, "{mean} {}", ms / n);
    let whole = s.replay(&Plan::unmodified(Tier::Second, 2)).unwrap();
    assert_eq!(outcome.tiers[1], whole.tiers[1]);
}

#[test]
fn cuts_and_the_links_variation_take_their_time() {
    let mut s = setting(50, 3);
    let cut = plan(Split::After(3), &[], 0.7);
    let mean = |s: &Setting| s.replay(&cut).unwrap().latency_ms.unwrap().mean;
    let before = mean(&s);
    for tier in [Tier::First, Tier::Second] {
        s.profile_mut(tier).boundaries = vec![Boundary {
            rows: 4,
            leave_ms: 2.0,
            enter_ms: 1.0,
        }];
    }
    let pace = winsorised_mean(&[20.0, 25.0, 30.0, 45.0]) / (0.95 * 27.0);
    let cuts = mean(&s);
    assert!((cuts - before - 3.0 * pace).abs() < 1e-4, "{cuts} {before}");
    // The whole on one tier has no cut.
    let whole = Plan::unmodified(Tier::First, 2);
    assert_eq!(
        s.replay(&whole).unwrap(),
        setting(50, 3).replay(&whole).unwrap()
    );
    let link = Arc::make_mut(s.evidence.links[0].as_mut().unwrap());
    link.jitter_ms = vec![4.0; 10];
    assert!((mean(&s) - cuts - 4.0).abs() < 1e-4);
}

#[test]
fn compression_and_codecs_count_where_they_were_measured() {
    let mut s = setting(50, 3);
    s.terms.wire.compression = Compression::Lz4;
    let cut = plan(Split::After(3), &[], 0.7);
    let plain = s.replay(&cut).unwrap();
    s.evidence.ratios = vec![CompressionRatio {
        after: "l3".into(),
        wire: s.terms.wire,
        ratio: 0.5,
    }];
    let half = s.replay(&cut).unwrap();
    let elements = 4.0 * (layer_table().layers[3].activation_bytes / 4) as f64;
    assert!((plain.bytes_sent() - half.bytes_sent() - 0.5 * elements).abs() < 1e-9);
    s.profile_mut(Tier::First).codec = vec![CodecTime {
        form: Form::F32Lz4,
        elements: 1 << 20,
        encode_ms: 7.0,
        decode_ms: 100.0,
    }];
    let mean = |o: &Outcome| o.latency_ms.unwrap().mean;
    let slower = s.replay(&cut).unwrap();
    assert!((mean(&slower) - mean(&half) - 7.0).abs() < 1e-4);
}

/// Sample by sample, as if by hand: the streak counted, the model's sum written out.
fn by_hand(s: &Setting, measure: Confidence, chosen: &Plan) -> Vec<(usize, u16)> {
    let table = s.table();
    let columns: Vec<&Column> = chosen
        .exits
        .iter()
        .map(|exit| table.column(&exit.after, None).unwrap())
        .collect();
    let models = combinations(&s.evidence, measure, chosen).unwrap();
    let log_odds = |p: f32| (f64::from(p) / (1.0 - f64::from(p))).ln();
    let mut all = Vec::new();
    for sample in 0..table.labels.len() {
        let mut left = (
            columns.len(),
            table.final_column().unwrap().prediction[sample],
        );
        let mut streak = 0;
        for (k, own) in columns.iter().enumerate() {
            let class = own.prediction[sample];
            let agrees = k > 0 && columns[k - 1].prediction[sample] == class;
            streak = if agrees { streak + 1 } else { 1 };
            let confidence = if measure == Confidence::Patience {
                streak as f32 / (streak + 1) as f32
            } else {
                let w: Vec<f64> = models[k].weights.iter().map(|w| f64::from(*w)).collect();
                let mut sum = w[0]
                    + w[1] * log_odds(own.max_probability[sample])
                    + w[2] * f64::from(own.margin[sample]);
                for (j, before) in columns[..k].iter().enumerate() {
                    let sign = if before.prediction[sample] == class {
                        1.0
                    } else {
                        -1.0
                    };
                    let p = log_odds(before.max_probability[sample]);
                    sum += sign * p * w[3 + 3 * j];
                    sum += sign * f64::from(before.margin[sample]) * w[4 + 3 * j];
                    sum += sign * w[5 + 3 * j];
                }
                (1.0 / (1.0 + (-sum).exp())) as f32
            };
            if f64::from(confidence) > chosen.exits[k].threshold {
                left = (k, class);
                break;
            }
        }
        all.push(left);
    }
    all
}

#[rstest]
#[case::one_for_all(Confidence::Patience, [0.6, 0.6, 0.6])]
#[case::one_an_exit(Confidence::Patience, [0.7, 0.6, 0.55])]
#[case::learned(Confidence::Learned, [0.34, 0.34, 0.34])]
#[case::learned_one_an_exit(Confidence::Learned, [0.36, 0.33, 0.3])]
fn exits_that_look_back_leave_as_by_hand(#[case] measure: Confidence, #[case] own: [f64; 3]) {
    let mut s = setting(500, 11);
    s.terms.policy.confidence = measure;
    let mut chosen = plan(Split::After(3), &[1, 3, 4], 0.0);
    for (exit, threshold) in chosen.exits.iter_mut().zip(own) {
        exit.threshold = threshold;
    }
    let expected = by_hand(&s, measure, &chosen);
    let outcome = s.replay(&chosen).unwrap();
    let labels = &s.table().labels;
    for (k, exit) in outcome.exits.iter().enumerate() {
        let left = expected.iter().filter(|(at, _)| *at == k).count();
        assert_eq!(exit.share, left as f64 / 500.0, "exit {k}");
    }
    // Each exit has its leavers, so that each decision is tried.
    let some = |k: usize| expected.iter().any(|(at, _)| *at == k);
    assert!((1..4).all(some), "{:?}", outcome.exits);
    let pairs = expected.iter().zip(labels);
    let right = pairs.filter(|((_, class), label)| class == *label).count();
    assert_eq!(outcome.accuracy, right as f64 / 500.0);
    let across = s.prepared(&chosen).samples();
    for (sample, found) in across.iter().enumerate() {
        assert_eq!(found.right, expected[sample].1 == labels[sample]);
    }
}

/// What is chosen by calibration images is judged on others by the same model.
#[test]
fn a_model_is_fitted_to_calibration_images_alone() {
    let mut s = setting(300, 3);
    s.terms.policy.confidence = Confidence::Learned;
    let chosen = plan(Split::After(3), &[1, 4], 0.34);
    let models = combinations(&s.evidence, Confidence::Learned, &chosen).unwrap();
    let mut test = s.evidence.answers(Set::Calibration).unwrap().clone();
    test.table = table(Set::Test, 200, 99);
    s.evidence.test = Some(Arc::new(test));
    replay(&s.evidence, &s.terms, Set::Test, &chosen).unwrap();
    assert_eq!(
        combinations(&s.evidence, Confidence::Learned, &chosen).unwrap(),
        models
    );
    s.evidence.calibration = None;
    let error = replay(&s.evidence, &s.terms, Set::Test, &chosen).unwrap_err();
    assert_eq!(
        error,
        ReplayError::Missing(Missing::Table(Set::Calibration))
    );
}

/// Millijoules of layers and heads by the model, added up sample by sample.
#[test]
fn energy_by_the_model_is_that_of_what_each_sample_runs_on_the_first_tier() {
    let s = setting(120, 8);
    let chosen = plan(Split::After(3), &[1, 4], 0.6);
    let outcome = s.replay(&chosen).unwrap();
    let table = &s.evidence.answers(Set::Calibration).unwrap().table;
    let first = &table.column("l1", None).unwrap().max_probability;
    let body = |layers: std::ops::Range<usize>| -> f64 {
        let bytes = layers.clone().map(|i| 400 + 64 * (i + 1)).sum::<usize>();
        4.6 * 10.0 * layers.len() as f64 + 1.25 * bytes as f64
    };
    // 900 bytes of parameters, one multiply-accumulate for each of them.
    let head = 4.6 * 225.0 + 1.25 * 900.0;
    let each = first.iter().map(|&confidence| match confidence > 0.6 {
        true => body(0..2) + head,
        false => body(0..4) + head,
    });
    let expected = each.sum::<f64>() / 120.0 / 1e9;
    let energy = outcome.energy.unwrap();
    assert!((energy.compute_mj / expected - 1.0).abs() < 1e-12);
    assert_eq!((energy.radio_mj, energy.power), (Some(0.0), Power::Model));
    // Without its head, what it takes less.
    let bare = s.replay(&plan(Split::After(3), &[4], 0.6)).unwrap();
    assert!((bare.energy_mj() - body(0..4) / 1e9).abs() < 1e-15);
}

#[rstest]
#[case::rails(Some(3.0), None, 3.0, Power::Rails)]
#[case::stated(Some(3.0), Some(2.0), 2.0, Power::Watts)]
fn energy_by_power_is_that_power_times_the_time(
    #[case] rails: Option<f64>,
    #[case] stated: Option<f64>,
    #[case] watts: f64,
    #[case] power: Power,
) {
    let mut s = setting(50, 2);
    let edge = Arc::make_mut(s.evidence.profiles[0].as_mut().unwrap());
    edge.watts = rails;
    s.terms.energy.watts = stated;
    let whole = s.replay(&plan(Split::End, &[], 0.5)).unwrap();
    let energy = whole.energy.unwrap();
    let expected = watts * whole.latency_ms.unwrap().mean;
    assert!((energy.mj() / expected - 1.0).abs() < 1e-12);
    assert_eq!(energy.power, power);
    let cloud = s.replay(&plan(Split::Start, &[], 0.5)).unwrap();
    assert_eq!(cloud.energy_mj(), 0.0);
}

#[test]
fn a_radio_takes_energy_and_makes_those_wait_who_find_it_asleep() {
    let mut s = setting(400, 3);
    let chosen = plan(Split::Start, &[], 0.5);
    let wired = s.replay(&chosen).unwrap().latency_ms.unwrap();
    s.terms.energy.radio = Radio::Lte;
    let lte = Radio::Lte.model().unwrap();
    let mut medians = Vec::new();
    for rate_hz in [0.001, 0.1, 10.0] {
        s.terms.rate_hz = rate_hz;
        let found = s.replay(&chosen).unwrap();
        // 48 pixels there, an answer back.
        let expected =
            lte.transfer_mj(48.0, ANSWER_BYTES, wired.mean) + lte.standby_mj(rate_hz, 1.0);
        assert!((found.energy_mj() / expected - 1.0).abs() < 1e-9);
        let latency = found.latency_ms.unwrap();
        let waits = lte.asleep(rate_hz, 1.0) * lte.wake_ms;
        assert!((latency.mean - wired.mean - waits).abs() < 1e-6);
        medians.push(latency.p50 - wired.p50);
        // A device that sends nothing needs no radio.
        let alone = s.replay(&plan(Split::End, &[], 0.5)).unwrap();
        assert_eq!(alone.energy.unwrap().radio_mj, Some(0.0));
        let samples = PreparedPlan::new(&s.evidence, &s.terms, Set::Calibration, &chosen);
        let samples = samples.unwrap().samples();
        let mean = samples.iter().map(|one| one.latency_ms).sum::<f64>() / 400.0;
        assert!((mean - latency.mean).abs() < 1e-6);
    }
    // Nearly all of them wait, and none.
    assert!(
        medians[0] > 0.98 * lte.wake_ms && medians[2] < 1e-3,
        "{medians:?}"
    );
}
