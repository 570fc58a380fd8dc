/*! What a job does, by its kind. Runs on the jobs' thread. */

use super::error::JobError;
use super::jobs::Job;
use super::onward::check_link;
use super::state::Agent;
use super::{evaluate, link, profile, train};
use crate::protocol::message::{JobRequest, JobResult};
use crate::runtime::emulation;

/// Runs a job to its end.
pub(super) fn run(job: &Job, request: &JobRequest, agent: &Agent) -> Result<JobResult, JobError> {
    emulation::precise();
    match request {
        JobRequest::Profile {
            model,
            heads,
            batch,
            runs,
        } => profile::network(job, agent, model, heads, *batch, *runs)
            .map(|profile| JobResult::Profile(Box::new(profile))),
        JobRequest::ProfilePart { part, runs } => {
            profile::part(job, agent, part, *runs).map(JobResult::Part)
        }
        JobRequest::MeasureLink { cloud, link } => {
            agent.may_reach(&cloud.url)?;
            check_link(*link)?;
            link::measure(job, cloud, *link).map(JobResult::Link)
        }
        JobRequest::TrainHeads(run) => train::heads(job, agent, run).map(JobResult::Trained),
        JobRequest::Evaluate(run) => evaluate::evaluate(job, agent, run).map(JobResult::Evaluated),
    }
}
