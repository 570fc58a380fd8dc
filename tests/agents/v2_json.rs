//! A cloud that speaks the Open Inference Protocol as the least of its servers do: JSON alone, an id
//! wanted, errors in words of its own, a connection that breaks now and then.

use crate::network::Network;
use crate::serving::Agent;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use edgelesspart::backend::Compiled;
use edgelesspart::engine::{Cancel, Engine, Options};
use edgelesspart::plan::{Link, Wire};
use edgelesspart::predict::{Confidence, Record};
use edgelesspart::protocol::message::{
    CloudTarget, Evaluate, Hop, JobEvent, JobRequest, JobResult, Route, V2Model,
};
use edgelesspart::protocol::{Client, ClientError};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What such a server is like.
#[derive(Clone, Copy, Default)]
struct Habits {
    /// Says of its model what it is called, and nothing else.
    taciturn: bool,
    /// Answers in rows, and in FP64.
    rows: bool,
    /// Drops the connection of every seventh request.
    drops: bool,
    /// Refuses everything, in a page.
    broken: bool,
}

struct Server {
    habits: Habits,
    /// The network behind the split, piece by piece.
    pieces: Vec<Engine>,
    input: Vec<usize>,
    asked: AtomicUsize,
    refused: AtomicUsize,
}

async fn about(State(server): State<Arc<Server>>) -> Response {
    if server.habits.taciturn {
        return axum::Json(json!({"name": "m"})).into_response();
    }
    let shape: Vec<i64> = std::iter::once(-1)
        .chain(server.input.iter().map(|&d| d as i64))
        .collect();
    axum::Json(json!({
        "name": "m", "versions": ["1"], "platform": "sklearn_v2", "parameters": {"a": 1},
        "inputs": [{"name": "x", "datatype": "FP32", "shape": shape, "parameters": {}}],
        "outputs": [
            {"name": "label", "datatype": "INT64", "shape": [-1]},
            {"name": "scores", "datatype": "FP32", "shape": [-1, 10]},
        ],
    }))
    .into_response()
}

fn refuse(server: &Server, status: StatusCode, what: &str) -> Response {
    server.refused.fetch_add(1, Ordering::Relaxed);
    (status, axum::Json(json!({"detail": what}))).into_response()
}

async fn infer(State(server): State<Arc<Server>>, headers: HeaderMap, body: Bytes) -> Response {
    let asked = server.asked.fetch_add(1, Ordering::Relaxed);
    if server.habits.broken {
        return (StatusCode::BAD_GATEWAY, "<html>no upstream</html>").into_response();
    }
    let Ok(request) = serde_json::from_slice::<Value>(&body) else {
        return refuse(&server, StatusCode::BAD_REQUEST, "JSON decode error");
    };
    assert!(!headers.contains_key("inference-header-content-length"));
    assert_eq!(headers["content-type"], "application/json");
    if !request["id"].is_string() {
        return refuse(&server, StatusCode::INTERNAL_SERVER_ERROR, "id: none");
    }
    // A connection that breaks: whoever serves it is gone.
    assert!(!server.habits.drops || asked % 7 != 6, "dropped on purpose");
    let one = &request["inputs"][0];
    let shape: Vec<usize> = serde_json::from_value(one["shape"].clone()).unwrap();
    assert_eq!(shape[1..], server.input[..]);
    let mut x: Vec<f32> = serde_json::from_value(one["data"].clone()).unwrap();
    for piece in &server.pieces {
        x = piece.run_f32(1, &[&x], &Cancel::new()).unwrap().remove(0);
    }
    let (data, datatype) = match server.habits.rows {
        true => (json!([x]), "FP64"),
        false => (json!(x), "FP32"),
    };
    let scores = json!({
        "name": "scores", "shape": [1, 10], "datatype": datatype, "data": data,
        "parameters": {"content_type": "np"},
    });
    // Whoever says what there is may also add what nobody asked for.
    let outputs = match server.habits.taciturn {
        true => json!([scores]),
        false => json!([
            {"name": "label", "shape": [1], "datatype": "INT64", "data": [3]},
            {"name": "word", "shape": [1], "datatype": "BYTES", "data": ["ship"]},
            scores,
        ]),
    };
    axum::Json(json!({
        "model_name": "m", "id": request["id"], "parameters": {"took": 3},
        "outputs": outputs,
    }))
    .into_response()
}

async fn start(network: &Network, habits: Habits) -> (String, Arc<Server>) {
    let pieces = network.parts[1]
        .segments
        .iter()
        .map(|segment| Engine::new(segment.graph.clone(), &Options { threads: 1 }).unwrap());
    let server = Arc::new(Server {
        habits,
        pieces: pieces.collect(),
        input: network.split_shape(),
        asked: AtomicUsize::new(0),
        refused: AtomicUsize::new(0),
    });
    let router = Router::new()
        .route("/v2/models/m", get(about))
        .route("/v2/models/m/ready", get(async || "true"))
        .route("/v2/models/m/infer", post(infer))
        .with_state(server.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, server)
}

async fn offload(
    network: &Network,
    edge: &Client,
    cloud: CloudTarget,
    cloud_part: &str,
) -> (Result<JobResult, ClientError>, Vec<Record>, Vec<String>) {
    let run = Evaluate {
        route: Route::over(
            Some(edge.put(network.bundle(0)).await.unwrap()),
            Hop {
                part: Some(cloud_part.to_string()),
                targets: vec![cloud],
                link: Link::Measured,
            },
        ),
        data: edge.put(network.data.encode().unwrap()).await.unwrap(),
        preprocessing: Default::default(),
        samples: (0..30).collect(),
        warm_up: 2,
        confidence: Confidence::MaxProbability,
        // Nothing leaves before the end.
        thresholds: vec![1.0; network.exits(0) + network.exits(1)],
        last_exit_answers: false,
        wire: Wire::default(),
        jpeg: None,
        deadline_ms: None,
        degrade: false,
    };
    let id = edge.submit(&JobRequest::Evaluate(Box::new(run))).await;
    let id = id.unwrap();
    let mut said = Vec::new();
    let end = edge
        .follow(&id, &mut |event| {
            if let JobEvent::Log { text } = event {
                said.push(text.clone());
            }
        })
        .await;
    (end, edge.all_records(&id).await.unwrap(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_offloads_to_a_server_that_speaks_json_alone() {
    let network = Network::new(30);
    let (edge_agent, cloud_agent) = (Agent::start(&[]), Agent::start(&[]));
    let edge = Client::connect(edge_agent.url(), None).await.unwrap();
    let cloud = Client::connect(cloud_agent.url(), None).await.unwrap();
    let part = cloud.put(network.bundle(1)).await.unwrap();
    let (end, expected, _) = offload(&network, &edge, cloud_agent.target(), &part).await;
    end.unwrap();
    let plain = Habits::default();
    for habits in [
        plain,
        Habits {
            taciturn: true,
            ..plain
        },
        Habits {
            rows: true,
            ..plain
        },
        Habits {
            drops: true,
            ..plain
        },
    ] {
        let (url, server) = start(&network, habits).await;
        let target = CloudTarget {
            v2: Some(V2Model {
                name: "m".to_string(),
                probabilities: false,
            }),
            ..CloudTarget::new(url)
        };
        let (end, records, said) = offload(&network, &edge, target, &part).await;
        let end = end.unwrap();
        assert!(
            matches!(end, JobResult::Evaluated(e) if e.clouds[0].failed == 0),
            "{said:?}"
        );
        assert_eq!(records.len(), 30);
        for (found, expected) in records.iter().zip(&expected) {
            assert_eq!(
                (found.exit, found.prediction),
                (expected.exit, expected.prediction)
            );
            assert!((found.confidence - expected.confidence).abs() < 1e-6);
            assert!(found.offloaded() && !found.degraded && found.bytes_sent() > 0);
        }
        // It was asked in binary once, and not again after it had refused.
        assert_eq!(server.refused.load(Ordering::Relaxed), 1);
        assert!(server.asked.load(Ordering::Relaxed) >= 2 + 32);
    }
    // One that can't be spoken with at all is told in its own words.
    let (url, _) = start(
        &network,
        Habits {
            broken: true,
            ..plain
        },
    )
    .await;
    let target = CloudTarget {
        v2: Some(V2Model {
            name: "m".to_string(),
            probabilities: false,
        }),
        ..CloudTarget::new(url)
    };
    let (end, records, _) = offload(&network, &edge, target, &part).await;
    let error = end.unwrap_err().to_string();
    assert!(
        error.contains("502") && error.contains("no upstream"),
        "{error}"
    );
    assert!(records.is_empty());
}
