/*! Our own engine behind the seam. */

use super::compiled::{Backend, CompileOptions, Compiled, CompiledMemory, TimedSteps, Timing};
use super::id::BackendId;
use crate::engine::{
    self, Arenas, Cancel, Engine, EngineError, EngineMemory, Options, Port, StepInfo, TensorMut,
    TensorRef, Unsupported,
};
use crate::model::Graph;
use std::sync::Arc;
use std::time::Duration;

/// Our own engine: kernels for the CPU's vector instructions, packed weights, a static arena. What one
/// value of it compiles shares its arenas.
#[derive(Debug, Clone, Default)]
pub struct Native {
    arenas: Arc<Arenas>,
}

impl Backend for Native {
    fn name(&self) -> String {
        BackendId::Native.to_string()
    }

    fn check(&self, graph: &Graph) -> Vec<Unsupported> {
        engine::check(graph)
    }

    fn times_steps(&self) -> bool {
        true
    }

    fn compile(
        &self,
        graph: Graph,
        options: &CompileOptions,
    ) -> Result<Box<dyn Compiled>, EngineError> {
        let threads = options.threads;
        let (options, arenas) = (Options { threads }, self.arenas.clone());
        Ok(Box::new(Engine::sharing(graph, &options, None, arenas)?))
    }
}

impl From<EngineMemory> for CompiledMemory {
    fn from(memory: EngineMemory) -> CompiledMemory {
        CompiledMemory {
            weight_bytes: Some(memory.weight_bytes),
            arena_bytes: Some(memory.arena_bytes),
        }
    }
}

impl Compiled for Engine {
    fn inputs(&self) -> &[Port] {
        self.inputs()
    }

    fn outputs(&self) -> &[Port] {
        self.outputs()
    }

    fn threads(&self) -> usize {
        self.threads()
    }

    fn run(
        &self,
        batch: usize,
        inputs: &[TensorRef],
        outputs: &mut [TensorMut],
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        self.run(batch, inputs, outputs, cancel)
    }

    fn memory(&self, batch: usize) -> Result<CompiledMemory, EngineError> {
        Ok(self.memory(batch)?.into())
    }

    fn memory_between(
        &self,
        batch: usize,
        input: &str,
        output: &str,
    ) -> Result<CompiledMemory, EngineError> {
        Ok(self.memory_between(batch, input, output)?.into())
    }

    fn between(&self, input: &str, output: &str) -> Result<Option<Box<dyn Compiled>>, EngineError> {
        Ok(Some(Box::new(self.between(input, output)?)))
    }

    fn timing(&self) -> Timing<'_> {
        Timing::Steps(self)
    }
}

impl TimedSteps for Engine {
    fn steps(&self, batch: usize) -> Result<Vec<StepInfo>, EngineError> {
        self.steps(batch)
    }

    fn run_timed(
        &self,
        batch: usize,
        inputs: &[TensorRef],
        outputs: &mut [TensorMut],
        cancel: &Cancel,
        times: &mut Vec<Duration>,
    ) -> Result<(), EngineError> {
        self.run_timed(batch, inputs, outputs, cancel, times)
    }
}
