//! Files and requests of a few bytes that ask for more memory than any machine has: refused in words,
//! by an agent that is well afterwards.

use crate::network::Network;
use crate::serving::{Agent, http};
use candle_onnx::onnx::{self, attribute_proto, tensor_proto, tensor_shape_proto, type_proto};
use edgelesspart::model::onnx::import_bytes;
use edgelesspart::plan::Tier;
use edgelesspart::protocol::message::{HeadToProfile, JobRequest, Refusal};
use edgelesspart::protocol::{Client, TlsTrust};
use edgelesspart::runtime::parts::{Part, PartSettings, Segment};
use prost::Message;
use reqwest::StatusCode;
use std::io::Read;

fn node(op: &str, inputs: &[&str], output: &str) -> onnx::NodeProto {
    onnx::NodeProto {
        op_type: op.to_string(),
        name: output.to_string(),
        input: inputs.iter().map(|i| i.to_string()).collect(),
        output: vec![output.to_string()],
        ..Default::default()
    }
}

fn ints(name: &str, values: &[i64]) -> onnx::TensorProto {
    onnx::TensorProto {
        name: name.to_string(),
        dims: vec![values.len() as i64],
        data_type: tensor_proto::DataType::Int64 as i32,
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

fn value(name: &str, dims: &[i64]) -> onnx::ValueInfoProto {
    use tensor_shape_proto::dimension::Value;
    let dim = |&d: &i64| tensor_shape_proto::Dimension {
        value: Some(match d {
            -1 => Value::DimParam("N".to_string()),
            d => Value::DimValue(d),
        }),
        ..Default::default()
    };
    let tensor = type_proto::Tensor {
        elem_type: tensor_proto::DataType::Float as i32,
        shape: Some(onnx::TensorShapeProto {
            dim: dims.iter().map(dim).collect(),
        }),
    };
    onnx::ValueInfoProto {
        name: name.to_string(),
        r#type: Some(onnx::TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A classifier of 3×16×16 that takes its way through `nodes`, from `x` to `wide`.
fn network(mut nodes: Vec<onnx::NodeProto>, initializer: Vec<onnx::TensorProto>) -> Vec<u8> {
    nodes.push(node("GlobalAveragePool", &["wide"], "pooled"));
    let mut flat = node("Flatten", &["pooled"], "y");
    flat.attribute = vec![onnx::AttributeProto {
        name: "axis".to_string(),
        r#type: attribute_proto::AttributeType::Int as i32,
        i: 1,
        ..Default::default()
    }];
    nodes.push(flat);
    let graph = onnx::GraphProto {
        name: "hungry".to_string(),
        node: nodes,
        initializer,
        input: vec![value("x", &[-1, 3, 16, 16])],
        output: vec![value("y", &[-1, 3])],
        ..Default::default()
    };
    let model = onnx::ModelProto {
        ir_version: 8,
        opset_import: vec![onnx::OperatorSetIdProto {
            domain: String::new(),
            version: 13,
        }],
        graph: Some(graph),
        ..Default::default()
    };
    model.encode_to_vec()
}

/// A picture blown up sixty-four times, all of them needed at once: half a terabyte.
fn wide_values() -> Vec<u8> {
    let (mut nodes, mut pads) = (Vec::new(), Vec::new());
    for i in 0..64i64 {
        let (pad, out) = (format!("pads{i}"), format!("wide{i}"));
        pads.push(ints(
            &pad,
            &[0, 0, 12_000 + i, 12_000, 0, 0, 12_000 - i, 12_000],
        ));
        nodes.push(node("Pad", &["x", &pad], &out));
    }
    let mut last = "wide0".to_string();
    for i in 1..64 {
        let sum = if i == 63 {
            "wide".to_string()
        } else {
            format!("sum{i}")
        };
        nodes.push(node("Add", &[&last, &format!("wide{i}")], &sum));
        last = sum;
    }
    network(nodes, pads)
}

/// Forty weights of a quarter of a gigabyte that the file only describes.
fn filled_weights() -> Vec<u8> {
    let mut last = "small".to_string();
    let mut nodes = vec![node("GlobalAveragePool", &["x"], &last)];
    for i in 0..40 {
        let (fill, sum) = (format!("fill{i}"), format!("sum{i}"));
        nodes.push(node("ConstantOfShape", &["shape"], &fill));
        let sum = if i == 39 { "wide".to_string() } else { sum };
        nodes.push(node("Add", &[&last, &fill], &sum));
        last = sum;
    }
    network(nodes, vec![ints("shape", &[1, 3, 4096, 4096])])
}

/// Small weights whose sums are large ones.
fn grown_weights() -> Vec<u8> {
    let line = |name: &str, dims: [i64; 4]| onnx::TensorProto {
        name: name.to_string(),
        dims: dims.to_vec(),
        data_type: tensor_proto::DataType::Float as i32,
        float_data: vec![1.0; 20_000],
        ..Default::default()
    };
    let mut initializer = Vec::new();
    let mut nodes = Vec::new();
    for i in 0..64 {
        let (a, b, c) = (format!("a{i}"), format!("b{i}"), format!("c{i}"));
        initializer.push(line(&a, [1, 1, 20_000, 1]));
        initializer.push(line(&b, [1, 1, 1, 20_000]));
        nodes.push(node("Add", &[&a, &b], &c));
    }
    let mut last = "pooled_x".to_string();
    nodes.push(node("GlobalAveragePool", &["x"], &last));
    for i in 0..64 {
        let sum = if i == 63 {
            "wide".to_string()
        } else {
            format!("s{i}")
        };
        nodes.push(node("Add", &[&last, &format!("c{i}")], &sum));
        last = sum;
    }
    network(nodes, initializer)
}

fn bundle(onnx: &[u8]) -> Vec<u8> {
    let graph = import_bytes(onnx, "hungry").unwrap();
    let part = Part {
        tier: Tier::Second,
        network: "hungry".to_string(),
        segments: vec![Segment { graph, exit: None }],
        classes: 3,
        ends_network: true,
        final_is_probabilities: false,
        settings: PartSettings::default(),
    };
    part.bundle().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_file_that_asks_for_all_memory_is_refused() {
    let agent = Agent::start(&[]);
    let client = Client::connect(agent.url(), None).await.unwrap();
    let profile = async |model: String, heads: Vec<HeadToProfile>, batch, runs| {
        let request = JobRequest::Profile {
            model,
            heads,
            batch,
            runs,
        };
        let id = client.submit(&request).await.unwrap();
        client
            .follow(&id, &mut |_| {})
            .await
            .unwrap_err()
            .to_string()
    };
    for (file, words) in [
        (wide_values(), "memory"),
        (filled_weights(), "too large"),
        (grown_weights(), "memory"),
    ] {
        assert!(file.len() < 20_000_000);
        let model = client.put(file).await.unwrap();
        let error = profile(model, vec![], 1, 10).await;
        assert!(error.contains(words), "{error}");
    }
    // As a part, through both doors.
    let part = client.put(bundle(&wide_values())).await.unwrap();
    let http = http(&TlsTrust::System);
    for request in [
        http.post(agent.path(&format!("/v1/parts/{part}"))),
        http.get(agent.path(&format!("/v2/models/{part}"))),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let error = response.json::<Refusal>().await.unwrap().error;
        assert!(error.contains("memory"), "{error}");
    }
    // Numbers that are made to be multiplied.
    let network = Network::new(1);
    let onnx = edgelesspart::model::export::to_onnx(&network.graph).unwrap();
    let model = client.put(onnx).await.unwrap();
    for (batch, runs) in [(usize::MAX, 1), (1 << 40, 1), (1, usize::MAX), (1, 1 << 40)] {
        let error = profile(model.clone(), vec![], batch, runs).await;
        assert!(error.contains("at most"), "{error}");
    }
    let part = client.put(network.bundle(0)).await.unwrap();
    let request = JobRequest::ProfilePart {
        part,
        runs: usize::MAX,
    };
    let id = client.submit(&request).await.unwrap();
    client.follow(&id, &mut |_| {}).await.unwrap_err();
    // It has none of it, and does what it should.
    assert!(client.info().await.unwrap().resident_bytes < 2 << 30);
    let good = JobRequest::Profile {
        model,
        heads: vec![],
        batch: 1,
        runs: 2,
    };
    let id = client.submit(&good).await.unwrap();
    client.follow(&id, &mut |_| {}).await.unwrap();
}

#[test]
fn an_agent_does_not_start_with_such_a_model() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), wide_values()).unwrap();
    let model = format!("hungry={}", file.path().display());
    let mut child = Agent::command(&["--model", &model]).spawn().unwrap();
    let mut error = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut error).unwrap();
    assert!(
        error.contains("the model hungry: ") && error.contains("memory"),
        "{error}"
    );
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
