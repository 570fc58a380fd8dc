//! An emulated link takes the time it should: never less, and no burst in between. Lateness is the
//! machine's; the best of a few tries must be close.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure should stop a test

use edgelesspart::agent::paced::Paced;
use edgelesspart::engine::Cancel;
use edgelesspart::plan::Link;
use edgelesspart::protocol::message::{JobRequest, JobResult};
use edgelesspart::run::local::{LocalAgent, LocalOptions};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PACKET: f64 = 1448.0;

/// Reads `bytes`, answers with `answer` bytes; gives when how many bytes had come.
fn server(
    bytes: usize,
    answer: usize,
) -> (std::net::SocketAddr, JoinHandle<Vec<(Instant, usize)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let reader = spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = vec![0; 1 << 16];
        let (mut came, mut total) = (Vec::new(), 0);
        while total < bytes {
            total += stream.read(&mut buffer).unwrap();
            came.push((Instant::now(), total));
        }
        stream.write_all(&vec![1; answer]).unwrap();
        came
    });
    (address, reader)
}

/// A round trip over an emulated link: its seconds, when it began, and what came when.
fn round_trip(
    bytes: usize,
    answer: usize,
    mbit: f64,
    rtt_ms: f64,
) -> (f64, Instant, Vec<(Instant, usize)>) {
    let (address, reader) = server(bytes, answer);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (seconds, start) = runtime.block_on(async {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut paced = Paced::new(stream, mbit, rtt_ms, Cancel::new());
        let start = Instant::now();
        paced.write_all(&vec![7; bytes]).await.unwrap();
        paced.flush().await.unwrap();
        let mut back = vec![0; answer];
        paced.read_exact(&mut back).await.unwrap();
        assert!(back.iter().all(|&b| b == 1));
        (start.elapsed().as_secs_f64(), start)
    });
    (seconds, start, reader.join().unwrap())
}

fn takes(bytes: usize, answer: usize, mbit: f64, rtt_ms: f64, expected: f64) {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let (seconds, start, came) = round_trip(bytes, answer, mbit, rtt_ms);
        assert!(
            seconds >= expected * 0.999,
            "{seconds} s, {expected} expected"
        );
        for (at, total) in came {
            let time = (at - start).as_secs_f64() - rtt_ms / 2e3;
            let most = (time * mbit * 1e6 / 8.0).max(0.0) + PACKET;
            assert!(
                total as f64 <= most,
                "{total} bytes after {time} s: a burst"
            );
        }
        best = seconds.min(best);
        if best < expected * 1.05 {
            return;
        }
    }
    panic!("{best} s at best, {expected} expected");
}

#[test]
fn a_megabyte_takes_its_time() {
    takes(1 << 20, 1, 40.0, 0.0, 0.209_715);
}

#[test]
fn a_round_trip_is_delayed_both_ways() {
    // 64 KB up, half the round trip each way, 1 KB down.
    let expected = (65_536.0 + 1024.0) * 8.0 / 40e6 + 0.012;
    takes(1 << 16, 1 << 10, 40.0, 12.0, expected);
    takes(1, 1, 1000.0, 20.0, 0.02);
}

#[test]
fn a_stop_ends_the_waiting() {
    let (address, _reader) = server(1 << 20, 1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let cancel = Cancel::new();
    let raised = cancel.clone();
    spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        raised.cancel();
    });
    runtime.block_on(async {
        let stream = TcpStream::connect(address).await.unwrap();
        // It would take half an hour; not all of it fits what may wait.
        let mut paced = Paced::new(stream, 0.005, 0.0, cancel);
        paced.write_all(&vec![7; 1 << 20]).await.unwrap_err();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emulated_link_is_measured_and_called_so() {
    let options = LocalOptions {
        program: Some(env!("CARGO_BIN_EXE_edgelesspart").into()),
        threads: Some(1),
        ..LocalOptions::default()
    };
    let edge = LocalAgent::start(&options).await.unwrap();
    let cloud = LocalAgent::start(&options).await.unwrap();
    let client = edge.connect().await.unwrap();
    let measure = |link| JobRequest::MeasureLink {
        cloud: cloud.cloud_target(),
        link,
    };
    let emulated = Link::Emulated {
        mbit: 100.0,
        rtt_ms: 4.0,
    };
    for link in [emulated, Link::Measured] {
        let job = client.submit(&measure(link)).await.unwrap();
        let found = client.follow(&job, &mut |_| {}).await.unwrap();
        let JobResult::Link(profile) = found else {
            panic!("{found:?}");
        };
        assert_eq!(profile.emulated, link != Link::Measured);
        for times in [&profile.idle, &profile.warm] {
            let payloads: Vec<usize> = times.iter().map(|t| t.0 >> 10).collect();
            assert_eq!(payloads, [1, 4, 16, 64, 256, 1024]);
            for &(bytes, ms) in times {
                let least = match link {
                    Link::Measured => 0.0,
                    Link::Emulated { mbit, rtt_ms } => bytes as f64 * 8e-3 / mbit + rtt_ms,
                };
                assert!(ms > least, "{bytes} bytes in {ms} ms over {link:?}");
            }
        }
    }
}
