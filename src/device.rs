/*!
Measuring a device: the time and memory of each layer, of heads and of assembled parts; resident
memory; what the machine is. The link between two devices is measured here too.
*/

mod breakdown;
mod error;
mod files;
pub mod machine;
pub mod memory;
pub mod profile;
#[cfg(test)]
mod recorded;
mod stats;
pub mod telemetry;

pub use breakdown::NotTimed;
pub use error::DeviceError;
pub use stats::{percentile, percentiles, winsorised_mean};

use serde::{Deserialize, Serialize};

/// A sample of durations, summarised. Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Stats {
    pub min: f64,
    pub median: f64,
    pub mean: f64,
    pub p95: f64,
}

/// Time and memory of one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerProfile {
    /// Name of the layer.
    pub name: String,
    /// Time at the profile's batch.
    pub ms: Stats,
    /// Bytes this layer holds while it runs: packed parameters, input and output.
    pub bytes: usize,
}

/// Time of a network up to a place where it may be cut, run by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PrefixProfile {
    /// Name of the layer behind which it ends.
    pub after: String,
    /// Time at the profile's batch.
    pub ms: Stats,
}

/// A head's time on the target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadProfile {
    /// Layer behind which it stands.
    pub after: String,
    /// Hash of its rendered source.
    pub hash: String,
    /// Time at the profile's batch.
    pub ms: Stats,
    /// Bytes of its packed parameters and arena.
    pub bytes: usize,
    /// Those of the arena alone, which a part's segments and heads share.
    #[serde(default)]
    pub arena_bytes: usize,
}

/// Memory of the layers between two places where a network may be cut or begins or ends: of a segment
/// of a part, compiled by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentMemory {
    /// The first row of the layer table in it.
    pub from: usize,
    /// The row behind its last.
    pub to: usize,
    /// Packed weights, as [`Profile::weight_bytes`].
    pub weight_bytes: usize,
    /// Arena at the profile's batch, as [`Profile::arena_bytes`].
    pub arena_bytes: usize,
}

/// What was measured of one network on one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Which target, in words: the agent's machine.
    pub target: String,
    /// CPU model or device name.
    pub device: String,
    /// Clock in GHz where known, for billing.
    pub ghz: Option<f64>,
    /// CPU threads that ran the network.
    pub threads: usize,
    /// Samples per run.
    pub batch: usize,
    /// Factor by which the times were stretched; other than 1 means emulated.
    pub slowdown: f64,
    /// The whole network, measured as a whole.
    pub total_ms: Stats,
    /// One entry per row of the layer table; empty where the backend fuses layers and so knows no
    /// time for each.
    pub layers: Vec<LayerProfile>,
    /// Where it does: the network up to each place where a split or an exit may stand. Empty too
    /// where only the whole was timed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<PrefixProfile>,
    /// Heads that were measured.
    pub heads: Vec<HeadProfile>,
    /// Whole-network samples in order (milliseconds), for replaying percentiles.
    pub samples_ms: Vec<f64>,
    /// Packed weights of the whole network; where the backend doesn't tell, the constants of the fused
    /// graph.
    pub weight_bytes: usize,
    /// Arena at this batch size, and what the threads work in beside it; where the backend doesn't
    /// tell, the largest set of the network's activations alive at once.
    pub arena_bytes: usize,
    /// Of every segment that a part can have: compiled, not measured.
    #[serde(default)]
    pub segments: Vec<SegmentMemory>,
    /// Peak resident memory of the process that measured.
    pub resident_bytes: usize,
}

/// What was measured of one assembled part on one target, sample by sample.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PartProfile {
    /// One entry a segment, in order.
    pub segments: Vec<Stats>,
    /// One entry a segment; zero where no exit stands behind it.
    pub heads: Vec<Stats>,
    /// Packed weights of segments and heads.
    pub weight_bytes: usize,
    /// The arena that they share: the largest of any of them.
    pub arena_bytes: usize,
}

/// Round-trip time against payload between two targets, after idle and warm.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LinkProfile {
    /// `(payload bytes, round trip ms)` after an idle pause, ascending.
    pub idle: Vec<(usize, f64)>,
    /// Likewise on a warm connection.
    pub warm: Vec<(usize, f64)>,
    /// Whether the link is emulated.
    pub emulated: bool,
}
