/*!
ONNX import: a file becomes a [`Graph`] *as imported*, its batch norms and activations still
separate.

Opsets 7 to 22. Every default and opset difference is settled here, constants and shape arithmetic
are folded, and nodes that change nothing are gone. A file may say anything: whatever doesn't fit is
an error that names file, node and op, and nothing is allocated on the word of a header alone.
*/

mod attributes;
mod ints;
mod name;
mod node;
mod stream;
mod tensor;

use super::constant::{Constant, DType};
use super::graph::{Graph, Node, Value, ValueId};
use super::infer::infer;
use super::op::Op;
use super::shape::{Dim, Shape};
use super::signature::Signature;
use candle_onnx::onnx as proto;
use ints::Ints;
use prost::Message;
use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Why a file can't be imported. Each message names the file and, where there is one, the node.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file can't be read.
    #[error("{file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not an ONNX file, or one this importer can't take as a whole.
    #[error("{file}: {what}")]
    File {
        /// The file.
        file: String,
        /// What is wrong, and what to do.
        what: String,
    },
    /// A tensor stored in the file is broken.
    #[error("{file}: tensor `{tensor}`: {what}")]
    Tensor {
        /// The file.
        file: String,
        /// Its name.
        tensor: String,
        /// What is wrong.
        what: String,
    },
    /// An op the importer doesn't know.
    #[error("{file}: node `{node}`: the op {op} is not supported")]
    UnknownOp {
        /// The file.
        file: String,
        /// The node.
        node: String,
        /// Its op, with its domain if it is not ONNX's own.
        op: String,
    },
    /// A node whose inputs or settings don't fit.
    #[error("{file}: node `{node}` ({op}): {what}")]
    Node {
        /// The file.
        file: String,
        /// The node.
        node: String,
        /// Its op.
        op: String,
        /// What is wrong.
        what: String,
    },
}

/// What the first axis of the network's inputs is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Batch {
    /// Symbolic where the file leaves it open; where it fixes it at 1 on an image-like (4-D) input,
    /// symbolic if the rest of the network allows it. Anything else stays as the file has it.
    #[default]
    Auto,
    /// Exactly as the file has it; an open extent is the batch.
    AsFile,
}

/// Imports a file.
pub fn import_file(path: &Path) -> Result<Graph, ImportError> {
    let file = path.display().to_string();
    let fail = |source| ImportError::Read {
        file: file.clone(),
        source,
    };
    let folder = path.parent();
    let settings = Settings::default();
    let open = File::open(path).map_err(fail)?;
    let about = open.metadata().map_err(fail)?;
    if !about.is_file() {
        // A pipe doesn't say how long it is.
        let bytes = std::fs::read(path).map_err(fail)?;
        return import(&bytes, &file, folder, &settings);
    }
    let mut reader = BufReader::new(open);
    if let Some(other) = Signature::of(reader.fill_buf().map_err(fail)?) {
        return Err(ImportError::File {
            file,
            what: format!("{other}, not an ONNX file; {}", other.remedy_for_network()),
        });
    }
    import_from(&mut reader, about.len(), &file, folder, &settings)
}

/// Imports the bytes of a file; `file` is its name for messages. Tensors kept in other files can't
/// be reached from bytes alone.
pub fn import_bytes(bytes: &[u8], file: &str) -> Result<Graph, ImportError> {
    import(bytes, file, None, &Settings::default())
}

/// Imports `length` bytes of a reader, tensor by tensor; else as [`import_bytes`].
pub fn import_reader(source: &mut dyn Read, length: u64, file: &str) -> Result<Graph, ImportError> {
    import_from(source, length, file, None, &Settings::default())
}

/// What the caller settles at import.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// What the first axis of the inputs is.
    pub batch: Batch,
    /// Inputs known beforehand, by name: they become constants. A network that computes its shapes
    /// from an input (`axes`, `pads`, `starts` fed by the caller) can only be compiled with them.
    pub bound: HashMap<String, Constant>,
}

/// Imports with settings. `folder` is where external data lies.
pub fn import(
    bytes: &[u8],
    file: &str,
    folder: Option<&Path>,
    settings: &Settings,
) -> Result<Graph, ImportError> {
    let mut source = bytes;
    import_from(&mut source, bytes.len() as u64, file, folder, settings)
}

fn import_from(
    source: &mut dyn Read,
    length: u64,
    file: &str,
    folder: Option<&Path>,
    settings: &Settings,
) -> Result<Graph, ImportError> {
    let model = stream::read(source, length, &tensor::Stored { file, folder })?;
    if settings.batch == Batch::Auto && fixes_batch_at_one(&model) {
        // Constant shapes further down may insist on the 1; then the file is taken at its word.
        if let Ok(graph) = Importer::run(&model, file, folder, settings, true) {
            let batched =
                |v: &ValueId| matches!(graph.value(*v).shape.0.first(), Some(Dim::Batch(1)));
            if graph.outputs.iter().all(batched) {
                return Ok(graph);
            }
        }
    }
    Importer::run(&model, file, folder, settings, false)
}

/// Reads a tensor stored by itself (a `.pb` file of the ONNX backend tests).
pub fn read_tensor(bytes: &[u8], file: &str) -> Result<Constant, ImportError> {
    let tensor = proto::TensorProto::decode(bytes).map_err(|e| ImportError::File {
        file: file.to_string(),
        what: format!("not an ONNX tensor, or a damaged one ({e})"),
    })?;
    tensor::Stored { file, folder: None }.constant(tensor, None)
}

/// Whether all the inputs that are not weights are 4-D with a first extent of exactly 1.
fn fixes_batch_at_one(model: &stream::Model) -> bool {
    let Some(graph) = &model.proto.graph else {
        return false;
    };
    let weights: HashSet<&str> = model.initializers.iter().map(|t| t.0.as_str()).collect();
    let mut inputs = graph
        .input
        .iter()
        .filter(|i| !weights.contains(i.name.as_str()))
        .peekable();
    inputs.peek().is_some()
        && inputs.all(|i| {
            let dims = declared_dims(i);
            dims.is_some_and(|d| d.len() == 4 && d[0] == Some(1))
        })
}

/// Extents an input declares; `None` for an open one. `None` altogether if it declares no shape.
fn declared_dims(input: &proto::ValueInfoProto) -> Option<Vec<Option<usize>>> {
    use proto::tensor_shape_proto::dimension::Value as Extent;
    let kind = input.r#type.as_ref()?.value.as_ref()?;
    let proto::type_proto::Value::TensorType(tensor) = kind else {
        return None;
    };
    let dims = &tensor.shape.as_ref()?.dim;
    // Some exporters write 0 for the open batch of images; elsewhere a tensor may truly be empty.
    let least = if dims.len() == 4 { 1 } else { 0 };
    let one = |d: &proto::tensor_shape_proto::Dimension| match d.value {
        Some(Extent::DimValue(n)) if n >= least => usize::try_from(n).ok(),
        _ => None,
    };
    Some(dims.iter().map(one).collect())
}

/// The state of one import.
struct Importer<'a> {
    file: &'a str,
    folder: Option<&'a Path>,
    opset: i64,
    /// Whether a batch fixed at 1 was made symbolic: constant shapes that start with 1 follow it.
    rebatched: bool,
    graph: Graph,
    /// What each name of the file stands for.
    env: HashMap<String, ValueId>,
    /// Integer values known before running, some as multiples of the batch.
    ints: HashMap<ValueId, Ints>,
    /// Float parameters that no node has been charged with yet.
    unclaimed: HashMap<ValueId, usize>,
    node_names: HashSet<String>,
    /// Elements of the tensors that were filled, not read.
    filled: Cell<usize>,
}

impl<'a> Importer<'a> {
    fn run(
        model: &stream::Model,
        file: &'a str,
        folder: Option<&'a Path>,
        settings: &Settings,
        rebatched: bool,
    ) -> Result<Graph, ImportError> {
        let whole = |what: String| ImportError::File {
            file: file.to_string(),
            what,
        };
        let opset = model
            .proto
            .opset_import
            .iter()
            .find(|o| o.domain.is_empty() || o.domain == "ai.onnx");
        let opset = opset.map_or(13, |o| o.version);
        if opset < 7 {
            return Err(whole(format!(
                "opset {opset} is too old: export with opset 7 or later"
            )));
        }
        let graph = model.proto.graph.as_ref();
        let graph = graph.ok_or_else(|| whole("holds no graph".into()))?;
        let mut importer = Importer {
            file,
            folder,
            opset,
            rebatched,
            graph: Graph {
                name: graph.name.clone(),
                ..Graph::default()
            },
            env: HashMap::new(),
            ints: HashMap::new(),
            unclaimed: HashMap::new(),
            node_names: HashSet::new(),
            filled: Cell::new(0),
        };
        for (name, constant) in &model.initializers {
            let id = importer.constant(name, constant.clone());
            if let Some(data) = constant.floats() {
                importer.unclaimed.insert(id, data.len());
            }
            importer.env.insert(name.clone(), id);
        }
        for input in &graph.input {
            if importer.env.contains_key(&input.name) {
                continue;
            }
            match settings.bound.get(&input.name) {
                Some(constant) => {
                    let id = importer.constant(&input.name, constant.clone());
                    importer.env.insert(input.name.clone(), id);
                }
                None => importer.input(input)?,
            }
        }
        importer.nodes(&graph.node)?;
        importer.outputs(&graph.output)?;
        // Cutting the whole out of itself leaves behind whatever no output needs.
        let whole_graph = importer.graph;
        let pruned = whole_graph.subgraph(&whole_graph.inputs, &whole_graph.outputs);
        pruned.map_err(|e| whole(e.to_string()))
    }

    fn input(&mut self, input: &proto::ValueInfoProto) -> Result<(), ImportError> {
        let name = &input.name;
        let fail = |what: String| ImportError::File {
            file: self.file.to_string(),
            what,
        };
        let dims = declared_dims(input)
            .ok_or_else(|| fail(format!("the input `{name}` declares no tensor shape")))?;
        let elem = match input.r#type.as_ref().and_then(|t| t.value.as_ref()) {
            Some(proto::type_proto::Value::TensorType(t)) => t.elem_type,
            _ => 0,
        };
        let dtype = tensor::dtype(elem).ok_or_else(|| {
            fail(format!(
                "the input `{name}` has an element type (code {elem}) that is not supported"
            ))
        })?;
        let mut shape = Vec::new();
        for (axis, dim) in dims.iter().enumerate() {
            shape.push(match dim {
                Some(1) if axis == 0 && self.rebatched => Dim::Batch(1),
                Some(n) => Dim::Fixed(*n),
                None if axis == 0 => Dim::Batch(1),
                None => {
                    return Err(fail(format!(
                        "the input `{name}` leaves axis {axis} open; only the batch (axis 0) may be: export with a fixed input size"
                    )));
                }
            });
        }
        let id = self.value(name, dtype, Shape(shape));
        self.graph.inputs.push(id);
        self.env.insert(name.clone(), id);
        Ok(())
    }

    /// Imports the nodes in the file's order, which names the layers; one that stands before its
    /// inputs (some exporters don't sort) waits for them.
    fn nodes(&mut self, nodes: &[proto::NodeProto]) -> Result<(), ImportError> {
        let mut waiting: Vec<usize> = Vec::with_capacity(nodes.len());
        let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut ready: BinaryHeap<Reverse<usize>> = BinaryHeap::new();
        for (i, node) in nodes.iter().enumerate() {
            let missing: HashSet<&str> = node
                .input
                .iter()
                .map(String::as_str)
                .filter(|n| !n.is_empty() && !self.env.contains_key(*n))
                .collect();
            waiting.push(missing.len());
            missing
                .iter()
                .for_each(|n| readers.entry(n).or_default().push(i));
            if missing.is_empty() {
                ready.push(Reverse(i));
            }
        }
        let mut left = nodes.len();
        while let Some(Reverse(i)) = ready.pop() {
            left -= 1;
            self.node(&nodes[i])?;
            for output in nodes[i].output.iter().filter(|o| !o.is_empty()) {
                for reader in readers.remove(output.as_str()).unwrap_or_default() {
                    waiting[reader] -= 1;
                    if waiting[reader] == 0 {
                        ready.push(Reverse(reader));
                    }
                }
            }
        }
        if left == 0 {
            return Ok(());
        }
        let stuck = nodes.iter().find_map(|n| {
            let missing = n
                .input
                .iter()
                .find(|i| !i.is_empty() && !self.env.contains_key(*i))?;
            Some((n, missing))
        });
        Err(match stuck {
            Some((node, missing)) => self.fail(
                node,
                format!(
                    "reads `{missing}`, which nothing produces before it (missing, or a cycle)"
                ),
            ),
            None => ImportError::File {
                file: self.file.to_string(),
                what: "the nodes can't be put in order".into(),
            },
        })
    }

    fn outputs(&mut self, outputs: &[proto::ValueInfoProto]) -> Result<(), ImportError> {
        for output in outputs {
            let Some(&id) = self.env.get(&output.name) else {
                return Err(ImportError::File {
                    file: self.file.to_string(),
                    what: format!("the output `{}` is produced by no node", output.name),
                });
            };
            let given = self.graph.inputs.contains(&id) || self.graph.constants.contains_key(&id);
            let id = if given || self.graph.outputs.contains(&id) {
                let value = self.graph.value(id).clone();
                let copy = self.value(&output.name, value.dtype, value.shape);
                let name = self.unique_node_name(&output.name);
                let (inputs, outputs) = (vec![id], vec![copy]);
                self.graph.nodes.push(Node {
                    name,
                    op: Op::Identity,
                    inputs,
                    outputs,
                    params: 0,
                });
                copy
            } else {
                self.graph.values[id.0 as usize].name = output.name.clone();
                id
            };
            self.graph.outputs.push(id);
        }
        if self.graph.outputs.is_empty() {
            let what = "the graph has no outputs".to_string();
            return Err(ImportError::File {
                file: self.file.to_string(),
                what,
            });
        }
        Ok(())
    }

    fn value(&mut self, name: &str, dtype: DType, shape: Shape) -> ValueId {
        let id = ValueId(self.graph.values.len() as u32);
        self.graph.values.push(Value {
            name: name.to_string(),
            dtype,
            shape,
        });
        id
    }

    fn constant(&mut self, name: &str, constant: Constant) -> ValueId {
        let id = self.value(name, constant.dtype(), Shape::fixed(&constant.shape));
        self.graph.constants.insert(id, constant);
        id
    }

    fn shape(&self, id: ValueId) -> &Shape {
        &self.graph.value(id).shape
    }

    fn fail(&self, node: &proto::NodeProto, what: impl Into<String>) -> ImportError {
        ImportError::Node {
            file: self.file.to_string(),
            node: name::of_node(node),
            op: node.op_type.clone(),
            what: what.into(),
        }
    }

    fn unique_node_name(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_string();
        let mut n = 2;
        while !self.node_names.insert(name.clone()) {
            name = format!("{wanted}_{n}");
            n += 1;
        }
        name
    }

    /// Appends a node named after `node`, its outputs named `outputs`, and returns their ids.
    fn emit(
        &mut self,
        node: &proto::NodeProto,
        op: Op,
        inputs: Vec<ValueId>,
        outputs: &[&str],
    ) -> Result<Vec<ValueId>, ImportError> {
        if let Some(open) = inputs.iter().find(|i| {
            // A shape that depends on the batch has no tensor behind it.
            self.ints.contains_key(i) && !self.graph.constants.contains_key(i)
        }) {
            let what = format!(
                "reads `{}`, a shape that depends on the batch size, as data",
                self.graph.value(*open).name
            );
            return Err(self.fail(node, what));
        }
        let operands: Vec<_> = inputs
            .iter()
            .map(|&i| (&self.graph.value(i).shape, self.graph.value(i).dtype))
            .collect();
        let inferred = infer(&op, &operands).map_err(|e| self.fail(node, e.to_string()))?;
        // The running statistics of a batch norm are no parameters.
        let trained = if matches!(op, Op::BatchNorm { .. }) {
            3
        } else {
            inputs.len()
        };
        let mut params = 0;
        for (at, id) in inputs.iter().enumerate() {
            let size = self.unclaimed.remove(id).unwrap_or(0);
            params += if at < trained { size } else { 0 };
        }
        // Our own exports say what folded weights no longer tell.
        let declared = node.doc_string.strip_prefix(crate::model::export::PARAMS);
        if let Some(count) = declared.and_then(|n| n.parse::<u32>().ok()) {
            params = count as usize;
        }
        let mut ids = Vec::new();
        for (name, (shape, dtype)) in outputs.iter().zip(inferred) {
            ids.push(self.value(name, dtype, shape));
        }
        let name = self.unique_node_name(&name::of_node(node));
        self.graph.nodes.push(Node {
            name,
            op,
            inputs,
            outputs: ids.clone(),
            params,
        });
        Ok(ids)
    }

    /// Charges the last node with a float constant that became one of its settings.
    fn charge(&mut self, id: ValueId) {
        if let (Some(size), Some(node)) = (self.unclaimed.remove(&id), self.graph.nodes.last_mut())
        {
            node.params += size;
        }
    }
}

#[cfg(test)]
mod tests;
