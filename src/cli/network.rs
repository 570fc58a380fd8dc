/*! The MODEL argument, the same for every command that takes a network. */

use super::{CliError, error::Context};
use crate::model::fuse::fuse;
use crate::model::layers::LayerTable;
use crate::model::onnx::ImportError;
use crate::model::{Dim, Graph};
use crate::session::{ModelError, ModelSource, Network as BuiltIn};
use std::fmt;
use std::str::FromStr;

/// Which network, with `--input` for its size. `infer` takes [`ModelArgs`] itself, as its `--input`
/// is a tensor.
#[derive(Debug, clap::Args)]
pub struct NetworkArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Input of a built-in network, as 3x224x224; its paper's if left out.
    #[arg(long, value_name = "CxHxW", help_heading = BUILT_IN)]
    input: Option<InputShape>,
}

/// Which network, but for its size.
#[derive(Debug, clap::Args)]
pub struct ModelArgs {
    /// An ONNX file, or a built-in network: resnet50, mobilenetv2, inceptionv3, resnet8, resnet14,
    /// resnet20 (say ./resnet50 for a file of such a name).
    #[arg(value_name = "MODEL")]
    model: String,
    /// Classes of a built-in network; its paper's (1000, or 10 of the small ones) if left out.
    #[arg(long, help_heading = BUILT_IN)]
    classes: Option<usize>,
    /// Factor of all channel counts of mobilenetv2, resnet8, resnet14 or resnet20.
    #[arg(long, value_name = "FACTOR", help_heading = BUILT_IN)]
    width: Option<f64>,
    /// Seed of the weights of a built-in network, which come untrained; 7 if left out.
    #[arg(long, help_heading = BUILT_IN)]
    seed: Option<u64>,
}

/// Where help lists what only built-in networks take.
pub const BUILT_IN: &str = "Built-in networks";

/// A seed nobody chose; sessions have the same.
const SEED: u64 = 7;

/// Channels, height and width, written `3x224x224`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputShape(pub [usize; 3]);

impl FromStr for InputShape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Result<Vec<usize>, _> = text.split(['x', '×']).map(str::parse).collect();
        match numbers.as_deref() {
            Ok(&[c, h, w]) if c > 0 && h > 0 && w > 0 => Ok(InputShape([c, h, w])),
            _ => Err("write channels, height and width as 3x224x224".into()),
        }
    }
}

impl fmt::Display for InputShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [c, h, w] = self.0;
        write!(f, "{c}x{h}x{w}")
    }
}

/// A network as the commands use it.
#[derive(Debug)]
pub struct Network {
    /// As it came.
    pub imported: Graph,
    /// As it runs.
    pub fused: Graph,
}

impl NetworkArgs {
    /// Imports or builds the network, and fuses it.
    pub fn load(&self) -> Result<Network, CliError> {
        self.model.load(self.input, "--input")
    }
}

impl ModelArgs {
    /// The network named, as a session would say it.
    pub fn source(&self, input: Option<InputShape>) -> Result<ModelSource, CliError> {
        if let Ok(network) = self.model.parse::<BuiltIn>() {
            let model = network.model();
            let (c, h, w) = model.paper_input();
            let InputShape([c, h, w]) = input.unwrap_or(InputShape([c, h, w]));
            return Ok(ModelSource::Zoo {
                network,
                input: (c, h, w),
                classes: self.classes.unwrap_or(model.paper_classes()),
                width: self.width,
            });
        }
        let given = [
            ("--classes", self.classes.is_some()),
            ("--width", self.width.is_some()),
            ("--seed", self.seed.is_some()),
        ];
        if let Some((name, _)) = given.iter().find(|(_, given)| *given) {
            return Err(CliError::usage(format!(
                "{name} is for a built-in network; {} is a file and says that itself",
                self.model
            )));
        }
        Ok(ModelSource::Onnx(self.model.clone().into()))
    }

    /// Imports or builds the network, and fuses it; `flag` is what the command calls `input`.
    pub fn load(&self, input: Option<InputShape>, flag: &str) -> Result<Network, CliError> {
        let source = self.source(input)?;
        let imported = match source.load(self.seed.unwrap_or(SEED)) {
            Ok(graph) => graph,
            Err(error) => return Err(self.explain(error)),
        };
        // A file has its input; asking for the same is no mistake, asking for another would be
        // ignored.
        if let (ModelSource::Onnx(_), Some(asked)) = (&source, input)
            && !takes(&imported, asked)
        {
            let shapes: Vec<String> = imported
                .inputs
                .iter()
                .map(|&i| imported.value(i).shape.to_string())
                .collect();
            return Err(CliError::usage(format!(
                "{flag} {asked}: {} takes {}; only built-in networks take other sizes",
                self.model,
                shapes.join(", ")
            )));
        }
        Ok(Network {
            fused: fuse(&imported),
            imported,
        })
    }

    /// A missing file whose name looks like a network's may be a slip of the pen.
    fn explain(&self, error: ModelError) -> CliError {
        let missing = matches!(&error, ModelError::Import(ImportError::Read { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound);
        match self.model.parse::<BuiltIn>() {
            Err(unknown) if missing && !self.model.contains(['/', '.']) => {
                CliError::failed(format!("{}: no such file, and {unknown}", self.model))
            }
            _ => match error {
                ModelError::Zoo(zoo) => CliError::usage(zoo.to_string()),
                other => other.into(),
            },
        }
    }
}

/// Whether the graph has one image input of this shape, channels first or last.
fn takes(graph: &Graph, InputShape([c, h, w]): InputShape) -> bool {
    let fixed = |dims: [usize; 3]| dims.map(Dim::Fixed);
    match graph.inputs.as_slice() {
        [input] => match graph.value(*input).shape.0.as_slice() {
            [_, sample @ ..] => sample == fixed([c, h, w]) || sample == fixed([h, w, c]),
            [] => false,
        },
        _ => false,
    }
}

impl Network {
    /// Its layers.
    pub fn table(&self) -> Result<LayerTable, CliError> {
        LayerTable::new(&self.fused).context("listing the layers")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_read_as_they_are_written() {
        assert_eq!("3x224x96".parse(), Ok(InputShape([3, 224, 96])));
        for wrong in ["", "3x224", "3x224x224x1", "0x2x2", "3 224 224", "axbxc"] {
            assert!(wrong.parse::<InputShape>().is_err(), "{wrong}");
        }
    }
}
