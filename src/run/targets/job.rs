/*! One job on one target, from its submission to its end. */

use super::pause_relay::{PauseRelay, connection};
use super::{Fleet, LAST_WORDS, POLL_INTERVAL, unless_stopped};
use crate::plan::Tier;
use crate::protocol::client::{Client, ClientError};
use crate::protocol::message::{JobEvent, JobRequest, JobResult};
use crate::run::RunError;
use crate::run::stage_cache::Reporter;
use std::time::Instant;
use tokio::sync::mpsc;

impl Fleet<'_> {
    /// One job on the leading target of a side, to its end. The cancel token stops it.
    pub(in crate::run) fn job(
        &mut self,
        reporter: &mut Reporter,
        part: Tier,
        request: JobRequest,
    ) -> Result<JobResult, RunError> {
        let index = self.lead(reporter, part)?;
        let (result, ..) =
            self.job_at(reporter, part, index, &request, &mut |reporter, event| {
                if let JobEvent::Progress(p) = event {
                    reporter.progress(p.done as usize, p.total as usize, &p.note);
                }
            })?;
        Ok(result)
    }

    /// The same on one target, its events told; gives the job's id, too.
    pub(super) fn job_at(
        &mut self,
        reporter: &mut Reporter,
        part: Tier,
        index: usize,
        request: &JobRequest,
        on: &mut dyn FnMut(&mut Reporter, JobEvent),
    ) -> Result<(JobResult, Client, String), RunError> {
        let client = self.reach(reporter, part, index)?.client.clone();
        let key = self.resume.as_ref().map(|resume| resume.key(request));
        let (cancel, pause) = (self.cancel, self.pause.clone());
        let watch = &mut self.watch;
        let mut relay = PauseRelay::new(&pause);
        watch.leave_alone((part, index), true);
        let done = self.runtime.block_on(async {
            let submitted = unless_stopped(cancel, async {
                Ok(match &key {
                    Some(key) => client.submit_as(key, request).await?,
                    None => client.submit(request).await?,
                })
            });
            let id = submitted.await?;
            let (events, mut inbox) = mpsc::unbounded_channel();
            let mut told = |event: &JobEvent| {
                // Its other end lives as long as this.
                let _ = events.send(event.clone());
            };
            let mut follow = std::pin::pin!(client.follow(&id, &mut told));
            let mut stopped: Option<Instant> = None;
            let end = loop {
                tokio::select! {
                    // What came before the end is told before it.
                    biased;
                    Some(event) = inbox.recv() => {
                        if let JobEvent::Progress(progress) = &event {
                            relay.report(reporter, progress.held);
                        }
                        connection(reporter, part, index, &event);
                        on(reporter, event);
                    }
                    end = &mut follow => break Some(end),
                    () = tokio::time::sleep(POLL_INTERVAL) => {
                        if cancel.is_cancelled() && stopped.is_none() {
                            stopped = Some(Instant::now());
                            // One that is over, or gone, needs no stopping.
                            let _ = tokio::time::timeout(LAST_WORDS, client.cancel(&id)).await;
                        }
                        if stopped.is_some_and(|then| then.elapsed() > LAST_WORDS) {
                            break None;
                        }
                        relay.relay([(&client, id.as_str())].into_iter()).await;
                        watch.tell(reporter);
                    }
                }
            };
            while let Ok(event) = inbox.try_recv() {
                on(reporter, event);
            }
            match (end, stopped) {
                (Some(end), None) => Ok((end?, id.clone())),
                _ => Err(RunError::Stopped),
            }
        });
        drop(relay);
        self.watch.leave_alone((part, index), false);
        let (result, id) = done.map_err(|error| self.explain(error))?;
        Ok((result, client, id))
    }

    /// A connection that broke because the child behind it died is better told by its last words.
    pub(super) fn explain(&mut self, error: RunError) -> RunError {
        if !matches!(error, RunError::Client(ClientError::Unreachable { .. })) {
            return error;
        }
        for reached in self.tiers.iter_mut().flatten().flatten() {
            if let Some(local) = &mut reached.local
                && let Some(words) = local.died()
            {
                return RunError::Died(words);
            }
        }
        error
    }
}
