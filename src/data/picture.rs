/*! From the bytes of a picture's file to its pixels. */

use crate::model::Signature;
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};
use libjpeg_turbo_rs::{DecodeLimits, Decoder, JpegError, PixelFormat};

/// Extensions of what can be decoded.
pub(super) const DECODED: [&str; 10] = [
    "jpg", "jpeg", "jpe", "jfif", "png", "bmp", "ppm", "pgm", "pbm", "pnm",
];
/// Extensions of pictures that can't be decoded here: leaving them out would shrink a set unseen.
pub(super) const OTHERS: [&str; 8] = ["webp", "gif", "tif", "tiff", "heic", "heif", "avif", "jp2"];

/// Pixels of a picture that is decoded at most; none of a data set comes near.
const LARGEST: u64 = 1 << 28;

/// A picture that can't be decoded: what is wrong and what to do.
#[derive(Debug)]
pub(super) struct Undecoded {
    pub problem: String,
    pub remedy: &'static str,
}

impl Undecoded {
    fn new(problem: impl Into<String>) -> Self {
        Undecoded {
            problem: problem.into(),
            remedy: "replace it, or move it out of the data set",
        }
    }
}

/// Decodes by content: a PNG named .jpg is a common accident, and harmless.
pub(super) fn decode(bytes: &[u8]) -> Result<DynamicImage, Undecoded> {
    let format = match Signature::of(bytes) {
        Some(Signature::Jpeg) => return jpeg(bytes),
        Some(Signature::Png) => ImageFormat::Png,
        Some(Signature::Bmp) => ImageFormat::Bmp,
        None if matches!(bytes, [b'P', b'1'..=b'6', ..]) => ImageFormat::Pnm,
        None if bytes.is_empty() => return Err(Undecoded::new("the file is empty")),
        None => return Err(Undecoded::new("not a picture by its first bytes")),
        Some(other) => {
            return Err(Undecoded {
                problem: format!("{other}; JPEG, PNG, BMP and PNM can be decoded"),
                remedy: other.remedy_for_data(),
            });
        }
    };
    image::load_from_memory_with_format(bytes, format)
        .map_err(|error| Undecoded::new(error.to_string()))
}

/// Decodes as libjpeg-turbo does, bit by bit, so that a network sees what it saw in training. Stray
/// bytes between segments are skipped; a scan that ends early is an error, not a grey area.
pub(super) fn jpeg(bytes: &[u8]) -> Result<DynamicImage, Undecoded> {
    let bad = |error: JpegError| match error {
        JpegError::UnexpectedEof => {
            Undecoded::new(format!("a JPEG cut off at byte {}", bytes.len()))
        }
        other => Undecoded::new(format!("a damaged JPEG: {other}")),
    };
    let limits = DecodeLimits {
        max_pixels: LARGEST,
        max_scans: 1000,
        max_memory: Some(4 * LARGEST),
        ..DecodeLimits::default()
    };
    let mut decoder = Decoder::new_with_limits(bytes, limits).map_err(bad)?;
    let grey = decoder.header().components.len() == 1;
    decoder.set_output_format(if grey {
        PixelFormat::Grayscale
    } else {
        PixelFormat::Rgb
    });
    let decoded = decoder.decode_image().map_err(bad)?;
    let (width, height) = (decoded.width as u32, decoded.height as u32);
    let pixels = decoded.into_vec();
    let image = if grey {
        GrayImage::from_raw(width, height, pixels).map(DynamicImage::ImageLuma8)
    } else {
        RgbImage::from_raw(width, height, pixels).map(DynamicImage::ImageRgb8)
    };
    image.ok_or_else(|| Undecoded::new("a JPEG with fewer pixels than its header says"))
}
