/*!
What a part says of itself: a readable document beside its ONNX files, as JSON in a bundle and as JSON
and RON in a folder. `docs/parts.md` describes each field.
*/

use super::parts::{Part, PartError, PartSettings, Segment, SegmentExit, address};
use crate::data::Preprocessing;
use crate::model::export::to_onnx;
use crate::model::{DType, Dim, Graph, Shape, Value, ValueId};
use crate::plan::{Compression, Element, Tier, Wire};
use crate::predict::policy::Decision;
use crate::predict::{Combination, Confidence};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};

/// The last version of manifests that this release writes and reads: that of parts whose exits look back, which
/// releases that can't run them refuse.
pub const VERSION: u32 = 2;
/// The version of all other parts.
const PLAIN: u32 = 1;
/// What every manifest calls itself.
pub const FORMAT: &str = "edgelesspart part";
/// The manifest's name beside the files of a part.
pub const MANIFEST: &str = "manifest.json";

/// What a part says of itself, as it is written beside its files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always [`FORMAT`], by which a manifest is told from other JSON.
    pub format: String,
    /// Version of the form: [`VERSION`] where exits look at those before them, else 1.
    pub version: u32,
    /// Name of the network.
    pub network: String,
    /// The tier that runs the part.
    pub tier: Tier,
    /// Classes of the network.
    pub classes: usize,
    /// Names of the classes, in order; empty where they have none.
    pub labels: Vec<String>,
    /// The measure that thresholds are compared with.
    pub confidence: Confidence,
    /// The layers behind which exits stand in the parts before, in order, where the measure looks at them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exits_before: Vec<String>,
    /// From pixels to the input: `(pixel · scale − mean) / std`; null where the input is no image.
    pub preprocessing: Option<Preprocessing>,
    /// What the part takes.
    pub input: Tensor,
    /// What the part gives where no exit was taken.
    pub output: Output,
    /// In the order in which they run.
    pub segments: Vec<SegmentEntry>,
    /// The whole part in one file, where it was exported so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<Whole>,
    /// Every file that belongs to the part.
    pub files: Vec<FileEntry>,
}

/// A tensor of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tensor {
    /// Its name in the ONNX file.
    pub name: String,
    /// NumPy's name of its element type: `float32`.
    pub dtype: String,
    /// Extents, row-major; `"N"` stands for the number of samples.
    pub shape: Vec<Extent>,
}

/// One extent of a tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Extent {
    /// The same whatever the number of samples.
    Fixed(usize),
    /// The number of samples, `N`, or a multiple of it, `2N`.
    Samples(String),
}

/// What a part's last output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputKind {
    /// Scores of the final classifier, before softmax.
    Logits,
    /// Scores of a final classifier that ends in softmax.
    Probabilities,
    /// A tensor for the part behind.
    Tensor,
}

/// The last output of a part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Whether it is scores, or a tensor for the part behind.
    pub kind: OutputKind,
    /// Name, type and extents of the output.
    pub tensor: Tensor,
    /// How it travels to the part behind; null where the network ends.
    pub wire: Option<WireEntry>,
}

/// How a tensor travels: `docs/parts.md` gives the layout of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireEntry {
    /// Element type on the wire.
    pub element: Element,
    /// Compression of the whole body.
    pub compression: Compression,
    /// Elements per sample, row-major.
    pub elements: usize,
    /// Bytes per sample before compression, the scale and zero point of U8 included.
    pub bytes: usize,
}

/// A piece of the network between two exits, or between an exit and an end of the part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentEntry {
    /// Name of the ONNX file that holds the segment.
    pub file: String,
    /// What the segment takes: the part's input, or what the segment before gives.
    pub input: Tensor,
    /// What the segment gives to its exit and to the next segment.
    pub output: Tensor,
    /// The exit behind it, if one stands there.
    pub exit: Option<ExitEntry>,
}

/// An exit: a head that reads its segment's output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExitEntry {
    /// Name of the layer behind which it stands.
    pub after: String,
    /// Row of that layer in the network's layer table, from 0.
    pub layer: usize,
    /// The head's ONNX file.
    pub file: String,
    /// What the head takes.
    pub input: Tensor,
    /// What it gives: scores before softmax, not yet divided by the temperature.
    pub logits: Tensor,
    /// Logits are divided by it before the confidence is taken.
    pub temperature: f32,
    /// A sample leaves here when its confidence is larger; 0 to 1.
    pub threshold: f64,
    /// SHA-256 of the head's rendered source.
    pub source: String,
    /// Weights of the exit's logistic model, where confidence is learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub combination: Option<Combination>,
}

/// The files that hold a part as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Whole {
    /// Every exit's logits beside the part's output; computes all of it.
    pub flat: Flat,
    /// Stops by itself at an exit, for one sample at a time; absent in a part without exits.
    pub progressive: Option<Progressive>,
}

/// The part in one graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flat {
    /// Name of the ONNX file that holds all of the part.
    pub file: String,
    /// What it gives: the part's output, and the logits of each exit, in order.
    pub outputs: Vec<Tensor>,
}

/// The part in one graph whose exits are conditions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progressive {
    /// Name of the ONNX file that stops by itself.
    pub file: String,
    /// What it takes beside the input, and what each is where the caller leaves it out.
    pub thresholds: Vec<ThresholdInput>,
    /// Logits, confidence and exit, and the tensor where the part sends one on.
    pub outputs: Vec<Tensor>,
}

/// A scalar input that a confidence is compared with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThresholdInput {
    /// Its name in the ONNX file.
    pub name: String,
    /// The plan's, rounded down to float32, so that the comparison comes out as in double precision.
    pub default: f32,
}

/// A file of a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its name, without a folder.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 of its bytes, 64 hex digits.
    pub sha256: String,
}

/// A part's files in memory, with the manifest that names them.
#[derive(Debug, Clone, PartialEq)]
pub struct PartFiles {
    /// What the part says of itself; names every file.
    pub manifest: Manifest,
    /// Names and bytes, in the manifest's order.
    pub files: Vec<(String, Vec<u8>)>,
}

impl PartFiles {
    /// The ONNX files of a part's segments and heads; the same part always gives the same bytes.
    ///
    /// # Errors
    /// Where a graph can't be written as ONNX, or a segment has no single float input and output.
    pub fn of(part: &Part) -> Result<PartFiles, PartError> {
        let mut files = Vec::new();
        let mut add = |name: String, graph: &Graph| -> Result<String, PartError> {
            let bytes = to_onnx(graph).map_err(|e| PartError::Export {
                file: name.clone(),
                what: e.to_string(),
            })?;
            files.push((name.clone(), bytes));
            Ok(name)
        };
        let mut segments = Vec::new();
        for (i, segment) in part.segments.iter().enumerate() {
            let file = add(format!("segment-{i}.onnx"), &segment.graph)?;
            let exit = match &segment.exit {
                None => None,
                Some(exit) => {
                    let head = add(format!("head-{i}.onnx"), &exit.head)?;
                    Some(ExitEntry::of(exit, head)?)
                }
            };
            segments.push(SegmentEntry {
                input: end(&segment.graph, &segment.graph.inputs, &file)?,
                output: end(&segment.graph, &segment.graph.outputs, &file)?,
                file,
                exit,
            });
        }
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
            return Err(PartError::Damaged("the part has no segment".to_string()));
        };
        let settings = &part.settings;
        let manifest = Manifest {
            format: FORMAT.to_string(),
            version: if settings.confidence.looks_back() {
                VERSION
            } else {
                PLAIN
            },
            network: part.network.clone(),
            tier: part.tier,
            classes: part.classes,
            labels: settings.labels.clone(),
            confidence: settings.confidence,
            exits_before: settings.exits_before.clone(),
            preprocessing: settings.preprocessing.clone(),
            input: first.input.clone(),
            output: Output {
                kind: match (part.ends_network, part.final_is_probabilities) {
                    (false, _) => OutputKind::Tensor,
                    (true, false) => OutputKind::Logits,
                    (true, true) => OutputKind::Probabilities,
                },
                tensor: last.output.clone(),
                wire: (!part.ends_network).then(|| WireEntry::of(settings.wire, &last.output)),
            },
            segments,
            whole: None,
            files: Vec::new(),
        };
        let mut made = PartFiles { manifest, files };
        made.list();
        Ok(made)
    }

    /// Adds a file to the part.
    pub fn add(&mut self, name: &str, bytes: Vec<u8>) {
        self.files.push((name.to_string(), bytes));
        self.list();
    }

    fn list(&mut self) {
        let known = std::mem::take(&mut self.manifest.files);
        self.manifest.files = self
            .files
            .iter()
            .map(|(name, bytes)| {
                let same = |entry: &&FileEntry| entry.name == *name;
                known
                    .iter()
                    .find(same)
                    .cloned()
                    .unwrap_or_else(|| FileEntry {
                        name: name.clone(),
                        bytes: bytes.len() as u64,
                        sha256: address(bytes),
                    })
            })
            .collect();
    }

    /// A hash of all that a run of the part computes, whenever it stops: graphs and temperatures, but
    /// neither thresholds nor settings. What was timed or measured of one part holds for another with
    /// the same.
    pub fn content(&self) -> String {
        let exits = self
            .manifest
            .segments
            .iter()
            .filter_map(|s| s.exit.as_ref());
        let temperatures: Vec<f32> = exits.map(|exit| exit.temperature).collect();
        let hashes: Vec<&str> = self
            .manifest
            .files
            .iter()
            .map(|f| f.sha256.as_str())
            .collect();
        address(format!("{hashes:?} {temperatures:?}").as_bytes())
    }
}

impl WireEntry {
    fn of(wire: Wire, tensor: &Tensor) -> WireEntry {
        let extents = tensor.shape.iter().filter_map(|extent| match extent {
            Extent::Fixed(n) => Some(*n),
            Extent::Samples(_) => None,
        });
        let elements: usize = extents.product();
        WireEntry {
            element: wire.tensor,
            compression: wire.compression,
            elements,
            bytes: match wire.tensor {
                Element::F32 => 4 * elements,
                Element::F16 => 2 * elements,
                // A scale and a zero point in F32 stand before them.
                Element::U8 => 8 + elements,
            },
        }
    }
}

impl ExitEntry {
    fn of(exit: &SegmentExit, file: String) -> Result<ExitEntry, PartError> {
        Ok(ExitEntry {
            after: exit.after.clone(),
            layer: exit.layer,
            input: end(&exit.head, &exit.head.inputs, &file)?,
            logits: end(&exit.head, &exit.head.outputs, &file)?,
            file,
            temperature: exit.temperature,
            threshold: exit.threshold,
            source: exit.hash.clone(),
            combination: exit.combination.clone(),
        })
    }

    /// The exit, with the head from its file, behind a segment that gives `at`.
    fn exit(&self, head: Graph, at: &Tensor, classes: usize) -> Result<SegmentExit, PartError> {
        let input = end(&head, &head.inputs, &self.file)?;
        let logits = end(&head, &head.outputs, &self.file)?;
        same(&self.file, "takes", &input, &self.input)?;
        same(&self.file, "gives", &logits, &self.logits)?;
        if input.shape != at.shape {
            let what = format!(
                "takes {}, and its segment gives {}",
                shown(&input),
                shown(at)
            );
            return Err(bad(&self.file, what));
        }
        let wanted = extents(&Shape::batched(&[classes]));
        if logits.shape != wanted {
            let what = format!("gives {}, and not N×{classes}", shown(&logits));
            return Err(bad(&self.file, what));
        }
        let (c, t) = (self.threshold, self.temperature);
        if !((0.0..=1.0).contains(&c) && t.is_finite() && t > 0.0) {
            let what = format!("threshold {c} or temperature {t} is out of range");
            return Err(bad(&self.file, what));
        }
        Ok(SegmentExit {
            after: self.after.clone(),
            layer: self.layer,
            threshold: c,
            temperature: t,
            head,
            hash: self.source.clone(),
            combination: self.combination.clone(),
        })
    }
}

impl Manifest {
    /// Reads a manifest and checks what can be checked without the files.
    ///
    /// # Errors
    /// Where it is none, is of another version, or contradicts itself.
    pub fn parse(bytes: &[u8]) -> Result<Manifest, PartError> {
        /// What every version has.
        #[derive(Deserialize)]
        struct Head {
            format: String,
            version: u64,
        }
        let wrong = |e: serde_json::Error| bad(MANIFEST, e.to_string());
        let head: Head = serde_json::from_slice(bytes).map_err(wrong)?;
        if head.format != FORMAT {
            let found = head.format.escape_debug();
            return Err(bad(
                MANIFEST,
                format!("its format is `{found}`, not `{FORMAT}`"),
            ));
        }
        if !(u64::from(PLAIN)..=u64::from(VERSION)).contains(&head.version) {
            return Err(PartError::Version {
                found: head.version,
                known: VERSION,
            });
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(wrong)?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), PartError> {
        let mut names = HashSet::new();
        for file in &self.files {
            plain_name(&file.name)?;
            if file.name == MANIFEST || !names.insert(file.name.as_str()) {
                return Err(bad(&file.name, "it is named twice"));
            }
        }
        let mut used = HashSet::new();
        for name in self.graphs() {
            if !names.contains(name) {
                return Err(bad(name, "it has no hash in the manifest"));
            }
            if !used.insert(name) {
                return Err(bad(name, "it is used twice"));
            }
        }
        if self.segments.is_empty() {
            return Err(bad(MANIFEST, "it has no segment"));
        }
        self.check_exits()?;
        if !self.labels.is_empty() && self.labels.len() != self.classes {
            let (labels, classes) = (self.labels.len(), self.classes);
            return Err(bad(
                MANIFEST,
                format!("{labels} labels for {classes} classes"),
            ));
        }
        if (self.output.kind == OutputKind::Tensor) != self.output.wire.is_some() {
            let what = "a wire belongs to a tensor that is sent on, and to nothing else";
            return Err(bad(MANIFEST, what));
        }
        Ok(())
    }

    /// Whether every exit has the model that its measure needs, for the exits before it.
    fn check_exits(&self) -> Result<(), PartError> {
        let exits = self.segments.iter().filter_map(|s| s.exit.as_ref());
        for (number, exit) in exits.enumerate() {
            let before = vec![Decision::default(); self.exits_before.len() + number];
            let measure = self.confidence;
            let found = Decision::default().at_exit(measure, &before, exit.combination.as_ref());
            found.map_err(|e| bad(&exit.file, e.to_string()))?;
        }
        Ok(())
    }

    /// The manifest as JSON.
    ///
    /// # Errors
    /// Where a number has no JSON, which no part that runs has.
    pub fn to_json(&self) -> Result<Vec<u8>, PartError> {
        serde_json::to_vec_pretty(self).map_err(|e| PartError::Export {
            file: MANIFEST.to_string(),
            what: e.to_string(),
        })
    }

    /// The files that hold segments and heads, in order; one that is used twice comes twice.
    pub fn graphs(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().flat_map(|segment| {
            let head = segment.exit.as_ref().map(|exit| exit.file.as_str());
            std::iter::once(segment.file.as_str()).chain(head)
        })
    }

    /// What is known of a file.
    pub fn file(&self, name: &str) -> Option<&FileEntry> {
        self.files.iter().find(|file| file.name == name)
    }

    /// The part, of the graphs in its files; every name and shape is checked.
    ///
    /// # Errors
    /// Where anything doesn't fit; the error names the file.
    pub fn part(self, mut graphs: HashMap<String, Graph>) -> Result<Part, PartError> {
        let mut load = |name: &str| {
            let missing = || bad(name, "it is named in the manifest and not there");
            graphs.remove(name).ok_or_else(missing)
        };
        let mut segments: Vec<Segment> = Vec::new();
        let mut before: Option<Tensor> = None;
        for entry in &self.segments {
            let graph = load(&entry.file)?;
            let input = end(&graph, &graph.inputs, &entry.file)?;
            let output = end(&graph, &graph.outputs, &entry.file)?;
            same(&entry.file, "takes", &input, &entry.input)?;
            same(&entry.file, "gives", &output, &entry.output)?;
            let exit = match &entry.exit {
                None => None,
                Some(e) => Some(e.exit(load(&e.file)?, &output, self.classes)?),
            };
            let wanted = before.as_ref().unwrap_or(&self.input);
            same(&entry.file, "takes", &input, wanted)?;
            before = Some(output);
            segments.push(Segment { graph, exit });
        }
        let last = before.unwrap_or_else(|| self.input.clone());
        same("the last segment", "gives", &last, &self.output.tensor)?;
        let ends_network = self.output.kind != OutputKind::Tensor;
        let each: usize = last.shape.iter().filter_map(Extent::fixed).product();
        if ends_network && each != self.classes {
            let (name, classes) = (&last.name, self.classes);
            let what = format!(
                "the last output `{name}` is {}, not {classes} classes",
                shown(&last)
            );
            return Err(bad(MANIFEST, what));
        }
        Ok(Part {
            tier: self.tier,
            network: self.network,
            segments,
            classes: self.classes,
            ends_network,
            final_is_probabilities: self.output.kind == OutputKind::Probabilities,
            settings: PartSettings {
                confidence: self.confidence,
                exits_before: self.exits_before,
                preprocessing: self.preprocessing,
                wire: self.output.wire.map_or(Wire::default(), |wire| Wire {
                    tensor: wire.element,
                    compression: wire.compression,
                }),
                labels: self.labels,
            },
        })
    }
}

impl Tensor {
    /// A value of a graph.
    pub fn of(value: &Value) -> Tensor {
        Tensor {
            name: value.name.clone(),
            dtype: match value.dtype {
                DType::F32 => "float32",
                DType::I64 => "int64",
                DType::I32 => "int32",
                DType::U8 => "uint8",
                DType::I8 => "int8",
                DType::Bool => "bool",
            }
            .to_string(),
            shape: extents(&value.shape),
        }
    }
}

impl Extent {
    fn fixed(&self) -> Option<usize> {
        match self {
            Extent::Fixed(n) => Some(*n),
            Extent::Samples(_) => None,
        }
    }
}

impl std::fmt::Display for Extent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Extent::Fixed(n) => write!(f, "{n}"),
            Extent::Samples(n) => write!(f, "{}", n.escape_debug()),
        }
    }
}

/// Refuses a name that could lead anywhere but into the part's own folder.
pub(super) fn plain_name(name: &str) -> Result<(), PartError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 100 || name.starts_with('.') || !name.chars().all(plain) {
        let shown: String = name.chars().take(100).collect();
        let what = "the files of a part lie side by side, their names of letters, digits, `-`, `_` and `.`";
        return Err(bad(&shown.escape_debug().to_string(), what));
    }
    Ok(())
}

pub(super) fn bad(file: &str, what: impl Into<String>) -> PartError {
    PartError::File {
        file: file.to_string(),
        what: what.into(),
    }
}

/// The extents of a shape, as a manifest has them.
fn extents(shape: &Shape) -> Vec<Extent> {
    let extent = |dim: &Dim| match dim {
        Dim::Fixed(n) => Extent::Fixed(*n),
        Dim::Batch(_) => Extent::Samples(dim.to_string()),
    };
    shape.0.iter().map(extent).collect()
}

/// The only input or output of a graph.
fn end(graph: &Graph, ids: &[ValueId], file: &str) -> Result<Tensor, PartError> {
    match ids {
        &[id] if graph.value(id).dtype == DType::F32 => Ok(Tensor::of(graph.value(id))),
        _ => Err(bad(
            file,
            "it must have one float input and one float output",
        )),
    }
}

fn shown(tensor: &Tensor) -> String {
    let extents: Vec<String> = tensor.shape.iter().map(Extent::to_string).collect();
    extents.join("×")
}

fn same(file: &str, verb: &str, found: &Tensor, wanted: &Tensor) -> Result<(), PartError> {
    if found == wanted {
        return Ok(());
    }
    let say = |t: &Tensor| format!("`{}` ({}, {})", t.name.escape_debug(), t.dtype, shown(t));
    let what = format!("{verb} {}, where {} is expected", say(found), say(wanted));
    Err(bad(file, what))
}
