//! A plan replayed over 10,000 samples and 7 classifiers: what a held key asks for at each repeat.
//! The goal is to stay well under 5 ms.

use edgelesspart::data::Set;
use edgelesspart::device::{HeadProfile, LayerProfile, LinkProfile, Profile, SegmentMemory, Stats};
use edgelesspart::explore::tune::common_steps;
use edgelesspart::model::layers::{Layer, LayerTable};
use edgelesspart::model::{Shape, ValueId};
use edgelesspart::plan::{Plan, Split, TierNames};
use edgelesspart::predict::{
    Answers, Column, Confidence, ConfidenceTable, Evidence, Policy, PreparedPlan, Terms,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

const SAMPLES: usize = 10_000;
const LAYERS: usize = 8;

fn main() {
    divan::main();
}

fn layers() -> LayerTable {
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
        split_legal: true,
        exit_legal: true,
        why_not: None,
    };
    LayerTable {
        network: "net".into(),
        layers: (0..LAYERS).map(layer).collect(),
        params: 100 * LAYERS,
        macs: 10 * LAYERS as u64,
        memory_bytes: 8192 + 400 * LAYERS,
        input: Shape::batched(&[3, 32, 32]),
        classes: 10,
    }
}

fn profile() -> Profile {
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
        total_ms: stats(8.0),
        layers: (0..LAYERS)
            .map(|i| LayerProfile {
                name: format!("l{i}"),
                ms: stats(1.0),
                bytes: 0,
            })
            .collect(),
        heads: (0..LAYERS)
            .map(|i| HeadProfile {
                after: format!("l{i}"),
                hash: "h".into(),
                ms: stats(0.1),
                bytes: 0,
                arena_bytes: 0,
            })
            .collect(),
        samples_ms: (0..200).map(|i| 8.0 + 0.01 * f64::from(i)).collect(),
        prefixes: vec![],
        weight_bytes: 3200,
        arena_bytes: 8192,
        segments: (0..LAYERS).flat_map(segments).collect(),
        boundaries: vec![],
        codec: vec![],
        load: None,
        resident_bytes: 40 << 20,
    }
}

fn segments(from: usize) -> impl Iterator<Item = SegmentMemory> {
    (from + 1..=LAYERS).map(move |to| SegmentMemory {
        from,
        to,
        weight_bytes: 400 * (to - from),
        arena_bytes: 8192,
    })
}

fn table() -> ConfidenceTable {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let labels = (0..SAMPLES).map(|_| rng.random_range(0..10)).collect();
    let mut table = ConfidenceTable::new(Set::Calibration, labels);
    let names: Vec<String> = (0..6).map(|i| format!("l{i}")).collect();
    for after in names.iter().map(|n| Some(n.as_str())).chain([None]) {
        let mut column = Column::new(after, if after.is_some() { "h" } else { "" }, 1.0);
        for _ in 0..SAMPLES {
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
    let (layers, profile) = (Arc::new(layers()), Arc::new(profile()));
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
    let plan = plan(&layers);
    let evidence = Evidence {
        profiles: vec![Some(profile.clone()), Some(profile)],
        links: vec![Some(Arc::new(link))],
        calibration: Some(Arc::new(Answers {
            table: table(),
            wires: vec![],
            images: None,
        })),
        ..Evidence::new(layers, Arc::default(), TierNames::default())
    };
    f(&evidence, &terms, &plan);
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
