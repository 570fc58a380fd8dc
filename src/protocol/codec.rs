/*! What this machine takes to write and read what travels: tensors in every form, and the network's input
as a picture. */

use super::wire;
use crate::data::{Preprocessing, jpeg};
use crate::device::{CodecTime, Form, percentile};
use crate::model::LayerTable;
use crate::plan::Wire;
use std::hint::black_box;
use std::time::Instant;

/// Elements of the tensors that are timed; between them times are interpolated.
const ELEMENTS: [usize; 4] = [1 << 8, 1 << 12, 1 << 15, 1 << 18];
const RUNS: usize = 9;
/// Quality of the pictures; it moves their times by a few per cent.
const QUALITY: u8 = 90;

/// Medians of a few runs, each multiplied by `slowdown`; of pictures only where the network of these
/// layers takes one.
///
/// What a tensor holds matters to LZ4 alone; these are as behind a ReLU, half of it zeros.
pub fn times(layers: &LayerTable, slowdown: f64) -> Vec<CodecTime> {
    forms(image(&layers.input.at(1)), slowdown)
}

/// The extents `[c, h, w]` of one picture, whichever way round the network takes it; `None` of anything
/// else.
fn image(shape: &[usize]) -> Option<[usize; 3]> {
    match *shape {
        [1, c @ (1 | 3), h, w] | [1, h, w, c @ (1 | 3)] => Some([c, h, w]),
        _ => None,
    }
}

fn forms(input: Option<[usize; 3]>, slowdown: f64) -> Vec<CodecTime> {
    let mut found = Vec::new();
    for wire in Wire::ALL {
        for elements in ELEMENTS {
            let tensor: Vec<f32> = (0..elements).map(value).collect();
            let encode = || wire::encode(wire, &[1, elements], &tensor);
            // Such a tensor has a form in which it travels.
            let Ok(bytes) = encode() else { continue };
            found.push(CodecTime {
                form: wire.form(),
                elements,
                encode_ms: slowdown * median_ms(|| black_box(encode()).is_ok()),
                decode_ms: slowdown
                    * median_ms(|| black_box(wire::decode(&bytes, elements)).is_ok()),
            });
        }
    }
    found.extend(input.iter().flat_map(|shape| images(*shape, slowdown)));
    found
}

fn images(shape: [usize; 3], slowdown: f64) -> Vec<CodecTime> {
    let elements = shape.iter().product();
    let pixels: Vec<u8> = (0..elements)
        .map(|i| (128.0 + 60.0 * value(i)) as u8)
        .collect();
    let mut input = vec![0.0; elements];
    let mut ready = |pixels: &[u8]| Preprocessing::default().apply(shape, pixels, &mut input);
    let mut found = vec![CodecTime {
        form: Form::Pixels,
        elements,
        encode_ms: slowdown * median_ms(|| black_box(pixels.clone()).len() == elements),
        decode_ms: slowdown * median_ms(|| ready(&pixels).is_ok()),
    }];
    if let Ok(bytes) = jpeg::encode(shape, &pixels, QUALITY) {
        let encode = || jpeg::encode(shape, &pixels, QUALITY).is_ok();
        found.push(CodecTime {
            form: Form::Jpeg,
            elements,
            encode_ms: slowdown * median_ms(encode),
            decode_ms: slowdown
                * median_ms(|| jpeg::decode(shape, &bytes).is_ok_and(|p| ready(&p).is_ok())),
        });
    }
    found
}

/// Smooth enough to be compressed by some, half of it zero.
fn value(at: usize) -> f32 {
    let at = at as f32;
    ((at * 0.11).sin() + 0.3 * (at * 1.731).sin()).max(0.0)
}

fn median_ms(mut run: impl FnMut() -> bool) -> f64 {
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            black_box(run());
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    percentile(&times, 50.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_timed_at_every_size() {
        let found = forms(Some([3, 16, 16]), 2.0);
        assert_eq!(found.len(), Wire::ALL.len() * ELEMENTS.len() + 2);
        for form in [Form::F32, Form::U8Lz4, Form::Pixels, Form::Jpeg] {
            let own: Vec<_> = found.iter().filter(|t| t.form == form).collect();
            assert!(!own.is_empty(), "{form:?}");
            assert!(own.iter().all(|t| t.encode_ms > 0.0 && t.decode_ms > 0.0));
        }
        assert_eq!(forms(None, 1.0).len(), Wire::ALL.len() * ELEMENTS.len());
    }
}
