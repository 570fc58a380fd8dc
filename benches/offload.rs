//! What an offload costs beyond inference: a tensor of 64 KB between two agents on this machine.
//! The goal is less than 0.4 ms at the median.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure should stop it

use edgelesspart::evaluate::Confidence;
use edgelesspart::exits::Part;
use edgelesspart::model::fuse::fuse;
use edgelesspart::model::layers::LayerTable;
use edgelesspart::model::zoo::ZooModel;
use edgelesspart::partition::parts::{PartBundle, parts};
use edgelesspart::partition::{Plan, Split};
use edgelesspart::remote::message::{DataSet, Evaluate, JobRequest, Mode};
use edgelesspart::remote::{Link, LocalAgent, LocalOptions, Wire};

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(measure());
}

async fn measure() {
    let model = ZooModel::ResNet {
        depth: 8,
        width: 16,
    };
    let graph = fuse(&model.build((3, 32, 32), 10, 1).unwrap());
    let table = LayerTable::new(&graph).unwrap();
    // The first split whose tensor is 16×32×32 floats.
    let wide = |&at: &usize| table.layers[at].shape.elements(1) == 16 * 32 * 32;
    let at = table.splits().find(wide).unwrap();
    let plan = Plan {
        split: Split::After(at),
        split_after: None,
        exits: vec![],
        notes: vec![],
    };
    let bundles: Vec<Vec<u8>> = parts(&graph, &table, &plan, &|_: &str, _: Part| None)
        .unwrap()
        .into_iter()
        .map(|spec| {
            let settings = serde_json::Value::Null;
            PartBundle { spec, settings }.encode().unwrap()
        })
        .collect();
    let mut agents = Vec::new();
    for core in [0, 1] {
        let options = LocalOptions {
            program: Some(env!("CARGO_BIN_EXE_edgelesspart").into()),
            cores: vec![core],
            ..LocalOptions::default()
        };
        agents.push(LocalAgent::start(&options).await.unwrap());
    }
    let edge = agents[0].connect().await.unwrap();
    let cloud = agents[1].connect().await.unwrap();
    let data = DataSet {
        shape: [3, 32, 32],
        samples: 1,
        pixels: (0..3072).map(|i| (i * 7) as u8).collect(),
    };
    let job = Evaluate {
        mode: Mode::Distributed {
            part: edge.put(bundles[0].clone()).await.unwrap(),
            clouds: vec![agents[1].cloud_target()],
            cloud_part: cloud.put(bundles[1].clone()).await.unwrap(),
        },
        data: edge.put(data.encode().unwrap()).await.unwrap(),
        preprocessing: Default::default(),
        samples: vec![0; 2000],
        warm_up: 100,
        confidence: Confidence::MaxProbability,
        thresholds: vec![],
        last_exit_answers: false,
        wire: Wire::default(),
        link: Link::Measured,
        deadline_ms: None,
        degrade: false,
    };
    let id = edge
        .submit(&JobRequest::Evaluate(Box::new(job)))
        .await
        .unwrap();
    edge.follow(&id, &mut |_| {}).await.unwrap();
    let records = edge.all_records(&id).await.unwrap();
    println!(
        "offload of 64 KB on loopback, {} samples, ms",
        records.len()
    );
    println!("{:<28}{:>8}{:>8}{:>8}", "", "p50", "p95", "min");
    let row = |name: &str, of: &dyn Fn(&edgelesspart::evaluate::Record) -> f32| {
        let mut times: Vec<f32> = records.iter().map(of).collect();
        times.sort_by(f32::total_cmp);
        let at = |q: f64| times[((times.len() - 1) as f64 * q) as usize];
        println!(
            "{name:<28}{:>8.3}{:>8.3}{:>8.3}",
            at(0.5),
            at(0.95),
            at(0.0)
        );
    };
    row("edge", &|r| r.edge_ms);
    row("encode", &|r| r.encode_ms);
    row("network (beyond the cloud's)", &|r| r.network_ms);
    row("cloud, decoding included", &|r| r.cloud_ms);
    row("latency", &|r| r.latency_ms);
    for agent in agents {
        agent.stop().await;
    }
}
