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

/// Codes of element types that the protocol's older definition doesn't name.
pub(super) const UINT4: i32 = 21;
pub(super) const INT4: i32 = 22;

/// The element type of an ONNX type code; the wider and narrower floats become `F32`.
pub(super) fn dtype(code: i32) -> Option<DType> {
    if code == UINT4 || code == INT4 {
        return Some(if code == INT4 { DType::I8 } else { DType::U8 });
    }
    Some(match DataType::try_from(code).ok()? {
        DataType::Float | DataType::Float16 | DataType::Bfloat16 | DataType::Double => DType::F32,
        DataType::Int64 | DataType::Uint32 | DataType::Uint64 => DType::I64,
        DataType::Int32 | DataType::Int16 | DataType::Uint16 => DType::I32,
        DataType::Uint8 => DType::U8,
        DataType::Int8 => DType::I8,
        DataType::Bool => DType::Bool,
        _ => return None,
    })
}

/// ONNX's name for an element type, for messages.
pub(super) fn type_name(code: i32) -> String {
    match DataType::try_from(code) {
        _ if code == UINT4 => "UINT4".to_string(),
        _ if code == INT4 => "INT4".to_string(),
        Ok(known) => known.as_str_name().to_string(),
        Err(_) => format!("the unknown element type {code}"),
    }
}

/// Two numbers of four bits from each byte, the low half first.
fn nibbles(bytes: &[u8], count: usize, signed: bool) -> Vec<u8> {
    let halves = bytes.iter().flat_map(|&b| [b & 15, b >> 4]);
    let full = halves.map(|h| if signed && h > 7 { h | 0xf0 } else { h });
    full.take(count).collect()
}

impl Importer<'_> {
    /// A tensor stored as its elements that aren't zero.
    pub(super) fn sparse(
        &self,
        sparse: &proto::SparseTensorProto,
    ) -> Result<Constant, ImportError> {
        let name = sparse.values.as_ref().map_or("", |v| &v.name);
        let fail = |what: &str| ImportError::Tensor {
            file: self.file.to_string(),
            tensor: name.to_string(),
            what: what.to_string(),
        };
        let (values, places) = (sparse.values.clone(), sparse.indices.clone());
        let values = self.tensor(values.ok_or_else(|| fail("holds no values"))?)?;
        let places = self.tensor(places.ok_or_else(|| fail("holds no indices"))?)?;
        let Data::I64(places) = &places.data else {
            return Err(fail("its indices are no 64-bit integers"));
        };
        let shape: Option<Vec<usize>> = sparse.dims.iter().map(|&d| d.try_into().ok()).collect();
        let shape = shape.ok_or_else(|| fail("a negative extent"))?;
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let count = count.ok_or_else(|| fail("is too large"))?;
        self.may_fill(count).ok_or_else(|| fail("is too large"))?;
        let n = values.len();
        let depth = match places.len() {
            len if len == n => 1,
            len if len == n * shape.len() => shape.len(),
            _ => return Err(fail("has not as many indices as values")),
        };
        let flat = |index: &[i64]| -> Option<usize> {
            let extents = if depth == 1 { &[count][..] } else { &shape };
            index.iter().zip(extents).try_fold(0, |flat, (&i, &d)| {
                let i = usize::try_from(i).ok().filter(|&i| i < d)?;
                Some(flat * d + i)
            })
        };
        let flat: Option<Vec<usize>> = places.chunks(depth).map(flat).collect();
        let flat = flat.ok_or_else(|| fail("an index is out of range"))?;
        fn dense<T: Copy + Default>(values: &[T], at: &[usize], count: usize) -> Arc<Vec<T>> {
            let mut all = vec![T::default(); count];
            at.iter().zip(values).for_each(|(&i, &v)| all[i] = v);
            Arc::new(all)
        }
        let data = match &values.data {
            Data::F32(v) => Data::F32(dense(v, &flat, count)),
            Data::I64(v) => Data::I64(dense(v, &flat, count)),
            Data::I32(v) => Data::I32(dense(v, &flat, count)),
            Data::U8(v) => Data::U8(dense(v, &flat, count)),
            Data::I8(v) => Data::I8(dense(v, &flat, count)),
            Data::Bool(v) => Data::Bool(dense(v, &flat, count)),
        };
        Ok(Constant { shape, data })
    }

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

    /// Reads the bytes as little-endian F32.
    fn floats(self) -> Vec<f32> {
        match self {
            Raw::Words(words) if cfg!(target_endian = "little") => words,
            other => le(other.bytes(), f32::from_le_bytes),
        }
    }
}

/// Where a tensor was found.
pub(super) struct Stored<'a> {
    /// Name of the ONNX file, for messages.
    pub file: &'a str,
    /// Folder of its external data.
    pub folder: Option<&'a Path>,
}

impl Stored<'_> {
    /// Takes the tensor's bytes with it, so that they are freed as soon as they are converted.
    /// `raw` is its raw data where that was read apart.
    pub(super) fn constant(
        &self,
        mut tensor: proto::TensorProto,
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
        let external = tensor.data_location == DataLocation::External as i32;
        let raw = if external {
            self.external(&tensor).map_err(fail)?
        } else {
            raw.unwrap_or_else(|| Raw::Bytes(std::mem::take(&mut tensor.raw_data)))
        };
        let data = match tensor.data_type {
            UINT4 | INT4 => {
                return packed(
                    tensor.int32_data,
                    &raw,
                    shape,
                    count,
                    tensor.data_type == INT4,
                )
                .map_err(fail);
            }
            _ => unpacked(tensor, raw).map_err(fail)?,
        };
        let found = data.len();
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
            .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        let outside = || format!("its data lies outside the model's folder (`{location}`)");
        if !inside {
            return Err(outside());
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
        let needed = stored_bytes(tensor);
        let fail = |e: std::io::Error| format!("its data file `{location}`: {e}");
        // A link may lead anywhere; where it ends is what counts.
        let here = match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        };
        let path = here.join(location).canonicalize().map_err(fail)?;
        if !path.starts_with(here.canonicalize().map_err(fail)?) {
            return Err(outside());
        }
        // Opening a pipe would wait for its other end.
        if !path.metadata().map_err(fail)?.is_file() {
            return Err(format!(
                "its data file `{location}` is no file but a pipe or a device"
            ));
        }
        let read = || -> std::io::Result<Raw> {
            let mut file = std::fs::File::open(&path)?;
            // Bounded by the file's own size and by what the tensor needs, whatever the header says;
            // too few bytes show as a wrong count of elements.
            let there = file.metadata()?.len().saturating_sub(offset);
            let length = length.or(needed).map_or(there, |n| n.min(there));
            file.seek(SeekFrom::Start(offset))?;
            let length = usize::try_from(length).map_err(std::io::Error::other)?;
            Raw::read(&mut file, length)
        };
        read().map_err(fail)
    }
}

/// Values of 4 bits, two in a byte.
fn packed(
    typed: Vec<i32>,
    raw: &Raw,
    shape: Vec<usize>,
    count: usize,
    signed: bool,
) -> Result<Constant, String> {
    let typed = typed.into_iter().map(|x| x as u8).collect();
    let bytes = either(raw.bytes().to_vec(), typed);
    let (two, found) = (count.div_ceil(2), bytes.len());
    if found != two {
        return Err(format!("{shape:?} needs {two} bytes, has {found}"));
    }
    let halves = nibbles(&bytes, count, signed);
    let data = if signed {
        Data::I8(Arc::new(halves.into_iter().map(|x| x as i8).collect()))
    } else {
        Data::U8(Arc::new(halves))
    };
    Ok(Constant { shape, data })
}

/// Values of a byte and more, from the raw bytes or, where there are none, from the field of their type.
fn unpacked(tensor: proto::TensorProto, raw: Raw) -> Result<Data, String> {
    let typed_ints = tensor.int32_data;
    let code = DataType::try_from(tensor.data_type)
        .map_err(|_| format!("unknown element type {}", tensor.data_type))?;
    Ok(match code {
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
        DataType::Uint16 => Data::I32(Arc::new(either(
            le(raw.bytes(), |b| i32::from(u16::from_le_bytes(b))),
            typed_ints,
        ))),
        DataType::Uint32 => Data::I64(Arc::new(either(
            le(raw.bytes(), |b| i64::from(u32::from_le_bytes(b))),
            tensor.uint64_data.iter().map(|&x| x as i64).collect(),
        ))),
        // Beyond 2^63 there are no extents, and nothing to count.
        DataType::Uint64 => Data::I64(Arc::new(either(
            le(raw.bytes(), |b| {
                u64::from_le_bytes(b).min(i64::MAX as u64) as i64
            }),
            tensor
                .uint64_data
                .iter()
                .map(|&x| x.min(i64::MAX as u64) as i64)
                .collect(),
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
        other => {
            let name = other.as_str_name();
            return Err(format!("the element type {name} is not supported"));
        }
    })
}

/// Bytes that a tensor's extents and element type ask for, where both are known.
fn stored_bytes(tensor: &proto::TensorProto) -> Option<u64> {
    let extents = tensor.dims.iter().map(|&d| u64::try_from(d).ok());
    let count = extents
        .into_iter()
        .try_fold(1u64, |n, d| n.checked_mul(d?))?;
    if tensor.data_type == UINT4 || tensor.data_type == INT4 {
        return Some(count.div_ceil(2));
    }
    let bits = match DataType::try_from(tensor.data_type).ok()? {
        DataType::Uint8 | DataType::Int8 | DataType::Bool => 8,
        DataType::Uint16 | DataType::Int16 | DataType::Float16 | DataType::Bfloat16 => 16,
        DataType::Float | DataType::Int32 | DataType::Uint32 => 32,
        DataType::Double | DataType::Int64 | DataType::Uint64 => 64,
        _ => return None,
    };
    Some(count.checked_mul(bits)?.div_ceil(8))
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
