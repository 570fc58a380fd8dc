/*! From any picture to channel planes of bytes at the network's size. */

use super::Fit;
use super::source::Frame;
use image::imageops::{FilterType, crop_imm, resize};
use image::{DynamicImage, GrayImage, ImageBuffer, Pixel, RgbImage};

/// Brightness of a colour by Rec. 601, rounded as PIL's `convert("L")` does. OpenCV and torchvision
/// use the same weights; the image crate's own are Rec. 709, which networks haven't seen.
fn luma([red, green, blue]: [u8; 3]) -> u8 {
    let sum = 19_595 * u32::from(red) + 38_470 * u32::from(green) + 7_471 * u32::from(blue);
    ((sum + 0x8000) >> 16) as u8
}

fn grey(image: &DynamicImage) -> GrayImage {
    if !image.color().has_color() {
        return image.to_luma8();
    }
    let colour = image.to_rgb8();
    GrayImage::from_fn(colour.width(), colour.height(), |x, y| {
        image::Luma([luma(colour.get_pixel(x, y).0)])
    })
}

/// Extents to resize a picture to, from which the middle of `height` × `width` is then cut. As
/// torchvision's `Resize` of one number counts them: the longer side is rounded down.
fn before_crop(picture: (u32, u32), height: usize, width: usize, keep: f32) -> (u32, u32) {
    let (w, h) = (f64::from(picture.0), f64::from(picture.1));
    let side = |extent: usize| (extent as f64 / f64::from(keep) + 1e-6).floor();
    let (to_width, to_height) = (side(width), side(height));
    // The side that needs more is met exactly, the other has something to spare.
    let (to_width, to_height) = if to_width / w >= to_height / h {
        (to_width, (to_width * h / w).floor().max(height as f64))
    } else {
        ((to_height * w / h).floor().max(width as f64), to_height)
    };
    (to_width as u32, to_height as u32)
}

/// A picture at the network's height and width. Resized with a triangle filter: bilinear where it
/// grows, averaged where it shrinks.
fn framed<P: Pixel<Subpixel = u8> + 'static>(
    picture: ImageBuffer<P, Vec<u8>>,
    frame: Frame,
) -> ImageBuffer<P, Vec<u8>> {
    let [_, height, width] = frame.input;
    let (w, h) = (width as u32, height as u32);
    let resized = |picture: ImageBuffer<P, Vec<u8>>, w, h| match picture.dimensions() == (w, h) {
        true => picture,
        false => resize(&picture, w, h, FilterType::Triangle),
    };
    match frame.fit {
        Fit::Stretch => resized(picture, w, h),
        Fit::CentreCrop { keep } => {
            let (to_width, to_height) = before_crop(picture.dimensions(), height, width, keep);
            let resized = resized(picture, to_width, to_height);
            // As torchvision's CenterCrop, which rounds half to even.
            let start = |whole: u32, part: u32| {
                (f64::from(whole.saturating_sub(part)) / 2.0).round_ties_even() as u32
            };
            let (left, top) = (start(to_width, w), start(to_height, h));
            crop_imm(&resized, left, top, w, h).to_image()
        }
    }
}

/// Writes `image` into `out` as `[c, h, w]`. Grey becomes colour by repeating the plane, colour
/// becomes grey by Rec. 601, transparency is dropped. `frame.input[0]` is 1 or 3 ([`super::load`]
/// checks it).
pub(super) fn fit(image: &DynamicImage, frame: Frame, out: &mut [u8]) {
    let [channels, height, width] = frame.input;
    if channels == 1 {
        out.copy_from_slice(framed(grey(image), frame).as_raw());
    } else {
        let plane = height * width;
        let colour = framed(image.to_rgb8(), frame);
        for (at, pixel) in colour.as_raw().chunks_exact(3).enumerate() {
            out[at] = pixel[0];
            out[plane + at] = pixel[1];
            out[2 * plane + at] = pixel[2];
        }
    }
}

/// The same from raw bytes `[c, h, w]`; `stored[0]` is 1 or 3.
pub(super) fn fit_planes(planes: &[u8], stored: [usize; 3], frame: Frame, out: &mut [u8]) {
    let whole = match frame.fit {
        Fit::Stretch => true,
        Fit::CentreCrop { keep } => keep == 1.0,
    };
    if stored == frame.input && whole {
        out.copy_from_slice(planes);
        return;
    }
    let [channels, height, width] = stored;
    let plane = height * width;
    let image = if channels == 1 {
        GrayImage::from_raw(width as u32, height as u32, planes.to_vec())
            .map(DynamicImage::ImageLuma8)
    } else {
        let interleaved = (0..plane)
            .flat_map(|at| [planes[at], planes[plane + at], planes[2 * plane + at]])
            .collect();
        RgbImage::from_raw(width as u32, height as u32, interleaved).map(DynamicImage::ImageRgb8)
    };
    // `from_raw` only refuses a buffer shorter than its picture, and callers hand in whole records.
    if let Some(image) = image {
        fit(&image, frame, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    #[test]
    fn grey_becomes_colour_by_repetition() {
        let mut out = [0; 12];
        fit_planes(
            &[1, 2, 3, 4],
            [1, 2, 2],
            Frame::stretched([3, 2, 2]),
            &mut out,
        );
        assert_eq!(out, [1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4]);
    }

    /// Values of PIL 13: `Image.new("RGB", (1, 1), colour).convert("L").getpixel((0, 0))`.
    #[rstest]
    #[case([255, 0, 0], 76)]
    #[case([0, 255, 0], 150)]
    #[case([0, 0, 255], 29)]
    #[case([255, 255, 255], 255)]
    #[case([12, 200, 77], 130)]
    #[case([1, 1, 2], 1)]
    #[case([254, 3, 129], 92)]
    fn colour_becomes_grey_by_rec_601(#[case] colour: [u8; 3], #[case] wanted: u8) {
        let mut out = [0];
        fit_planes(&colour, [3, 1, 1], Frame::stretched([1, 1, 1]), &mut out);
        assert_eq!(out, [wanted]);
    }

    /// Values of PIL 13: `resize` to the extents that torchvision 0.24's `Resize` counts, bilinear, then
    /// the middle as its `CenterCrop` cuts it; of a picture whose pixel at x, y is 8 x + 3 y (mod 256).
    #[rstest]
    #[case::torchvision((30, 20), 7, 0.875, &[
        49, 69, 89, 109, 129, 149, 169, 56, 76, 96, 116, 136, 156, 176, 63, 83, 103, 123, 143, 163, 183,
        71, 91, 111, 131, 151, 171, 191, 78, 98, 118, 138, 158, 178, 198, 86, 106, 126, 146, 166, 186,
        206, 93, 113, 133, 153, 173, 193, 213,
    ])]
    #[case::upright((9, 16), 5, 1.0, &[
        19, 31, 46, 61, 73, 25, 37, 52, 67, 79, 31, 43, 58, 73, 85, 37, 49, 64, 79, 91, 43, 55, 70, 85,
        97,
    ])]
    fn the_middle_is_what_torchvision_cuts_out(
        #[case] (width, height): (u32, u32),
        #[case] side: usize,
        #[case] keep: f32,
        #[case] wanted: &[u8],
    ) {
        let picture =
            GrayImage::from_fn(width, height, |x, y| image::Luma([(8 * x + 3 * y) as u8]));
        let frame = Frame {
            input: [1, side, side],
            fit: Fit::CentreCrop { keep },
        };
        let mut out = vec![0; side * side];
        fit(&DynamicImage::ImageLuma8(picture), frame, &mut out);
        // As stretched pictures, within 1 of 255 of PIL's.
        let near = out.iter().zip(wanted).all(|(a, b)| a.abs_diff(*b) <= 1);
        assert!(near, "{out:?}");
    }

    #[test]
    fn resizing_keeps_planes_apart() {
        let planes: Vec<u8> = [10, 20, 30].into_iter().flat_map(|v| [v; 16]).collect();
        let mut out = [0; 27];
        fit_planes(&planes, [3, 4, 4], Frame::stretched([3, 3, 3]), &mut out);
        assert_eq!(out[..9], [10; 9]);
        assert_eq!(out[9..18], [20; 9]);
        assert_eq!(out[18..], [30; 9]);
    }
}
