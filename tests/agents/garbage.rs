//! Connections that say nothing anybody understands, as fast as they can be made, beside a run. Two
//! seconds of them; `EDGELESSPART_GARBAGE_SECONDS` asks for more.

use crate::network::Network;
use crate::serving::Agent;
use edgelesspart::plan::{Link, Wire};
use edgelesspart::predict::Confidence;
use edgelesspart::protocol::Client;
use edgelesspart::protocol::message::{Evaluate, Hop, JobRequest, JobResult, Route};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Connections of one thrower that are left open, having said what they had to.
const OPEN: usize = 40;

fn seconds() -> u64 {
    let asked = std::env::var("EDGELESSPART_GARBAGE_SECONDS").ok();
    asked.and_then(|s| s.parse().ok()).unwrap_or(2)
}

/// Throws garbage until the time is over; gives how many connections that were.
fn throw(address: &str, seed: u64, until: Instant) -> usize {
    let mut state = seed | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let (mut open, mut count) = (VecDeque::new(), 0);
    while Instant::now() < until {
        let Ok(mut stream) = TcpStream::connect(address) else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        count += 1;
        let noise: Vec<u8> = (0..random() % 2000).map(|_| random() as u8).collect();
        let text = match random() % 8 {
            0 => noise,
            1 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            2 => b"GET /v1/info HTTP/1.1\r\nHost: a\r\nX-Long: ".to_vec(),
            3 => [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 100_000]].concat(),
            4 => b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n{".to_vec(),
            5 => b"PUT /v1/blobs/xyz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n"
                .to_vec(),
            6 => b"POST /v1/echo HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n".to_vec(),
            _ => b"GET /v2/models/%ff%00/../.. HTTP/1.1\r\nHost: a\r\n\r\n".repeat(20),
        };
        // It may be thrown out before it has said all.
        let _ = stream.write_all(&text);
        match random() % 3 {
            0 => drop(stream),
            1 => {
                let _ = stream.set_read_timeout(Some(Duration::from_millis(5)));
                let _ = stream.read(&mut [0; 512]);
            }
            _ => open.push_back(stream),
        }
        if open.len() > OPEN {
            open.pop_front();
        }
    }
    count
}

fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<usize>()
        .unwrap()
        << 10
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_disturbs_no_run() {
    let network = Network::new(20);
    let (edge_agent, cloud_agent) = (Agent::start(&[]), Agent::start(&[]));
    let edge = Client::connect(edge_agent.url(), None).await.unwrap();
    let cloud = Client::connect(cloud_agent.url(), None).await.unwrap();
    let job = Evaluate {
        route: Route::over(
            Some(edge.put(network.bundle(0)).await.unwrap()),
            Hop {
                part: Some(cloud.put(network.bundle(1)).await.unwrap()),
                targets: vec![cloud_agent.target()],
                link: Link::Measured,
            },
        ),
        data: edge.put(network.data.encode().unwrap()).await.unwrap(),
        preprocessing: Default::default(),
        samples: (0..20).cycle().take(500).collect(),
        warm_up: 0,
        confidence: Confidence::MaxProbability,
        thresholds: vec![1.0; network.exits(0) + network.exits(1)],
        last_exit_answers: false,
        wire: Wire::default(),
        jpeg: None,
        deadline_ms: None,
        degrade: false,
    };
    let job = JobRequest::Evaluate(Box::new(job));
    let run = async || {
        let id = edge.submit(&job).await.unwrap();
        let end = edge.follow(&id, &mut |_| {}).await.unwrap();
        assert!(matches!(end, JobResult::Evaluated(e) if e.records == 500));
        edge.all_records(&id).await.unwrap()
    };
    let before = run().await;
    let held: Vec<usize> = [&edge_agent, &cloud_agent]
        .iter()
        .map(|a| resident(a.0.id()))
        .collect();
    let until = Instant::now() + Duration::from_secs(seconds());
    let throwers: Vec<_> = [&edge_agent, &cloud_agent]
        .iter()
        .enumerate()
        .map(|(at, agent)| {
            let address = agent.address().to_string();
            std::thread::spawn(move || throw(&address, 0x9e37_79b9 + at as u64, until))
        })
        .collect();
    let mut runs = 0;
    while runs == 0 || Instant::now() < until {
        let records = run().await;
        assert_eq!(records.len(), 500, "none is lost, none told twice");
        for (a, b) in records.iter().zip(&before) {
            assert_eq!(
                (a.sample, a.exit, a.prediction),
                (b.sample, b.exit, b.prediction)
            );
            assert!(a.offloaded() && !a.degraded);
        }
        runs += 1;
    }
    let thrown: usize = throwers.into_iter().map(|t| t.join().unwrap()).sum();
    assert!(thrown > 100, "{thrown} connections");
    for (agent, before) in [&edge_agent, &cloud_agent].iter().zip(held) {
        let now = resident(agent.0.id());
        println!("{thrown} connections, {runs} runs; {before} bytes before, {now} after");
        assert!(
            now < before + (64 << 20),
            "{before} bytes before, {now} after"
        );
    }
    run().await;
}
