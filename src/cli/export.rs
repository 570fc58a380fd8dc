/*! `export`: a network as an ONNX file. */

use super::CliError;
use super::network::NetworkArgs;
use crate::model::export::write_file;
use crate::model::fuse;
use std::path::PathBuf;

/// Write a network as an ONNX file: a built-in one with its untrained weights, or a file as this
/// program understands it.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    #[command(flatten)]
    network: NetworkArgs,
    /// The file to write; one that is there is replaced.
    out: PathBuf,
    /// As it runs: batch norms folded into the convolutions, constants computed.
    #[arg(long)]
    fused: bool,
}

/// Runs the command.
pub fn run(args: &ExportArgs) -> Result<(), CliError> {
    let graph = match args.fused {
        true => fuse(&args.network.import()?),
        false => args.network.import()?,
    };
    write_file(&graph, &args.out)?;
    crate::cli::progress::note(format_args!(
        "{}: {} nodes",
        args.out.display(),
        graph.nodes.len()
    ));
    Ok(())
}
