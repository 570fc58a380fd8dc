/*! What can go wrong when a network is compiled or run, whichever engine does it. */

/// A node that an engine doesn't cover.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("node `{node}`: {what} is not supported by the engine")]
pub struct Unsupported {
    /// Name of the node.
    pub node: String,
    /// Op, setting or extents that are not covered.
    pub what: String,
}

/// Why a network can't be compiled, or a run has failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// An op, or a combination of its settings, that the engine doesn't cover. Raised at compile time.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// An input that doesn't fit the network.
    #[error("input `{name}` is {found}, the network takes {expected}")]
    Input {
        /// Name of the network's input.
        name: String,
        /// Type and extents, or the count, that the network takes.
        expected: String,
        /// Type and elements, or the count, that was given.
        found: String,
    },
    /// A buffer that doesn't fit an output of the network.
    #[error("output `{name}` is {expected}, and was given {found}")]
    Output {
        /// Name of the network's output, or of the network where the count is wrong.
        name: String,
        /// Type and extents, or the count, of the network's outputs.
        expected: String,
        /// Type and elements, or the count, of the buffers.
        found: String,
    },
    /// A value that only shows while running (an index out of range).
    #[error("node `{node}`: {what}")]
    Run {
        /// Name of the node.
        node: String,
        /// What is wrong with the value.
        what: String,
    },
    /// A network that another runtime refuses, or fails on.
    #[error("{runtime}: network `{network}`: {what}")]
    Runtime {
        /// Name and version of the runtime.
        runtime: String,
        /// Name of the network.
        network: String,
        /// Message of the runtime, and the remedy where one is known.
        what: String,
    },
    /// A piece of the network that isn't one.
    #[error(transparent)]
    Piece(#[from] crate::model::GraphError),
    /// An instruction set that isn't known, or that this processor lacks.
    #[error(
        "kernels `{0}` can't run here: set EDGELESSPART_SIMD to portable, avx2, avx512 or neon"
    )]
    Isa(String),
    /// Stopped through its [`Cancel`](super::Cancel) token.
    #[error("stopped")]
    Cancelled,
}
