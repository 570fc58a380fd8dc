//! The memory of a part that was never assembled is that of the assembled one, for every plan that the
//! explorer tries.

use edgelesspart::data::Set;
use edgelesspart::device::profile::{
    HeadToTime, ProfileOptions, SegmentToTime, profile, profile_part,
};
use edgelesspart::device::{LinkProfile, Profile};
use edgelesspart::engine::Cancel;
use edgelesspart::exits::Head;
use edgelesspart::explore::{Limits, search};
use edgelesspart::model::fuse::fuse;
use edgelesspart::model::onnx::import_file;
use edgelesspart::plan::{Plan, Tier, TierHead, TierNames};
use edgelesspart::predict::{Answers, Column, ConfidenceTable, Evidence, Policy, Terms, replay};
use edgelesspart::run::{ExitSource, Network};
use edgelesspart::runtime::parts::{PartSettings, parts};
use edgelesspart::session::Session;
use rstest::rstest;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

/// No time is wanted of these runs.
const ONCE: ProfileOptions = ProfileOptions {
    backend: edgelesspart::backend::BackendId::Native,
    threads: 1,
    batch: 1,
    runs: 1,
    warm_up: 0,
    slowdown: 1.0,
};

fn heads(network: &Network) -> Vec<Head> {
    let session = Session::demo().unwrap();
    let source = ExitSource::of(&session.exits, &network.fused).unwrap();
    let points = network.points.iter();
    let heads = points.flat_map(|p| source.heads(p, &session.tier_names(), 1).unwrap());
    heads.map(|of| of.head).collect()
}

fn measured(network: &Network, heads: &[Head]) -> Profile {
    let fused: Vec<_> = heads.iter().map(|h| fuse(&h.graph)).collect();
    let to_time = heads.iter().zip(&fused);
    let to_time: Vec<HeadToTime> = to_time
        .map(|(head, graph)| HeadToTime {
            after: &head.point.after,
            hash: &head.hash,
            graph,
        })
        .collect();
    let (graph, cancel) = (network.fused.clone(), Cancel::new());
    profile(
        graph,
        &network.table,
        &to_time,
        &ONCE,
        &mut |_, _| {},
        &cancel,
    )
    .unwrap()
}

/// Answers that nothing depends on here.
fn answers(heads: &[Head]) -> Answers {
    let mut table = ConfidenceTable::new(Set::Calibration, vec![0; 4]);
    let heads = heads
        .iter()
        .map(|h| (Some(h.point.after.as_str()), h.hash.as_str()));
    for (after, hash) in heads.chain([(None, "")]) {
        let mut column = Column::new(after, hash, 1.0);
        column.prediction = vec![0; 4];
        column.max_probability = vec![0.5; 4];
        column.entropy = vec![0.5; 4];
        column.margin = vec![0.5; 4];
        table.push(column).unwrap();
    }
    Answers {
        table,
        wires: vec![],
        images: None,
    }
}

/// Bytes of each tier's part of a plan, from its parts compiled and run.
fn assembled(network: &Network, heads: &[Head], plan: &Plan) -> Vec<usize> {
    let heads = heads.iter().cloned();
    let heads: Vec<TierHead> = heads.map(|h| TierHead::new(Tier::First, h)).collect();
    let settings = PartSettings::default();
    let specs = parts(&network.fused, &network.table, plan, &heads, &settings).unwrap();
    let mut bytes = vec![0; 2];
    for spec in specs {
        let stages = spec.segments.into_iter().map(|segment| SegmentToTime {
            segment: segment.graph,
            head: segment.exit.map(|exit| fuse(&exit.head)),
        });
        let part = profile_part(stages.collect(), &ONCE, &mut |_, _| {}, &Cancel::new()).unwrap();
        bytes[spec.tier.index()] = part.weight_bytes + part.arena_bytes;
    }
    bytes
}

#[rstest]
#[case(None)]
#[case(Some("cifar10/resnet20_cifar10"))]
#[case(Some("torchvision/mobilenetv2_32"))]
fn a_part_takes_what_was_predicted_of_it(#[case] file: Option<&str>) {
    let network = match file {
        None => Network::load(&Session::demo().unwrap()).unwrap(),
        Some(name) => {
            let shared = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/models");
            let path = Path::new(shared).join(format!("{name}.onnx"));
            if !path.is_file() {
                println!("skipped: no {}", path.display());
                return;
            }
            Network::of(import_file(&path).unwrap(), false).unwrap()
        }
    };
    let heads = heads(&network);
    let profile = Arc::new(measured(&network, &heads));
    let (layers, points) = (Arc::new(network.table.clone()), network.points.clone());
    let evidence = Evidence {
        profiles: vec![Some(profile.clone()), Some(profile)],
        links: vec![Some(Arc::new(LinkProfile {
            warm: vec![(1024, 1.0)],
            ..LinkProfile::default()
        }))],
        calibration: Some(Arc::new(answers(&heads))),
        ..Evidence::new(layers, Arc::new(points), TierNames::default())
    };
    let terms = Terms::new(Policy {
        confidence: Default::default(),
        threshold: 0.7,
        exits: vec![],
    });
    let found = search(&evidence, &terms, &[0.7], &Limits::default()).unwrap();
    assert!(found.len() > 50, "{}", found.len());
    let mut seen = HashSet::new();
    // Of a larger network every tenth, so that it is done within seconds.
    let every = if file.is_some() { 10 } else { 1 };
    for candidate in found.iter().step_by(every) {
        let plan = &candidate.plan;
        let exits: Vec<usize> = plan.exits.iter().map(|e| e.layer).collect();
        if !seen.insert((plan.splits.clone(), exits)) {
            continue;
        }
        let outcome = replay(&evidence, &terms, Set::Calibration, plan).unwrap();
        let predicted: Vec<usize> = outcome.tiers.iter().map(|t| t.memory_bytes).collect();
        assert_eq!(predicted, assembled(&network, &heads, plan), "{plan:?}");
    }
    println!("{} plans", seen.len());
}
