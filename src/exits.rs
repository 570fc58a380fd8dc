/*!
Exit classifiers: from the user's source to a small graph at an exit point.

source (a minijinja template, or `Replica`) → rendered RON → typed layers → shape-checked → a head.
Pure: no I/O but the template text handed in, no threads.
*/

use crate::model::Graph;
use serde::{Deserialize, Serialize};

/// A place where a head may stand, with all that a template may use. None of it depends on a plan
/// but `part`, so that a head's confidences stay valid wherever the split goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExitPoint {
    /// Layer (row of the layer table) behind which the head stands.
    pub layer: usize,
    /// Name of that layer.
    pub after: String,
    /// Name of the value the head reads.
    pub value: String,
    /// Number of this point among all legal ones, from 0.
    pub index: usize,
    /// How many legal exit points the network has.
    pub count: usize,
    /// Share of the network's MACs before the point.
    pub depth: f64,
    /// MACs before the point.
    pub macs: u64,
    /// Extents of one sample at the point: `[C, H, W]`, `[C]` or `[T, C]`.
    pub sample: Vec<usize>,
    /// Classes of the network.
    pub classes: usize,
}

/// Which part of the plan a head stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Before the split.
    Edge,
    /// Behind it.
    Cloud,
}

/// The exit classifier as the session writes it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub enum Classifier {
    /// The network's own classifier, resized for each exit point.
    #[default]
    Replica,
    /// Source text in the session itself.
    Template(String),
    /// A file of source text, relative to the session file.
    File(std::path::PathBuf),
}

/// A head: rendered, checked and built for one exit point. Untrained until its graph's constants
/// are replaced by trained ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// Where it stands.
    pub point: ExitPoint,
    /// The rendered source.
    pub rendered: String,
    /// SHA-256 (hex, first 16 digits) of the rendered source: half of the confidence table's key.
    pub hash: String,
    /// One input `x` (the value at the point, with batch), one output `logits` `[N, classes]`.
    pub graph: Graph,
    /// Parameters.
    pub params: usize,
    /// Multiply-accumulates a sample.
    pub macs: u64,
}
