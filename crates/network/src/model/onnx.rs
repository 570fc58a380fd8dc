/*!
ONNX import: a file becomes a [`Graph`] *as imported*, its batch norms and activations still
separate.

Opsets 7 to 28. Every default and opset difference is settled here, constants and shape arithmetic
are folded, and nodes that change nothing are gone. A file may say anything: whatever doesn't fit is
an error that names file, node and op, and nothing is allocated on the word of a header alone.
*/

mod attributes;
mod ints;
mod labels;
mod name;
mod node;
mod operators;
mod stream;
mod tensor;

use super::constant::{Constant, DType};
use super::ending::with_scores;
use super::graph::{Graph, Node, OwnExit, Value, ValueId};
use super::infer::infer;
use super::loosen;
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
use std::sync::Arc;

/// Opsets whose operators are known.
const OLDEST_OPSET: i64 = 7;
const NEWEST_OPSET: i64 = 28;

/// Elements of all tensors that a file has filled with one value.
const MAX_FILLED: usize = 1 << 26;

/// Why a file can't be imported. Each message names the file and, where there is one, the node.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file can't be read.
    #[error("{file}: {source}")]
    Read {
        /// Path of the ONNX file, or the name its bytes came under.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not an ONNX file, or one this importer can't take as a whole.
    #[error("{file}: {what}")]
    File {
        /// Path of the ONNX file, or the name its bytes came under.
        file: String,
        /// What is wrong, and what to do.
        what: String,
    },
    /// An extent of an input, other than the batch, that the file leaves open.
    #[error(
        "{file}: the input `{input}` leaves axis {axis} open: say its size with --input CxHxW, or in a \
         session with OnnxWith(path: .., input: (C, H, W))"
    )]
    OpenInput {
        /// Path of the ONNX file.
        file: String,
        /// Name of the graph's input.
        input: String,
        /// The first open axis behind the batch.
        axis: usize,
        /// All extents, the batch's too; `None` for an open one.
        dims: Vec<Option<usize>>,
    },
    /// A tensor stored in the file is broken.
    #[error("{file}: tensor `{tensor}`: {what}")]
    Tensor {
        /// Path of the ONNX file, or the name its bytes came under.
        file: String,
        /// Name of the tensor in the file.
        tensor: String,
        /// What is broken, and what it should be.
        what: String,
    },
    /// An op the importer doesn't know.
    #[error(
        "{file}: node `{node}`: the op {op} is not supported: {why}; `docs/operators.md` lists what is: \
         export the network without it, or replace it by others"
    )]
    UnknownOp {
        /// Path of the ONNX file, or the name its bytes came under.
        file: String,
        /// Name of the node; its first output where it has none.
        node: String,
        /// Its op, with its domain if it is not ONNX's own.
        op: String,
        /// Why it is left out.
        why: &'static str,
    },
    /// A setting of a node that is an input of the network, or worked out from one.
    #[error(
        "{file}: node {node}: `{input}` must be {what} known before the network runs, but depends on its \
         input: export the network with fixed extents"
    )]
    Unbound {
        /// Path of the ONNX file, or the name its bytes came under.
        file: String,
        /// The node and its op.
        node: String,
        /// Name of the value that has to be known.
        input: String,
        /// What it has to be.
        what: &'static str,
    },
    /// A node whose inputs or settings don't fit.
    #[error("{file}: node `{node}` ({op}): {what}")]
    Node {
        /// Path of the ONNX file, or the name its bytes came under.
        file: String,
        /// Name of the node; its first output where it has none.
        node: String,
        /// ONNX's name of the op.
        op: String,
        /// What is broken, and what it should be.
        what: String,
    },
}

/// What the first axis of the network's inputs is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Batch {
    /// Symbolic where the file leaves it open, and where it fixes it but the samples don't meet: at 1,
    /// or at any number on image-like (4-D) inputs. Else as the file has it, and the graph says why.
    #[default]
    Auto,
    /// Exactly as the file has it; an open extent is the batch.
    AsFile,
}

/// Which outputs of a file become outputs of the graph.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Outputs {
    /// Every output of the file, in its order.
    #[default]
    All,
    /// The classifier's alone: of several that depend on the input, the one most nodes lead to. The
    /// graph lists the others.
    Classifier,
    /// The one of this name.
    Named(String),
}

/// Imports an ONNX file, and the external data it names within its folder.
pub fn import_file(path: &Path) -> Result<Graph, ImportError> {
    import_file_with(path, &Settings::default())
}

/// Imports a file with settings.
pub fn import_file_with(path: &Path, settings: &Settings) -> Result<Graph, ImportError> {
    let file = path.display().to_string();
    let fail = |source| ImportError::Read {
        file: file.clone(),
        source,
    };
    let folder = path.parent();
    let open = File::open(path).map_err(fail)?;
    let about = open.metadata().map_err(fail)?;
    if !about.is_file() {
        // A pipe doesn't say how long it is.
        let bytes = std::fs::read(path).map_err(fail)?;
        return import(&bytes, &file, folder, settings);
    }
    let mut reader = BufReader::new(open);
    if let Some(other) = Signature::of(reader.fill_buf().map_err(fail)?) {
        return Err(ImportError::File {
            file,
            what: format!("{other}, not an ONNX file; {}", other.remedy_for_network()),
        });
    }
    import_from(&mut reader, about.len(), &file, folder, settings)
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
    /// Channels, height and width of a 4-D input, where the file leaves them open.
    pub image: Option<[usize; 3]>,
    /// Inputs that are the same number in every element.
    pub numbers: Vec<(String, f32)>,
    /// Which outputs are wanted.
    pub outputs: Outputs,
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
    let run = |open| Importer::run(&model, file, folder, settings, open);
    if settings.batch == Batch::AsFile {
        return run(Open::Symbol);
    }
    match run(Open::Symbol) {
        Ok(graph) => Ok(loosened(graph)),
        Err(error) => {
            // What can't be worked out with the batch as a symbol may be with one sample, and holds
            // for each of many then.
            let alone = run(Open::One)
                .ok()
                .filter(|g| loosen::fixed_batch(g) == Some(1));
            let alone = alone.map(loosened).filter(|g| g.fixed_batch.is_none());
            alone.ok_or(error)
        }
    }
}

/// What stands in the place of a batch that the file leaves open.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Open {
    /// The symbolic batch, multiplied where axes are merged.
    Symbol,
    /// The number 1.
    One,
}

/// The graph for any batch, where the file fixes it and the samples don't meet. A first extent above 1
/// is taken for a batch of images alone.
fn loosened(mut graph: Graph) -> Graph {
    let Some(batch) = loosen::fixed_batch(&graph) else {
        return graph;
    };
    let images = graph
        .inputs
        .iter()
        .all(|&v| graph.value(v).shape.rank() == 4);
    let exits = graph.own_exits.iter().map(|exit| OwnExit {
        graph: loosened(exit.graph.clone()),
        ..exit.clone()
    });
    let exits = exits.filter(|exit| exit.graph.fixed_batch.is_none());
    graph.own_exits = Arc::new(exits.collect());
    let found = match batch == 1 || images {
        true => loosen::loosen(&graph),
        false => Err("its first extent may be no batch".to_string()),
    };
    match found {
        Ok(loose) => loose,
        Err(why) => {
            graph.fixed_batch = Some(format!("the file fixes the batch at {batch}, and {why}"));
            graph
        }
    }
}

/// Reads a tensor stored by itself (a `.pb` file of the ONNX backend tests).
pub fn read_tensor(bytes: &[u8], file: &str) -> Result<Constant, ImportError> {
    let tensor = proto::TensorProto::decode(bytes).map_err(|e| ImportError::File {
        file: file.to_string(),
        what: format!("not an ONNX tensor, or a damaged one ({e})"),
    })?;
    tensor::Stored { file, folder: None }.constant(tensor, None)
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

/// A 4-D input's open extents behind the batch, filled in with channels, height and width: in this
/// order, or channels last where the extents it has say so.
fn filled_in(dims: Vec<Option<usize>>, [c, h, w]: [usize; 3]) -> Vec<Option<usize>> {
    let [batch, own @ ..] = &dims[..] else {
        return dims;
    };
    let agrees = |asked: &[usize; 3]| {
        let mut pairs = own.iter().zip(asked);
        own.len() == 3 && pairs.all(|(d, a)| d.is_none_or(|d| d == *a))
    };
    match [[c, h, w], [h, w, c]].into_iter().find(agrees) {
        Some(asked) => std::iter::once(*batch).chain(asked.map(Some)).collect(),
        None => dims,
    }
}

/// The graph with the classifier's output alone, and the inputs it needs.
fn classifier(mut graph: Graph) -> Result<Graph, super::graph::GraphError> {
    if graph.outputs.len() < 2 {
        return Ok(graph);
    }
    let names = |graph: &Graph| -> Vec<String> {
        let names = graph.outputs.iter().map(|&v| graph.value(v).name.clone());
        names.collect()
    };
    let all = names(&graph);
    let whole = graph.clone();
    let mut best: Option<(usize, Graph)> = None;
    for &output in &graph.outputs {
        let piece = graph.subgraph(&graph.inputs, &[output])?;
        let reads: HashSet<ValueId> = piece.nodes.iter().flat_map(|n| n.inputs.clone()).collect();
        let varies = piece.inputs.iter().any(|v| reads.contains(v));
        // Of equal ones the first.
        if varies
            && best
                .as_ref()
                .is_none_or(|(nodes, _)| piece.nodes.len() > *nodes)
        {
            best = Some((piece.nodes.len(), piece));
        }
    }
    if let Some((_, piece)) = best {
        let reads: HashSet<ValueId> = piece.nodes.iter().flat_map(|n| n.inputs.clone()).collect();
        let read = piece.inputs.iter().copied().filter(|v| reads.contains(v));
        graph = piece.subgraph(&read.collect::<Vec<_>>(), &piece.outputs)?;
    }
    let own = names(&graph);
    graph.other_outputs = all.into_iter().filter(|n| !own.contains(n)).collect();
    graph.own_exits = Arc::new(own_exits(&whole, &graph)?);
    Ok(graph)
}

/// The exits among the outputs of a whole file: those of the classifier's extents that are computed from
/// one value of `network`, which is the file's network up to its classifier.
fn own_exits(whole: &Graph, network: &Graph) -> Result<Vec<OwnExit>, super::graph::GraphError> {
    let name = |v: ValueId| whole.value(v).name.as_str();
    let classifier = network.outputs.first().map(|&v| network.value(v));
    let inside: HashSet<&str> = network
        .nodes
        .iter()
        .flat_map(|node| node.outputs.iter().map(|&v| network.value(v).name.as_str()))
        .collect();
    let inputs: HashSet<ValueId> = whole.inputs.iter().copied().collect();
    let producers = whole.producers();
    let mut exits = Vec::new();
    for &output in &whole.outputs {
        let own = whole.value(output);
        let fits = |c: &super::graph::Value| {
            c.name != own.name && (&c.shape, c.dtype) == (&own.shape, own.dtype)
        };
        if !classifier.is_some_and(fits) || inside.contains(own.name.as_str()) {
            continue;
        }
        let (mut reads, mut seen, mut stack) = (HashSet::new(), HashSet::new(), vec![output]);
        while let Some(v) = stack.pop() {
            if inside.contains(name(v)) || inputs.contains(&v) {
                reads.insert(v);
            } else if let Some(&node) = producers.get(&v).filter(|node| seen.insert(**node)) {
                stack.extend(&whole.nodes[node].inputs);
            }
        }
        let reads: Vec<ValueId> = reads.into_iter().collect();
        let &[value] = reads.as_slice() else { continue };
        if inputs.contains(&value) {
            continue;
        }
        exits.push(OwnExit {
            output: own.name.clone(),
            value: name(value).to_owned(),
            graph: whole.subgraph(&[value], &[output])?,
        });
    }
    Ok(exits)
}

/// The code of the element type that an input or output declares; 0 for none.
fn element_type(declared: &proto::ValueInfoProto) -> i32 {
    match declared.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(proto::type_proto::Value::TensorType(t)) => t.elem_type,
        _ => 0,
    }
}

/// Functions of a file by domain and name.
fn functions(model: &proto::ModelProto) -> HashMap<(String, String), &proto::FunctionProto> {
    let functions = model.functions.iter();
    functions
        .map(|f| ((f.domain.clone(), f.name.clone()), f))
        .collect()
}

/// The nodes that an output needs, in the file's order. What nothing needs may be anything.
fn live(nodes: &[proto::NodeProto], outputs: &[proto::ValueInfoProto]) -> Vec<proto::NodeProto> {
    let mut makers: HashMap<&str, Vec<usize>> = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            makers.entry(output).or_default().push(i);
        }
    }
    let mut wanted = vec![false; nodes.len()];
    let mut open: Vec<&str> = outputs.iter().map(|o| o.name.as_str()).collect();
    while let Some(name) = open.pop() {
        for &i in makers.get(name).into_iter().flatten() {
            if !std::mem::replace(&mut wanted[i], true) {
                open.extend(node::control::reads(&nodes[i]));
            }
        }
    }
    let kept = nodes.iter().zip(wanted).filter(|(_, wanted)| *wanted);
    kept.map(|(node, _)| node.clone()).collect()
}

/// The state of one import.
struct Importer<'a> {
    file: &'a str,
    folder: Option<&'a Path>,
    opset: i64,
    open: Open,
    graph: Graph,
    /// What each name of the file stands for.
    env: HashMap<String, ValueId>,
    /// Integer values known before running, some as multiples of the batch.
    ints: HashMap<ValueId, Ints>,
    /// Elements of the file's tensors that no node has been charged with yet.
    unclaimed: HashMap<ValueId, usize>,
    /// Codes of the file's element types, where a value's type doesn't tell how wide it was.
    codes: HashMap<ValueId, i32>,
    /// Floats that hold whole values, in the place of integers.
    whole: HashSet<ValueId>,
    /// Integer constants as floats.
    floats_of: HashMap<ValueId, ValueId>,
    /// The floats behind a quantised value, by its scale and zero point.
    dequantised: HashMap<(ValueId, ValueId, Option<ValueId>), ValueId>,
    /// Functions of the file by domain and name.
    functions: HashMap<(String, String), &'a proto::FunctionProto>,
    /// Names of values that hold text.
    texts: HashSet<String>,
    /// Bodies put in the place of a node so far, the nodes they held, and how deep in them we are.
    inlined: usize,
    expanded: usize,
    depth: usize,
    /// Values there were before the node that is being imported, and its steps so far.
    first_of_node: usize,
    steps: usize,
    node_names: HashSet<String>,
    /// Elements of the tensors that were filled, not read.
    filled: Cell<usize>,
}

/// The version of ONNX's own operators that a file names, within what is read.
fn opset(model: &proto::ModelProto) -> Result<i64, String> {
    let own = |o: &&proto::OperatorSetIdProto| o.domain.is_empty() || o.domain == "ai.onnx";
    let named = model.opset_import.iter().find(own);
    let opset = named.map(|o| o.version).ok_or_else(|| {
        format!(
            "names no opset of ONNX's own operators, so what they mean is open: export it anew, or set \
             one of {OLDEST_OPSET} to {NEWEST_OPSET}"
        )
    })?;
    if (OLDEST_OPSET..=NEWEST_OPSET).contains(&opset) {
        return Ok(opset);
    }
    let age = if opset < OLDEST_OPSET { "old" } else { "new" };
    Err(format!(
        "opset {opset} is too {age}: export with one of {OLDEST_OPSET} to {NEWEST_OPSET}"
    ))
}

impl<'a> Importer<'a> {
    fn run(
        model: &'a stream::Model,
        file: &'a str,
        folder: Option<&'a Path>,
        settings: &Settings,
        open: Open,
    ) -> Result<Graph, ImportError> {
        let whole = |what: String| ImportError::File {
            file: file.to_string(),
            what,
        };
        let opset = opset(&model.proto).map_err(whole)?;
        let graph = model.proto.graph.as_ref();
        let graph = graph.ok_or_else(|| whole("holds no graph".into()))?;
        let mut importer = Importer {
            file,
            folder,
            opset,
            open,
            graph: Graph {
                name: graph.name.clone(),
                class_names: labels::class_names(&model.proto),
                ..Graph::default()
            },
            env: HashMap::new(),
            ints: HashMap::new(),
            unclaimed: HashMap::new(),
            codes: HashMap::new(),
            whole: HashSet::new(),
            floats_of: HashMap::new(),
            dequantised: HashMap::new(),
            functions: functions(&model.proto),
            texts: model.texts.iter().cloned().collect(),
            inlined: 0,
            expanded: 0,
            depth: 0,
            first_of_node: 0,
            steps: 0,
            node_names: HashSet::new(),
            filled: Cell::new(0),
        };
        for (name, constant, code) in &model.initializers {
            importer.initializer(name, constant.clone(), *code);
        }
        for sparse in &graph.sparse_initializer {
            let constant = importer.sparse(sparse)?;
            let values = sparse.values.as_ref();
            let (name, code) = values.map_or(("", 0), |v| (&v.name, v.data_type));
            importer.initializer(name, constant, code);
        }
        importer.inputs(&graph.input, settings)?;
        let wanted = importer.wanted(&graph.output, &settings.outputs)?;
        let nodes = live(&graph.node, &wanted);
        importer.nodes(&nodes)?;
        importer.outputs(&wanted)?;
        // Cutting the whole out of itself leaves behind whatever no output needs.
        let whole_graph = importer.graph;
        let pruned = whole_graph.subgraph(&whole_graph.inputs, &whole_graph.outputs);
        let graph = pruned.map_err(|e| whole(e.to_string()))?;
        match settings.outputs {
            Outputs::Classifier => classifier(graph)
                .and_then(with_scores)
                .map_err(|e| whole(e.to_string())),
            Outputs::Named(_) => with_scores(graph).map_err(|e| whole(e.to_string())),
            Outputs::All => Ok(graph),
        }
    }

    /// Inputs of the graph: what the settings bind or fix is a constant, all others are fed by the caller.
    fn inputs(
        &mut self,
        inputs: &[proto::ValueInfoProto],
        settings: &Settings,
    ) -> Result<(), ImportError> {
        for input in inputs {
            if self.env.contains_key(&input.name) {
                continue;
            }
            let number = settings.numbers.iter().find(|n| n.0 == input.name);
            let bound = settings.bound.get(&input.name).cloned();
            match (bound, number) {
                (Some(constant), _) => {
                    let id = self.constant(&input.name, constant);
                    self.codes.insert(id, element_type(input));
                    self.env.insert(input.name.clone(), id);
                }
                (None, Some((_, number))) => self.fixed_input(input, *number)?,
                (None, None) => self.input(input, settings.image)?,
            }
        }
        if let Some((name, _)) = settings.numbers.iter().find(|(name, _)| {
            let given = |i: &proto::ValueInfoProto| i.name == *name;
            !inputs.iter().any(given)
        }) {
            let names: Vec<&str> = inputs.iter().map(|i| i.name.as_str()).collect();
            let names = names.join(", ");
            return Err(ImportError::File {
                file: self.file.to_string(),
                what: format!("has no input `{name}` to fix: it has {names}"),
            });
        }
        Ok(())
    }

    /// The outputs of the file that are asked for.
    fn wanted(
        &self,
        outputs: &[proto::ValueInfoProto],
        asked: &Outputs,
    ) -> Result<Vec<proto::ValueInfoProto>, ImportError> {
        let Outputs::Named(name) = asked else {
            return Ok(outputs.to_vec());
        };
        let found = outputs.iter().find(|o| o.name == *name);
        let found = found.cloned().ok_or_else(|| {
            let names: Vec<&str> = outputs.iter().map(|o| o.name.as_str()).collect();
            ImportError::File {
                file: self.file.to_string(),
                what: format!("has no output `{name}`: it has {}", names.join(", ")),
            }
        })?;
        Ok(vec![found])
    }

    /// An input as a constant, one number throughout.
    fn fixed_input(
        &mut self,
        input: &proto::ValueInfoProto,
        number: f32,
    ) -> Result<(), ImportError> {
        let dims = declared_dims(input).unwrap_or_default().into_iter();
        let shape: Vec<usize> = dims.map(|d| d.unwrap_or(1)).collect();
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let count = count.filter(|&n| self.may_fill(n).is_some());
        let count = count.ok_or_else(|| ImportError::File {
            file: self.file.to_string(),
            what: format!("the input `{}` is too large to be fixed", input.name),
        })?;
        let id = self.constant(&input.name, Constant::f32(&shape, vec![number; count]));
        self.env.insert(input.name.clone(), id);
        Ok(())
    }

    fn input(
        &mut self,
        input: &proto::ValueInfoProto,
        image: Option<[usize; 3]>,
    ) -> Result<(), ImportError> {
        let name = &input.name;
        let fail = |what: String| ImportError::File {
            file: self.file.to_string(),
            what,
        };
        let dims = declared_dims(input)
            .ok_or_else(|| fail(format!("the input `{name}` declares no tensor shape")))?;
        let elem = element_type(input);
        let dtype = tensor::dtype(elem).ok_or_else(|| {
            fail(format!(
                "the input `{name}` has an element type (code {elem}) that is not supported"
            ))
        })?;
        let dims = match image {
            Some(image) => filled_in(dims, image),
            None => dims,
        };
        let mut shape = Vec::new();
        for (axis, dim) in dims.iter().enumerate() {
            shape.push(match dim {
                Some(n) => Dim::Fixed(*n),
                None if axis == 0 && self.open == Open::One => Dim::Fixed(1),
                None if axis == 0 => Dim::Batch(1),
                None => {
                    return Err(ImportError::OpenInput {
                        file: self.file.to_string(),
                        input: name.clone(),
                        axis,
                        dims,
                    });
                }
            });
        }
        let id = self.value(name, dtype, Shape(shape));
        self.codes.insert(id, elem);
        self.graph.inputs.push(id);
        self.env.insert(name.clone(), id);
        Ok(())
    }

    /// A tensor of the file under its name.
    fn initializer(&mut self, name: &str, constant: Constant, code: i32) {
        let size = constant.len();
        let id = self.constant(name, constant);
        self.unclaimed.insert(id, size);
        self.codes.insert(id, code);
        self.env.insert(name.to_string(), id);
    }

    /// Counts elements that are filled rather than read: `None` where they become too many. A file of
    /// a few bytes can ask for any number of them.
    fn may_fill(&self, count: usize) -> Option<()> {
        let filled = self.filled.get().checked_add(count);
        self.filled.set(filled.filter(|&n| n <= MAX_FILLED)?);
        Some(())
    }

    /// Imports the nodes in the file's order, which names the layers; one that stands before its
    /// inputs (some exporters don't sort) waits for them.
    fn nodes(&mut self, nodes: &[proto::NodeProto]) -> Result<(), ImportError> {
        let mut waiting: Vec<usize> = Vec::with_capacity(nodes.len());
        let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut ready: BinaryHeap<Reverse<usize>> = BinaryHeap::new();
        for (i, node) in nodes.iter().enumerate() {
            let missing: HashSet<&str> = node::control::reads(node)
                .into_iter()
                .filter(|n| !self.env.contains_key(*n))
                .collect();
            if let Some(text) = missing.iter().find(|n| self.texts.contains(**n)) {
                let what =
                    format!("reads `{text}`, which holds text: networks here compute with numbers");
                return Err(self.fail(node, what));
            }
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
            let mut missing = node::control::reads(n).into_iter();
            Some((n, missing.find(|i| !self.env.contains_key(*i))?))
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
        for (at, output) in outputs.iter().enumerate() {
            // One that is named twice is read once, since names tell outputs apart.
            if outputs[..at].iter().any(|other| other.name == output.name) {
                continue;
            }
            let Some(&id) = self.env.get(&output.name) else {
                return Err(ImportError::File {
                    file: self.file.to_string(),
                    what: format!("the output `{}` is produced by no node", output.name),
                });
            };
            let id = self.output(output, id);
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

    /// The value an output hands out: under the file's name, in the file's element type, and one of
    /// its own.
    fn output(&mut self, output: &proto::ValueInfoProto, id: ValueId) -> ValueId {
        let constant = self.graph.constants.contains_key(&id);
        let given = self.graph.inputs.contains(&id) || constant;
        let value = self.graph.value(id).clone();
        let elem = tensor::dtype(element_type(output));
        // Whole values held as floats become the integers that the file promises.
        let to = elem.filter(|&to| to != value.dtype && self.whole.contains(&id));
        if to.is_none() && !given && !self.graph.outputs.contains(&id) {
            self.graph.values[id.0 as usize].name = output.name.clone();
            return id;
        }
        let mut own = output.name.clone();
        if value.name == output.name {
            let is_input = self.graph.inputs.contains(&id);
            let apart = self.unique_value_name(&own, if is_input { "output" } else { "value" });
            // An input is fed by its name, so the output takes another.
            if is_input {
                own = apart;
            } else {
                self.graph.values[id.0 as usize].name = apart;
            }
        }
        let dtype = to.unwrap_or(value.dtype);
        let copy = self.value(&own, dtype, value.shape);
        let name = self.unique_node_name(&output.name);
        self.graph.nodes.push(Node {
            name,
            op: to.map_or(Op::Identity, |to| Op::Cast { to }),
            inputs: vec![id],
            outputs: vec![copy],
            params: 0,
        });
        copy
    }

    /// A name for a value beside one of this name: told apart by a word, and by a number where needed.
    fn unique_value_name(&self, name: &str, word: &str) -> String {
        let taken = |name: &String| self.graph.values.iter().any(|value| value.name == *name);
        let first = format!("{name}/{word}");
        let mut others = (2..).map(|n| format!("{name}/{word}{n}"));
        if taken(&first) {
            others.find(|name| !taken(name)).unwrap_or(first)
        } else {
            first
        }
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
            op: match node.op_type.as_str() {
                "" => "no operator".to_string(),
                op => op.to_string(),
            },
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
        // The running statistics of a batch norm are no parameters, nor is how a tensor is quantised.
        let trained = match op {
            Op::BatchNorm { .. } => 3,
            Op::Quantize { .. } | Op::Dequantize { .. } => 1,
            _ => inputs.len(),
        };
        let mut params = 0;
        for (at, id) in inputs.iter().enumerate() {
            // Integers are weights where they are read as numbers, else indices and extents.
            let weights =
                matches!(op, Op::Dequantize { .. }) || self.graph.value(*id).dtype == DType::F32;
            if weights {
                let size = self.unclaimed.remove(id).unwrap_or(0);
                params += if at < trained { size } else { 0 };
            }
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
}

#[cfg(test)]
mod tests;
