/*!
Running a graph by candle's own operations, on a GPU or on whatever else candle has a device for.

What may live here: a general interpreter over candle tensors (`ops`, `window`, `layout`), what it
refuses before anything runs (`support`), and the choice of a processor. The kernels of this engine
are for CPUs; here the same graph goes node by node through operations that candle implements for
CPU, CUDA and Metal alike, so that the interpreter can be tested on the CPU against the kernels.

Element types: F32, I64 and U8 are candle's; I32 and I8 travel as I64, booleans as U8. Arithmetic
whose result would depend on the narrower type is refused.
*/

mod layout;
mod ops;
mod support;
mod window;

use super::general::{self, Info};
use super::{Cancel, EngineError, StepInfo};
use crate::model::{Constant, DType, Data, Graph, ValueId};
use candle_core::{Device, Result, Tensor, bail};
use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What runs a graph: the CPU by the engine's kernels, or a GPU by candle's operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Processor {
    /// The CPU.
    #[default]
    Cpu,
    /// The n-th CUDA device.
    Cuda(usize),
    /// Apple's GPU.
    Metal,
}

impl FromStr for Processor {
    type Err = EngineError;

    /// `cpu`, `cuda` (the first), `cuda:1`, `metal`.
    fn from_str(text: &str) -> std::result::Result<Self, EngineError> {
        let index = text.strip_prefix("cuda:").map(str::parse);
        match (text, index) {
            ("cpu", _) => Ok(Processor::Cpu),
            ("cuda", _) => Ok(Processor::Cuda(0)),
            ("metal", _) => Ok(Processor::Metal),
            (_, Some(Ok(index))) => Ok(Processor::Cuda(index)),
            _ => Err(EngineError::Processor {
                name: text.to_string(),
                why: "devices are cpu, cuda, cuda:N and metal".to_string(),
            }),
        }
    }
}

impl std::fmt::Display for Processor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Processor::Cpu => f.write_str("cpu"),
            Processor::Cuda(index) => write!(f, "cuda:{index}"),
            Processor::Metal => f.write_str("metal"),
        }
    }
}

impl Processor {
    /// Whether it is there, and this build knows it.
    ///
    /// # Errors
    /// Says what is in the way.
    pub fn check(self) -> std::result::Result<(), EngineError> {
        self.gpu().map(drop)
    }

    /// Candle's device for a GPU; none for the CPU.
    pub(super) fn gpu(self) -> std::result::Result<Option<Device>, EngineError> {
        let (device, built) = match self {
            Processor::Cpu => return Ok(None),
            Processor::Cuda(index) => (Device::new_cuda(index), cfg!(feature = "cuda")),
            Processor::Metal => (Device::new_metal(0), cfg!(feature = "metal")),
        };
        device.map(Some).map_err(|e| EngineError::Processor {
            name: self.to_string(),
            why: match built {
                true => e.to_string(),
                false => {
                    let feature = self.to_string();
                    let feature = feature.split(':').next().unwrap_or_default();
                    format!("this program was built without `--features {feature}`")
                }
            },
        })
    }
}

/// A graph's constants on a device.
pub(super) struct Network {
    device: Device,
    constants: BTreeMap<ValueId, Tensor>,
    bytes: usize,
}

impl Network {
    pub(super) fn new(graph: &Graph, device: &Device) -> std::result::Result<Network, EngineError> {
        let mut constants = BTreeMap::new();
        for (&id, constant) in &graph.constants {
            let info = Info {
                dims: constant.shape.clone(),
                dtype: constant.dtype(),
            };
            let tensor = upload(
                super::program::constant_bytes(&constant.data),
                &info,
                device,
            );
            let tensor = tensor.map_err(|e| EngineError::Run {
                node: graph.value(id).name.clone(),
                what: e.to_string(),
            })?;
            constants.insert(id, tensor);
        }
        let size = |t: &Tensor| t.elem_count() * t.dtype().size_in_bytes();
        Ok(Network {
            device: device.clone(),
            bytes: constants.values().map(size).sum(),
            constants,
        })
    }
}

/// A graph ready to run on a device at one batch size.
pub(super) struct Program {
    network: Arc<Network>,
    graph: Arc<Graph>,
    /// Of each node's outputs.
    infos: Vec<Vec<Info>>,
    /// The values that no node after this one reads.
    last_read: Vec<Vec<ValueId>>,
    inputs: Vec<Info>,
    outputs: Vec<Info>,
}

impl Program {
    /// Refuses what the interpreter doesn't cover. `constants` are those of the graph as it came.
    pub(super) fn compile(
        network: Arc<Network>,
        graph: Arc<Graph>,
        constants: &BTreeMap<ValueId, Constant>,
        batch: usize,
    ) -> std::result::Result<Program, EngineError> {
        let info = |&id: &ValueId| {
            let value = graph.value(id);
            Info {
                dims: value.shape.at(batch),
                dtype: value.dtype,
            }
        };
        let mut infos = vec![];
        let mut last = HashMap::new();
        for (at, node) in graph.nodes.iter().enumerate() {
            let ins: Vec<Info> = node.inputs.iter().map(info).collect();
            let outs: Vec<Info> = node.outputs.iter().map(info).collect();
            // The general path refuses extents that don't follow from the op.
            let known: Vec<_> = node.inputs.iter().map(|id| constants.get(id)).collect();
            general::compile(&node.op, &ins, &outs)
                .map(drop)
                .and_then(|()| support::check(&node.op, &ins, &outs, &known))
                .map_err(|what| EngineError::Unsupported {
                    node: node.name.clone(),
                    what: format!("{what} on this device"),
                })?;
            last.extend(node.inputs.iter().map(|&id| (id, at)));
            infos.push(outs);
        }
        for id in &graph.outputs {
            last.remove(id);
        }
        let mut last_read = vec![vec![]; graph.nodes.len()];
        for (id, at) in last {
            last_read[at].push(id);
        }
        Ok(Program {
            network,
            infos,
            last_read,
            inputs: graph.inputs.iter().map(info).collect(),
            outputs: graph.outputs.iter().map(info).collect(),
            graph,
        })
    }

    pub(super) fn outputs(&self) -> &[Info] {
        &self.outputs
    }

    pub(super) fn weight_bytes(&self) -> usize {
        self.network.bytes
    }

    pub(super) fn describe(&self) -> Vec<StepInfo> {
        let nodes = self.graph.nodes.iter();
        nodes
            .map(|node| {
                let constants = node.inputs.iter();
                let constants = constants.filter_map(|id| self.network.constants.get(id));
                StepInfo {
                    node: node.name.clone(),
                    kernel: "candle".to_string(),
                    parameter_bytes: constants
                        .map(|t| t.elem_count() * t.dtype().size_in_bytes())
                        .sum(),
                }
            })
            .collect()
    }

    /// Runs once, as the kernels' programs do. With `times` the device is waited for after each
    /// node, without it only at the end.
    pub(super) fn run(
        &self,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        cancel: &Cancel,
        mut times: Option<&mut Vec<Duration>>,
    ) -> std::result::Result<(), EngineError> {
        let (graph, device) = (&*self.graph, &self.network.device);
        let failed = |node: &str, e: candle_core::Error| EngineError::Run {
            node: node.to_string(),
            what: e.to_string(),
        };
        let mut values: HashMap<ValueId, Tensor> = HashMap::new();
        let mut mark = Instant::now();
        for ((&id, bytes), info) in graph.inputs.iter().zip(inputs).zip(&self.inputs) {
            let tensor = upload(bytes, info, device);
            let name = &graph.value(id).name;
            values.insert(id, tensor.map_err(|e| failed(name, e))?);
        }
        for (at, node) in graph.nodes.iter().enumerate() {
            if cancel.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            let take = |id: &ValueId| {
                let constant = || self.network.constants.get(id).cloned();
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
            let known = values.get(id).or_else(|| self.network.constants.get(id));
            let Some(tensor) = known else {
                let missing = candle_core::Error::Msg("nothing produces it".into());
                return Err(failed(name, missing));
            };
            download(tensor, info, output).map_err(|e| failed(name, e))?;
        }
        if let Some(last) = times.and_then(|times| times.last_mut()) {
            *last += mark.elapsed();
        }
        Ok(())
    }
}

/// A tensor on `device` of what the engine keeps as bytes.
fn upload(bytes: &[u8], info: &Info, device: &Device) -> Result<Tensor> {
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
fn download(tensor: &Tensor, info: &Info, to: &mut [u8]) -> Result<()> {
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
pub(super) fn let_go(constants: &mut BTreeMap<ValueId, Constant>) {
    for constant in constants.values_mut() {
        if matches!(&constant.data, Data::F32(v) if v.len() > 1) {
            constant.data = Data::F32(Arc::default());
        }
    }
}

#[cfg(test)]
mod tests;
