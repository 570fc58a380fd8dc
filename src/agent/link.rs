/*!
Measuring the link to the cloud: round trips against payload, on the connection that offloads use. A
connection that has been idle is slower (its window has shrunk, cores and radios sleep), so both are
measured.
*/

use super::error::JobError;
use super::jobs::Job;
use super::offload::Offload;
use crate::device::{LinkProfile, percentile};
use crate::engine::Cancel;
use crate::plan::Link;
use crate::protocol::message::{AgentInfo, CloudTarget, FailureKind, JobEvent, Progress};
use crate::protocol::v2::{BINARY, HEADER_LENGTH};
use crate::units::bytes;
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::{Duration, Instant};

/// Bytes of a request's body.
const PAYLOADS: [usize; 6] = [1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20];
const PAUSE: Duration = Duration::from_millis(300);
/// Between two round trips on a warm connection: samples that are sent on come so, not one upon the other.
const GAP: Duration = Duration::from_millis(5);
/// Payloads that are measured often enough to tell how much the link varies.
const SMALL: usize = 64 << 10;
/// Round trips of each payload, after a pause, and warm.
const IDLE: usize = 3;
const WARM: usize = 25;
const WARM_LARGE: usize = 9;
/// A payload that takes longer than this is measured less often.
const SLOW: Duration = Duration::from_secs(1);
const SLOW_TIMES: usize = 3;

/// Measures round trips for each payload size, and fits rate and delay.
pub(super) fn measure(job: &Job, cloud: &CloudTarget, link: Link) -> Result<LinkProfile, JobError> {
    let mut offload = Offload::new(cloud, link, &job.cancel)?;
    // What a server of the Open Inference Protocol reads and refuses is as good as an echo.
    let echo = match &cloud.v2 {
        Some(model) => format!("/v2/models/{}/infer", model.name),
        None => "/v1/echo".to_string(),
    };
    let most = match &cloud.v2 {
        Some(_) => usize::MAX,
        None => offload.ask::<AgentInfo>(Method::GET, "/v1/info")?.max_body,
    };
    let mut profile = LinkProfile {
        emulated: link != Link::Measured,
        ..LinkProfile::default()
    };
    let mut jitter = Vec::new();
    let payloads = PAYLOADS.iter().filter(|&&p| p <= most);
    let total = payloads.clone().count() as u64;
    for (done, &payload) in payloads.enumerate() {
        job.events.push(JobEvent::Progress(Progress {
            done: done as u64,
            total,
            note: format!("{} to {}", bytes(payload as f64), offload.url()),
            ..Progress::default()
        }));
        // Where it may wait: before a series, never within one.
        let wait = || {
            if job.pause.is_set() {
                let told = |held| {
                    job.events.push(JobEvent::Progress(Progress {
                        done: done as u64,
                        total,
                        held,
                        ..Progress::default()
                    }));
                };
                told(true);
                job.pause.wait(&job.cancel);
                told(false);
            }
        };
        wait();
        // Bytes that no layer below can make fewer.
        let mut body = vec![0; payload];
        ChaCha8Rng::seed_from_u64(0).fill_bytes(&mut body);
        let body = Bytes::from(body);
        let mut times = |count: usize, pause: Duration| -> Result<Vec<f64>, JobError> {
            let mut times = Vec::new();
            while times.len() < count {
                rest(pause, &job.cancel)?;
                let start = Instant::now();
                let mut headers = HeaderMap::new();
                if cloud.v2.is_some() {
                    headers.insert(CONTENT_TYPE, HeaderValue::from_static(BINARY));
                    headers.insert(HEADER_LENGTH, HeaderValue::from_static("0"));
                }
                let reply = offload.call(Method::POST, &echo, headers, body.clone(), None)?;
                let time = start.elapsed();
                if cloud.v2.is_none() && !reply.status.is_success() {
                    return Err(offload.refused(&reply).into());
                }
                if cloud.v2.is_none() && offload.parse::<usize>(&reply.body)? != payload {
                    let what = format!("{} lost bytes of an echo", offload.url());
                    return Err(JobError::new(FailureKind::CloudAnswer, what));
                }
                times.push(time.as_secs_f64() * 1e3);
                if time > SLOW && times.len() >= SLOW_TIMES {
                    break;
                }
            }
            Ok(times)
        };
        profile.idle.push((payload, median(&times(IDLE, PAUSE)?)));
        wait();
        times(2, GAP)?;
        let warm = times(if payload <= SMALL { WARM } else { WARM_LARGE }, GAP)?;
        let usual = median(&warm);
        profile.warm.push((payload, usual));
        if payload <= SMALL {
            jitter.extend(warm.iter().map(|ms| ms - usual));
        }
    }
    profile.jitter_ms = jitter;
    Ok(profile)
}

fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    percentile(&sorted, 50.0)
}

fn rest(pause: Duration, cancel: &Cancel) -> Result<(), JobError> {
    let end = Instant::now() + pause;
    loop {
        if cancel.is_cancelled() {
            return Err(JobError::Cancelled);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}
