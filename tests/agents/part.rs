//! A part made ready: what leaves where, what goes on, and that a batch is its samples.

use crate::network::{Network, SHAPE};
use crate::serving::{Agent, http};
use edgelesspart::backend::Compiled;
use edgelesspart::engine::{Cancel, Engine, EngineError, Options};
use edgelesspart::plan::Wire;
use edgelesspart::predict::Confidence;
use edgelesspart::predict::policy::{Output, decide};
use edgelesspart::protocol::message::{INFER_HEADER, InferReply};
use edgelesspart::protocol::{Client, TlsTrust, wire};
use edgelesspart::runtime::RunnerError;
use edgelesspart::runtime::parts::Part;
use edgelesspart::runtime::runner::{ExecutionOptions, ExitRules, Runner};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use std::time::Instant;

const SIZE: usize = SHAPE[0] * SHAPE[1] * SHAPE[2];

fn options(slowdown: f64) -> ExecutionOptions {
    ExecutionOptions {
        threads: 1,
        slowdown,
        ..ExecutionOptions::default()
    }
}

fn input(samples: usize) -> Vec<f32> {
    (0..samples * SIZE)
        .map(|i| ((i * 2_654_435_761) % 1000) as f32 / 250.0 - 2.0)
        .collect()
}

fn rules(thresholds: &[f64]) -> ExitRules<'_> {
    ExitRules {
        confidence: Confidence::MaxProbability,
        thresholds,
        last_exit_answers: false,
        earlier: &[],
    }
}

fn runner(spec: &Part) -> Runner {
    Runner::new(spec.clone(), &options(1.0)).unwrap()
}

#[test]
fn what_nobody_leaves_comes_out_as_of_the_whole() {
    let network = Network::new(1);
    let whole = Engine::new(network.graph.clone(), &Options { threads: 1 }).unwrap();
    let (edge, cloud) = (runner(&network.parts[0]), runner(&network.parts[1]));
    let x = input(3);
    let expected = whole.run_f32(3, &[&x], &Cancel::new()).unwrap().remove(0);
    let (mut work, mut behind) = (edge.work(), cloud.work());
    let stay = [1.0, 1.0];
    edge.run(3, &x, &rules(&stay), &mut work, &Cancel::new())
        .unwrap();
    assert_eq!(work.onward(), [0, 1, 2]);
    assert!(work.verdicts.iter().all(|v| !v.answered));
    let shape = edge.output_shape(3);
    assert_eq!(shape.iter().product::<usize>(), work.tensor().len());
    cloud
        .run(3, work.tensor(), &rules(&stay), &mut behind, &Cancel::new())
        .unwrap();
    assert_eq!(behind.segments_ms.len(), 3);
    for (verdict, scores) in behind.verdicts.iter().zip(expected.chunks(10)) {
        let decision = decide(scores, Output::Logits, 1.0).unwrap();
        let answer = verdict.latest.unwrap();
        assert!(verdict.answered);
        assert_eq!(answer.exit, 2);
        assert_eq!(answer.prediction, decision.prediction);
        assert_eq!(answer.confidence, decision.max_probability);
    }
}

#[test]
fn layers_behind_the_last_leaver_do_not_run() {
    let network = Network::new(1);
    let edge = runner(&network.parts[0]);
    let mut work = edge.work();
    let x = input(2);
    for (thresholds, segments) in [([0.0, 0.0], 1), ([1.0, 0.0], 2), ([1.0, 1.0], 3)] {
        edge.run(2, &x, &rules(&thresholds), &mut work, &Cancel::new())
            .unwrap();
        assert_eq!(work.segments_ms.len(), segments, "{thresholds:?}");
        assert_eq!(work.heads_ms.len(), segments.min(2));
        let exit = segments.min(2) as u16 - 1;
        assert!(work.verdicts.iter().all(|v| v.latest.unwrap().exit == exit));
    }
    let last = ExitRules {
        last_exit_answers: true,
        ..rules(&[1.0, 1.0])
    };
    edge.run(2, &x, &last, &mut work, &Cancel::new()).unwrap();
    assert_eq!(work.segments_ms.len(), 2);
    assert!(work.verdicts.iter().all(|v| v.answered));
}

#[test]
fn in_a_batch_each_sample_fares_as_alone() {
    let network = Network::new(1);
    let edge = runner(&network.parts[0]);
    let (mut batch, mut alone) = (edge.work(), edge.work());
    let x = input(6);
    // Between the confidences, so that some leave and some stay.
    edge.run(6, &x, &rules(&[1.0, 1.0]), &mut batch, &Cancel::new())
        .unwrap();
    edge.run(6, &x, &rules(&[0.0, 0.0]), &mut alone, &Cancel::new())
        .unwrap();
    let mut first: Vec<f32> = alone
        .verdicts
        .iter()
        .map(|v| v.latest.unwrap().confidence)
        .collect();
    first.sort_by(f32::total_cmp);
    let thresholds = [f64::from(first[2] + first[3]) / 2.0, 1.0];
    edge.run(6, &x, &rules(&thresholds), &mut batch, &Cancel::new())
        .unwrap();
    assert_eq!(batch.onward().len(), 3);
    let tensors = batch.tensor().chunks(batch.tensor().len() / 3);
    let mut tensors = tensors.map(<[f32]>::to_vec).collect::<Vec<_>>().into_iter();
    for sample in 0..6 {
        let one = &x[sample * SIZE..(sample + 1) * SIZE];
        edge.run(1, one, &rules(&thresholds), &mut alone, &Cancel::new())
            .unwrap();
        let (a, b) = (alone.verdicts[0], batch.verdicts[sample]);
        assert_eq!(a.answered, b.answered, "sample {sample}");
        let (a, b) = (a.latest.unwrap(), b.latest.unwrap());
        assert_eq!((a.exit, a.prediction), (b.exit, b.prediction));
        assert!((a.confidence - b.confidence).abs() < 1e-6);
        if !alone.verdicts[0].answered {
            let tensor = tensors.next().unwrap();
            let near = alone.tensor().iter().zip(&tensor);
            assert!(near.into_iter().all(|(a, b)| (a - b).abs() < 1e-4));
        }
    }
}

#[test]
fn a_slow_device_takes_its_time() {
    let network = Network::new(1);
    let slow = Runner::new(network.parts[0].clone(), &options(50.0)).unwrap();
    let mut work = slow.work();
    let start = Instant::now();
    slow.run(1, &input(1), &rules(&[1.0, 1.0]), &mut work, &Cancel::new())
        .unwrap();
    // What it says it took, it truly took.
    assert!(work.compute_ms() <= start.elapsed().as_secs_f32() * 1e3 + 1e-3);
    // A raised token ends the waiting, however long it would be.
    let cancel = Cancel::new();
    cancel.cancel();
    let stopped = slow.run(1, &input(1), &rules(&[1.0, 1.0]), &mut work, &cancel);
    assert!(matches!(
        stopped,
        Err(RunnerError::Engine(EngineError::Cancelled))
    ));
}

#[test]
fn refuses_what_does_not_fit() {
    let network = Network::new(1);
    let edge = runner(&network.parts[0]);
    let mut work = edge.work();
    let mut error = |batch, x: &[f32], thresholds: &[f64]| {
        let run = edge.run(batch, x, &rules(thresholds), &mut work, &Cancel::new());
        run.unwrap_err().to_string()
    };
    assert!(error(1, &input(1), &[0.5]).contains("1 thresholds for the 2 exits"));
    assert!(error(2, &input(1), &[0.5; 2]).contains("[3, 16, 16]"));
    assert!(error(0, &[], &[0.5; 2]).contains("0 samples"));
    assert!(error(1, &vec![f32::NAN; SIZE], &[0.5; 2]).contains("NaN"));
    let empty = Part {
        segments: vec![],
        ..network.parts[0].clone()
    };
    assert!(matches!(
        Runner::new(empty, &options(1.0)),
        Err(RunnerError::Empty)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_by_its_address_a_part_leaves_at_its_own_thresholds_unless_told_otherwise() {
    let network = Network::new(1);
    let agent = Agent::start(&[]);
    let client = Client::connect(agent.url(), None).await.unwrap();
    let shape = [&[2], network.split_shape().as_slice()].concat();
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|i| (i % 7) as f32)
        .collect();
    let body = wire::encode(Wire::default(), &shape, &values).unwrap();
    let ask = async |address: &str, header: &str| -> Vec<u16> {
        let url = agent.path(&format!("/v1/parts/{address}/infer"));
        let request = http(&TlsTrust::System)
            .post(url)
            .header(INFER_HEADER, header);
        let reply: InferReply = request
            .body(body.clone())
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        reply.answers.iter().map(|a| a.exit).collect()
    };
    let exits = network.exits(1) as u16;
    for (own, wanted) in [(0.0, 0), (1.0, exits)] {
        let mut part = network.parts[1].clone();
        let of_segments = part.segments.iter_mut().filter_map(|s| s.exit.as_mut());
        of_segments.for_each(|exit| exit.threshold = own);
        let address = client.put(part.bundle().unwrap()).await.unwrap();
        assert_eq!(ask(&address, "{}").await, [wanted; 2]);
        let told = json!({"confidence": "Margin", "thresholds": [1.0 - own, 1.0 - own]});
        assert_eq!(ask(&address, &told.to_string()).await, [exits - wanted; 2]);
        let exits_of = async |parameters| {
            let answer = json_of(&agent, &address, &shape, &values, parameters).await;
            answer["outputs"][1]["data"].clone()
        };
        assert_eq!(exits_of(json!({})).await, json!([wanted, wanted]));
        let other = exits - wanted;
        let told = json!({"threshold": 1.0 - own});
        assert_eq!(exits_of(told).await, json!([other, other]));
    }
}

/// The answer of the part's address as a model of the Open Inference Protocol.
async fn json_of(
    agent: &Agent,
    address: &str,
    shape: &[usize],
    values: &[f32],
    parameters: Value,
) -> Value {
    let http = http(&TlsTrust::System);
    let url = agent.path(&format!("/v2/models/{address}"));
    let about: Value = http.get(&url).send().await.unwrap().json().await.unwrap();
    let request = json!({"parameters": parameters, "inputs": [{
        "name": about["inputs"][0]["name"], "shape": shape, "datatype": "FP32", "data": values,
    }]});
    let answer = http.post(format!("{url}/infer")).body(request.to_string());
    answer.send().await.unwrap().json().await.unwrap()
}
