/*! Tensors stored in a file, or beside it, to constants. */

use super::{ImportError, Importer};
use crate::model::constant::{Constant, DType, Data};
use crate::model::infer::MAX_ELEMENTS;
use candle_onnx::onnx as proto;
use half::{bf16, f16};
use proto::tensor_proto::{DataLocation, DataType};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};
use std::sync::Arc;

/// The element type of an ONNX type code; the wider and narrower floats become `F32`.
pub(super) fn dtype(code: i32) -> Option<DType> {
    Some(match DataType::try_from(code).ok()? {
        DataType::Float | DataType::Float16 | DataType::Bfloat16 | DataType::Double => DType::F32,
        DataType::Int64 => DType::I64,
        DataType::Int32 | DataType::Int16 => DType::I32,
        DataType::Uint8 => DType::U8,
        DataType::Int8 => DType::I8,
        DataType::Bool => DType::Bool,
        _ => return None,
    })
}

impl Importer<'_> {
    pub(super) fn tensor(&self, tensor: proto::TensorProto) -> Result<Constant, ImportError> {
        Stored {
            file: self.file,
            folder: self.folder,
        }
        .constant(tensor, None)
    }
}

/// The bytes of a tensor. Kept as words where they can be, so that floats, nearly all of a network,
/// are never copied again.
pub(super) enum Raw {
    Words(Vec<f32>),
    Bytes(Vec<u8>),
}

impl Raw {
    /// Reads `length` bytes; the caller has checked that there may be as many.
    pub(super) fn read(source: &mut dyn Read, length: usize) -> std::io::Result<Raw> {
        if length.is_multiple_of(4) {
            let mut words = vec![0.0_f32; length / 4];
            source.read_exact(bytemuck::cast_slice_mut(&mut words))?;
            return Ok(Raw::Words(words));
        }
        let mut bytes = vec![0; length];
        source.read_exact(&mut bytes)?;
        Ok(Raw::Bytes(bytes))
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Raw::Words(words) => bytemuck::cast_slice(words),
            Raw::Bytes(bytes) => bytes,
        }
    }

    /// Little-endian floats.
    fn floats(self) -> Vec<f32> {
        match self {
            Raw::Words(words) if cfg!(target_endian = "little") => words,
            other => le(other.bytes(), f32::from_le_bytes),
        }
    }
}

/// Where a tensor was found.
pub(super) struct Stored<'a> {
    /// Name for messages.
    pub file: &'a str,
    /// Folder of its external data.
    pub folder: Option<&'a Path>,
}

impl Stored<'_> {
    /// Takes the tensor's bytes with it, so that they are freed as soon as they are converted.
    /// `raw` is its raw data where that was read apart.
    pub(super) fn constant(
        &self,
        tensor: proto::TensorProto,
        raw: Option<Raw>,
    ) -> Result<Constant, ImportError> {
        let name = tensor.name.clone();
        let fail = |what: String| ImportError::Tensor {
            file: self.file.to_string(),
            tensor: name.clone(),
            what,
        };
        let shape: Option<Vec<usize>> = tensor
            .dims
            .iter()
            .map(|&d| usize::try_from(d).ok())
            .collect();
        let shape = shape.ok_or_else(|| fail(format!("negative extent in {:?}", tensor.dims)))?;
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let count = count
            .filter(|&n| n <= MAX_ELEMENTS)
            .ok_or_else(|| fail(format!("{shape:?} is more than {MAX_ELEMENTS} elements")))?;
        let code = DataType::try_from(tensor.data_type)
            .map_err(|_| fail(format!("unknown element type {}", tensor.data_type)))?;
        let external = tensor.data_location == DataLocation::External as i32;
        let raw = match external {
            true => self.external(&tensor).map_err(fail)?,
            false => raw.unwrap_or(Raw::Bytes(tensor.raw_data)),
        };
        let typed_ints = tensor.int32_data;
        let data = match code {
            DataType::Float => f32s(raw.floats(), tensor.float_data),
            DataType::Double => f32s(
                le(raw.bytes(), f64::from_le_bytes)
                    .into_iter()
                    .map(|x| x as f32)
                    .collect(),
                tensor.double_data.into_iter().map(|x| x as f32).collect(),
            ),
            DataType::Float16 => f32s(
                le(raw.bytes(), |b| f16::from_le_bytes(b).to_f32()),
                typed_ints
                    .into_iter()
                    .map(|b| f16::from_bits(b as u16).to_f32())
                    .collect(),
            ),
            DataType::Bfloat16 => f32s(
                le(raw.bytes(), |b| bf16::from_le_bytes(b).to_f32()),
                typed_ints
                    .into_iter()
                    .map(|b| bf16::from_bits(b as u16).to_f32())
                    .collect(),
            ),
            DataType::Int64 => Data::I64(Arc::new(either(
                le(raw.bytes(), i64::from_le_bytes),
                tensor.int64_data,
            ))),
            DataType::Int32 => Data::I32(Arc::new(either(
                le(raw.bytes(), i32::from_le_bytes),
                typed_ints,
            ))),
            DataType::Int16 => Data::I32(Arc::new(either(
                le(raw.bytes(), |b| i32::from(i16::from_le_bytes(b))),
                typed_ints,
            ))),
            DataType::Uint8 => Data::U8(Arc::new(either(
                raw.bytes().to_vec(),
                typed_ints.into_iter().map(|x| x as u8).collect(),
            ))),
            DataType::Int8 => Data::I8(Arc::new(either(
                raw.bytes().iter().map(|&x| x as i8).collect(),
                typed_ints.into_iter().map(|x| x as i8).collect(),
            ))),
            DataType::Bool => Data::Bool(Arc::new(either(
                raw.bytes().iter().map(|&x| u8::from(x != 0)).collect(),
                typed_ints.into_iter().map(|x| u8::from(x != 0)).collect(),
            ))),
            other => return Err(fail(format!("the element type {other:?} is not supported"))),
        };
        let found = match &data {
            Data::F32(v) => v.len(),
            Data::I64(v) => v.len(),
            Data::I32(v) => v.len(),
            Data::U8(v) | Data::Bool(v) => v.len(),
            Data::I8(v) => v.len(),
        };
        if found != count {
            let short = "the file is damaged, or its external data is missing";
            return Err(fail(format!(
                "{shape:?} needs {count} elements, has {found}: {short}"
            )));
        }
        Ok(Constant { shape, data })
    }

    /// Bytes of a tensor kept in a file of its own, beside the model.
    fn external(&self, tensor: &proto::TensorProto) -> Result<Raw, String> {
        let entry = |key: &str| {
            let found = tensor.external_data.iter().find(|e| e.key == key);
            found.map(|e| e.value.as_str())
        };
        let location = entry("location").ok_or("external data without a location")?;
        let inside = Path::new(location)
            .components()
            .all(|c| matches!(c, Component::Normal(_)));
        if !inside {
            return Err(format!(
                "its data lies outside the model's folder (`{location}`)"
            ));
        }
        let folder = self
            .folder
            .ok_or("its data lies in another file, out of reach here")?;
        let number = |key: &str| match entry(key) {
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| format!("bad external {key} `{text}`")),
            None => Ok(None),
        };
        let offset: u64 = number("offset")?.unwrap_or(0);
        let length: Option<u64> = number("length")?;
        let read = || -> std::io::Result<Raw> {
            let mut file = std::fs::File::open(folder.join(location))?;
            // Bounded by the file's own size, whatever the header says; too few bytes show as a
            // wrong count of elements.
            let there = file.metadata()?.len().saturating_sub(offset);
            let length = length.map_or(there, |n| n.min(there));
            file.seek(SeekFrom::Start(offset))?;
            let length = usize::try_from(length).map_err(std::io::Error::other)?;
            Raw::read(&mut file, length)
        };
        read().map_err(|e| format!("its data file `{location}`: {e}"))
    }
}

fn f32s(raw: Vec<f32>, typed: Vec<f32>) -> Data {
    Data::F32(Arc::new(either(raw, typed)))
}

fn either<T>(raw: Vec<T>, typed: Vec<T>) -> Vec<T> {
    if raw.is_empty() { typed } else { raw }
}

/// Little-endian elements; a tail too short for one shows as a wrong count.
fn le<const B: usize, T>(raw: &[u8], convert: impl Fn([u8; B]) -> T) -> Vec<T> {
    raw.as_chunks::<B>().0.iter().map(|&b| convert(b)).collect()
}
