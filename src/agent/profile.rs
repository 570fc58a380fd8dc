/*! Timing what runs here: assembled parts, through the very code that runs them. */

use super::error::JobError;
use super::jobs::Job;
use super::runner::Rules;
use super::server::Agent;
use crate::device::{PartProfile, Profile, Stats};
use crate::evaluate::Confidence;
use crate::remote::message::{HeadToProfile, JobEvent, Progress};
use std::time::{Duration, Instant};

const WARM_UP: usize = 10;
const REPORT: Duration = Duration::from_millis(200);

/// Times a part's segments and heads, sample by sample; nothing leaves early.
pub(super) fn part(
    job: &Job,
    agent: &Agent,
    address: &str,
    runs: usize,
) -> Result<PartProfile, JobError> {
    let runner = agent.parts.prepare(address, &agent.store)?;
    let about = runner.about();
    let thresholds = vec![1.0; about.exits];
    let rules = Rules {
        confidence: Confidence::MaxProbability,
        thresholds: &thresholds,
        last_exit_answers: false,
    };
    let input: Vec<f32> = (0..runner.input_elements())
        .map(|i| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0)
        .collect();
    let mut work = runner.work();
    let mut segments = vec![Vec::new(); about.segments];
    let mut heads = vec![Vec::new(); about.exits];
    let mut reported = Instant::now();
    for run in 0..WARM_UP + runs.max(1) {
        runner.run(1, &input, &rules, &mut work, &job.cancel)?;
        if run < WARM_UP {
            continue;
        }
        for (times, &ms) in segments.iter_mut().zip(&work.segments_ms) {
            times.push(f64::from(ms));
        }
        for (times, &ms) in heads.iter_mut().zip(&work.heads_ms) {
            times.push(f64::from(ms));
        }
        if reported.elapsed() >= REPORT {
            reported = Instant::now();
            job.events.push(JobEvent::Progress(Progress {
                done: (run - WARM_UP) as u64,
                total: runs as u64,
                ..Progress::default()
            }));
        }
    }
    runner.done_with(work);
    let (weight_bytes, arena_bytes) = runner.memory()?;
    let mut heads = heads.into_iter();
    let heads = runner.exits().map(|exit| match exit {
        true => heads.next().map_or_else(Stats::default, summary),
        false => Stats::default(),
    });
    Ok(PartProfile {
        heads: heads.collect(),
        segments: segments.into_iter().map(summary).collect(),
        weight_bytes,
        arena_bytes,
    })
}

fn summary(mut times: Vec<f64>) -> Stats {
    times.sort_by(f64::total_cmp);
    let Some(&min) = times.first() else {
        return Stats::default();
    };
    let at = |q: f64| times[((times.len() - 1) as f64 * q).round() as usize];
    Stats {
        min,
        median: at(0.5),
        mean: times.iter().sum::<f64>() / times.len() as f64,
        p95: at(0.95),
    }
}
