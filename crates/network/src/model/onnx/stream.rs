/*!
Reading a model piece by piece, so that a network is never held twice: the weights, nearly all of a
file, go one by one from the file into the constants they become. What is left is small, and is
decoded as a whole.

Only as much of the protobuf wire format is known here as it takes to find the initializers and
their bytes; everything else is handed on as it stands. Nothing is allocated on the word of a length
that the file is too short for.
*/

use super::ImportError;
use super::tensor::{Raw, Stored};
use crate::model::constant::Constant;
use candle_onnx::onnx as proto;
use prost::Message as _;
use prost::encoding::encode_varint;
use std::io::{self, ErrorKind, Read};

// Field numbers of onnx.proto3.
const MODEL_GRAPH: u64 = 7;
const GRAPH_INITIALIZER: u64 = 5;
const TENSOR_RAW_DATA: u64 = 9;

/// A model, its initializers apart.
pub(super) struct Model {
    /// Everything but the initializers.
    pub proto: proto::ModelProto,
    /// Initializers by name, in the file's order, with the code of their element type there.
    pub initializers: Vec<(String, Constant, i32)>,
    /// Names of initializers that hold text.
    pub texts: Vec<String>,
}

/// Reads a model of `length` bytes.
pub(super) fn read(
    source: &mut dyn Read,
    length: u64,
    stored: &Stored,
) -> Result<Model, ImportError> {
    let (mut initializers, mut texts) = (Vec::new(), Vec::new());
    let proto = walk_model(source, length, &mut |rest, raw| {
        let tensor = proto::TensorProto::decode(rest)?;
        let (name, code) = (tensor.name.clone(), tensor.data_type);
        match code == proto::tensor_proto::DataType::String as i32 {
            true => texts.push(name),
            false => initializers.push((name, stored.constant(tensor, raw)?, code)),
        }
        Ok(())
    });
    let proto = proto.map_err(|broken| match broken {
        Broken::Import(error) => *error,
        Broken::Io(source) if source.kind() != ErrorKind::UnexpectedEof => ImportError::Read {
            file: stored.file.to_string(),
            source,
        },
        other => ImportError::File {
            file: stored.file.to_string(),
            what: format!("not an ONNX file, or a damaged one ({other})"),
        },
    })?;
    Ok(Model {
        proto,
        initializers,
        texts,
    })
}

/// Why a message can't be read.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("it ends early")]
    Io(#[from] io::Error),
    #[error("a field longer than what holds it")]
    Length,
    #[error("a number longer than 64 bits")]
    Varint,
    #[error("a field of unknown kind {0}")]
    Wire(u64),
    #[error(transparent)]
    Decode(#[from] prost::DecodeError),
    #[error(transparent)]
    Import(Box<ImportError>),
}

impl From<ImportError> for Broken {
    fn from(error: ImportError) -> Self {
        Broken::Import(Box::new(error))
    }
}

/// Takes an initializer: its fields but the raw data, and the raw data.
type Take<'a> = &'a mut dyn FnMut(&[u8], Option<Raw>) -> Result<(), Broken>;

fn walk_model(source: &mut dyn Read, length: u64, take: Take) -> Result<proto::ModelProto, Broken> {
    let mut model = Message {
        source,
        left: length,
    };
    let (mut rest, mut graph) = (Vec::new(), None);
    while let Some(field) = model.field()? {
        if field == (MODEL_GRAPH, Kind::Bytes) {
            let mut inner = model.enter()?;
            // A message given twice is merged, which the bytes one behind the other are.
            walk_graph(&mut inner, graph.get_or_insert_default(), take)?;
        } else {
            model.copy(field, &mut rest)?;
        }
    }
    let mut model = proto::ModelProto::decode(&rest[..])?;
    if let Some(graph) = graph {
        model.graph = Some(proto::GraphProto::decode(&graph[..])?);
    }
    Ok(model)
}

fn walk_graph(graph: &mut Message, rest: &mut Vec<u8>, take: Take) -> Result<(), Broken> {
    while let Some(field) = graph.field()? {
        if field == (GRAPH_INITIALIZER, Kind::Bytes) {
            let mut tensor = graph.enter()?;
            let (mut rest, mut raw) = (Vec::new(), None);
            while let Some(field) = tensor.field()? {
                if field == (TENSOR_RAW_DATA, Kind::Bytes) {
                    let length = tensor.length()?;
                    raw = Some(Raw::read(tensor.source, length)?);
                } else {
                    tensor.copy(field, &mut rest)?;
                }
            }
            take(&rest, raw)?;
        } else {
            graph.copy(field, rest)?;
        }
    }
    Ok(())
}

/// How a field is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Varint,
    Fixed(u8),
    Bytes,
}

/// A message that is being read.
struct Message<'a> {
    source: &'a mut dyn Read,
    /// Bytes of it that are still to come.
    left: u64,
}

impl Message<'_> {
    fn need(&mut self, bytes: u64) -> Result<(), Broken> {
        self.left = self.left.checked_sub(bytes).ok_or(Broken::Length)?;
        Ok(())
    }

    fn varint(&mut self) -> Result<u64, Broken> {
        let mut value = 0;
        for at in 0..10 {
            self.need(1)?;
            let mut byte = [0];
            self.source.read_exact(&mut byte)?;
            value |= u64::from(byte[0] & 0x7f) << (7 * at);
            if byte[0] < 0x80 {
                return Ok(value);
            }
        }
        Err(Broken::Varint)
    }

    /// Number and kind of the next field; `None` at the end.
    fn field(&mut self) -> Result<Option<(u64, Kind)>, Broken> {
        if self.left == 0 {
            return Ok(None);
        }
        let key = self.varint()?;
        let kind = match key & 7 {
            0 => Kind::Varint,
            1 => Kind::Fixed(8),
            2 => Kind::Bytes,
            5 => Kind::Fixed(4),
            other => return Err(Broken::Wire(other)),
        };
        Ok(Some((key >> 3, kind)))
    }

    /// The length of a field of bytes, which now belong to the caller.
    fn length(&mut self) -> Result<usize, Broken> {
        let length = self.varint()?;
        self.need(length)?;
        usize::try_from(length).map_err(|_| Broken::Length)
    }

    /// The message in a field of bytes. It has to be read to its end.
    fn enter(&mut self) -> Result<Message<'_>, Broken> {
        let left = self.length()? as u64;
        Ok(Message {
            source: self.source,
            left,
        })
    }

    /// Appends the field as it stands.
    fn copy(&mut self, (number, kind): (u64, Kind), to: &mut Vec<u8>) -> Result<(), Broken> {
        let wire = match kind {
            Kind::Varint => 0,
            Kind::Fixed(8) => 1,
            Kind::Bytes => 2,
            Kind::Fixed(_) => 5,
        };
        encode_varint(number << 3 | wire, to);
        let length = match kind {
            Kind::Varint => {
                encode_varint(self.varint()?, to);
                return Ok(());
            }
            Kind::Fixed(bytes) => {
                self.need(bytes.into())?;
                bytes.into()
            }
            Kind::Bytes => {
                let length = self.length()?;
                encode_varint(length as u64, to);
                length
            }
        };
        let start = to.len();
        to.resize(start + length, 0);
        self.source.read_exact(&mut to[start..])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn tensor(name: &str, raw_data: Vec<u8>) -> proto::TensorProto {
        proto::TensorProto {
            name: name.to_string(),
            dims: vec![raw_data.len() as i64 / 4],
            data_type: 1,
            raw_data,
            ..Default::default()
        }
    }

    fn model() -> proto::ModelProto {
        proto::ModelProto {
            ir_version: 8,
            producer_name: "p".repeat(300),
            graph: Some(proto::GraphProto {
                name: "g".to_string(),
                doc_string: "between".to_string(),
                initializer: vec![tensor("a", vec![0; 8]), tensor("b", vec![7; 400])],
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn stored() -> Stored<'static> {
        Stored {
            file: "m.onnx",
            folder: None,
        }
    }

    #[test]
    fn initializers_come_apart_and_everything_else_as_it_was() {
        let bytes = model().encode_to_vec();
        let read = read(&mut &bytes[..], bytes.len() as u64, &stored()).unwrap();
        let names: Vec<&str> = read.initializers.iter().map(|t| t.0.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        let want = f32::from_le_bytes([7; 4]);
        assert_eq!(read.initializers[1].1.floats(), Some(&[want; 100][..]));
        let mut rest = model();
        rest.graph.as_mut().unwrap().initializer.clear();
        assert_eq!(read.proto, rest);
    }

    #[test]
    fn a_graph_in_two_pieces_is_merged() {
        let mut bytes = model().encode_to_vec();
        bytes.extend(model().encode_to_vec());
        let read = read(&mut &bytes[..], bytes.len() as u64, &stored()).unwrap();
        assert_eq!(read.initializers.len(), 4);
        assert_eq!(read.proto.graph.unwrap().name, "g");
    }

    #[test]
    fn a_file_cut_short_anywhere_is_damaged_not_misread() {
        let bytes = model().encode_to_vec();
        for end in 0..bytes.len() {
            // Told the truth about its length, and told the length it had.
            for length in [end, bytes.len()] {
                let cut = read(&mut &bytes[..end], length as u64, &stored());
                let whole_fields = cut.as_ref().is_ok_and(|m| m.initializers.is_empty());
                assert!(cut.is_err() || whole_fields, "cut at {end}");
            }
        }
    }

    #[test]
    fn a_length_beyond_the_file_is_refused_before_it_is_believed() {
        // Field 7, 2^62 bytes.
        let mut bytes = vec![7 << 3 | 2];
        encode_varint(1 << 62, &mut bytes);
        let error = read(&mut &bytes[..], bytes.len() as u64, &stored())
            .err()
            .unwrap();
        assert!(
            error.to_string().contains("longer than what holds it"),
            "{error}"
        );
    }
}
