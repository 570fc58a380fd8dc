/*!
Running graphs: a (fused) graph compiled once, for one batch size at a time, into a [`Program`] over
packed weights and a static arena.

What may live here: lowering a graph to steps, the arena, the thread pool, per-step timing, and in
`kernels` every hot loop and all `unsafe`. The engine knows [`crate::model`] and nothing else of the
house; it meets candle tensors only at its edge (`tensor`) and in training-mode ops (`training`).
*/

pub mod tensor;

use crate::model::{Constant, Graph};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What can go wrong in the engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// An op, or a combination of its settings, that no kernel covers. Raised at compile time.
    #[error("node `{node}`: {what} is not supported by the engine")]
    Unsupported {
        /// Name of the node.
        node: String,
        /// What exactly.
        what: String,
    },
    /// An input that doesn't fit the graph.
    #[error("input `{name}` is {found}, the network takes {expected}")]
    Input {
        /// Name of the graph input.
        name: String,
        /// What it takes.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A value that only shows while running (an index out of range).
    #[error("node `{node}`: {what}")]
    Run {
        /// Name of the node.
        node: String,
        /// What exactly.
        what: String,
    },
    /// Stopped through its [`Cancel`] token.
    #[error("stopped")]
    Cancelled,
}

/// A shared flag that stops a run between two steps.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A flag nobody has raised.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks whatever holds a clone to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How to run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Threads of the engine's pool, the caller's included; 0 for all the cores this process may
    /// use.
    pub threads: usize,
}

/// A network (or segment, or head) ready to run at any batch size: owns the graph, the packed
/// weights (once, shared between batch sizes) and one compiled [`Program`] for each batch size
/// seen. Cheap to clone; clones share everything but the arenas. `Send + Sync`.
#[derive(Debug, Clone)]
pub struct Engine {
    graph: Arc<Graph>,
}

/// Time of one step, as measured inside the program.
#[derive(Debug, Clone, PartialEq)]
pub struct StepTime {
    /// Name of the graph node the step came from.
    pub node: String,
    /// Time of this execution.
    pub time: Duration,
}

impl Engine {
    /// Compiles `graph`, which should be fused. Fails on what no kernel covers.
    pub fn new(graph: Graph, _options: &Options) -> Result<Engine, EngineError> {
        Ok(Engine {
            graph: Arc::new(graph),
        })
    }

    /// The graph it runs.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Runs on float inputs (row-major, in the graph's own axis order, NCHW for images) at
    /// batch size `batch`, and returns the graph's outputs in the same form.
    pub fn run_f32(
        &self,
        _batch: usize,
        _inputs: &[&[f32]],
        _cancel: &Cancel,
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        todo_engine()
    }

    /// Runs on inputs of any element type; the batch size is read off the shapes.
    pub fn run(
        &self,
        _inputs: &[Constant],
        _cancel: &Cancel,
    ) -> Result<Vec<Constant>, EngineError> {
        todo_engine()
    }

    /// Like [`Engine::run_f32`], and the time of each step in order.
    pub fn run_timed(
        &self,
        _batch: usize,
        _inputs: &[&[f32]],
        _cancel: &Cancel,
    ) -> Result<(Vec<Vec<f32>>, Vec<StepTime>), EngineError> {
        todo_engine()
    }

    /// Bytes of packed weights, and of the arena at this batch size.
    pub fn memory(&self, _batch: usize) -> Result<EngineMemory, EngineError> {
        todo_engine()
    }
}

/// What an engine holds in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EngineMemory {
    /// Packed weights.
    pub weight_bytes: usize,
    /// Arena of activations.
    pub arena_bytes: usize,
}

fn todo_engine<T>() -> Result<T, EngineError> {
    Err(EngineError::Unsupported {
        node: "all".into(),
        what: "running".into(),
    })
}
