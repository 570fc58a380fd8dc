/*!
The Open Inference Protocol below `/v2`: every part that is loaded, and every `--model`, as a model.

A part is known by its address, a model by its name. Each takes one tensor of FP32. A part that ends
the network answers with the scores of the classifier at which a sample left, with that exit, and with
the confidence; its thresholds are the plan's, unless the request's parameter `threshold` gives another. A part that doesn't gives the tensor at the split for
every sample: what has to follow elsewhere isn't its to decide. A network gives its output.
*/

mod infer;
mod models;

pub use models::is_name;
pub(super) use models::load;

use super::body::count;
use super::error::Refused;
use super::state::Agent;
use super::stats::MODEL_VERSION;
use crate::protocol::v2::{CONFIDENCE, Datatype, EXIT, ModelMetadata, PLATFORM, TensorMetadata};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use models::{Named, find};
use serde_json::{Value, json};
use std::sync::Arc;
use tower_http::CompressionLevel;
use tower_http::compression::{CompressionLayer, predicate::SizeAbove};
use tower_http::decompression::RequestDecompressionLayer;

type Shared = State<Arc<Agent>>;

/// Bytes of an answer that isn't worth packing.
const SMALL: u16 = 512;
/// Bytes of the longest question for an index.
const INDEX: usize = 1 << 16;

/// Gives the endpoints of KServe's V2 protocol.
pub(super) fn routes() -> Router<Arc<Agent>> {
    let mut router = Router::new()
        .route("/v2", get(server))
        .route("/v2/health/live", get(async || StatusCode::OK))
        .route("/v2/health/ready", get(async || StatusCode::OK))
        .route("/v2/models/stats", get(all_stats))
        .route("/v2/repository/index", post(index));
    for model in ["/v2/models/{name}", "/v2/models/{name}/versions/{version}"] {
        router = router
            .route(model, get(metadata))
            .route(&format!("{model}/ready"), get(ready))
            .route(&format!("{model}/config"), get(config))
            .route(&format!("{model}/stats"), get(stats))
            .route(&format!("{model}/infer"), post(infer::infer));
    }
    // A body is unpacked as it is read, so that the bound of its reader holds for what comes out.
    let unpack = RequestDecompressionLayer::new().pass_through_unaccepted(true);
    let pack = CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(SizeAbove::new(SMALL));
    router.layer(unpack).layer(pack)
}

async fn server(State(agent): Shared) -> Json<Value> {
    Json(json!({
        "name": "edgelesspart",
        "version": env!("CARGO_PKG_VERSION"),
        // Not the protocol's; whoever doesn't know it passes it over.
        "device": {"machine": agent.machine.0, "engine": agent.backend.to_string()},
        "extensions": ["binary_tensor_data", "model_configuration", "model_repository", "statistics"],
    }))
}

fn names(agent: &Agent) -> Vec<String> {
    let given = agent.models.iter().map(|(name, _)| name.clone());
    given.chain(agent.parts.addresses()).collect()
}

async fn index(State(agent): Shared, body: Body) -> Result<Json<Value>, Refused> {
    // Whatever it asks for, all are told.
    count(body, INDEX).await?;
    let models = names(&agent).into_iter();
    let model =
        |name| json!({"name": name, "version": MODEL_VERSION, "state": "READY", "reason": ""});
    Ok(Json(models.map(model).collect()))
}

async fn ready(State(agent): Shared, Path(named): Path<Named>) -> Result<StatusCode, Refused> {
    find(&agent, &named).await.map(|_| StatusCode::OK)
}

async fn metadata(
    State(agent): Shared,
    Path(named): Path<Named>,
) -> Result<Json<ModelMetadata>, Refused> {
    let runner = find(&agent, &named).await?;
    let batch = if runner.any_batch() { -1 } else { 1 };
    let tensor = |name: &str, datatype, sample: &[usize]| TensorMetadata {
        name: name.to_string(),
        datatype,
        shape: std::iter::once(batch)
            .chain(sample.iter().map(|&d| d as i64))
            .collect(),
    };
    let mut outputs = vec![tensor(
        runner.output_name(),
        Datatype::F32,
        &runner.output_shape(1)[1..],
    )];
    if infer::leaves(&runner) {
        outputs.push(tensor(EXIT, Datatype::I32, &[]));
        outputs.push(tensor(CONFIDENCE, Datatype::F32, &[]));
    }
    Ok(Json(ModelMetadata {
        versions: Some(vec![MODEL_VERSION.to_string()]),
        platform: PLATFORM.to_string(),
        inputs: vec![tensor(
            runner.input_name(),
            Datatype::F32,
            &runner.info().input,
        )],
        outputs,
        name: named.name,
    }))
}

async fn config(State(agent): Shared, Path(named): Path<Named>) -> Result<Json<Value>, Refused> {
    let runner = find(&agent, &named).await?;
    let tensor =
        |name: &str, dims: &[usize]| json!({"name": name, "data_type": "TYPE_FP32", "dims": dims});
    Ok(Json(json!({
        "name": named.name,
        "platform": "edgelesspart",
        "backend": "edgelesspart",
        "max_batch_size": if runner.any_batch() { infer::SAMPLES } else { 1 },
        "input": [tensor(runner.input_name(), &runner.info().input)],
        "output": [tensor(runner.output_name(), &runner.output_shape(1)[1..])],
    })))
}

async fn stats(State(agent): Shared, Path(named): Path<Named>) -> Result<Json<Value>, Refused> {
    find(&agent, &named).await?;
    Ok(Json(json!({"model_stats": [agent.stats.of(&named.name)]})))
}

async fn all_stats(State(agent): Shared) -> Json<Value> {
    let models = names(&agent).into_iter();
    let all: Vec<Value> = models.map(|name| agent.stats.of(&name)).collect();
    Json(json!({"model_stats": all}))
}
