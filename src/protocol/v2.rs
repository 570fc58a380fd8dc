/*!
The Open Inference Protocol (V2) as bytes: requests and answers as JSON, with or without the binary
extension, in which raw little-endian tensors follow the JSON in its order. `agent` serves it and, as
an edge, speaks it to other servers; both sides read and write here.

What real servers and clients do differently from the text of the protocol: `data` may be nested or
flat, a missing Content-Type means JSON, and a header that gives the length of the JSON means binary
whatever Content-Type says.
*/

mod flat;

pub use flat::Flat;

use half::f16;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Header with the bytes of the JSON in front of the tensors.
pub const HEADER_LENGTH: &str = "inference-header-content-length";
/// Content type of such a body.
pub const BINARY: &str = "application/octet-stream";
/// What an agent calls itself, as a model's platform.
pub const PLATFORM: &str = "edgelesspart";
/// Outputs of a part that stops by itself, besides the scores, on an agent as on other servers: the exit at
/// which each sample left, counted from the part's start, and its confidence.
pub const EXIT: &str = "exit";
/// Name of the parameter or output that holds a confidence; see [`EXIT`].
pub const CONFIDENCE: &str = "confidence";
/// The most extents of a tensor.
const MAX_RANK: usize = 16;

/// Why bytes are no request or answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct V2Error(String);

fn bad<T>(what: impl Into<String>) -> Result<T, V2Error> {
    Err(V2Error(what.into()))
}

/// Elements of a tensor, as far as anything here reads or writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Datatype {
    #[serde(rename = "FP16")]
    F16,
    #[serde(rename = "FP32")]
    F32,
    #[serde(rename = "FP64")]
    F64,
    #[serde(rename = "INT32")]
    I32,
    #[serde(rename = "INT64")]
    I64,
    /// Any other type of element, which no tensor here has.
    #[serde(other)]
    Other,
}

impl Datatype {
    /// Bytes of an element.
    fn width(self) -> Result<usize, V2Error> {
        match self {
            Datatype::F16 => Ok(2),
            Datatype::F32 | Datatype::I32 => Ok(4),
            Datatype::F64 | Datatype::I64 => Ok(8),
            Datatype::Other => bad("its datatype is none of FP32, FP16, FP64, INT32 and INT64"),
        }
    }
}

/// The parameters that are understood; others are passed over.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Parameters {
    /// Of an input or an output in binary: its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binary_data_size: Option<u64>,
    /// Of an output: whether it is wanted in binary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binary_data: Option<bool>,
    /// Of a request: whether all outputs are wanted in binary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binary_data_output: Option<bool>,
    /// Of an input or output that lies in memory shared between client and server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_memory_region: Option<String>,
    /// Of a request to a part: in place of the part's thresholds, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Of an output that is wanted as its best classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classification: Option<u64>,
}

/// A tensor as its JSON says it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TensorHead {
    pub name: String,
    pub shape: Vec<u64>,
    pub datatype: Datatype,
    #[serde(default, skip_serializing_if = "none")]
    pub parameters: Option<Parameters>,
    /// Absent where it follows in binary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Flat>,
}

fn none(parameters: &Option<Parameters>) -> bool {
    parameters
        .as_ref()
        .is_none_or(|p| *p == Parameters::default())
}

/// An output that is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct OutputHead {
    pub name: String,
    #[serde(default)]
    pub parameters: Option<Parameters>,
}

/// A request for inference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct InferRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(default, skip_serializing_if = "none")]
    pub parameters: Option<Parameters>,
    pub inputs: Vec<TensorHead>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Vec<OutputHead>>,
}

/// Answer to an inference request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct InferResponse {
    #[serde(default)]
    pub model_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub outputs: Vec<TensorHead>,
}

/// An input or output of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TensorMetadata {
    pub name: String,
    pub datatype: Datatype,
    /// −1 where any extent is taken.
    pub shape: Vec<i64>,
}

/// What a server says of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ModelMetadata {
    pub name: String,
    #[serde(default)]
    pub versions: Option<Vec<String>>,
    #[serde(default)]
    pub platform: String,
    #[serde(default)]
    pub inputs: Vec<TensorMetadata>,
    #[serde(default)]
    pub outputs: Vec<TensorMetadata>,
}

/// Tensor of a request, read and checked.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Tensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub datatype: Datatype,
    pub values: Vec<f32>,
}

/// Reads the JSON of a body and gives what follows it. `header` is [`HEADER_LENGTH`] as it came.
///
/// # Errors
/// Where the header is no length within the body, or the JSON isn't what it should be.
pub fn json<'a, T: DeserializeOwned>(
    body: &'a [u8],
    header: Option<&str>,
) -> Result<(T, &'a [u8]), V2Error> {
    let (json, rest) = match header {
        None => (body, &body[body.len()..]),
        Some(text) => {
            let length = text.trim().parse::<usize>().ok();
            match length.and_then(|n| body.split_at_checked(n)) {
                Some(both) => both,
                None => {
                    return bad(format!(
                        "{HEADER_LENGTH} is `{text}`, which is no length within the {} bytes of the \
                         body",
                        body.len()
                    ));
                }
            }
        }
    };
    let read = serde_json::from_slice(json).map_err(|e| V2Error(format!("its JSON: {e}")))?;
    Ok((read, rest))
}

/// Reads the tensors of a request or an answer; `rest` is what followed its JSON. At most `max`
/// elements of each are taken: nothing is allocated for a shape that only says to be large.
///
/// # Errors
/// Where shapes, lengths and datatypes don't fit each other, with the tensor's name.
pub fn tensors(
    heads: Vec<TensorHead>,
    mut rest: &[u8],
    max: usize,
) -> Result<Vec<Tensor>, V2Error> {
    let mut all = Vec::new();
    for head in heads {
        let name = head.name.clone();
        let named = |e: V2Error| V2Error(format!("the tensor `{name}`: {e}"));
        let (tensor, after) = tensor(head, rest, max).map_err(named)?;
        rest = after;
        all.push(tensor);
    }
    if !rest.is_empty() {
        return bad(format!("{} bytes behind the last tensor", rest.len()));
    }
    Ok(all)
}

/// Reads those outputs of an answer that are `wanted`; others are passed over, of whatever kind they are:
/// some servers add labels as words, or numbers nobody here reads.
///
/// # Errors
/// Where the answer has no outputs, or a wanted one isn't what its head says.
pub fn wanted(
    answer: &serde_json::Value,
    mut rest: &[u8],
    wanted: impl Fn(&str) -> bool,
    max: usize,
) -> Result<Vec<Tensor>, V2Error> {
    let outputs = answer.get("outputs").and_then(|o| o.as_array());
    let outputs = outputs.ok_or_else(|| V2Error("it has no outputs".to_string()))?;
    let mut found = Vec::new();
    for output in outputs {
        let name = output.get("name").and_then(|n| n.as_str()).unwrap_or("");
        if wanted(name) {
            let named = |what: String| V2Error(format!("the tensor `{name}`: {what}"));
            let head = TensorHead::deserialize(output).map_err(|e| named(e.to_string()))?;
            let (tensor, after) = tensor(head, rest, max).map_err(|e| named(e.to_string()))?;
            rest = after;
            found.push(tensor);
            continue;
        }
        let size = output.pointer("/parameters/binary_data_size");
        let size = size.and_then(|s| s.as_u64()).unwrap_or(0);
        let after = usize::try_from(size).ok().and_then(|n| rest.get(n..));
        rest = after.ok_or_else(|| V2Error(format!("`{name}` is shorter than it says")))?;
    }
    Ok(found)
}

fn tensor(head: TensorHead, rest: &[u8], max: usize) -> Result<(Tensor, &[u8]), V2Error> {
    let parameters = head.parameters.unwrap_or_default();
    if parameters.shared_memory_region.is_some() {
        return bad("shared memory is not served here; send the data");
    }
    if head.shape.len() > MAX_RANK {
        return bad(format!("{} extents are too many", head.shape.len()));
    }
    let shape: Option<Vec<usize>> = head.shape.iter().map(|&d| d.try_into().ok()).collect();
    let count = shape
        .as_ref()
        .and_then(|s| s.iter().try_fold(1usize, |n, &d| n.checked_mul(d)))
        .filter(|&n| n <= max);
    let (Some(shape), Some(count)) = (shape, count) else {
        return bad(format!(
            "its shape {:?} has more than the {max} elements that are taken",
            head.shape
        ));
    };
    let (values, rest) = match (parameters.binary_data_size, head.data) {
        (Some(_), Some(_)) => return bad("it has both data and binary_data_size"),
        (None, None) => return bad("it has neither data nor binary_data_size"),
        (None, Some(Flat { values, .. })) => {
            head.datatype.width()?;
            (values, rest)
        }
        (Some(size), None) => {
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            let expected = count.saturating_mul(head.datatype.width()?);
            if size != expected {
                return bad(format!("{size} bytes, its shape needs {expected}"));
            }
            let Some((bytes, rest)) = rest.split_at_checked(size) else {
                return bad(format!("{} bytes of its {size} are there", rest.len()));
            };
            (numbers(head.datatype, bytes), rest)
        }
    };
    if values.len() != count {
        return bad(format!("{} numbers, its shape needs {count}", values.len()));
    }
    let tensor = Tensor {
        name: head.name,
        shape,
        datatype: head.datatype,
        values,
    };
    Ok((tensor, rest))
}

fn numbers(datatype: Datatype, bytes: &[u8]) -> Vec<f32> {
    match datatype {
        Datatype::F16 => {
            let (pairs, _) = bytes.as_chunks::<2>();
            pairs
                .iter()
                .map(|b| f16::from_le_bytes(*b).to_f32())
                .collect()
        }
        Datatype::F64 => {
            let (eights, _) = bytes.as_chunks::<8>();
            eights
                .iter()
                .map(|b| f64::from_le_bytes(*b) as f32)
                .collect()
        }
        Datatype::I32 => {
            let (fours, _) = bytes.as_chunks::<4>();
            fours
                .iter()
                .map(|b| i32::from_le_bytes(*b) as f32)
                .collect()
        }
        Datatype::I64 => {
            let (eights, _) = bytes.as_chunks::<8>();
            eights
                .iter()
                .map(|b| i64::from_le_bytes(*b) as f32)
                .collect()
        }
        Datatype::F32 | Datatype::Other => {
            let (fours, _) = bytes.as_chunks::<4>();
            fours.iter().map(|b| f32::from_le_bytes(*b)).collect()
        }
    }
}

/// Prepares a tensor of F32 or INT32 to be written: in binary its bytes go to `binary`, else its
/// numbers stand in the JSON.
pub fn head(
    name: &str,
    shape: &[usize],
    datatype: Datatype,
    values: &[f32],
    binary: Option<&mut Vec<u8>>,
) -> TensorHead {
    let (parameters, data) = match binary {
        None => {
            let data = Flat {
                values: values.to_vec(),
                whole: datatype == Datatype::I32,
            };
            (None, Some(data))
        }
        Some(out) => {
            let before = out.len();
            match datatype {
                Datatype::I32 => out.extend(values.iter().flat_map(|v| (*v as i32).to_le_bytes())),
                _ => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
            }
            let parameters = Parameters {
                binary_data_size: Some((out.len() - before) as u64),
                ..Parameters::default()
            };
            (Some(parameters), None)
        }
    };
    TensorHead {
        name: name.to_string(),
        shape: shape.iter().map(|&d| d as u64).collect(),
        datatype,
        parameters,
        data,
    }
}

#[cfg(test)]
mod tests;
