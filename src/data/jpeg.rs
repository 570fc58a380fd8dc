/*!
Pixels as a JPEG file and back: what somebody would send who sends the picture itself. Coded as
libjpeg-turbo does by default, with chroma at half the resolution both ways.
*/

use super::{DataError, picture};
use image::DynamicImage;
use libjpeg_turbo_rs::{PixelFormat, Subsampling, compress};

/// Codes pixels `[c, h, w]` of 1 or 3 channels; `quality` is 1 to 100, as libjpeg counts it.
///
/// # Errors
/// Pixels of another number, or an image that no JPEG can hold.
pub fn encode(shape: [usize; 3], pixels: &[u8], quality: u8) -> Result<Vec<u8>, DataError> {
    let [channels, height, width] = shape;
    let plane = height * width;
    if pixels.len() != channels * plane {
        return Err(DataError::Request(format!(
            "{} bytes are not an image of {channels}×{height}×{width}",
            pixels.len()
        )));
    }
    let (format, chroma) = match channels {
        1 => (PixelFormat::Grayscale, Subsampling::S444),
        3 => (PixelFormat::Rgb, Subsampling::S420),
        other => {
            return Err(DataError::Request(format!(
                "an image of {other} channels can't be a JPEG; 1 or 3 can"
            )));
        }
    };
    // Row by row, the channels of a pixel side by side.
    let of = |at: usize| (0..channels).map(move |channel| pixels[channel * plane + at]);
    let rows: Vec<u8> = (0..plane).flat_map(of).collect();
    compress(&rows, width, height, format, quality, chroma)
        .map_err(|error| DataError::Request(format!("coding a JPEG: {error}")))
}

/// Decodes a file that [`encode`] or another program wrote, to pixels `[c, h, w]`.
///
/// # Errors
/// Bytes that are no whole JPEG file, or a picture of other extents.
pub fn decode(shape: [usize; 3], bytes: &[u8]) -> Result<Vec<u8>, DataError> {
    let [channels, height, width] = shape;
    let refuse = |what: String| DataError::Request(format!("a picture that was sent: {what}"));
    let decoded = picture::jpeg(bytes).map_err(|e| refuse(e.problem))?;
    let found = [
        usize::from(decoded.color().channel_count()),
        decoded.height() as usize,
        decoded.width() as usize,
    ];
    if found != shape {
        return Err(refuse(format!(
            "it is {found:?}, the network takes {shape:?}"
        )));
    }
    let rows = match &decoded {
        DynamicImage::ImageLuma8(grey) => grey.as_raw(),
        DynamicImage::ImageRgb8(rgb) => rgb.as_raw(),
        other => return Err(refuse(format!("its pixels are {:?}", other.color()))),
    };
    let plane = height * width;
    let of = |channel: usize| (0..plane).map(move |at| rows[at * channels + channel]);
    Ok((0..channels).flat_map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use sha2::{Digest, Sha256};

    /// Smooth in one channel, striped in another.
    fn pixels([channels, height, width]: [usize; 3]) -> Vec<u8> {
        let at = |c: usize, y: usize, x: usize| match c {
            0 => 8 * x + y,
            1 => 255 - 4 * y,
            _ => 60 * (x / 4 % 2) + 3 * y,
        };
        let rows = |c: usize| (0..height).flat_map(move |y| (0..width).map(move |x| at(c, y, x)));
        (0..channels).flat_map(rows).map(|v| v as u8).collect()
    }

    // PIL's, of Image.save(quality=..., subsampling="4:2:0") and Image.open.
    #[rstest]
    #[case([3, 24, 32], 90, 820, "1f59b2d1b2619667")]
    #[case([3, 24, 32], 50, 716, "9bcce3b992d2a128")]
    #[case([1, 17, 31], 75, 403, "3dc3042af64da415")]
    fn pixels_come_back_as_other_programs_have_them(
        #[case] shape: [usize; 3],
        #[case] quality: u8,
        #[case] length: usize,
        #[case] hash: &str,
    ) {
        let bytes = encode(shape, &pixels(shape), quality).unwrap();
        assert_eq!(bytes.len(), length);
        let back = decode(shape, &bytes).unwrap();
        assert_eq!(hex::encode(&Sha256::digest(&back)[..8]), hash);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let shape = [3, 24, 32];
        let bytes = encode(shape, &pixels(shape), 90).unwrap();
        for (shape, bytes) in [
            ([3, 32, 24], &bytes[..]),
            ([1, 24, 32], &bytes[..]),
            (shape, &bytes[..bytes.len() / 2]),
            (shape, b"no picture"),
        ] {
            let refused = decode(shape, bytes).unwrap_err().to_string();
            assert!(refused.contains("a picture that was sent"), "{refused}");
        }
        assert!(encode([2, 4, 4], &[0; 32], 90).is_err());
        assert!(encode([3, 4, 4], &[0; 32], 90).is_err());
    }
}
