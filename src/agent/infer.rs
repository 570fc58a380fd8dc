/*! One request for inference: a tensor or pixels in, the answers of a part and their durations out. */

use super::body::{blocking, whole};
use super::error::Refused;
use super::state::Agent;
use crate::data::Preprocessing;
use crate::engine::Cancel;
use crate::protocol::message::{INFER_HEADER, InferReply, InferRequest};
use crate::protocol::wire;
use crate::runtime::emulation;
use crate::runtime::runner::{Rules, Runner};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Samples in one request.
const SAMPLES: usize = 256;
/// Room for the head of a tensor, and for what U8 adds to each sample.
const OVERHEAD: usize = 64 + 8 * SAMPLES;

/// Runs the part that the address names on one sample, and passes on what no exit answers.
pub(super) async fn infer(
    State(agent): State<Arc<Agent>>,
    Path(address): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<InferReply>, Refused> {
    let request = headers.get(INFER_HEADER).map(|v| v.as_bytes());
    let request =
        request.ok_or_else(|| Refused::bad(format!("the header {INFER_HEADER} is missing")))?;
    let request: InferRequest = serde_json::from_slice(request)
        .map_err(|e| Refused::bad(format!("the header {INFER_HEADER}: {e}")))?;
    let runner = match agent.parts.get(&address) {
        Some(runner) => runner,
        None => {
            let agent = agent.clone();
            blocking(move || agent.parts.prepare(&address, &agent.store)).await?
        }
    };
    let largest = runner.input_elements().saturating_mul(4 * SAMPLES) + OVERHEAD;
    let bytes = whole(body, agent.max_body.min(largest), &agent.budget).await?;
    let _outstanding = agent.outstanding();
    let waiting = Instant::now();
    let turn = agent.engine.clone().acquire_owned().await;
    let turn = turn.map_err(Refused::internal)?;
    agent.metrics.waited("offload", waiting.elapsed());
    let reply = blocking(move || {
        let mut reply = answer(&runner, &request, &bytes, agent.slowdown)?;
        let others = agent.outstanding.load(Ordering::Relaxed).saturating_sub(1);
        reply.outstanding = others;
        reply
            .answers
            .iter()
            .for_each(|a| agent.metrics.exit(a.exit));
        agent.requests.fetch_add(1, Ordering::Relaxed);
        drop(turn);
        Ok(reply)
    });
    Ok(Json(reply.await?))
}

/// Decodes, runs, and tells the two durations.
fn answer(
    runner: &Runner,
    request: &InferRequest,
    bytes: &[u8],
    slowdown: f64,
) -> Result<InferReply, Refused> {
    // A client that goes away stops nothing here: a part's run is shorter than the notice of it.
    let cancel = Cancel::new();
    let start = Instant::now();
    let (samples, input) = match &request.pixels {
        Some(preprocessing) => preprocess(runner, preprocessing, bytes)?,
        None => decode(runner, bytes)?,
    };
    let decode_ms = f64::from(emulation::ms(emulation::stretch(start, slowdown, &cancel)));
    let own = runner.rules();
    let rules = if request.thresholds.is_empty() {
        own
    } else {
        Rules {
            confidence: request.confidence,
            thresholds: &request.thresholds,
            ..own
        }
    };
    let mut work = runner.work();
    runner.run(samples, &input, &rules, &mut work, &cancel)?;
    if !work.onward().is_empty() {
        let what = "the part doesn't end the network, and nobody is behind it; send the cloud part";
        return Err(Refused::bad(what));
    }
    let reply = InferReply {
        answers: work.verdicts.iter().filter_map(|v| v.latest).collect(),
        decode_ms,
        compute_ms: f64::from(work.compute_ms()),
        outstanding: 0,
    };
    runner.done_with(work);
    Ok(reply)
}

fn decode(runner: &Runner, bytes: &[u8]) -> Result<(usize, Vec<f32>), Refused> {
    let most = runner.input_elements().saturating_mul(SAMPLES);
    let (shape, data) = wire::decode(bytes, most).map_err(Refused::bad)?;
    let takes = &runner.info().input;
    match shape.split_first() {
        Some((&samples, sample)) if sample == takes.as_slice() && samples > 0 => {
            Ok((samples, data))
        }
        _ => Err(Refused::bad(format!(
            "the part takes [samples, {takes:?}], this is {shape:?}; is it the part behind this split?"
        ))),
    }
}

fn preprocess(
    runner: &Runner,
    preprocessing: &Preprocessing,
    pixels: &[u8],
) -> Result<(usize, Vec<f32>), Refused> {
    let shape = runner.image(preprocessing.layout).ok_or_else(|| {
        let takes = &runner.info().input;
        Refused::bad(format!("the part takes {takes:?}, which is no image"))
    })?;
    let size: usize = shape.iter().product();
    if size == 0
        || pixels.is_empty()
        || !pixels.len().is_multiple_of(size)
        || pixels.len() / size > SAMPLES
    {
        return Err(Refused::bad(format!(
            "{} bytes are not 1 to {SAMPLES} images of {shape:?}",
            pixels.len()
        )));
    }
    let mut input = vec![0.0; pixels.len()];
    for (pixels, input) in pixels.chunks_exact(size).zip(input.chunks_exact_mut(size)) {
        let done = preprocessing.apply(shape, pixels, input);
        done.map_err(Refused::bad)?;
    }
    Ok((pixels.len() / size, input))
}
