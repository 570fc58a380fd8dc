/*! Our own engine behind the seam. */

use super::compiled::{Backend, CompileOptions, Compiled, CompiledMemory, TimedSteps, Timing};
use super::id::BackendId;
use crate::engine::{
    self, Cancel, Engine, EngineError, Options, Port, StepInfo, TensorMut, TensorRef, Unsupported,
};
use crate::model::Graph;
use std::time::Duration;

/// Our own engine: kernels for the CPU's vector instructions, packed weights, a static arena.
#[derive(Debug, Clone, Copy, Default)]
pub struct Native;

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
        Ok(Box::new(Engine::new(graph, &Options { threads })?))
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
        let memory = self.memory(batch)?;
        Ok(CompiledMemory {
            weight_bytes: Some(memory.weight_bytes),
            arena_bytes: Some(memory.arena_bytes),
        })
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
