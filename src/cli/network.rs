/*! The MODEL argument, the same for every command that takes a network. */

use super::error::usage;
use crate::model::fuse::fused;
use crate::model::layers::LayerTable;
use crate::model::onnx::ImportError;
use crate::model::{Dim, Graph};
use crate::session::{BuiltIn, ModelError, ModelSource};
use anyhow::Context;
use std::fmt;
use std::str::FromStr;

/// Which network, with `--input` for its size.
#[derive(Debug, clap::Args)]
pub struct NetworkArgs {
    /// An ONNX file; or a built-in network: resnet50, mobilenetv2, inceptionv3, resnet8, resnet14,
    /// resnet20; or demo, a small trained one (say ./demo for a file of such a name).
    // Not there where a subcommand stands in its place.
    #[arg(value_name = "MODEL", required = true)]
    model: Option<String>,
    /// Input of a built-in network, as 3x224x224 (its paper's if left out); or of an ONNX file that
    /// leaves it open.
    #[arg(long, value_name = "CxHxW")]
    input: Option<InputShape>,
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    sizes: Sizes,
    /// Seed of the weights of a built-in network, which come untrained; 7 if left out.
    #[arg(long, help_heading = BUILT_IN)]
    seed: Option<u64>,
}

/// The same for `infer`, whose `--input` is a tensor.
#[derive(Debug, clap::Args)]
pub struct ShapedNetworkArgs {
    /// An ONNX file; or a built-in network: resnet50, mobilenetv2, inceptionv3, resnet8, resnet14,
    /// resnet20; or demo, a small trained one (say ./demo for a file of such a name).
    #[arg(
        value_name = "MODEL",
        required_unless_present = "part",
        conflicts_with = "part"
    )]
    model: Option<String>,
    /// Input of a built-in network, as 3x224x224; its paper's if left out.
    #[arg(long, value_name = "CxHxW", help_heading = BUILT_IN)]
    shape: Option<InputShape>,
    #[command(flatten)]
    sizes: Sizes,
    /// Seed of the weights of a built-in network, which come untrained; 7 if left out.
    #[arg(long, help_heading = BUILT_IN)]
    seed: Option<u64>,
}

/// What an ONNX file may leave to choose.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Choice {
    /// Output of an ONNX file that is the classifier's, where it has several; if left out the one most
    /// nodes lead to.
    #[arg(long, value_name = "OUTPUT")]
    classifier: Option<String>,
    /// A number in the place of an input of an ONNX file, for each element: a network that is split
    /// takes one tensor.
    #[arg(long, value_name = "INPUT=NUMBER", value_parser = fixed)]
    fix: Vec<(String, f32)>,
}

fn fixed(text: &str) -> Result<(String, f32), String> {
    let parts = text.rsplit_once('=');
    let parts = parts.and_then(|(name, number)| Some((name, number.parse::<f32>().ok()?)));
    match parts {
        Some((name, number)) if !name.is_empty() && number.is_finite() => {
            Ok((name.to_string(), number))
        }
        _ => Err("write the input's name and a number as meta=0".into()),
    }
}

/// What a built-in network may be told besides its input.
#[derive(Debug, clap::Args)]
pub struct Sizes {
    /// Classes of a built-in network; its paper's (1000, or 10 of the small ones) if left out.
    #[arg(long, help_heading = BUILT_IN)]
    pub classes: Option<usize>,
    /// Factor of all channel counts of mobilenetv2, resnet8, resnet14 or resnet20.
    #[arg(long, value_name = "FACTOR", help_heading = BUILT_IN)]
    pub width: Option<f64>,
}

/// Where help lists what only built-in networks take.
pub const BUILT_IN: &str = "Built-in networks";

/// The name of the trained network inside the program.
const DEMO: &str = "demo";

/// A seed nobody chose; sessions have the same.
pub const SEED: u64 = 7;

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
pub struct LoadedGraph {
    /// The graph as it runs, its batch norms and activations fused into their layers.
    pub fused: Graph,
}

impl NetworkArgs {
    /// Imports or builds the network, and fuses it.
    pub fn load(&self) -> anyhow::Result<LoadedGraph> {
        let source = self.source()?;
        let imported = load(&source, self.seed.unwrap_or(SEED))?;
        check_input(&source, &imported, self.input, "--input")?;
        Ok(LoadedGraph::of(imported))
    }

    /// The network as it comes, with all its outputs.
    pub fn import(&self) -> anyhow::Result<Graph> {
        let source = self.source()?;
        let imported = explained(&source, source.load_whole(self.seed.unwrap_or(SEED)))?;
        check_input(&source, &imported, self.input, "--input")?;
        Ok(imported)
    }

    fn source(&self) -> anyhow::Result<ModelSource> {
        let Some(model) = &self.model else {
            return Err(usage("name a network"));
        };
        refuse_seed(model, self.seed)?;
        let source = source(model, self.input, &self.sizes)?;
        self.choice.applied(source)
    }
}

impl ShapedNetworkArgs {
    /// Imports or builds the network, and fuses it.
    /// `tensor` are the extents of the first input, which a file may leave open.
    pub fn load(&self, tensor: &[usize]) -> anyhow::Result<LoadedGraph> {
        let Some(model) = &self.model else {
            return Err(usage("name a network, or a part with --part"));
        };
        refuse_seed(model, self.seed)?;
        let source = source(model, self.shape, &self.sizes)?;
        let source = match (source, tensor) {
            (ModelSource::Onnx(path), &[_, c, h, w]) => ModelSource::OnnxWith {
                path,
                input: Some((c, h, w)),
                classifier: None,
                fixed: Vec::new(),
            },
            (source, _) => source,
        };
        let imported = explained(&source, source.load_whole(self.seed.unwrap_or(SEED)))?;
        check_input(&source, &imported, self.shape, "--shape")?;
        Ok(LoadedGraph::of(imported))
    }
}

/// The network that `name` means, as a session would say it.
pub fn source(name: &str, input: Option<InputShape>, sizes: &Sizes) -> anyhow::Result<ModelSource> {
    if let Ok(network) = name.parse::<BuiltIn>() {
        let model = network.model();
        let (c, h, w) = model.paper_input();
        let InputShape([c, h, w]) = input.unwrap_or(InputShape([c, h, w]));
        return Ok(ModelSource::Zoo {
            network,
            input: (c, h, w),
            classes: sizes.classes.unwrap_or(model.paper_classes()),
            width: sizes.width,
        });
    }
    let own = match name == DEMO {
        true => ModelSource::Demo,
        false => match input {
            None => ModelSource::Onnx(name.into()),
            Some(InputShape([c, h, w])) => ModelSource::OnnxWith {
                path: name.into(),
                input: Some((c, h, w)),
                classifier: None,
                fixed: Vec::new(),
            },
        },
    };
    for (flag, given) in [
        ("--classes", sizes.classes.is_some()),
        ("--width", sizes.width.is_some()),
    ] {
        if given {
            return Err(only_built_in(flag, name));
        }
    }
    Ok(own)
}

impl Choice {
    /// The source with what was chosen.
    pub fn applied(&self, source: ModelSource) -> anyhow::Result<ModelSource> {
        if self.classifier.is_none() && self.fix.is_empty() {
            return Ok(source);
        }
        let (path, input) = match source {
            ModelSource::Onnx(path) => (path, None),
            ModelSource::OnnxWith { path, input, .. } => (path, input),
            ModelSource::Zoo { .. } | ModelSource::Demo => {
                let what = "--classifier and --fix are for an ONNX file; this network has one input \
                            and one output";
                return Err(usage(what.to_string()));
            }
        };
        Ok(ModelSource::OnnxWith {
            path,
            input,
            classifier: self.classifier.clone(),
            fixed: self.fix.clone(),
        })
    }
}

fn only_built_in(flag: &str, name: &str) -> anyhow::Error {
    usage(format!(
        "{flag} is for a built-in network that comes untrained; {name} has its own"
    ))
}

/// A file has its weights.
fn refuse_seed(name: &str, seed: Option<u64>) -> anyhow::Result<()> {
    match seed {
        Some(_) if name.parse::<BuiltIn>().is_err() => Err(only_built_in("--seed", name)),
        _ => Ok(()),
    }
}

/// The network as imported or built. Settings a built-in network can't have are wrong use.
pub fn load(source: &ModelSource, seed: u64) -> anyhow::Result<Graph> {
    explained(source, source.load(seed))
}

/// A network, or why there is none in the words of the command line.
fn explained(source: &ModelSource, loaded: Result<Graph, ModelError>) -> anyhow::Result<Graph> {
    loaded.map_err(|error| match (source.file(), error) {
        (_, ModelError::Zoo(zoo)) => usage(zoo.to_string()),
        // A missing file whose name looks like a network's may be a slip of the pen.
        (
            Some(path),
            ModelError::Import(ImportError::Read {
                file,
                source: cause,
            }),
        ) if cause.kind() == std::io::ErrorKind::NotFound
            && path.components().count() == 1
            && path.extension().is_none() =>
        {
            match file.parse::<BuiltIn>() {
                Err(unknown) => anyhow::Error::msg(format!("{file}: no such file, and {unknown}")),
                Ok(_) => cause.into(),
            }
        }
        (_, error) => error.into(),
    })
}

/// A file has its input: asking for the same is no mistake, asking for another would be ignored.
pub fn check_input(
    source: &ModelSource,
    graph: &Graph,
    asked: Option<InputShape>,
    flag: &str,
) -> anyhow::Result<()> {
    let (name, asked) = match (source, source.file(), asked) {
        (_, Some(path), Some(asked)) => (path.display().to_string(), asked),
        (ModelSource::Demo, _, Some(asked)) => (DEMO.to_string(), asked),
        _ => return Ok(()),
    };
    if takes(graph, asked) {
        return Ok(());
    }
    let shape = |&i| graph.value(i).shape.to_string();
    let shapes: Vec<String> = graph.inputs.iter().map(shape).collect();
    Err(usage(format!(
        "{flag} {asked}: {name} takes {}; only built-in networks that come untrained, and files that \
         leave it open, take other sizes",
        shapes.join(", ")
    )))
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

impl LoadedGraph {
    /// Of a network as it came.
    pub fn of(imported: Graph) -> Self {
        LoadedGraph {
            fused: fused(imported),
        }
    }

    /// The table of the graph's layers.
    pub fn table(&self) -> anyhow::Result<LayerTable> {
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
