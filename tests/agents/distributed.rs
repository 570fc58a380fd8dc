//! Two agents on this machine, as a run sees them: the answers of the whole network, the cloud left
//! alone where it isn't needed, and what goes wrong told and survived.

use crate::network::{Network, SHAPE};
use crate::serving::in_time;
use edgelesspart::backend::Compiled;
use edgelesspart::data::Preprocessing;
use edgelesspart::engine::{Cancel, Engine, Options};
use edgelesspart::plan::{Link, Wire};
use edgelesspart::predict::policy::{Output, decide};
use edgelesspart::predict::{Confidence, Record};
use edgelesspart::protocol::message::{
    CloudTarget, Evaluate, Evaluated, Hop, JobEvent, JobRequest, JobResult, Route,
};
use edgelesspart::protocol::{Client, ClientError};
use edgelesspart::run::local::{LocalAgent, LocalOptions};
use pretty_assertions::assert_eq;
use std::time::Duration;

async fn agent() -> LocalAgent {
    slow_agent(1.0).await
}

async fn slow_agent(slowdown: f64) -> LocalAgent {
    let options = LocalOptions {
        program: Some(env!("CARGO_BIN_EXE_edgelesspart").into()),
        threads: Some(1),
        slowdown,
        idle_exit: Duration::from_secs(60),
        ..LocalOptions::default()
    };
    LocalAgent::start(&options).await.unwrap()
}

/// Edge and cloud with what a run needs.
struct Setup {
    edge: Client,
    cloud: Client,
    target: CloudTarget,
    data: String,
    part: String,
    cloud_part: String,
    whole: String,
}

impl Setup {
    async fn new(edge: &LocalAgent, cloud: &LocalAgent, network: &Network) -> Setup {
        let target = cloud.cloud_target();
        let edge = edge.connect().await.unwrap();
        let cloud = cloud.connect().await.unwrap();
        let data = edge.put(network.data.encode().unwrap()).await.unwrap();
        let part = edge.put(network.bundle(0)).await.unwrap();
        let cloud_part = cloud.put(network.bundle(1)).await.unwrap();
        let whole = cloud.put(network.whole_bundle()).await.unwrap();
        Setup {
            edge,
            cloud,
            target,
            data,
            part,
            cloud_part,
            whole,
        }
    }

    fn distributed(&self) -> Route {
        Route::over(
            Some(self.part.clone()),
            Hop {
                part: Some(self.cloud_part.clone()),
                targets: vec![self.target.clone()],
                link: Link::Measured,
            },
        )
    }

    fn job(&self, mode: Route, thresholds: &[f64], samples: u32) -> Evaluate {
        Evaluate {
            route: mode,
            data: self.data.clone(),
            preprocessing: preprocessing(),
            samples: (0..samples).collect(),
            warm_up: 2,
            confidence: Confidence::MaxProbability,
            thresholds: thresholds.to_vec(),
            last_exit_answers: false,
            wire: Wire::default(),
            jpeg: None,
            deadline_ms: None,
            degrade: false,
        }
    }

    async fn run(&self, job: Evaluate) -> (Result<Evaluated, ClientError>, Vec<Record>) {
        let id = self.edge.submit(&JobRequest::Evaluate(Box::new(job))).await;
        let id = id.unwrap();
        let end = self.edge.follow(&id, &mut |_| {}).await;
        let records = self.edge.all_records(&id).await.unwrap();
        let end = end.map(|result| match result {
            JobResult::Evaluated(evaluated) => evaluated,
            other => panic!("{other:?}"),
        });
        (end, records)
    }
}

fn preprocessing() -> Preprocessing {
    Preprocessing {
        mean: vec![0.4, 0.5, 0.6],
        std: vec![0.2, 0.25, 0.3],
        ..Preprocessing::default()
    }
}

fn input(network: &Network, sample: u32) -> Vec<f32> {
    let size: usize = SHAPE.iter().product();
    let pixels = &network.data.pixels[sample as usize * size..][..size];
    let mut input = vec![0.0; size];
    preprocessing().apply(SHAPE, pixels, &mut input).unwrap();
    input
}

#[tokio::test(flavor = "multi_thread")]
async fn a_distributed_run_answers_as_the_whole_network_does() {
    let network = Network::new(40);
    let (edge, cloud) = (agent().await, agent().await);
    let setup = Setup::new(&edge, &cloud, &network).await;
    let whole = Engine::new(network.graph.clone(), &Options { threads: 1 }).unwrap();
    let expected: Vec<_> = (0..40)
        .map(|s| {
            let scores = whole.run_f32(1, &[&input(&network, s)], &Cancel::new());
            decide(&scores.unwrap()[0], Output::Logits, 1.0).unwrap()
        })
        .collect();
    let final_exit = network.exits(0) + network.exits(1);
    let (end, records) = setup
        .run(setup.job(setup.distributed(), &vec![1.0; final_exit], 40))
        .await;
    let end = end.unwrap();
    assert_eq!((end.records, end.emulated), (40, false));
    assert!(end.resident_bytes.iter().all(|b| *b > 1 << 20));
    assert_eq!(records.len(), 40);
    let size: usize = network.split_shape().iter().product();
    for (sample, (record, expected)) in records.iter().zip(&expected).enumerate() {
        assert_eq!(record.sample as usize, sample);
        assert_eq!(record.exit as usize, final_exit);
        assert_eq!(record.prediction, expected.prediction);
        assert_eq!(record.confidence, expected.max_probability);
        assert!(record.offloaded() && !record.degraded);
        // Head of the tensor: 8 bytes, an extent each, the length.
        let head = 8 + 4 * (network.split_shape().len() + 2);
        assert_eq!(record.bytes_sent() as usize, size * 4 + head);
        let sum = record.tier_ms[0]
            + record.hops[0].encode_ms
            + record.hops[0].network_ms
            + record.tier_ms[1];
        assert!(
            record.tier_ms[0] > 0.0 && record.tier_ms[1] > 0.0 && record.hops[0].network_ms > 0.0
        );
        assert!(sum <= record.latency_ms + 1e-3, "{record:?}");
    }
    // Pixels to the cloud, the unmodified network there: the same answers.
    let mode = Route::over(
        None,
        Hop {
            part: Some(setup.whole.clone()),
            targets: vec![setup.target.clone()],
            link: Link::Measured,
        },
    );
    let (end, records) = setup.run(setup.job(mode, &[], 40)).await;
    end.unwrap();
    for (record, expected) in records.iter().zip(&expected) {
        assert_eq!(record.prediction, expected.prediction);
        assert_eq!(record.confidence, expected.max_probability);
        assert_eq!(
            record.bytes_sent() as usize,
            SHAPE.iter().product::<usize>()
        );
        assert_eq!((record.exit, record.tier_ms[0]), (0, 0.0));
    }
    // The unmodified network at the edge.
    let part = setup.edge.put(network.whole_bundle()).await.unwrap();
    let (end, records) = setup.run(setup.job(Route::alone(part), &[], 40)).await;
    assert_eq!(end.unwrap().resident_bytes.len(), 1);
    for (record, expected) in records.iter().zip(&expected) {
        assert_eq!(record.confidence, expected.max_probability);
        assert_eq!((record.offloaded(), record.bytes_sent()), (false, 0));
    }
    edge.stop().await;
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_leave_where_the_heads_say() {
    let network = Network::new(60);
    let (edge, cloud) = (agent().await, agent().await);
    let setup = Setup::new(&edge, &cloud, &network).await;
    let confidences: Vec<Vec<(u16, f32)>> = (0..60)
        .map(|s| network.classifiers(&input(&network, s)))
        .collect();
    // Half of what comes to an exit leaves there.
    let mut staying: Vec<usize> = (0..60).collect();
    let exits = network.exits(0) + network.exits(1);
    let mut thresholds = Vec::new();
    while thresholds.len() < exits {
        let exit = thresholds.len();
        let mut here: Vec<f32> = staying.iter().map(|&s| confidences[s][exit].1).collect();
        here.sort_by(f32::total_cmp);
        let middle = here.len() / 2;
        let threshold = f64::from(here[middle - 1] + here[middle]) / 2.0;
        staying.retain(|&s| f64::from(confidences[s][exit].1) <= threshold);
        thresholds.push(threshold);
    }
    let (end, records) = setup
        .run(setup.job(setup.distributed(), &thresholds, 60))
        .await;
    end.unwrap();
    let mut seen = vec![0; exits + 1];
    for (record, said) in records.iter().zip(&confidences) {
        let leaves = |e: &usize| f64::from(said[*e].1) > thresholds[*e];
        let exit = (0..exits).find(leaves).unwrap_or(exits);
        assert_eq!(record.exit as usize, exit);
        assert_eq!((record.prediction, record.confidence), said[exit]);
        assert_eq!(record.offloaded(), exit >= network.exits(0));
        seen[exit] += 1;
    }
    assert!(seen.iter().all(|&n| n > 0), "{seen:?}");
    // The edge's last exit answers for all that came to it.
    let mode = Route::alone(setup.part.clone());
    let edge_thresholds = &thresholds[..network.exits(0)];
    let mut job = setup.job(mode, edge_thresholds, 60);
    job.last_exit_answers = true;
    let (end, alone) = setup.run(job).await;
    end.unwrap();
    for (alone, record) in alone.iter().zip(&records) {
        let last = network.exits(0) as u16 - 1;
        assert_eq!(alone.exit, record.exit.min(last));
        assert!(!alone.offloaded());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_threshold_zero_the_cloud_is_left_alone() {
    let network = Network::new(10);
    let (edge, cloud) = (agent().await, agent().await);
    let setup = Setup::new(&edge, &cloud, &network).await;
    let thresholds = vec![0.0; network.exits(0) + network.exits(1)];
    let (end, records) = setup
        .run(setup.job(setup.distributed(), &thresholds, 10))
        .await;
    end.unwrap();
    assert!(records.iter().all(|r| r.exit == 0 && !r.offloaded()));
    assert_eq!(setup.cloud.info().await.unwrap().requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_stops_and_one_behind_it_gets_its_turn() {
    let network = Network::new(10);
    // So slow that one sample alone takes longer than anybody waits here.
    let (edge, cloud) = (slow_agent(1e6).await, agent().await);
    let setup = Setup::new(&edge, &cloud, &network).await;
    let mode = Route::alone(setup.edge.put(network.whole_bundle()).await.unwrap());
    let mut job = setup.job(mode, &[], 10);
    job.samples = (0..10).cycle().take(10_000).collect();
    let job = JobRequest::Evaluate(Box::new(job));
    let first = setup.edge.submit(&job).await.unwrap();
    let second = setup.edge.submit(&job).await.unwrap();
    let client = setup.edge.clone();
    let id = second.clone();
    let follower = tokio::spawn(async move {
        let mut events = Vec::new();
        let end = client.follow(&id, &mut |e| events.push(e.clone())).await;
        (end, events)
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    setup.edge.cancel(&first).await.unwrap();
    let end = in_time(setup.edge.follow(&first, &mut |_| {})).await;
    assert_eq!(end, Err(ClientError::Cancelled));
    setup.edge.cancel(&second).await.unwrap();
    let (end, events) = in_time(follower).await.unwrap();
    assert_eq!(end, Err(ClientError::Cancelled));
    assert_eq!(events[0], JobEvent::Queued { ahead: 1 });
    let unknown = setup.edge.cancel("nothing").await;
    assert!(matches!(
        unknown,
        Err(ClientError::Refused { status: 404, .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_that_dies_is_replaced_or_told() {
    let network = Network::new(20);
    for degrade in [true, false] {
        let (edge, cloud) = (slow_agent(20.0).await, agent().await);
        let setup = Setup::new(&edge, &cloud, &network).await;
        let thresholds = vec![1.0; network.exits(0) + network.exits(1)];
        let mut job = setup.job(setup.distributed(), &thresholds, 20);
        job.samples = (0..20).cycle().take(400).collect();
        job.degrade = degrade;
        let job = JobRequest::Evaluate(Box::new(job));
        let id = setup.edge.submit(&job).await.unwrap();
        let mut cloud = Some(cloud);
        let end = setup
            .edge
            .follow(&id, &mut |event| {
                if matches!(event, JobEvent::Progress(p) if p.done > 0) {
                    drop(cloud.take());
                }
            })
            .await;
        let records = setup.edge.all_records(&id).await.unwrap();
        let done = records.iter().filter(|r| !r.degraded).count();
        assert!(done > 0 && done < 400, "{done} of 400 before it died");
        if degrade {
            assert!(matches!(end, Ok(JobResult::Evaluated(e)) if e.records == 400));
            assert_eq!(records.len(), 400);
            let last = network.exits(0) as u16 - 1;
            for record in &records[done..] {
                assert_eq!((record.degraded, record.exit), (true, last));
            }
        } else {
            assert_eq!(records.len(), done);
            let Err(ClientError::Job { error, .. }) = end else {
                panic!("{end:?}");
            };
            assert!(error.contains("the cloud at http://127.0.0.1"), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_dies_leaves_its_last_words() {
    let options = LocalOptions {
        program: Some(env!("CARGO_BIN_EXE_edgelesspart").into()),
        slowdown: 0.5,
        ..LocalOptions::default()
    };
    let error = LocalAgent::start(&options).await.unwrap_err().to_string();
    assert!(error.contains("can only be made slower"), "{error}");
    let mut agent = agent().await;
    assert_eq!(agent.died(), None);
    let pid = nix::unistd::Pid::from_raw(agent.pid() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    let died = in_time(async {
        loop {
            if let Some(died) = agent.died() {
                break died;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let died = died.await;
    assert!(died.contains("signal: 9"), "{died}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_loses_nothing() {
    let network = Network::new(20);
    let edge = slow_agent(20.0).await;
    let setup = Setup::new(&edge, &edge, &network).await;
    // In between stands somebody who cuts the first connections.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let to = edge.url().trim_start_matches("http://").to_string();
    tokio::spawn(async move {
        for count in 0.. {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = tokio::net::TcpStream::connect(&to).await.unwrap();
            tokio::spawn(async move {
                let passed = tokio::io::copy_bidirectional(&mut near, &mut far);
                let patience = Duration::from_millis(if count < 4 { 300 } else { 100_000 });
                let _ = tokio::time::timeout(patience, passed).await;
            });
        }
    });
    let mode = Route::alone(setup.edge.put(network.whole_bundle()).await.unwrap());
    let mut job = setup.job(mode, &[], 20);
    job.samples = (0..20).cycle().take(600).collect();
    let job = JobRequest::Evaluate(Box::new(job));
    let id = setup.edge.submit(&job).await.unwrap();
    let client = Client::connect(&url, Some(edge.token())).await.unwrap();
    let mut done = Vec::new();
    let end = client
        .follow(&id, &mut |event| {
            if let JobEvent::Progress(p) = event {
                done.push(p.done);
            }
        })
        .await;
    assert!(matches!(end, Ok(JobResult::Evaluated(e)) if e.records == 600));
    // Nothing is told twice, and the last word is heard.
    assert!(done.is_sorted_by(|a, b| a < b), "{done:?}");
    assert_eq!(done.last(), Some(&600));
    assert_eq!(setup.edge.all_records(&id).await.unwrap().len(), 600);
}
