/*!
The parts of a plan: chains of segments between exits, with all that running them elsewhere takes.
*/

use crate::data::Preprocessing;
use crate::model::layers::LayerTable;
use crate::model::{Graph, ends_in_softmax};
use crate::plan::{Plan, Tier, TierHead, Wire};
use crate::predict::Confidence;
use sha2::{Digest, Sha256};

/// Why parts can't be made, written or read.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// A plan that names a layer the network doesn't have.
    #[error("the plan's layer {0} is not in the network; make the plan anew")]
    OtherNetwork(String),
    /// An exit without a head.
    #[error("there is no trained head after `{0}`; train it first")]
    NoHead(String),
    /// A piece that can't be cut out.
    #[error(transparent)]
    Graph(#[from] crate::model::graph::GraphError),
    /// A graph that can't be written.
    #[error("writing `{file}`: {what}")]
    Export {
        /// The file of the part.
        file: String,
        /// What is wrong with the archive.
        what: String,
    },
    /// A bundle that isn't one, or was damaged.
    #[error("the bundle is damaged or no bundle: {0}; {ANEW}")]
    Damaged(String),
    /// A bundle in the form of release 0.1.
    #[error("the bundle has the form of release 0.1, which is no longer read; {ANEW}")]
    Old,
    /// A manifest of another version.
    #[error(
        "`manifest.json` has version {found}, and this release reads version {known}: use the same \
         release of edgelesspart on all machines, or {ANEW}"
    )]
    Version {
        /// Version that the manifest names.
        found: u64,
        /// The one that is read here.
        known: u32,
    },
    /// Files that don't fit the manifest.
    #[error("`{file}` of the part: {what}; {ANEW}")]
    File {
        /// The file of the part.
        file: String,
        /// What doesn't fit, in words.
        what: String,
    },
    /// A file that can't be read.
    #[error("{}: {source}", .file.display())]
    Read {
        /// Path of the file.
        file: std::path::PathBuf,
        /// Reason that the operating system gives.
        source: std::io::Error,
    },
}

/// How a part comes about that fits together.
const ANEW: &str = "make it anew with `edgelesspart export parts`, or run the session again";

/// An exit at the end of a segment.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentExit {
    /// Name of the layer behind which it stands.
    pub after: String,
    /// Row of that layer in the network's layer table, from 0.
    pub layer: usize,
    /// Leave when the confidence is larger; 0 to 1.
    pub threshold: f64,
    /// Logits are divided by it.
    pub temperature: f32,
    /// Reads the segment's output, gives logits.
    pub head: Graph,
    /// SHA-256 of the head's rendered source.
    pub hash: String,
}

/// A piece of the backbone, and the exit behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// One input, one output.
    pub graph: Graph,
    /// The exit that reads its output, if one stands there.
    pub exit: Option<SegmentExit>,
}

/// A part, ready to run: each segment's output is the next one's input. The last output is the tensor
/// that is sent on, or, of the last part, the final classifier's.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The tier that runs it.
    pub tier: Tier,
    /// Name of the network.
    pub network: String,
    /// In order; empty only for a side that has nothing to do.
    pub segments: Vec<Segment>,
    /// Classes of the network.
    pub classes: usize,
    /// Whether the last output is the final classifier's, rather than a tensor to send on.
    pub ends_network: bool,
    /// Whether the final classifier ends in Softmax.
    pub final_is_probabilities: bool,
    /// What it takes besides to be run anywhere.
    pub settings: PartSettings,
}

/// What a part says besides its graphs: how confidence is measured, what its input is made of, and how
/// its output travels.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PartSettings {
    /// The measure that thresholds are compared with.
    pub confidence: Confidence,
    /// From pixels to the network's input; only in the part that the network begins in, and only where
    /// the network takes images.
    pub preprocessing: Option<Preprocessing>,
    /// How the last output travels, where it is a tensor that is sent on.
    pub wire: Wire,
    /// Names of the classes, in order; empty where they have none.
    pub labels: Vec<String>,
}

/// The parts of a plan, in order of tiers; a tier that has nothing to do is left out. `heads`
/// holds one for each exit at least. Of `settings` each part keeps what concerns it.
///
/// # Errors
/// Where the plan is of another network, or an exit has no head.
pub fn parts(
    fused: &Graph,
    table: &LayerTable,
    plan: &Plan,
    heads: &[TierHead],
    settings: &PartSettings,
) -> Result<Vec<Part>, PartError> {
    let value = |layer: usize| {
        let row = table
            .layers
            .get(layer)
            .filter(|l| fused.find(&l.value).is_ok());
        row.map(|l| l.value.clone())
            .ok_or_else(|| PartError::OtherNetwork(layer.to_string()))
    };
    let name = |id: crate::model::ValueId| fused.value(id).name.clone();
    let (Some(&input), Some(&output)) = (fused.inputs.first(), fused.outputs.first()) else {
        return Err(PartError::OtherNetwork("0".to_string()));
    };
    let (first, last) = (name(input), name(output));
    let mut sides = Vec::new();
    let mut start = first.clone();
    for tier in plan.chain() {
        let rows = plan.rows(tier, table.layers.len());
        if rows.is_empty() {
            continue;
        }
        let end = match plan.split_behind(tier).and_then(|split| split.row()) {
            Some(at) => value(at)?,
            None => last.clone(),
        };
        if rows.start == 0 {
            start = first.clone();
        }
        sides.push((tier, start, end.clone()));
        start = end;
    }
    let mut parts = Vec::new();
    for (tier, start, end) in sides {
        let mut from = start;
        let mut segments = Vec::new();
        for exit in plan.exits_in(tier) {
            let to = value(exit.layer)?;
            let found = TierHead::find(heads, &exit.after, tier);
            let TierHead {
                head, temperature, ..
            } = found.ok_or_else(|| PartError::NoHead(exit.after.clone()))?;
            let exit = SegmentExit {
                after: exit.after.clone(),
                layer: exit.layer,
                threshold: exit.threshold,
                temperature: *temperature,
                head: head.graph.clone(),
                hash: head.hash.clone(),
            };
            segments.push(Segment {
                graph: piece(fused, &from, &to)?,
                exit: Some(exit),
            });
            from = to;
        }
        if from != end {
            segments.push(Segment {
                graph: piece(fused, &from, &end)?,
                exit: None,
            });
        }
        let ends_network = end == last;
        let begins_network = plan.rows(tier, table.layers.len()).start == 0;
        let settings = PartSettings {
            preprocessing: settings.preprocessing.clone().filter(|_| begins_network),
            wire: if ends_network {
                Wire::default()
            } else {
                settings.wire
            },
            ..settings.clone()
        };
        parts.push(Part {
            tier,
            network: fused.name.clone(),
            segments,
            classes: table.classes,
            ends_network,
            final_is_probabilities: ends_network && ends_in_softmax(fused),
            settings,
        });
    }
    Ok(parts)
}

fn piece(graph: &Graph, from: &str, to: &str) -> Result<Graph, PartError> {
    let (from, to) = (graph.find(from)?, graph.find(to)?);
    Ok(graph.subgraph(&[from], &[to])?)
}

/// SHA-256, hex: the address of bytes.
pub fn address(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
