/*!
The two parts of a plan: chains of segments between exits, and the bundle in which a part travels to
an agent. A bundle is a magic word, the length of a JSON manifest, the manifest, and the ONNX files
it lists, one after the other, each with its SHA-256.
*/

use crate::exits::Head;
use crate::model::export::to_onnx;
use crate::model::fuse::fused;
use crate::model::layers::LayerTable;
use crate::model::onnx::import_reader;
use crate::model::{DType, Graph, Shape, ends_in_softmax};
use crate::plan::Plan;
use crate::plan::Tier;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::Read;

const MAGIC: &[u8; 8] = b"ELPPART1";

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
        /// The file in the bundle.
        file: String,
        /// Why.
        what: String,
    },
    /// A bundle that isn't one, or was damaged.
    #[error("the bundle is damaged or no bundle: {0}; send the part again")]
    Damaged(String),
    /// Files that don't fit the manifest.
    #[error("`{file}` in the bundle: {what}")]
    File {
        /// The file in the bundle.
        file: String,
        /// What doesn't fit.
        what: String,
    },
}

/// An exit at the end of a segment.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentExit {
    /// Name of the layer behind which it stands.
    pub after: String,
    /// Row of that layer.
    pub layer: usize,
    /// Leave when the confidence is larger.
    pub threshold: f64,
    /// Logits are divided by it.
    pub temperature: f32,
    /// Reads the segment's output, gives logits.
    pub head: Graph,
    /// Hash of the head's rendered source.
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
pub struct PartSpec {
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
}

/// A trained head and its temperature.
pub type TrainedHead<'a> = (&'a Head, f32);

/// The parts of a plan, in order of tiers; a tier that has nothing to do is left out. `head` gives the
/// trained head of an exit, by layer name and part.
///
/// # Errors
/// Where the plan is of another network, or an exit has no head.
pub fn parts<'a>(
    fused: &Graph,
    table: &LayerTable,
    plan: &Plan,
    head: &dyn Fn(&str, Tier) -> Option<TrainedHead<'a>>,
) -> Result<Vec<PartSpec>, PartError> {
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
    let mut start = first;
    for tier in plan.chain() {
        if plan.rows(tier, table.layers.len()).is_empty() {
            continue;
        }
        let end = match plan.split_behind(tier).and_then(|split| split.row()) {
            Some(at) => value(at)?,
            None => last.clone(),
        };
        sides.push((tier, start, end.clone()));
        start = end;
    }
    let mut specs = Vec::new();
    for (tier, start, end) in sides {
        let mut from = start;
        let mut segments = Vec::new();
        for exit in plan.exits_in(tier) {
            let to = value(exit.layer)?;
            let (head, temperature) =
                head(&exit.after, tier).ok_or_else(|| PartError::NoHead(exit.after.clone()))?;
            let exit = SegmentExit {
                after: exit.after.clone(),
                layer: exit.layer,
                threshold: exit.threshold,
                temperature,
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
        specs.push(PartSpec {
            tier,
            network: fused.name.clone(),
            segments,
            classes: table.classes,
            ends_network,
            final_is_probabilities: ends_network && ends_in_softmax(fused),
        });
    }
    Ok(specs)
}

fn piece(graph: &Graph, from: &str, to: &str) -> Result<Graph, PartError> {
    let (from, to) = (graph.find(from)?, graph.find(to)?);
    Ok(graph.subgraph(&[from], &[to])?)
}

/// A file of the bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BundleFile {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: usize,
    /// SHA-256, hex.
    pub sha256: String,
}

/// A segment in the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentManifest {
    /// Its ONNX file.
    pub file: String,
    /// Name of its input.
    pub from: String,
    /// Name of its output.
    pub to: String,
    /// The exit behind it.
    pub exit: Option<ExitManifest>,
}

/// An exit in the manifest; the fields are [`SegmentExit`]'s.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ExitManifest {
    pub after: String,
    pub layer: usize,
    pub threshold: f64,
    pub temperature: f32,
    /// The head's ONNX file.
    pub head_file: String,
    pub hash: String,
}

/// What a bundle says of its part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct PartManifest {
    pub tier: Tier,
    pub network: String,
    pub classes: usize,
    pub ends_network: bool,
    pub final_is_probabilities: bool,
    pub segments: Vec<SegmentManifest>,
    pub files: Vec<BundleFile>,
    /// What the run needs besides (confidence, preprocessing, wire), in its caller's own form.
    pub settings: serde_json::Value,
}

/// A part and the caller's settings, as they travel.
#[derive(Debug, Clone, PartialEq)]
pub struct PartBundle {
    /// The part.
    pub spec: PartSpec,
    /// What the run needs besides, in its caller's own form.
    pub settings: serde_json::Value,
}

/// SHA-256 of a bundle's bytes, hex: its address.
pub fn address(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

impl PartBundle {
    /// The bundle's bytes; the same part always gives the same bytes.
    ///
    /// # Errors
    /// Where a graph can't be written as ONNX.
    pub fn encode(&self) -> Result<Vec<u8>, PartError> {
        let mut files: Vec<(BundleFile, Vec<u8>)> = Vec::new();
        let mut add = |name: String, graph: &Graph| -> Result<String, PartError> {
            let bytes = to_onnx(graph).map_err(|e| PartError::Export {
                file: name.clone(),
                what: e.to_string(),
            })?;
            let file = BundleFile {
                name: name.clone(),
                bytes: bytes.len(),
                sha256: address(&bytes),
            };
            files.push((file, bytes));
            Ok(name)
        };
        let mut segments = Vec::new();
        for (i, segment) in self.spec.segments.iter().enumerate() {
            let graph = &segment.graph;
            let end = |ids: &[crate::model::ValueId]| {
                ids.first()
                    .map_or(String::new(), |&id| graph.value(id).name.clone())
            };
            let exit = match &segment.exit {
                None => None,
                Some(e) => Some(ExitManifest {
                    after: e.after.clone(),
                    layer: e.layer,
                    threshold: e.threshold,
                    temperature: e.temperature,
                    head_file: add(format!("head-{i}.onnx"), &e.head)?,
                    hash: e.hash.clone(),
                }),
            };
            segments.push(SegmentManifest {
                file: add(format!("segment-{i}.onnx"), graph)?,
                from: end(&graph.inputs),
                to: end(&graph.outputs),
                exit,
            });
        }
        let manifest = PartManifest {
            tier: self.spec.tier,
            network: self.spec.network.clone(),
            classes: self.spec.classes,
            ends_network: self.spec.ends_network,
            final_is_probabilities: self.spec.final_is_probabilities,
            segments,
            files: files.iter().map(|(f, _)| f.clone()).collect(),
            settings: self.settings.clone(),
        };
        let json = serde_json::to_vec(&manifest).map_err(|e| PartError::Export {
            file: "manifest.json".to_string(),
            what: e.to_string(),
        })?;
        let mut out = MAGIC.to_vec();
        out.extend((json.len() as u64).to_le_bytes());
        out.extend(json);
        for (_, bytes) in files {
            out.extend(bytes);
        }
        Ok(out)
    }

    /// Reads a bundle of `length` bytes, tensor by tensor, so that its weights are never there twice;
    /// every length, checksum, name and shape is checked. The graphs come fused.
    ///
    /// # Errors
    /// Where anything doesn't fit; the error names the file.
    pub fn read(source: &mut dyn Read, length: u64) -> Result<PartBundle, PartError> {
        let damaged = |what: &str| PartError::Damaged(what.to_string());
        let mut left = length;
        let mut some = |length: u64, short: &str| {
            left = left.checked_sub(length).ok_or_else(|| damaged(short))?;
            let mut bytes = vec![0; length as usize];
            let read = source.read_exact(&mut bytes);
            read.map_err(|e| damaged(&e.to_string()))?;
            Ok::<Vec<u8>, PartError>(bytes)
        };
        let magic = some(MAGIC.len() as u64, "it ends early")?;
        if magic != MAGIC {
            return Err(damaged("it starts otherwise"));
        }
        let length = some(8, "it ends early")?;
        let length = length.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b));
        let json = some(length, "it ends inside the manifest")?;
        let manifest: PartManifest =
            serde_json::from_slice(&json).map_err(|e| PartError::Damaged(e.to_string()))?;
        let mut graphs = HashMap::new();
        for file in &manifest.files {
            // A length is only believed as far as there are bytes: the import goes by it.
            let rest = left.checked_sub(file.bytes as u64);
            left = rest.ok_or_else(|| bad(&file.name, "the bundle ends inside it"))?;
            if graphs
                .insert(file.name.as_str(), graph(source, file)?)
                .is_some()
            {
                return Err(bad(&file.name, "it is there twice"));
            }
        }
        if left > 0 {
            return Err(damaged("there is more behind the last file"));
        }
        let mut load = |name: &str| {
            graphs
                .remove(name)
                .ok_or_else(|| bad(name, "it is not there, or named twice"))
        };
        let mut segments: Vec<Segment> = Vec::new();
        let mut before: Option<(String, Shape)> = None;
        for s in &manifest.segments {
            let graph = load(&s.file)?;
            let (from, input) = end(&graph, &graph.inputs, &s.file)?;
            let (to, output) = end(&graph, &graph.outputs, &s.file)?;
            if (from, to) != (s.from.as_str(), s.to.as_str()) {
                let what = format!(
                    "goes from `{from}` to `{to}`, not `{}` to `{}`",
                    s.from, s.to
                );
                return Err(bad(&s.file, &what));
            }
            if let Some((name, shape)) = &before
                && (name != from || shape != input)
            {
                let what = format!("reads `{from}` {input}, the one before gives `{name}` {shape}");
                return Err(bad(&s.file, &what));
            }
            let exit = match &s.exit {
                None => None,
                Some(e) => Some(exit(e, output, manifest.classes, load(&e.head_file)?)?),
            };
            before = Some((to.to_string(), output.clone()));
            segments.push(Segment { graph, exit });
        }
        match &before {
            None => return Err(damaged("it has no segment")),
            Some((name, shape))
                if manifest.ends_network && shape.elements(1) != manifest.classes =>
            {
                let classes = manifest.classes;
                let what = format!("the last output `{name}` is {shape}, not {classes} classes");
                return Err(PartError::Damaged(what));
            }
            _ => {}
        }
        Ok(PartBundle {
            spec: PartSpec {
                tier: manifest.tier,
                network: manifest.network,
                segments,
                classes: manifest.classes,
                ends_network: manifest.ends_network,
                final_is_probabilities: manifest.final_is_probabilities,
            },
            settings: manifest.settings,
        })
    }
}

/// The graph of a bundle's next file.
fn graph(source: &mut dyn Read, file: &BundleFile) -> Result<Graph, PartError> {
    let mut hashed = Hashed {
        source: source.take(file.bytes as u64),
        digest: Sha256::new(),
        length: 0,
    };
    let graph = import_reader(&mut hashed, file.bytes as u64, &file.name);
    // What the import left, where it stopped early: a damaged file is called so.
    let rest = std::io::copy(&mut hashed, &mut std::io::sink());
    rest.map_err(|e| bad(&file.name, &e.to_string()))?;
    if hashed.length != file.bytes {
        return Err(bad(&file.name, "the bundle ends inside it"));
    }
    if hex::encode(hashed.digest.finalize()) != file.sha256 {
        return Err(bad(&file.name, "its checksum differs: damaged on the way"));
    }
    graph
        .map(fused)
        .map_err(|e| bad(&file.name, &e.to_string()))
}

/// Digests what is read through it.
struct Hashed<R> {
    source: R,
    digest: Sha256,
    length: usize,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.source.read(buffer)?;
        self.digest.update(&buffer[..n]);
        self.length += n;
        Ok(n)
    }
}

fn bad(file: &str, what: &str) -> PartError {
    PartError::File {
        file: file.to_string(),
        what: what.to_string(),
    }
}

/// Name and shape of the only input or output.
fn end<'a>(
    graph: &'a Graph,
    ids: &[crate::model::ValueId],
    file: &str,
) -> Result<(&'a str, &'a Shape), PartError> {
    match ids {
        &[id] if graph.value(id).dtype == DType::F32 => {
            Ok((&graph.value(id).name, &graph.value(id).shape))
        }
        _ => Err(bad(
            file,
            "it must have one float input and one float output",
        )),
    }
}

fn exit(
    e: &ExitManifest,
    at: &Shape,
    classes: usize,
    head: Graph,
) -> Result<SegmentExit, PartError> {
    let (_, input) = end(&head, &head.inputs, &e.head_file)?;
    let (_, output) = end(&head, &head.outputs, &e.head_file)?;
    if input != at {
        return Err(bad(
            &e.head_file,
            &format!("takes {input}, the segment gives {at}"),
        ));
    }
    if *output != Shape::batched(&[classes]) {
        return Err(bad(
            &e.head_file,
            &format!("gives {output}, not N×{classes}"),
        ));
    }
    let temperature = e.temperature.is_finite() && e.temperature > 0.0;
    if !((0.0..=1.0).contains(&e.threshold) && temperature) {
        let (c, t) = (e.threshold, e.temperature);
        return Err(bad(
            &e.head_file,
            &format!("threshold {c} or temperature {t} is out of range"),
        ));
    }
    Ok(SegmentExit {
        after: e.after.clone(),
        layer: e.layer,
        threshold: e.threshold,
        temperature: e.temperature,
        head,
        hash: e.hash.clone(),
    })
}
