/*! The names of backends, as the command line has them. */

use std::fmt;
use std::str::FromStr;

/// A backend to choose: our engine on the CPU, or candle on one of its devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackendId {
    /// `cpu`: our own engine.
    #[default]
    Native,
    /// Candle's operations, on a device of its own.
    Candle(CandleDevice),
}

/// A device that candle has operations for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandleDevice {
    /// `candle`: the CPU. Slow, and a second opinion on our engine.
    Cpu,
    /// `cuda:N`: the n-th CUDA device, from 0.
    Cuda(usize),
    /// Apple's GPU through candle's Metal kernels; `metal` on the command line.
    Metal,
}

/// Why a backend can't be had.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// A name that no backend has.
    #[error("device `{0}` isn't known: devices are cpu, candle, cuda, cuda:N and metal")]
    Unknown(String),
    /// A device that this build has no operations for.
    #[error("device `{name}` can't be used: build this program with `--features {feature}`")]
    NotBuilt {
        /// Name of the backend.
        name: BackendId,
        /// The feature to build with.
        feature: &'static str,
    },
    /// A device that isn't there, or doesn't answer.
    #[error("device `{name}` can't be used")]
    Unavailable {
        /// Name of the backend.
        name: BackendId,
        /// What its driver says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl FromStr for BackendId {
    type Err = BackendError;

    /// `cpu`, `candle`, `cuda` (the first), `cuda:1`, `metal`.
    fn from_str(text: &str) -> Result<Self, BackendError> {
        let index = text.strip_prefix("cuda:").map(str::parse);
        match (text, index) {
            ("cpu", _) => Ok(BackendId::Native),
            ("candle", _) => Ok(BackendId::Candle(CandleDevice::Cpu)),
            ("cuda", _) => Ok(BackendId::Candle(CandleDevice::Cuda(0))),
            ("metal", _) => Ok(BackendId::Candle(CandleDevice::Metal)),
            (_, Some(Ok(index))) => Ok(BackendId::Candle(CandleDevice::Cuda(index))),
            _ => Err(BackendError::Unknown(text.to_string())),
        }
    }
}

impl fmt::Display for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackendId::Native => f.write_str("cpu"),
            BackendId::Candle(CandleDevice::Cpu) => f.write_str("candle"),
            BackendId::Candle(CandleDevice::Cuda(index)) => write!(f, "cuda:{index}"),
            BackendId::Candle(CandleDevice::Metal) => f.write_str("metal"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("cpu", BackendId::Native, "cpu")]
    #[case("candle", BackendId::Candle(CandleDevice::Cpu), "candle")]
    #[case("cuda", BackendId::Candle(CandleDevice::Cuda(0)), "cuda:0")]
    #[case("cuda:3", BackendId::Candle(CandleDevice::Cuda(3)), "cuda:3")]
    #[case("metal", BackendId::Candle(CandleDevice::Metal), "metal")]
    fn a_backend_is_named_as_it_is_written(
        #[case] text: &str,
        #[case] id: BackendId,
        #[case] name: &str,
    ) {
        assert_eq!(text.parse::<BackendId>().unwrap(), id);
        assert_eq!(id.to_string(), name);
    }

    #[rstest]
    #[case("")]
    #[case("gpu")]
    #[case("cuda:")]
    #[case("cuda:-1")]
    #[case("CPU")]
    fn what_names_no_backend_is_refused_with_those_there_are(#[case] text: &str) {
        let error = text.parse::<BackendId>().unwrap_err();
        assert!(matches!(&error, BackendError::Unknown(name) if name == text));
        assert!(error.to_string().contains("cuda:N"), "{error}");
    }
}
