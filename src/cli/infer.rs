/*! `infer`: run a network, or a part, on a NumPy file, so that anyone can check it against another runtime. */

mod part;

use super::engine::EngineArgs;
use super::error::usage;
use super::network::ShapedNetworkArgs;
use crate::backend::CompileOptions;
use crate::data::npy;
use crate::engine::{Cancel, share_threads};
use crate::model::{Constant, DType, Value};
use anyhow::Context;
use std::path::{Path, PathBuf};

/// Run a network on a tensor in NumPy's format and write its outputs, or a part, sample by sample as an
/// agent does, and say where each leaves. As --input is the tensor here, the size of a built-in network
/// is said with --shape.
#[derive(Debug, clap::Args)]
pub struct InferArgs {
    #[command(flatten)]
    network: ShapedNetworkArgs,
    /// In place of a network: a part, as a bundle (.tar) or the folder it was exported to. Prints for each
    /// sample the exit at which it leaves, its class, and its confidence.
    #[arg(long, value_name = "FILE")]
    part: Option<PathBuf>,
    /// In place of the part's thresholds, 0 to 1.
    #[arg(long, value_name = "C_THR", requires = "part")]
    threshold: Option<f64>,
    /// One JSON document of what became of the samples of a part.
    #[arg(long, requires = "part")]
    json: bool,
    /// The input, batch first (.npy); once for each input of the network, in its order. The first part of
    /// a network for images takes pixels (uint8 [samples, c, h, w]) too.
    #[arg(long, required = true)]
    input: Vec<PathBuf>,
    /// Where the output goes (.npy); once for each output of the network, in its order. A part writes the
    /// tensors of the samples that go on; one that ends the network, the scores of all.
    #[arg(long, required_unless_present = "part")]
    output: Vec<PathBuf>,
    /// Threads; all the cores this process may use if left out.
    #[arg(long, default_value_t = 0, value_parser = super::threads)]
    threads: usize,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Runs the command.
pub fn run(args: &InferArgs, cancel: &Cancel) -> anyhow::Result<()> {
    let backend = args.engine.backend()?;
    if let Some(file) = &args.part {
        return part::run(args, file, cancel);
    }
    let mut arrays = Vec::new();
    for path in &args.input {
        arrays.push(npy::read(path)?);
    }
    let network = args
        .network
        .load(arrays.first().map_or(&[], |a| &a.shape))?;
    let graph = &network.fused;
    let names = |ids: &[crate::model::ValueId]| {
        let names: Vec<&str> = ids.iter().map(|&v| graph.value(v).name.as_str()).collect();
        names.join(", ")
    };
    if args.input.len() != graph.inputs.len() {
        let (n, names) = (graph.inputs.len(), names(&graph.inputs));
        return Err(usage(format!(
            "the network takes {n} inputs ({names}): name as many with --input"
        )));
    }
    if args.output.len() != graph.outputs.len() {
        let (n, names) = (graph.outputs.len(), names(&graph.outputs));
        return Err(usage(format!(
            "the network has {n} outputs ({names}): name as many with --output"
        )));
    }
    let files = args.input.iter().zip(&arrays).zip(&graph.inputs);
    let inputs: anyhow::Result<Vec<Constant>> = files
        .map(|((path, array), &id)| fitting(path, array, graph.value(id)))
        .collect();
    let inputs = inputs?;
    share_threads(args.threads);
    let options = CompileOptions {
        threads: args.threads,
    };
    let network = backend.open()?.compile(network.fused, &options)?;
    let outputs = network.infer(&inputs, cancel)?;
    for (path, output) in args.output.iter().zip(&outputs) {
        npy::write(path, output).context(format!("writing {}", path.display()))?;
        crate::cli::progress::note(format_args!("{}: {:?}", path.display(), output.shape));
    }
    Ok(())
}

/// A tensor from a file in NumPy's format, in the type that `input` takes.
fn fitting(path: &Path, read: &npy::Array, input: &Value) -> anyhow::Result<Constant> {
    if read.dtype() == "float64" && input.dtype == DType::F32 {
        eprintln!("{}: float64, rounded to float32", path.display());
    }
    read.to_constant(input.dtype).map_err(|problem| {
        anyhow::Error::msg(format!(
            "{}: {problem}, for the input `{}`; save it with that type",
            path.display(),
            input.name
        ))
    })
}
