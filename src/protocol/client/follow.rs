/*! A job's events, across lost connections. */

use super::{Client, ClientError, LARGEST_ANSWER};
use crate::protocol::message::{JobEvent, JobResult, Snapshot};
use eventsource_stream::{EventStreamError, Eventsource};
use futures_util::StreamExt;
use futures_util::stream::unfold;
use reqwest::{Method, Response};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What came on one connection.
#[derive(Default)]
struct Came {
    any: AtomicBool,
    /// Bytes since the last event.
    unread: AtomicUsize,
}

/// How one connection to the events ended.
enum End {
    Terminal(Result<Box<JobResult>, ClientError>),
    /// Lost; whether anything came before.
    Lost(ClientError, bool),
}

impl Client {
    /// Follows a job to its end, calls `on_event` for every event, and returns what the job found.
    /// A lost connection is made again with a capped back-off; events missed meanwhile come late, or
    /// as the last state where the agent has forgotten them.
    ///
    /// # Errors
    /// `Job` where it failed, `Cancelled` where it was; `Unreachable` after a minute
    /// ([`Client::patience`]) without an answer; `Refused` where the agent doesn't know the job.
    pub async fn follow(
        &self,
        job: &str,
        on_event: &mut (dyn FnMut(&JobEvent) + Send),
    ) -> Result<JobResult, ClientError> {
        let mut last = None;
        let mut pause = FIRST_PAUSE;
        let mut gone_since = None;
        loop {
            match self
                .events(job, &mut last, gone_since.is_some(), on_event)
                .await
            {
                End::Terminal(result) => return result.map(|result| *result),
                End::Lost(
                    error @ (ClientError::Refused { .. } | ClientError::Answer { .. }),
                    _,
                ) => return Err(error),
                End::Lost(error, came) => {
                    if came {
                        (pause, gone_since) = (FIRST_PAUSE, None);
                    }
                    let since = *gone_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > self.patience {
                        return Err(error);
                    }
                    on_event(&JobEvent::Lost {
                        error: error.to_string(),
                        again_ms: pause.as_millis() as u64,
                    });
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn events(
        &self,
        job: &str,
        last: &mut Option<String>,
        was_lost: bool,
        on_event: &mut (dyn FnMut(&JobEvent) + Send),
    ) -> End {
        let mut request = self.request(Method::GET, &format!("jobs/{job}/events"));
        if let Some(id) = last.as_deref() {
            request = request.header("last-event-id", id);
        }
        let response = match self.send(request).await {
            Ok(response) => response,
            Err(error) => return End::Lost(error, false),
        };
        if was_lost {
            on_event(&JobEvent::Found);
        }
        let came = Came::default();
        let mut stream = std::pin::pin!(self.pieces(response, &came).eventsource());
        let lost = |error| End::Lost(error, came.any.load(Ordering::Relaxed));
        loop {
            let event = match stream.next().await {
                Some(Ok(event)) => event,
                Some(Err(EventStreamError::Transport(error))) => return lost(error),
                Some(Err(error)) => return lost(self.broken(&error.to_string())),
                None => return lost(self.broken("the stream of events ended")),
            };
            came.unread.store(0, Ordering::Relaxed);
            if !event.id.is_empty() {
                *last = Some(event.id);
            }
            let told = if event.event == "snapshot" {
                serde_json::from_str(&event.data).map(|Snapshot { missed, latest }| {
                    let text = format!("{missed} earlier events are gone");
                    on_event(&JobEvent::Log { text });
                    latest
                })
            } else {
                serde_json::from_str(&event.data).map(Some)
            };
            let event: JobEvent = match told {
                Ok(Some(event)) => event,
                Ok(None) => continue,
                Err(error) => return End::Terminal(Err(self.answer(error))),
            };
            on_event(&event);
            match event {
                JobEvent::Done(result) => return End::Terminal(Ok(result)),
                JobEvent::Failed { error, kind } => {
                    return End::Terminal(Err(ClientError::Job { kind, error }));
                }
                JobEvent::Cancelled => return End::Terminal(Err(ClientError::Cancelled)),
                JobEvent::Queued { .. }
                | JobEvent::Progress(_)
                | JobEvent::Epoch(_)
                | JobEvent::Log { .. }
                | JobEvent::Lost { .. }
                | JobEvent::Found => {}
            }
        }
    }

    /// What comes, as long as something does. A sign of life between events counts, though no event
    /// becomes of it: a job may work for long without a word.
    fn pieces<'a>(
        &'a self,
        response: Response,
        came: &'a Came,
    ) -> impl futures_util::Stream<Item = Result<hyper::body::Bytes, ClientError>> + 'a {
        unfold(Some(response), async move |response| {
            let mut response = response?;
            match self.heard(response.chunk()).await {
                Ok(Some(piece)) => {
                    came.any.store(true, Ordering::Relaxed);
                    let unread = came.unread.fetch_add(piece.len(), Ordering::Relaxed);
                    if unread + piece.len() > LARGEST_ANSWER {
                        let what = format!("an event of more than {LARGEST_ANSWER} bytes");
                        return Some((Err(self.answer(what)), None));
                    }
                    Some((Ok(piece), Some(response)))
                }
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }
}
