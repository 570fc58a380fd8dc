/*!
Measuring a device: the time and memory of each layer, of heads and of assembled parts; resident
memory; what the machine is. The link between two devices is measured here too.
*/

mod breakdown;
mod error;
mod files;
pub mod load;
pub mod machine;
pub mod memory;
pub mod profile;
#[cfg(test)]
mod recorded;
mod stats;
pub mod telemetry;

pub use breakdown::NotTimed;
pub use error::DeviceError;
pub use load::Load;
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

/// What a cut at a place adds to the times of the layers around it, in milliseconds of a usual run: the
/// tensor there is brought into the network's own order, and back into that of the kernels.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Boundary {
    /// Rows of the layer table before the place.
    pub rows: usize,
    /// To end a segment here.
    pub leave_ms: f64,
    /// To begin a segment here.
    pub enter_ms: f64,
}

/// What a device takes to write and to read a tensor, or an image, in one of the forms that travel.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CodecTime {
    /// Element type and compression on the wire.
    pub form: Form,
    /// Elements of the tensor, or bytes of the image's pixels.
    pub elements: usize,
    /// Milliseconds to encode a tensor of `elements`.
    pub encode_ms: f64,
    /// Milliseconds to decode it.
    pub decode_ms: f64,
}

/// A form in which what is sent on travels: a tensor by its element type and compression, or an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Form {
    F32,
    F16,
    U8,
    F32Lz4,
    F16Lz4,
    U8Lz4,
    /// An image's pixels as bytes; reading them is preprocessing.
    Pixels,
    /// A JPEG file; reading it is decoding and preprocessing.
    Jpeg,
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
    /// Of every place where the network may be cut, in order; none where the backend can't tell, or from
    /// before profiles had them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boundaries: Vec<Boundary>,
    /// Times of writing and reading what travels, by form and then by size.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codec: Vec<CodecTime>,
    /// How busy the machine was meanwhile; `None` of a profile from before that was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    /// Watts of the board meanwhile, where it has power rails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watts: Option<f64>,
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
    /// Milliseconds by which each warm round trip of a small payload was longer than the usual one of its
    /// size, in the order they were made: how much the link varies. None of what was measured before that
    /// was noted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jitter_ms: Vec<f64>,
    /// Whether the link is emulated.
    pub emulated: bool,
}
