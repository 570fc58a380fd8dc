/*!
Running a graph by candle's own operations, on a GPU or on whatever else candle has a device for.

What may live here: a general interpreter over candle tensors (`ops`, `window`, `layout`), and what it
refuses before anything runs (`support`). Our own kernels are for CPUs; here the same graph goes node
by node through operations that candle implements for CPU, CUDA and Metal alike, so that the
interpreter can be tested on the CPU against the kernels.

Element types: F32, I64 and U8 are candle's; I32 and I8 travel as I64, booleans as U8. Arithmetic
whose result would depend on the narrower type is refused.
*/

mod clamp;
mod layout;
mod norm;
mod ops;
mod support;
mod window;

use super::compiled::{Backend, CompileOptions, Compiled, CompiledMemory, TimedSteps, Timing};
use super::id::{BackendError, BackendId, CandleDevice};
use crate::engine::{
    Cancel, EngineError, PerBatch, Port, StepInfo, TensorInfo, TensorMut, TensorRef, Unsupported,
    check_batch, check_inputs, check_op, check_outputs, constant_bytes,
};
use crate::model::{Constant, DType, Data, Graph, Node, ValueId};
use candle_core::{Device, Result, Tensor, bail};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Candle's operations on one of its devices.
#[derive(Debug, Clone)]
pub struct Candle {
    id: BackendId,
    device: Device,
}

impl Candle {
    /// The operations on `device`.
    ///
    /// # Errors
    /// Where the device isn't there, or this build has no operations for it.
    pub fn open(device: CandleDevice) -> std::result::Result<Candle, BackendError> {
        let id = BackendId::Candle(device);
        let (opened, feature) = match device {
            CandleDevice::Cpu => (Ok(Device::Cpu), None),
            CandleDevice::Cuda(index) => {
                let missing = (!cfg!(feature = "cuda")).then_some("cuda");
                (Device::new_cuda(index), missing)
            }
            CandleDevice::Metal => {
                let missing = (!cfg!(feature = "metal")).then_some("metal");
                (Device::new_metal(0), missing)
            }
        };
        match (opened, feature) {
            (Ok(device), _) => Ok(Candle { id, device }),
            (Err(_), Some(feature)) => Err(BackendError::NotBuilt { name: id, feature }),
            (Err(error), None) => Err(BackendError::Unavailable {
                name: id,
                source: error.into(),
            }),
        }
    }
}

impl Backend for Candle {
    fn name(&self) -> String {
        self.id.to_string()
    }

    fn check(&self, graph: &Graph) -> Vec<Unsupported> {
        unsupported(graph, &graph.constants, 1).collect()
    }

    fn times_steps(&self) -> bool {
        true
    }

    fn compile(
        &self,
        mut graph: Graph,
        _: &CompileOptions,
    ) -> std::result::Result<Box<dyn Compiled>, EngineError> {
        let first = Program::compile(&graph, &graph.constants, 1)?;
        let constants = upload_all(&graph, &self.device)?;
        let_go(&mut graph.constants);
        Ok(Box::new(DeviceGraph {
            inputs: Port::of(&graph, &graph.inputs),
            outputs: Port::of(&graph, &graph.outputs),
            graph,
            device: self.device.clone(),
            constants,
            programs: PerBatch::new(first),
        }))
    }
}

/// What a tensor's elements take on its device.
fn size(tensor: &Tensor) -> usize {
    tensor.elem_count() * tensor.dtype().size_in_bytes()
}

/// A graph whose constants lie on a device.
struct DeviceGraph {
    /// Large constants are empty in it.
    graph: Graph,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    device: Device,
    constants: BTreeMap<ValueId, Tensor>,
    programs: PerBatch<Program>,
}

impl std::fmt::Debug for DeviceGraph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeviceGraph({}, {:?})", self.graph.name, self.device)
    }
}

impl DeviceGraph {
    fn program(&self, batch: usize) -> std::result::Result<Arc<Program>, EngineError> {
        check_batch(&self.inputs, batch)?;
        let compile = || Program::compile(&self.graph, &self.graph.constants, batch);
        self.programs.get(batch, compile)
    }

    fn execute(
        &self,
        batch: usize,
        inputs: &[TensorRef],
        outputs: &mut [TensorMut],
        cancel: &Cancel,
        times: Option<&mut Vec<Duration>>,
    ) -> std::result::Result<(), EngineError> {
        check_inputs(&self.inputs, batch, inputs)?;
        check_outputs(&self.graph.name, &self.outputs, batch, outputs)?;
        self.program(batch)?
            .run(self, inputs, outputs, cancel, times)
    }
}

impl Compiled for DeviceGraph {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn threads(&self) -> usize {
        1
    }

    fn run(
        &self,
        batch: usize,
        inputs: &[TensorRef],
        outputs: &mut [TensorMut],
        cancel: &Cancel,
    ) -> std::result::Result<(), EngineError> {
        self.execute(batch, inputs, outputs, cancel, None)
    }

    fn memory(&self, batch: usize) -> std::result::Result<CompiledMemory, EngineError> {
        self.program(batch)?;
        Ok(CompiledMemory {
            weight_bytes: Some(self.constants.values().map(size).sum()),
            // Candle allocates activations as it goes.
            arena_bytes: None,
        })
    }

    fn timing(&self) -> Timing<'_> {
        Timing::Steps(self)
    }
}

impl TimedSteps for DeviceGraph {
    fn steps(&self, batch: usize) -> std::result::Result<Vec<StepInfo>, EngineError> {
        self.program(batch)?;
        let step = |node: &Node| {
            let constants = node.inputs.iter();
            let constants = constants.filter_map(|id| self.constants.get(id));
            StepInfo {
                node: node.name.clone(),
                kernel: "candle".to_string(),
                parameter_bytes: constants.map(size).sum(),
            }
        };
        Ok(self.graph.nodes.iter().map(step).collect())
    }

    /// The device is waited for after each node.
    fn run_timed(
        &self,
        batch: usize,
        inputs: &[TensorRef],
        outputs: &mut [TensorMut],
        cancel: &Cancel,
        times: &mut Vec<Duration>,
    ) -> std::result::Result<(), EngineError> {
        times.clear();
        self.execute(batch, inputs, outputs, cancel, Some(times))
    }
}

/// The nodes that the interpreter doesn't cover at `batch`. `constants` are those of the graph as it
/// came; large ones may be empty.
fn unsupported(
    graph: &Graph,
    constants: &BTreeMap<ValueId, Constant>,
    batch: usize,
) -> impl Iterator<Item = Unsupported> {
    let refused = move |node: &Node| {
        let infos = |ids: &[ValueId]| -> Vec<TensorInfo> {
            let ids = ids.iter();
            ids.map(|&id| TensorInfo::of(graph, id, batch)).collect()
        };
        let (ins, outs) = (infos(&node.inputs), infos(&node.outputs));
        let known: Vec<_> = node.inputs.iter().map(|id| constants.get(id)).collect();
        // Our engine refuses extents that don't follow from the op.
        let checked = check_op(&node.op, &ins, &outs)
            .and_then(|()| support::check(&node.op, &ins, &outs, &known));
        checked.err().map(|what| Unsupported {
            node: node.name.clone(),
            what: format!("{what} on this device"),
        })
    };
    graph.nodes.iter().filter_map(refused)
}

/// How a graph runs at one batch size.
struct Program {
    /// One entry per node: extents and types of its outputs.
    infos: Vec<Vec<TensorInfo>>,
    /// One entry per node: the values that no node after this one reads.
    last_read: Vec<Vec<ValueId>>,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
}

impl Program {
    /// Refuses what the interpreter doesn't cover. `constants` are those of the graph as it came.
    fn compile(
        graph: &Graph,
        constants: &BTreeMap<ValueId, Constant>,
        batch: usize,
    ) -> std::result::Result<Program, EngineError> {
        if let Some(first) = unsupported(graph, constants, batch).next() {
            return Err(first.into());
        }
        let infos = |ids: &[ValueId]| -> Vec<TensorInfo> {
            let ids = ids.iter();
            ids.map(|&id| TensorInfo::of(graph, id, batch)).collect()
        };
        let mut last = HashMap::new();
        for (at, node) in graph.nodes.iter().enumerate() {
            last.extend(node.inputs.iter().map(|&id| (id, at)));
        }
        for id in &graph.outputs {
            last.remove(id);
        }
        let mut last_read = vec![vec![]; graph.nodes.len()];
        for (id, at) in last {
            last_read[at].push(id);
        }
        Ok(Program {
            infos: graph.nodes.iter().map(|n| infos(&n.outputs)).collect(),
            last_read,
            inputs: infos(&graph.inputs),
            outputs: infos(&graph.outputs),
        })
    }

    /// Runs once, as the kernels' programs do. With `times` the device is waited for after each
    /// node, without it only at the end.
    fn run(
        &self,
        network: &DeviceGraph,
        inputs: &[TensorRef],
        outputs: &mut [TensorMut],
        cancel: &Cancel,
        mut times: Option<&mut Vec<Duration>>,
    ) -> std::result::Result<(), EngineError> {
        let (graph, device) = (&network.graph, &network.device);
        let failed = |node: &str, e: candle_core::Error| EngineError::Run {
            node: node.to_string(),
            what: e.to_string(),
        };
        let mut values: HashMap<ValueId, Tensor> = HashMap::new();
        let mut mark = Instant::now();
        for ((&id, input), info) in graph.inputs.iter().zip(inputs).zip(&self.inputs) {
            let tensor = upload(input.bytes(), info, device);
            let name = &graph.value(id).name;
            values.insert(id, tensor.map_err(|e| failed(name, e))?);
        }
        for (at, node) in graph.nodes.iter().enumerate() {
            if cancel.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            let take = |id: &ValueId| {
                let constant = || network.constants.get(id).cloned();
                values.get(id).cloned().or_else(constant)
            };
            let ins: Option<Vec<Tensor>> = node.inputs.iter().map(take).collect();
            let made = match ins {
                Some(ins) => ops::run(&node.op, &ins, &self.infos[at]),
                None => Err(candle_core::Error::Msg("an input is not there".into())),
            };
            let made = made.map_err(|e| failed(&node.name, e))?;
            values.extend(node.outputs.iter().copied().zip(made));
            for id in &self.last_read[at] {
                values.remove(id);
            }
            if let Some(times) = times.as_deref_mut() {
                device.synchronize().map_err(|e| failed(&node.name, e))?;
                let now = Instant::now();
                times.push(now - mark);
                mark = now;
            }
        }
        for ((id, info), output) in graph.outputs.iter().zip(&self.outputs).zip(outputs) {
            let name = &graph.value(*id).name;
            let known = values.get(id).or_else(|| network.constants.get(id));
            let Some(tensor) = known else {
                let missing = candle_core::Error::Msg("nothing produces it".into());
                return Err(failed(name, missing));
            };
            download(tensor, info, output.bytes_mut()).map_err(|e| failed(name, e))?;
        }
        if let Some(last) = times.and_then(|times| times.last_mut()) {
            *last += mark.elapsed();
        }
        Ok(())
    }
}

/// The constants of a graph as tensors on `device`.
fn upload_all(
    graph: &Graph,
    device: &Device,
) -> std::result::Result<BTreeMap<ValueId, Tensor>, EngineError> {
    let mut tensors = BTreeMap::new();
    for (&id, constant) in &graph.constants {
        let info = TensorInfo {
            dims: constant.shape.clone(),
            dtype: constant.dtype(),
        };
        let tensor = upload(constant_bytes(&constant.data), &info, device);
        let tensor = tensor.map_err(|e| EngineError::Run {
            node: graph.value(id).name.clone(),
            what: e.to_string(),
        })?;
        tensors.insert(id, tensor);
    }
    Ok(tensors)
}
/// A tensor on `device` of what the engine keeps as bytes.
fn upload(bytes: &[u8], info: &TensorInfo, device: &Device) -> Result<Tensor> {
    let dims = info.dims.as_slice();
    if bytes.len() != info.bytes() {
        bail!("{} bytes for a tensor of {dims:?}", bytes.len());
    }
    match info.dtype {
        DType::F32 => Tensor::from_slice(bytemuck::cast_slice::<u8, f32>(bytes), dims, device),
        DType::I64 => Tensor::from_slice(bytemuck::cast_slice::<u8, i64>(bytes), dims, device),
        DType::U8 | DType::Bool => Tensor::from_slice(bytes, dims, device),
        DType::I32 => {
            let wide = bytemuck::cast_slice::<u8, i32>(bytes).iter();
            Tensor::from_vec(wide.map(|&x| i64::from(x)).collect(), dims, device)
        }
        DType::I8 => {
            let wide = bytemuck::cast_slice::<u8, i8>(bytes).iter();
            Tensor::from_vec(wide.map(|&x| i64::from(x)).collect(), dims, device)
        }
    }
}

/// The bytes of a tensor, in the type the graph has for it.
fn download(tensor: &Tensor, info: &TensorInfo, to: &mut [u8]) -> Result<()> {
    if tensor.dims() != info.dims {
        bail!("extents {:?} instead of {:?}", tensor.dims(), info.dims);
    }
    let flat = tensor.flatten_all()?;
    match info.dtype {
        DType::F32 => to.copy_from_slice(bytemuck::cast_slice(&flat.to_vec1::<f32>()?)),
        DType::I64 => to.copy_from_slice(bytemuck::cast_slice(&flat.to_vec1::<i64>()?)),
        DType::U8 | DType::Bool => to.copy_from_slice(&flat.to_vec1::<u8>()?),
        DType::I32 => {
            let narrow: Vec<i32> = flat.to_vec1::<i64>()?.iter().map(|&x| x as i32).collect();
            to.copy_from_slice(bytemuck::cast_slice(&narrow));
        }
        DType::I8 => {
            let narrow: Vec<i8> = flat.to_vec1::<i64>()?.iter().map(|&x| x as i8).collect();
            to.copy_from_slice(bytemuck::cast_slice(&narrow));
        }
    }
    Ok(())
}

/// Lets go of the elements that now lie on the device; small integers stay, since a program for
/// another batch size may ask for them.
fn let_go(constants: &mut BTreeMap<ValueId, Constant>) {
    for constant in constants.values_mut() {
        if matches!(&constant.data, Data::F32(v) if v.len() > 1) {
            constant.data = Data::F32(Arc::default());
        }
    }
}

#[cfg(test)]
mod tests;
