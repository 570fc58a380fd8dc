/*!
A graph compiled for one batch size: steps in order, and where each tensor lies in the arena.
*/

use super::general::{self, Info, View, ViewMut, Work};
use super::kernels::memory::{ALIGN, Memory};
use super::{Cancel, EngineError, StepInfo, StepTime};
use crate::model::{Constant, Data, Graph, ValueId};
use std::collections::HashMap;
use std::ops::Range;
use std::time::Instant;

/// Where a step finds a tensor.
#[derive(Debug, Clone)]
enum Source {
    Constant(Constant),
    Arena(Range<usize>),
}

struct Step {
    node: String,
    kernel: &'static str,
    work: Work,
    reads: Vec<Source>,
    writes: Vec<Range<usize>>,
}

/// A graph compiled for one batch size.
pub(crate) struct Program {
    steps: Vec<Step>,
    inputs: Vec<Range<usize>>,
    outputs: Vec<(Info, Source)>,
    arena_bytes: usize,
}

/// The bytes of a constant's elements.
pub(crate) fn constant_bytes(data: &Data) -> &[u8] {
    match data {
        Data::F32(v) => bytemuck::cast_slice(v),
        Data::I64(v) => bytemuck::cast_slice(v),
        Data::I32(v) => bytemuck::cast_slice(v),
        Data::U8(v) | Data::Bool(v) => v,
        Data::I8(v) => bytemuck::cast_slice(v),
    }
}

/// Gives every tensor a place in one block: first fit over the steps in which it is alive.
#[derive(Debug, Default)]
struct Placer {
    /// Offset, size, last step; sorted by offset.
    live: Vec<(usize, usize, usize)>,
    total: usize,
}

impl Placer {
    fn place(&mut self, bytes: usize, first: usize, last: usize) -> Range<usize> {
        self.live.retain(|&(_, _, end)| end >= first);
        let size = bytes.max(1).next_multiple_of(ALIGN);
        let mut offset = 0;
        for &(start, length, _) in &self.live {
            if offset + size <= start {
                break;
            }
            offset = offset.max(start + length);
        }
        self.live.push((offset, size, last));
        self.live.sort_unstable();
        self.total = self.total.max(offset + size);
        offset..offset + bytes
    }
}

impl Program {
    /// Compiles `graph` for `batch` samples.
    pub(crate) fn compile(graph: &Graph, batch: usize) -> Result<Program, EngineError> {
        let info = |id: ValueId| {
            let value = graph.value(id);
            Info {
                dims: value.shape.at(batch),
                dtype: value.dtype,
            }
        };
        let last = last_uses(graph);
        let mut placer = Placer::default();
        let mut places: HashMap<ValueId, Range<usize>> = HashMap::new();
        for &id in &graph.inputs {
            let end = *last.get(&id).unwrap_or(&0);
            places.insert(id, placer.place(info(id).bytes(), 0, end));
        }
        let source = |places: &HashMap<ValueId, Range<usize>>, id: ValueId| {
            if let Some(place) = places.get(&id) {
                return Some(Source::Arena(place.clone()));
            }
            let constant = graph.constants.get(&id)?;
            let fits = constant_bytes(&constant.data).len() == info(id).bytes();
            fits.then(|| Source::Constant(constant.clone()))
        };
        let missing = |node: &str, id: ValueId| EngineError::Unsupported {
            node: node.to_string(),
            what: format!(
                "reading `{}`, which nothing before it produces,",
                graph.value(id).name
            ),
        };
        let mut steps = Vec::with_capacity(graph.nodes.len());
        for (at, node) in graph.nodes.iter().enumerate() {
            let ins: Vec<Info> = node.inputs.iter().map(|&id| info(id)).collect();
            let outs: Vec<Info> = node.outputs.iter().map(|&id| info(id)).collect();
            let work = general::compile(&node.op, &ins, &outs).map_err(|what| {
                EngineError::Unsupported {
                    node: node.name.clone(),
                    what: format!("{}: {what}", op_name(&node.op)),
                }
            })?;
            let reads = node.inputs.iter().map(|&id| {
                let found = source(&places, id);
                found.ok_or_else(|| missing(&node.name, id))
            });
            let reads = reads.collect::<Result<_, _>>()?;
            let mut writes = vec![];
            for (&id, info) in node.outputs.iter().zip(&outs) {
                let place = placer.place(info.bytes(), at, (*last.get(&id).unwrap_or(&at)).max(at));
                places.insert(id, place.clone());
                writes.push(place);
            }
            steps.push(Step {
                node: node.name.clone(),
                kernel: "general",
                work,
                reads,
                writes,
            });
        }
        let outputs = graph.outputs.iter().map(|&id| {
            let found = source(&places, id).ok_or_else(|| missing("output", id))?;
            Ok((info(id), found))
        });
        Ok(Program {
            outputs: outputs.collect::<Result<_, EngineError>>()?,
            inputs: graph.inputs.iter().map(|id| places[id].clone()).collect(),
            steps,
            arena_bytes: placer.total,
        })
    }

    pub(crate) fn arena_bytes(&self) -> usize {
        self.arena_bytes
    }

    /// An arena for one run at a time.
    pub(crate) fn arena(&self) -> Memory {
        Memory::zeroed(self.arena_bytes)
    }

    pub(crate) fn describe(&self) -> Vec<StepInfo> {
        let steps = self.steps.iter();
        steps
            .map(|s| StepInfo {
                node: s.node.clone(),
                kernel: s.kernel.to_string(),
            })
            .collect()
    }

    /// Extents and types of the outputs.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = &Info> {
        self.outputs.iter().map(|(info, _)| info)
    }

    /// Runs once. `inputs` and `outputs` are as long as the graph's tensors are at this batch size
    /// (the caller has checked); `times` gets one entry a step.
    pub(crate) fn run(
        &self,
        arena: &mut Memory,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        cancel: &Cancel,
        mut times: Option<&mut Vec<StepTime>>,
    ) -> Result<(), EngineError> {
        for (place, input) in self.inputs.iter().zip(inputs) {
            arena.bytes_mut()[place.clone()].copy_from_slice(input);
        }
        for step in &self.steps {
            if cancel.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            let start = times.is_some().then(Instant::now);
            step.run(arena)?;
            if let (Some(times), Some(start)) = (times.as_deref_mut(), start) {
                times.push(StepTime {
                    node: step.node.clone(),
                    time: start.elapsed(),
                });
            }
        }
        for ((_, source), output) in self.outputs.iter().zip(outputs) {
            output.copy_from_slice(match source {
                Source::Constant(c) => constant_bytes(&c.data),
                Source::Arena(place) => &arena.bytes()[place.clone()],
            });
        }
        Ok(())
    }
}

impl Step {
    fn run(&self, arena: &mut Memory) -> Result<(), EngineError> {
        let shared: Vec<Range<usize>> = self
            .reads
            .iter()
            .filter_map(|source| match source {
                Source::Arena(place) => Some(place.clone()),
                Source::Constant(_) => None,
            })
            .collect();
        let (read, write) = arena.split(&shared, &self.writes);
        let mut read = read.into_iter();
        let ins: Vec<View> = self
            .reads
            .iter()
            .map(|source| match source {
                Source::Constant(c) => View(constant_bytes(&c.data)),
                Source::Arena(_) => View(read.next().unwrap_or_default()),
            })
            .collect();
        let mut outs: Vec<ViewMut> = write.into_iter().map(ViewMut).collect();
        (self.work)(&ins, &mut outs).map_err(|what| EngineError::Run {
            node: self.node.clone(),
            what,
        })
    }
}

/// For every value the last step that reads it; outputs outlive all steps.
fn last_uses(graph: &Graph) -> HashMap<ValueId, usize> {
    let mut last = HashMap::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        for &id in &node.inputs {
            last.insert(id, at);
        }
    }
    for &id in &graph.outputs {
        last.insert(id, graph.nodes.len());
    }
    last
}

/// The op's name without its settings.
fn op_name(op: &crate::model::Op) -> String {
    let text = format!("{op:?}");
    let end = text.find([' ', '{', '(']).unwrap_or(text.len());
    text[..end].to_string()
}
