/*! A run: its events folded into what its panels show. */

use crate::exits::Part;
use crate::partition::Plan;
use crate::remote::message::Progress;
use crate::run::{Event, Stage};
use crate::tui::work::{Goal, Measured};
use std::collections::{BTreeMap, VecDeque};

/// Lines kept of a run's log, and latencies of its sparkline.
const MOST_LINES: usize = 500;
const MOST_POINTS: usize = 240;

/// How a run stands.
#[derive(Debug, Clone, PartialEq)]
pub enum RunState {
    Running,
    Done,
    Stopped,
    Failed(String),
}

/// A stage of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct StageLine {
    pub stage: Stage,
    pub done: u64,
    pub total: u64,
    pub note: String,
    /// What came of it, whether it was kept from before, and its seconds.
    pub finished: Option<(String, bool, f64)>,
}

/// An edge target while it runs the test set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EdgeSide {
    pub progress: Progress,
    pub rate_hz: Option<f64>,
    pub latencies_ms: VecDeque<f64>,
    last: Option<(u64, u64)>,
}

/// A bounded log that counts what it drops.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Log {
    /// Milliseconds since the run's start, and the line.
    pub lines: VecDeque<(u64, String)>,
    pub dropped: usize,
}

impl Log {
    fn push(&mut self, at: u64, line: String) {
        if self.lines.len() == MOST_LINES {
            self.lines.pop_front();
            self.dropped += 1;
        }
        self.lines.push_back((at, line));
    }
}

/// A run.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub id: usize,
    pub goal: Goal,
    pub state: RunState,
    /// Milliseconds since its start, as of the last event.
    pub at: u64,
    pub stages: Vec<StageLine>,
    /// Side, number, state in words.
    pub targets: Vec<(Part, usize, String)>,
    pub edges: BTreeMap<usize, EdgeSide>,
    /// Training accuracy of each learner, epoch by epoch, in the network's order.
    pub learners: Vec<(String, Vec<f64>)>,
    pub epoch: (usize, usize),
    pub log: Log,
    /// The plan it was started with.
    pub plan: Option<Plan>,
    pub measured: Option<Measured>,
    /// What it told so far, for a playback.
    pub events: Vec<(u64, Event)>,
    pub origin: Origin,
    /// Which of the sessions opened so far it belongs to.
    pub session: usize,
    /// Asked to wait before its next stage.
    pub pause: bool,
    /// The stage it waits before.
    pub held: Option<Stage>,
}

/// Where a run comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// Started here.
    Here,
    /// By the workbench itself, to fill in what a first look lacks.
    Background,
    /// Kept in the session; the device of its edge.
    Recorded(String),
    /// In a process of its own, of this number.
    Elsewhere(u32),
}

impl Run {
    pub fn new(id: usize, goal: Goal, plan: Option<Plan>) -> Run {
        let mut log = Log::default();
        log.push(0, goal.sentence().to_string());
        Run {
            id,
            goal,
            state: RunState::Running,
            at: 0,
            stages: Vec::new(),
            targets: Vec::new(),
            edges: BTreeMap::new(),
            learners: Vec::new(),
            epoch: (0, 0),
            log,
            plan,
            measured: None,
            events: Vec::new(),
            origin: Origin::Here,
            session: 0,
            pause: false,
            held: None,
        }
    }

    /// Whether it runs in this process because somebody asked for it.
    pub fn is_ours(&self) -> bool {
        self.is_running() && self.origin == Origin::Here
    }

    /// What it is called on screen.
    pub fn label(&self) -> String {
        match self.origin {
            Origin::Recorded(_) => format!("recorded {}", self.goal.name()),
            _ => format!("{} {}", self.goal.name(), self.id),
        }
    }

    /// Forgets what events left in its panels, before they are folded again.
    pub fn rewind(&mut self) {
        let bare = Run::new(self.id, self.goal, None);
        self.at = 0;
        self.stages = bare.stages;
        self.targets = bare.targets;
        self.edges = bare.edges;
        self.learners = bare.learners;
        self.epoch = bare.epoch;
        self.log = bare.log;
    }

    pub fn is_running(&self) -> bool {
        self.state == RunState::Running
    }

    fn stage(&mut self, stage: Stage) -> &mut StageLine {
        let at = match self.stages.iter().position(|s| s.stage == stage) {
            Some(at) => at,
            None => {
                self.stages.push(StageLine {
                    stage,
                    done: 0,
                    total: 0,
                    note: String::new(),
                    finished: None,
                });
                self.stages.len() - 1
            }
        };
        &mut self.stages[at]
    }

    /// Folds an event in, and keeps it.
    pub fn fold(&mut self, at: u64, event: Event) {
        if event.is_journalled() {
            self.events.push((at, event.clone()));
        }
        self.held = match &event {
            Event::Started(stage) if self.pause => Some(*stage),
            _ => None,
        };
        self.apply(at, event);
    }

    /// What an event changes in the run's panels.
    pub fn apply(&mut self, at: u64, event: Event) {
        self.at = self.at.max(at);
        match event {
            Event::Started(stage) => {
                self.stage(stage).finished = None;
                self.log.push(at, format!("{}: begins", stage_name(stage)));
            }
            Event::Progress {
                stage,
                done,
                total,
                note,
            } => {
                let line = self.stage(stage);
                (line.done, line.total, line.note) = (done, total, note);
            }
            Event::Say { stage, text } => {
                self.log.push(at, format!("{}: {text}", stage_name(stage)));
            }
            Event::Epoch {
                stage,
                epoch,
                epochs,
                scores,
            } => {
                self.epoch = (epoch, epochs);
                let line = self.stage(stage);
                (line.done, line.total) = (epoch as u64, epochs as u64);
                for (name, _, accuracy) in scores {
                    let at = self.learners.iter().position(|(known, _)| *known == name);
                    let at = at.unwrap_or_else(|| {
                        self.learners.push((name, Vec::new()));
                        self.learners.len() - 1
                    });
                    let series = &mut self.learners[at].1;
                    series.truncate(epoch.saturating_sub(1));
                    series.push(accuracy);
                }
            }
            Event::Target { part, index, state } => {
                let side = side_name(part);
                self.log.push(at, format!("{side} {index}: {state}"));
                match self
                    .targets
                    .iter_mut()
                    .find(|t| (t.0, t.1) == (part, index))
                {
                    Some(target) => target.2 = state,
                    None => self.targets.push((part, index, state)),
                }
                self.targets.sort_by_key(|t| (t.0, t.1));
            }
            Event::Evaluating { index, progress } => {
                let side = self.edges.entry(index).or_default();
                side.rate_hz = match side.last {
                    Some((then, done)) if at > then && progress.done >= done => {
                        Some((progress.done - done) as f64 * 1000.0 / (at - then) as f64)
                    }
                    Some(_) => side.rate_hz,
                    None => None,
                };
                side.last = Some((at, progress.done));
                if let Some(ms) = progress.mean_latency_ms {
                    side.latencies_ms.push_back(ms);
                    if side.latencies_ms.len() > MOST_POINTS {
                        side.latencies_ms.pop_front();
                    }
                }
                side.progress = progress;
            }
            // The outcome comes with the results; single records are the report's.
            Event::Records(_) | Event::Profiled { .. } | Event::Linked(_) => {}
            Event::Finished {
                stage,
                outcome,
                kept,
                seconds,
            } => {
                let how = if kept { "kept" } else { "done" };
                let words = format!("{}: {how} in {seconds:.1} s, {outcome}", stage_name(stage));
                self.log.push(at, words);
                self.stage(stage).finished = Some((outcome, kept, seconds));
            }
        }
    }

    pub fn done(&mut self, at: u64, measured: Option<Measured>) {
        self.at = self.at.max(at);
        self.state = RunState::Done;
        self.measured = measured;
        self.log.push(at, "done".into());
    }

    pub fn failed(&mut self, at: u64, stopped: bool, problem: String) {
        self.at = self.at.max(at);
        self.log.push(at, problem.clone());
        self.state = if stopped {
            RunState::Stopped
        } else {
            RunState::Failed(problem)
        };
    }

    /// Done, total, over all edge targets.
    pub fn evaluated(&self) -> (u64, u64) {
        let sides = self
            .edges
            .values()
            .map(|e| (e.progress.done, e.progress.total));
        sides.fold((0, 0), |sum, e| (sum.0 + e.0, sum.1 + e.1))
    }

    /// Samples that left at each exit so far, over all edge targets.
    pub fn exits(&self) -> Vec<u64> {
        let mut sum: Vec<u64> = Vec::new();
        for side in self.edges.values() {
            for (i, n) in side.progress.exits.iter().enumerate() {
                if i == sum.len() {
                    sum.push(0);
                }
                sum[i] += n;
            }
        }
        sum
    }

    pub fn offloaded(&self) -> u64 {
        self.edges.values().map(|e| e.progress.offloaded).sum()
    }

    pub fn bytes_sent(&self) -> u64 {
        self.edges.values().map(|e| e.progress.bytes_sent).sum()
    }

    /// The stage that is under way, or the last.
    pub fn current(&self) -> Option<&StageLine> {
        let open = self.stages.iter().rev().find(|s| s.finished.is_none());
        open.or(self.stages.last())
    }
}

pub fn side_name(part: Part) -> &'static str {
    match part {
        Part::Edge => "edge",
        Part::Cloud => "cloud",
    }
}

pub fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Data => "data",
        Stage::Backbone => "backbone",
        Stage::Targets => "targets",
        Stage::Profile => "profile",
        Stage::Link => "link",
        Stage::Heads => "heads",
        Stage::Tables => "tables",
        Stage::Plan => "plan",
        Stage::Run => "run",
        Stage::Baselines => "baselines",
        Stage::Report => "report",
    }
}
