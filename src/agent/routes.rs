/*!
The endpoints, all below `/v1`. Every refusal is `{"error": …}` with a status of its own; nothing that
a request holds brings the agent down.
*/

use super::body::{blocking, count, drain, keep_until_sent, whole};
use super::error::Refused;
use super::guard;
use super::infer::{infer, prepare, prepare_relay, relay};
use super::info::{self, peak_resident};
use super::jobs::LARGEST_RECORDS;
use super::metrics::{self, Levels};
use super::state::Agent;
use super::store::Piece;
use crate::protocol::message::{JOB_KEY, JobRequest, RefusalKind, Submitted, Upload};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

type Shared = State<Arc<Agent>>;
type Answer<T> = Result<T, Refused>;

/// The longest description of a job.
const JOB: usize = 16 << 20;
/// How many times the bytes of a job's description what is read from it may take: a threshold of two bytes
/// is one of eight, in a place that grew by doubling.
const GROWTH: usize = 8;
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// All endpoints of an agent.
pub(super) fn routes(agent: Arc<Agent>) -> Router {
    Router::new()
        .route("/v1/info", get(info))
        .route("/v1/memory/reset", post(reset_memory))
        .route("/v1/echo", post(echo))
        .route("/v1/blobs/{address}", get(has).put(put))
        .route("/v1/parts/{address}", post(prepare))
        .route("/v1/parts/{address}/infer", post(infer))
        .route("/v1/relay", post(prepare_relay))
        .route("/v1/relay/infer", post(relay))
        .route("/v1/jobs", get(jobs).post(submit))
        .route("/v1/jobs/{id}", get(job).delete(cancel))
        .route("/v1/jobs/{id}/hold", axum::routing::put(hold).delete(go_on))
        .route("/v1/jobs/{id}/events", get(events))
        .route("/v1/jobs/{id}/records/{from}", get(records))
        .route("/v1/jobs/{id}/results/{at}", get(result))
        .route("/metrics", get(metrics))
        .merge(super::v2::routes())
        .fallback(async || {
            Refused::missing("there is nothing here; agents serve below /v1 and /v2")
        })
        .method_not_allowed_fallback(async || {
            Refused::new(RefusalKind::Method, "not with this method")
        })
        .layer(from_fn_with_state(agent.clone(), guard::admit))
        .with_state(agent)
}

async fn info(State(agent): Shared) -> Json<crate::protocol::message::AgentInfo> {
    Json(info::info(&agent))
}

async fn reset_memory() -> Answer<StatusCode> {
    crate::device::memory::reset_peak().map_err(Refused::internal)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a body and answers as briefly as an inference does, by the same way from thread to thread: what
/// an offload takes besides its computing.
async fn echo(State(agent): Shared, body: Body) -> Answer<Json<usize>> {
    let count = count(body, agent.max_body).await?;
    let turn = agent.engine.clone().acquire_owned().await;
    let turn = turn.map_err(Refused::internal)?;
    let echoed = blocking(move || {
        drop(turn);
        Ok(Json(count))
    });
    echoed.await
}

/// How much of a file is here.
async fn has(State(agent): Shared, Path(address): Path<String>) -> Json<Upload> {
    Json(agent.store.state(&address).await)
}

/// Takes a file, or the piece of it that a Content-Range names.
async fn put(
    State(agent): Shared,
    Path(address): Path<String>,
    headers: HeaderMap,
    mut body: Body,
) -> Answer<(StatusCode, Json<Upload>)> {
    let piece = headers.get(header::CONTENT_RANGE);
    let piece = piece.map(|v| Piece::parse(v.to_str().unwrap_or("?")));
    let taken = match piece.transpose() {
        Ok(piece) => {
            let (store, max) = (&agent.store, agent.max_body);
            store.put(&address, piece, &mut body, max).await
        }
        Err(refused) => Err(refused),
    };
    match taken {
        Ok(upload) => {
            let status = match upload.whole {
                true => StatusCode::CREATED,
                false => StatusCode::ACCEPTED,
            };
            Ok((status, Json(upload)))
        }
        Err(refused) => {
            drain(body).await;
            Err(refused)
        }
    }
}

/// What is counted here, for Prometheus.
async fn metrics(State(agent): Shared) -> Answer<impl IntoResponse> {
    let (running_jobs, waiting_jobs) = agent.jobs.counts();
    let levels = Levels {
        outstanding: agent.outstanding.load(Ordering::Relaxed),
        running_jobs,
        waiting_jobs,
        peak_resident_bytes: peak_resident(),
    };
    let text = agent.metrics.text(levels).map_err(Refused::internal)?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text))
}

async fn jobs(State(agent): Shared) -> Json<Vec<String>> {
    Json(agent.jobs.ids())
}

/// Takes a job; one that was handed in before under the same key is the same job.
async fn submit(
    State(agent): Shared,
    headers: HeaderMap,
    body: Body,
) -> Answer<(StatusCode, Json<Submitted>)> {
    // What a web page can send without asking first is of another type (CORS, simple requests).
    if !is_json(&headers) {
        let what = "a job is JSON: send it with `Content-Type: application/json`";
        return Err(Refused::new(RefusalKind::Unsupported, what));
    }
    // One that there is never memory for is too large, however long one waits.
    let most = agent
        .max_body
        .min(JOB)
        .min(agent.budget.bytes() / (1 + GROWTH));
    let body = whole(body, most, &agent.budget).await?;
    let read = agent.budget.take(body.len().saturating_mul(GROWTH))?;
    let key = headers.get(JOB_KEY).and_then(|v| v.to_str().ok());
    let key = key.map(str::to_string);
    let id = blocking(move || {
        let request: JobRequest = serde_json::from_slice(&body)
            .map_err(|e| Refused::bad(format!("no job that this release understands: {e}")))?;
        // What was read is kept until the job runs, its text isn't.
        drop(body);
        let job = agent.jobs.submit(request, read, key.as_deref())?;
        Ok(job.id.clone())
    })
    .await?;
    Ok((StatusCode::CREATED, Json(Submitted { id })))
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// Its last state, or how it ended.
async fn job(State(agent): Shared, Path(id): Path<String>) -> Answer<Response> {
    Ok(Json(agent.jobs.find(&id)?.events.latest()).into_response())
}

async fn cancel(State(agent): Shared, Path(id): Path<String>) -> Answer<StatusCode> {
    agent.jobs.cancel(&id)?;
    Ok(StatusCode::ACCEPTED)
}

/// Lets it wait for a minute, or until it is told to go on; asked again, for another minute.
async fn hold(State(agent): Shared, Path(id): Path<String>) -> Answer<StatusCode> {
    agent.jobs.find(&id)?.pause.set(true);
    Ok(StatusCode::ACCEPTED)
}

async fn go_on(State(agent): Shared, Path(id): Path<String>) -> Answer<StatusCode> {
    agent.jobs.find(&id)?.pause.set(false);
    Ok(StatusCode::ACCEPTED)
}

async fn events(
    State(agent): Shared,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer<Response> {
    let job = agent.jobs.find(&id)?;
    let seen = headers.get("last-event-id");
    let seen = seen
        .and_then(|v| v.to_str().ok()?.parse().ok())
        .unwrap_or(0);
    let stream = job.events.clone().follow(seen, agent.serve_one());
    let alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(stream).keep_alive(alive).into_response())
}

/// From the position `from` on.
async fn records(
    State(agent): Shared,
    Path((id, from)): Path<(String, String)>,
) -> Answer<Response> {
    let from = from
        .parse()
        .map_err(|_| Refused::bad("a position is a whole number"))?;
    let job = agent.jobs.find(&id)?;
    let charge = agent.budget.take(LARGEST_RECORDS)?;
    let records = blocking(move || job.records(from).map_err(Refused::internal)).await?;
    Ok(keep_until_sent(records.into_response(), charge))
}

/// What it made, by its place among all it made.
async fn result(State(agent): Shared, Path((id, at)): Path<(String, String)>) -> Answer<Response> {
    let at = at
        .parse()
        .map_err(|_| Refused::bad("a position is a whole number"))?;
    let job = agent.jobs.find(&id)?;
    let Some(bytes) = job.result_bytes(at) else {
        let what = format!("the job {} made nothing at {at}", job.id);
        return Err(Refused::missing(what));
    };
    let charge = agent
        .budget
        .take(usize::try_from(bytes).unwrap_or(usize::MAX))?;
    let found = blocking(move || {
        let found = job.result(at).map_err(Refused::internal)?;
        found.ok_or_else(|| Refused::missing(format!("the job {} made nothing at {at}", job.id)))
    });
    Ok(keep_until_sent(found.await?.into_response(), charge))
}
