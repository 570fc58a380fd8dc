/*!
The parts of a plan: chains of segments between exits, with all that running them elsewhere takes.
*/

use crate::data::Preprocessing;
use crate::model::layers::LayerTable;
use crate::model::{Graph, ends_in_softmax};
use crate::plan::{Plan, PlannedExit, Tier, TierHead, Wire};
use crate::predict::{Combination, Confidence};
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
    /// The exit's model, where confidence is learned.
    pub combination: Option<Combination>,
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
    /// The layers behind which exits stand in the parts before, in order, where the measure looks at them.
    pub exits_before: Vec<String>,
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
    let (Some(&input), Some(&output)) = (fused.inputs.first(), fused.outputs.first()) else {
        return Err(PartError::OtherNetwork("0".to_string()));
    };
    let cut = Cut {
        fused,
        table,
        plan,
        heads,
    };
    let last = &fused.value(output).name;
    let first = &fused.value(input).name;
    let mut start = first.clone();
    let mut parts = Vec::new();
    for tier in plan.chain() {
        let rows = plan.rows(tier, table.layers.len());
        if rows.is_empty() {
            continue;
        }
        if rows.start == 0 {
            // Also behind a tier that sends the image on.
            start.clone_from(first);
        }
        let end = match plan.split_behind(tier).and_then(|split| split.row()) {
            Some(at) => cut.value(at)?,
            None => last.clone(),
        };
        let ends_network = end == *last;
        let before = plan.exits.iter().filter(|exit| exit.tier < tier);
        let before = before.filter(|_| settings.confidence.looks_back());
        let settings = PartSettings {
            exits_before: before.map(|exit| exit.after.clone()).collect(),
            preprocessing: settings.preprocessing.clone().filter(|_| rows.start == 0),
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
            segments: cut.segments(tier, start, &end)?,
            classes: table.classes,
            ends_network,
            final_is_probabilities: ends_network && ends_in_softmax(fused),
            settings,
        });
        start = end;
    }
    Ok(parts)
}

/// A network that is cut as a plan says.
struct Cut<'a> {
    fused: &'a Graph,
    table: &'a LayerTable,
    plan: &'a Plan,
    heads: &'a [TierHead],
}

impl Cut<'_> {
    /// Name of the value that a layer gives, by its row.
    fn value(&self, row: usize) -> Result<String, PartError> {
        let layer = self.table.layers.get(row);
        let own = layer.filter(|layer| self.fused.find(&layer.value).is_ok());
        own.map(|layer| layer.value.clone())
            .ok_or_else(|| PartError::OtherNetwork(row.to_string()))
    }

    /// The segments of a tier between two values, each with the exit behind it.
    fn segments(&self, tier: Tier, start: String, end: &str) -> Result<Vec<Segment>, PartError> {
        let mut from = start;
        let mut segments = Vec::new();
        for exit in self.plan.exits_in(tier) {
            let to = self.value(exit.layer)?;
            segments.push(Segment {
                graph: piece(self.fused, &from, &to)?,
                exit: Some(self.exit(exit)?),
            });
            from = to;
        }
        if from != end {
            segments.push(Segment {
                graph: piece(self.fused, &from, end)?,
                exit: None,
            });
        }
        Ok(segments)
    }

    /// An exit of the plan with its head.
    fn exit(&self, exit: &PlannedExit) -> Result<SegmentExit, PartError> {
        let found = TierHead::find(self.heads, &exit.after, exit.tier);
        let found = found.ok_or_else(|| PartError::NoHead(exit.after.clone()))?;
        Ok(SegmentExit {
            after: exit.after.clone(),
            layer: exit.layer,
            threshold: exit.threshold,
            temperature: found.temperature,
            head: found.head.graph.clone(),
            hash: found.head.hash.clone(),
            combination: None,
        })
    }
}

/// Gives the exits of a plan's parts their models, one per exit of the plan, in order; none where confidence
/// isn't learned.
pub fn combine(parts: &mut [Part], plan: &Plan, models: Vec<Combination>) {
    for (planned, model) in plan.exits.iter().zip(models) {
        let exits = parts.iter_mut().flat_map(|part| &mut part.segments);
        let mut exits = exits.filter_map(|segment| segment.exit.as_mut());
        if let Some(exit) = exits.find(|exit| exit.layer == planned.layer) {
            exit.combination = Some(model);
        }
    }
}

fn piece(graph: &Graph, from: &str, to: &str) -> Result<Graph, PartError> {
    let (from, to) = (graph.find(from)?, graph.find(to)?);
    Ok(graph.subgraph(&[from], &[to])?)
}

/// SHA-256, hex: the address of bytes.
pub fn address(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
