/*! From any picture to channel planes of bytes at the network's size. */

use image::imageops::{FilterType, resize};
use image::{DynamicImage, GrayImage, RgbImage};

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

/// Writes `image` into `out` as `[c, h, w]`. Pictures of another size are stretched with a triangle
/// filter: bilinear when they grow, averaged when they shrink. Grey becomes colour by repeating
/// the plane, colour becomes grey by Rec. 601, transparency is dropped. `input[0]` is 1 or 3
/// ([`super::load`] checks it).
pub(super) fn fit(image: &DynamicImage, input: [usize; 3], out: &mut [u8]) {
    let [channels, height, width] = input;
    let (w, h) = (width as u32, height as u32);
    let same = image.width() == w && image.height() == h;
    if channels == 1 {
        let grey = grey(image);
        let grey = if same {
            grey
        } else {
            resize(&grey, w, h, FilterType::Triangle)
        };
        out.copy_from_slice(grey.as_raw());
    } else {
        let colour = image.to_rgb8();
        let colour = if same {
            colour
        } else {
            resize(&colour, w, h, FilterType::Triangle)
        };
        let plane = height * width;
        for (at, pixel) in colour.as_raw().chunks_exact(3).enumerate() {
            out[at] = pixel[0];
            out[plane + at] = pixel[1];
            out[2 * plane + at] = pixel[2];
        }
    }
}

/// The same from raw bytes `[c, h, w]`; `stored[0]` is 1 or 3.
pub(super) fn fit_planes(planes: &[u8], stored: [usize; 3], input: [usize; 3], out: &mut [u8]) {
    if stored == input {
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
        fit(&image, input, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn grey_becomes_colour_by_repetition() {
        let mut out = [0; 12];
        fit_planes(&[1, 2, 3, 4], [1, 2, 2], [3, 2, 2], &mut out);
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
        fit_planes(&colour, [3, 1, 1], [1, 1, 1], &mut out);
        assert_eq!(out, [wanted]);
    }

    #[test]
    fn resizing_keeps_planes_apart() {
        let planes: Vec<u8> = [10, 20, 30].into_iter().flat_map(|v| [v; 16]).collect();
        let mut out = [0; 27];
        fit_planes(&planes, [3, 4, 4], [3, 3, 3], &mut out);
        assert_eq!(out[..9], [10; 9]);
        assert_eq!(out[9..18], [20; 9]);
        assert_eq!(out[18..], [30; 9]);
    }
}
