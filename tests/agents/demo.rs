//! The demo on two agents that encrypt and ask for a token, against the demo on two children of this
//! machine: sample by sample the same answers, each wire against its own column of the tables.

use crate::serving::Agent;
use edgelesspart::backend::BackendId;
use edgelesspart::engine::Cancel;
use edgelesspart::event::{Event, Stage};
use edgelesspart::plan::{Compression, Element, Link, SplitRule, Wire};
use edgelesspart::predict::Record;
use edgelesspart::report::Report;
use edgelesspart::run::{Options, run, run_evidence, run_evidence_with_images};
use edgelesspart::session::{Results, Session, Target, TierSettings, Token, Trust};
use pretty_assertions::assert_eq;
use std::path::Path;

const SAMPLES: usize = 60;

/// An agent with a certificate and a token of its own, and how a session names it.
fn secured(folder: &Path) -> (Agent, Target) {
    let made = Agent::command(&["--init", folder.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(made.status.success());
    let said = String::from_utf8(made.stdout).unwrap();
    let start = said.find("sha256:").unwrap();
    let file = |name: &str| folder.join(name).to_str().unwrap().to_string();
    let agent = Agent::start(&[
        "--tls-cert",
        &file("cert.pem"),
        "--tls-key",
        &file("key.pem"),
        "--token-file",
        &file("token"),
    ]);
    let target = Target::Agent {
        url: agent.url().to_string(),
        token: Some(Token::File(file("token").into())),
        trust: Trust::Fingerprint(said[start..start + 7 + 64].to_string()),
        engine: None,
    };
    (agent, target)
}

fn local() -> Target {
    Target::Local {
        cores: vec![],
        slowdown: 1.0,
        threads: Some(1),
        engine: BackendId::Native,
    }
}

type Answer = (u32, u16, u16, f32, bool, u64);

fn go(session: &Session, out: &Path) -> (Vec<Answer>, serde_json::Value, Results) {
    let options = Options {
        out: out.to_path_buf(),
        name: "demo".to_string(),
        fresh: false,
        until: Stage::Report,
        program: Some(env!("CARGO_BIN_EXE_edgelesspart").into()),
    };
    let mut records: Vec<Record> = Vec::new();
    let mut on = |event: Event| {
        if let Event::Records(all) = event {
            records = all;
        }
    };
    let done = run(session, &options, &mut on, &Cancel::new()).unwrap();
    let answers = records.iter().map(|r| {
        assert!(!r.degraded);
        (
            r.sample,
            r.exit,
            r.prediction,
            r.confidence,
            r.offloaded(),
            r.bytes_sent(),
        )
    });
    let report = done.report.unwrap();
    let results = *done.session.results.clone().unwrap();
    looks_the_same_again(session, &results, &report);
    let report = serde_json::to_value(report).unwrap();
    (answers.collect(), report, results)
}

/// What the run kept shows what its report does; of other images no picture is shown.
fn looks_the_same_again(session: &Session, results: &Results, report: &Report) {
    let again = run_evidence_with_images(session, results).unwrap();
    assert_eq!(Some(&again.shown), report.evidence.as_ref());
    assert!(again.shown.samples.iter().all(|s| s.picture.is_some()));
    assert_eq!(again.reliability, report.calibration_errors);
    let bare = run_evidence(session, results).unwrap();
    assert_eq!(bare.shown.confusions, again.shown.confusions);
    // Drawn by another seed, the test images are others.
    let others = Session {
        seed: session.seed + 1,
        ..session.clone()
    };
    let problem = run_evidence_with_images(&others, results).map(|_| ());
    let problem = problem.unwrap_err().to_string();
    assert!(problem.contains("no picture is shown"), "{problem}");
}

fn targets(session: &mut Session, edge: Vec<Target>, cloud: Vec<Target>) {
    for (tier, targets) in session.tiers.iter_mut().zip([edge, cloud]) {
        tier.targets = targets;
    }
}

#[test]
fn two_secured_agents_give_the_demo_s_answers_over_every_wire() {
    let folder = tempfile::tempdir().unwrap();
    let (edge, cloud) = (folder.path().join("edge"), folder.path().join("cloud"));
    let ((_edge, edge), (_cloud, cloud)) = (secured(&edge), secured(&cloud));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("sessions/demo.ron");
    let mut session = Session::read(&file).unwrap();
    session.test_samples = Some(SAMPLES);
    session.links = vec![Link::Measured];
    // Most samples come to the split and many beyond, so that the wires matter.
    session.policy.threshold = 0.9;
    let out = folder.path().join("out");
    let mut final_columns = Vec::new();
    for tensor in [Element::F32, Element::F16, Element::U8] {
        for compression in [Compression::None, Compression::Lz4] {
            session.wire = Wire {
                tensor,
                compression,
            };
            targets(&mut session, vec![local()], vec![local()]);
            let (here, report, results) = go(&session, &out);
            assert_eq!(report["equality"]["differing"], 0, "{:?}", session.wire);
            targets(&mut session, vec![edge.clone()], vec![cloud.clone()]);
            let (there, report, _) = go(&session, &out);
            assert_eq!(report["equality"]["differing"], 0, "{:?}", session.wire);
            assert_eq!(here.len(), SAMPLES);
            assert_eq!(there, here, "{:?}", session.wire);
            let offloaded = here.iter().filter(|a| a.4).count();
            assert!(offloaded > SAMPLES / 10, "{offloaded}");
            let table = match results.wires.iter().find(|w| w.wire == session.wire) {
                Some(own) => &own.test,
                None => {
                    assert_eq!(tensor, Element::F32, "another wire has columns of its own");
                    results.test.as_ref().unwrap()
                }
            };
            let table = table.unpack().unwrap();
            if compression == Compression::None {
                final_columns.push(format!("{:?}", table.final_column().unwrap()));
            }
        }
    }
    // They were not all held against the same one.
    assert!(final_columns[0] != final_columns[1] && final_columns[1] != final_columns[2]);
}

/// The demo's network on three processes, device → edge → cloud: sample by sample what the tables say.
#[test]
fn three_tiers_give_the_answers_of_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("sessions/demo.ron");
    let mut session = Session::read(&file).unwrap();
    session.test_samples = Some(SAMPLES);
    session.policy.threshold = 0.9;
    session.tiers = ["device", "edge", "cloud"]
        .map(|name| TierSettings {
            name: name.to_owned(),
            targets: vec![local()],
        })
        .into();
    session.links = vec![Link::Measured; 2];
    session.splits = [0.3, 0.7].map(|share| SplitRule::Layers { share }).into();
    let (answers, report, results) = go(&session, folder.path());
    assert_eq!(answers.len(), SAMPLES);
    assert_eq!(report["equality"]["compared"], SAMPLES);
    assert_eq!(report["equality"]["differing"], 0);
    assert_eq!(
        report["tiers"],
        serde_json::json!(["device", "edge", "cloud"])
    );
    let measured = &report["measured"];
    // The tables tell who goes on over each link, and the run sent just those.
    let hops = |of: &serde_json::Value| -> Vec<f64> {
        let hops = of["hops"].as_array().unwrap().iter();
        hops.map(|hop| hop["share"].as_f64().unwrap()).collect()
    };
    assert_eq!(hops(measured), hops(&report["predicted"]));
    let shares = hops(measured);
    assert!(shares[0] > shares[1] && shares[1] > 0.0, "{shares:?}");
    for tier in measured["tiers"].as_array().unwrap() {
        assert!(
            tier["memory_bytes"].as_u64().unwrap() > 1 << 20,
            "{measured}"
        );
    }
    assert!(measured["cost_per_million_usd"].as_f64().unwrap() > 0.0);
    assert_eq!(report["conditions"]["tiers"].as_array().unwrap().len(), 3);
    // Alone in the cloud, pixels cross both links.
    assert_eq!(hops(&report["baselines"]["cloud_only"]), [1.0, 1.0]);
    assert_eq!((results.profiles.len(), results.links.len()), (3, 2));
}
