/*! The preprocessings that networks are usually trained with. */

use crate::data::{Channels, Fit, Layout, Preprocessing};

/// A preprocessing and what it is called.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Usual {
    pub name: String,
    pub pixels: Preprocessing,
    /// How common it is: 0 for the commonest.
    pub rank: usize,
}

/// Means and deviations of ImageNet's training images, pixels from 0 to 1, as torchvision has them.
const IMAGENET: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
/// Mean and standard deviation of CIFAR-10's training images, per channel, 0 to 1.
const CIFAR10: ([f32; 3], [f32; 3]) = ([0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616]);
/// Mean and standard deviation of CIFAR-100's training images, per channel, 0 to 1.
const CIFAR100: ([f32; 3], [f32; 3]) = ([0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761]);
/// Caffe's means of ImageNet, blue first, pixels from 0 to 255.
const CAFFE: [f32; 3] = [103.939, 116.779, 123.68];
/// How much less common a part of pictures is than the whole, and the other order of colours: beyond
/// all ranges.
const PART: usize = 10;
const OTHER_CHANNELS: usize = 40;
/// Pixels from 0 to 255 become 0 to 1.
const UNIT: f32 = 1.0 / 255.0;

fn usual(name: &str, layout: Layout, scale: f32, mean: &[f32], std: &[f32]) -> Usual {
    Usual {
        name: name.to_string(),
        pixels: Preprocessing {
            scale,
            mean: mean.to_vec(),
            std: std.to_vec(),
            layout,
            ..Preprocessing::default()
        },
        // Known once all stand in their order.
        rank: 0,
    }
}

/// The usual ranges of values for a network of 1 or 3 channels, the commonest first.
pub(super) fn ranges(channels: usize, layout: Layout) -> Vec<Usual> {
    let with =
        |name: &str, scale: f32, mean: &[f32], std: &[f32]| usual(name, layout, scale, mean, std);
    let mut all = vec![
        with("0 to 1", UNIT, &[0.0], &[1.0]),
        with("-1 to 1", UNIT, &[0.5], &[0.5]),
        with("0 to 255", 1.0, &[0.0], &[1.0]),
    ];
    if channels == 1 {
        all.push(with("MNIST mean/std", UNIT, &[0.1307], &[0.3081]));
        all.push(with("Fashion-MNIST mean/std", UNIT, &[0.286], &[0.353]));
        all.push(with("1 to 0 (inverted)", -UNIT, &[-1.0], &[1.0]));
    } else {
        let (mean, std) = IMAGENET;
        all.insert(1, with("ImageNet mean/std", UNIT, &mean, &std));
        let (mean, std) = CIFAR10;
        all.push(with("CIFAR-10 mean/std", UNIT, &mean, &std));
        let (mean, std) = CIFAR100;
        all.push(with("CIFAR-100 mean/std", UNIT, &mean, &std));
        let mut caffe = with("Caffe (BGR, less mean)", 1.0, &CAFFE, &[1.0]);
        caffe.pixels.channels = Channels::Bgr;
        all.push(caffe);
    }
    for (rank, usual) in all.iter_mut().enumerate() {
        usual.rank = rank;
    }
    all
}

impl Usual {
    /// The same with blue and red exchanged, mean and deviation with them.
    pub fn other_channels(&self) -> Usual {
        let mut pixels = self.pixels.clone();
        pixels.mean.reverse();
        pixels.std.reverse();
        let (channels, name) = match pixels.channels {
            Channels::Rgb => (Channels::Bgr, "BGR"),
            Channels::Bgr => (Channels::Rgb, "RGB"),
        };
        pixels.channels = channels;
        Usual {
            name: format!("{}, {name}", self.name),
            pixels,
            rank: self.rank + OTHER_CHANNELS,
        }
    }

    /// The same on other parts of pictures.
    pub fn fits(&self) -> Vec<Usual> {
        [0.875, 1.0]
            .into_iter()
            .map(|keep| self.with_fit(Fit::CentreCrop { keep }))
            .collect()
    }

    /// The same on this part of pictures.
    pub fn with_fit(&self, fit: Fit) -> Usual {
        let (part, less) = match fit {
            Fit::Stretch => ("", 0),
            Fit::CentreCrop { keep: 0.875 } => (", middle 7/8", PART),
            Fit::CentreCrop { .. } => (", middle", 2 * PART),
        };
        Usual {
            name: format!("{}{part}", self.name),
            pixels: Preprocessing {
                fit,
                ..self.pixels.clone()
            },
            rank: self.rank + less,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::collections::BTreeSet;

    #[rstest]
    #[case(1, 6)]
    #[case(3, 7)]
    fn every_range_fits_the_channels_and_has_a_name(#[case] channels: usize, #[case] count: usize) {
        let all = ranges(channels, Layout::Nhwc);
        let names: BTreeSet<&str> = all.iter().map(|u| u.name.as_str()).collect();
        assert_eq!((all.len(), names.len()), (count, count));
        for usual in all {
            let variants = usual
                .fits()
                .into_iter()
                .chain([usual.other_channels(), usual]);
            for Usual { pixels, name, .. } in variants {
                let mut out = vec![0.0; channels * 4];
                let shape = [channels, 2, 2];
                pixels
                    .apply(shape, &vec![7; channels * 4], &mut out)
                    .unwrap();
                assert_eq!(pixels.layout, Layout::Nhwc, "{name}");
            }
        }
    }

    #[test]
    fn each_colour_keeps_its_mean_when_blue_comes_first() {
        let imagenet = &ranges(3, Layout::Nchw)[1];
        let (mut rgb, mut bgr) = ([0.0; 3], [0.0; 3]);
        let pixel = [200, 100, 50];
        imagenet.pixels.apply([3, 1, 1], &pixel, &mut rgb).unwrap();
        let other = imagenet.other_channels();
        other.pixels.apply([3, 1, 1], &pixel, &mut bgr).unwrap();
        rgb.reverse();
        assert_eq!(rgb, bgr);
        assert_eq!(other.name, "ImageNet mean/std, BGR");
    }
}
