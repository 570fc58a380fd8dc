//! What an agent refuses, in words, and that it serves on afterwards.

use crate::network::Network;
use crate::serving::{Agent, http};
use edgelesspart::plan::{Link, Wire};
use edgelesspart::predict::Confidence;
use edgelesspart::protocol::message::{
    Evaluate, INFER_HEADER, InferReply, InferRequest, JobRequest, Mode, Refusal,
};
use edgelesspart::protocol::{Believed, Client, ClientError, wire};
use reqwest::{Method, Response, StatusCode};
use std::io::{Read, Write};

async fn refused(response: Response, status: StatusCode, words: &str) {
    assert_eq!(response.status(), status, "{words}");
    let refusal: Refusal = response.json().await.unwrap();
    assert!(refusal.error.contains(words), "{}", refusal.error);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_sent_it_answers_and_serves_on() {
    let network = Network::new(4);
    let agent = Agent::start(&["--max-body", "2000000"]);
    let client = Client::connect(agent.url(), None).await.unwrap();
    let http = http(&Believed::System);
    let send = async |method: Method, path: &str, header: Option<String>, body: Vec<u8>| {
        let mut request = http
            .request(method, agent.path(&format!("/v1/{path}")))
            .body(body);
        if let Some(header) = header {
            request = request.header(INFER_HEADER, header);
        }
        request.send().await.unwrap()
    };
    let (get, put, post) = (Method::GET, Method::PUT, Method::POST);
    let bad = StatusCode::BAD_REQUEST;
    let missing = StatusCode::NOT_FOUND;
    let other = "0".repeat(64);

    // Blobs.
    let path = format!("blobs/{other}");
    refused(
        send(put.clone(), &path, None, b"hello".to_vec()).await,
        bad,
        "damaged on the way",
    )
    .await;
    refused(
        send(put.clone(), "blobs/..%2f..%2fx", None, vec![1]).await,
        bad,
        "SHA-256",
    )
    .await;
    refused(
        send(put.clone(), &path, None, vec![0; 20_000_000]).await,
        StatusCode::PAYLOAD_TOO_LARGE,
        "2000000",
    )
    .await;
    let too_large = client.put(vec![0; 2_000_001]).await;
    assert!(matches!(too_large, Err(ClientError::TooLarge { .. })));
    assert!(!client.has(&other).await.unwrap());

    // Names that lead elsewhere.
    for path in [
        "blobs/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        &format!("blobs/{}%2f", "a".repeat(63)),
        &format!("blobs/{}", "A".repeat(64)),
        &format!("blobs/{}", "a".repeat(5000)),
    ] {
        refused(send(put.clone(), path, None, vec![1]).await, bad, "SHA-256").await;
    }
    for path in ["jobs/..%2f..%2fx/records/0", "jobs/x/results/0"] {
        refused(
            send(get.clone(), path, None, vec![]).await,
            missing,
            "no job",
        )
        .await;
    }
    // Chunked bodies announce nothing; a job as deep as it is long.
    let chunks = || {
        let chunk = |_| Ok::<_, std::io::Error>(vec![b'['; 100_000]);
        reqwest::Body::wrap_stream(futures_util::stream::iter((0..100).map(chunk)))
    };
    for (method, path) in [
        (post.clone(), "/v1/jobs".to_string()),
        (post.clone(), "/v1/echo".to_string()),
        (put.clone(), format!("/v1/blobs/{}", "a".repeat(64))),
    ] {
        let request = http.request(method, agent.path(&path)).body(chunks());
        let response = request.send().await.unwrap();
        refused(response, StatusCode::PAYLOAD_TOO_LARGE, "2000000").await;
    }
    let deep = [vec![b'['; 500_000], vec![b']'; 500_000]].concat();
    refused(send(post.clone(), "jobs", None, deep).await, bad, "no job").await;
    let deep = format!("{{\"Evaluate\": {{\"mode\": {}}}}}", "[".repeat(100_000));
    refused(
        send(post.clone(), "jobs", None, deep.into_bytes()).await,
        bad,
        "no job",
    )
    .await;

    // Routes and jobs.
    refused(
        send(get.clone(), "nothing", None, vec![]).await,
        missing,
        "/v1",
    )
    .await;
    refused(
        send(get.clone(), "echo", None, vec![]).await,
        StatusCode::METHOD_NOT_ALLOWED,
        "method",
    )
    .await;
    refused(
        send(post.clone(), "jobs", None, b"{\"garbage\":".to_vec()).await,
        bad,
        "no job",
    )
    .await;
    refused(
        send(get.clone(), "jobs/x/events", None, vec![]).await,
        missing,
        "no job x",
    )
    .await;
    refused(
        send(get, "jobs/x/records/y", None, vec![]).await,
        bad,
        "whole number",
    )
    .await;

    // Parts.
    let garbage = client.put(b"no part at all".to_vec()).await.unwrap();
    refused(
        send(post.clone(), &format!("parts/{garbage}"), None, vec![]).await,
        bad,
        "no bundle",
    )
    .await;
    refused(
        send(post.clone(), &format!("parts/{other}"), None, vec![]).await,
        missing,
        "send it first",
    )
    .await;

    // Inference.
    let part = client.put(network.bundle(1)).await.unwrap();
    let infer = format!("parts/{part}/infer");
    let header = |thresholds: usize| {
        let request = InferRequest {
            confidence: Confidence::MaxProbability,
            thresholds: vec![1.0; thresholds],
            pixels: None,
        };
        Some(serde_json::to_string(&request).unwrap())
    };
    let exits = network.exits(1);
    let sample = network.split_shape();
    let tensor = |n: usize, value: f32| {
        let shape: Vec<usize> = [&[n], sample.as_slice()].concat();
        let data = vec![value; shape.iter().product()];
        wire::encode(Wire::default(), &shape, &data).unwrap()
    };
    for (header, body, status, words) in [
        (None, tensor(1, 0.5), bad, INFER_HEADER),
        (Some("{".to_string()), tensor(1, 0.5), bad, INFER_HEADER),
        (
            header(exits),
            b"garbage".to_vec(),
            bad,
            "tensor on the wire",
        ),
        (header(exits), vec![], bad, "tensor on the wire"),
        (header(exits + 1), tensor(1, 0.5), bad, "thresholds"),
        (header(exits), tensor(0, 0.5), bad, "the part takes"),
        (
            header(exits),
            wire::encode(Wire::default(), &[1, 3, 5], &[0.0; 15]).unwrap(),
            bad,
            "the part takes",
        ),
        (
            header(exits),
            tensor(1, f32::NAN),
            StatusCode::UNPROCESSABLE_ENTITY,
            "NaN",
        ),
    ] {
        let response = send(post.clone(), &infer, header, body).await;
        refused(response, status, words).await;
    }
    // A shape that says more than there is, or could be.
    let mut huge = tensor(1, 0.5);
    huge[8..12].fill(0xff);
    refused(
        send(post.clone(), &infer, header(exits), huge).await,
        bad,
        "wire",
    )
    .await;
    // An edge part has nobody behind it here.
    let edge = client.put(network.bundle(0)).await.unwrap();
    let pixels = InferRequest {
        confidence: Confidence::Entropy,
        thresholds: vec![1.0; network.exits(0)],
        pixels: Some(Default::default()),
    };
    let pixels = Some(serde_json::to_string(&pixels).unwrap());
    let edge = format!("parts/{edge}/infer");
    refused(
        send(post.clone(), &edge, pixels.clone(), vec![9; 768]).await,
        bad,
        "doesn't end the network",
    )
    .await;
    refused(
        send(post.clone(), &edge, pixels, vec![9; 767]).await,
        bad,
        "images",
    )
    .await;

    // A job whose data isn't there.
    let job = Evaluate {
        mode: Mode::EdgeOnly { part: part.clone() },
        data: other,
        preprocessing: Default::default(),
        samples: vec![0],
        warm_up: 0,
        confidence: Confidence::MaxProbability,
        thresholds: vec![],
        last_exit_answers: false,
        wire: Wire::default(),
        link: Link::Measured,
        deadline_ms: None,
        degrade: false,
    };
    let job = client
        .submit(&JobRequest::Evaluate(Box::new(job)))
        .await
        .unwrap();
    let end = client.follow(&job, &mut |_| {}).await;
    assert!(matches!(end, Err(ClientError::Job(e)) if e.contains("send it first")));

    // After all that it does what it should.
    assert_eq!(client.info().await.unwrap().requests, 0);
    let response = send(post, &infer, header(exits), tensor(3, 0.5)).await;
    assert_eq!(response.status(), StatusCode::OK);
    let reply: InferReply = response.json().await.unwrap();
    assert_eq!(reply.answers.len(), 3);
    assert!(reply.answers.iter().all(|a| a.exit as usize == exits));
    assert_eq!(client.info().await.unwrap().requests, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "open sesame").unwrap();
    let agent = Agent::start(&["--token-file", file.path().to_str().unwrap()]);
    for token in [None, Some(""), Some("open sesam"), Some("open sesame!")] {
        let error = Client::connect(agent.url(), token).await.unwrap_err();
        assert!(
            matches!(error, ClientError::Refused { status: 401, .. }),
            "{error}"
        );
    }
    let client = Client::connect(agent.url(), Some("open sesame"))
        .await
        .unwrap();
    client.put(b"something".to_vec()).await.unwrap();
    assert!(!format!("{client:?}").contains("sesame"));
}

#[test]
fn it_does_not_start_where_it_should_not() {
    for (arguments, words) in [
        (["--listen", "0.0.0.0:0"], "--insecure"),
        (["--cores", "4000"], "core 4000 is not among"),
        (["--token-file", "/nowhere/at/all"], "/nowhere/at/all"),
        (["--model", "a=/nowhere/at/all"], "/nowhere/at/all"),
        (["--model", "a=Cargo.toml"], "the model a: "),
        (["--device", "cuda:7"], "device `cuda:7` can't be used"),
    ] {
        let mut child = Agent::command(&arguments).spawn().unwrap();
        let mut error = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut error)
            .unwrap();
        assert!(error.contains(words), "{error}");
        assert_eq!(child.wait().unwrap().code(), Some(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_when_nobody_wants_it_and_leaves_nothing() {
    let mut agent = Agent::start(&["--idle-exit", "1"]);
    let status = tokio::task::spawn_blocking(move || {
        let status = agent.0.wait().unwrap();
        (status, agent.1.data.exists())
    });
    let (status, left) = status.await.unwrap();
    assert!(status.success() && !left);
}
