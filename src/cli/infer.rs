/*! `infer`: run a network on a NumPy file, so that anyone can check it against another runtime. */

use super::network::ShapedNetworkArgs;
use super::{CliError, error::Context};
use crate::engine::{Cancel, Engine, Options, Processor, share_threads, tensor};
use candle_core::{Device, Tensor};
use std::path::PathBuf;

/// Run a network on a tensor in NumPy's format and write its outputs. As --input is the tensor here,
/// the size of a built-in network is said with --shape.
#[derive(Debug, clap::Args)]
pub struct InferArgs {
    #[command(flatten)]
    network: ShapedNetworkArgs,
    /// The input, batch first (.npy); once for each input of the network, in its order.
    #[arg(long, required = true)]
    input: Vec<PathBuf>,
    /// Where the output goes (.npy); once for each output of the network, in its order.
    #[arg(long, required = true)]
    output: Vec<PathBuf>,
    /// Threads; all the cores this process may use if left out.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// What runs it: cpu, cuda, cuda:N or metal; GPUs in builds with that feature.
    #[arg(long, default_value = "cpu")]
    device: Processor,
}

/// Runs the command.
pub fn run(args: &InferArgs, cancel: &Cancel) -> Result<(), CliError> {
    let network = args.network.load()?;
    let graph = &network.fused;
    let names = |ids: &[crate::model::ValueId]| {
        let names: Vec<&str> = ids.iter().map(|&v| graph.value(v).name.as_str()).collect();
        names.join(", ")
    };
    if args.input.len() != graph.inputs.len() {
        let (n, names) = (graph.inputs.len(), names(&graph.inputs));
        return Err(CliError::usage(format!(
            "the network takes {n} inputs ({names}): name as many with --input"
        )));
    }
    if args.output.len() != graph.outputs.len() {
        let (n, names) = (graph.outputs.len(), names(&graph.outputs));
        return Err(CliError::usage(format!(
            "the network has {n} outputs ({names}): name as many with --output"
        )));
    }
    let mut inputs = Vec::new();
    for path in &args.input {
        let read = Tensor::read_npy(path).context(format!("reading {}", path.display()))?;
        inputs.push(tensor::from_tensor(&read).context(path.display().to_string())?);
    }
    let options = Options {
        threads: args.threads,
    };
    share_threads(&options);
    let engine = Engine::on(args.device, network.fused, &options)?;
    let outputs = engine.run(&inputs, cancel)?;
    for (path, output) in args.output.iter().zip(&outputs) {
        let tensor = tensor::to_tensor(output, &Device::Cpu)?;
        tensor
            .write_npy(path)
            .context(format!("writing {}", path.display()))?;
        eprintln!("{}: {:?}", path.display(), output.shape);
    }
    Ok(())
}
