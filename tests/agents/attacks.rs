//! Clients that want an agent for themselves: slow heads and bodies, idle connections, handshakes that
//! stall, bodies that unpack to more than there is memory, web pages. Others are answered meanwhile.

use crate::network::Network;
use crate::serving::{Agent, http};
use edgelesspart::plan::Link;
use edgelesspart::protocol::message::{
    CloudTarget, FailureKind, JobRequest, Refusal, RefusalKind, TOKEN_VARIABLE,
};
use edgelesspart::protocol::tls::self_signed;
use edgelesspart::protocol::{Client, ClientError, TlsTrust};
use flate2::write::GzEncoder;
use reqwest::StatusCode;
use rstest::rstest;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

const TOKEN: &str = "open sesame";
/// Longer than an answer takes, shorter than what an attack tries to hold up.
const SOON: Duration = Duration::from_secs(8);
/// More connections than an agent of 128 files has room for.
const MANY: usize = 200;

/// An agent that may have 128 files open.
fn with_few_files(arguments: &[&str]) -> Agent {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 128; exec \"$0\" \"$@\""]);
    command.args([env!("CARGO_BIN_EXE_edgelesspart"), "agent"]);
    command.args(["--listen", "127.0.0.1:0", "--threads", "1"]);
    command.args(arguments).stdout(std::process::Stdio::piped());
    Agent::spawn(command)
}

/// Connections that say this much and then nothing.
fn attackers(agent: &Agent, text: &str) -> Vec<TcpStream> {
    let connect = || {
        let mut stream = TcpStream::connect(agent.address()).unwrap();
        // It may be thrown out before it has said all.
        let _ = stream.write_all(text.as_bytes());
        stream
    };
    (0..MANY).map(|_| connect()).collect()
}

fn client(trust: &TlsTrust) -> reqwest::Client {
    http(trust)
}

#[rstest]
#[case::nothing("")]
#[case::heads("GET /v1/info HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")]
#[case::idle("GET /v2/health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")]
#[case::bodies(
    "POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer open sesame\r\n\
     Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n{"
)]
#[case::refused_bodies(
    "POST /v1/echo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 30000000\r\n\r\n "
)]
#[case::uploads(
    "PUT /v1/blobs/00 HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer open sesame\r\n\
     Content-Length: 30000000\r\n\r\n "
)]
#[tokio::test(flavor = "multi_thread")]
async fn others_are_answered_while_connections_are_held(#[case] text: &str) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "{TOKEN}").unwrap();
    let agent = with_few_files(&["--token-file", file.path().to_str().unwrap()]);
    let known = Client::connect(agent.url(), Some(TOKEN)).await.unwrap();
    let attackers = attackers(&agent, text);
    for _ in 0..3 {
        let health = client(&TlsTrust::System).get(agent.path("/v2/health/live"));
        let health = health.timeout(SOON).send().await.unwrap();
        assert_eq!(health.status(), StatusCode::OK);
        // Somebody new, and somebody who was there before.
        let fresh = Client::connect(agent.url(), Some(TOKEN));
        tokio::time::timeout(SOON, fresh).await.unwrap().unwrap();
        let put = known.put(vec![7; 100_000]);
        tokio::time::timeout(SOON, put).await.unwrap().unwrap();
    }
    drop(attackers);
}

#[tokio::test(flavor = "multi_thread")]
async fn others_shake_hands_while_handshakes_stall() {
    let folder = tempfile::tempdir().unwrap();
    let made = self_signed(vec!["127.0.0.1".into()]).unwrap();
    let (certificate, key) = (folder.path().join("cert"), folder.path().join("key"));
    std::fs::write(&certificate, &made.certificate).unwrap();
    std::fs::write(&key, &made.key).unwrap();
    let tls = ["--tls-cert", certificate.to_str().unwrap()];
    let agent = with_few_files(&[tls[0], tls[1], "--tls-key", key.to_str().unwrap()]);
    // The first bytes of a hello, and no more.
    let attackers = attackers(&agent, "\u{16}\u{3}\u{1}\u{2}");
    let trust = TlsTrust::Fingerprint(made.fingerprint.clone());
    for _ in 0..3 {
        let health = client(&trust).get(agent.path("/v2/health/live"));
        let health = health.timeout(SOON).send().await.unwrap();
        assert_eq!(health.status(), StatusCode::OK);
    }
    drop(attackers);
    // Who doesn't encrypt is told so, in HTTP; who does where nobody else does, too.
    let plain = agent.url().replace("https://", "http://");
    let error = Client::connect(&plain, None).await.unwrap_err();
    assert!(
        matches!(
            &error,
            ClientError::Refused {
                kind: RefusalKind::Encrypted,
                ..
            }
        ),
        "{error}"
    );
    let other = Agent::start(&[]);
    let url = other.url().replace("http://", "https://");
    let error = Client::connect_to(&url, None, &trust).await.unwrap_err();
    assert!(error.to_string().contains("http://"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_take_no_more_memory_than_there_is_for_them() {
    let network = Network::new(1);
    let file = tempfile::NamedTempFile::new().unwrap();
    let onnx = edgelesspart::model::export::to_onnx(&network.graph).unwrap();
    std::fs::write(file.path(), onnx).unwrap();
    let model = format!("net={}", file.path().display());
    let agent = Agent::start(&["--model", &model, "--max-in-flight", "4000000"]);
    let known = Client::connect(agent.url(), None).await.unwrap();
    let before = known.info().await.unwrap().resident_bytes;
    let mut bomb = GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..500 {
        bomb.write_all(&vec![b' '; 1 << 20]).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    let http = client(&TlsTrust::System);
    let throw = || {
        let request = http.post(agent.path("/v2/models/net/infer"));
        let request = request.header("content-encoding", "gzip");
        request.body(bomb.clone()).send()
    };
    for response in futures_util::future::join_all((0..8).map(|_| throw())).await {
        // One that is thrown out while it still sends sees no answer.
        let Ok(response) = response else { continue };
        let (status, headers) = (response.status(), response.headers().clone());
        let refusal: Refusal = response.json().await.unwrap();
        match refusal.kind {
            RefusalKind::TooLarge => assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE),
            RefusalKind::Busy => {
                assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
                assert_eq!(headers["retry-after"], "1");
            }
            other => panic!("{other:?}: {}", refusal.error),
        }
    }
    let after = known.info().await.unwrap().resident_bytes;
    assert!(
        after < before + (128 << 20),
        "{before} bytes before, {after} after"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_finds_no_memory_while_another_has_it_and_some_afterwards() {
    let agent = Agent::start(&["--max-in-flight", "13500000"]);
    let head = "POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
                Content-Length: 900000\r\n\r\n";
    // Bodies that come but for their ends, and so stay in memory.
    let begun = || {
        let begin = |_| {
            let mut stream = TcpStream::connect(agent.address()).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&vec![b' '; 800_000]).unwrap();
            stream
        };
        (0..14).map(begin).collect::<Vec<TcpStream>>()
    };
    let http = client(&TlsTrust::System);
    let send = async || {
        let request = http.post(agent.path("/v1/jobs")).body(vec![b' '; 700_000]);
        let response = request.header("content-type", "application/json").send();
        response
            .await
            .unwrap()
            .json::<Refusal>()
            .await
            .unwrap()
            .kind
    };
    // Whichever body is there first has the memory: that may be the second.
    let mut kind = RefusalKind::Invalid;
    let mut first = None;
    for tries in 1..=50 {
        first = Some(begun());
        tokio::time::sleep(Duration::from_millis(20 * tries)).await;
        kind = send().await;
        if kind == RefusalKind::Busy {
            break;
        }
    }
    assert_eq!(kind, RefusalKind::Busy);
    drop(first);
    for _ in 0..100 {
        if kind != RefusalKind::Busy {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        kind = send().await;
    }
    assert_eq!(
        kind,
        RefusalKind::Invalid,
        "there is memory, and no job in it"
    );
}

#[rstest]
#[case::host(&[("host", "evil.example:7070"), ("content-type", "application/json")], RefusalKind::Foreign)]
#[case::origin(&[("origin", "https://evil.example"), ("content-type", "application/json")], RefusalKind::Foreign)]
#[case::simple(&[("content-type", "text/plain")], RefusalKind::Unsupported)]
#[case::form(&[("content-type", "application/x-www-form-urlencoded")], RefusalKind::Unsupported)]
#[case::unknown(&[], RefusalKind::Unsupported)]
#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_starts_no_job(
    #[case] headers: &[(&'static str, &'static str)],
    #[case] kind: RefusalKind,
) {
    let agent = Agent::start(&[]);
    let job = JobRequest::MeasureLink {
        cloud: CloudTarget::new("http://127.0.0.1:9"),
        link: Link::Measured,
    };
    let http = client(&TlsTrust::System);
    let mut request = http.post(agent.path("/v1/jobs"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = serde_json::to_vec(&job).unwrap();
    let refusal: Refusal = request
        .body(body)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(refusal.kind, kind, "{}", refusal.error);
    let jobs = http.get(agent.path("/v1/jobs")).send().await.unwrap();
    assert_eq!(
        jobs.json::<Vec<String>>().await.unwrap(),
        Vec::<String>::new()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_reaches_the_named_clouds_and_no_other() {
    let cloud = Agent::start(&[]);
    let edge = Agent::start(&["--cloud", cloud.url()]);
    let client = Client::connect(edge.url(), None).await.unwrap();
    let measure = async |url: &str| {
        let job = JobRequest::MeasureLink {
            cloud: CloudTarget::new(url),
            link: Link::Measured,
        };
        let id = client.submit(&job).await.unwrap();
        client.follow(&id, &mut |_| {}).await
    };
    measure(cloud.url()).await.unwrap();
    let other = cloud.url().replace("127.0.0.1", "127.0.0.2");
    let refused = measure(&other).await;
    assert!(
        matches!(&refused, Err(ClientError::Job { kind: FailureKind::Invalid, error }) if error.contains("--cloud")),
        "{refused:?}"
    );
}

#[rstest]
#[case("Bearer open sesame", true)]
#[case("bearer open sesame", true)]
#[case("BEARER  open sesame ", true)]
#[case("Basic open sesame", false)]
#[case("open sesame", false)]
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_taken_however_its_scheme_is_written(
    #[case] header: &str,
    #[case] admitted: bool,
) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "  {TOKEN} ").unwrap();
    let agent = Agent::start(&["--token-file", file.path().to_str().unwrap()]);
    let request = client(&TlsTrust::System).get(agent.path("/v1/info"));
    let response = request
        .header("authorization", header)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status() == StatusCode::OK, admitted);
    if !admitted {
        assert_eq!(response.headers()["connection"], "close");
    }
}

#[rstest]
#[case::empty(&[], "", "empty")]
#[case::blank(&[], "  ", "empty")]
#[case::lines(&[], "open\nsesame", "line break")]
#[case::threads(&["--threads", "10000"], "secret", "four for each core")]
fn an_agent_does_not_start_with(
    #[case] arguments: &[&str],
    #[case] token: &str,
    #[case] words: &str,
) {
    let mut command = Agent::command(arguments);
    let output = command.env(TOKEN_VARIABLE, token).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains(words), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_cannot_be_sent_is_told_before_anything_is() {
    let error = Client::connect("http://127.0.0.1:9", Some("open\nsesame")).await;
    assert!(matches!(error, Err(ClientError::Token { .. })));
}

/// A server that answers every request with this head, and spaces for ever.
fn endless(head: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(head.as_bytes());
            let spaces = vec![b' '; 1 << 16];
            while stream.write_all(&spaces).is_ok() {}
        }
    });
    url
}

#[rstest]
#[case::answer("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")]
#[case::refusal("HTTP/1.1 500 Oh\r\ncontent-type: application/json\r\n\r\n")]
#[tokio::test(flavor = "multi_thread")]
async fn a_client_reads_no_answer_without_an_end(#[case] head: &'static str) {
    let error = Client::connect(&endless(head), None).await.unwrap_err();
    assert!(
        matches!(
            &error,
            ClientError::Answer { .. } | ClientError::Refused { .. }
        ),
        "{error}"
    );
}
