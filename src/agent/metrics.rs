/*! What an agent counts, and the text of it for Prometheus (OpenMetrics 1.0). */

use crate::predict::Record;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::time::Duration;

/// The content type of [`Metrics::text`].
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the buckets, in seconds.
const BOUNDS: [f64; 14] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    kind: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Exit {
    r#in: &'static str,
    exit: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

type Times = Family<Kind, Histogram, fn() -> Histogram>;

fn times() -> Times {
    Family::new_with_constructor(|| Histogram::new(BOUNDS))
}

/// What is true at the moment of the asking, rather than counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Levels {
    /// Requests for inference that wait or run.
    pub(super) outstanding: u32,
    pub(super) running_jobs: usize,
    pub(super) waiting_jobs: usize,
    pub(super) peak_resident_bytes: usize,
}

/// The counters of an agent.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<Answer, Counter>,
    handling: Times,
    waiting: Times,
    exits: Family<Exit, Counter>,
    offloaded: Counter,
    degraded: Counter,
    /// Bytes of requests' bodies.
    pub(super) received: Counter,
    /// Bytes of answers' bodies.
    pub(super) sent: Counter,
    outstanding: Gauge,
    jobs: Family<State, Gauge>,
    peak_resident: Gauge,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("edgelesspart"),
            requests: Family::default(),
            handling: times(),
            waiting: times(),
            exits: Family::default(),
            offloaded: Counter::default(),
            degraded: Counter::default(),
            received: Counter::default(),
            sent: Counter::default(),
            outstanding: Gauge::default(),
            jobs: Family::default(),
            peak_resident: Gauge::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        let requests = self.requests.clone();
        registry.register("requests", "Requests answered", requests);
        let what = "Time from a request's head to its answer's, in seconds";
        registry.register("request_seconds", what, self.handling.clone());
        let what = "Time that a request for inference waited for the engine, in seconds";
        registry.register("queue_seconds", what, self.waiting.clone());
        let what = "Samples that left, by exit of the part that served, or of the plan in a run";
        registry.register("exits", what, self.exits.clone());
        let what = "Samples of runs here that were offloaded";
        registry.register("offloaded", what, self.offloaded.clone());
        let what = "Samples of runs here that the edge answered for a cloud that didn't";
        registry.register("degraded", what, self.degraded.clone());
        let what = "Bytes of requests' bodies";
        registry.register("received_bytes", what, self.received.clone());
        let what = "Bytes of answers' bodies";
        registry.register("sent_bytes", what, self.sent.clone());
        let what = "Requests for inference that wait or run";
        registry.register("outstanding_requests", what, self.outstanding.clone());
        registry.register("jobs", "Jobs that wait or run", self.jobs.clone());
        let what = "Peak resident memory of the process";
        registry.register("peak_resident_bytes", what, self.peak_resident.clone());
    }

    /// Counts a request that was answered, a stream once its head was.
    pub(super) fn answered(&self, kind: &'static str, status: u16, time: Duration) {
        self.requests.get_or_create(&Answer { kind, status }).inc();
        let times = self.handling.get_or_create(&Kind { kind });
        times.observe(time.as_secs_f64());
    }

    /// Counts how long a request waited for the engine.
    pub(super) fn waited(&self, kind: &'static str, time: Duration) {
        let times = self.waiting.get_or_create(&Kind { kind });
        times.observe(time.as_secs_f64());
    }

    /// Counts a sample of another's run that left in a part here.
    pub(super) fn exit(&self, exit: u16) {
        let r#in = "served";
        self.exits.get_or_create(&Exit { r#in, exit }).inc();
    }

    /// Counts a sample of a run of this edge.
    pub(super) fn left(&self, record: &Record) {
        let (r#in, exit) = ("run", record.exit);
        self.exits.get_or_create(&Exit { r#in, exit }).inc();
        self.offloaded.inc_by(u64::from(record.offloaded()));
        self.degraded.inc_by(u64::from(record.degraded));
    }

    /// All of it as text.
    ///
    /// # Errors
    /// None that is known: text is written to memory.
    pub(super) fn text(&self, levels: Levels) -> Result<String, std::fmt::Error> {
        self.outstanding.set(i64::from(levels.outstanding));
        let jobs = |state, count: usize| {
            self.jobs.get_or_create(&State { state }).set(count as i64);
        };
        jobs("running", levels.running_jobs);
        jobs("waiting", levels.waiting_jobs);
        self.peak_resident.set(levels.peak_resident_bytes as i64);
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// The kind of request a path is; few kinds, since each is a series of its own.
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

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// The form is that of the OpenMetrics specification 1.0 (sections 4.1 and 5.3).
    #[test]
    fn buckets_are_cumulative_and_bounds_inclusive() {
        let metrics = Metrics::default();
        for ms in [0.1, 0.2, 3.0, 99_999.0] {
            metrics.waited("offload", Duration::from_secs_f64(ms / 1e3));
        }
        metrics.answered("jobs", 201, Duration::ZERO);
        metrics.exit(2);
        let levels = Levels {
            outstanding: 3,
            running_jobs: 1,
            waiting_jobs: 0,
            peak_resident_bytes: 5,
        };
        let text = metrics.text(levels).unwrap();
        for wanted in [
            "# TYPE edgelesspart_queue_seconds histogram\n",
            "edgelesspart_queue_seconds_bucket{le=\"0.0001\",kind=\"offload\"} 1\n",
            "edgelesspart_queue_seconds_bucket{le=\"0.00025\",kind=\"offload\"} 2\n",
            "edgelesspart_queue_seconds_bucket{le=\"2.5\",kind=\"offload\"} 3\n",
            "edgelesspart_queue_seconds_bucket{le=\"+Inf\",kind=\"offload\"} 4\n",
            "edgelesspart_queue_seconds_count{kind=\"offload\"} 4\n",
            "edgelesspart_requests_total{kind=\"jobs\",status=\"201\"} 1\n",
            "edgelesspart_exits_total{in=\"served\",exit=\"2\"} 1\n",
            "edgelesspart_outstanding_requests 3\n",
            "edgelesspart_jobs{state=\"running\"} 1\n",
            "edgelesspart_peak_resident_bytes 5\n",
        ] {
            assert!(text.contains(wanted), "{wanted}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
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
