/*!
Writing a graph as ONNX: as imported or fused, the whole or a part. Parts of a network and heads
travel to the agents this way.

Opset 20, IR version 9, a symbolic batch called `N`. What fusion joined is written as the ONNX ops it
was joined from, in the order in which fusion joins them again: a fused graph written, read back and
fused is the same graph. Names of values and nodes are kept. The parameters that each node counts
travel in its `doc_string`, as a folded weight no longer tells them.
*/

mod ops;
mod writer;

use super::constant::{Constant, DType, Data};
use super::graph::{Graph, Value, ValueId};
use super::shape::{Dim, Shape};
use candle_onnx::onnx as proto;
use prost::Message;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use writer::Writer;

/// The `doc_string` of an exported node that counts parameters starts with this.
pub(crate) const PARAMS: &str = "params=";

const OPSET: i64 = 20;
const IR_VERSION: i64 = 9;
/// A protobuf message can't be larger; readers refuse it.
const MAX_BYTES: usize = (1 << 31) - 1;

/// Why a graph can't be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A node that no ONNX op says.
    #[error("node `{node}`: {what} can't be written as ONNX")]
    Unsupported {
        /// Name of the node in the graph.
        node: String,
        /// The op or the setting that ONNX has no form for.
        what: String,
    },
    /// More than ONNX files without external data may hold.
    #[error("`{network}` needs {bytes} bytes; an ONNX file holds at most {MAX_BYTES}")]
    TooLarge {
        /// Network's name.
        network: String,
        /// Bytes it would take.
        bytes: usize,
    },
    /// The file can't be written.
    #[error("can't write {file}: {source}")]
    Write {
        /// Path that was to be written.
        file: String,
        /// Reason that the operating system gives.
        source: std::io::Error,
    },
}

/// The bytes of an ONNX file that holds `graph`.
///
/// # Errors
/// On an op that ONNX can't say, or a network of 2 GiB and more.
pub fn to_onnx(graph: &Graph) -> Result<Vec<u8>, ExportError> {
    encode(graph_proto(graph)?)
}

/// `graph` as a message of ONNX, for those who put several together.
///
/// # Errors
/// On an op that ONNX can't say.
pub fn graph_proto(graph: &Graph) -> Result<proto::GraphProto, ExportError> {
    let mut writer = Writer::new(graph);
    for node in &graph.nodes {
        writer.node(node)?;
    }
    let mut used: Vec<ValueId> = graph.nodes.iter().flat_map(|n| n.inputs.clone()).collect();
    used.extend(&graph.outputs);
    let used: std::collections::BTreeSet<ValueId> = used.into_iter().collect();
    let constants = graph.constants.iter().filter(|(id, _)| used.contains(id));
    let mut initializer: Vec<proto::TensorProto> = constants
        .map(|(&id, c)| tensor_proto(&graph.value(id).name, c))
        .collect();
    initializer.append(&mut writer.initializers);
    let port = |&id: &ValueId| port_proto(graph.value(id));
    Ok(proto::GraphProto {
        name: graph.name.clone(),
        node: writer.nodes,
        initializer,
        input: graph.inputs.iter().map(port).collect(),
        output: graph.outputs.iter().map(port).collect(),
        ..Default::default()
    })
}

/// The bytes of an ONNX file that holds a graph given as a message.
///
/// # Errors
/// On a network of 2 GiB and more.
pub fn encode(graph: proto::GraphProto) -> Result<Vec<u8>, ExportError> {
    let network = graph.name.clone();
    let model = proto::ModelProto {
        ir_version: IR_VERSION,
        producer_name: "edgelesspart".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        opset_import: vec![proto::OperatorSetIdProto {
            domain: String::new(),
            version: OPSET,
        }],
        graph: Some(graph),
        ..Default::default()
    };
    let bytes = model.encoded_len();
    if bytes > MAX_BYTES {
        return Err(ExportError::TooLarge { network, bytes });
    }
    Ok(model.encode_to_vec())
}

/// Writes `graph` to `path` so that a reader finds either the old file or the whole new one.
///
/// # Errors
/// As [`to_onnx`], and where the file can't be written.
pub fn write_file(graph: &Graph, path: &Path) -> Result<(), ExportError> {
    let bytes = to_onnx(graph)?;
    let write = || -> std::io::Result<()> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        // Of others too, as far as the umask lets them: temporary files are their owner's alone.
        let mut file = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder.unwrap_or(Path::new(".")))?;
        file.write_all(&bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|source| ExportError::Write {
        file: path.display().to_string(),
        source,
    })
}

/// ONNX's number for an element type.
pub(super) fn code(dtype: DType) -> i32 {
    use proto::tensor_proto::DataType;
    let found = match dtype {
        DType::F32 => DataType::Float,
        DType::I64 => DataType::Int64,
        DType::I32 => DataType::Int32,
        DType::U8 => DataType::Uint8,
        DType::I8 => DataType::Int8,
        DType::Bool => DataType::Bool,
    };
    found as i32
}

/// A constant as a message of ONNX.
pub fn tensor_proto(name: &str, constant: &Constant) -> proto::TensorProto {
    // ONNX is little-endian wherever it is written.
    let raw_data = match &constant.data {
        Data::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::I64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::I32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::I8(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::U8(v) | Data::Bool(v) => v.to_vec(),
    };
    proto::TensorProto {
        name: name.to_string(),
        dims: constant.shape.iter().map(|&d| d as i64).collect(),
        data_type: code(constant.dtype()),
        raw_data,
        ..Default::default()
    }
}

/// An input or output of a graph as a message of ONNX.
pub fn port_proto(value: &Value) -> proto::ValueInfoProto {
    use proto::{tensor_shape_proto as shape_proto, type_proto};
    let extent = |dim: &Dim| {
        use shape_proto::dimension::Value;
        let value = match dim {
            Dim::Fixed(n) => Value::DimValue(*n as i64),
            Dim::Batch(1) => Value::DimParam("N".into()),
            Dim::Batch(k) => Value::DimParam(format!("{k}N")),
        };
        shape_proto::Dimension {
            denotation: String::new(),
            value: Some(value),
        }
    };
    let Shape(dims) = &value.shape;
    let tensor = type_proto::Tensor {
        elem_type: code(value.dtype),
        shape: Some(proto::TensorShapeProto {
            dim: dims.iter().map(extent).collect(),
        }),
    };
    proto::ValueInfoProto {
        name: value.name.clone(),
        r#type: Some(proto::TypeProto {
            denotation: String::new(),
            value: Some(type_proto::Value::TensorType(tensor)),
        }),
        doc_string: String::new(),
    }
}

#[cfg(test)]
mod tests;
