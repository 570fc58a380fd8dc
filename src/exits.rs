/*!
Exit classifiers: from the user's source to a small graph at an exit point.

source (a minijinja template, or `Replica`) → rendered RON → typed layers → shape-checked → a head.
Pure: no I/O but what a [`Library`] hands in, no threads.

The language, as `edgelesspart exits templates --reference` prints it too:

*/
#![doc = include_str!("../assets/exits/reference.md")]

mod build;
mod diagnostic;
mod layer;
mod library;
mod parse;
mod pytorch;
mod reference;
mod render;
mod replica;
mod template;
#[cfg(test)]
mod tests;

pub use diagnostic::{Diagnostic, ExitError};
pub use library::{Files, Library};
pub use pytorch::PyTorchError;
pub use reference::reference;
pub use template::{BLOCKS, TEMPLATES, Template};

use crate::model::layers::LayerTable;
use crate::model::{Constant, Graph};
use diagnostic::Finding;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

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
    /// The exits that the network's own file brings along as further outputs, trained.
    OwnExits,
}

/// A head: rendered, checked and built for one exit point. Untrained until its graph's constants
/// are replaced by trained ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// Exit point that the head reads.
    pub point: ExitPoint,
    /// Source as rendered for this exit point, without template tags.
    pub rendered: String,
    /// SHA-256 (hex, first 16 digits) of the rendered source: half of the confidence table's key.
    pub hash: String,
    /// One input `x` (the value at the point, with batch), one output `logits` `[N, classes]`.
    pub graph: Graph,
    /// Number of trained values: weights, biases, scales and shifts.
    pub params: usize,
    /// Multiply-accumulates per sample.
    pub macs: u64,
    /// Where training drops values; inference knows nothing of it.
    pub dropout: Vec<Dropout>,
    /// Layer by layer, what it does to shapes and what it costs. Empty in a head that was stored.
    pub lines: Vec<Line>,
    /// What is no error and yet worth knowing, placed in the source. Empty in a head that was stored.
    pub warnings: Vec<Diagnostic>,
}

/// One layer of a head as built at its exit point.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// How many layers it stands in.
    pub depth: usize,
    /// Name and fields, without the layers it holds.
    pub text: String,
    /// Extents of a sample before it.
    pub input: Vec<usize>,
    /// Extents of a sample after it.
    pub output: Vec<usize>,
    /// Parameters, those of the layers it holds included.
    pub params: usize,
    /// Multiply-accumulates a sample, likewise.
    pub macs: u64,
}

/// Dropout behind a value of a head's graph, while training.
#[derive(Debug, Clone, PartialEq)]
pub struct Dropout {
    /// Name of the value.
    pub value: String,
    /// Share of its elements set to zero, the others scaled up by 1 / (1 − rate).
    pub rate: f32,
}

/// All legal exit points of a network, in order of depth.
pub fn points(table: &LayerTable, fused: &Graph) -> Vec<ExitPoint> {
    let legal = |&(_, l): &(usize, &crate::model::layers::Layer)| l.exit_legal;
    let count = table.layers.iter().filter(|l| l.exit_legal).count();
    let layers = table.layers.iter().enumerate().filter(legal);
    layers
        .enumerate()
        .map(|(index, (layer, row))| ExitPoint {
            layer,
            after: row.name.clone(),
            value: fused.value(row.output).name.clone(),
            index,
            count,
            depth: row.prefix_macs as f64 / table.macs.max(1) as f64,
            macs: row.prefix_macs,
            sample: row.shape.sample().unwrap_or_default(),
            classes: table.classes,
        })
        .collect()
}

/// The network's own classifier as a head source, resized for any exit point.
///
/// # Errors
/// Where the network's end has a form that is not known; the error names the node.
pub fn replica(fused: &Graph) -> Result<String, ExitError> {
    replica::source(fused)
}

/// Makes a head of a source for one exit point, its weights drawn from `seed`. `part` is what the
/// source reads under that name: what the part that the exit stands in is called.
///
/// # Errors
/// Every finding, placed in the source.
pub fn head(source: &str, point: &ExitPoint, part: &str, seed: u64) -> Result<Head, ExitError> {
    head_with(source, point, part, seed, &Library::new())
}

/// Like [`head`], for a source that names templates and files of its own.
///
/// # Errors
/// Every finding, placed in the source.
pub fn head_with(
    source: &str,
    point: &ExitPoint,
    part: &str,
    seed: u64,
    library: &Library,
) -> Result<Head, ExitError> {
    let refuse = |findings: Vec<Finding>| refusal(source, Some(point.after.as_str()), findings);
    let rendered = render::render(source, point, part, library).map_err(refuse)?;
    let place = |found: Vec<Finding>| -> Vec<Finding> {
        found.into_iter().map(|f| rendered.to_source(f)).collect()
    };
    let layers =
        parse::parse(&rendered.text, &names(point)).map_err(|found| refuse(place(found)))?;
    let last = rendered.text.trim_end().len();
    let end = (last.saturating_sub(1), last);
    let built =
        build::build(&layers, point, seed, library, end).map_err(|found| refuse(place(found)))?;
    let text = layer::canonical(&layers);
    let mut digest = Sha256::digest(text.as_bytes());
    for file in &built.files {
        let both = [digest.as_slice(), Sha256::digest(file).as_slice()].concat();
        digest = Sha256::digest(&both);
    }
    let warnings = place(built.warnings);
    Ok(Head {
        point: point.clone(),
        rendered: text,
        hash: hex::encode(&digest[..8]),
        graph: built.graph,
        params: built.params,
        macs: built.macs,
        dropout: built.dropout,
        lines: built.lines,
        warnings: warnings.into_iter().map(|f| f.locate(source)).collect(),
    })
}

/// The names that stand for a number in rendered text too.
fn names(point: &ExitPoint) -> [(&'static str, usize); 4] {
    let [channels, height, width] = render::extents(point);
    [
        ("classes", point.classes),
        ("channels", channels),
        ("height", height),
        ("width", width),
    ]
}

/// The heads to train at a point: one for the first of `parts`, and one for each other part for
/// which the source makes another, with that part's place in `parts`.
///
/// # Errors
/// As [`head`], of the first part that fails.
pub fn heads_with(
    source: &str,
    point: &ExitPoint,
    parts: &[&str],
    seed: u64,
    library: &Library,
) -> Result<Vec<(usize, Head)>, ExitError> {
    let mut heads: Vec<(usize, Head)> = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        let head = head_with(source, point, part, seed, library)?;
        if heads
            .first()
            .is_none_or(|(_, common)| common.hash != head.hash)
        {
            heads.push((i, head));
        }
    }
    Ok(heads)
}

/// Why trained weights don't fit a head.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WeightError {
    /// A constant the head doesn't have.
    #[error("the head after `{after}` has no weights `{name}`")]
    Unknown {
        /// Layer after which the head stands.
        after: String,
        /// Name of the weights in the head's graph.
        name: String,
    },
    /// Other extents or another element type.
    #[error("weights `{name}` of the head after `{after}` are {expected:?}, not {found:?}")]
    Shape {
        /// Layer after which the head stands.
        after: String,
        /// Name of the weights in the head's graph.
        name: String,
        /// Extents in the head.
        expected: Vec<usize>,
        /// Extents of the weights that were given.
        found: Vec<usize>,
    },
}

impl Head {
    /// PyTorch source of a module that computes the same, its parameters named as this graph's
    /// constants.
    ///
    /// # Errors
    /// Where the head holds a network from a file with ops that have no such form, or was stored
    /// without its layers.
    pub fn pytorch(&self) -> Result<String, PyTorchError> {
        pytorch::source(self)
    }

    /// The same head with some of its constants replaced, by name.
    ///
    /// # Errors
    /// Where a name is unknown or a shape or type differs.
    pub fn with_weights(
        mut self,
        weights: &BTreeMap<String, Constant>,
    ) -> Result<Head, WeightError> {
        for (name, constant) in weights {
            let own = self.graph.find(name).ok();
            let own = own.and_then(|id| self.graph.constants.get_mut(&id));
            let Some(own) = own else {
                return Err(WeightError::Unknown {
                    after: self.point.after.clone(),
                    name: name.clone(),
                });
            };
            if own.shape != constant.shape || own.dtype() != constant.dtype() {
                return Err(WeightError::Shape {
                    after: self.point.after.clone(),
                    name: name.clone(),
                    expected: own.shape.clone(),
                    found: constant.shape.clone(),
                });
            }
            *own = constant.clone();
        }
        Ok(self)
    }

    /// Its constants by name: what training changes and a session stores.
    pub fn weights(&self) -> BTreeMap<String, Constant> {
        let named = |(id, c): (&crate::model::ValueId, &Constant)| {
            (self.graph.value(*id).name.clone(), c.clone())
        };
        self.graph.constants.iter().map(named).collect()
    }
}

fn refusal(source: &str, after: Option<&str>, mut findings: Vec<Finding>) -> ExitError {
    findings.sort_by_key(|f| f.start);
    ExitError {
        after: after.map(str::to_string),
        source_text: source.to_string(),
        diagnostics: findings.into_iter().map(|f| f.locate(source)).collect(),
    }
}
