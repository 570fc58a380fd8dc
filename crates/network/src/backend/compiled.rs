/*! The two traits: what compiles a graph, and what it gives. */

use super::buffer::Buffer;
use crate::engine::{
    Cancel, EngineError, Port, StepInfo, TensorMut, TensorRef, Unsupported, constant_bytes,
};
use crate::model::{Constant, Dim, Graph};
use std::fmt::Debug;
use std::time::Duration;

/// What every backend is asked for when it compiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CompileOptions {
    /// CPU threads, the caller's included; 0 for the process's number
    /// ([`share_threads`](crate::engine::share_threads)), or else one per core that it may use. GPUs
    /// don't look at it.
    pub threads: usize,
}

/// What compiles graphs: our own engine, or another one.
pub trait Backend: Debug + Send + Sync {
    /// Name for people: `native`, `candle (cuda:0)`, `ONNX Runtime 1.32.0 (cpu)`.
    fn name(&self) -> String;

    /// The nodes of `graph` that it can't run, each with the reason; none where it can run all.
    fn check(&self, graph: &Graph) -> Vec<Unsupported>;

    /// Whether what it compiles knows the time of each step ([`Timing::Steps`]). Where it doesn't, the
    /// time of a layer is known from pieces of the network that end before and behind it.
    fn times_steps(&self) -> bool;

    /// Compiles `graph`, which should be fused. Give the graph itself, not a clone, where memory
    /// counts: a backend lets go of constants once it has them in a form of its own.
    ///
    /// # Errors
    /// On what the backend can't run.
    fn compile(
        &self,
        graph: Graph,
        options: &CompileOptions,
    ) -> Result<Box<dyn Compiled>, EngineError>;
}

/// Bytes that a compiled network holds, as far as its backend tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CompiledMemory {
    /// Weights and other constants, in the form in which the backend reads them.
    pub weight_bytes: Option<usize>,
    /// Activations of one run and what is worked in beside them. Networks of one backend that run one
    /// after the other share it: together they take what the largest does.
    pub arena_bytes: Option<usize>,
}

/// How finely a backend knows the time of a run.
pub enum Timing<'a> {
    /// Step by step, each step being of one node of the graph.
    Steps(&'a dyn TimedSteps),
    /// As a whole only: layers are fused, or run where no clock is read.
    Whole,
}

/// A network (or segment, or head) ready to run at any batch size. Any number of runs may go on at a
/// time.
pub trait Compiled: Debug + Send + Sync {
    /// What the network takes, in order.
    fn inputs(&self) -> &[Port];

    /// What the network gives, in order.
    fn outputs(&self) -> &[Port];

    /// CPU threads it runs on, the caller's included.
    fn threads(&self) -> usize;

    /// Runs `batch` samples. `inputs` and `outputs` hold one entry per input and output of the
    /// network, each of its type and length at that batch size.
    ///
    /// # Errors
    /// Where a tensor doesn't fit, an op meets a value it has no answer for, or `cancel` is raised.
    fn run(
        &self,
        batch: usize,
        inputs: &[TensorRef],
        outputs: &mut [TensorMut],
        cancel: &Cancel,
    ) -> Result<(), EngineError>;

    /// Bytes it holds for runs of `batch` samples.
    ///
    /// # Errors
    /// Where the network can't be compiled for that batch size.
    fn memory(&self, batch: usize) -> Result<CompiledMemory, EngineError>;

    /// Bytes that the piece between two values of the network would hold for runs of `batch` samples,
    /// were it compiled by itself; nothing told where the backend doesn't know.
    ///
    /// # Errors
    /// Where there is no such piece.
    fn memory_between(
        &self,
        batch: usize,
        input: &str,
        output: &str,
    ) -> Result<CompiledMemory, EngineError> {
        let _ = (batch, input, output);
        Ok(CompiledMemory::default())
    }

    /// The piece between two values of the network, ready to run, its weights shared with this one; `None`
    /// where the backend can't share them.
    ///
    /// # Errors
    /// Where there is no such piece.
    fn between(&self, input: &str, output: &str) -> Result<Option<Box<dyn Compiled>>, EngineError> {
        let _ = (input, output);
        Ok(None)
    }

    /// How finely the time of a run is known.
    fn timing(&self) -> Timing<'_>;

    /// Like [`Compiled::run`], for a network whose inputs and outputs are all floats.
    ///
    /// # Errors
    /// Those of [`Compiled::run`].
    fn run_into(
        &self,
        batch: usize,
        inputs: &[&[f32]],
        outputs: &mut [&mut [f32]],
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let inputs: Vec<TensorRef> = inputs.iter().map(|x| TensorRef::F32(x)).collect();
        let outputs = outputs.iter_mut();
        let mut outputs: Vec<TensorMut> = outputs.map(|y| TensorMut::F32(y)).collect();
        self.run(batch, &inputs, &mut outputs, cancel)
    }

    /// Like [`Compiled::run_into`], into buffers of its own: one per output.
    ///
    /// # Errors
    /// Those of [`Compiled::run`].
    fn run_f32(
        &self,
        batch: usize,
        inputs: &[&[f32]],
        cancel: &Cancel,
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        let ports = self.outputs().iter();
        let mut outputs: Vec<Vec<f32>> = ports.map(|p| vec![0.0; p.elements(batch)]).collect();
        let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        self.run_into(batch, inputs, &mut slices, cancel)?;
        Ok(outputs)
    }

    /// Runs on tensors of any element type; the batch size is read off their extents.
    ///
    /// # Errors
    /// Those of [`Compiled::run`], and where an extent doesn't fit.
    fn infer(&self, inputs: &[Constant], cancel: &Cancel) -> Result<Vec<Constant>, EngineError> {
        let batch = batch_of(self.inputs(), inputs);
        for (port, input) in self.inputs().iter().zip(inputs) {
            let whole = constant_bytes(&input.data).len() == input.len() * input.dtype().bytes();
            if port.shape.at(batch) != input.shape || !whole {
                return Err(EngineError::Input {
                    name: port.name.clone(),
                    expected: format!("{:?} {}", port.dtype, port.shape),
                    found: format!("{:?} {:?}", input.dtype(), input.shape),
                });
            }
        }
        let inputs: Vec<TensorRef> = inputs.iter().map(|c| (&c.data).into()).collect();
        let ports = self.outputs().iter();
        let mut outputs: Vec<(Vec<usize>, Buffer)> = ports
            .map(|p| (p.shape.at(batch), Buffer::new(p.dtype, p.elements(batch))))
            .collect();
        let mut slices: Vec<TensorMut> = outputs.iter_mut().map(|(_, b)| b.tensor()).collect();
        self.run(batch, &inputs, &mut slices, cancel)?;
        let outputs = outputs.into_iter();
        Ok(outputs
            .map(|(shape, buffer)| Constant {
                shape,
                data: buffer.into(),
            })
            .collect())
    }
}

/// A compiled network whose backend knows the time of each step of a run.
pub trait TimedSteps {
    /// The steps of a run of `batch` samples, in order.
    ///
    /// # Errors
    /// Where the network can't be compiled for that batch size.
    fn steps(&self, batch: usize) -> Result<Vec<StepInfo>, EngineError>;

    /// Like [`Compiled::run`], and puts the time of each step into `times`, in the order of
    /// [`TimedSteps::steps`]. Together they are the whole run, its copies included.
    ///
    /// # Errors
    /// Those of [`Compiled::run`].
    fn run_timed(
        &self,
        batch: usize,
        inputs: &[TensorRef],
        outputs: &mut [TensorMut],
        cancel: &Cancel,
        times: &mut Vec<Duration>,
    ) -> Result<(), EngineError>;
}

/// The batch size at which the first symbolic extent fits; 1 where there is none.
fn batch_of(ports: &[Port], inputs: &[Constant]) -> usize {
    for (port, input) in ports.iter().zip(inputs) {
        for (dim, &extent) in port.shape.0.iter().zip(&input.shape) {
            if let Dim::Batch(k) = dim {
                return extent / (*k).max(1);
            }
        }
    }
    1
}
