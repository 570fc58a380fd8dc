/*!
A tensor on the wire: little-endian, versioned, every length checked before anything is allocated.

`magic "ELPT" · version u8 · element u8 · compression u8 · rank u8 · extents u32… · body length u32 ·
body`. The body of U8 starts with a scale and a zero point (F32 each) for every sample, then the
elements; LZ4 covers the whole body.
*/

use crate::plan::{Compression, Element, Wire};
use half::f16;

const MAGIC: &[u8; 4] = b"ELPT";
const VERSION: u8 = 1;
const HEADER: usize = 8;
const MAX_RANK: usize = 8;

/// Why bytes are not a tensor, or a tensor can't become bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tensor on the wire: {0}")]
pub struct WireError(String);

fn bad<T>(what: impl Into<String>) -> Result<T, WireError> {
    Err(WireError(what.into()))
}

/// Encodes a row-major tensor `[samples, …]`.
pub fn encode(wire: Wire, shape: &[usize], data: &[f32]) -> Result<Vec<u8>, WireError> {
    let (samples, each) = extents(shape)?;
    if samples * each != data.len() {
        return bad(format!(
            "shape {shape:?} doesn't hold {} elements",
            data.len()
        ));
    }
    let mut body = Vec::with_capacity(data.len() * 4);
    let (element, compression) = (wire.tensor as u8, wire.compression as u8);
    match wire.tensor {
        Element::F32 => {
            // In this form it is a copy; byte by byte it took longer than small networks' layers.
            body.resize(data.len() * 4, 0);
            for (to, v) in body.chunks_exact_mut(4).zip(data) {
                to.copy_from_slice(&v.to_le_bytes());
            }
        }
        Element::F16 => body.extend(data.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes())),
        Element::U8 => {
            let scales: Vec<(f32, f32)> = data.chunks(each.max(1)).map(affine).collect();
            for (scale, low) in &scales {
                body.extend(scale.to_le_bytes());
                body.extend(low.to_le_bytes());
            }
            for (sample, (scale, low)) in data.chunks(each.max(1)).zip(scales) {
                // `as` saturates, so that a NaN becomes 0 rather than anything undefined.
                body.extend(sample.iter().map(|v| ((v - low) / scale).round() as u8));
            }
        }
    }
    if wire.compression == Compression::Lz4 {
        body = lz4_flex::block::compress(&body);
    }
    let mut out = MAGIC.to_vec();
    out.extend([VERSION, element, compression, shape.len() as u8]);
    for &extent in shape.iter().chain([&body.len()]) {
        let Ok(extent) = u32::try_from(extent) else {
            return bad("a length doesn't fit 32 bits");
        };
        out.extend(extent.to_le_bytes());
    }
    out.extend(body);
    Ok(out)
}

/// Decodes what [`encode`] made. `max_elements` bounds what is allocated.
pub fn decode(bytes: &[u8], max_elements: usize) -> Result<(Vec<usize>, Vec<f32>), WireError> {
    let Some((head, mut rest)) = bytes.split_at_checked(HEADER) else {
        return bad("shorter than its header");
    };
    if &head[..4] != MAGIC || head[4] != VERSION {
        return bad("not a tensor of version 1");
    }
    let width = match head[5] {
        0 => 4,
        1 => 2,
        2 => 1,
        other => return bad(format!("unknown element type {other}")),
    };
    let rank = head[7] as usize;
    let mut lengths = Vec::new();
    for _ in 0..=rank {
        let Some((four, after)) = rest.split_first_chunk::<4>() else {
            return bad("ends inside its shape");
        };
        lengths.push(u32::from_le_bytes(*four) as usize);
        rest = after;
    }
    if lengths.pop() != Some(rest.len()) {
        return bad("its length is not the one announced");
    }
    let (samples, each) = extents(&lengths)?;
    let count = samples * each;
    if count > max_elements {
        return bad(format!(
            "{count} elements, at most {max_elements} are taken"
        ));
    }
    let scales = if width == 1 && count > 0 { samples } else { 0 };
    let size = count * width + scales * 8;
    let unpacked;
    let body = match head[6] {
        0 => rest,
        1 => {
            unpacked = lz4_flex::block::decompress(rest, size)
                .map_err(|e| WireError(format!("LZ4: {e}")))?;
            &unpacked
        }
        other => return bad(format!("unknown compression {other}")),
    };
    if body.len() != size {
        return bad(format!("{} bytes of elements, expected {size}", body.len()));
    }
    let data = match width {
        4 => floats(body).collect(),
        2 => body
            .chunks_exact(2)
            .map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())
            .collect(),
        _ => {
            let (affine, elements) = body.split_at(scales * 8);
            let affine: Vec<f32> = floats(affine).collect();
            let samples = elements.chunks(each.max(1)).zip(affine.chunks_exact(2));
            samples
                .flat_map(|(s, a)| s.iter().map(|&q| f32::from(q) * a[0] + a[1]))
                .collect()
        }
    };
    Ok((lengths, data))
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

/// Samples and elements of each; their product and its bytes are known not to overflow.
fn extents(shape: &[usize]) -> Result<(usize, usize), WireError> {
    let total = shape.iter().try_fold(16usize, |n, &d| n.checked_mul(d));
    match (shape.split_first(), total) {
        (Some((&n, rest)), Some(_)) if shape.len() <= MAX_RANK => {
            let each = rest.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
            each.map_or_else(|| bad("shape overflows"), |each| Ok((n, each)))
        }
        _ => bad(format!("shape {shape:?} is empty, too deep or too large")),
    }
}

/// Scale and lowest value of a sample; a constant sample gets scale 1.
fn affine(sample: &[f32]) -> (f32, f32) {
    let low = sample.iter().copied().fold(f32::INFINITY, f32::min);
    let high = sample.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let scale = (high - low) / 255.0;
    (if scale > 0.0 { scale } else { 1.0 }, low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn comes_back_within_the_type_s_step(
            data in prop::collection::vec(-100f32..100.0, 12), lz4: bool
        ) {
            let compression = if lz4 { Compression::Lz4 } else { Compression::None };
            for (tensor, step) in [(Element::F32, 0.0), (Element::F16, 0.05), (Element::U8, 0.4)] {
                let bytes = encode(Wire { tensor, compression }, &[2, 3, 2], &data).unwrap();
                let (shape, back) = decode(&bytes, 12).unwrap();
                prop_assert_eq!(shape, vec![2, 3, 2]);
                for (a, b) in data.iter().zip(&back) {
                    prop_assert!((a - b).abs() <= step);
                }
                prop_assert!(decode(&bytes[..bytes.len() - 1], 12).is_err());
                prop_assert!(decode(&bytes, 11).is_err());
            }
        }

        #[test]
        fn garbage_is_an_error(tail in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut bytes = b"ELPT\x01".to_vec();
            bytes.extend(tail);
            let _ = decode(&bytes, 1000);
        }
    }
}
