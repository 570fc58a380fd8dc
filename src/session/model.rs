/*! Which network: how a session (and the MODEL of a command) names one, and how it is had. */

use crate::model::Graph;
use crate::model::onnx::{ImportError, Outputs, Settings, import_bytes, import_file_with};
use crate::model::zoo::{ZooError, ZooModel};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The network that [`ModelSource::Demo`] stands for.
const DEMO: &[u8] = include_bytes!("../../assets/demo.onnx");

/// The network, as the session writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum ModelSource {
    /// ONNX file, its path from the session's folder.
    Onnx(PathBuf),
    /// An ONNX file that leaves something to choose.
    OnnxWith {
        /// Path of the ONNX file, from the session's folder.
        path: PathBuf,
        /// Channels, height, width, where the file leaves them open.
        #[serde(default)]
        input: Option<(usize, usize, usize)>,
        /// The classifier's output, where the file has several; if absent the one most nodes lead to.
        #[serde(default)]
        classifier: Option<String>,
        /// Inputs that are the same number in every element, by name.
        #[serde(default)]
        fixed: Vec<(String, f32)>,
    },
    /// A built-in network, untrained.
    Zoo {
        /// Built-in network.
        network: BuiltIn,
        /// Channels, height and width of the input, in pixels.
        input: (usize, usize, usize),
        /// Number of classes.
        classes: usize,
        /// Factor of all channel counts; 1 if absent. MobileNetV2 and the small residual networks
        /// (whose paper's first stage has 16 channels, so that 0.5 makes it 8).
        #[serde(default)]
        width: Option<f64>,
    },
    /// The small residual network inside the program, trained on `Synthetic(seed: 7)` less the 1,000
    /// images that `FromTrain(1000)` holds out with the seed 7.
    Demo,
}

/// Networks that the program can build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum BuiltIn {
    ResNet50,
    MobileNetV2,
    InceptionV3,
    ResNet8,
    ResNet14,
    ResNet20,
}

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file can't be imported.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The built-in network can't be built like this.
    #[error(transparent)]
    Zoo(#[from] ZooError),
}

impl ModelSource {
    /// The network as imported or built: not fused, its batch norms apart. The weights of a
    /// built-in network that comes untrained are drawn from `seed`.
    ///
    /// # Errors
    /// Names the file and node, or the setting of the built-in network.
    pub fn load(&self, seed: u64) -> Result<Graph, ModelError> {
        self.load_outputs(seed, &Outputs::Classifier)
    }

    /// As [`ModelSource::load`], with every output that the file has, unless one is named.
    ///
    /// # Errors
    /// The same.
    pub fn load_whole(&self, seed: u64) -> Result<Graph, ModelError> {
        self.load_outputs(seed, &Outputs::All)
    }

    /// The ONNX file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            ModelSource::Onnx(path) | ModelSource::OnnxWith { path, .. } => Some(path),
            ModelSource::Zoo { .. } | ModelSource::Demo => None,
        }
    }

    fn load_outputs(&self, seed: u64, outputs: &Outputs) -> Result<Graph, ModelError> {
        let mut settings = Settings {
            outputs: outputs.clone(),
            ..Settings::default()
        };
        match self {
            ModelSource::Onnx(path) => Ok(import_file_with(path, &settings)?),
            ModelSource::OnnxWith {
                path,
                input,
                classifier,
                fixed,
            } => {
                settings.image = input.map(|(c, h, w)| [c, h, w]);
                settings.numbers = fixed.clone();
                if let Some(name) = classifier {
                    settings.outputs = Outputs::Named(name.clone());
                }
                Ok(import_file_with(path, &settings)?)
            }
            ModelSource::Demo => Ok(import_bytes(DEMO, "demo")?),
            ModelSource::Zoo {
                network,
                input,
                classes,
                width,
            } => {
                let model = match width {
                    Some(factor) => network.model().with_width(*factor)?,
                    None => network.model(),
                };
                Ok(model.build(*input, *classes, seed)?)
            }
        }
    }
}

impl BuiltIn {
    /// Every network that the program can build.
    pub const ALL: [BuiltIn; 6] = [
        BuiltIn::ResNet50,
        BuiltIn::MobileNetV2,
        BuiltIn::InceptionV3,
        BuiltIn::ResNet8,
        BuiltIn::ResNet14,
        BuiltIn::ResNet20,
    ];

    /// The network at its paper's width.
    pub fn model(self) -> ZooModel {
        let small = |depth| ZooModel::ResNet { depth, width: 16 };
        match self {
            BuiltIn::ResNet50 => ZooModel::ResNet50,
            BuiltIn::MobileNetV2 => ZooModel::MobileNetV2 { width: 1.0 },
            BuiltIn::InceptionV3 => ZooModel::InceptionV3,
            BuiltIn::ResNet8 => small(8),
            BuiltIn::ResNet14 => small(14),
            BuiltIn::ResNet20 => small(20),
        }
    }
}

impl fmt::Display for BuiltIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.model().fmt(f)
    }
}

impl FromStr for BuiltIn {
    type Err = ZooError;

    fn from_str(name: &str) -> Result<Self, ZooError> {
        let same = |n: &&BuiltIn| n.to_string().eq_ignore_ascii_case(name);
        let found = BuiltIn::ALL.iter().find(same).copied();
        found.ok_or_else(|| ZooError::Unknown(name.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn source(network: BuiltIn, width: Option<f64>) -> ModelSource {
        ModelSource::Zoo {
            network,
            input: (3, 32, 32),
            classes: 10,
            width,
        }
    }

    #[test]
    fn every_name_is_its_network() {
        for network in BuiltIn::ALL {
            assert_eq!(network.to_string().parse::<BuiltIn>().unwrap(), network);
            let known: ZooModel = network.to_string().parse().unwrap();
            assert_eq!(known, network.model());
        }
        assert!("resnet51".parse::<BuiltIn>().is_err());
    }

    #[test]
    fn width_is_a_factor_and_the_seed_decides_the_weights() {
        let stem = |width| {
            let graph = source(BuiltIn::ResNet8, width).load(1).unwrap();
            graph.value(graph.nodes[0].outputs[0]).shape.at(1)[1]
        };
        assert_eq!([stem(None), stem(Some(1.0)), stem(Some(0.5))], [16, 16, 8]);
        let resnet8 = source(BuiltIn::ResNet8, None);
        assert_eq!(resnet8.load(1).unwrap(), resnet8.load(1).unwrap());
        assert_ne!(resnet8.load(1).unwrap(), resnet8.load(2).unwrap());
        let refused = |network, width| {
            let error = source(network, Some(width)).load(1).unwrap_err();
            error.to_string()
        };
        assert!(refused(BuiltIn::ResNet50, 0.5).contains("one width"));
        assert!(refused(BuiltIn::ResNet8, 0.0).contains("above 0"));
        assert!(refused(BuiltIn::MobileNetV2, 17.0).contains("above 0"));
    }
}
