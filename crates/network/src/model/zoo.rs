/*!
The networks built in: ResNet50, MobileNetV2 and InceptionV3 (without its auxiliary head) as
torchvision lays them out and names them, and small residual networks for 32×32 images. They come as
unfused graphs with batch norm and seeded initial weights, ready to be trained.

Weights of convolutions are drawn from a normal distribution of variance 2 / fan-out (He et al.
2015), those of the classifier from one of variance 1 / fan-in; batch norms start as the identity, but for the last of each
branch of ResNet50, which starts smaller.
*/

mod inception;
mod mobilenet;
mod net;
mod resnet;

use super::{Graph, ShapeError};
use net::Net;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A network built in.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum ZooModel {
    /// He et al. 2016, with the stride in the 3×3 convolution.
    ResNet50,
    /// Sandler et al. 2018.
    MobileNetV2 {
        /// Factor of all channel counts; 1.0 is the paper's.
        width: f32,
    },
    /// Szegedy et al. 2016, without the auxiliary head.
    InceptionV3,
    /// The residual networks for small images of He et al. 2016, section 4.2.
    ResNet {
        /// 8, 14 or 20.
        depth: usize,
        /// Channels of the first stage; 16 is the paper's.
        width: usize,
    },
}

/// Why a network can't be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ZooError {
    /// No network of this name.
    #[error("there is no network `{0}` built in; there are {NAMES}")]
    Unknown(String),
    /// An input the network can't take.
    #[error(
        "{model} takes inputs of {least}×{least} pixels and more, not {height}×{width} with \
         {channels} channels"
    )]
    Input {
        /// Built-in network, as `--model` names it.
        model: String,
        /// Smallest height and width.
        least: usize,
        /// Channels of the input that was asked for.
        channels: usize,
        /// Height of the input that was asked for, in pixels.
        height: usize,
        /// Width of the input that was asked for, in pixels.
        width: usize,
    },
    /// A setting without a meaning.
    #[error("{model}: {what}")]
    Setting {
        /// Built-in network, as `--model` names it.
        model: String,
        /// The setting, its value and what it may be.
        what: String,
    },
    /// A layer whose extents don't fit.
    #[error("layer `{layer}`: {source}")]
    Shape {
        /// Layer of the built-in network, by its name there.
        layer: String,
        /// Which extents don't fit one another.
        source: ShapeError,
    },
}

/// Channels of the first stage of the small residual networks of the paper.
const PAPER_CHANNELS: usize = 16;
/// No network of a sensible size is wider.
const MOST_WIDTH: f64 = 16.0;
const NAMES: &str = "resnet50, mobilenetv2, inceptionv3, resnet8, resnet14, resnet20";

impl fmt::Display for ZooModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ZooModel::ResNet50 => write!(f, "resnet50"),
            ZooModel::MobileNetV2 { .. } => write!(f, "mobilenetv2"),
            ZooModel::InceptionV3 => write!(f, "inceptionv3"),
            ZooModel::ResNet { depth, .. } => write!(f, "resnet{depth}"),
        }
    }
}

impl FromStr for ZooModel {
    type Err = ZooError;

    fn from_str(name: &str) -> Result<Self, ZooError> {
        let small = |depth| ZooModel::ResNet {
            depth,
            width: PAPER_CHANNELS,
        };
        Ok(match name.to_ascii_lowercase().as_str() {
            "resnet50" => ZooModel::ResNet50,
            "mobilenetv2" => ZooModel::MobileNetV2 { width: 1.0 },
            "inceptionv3" => ZooModel::InceptionV3,
            "resnet8" => small(8),
            "resnet14" => small(14),
            "resnet20" => small(20),
            _ => return Err(ZooError::Unknown(name.to_string())),
        })
    }
}

impl ZooModel {
    /// The same with its channel counts multiplied; 1 is the paper's width. MobileNetV2 rounds to
    /// multiples of 8, the small residual networks to whole channels.
    ///
    /// # Errors
    /// On a factor that leaves no channel or far too many, and on a network of one width only.
    pub fn with_width(self, factor: f64) -> Result<Self, ZooError> {
        if !(factor.is_finite() && factor > 0.0 && factor <= MOST_WIDTH) {
            return Err(ZooError::Setting {
                model: self.to_string(),
                what: format!("width {factor}; it must lie above 0 and at most at {MOST_WIDTH}"),
            });
        }
        match self {
            ZooModel::MobileNetV2 { .. } => Ok(ZooModel::MobileNetV2 {
                width: factor as f32,
            }),
            ZooModel::ResNet { depth, .. } => Ok(ZooModel::ResNet {
                depth,
                width: ((PAPER_CHANNELS as f64 * factor).round() as usize).max(1),
            }),
            ZooModel::ResNet50 | ZooModel::InceptionV3 => Err(ZooError::Setting {
                model: self.to_string(),
                what: "it has one width; leave `width` out".into(),
            }),
        }
    }

    /// Channels, height and width of its paper's input.
    pub fn paper_input(&self) -> (usize, usize, usize) {
        match self {
            ZooModel::ResNet50 | ZooModel::MobileNetV2 { .. } => (3, 224, 224),
            ZooModel::InceptionV3 => (3, 299, 299),
            ZooModel::ResNet { .. } => (3, 32, 32),
        }
    }

    /// Classes of its paper's data set: ImageNet's, or CIFAR-10's for the small ones.
    pub fn paper_classes(&self) -> usize {
        match self {
            ZooModel::ResNet { .. } => 10,
            _ => 1000,
        }
    }

    /// The smallest height and width it takes.
    pub fn least_input(&self) -> usize {
        match self {
            ZooModel::ResNet50 | ZooModel::MobileNetV2 { .. } => 32,
            ZooModel::InceptionV3 => 75,
            ZooModel::ResNet { .. } => 8,
        }
    }

    /// The graph for inputs `(channels, height, width)`, with weights drawn from `seed`.
    ///
    /// # Errors
    /// Where the input is too small, naming the smallest; without classes; on settings without a
    /// meaning.
    pub fn build(
        &self,
        input: (usize, usize, usize),
        classes: usize,
        seed: u64,
    ) -> Result<Graph, ZooError> {
        let (channels, height, width) = input;
        let least = self.least_input();
        if height < least || width < least || channels == 0 {
            return Err(ZooError::Input {
                model: self.to_string(),
                least,
                channels,
                height,
                width,
            });
        }
        let setting = |what: &str| {
            Err(ZooError::Setting {
                model: self.to_string(),
                what: what.to_string(),
            })
        };
        if classes == 0 {
            return setting("a classifier needs at least one class");
        }
        let mut net = Net::new(&self.to_string(), input, seed);
        match *self {
            ZooModel::ResNet50 => resnet::resnet50(&mut net, classes)?,
            ZooModel::MobileNetV2 { width } => {
                if !(width.is_finite() && width > 0.0 && f64::from(width) <= MOST_WIDTH) {
                    return setting("the width multiplier must lie above 0 and at most at 16");
                }
                mobilenet::mobilenet_v2(&mut net, classes, width)?;
            }
            ZooModel::InceptionV3 => inception::inception_v3(&mut net, classes)?,
            ZooModel::ResNet { depth, width } => {
                if !matches!(depth, 8 | 14 | 20) || width == 0 {
                    return setting("depth is 8, 14 or 20, width at least 1");
                }
                resnet::small(&mut net, classes, depth, width)?;
            }
        }
        Ok(net.finish())
    }
}

#[cfg(test)]
mod tests;
