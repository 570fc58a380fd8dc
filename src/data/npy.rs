/*!
Arrays in NumPy's format (.npy): the header is a Python literal of type, order and shape, then come
the elements. Read with what the header asks for checked against what the file holds, so that no
header of 128 bytes makes the process ask for petabytes.
*/

use super::DataError;
use super::error::FETCH_AGAIN;
use crate::model::{Constant, DType, Data, Signature};
use half::f16;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;

const MAGIC: &[u8] = b"\x93NUMPY";
/// NumPy refuses headers above 10,000 bytes itself.
const LONGEST_HEADER: usize = 1 << 16;
/// Elements written at a time.
const BLOCK: usize = 1 << 14;

/// The element types that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    F32,
    F64,
}

impl Kind {
    /// From NumPy's code without the byte order, as `f4`.
    fn of(code: &str) -> Option<Kind> {
        Some(match code {
            "b1" | "?" => Kind::Bool,
            "u1" | "B" => Kind::U8,
            "i1" | "b" => Kind::I8,
            "u2" => Kind::U16,
            "i2" => Kind::I16,
            "u4" => Kind::U32,
            "i4" => Kind::I32,
            "u8" => Kind::U64,
            "i8" => Kind::I64,
            "f2" => Kind::F16,
            "f4" => Kind::F32,
            "f8" => Kind::F64,
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        match self {
            Kind::Bool | Kind::U8 | Kind::I8 => 1,
            Kind::U16 | Kind::I16 | Kind::F16 => 2,
            Kind::U32 | Kind::I32 | Kind::F32 => 4,
            Kind::U64 | Kind::I64 | Kind::F64 => 8,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Bool => "bool",
            Kind::U8 => "uint8",
            Kind::I8 => "int8",
            Kind::U16 => "uint16",
            Kind::I16 => "int16",
            Kind::U32 => "uint32",
            Kind::I32 => "int32",
            Kind::U64 => "uint64",
            Kind::I64 => "int64",
            Kind::F16 => "float16",
            Kind::F32 => "float32",
            Kind::F64 => "float64",
        }
    }
}

/// An array as a file holds it, in row-major order.
#[derive(Debug, Clone)]
pub struct Array {
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    kind: Kind,
    /// Bytes of the elements, little-endian, in row-major order.
    bytes: Vec<u8>,
}

/// Reads a .npy file.
///
/// # Errors
/// Names the file and what is wrong with it, a header that asks for more than the file holds among it.
pub fn read(path: &Path) -> Result<Array, DataError> {
    let io = |error| DataError::io(path, error, "name a .npy file");
    let mut file = File::open(path).map_err(io)?;
    let about = file.metadata().map_err(io)?;
    // A pipe doesn't say how much is to come.
    let available = if about.is_file() {
        about.len()
    } else {
        u64::MAX
    };
    read_from(&mut file, available, path, "")
}

/// Reads an array of at most `available` bytes; `entry` is its name in an archive, or empty.
pub(super) fn read_from(
    reader: &mut dyn Read,
    available: u64,
    path: &Path,
    entry: &str,
) -> Result<Array, DataError> {
    let bad = |problem: String| {
        let inside = if entry.is_empty() {
            String::new()
        } else {
            format!("{entry}: ")
        };
        DataError::file(
            path,
            format!("{inside}{problem}"),
            "save it again with numpy.save",
        )
    };
    let io = |error| DataError::io(path, error, FETCH_AGAIN);
    let mut take = |count: usize| -> Result<Vec<u8>, DataError> {
        let mut out = Vec::new();
        // Grows with what arrives; only what the file surely holds is set aside at once.
        out.try_reserve(count.min(available.min(1 << 30) as usize))
            .map_err(|error| bad(format!("{count} bytes of elements: {error}")))?;
        reader
            .take(count as u64)
            .read_to_end(&mut out)
            .map_err(io)?;
        Ok(out)
    };
    let header = header(&mut take, &bad)?;
    let size = header
        .shape
        .iter()
        .try_fold(header.kind.bytes() as u64, |size, &extent| {
            size.checked_mul(extent as u64)
        })
        .filter(|&size| size <= available && usize::try_from(size).is_ok());
    let Some(size) = size else {
        return Err(bad(format!(
            "its header asks for {:?} elements of {}, more than its {available} bytes hold",
            header.shape,
            header.kind.name()
        )));
    };
    let mut bytes = take(size as usize)?;
    if (bytes.len() as u64) < size {
        return Err(bad(format!(
            "cut off: {} of {size} bytes of elements",
            bytes.len()
        )));
    }
    let each = header.kind.bytes();
    if header.big_endian {
        bytes.chunks_exact_mut(each).for_each(<[u8]>::reverse);
    }
    if header.fortran {
        bytes = row_major(&bytes, &header.shape, each);
    }
    Ok(Array {
        shape: header.shape,
        kind: header.kind,
        bytes,
    })
}

/// Reads what stands before the elements: the magic, the version, and the header's text.
fn header(
    take: &mut dyn FnMut(usize) -> Result<Vec<u8>, DataError>,
    bad: &dyn Fn(String) -> DataError,
) -> Result<Header, DataError> {
    let start = take(MAGIC.len() + 2)?;
    if !start.starts_with(MAGIC) {
        let what = Signature::of(&start).map_or("not a NumPy array".into(), |s| s.to_string());
        return Err(bad(format!("{what}; it doesn't begin with \\x93NUMPY")));
    }
    let wide = match start.get(MAGIC.len()) {
        Some(1) => 2,
        Some(2 | 3) => 4,
        version => {
            let version = version.map_or("none".into(), u8::to_string);
            return Err(bad(format!(
                "version {version} of the format; 1 to 3 are known"
            )));
        }
    };
    let length = take(wide)?;
    if length.len() < wide {
        return Err(bad("cut off in the header".into()));
    }
    let length = length
        .iter()
        .rev()
        .fold(0, |sum, &b| sum << 8 | usize::from(b));
    if length > LONGEST_HEADER {
        return Err(bad(format!(
            "a header of {length} bytes; {LONGEST_HEADER} at most"
        )));
    }
    let header = take(length)?;
    if header.len() < length {
        return Err(bad("cut off in the header".into()));
    }
    Header::parse(&String::from_utf8_lossy(&header)).map_err(bad)
}

/// The elements, of `each` bytes, of an array whose first index runs fastest, with the last one
/// running fastest.
fn row_major(bytes: &[u8], shape: &[usize], each: usize) -> Vec<u8> {
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride = each;
    for &extent in shape {
        strides.push(stride);
        stride *= extent;
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = vec![0; shape.len()];
    for _ in 0..bytes.len() / each {
        let at: usize = index.iter().zip(&strides).map(|(i, s)| i * s).sum();
        out.extend_from_slice(&bytes[at..at + each]);
        for (i, &extent) in index.iter_mut().zip(shape).rev() {
            *i += 1;
            if *i < extent {
                break;
            }
            *i = 0;
        }
    }
    out
}

#[derive(Debug, PartialEq)]
struct Header {
    kind: Kind,
    big_endian: bool,
    fortran: bool,
    shape: Vec<usize>,
}

impl Header {
    /// Of `{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }`, keys in any order.
    fn parse(text: &str) -> Result<Header, String> {
        let value = |key: &str| {
            let (_, rest) = text
                .split_once(&format!("'{key}'"))
                .or_else(|| text.split_once(&format!("\"{key}\"")))?;
            Some(rest.trim_start().strip_prefix(':')?.trim_start())
        };
        let lacks = |key: &str| format!("its header has no `{key}`: {}", text.trim());
        let descr = value("descr").ok_or_else(|| lacks("descr"))?;
        if descr.starts_with('[') {
            return Err("records of several fields; save each field as an array of its own".into());
        }
        let code: String = descr
            .trim_start_matches(['\'', '"'])
            .chars()
            .take_while(|c| !matches!(c, '\'' | '"' | ',' | '}'))
            .collect();
        let kind = Kind::of(code.trim_start_matches(['<', '>', '=', '|'])).ok_or_else(|| {
            if code.contains('O') {
                "Python objects in place of numbers".to_string()
            } else {
                format!("elements of type `{code}`; bool, integers and floats of 16 to 64 bits can be read")
            }
        })?;
        let order = value("fortran_order").ok_or_else(|| lacks("fortran_order"))?;
        let shape = value("shape").ok_or_else(|| lacks("shape"))?;
        let shape = shape
            .strip_prefix('(')
            .and_then(|rest| rest.split_once(')'))
            .ok_or_else(|| lacks("shape"))?
            .0
            .split(',')
            // Python 2 wrote its long integers with an L.
            .map(|extent| extent.trim().trim_end_matches('L'))
            .filter(|extent| !extent.is_empty())
            .map(|extent| {
                extent
                    .parse()
                    .map_err(|_| format!("an extent of `{extent}`"))
            })
            .collect::<Result<_, String>>()?;
        Ok(Header {
            kind,
            big_endian: code.starts_with('>'),
            fortran: order.starts_with("True"),
            shape,
        })
    }
}

/// Elements of `$bytes` as `$type`, each put through `$with`.
macro_rules! elements {
    ($bytes:expr, $type:ty) => {
        $bytes
            .as_chunks::<{ size_of::<$type>() }>()
            .0
            .iter()
            .map(|&bytes| <$type>::from_le_bytes(bytes))
    };
}

impl Array {
    /// NumPy's name of the element type.
    pub fn dtype(&self) -> &'static str {
        self.kind.name()
    }

    /// The bytes of an array of uint8.
    pub(super) fn into_u8(self) -> Result<Vec<u8>, String> {
        match self.kind {
            Kind::U8 => Ok(self.bytes),
            other => Err(format!("{} where uint8 was expected", other.name())),
        }
    }

    /// The elements of an array of integers or bool.
    pub(super) fn integers(&self) -> Result<Vec<i64>, String> {
        Ok(match self.kind {
            Kind::Bool | Kind::U8 => self.bytes.iter().map(|&b| i64::from(b)).collect(),
            Kind::I8 => elements!(self.bytes, i8).map(i64::from).collect(),
            Kind::U16 => elements!(self.bytes, u16).map(i64::from).collect(),
            Kind::I16 => elements!(self.bytes, i16).map(i64::from).collect(),
            Kind::U32 => elements!(self.bytes, u32).map(i64::from).collect(),
            Kind::I32 => elements!(self.bytes, i32).map(i64::from).collect(),
            Kind::I64 => elements!(self.bytes, i64).collect(),
            Kind::U64 => elements!(self.bytes, u64)
                .map(|v| i64::try_from(v).map_err(|_| format!("{v} is too large")))
                .collect::<Result<_, String>>()?,
            Kind::F16 | Kind::F32 | Kind::F64 => {
                return Err(format!("{} where integers were expected", self.kind.name()));
            }
        })
    }

    /// The tensor of element type `wanted` with the same values. Floats are rounded to F32; all else
    /// must be exact.
    ///
    /// # Errors
    /// Says which element can't be had in that type.
    pub fn to_constant(&self, wanted: DType) -> Result<Constant, String> {
        let data = match wanted {
            DType::F32 => Data::F32(Arc::new(self.floats()?)),
            DType::I64 => Data::I64(Arc::new(self.integers()?)),
            DType::I32 => Data::I32(Arc::new(self.narrowed("int32")?)),
            DType::U8 => Data::U8(Arc::new(self.narrowed("uint8")?)),
            DType::I8 => Data::I8(Arc::new(self.narrowed("int8")?)),
            DType::Bool => {
                let values: Vec<u8> = self.narrowed("bool")?;
                if let Some(other) = values.iter().find(|&&v| v > 1) {
                    return Err(format!("{other} is neither 0 nor 1, as bool must be"));
                }
                Data::Bool(Arc::new(values))
            }
        };
        Ok(Constant {
            shape: self.shape.clone(),
            data,
        })
    }

    fn narrowed<T: TryFrom<i64>>(&self, name: &str) -> Result<Vec<T>, String> {
        self.integers()?
            .into_iter()
            .map(|v| T::try_from(v).map_err(|_| format!("{v} is out of the range of {name}")))
            .collect()
    }

    fn floats(&self) -> Result<Vec<f32>, String> {
        match self.kind {
            Kind::F32 => Ok(elements!(self.bytes, f32).collect()),
            Kind::F16 => Ok(elements!(self.bytes, f16).map(f32::from).collect()),
            Kind::F64 => elements!(self.bytes, f64)
                .map(|v| {
                    let narrow = v as f32;
                    (narrow.is_finite() || !v.is_finite())
                        .then_some(narrow)
                        .ok_or_else(|| format!("{v:e} is out of the range of float32"))
                })
                .collect(),
            _ => self
                .integers()?
                .into_iter()
                .map(|v| {
                    let float = v as f32;
                    // Through i128: `i64::MAX as f32` is 2^63, which i64 would clip back.
                    (float as i128 == i128::from(v))
                        .then_some(float)
                        .ok_or_else(|| format!("{v} can't be had exactly in float32"))
                })
                .collect(),
        }
    }
}

/// Writes a tensor as a .npy file, in the element type it has.
///
/// # Errors
/// What the system says.
pub fn write(path: &Path, tensor: &Constant) -> std::io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    let code = match &tensor.data {
        Data::F32(_) => "<f4",
        Data::I64(_) => "<i8",
        Data::I32(_) => "<i4",
        Data::U8(_) => "|u1",
        Data::I8(_) => "|i1",
        Data::Bool(_) => "|b1",
    };
    let extents: Vec<String> = tensor.shape.iter().map(usize::to_string).collect();
    // A Python tuple of one needs its comma; other readers of the format stumble over more.
    let comma = if extents.len() == 1 { "," } else { "" };
    let shape = extents.join(", ") + comma;
    let mut header = format!("{{'descr': '{code}', 'fortran_order': False, 'shape': ({shape}), }}");
    // NumPy aligns the elements at 64 bytes; the header ends in a line break.
    let before = MAGIC.len() + 4;
    let end = (before + header.len() + 1).next_multiple_of(64);
    header.push_str(&" ".repeat(end - before - header.len() - 1));
    header.push('\n');
    let length = u16::try_from(header.len())
        .map_err(|_| std::io::Error::other("more dimensions than the format holds"))?;
    out.write_all(MAGIC)?;
    out.write_all(&[1, 0])?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    match &tensor.data {
        Data::F32(values) => put(&mut out, values, |v| v.to_le_bytes()),
        Data::I64(values) => put(&mut out, values, |v| v.to_le_bytes()),
        Data::I32(values) => put(&mut out, values, |v| v.to_le_bytes()),
        Data::I8(values) => put(&mut out, values, |v| v.to_le_bytes()),
        Data::U8(values) | Data::Bool(values) => out.write_all(values),
    }?;
    out.flush()
}

fn put<T: Copy, const N: usize>(
    out: &mut impl Write,
    values: &[T],
    bytes: impl Fn(T) -> [u8; N],
) -> std::io::Result<()> {
    for block in values.chunks(BLOCK) {
        let block: Vec<u8> = block.iter().flat_map(|&value| bytes(value)).collect();
        out.write_all(&block)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    fn parse(bytes: &[u8]) -> Result<Array, DataError> {
        read_from(&mut &bytes[..], bytes.len() as u64, Path::new("x.npy"), "")
    }

    /// Files as `numpy.lib.format.write_array` of NumPy 2.4 made them, and `a.astype("f4").ravel()`.
    #[rstest]
    #[case::fortran_f4("k05VTVBZAQB2AHsnZGVzY3InOiAnPGY0JywgJ2ZvcnRyYW5fb3JkZXInOiBUcnVlLCAnc2hhcGUnOiAoMiwgMyksIH0gICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAAAAADAPwAAAD8AAABAAACAPwAASEI=", &[2, 3], &[0.0, 0.5, 1.0, 1.5, 2.0, 50.0])]
    #[case::f2("k05VTVBZAQB2AHsnZGVzY3InOiAnPGYyJywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDIsIDMpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAA0ADgAOgA8QE4=", &[2, 3], &[0.0, 0.25, 0.5, 0.75, 1.0, 25.0])]
    #[case::f8("k05VTVBZAgB0AAAAeydkZXNjcic6ICc8ZjgnLCAnZm9ydHJhbl9vcmRlcic6IEZhbHNlLCAnc2hhcGUnOiAoMiwgMyksIH0gICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAAAAAAAAJqZmZmZmfE/mpmZmZmZAUBnZmZmZmYKQJqZmZmZmRFAAQAAAACAW0A=", &[2, 3], &[0.0, 1.1, 2.2, 3.3, 4.4, 110.0])]
    #[case::big_endian_i4("k05VTVBZAQB2AHsnZGVzY3InOiAnPmk0JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDIsIDMpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAr/////AAAAAAAAAAEAAAACAAAAAwAAAGM=", &[2, 3], &[-1.0, 0.0, 1.0, 2.0, 3.0, 99.0])]
    #[case::i1("k05VTVBZAQB2AHsnZGVzY3InOiAnfGkxJywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDIsIDMpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAr9/v8AAWE=", &[2, 3], &[-3.0, -2.0, -1.0, 0.0, 1.0, 97.0])]
    #[case::u2("k05VTVBZAQB2AHsnZGVzY3InOiAnPHUyJywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDIsIDMpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAFgCsAQIB2AJYOo=", &[2, 3], &[0.0, 600.0, 1200.0, 1800.0, 2400.0, 60000.0])]
    #[case::u8("k05VTVBZAQB2AHsnZGVzY3InOiAnPHU4JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDIsIDMpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAAAAAAAAAEAAAAAAAAAAgAAAAAAAAADAAAAAAAAAAQAAAAAAAAAZAAAAAAAAAA=", &[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 100.0])]
    #[case::bool("k05VTVBZAQB2AHsnZGVzY3InOiAnfGIxJywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDIsIDMpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAABAQE=", &[2, 3], &[0.0, 0.0, 0.0, 1.0, 1.0, 1.0])]
    #[case::fortran_3d("k05VTVBZAQB2AHsnZGVzY3InOiAnfHUxJywgJ2ZvcnRyYW5fb3JkZXInOiBUcnVlLCAnc2hhcGUnOiAoMiwgMywgNCksIH0gICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoADAQQCBQBDQURCRUCDgYSChYDDwcTCxc=", &[2, 3, 4], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 18.0, 19.0, 20.0, 21.0, 22.0, 23.0])]
    fn reads_what_numpy_wrote(#[case] file: &str, #[case] shape: &[usize], #[case] wanted: &[f32]) {
        let bytes = base64::prelude::BASE64_STANDARD.decode(file).unwrap();
        let found = parse(&bytes).unwrap().to_constant(DType::F32).unwrap();
        assert_eq!(found, Constant::f32(shape, wanted.to_vec()));
    }

    fn file(header: &str, elements: &[u8]) -> Vec<u8> {
        let length = (header.len() as u16).to_le_bytes();
        [MAGIC, &[1, 0], &length, header.as_bytes(), elements].concat()
    }

    fn of(descr: &str, elements: &[u8]) -> Array {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (1,), }}\n");
        parse(&file(&header, elements)).unwrap()
    }

    #[rstest]
    #[case::range("<i8", &300i64.to_le_bytes(), DType::U8, "300 is out of the range of uint8")]
    #[case::float("<f4", &1f32.to_le_bytes(), DType::I64, "float32 where integers were expected")]
    #[case::large("<f8", &1e300f64.to_le_bytes(), DType::F32, "out of the range of float32")]
    #[case::inexact("<i4", &16_777_217i32.to_le_bytes(), DType::F32, "16777217 can't be had exactly")]
    #[case::largest("<i8", &i64::MAX.to_le_bytes(), DType::F32, "can't be had exactly")]
    #[case::bool("|u1", &[2], DType::Bool, "2 is neither 0 nor 1")]
    #[case::unsigned("<u8", &u64::MAX.to_le_bytes(), DType::I64, "is too large")]
    fn no_value_changes_in_silence(
        #[case] descr: &str,
        #[case] element: &[u8],
        #[case] wanted: DType,
        #[case] problem: &str,
    ) {
        let text = of(descr, element).to_constant(wanted).unwrap_err();
        assert!(text.contains(problem), "{text}");
    }

    #[rstest]
    #[case::petabytes(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000,), }",
        "asks for [1000000000000000]"
    )]
    #[case::overflow(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4611686018427387904), }",
        "asks for"
    )]
    #[case::short(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }",
        "cut off: 4 of 12 bytes"
    )]
    #[case::objects(
        "{'descr': '|O', 'fortran_order': False, 'shape': (3,), }",
        "Python objects"
    )]
    #[case::complex(
        "{'descr': '<c8', 'fortran_order': False, 'shape': (3,), }",
        "type `<c8`"
    )]
    #[case::records(
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,), }",
        "records of several fields"
    )]
    #[case::no_shape("{'descr': '<f4', 'fortran_order': False}", "no `shape`")]
    #[case::negative(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
        "an extent of `-1`"
    )]
    fn a_bad_header_is_an_error(#[case] header: &str, #[case] wanted: &str) {
        let text = parse(&file(header, &[0; 4])).unwrap_err().to_string();
        assert!(text.contains("x.npy") && text.contains(wanted), "{text}");
    }

    #[test]
    fn a_file_that_is_no_array_is_named() {
        let text = |bytes: &[u8]| parse(bytes).unwrap_err().to_string();
        assert!(text(b"<!DOCTYPE html><html>").contains("not a NumPy array"));
        assert!(text(b"\x93NUMPY\x01").contains("cut off in the header"));
        assert!(text(b"\x93NUMPY\x07\0").contains("version 7"));
        assert!(text(b"\x93NUMPY\x02\0\xff\xff\xff\xff").contains("a header of 4294967295 bytes"));
        assert!(text(b"\x93NUMPY\x01\0\x76\0{'descr'").contains("cut off in the header"));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("y.npy");
        for data in [
            Data::F32(Arc::new((0..40_000).map(|i| i as f32 / 7.0).collect())),
            Data::I64(Arc::new((0..40_000).collect())),
            Data::I8(Arc::new(vec![-3; 40_000])),
            Data::Bool(Arc::new(vec![1; 40_000])),
        ] {
            let tensor = Constant {
                shape: vec![200, 1, 200],
                data,
            };
            write(&path, &tensor).unwrap();
            let found = read(&path).unwrap();
            assert_eq!(found.to_constant(tensor.dtype()).unwrap(), tensor);
            // NumPy 2.4 gives a file of this length to the same array.
            let elements = 40_000 * tensor.dtype().bytes() as u64;
            assert_eq!(path.metadata().unwrap().len(), 128 + elements);
        }
    }
}
