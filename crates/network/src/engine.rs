/*!
Our own compiled programs: a (fused) graph compiled, for one batch size at a time, into a `Program`
over packed weights and a static arena.

What may live here: lowering a graph to steps, the arena, the thread pool, per-step timing, and in
`kernels` every hot loop and all `unsafe`. The engine knows [`crate::model`] and nothing else of the
house; what else could run a graph, and the choice between them, is in the room `backend`.
*/

mod arenas;
mod cancel;
mod error;
mod general;
mod isa;
pub(crate) mod kernels;
mod lower;
mod options;
mod per_batch;
mod program;
mod tensor;
mod weights;

use crate::model::{Graph, Node, ValueId};
pub(crate) use arenas::Arenas;
pub use cancel::Cancel;
pub use error::{EngineError, Unsupported};
pub(crate) use general::{TensorInfo, check as check_op};
pub use isa::Isa;
use kernels::loops::KernelTable;
use kernels::threads::Pool;
pub use options::{Options, most_threads, share_threads};
pub(crate) use per_batch::PerBatch;
use program::Program;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
pub use tensor::{Port, TensorMut, TensorRef};
pub(crate) use tensor::{check_batch, check_inputs, check_outputs, constant_bytes};
use weights::Weights;

/// A network (or segment, or head) ready to run at any batch size: owns the graph and one compiled
/// program for each batch size seen. Each run takes an arena for itself, so that any number may go on
/// at a time. `Send + Sync`.
pub struct Engine {
    graph: Graph,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    kernels: KernelTable,
    pool: Arc<Pool>,
    /// Packed weights of the program for batch size 1, for those of other batch sizes.
    weights: Weights,
    programs: PerBatch<Program>,
    arenas: Arc<Arenas>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Engine({}, {} nodes)",
            self.graph.name,
            self.graph.nodes.len()
        )
    }
}

/// What a program does for one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepInfo {
    /// Name of the graph node the step came from.
    pub node: String,
    /// The kernel chosen for it.
    pub kernel: String,
    /// Bytes of its weights, biases and other constants, in the form in which the kernel reads them.
    pub parameter_bytes: usize,
}

/// What an engine holds in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineMemory {
    /// Weights as the kernels read them.
    pub weight_bytes: usize,
    /// Arena of activations, and what the threads work in beside it.
    pub arena_bytes: usize,
}

impl EngineMemory {
    fn of(program: &Program) -> EngineMemory {
        EngineMemory {
            weight_bytes: program.weight_bytes(),
            arena_bytes: program.arena_bytes(),
        }
    }
}

fn name(graph: &Graph, id: ValueId) -> &str {
    &graph.value(id).name
}

/// The nodes of `graph` that the engine doesn't cover, each with the reason.
pub fn check(graph: &Graph) -> Vec<Unsupported> {
    let refused = |node: &Node| {
        let infos = |ids: &[ValueId]| -> Vec<TensorInfo> {
            let ids = ids.iter();
            ids.map(|&id| TensorInfo::of(graph, id, 1)).collect()
        };
        let what = check_op(&node.op, &infos(&node.inputs), &infos(&node.outputs)).err()?;
        Some(Unsupported {
            node: node.name.clone(),
            what,
        })
    };
    graph.nodes.iter().filter_map(refused).collect()
}

impl Engine {
    /// Compiles `graph`, which should be fused. Weights are packed one by one and let go where nobody
    /// else holds the graph's constants: give the graph itself, not a clone, where memory counts.
    ///
    /// # Errors
    /// On what no kernel covers.
    pub fn new(graph: Graph, options: &Options) -> Result<Engine, EngineError> {
        Engine::with_kernels(graph, options, None)
    }

    /// Like [`Engine::new`], with the kernels of one instruction set; `None` for the fastest this
    /// processor has, or what the environment variable `EDGELESSPART_SIMD` names (portable, avx2,
    /// avx512, neon).
    ///
    /// # Errors
    /// Those of [`Engine::new`], and where the processor lacks the instruction set.
    pub fn with_kernels(
        graph: Graph,
        options: &Options,
        isa: Option<Isa>,
    ) -> Result<Engine, EngineError> {
        Engine::sharing(graph, options, isa, Arc::default())
    }

    /// Like [`Engine::with_kernels`], with arenas that other engines use too.
    pub(crate) fn sharing(
        graph: Graph,
        options: &Options,
        isa: Option<Isa>,
        arenas: Arc<Arenas>,
    ) -> Result<Engine, EngineError> {
        let mut graph = graph;
        let (kernels, pool) = (Isa::choose(isa).map_err(EngineError::Isa)?, options.pool());
        let mut constants = std::mem::take(&mut graph.constants);
        let none = Weights::new();
        let first = Program::compile(&graph, &mut constants, 1, &none, kernels, pool.clone())?;
        graph.constants = constants;
        Ok(Engine {
            inputs: Port::of(&graph, &graph.inputs),
            outputs: Port::of(&graph, &graph.outputs),
            graph,
            kernels,
            pool,
            weights: first.weights().clone(),
            programs: PerBatch::new(first),
            arenas,
        })
    }

    /// What the network takes, in order.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// What the network gives, in order.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// Threads it runs on, the caller's included.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    fn program(&self, batch: usize) -> Result<Arc<Program>, EngineError> {
        check_batch(&self.inputs, batch)?;
        self.programs.get(batch, || {
            let mut constants = self.graph.constants.clone();
            let (kernels, pool) = (self.kernels, self.pool.clone());
            Program::compile(
                &self.graph,
                &mut constants,
                batch,
                &self.weights,
                kernels,
                pool,
            )
        })
    }

    fn execute(
        &self,
        batch: usize,
        inputs: &[TensorRef],
        outputs: &mut [TensorMut],
        cancel: &Cancel,
        times: Option<&mut Vec<Duration>>,
    ) -> Result<(), EngineError> {
        check_inputs(&self.inputs, batch, inputs)?;
        check_outputs(&self.graph.name, &self.outputs, batch, outputs)?;
        let program = self.program(batch)?;
        let inputs: Vec<&[u8]> = inputs.iter().map(|x| x.bytes()).collect();
        let mut outputs: Vec<&mut [u8]> = outputs.iter_mut().map(TensorMut::bytes_mut).collect();
        let mut arena = self.arenas.take(program.block_bytes());
        let result = program.run(&mut arena, &inputs, &mut outputs, cancel, times);
        self.arenas.give(arena);
        result
    }

    /// Runs `batch` samples, compiling for that batch size if none has been run yet. `inputs` and
    /// `outputs` hold one entry per input and output of the graph, each of its type and length.
    ///
    /// # Errors
    /// Where a tensor doesn't fit, an op meets a value it has no answer for, or `cancel` is raised.
    pub fn run(
        &self,
        batch: usize,
        inputs: &[TensorRef],
        outputs: &mut [TensorMut],
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        self.execute(batch, inputs, outputs, cancel, None)
    }

    /// Like [`Engine::run`], and puts the time of each step into `times`, in the order of
    /// [`Engine::steps`]. The last step's time holds the copy to the outputs: the sum is the run.
    ///
    /// # Errors
    /// Those of [`Engine::run`].
    pub fn run_timed(
        &self,
        batch: usize,
        inputs: &[TensorRef],
        outputs: &mut [TensorMut],
        cancel: &Cancel,
        times: &mut Vec<Duration>,
    ) -> Result<(), EngineError> {
        times.clear();
        self.execute(batch, inputs, outputs, cancel, Some(times))
    }

    /// The kernel chosen for each node at this batch size.
    ///
    /// # Errors
    /// Where the graph can't be compiled for it.
    pub fn steps(&self, batch: usize) -> Result<Vec<StepInfo>, EngineError> {
        Ok(self.program(batch)?.describe())
    }

    /// Bytes of packed weights, and of the arena at this batch size.
    ///
    /// # Errors
    /// Where the graph can't be compiled for it.
    pub fn memory(&self, batch: usize) -> Result<EngineMemory, EngineError> {
        Ok(EngineMemory::of(&*self.program(batch)?))
    }

    /// Bytes that the piece of the network between two of its values would hold, were it compiled by
    /// itself: lowered anew over the weights that are packed already, so that it costs next to nothing.
    ///
    /// # Errors
    /// Where the network has no such values, or none of the two is computed from the other.
    pub fn memory_between(
        &self,
        batch: usize,
        input: &str,
        output: &str,
    ) -> Result<EngineMemory, EngineError> {
        let (_, program) = self.piece(batch, input, output)?;
        Ok(EngineMemory::of(&program))
    }

    /// The piece of the network between two of its values, ready to run at batch 1, over the weights
    /// that are packed already.
    ///
    /// # Errors
    /// As [`Engine::memory_between`].
    pub fn between(&self, input: &str, output: &str) -> Result<Engine, EngineError> {
        let (graph, first) = self.piece(1, input, output)?;
        Ok(Engine {
            inputs: Port::of(&graph, &graph.inputs),
            outputs: Port::of(&graph, &graph.outputs),
            graph,
            kernels: self.kernels,
            pool: self.pool.clone(),
            weights: first.weights().clone(),
            programs: PerBatch::new(first),
            arenas: self.arenas.clone(),
        })
    }

    fn piece(
        &self,
        batch: usize,
        input: &str,
        output: &str,
    ) -> Result<(Graph, Program), EngineError> {
        let graph = &self.graph;
        let mut piece = graph.subgraph(&[graph.find(input)?], &[graph.find(output)?])?;
        let ids = piece.constants.keys();
        let ids: HashMap<&str, ValueId> = ids.map(|&id| (name(&piece, id), id)).collect();
        let known = self.weights.iter().filter_map(|((id, packing), packed)| {
            let id = *ids.get(name(graph, *id))?;
            Some(((id, packing.clone()), packed.clone()))
        });
        let known: Weights = known.collect();
        let mut constants = std::mem::take(&mut piece.constants);
        let (kernels, pool) = (self.kernels, self.pool.clone());
        let program = Program::compile(&piece, &mut constants, batch, &known, kernels, pool)?;
        piece.constants = constants;
        Ok((piece, program))
    }
}

#[cfg(test)]
mod tests;
