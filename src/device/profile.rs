/*!
Timing a network on this device: as a whole, layer by layer, each head on its own, and an assembled
part segment by segment.

The layers' times are taken inside the assembled program, where each finds the caches as the layer
before left them; a layer run alone would find others. Whole and layered runs take turns, so that a
clock that changes with heat or load changes both alike. A backend that fuses layers has no times
of steps; there the network is timed up to each place where it may be cut, each such prefix compiled
by itself. The input is a fixed pattern: no kernel's time depends on its values. The first runs are
thrown away.
*/

mod boundary;

use super::load::LoadWatch;
use super::machine::Machine;
use super::memory::resident;
use super::{
    DeviceError, HeadProfile, LayerProfile, PartProfile, PrefixProfile, Profile, SegmentMemory,
    Stats,
};
use crate::backend::{Backend, BackendId, CompileOptions, Compiled, Timing};
use crate::engine::{Cancel, Port, StepInfo, TensorMut, TensorRef};
use crate::model::layers::{Layer, LayerTable};
use crate::model::{DType, Graph, GraphError, ValueId, peak_bytes};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

/// An emulated device's wait behind a run is cut off here: by then all has cooled down.
const LONGEST_WAIT: Duration = Duration::from_millis(10);

/// How a network is timed on this machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProfileOptions {
    /// Backend that runs it.
    pub backend: BackendId,
    /// CPU threads; 0 for one per core that this process may use.
    pub threads: usize,
    /// Samples per run.
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
            backend: BackendId::Native,
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
pub struct SegmentToTime {
    /// The segment: one input, one output, which is the next segment's input.
    pub segment: Graph,
    /// Graph of the head, where an exit stands behind the segment.
    pub head: Option<Graph>,
}

/// Called with how many runs are done and how many there are.
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize);

/// Times a fused graph and its heads on this device. Its weights are let go as the backend takes them.
///
/// # Errors
/// Where a setting is out of range, the backend's device isn't there, a graph is not of one float
/// input and output, the backend doesn't cover it, the device doesn't tell its memory, or `cancel` is
/// raised.
pub fn profile(
    graph: Graph,
    table: &LayerTable,
    heads: &[HeadToTime],
    options: &ProfileOptions,
    progress: Progress,
    cancel: &Cancel,
) -> Result<Profile, DeviceError> {
    options.check()?;
    let backend = options.backend.open()?;
    profile_on(&*backend, graph, table, heads, options, progress, cancel)
}

/// [`profile`] by a backend that is open.
fn profile_on(
    backend: &dyn Backend,
    graph: Graph,
    table: &LayerTable,
    heads: &[HeadToTime],
    options: &ProfileOptions,
    progress: Progress,
    cancel: &Cancel,
) -> Result<Profile, DeviceError> {
    let all = options.warm_up + options.runs;
    let total = all * (1 + heads.len());
    let rows = Rows::of(&graph, table, options.batch);
    let pieces = Segment::all(&graph, table, options)?;
    let watch = LoadWatch::start()?;
    let prefixes = match backend.times_steps() {
        true => Vec::new(),
        false => prefixes(backend, &graph, table, options)?,
    };
    let mut timed = Timed::new(backend, graph, options)?;
    let mut samples = Vec::with_capacity(options.runs);
    let mut parts = Parts::new(&timed, prefixes, rows, options)?;
    for run in 0..all {
        let whole = timed.run(options, cancel)?;
        let counts = run >= options.warm_up;
        parts.run(&mut timed, counts, options, cancel)?;
        if counts {
            samples.push(options.ms(whole));
        }
        progress(run + 1, total);
    }
    let mut head_profiles = Vec::with_capacity(heads.len());
    for (at, head) in heads.iter().enumerate() {
        let done = all * (at + 1);
        let mut each = |run: usize| progress(done + run + 1, total);
        head_profiles.push(time_head(backend, head, options, &mut each, cancel)?);
    }
    let load = watch.load(&samples)?;
    let memory = timed.memory(options)?;
    let segments = pieces.iter().map(|s| s.memory(&timed, options));
    let segments = segments.collect::<Result<_, _>>()?;
    let resident_bytes = resident()?.peak_bytes;
    let (layers, prefixes) = parts.summary(table);
    let total_ms = Stats::of(&samples);
    let whole_ms = total_ms.median;
    let boundaries = boundary::boundaries(&mut timed, &pieces, &layers, whole_ms, options, cancel)?;
    let machine = Machine::read(Path::new("/"))?;
    let (target, device) = match options.backend {
        BackendId::Native => (machine.to_string(), machine.cpu.clone()),
        BackendId::Candle(_) | BackendId::OnnxRuntime(_) => {
            let name = backend.name();
            (
                format!("{machine}, on {name}"),
                format!("{}, on {name}", machine.cpu),
            )
        }
    };
    Ok(Profile {
        target,
        ghz: machine.ghz(),
        device,
        threads: timed.network.threads(),
        batch: options.batch,
        slowdown: options.slowdown,
        total_ms,
        layers,
        prefixes,
        heads: head_profiles,
        samples_ms: samples,
        weight_bytes: memory.0,
        arena_bytes: memory.1,
        segments,
        boundaries,
        codec: Vec::new(),
        load: Some(load),
        watts: None,
        resident_bytes,
    })
}

/// The times of pieces of a network: of its layers, where the backend knows them, else of its prefixes.
enum Parts {
    Layers {
        /// One entry per step: the row of the layer table that its time belongs to.
        row_of: Vec<usize>,
        /// One entry per row: milliseconds of each run that counts.
        samples: Vec<Vec<f64>>,
        bytes: Vec<usize>,
        times: Vec<Duration>,
    },
    Prefixes(Vec<Prefix>),
}

/// The network up to a place where it may be cut, compiled by itself.
struct Prefix {
    /// Layer behind which it ends.
    after: String,
    timed: Timed,
    samples: Vec<f64>,
}

impl Parts {
    fn new(
        whole: &Timed,
        prefixes: Vec<Prefix>,
        rows: Rows,
        options: &ProfileOptions,
    ) -> Result<Parts, DeviceError> {
        let Timing::Steps(network) = whole.network.timing() else {
            return Ok(Parts::Prefixes(prefixes));
        };
        let steps = network.steps(options.batch)?;
        let row_of: Vec<usize> = steps.iter().map(|step| rows.of_step(step)).collect();
        let mut bytes = rows.tensor_bytes;
        for (step, &row) in steps.iter().zip(&row_of) {
            bytes[row] += step.parameter_bytes;
        }
        Ok(Parts::Layers {
            row_of,
            samples: vec![Vec::with_capacity(options.runs); bytes.len()],
            bytes,
            times: Vec::new(),
        })
    }

    /// Takes the times of one run of each piece, and keeps them if the run counts.
    fn run(
        &mut self,
        whole: &mut Timed,
        counts: bool,
        options: &ProfileOptions,
        cancel: &Cancel,
    ) -> Result<(), DeviceError> {
        match self {
            Parts::Layers {
                row_of,
                samples,
                times,
                ..
            } => {
                whole.run_steps(options, cancel, times)?;
                if !counts {
                    return Ok(());
                }
                samples.iter_mut().for_each(|row| row.push(0.0));
                for (&row, &time) in row_of.iter().zip(&*times) {
                    if let Some(ms) = samples[row].last_mut() {
                        *ms += options.ms(time);
                    }
                }
            }
            Parts::Prefixes(prefixes) => {
                for prefix in prefixes {
                    let time = prefix.timed.run(options, cancel)?;
                    if counts {
                        prefix.samples.push(options.ms(time));
                    }
                }
            }
        }
        Ok(())
    }

    fn summary(self, table: &LayerTable) -> (Vec<LayerProfile>, Vec<PrefixProfile>) {
        match self {
            Parts::Layers { samples, bytes, .. } => {
                let rows = table.layers.iter().zip(&samples).zip(bytes);
                let layers = rows.map(|((row, ms), bytes)| LayerProfile {
                    name: row.name.clone(),
                    ms: Stats::of(ms),
                    bytes,
                });
                (layers.collect(), Vec::new())
            }
            Parts::Prefixes(prefixes) => {
                let prefixes = prefixes.into_iter().map(|prefix| PrefixProfile {
                    after: prefix.after,
                    ms: Stats::of(&prefix.samples),
                });
                (Vec::new(), prefixes.collect())
            }
        }
    }
}

/// The network up to each place where a split or an exit may stand.
fn prefixes(
    backend: &dyn Backend,
    graph: &Graph,
    table: &LayerTable,
    options: &ProfileOptions,
) -> Result<Vec<Prefix>, DeviceError> {
    let places = table
        .layers
        .iter()
        .filter(|l| l.split_legal || l.exit_legal);
    let prefix = |row: &Layer| {
        let refuse = |e: GraphError| DeviceError::Network(graph.name.clone(), e.to_string());
        let end = graph.find(&row.value).map_err(refuse)?;
        let piece = graph.subgraph(&graph.inputs, &[end]).map_err(refuse)?;
        Ok(Prefix {
            after: row.name.clone(),
            timed: Timed::new(backend, piece, options)?,
            samples: Vec::with_capacity(options.runs),
        })
    };
    places.map(prefix).collect()
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
    let backend = options.backend.open()?;
    time_head(&*backend, head, options, &mut |_| {}, cancel)
}

/// Times a head; `each` hears of each run that is over, counted from 0.
fn time_head(
    backend: &dyn Backend,
    head: &HeadToTime,
    options: &ProfileOptions,
    each: &mut dyn FnMut(usize),
    cancel: &Cancel,
) -> Result<HeadProfile, DeviceError> {
    let mut timed = Timed::new(backend, head.graph.clone(), options)?;
    let mut samples = Vec::with_capacity(options.runs);
    for run in 0..options.warm_up + options.runs {
        let time = timed.run(options, cancel)?;
        if run >= options.warm_up {
            samples.push(options.ms(time));
        }
        each(run);
    }
    let (weights, arena) = timed.memory(options)?;
    Ok(HeadProfile {
        after: head.after.to_string(),
        hash: head.hash.to_string(),
        ms: Stats::of(&samples),
        bytes: weights + arena,
        arena_bytes: arena,
    })
}

/// Times an assembled part: its segments and heads one after the other, as a run of a sample that
/// no exit lets go does.
///
/// # Errors
/// As [`profile`], and where a segment doesn't take what the one before gives.
pub fn profile_part(
    stages: Vec<SegmentToTime>,
    options: &ProfileOptions,
    progress: Progress,
    cancel: &Cancel,
) -> Result<PartProfile, DeviceError> {
    options.check()?;
    let backend = options.backend.open()?;
    let mut pieces = Vec::with_capacity(stages.len());
    for stage in stages {
        let head = stage.head.map(|head| Timed::new(&*backend, head, options));
        let head = head.transpose()?;
        pieces.push((Timed::new(&*backend, stage.segment, options)?, head));
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
            let (weights, arena) = piece.memory(options)?;
            profile.weight_bytes += weights;
            profile.arena_bytes = profile.arena_bytes.max(arena);
        }
    }
    Ok(profile)
}

/// A piece of the network that may be a segment of a part.
struct Segment {
    /// Rows of the layer table.
    rows: Range<usize>,
    /// The values it begins and ends with.
    ends: [String; 2],
    /// Bytes of its constants, and of what is alive in it at once.
    own_bytes: (usize, usize),
}

impl Segment {
    /// All of them: between any two of the places where the network begins, ends, or may be cut.
    fn all(
        graph: &Graph,
        table: &LayerTable,
        options: &ProfileOptions,
    ) -> Result<Vec<Segment>, DeviceError> {
        let refuse = |e: GraphError| DeviceError::Network(graph.name.clone(), e.to_string());
        let rows = table.layers.iter().enumerate();
        let last = table.layers.len().saturating_sub(1);
        let inner = rows.filter(|(at, l)| *at < last && (l.split_legal || l.exit_legal));
        let mut places: Vec<(usize, ValueId)> = Vec::new();
        places.extend(graph.inputs.first().map(|&id| (0, id)));
        for (at, layer) in inner {
            places.push((at + 1, graph.find(&layer.value).map_err(refuse)?));
        }
        places.extend(graph.outputs.first().map(|&id| (last + 1, id)));
        let mut all = Vec::new();
        for (at, &(from, input)) in places.iter().enumerate() {
            for &(to, output) in &places[at + 1..] {
                let piece = graph.subgraph(&[input], &[output]).map_err(refuse)?;
                all.push(Segment {
                    rows: from..to,
                    ends: [input, output].map(|id| graph.value(id).name.clone()),
                    own_bytes: own_bytes(&piece, options),
                });
            }
        }
        Ok(all)
    }

    fn memory(
        &self,
        whole: &Timed,
        options: &ProfileOptions,
    ) -> Result<SegmentMemory, DeviceError> {
        let [input, output] = &self.ends;
        let told = whole.network.memory_between(options.batch, input, output)?;
        Ok(SegmentMemory {
            from: self.rows.start,
            to: self.rows.end,
            weight_bytes: told.weight_bytes.unwrap_or(self.own_bytes.0),
            arena_bytes: told.arena_bytes.unwrap_or(self.own_bytes.1),
        })
    }
}

/// Bytes of a graph's constants, and of what is alive in it at once at the batch.
fn own_bytes(graph: &Graph, options: &ProfileOptions) -> (usize, usize) {
    (constant_bytes(graph), peak_bytes(graph, options.batch))
}

/// A compiled network with the buffers of its runs.
struct Timed {
    network: Box<dyn Compiled>,
    name: String,
    /// Bytes of the graph's constants, and of what is alive at once at the batch.
    own_bytes: (usize, usize),
    input: Vec<f32>,
    output: Vec<f32>,
}

impl Timed {
    /// The piece between two of the network's values, over its weights; `None` where the backend can't.
    fn between(
        &self,
        ends: &[String; 2],
        options: &ProfileOptions,
    ) -> Result<Option<Timed>, DeviceError> {
        let Some(network) = self.network.between(&ends[0], &ends[1])? else {
            return Ok(None);
        };
        let elements = |ports: &[Port]| ports.iter().map(|p| p.elements(options.batch)).sum();
        let (input, output) = (elements(network.inputs()), elements(network.outputs()));
        Ok(Some(Timed {
            network,
            name: self.name.clone(),
            own_bytes: self.own_bytes,
            input: pattern(input),
            output: vec![0.0; output],
        }))
    }

    fn new(
        backend: &dyn Backend,
        graph: Graph,
        options: &ProfileOptions,
    ) -> Result<Timed, DeviceError> {
        let name = graph.name.clone();
        let refuse = |what: String| Err(DeviceError::Network(name.clone(), what));
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
        let own_bytes = own_bytes(&graph, options);
        let threads = options.threads;
        Ok(Timed {
            network: backend.compile(graph, &CompileOptions { threads })?,
            name,
            own_bytes,
            input: pattern(input),
            output: vec![0.0; output],
        })
    }

    /// Bytes of weights and of activations. What the backend doesn't tell is the network's own.
    fn memory(&self, options: &ProfileOptions) -> Result<(usize, usize), DeviceError> {
        let memory = self.network.memory(options.batch)?;
        Ok((
            memory.weight_bytes.unwrap_or(self.own_bytes.0),
            memory.arena_bytes.unwrap_or(self.own_bytes.1),
        ))
    }

    fn feed(&mut self, tensor: &[f32]) -> Result<(), DeviceError> {
        if tensor.len() != self.input.len() {
            let what = format!(
                "takes {} floats, is given {}",
                self.input.len(),
                tensor.len()
            );
            return Err(DeviceError::Network(self.name.clone(), what));
        }
        self.input.copy_from_slice(tensor);
        Ok(())
    }

    fn run(&mut self, options: &ProfileOptions, cancel: &Cancel) -> Result<Duration, DeviceError> {
        let start = Instant::now();
        let outputs = &mut [self.output.as_mut_slice()];
        self.network
            .run_into(options.batch, &[&self.input], outputs, cancel)?;
        let took = start.elapsed();
        // An emulated device waits before it goes on, and its caches and clocks cool down as they do there.
        let wait = took.mul_f64((options.slowdown - 1.0).max(0.0));
        std::thread::sleep(wait.min(LONGEST_WAIT));
        Ok(took)
    }

    /// Times of the steps of one run; none where the backend knows none.
    fn run_steps(
        &mut self,
        options: &ProfileOptions,
        cancel: &Cancel,
        times: &mut Vec<Duration>,
    ) -> Result<(), DeviceError> {
        if let Timing::Steps(network) = self.network.timing() {
            let inputs = [TensorRef::F32(&self.input)];
            let mut outputs = [TensorMut::F32(&mut self.output)];
            network.run_timed(options.batch, &inputs, &mut outputs, cancel, times)?;
        }
        Ok(())
    }
}

/// Neither zero nor denormal, of both signs, and the same for everyone.
fn pattern(elements: usize) -> Vec<f32> {
    (0..elements).map(|i| (i as f32 * 0.731).sin()).collect()
}

/// Bytes of a graph's constants.
fn constant_bytes(graph: &Graph) -> usize {
    let constants = graph.constants.values();
    constants.map(|c| c.len() * c.dtype().bytes()).sum()
}

/// What is known of the rows of the layer table before the graph is compiled.
struct Rows {
    /// The row of each node, by its name: the one that holds it, else the one that follows, else the
    /// last.
    of_node: HashMap<String, usize>,
    /// The row of the first node, for steps of no node.
    first: usize,
    /// One entry per row: bytes of the tensors it reads and of those it leaves behind.
    tensor_bytes: Vec<usize>,
}

impl Rows {
    fn of(graph: &Graph, table: &LayerTable, batch: usize) -> Rows {
        let last = table.layers.len().saturating_sub(1);
        let row = |node: usize| {
            let holds = table.layers.iter().position(|l| l.nodes.contains(&node));
            let follows = || table.layers.iter().position(|l| l.nodes.start > node);
            holds.or_else(follows).unwrap_or(last)
        };
        let nodes = graph.nodes.iter().enumerate();
        Rows {
            of_node: nodes.map(|(i, n)| (n.name.clone(), row(i))).collect(),
            first: row(0),
            tensor_bytes: tensor_bytes(graph, table, batch),
        }
    }

    /// The row that a step's time belongs to: that of its node (a change of layout carries the name of
    /// the node it feeds).
    fn of_step(&self, step: &StepInfo) -> usize {
        let known = self.of_node.get(&step.node);
        known.copied().unwrap_or(self.first)
    }
}

/// Bytes of the tensors that each row reads from others, and of those it leaves behind.
fn tensor_bytes(graph: &Graph, table: &LayerTable, batch: usize) -> Vec<usize> {
    let (producers, consumers) = (graph.producers(), graph.consumers());
    let size = |id: &ValueId| {
        let value = graph.value(*id);
        value.shape.elements(batch) * value.dtype.bytes()
    };
    let row = |row: &Layer| {
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
        read.iter().map(size).sum::<usize>() + left.map(size).sum::<usize>()
    };
    table.layers.iter().map(row).collect()
}

#[cfg(test)]
mod tests;
