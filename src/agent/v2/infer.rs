/*! One request for inference of the protocol, from its bytes to those of its answer. */

use super::models::{Named, find};
use crate::agent::body::{Whole, blocking, keep_until_sent, whole};
use crate::agent::error::Refused;
use crate::agent::state::Agent;
use crate::agent::stats::{MODEL_VERSION, Steps};
use crate::engine::Cancel;
use crate::protocol::message::RefusalKind;
use crate::protocol::v2::{
    BINARY, CONFIDENCE, Datatype, EXIT, HEADER_LENGTH, InferRequest, InferResponse, Tensor, head,
    json, tensors,
};
use crate::runtime::runner::{ExitRules, Runner};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Samples in one request.
pub(super) const SAMPLES: usize = 256;

/// Bytes of JSON around the numbers of a request.
const AROUND: usize = 1 << 20;
/// Bytes of a number in JSON: a double of 17 digits with sign, exponent and comma.
const NUMBER: usize = 26;

/// Bytes of the largest request that means anything to a model.
fn largest(runner: &Runner) -> usize {
    let numbers = runner.input_elements().saturating_mul(SAMPLES);
    numbers.saturating_mul(NUMBER).saturating_add(AROUND)
}

/// Whether samples leave in this part, rather than going through.
pub(super) fn leaves(runner: &Runner) -> bool {
    runner.info().ends_network
}

/// Request whose tensors are read and checked.
struct Question {
    request: InferRequest,
    tensor: Tensor,
}

/// Answers an inference request of the V2 protocol.
pub(super) async fn infer(
    State(agent): State<Arc<Agent>>,
    Path(named): Path<Named>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING) {
        return Err(Refused::new(
            RefusalKind::Unsupported,
            format!("the encoding {encoding:?} isn't spoken here; use gzip, deflate or none"),
        ));
    }
    let runner = find(&agent, &named).await?;
    let max = agent.max_body.min(largest(&runner));
    let body = whole(body, max, &agent.budget).await;
    let body = body.map_err(|refused| match refused.kind {
        RefusalKind::TooLarge if max < agent.max_body => {
            let what = format!("at most {max} bytes are taken for a request to this model");
            Refused::new(RefusalKind::TooLarge, what)
        }
        _ => refused,
    })?;
    let start = Instant::now();
    let _outstanding = agent.outstanding();
    let answered = answer(&agent, &runner, &named.name, headers, body).await;
    if answered.is_err() {
        agent.stats.refused(&named.name, start.elapsed());
    }
    answered
}

async fn answer(
    agent: &Arc<Agent>,
    runner: &Arc<Runner>,
    name: &str,
    headers: HeaderMap,
    mut body: Whole,
) -> Result<Response, Refused> {
    // The numbers that are read from it: two bytes of JSON are one of four bytes.
    let numbers = body.len().saturating_mul(2);
    body.charge(agent.budget.take(numbers)?);
    let start = Instant::now();
    let (question, charge) = {
        let runner = runner.clone();
        blocking(move || {
            let question = read(&runner, &headers, &body)?;
            Ok((question, body.into_charge()))
        })
        .await?
    };
    let input = start.elapsed();
    let start = Instant::now();
    let turn = agent.engine.clone().acquire_owned().await;
    let turn = turn.map_err(Refused::internal)?;
    let queue = start.elapsed();
    agent.metrics.waited("v2_infer", queue);
    let steps = Steps {
        input,
        queue,
        ..Steps::default()
    };
    let (agent, runner, name) = (agent.clone(), runner.clone(), name.to_string());
    blocking(move || {
        let start = Instant::now();
        let outputs = run(&agent, &runner, &question)?;
        drop(turn);
        let infer = start.elapsed();
        let start = Instant::now();
        let (response, bytes) = write(&name, &question, outputs)?;
        drop(charge);
        let response = keep_until_sent(response, agent.budget.take(bytes)?);
        let steps = Steps {
            samples: question.tensor.shape[0],
            infer,
            output: start.elapsed(),
            ..steps
        };
        agent.stats.answered(&name, steps);
        agent.requests.fetch_add(1, Ordering::Relaxed);
        Ok(response)
    })
    .await
}

fn read(runner: &Runner, headers: &HeaderMap, body: &[u8]) -> Result<Question, Refused> {
    let length = headers.get(HEADER_LENGTH);
    let length = length.map(|v| v.to_str().unwrap_or("?"));
    let (mut request, rest) = json::<InferRequest>(body, length).map_err(Refused::bad)?;
    let heads = std::mem::take(&mut request.inputs);
    let most = runner.input_elements().saturating_mul(SAMPLES);
    let mut inputs = tensors(heads, rest, most).map_err(Refused::bad)?;
    let takes = runner.input_name();
    let (Some(tensor), true) = (inputs.pop(), inputs.is_empty()) else {
        return Err(Refused::bad(format!(
            "the model takes one input, `{takes}`"
        )));
    };
    if tensor.name != takes {
        let found = tensor.name.escape_debug();
        return Err(Refused::bad(format!(
            "no input is called `{found}`; it is `{takes}`"
        )));
    }
    if tensor.datatype != Datatype::F32 {
        return Err(Refused::bad(format!("`{takes}` is of the datatype FP32")));
    }
    let sample = &runner.info().input;
    let batch = if runner.any_batch() {
        1..=SAMPLES
    } else {
        1..=1
    };
    match tensor.shape.split_first() {
        Some((n, rest)) if batch.contains(n) && rest == sample.as_slice() => {}
        _ => {
            return Err(Refused::bad(format!(
                "`{takes}` is of the shape [samples, {sample:?}], {} samples at most; this is {:?}",
                batch.end(),
                tensor.shape
            )));
        }
    }
    let known = |name: &str| {
        name == runner.output_name() || (leaves(runner) && [EXIT, CONFIDENCE].contains(&name))
    };
    for output in request.outputs.iter().flatten() {
        if !known(&output.name) {
            let found = output.name.escape_debug();
            return Err(Refused::bad(format!("no output is called `{found}`")));
        }
        let parameters = output.parameters.clone().unwrap_or_default();
        if parameters.classification.is_some() || parameters.shared_memory_region.is_some() {
            let what = "neither classification nor shared memory is served here; take the output";
            return Err(Refused::bad(what));
        }
    }
    Ok(Question { request, tensor })
}

/// The model's outputs, in order.
fn run(agent: &Agent, runner: &Runner, question: &Question) -> Result<Vec<Tensor>, Refused> {
    let input = &question.tensor;
    let samples = input.shape[0];
    let parameters = question.request.parameters.as_ref();
    let asked = parameters.and_then(|p| p.threshold);
    if asked.is_some_and(|t| !(0.0..=1.0).contains(&t)) {
        return Err(Refused::bad(
            "the parameter `threshold` lies between 0 and 1",
        ));
    }
    let all = vec![asked.unwrap_or_default(); runner.info().exits];
    let never = vec![f64::INFINITY; runner.info().exits];
    let own = runner.rules();
    let thresholds = match asked {
        _ if !leaves(runner) => &never,
        Some(_) => &all,
        None => own.thresholds,
    };
    let rules = ExitRules { thresholds, ..own };
    let mut work = runner.work();
    work.keep_scores = leaves(runner);
    let cancel = Cancel::new();
    runner.run(samples, &input.values, &rules, &mut work, &cancel)?;
    let tensor = |name: &str, shape: Vec<usize>, datatype, values| Tensor {
        name: name.to_string(),
        shape,
        datatype,
        values,
    };
    let output = runner.output_name();
    let outputs = if leaves(runner) {
        let said = || work.verdicts.iter().filter_map(|v| v.latest);
        said().for_each(|a| agent.metrics.exit(a.exit));
        let shape = vec![samples, runner.info().classes];
        vec![
            tensor(
                output,
                shape,
                Datatype::F32,
                std::mem::take(&mut work.kept_scores),
            ),
            tensor(
                EXIT,
                vec![samples],
                Datatype::I32,
                said().map(|a| f32::from(a.exit)).collect(),
            ),
            tensor(
                CONFIDENCE,
                vec![samples],
                Datatype::F32,
                said().map(|a| a.confidence).collect(),
            ),
        ]
    } else {
        let shape = runner.output_shape(samples);
        vec![tensor(output, shape, Datatype::F32, work.tensor().to_vec())]
    };
    work.keep_scores = false;
    runner.recycle(work);
    Ok(outputs)
}

/// The answer, and its bytes.
fn write(
    model: &str,
    question: &Question,
    outputs: Vec<Tensor>,
) -> Result<(Response, usize), Refused> {
    let request = &question.request;
    let all_binary = request
        .parameters
        .as_ref()
        .and_then(|p| p.binary_data_output);
    let all_binary = all_binary.unwrap_or(false);
    let mut binary = Vec::new();
    let mut heads = Vec::new();
    let mut add = |output: &Tensor, in_binary: bool| {
        let to = in_binary.then_some(&mut binary);
        heads.push(head(
            &output.name,
            &output.shape,
            output.datatype,
            &output.values,
            to,
        ));
    };
    match request.outputs.as_ref().filter(|o| !o.is_empty()) {
        None => outputs.iter().for_each(|o| add(o, all_binary)),
        Some(wanted) => {
            for want in wanted {
                let own = want.parameters.as_ref().and_then(|p| p.binary_data);
                if let Some(output) = outputs.iter().find(|o| o.name == want.name) {
                    add(output, own.unwrap_or(all_binary));
                }
            }
        }
    }
    let response = InferResponse {
        model_name: model.to_string(),
        model_version: Some(MODEL_VERSION.to_string()),
        id: request.id.clone(),
        outputs: heads,
    };
    // JSON has no NaN: it becomes null, which says at least that there is no number.
    let mut body = serde_json::to_vec(&response).map_err(Refused::internal)?;
    let length = (!binary.is_empty()).then_some(body.len());
    body.extend(binary);
    let bytes = body.len();
    let mut response = Response::new(Body::from(body));
    let out = response.headers_mut();
    let kind = match length {
        Some(length) => {
            out.insert(HEADER_LENGTH, HeaderValue::from(length));
            BINARY
        }
        None => "application/json",
    };
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok((response, bytes))
}
