//! What goes wrong in a network and on its machines, and that no sample is lost or counted twice.

use crate::network::Network;
use crate::serving::{Agent, http};
use edgelesspart::engine::Cancel;
use edgelesspart::event::{Event, Stage};
use edgelesspart::plan::{Link, Wire};
use edgelesspart::predict::{Confidence, Record};
use edgelesspart::protocol::message::{
    CloudTarget, Evaluate, Evaluated, Hop, INFER_HEADER, InferReply, InferRequest, JobEvent,
    JobRequest, JobResult, Route,
};
use edgelesspart::protocol::{Client, ClientError, TlsTrust, wire};
use edgelesspart::run::Options;
use edgelesspart::session::Session;
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

async fn client(agent: &Agent) -> Client {
    Client::connect(agent.url(), None).await.unwrap()
}

/// A run of the network's two parts in which every sample is offloaded.
async fn offloading(
    network: &Network,
    edge: &Client,
    clouds: &[&Agent],
    samples: usize,
) -> Evaluate {
    let mut cloud_part = String::new();
    for cloud in clouds {
        let bundle = network.bundle(1);
        cloud_part = client(cloud).await.put(bundle).await.unwrap();
    }
    let there = network.data.samples as u32;
    Evaluate {
        route: Route::over(
            Some(edge.put(network.bundle(0)).await.unwrap()),
            Hop {
                part: Some(cloud_part),
                targets: clouds.iter().map(|c| c.target()).collect(),
                link: Link::Measured,
            },
        ),
        data: edge.put(network.data.encode().unwrap()).await.unwrap(),
        preprocessing: Default::default(),
        samples: (0..there).cycle().take(samples).collect(),
        warm_up: 0,
        confidence: Confidence::MaxProbability,
        thresholds: vec![1.0; network.exits(0) + network.exits(1)],
        last_exit_answers: false,
        jpeg: None,
        wire: Wire::default(),
        deadline_ms: None,
        degrade: false,
    }
}

/// Runs to the end; `on` sees the number of samples done.
async fn run(
    edge: &Client,
    run: Evaluate,
    mut on: impl FnMut(u64) + Send,
) -> (Result<Evaluated, ClientError>, Vec<Record>, Vec<String>) {
    let id = edge.submit(&JobRequest::Evaluate(Box::new(run))).await;
    let id = id.unwrap();
    let mut said = Vec::new();
    let end = edge
        .follow(&id, &mut |event| match event {
            JobEvent::Progress(p) => on(p.done),
            JobEvent::Log { text } => said.push(text.clone()),
            _ => {}
        })
        .await;
    let end = end.map(|end| match end {
        JobResult::Evaluated(evaluated) => evaluated,
        other => panic!("{other:?}"),
    });
    (end, edge.all_records(&id).await.unwrap(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clouds_share_and_one_takes_over() {
    let network = Network::new(20);
    let edge = Agent::start(&["--slowdown", "10"]);
    let (mut first, second) = (Agent::start(&[]), Agent::start(&[]));
    let edge = client(&edge).await;
    // Both are there: each has its half.
    let job = offloading(&network, &edge, &[&first, &second], 40).await;
    let (end, records, _) = run(&edge, job, |_| {}).await;
    let shares: Vec<u64> = end.unwrap().clouds.iter().map(|c| c.answered).collect();
    assert_eq!((shares, records.len()), (vec![20, 20], 40));
    // One dies on the way.
    let job = offloading(&network, &edge, &[&first, &second], 400).await;
    let gone = first.url().to_string();
    let (end, records, said) = run(&edge, job, |done| {
        if done > 0 {
            let _ = first.0.kill();
        }
    })
    .await;
    let end = end.unwrap();
    assert_eq!((end.records, records.len()), (400, 400));
    assert!(records.iter().all(|r| r.offloaded() && !r.degraded));
    let shares: Vec<u64> = end.clouds.iter().map(|c| c.answered).collect();
    assert_eq!(shares.iter().sum::<u64>(), 400);
    assert!(shares[0] > 0 && shares[0] < 200, "{shares:?}");
    assert!(end.clouds[0].failed > 0 && end.clouds[1].failed == 0);
    assert!(said.iter().any(|s| s.contains(&gone)), "{said:?}");
    // It is named, too, where it is gone from the start.
    first.0.wait().unwrap();
    let mut job = offloading(&network, &edge, &[&second], 10).await;
    job.route.onward[0]
        .targets
        .insert(0, CloudTarget::new(&gone));
    let (end, records, said) = run(&edge, job, |_| {}).await;
    assert_eq!(records.len(), 10);
    assert_eq!(end.unwrap().clouds[1].answered, 10);
    assert!(said.iter().any(|s| s.contains(&gone)), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_that_comes_back_is_asked_again() {
    let network = Network::new(20);
    let folder = tempfile::tempdir().unwrap();
    let data = ["--data", folder.path().to_str().unwrap()];
    let edge_agent = Agent::start(&["--slowdown", "60"]);
    let mut cloud = Some(Agent::start(&data));
    let address = cloud.as_ref().unwrap().address().to_string();
    let edge = client(&edge_agent).await;
    let mut job = offloading(&network, &edge, &[cloud.as_ref().unwrap()], 600).await;
    job.degrade = true;
    let mut died = None;
    let (end, records, said) = run(&edge, job, |done| match died {
        None if done > 0 => {
            drop(cloud.take());
            died = Some(done);
        }
        Some(at) if done > at && cloud.is_none() => cloud = Some(Agent::at(&address, &data)),
        _ => {}
    })
    .await;
    assert_eq!((end.unwrap().records, records.len()), (600, 600));
    let degraded = records.iter().filter(|r| r.degraded).count();
    assert!(degraded > 0 && degraded < 600, "{degraded}");
    assert!(!records[0].degraded && !records[599].degraded, "{degraded}");
    assert!(said.iter().any(|s| s.contains("answers again")), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_late_is_told_or_replaced() {
    let network = Network::new(10);
    // Every inference there takes far longer than it may.
    let (edge, cloud) = (Agent::start(&[]), Agent::start(&["--slowdown", "3000"]));
    let edge = client(&edge).await;
    for degrade in [false, true] {
        let mut job = offloading(&network, &edge, &[&cloud], 3).await;
        job.deadline_ms = Some(30.0);
        job.degrade = degrade;
        let (end, records, _) = run(&edge, job, |_| {}).await;
        if degrade {
            assert_eq!(end.unwrap().records, 3);
            assert!(records.iter().all(|r| r.degraded && r.offloaded()));
        } else {
            let error = end.unwrap_err().to_string();
            assert!(error.contains("within 30 ms"), "{error}");
            assert!(records.is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_end_it_finishes_what_runs_and_takes_no_more() {
    let network = Network::new(10);
    let mut agent = Agent::start(&["--slowdown", "50"]);
    let edge = client(&agent).await;
    let mut job = offloading(&network, &edge, &[&agent], 200).await;
    job.route = Route::alone(edge.put(network.whole_bundle()).await.unwrap());
    job.thresholds = vec![];
    let job = JobRequest::Evaluate(Box::new(job));
    let id = edge.submit(&job).await.unwrap();
    let behind = edge.submit(&job).await.unwrap();
    // One who never ends what it began has no say in when the agent does.
    let mut stalled = std::net::TcpStream::connect(agent.address()).unwrap();
    stalled
        .write_all(b"POST /v1/echo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nabc")
        .unwrap();
    let mut told = false;
    let end = edge
        .follow(&id, &mut |event| {
            if matches!(event, JobEvent::Progress(p) if p.done > 0) && !told {
                told = true;
                agent.signal(Signal::SIGTERM);
            }
        })
        .await;
    // All of it, and its end was told, though no connection is taken any more.
    assert!(
        matches!(&end, Ok(JobResult::Evaluated(e)) if e.records == 200),
        "{end:?}"
    );
    let status = tokio::task::spawn_blocking(move || agent.0.wait().unwrap());
    assert!(status.await.unwrap().success());
    let edge = edge.patience(Duration::from_secs(1));
    assert!(edge.follow(&behind, &mut |_| {}).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn told_twice_it_ends_at_once() {
    let network = Network::new(10);
    let mut agent = Agent::start(&["--slowdown", "5000"]);
    let edge = client(&agent).await;
    let mut job = offloading(&network, &edge, &[&agent], 2000).await;
    job.route = Route::alone(edge.put(network.whole_bundle()).await.unwrap());
    job.thresholds = vec![];
    edge.submit(&JobRequest::Evaluate(Box::new(job)))
        .await
        .unwrap();
    // One that only waits for its turn ends with the first signal.
    let http = http(&TlsTrust::System);
    let running = "edgelesspart_jobs{state=\"running\"} 1\n";
    loop {
        let metrics = http.get(agent.path("/metrics")).send().await.unwrap();
        if metrics.text().await.unwrap().contains(running) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    agent.signal(Signal::SIGTERM);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(agent.0.try_wait().unwrap().is_none(), "the job still runs");
    agent.signal(Signal::SIGTERM);
    let data = agent.1.data.clone();
    let status = tokio::task::spawn_blocking(move || agent.0.wait().unwrap());
    let status = tokio::time::timeout(Duration::from_secs(20), status).await;
    assert!(status.is_ok() && !data.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_of_the_parent_does_not_reach_it() {
    let agent = Agent::start(&["--own-session"]);
    // It leads a session of its own, so that no terminal's hang-up is sent to it.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", agent.0.id())).unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    // state, parent, process group, session.
    assert_eq!(fields[3], agent.0.id().to_string());
    client(&agent).await.info().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_at_once_and_some_who_stall_are_all_served() {
    let network = Network::new(64);
    let agent = Agent::start(&[]);
    let known = client(&agent).await;
    let part = known.put(network.bundle(1)).await.unwrap();
    // These begin to say something, and never end.
    let mut stalled = Vec::new();
    for _ in 0..16 {
        let mut stream = std::net::TcpStream::connect(agent.address()).unwrap();
        stream
            .write_all(
                b"POST /v1/echo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nabc",
            )
            .unwrap();
        stalled.push(stream);
    }
    // These say nothing that anybody understands.
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01"[..],
        b"\0\0\0\0",
        b"GET\r\n\r\n",
        b"\xff\xfe",
    ] {
        let mut stream = std::net::TcpStream::connect(agent.address()).unwrap();
        stream.write_all(garbage).unwrap();
        stalled.push(stream);
    }
    let http = http(&TlsTrust::System);
    let url = agent.path(&format!("/v1/parts/{part}/infer"));
    let header = serde_json::to_string(&InferRequest {
        confidence: Confidence::MaxProbability,
        thresholds: vec![1.0; network.exits(1)],
        onward: None,
        pixels: None,
        jpeg: false,
    })
    .unwrap();
    let shape = [&[1], network.split_shape().as_slice()].concat();
    let size: usize = shape.iter().product();
    let ask = async |number: usize| -> f32 {
        let data = vec![number as f32 / 64.0; size];
        let body = wire::encode(Wire::default(), &shape, &data).unwrap();
        let request = http.post(&url).header(INFER_HEADER, &header).body(body);
        let reply: InferReply = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(reply.answers.len(), 1);
        reply.answers[0].confidence
    };
    let mut alone = Vec::new();
    for number in 0..64 {
        alone.push(ask(number).await);
    }
    let together = futures_util::future::join_all((0..64).map(&ask)).await;
    assert_eq!(together, alone, "each has its own answer");
    assert_eq!(known.info().await.unwrap().requests, 128);
    let mut answer = [0; 1];
    stalled[0].set_nonblocking(true).unwrap();
    assert!(stalled[0].read(&mut answer).is_err(), "nobody answered it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_who_reads_nothing_holds_no_job_up() {
    let network = Network::new(10);
    let agent = Agent::start(&["--slowdown", "5"]);
    let edge = client(&agent).await;
    let mut job = offloading(&network, &edge, &[&agent], 300).await;
    job.route = Route::alone(edge.put(network.whole_bundle()).await.unwrap());
    job.thresholds = vec![];
    let id = edge.submit(&JobRequest::Evaluate(Box::new(job))).await;
    let id = id.unwrap();
    let mut stalled = std::net::TcpStream::connect(agent.address()).unwrap();
    let request = format!("GET /v1/jobs/{id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    stalled.write_all(request.as_bytes()).unwrap();
    // Two who watch see the same end.
    let other = edge.clone();
    let same = id.clone();
    let second = tokio::spawn(async move { other.follow(&same, &mut |_| {}).await });
    let end = edge.follow(&id, &mut |_| {}).await;
    assert!(matches!(&end, Ok(JobResult::Evaluated(e)) if e.records == 300));
    assert_eq!(second.await.unwrap(), end);
    assert_eq!(edge.all_records(&id).await.unwrap().len(), 300);
    drop(stalled);
}

/// A session of a few images on agents that are there already.
fn session(folder: &Path, edges: &[&Agent], clouds: &[&Agent]) -> Session {
    let export = std::process::Command::new(env!("CARGO_BIN_EXE_edgelesspart"))
        .current_dir(folder)
        .args(["export", "resnet8", "net.onnx", "--width", "0.5"])
        .status();
    assert!(export.unwrap().success());
    let list = |agents: &[&Agent]| -> String {
        let one = |a: &&Agent| format!("Agent(url: \"{}\"),", a.url());
        agents.iter().map(one).collect()
    };
    let text = format!(
        "Session(
            version: 1,
            model: Onnx(\"net.onnx\"),
            data: Synthetic(seed: 3),
            calibration: FromTrain(60),
            train_samples: 100,
            test_samples: 400,
            exits: (per_part: 1, placement: Linear, training: Frozen(epochs: 1)),
            policy: (confidence: MaxProbability, threshold: 0.9),
            edge: [{}],
            cloud: [{}],
        )",
        list(edges),
        list(clouds)
    );
    Session::parse(&text, Path::new("small.ron"))
        .unwrap()
        .resolved(folder)
}

#[test]
fn an_edge_that_dies_leaves_its_samples_to_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let slow = ["--slowdown", "40"];
    let (first, mut second, cloud) = (Agent::start(&slow), Agent::start(&slow), Agent::start(&[]));
    let session = session(folder.path(), &[&first, &second], &[&cloud]);
    let options = Options {
        out: folder.path().join("out"),
        name: "small".to_string(),
        fresh: false,
        until: Stage::Report,
        program: Some(env!("CARGO_BIN_EXE_edgelesspart").into()),
    };
    let (mut records, mut said) = (Vec::new(), Vec::new());
    let mut killed_at = None;
    let mut on = |event: Event| match event {
        // Some of its records have been fetched by then, and some haven't.
        Event::Evaluating { index: 1, progress } if killed_at.is_none() && progress.done > 60 => {
            second.kill();
            killed_at = Some(progress.done);
        }
        Event::Records(all) => records = all,
        Event::Say(told) => said.push(told.to_string()),
        _ => {}
    };
    let done = edgelesspart::run::run(&session, &options, &mut on, &Cancel::new()).unwrap();
    assert!(killed_at.is_some_and(|n| n < 200), "{killed_at:?}");
    let samples: Vec<u32> = records.iter().map(|r| r.sample).collect();
    let all: Vec<u32> = (0..400).collect();
    assert_eq!(samples, all, "each once");
    let lost = said.iter().find(|s| s.contains("the others take over"));
    let lost = lost.expect("it is said");
    assert!(lost.contains(second.url()), "{lost}");
    let report = done.report.unwrap();
    let report = serde_json::to_value(&report).unwrap();
    assert_eq!(report["measured"]["samples"], 400);
    assert_eq!(report["equality"]["differing"], 0);
}
