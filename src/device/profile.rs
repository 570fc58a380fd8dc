/*!
Timing a network on this device: as a whole, layer by layer, each head on its own, and an assembled
part segment by segment.

The layers' times are taken inside the assembled program, where each finds the caches as the layer
before left them; a layer run alone would find others. Whole and layered runs take turns, so that a
clock that changes with heat or load changes both alike. The input is a fixed pattern: no kernel's
time depends on its values. The first runs are thrown away.
*/

use super::machine::Machine;
use super::memory::resident;
use super::{DeviceError, HeadProfile, LayerProfile, PartProfile, Profile, Stats};
use crate::engine::{Cancel, Engine, Options, Processor, StepInfo};
use crate::model::layers::LayerTable;
use crate::model::{DType, Graph, ValueId};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

/// How to measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProfileOptions {
    /// What runs it.
    pub processor: Processor,
    /// Threads of the engine; 0 for all the cores this process may use.
    pub threads: usize,
    /// Samples a run.
    pub batch: usize,
    /// Runs that count, of each kind.
    pub runs: usize,
    /// Runs before them that don't.
    pub warm_up: usize,
    /// Measured times are multiplied by this; other than 1 means emulated.
    pub slowdown: f64,
}

impl Default for ProfileOptions {
    fn default() -> Self {
        ProfileOptions {
            processor: Processor::Cpu,
            threads: 0,
            batch: 1,
            runs: 100,
            warm_up: 20,
            slowdown: 1.0,
        }
    }
}

impl ProfileOptions {
    fn check(&self) -> Result<(), DeviceError> {
        let wrong = |what, found: String, expected| {
            Err(DeviceError::Setting {
                what,
                found,
                expected,
            })
        };
        if self.batch == 0 {
            return wrong("the batch size", "0".into(), "at least 1 is needed");
        }
        if self.runs == 0 {
            return wrong("the number of runs", "0".into(), "at least 1 is needed");
        }
        if !(self.slowdown.is_finite() && self.slowdown > 0.0) {
            let found = self.slowdown.to_string();
            return wrong("the slowdown", found, "it is a factor above 0");
        }
        Ok(())
    }

    fn ms(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e3 * self.slowdown
    }
}

/// A head to time on its own.
#[derive(Debug, Clone, Copy)]
pub struct HeadToTime<'a> {
    /// Layer behind which it stands.
    pub after: &'a str,
    /// Hash of its rendered source.
    pub hash: &'a str,
    /// The head: fused, one input, one output.
    pub graph: &'a Graph,
}

/// A segment of a part, and the head that reads its output, if an exit stands there.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The segment: one input, one output, which is the next segment's input.
    pub segment: Graph,
    /// The head.
    pub head: Option<Graph>,
}

/// Called with how many runs are done and how many there are.
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize);

/// Times a fused graph and its heads on this device. Its weights are let go as the engine packs them.
///
/// # Errors
/// Where a setting is out of range, a graph is not of one float input and output, the engine
/// doesn't cover it, the device doesn't tell its memory, or `cancel` is raised.
pub fn profile(
    graph: Graph,
    table: &LayerTable,
    heads: &[HeadToTime],
    options: &ProfileOptions,
    progress: Progress,
    cancel: &Cancel,
) -> Result<Profile, DeviceError> {
    options.check()?;
    let all = options.warm_up + options.runs;
    let total = all * (1 + heads.len());
    let mut timed = Timed::new(graph, options)?;
    let steps = timed.engine.steps(options.batch)?;
    let graph = timed.engine.graph();
    let layer_of = layer_of_steps(graph, table, &steps);
    let bytes = layer_bytes(graph, table, options.batch, &steps, &layer_of);
    let mut samples = Vec::with_capacity(options.runs);
    let mut layers = vec![Vec::with_capacity(options.runs); table.layers.len()];
    let mut times = Vec::new();
    for run in 0..all {
        let whole = timed.run(options, cancel)?;
        timed.run_steps(options, cancel, &mut times)?;
        if run >= options.warm_up {
            samples.push(options.ms(whole));
            layers.iter_mut().for_each(|l| l.push(0.0));
            for (&layer, &time) in layer_of.iter().zip(&times) {
                if let Some(ms) = layers[layer].last_mut() {
                    *ms += options.ms(time);
                }
            }
        }
        progress(run + 1, total);
    }
    let rows = table.layers.iter().zip(&layers).zip(bytes);
    let layers = rows.map(|((row, ms), bytes)| LayerProfile {
        name: row.name.clone(),
        ms: Stats::of(ms),
        bytes,
    });
    let layers = layers.collect();
    let mut head_profiles = Vec::with_capacity(heads.len());
    for (at, head) in heads.iter().enumerate() {
        let done = all * (at + 1);
        let mut each = |run: usize| progress(done + run + 1, total);
        head_profiles.push(time_head(head, options, &mut each, cancel)?);
    }
    let memory = timed.engine.memory(options.batch)?;
    let machine = Machine::read(Path::new("/"))?;
    let (target, device) = match options.processor {
        Processor::Cpu => (machine.to_string(), machine.cpu.clone()),
        gpu => (
            format!("{machine}, on {gpu}"),
            format!("{}, on {gpu}", machine.cpu),
        ),
    };
    Ok(Profile {
        target,
        ghz: machine.ghz(),
        device,
        threads: timed.engine.threads(),
        batch: options.batch,
        slowdown: options.slowdown,
        total_ms: Stats::of(&samples),
        layers,
        heads: head_profiles,
        samples_ms: samples,
        weight_bytes: memory.weight_bytes,
        arena_bytes: memory.arena_bytes,
        resident_bytes: resident()?.peak_bytes,
    })
}

/// Times a head alone on this device.
///
/// # Errors
/// As [`profile`].
pub fn profile_head(
    head: &HeadToTime,
    options: &ProfileOptions,
    cancel: &Cancel,
) -> Result<HeadProfile, DeviceError> {
    options.check()?;
    time_head(head, options, &mut |_| {}, cancel)
}

/// Times a head; `each` hears of each run that is over, counted from 0.
fn time_head(
    head: &HeadToTime,
    options: &ProfileOptions,
    each: &mut dyn FnMut(usize),
    cancel: &Cancel,
) -> Result<HeadProfile, DeviceError> {
    let mut timed = Timed::new(head.graph.clone(), options)?;
    let mut samples = Vec::with_capacity(options.runs);
    for run in 0..options.warm_up + options.runs {
        let time = timed.run(options, cancel)?;
        if run >= options.warm_up {
            samples.push(options.ms(time));
        }
        each(run);
    }
    let memory = timed.engine.memory(options.batch)?;
    Ok(HeadProfile {
        after: head.after.to_string(),
        hash: head.hash.to_string(),
        ms: Stats::of(&samples),
        bytes: memory.weight_bytes + memory.arena_bytes,
    })
}

/// Times an assembled part: its segments and heads one after the other, as a run of a sample that
/// no exit lets go does.
///
/// # Errors
/// As [`profile`], and where a segment doesn't take what the one before gives.
pub fn profile_part(
    stages: Vec<Stage>,
    options: &ProfileOptions,
    progress: Progress,
    cancel: &Cancel,
) -> Result<PartProfile, DeviceError> {
    options.check()?;
    let mut pieces = Vec::with_capacity(stages.len());
    for stage in stages {
        let head = stage.head.map(|head| Timed::new(head, options));
        let head = head.transpose()?;
        pieces.push((Timed::new(stage.segment, options)?, head));
    }
    let mut samples = vec![(Vec::new(), Vec::new()); pieces.len()];
    let all = options.warm_up + options.runs;
    for run in 0..all {
        let mut carried: Option<Vec<f32>> = None;
        for ((segment, head), samples) in pieces.iter_mut().zip(&mut samples) {
            if let Some(tensor) = &carried {
                segment.feed(tensor)?;
            }
            let time = segment.run(options, cancel)?;
            if run >= options.warm_up {
                samples.0.push(options.ms(time));
            }
            if let Some(head) = head {
                head.feed(&segment.output)?;
                let time = head.run(options, cancel)?;
                if run >= options.warm_up {
                    samples.1.push(options.ms(time));
                }
            }
            carried = Some(segment.output.clone());
        }
        progress(run + 1, all);
    }
    let mut profile = PartProfile::default();
    for ((segment, head), samples) in pieces.iter().zip(&samples) {
        profile.segments.push(Stats::of(&samples.0));
        profile.heads.push(Stats::of(&samples.1));
        for piece in std::iter::once(segment).chain(head) {
            let memory = piece.engine.memory(options.batch)?;
            profile.weight_bytes += memory.weight_bytes;
            profile.arena_bytes += memory.arena_bytes;
        }
    }
    Ok(profile)
}

/// An engine with the buffers of its runs.
struct Timed {
    engine: Engine,
    input: Vec<f32>,
    output: Vec<f32>,
}

impl Timed {
    fn new(graph: Graph, options: &ProfileOptions) -> Result<Timed, DeviceError> {
        let refuse = |what: String| Err(DeviceError::Network(graph.name.clone(), what));
        let (&[input], &[output]) = (&graph.inputs[..], &graph.outputs[..]) else {
            let (inputs, outputs) = (graph.inputs.len(), graph.outputs.len());
            return refuse(format!(
                "it has {inputs} inputs and {outputs} outputs, not one of each"
            ));
        };
        for id in [input, output] {
            let value = graph.value(id);
            if value.dtype != DType::F32 {
                return refuse(format!("`{}` is {:?}, not F32", value.name, value.dtype));
            }
        }
        let [input, output] =
            [input, output].map(|id| graph.value(id).shape.elements(options.batch));
        let threads = options.threads;
        Ok(Timed {
            engine: Engine::on(options.processor, graph, &Options { threads })?,
            // Neither zero nor denormal, of both signs, and the same for everyone.
            input: (0..input).map(|i| (i as f32 * 0.731).sin()).collect(),
            output: vec![0.0; output],
        })
    }

    fn feed(&mut self, tensor: &[f32]) -> Result<(), DeviceError> {
        if tensor.len() != self.input.len() {
            let what = format!(
                "takes {} floats, is given {}",
                self.input.len(),
                tensor.len()
            );
            let name = self.engine.graph().name.clone();
            return Err(DeviceError::Network(name, what));
        }
        self.input.copy_from_slice(tensor);
        Ok(())
    }

    fn run(&mut self, options: &ProfileOptions, cancel: &Cancel) -> Result<Duration, DeviceError> {
        let start = Instant::now();
        let outputs = &mut [self.output.as_mut_slice()];
        self.engine
            .run_into(options.batch, &[&self.input], outputs, cancel)?;
        Ok(start.elapsed())
    }

    fn run_steps(
        &mut self,
        options: &ProfileOptions,
        cancel: &Cancel,
        times: &mut Vec<Duration>,
    ) -> Result<(), DeviceError> {
        let outputs = &mut [self.output.as_mut_slice()];
        self.engine
            .run_timed_into(options.batch, &[&self.input], outputs, cancel, times)?;
        Ok(())
    }
}

/// The layer that each step's time belongs to: that of its node (a change of layout carries the
/// name of the node it feeds), else the one that follows, else the last.
fn layer_of_steps(graph: &Graph, table: &LayerTable, steps: &[StepInfo]) -> Vec<usize> {
    let nodes = graph.nodes.iter().enumerate();
    let by_name: HashMap<&str, usize> = nodes.map(|(i, n)| (n.name.as_str(), i)).collect();
    let last = table.layers.len().saturating_sub(1);
    let layer = |step: &StepInfo| {
        let node = by_name.get(step.node.as_str()).copied().unwrap_or(0);
        let holds = table.layers.iter().position(|l| l.nodes.contains(&node));
        let follows = || table.layers.iter().position(|l| l.nodes.start > node);
        holds.or_else(follows).unwrap_or(last)
    };
    steps.iter().map(layer).collect()
}

/// What each layer holds while it runs: its parameters as the kernels read them, the tensors it
/// reads and those it leaves behind.
fn layer_bytes(
    graph: &Graph,
    table: &LayerTable,
    batch: usize,
    steps: &[StepInfo],
    layer_of: &[usize],
) -> Vec<usize> {
    let mut bytes = vec![0; table.layers.len()];
    for (step, &layer) in steps.iter().zip(layer_of) {
        bytes[layer] += step.parameter_bytes;
    }
    let (producers, consumers) = (graph.producers(), graph.consumers());
    let size = |id: &ValueId| {
        let value = graph.value(*id);
        value.shape.elements(batch) * value.dtype.bytes()
    };
    for (row, bytes) in table.layers.iter().zip(&mut bytes) {
        let inside = |node: &usize| row.nodes.contains(node);
        let nodes = &graph.nodes[row.nodes.clone()];
        let read: HashSet<ValueId> = nodes
            .iter()
            .flat_map(|n| n.inputs.iter().copied())
            .filter(|id| !graph.constants.contains_key(id))
            .filter(|id| !producers.get(id).is_some_and(inside))
            .collect();
        let left = nodes.iter().flat_map(|n| &n.outputs).filter(|id| {
            let readers = consumers.get(id);
            graph.outputs.contains(id) || readers.is_some_and(|r| !r.iter().all(inside))
        });
        *bytes += read.iter().map(size).sum::<usize>() + left.map(size).sum::<usize>();
    }
    bytes
}

#[cfg(test)]
mod tests;
