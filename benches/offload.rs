//! What an offload costs beyond inference: a tensor of 64 KB between two agents on this machine, plain
//! and encrypted. The goal is less than 0.4 ms at the median, F32.
//!
//! `cargo bench --bench offload -- memory` makes 200,000 of them instead, and compares what both agents
//! hold in memory then with what they held after the first 10,000. The goal is 5 % more or less.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure should stop it

use edgelesspart::model::fuse::fuse;
use edgelesspart::model::layers::LayerTable;
use edgelesspart::model::zoo::ZooModel;
use edgelesspart::plan::{Link, Wire};
use edgelesspart::plan::{Plan, Split};
use edgelesspart::predict::{Confidence, Record};
use edgelesspart::protocol::message::Ready;
use edgelesspart::protocol::message::{
    CloudTarget, DataSet, Evaluate, Hop, JobEvent, JobRequest, JobResult, Route,
};
use edgelesspart::protocol::{Client, TlsTrust, tls};
use edgelesspart::runtime::parts::{PartSettings, parts};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if std::env::args().any(|a| a == "memory") {
        runtime.block_on(memory());
    } else {
        runtime.block_on(overhead());
    }
}

/// An agent; killed when dropped.
struct Agent(Child, Ready);

impl Agent {
    /// One on a core of its own, which keeps what it is sent in a folder of its own.
    fn start(core: &str, folder: &Path, arguments: &[&str]) -> Agent {
        let mut child = Command::new(env!("CARGO_BIN_EXE_edgelesspart"))
            .args(["agent", "--listen", "127.0.0.1:0", "--threads", "1"])
            .args(["--cores", core, "--data"])
            .arg(folder.join(core))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        Agent(child, serde_json::from_str(&line).unwrap())
    }

    fn url(&self) -> &str {
        &self.1.url
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two agents, each on a core of its own, and a run between them.
struct Pair {
    edge_agent: Agent,
    cloud_agent: Agent,
    edge: Client,
    job: Evaluate,
    _folder: tempfile::TempDir,
}

impl Pair {
    async fn new(encrypted: bool) -> Pair {
        let folder = tempfile::tempdir().unwrap();
        let made = tls::self_signed(vec!["127.0.0.1".into()]).unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_string()
        };
        let (certificate, key) = (file("cert", &made.certificate), file("key", &made.key));
        let token = file("token", "a token");
        let secured = ["--tls-cert", &certificate, "--tls-key", &key];
        let secured = [&secured[..], &["--token-file", &token]].concat();
        let arguments = match encrypted {
            true => &secured[..],
            false => &[],
        };
        let start = |core: &str| Agent::start(core, folder.path(), arguments);
        let (edge_agent, cloud_agent) = (start("0"), start("1"));
        let (token, believed) = match encrypted {
            true => (
                Some("a token".to_string()),
                TlsTrust::Fingerprint(made.fingerprint.clone()),
            ),
            false => (None, TlsTrust::System),
        };
        let client = async |agent: &Agent| {
            let client = Client::connect_to(agent.url(), token.as_deref(), &believed);
            client.await.unwrap()
        };
        let (edge, cloud) = (client(&edge_agent).await, client(&cloud_agent).await);
        let bundles = bundles();
        let data = DataSet {
            shape: [3, 32, 32],
            samples: 1,
            pixels: (0..3072).map(|i| (i * 7) as u8).collect(),
        };
        let job = Evaluate {
            route: Route::over(
                Some(edge.put(bundles[0].clone()).await.unwrap()),
                Hop {
                    part: Some(cloud.put(bundles[1].clone()).await.unwrap()),
                    targets: vec![CloudTarget {
                        token: token.clone(),
                        believed: believed.clone(),
                        ..CloudTarget::new(cloud_agent.url())
                    }],
                    link: Link::Measured,
                },
            ),
            data: edge.put(data.encode().unwrap()).await.unwrap(),
            preprocessing: Default::default(),
            samples: vec![0; 2000],
            warm_up: 100,
            confidence: Confidence::MaxProbability,
            thresholds: vec![],
            last_exit_answers: false,
            jpeg: None,
            wire: Wire::default(),
            deadline_ms: None,
            degrade: false,
        };
        Pair {
            edge_agent,
            cloud_agent,
            edge,
            job,
            _folder: folder,
        }
    }
}

/// Both parts of a small network, split where its tensor is 16×32×32 floats.
fn bundles() -> Vec<Vec<u8>> {
    let model = ZooModel::ResNet {
        depth: 8,
        width: 16,
    };
    let graph = fuse(&model.build((3, 32, 32), 10, 1).unwrap());
    let table = LayerTable::new(&graph).unwrap();
    let wide = |&at: &usize| table.layers[at].shape.elements(1) == 16 * 32 * 32;
    let split = Split::After(table.splits().find(wide).unwrap());
    let plan = Plan::cut(&table, vec![split]);
    let made = parts(&graph, &table, &plan, &[], &PartSettings::default()).unwrap();
    made.iter().map(|part| part.bundle().unwrap()).collect()
}

async fn overhead() {
    for encrypted in [false, true] {
        let pair = Pair::new(encrypted).await;
        let job = JobRequest::Evaluate(Box::new(pair.job.clone()));
        let id = pair.edge.submit(&job).await.unwrap();
        pair.edge.follow(&id, &mut |_| {}).await.unwrap();
        let records = pair.edge.all_records(&id).await.unwrap();
        let how = match encrypted {
            true => "encrypted, with a token",
            false => "plain",
        };
        let count = records.len();
        println!("offload of 64 KB on loopback, {how}, {count} samples, ms");
        println!("{:<28}{:>8}{:>8}{:>8}", "", "p50", "p95", "min");
        let row = |name: &str, of: &dyn Fn(&Record) -> f32| {
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
        row("edge", &|r| r.tier_ms[0]);
        row("encode", &|r| r.hops[0].encode_ms);
        row("network (beyond the cloud's)", &|r| r.hops[0].network_ms);
        row("cloud, decoding included", &|r| r.tier_ms[1]);
        row("latency", &|r| r.latency_ms);
        // Encoding is beyond inference, too; decoding is not told apart from the cloud's work.
        row("overhead", &|r| r.hops[0].encode_ms + r.hops[0].network_ms);
    }
}

fn resident(agent: &Agent) -> usize {
    let file = format!("/proc/{}/status", agent.0.id());
    let status = std::fs::read_to_string(file).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    let kilobytes = line.split_whitespace().nth(1).unwrap();
    kilobytes.parse().unwrap()
}

async fn memory() {
    let pair = Pair::new(false).await;
    let mut job = pair.job.clone();
    job.samples = vec![0; 200_000];
    let job = JobRequest::Evaluate(Box::new(job));
    let id = pair.edge.submit(&job).await.unwrap();
    let agents = [&pair.edge_agent, &pair.cloud_agent];
    let mut early = None;
    let end = pair
        .edge
        .follow(&id, &mut |event| match event {
            JobEvent::Progress(p) if p.done >= 10_000 && early.is_none() => {
                early = Some((p.done, agents.map(resident)));
            }
            _ => {}
        })
        .await
        .unwrap();
    let JobResult::Evaluated(found) = end else {
        panic!("{end:?}");
    };
    assert_eq!(found.records, 200_000);
    let late = agents.map(resident);
    let (at, early) = early.unwrap();
    println!("resident memory, kB, after {at} and after 200000 offloads of 64 KB");
    for ((side, early), late) in ["edge", "cloud"].iter().zip(early).zip(late) {
        let more = 100.0 * (late as f64 / early as f64 - 1.0);
        println!("{side:<8}{early:>10}{late:>10}{more:>8.1} %");
    }
    let records = pair.edge.all_records(&id).await.unwrap();
    assert_eq!(records.len(), 200_000, "none is lost");
}
