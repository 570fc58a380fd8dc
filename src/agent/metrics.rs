/*! What `/metrics` tells, in the text format of Prometheus; and what is counted for it. */

use super::server::Agent;
use crate::predict::Record;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Upper bounds of the buckets, in seconds.
const BOUNDS: [f64; 14] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
];

/// Times, by bucket.
#[derive(Debug, Clone, Default)]
struct Histogram {
    /// The last is for what is longer than every bound.
    counts: [u64; BOUNDS.len() + 1],
    seconds: f64,
}

impl Histogram {
    fn add(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        let at = BOUNDS.partition_point(|&bound| bound < seconds);
        self.counts[at] += 1;
        self.seconds += seconds;
    }

    fn write(&self, out: &mut String, name: &str, label: &str) {
        let mut sum = 0;
        let bounds = BOUNDS.iter().map(f64::to_string);
        let bounds = bounds.chain(["+Inf".to_string()]);
        for (count, bound) in self.counts.iter().zip(bounds) {
            sum += count;
            line(
                out,
                &format!("{name}_bucket{{{label},le=\"{bound}\"}}"),
                sum,
            );
        }
        line(out, &format!("{name}_sum{{{label}}}"), self.seconds);
        line(out, &format!("{name}_count{{{label}}}"), sum);
    }
}

#[derive(Debug, Default)]
struct Counts {
    /// By kind of request and status.
    requests: BTreeMap<(&'static str, u16), u64>,
    handling: BTreeMap<&'static str, Histogram>,
    waiting: BTreeMap<&'static str, Histogram>,
    /// Samples that left, by where and exit.
    exits: BTreeMap<(&'static str, u16), u64>,
    offloaded: u64,
    degraded: u64,
}

/// What an agent counts.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    counts: Mutex<Counts>,
    /// Bytes of bodies.
    pub(super) received: AtomicU64,
    pub(super) sent: AtomicU64,
}

impl Metrics {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request that was answered, streams up to their head.
    pub(super) fn answered(&self, kind: &'static str, status: u16, time: Duration) {
        let mut counts = self.lock();
        *counts.requests.entry((kind, status)).or_default() += 1;
        counts.handling.entry(kind).or_default().add(time);
    }

    /// How long a request waited for the engine.
    pub(super) fn waited(&self, kind: &'static str, time: Duration) {
        self.lock().waiting.entry(kind).or_default().add(time);
    }

    /// A sample of another's run that left in a part here.
    pub(super) fn exit(&self, exit: u16) {
        *self.lock().exits.entry(("served", exit)).or_default() += 1;
    }

    /// A sample of a run of this edge.
    pub(super) fn left(&self, record: &Record) {
        let mut counts = self.lock();
        *counts.exits.entry(("run", record.exit)).or_default() += 1;
        counts.offloaded += u64::from(record.offloaded);
        counts.degraded += u64::from(record.degraded);
    }
}

/// What kind of request a path is; few, since each is a series of its own.
pub(super) fn kind(path: &str) -> &'static str {
    let mut steps = path.trim_start_matches('/').split('/');
    match (steps.next(), steps.next(), path.ends_with("/infer")) {
        (Some("v1"), _, true) => "offload",
        (Some("v2"), _, true) => "v2_infer",
        (Some("v2"), ..) => "v2_other",
        (Some("v1"), Some("jobs"), _) => "jobs",
        (Some("v1"), Some("blobs"), _) => "blobs",
        _ => "other",
    }
}

fn line(out: &mut String, name: &str, value: impl std::fmt::Display) {
    // Writing to a string doesn't fail.
    let _ = writeln!(out, "edgelesspart_{name} {value}");
}

fn about(out: &mut String, name: &str, kind: &str, what: &str) {
    let _ = writeln!(out, "# HELP edgelesspart_{name} {what}");
    let _ = writeln!(out, "# TYPE edgelesspart_{name} {kind}");
}

/// The endpoint.
pub(super) async fn metrics(State(agent): State<Arc<Agent>>) -> impl IntoResponse {
    let mut out = String::new();
    let counts = agent.metrics.lock();
    about(&mut out, "requests_total", "counter", "Requests answered.");
    for ((kind, status), count) in &counts.requests {
        let name = format!("requests_total{{kind=\"{kind}\",status=\"{status}\"}}");
        line(&mut out, &name, count);
    }
    let what = "Time from a request's head to its answer's, in seconds.";
    about(&mut out, "request_seconds", "histogram", what);
    for (kind, times) in &counts.handling {
        times.write(&mut out, "request_seconds", &format!("kind=\"{kind}\""));
    }
    let what = "Time that a request for inference waited for the engine, in seconds.";
    about(&mut out, "queue_seconds", "histogram", what);
    for (kind, times) in &counts.waiting {
        times.write(&mut out, "queue_seconds", &format!("kind=\"{kind}\""));
    }
    let what = "Samples that left, by exit of the part that served, or of the plan in a run.";
    about(&mut out, "exits_total", "counter", what);
    for ((place, exit), count) in &counts.exits {
        let name = format!("exits_total{{in=\"{place}\",exit=\"{exit}\"}}");
        line(&mut out, &name, count);
    }
    about(
        &mut out,
        "offloaded_total",
        "counter",
        "Samples of runs here that were offloaded.",
    );
    line(&mut out, "offloaded_total", counts.offloaded);
    let what = "Samples of runs here that the edge answered for a cloud that didn't.";
    about(&mut out, "degraded_total", "counter", what);
    line(&mut out, "degraded_total", counts.degraded);
    drop(counts);
    about(
        &mut out,
        "received_bytes_total",
        "counter",
        "Bytes of requests' bodies.",
    );
    line(
        &mut out,
        "received_bytes_total",
        agent.metrics.received.load(Ordering::Relaxed),
    );
    about(
        &mut out,
        "sent_bytes_total",
        "counter",
        "Bytes of answers' bodies.",
    );
    line(
        &mut out,
        "sent_bytes_total",
        agent.metrics.sent.load(Ordering::Relaxed),
    );
    let what = "Requests for inference that wait or run.";
    about(&mut out, "outstanding_requests", "gauge", what);
    line(
        &mut out,
        "outstanding_requests",
        agent.outstanding.load(Ordering::Relaxed),
    );
    about(&mut out, "jobs", "gauge", "Jobs that wait or run.");
    let (running, waiting) = agent.jobs.counts();
    line(&mut out, "jobs{state=\"running\"}", running);
    line(&mut out, "jobs{state=\"waiting\"}", waiting);
    let what = "Peak resident memory of the process.";
    about(&mut out, "peak_resident_bytes", "gauge", what);
    line(
        &mut out,
        "peak_resident_bytes",
        super::about::peak_resident(),
    );
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (kind, out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn buckets_are_cumulative_and_bounds_inclusive() {
        let mut times = Histogram::default();
        for ms in [0.1, 0.2, 3.0, 99_999.0] {
            times.add(Duration::from_secs_f64(ms / 1e3));
        }
        let mut out = String::new();
        times.write(&mut out, "t", "k=\"a\"");
        for wanted in [
            "edgelesspart_t_bucket{k=\"a\",le=\"0.0001\"} 1\n",
            "edgelesspart_t_bucket{k=\"a\",le=\"0.00025\"} 2\n",
            "edgelesspart_t_bucket{k=\"a\",le=\"2.5\"} 3\n",
            "edgelesspart_t_bucket{k=\"a\",le=\"+Inf\"} 4\n",
            "edgelesspart_t_count{k=\"a\"} 4\n",
        ] {
            assert!(out.contains(wanted), "{out}");
        }
    }

    #[rstest]
    #[case("/v1/parts/ab/infer", "offload")]
    #[case("/v2/models/ab/infer", "v2_infer")]
    #[case("/v2/models/ab/ready", "v2_other")]
    #[case("/v1/jobs/1/events", "jobs")]
    #[case("/anything/anybody/types", "other")]
    fn paths_fall_into_few_kinds(#[case] path: &str, #[case] expected: &str) {
        assert_eq!(kind(path), expected);
    }
}
