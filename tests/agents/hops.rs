//! What agents do for others: the connections that a request makes them open, what they tell on those, what
//! they believe, and when they stop.

use crate::network::Network;
use crate::serving::{Agent, http, in_time, until};
use edgelesspart::plan::{Link, Wire};
use edgelesspart::protocol::message::{
    CloudTarget, Hop, INFER_HEADER, InferReply, InferRequest, JobRequest, Onward, Prepared,
    Refusal, RefusalKind, V2Model,
};
use edgelesspart::protocol::{Client, TlsTrust};
use pretty_assertions::assert_eq;
use reqwest::{Response, StatusCode};
use rstest::rstest;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// Requests that a server got: head and body of each.
type Heard = Arc<parking_lot::Mutex<Vec<String>>>;

/// A server that answers as it is told to, by the first line of a request; `None` for never.
struct Stand {
    url: String,
    heard: Heard,
}

fn request(stream: &mut TcpStream) -> Option<String> {
    let (mut bytes, mut block) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.trim().parse::<usize>().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
        match stream.read(&mut block) {
            Ok(n @ 1..) => bytes.extend(&block[..n]),
            _ => return None,
        }
    }
}

impl Stand {
    fn start(answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Stand {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (heard, answer) = (Heard::default(), Arc::new(answer));
        let told = heard.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, told, answer) = (stream.unwrap(), told.clone(), answer.clone());
                std::thread::spawn(move || {
                    while let Some(request) = request(&mut stream) {
                        told.lock().push(request.clone());
                        let line = request.lines().next().unwrap_or_default();
                        let Some(answer) = answer(line) else {
                            // The other end says when it has had enough.
                            let _ = stream.read(&mut [0]);
                            told.lock().push("gone".to_string());
                            return;
                        };
                        let _ = stream.write_all(answer.as_bytes());
                    }
                });
            }
        });
        Stand { url, heard }
    }

    fn heard(&self, what: &str) -> bool {
        self.heard.lock().iter().any(|text| text.contains(what))
    }
}

fn ok(json: &str) -> Option<String> {
    let length = json.len();
    Some(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{json}"
    ))
}

fn target(url: &str, token: &str) -> CloudTarget {
    CloudTarget {
        token: Some(token.to_string()),
        ..CloudTarget::new(url)
    }
}

fn hop(target: CloudTarget) -> Hop {
    Hop {
        part: None,
        targets: vec![target],
        link: Link::Measured,
    }
}

fn onward(hops: Vec<Hop>) -> InferRequest {
    InferRequest {
        confidence: Default::default(),
        thresholds: Vec::new(),
        onward: Some(Onward {
            hops,
            wire: Wire::default(),
            deadline_ms: None,
            degrade: false,
        }),
        pixels: Some(Default::default()),
        jpeg: false,
    }
}

async fn ask(agent: &Agent, path: &str, request: &InferRequest) -> reqwest::Result<Response> {
    let header = serde_json::to_string(request).unwrap();
    let asked = http(&TlsTrust::System).post(agent.path(path));
    let asked = asked.header(INFER_HEADER, header).body(vec![0; 64]);
    asked.send().await
}

async fn refusal(response: Response) -> Refusal {
    response.json().await.unwrap()
}

/// What an agent says of itself, as another may say it.
async fn info(agent: &Agent) -> String {
    let info = Client::connect(agent.url(), None).await.unwrap();
    serde_json::to_string(&info.info().await.unwrap()).unwrap()
}

const RELAYS: &str = r#"{"network":"n","segments":0,"exits":0,"classes":10,"input":[3],
    "ends_network":false,"behind":{"exits":0,"emulated":false}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_next_tier_hears_its_own_token_and_those_behind_it_and_nothing_else() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "mine").unwrap();
    let agent = Agent::start(&["--token-file", file.path().to_str().unwrap()]);
    let about = info(&Agent::start(&[])).await;
    let next = Stand::start(move |line| match line.contains("/v1/info") {
        true => ok(&about),
        false => ok(RELAYS),
    });
    let request = onward(vec![
        hop(target(&next.url, "first")),
        hop(target("http://127.0.0.1:9", "second")),
        hop(target("http://127.0.0.1:9", "third")),
    ]);
    let asked = http(&TlsTrust::System).post(agent.path("/v1/relay"));
    let asked = asked.header(INFER_HEADER, serde_json::to_string(&request).unwrap());
    let response = asked.bearer_auth("mine").header("x-mine", "secret").send();
    assert_eq!(response.await.unwrap().status(), StatusCode::OK);
    let heard = next.heard.lock().clone();
    assert_eq!(heard.len(), 2, "{heard:?}");
    for request in &heard {
        assert!(request.contains("authorization: Bearer first"), "{request}");
        for other in ["mine", "secret", "x-mine"] {
            assert!(!request.contains(other), "{request}");
        }
    }
    assert!(!heard[0].contains("second"), "what asks needs none");
    let header = heard[1].lines().find(|line| line.starts_with(INFER_HEADER));
    let header = header.unwrap();
    assert!(header.contains("second") && header.contains("third"));
    assert!(!header.contains("first"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_protocol_hears_no_token_but_its_own() {
    let agent = Agent::start(&[]);
    let server = Stand::start(|_| ok(r#"{"name":"m","platform":"p","inputs":[],"outputs":[]}"#));
    let mut last = target(&server.url, "first");
    last.v2 = Some(V2Model {
        name: "m".to_string(),
        probabilities: false,
    });
    let behind = hop(target("http://127.0.0.1:9", "second"));
    let request = onward(vec![hop(last), behind]);
    ask(&agent, "/v1/relay", &request).await.unwrap();
    let heard = server.heard.lock().clone();
    assert!(!heard.is_empty());
    for request in heard {
        assert!(request.contains("Bearer first") && !request.contains("second"));
        assert!(!request.to_lowercase().contains(INFER_HEADER), "{request}");
    }
}

/// A way on which an agent comes back to itself ends, since each hop is gone once.
#[tokio::test(flavor = "multi_thread")]
async fn a_route_to_itself_ends() {
    let agent = Agent::start(&[]);
    let network = Network::new(1);
    let client = Client::connect(agent.url(), None).await.unwrap();
    let whole = client.put(network.whole_bundle()).await.unwrap();
    let itself = |part| Hop {
        part,
        ..hop(agent.target())
    };
    let request = onward(vec![itself(None), itself(None), itself(Some(whole))]);
    let size: usize = crate::network::SHAPE.iter().product();
    let header = serde_json::to_string(&request).unwrap();
    let asked = http(&TlsTrust::System).post(agent.path("/v1/relay/infer"));
    let asked = asked.header(INFER_HEADER, header);
    let pixels = network.data.pixels[..size].to_vec();
    let response = in_time(asked.body(pixels).send()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let reply: InferReply = response.json().await.unwrap();
    assert_eq!(reply.answers.len(), 1);
    assert_eq!(reply.passed[0].hops.len(), 3);
    // One hop more is one too many, and no hop that ends the network is told.
    let four = onward(vec![itself(None), itself(None), itself(None), itself(None)]);
    let refused = ask(&agent, "/v1/relay", &four).await.unwrap();
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    let nowhere = onward(vec![itself(None), itself(None), itself(None)]);
    let refused = in_time(ask(&agent, "/v1/relay", &nowhere)).await.unwrap();
    assert_eq!(refusal(refused).await.kind, RefusalKind::NextTier);
}

#[rstest]
#[case::prepared("/v1/relay")]
#[case::asked("/v1/relay/infer")]
#[tokio::test(flavor = "multi_thread")]
async fn what_goes_on_for_a_client_that_is_gone_is_stopped(#[case] path: &str) {
    let agent = Agent::start(&[]);
    let silent = Stand::start(|_| None);
    let request = onward(vec![hop(CloudTarget::new(&*silent.url))]);
    let asking = tokio::time::timeout(Duration::from_secs(1), ask(&agent, path, &request));
    assert!(asking.await.is_err(), "nobody answers");
    until("the next tier is left", || silent.heard("gone"));
}

/// A tier between two others that is stopped doesn't keep the agent before it for itself.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_stopped_leave_room_for_others() {
    let agent = Agent::start(&[]);
    let about = info(&agent).await;
    let silent = Stand::start(move |line| match line {
        _ if line.contains("/v1/info") => ok(&about),
        _ if line.contains("/infer") => None,
        _ => ok(RELAYS),
    });
    let request = onward(vec![hop(CloudTarget::new(&*silent.url))]);
    let prepared = ask(&agent, "/v1/relay", &request).await.unwrap();
    prepared.json::<Prepared>().await.unwrap();
    for _ in 0..3 {
        let all = (0..20).map(|_| {
            let asking = ask(&agent, "/v1/relay/infer", &request);
            tokio::time::timeout(Duration::from_millis(300), asking)
        });
        for late in futures_util::future::join_all(all).await {
            assert!(late.is_err() || late.unwrap().unwrap().status() == 503);
        }
    }
    let answered = in_time(ask(&agent, "/v1/relay", &request)).await.unwrap();
    assert_eq!(answered.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_reaches_the_named_clouds_and_no_other() {
    let next = Stand::start(|_| ok("{}"));
    let agent = Agent::start(&["--cloud", "http://127.0.0.1:9"]);
    for path in ["/v1/relay", "/v1/relay/infer"] {
        let request = onward(vec![hop(CloudTarget::new(&*next.url))]);
        let refused = refusal(ask(&agent, path, &request).await.unwrap()).await;
        assert_eq!(refused.kind, RefusalKind::Invalid);
        assert!(refused.error.contains("--cloud"), "{}", refused.error);
    }
    assert!(next.heard.lock().is_empty());
}

#[rstest]
#[case::nothing("{}")]
#[case::exits(r#"{"network":"n","segments":1,"exits":18446744073709551615,"classes":1,"input":[3],"ends_network":true,"behind":{"exits":1,"emulated":false}}"#)]
#[case::more_exits(
    r#"{"network":"n","segments":1,"exits":70000,"classes":1,"input":[3],"ends_network":true}"#
)]
#[case::extents(r#"{"network":"n","segments":1,"exits":0,"classes":1,"input":[1,1,1,1,1,1,1,1,1],"ends_network":true}"#)]
#[case::no_end(
    r#"{"network":"n","segments":1,"exits":0,"classes":1,"input":[3],"ends_network":false}"#
)]
#[tokio::test(flavor = "multi_thread")]
async fn a_next_tier_that_says_what_cannot_be_is_refused(#[case] prepared: &'static str) {
    let agent = Agent::start(&[]);
    let about = info(&agent).await;
    let next = Stand::start(move |line| match line.contains("/v1/info") {
        true => ok(&about),
        false => ok(prepared),
    });
    let request = onward(vec![hop(CloudTarget::new(&*next.url))]);
    let refused = ask(&agent, "/v1/relay", &request).await.unwrap();
    assert!(
        matches!(refused.status().as_u16(), 400 | 502),
        "{refused:?}"
    );
    assert_ne!(refusal(refused).await.kind, RefusalKind::Failed);
}

#[rstest]
#[case::past(Some(-1.0), Link::Measured)]
#[case::never(Some(1e300), Link::Measured)]
#[case::far(None, Link::Emulated { mbit: 1.0, rtt_ms: 1e300 })]
#[case::years(None, Link::Emulated { mbit: 1.0, rtt_ms: 1e12 })]
#[case::stopped(None, Link::Emulated { mbit: 0.0, rtt_ms: 1.0 })]
#[tokio::test(flavor = "multi_thread")]
async fn times_that_nobody_can_wait_are_refused(
    #[case] deadline_ms: Option<f64>,
    #[case] link: Link,
) {
    let agent = Agent::start(&[]);
    let mut request = onward(vec![Hop {
        link,
        ..hop(agent.target())
    }]);
    if let Some(onward) = &mut request.onward {
        onward.deadline_ms = deadline_ms;
    }
    let refused = in_time(ask(&agent, "/v1/relay", &request)).await.unwrap();
    assert_eq!(refusal(refused).await.kind, RefusalKind::Invalid);
}

/// What leads elsewhere isn't followed: the address is what was believed, and the token is for it alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_goes_nowhere_else() {
    let elsewhere = Stand::start(|_| ok("{}"));
    let to = elsewhere.url.clone();
    let leads = Stand::start(move |_| {
        Some(format!(
            "HTTP/1.1 307 Elsewhere\r\nlocation: {to}/v1/info\r\ncontent-length: 0\r\n\r\n"
        ))
    });
    let error = Client::connect(&leads.url, Some("secret")).await;
    assert!(error.unwrap_err().to_string().contains("307"));
    assert!(elsewhere.heard.lock().is_empty());
}

/// A job that waits, and is cancelled, gives back what its description takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_cancelled_before_its_turn_leaves_its_memory() {
    let agent = Agent::start(&["--max-in-flight", "20000000"]);
    let silent = Stand::start(|_| None);
    let client = Client::connect(agent.url(), None).await.unwrap();
    let job = |padding: usize| JobRequest::MeasureLink {
        cloud: CloudTarget {
            token: Some("x".repeat(padding)),
            ..CloudTarget::new(&*silent.url)
        },
        link: Link::Measured,
    };
    let running = client.submit(&job(1)).await.unwrap();
    until("the first runs", || silent.heard("/v1/info"));
    // Each takes more than a fourth of it.
    for _ in 0..12 {
        let waiting = client.submit(&job(700_000)).await.unwrap();
        client.cancel(&waiting).await.unwrap();
    }
    client.cancel(&running).await.unwrap();
}

/// With few open files there are few ways to next tiers; the rest is refused in words, and others are served.
#[tokio::test(flavor = "multi_thread")]
async fn ways_to_next_tiers_leave_files_for_everybody_else() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 128; exec \"$0\" \"$@\""]);
    command.args([env!("CARGO_BIN_EXE_edgelesspart"), "agent"]);
    command.args(["--listen", "127.0.0.1:0", "--threads", "1"]);
    let agent = Agent::spawn({
        command.stdout(std::process::Stdio::piped());
        command
    });
    let about = info(&agent).await;
    let silent = Stand::start(move |line| match line.contains("/v1/info") {
        true => ok(&about),
        false => None,
    });
    // Each of its own, so that none can be shared.
    let requests: Vec<InferRequest> = (0..20)
        .map(|at| InferRequest {
            thresholds: vec![f64::from(at) / 100.0],
            ..onward(vec![hop(CloudTarget::new(&*silent.url))])
        })
        .collect();
    let asking = requests.iter().map(|request| {
        tokio::time::timeout(Duration::from_secs(3), ask(&agent, "/v1/relay", request))
    });
    let all = tokio::spawn({
        let url = agent.path("/v2/health/live");
        async move {
            for _ in 0..40 {
                let health = http(&TlsTrust::System).get(&url);
                let health = health.timeout(Duration::from_secs(8)).send().await.unwrap();
                assert_eq!(health.status(), StatusCode::OK);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    });
    let mut busy = 0;
    for answered in futures_util::future::join_all(asking).await {
        let Ok(Ok(response)) = answered else { continue };
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()["retry-after"], "1");
        let refused = refusal(response).await;
        assert_eq!(refused.kind, RefusalKind::Busy);
        assert!(refused.error.contains("ulimit -n"), "{}", refused.error);
        busy += 1;
    }
    assert!((1..=15).contains(&busy), "{busy}");
    all.await.unwrap();
    let open = std::fs::read_dir(format!("/proc/{}/fd", agent.0.id())).unwrap();
    assert!(open.count() < 128);
}
