/*! A job's events, across lost connections. */

use super::{Client, ClientError};
use crate::remote::message::{JobEvent, JobResult, Snapshot};
use eventsource_stream::Eventsource;
use futures_util::StreamExt;
use reqwest::Method;
use std::time::{Duration, Instant};

/// An agent says something every 15 seconds; a stream silent for longer than this is lost.
const SILENCE: Duration = Duration::from_secs(40);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How one connection to the events ended.
enum End {
    Terminal(Result<JobResult, ClientError>),
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
                End::Terminal(result) => return result,
                End::Lost(error @ ClientError::Refused { .. }, _) => return Err(error),
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
        // The answer's head comes at once; only the stream may take its time.
        let response = match tokio::time::timeout(SILENCE, self.send(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return End::Lost(error, false),
            Err(_) => return End::Lost(self.silent(), false),
        };
        if was_lost {
            on_event(&JobEvent::Found);
        }
        let mut stream = response.bytes_stream().eventsource();
        let mut came = false;
        loop {
            let event = match tokio::time::timeout(SILENCE, stream.next()).await {
                Ok(Some(Ok(event))) => event,
                Ok(Some(Err(error))) => return End::Lost(self.broken(&error.to_string()), came),
                Ok(None) => return End::Lost(self.broken("the stream of events ended"), came),
                Err(_) => return End::Lost(self.silent(), came),
            };
            came = true;
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
                JobEvent::Done(result) => return End::Terminal(Ok(*result)),
                JobEvent::Failed { error } => return End::Terminal(Err(ClientError::Job(error))),
                JobEvent::Cancelled => return End::Terminal(Err(ClientError::Cancelled)),
                JobEvent::Queued { .. }
                | JobEvent::Progress(_)
                | JobEvent::Log { .. }
                | JobEvent::Lost { .. }
                | JobEvent::Found => {}
            }
        }
    }

    fn broken(&self, cause: &str) -> ClientError {
        ClientError::Unreachable {
            url: self.url.clone(),
            cause: cause.to_string(),
        }
    }

    fn silent(&self) -> ClientError {
        self.broken("it has been silent for too long")
    }
}
