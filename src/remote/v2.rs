/*!
The Open Inference Protocol (V2) as bytes: requests and answers as JSON, with or without the binary
extension, in which raw little-endian tensors follow the JSON in its order. `agent` serves it and, as
an edge, speaks it to other servers; both sides read and write here.

What real servers and clients do differently from the text of the protocol: `data` may be nested or
flat, a missing Content-Type means JSON, and a header that gives the length of the JSON means binary
whatever Content-Type says.
*/

use half::f16;
use serde::de::{DeserializeOwned, Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Header with the bytes of the JSON in front of the tensors.
pub const HEADER_LENGTH: &str = "inference-header-content-length";
/// Content type of such a body.
pub const BINARY: &str = "application/octet-stream";
/// What an agent calls itself, as a model's platform.
pub const PLATFORM: &str = "edgelesspart";
/// Outputs of a part on an agent, besides the scores: the exit at which each sample left, counted from
/// the part's start, and its confidence (maximum probability).
pub const EXIT: &str = "exit";
/// See [`EXIT`].
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
    /// Any other.
    #[serde(other)]
    Other,
}

impl Datatype {
    /// Bytes of an element.
    fn width(self) -> Result<usize, V2Error> {
        match self {
            Datatype::F16 => Ok(2),
            Datatype::F32 | Datatype::I32 => Ok(4),
            Datatype::F64 => Ok(8),
            Datatype::Other => bad("its datatype is none of FP32, FP16, FP64 and INT32"),
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

/// Its answer.
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

/// Numbers from an array, however deeply nested; JSON's own limit of depth bounds that.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Flat {
    /// The numbers.
    pub values: Vec<f32>,
    /// Whether they are written as whole ones.
    pub whole: bool,
}

impl Serialize for Flat {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.whole {
            true => serializer.collect_seq(self.values.iter().map(|v| *v as i64)),
            false => self.values.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Flat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Flat, D::Error> {
        let mut flat = Vec::new();
        deserializer.deserialize_seq(Rows(&mut flat))?;
        Ok(Flat {
            values: flat,
            whole: false,
        })
    }
}

/// Appends what it visits.
struct Rows<'a>(&'a mut Vec<f32>);

impl<'de> serde::de::DeserializeSeed<'de> for Rows<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("numbers, or arrays of them")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        while rows.next_element_seed(Rows(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.0.push(value as f32);
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.visit_f64(value as f64)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.visit_f64(value as f64)
    }
}

/// A tensor, read.
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
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    fn read(text: &str) -> Result<Vec<Tensor>, V2Error> {
        let (request, rest): (InferRequest, _) = json(text.as_bytes(), None)?;
        tensors(request.inputs, rest, 1000)
    }

    fn input(rest: &str) -> String {
        format!(r#"{{"inputs": [{{"name": "x", "datatype": "FP32", {rest}}}]}}"#)
    }

    #[test]
    fn nested_and_flat_data_are_the_same() {
        let nested = read(&input(r#""shape": [2, 2], "data": [[1, 2.5], [-3, 4e0]]"#)).unwrap();
        let flat = read(&input(r#""shape": [2, 2], "data": [1, 2.5, -3, 4]"#)).unwrap();
        assert_eq!(nested, flat);
        assert_eq!(flat[0].values, [1.0, 2.5, -3.0, 4.0]);
    }

    #[test]
    fn binary_comes_back() {
        let mut bytes = Vec::new();
        let values = [1.0, -2.5, f32::MAX];
        let heads = vec![
            head("a", &[3], Datatype::F32, &values, Some(&mut bytes)),
            head("b", &[1], Datatype::F32, &[7.0], None),
            head("c", &[2], Datatype::I32, &[4.0, -5.0], Some(&mut bytes)),
        ];
        let back = tensors(heads.clone(), &bytes, 10).unwrap();
        let all: Vec<&[f32]> = back.iter().map(|t| t.values.as_slice()).collect();
        assert_eq!(all, [&values[..], &[7.0], &[4.0, -5.0]]);
        assert!(tensors(heads.clone(), &bytes[..bytes.len() - 1], 10).is_err());
        bytes.push(0);
        let error = tensors(heads, &bytes, 10).unwrap_err().to_string();
        assert!(error.contains("behind the last"), "{error}");
    }

    #[rstest]
    #[case(r#""shape": [2], "data": [1]"#, "1 numbers")]
    #[case(r#""shape": [1099511627776, 4], "data": [1]"#, "more than the 1000")]
    #[case(r#""shape": [4294967296, 4294967296, 2], "data": [1]"#, "more than")]
    #[case(r#""shape": [-1], "data": [1]"#, "JSON")]
    #[case(r#""shape": [1], "data": ["a"]"#, "numbers")]
    #[case(r#""shape": [1], "data": [null]"#, "numbers")]
    #[case(r#""shape": [1]"#, "neither")]
    #[case(
        r#""shape": [1], "parameters": {"binary_data_size": 4}"#,
        "0 bytes of its 4"
    )]
    #[case(r#""shape": [1], "parameters": {"binary_data_size": 5}"#, "needs 4")]
    #[case(
        r#""shape": [1], "parameters": {"shared_memory_region": "a"}"#,
        "shared memory"
    )]
    #[case(
        r#""shape": [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1], "data": [1]"#,
        "too many"
    )]
    fn what_is_wrong_is_told(#[case] text: &str, #[case] words: &str) {
        let error = read(&input(text)).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn deep_json_is_refused() {
        let deep = format!(
            r#""shape": [1], "data": {}1{}"#,
            "[".repeat(50_000),
            "]".repeat(50_000)
        );
        assert!(read(&input(&deep)).is_err());
        let deep = format!(r#""shape": [1], "data": [1], "y": {}"#, "[".repeat(50_000));
        assert!(read(&input(&deep)).is_err());
    }

    #[rstest]
    #[case("-1")]
    #[case("99999999999")]
    #[case("99999999999999999999999999")]
    #[case("x")]
    #[case("")]
    fn a_length_outside_the_body_is_refused(#[case] length: &str) {
        let read: Result<(InferRequest, _), _> = json(b"{\"inputs\": []}", Some(length));
        assert!(read.unwrap_err().to_string().contains("no length within"));
    }
}
