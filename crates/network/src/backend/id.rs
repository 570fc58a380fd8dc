/*! The names of backends: an engine and what it runs on, in the words of the command line and of sessions. */

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// A backend to choose: an engine, and what it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum BackendId {
    /// `native`: our own engine, on the CPU.
    #[default]
    Native,
    /// `candle`: candle's operations, on a device of its own.
    Candle(CandleDevice),
    /// `onnxruntime`: ONNX Runtime, by one of its execution providers.
    OnnxRuntime(Provider),
}

/// A device that candle has operations for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum CandleDevice {
    /// `cpu`: slow, and a second opinion on our engine.
    #[default]
    Cpu,
    /// `cuda:N`: the n-th CUDA device, from 0.
    Cuda(usize),
    /// `metal`: Apple's GPU through candle's Metal kernels.
    Metal,
}

/// An execution provider of ONNX Runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Provider {
    /// `cpu`: ONNX Runtime's own kernels.
    #[default]
    Cpu,
    /// `cuda:N`: cuDNN and ONNX Runtime's own kernels on the n-th CUDA device, from 0.
    Cuda(usize),
    /// `tensorrt:N`: TensorRT on the n-th CUDA device, from 0; what TensorRT doesn't cover runs by CUDA.
    /// It may round factors to TF32 unless `NVIDIA_TF32_OVERRIDE` is 0.
    TensorRt(usize),
    /// `openvino`: OpenVINO on the CPU.
    OpenVino,
}

/// Why a backend can't be had.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// A name that no engine has.
    #[error("engine `{0}` isn't known: engines are native, candle and onnxruntime")]
    Engine(String),
    /// A provider that the engine doesn't have.
    #[error("engine `{engine}` has no provider `{provider}`: it has {known}")]
    Provider {
        /// Name of the engine.
        engine: &'static str,
        /// Name of the provider as it was given.
        provider: String,
        /// Names of the engine's providers.
        known: &'static str,
    },
    /// A backend that this build leaves out.
    #[error("engine {name} can't be used: build this program with `--features {feature}`")]
    NotBuilt {
        /// Name of the backend.
        name: BackendId,
        /// Cargo feature to build with.
        feature: &'static str,
    },
    /// A device that isn't there, or doesn't answer.
    #[error("engine {name} can't be used")]
    Unavailable {
        /// Name of the backend.
        name: BackendId,
        /// Reason that its driver or its library gives.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A shared library that was not found anywhere.
    #[error(
        "engine {name} can't be used: {file} is neither beside this program nor in the library folders or a \
         Python environment; {remedy}"
    )]
    NoLibrary {
        /// Name of the backend.
        name: BackendId,
        /// Name of the file that was looked for.
        file: &'static str,
        /// Command or package that brings the file.
        remedy: String,
    },
    /// A shared library that was found and can't be used.
    #[error("engine {name} can't be used: {}: {reason}; {remedy}", .library.display())]
    Library {
        /// Name of the backend.
        name: BackendId,
        /// Path of the library.
        library: PathBuf,
        /// What is wrong with the library.
        reason: String,
        /// Command or package that mends it.
        remedy: String,
    },
    /// A folder for TensorRT's engines that can't be made or written to.
    #[error(
        "engine {name} can't be used: {}, where its engines are kept, can't be written to: {reason}; a service \
         gets a folder by CacheDirectory=edgelesspart in its unit, else CACHE_DIRECTORY or XDG_CACHE_HOME names \
         one",
        .folder.display()
    )]
    Cache {
        /// Name of the backend.
        name: BackendId,
        /// Path of the folder.
        folder: PathBuf,
        /// What is wrong with the folder.
        reason: String,
    },
    /// No variable that names a folder for TensorRT's engines.
    #[error(
        "engine {name} can't be used: there is no folder to keep its engines in; CACHE_DIRECTORY, \
         XDG_CACHE_HOME or HOME must be an absolute path"
    )]
    NoCache {
        /// Name of the backend.
        name: BackendId,
    },
}

impl BackendId {
    /// The backend of an engine and a provider, as the command line names them: `native`, `candle` or
    /// `onnxruntime`, and `cpu`, `cuda`, `cuda:1`. A device without a number is the first.
    ///
    /// # Errors
    /// On a name that no engine has, and on a provider that the engine doesn't have.
    pub fn named(engine: &str, provider: &str) -> Result<BackendId, BackendError> {
        let (kind, index) = match provider.split_once(':') {
            None => (provider, Some(0)),
            Some((kind, index)) => (kind, index.parse().ok()),
        };
        let plain = !provider.contains(':');
        let (engine, known) = match engine {
            "native" => ("native", "cpu"),
            "candle" => ("candle", "cpu, cuda, cuda:N and metal"),
            "onnxruntime" => (
                "onnxruntime",
                "cpu, cuda, cuda:N, tensorrt, tensorrt:N and openvino",
            ),
            _ => return Err(BackendError::Engine(engine.to_string())),
        };
        use {BackendId::Candle, BackendId::OnnxRuntime};
        match (engine, kind, index) {
            ("native", "cpu", _) if plain => Ok(BackendId::Native),
            ("candle", "cpu", _) if plain => Ok(Candle(CandleDevice::Cpu)),
            ("candle", "metal", _) if plain => Ok(Candle(CandleDevice::Metal)),
            ("candle", "cuda", Some(index)) => Ok(Candle(CandleDevice::Cuda(index))),
            ("onnxruntime", "cpu", _) if plain => Ok(OnnxRuntime(Provider::Cpu)),
            ("onnxruntime", "openvino", _) if plain => Ok(OnnxRuntime(Provider::OpenVino)),
            ("onnxruntime", "cuda", Some(index)) => Ok(OnnxRuntime(Provider::Cuda(index))),
            ("onnxruntime", "tensorrt", Some(index)) => Ok(OnnxRuntime(Provider::TensorRt(index))),
            _ => Err(BackendError::Provider {
                engine,
                provider: provider.to_string(),
                known,
            }),
        }
    }

    /// Name of the engine: `native`, `candle` or `onnxruntime`.
    pub fn engine(self) -> &'static str {
        match self {
            BackendId::Native => "native",
            BackendId::Candle(_) => "candle",
            BackendId::OnnxRuntime(_) => "onnxruntime",
        }
    }

    /// Name of what the engine runs on: `cpu`, `cuda:0`.
    pub fn provider(self) -> String {
        match self {
            BackendId::Native
            | BackendId::Candle(CandleDevice::Cpu)
            | BackendId::OnnxRuntime(Provider::Cpu) => "cpu".to_string(),
            BackendId::Candle(CandleDevice::Cuda(index))
            | BackendId::OnnxRuntime(Provider::Cuda(index)) => format!("cuda:{index}"),
            BackendId::Candle(CandleDevice::Metal) => "metal".to_string(),
            BackendId::OnnxRuntime(Provider::TensorRt(index)) => format!("tensorrt:{index}"),
            BackendId::OnnxRuntime(Provider::OpenVino) => "openvino".to_string(),
        }
    }
}

impl fmt::Display for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackendId::Native => f.write_str("native"),
            other => write!(f, "{} ({})", other.engine(), other.provider()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    #[rstest]
    #[case("native", "cpu", BackendId::Native, "native")]
    #[case("candle", "cpu", BackendId::Candle(CandleDevice::Cpu), "candle (cpu)")]
    #[case(
        "candle",
        "cuda:3",
        BackendId::Candle(CandleDevice::Cuda(3)),
        "candle (cuda:3)"
    )]
    #[case(
        "candle",
        "metal",
        BackendId::Candle(CandleDevice::Metal),
        "candle (metal)"
    )]
    #[case(
        "onnxruntime",
        "cpu",
        BackendId::OnnxRuntime(Provider::Cpu),
        "onnxruntime (cpu)"
    )]
    #[case(
        "onnxruntime",
        "cuda:1",
        BackendId::OnnxRuntime(Provider::Cuda(1)),
        "onnxruntime (cuda:1)"
    )]
    #[case(
        "onnxruntime",
        "tensorrt:0",
        BackendId::OnnxRuntime(Provider::TensorRt(0)),
        "onnxruntime (tensorrt:0)"
    )]
    #[case(
        "onnxruntime",
        "openvino",
        BackendId::OnnxRuntime(Provider::OpenVino),
        "onnxruntime (openvino)"
    )]
    fn a_backend_is_named_as_it_is_written(
        #[case] engine: &str,
        #[case] provider: &str,
        #[case] id: BackendId,
        #[case] shown: &str,
    ) {
        assert_eq!(BackendId::named(engine, provider).unwrap(), id);
        assert_eq!((id.engine(), id.provider().as_str()), (engine, provider));
        assert_eq!(id.to_string(), shown);
    }

    #[test]
    fn a_device_without_a_number_is_the_first() {
        for (engine, provider, id) in [
            ("candle", "cuda", BackendId::Candle(CandleDevice::Cuda(0))),
            (
                "onnxruntime",
                "cuda",
                BackendId::OnnxRuntime(Provider::Cuda(0)),
            ),
            (
                "onnxruntime",
                "tensorrt",
                BackendId::OnnxRuntime(Provider::TensorRt(0)),
            ),
        ] {
            assert_eq!(BackendId::named(engine, provider).unwrap(), id);
        }
    }

    #[rstest]
    #[case("native", "cuda", "it has cpu")]
    #[case("native", "cpu:0", "it has cpu")]
    #[case("candle", "tensorrt", "cuda:N and metal")]
    #[case("candle", "cuda:", "cuda:N and metal")]
    #[case("candle", "cuda:-1", "cuda:N and metal")]
    #[case("onnxruntime", "metal", "tensorrt:N and openvino")]
    #[case("onnxruntime", "CPU", "tensorrt:N and openvino")]
    #[case("onnxruntime", "", "tensorrt:N and openvino")]
    #[case("tract", "cpu", "engines are native, candle and onnxruntime")]
    #[case("", "cpu", "engines are native, candle and onnxruntime")]
    fn what_names_no_backend_is_refused_with_those_there_are(
        #[case] engine: &str,
        #[case] provider: &str,
        #[case] words: &str,
    ) {
        let error = BackendId::named(engine, provider).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
