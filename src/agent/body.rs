/*! Bodies of requests, read within bounds of time and size; and work that needs a thread of its own. */

use super::error::Refused;
use crate::protocol::message::RefusalKind;
use axum::body::{Body, Bytes, HttpBody};
use http_body_util::BodyExt;
use std::time::Duration;

/// Bytes of a refused body that are read all the same: a client that still sends would see a broken
/// connection instead of the refusal.
const DRAINED: usize = 32 << 20;
/// How long a client may send nothing of a body it has begun.
const STALLED: Duration = Duration::from_secs(30);

/// Reads and forgets the rest of a body that is refused.
pub(super) async fn drain(mut body: Body) {
    let mut read = 0;
    while read < DRAINED {
        match next(&mut body).await {
            Ok(Some(data)) => read += data.len(),
            _ => return,
        }
    }
}

/// The next bytes of a body. A client may be slow, but one that has stopped keeps nothing waiting.
pub(super) async fn next(body: &mut Body) -> Result<Option<Bytes>, Refused> {
    loop {
        match tokio::time::timeout(STALLED, body.frame()).await {
            Ok(None) => return Ok(None),
            Ok(Some(Ok(frame))) => {
                // Trailers say nothing that anybody here wants to know.
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Ok(Some(Err(error))) => {
                let what = format!("the body ended early: {error}");
                return Err(Refused::new(RefusalKind::Incomplete, what));
            }
            Err(_) => {
                let seconds = STALLED.as_secs();
                let what = format!("nothing came of the body for {seconds} s; send it again");
                return Err(Refused::new(RefusalKind::TooSlow, what));
            }
        }
    }
}

/// The whole body, at most `max` bytes of it.
pub(super) async fn whole(body: Body, max: usize) -> Result<Bytes, Refused> {
    if body.size_hint().lower() > max as u64 {
        drain(body).await;
        return Err(Refused::too_large(max));
    }
    let mut body = body;
    let mut all = Vec::new();
    while let Some(data) = next(&mut body).await? {
        if all.len() + data.len() > max {
            drain(body).await;
            return Err(Refused::too_large(max));
        }
        all.extend_from_slice(&data);
    }
    Ok(Bytes::from(all))
}

/// Runs what takes its time on a thread for that.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Refused::internal("the agent failed; its log says where")))
}
