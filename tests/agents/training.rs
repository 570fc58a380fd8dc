//! Heads trained on a target: the same ones as here, told of while it goes on, stopped when asked.

use crate::network::{Network, SHAPE};
use crate::serving::{Agent, in_time};
use edgelesspart::backend::Compiled;
use edgelesspart::data::Preprocessing;
use edgelesspart::engine::{Cancel, Engine, Options};
use edgelesspart::exits;
use edgelesspart::exits::Head;
use edgelesspart::model::Graph;
use edgelesspart::model::export::to_onnx;
use edgelesspart::model::fuse::fuse;
use edgelesspart::model::layers::LayerTable;
use edgelesspart::model::onnx::import_bytes;
use edgelesspart::protocol::message::{
    DataSet, Epoch, HeadToTrain, JobEvent, JobRequest, JobResult, LabelledSet, TrainHeads,
};
use edgelesspart::protocol::{Client, ClientError};
use edgelesspart::train::{
    CacheLimits, Event, HeadSpec, Samples, Task, TrainingConfig, train_heads,
};
use pretty_assertions::assert_eq;
use serde_json::Value;
use std::process::Command;

const SOURCE: &str = "[GlobalAvgPool, Linear(12), Relu, Dropout(0.2), Linear(classes)]";
const IMAGES: usize = 150;

/// A frozen network, heads at three places in it, and something to learn.
struct School {
    onnx: Vec<u8>,
    backbone: Graph,
    heads: Vec<Head>,
    data: DataSet,
}

impl School {
    fn new() -> School {
        let network = Network::new(IMAGES);
        let onnx = to_onnx(&network.graph).unwrap();
        let backbone = fuse(&import_bytes(&onnx, "network").unwrap());
        let table = LayerTable::new(&backbone).unwrap();
        let points = exits::points(&table, &backbone);
        let heads = points.iter().step_by(points.len() / 3).take(3);
        School {
            heads: heads
                .map(|p| exits::head(SOURCE, p, "edge", p.index as u64).unwrap())
                .collect(),
            data: network.data,
            backbone,
            onnx,
        }
    }

    async fn request(&self, client: &Client, hyper: TrainingConfig) -> TrainHeads {
        let labels: Vec<u8> = (0..self.len())
            .flat_map(|i| self.label(i).to_le_bytes())
            .collect();
        let mut heads = Vec::new();
        for head in &self.heads {
            let dropout = head.dropout.iter().map(|d| (d.value.clone(), d.rate));
            heads.push(HeadToTrain {
                name: head.point.after.clone(),
                value: head.point.value.clone(),
                model: client.put(to_onnx(&head.graph).unwrap()).await.unwrap(),
                dropout: dropout.collect(),
                recipe: Default::default(),
            });
        }
        TrainHeads {
            batch: 64,
            model: client.put(self.onnx.clone()).await.unwrap(),
            heads,
            lessons: LabelledSet {
                data: client.put(self.data.encode().unwrap()).await.unwrap(),
                labels: client.put(labels).await.unwrap(),
            },
            judge: None,
            preprocessing: Preprocessing::default(),
            hyper,
        }
    }
}

impl Samples for School {
    fn len(&self) -> usize {
        self.data.samples
    }

    fn label(&self, index: usize) -> u16 {
        (index * 7 % 10) as u16
    }

    fn input(&self, index: usize, out: &mut [f32]) {
        let size = self.data.sample_bytes();
        let pixels = &self.data.pixels[index * size..][..size];
        Preprocessing::default().apply(SHAPE, pixels, out).unwrap();
    }
}

/// What a head says of some features.
fn scores(head: &Graph) -> Vec<f32> {
    let head = fuse(head);
    let size = head.value(head.inputs[0]).shape.elements(1);
    let features: Vec<f32> = (0..4 * size).map(|i| (i as f32 * 0.37).sin()).collect();
    let engine = Engine::new(head, &Options { threads: 1 }).unwrap();
    let outputs = engine.run_f32(4, &[&features], &Cancel::new());
    outputs.unwrap().remove(0)
}

fn hyper(epochs: usize) -> TrainingConfig {
    TrainingConfig::for_heads(epochs, 32, 7)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_trains_the_heads_that_this_machine_would() {
    let school = School::new();
    let specs: Vec<HeadSpec> = school.heads.iter().map(HeadSpec::from).collect();
    let (hyper, cancel) = (hyper(4), Cancel::new());
    let task = Task::new(&school, &hyper, &cancel);
    let limits = CacheLimits::memory(1 << 28);
    let mut expected = Vec::new();
    let here = train_heads(&school.backbone, &specs, &task, &limits, &mut |event| {
        if let Event::Epoch { scores, .. } = event {
            expected.push(scores);
        }
    });
    let here = here.unwrap();

    let agent = Agent::start(&[]);
    let client = Client::connect(agent.url(), None).await.unwrap();
    let request = school.request(&client, hyper.clone()).await;
    let request = JobRequest::TrainHeads(Box::new(request));
    let id = client.submit_as("lesson", &request).await.unwrap();
    // Who asks again gets the same job.
    assert_eq!(client.submit_as("lesson", &request).await.unwrap(), id);
    let (mut told, mut done) = (Vec::new(), 0);
    let end = client
        .follow(&id, &mut |event| match event {
            JobEvent::Epoch(epoch) => told.push(epoch.clone()),
            JobEvent::Progress(p) => done = p.done,
            _ => {}
        })
        .await;
    let Ok(JobResult::Trained(trained)) = end else {
        panic!("{end:?}");
    };
    assert_eq!((trained.heads, done), (3, 4));
    assert_eq!(
        trained.curve, told,
        "whoever came late knows the whole curve"
    );
    for (at, (epoch, expected)) in told.iter().zip(&expected).enumerate() {
        let Epoch {
            epoch,
            epochs,
            scores,
            ..
        } = epoch;
        assert_eq!((*epoch, *epochs), (at + 1, 4));
        let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
        for (there, here) in scores.iter().zip(expected) {
            assert_eq!(there.0, here.0);
            assert!(
                near(there.1, here.1) && near(there.2, here.2),
                "{there:?} {here:?}"
            );
        }
    }
    for (at, (here, untrained)) in here.iter().zip(&school.heads).enumerate() {
        let there = client.result(&id, at).await.unwrap();
        let there = scores(&import_bytes(&there, "head").unwrap());
        for (a, b) in scores(here).iter().zip(&there) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
        assert_ne!(there, scores(&untrained.graph), "it has learnt");
    }
    let none = client.result(&id, 3).await;
    assert!(matches!(
        none,
        Err(ClientError::Refused { status: 404, .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_stops_when_asked_and_says_what_it_cannot_learn_from() {
    let school = School::new();
    let agent = Agent::start(&[]);
    let client = Client::connect(agent.url(), None).await.unwrap();
    let endless = school.request(&client, hyper(1_000_000)).await;
    let id = client
        .submit(&JobRequest::TrainHeads(Box::new(endless.clone())))
        .await
        .unwrap();
    let (other, job) = (client.clone(), id.clone());
    let (tell, told) = tokio::sync::oneshot::channel();
    let mut tell = Some(tell);
    let stopper = tokio::spawn(async move {
        told.await.unwrap();
        other.cancel(&job).await.unwrap();
    });
    let mut on = |event: &JobEvent| {
        if matches!(event, JobEvent::Epoch(_))
            && let Some(tell) = tell.take()
        {
            tell.send(()).unwrap();
        }
    };
    // The training itself would take hours.
    let end = in_time(client.follow(&id, &mut on)).await;
    assert_eq!(end, Err(ClientError::Cancelled));
    stopper.await.unwrap();
    let wrong = async |change: &dyn Fn(&mut TrainHeads)| {
        let mut request = endless.clone();
        request.hyper.epochs = 1;
        change(&mut request);
        let job = JobRequest::TrainHeads(Box::new(request));
        let id = client.submit(&job).await.unwrap();
        client
            .follow(&id, &mut |_| {})
            .await
            .unwrap_err()
            .to_string()
    };
    let few = client.put(vec![0; 2 * IMAGES - 2]).await.unwrap();
    let error = wrong(&|r| r.lessons.labels.clone_from(&few)).await;
    assert!(error.contains("150 images"), "{error}");
    let high = client.put(vec![255; 2 * IMAGES]).await.unwrap();
    let error = wrong(&|r| r.lessons.labels.clone_from(&high)).await;
    assert!(!error.contains("its log"), "{error}");
    let error = wrong(&|r| r.heads[0].value = "nowhere".into()).await;
    assert!(error.contains("nowhere"), "{error}");
    let error = wrong(&|r| r.lessons.data = "0".repeat(64)).await;
    assert!(error.contains("send it first"), "{error}");
    let error = wrong(&|r| r.preprocessing.mean = vec![0.5; 2]).await;
    assert!(!error.contains("its log"), "{error}");
    let error = wrong(&|r| r.hyper.batch = 0).await;
    assert!(error.contains("a batch"), "{error}");
    client.info().await.unwrap();
}

#[test]
fn a_session_says_where_its_exits_are_trained() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_edgelesspart"))
            .current_dir(folder.path())
            .args(arguments)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{told}");
        output.stdout
    };
    run(&["export", "resnet8", "net.onnx", "--width", "0.5"]);
    let mut reports = Vec::new();
    for place in ["Here", "Cloud"] {
        let session = format!(
            "Session(
                version: 1,
                model: Onnx(\"net.onnx\"),
                data: Synthetic(seed: 3),
                calibration: FromTrain(60),
                train_samples: 200,
                test_samples: 90,
                exits: (per_part: 2, placement: Linear, training: Frozen(epochs: 2)),
                edge: [Local(cores: [0])],
                cloud: [Local(cores: [0])],
                train_on: {place},
            )"
        );
        let name = format!("{place}.ron");
        std::fs::write(folder.path().join(&name), session).unwrap();
        let report = run(&["run", &name, "--json", "--out", place]);
        reports.push(serde_json::from_slice::<Value>(&report).unwrap());
        let events = folder.path().join(place).join("events.jsonl");
        let events = std::fs::read_to_string(events).unwrap();
        assert_eq!(events.matches("\"Epoch\"").count(), 2, "{place}");
        assert_eq!(
            events.contains("training images to the target"),
            place == "Cloud"
        );
        // Nothing is left to be found of a run that came to its end.
        assert!(!folder.path().join(place).join("targets.json").exists());
    }
    let [here, cloud] = &reports[..] else {
        panic!();
    };
    assert_eq!(here["plan"]["exits"], cloud["plan"]["exits"]);
    for report in &reports {
        assert_eq!(report["equality"]["differing"], 0);
    }
    let close = |key: &str| {
        let of = |report: &Value| report["measured"][key].as_f64().unwrap();
        assert!((of(here) - of(cloud)).abs() < 0.012, "{key}");
    };
    close("accuracy");
}
