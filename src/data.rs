/*!
Images and labels.

What may live here: the loaders (CIFAR, IDX, NumPy archives, image folders, tables, tar archives), the
synthetic set, preprocessing, NumPy's files, and the choice of disjoint train, calibration and test
sets. Pixels stay bytes until a network wants
them; a file that is short, mislabelled or odd is an error with its name and record.
*/

mod arrays;
mod cifar;
mod error;
mod folder;
mod idx;
pub mod jpeg;
mod labels;
mod load;
pub mod npy;
mod npz;
mod picture;
mod pictures;
mod pixels;
mod preprocess;
mod recognise;
mod shards;
mod source;
mod split;
mod survey;
pub mod synthetic;
mod table;

pub use error::DataError;
pub use load::{LoadOptions, LoadedData, Opened, Progress};
pub use survey::{PictureSize, Survey};

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Where images come from, as the session file writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Source {
    /// The embedded default: seeded 32×32 colour images in ten classes, some easy, some hard.
    Synthetic {
        /// Seed of every image.
        seed: u64,
    },
    /// Folder with `data_batch_1..5.bin` and `test_batch.bin`, or with the pickles of the Python
    /// version (`data_batch_1..5`, `test_batch`, `batches.meta`), or the one they were unpacked in.
    Cifar10(PathBuf),
    /// Folder with `train.bin` and `test.bin`, or with the pickles `train`, `test` and `meta`; fine
    /// labels.
    Cifar100(PathBuf),
    /// Folder with the four IDX files, plain or gzip.
    Idx(PathBuf),
    /// NumPy archive with `train_images`, `train_labels`, `test_images` and `test_labels` (MedMNIST), or
    /// `x_train`, `y_train`, `x_test` and `y_test`; pictures as bytes `[n, h, w]` or `[n, h, w, c]`.
    Npz(PathBuf),
    /// Folder with `train/<class>/...` and `test/<class>/...` (also Training, val, validation, ...) in
    /// JPEG, PNG, BMP or PNM; where it has one of the two or the classes themselves instead, a seeded
    /// fifth of each class becomes the test set.
    ImageFolder(PathBuf),
    /// Table (CSV, tab-separated, or `path label` per line) of pictures and labels, its paths from its
    /// own folder on; a column `split` or tables called train and test tell the sides.
    Table(PathBuf),
    /// Tar archive, or folder of them, with `key.jpg` and `key.cls` for each sample (WebDataset).
    Tar(PathBuf),
}

impl Source {
    /// Where the data set lies, if it is stored.
    pub fn path_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Source::Synthetic { .. } => None,
            Source::Cifar10(path)
            | Source::Cifar100(path)
            | Source::Idx(path)
            | Source::Npz(path)
            | Source::ImageFolder(path)
            | Source::Table(path)
            | Source::Tar(path) => Some(path),
        }
    }
}

/// How pixels (0 to 255) become the network's input: `(x · scale − mean) / std` for each channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Preprocessing {
    /// Factor of a pixel, 1/255 by default.
    pub scale: f32,
    /// Subtracted, one a channel (one for all if a single one).
    pub mean: Vec<f32>,
    /// Divisor, one a channel (one for all if a single one).
    pub std: Vec<f32>,
    /// Order of the axes of the network's input.
    pub layout: Layout,
    /// Order of the colours in the network's input; mean and std are in the same.
    #[serde(skip_serializing_if = "Channels::is_usual")]
    pub channels: Channels,
    /// How a picture of another size comes to the network's.
    #[serde(skip_serializing_if = "Fit::is_usual")]
    pub fit: Fit,
}

impl Default for Preprocessing {
    fn default() -> Self {
        Preprocessing {
            scale: 1.0 / 255.0,
            mean: vec![0.0],
            std: vec![1.0],
            layout: Layout::Nchw,
            channels: Channels::Rgb,
            fit: Fit::Stretch,
        }
    }
}

impl Preprocessing {
    /// What keys of kept results are made of. They are older than this form, which has no size to
    /// resize to, and are still found: what came later is left out where it is usual.
    pub fn key(&self) -> String {
        let Preprocessing {
            scale,
            mean,
            std,
            layout,
            channels,
            fit,
        } = self;
        let mut key = format!(
            "Preprocessing {{ scale: {scale:?}, mean: {mean:?}, std: {std:?}, resize: None, layout: \
             {layout:?} }}"
        );
        if !channels.is_usual() {
            key += &format!(" {channels:?}");
        }
        if !fit.is_usual() {
            key += &format!(" {fit:?}");
        }
        key
    }
}

/// Order of the colours of an image; of one channel there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Channels {
    /// Red first, as PIL and torchvision have it.
    #[default]
    Rgb,
    /// Blue first, as OpenCV and Caffe have it.
    Bgr,
}

impl Channels {
    fn is_usual(&self) -> bool {
        *self == Channels::default()
    }
}

/// How a picture of another size comes to the network's; bilinear with antialiasing in each case.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Fit {
    /// The whole picture, its proportions given up.
    #[default]
    Stretch,
    /// The middle of the picture, its proportions kept.
    CentreCrop {
        /// Share of the shorter side that is kept, above 0 and at most 1: 0.875 is torchvision's
        /// `Resize(256)` and `CenterCrop(224)`.
        keep: f32,
    },
}

impl Fit {
    fn is_usual(&self) -> bool {
        *self == Fit::default()
    }
}

/// Order of the axes of an image batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Layout {
    /// Channels before rows and columns, as PyTorch has it: `[N, C, H, W]`.
    #[default]
    Nchw,
    /// Channels last, as TensorFlow exports have it.
    Nhwc,
}

impl Layout {
    /// The layout of one image of these extents, where the place of its 1 or 3 channels tells.
    pub fn of(sample: &[usize]) -> Option<Layout> {
        match *sample {
            [1 | 3, _, _] => Some(Layout::Nchw),
            [_, _, 1 | 3] => Some(Layout::Nhwc),
            _ => None,
        }
    }
}

/// Where the calibration images come from (they must be unseen by the backbone).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Calibration {
    /// Held out of the training images: for networks trained here.
    FromTrain(usize),
    /// A seeded part of the test images: for imported networks.
    FromTest(usize),
}

/// One of the three disjoint sets.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, strum::Display,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Set {
    /// Heads (and backbones) learn on it.
    Train,
    /// Temperatures, thresholds, curves and searches read it.
    Calibration,
    /// Seen only for a chosen plan, beside the measurement.
    Test,
}

#[cfg(test)]
mod tests {
    use super::{Channels, Fit, Layout, Preprocessing};
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    #[test]
    fn the_usual_preprocessing_has_the_text_that_keys_were_always_made_of() {
        let mut pixels = Preprocessing::default();
        let before = "Preprocessing { scale: 0.003921569, mean: [0.0], std: [1.0], resize: None, \
                      layout: Nchw }";
        assert_eq!(pixels.key(), before);
        pixels.channels = Channels::Bgr;
        pixels.fit = Fit::CentreCrop { keep: 0.875 };
        let after = format!("{before} Bgr CentreCrop {{ keep: 0.875 }}");
        assert_eq!(pixels.key(), after);
    }

    #[rstest]
    #[case(&[3, 32, 32], Some(Layout::Nchw))]
    #[case(&[1, 28, 28], Some(Layout::Nchw))]
    #[case(&[32, 32, 3], Some(Layout::Nhwc))]
    #[case(&[28, 28, 1], Some(Layout::Nhwc))]
    #[case(&[12, 32, 32], None)]
    #[case(&[768], None)]
    fn a_layout_is_told_by_the_channels(#[case] sample: &[usize], #[case] wanted: Option<Layout>) {
        assert_eq!(Layout::of(sample), wanted);
    }
}
