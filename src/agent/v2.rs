/*!
The Open Inference Protocol below `/v2`: every part that is loaded, and every `--model`, as a model.

A part is known by its address, a model by its name. Each takes one tensor of FP32. A part that ends
the network answers with the scores of the classifier at which a sample left, with that exit, and with
the confidence; its thresholds are the plan's. A part that doesn't gives the tensor at the split for
every sample: what has to follow elsewhere isn't its to decide. A network gives its output.
*/

mod infer;
mod stats;

pub(super) use stats::Stats;

use super::error::Refused;
use super::routes::blocking;
use super::server::Agent;
use crate::model::fuse::fused;
use crate::model::onnx::import_reader;
use crate::protocol::v2::{CONFIDENCE, Datatype, EXIT, ModelMetadata, PLATFORM, TensorMetadata};
use crate::runtime::parts::{PartBundle, PartSpec, Segment};
use crate::runtime::runner::{Means, Runner};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

type Shared = State<Arc<Agent>>;

/// The one version of every model.
pub(super) const VERSION: &str = "1";
/// Begins a bundle; anything else is taken for ONNX.
const BUNDLE: &[u8] = b"ELPPART";

/// Whether a model may be called so: it stands in addresses.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= 128 && !name.starts_with('.') && name.chars().all(plain)
}

/// A network or part from its file, ready to run.
pub(super) fn load(name: &str, mut file: File, means: &Means) -> Result<Runner, String> {
    let about = file.metadata().map_err(|e| e.to_string())?;
    if about.is_file() {
        return read(name, &mut BufReader::new(file), about.len(), means);
    }
    // A pipe doesn't say how long it is.
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    read(name, &mut bytes.as_slice(), bytes.len() as u64, means)
}

fn read(
    name: &str,
    mut file: &mut dyn BufRead,
    length: u64,
    means: &Means,
) -> Result<Runner, String> {
    let start = file.fill_buf().map_err(|e| e.to_string())?;
    let spec = if start.starts_with(BUNDLE) {
        let bundle = PartBundle::read(&mut file, length);
        bundle.map_err(|e| e.to_string())?.spec
    } else {
        let graph = import_reader(&mut file, length, name).map_err(|e| e.to_string())?;
        PartSpec {
            tier: crate::plan::Tier::Second,
            network: name.to_string(),
            classes: 0,
            // Its output is taken as it is, scores or not.
            ends_network: false,
            final_is_probabilities: false,
            segments: vec![Segment {
                graph: fused(graph),
                exit: None,
            }],
        }
    };
    Runner::new(spec, means).map_err(|e| e.to_string())
}

/// The endpoints.
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
    router
}

/// A model's name and, where the address has it, version.
#[derive(serde::Deserialize)]
pub(super) struct Named {
    name: String,
    #[serde(default)]
    version: Option<String>,
}

/// The model of this name: one that was given at the start, or a part that was sent.
async fn find(agent: &Arc<Agent>, named: &Named) -> Result<Arc<Runner>, Refused> {
    let name = &named.name;
    if let Some(version) = named.version.as_ref().filter(|v| *v != VERSION) {
        let what = format!("`{name}` has no version {version}; there is {VERSION}");
        return Err(Refused::missing(what));
    }
    if let Some((_, runner)) = agent.models.iter().find(|(n, _)| n == name) {
        return Ok(runner.clone());
    }
    if let Some(runner) = agent.parts.get(name) {
        return Ok(runner);
    }
    if agent.store.get(name).is_none() {
        let what = format!("there is no model `{}`", name.escape_debug());
        return Err(Refused::missing(what));
    }
    let (agent, name) = (agent.clone(), name.clone());
    blocking(move || agent.parts.prepare(&name, &agent.store)).await
}

async fn server(State(agent): Shared) -> Json<Value> {
    Json(json!({
        "name": "edgelesspart",
        "version": env!("CARGO_PKG_VERSION"),
        // Not the protocol's; whoever doesn't know it passes it over.
        "device": {"machine": agent.machine.0, "processor": agent.backend.to_string()},
        "extensions": ["binary_tensor_data", "model_configuration", "model_repository", "statistics"],
    }))
}

fn names(agent: &Agent) -> Vec<String> {
    let given = agent.models.iter().map(|(name, _)| name.clone());
    given.chain(agent.parts.addresses()).collect()
}

async fn index(State(agent): Shared, _body: Bytes) -> Json<Value> {
    let models = names(&agent).into_iter();
    let model = |name| json!({"name": name, "version": VERSION, "state": "READY", "reason": ""});
    Json(models.map(model).collect())
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
        versions: Some(vec![VERSION.to_string()]),
        platform: PLATFORM.to_string(),
        inputs: vec![tensor(
            runner.input_name(),
            Datatype::F32,
            &runner.about().input,
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
        "input": [tensor(runner.input_name(), &runner.about().input)],
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

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("resnet-50_v1.5", true)]
    #[case("", false)]
    #[case("../etc/passwd", false)]
    #[case("..", false)]
    #[case("a/b", false)]
    #[case("a b", false)]
    fn names_stand_in_addresses(#[case] name: &str, #[case] good: bool) {
        assert_eq!(is_name(name), good);
    }
}
