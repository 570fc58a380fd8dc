//! What an agent refuses, in words, and that it serves on afterwards.

use crate::network::Network;
use crate::serving::{Agent, http};
use edgelesspart::plan::Wire;
use edgelesspart::predict::Confidence;
use edgelesspart::protocol::message::{
    Evaluate, FailureKind, INFER_HEADER, InferReply, InferRequest, JobRequest, Refusal,
    RefusalKind, Route,
};
use edgelesspart::protocol::{Client, ClientError, TlsTrust, wire};
use reqwest::{Body, Method, StatusCode};
use rstest::rstest;
use std::io::{Read, Write};

const BAD: StatusCode = StatusCode::BAD_REQUEST;
const MISSING: StatusCode = StatusCode::NOT_FOUND;
const LARGE: StatusCode = StatusCode::PAYLOAD_TOO_LARGE;

/// An agent that takes bodies of 2 MB, with a network's parts and something that is none.
struct Served {
    agent: Agent,
    client: Client,
    network: Network,
    /// Addresses there.
    edge: String,
    cloud: String,
    garbage: String,
}

/// A request below `/v1`.
struct Sent {
    method: Method,
    path: String,
    header: Option<String>,
    body: Body,
}

impl Served {
    async fn start() -> Served {
        let network = Network::new(4);
        let agent = Agent::start(&["--max-body", "2000000"]);
        let client = Client::connect(agent.url(), None).await.unwrap();
        let garbage = client.put(b"no part at all".to_vec()).await.unwrap();
        Served {
            edge: client.put(network.bundle(0)).await.unwrap(),
            cloud: client.put(network.bundle(1)).await.unwrap(),
            garbage,
            agent,
            client,
            network,
        }
    }

    async fn send(&self, sent: Sent) -> reqwest::Response {
        let url = self.agent.path(&format!("/v1/{}", sent.path));
        let mut request = http(&TlsTrust::System).request(sent.method, url);
        if let Some(header) = sent.header {
            request = request.header(INFER_HEADER, header);
        }
        if sent.path == "jobs" {
            request = request.header("content-type", "application/json");
        }
        request.body(sent.body).send().await.unwrap()
    }

    /// A tensor for the cloud's part: samples, each element of this value.
    fn tensor(&self, samples: usize, value: f32) -> Vec<u8> {
        let shape = [&[samples], self.network.split_shape().as_slice()].concat();
        let data = vec![value; shape.iter().product()];
        wire::encode(Wire::default(), &shape, &data).unwrap()
    }

    /// An inference by the cloud's part, under so many thresholds.
    fn infer(&self, thresholds: usize, body: Vec<u8>) -> Sent {
        let request = InferRequest {
            confidence: Confidence::MaxProbability,
            thresholds: vec![1.0; thresholds],
            onward: None,
            pixels: None,
            jpeg: false,
        };
        let header = serde_json::to_string(&request).unwrap();
        self.infer_under(Some(header), body)
    }

    fn infer_under(&self, header: Option<String>, body: Vec<u8>) -> Sent {
        Sent {
            header,
            ..post(&format!("parts/{}/infer", self.cloud), body)
        }
    }

    /// Exits of the cloud's part.
    fn exits(&self) -> usize {
        self.network.exits(1)
    }

    /// Pixels for the edge's part, which needs somebody behind it.
    fn pixels(&self, bytes: usize) -> Sent {
        let request = InferRequest {
            confidence: Confidence::Entropy,
            thresholds: vec![1.0; self.network.exits(0)],
            onward: None,
            pixels: Some(Default::default()),
            jpeg: false,
        };
        Sent {
            header: Some(serde_json::to_string(&request).unwrap()),
            ..post(&format!("parts/{}/infer", self.edge), vec![9; bytes])
        }
    }
}

fn sent(method: Method, path: &str, body: impl Into<Body>) -> Sent {
    Sent {
        method,
        path: path.to_string(),
        header: None,
        body: body.into(),
    }
}

fn get(path: &str) -> Sent {
    sent(Method::GET, path, vec![])
}

fn put(path: &str, body: Vec<u8>) -> Sent {
    sent(Method::PUT, path, body)
}

fn post(path: &str, body: impl Into<Body>) -> Sent {
    sent(Method::POST, path, body)
}

/// The address of nothing that is there.
fn nowhere() -> String {
    "0".repeat(64)
}

fn blob(name: &str) -> Sent {
    put(&format!("blobs/{name}"), vec![1])
}

/// A hundred chunks, which announce nothing.
fn chunked(method: Method, path: &str) -> Sent {
    let chunk = |_| Ok::<_, std::io::Error>(vec![b'['; 100_000]);
    let chunks = futures_util::stream::iter((0..100).map(chunk));
    sent(method, path, Body::wrap_stream(chunks))
}

/// A shape that says more than there is, or could be.
fn huge(served: &Served) -> Sent {
    let mut tensor = served.tensor(1, 0.5);
    tensor[8..12].fill(0xff);
    served.infer(served.exits(), tensor)
}

fn another_shape(served: &Served) -> Sent {
    let tensor = wire::encode(Wire::default(), &[1, 3, 5], &[0.0; 15]);
    served.infer(served.exits(), tensor.unwrap())
}

#[rstest]
#[case::damaged_on_the_way(
    |_: &Served| put(&format!("blobs/{}", nowhere()), b"hello".to_vec()),
    BAD,
    "damaged on the way"
)]
#[case::a_name_with_dots(|_: &Served| blob("..%2f..%2fx"), BAD, "SHA-256")]
#[case::a_name_of_dots(|_: &Served| blob("%2e%2e%2f%2e%2e%2fetc%2fpasswd"), BAD, "SHA-256")]
#[case::a_name_with_a_slash(|_: &Served| blob(&format!("{}%2f", "a".repeat(63))), BAD, "SHA-256")]
#[case::a_name_in_capitals(|_: &Served| blob(&"A".repeat(64)), BAD, "SHA-256")]
#[case::a_long_name(|_: &Served| blob(&"a".repeat(5000)), BAD, "SHA-256")]
#[case::a_large_file(
    |_: &Served| put(&format!("blobs/{}", nowhere()), vec![0; 20_000_000]),
    LARGE,
    "2000000"
)]
#[case::a_file_in_chunks(
    |_: &Served| chunked(Method::PUT, &format!("blobs/{}", "a".repeat(64))),
    LARGE,
    "2000000"
)]
#[case::a_job_in_chunks(|_: &Served| chunked(Method::POST, "jobs"), LARGE, "2000000")]
#[case::an_echo_in_chunks(|_: &Served| chunked(Method::POST, "echo"), LARGE, "2000000")]
#[case::records_of_a_path(|_: &Served| get("jobs/..%2f..%2fx/records/0"), MISSING, "no job")]
#[case::results_of_no_job(|_: &Served| get("jobs/x/results/0"), MISSING, "no job")]
#[case::events_of_no_job(|_: &Served| get("jobs/x/events"), MISSING, "no job x")]
#[case::records_from_a_word(|_: &Served| get("jobs/x/records/y"), BAD, "whole number")]
#[case::a_job_as_deep_as_long(
    |_: &Served| post("jobs", [vec![b'['; 500_000], vec![b']'; 500_000]].concat()),
    BAD,
    "no job"
)]
#[case::a_deep_field_of_a_job(
    |_: &Served| post("jobs", format!("{{\"Evaluate\": {{\"mode\": {}}}}}", "[".repeat(100_000))),
    BAD,
    "no job"
)]
#[case::half_a_job(|_: &Served| post("jobs", "{\"garbage\":"), BAD, "no job")]
#[case::no_route(|_: &Served| get("nothing"), MISSING, "/v1")]
#[case::no_such_method(|_: &Served| get("echo"), StatusCode::METHOD_NOT_ALLOWED, "method")]
#[case::no_part(|s: &Served| post(&format!("parts/{}", s.garbage), vec![]), BAD, "no bundle")]
#[case::a_part_that_is_not_here(
    |_: &Served| post(&format!("parts/{}", nowhere()), vec![]),
    MISSING,
    "send it first"
)]
#[case::no_header(|s: &Served| s.infer_under(None, s.tensor(1, 0.5)), BAD, INFER_HEADER)]
#[case::half_a_header(
    |s: &Served| s.infer_under(Some("{".to_string()), s.tensor(1, 0.5)),
    BAD,
    INFER_HEADER
)]
#[case::no_tensor(|s: &Served| s.infer(s.exits(), b"garbage".to_vec()), BAD, "tensor on the wire")]
#[case::nothing(|s: &Served| s.infer(s.exits(), vec![]), BAD, "tensor on the wire")]
#[case::a_threshold_too_many(|s: &Served| s.infer(s.exits() + 1, s.tensor(1, 0.5)), BAD, "thresholds")]
#[case::no_sample(|s: &Served| s.infer(s.exits(), s.tensor(0, 0.5)), BAD, "the part takes")]
#[case::another_shape(another_shape, BAD, "the part takes")]
#[case::not_a_number(
    |s: &Served| s.infer(s.exits(), s.tensor(1, f32::NAN)),
    StatusCode::UNPROCESSABLE_ENTITY,
    "NaN"
)]
#[case::a_huge_shape(huge, BAD, "wire")]
// An edge part has nobody behind it here.
#[case::half_a_network(|s: &Served| s.pixels(768), BAD, "doesn't end the network")]
#[case::a_pixel_too_few(|s: &Served| s.pixels(767), BAD, "images")]
#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_sent_it_answers_and_serves_on(
    #[case] sent: fn(&Served) -> Sent,
    #[case] status: StatusCode,
    #[case] words: &str,
) {
    let served = Served::start().await;
    let response = served.send(sent(&served)).await;
    assert_eq!(response.status(), status, "{words}");
    let refusal: Refusal = response.json().await.unwrap();
    assert!(refusal.error.contains(words), "{}", refusal.error);
    assert_ne!(refusal.kind, RefusalKind::Other, "{words}");
    // After that it does what it should.
    assert_eq!(served.client.info().await.unwrap().requests, 0);
    let exits = served.exits();
    let good = served.infer(exits, served.tensor(3, 0.5));
    let response = served.send(good).await;
    assert_eq!(response.status(), StatusCode::OK);
    let reply: InferReply = response.json().await.unwrap();
    assert_eq!(reply.answers.len(), 3);
    assert!(reply.answers.iter().all(|a| a.exit as usize == exits));
    assert_eq!(served.client.info().await.unwrap().requests, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_sends_no_file_that_is_too_large() {
    let served = Served::start().await;
    let too_large = served.client.put(vec![0; 2_000_001]).await;
    assert!(matches!(too_large, Err(ClientError::TooLarge { .. })));
    assert!(!served.client.has(&nowhere()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_data_is_not_here_fails_in_words() {
    let served = Served::start().await;
    let job = Evaluate {
        route: Route::alone(served.cloud.clone()),
        data: nowhere(),
        preprocessing: Default::default(),
        samples: vec![0],
        warm_up: 0,
        confidence: Confidence::MaxProbability,
        thresholds: vec![],
        last_exit_answers: false,
        jpeg: None,
        wire: Wire::default(),
        deadline_ms: None,
        degrade: false,
    };
    let job = JobRequest::Evaluate(Box::new(job));
    let job = served.client.submit(&job).await.unwrap();
    let end = served.client.follow(&job, &mut |_| {}).await;
    assert!(matches!(
        end,
        Err(ClientError::Job { kind: FailureKind::NotStored, error }) if error.contains("send it first")
    ));
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
        (
            ["--engine=candle", "--provider=cuda:7"],
            "engine candle (cuda:7) can't be used",
        ),
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
