//! Agents that encrypt and ask for a token: who is let in, who is believed, and that the answers are
//! the same ones.

use crate::network::Network;
use crate::serving::Agent;
use edgelesspart::plan::{Compression, Element, Link, Wire};
use edgelesspart::predict::{Confidence, Record};
use edgelesspart::protocol::message::{CloudTarget, Evaluate, Hop, JobRequest, JobResult, Route};
use edgelesspart::protocol::{Client, ClientError, TlsTrust};
use edgelesspart::run::local::{LocalAgent, LocalOptions};
use std::path::Path;
use std::process::Stdio;

/// What `agent --init` made, and an agent that uses it.
struct Secured {
    agent: Agent,
    token: String,
    fingerprint: String,
    certificate: String,
    _folder: tempfile::TempDir,
}

fn init(folder: &Path) -> String {
    let made = Agent::command(&["--init", folder.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(made.status.success());
    String::from_utf8(made.stdout).unwrap()
}

fn secured(listen: &str) -> Secured {
    let folder = tempfile::tempdir().unwrap();
    let said = init(folder.path());
    let start = said.find("sha256:").unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (certificate, key, token) = (file("cert.pem"), file("key.pem"), file("token"));
    let agent = Agent::at(
        listen,
        &[
            "--tls-cert",
            &certificate,
            "--tls-key",
            &key,
            "--token-file",
            &token,
        ],
    );
    Secured {
        agent,
        token: std::fs::read_to_string(token).unwrap().trim().to_string(),
        fingerprint: said[start..start + 7 + 64].to_string(),
        certificate: std::fs::read_to_string(certificate).unwrap(),
        _folder: folder,
    }
}

impl Secured {
    fn target(&self) -> CloudTarget {
        CloudTarget {
            token: Some(self.token.clone()),
            believed: TlsTrust::Fingerprint(self.fingerprint.clone()),
            ..self.agent.target()
        }
    }

    async fn client(&self) -> Client {
        let believed = TlsTrust::Fingerprint(self.fingerprint.clone());
        let client = Client::connect_to(self.agent.url(), Some(&self.token), &believed);
        client.await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_right_certificate_and_token_will_do() {
    let secured = secured("127.0.0.1:0");
    let url = secured.agent.url();
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let token = Some(secured.token.as_str());
    // By fingerprint, in any case of its digits, and by authority.
    let upper = secured.fingerprint[7..].to_uppercase();
    for believed in [
        TlsTrust::Fingerprint(secured.fingerprint.clone()),
        TlsTrust::Fingerprint(format!("sha256:{upper}")),
        TlsTrust::Authorities(secured.certificate.clone()),
    ] {
        Client::connect_to(url, token, &believed).await.unwrap();
    }
    let other = format!("sha256:{}", "ab".repeat(32));
    for (believed, words) in [
        (TlsTrust::Fingerprint(other), "its certificate is another"),
        (TlsTrust::System, "certificate"),
    ] {
        let error = Client::connect_to(url, token, &believed).await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    // Another's certificate as the authority.
    let folder = tempfile::tempdir().unwrap();
    init(folder.path());
    let pem = std::fs::read_to_string(folder.path().join("cert.pem")).unwrap();
    let error = Client::connect_to(url, token, &TlsTrust::Authorities(pem)).await;
    assert!(matches!(error, Err(ClientError::Unreachable { .. })));
    let believed = TlsTrust::Fingerprint(secured.fingerprint.clone());
    for token in [None, Some("guessed")] {
        let error = Client::connect_to(url, token, &believed).await;
        assert!(matches!(
            error,
            Err(ClientError::Refused { status: 401, .. })
        ));
    }
    // Without encryption nothing is understood.
    let plain = url.replace("https", "http");
    assert!(Client::connect(&plain, token).await.is_err());
    // Who says nothing keeps nobody out.
    let silent: Vec<_> = (0..20)
        .map(|_| std::net::TcpStream::connect(secured.agent.address()).unwrap())
        .collect();
    secured.client().await.info().await.unwrap();
    drop(silent);
    let target = secured.target();
    assert!(!format!("{target:?}").contains(&secured.token));
}

#[test]
fn others_are_let_in_with_token_and_encryption_alone() {
    let folder = tempfile::tempdir().unwrap();
    init(folder.path());
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (certificate, key, token) = (file("cert.pem"), file("key.pem"), file("token"));
    let open = ["--listen", "0.0.0.0:0"];
    let tls = ["--tls-cert", &certificate, "--tls-key", &key];
    let with_token = ["--token-file", &token];
    for arguments in [
        open.to_vec(),
        [&open[..], &tls[..]].concat(),
        [&open[..], &with_token[..]].concat(),
    ] {
        let mut command = Agent::command(&arguments);
        let output = command.stdout(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains("--insecure"), "{told}");
    }
    let both = [&tls[..], &with_token[..]].concat();
    assert!(Agent::at("0.0.0.0:0", &both).url().starts_with("https://"));
    assert!(
        Agent::at("0.0.0.0:0", &["--insecure"])
            .url()
            .starts_with("http://")
    );
}

/// Every way in which a tensor may travel.
fn wires() -> impl Iterator<Item = Wire> {
    let elements = [Element::F32, Element::F16, Element::U8];
    elements.into_iter().flat_map(|tensor| {
        [Compression::None, Compression::Lz4].map(|compression| Wire {
            tensor,
            compression,
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn two_secured_agents_answer_as_two_local_ones_do() {
    let network = Network::new(60);
    let options = LocalOptions {
        program: Some(env!("CARGO_BIN_EXE_edgelesspart").into()),
        threads: Some(1),
        ..LocalOptions::default()
    };
    let local_edge = LocalAgent::start(&options).await.unwrap();
    let local_cloud = LocalAgent::start(&options).await.unwrap();
    let (edge, cloud) = (secured("127.0.0.1:0"), secured("127.0.0.1:0"));
    let pairs = [
        (
            local_edge.connect().await.unwrap(),
            local_cloud.connect().await.unwrap(),
            local_cloud.cloud_target(),
        ),
        (edge.client().await, cloud.client().await, cloud.target()),
    ];
    for wire in wires() {
        let mut told: Vec<Vec<Record>> = Vec::new();
        for (edge, cloud, target) in &pairs {
            let cloud_part = cloud.put(network.bundle(1)).await.unwrap();
            let run = Evaluate {
                route: Route::over(
                    Some(edge.put(network.bundle(0)).await.unwrap()),
                    Hop {
                        part: Some(cloud_part),
                        targets: vec![target.clone()],
                        link: Link::Measured,
                    },
                ),
                data: edge.put(network.data.encode().unwrap()).await.unwrap(),
                preprocessing: Default::default(),
                samples: (0..60).collect(),
                warm_up: 1,
                confidence: Confidence::MaxProbability,
                thresholds: vec![0.2; network.exits(0) + network.exits(1)],
                last_exit_answers: false,
                jpeg: None,
                wire,
                deadline_ms: None,
                degrade: false,
            };
            let job = JobRequest::Evaluate(Box::new(run));
            let id = edge.submit(&job).await.unwrap();
            let end = edge.follow(&id, &mut |_| {}).await.unwrap();
            let JobResult::Evaluated(end) = end else {
                panic!("{end:?}");
            };
            assert_eq!(end.clouds.len(), 1);
            told.push(edge.all_records(&id).await.unwrap());
            assert_eq!(
                end.clouds[0].answered as usize,
                // The one of the warm-up may have been sent, too.
                told[told.len() - 1]
                    .iter()
                    .filter(|r| r.offloaded())
                    .count()
                    + usize::from(told[told.len() - 1][0].offloaded())
            );
        }
        let answers = |records: &[Record]| -> Vec<(u32, u16, u16, f32, bool, u64)> {
            records
                .iter()
                .map(|r| {
                    (
                        r.sample,
                        r.exit,
                        r.prediction,
                        r.confidence,
                        r.offloaded(),
                        r.bytes_sent(),
                    )
                })
                .collect()
        };
        assert_eq!(answers(&told[0]), answers(&told[1]), "{wire:?}");
        assert_eq!(told[0].len(), 60);
    }
    local_edge.stop().await;
    local_cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_s_token_is_in_no_list_of_processes() {
    let options = LocalOptions {
        program: Some(env!("CARGO_BIN_EXE_edgelesspart").into()),
        ..LocalOptions::default()
    };
    let agent = LocalAgent::start(&options).await.unwrap();
    let error = Client::connect(agent.url(), None).await;
    assert!(matches!(
        error,
        Err(ClientError::Refused { status: 401, .. })
    ));
    let arguments = std::fs::read(format!("/proc/{}/cmdline", agent.pid())).unwrap();
    let arguments = String::from_utf8_lossy(&arguments).into_owned();
    assert!(arguments.contains("--own-session") && !arguments.contains(agent.token()));
    assert!(!format!("{agent:?}").contains(agent.token()));
    agent.connect().await.unwrap();
}
