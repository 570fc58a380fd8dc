/*! `export`: a network as an ONNX file, or the parts of a session as files. */

mod parts;

use super::error::usage;
use super::network::NetworkArgs;
use crate::engine::Cancel;
use crate::model::export::write_file;
use crate::model::fuse::fused;
use std::path::PathBuf;

/// Write a network as an ONNX file: a built-in one with its untrained weights, or a file as this
/// program understands it. `export parts` writes the parts of a session's plan.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct ExportArgs {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    network: NetworkArgs,
    /// The file to write; one that is there is replaced.
    #[arg(required = true)]
    out: Option<PathBuf>,
    /// As it runs: batch norms folded into the convolutions, constants computed.
    #[arg(long)]
    fused: bool,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Parts(parts::PartsArgs),
}

/// Runs the command.
pub fn run(args: &ExportArgs, cancel: &Cancel) -> anyhow::Result<()> {
    if let Some(What::Parts(args)) = &args.what {
        return parts::run(args, cancel);
    }
    let Some(out) = &args.out else {
        return Err(usage("name the file to write"));
    };
    let imported = args.network.import()?;
    let graph = if args.fused {
        fused(imported)
    } else {
        imported
    };
    write_file(&graph, out)?;
    crate::cli::progress::note(format_args!(
        "{}: {} nodes",
        out.display(),
        graph.nodes.len()
    ));
    Ok(())
}
