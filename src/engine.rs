/*!
Running graphs: a (fused) graph compiled once, for one batch size at a time, into a [`Program`] over
packed weights and a static arena.

What may live here: lowering a graph to steps, the arena, the thread pool, per-step timing, and in
`kernels` every hot loop and all `unsafe`. The engine knows [`crate::model`] and nothing else of the
house; it meets candle tensors only at its edge (`tensor`).
*/

mod accelerator;
mod buffer;
mod cancel;
mod general;
mod isa;
pub(crate) mod kernels;
mod lower;
mod options;
mod program;
pub mod tensor;
mod weights;

use crate::model::{Constant, DType, Dim, Graph};
pub use accelerator::Processor;
use buffer::Buffer;
pub use cancel::Cancel;
use general::Info;
pub use isa::Isa;
use kernels::loops::Loops;
use kernels::memory::Memory;
use kernels::threads::Pool;
pub use options::{Options, share_threads};
use program::{Program, constant_bytes};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use weights::Weights;

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
    /// A buffer that doesn't fit an output of the graph.
    #[error("output `{name}` is {expected}, and was given {found}")]
    Output {
        /// Name of the graph output, or of the network.
        name: String,
        /// What it is.
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
    /// An instruction set that isn't known, or that this processor lacks.
    #[error(
        "kernels `{0}` can't run here: set EDGELESSPART_SIMD to portable, avx2, avx512 or neon"
    )]
    Isa(String),
    /// A processor that isn't there, or that this build doesn't know.
    #[error("device `{name}` can't be used: {why}")]
    Processor {
        /// As it was asked for.
        name: String,
        /// What is in the way.
        why: String,
    },
    /// Stopped through its [`Cancel`] token.
    #[error("stopped")]
    Cancelled,
}

/// A network (or segment, or head) ready to run at any batch size: owns the graph and one compiled
/// program for each batch size seen. Cheap to clone; clones share the programs, and each run takes
/// an arena of its own. `Send + Sync`.
#[derive(Clone)]
pub struct Engine {
    graph: Arc<Graph>,
    backend: Backend,
    programs: Arc<Mutex<HashMap<usize, Arc<Compiled>>>>,
}

/// What the programs of all batch sizes share.
#[derive(Clone)]
enum Backend {
    Kernels {
        loops: Loops,
        pool: Arc<Pool>,
        /// Of the first program, for those of other batch sizes.
        weights: Arc<Weights>,
    },
    Device(Arc<accelerator::Network>),
}

/// A program, and for the kernels the arenas that wait for its next run.
enum Compiled {
    Kernels {
        program: Program,
        arenas: Mutex<Vec<Memory>>,
    },
    Device(accelerator::Program),
}

impl Compiled {
    fn kernels(program: Program) -> Arc<Compiled> {
        Arc::new(Compiled::Kernels {
            program,
            arenas: Mutex::default(),
        })
    }

    fn outputs(&self) -> &[Info] {
        match self {
            Compiled::Kernels { program, .. } => program.outputs(),
            Compiled::Device(program) => program.outputs(),
        }
    }

    fn run(
        &self,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        cancel: &Cancel,
        times: Option<&mut Vec<Duration>>,
    ) -> Result<(), EngineError> {
        match self {
            Compiled::Kernels { program, arenas } => {
                let lock = || arenas.lock().unwrap_or_else(PoisonError::into_inner);
                let kept = lock().pop();
                let mut arena = kept.unwrap_or_else(|| program.arena());
                let result = program.run(&mut arena, inputs, outputs, cancel, times);
                lock().push(arena);
                result
            }
            Compiled::Device(program) => program.run(inputs, outputs, cancel, times),
        }
    }
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

/// Time of one step, as measured inside the program: from the end of the one before to its own.
#[derive(Debug, Clone, PartialEq)]
pub struct StepTime {
    /// Name of the graph node the step came from.
    pub node: String,
    /// Time of this execution.
    pub time: Duration,
}

/// What a program does for one node.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StepInfo {
    /// Name of the graph node the step came from.
    pub node: String,
    /// The kernel chosen for it.
    pub kernel: String,
    /// Bytes of its weights, biases and other constants, in the form in which the kernel reads them.
    pub parameter_bytes: usize,
}

/// What an engine holds in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EngineMemory {
    /// Weights as the kernels read them.
    pub weight_bytes: usize,
    /// Arena of activations, and what the threads work in beside it.
    pub arena_bytes: usize,
}

impl Engine {
    /// Compiles `graph`, which should be fused. Fails on what no kernel covers. Weights are packed
    /// one by one and let go where nobody else holds the graph's constants: give the graph itself,
    /// not a clone, where memory counts.
    pub fn new(graph: Graph, options: &Options) -> Result<Engine, EngineError> {
        Engine::with_kernels(graph, options, None)
    }

    /// Like [`Engine::new`], with the kernels of one instruction set; `None` for the fastest this
    /// processor has, or what the environment variable `EDGELESSPART_SIMD` names (portable, avx2,
    /// avx512, neon). Fails where the processor lacks it.
    pub fn with_kernels(
        graph: Graph,
        options: &Options,
        isa: Option<Isa>,
    ) -> Result<Engine, EngineError> {
        let mut graph = graph;
        let (loops, pool) = (Isa::choose(isa).map_err(EngineError::Isa)?, options.pool());
        let mut constants = std::mem::take(&mut graph.constants);
        let first = Program::compile(
            &graph,
            &mut constants,
            1,
            &Weights::new(),
            loops,
            pool.clone(),
        )?;
        graph.constants = constants;
        let weights = Arc::new(first.weights().clone());
        Ok(Engine {
            graph: Arc::new(graph),
            backend: Backend::Kernels {
                loops,
                pool,
                weights,
            },
            programs: Arc::new(Mutex::new(HashMap::from([(1, Compiled::kernels(first))]))),
        })
    }

    /// Like [`Engine::new`] on the CPU, and on a GPU by candle's operations, for which the options
    /// mean nothing. Fails where there is no such GPU, where this build doesn't know it, or on an op
    /// that candle has nothing for.
    pub fn on(
        processor: Processor,
        graph: Graph,
        options: &Options,
    ) -> Result<Engine, EngineError> {
        match processor.gpu()? {
            None => Engine::new(graph, options),
            Some(device) => Engine::on_device(graph, &device),
        }
    }

    /// By candle's operations on one of its devices; on its CPU device this is slow, and a second
    /// opinion on the kernels.
    pub fn on_device(
        mut graph: Graph,
        device: &candle_core::Device,
    ) -> Result<Engine, EngineError> {
        let network = Arc::new(accelerator::Network::new(&graph, device)?);
        let constants = graph.constants.clone();
        accelerator::let_go(&mut graph.constants);
        let graph = Arc::new(graph);
        let first = accelerator::Program::compile(network.clone(), graph.clone(), &constants, 1)?;
        let first = Arc::new(Compiled::Device(first));
        Ok(Engine {
            graph,
            backend: Backend::Device(network),
            programs: Arc::new(Mutex::new(HashMap::from([(1, first)]))),
        })
    }

    /// The graph it runs. Constants that the kernels hold in a form of their own are empty in it.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Threads it runs on, the caller's included.
    pub fn threads(&self) -> usize {
        match &self.backend {
            Backend::Kernels { pool, .. } => pool.threads(),
            Backend::Device(_) => 1,
        }
    }

    fn compiled(&self, batch: usize) -> Result<Arc<Compiled>, EngineError> {
        // A panic while the lock was held left no half-made entry: entries go in whole.
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(compiled) = programs.get(&batch) {
            return Ok(compiled.clone());
        }
        if batch == 0 {
            return Err(self.wrong_input(0, "at least one sample".into(), "none".into()));
        }
        let compiled = match &self.backend {
            Backend::Kernels {
                loops,
                pool,
                weights,
            } => Compiled::kernels(Program::compile(
                &self.graph,
                &mut self.graph.constants.clone(),
                batch,
                weights,
                *loops,
                pool.clone(),
            )?),
            Backend::Device(network) => Arc::new(Compiled::Device(accelerator::Program::compile(
                network.clone(),
                self.graph.clone(),
                &self.graph.constants,
                batch,
            )?)),
        };
        programs.insert(batch, compiled.clone());
        Ok(compiled)
    }

    fn wrong_input(&self, at: usize, expected: String, found: String) -> EngineError {
        let name = self.graph.inputs.get(at).map(|&id| self.graph.value(id));
        EngineError::Input {
            name: name.map_or_else(|| format!("#{at}"), |v| v.name.clone()),
            expected,
            found,
        }
    }

    /// Every input a float tensor as long as the graph's at `batch`, as bytes.
    fn float_inputs<'a>(
        &self,
        batch: usize,
        inputs: &[&'a [f32]],
    ) -> Result<Vec<&'a [u8]>, EngineError> {
        let ids = &self.graph.inputs;
        if inputs.len() != ids.len() {
            let (expected, found) = (ids.len(), inputs.len());
            let found = format!("one of {found} inputs");
            return Err(self.wrong_input(0, format!("{expected} inputs"), found));
        }
        for (at, (&id, input)) in ids.iter().zip(inputs).enumerate() {
            let value = self.graph.value(id);
            let expected = format!("{:?} {} (batch {batch})", value.dtype, value.shape);
            if value.dtype != DType::F32 {
                return Err(self.wrong_input(at, expected, "F32".to_string()));
            }
            if value.shape.elements(batch) != input.len() {
                let found = format!("{} elements", input.len());
                return Err(self.wrong_input(at, expected, found));
            }
        }
        Ok(inputs.iter().map(|x| bytemuck::cast_slice(x)).collect())
    }

    /// Runs on float inputs (row-major, in the graph's own axis order, NCHW for images) at batch
    /// size `batch`, into buffers of the caller's: one for each output of the graph, of its length.
    pub fn run_into(
        &self,
        batch: usize,
        inputs: &[&[f32]],
        outputs: &mut [&mut [f32]],
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        self.fill_buffers(batch, inputs, outputs, cancel, None)
    }

    fn fill_buffers(
        &self,
        batch: usize,
        inputs: &[&[f32]],
        outputs: &mut [&mut [f32]],
        cancel: &Cancel,
        times: Option<&mut Vec<Duration>>,
    ) -> Result<(), EngineError> {
        let inputs = self.float_inputs(batch, inputs)?;
        let compiled = self.compiled(batch)?;
        let ids = &self.graph.outputs;
        if ids.len() != outputs.len() {
            return Err(EngineError::Output {
                name: self.graph.name.clone(),
                expected: format!("{} outputs", ids.len()),
                found: format!("{} buffers", outputs.len()),
            });
        }
        for ((&id, info), buffer) in ids.iter().zip(compiled.outputs()).zip(&*outputs) {
            if info.dtype != DType::F32 || info.len() != buffer.len() {
                return Err(EngineError::Output {
                    name: self.graph.value(id).name.clone(),
                    expected: format!("{:?} {:?}", info.dtype, info.dims),
                    found: format!("a buffer of {} floats", buffer.len()),
                });
            }
        }
        let mut outputs: Vec<&mut [u8]> = outputs
            .iter_mut()
            .map(|y| bytemuck::cast_slice_mut(y))
            .collect();
        compiled.run(&inputs, &mut outputs, cancel, times)
    }

    /// Runs on float inputs (row-major, in the graph's own axis order, NCHW for images) at
    /// batch size `batch`, and returns the graph's outputs in the same form.
    pub fn run_f32(
        &self,
        batch: usize,
        inputs: &[&[f32]],
        cancel: &Cancel,
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        let mut outputs = self.buffers(batch);
        let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        self.fill_buffers(batch, inputs, &mut slices, cancel, None)?;
        Ok(outputs)
    }

    fn buffers(&self, batch: usize) -> Vec<Vec<f32>> {
        let ids = self.graph.outputs.iter();
        ids.map(|&id| vec![0.0; self.graph.value(id).shape.elements(batch)])
            .collect()
    }

    /// Like [`Engine::run_f32`], and the time of each step in order.
    pub fn run_timed(
        &self,
        batch: usize,
        inputs: &[&[f32]],
        cancel: &Cancel,
    ) -> Result<(Vec<Vec<f32>>, Vec<StepTime>), EngineError> {
        let mut times = vec![];
        let mut outputs = self.buffers(batch);
        let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        self.run_timed_into(batch, inputs, &mut slices, cancel, &mut times)?;
        let steps = self.steps(batch)?.into_iter().zip(times);
        let named = steps.map(|(step, time)| StepTime {
            node: step.node,
            time,
        });
        Ok((outputs, named.collect()))
    }

    /// Like [`Engine::run_into`], and puts the time of each step into `times`, in the order of
    /// [`Engine::steps`]. The last step's time holds the copy to the outputs: the sum is the run.
    pub fn run_timed_into(
        &self,
        batch: usize,
        inputs: &[&[f32]],
        outputs: &mut [&mut [f32]],
        cancel: &Cancel,
        times: &mut Vec<Duration>,
    ) -> Result<(), EngineError> {
        times.clear();
        self.fill_buffers(batch, inputs, outputs, cancel, Some(times))
    }

    /// Runs on inputs of any element type; the batch size is read off the shapes.
    pub fn run(&self, inputs: &[Constant], cancel: &Cancel) -> Result<Vec<Constant>, EngineError> {
        let ids = &self.graph.inputs;
        if inputs.len() != ids.len() {
            let found = format!("one of {} inputs", inputs.len());
            return Err(self.wrong_input(0, format!("{} inputs", ids.len()), found));
        }
        let batch = self.batch_of(inputs);
        for (at, (&id, input)) in ids.iter().zip(inputs).enumerate() {
            let value = self.graph.value(id);
            let whole = constant_bytes(&input.data).len() == input.len() * input.dtype().bytes();
            if value.dtype != input.dtype() || value.shape.at(batch) != input.shape || !whole {
                return Err(self.wrong_input(
                    at,
                    format!("{:?} {}", value.dtype, value.shape),
                    format!("{:?} {:?}", input.dtype(), input.shape),
                ));
            }
        }
        let compiled = self.compiled(batch)?;
        let inputs: Vec<&[u8]> = inputs.iter().map(|c| constant_bytes(&c.data)).collect();
        // Buffers of the right element type from the start: bytes alone would not be aligned.
        let mut outputs: Vec<(Vec<usize>, Buffer)> = compiled
            .outputs()
            .iter()
            .map(|info| (info.dims.clone(), Buffer::new(info.dtype, info.len())))
            .collect();
        let mut slices: Vec<&mut [u8]> = outputs.iter_mut().map(|(_, b)| b.bytes()).collect();
        compiled.run(&inputs, &mut slices, cancel, None)?;
        let outputs = outputs.into_iter();
        Ok(outputs
            .map(|(shape, buffer)| Constant {
                shape,
                data: buffer.into(),
            })
            .collect())
    }

    /// The batch size at which the first symbolic extent fits; 1 where there is none.
    fn batch_of(&self, inputs: &[Constant]) -> usize {
        for (&id, input) in self.graph.inputs.iter().zip(inputs) {
            for (dim, &extent) in self.graph.value(id).shape.0.iter().zip(&input.shape) {
                if let Dim::Batch(k) = dim {
                    return extent / (*k).max(1);
                }
            }
        }
        1
    }

    /// The kernel chosen for each node at this batch size.
    pub fn steps(&self, batch: usize) -> Result<Vec<StepInfo>, EngineError> {
        Ok(match &*self.compiled(batch)? {
            Compiled::Kernels { program, .. } => program.describe(),
            Compiled::Device(program) => program.describe(),
        })
    }

    /// Bytes of packed weights, and of the arena at this batch size.
    pub fn memory(&self, batch: usize) -> Result<EngineMemory, EngineError> {
        Ok(match &*self.compiled(batch)? {
            Compiled::Kernels { program, .. } => EngineMemory {
                weight_bytes: program.weight_bytes(),
                arena_bytes: program.arena_bytes(),
            },
            // Candle allocates activations as it goes.
            Compiled::Device(program) => EngineMemory {
                weight_bytes: program.weight_bytes(),
                arena_bytes: 0,
            },
        })
    }
}

#[cfg(test)]
mod tests;
