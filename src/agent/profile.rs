/*! The jobs that time what runs here; `device` holds the clocks. */

use super::error::JobError;
use super::jobs::Job;
use super::power::Power;
use super::state::Agent;
use crate::device::profile::{HeadToTime, ProfileOptions, SegmentToTime, profile, profile_part};
use crate::device::{DeviceError, PartProfile, Profile};
use crate::model::fuse::fused;
use crate::model::layers::LayerTable;
use crate::model::{Graph, peak_bytes};
use crate::protocol::codec;
use crate::protocol::message::{HeadToProfile, JobEvent, Progress};
use crate::runtime::memory;
use crate::runtime::parts::Part;
use std::path::Path;
use std::time::{Duration, Instant};

const WARM_UP: usize = 20;
/// More than anybody needs, and little enough to have room for what is noted of each.
const BATCH: usize = 4096;
const MOST_RUNS: usize = 100_000;
const REPORT: Duration = Duration::from_millis(200);

impl From<DeviceError> for JobError {
    fn from(error: DeviceError) -> JobError {
        match error {
            DeviceError::Cancelled => JobError::Cancelled,
            other => JobError::invalid(other.to_string()),
        }
    }
}

fn options(agent: &Agent, batch: usize, runs: usize) -> ProfileOptions {
    ProfileOptions {
        backend: agent.backend,
        threads: agent.threads,
        batch,
        runs,
        warm_up: WARM_UP,
        slowdown: agent.slowdown,
    }
}

/// Tells the progress of a profile, at most five times per second.
fn teller(job: &Job) -> impl FnMut(usize, usize) {
    let mut told = Instant::now();
    let tell = |done, total, held| {
        job.events.push(JobEvent::Progress(Progress {
            done: done as u64,
            total: total as u64,
            held,
            ..Progress::default()
        }));
    };
    move |done, total| {
        let held = job.pause.is_set();
        if held {
            tell(done, total, true);
            job.pause.wait(&job.cancel);
        }
        if held || told.elapsed() >= REPORT {
            told = Instant::now();
            tell(done, total, false);
        }
    }
}

/// Times a network and heads on its values.
pub(super) fn network(
    job: &Job,
    agent: &Agent,
    model: &str,
    heads: &[HeadToProfile],
    batch: usize,
    runs: usize,
) -> Result<Profile, JobError> {
    let load = |address: &str, name: &str| agent.store.graph(address, name).map(fused);
    let graph = load(model, "network")?;
    if batch > BATCH || runs > MOST_RUNS {
        let what = format!("at most {BATCH} samples a run and {MOST_RUNS} runs");
        return Err(JobError::invalid(what));
    }
    memory::check(peak_bytes(&graph, batch))?;
    let table = LayerTable::new(&graph).map_err(JobError::invalid)?;
    let graphs: Result<Vec<Graph>, JobError> =
        heads.iter().map(|h| load(&h.model, &h.after)).collect();
    let graphs = graphs?;
    let heads: Vec<HeadToTime> = heads
        .iter()
        .zip(&graphs)
        .map(|(head, graph)| HeadToTime {
            after: &head.after,
            hash: &head.hash,
            graph,
        })
        .collect();
    let options = options(agent, batch, runs);
    let mut tell = teller(job);
    let mut was_held = false;
    let mut heard = |done, total| {
        was_held |= job.pause.is_set();
        tell(done, total);
    };
    let (power, since) = (Power::start(Path::new("/")), Instant::now());
    let network = profile(graph, &table, &heads, &options, &mut heard, &job.cancel)?;
    let seconds = since.elapsed().as_secs_f64();
    // What a board takes while it waits to go on is not what computing takes.
    let joules = power.stop().filter(|_| !was_held);
    Ok(Profile {
        codec: codec::times(&table, agent.slowdown),
        watts: joules.map(|joules| joules / seconds),
        ..network
    })
}

/// Times a part's segments and heads, sample by sample; nothing leaves early.
pub(super) fn part(
    job: &Job,
    agent: &Agent,
    address: &str,
    runs: usize,
) -> Result<PartProfile, JobError> {
    let (mut file, length) = agent.store.reader(address)?;
    if runs > MOST_RUNS {
        return Err(JobError::invalid(format!("at most {MOST_RUNS} runs")));
    }
    let part = Part::read(&mut file, length).map_err(JobError::invalid)?;
    let stages: Vec<SegmentToTime> = part
        .segments
        .into_iter()
        .map(|segment| SegmentToTime {
            segment: segment.graph,
            head: segment.exit.map(|e| e.head),
        })
        .collect();
    for stage in &stages {
        memory::check(peak_bytes(&stage.segment, 1))?;
    }
    let options = options(agent, 1, runs);
    Ok(profile_part(
        stages,
        &options,
        &mut teller(job),
        &job.cancel,
    )?)
}
