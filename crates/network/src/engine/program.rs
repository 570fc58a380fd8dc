/*!
A graph compiled for one batch size: steps in order, and where each tensor lies in the arena.
*/

use super::general::{View, ViewMut, Work};
use super::kernels::loops::KernelTable;
use super::kernels::memory::{ALIGN, Memory};
use super::kernels::step::{self, Arena, Plain};
use super::kernels::threads::{Pool, Team};
use super::lower::{self, Action, Constants, Output, Place, Step};
use super::tensor::constant_bytes;
use super::weights::Weights;
use super::{Cancel, EngineError, StepInfo, Unsupported};
use crate::model::Graph;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A graph compiled for one batch size.
pub(crate) struct Program {
    steps: Vec<Step>,
    slots: Vec<Range<usize>>,
    sources: Vec<Output>,
    weights: Weights,
    arena_bytes: usize,
    scratch_bytes: usize,
    kernels: KernelTable,
    pool: Arc<Pool>,
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
    /// Compiles `graph`, whose constants are `constants`, for `batch` samples. Constants of which
    /// only a packed form is needed are left empty; `known` are those of a program made before.
    pub(crate) fn compile(
        graph: &Graph,
        constants: &mut Constants,
        batch: usize,
        known: &Weights,
        kernels: KernelTable,
        pool: Arc<Pool>,
    ) -> Result<Program, EngineError> {
        let lowered = lower::lower(graph, constants, batch, known)
            .map_err(|(node, what)| Unsupported { node, what })?;
        let mut placer = Placer::default();
        let slots = lowered.slots.iter();
        let slots = slots
            .map(|s| placer.place(s.bytes, s.first, s.last))
            .collect();
        // Each thread has room for the longest of either kind.
        let scratch = lowered.steps.iter().map(|step| match &step.action {
            Action::Conv { conv, .. } => conv.scratch_bytes(&kernels, pool.threads()),
            _ => [0; 2],
        });
        let longest = scratch.fold([0; 2], |[a, b], [c, d]| [a.max(c), b.max(d)]);
        Ok(Program {
            steps: lowered.steps,
            slots,
            sources: lowered.outputs,
            weights: lowered.weights,
            arena_bytes: placer.total,
            scratch_bytes: longest.iter().sum(),
            kernels,
            pool,
        })
    }

    /// Bytes of the arena, and of what the threads work in beside it.
    pub(crate) fn arena_bytes(&self) -> usize {
        self.arena_bytes + self.scratch_bytes
    }

    /// Bytes of packed weights; what two nodes share counts once.
    pub(crate) fn weight_bytes(&self) -> usize {
        let mut seen = HashSet::new();
        let all = self.weights.values();
        let all = all.filter(|w| seen.insert(Arc::as_ptr(w)));
        all.map(|w| w.floats * 4).sum()
    }

    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Bytes of the block that a run works in, at least.
    pub(crate) fn block_bytes(&self) -> usize {
        self.arena_bytes
    }

    pub(crate) fn describe(&self) -> Vec<StepInfo> {
        let steps = self.steps.iter();
        steps
            .map(|s| StepInfo {
                node: s.node.clone(),
                kernel: s.kernel.to_string(),
                parameter_bytes: s.parameter_bytes(),
            })
            .collect()
    }

    /// Runs once. `inputs` and `outputs` are as long as the graph's tensors are at this batch size
    /// (the caller has checked). `times` gets one entry a step, the copy to the outputs counted
    /// with the last: together they are the whole run. Each step ends where the next begins, one
    /// reading of the clock a step and no allocation, so that timing costs next to nothing.
    pub(crate) fn run(
        &self,
        memory: &mut Memory,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        cancel: &Cancel,
        mut times: Option<&mut Vec<Duration>>,
    ) -> Result<(), EngineError> {
        let slots = &self.slots;
        let team = Team {
            pool: &self.pool,
            cancel,
        };
        let mut mark = times.as_deref_mut().map(|times| {
            times.reserve(self.steps.len());
            Instant::now()
        });
        for step in &self.steps {
            if cancel.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            self.step(step, memory, inputs, team)?;
            if let (Some(times), Some(mark)) = (times.as_deref_mut(), &mut mark) {
                let now = Instant::now();
                times.push(now - *mark);
                *mark = now;
            }
        }
        for (source, output) in self.sources.iter().zip(outputs) {
            match source {
                Output::Plain(Place::Constant(c)) => {
                    output.copy_from_slice(constant_bytes(&c.data));
                }
                Output::Plain(Place::Input(at)) => output.copy_from_slice(inputs[*at]),
                Output::Plain(Place::Slot(slot)) => {
                    output.copy_from_slice(&memory.bytes()[slots[*slot].clone()]);
                }
                Output::Pixels(t) => {
                    let mut arena = Arena { memory, slots };
                    let output = bytemuck::cast_slice_mut(output);
                    step::from_pixels(&mut arena, t, output, team);
                }
            }
        }
        // A stop within the last step, or within this copy, left some of it undone.
        if cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        if let (Some(times), Some(mark)) = (times, mark)
            && let Some(last) = times.last_mut()
        {
            *last += mark.elapsed();
        }
        Ok(())
    }

    fn step(
        &self,
        step: &Step,
        memory: &mut Memory,
        inputs: &[&[u8]],
        pool: Team,
    ) -> Result<(), EngineError> {
        let (slots, kernels) = (&self.slots, &self.kernels);
        match &step.action {
            Action::General {
                work,
                reads,
                writes,
            } => {
                return self
                    .general(work, reads, writes, memory, inputs, pool)
                    .map_err(|what| EngineError::Run {
                        node: step.node.clone(),
                        what,
                    });
            }
            Action::Conv { conv, operands } => {
                conv.run(&mut Arena { memory, slots }, operands, kernels, pool);
            }
            Action::Sweep { sweep, x, y } => {
                sweep.run(&mut Arena { memory, slots }, x, y, kernels, pool);
            }
            Action::ToPixels {
                from,
                extents,
                to,
                pad,
            } => {
                let plain = match from {
                    Place::Constant(c) => {
                        Plain::Outside(bytemuck::cast_slice(constant_bytes(&c.data)))
                    }
                    Place::Input(at) => Plain::Outside(bytemuck::cast_slice(inputs[*at])),
                    Place::Slot(slot) => Plain::Slot(*slot),
                };
                step::to_pixels(
                    &mut Arena { memory, slots },
                    plain,
                    *extents,
                    to,
                    *pad,
                    pool,
                );
            }
            Action::FromPixels { from, to } => {
                step::from_pixels_into(&mut Arena { memory, slots }, from, *to, pool);
            }
            Action::Copy { from, to } => {
                step::copy_pixels(&mut Arena { memory, slots }, from, to, pool);
            }
        }
        Ok(())
    }

    fn general(
        &self,
        work: &Work,
        reads: &[Place],
        writes: &[usize],
        memory: &mut Memory,
        inputs: &[&[u8]],
        team: Team,
    ) -> Result<(), String> {
        let slot = |at: &usize| self.slots[*at].clone();
        let shared: Vec<Range<usize>> = reads
            .iter()
            .filter_map(|place| match place {
                Place::Slot(at) => Some(slot(at)),
                _ => None,
            })
            .collect();
        let exclusive: Vec<Range<usize>> = writes.iter().map(slot).collect();
        let (read, write) = memory.split(&shared, &exclusive);
        let mut read = read.into_iter();
        let ins: Vec<View> = reads
            .iter()
            .map(|place| match place {
                Place::Constant(c) => View(constant_bytes(&c.data)),
                Place::Input(at) => View(inputs[*at]),
                Place::Slot(_) => View(read.next().unwrap_or_default()),
            })
            .collect();
        let mut outs: Vec<ViewMut> = write.into_iter().map(ViewMut).collect();
        work(&ins, &mut outs, team)
    }
}
