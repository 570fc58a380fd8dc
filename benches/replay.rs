//! A plan replayed over 10,000 samples and 7 classifiers: what a held key asks for at each repeat.
//! The goal is to stay well under 5 ms.

use edgelesspart::data::Set;
use edgelesspart::device::{HeadProfile, LayerProfile, LinkProfile, Profile, SegmentMemory, Stats};
use edgelesspart::exits::ExitPoint;
use edgelesspart::explore::tune::common_steps;
use edgelesspart::explore::{Goal, Phase, joint};
use edgelesspart::model::layers::{Layer, LayerTable};
use edgelesspart::model::{Shape, ValueId};
use edgelesspart::plan::{Plan, Split, TierNames};
use edgelesspart::predict::{
    Answers, Column, Confidence, ConfidenceTable, Evidence, Policy, PreparedPlan, Terms,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SAMPLES: usize = 10_000;
const LAYERS: usize = 8;
/// Places for a split or an exit that resnet20 has, and a layer behind the last.
const RESNET20: usize = 11;
/// Its calibration images.
const CALIBRATION: usize = 2_000;

fn main() {
    divan::main();
}

fn layers(rows: usize) -> LayerTable {
    let layer = |i: usize| Layer {
        name: format!("l{i}"),
        op: "conv".into(),
        nodes: i..i + 1,
        output: ValueId(i as u32),
        value: format!("v{i}"),
        shape: Shape::batched(&[16, 8, 8]),
        params: 100,
        param_bytes: 400,
        macs: 10,
        activation_bytes: 4096,
        prefix_memory_bytes: 8192 + 400 * (i + 1),
        prefix_macs: 10 * (i as u64 + 1),
        prefix_params: 100 * (i + 1),
        is_cut: true,
        split_legal: i + 1 < rows,
        exit_legal: i + 1 < rows,
        why_not: None,
    };
    LayerTable {
        network: "net".into(),
        layers: (0..rows).map(layer).collect(),
        params: 100 * rows,
        macs: 10 * rows as u64,
        memory_bytes: 8192 + 400 * rows,
        input: Shape::batched(&[3, 32, 32]),
        classes: 10,
    }
}

fn profile(rows: usize) -> Profile {
    let stats = |ms: f64| Stats {
        min: ms,
        median: ms,
        mean: ms,
        p95: ms,
    };
    Profile {
        target: "t".into(),
        device: "d".into(),
        ghz: Some(2.0),
        threads: 1,
        batch: 1,
        slowdown: 1.0,
        total_ms: stats(rows as f64),
        layers: (0..rows)
            .map(|i| LayerProfile {
                name: format!("l{i}"),
                ms: stats(1.0),
                bytes: 0,
            })
            .collect(),
        heads: (0..rows)
            .map(|i| HeadProfile {
                after: format!("l{i}"),
                hash: "h".into(),
                ms: stats(0.1),
                bytes: 0,
                arena_bytes: 0,
            })
            .collect(),
        samples_ms: (0..200)
            .map(|i| rows as f64 + 0.01 * f64::from(i))
            .collect(),
        prefixes: vec![],
        weight_bytes: 3200,
        arena_bytes: 8192,
        segments: (0..rows).flat_map(|from| segments(from, rows)).collect(),
        boundaries: vec![],
        codec: vec![],
        load: None,
        watts: None,
        resident_bytes: 40 << 20,
    }
}

fn segments(from: usize, rows: usize) -> impl Iterator<Item = SegmentMemory> {
    (from + 1..=rows).map(move |to| SegmentMemory {
        from,
        to,
        weight_bytes: 400 * (to - from),
        arena_bytes: 8192,
    })
}

fn table(heads: usize, samples: usize) -> ConfidenceTable {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let labels = (0..samples).map(|_| rng.random_range(0..10)).collect();
    let mut table = ConfidenceTable::new(Set::Calibration, labels);
    let names: Vec<String> = (0..heads).map(|i| format!("l{i}")).collect();
    for after in names.iter().map(|n| Some(n.as_str())).chain([None]) {
        let mut column = Column::new(after, if after.is_some() { "h" } else { "" }, 1.0);
        for _ in 0..samples {
            column.prediction.push(rng.random_range(0..10));
            column.max_probability.push(rng.random_range(0.1..1.0));
            column.entropy.push(0.5);
            column.margin.push(0.5);
        }
        table.columns.push(column);
    }
    table
}

fn plan(layers: &LayerTable) -> Plan {
    let plan = Plan::cut(layers, vec![Split::After(2)]);
    (0..6).fold(plan, |plan, layer| {
        plan.with_exit(layer, &format!("l{layer}"), 0.9)
    })
}

fn with(f: impl FnOnce(&Evidence, &Terms, &Plan)) {
    let (evidence, terms) = evidence(LAYERS, table(6, SAMPLES));
    f(&evidence, &terms, &plan(&evidence.layers));
}

fn points(rows: usize) -> Vec<ExitPoint> {
    let point = |layer: usize| ExitPoint {
        layer,
        after: format!("l{layer}"),
        value: format!("v{layer}"),
        index: layer,
        count: rows - 1,
        depth: layer as f64 / rows as f64,
        macs: 10 * (layer as u64 + 1),
        sample: vec![16, 8, 8],
        classes: 10,
    };
    (0..rows - 1).map(point).collect()
}

fn evidence(rows: usize, table: ConfidenceTable) -> (Evidence, Terms) {
    let (layers, profile) = (Arc::new(layers(rows)), Arc::new(profile(rows)));
    let link = LinkProfile {
        idle: vec![],
        warm: vec![(1000, 1.0), (1_000_000, 20.0)],
        emulated: false,
        jitter_ms: vec![],
    };
    let terms = Terms::new(Policy {
        confidence: Confidence::MaxProbability,
        threshold: 0.7,
        exits: vec![],
    });
    let evidence = Evidence {
        profiles: vec![Some(profile.clone()), Some(profile)],
        links: vec![Some(Arc::new(link))],
        calibration: Some(Arc::new(Answers {
            table,
            wires: vec![],
            images: None,
        })),
        ..Evidence::new(layers, Arc::new(points(rows)), TierNames::default())
    };
    (evidence, terms)
}

/// A table whose heads are the surer and the more often right the deeper they stand, as those of resnet20.
fn trained(heads: usize, samples: usize) -> ConfidenceTable {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut table = table(heads, samples);
    let labels = table.labels.clone();
    let hard: Vec<f32> = (0..samples).map(|_| rng.random_range(0.0..1.0)).collect();
    for (depth, column) in table.columns.iter_mut().enumerate() {
        let skill = 0.4 + 0.5 * depth as f32 / heads as f32;
        for sample in 0..samples {
            let right = hard[sample] + rng.random_range(-0.2..0.2) < skill;
            let wrong = (labels[sample] + 1) % 10;
            column.prediction[sample] = if right { labels[sample] } else { wrong };
            let sure = 0.5 + (skill - hard[sample]) / 2.0 + rng.random_range(-0.2..0.2);
            column.max_probability[sample] = sure.clamp(0.11, 0.999);
        }
    }
    table
}

/// All splits and sets of exits of a network like resnet20: one threshold for all exits, exactly.
#[divan::bench(
    name = "best of all plans, common thresholds, 2000 samples",
    sample_count = 3
)]
fn best_common(bencher: divan::Bencher) {
    let (evidence, terms) = evidence(RESNET20, trained(RESNET20 - 1, CALIBRATION));
    let goal = Goal::default();
    bencher.bench_local(|| {
        joint(&evidence, &terms, &goal, &mut |phase, _, _| {
            phase == Phase::Look
        })
        .map(|f| f.plans)
    });
}

/// And a threshold per exit, for a minute at most.
#[divan::bench(
    name = "best of all plans, thresholds per exit, 2000 samples",
    sample_count = 1
)]
fn best_per_exit(bencher: divan::Bencher) {
    let (evidence, terms) = evidence(RESNET20, trained(RESNET20 - 1, CALIBRATION));
    let goal = Goal::default();
    bencher.bench_local(|| {
        let until = Instant::now() + Duration::from_secs(60);
        let found = joint(&evidence, &terms, &goal, &mut |phase, _, _| {
            phase == Phase::Look || Instant::now() < until
        });
        if let Ok(found) = found {
            let value = goal.minimise.value(&found.per_exit.outcome);
            let (exact, bound) = (found.per_exit.exact, found.bound.unwrap_or(f64::NAN));
            eprintln!(
                "{} plans, {value:.4} ms, bound {bound:.4}, exact: {exact}",
                found.plans
            );
        }
    });
}

#[divan::bench(name = "threshold moved, 10000 samples x 7")]
fn threshold(bencher: divan::Bencher) {
    with(|evidence, terms, plan| {
        match PreparedPlan::new(evidence, terms, Set::Calibration, plan) {
            Ok(prepared) => bencher.bench_local(|| prepared.at(divan::black_box(0.8))),
            Err(error) => eprintln!("{error}"),
        }
    });
}

/// What a budget curve of common thresholds reads: every threshold that parts the samples, exactly.
#[divan::bench(name = "all common thresholds, 10000 samples x 7")]
fn all_thresholds(bencher: divan::Bencher) {
    with(|evidence, terms, plan| {
        match PreparedPlan::new(evidence, terms, Set::Calibration, plan) {
            Ok(prepared) => {
                let ways = prepared.ways();
                let price = ways.latency_ms.iter().map(|ms| vec![*ms; ways.samples]);
                let price: Vec<Vec<f64>> = price.collect();
                bencher.bench_local(|| common_steps(&ways, &price).len());
            }
            Err(error) => eprintln!("{error}"),
        }
    });
}

#[divan::bench(name = "split moved, 10000 samples x 7")]
fn split(bencher: divan::Bencher) {
    with(|evidence, terms, plan| {
        bencher.bench_local(|| {
            PreparedPlan::new(evidence, terms, Set::Calibration, plan).map(|p| p.at(0.8))
        });
    });
}
