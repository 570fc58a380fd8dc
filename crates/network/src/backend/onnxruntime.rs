/*!
ONNX Runtime as an engine: a graph is written as ONNX and runs in a session of the shared library that is
found at run time.

What may live here: opening the library and a provider (`library`, `remedy`), sessions and their runs,
stopping these (`watch`), and where TensorRT keeps what it built (`cache`). Layers are fused as the provider
likes, so only whole runs have a time. A provider that isn't there, and a node that it doesn't cover, are
errors: nothing falls back to the CPU.

Results are F32 whatever the provider's habit: CUDA's TF32 and OpenVINO's BF16 are off. TensorRT is the
exception: its provider has no switch for TF32, which TensorRT takes on GPUs from Ampere on (factors rounded to
10 bits of mantissa) unless `NVIDIA_TF32_OVERRIDE=0` is in the environment. The backend's name says which.

Making a session can't be stopped: ONNX Runtime looks at nothing while it does. It happens in `compile` and,
by TensorRT and OpenVINO, in the first run of more than one sample, which looks at its token before and after.
*/

mod cache;
mod library;
mod remedy;
mod watch;

use super::compiled::{Backend, CompileOptions, Compiled, CompiledMemory, Timing};
use super::id::{BackendError, BackendId, Provider};
use crate::engine::{
    Cancel, EngineError, Options, Port, TensorMut, TensorRef, Unsupported, check_inputs,
    check_outputs,
};
use crate::model::export::{ExportError, graph_proto, to_onnx};
use crate::model::{Dim, Graph};
use cache::Cache;
use library::Library;
use ort::ep::{ExecutionProvider, ExecutionProviderDispatch};
use ort::session::builder::SessionBuilder;
use ort::session::{RunOptions, Session, SessionInputValue};
use ort::value::{DynValue, PrimitiveTensorElementType};
use parking_lot::{Mutex, MutexGuard};
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The variable that keeps NVIDIA's libraries from TF32 where it is 0.
const TF32: &str = "NVIDIA_TF32_OVERRIDE";
/// Time between two looks at the token while another run has the session.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// ONNX Runtime by one of its execution providers.
#[derive(Debug, Clone)]
pub struct OnnxRuntime {
    provider: Provider,
    library: Library,
    /// Whether TensorRT may take TF32.
    tf32: bool,
    /// Where TensorRT keeps the engines it has built; none for other providers.
    cache: Option<Cache>,
}

impl OnnxRuntime {
    /// Loads the library, unless this process has, and makes sure of the provider.
    ///
    /// # Errors
    /// Where the library isn't found or is older than 1.20, was built without the provider, or the
    /// provider doesn't load, each with what to install; and where TensorRT can't keep its engines.
    pub fn open(provider: Provider) -> Result<OnnxRuntime, BackendError> {
        let id = BackendId::OnnxRuntime(provider);
        let library = library::load(id)?;
        let refused = |reason: String| BackendError::Library {
            name: id,
            library: library.file.clone(),
            reason,
            remedy: remedy::remedy(id),
        };
        let built = match provider {
            Provider::Cpu => Ok(true),
            Provider::Cuda(_) => ort::ep::CUDA::default().is_available(),
            Provider::TensorRt(_) => ort::ep::TensorRT::default().is_available(),
            Provider::OpenVino => ort::ep::OpenVINO::default().is_available(),
        };
        if !built.map_err(|e| refused(e.to_string()))? {
            return Err(refused("it was built without this provider".to_string()));
        }
        let tensorrt = matches!(provider, Provider::TensorRt(_));
        let mut opened = OnnxRuntime {
            provider,
            library: library.clone(),
            tf32: tensorrt && std::env::var_os(TF32).is_none_or(|value| value != "0"),
            cache: None,
        };
        // A provider's own library is loaded where a session first asks for it.
        let builder = opened.builder(1, None);
        builder.map_err(|e| refused(e.message().to_string()))?;
        if tensorrt {
            opened.cache = Some(Cache::open(id, opened.tf32)?);
        }
        Ok(opened)
    }

    fn id(&self) -> BackendId {
        BackendId::OnnxRuntime(self.provider)
    }

    /// The providers of a session, in the order in which they take nodes; none for the CPU's. TensorRT
    /// keeps its engines in the folder `engines`.
    fn providers(&self, threads: usize, engines: Option<&Path>) -> Vec<ExecutionProviderDispatch> {
        let cuda = |index: usize| {
            let cuda = ort::ep::CUDA::default().with_device_id(index as i32);
            cuda.with_tf32(false).build().error_on_failure()
        };
        match self.provider {
            Provider::Cpu => vec![],
            Provider::Cuda(index) => vec![cuda(index)],
            Provider::TensorRt(index) => {
                let mut engine = ort::ep::TensorRT::default().with_device_id(index as i32);
                if let (Some(cache), Some(engines)) = (&self.cache, engines) {
                    engine = engine
                        .with_engine_cache(true)
                        .with_engine_cache_path(engines.display());
                    engine = engine
                        .with_timing_cache(true)
                        .with_timing_cache_path(cache.timings().display());
                }
                vec![engine.build().error_on_failure(), cuda(index)]
            }
            Provider::OpenVino => {
                let cpu = ort::ep::OpenVINO::default().with_device_type("CPU");
                let cpu = cpu.with_num_threads(threads).with_precision("FP32");
                vec![cpu.build().error_on_failure()]
            }
        }
    }

    fn builder(&self, threads: usize, engines: Option<&Path>) -> ort::Result<SessionBuilder> {
        let builder = Session::builder()?
            .with_intra_threads(threads)?
            .with_inter_threads(1)?
            // Threads of one segment's session would take the cores from the next one's.
            .with_config_entry("session.force_spinning_stop", "1")?;
        match self.provider {
            Provider::Cpu => Ok(builder),
            _ => Ok(builder
                .with_disable_cpu_fallback()?
                .with_execution_providers(self.providers(threads, engines))?),
        }
    }

    /// The session of an ONNX file, for any batch size or, `fixed`, for one sample at a time.
    fn session(
        &self,
        network: &str,
        file: &[u8],
        ports: &[Port],
        threads: usize,
        fixed: bool,
    ) -> Result<Session, EngineError> {
        let engines = self.cache.as_ref().map(|cache| cache.engines(file, fixed));
        let engines = engines
            .transpose()
            .map_err(|e| self.failed(network, &format!("its engines can't be kept: {e}"), None))?;
        let make = || -> ort::Result<Session> {
            let mut builder = self.builder(threads, engines.as_deref())?;
            let factors = if fixed { factors(ports) } else { Vec::new() };
            for factor in factors {
                let name = match factor {
                    1 => "N".to_string(),
                    k => format!("{k}N"),
                };
                builder = builder.with_dimension_override(name, factor as i64)?;
            }
            builder.commit_from_memory(file)
        };
        let known = || remedy::of_a_session(self.provider);
        make().map_err(|e| self.failed(network, e.message(), known()))
    }

    /// The error of a network, with its remedy where one is known.
    fn failed(&self, network: &str, what: &str, known: Option<String>) -> EngineError {
        EngineError::Runtime {
            runtime: self.name(),
            network: network.to_string(),
            what: match known {
                Some(known) => format!("{what} ({known})"),
                None => what.to_string(),
            },
        }
    }
}

/// The factors by which extents of some ports are multiples of the batch size, each once.
fn factors(ports: &[Port]) -> Vec<usize> {
    let dims = ports.iter().flat_map(|port| &port.shape.0);
    let mut factors: Vec<usize> = dims
        .filter_map(|dim| match dim {
            Dim::Batch(k) => Some(*k),
            Dim::Fixed(_) => None,
        })
        .collect();
    factors.sort_unstable();
    factors.dedup();
    factors
}

impl Backend for OnnxRuntime {
    fn name(&self) -> String {
        let provider = self.id().provider();
        let precision = if self.tf32 { ", TF32" } else { "" };
        match self.library.version.as_str() {
            "" => format!("ONNX Runtime ({provider}{precision})"),
            version => format!("ONNX Runtime {version} ({provider}{precision})"),
        }
    }

    fn check(&self, graph: &Graph) -> Vec<Unsupported> {
        match graph_proto(graph) {
            Err(ExportError::Unsupported { node, what }) => vec![Unsupported { node, what }],
            // What the library itself covers shows when it compiles.
            _ => vec![],
        }
    }

    fn times_steps(&self) -> bool {
        false
    }

    fn compile(
        &self,
        graph: Graph,
        options: &CompileOptions,
    ) -> Result<Box<dyn Compiled>, EngineError> {
        let name = graph.name.clone();
        let file = to_onnx(&graph).map_err(|error| match error {
            ExportError::Unsupported { node, what } => Unsupported { node, what }.into(),
            other => self.failed(&name, &other.to_string(), None),
        })?;
        let inputs = Port::of(&graph, &graph.inputs);
        let outputs = Port::of(&graph, &graph.outputs);
        drop(graph);
        let threads = options.threads;
        let threads = Options { threads }.threads();
        let session = |fixed| self.session(&name, &file, &inputs, threads, fixed);
        // TensorRT and OpenVINO build their programs for given extents; the other providers don't ask.
        let by_extents = match self.provider {
            Provider::Cpu | Provider::Cuda(_) => false,
            Provider::TensorRt(_) | Provider::OpenVino => !factors(&inputs).is_empty(),
        };
        let (one, any) = if by_extents {
            (Some(Mutex::new(session(true)?)), Any::File(file))
        } else {
            (None, Any::Ready(session(false)?))
        };
        Ok(Box::new(SessionGraph {
            runtime: self.clone(),
            name,
            inputs,
            outputs,
            threads,
            one,
            any: Mutex::new(any),
        }))
    }
}

/// The session for any batch size.
enum Any {
    /// Not made yet: the ONNX file to make it of.
    File(Vec<u8>),
    Ready(Session),
}

/// A graph in sessions of ONNX Runtime.
struct SessionGraph {
    runtime: OnnxRuntime,
    name: String,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    threads: usize,
    /// For one sample, where the provider builds for given extents. A session takes one run at a time.
    one: Option<Mutex<Session>>,
    any: Mutex<Any>,
}

impl std::fmt::Debug for SessionGraph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SessionGraph({}, {:?})", self.name, self.runtime)
    }
}

/// Looks at the token.
fn go_on(cancel: &Cancel) -> Result<(), EngineError> {
    if cancel.is_cancelled() {
        return Err(EngineError::Cancelled);
    }
    Ok(())
}

/// Waits for a session that another run may have.
fn locked<'a, T>(mutex: &'a Mutex<T>, cancel: &Cancel) -> Result<MutexGuard<'a, T>, EngineError> {
    loop {
        go_on(cancel)?;
        if let Some(guard) = mutex.try_lock_for(POLL_INTERVAL) {
            return Ok(guard);
        }
    }
}

impl SessionGraph {
    /// The error of a run.
    fn failed(&self, error: &ort::Error) -> EngineError {
        let known = remedy::of_a_run(self.runtime.provider, error.message());
        self.runtime.failed(&self.name, error.message(), known)
    }

    /// An answer that isn't what the network gives.
    fn strange(&self, what: &str) -> EngineError {
        self.runtime.failed(&self.name, what, None)
    }

    /// Makes the session for any batch size, where there is none yet. Nothing stops that, so the token is
    /// looked at before and after; what was made is kept for the next run either way.
    fn ready<'a>(&self, any: &'a mut Any, cancel: &Cancel) -> Result<&'a mut Session, EngineError> {
        if let Any::File(file) = any {
            go_on(cancel)?;
            let (name, ports) = (&self.name, &self.inputs);
            let made = self
                .runtime
                .session(name, file, ports, self.threads, false)?;
            *any = Any::Ready(made);
            go_on(cancel)?;
        }
        match any {
            Any::Ready(session) => Ok(session),
            Any::File(_) => Err(self.strange("there is no session")),
        }
    }

    fn run_in(
        &self,
        session: &mut Session,
        batch: usize,
        inputs: &[TensorRef],
        outputs: &mut [TensorMut],
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let failed = |e: ort::Error| self.failed(&e);
        let options = Arc::new(RunOptions::new().map_err(failed)?);
        let values = self.inputs.iter().zip(inputs).map(|(port, input)| {
            let shape = port.shape.at(batch).iter().map(|&n| n as i64).collect();
            Ok((Cow::Borrowed(port.name.as_str()), value(shape, *input)?))
        });
        let values: Vec<(Cow<str>, SessionInputValue)> =
            values.collect::<ort::Result<_>>().map_err(failed)?;
        let watched = watch::watch(cancel, &options);
        let watched = watched.map_err(|e| self.strange(&e.to_string()))?;
        let found = session.run_with_options(values, &options);
        drop(watched);
        let found = found.map_err(|e| {
            if cancel.is_cancelled() {
                EngineError::Cancelled
            } else {
                self.failed(&e)
            }
        })?;
        for (port, output) in self.outputs.iter().zip(outputs) {
            let Some(value) = found.get(&port.name) else {
                let what = format!("it gave no output `{}`", port.name);
                return Err(self.strange(&what));
            };
            let fits = take(value, output).map_err(failed)?;
            if !fits {
                let what = format!("output `{}` is not {}", port.name, port.shape);
                return Err(self.strange(&what));
            }
        }
        Ok(())
    }
}

/// A tensor as ONNX Runtime takes it: borrowed, but for truth values.
fn value(shape: Vec<i64>, input: TensorRef<'_>) -> ort::Result<SessionInputValue<'_>> {
    use ort::value::{Tensor, TensorRef as Borrowed};
    Ok(match input {
        TensorRef::F32(v) => Borrowed::from_array_view((shape, v))?.into(),
        TensorRef::I64(v) => Borrowed::from_array_view((shape, v))?.into(),
        TensorRef::I32(v) => Borrowed::from_array_view((shape, v))?.into(),
        TensorRef::U8(v) => Borrowed::from_array_view((shape, v))?.into(),
        TensorRef::I8(v) => Borrowed::from_array_view((shape, v))?.into(),
        TensorRef::Bool(v) => {
            let truths: Vec<bool> = v.iter().map(|&byte| byte != 0).collect();
            Tensor::from_array((shape, truths))?.into()
        }
    })
}

/// Copies what came out into the caller's buffer; `false` where it doesn't fit.
fn take(value: &DynValue, output: &mut TensorMut) -> ort::Result<bool> {
    fn copy<T: PrimitiveTensorElementType + Copy>(
        value: &DynValue,
        into: &mut [T],
    ) -> ort::Result<bool> {
        let (_, elements) = value.try_extract_tensor::<T>()?;
        let fits = elements.len() == into.len();
        if fits {
            into.copy_from_slice(elements);
        }
        Ok(fits)
    }
    match output {
        TensorMut::F32(v) => copy(value, v),
        TensorMut::I64(v) => copy(value, v),
        TensorMut::I32(v) => copy(value, v),
        TensorMut::U8(v) => copy(value, v),
        TensorMut::I8(v) => copy(value, v),
        TensorMut::Bool(v) => {
            let (_, truths) = value.try_extract_tensor::<bool>()?;
            let fits = truths.len() == v.len();
            for (byte, &truth) in v.iter_mut().zip(truths) {
                *byte = u8::from(truth);
            }
            Ok(fits)
        }
    }
}

impl Compiled for SessionGraph {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn threads(&self) -> usize {
        self.threads
    }

    fn run(
        &self,
        batch: usize,
        inputs: &[TensorRef],
        outputs: &mut [TensorMut],
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        check_inputs(&self.inputs, batch, inputs)?;
        check_outputs(&self.name, &self.outputs, batch, outputs)?;
        match &self.one {
            Some(one) if batch == 1 => {
                let mut session = locked(one, cancel)?;
                self.run_in(&mut session, batch, inputs, outputs, cancel)
            }
            _ => {
                let mut any = locked(&self.any, cancel)?;
                let session = self.ready(&mut any, cancel)?;
                self.run_in(session, batch, inputs, outputs, cancel)
            }
        }
    }

    /// ONNX Runtime keeps its memory to itself.
    fn memory(&self, _: usize) -> Result<CompiledMemory, EngineError> {
        Ok(CompiledMemory::default())
    }

    fn timing(&self) -> Timing<'_> {
        Timing::Whole
    }
}

#[cfg(test)]
mod tests;
