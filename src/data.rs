/*!
Images and labels.

What may live here: the loaders (CIFAR, IDX, image folders), the synthetic set, preprocessing, and
the choice of disjoint train, calibration and test sets. Pixels stay bytes until a network wants
them; a file that is short, mislabelled or odd is an error with its name and record.
*/

mod cifar;
mod error;
mod folder;
mod idx;
mod load;
pub mod npy;
mod pixels;
mod preprocess;
mod split;
pub mod synthetic;

pub use error::DataError;
pub use load::{LoadOptions, LoadedData, Progress};

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
    /// Folder with `data_batch_1..5.bin` and `test_batch.bin`.
    Cifar10(PathBuf),
    /// Folder with `train.bin` and `test.bin`; fine labels.
    Cifar100(PathBuf),
    /// Folder with the four IDX files, plain or gzip.
    Idx(PathBuf),
    /// Folder with `train/<class>/…` and `test/<class>/…` in JPEG or PNG; where it has the classes
    /// themselves instead, a seeded fifth of each class becomes the test set.
    ImageFolder(PathBuf),
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
    /// Height and width to resize to (bilinear); what the network takes if absent.
    pub resize: Option<(usize, usize)>,
    /// Order of the axes of the network's input.
    pub layout: Layout,
}

impl Default for Preprocessing {
    fn default() -> Self {
        Preprocessing {
            scale: 1.0 / 255.0,
            mean: vec![0.0],
            std: vec![1.0],
            resize: None,
            layout: Layout::Nchw,
        }
    }
}

/// Order of the axes of an image batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Layout {
    /// Channels before rows.
    #[default]
    Nchw,
    /// Channels last, as TensorFlow exports have it.
    Nhwc,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Set {
    /// Heads (and backbones) learn on it.
    Train,
    /// Temperatures, thresholds, curves and searches read it.
    Calibration,
    /// Seen only for a chosen plan, beside the measurement.
    Test,
}
