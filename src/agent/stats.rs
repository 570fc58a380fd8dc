/*! What was inferred under each model's name, and how long its steps took: the statistics extension. */

use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Models that are counted; beyond that, names of parts long gone make room.
const MODELS: usize = 256;
/// The one version of every model.
pub(super) const MODEL_VERSION: &str = "1";

/// Durations of one request's steps.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Steps {
    pub(super) samples: usize,
    pub(super) queue: Duration,
    pub(super) input: Duration,
    pub(super) infer: Duration,
    pub(super) output: Duration,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    count: u64,
    time: Duration,
}

impl Count {
    fn add(&mut self, time: Duration) {
        self.count += 1;
        self.time += time;
    }

    fn json(self) -> Value {
        json!({"count": self.count, "ns": self.time.as_nanos() as u64})
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Model {
    last_ms: u64,
    samples: u64,
    success: Count,
    fail: Count,
    queue: Count,
    input: Count,
    infer: Count,
    output: Count,
}

/// The statistics of all models.
#[derive(Debug, Default)]
pub(super) struct Stats(Mutex<HashMap<String, Model>>);

impl Stats {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Model>> {
        self.0.lock()
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Model)) {
        let mut models = self.lock();
        if models.len() >= MODELS && !models.contains_key(name) {
            let oldest = models.iter().min_by_key(|(_, m)| m.last_ms);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                models.remove(&oldest);
            }
        }
        let model = models.entry(name.to_string()).or_default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        model.last_ms = now.map_or(0, |t| t.as_millis() as u64);
        change(model);
    }

    /// A request that was answered.
    pub(super) fn answered(&self, name: &str, steps: Steps) {
        self.change(name, |model| {
            model.samples += steps.samples as u64;
            let Steps {
                queue,
                input,
                infer,
                output,
                ..
            } = steps;
            model.success.add(queue + input + infer + output);
            model.queue.add(queue);
            model.input.add(input);
            model.infer.add(infer);
            model.output.add(output);
        });
    }

    /// One that was refused.
    pub(super) fn refused(&self, name: &str, took: Duration) {
        self.change(name, |model| model.fail.add(took));
    }

    /// What is known of a model, as the extension says it.
    pub(super) fn of(&self, name: &str) -> Value {
        let model = self.lock().get(name).copied().unwrap_or_default();
        json!({
            "name": name,
            "version": MODEL_VERSION,
            "last_inference": model.last_ms,
            "inference_count": model.samples,
            "execution_count": model.success.count,
            "inference_stats": {
                "success": model.success.json(),
                "fail": model.fail.json(),
                "queue": model.queue.json(),
                "compute_input": model.input.json(),
                "compute_infer": model.infer.json(),
                "compute_output": model.output.json(),
            },
            "batch_stats": [],
        })
    }
}
