//! A plan replayed over 10,000 samples and 7 classifiers: what a held key asks for at each repeat.
//! The goal is to stay well under 5 ms.

use edgelesspart::data::Set;
use edgelesspart::device::{HeadProfile, LayerProfile, LinkProfile, Profile, Stats};
use edgelesspart::model::layers::{Layer, LayerTable};
use edgelesspart::model::{Shape, ValueId};
use edgelesspart::plan::Part;
use edgelesspart::plan::{Plan, PlannedExit, Split};
use edgelesspart::predict::{Column, Confidence, ConfidenceTable, Policy, Prepared, World};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

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
            })
            .collect(),
        samples_ms: (0..200).map(|i| 8.0 + 0.01 * f64::from(i)).collect(),
        weight_bytes: 3200,
        arena_bytes: 8192,
        resident_bytes: 40 << 20,
    }
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

fn plan() -> Plan {
    let exit = |layer: usize| PlannedExit {
        layer,
        after: format!("l{layer}"),
        part: if layer < 3 { Part::Edge } else { Part::Cloud },
        threshold: 0.9,
    };
    Plan {
        split: Split::After(2),
        split_after: Some("l2".into()),
        exits: (0..6).map(exit).collect(),
        notes: vec![],
    }
}

fn with(f: impl FnOnce(&ConfidenceTable, &Plan, &World)) {
    let (layers, profile) = (layers(), profile());
    let link = LinkProfile {
        idle: vec![],
        warm: vec![(1000, 1.0), (1_000_000, 20.0)],
        emulated: false,
    };
    let policy = Policy {
        confidence: Confidence::MaxProbability,
        threshold: 0.9,
        exits: vec![],
    };
    let world = World::new(&layers, &profile, &profile, &link, &policy);
    f(&table(), &plan(), &world);
}

#[divan::bench(name = "threshold moved, 10000 samples x 7")]
fn threshold(bencher: divan::Bencher) {
    with(
        |table, plan, world| match Prepared::new(table, plan, world) {
            Ok(prepared) => bencher.bench_local(|| prepared.at(divan::black_box(0.8))),
            Err(error) => eprintln!("{error}"),
        },
    );
}

#[divan::bench(name = "split moved, 10000 samples x 7")]
fn split(bencher: divan::Bencher) {
    with(|table, plan, world| {
        bencher.bench_local(|| Prepared::new(table, plan, world).map(|p| p.at(0.8)));
    });
}
