//! The Open Inference Protocol, as a stranger speaks it and as an edge does. `scripts/check-v2` does
//! the same with the clients and servers that others have written.

mod refused;

use crate::network::{Network, SHAPE};
use crate::serving::{Agent, http};
use edgelesspart::data::Preprocessing;
use edgelesspart::plan::{Element, Link, Wire};
use edgelesspart::predict::{Confidence, Record};
use edgelesspart::protocol::message::{
    CloudTarget, Evaluate, Hop, JobRequest, JobResult, Route, V2Model,
};
use edgelesspart::protocol::{Client, ClientError, TlsTrust};
use flate2::write::{GzEncoder, ZlibEncoder};
use pretty_assertions::assert_eq;
use reqwest::{Response, StatusCode};
use rstest::rstest;
use serde_json::{Value, json};
use std::io::{Read, Write};

const LENGTH: &str = "inference-header-content-length";

/// The whole network under a name, from a bundle and from its ONNX file.
struct Served {
    agent: Agent,
    http: reqwest::Client,
    network: Network,
    _folder: tempfile::TempDir,
}

fn served() -> Served {
    let network = Network::new(8);
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let file = folder.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        file.to_str().unwrap().to_string()
    };
    let onnx = edgelesspart::model::export::to_onnx(&network.graph).unwrap();
    let models = [
        format!("whole={}", write("whole.onnx", &onnx)),
        format!("edge={}", write("edge.part", &network.bundle(0))),
        format!("cloud={}", write("cloud.part", &network.bundle(1))),
    ];
    let arguments: Vec<&str> = models.iter().flat_map(|m| ["--model", m]).collect();
    let arguments = [&arguments[..], &["--max-body", "4000000"]].concat();
    Served {
        agent: Agent::start(&arguments),
        http: http(&TlsTrust::System),
        network,
        _folder: folder,
    }
}

impl Served {
    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let response = self.http.get(self.agent.path(path)).send().await.unwrap();
        let status = response.status();
        (status, response.json().await.unwrap_or_default())
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Response {
        let mut request = self.http.post(self.agent.path(path)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    async fn whole(&self, request: &Value) -> Value {
        let body = serde_json::to_vec(request).unwrap();
        let response = self.post("/v2/models/whole/infer", &[], body).await;
        assert_eq!(response.status(), StatusCode::OK);
        response.json().await.unwrap()
    }

    fn names(&self) -> (String, String) {
        let graph = &self.network.graph;
        let name = |id| graph.value(id).name.clone();
        (name(graph.inputs[0]), name(graph.outputs[0]))
    }

    fn request(&self, data: &[f32]) -> Value {
        let samples = data.len() / SHAPE.iter().product::<usize>();
        json!({"id": "7", "inputs": [{
            "name": self.names().0, "shape": [samples, 3, 16, 16], "datatype": "FP32", "data": data,
        }]})
    }
}

fn input(samples: usize) -> Vec<f32> {
    let size = samples * SHAPE.iter().product::<usize>();
    (0..size)
        .map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn models_say_what_they_are() {
    let served = served();
    for path in [
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/whole/ready",
    ] {
        assert_eq!(served.get(path).await.0, StatusCode::OK, "{path}");
    }
    let (_, server) = served.get("/v2").await;
    assert_eq!(server["name"], "edgelesspart");
    let (input, output) = served.names();
    for path in ["/v2/models/whole", "/v2/models/whole/versions/1"] {
        let (status, about) = served.get(path).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(
            about["inputs"],
            json!([{"name": input, "datatype": "FP32", "shape": [-1, 3, 16, 16]}])
        );
        assert_eq!(
            about["outputs"],
            json!([{"name": output, "datatype": "FP32", "shape": [-1, 10]}])
        );
    }
    let (_, about) = served.get("/v2/models/cloud").await;
    let outputs: Vec<&str> = about["outputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| o["name"].as_str().unwrap())
        .collect();
    assert_eq!(outputs[1..], ["exit", "confidence"]);
    let index = served.post("/v2/repository/index", &[], vec![]).await;
    let index: Value = index.json().await.unwrap();
    assert_eq!(index.as_array().unwrap().len(), 3);
    // A part that was sent is served, too, under its address.
    let client = Client::connect(served.agent.url(), None).await.unwrap();
    let part = client.put(served.network.bundle(1)).await.unwrap();
    let ready = format!("/v2/models/{part}/ready");
    assert_eq!(served.get(&ready).await.0, StatusCode::OK);
    for path in [
        "/v2/models/nothing",
        "/v2/models/nothing/ready",
        "/v2/models/whole/versions/2",
        "/v2/models/..%2f..%2fetc%2fpasswd",
        &format!("/v2/models/{}", "0".repeat(64)),
    ] {
        let (status, refusal) = served.get(path).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert!(refusal["error"].is_string(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_and_compressed_requests_give_the_same_answer() {
    let served = served();
    let data = input(3);
    let plain = served.whole(&served.request(&data)).await;
    assert_eq!(plain["id"], "7");
    assert_eq!(plain["model_name"], "whole");
    assert_eq!(plain["outputs"][0]["shape"], json!([3, 10]));
    let scores = &plain["outputs"][0]["data"];
    let size: usize = SHAPE.iter().product();
    let nested: Vec<&[f32]> = data.chunks(size).collect();
    let mut request = served.request(&data);
    request["inputs"][0]["data"] = json!(nested);
    assert_eq!(&served.whole(&request).await["outputs"][0]["data"], scores);
    // Compressed; deflate is zlib's framing (RFC 9110, section 8.4.1.2).
    let body = serde_json::to_vec(&served.request(&data)).unwrap();
    let level = flate2::Compression::default();
    let mut gzip = GzEncoder::new(Vec::new(), level);
    let mut zlib = ZlibEncoder::new(Vec::new(), level);
    gzip.write_all(&body).unwrap();
    zlib.write_all(&body).unwrap();
    for (encoding, packed) in [
        ("gzip", gzip.finish().unwrap()),
        ("deflate", zlib.finish().unwrap()),
    ] {
        let headers = [("content-encoding", encoding)];
        let response = served
            .post("/v2/models/whole/infer", &headers, packed)
            .await;
        let answer: Value = response.json().await.unwrap();
        assert_eq!(&answer["outputs"][0]["data"], scores, "{encoding}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_tensors_both_ways_give_the_same_answer_compressed_or_not() {
    let served = served();
    let data = input(3);
    let plain = served.whole(&served.request(&data)).await;
    let told = floats(&plain["outputs"][0]["data"]);
    let mut head = served.request(&[]);
    let tensor: Vec<u8> = data.iter().flat_map(|v| v.to_le_bytes()).collect();
    head["inputs"][0] = json!({
        "name": served.names().0, "shape": [3, 3, 16, 16], "datatype": "FP32",
        "parameters": {"binary_data_size": tensor.len()},
    });
    head["parameters"] = json!({"binary_data_output": true});
    let head = serde_json::to_vec(&head).unwrap();
    let length = head.len().to_string();
    let body = [head, tensor].concat();
    for accepted in ["identity", "gzip"] {
        let headers = [(LENGTH, length.as_str()), ("accept-encoding", accepted)];
        let response = served
            .post("/v2/models/whole/infer", &headers, body.clone())
            .await;
        let (head, tensor) = binary_answer(response).await;
        assert_eq!(head["outputs"][0]["parameters"]["binary_data_size"], 120);
        let values = tensor
            .chunks_exact(4)
            .map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        let values: Vec<f64> = values.collect();
        assert_eq!(values.len(), told.len());
        for (a, b) in values.iter().zip(&told) {
            assert!((a - b).abs() < 1e-6, "{a} {b}");
        }
    }
}

fn floats(data: &Value) -> Vec<f64> {
    let all = data.as_array().unwrap();
    all.iter().map(|v| v.as_f64().unwrap()).collect()
}

/// An answer's JSON and the bytes of its tensors, uncompressed.
async fn binary_answer(response: Response) -> (Value, Vec<u8>) {
    assert_eq!(response.status(), StatusCode::OK);
    let json_bytes = response.headers()[LENGTH].to_str().unwrap();
    let json_bytes: usize = json_bytes.parse().unwrap();
    let packed = response.headers().contains_key("content-encoding");
    let mut bytes = response.bytes().await.unwrap().to_vec();
    if packed {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&bytes[..])
            .read_to_end(&mut plain)
            .unwrap();
        bytes = plain;
    }
    let (head, tensor) = bytes.split_at(json_bytes);
    (serde_json::from_slice(head).unwrap(), tensor.to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_samples_are_counted() {
    let served = served();
    for samples in [3, 1] {
        served.whole(&served.request(&input(samples))).await;
    }
    let (_, stats) = served.get("/v2/models/whole/stats").await;
    let stats = &stats["model_stats"][0];
    assert_eq!(stats["inference_stats"]["success"]["count"], 2);
    assert_eq!(stats["inference_count"], 4);
    assert!(stats["inference_stats"]["compute_infer"]["ns"].as_u64() > Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_two_parts_one_behind_the_other_are_the_network() {
    let served = served();
    let data = input(2);
    let whole = served.whole(&served.request(&data)).await;
    let mut first = served.request(&data);
    first["id"] = Value::Null;
    let send = async |model: &str, request: Value| -> Value {
        let body = serde_json::to_vec(&request).unwrap();
        let path = format!("/v2/models/{model}/infer");
        let response = served.post(&path, &[], body).await;
        assert_eq!(response.status(), StatusCode::OK);
        response.json().await.unwrap()
    };
    let split = send("edge", first).await;
    let (_, about) = served.get("/v2/models/cloud").await;
    let second = json!({"inputs": [{
        "name": about["inputs"][0]["name"], "shape": split["outputs"][0]["shape"],
        "datatype": "FP32", "data": split["outputs"][0]["data"],
    }]});
    let end = send("cloud", second).await;
    assert_eq!(end["outputs"][1]["name"], "exit");
    let exits = end["outputs"][1]["data"].as_array().unwrap();
    let scores = |answer: &Value| floats(&answer["outputs"][0]["data"]);
    let last = served.network.exits(1) as u64;
    for (sample, exit) in exits.iter().enumerate() {
        if exit.as_u64() == Some(last) {
            let rows = sample * 10..(sample + 1) * 10;
            for (a, b) in scores(&end)[rows.clone()].iter().zip(&scores(&whole)[rows]) {
                assert!((a - b).abs() < 1e-4, "{a} {b}");
            }
        }
    }
}

/// An edge, and a server behind it that speaks both protocols.
struct Offloading {
    served: Served,
    edge: Client,
    _edge_agent: Agent,
    /// The server, as an agent is spoken to.
    own: Client,
    /// Addresses of the edge's part, of the cloud's and of the samples.
    part: String,
    cloud_part: String,
    data: String,
    /// Exits of both parts.
    exits: usize,
}

impl Offloading {
    async fn new() -> Offloading {
        let served = served();
        let network = &served.network;
        let edge_agent = Agent::start(&[]);
        let edge = Client::connect(edge_agent.url(), None).await.unwrap();
        let own = Client::connect(served.agent.url(), None).await.unwrap();
        Offloading {
            part: edge.put(network.bundle(0)).await.unwrap(),
            cloud_part: own.put(network.bundle(1)).await.unwrap(),
            data: edge.put(network.data.encode().unwrap()).await.unwrap(),
            exits: network.exits(0) + network.exits(1),
            served,
            edge,
            _edge_agent: edge_agent,
            own,
        }
    }

    /// The server's model of a name, by its protocol.
    fn v2(&self, name: &str) -> CloudTarget {
        CloudTarget {
            v2: Some(V2Model {
                name: name.to_string(),
                probabilities: false,
            }),
            ..self.served.agent.target()
        }
    }

    /// Both parts, the second on `cloud`.
    fn distributed(&self, cloud: CloudTarget) -> Route {
        Route::over(Some(self.part.clone()), hop(&self.cloud_part, cloud))
    }

    /// Runs eight samples over `route`, with thresholds for as many exits.
    async fn run(
        &self,
        route: Route,
        thresholds: usize,
        tensor: Element,
    ) -> Result<Vec<Record>, ClientError> {
        let first = self.served.network.exits(0);
        // In the cloud the plan's, which is what the model there goes by.
        let threshold = |at| if at < first { 1.0 } else { 0.5 };
        let run = Evaluate {
            route,
            data: self.data.clone(),
            preprocessing: Preprocessing::default(),
            samples: (0..8).collect(),
            warm_up: 1,
            confidence: Confidence::MaxProbability,
            thresholds: (0..thresholds).map(threshold).collect(),
            last_exit_answers: false,
            wire: Wire {
                tensor,
                ..Wire::default()
            },
            jpeg: None,
            deadline_ms: None,
            degrade: false,
        };
        let id = self.edge.submit(&JobRequest::Evaluate(Box::new(run))).await;
        let id = id.unwrap();
        self.edge.follow(&id, &mut |_| {}).await?;
        self.edge.all_records(&id).await
    }
}

fn hop(part: &str, cloud: CloudTarget) -> Hop {
    Hop {
        part: Some(part.to_string()),
        targets: vec![cloud],
        link: Link::Measured,
    }
}

fn answers(records: &[Record]) -> Vec<(u16, u16, f32)> {
    let answer = |r: &Record| (r.exit, r.prediction, r.confidence);
    records.iter().map(answer).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_offloads_to_such_a_server_as_to_an_agent() {
    let there = Offloading::new().await;
    let exits = there.exits;
    let run = async |cloud| {
        there
            .run(there.distributed(cloud), exits, Element::F32)
            .await
    };
    let as_agent = run(there.served.agent.target()).await.unwrap();
    let as_v2 = run(there.v2("cloud")).await.unwrap();
    assert!(
        as_v2
            .iter()
            .all(|r| r.offloaded() && r.bytes_sent() > 0 && r.hops[0].network_ms > 0.0)
    );
    let early = |r: &Record| usize::from(r.exit) < exits;
    assert!(as_v2.iter().any(early), "an exit there is told, too");
    assert_eq!(answers(&as_v2), answers(&as_agent));
}

/// The edge preprocesses for it; an agent is sent pixels.
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_network_on_such_a_server_answers_as_on_an_agent() {
    let there = Offloading::new().await;
    let as_v2 = Route::over(None, hop(&there.cloud_part, there.v2("whole")));
    let as_v2 = there.run(as_v2, 0, Element::F32).await.unwrap();
    let bundle = there.served.network.whole_bundle();
    let whole = there.own.put(bundle).await.unwrap();
    let as_agent = Route::over(None, hop(&whole, there.served.agent.target()));
    let as_agent = there.run(as_agent, 0, Element::F32).await.unwrap();
    assert_eq!(answers(&as_v2), answers(&as_agent));
}

#[rstest]
#[case::missing("nothing", Element::F32, "no model `nothing`")]
#[case::of_another_plan("whole", Element::F32, "not of one plan")]
#[case::of_another_element("cloud", Element::U8, "F32")]
#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_does_not_fit_is_refused(
    #[case] model: &str,
    #[case] tensor: Element,
    #[case] words: &str,
) {
    let there = Offloading::new().await;
    let route = there.distributed(there.v2(model));
    let error = there.run(route, there.exits, tensor).await.unwrap_err();
    let error = error.to_string();
    assert!(error.contains(words), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_link_to_such_a_server_is_measured() {
    let there = Offloading::new().await;
    let link = JobRequest::MeasureLink {
        cloud: there.v2("cloud"),
        link: Link::Measured,
    };
    let id = there.edge.submit(&link).await.unwrap();
    let end = there.edge.follow(&id, &mut |_| {}).await.unwrap();
    let JobResult::Link(profile) = end else {
        panic!("{end:?}");
    };
    assert_eq!(profile.warm.len(), 6);
    assert!(profile.warm.iter().all(|&(_, ms)| ms > 0.0));
}
