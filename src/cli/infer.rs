/*! `infer`: run a network on a NumPy file, so that anyone can check it against another runtime. */

use super::network::ShapedNetworkArgs;
use super::{CliError, error::Context};
use crate::backend::{BackendId, CompileOptions};
use crate::engine::{Cancel, share_threads};
use crate::model::{Constant, Data};
use candle_core::{DType, Device, Tensor};
use std::path::{Path, PathBuf};

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
    /// What runs it: cpu, cuda, cuda:N or metal (GPUs in builds with that feature), or candle, a slow
    /// second opinion on the CPU.
    #[arg(long, default_value = "cpu")]
    device: BackendId,
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
    let inputs: Result<Vec<Constant>, CliError> = args.input.iter().map(|p| read(p)).collect();
    let inputs = inputs?;
    share_threads(args.threads);
    let options = CompileOptions {
        threads: args.threads,
    };
    let network = args.device.open()?.compile(network.fused, &options)?;
    let outputs = network.infer(&inputs, cancel)?;
    for (path, output) in args.output.iter().zip(&outputs) {
        write(path, output)?;
        eprintln!("{}: {:?}", path.display(), output.shape);
    }
    Ok(())
}

/// A tensor from a file in NumPy's format.
fn read(path: &Path) -> Result<Constant, CliError> {
    let name = path.display();
    let tensor = Tensor::read_npy(path).context(format!("reading {name}"))?;
    let flat = tensor.flatten_all()?;
    let data = match tensor.dtype() {
        DType::F32 => Data::F32(flat.to_vec1()?.into()),
        DType::I64 => Data::I64(flat.to_vec1()?.into()),
        DType::I32 => Data::I32(flat.to_vec1()?.into()),
        DType::U8 => Data::U8(flat.to_vec1()?.into()),
        other => {
            let what = format!("{name} holds {other:?}: a network takes F32, I64, I32 and U8");
            return Err(CliError::failed(what));
        }
    };
    Ok(Constant {
        shape: tensor.dims().to_vec(),
        data,
    })
}

/// Writes a tensor in NumPy's format. I8 becomes I32, and Bool becomes U8.
fn write(path: &Path, constant: &Constant) -> Result<(), CliError> {
    let (shape, device) = (constant.shape.as_slice(), &Device::Cpu);
    let tensor = match &constant.data {
        Data::F32(v) => Tensor::from_slice(v, shape, device)?,
        Data::I64(v) => Tensor::from_slice(v, shape, device)?,
        Data::I32(v) => Tensor::from_slice(v, shape, device)?,
        Data::U8(v) | Data::Bool(v) => Tensor::from_slice(v, shape, device)?,
        Data::I8(v) => {
            let wide: Vec<i32> = v.iter().map(|&x| i32::from(x)).collect();
            Tensor::from_vec(wide, shape, device)?
        }
    };
    let written = tensor.write_npy(path);
    written.context(format!("writing {}", path.display()))
}
