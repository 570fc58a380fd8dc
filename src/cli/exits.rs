/*! `exits`: exit classifiers at the exit points of a network: checked, rendered, or to start from. */

mod check;
mod cost;
mod source;
mod templates;
mod write;

use super::network::{self, BUILT_IN, InputShape, LoadedGraph, SEED, Sizes};
use crate::exits::{self, ExitPoint};
use crate::plan::TierNames;
use crate::session::Session;
use anyhow::Context;
use std::path::{Path, PathBuf};

/// Check and render exit classifiers at the exit points of a network, or list templates to start
/// from. `edgelesspart exits templates --reference` explains the language.
#[derive(Debug, clap::Args)]
pub struct ExitsArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Check(check::CheckArgs),
    Render(write::RenderArgs),
    Templates(templates::TemplatesArgs),
}

/// Which network, and where in it.
#[derive(Debug, clap::Args)]
pub struct PlaceArgs {
    /// An ONNX file; or a built-in network: resnet50, mobilenetv2, inceptionv3, resnet8, resnet14,
    /// resnet20; or demo, a small trained one.
    #[arg(long, default_value = "demo")]
    model: String,
    /// A session in place of --model: its network, its classifier where no source is given, and,
    /// where it has run, what heads take on its targets and whether they pay.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "input", "classes", "width", "seed"])]
    session: Option<PathBuf>,
    /// Only behind this layer; at every exit point if left out.
    #[arg(long, value_name = "LAYER")]
    at: Option<String>,
    /// Input of a built-in network, as 3x224x224; its paper's if left out.
    #[arg(long, value_name = "CxHxW", help_heading = BUILT_IN)]
    input: Option<InputShape>,
    #[command(flatten)]
    sizes: Sizes,
    /// Seed of the weights of heads and built-in networks; 7 if left out.
    #[arg(long)]
    seed: Option<u64>,
}

/// What a source is.
#[derive(Debug, clap::Args)]
pub struct SourceArgs {
    /// The source: a file, `-` for standard input, the name of a template, or `replica`, the
    /// network's own classifier; the session's, or the replica, if left out.
    #[arg(value_name = "FILE|-|TEMPLATE")]
    source: Option<String>,
    /// A folder of templates to include, which go before those beside the source and those that ship.
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
}

/// A network with its exit points, and those asked for.
struct Place {
    network: LoadedGraph,
    points: Vec<ExitPoint>,
    seed: u64,
    /// What the tiers are called: a source may make other heads for each.
    tiers: TierNames,
    /// The session that was named, its paths resolved.
    session: Option<Session>,
}

impl PlaceArgs {
    fn load(&self) -> anyhow::Result<Place> {
        let (network, seed, session) = match &self.session {
            Some(file) => {
                let folder = std::path::absolute(file).context(file.display().to_string())?;
                let folder = folder.parent().unwrap_or(Path::new("/"));
                let session = Session::read(file)?.resolved(folder);
                let fused = crate::run::Network::load(&session)?.fused;
                (LoadedGraph { fused }, session.seed, Some(session))
            }
            None => {
                let seed = self.seed.unwrap_or(SEED);
                let model = network::source(&self.model, self.input, &self.sizes)?;
                let imported = network::load(&model, seed)?;
                network::check_input(&model, &imported, self.input, "--input")?;
                (LoadedGraph::of(imported), seed, None)
            }
        };
        let table = network.table()?;
        let mut points = exits::points(&table, &network.fused);
        if let Some(name) = &self.at {
            let row = table.find(name)?;
            if !points.iter().any(|p| p.layer == row) {
                let why = table.layers[row].why_not.clone().unwrap_or_default();
                return Err(anyhow::Error::msg(format!(
                    "no exit may stand behind `{name}`: {why}"
                )));
            }
            points.retain(|p| p.layer == row);
        }
        match points.is_empty() {
            true => Err(anyhow::Error::msg(format!(
                "`{}` has no place for an exit",
                table.network
            ))),
            false => Ok(Place {
                network,
                points,
                seed,
                tiers: session
                    .as_ref()
                    .map_or_else(TierNames::default, Session::tier_names),
                session,
            }),
        }
    }
}

/// Runs the command.
pub fn run(args: &ExitsArgs) -> anyhow::Result<()> {
    match &args.what {
        What::Check(args) => check::run(args),
        What::Render(args) => write::run(args),
        What::Templates(args) => templates::run(args),
    }
}
