/*!
A part made ready: one engine a segment and a head, run in order until every sample has left. Layers
behind the exit at which the last sample leaves don't run.
*/

use super::trail::Trail;
use super::{RunnerError, emulation, memory};
use crate::backend::{BackendId, CompileOptions, Compiled};
use crate::data::Layout;
use crate::engine::{Cancel, EngineError};
use crate::model::{Dim, Graph, Shape, peak_bytes};
use crate::predict::policy::{Decision, Output, decide, leaves};
use crate::predict::{Combination, Confidence};
use crate::runtime::parts::{Part, PartSettings};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// The answer for one sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PartAnswer {
    /// Exit of the part, from 0; their count stands for the final classifier.
    pub exit: u16,
    /// Class that was answered.
    pub prediction: u16,
    /// Confidence at that exit, by the policy's measure, 0 to 1.
    pub confidence: f32,
}

/// What a part that was made ready is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartInfo {
    /// Name of the network it is cut from.
    pub network: String,
    /// Pieces of the backbone in it.
    pub segments: usize,
    /// Number of exits in the part.
    pub exits: usize,
    /// Classes of the network.
    pub classes: usize,
    /// Extents of one sample of its input.
    pub input: Vec<usize>,
    /// Whether its last output is the final classifier's.
    pub ends_network: bool,
}

/// When a sample leaves.
#[derive(Debug, Clone, Copy)]
pub struct ExitRules<'a> {
    /// How confidence is measured.
    pub confidence: Confidence,
    /// One for each exit of the part.
    pub thresholds: &'a [f64],
    /// The last exit answers whatever its confidence.
    pub last_exit_answers: bool,
    /// What the exits of the parts before said of each sample, sample by sample in order of depth; none where
    /// the measure doesn't look at them.
    pub earlier: &'a [Decision],
}

/// What became of one sample.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Verdict {
    /// Whether `latest` is the answer; otherwise the sample goes on behind the part.
    pub answered: bool,
    /// What the last classifier it came to said.
    pub latest: Option<PartAnswer>,
}

struct Exit {
    network: Box<dyn Compiled>,
    temperature: f32,
    combination: Option<Combination>,
}

struct SegmentRunner {
    network: Box<dyn Compiled>,
    /// Elements of a sample.
    input: usize,
    output: usize,
    exit: Option<Exit>,
}

/// What a part is run by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExecutionOptions {
    /// Engine, and what it runs on.
    pub backend: BackendId,
    /// Threads on the CPU; 0 for one per core.
    pub threads: usize,
    /// Factor the times are stretched by.
    pub slowdown: f64,
}

impl Default for ExecutionOptions {
    fn default() -> Self {
        ExecutionOptions {
            backend: BackendId::Native,
            threads: 0,
            slowdown: 1.0,
        }
    }
}

/// A part, ready to run. `Send + Sync`; each run takes a [`Workspace`] of its own.
pub struct Runner {
    stages: Vec<SegmentRunner>,
    info: PartInfo,
    /// The plan's, one for each exit.
    thresholds: Vec<f64>,
    settings: PartSettings,
    /// Of the first segment's input and the last one's output.
    names: (String, String),
    any_batch: bool,
    output: Output,
    /// Bytes alive at once for one sample, at most.
    peak: usize,
    slowdown: f64,
    works: Mutex<Vec<Workspace>>,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Runner({:?})", self.info)
    }
}

/// Buffers of a run, and what came of it.
#[derive(Debug, Default)]
pub struct Workspace {
    front: Vec<f32>,
    back: Vec<f32>,
    scores: Vec<f32>,
    /// Samples that are still in the part, by number in the batch.
    alive: Vec<usize>,
    /// What became of each sample, in order.
    pub verdicts: Vec<Verdict>,
    /// Milliseconds of each segment that ran, in order.
    pub segments_ms: Vec<f32>,
    /// Milliseconds of each head that ran, in order.
    pub heads_ms: Vec<f32>,
    going_on: usize,
    /// Whether the scores of the classifiers at which samples left are wanted.
    pub keep_scores: bool,
    /// They, one row of classes a sample, in the order of the batch.
    pub kept_scores: Vec<f32>,
    /// What the exits said of each sample, where the measure looks back.
    pub trail: Trail,
}

impl Workspace {
    /// Makes ready for a run of `batch` samples.
    fn begin(&mut self, batch: usize, classes: usize) {
        self.alive.clear();
        self.alive.extend(0..batch);
        self.verdicts.clear();
        self.verdicts.resize(batch, Verdict::default());
        self.segments_ms.clear();
        self.heads_ms.clear();
        self.going_on = 0;
        self.kept_scores.clear();
        if self.keep_scores {
            self.kept_scores.resize(batch * classes, 0.0);
        }
    }

    /// Milliseconds in segments and heads.
    pub fn compute_ms(&self) -> f32 {
        self.segments_ms.iter().chain(&self.heads_ms).sum()
    }

    /// The samples that go on, by number in the batch.
    pub fn onward(&self) -> &[usize] {
        &self.alive
    }

    /// Their tensors at the end of the part, one after the other.
    pub fn tensor(&self) -> &[f32] {
        &self.front[..self.going_on]
    }
}

impl Runner {
    /// Compiles the part's segments and heads, whose weights are let go as they are packed.
    ///
    /// # Errors
    /// Where the part has no segment, holds what no kernel covers, or needs more memory than there is.
    pub fn new(part: Part, options: &ExecutionOptions) -> Result<Runner, RunnerError> {
        let backend = options.backend.open()?;
        let threads = options.threads;
        let compile = |graph: Graph| backend.compile(graph, &CompileOptions { threads });
        let exits = part.segments.iter().filter_map(|s| s.exit.as_ref());
        let graphs = part.segments.iter().map(|s| &s.graph);
        let all = graphs.chain(exits.map(|e| &e.head));
        let peak = all.map(|graph| peak_bytes(graph, 1)).max().unwrap_or(0);
        memory::check(peak)?;
        let mut stages = Vec::new();
        let mut thresholds = Vec::new();
        for (at, segment) in part.segments.into_iter().enumerate() {
            let exit = match segment.exit {
                None => None,
                Some(exit) => {
                    thresholds.push(exit.threshold);
                    Some(Exit {
                        network: compile(exit.head)?,
                        temperature: exit.temperature,
                        combination: exit.combination,
                    })
                }
            };
            let (input, output) = io_elements(&segment.graph, at)?;
            stages.push(SegmentRunner {
                network: compile(segment.graph)?,
                input,
                output,
                exit,
            });
        }
        let first = stages.first().and_then(|s| s.network.inputs().first());
        let last = stages.last().and_then(|s| s.network.outputs().first());
        let (Some(first), Some(last)) = (first, last) else {
            return Err(RunnerError::Empty);
        };
        let batched = |shape: &Shape| shape.0.first() == Some(&Dim::Batch(1));
        let shape = &first.shape;
        let input = shape.sample().unwrap_or_else(|| shape.at(1));
        let output = if part.final_is_probabilities {
            Output::Probabilities
        } else {
            Output::Logits
        };
        Ok(Runner {
            info: PartInfo {
                network: part.network,
                segments: stages.len(),
                exits: thresholds.len(),
                classes: part.classes,
                input,
                ends_network: part.ends_network,
            },
            thresholds,
            settings: part.settings,
            names: (first.name.clone(), last.name.clone()),
            any_batch: batched(&first.shape) && batched(&last.shape),
            stages,
            output,
            peak,
            slowdown: options.slowdown,
            works: Mutex::default(),
        })
    }

    /// When samples leave by the plan that the part was made for: its thresholds, and the measure they
    /// are compared with.
    pub fn rules(&self) -> ExitRules<'_> {
        ExitRules {
            confidence: self.settings.confidence,
            thresholds: &self.thresholds,
            last_exit_answers: false,
            earlier: &[],
        }
    }

    /// What the part says besides its graphs.
    pub fn settings(&self) -> &PartSettings {
        &self.settings
    }

    /// The name of what it takes.
    pub fn input_name(&self) -> &str {
        &self.names.0
    }

    /// The name of what it gives.
    pub fn output_name(&self) -> &str {
        &self.names.1
    }

    /// Whether it takes any number of samples at once, rather than the one its file was written for.
    pub fn any_batch(&self) -> bool {
        self.any_batch
    }

    /// `[c, h, w]` of the images it takes in this layout, if it takes images.
    pub fn image(&self, layout: Layout) -> Option<[usize; 3]> {
        match (layout, self.info.input.as_slice()) {
            (Layout::Nchw, &[c, h, w]) | (Layout::Nhwc, &[h, w, c]) => Some([c, h, w]),
            _ => None,
        }
    }

    /// What the part is.
    pub fn info(&self) -> &PartInfo {
        &self.info
    }

    /// Elements of a sample of the input.
    pub fn input_elements(&self) -> usize {
        self.stages.first().map_or(0, |s| s.input)
    }

    /// Extents of the tensor at the part's end, for `batch` samples.
    pub fn output_shape(&self, batch: usize) -> Vec<usize> {
        let last = self.stages.last();
        let port = last.and_then(|stage| stage.network.outputs().first());
        port.map_or_else(Vec::new, |port| port.shape.at(batch))
    }

    /// Buffers for a run; give them back with [`Runner::recycle`].
    pub fn work(&self) -> Workspace {
        self.works.lock().pop().unwrap_or_default()
    }

    /// Keeps the buffers for the next run.
    pub fn recycle(&self, work: Workspace) {
        self.works.lock().push(work);
    }

    /// Runs `batch` samples, row-major one after the other. Samples that leave are dropped before
    /// the next segment; when the last has left, the run ends. `work` holds what came of it.
    ///
    /// # Errors
    /// Where input or thresholds don't fit the part, a classifier gives what is no number, or
    /// somebody raises `cancel`.
    pub fn run(
        &self,
        batch: usize,
        input: &[f32],
        rules: &ExitRules,
        work: &mut Workspace,
        cancel: &Cancel,
    ) -> Result<(), RunnerError> {
        self.check(batch, input, rules)?;
        work.begin(batch, self.info.classes);
        work.trail
            .begin(batch, rules, &self.settings, self.info.exits)?;
        let mut number = 0;
        for (at, stage) in self.stages.iter().enumerate() {
            let n = work.alive.len();
            let start = Instant::now();
            grow(&mut work.back, n * stage.output);
            let x = match at {
                0 => input,
                _ => &work.front[..n * stage.input],
            };
            let y = &mut work.back[..n * stage.output];
            stage.network.run_into(n, &[x], &mut [y], cancel)?;
            self.note(start, &mut work.segments_ms, cancel)?;
            std::mem::swap(&mut work.front, &mut work.back);
            let Some(exit) = &stage.exit else { continue };
            self.leave(exit, number, stage.output, rules, work, cancel)?;
            number += 1;
            if work.alive.is_empty() {
                return Ok(());
            }
        }
        let size = self.stages.last().map_or(0, |s| s.output);
        if self.info.ends_network {
            self.answer(size, rules, work)?;
        }
        work.going_on = work.alive.len() * size;
        Ok(())
    }

    /// Whether thresholds and input fit the part, and the batch into memory.
    fn check(&self, batch: usize, input: &[f32], rules: &ExitRules) -> Result<(), RunnerError> {
        let (exits, found) = (self.info.exits, rules.thresholds.len());
        if exits != found {
            return Err(RunnerError::Thresholds { exits, found });
        }
        if batch.checked_mul(self.input_elements()) != Some(input.len()) || batch == 0 {
            return Err(RunnerError::Input {
                expected: self.info.input.clone(),
                batch,
                found: input.len(),
            });
        }
        memory::check(self.peak.saturating_mul(batch))?;
        Ok(())
    }

    /// Asks the head of exit `number`, before which a sample has `size` elements: whose confidence
    /// reaches the threshold leaves, and the others move up in `work.front`.
    fn leave(
        &self,
        exit: &Exit,
        number: usize,
        size: usize,
        rules: &ExitRules,
        work: &mut Workspace,
        cancel: &Cancel,
    ) -> Result<(), RunnerError> {
        let (n, classes) = (work.alive.len(), self.info.classes);
        let start = Instant::now();
        grow(&mut work.scores, n * classes);
        let scores = &mut work.scores[..n * classes];
        let x = &work.front[..n * size];
        exit.network
            .run_into(n, &[x], &mut [&mut *scores], cancel)?;
        let all_leave = rules.last_exit_answers && number + 1 == self.info.exits;
        let mut kept = 0;
        for row in 0..n {
            let sample = work.alive[row];
            let scores = &scores[row * classes..(row + 1) * classes];
            let decision = decide(scores, Output::Logits, exit.temperature)?;
            let model = exit.combination.as_ref();
            let confidence = work.trail.confidence(sample, number, decision, model)?;
            let answered = all_leave || leaves(confidence, rules.thresholds[number]);
            keep(&mut work.kept_scores, sample, scores);
            work.verdicts[sample] = Verdict {
                answered,
                latest: Some(PartAnswer {
                    exit: number as u16,
                    prediction: decision.prediction,
                    confidence,
                }),
            };
            if !answered {
                if kept != row {
                    let rows = row * size..(row + 1) * size;
                    work.front.copy_within(rows, kept * size);
                }
                work.alive[kept] = sample;
                kept += 1;
            }
        }
        work.alive.truncate(kept);
        self.note(start, &mut work.heads_ms, cancel)
    }

    /// Answers the samples left by the final classifier's scores, `size` for each in `work.front`.
    fn answer(
        &self,
        size: usize,
        rules: &ExitRules,
        work: &mut Workspace,
    ) -> Result<(), RunnerError> {
        for (row, &sample) in work.alive.iter().enumerate() {
            let scores = &work.front[row * size..(row + 1) * size];
            let decision = decide(scores, self.output, 1.0)?;
            keep(&mut work.kept_scores, sample, scores);
            work.verdicts[sample] = Verdict {
                answered: true,
                latest: Some(PartAnswer {
                    exit: self.info.exits as u16,
                    prediction: decision.prediction,
                    confidence: decision.confidence(rules.confidence),
                }),
            };
        }
        work.alive.clear();
        Ok(())
    }

    /// Notes the time since `start`, stretched by the slowdown.
    fn note(
        &self,
        start: Instant,
        times: &mut Vec<f32>,
        cancel: &Cancel,
    ) -> Result<(), RunnerError> {
        times.push(emulation::ms(emulation::stretch(
            start,
            self.slowdown,
            cancel,
        )));
        if cancel.is_cancelled() {
            return Err(EngineError::Cancelled.into());
        }
        Ok(())
    }
}

/// Keeps a sample's scores, if any are kept.
fn keep(kept: &mut [f32], sample: usize, scores: &[f32]) {
    if let Some(row) = kept.get_mut(sample * scores.len()..(sample + 1) * scores.len()) {
        row.copy_from_slice(scores);
    }
}

/// Room for `length` numbers; what is there stays, for every run writes before it reads.
fn grow(buffer: &mut Vec<f32>, length: usize) {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
}

/// Elements of one sample at the two ends of a segment.
fn io_elements(graph: &Graph, segment: usize) -> Result<(usize, usize), RunnerError> {
    match (graph.inputs.as_slice(), graph.outputs.as_slice()) {
        (&[x], &[y]) => Ok((
            graph.value(x).shape.elements(1),
            graph.value(y).shape.elements(1),
        )),
        (x, y) => Err(RunnerError::Ends {
            segment,
            inputs: x.len(),
            outputs: y.len(),
        }),
    }
}
