/*! `--engine` and `--provider`: what runs a network, for the commands that run one. */

use super::error::usage;
use crate::backend::BackendId;

/// What runs the network.
#[derive(Debug, clap::Args)]
pub struct EngineArgs {
    /// Engine: native, our own, on the CPU; onnxruntime, by ONNX Runtime's shared library, found at run time
    /// (docs/onnxruntime.md); or candle, for GPUs in builds with that feature and as a slow second opinion
    /// on the CPU.
    #[arg(long, default_value = "native", value_parser = ["native", "candle", "onnxruntime"], hide_possible_values = true)]
    engine: String,
    /// What the engine runs on. onnxruntime: cpu, cuda, cuda:N, tensorrt, tensorrt:N or openvino; candle:
    /// cpu, cuda, cuda:N or metal; native: cpu.
    #[arg(long, default_value = "cpu")]
    provider: String,
}

impl EngineArgs {
    /// The engine and its provider.
    ///
    /// # Errors
    /// Wrong use, where the engine has no such provider.
    pub(super) fn backend(&self) -> anyhow::Result<BackendId> {
        let named = BackendId::named(&self.engine, &self.provider);
        named.map_err(|error| usage(error.to_string()))
    }
}
