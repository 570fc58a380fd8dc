/*! Runs: the events of each folded into what its panels show, and the history of them. */

use super::State;
use super::playback::millis;
use crate::exits::Part;
use crate::partition::Plan;
use crate::remote::message::Progress;
use crate::run::{Event, Stage};
use crate::tui::effects::Effect;
use crate::tui::work::{Goal, Going, Job, Measured, Results};
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

impl State {
    /// The run whose panels are shown.
    pub fn shown_run(&self) -> Option<&Run> {
        self.runs.get(self.run)
    }

    pub fn start(&mut self, goal: Goal) -> Vec<Effect> {
        if self.network.is_none() {
            let why = self.network_problem.clone();
            self.complain(why.unwrap_or_else(|| "the network is still being read".into()));
            return Vec::new();
        }
        if let (Goal::Run, Some(problem)) = (goal, &self.derived.problem) {
            let problem = problem.clone();
            // Rules that read profiles can only be settled by the run itself.
            let settles = problem.contains("profile") || problem.contains("prediction");
            if !settles {
                self.complain(problem);
                return Vec::new();
            }
        }
        // What fills in a first look makes room for what was asked for.
        let unasked = |r: &&Run| r.is_running() && r.origin == Origin::Background;
        let unasked: Vec<usize> = self.runs.iter().filter(unasked).map(|r| r.id).collect();
        let mut effects: Vec<Effect> = unasked.into_iter().map(Effect::Stop).collect();
        self.end_playback();
        let id = self.add_run(goal, Origin::Here);
        self.run = self.runs.len() - 1;
        self.say(format!("{} {id} started; x stops it", goal.name()));
        effects.push(self.start_effect(id, goal));
        effects
    }

    fn add_run(&mut self, goal: Goal, origin: Origin) -> usize {
        let id = self.runs.iter().map(|r| r.id).max().unwrap_or(0) + 1;
        self.runs.push(Run {
            origin,
            session: self.opened,
            ..Run::new(id, goal, self.derived.plan.clone())
        });
        id
    }

    fn job(&self, goal: Goal) -> Box<Job> {
        let mut session = self.whole_session();
        // So that its results go where the command of the same goal puts them.
        session.name = Some(self.document.name());
        Box::new(Job {
            goal,
            session,
            folder: self.document.folder.clone(),
            plan: self.derived.plan.clone(),
        })
    }

    fn start_effect(&self, id: usize, goal: Goal) -> Effect {
        Effect::Start {
            id,
            job: self.job(goal),
        }
    }

    /// Times this machine without being asked, beside whatever the user does.
    pub fn profile_in_background(&mut self) -> Vec<Effect> {
        if self.network.is_none() || self.runs.iter().any(Run::is_running) {
            return Vec::new();
        }
        let id = self.add_run(Goal::Profile, Origin::Background);
        vec![self.start_effect(id, Goal::Profile)]
    }

    /// A run of this session goes on in a process of its own: its panels follow it.
    pub fn join(&mut self, going: &Going) -> Vec<Effect> {
        let id = self.add_run(going.goal, Origin::Elsewhere(going.pid));
        self.run = self.runs.len() - 1;
        self.say(format!(
            "{} {id} goes on in process {}; its panels follow it",
            going.goal.name(),
            going.pid
        ));
        vec![Effect::Join {
            id,
            job: self.job(going.goal),
        }]
    }

    /// The run that the session's results came from, first in the history.
    pub fn record(&mut self) {
        let Some(kept) = self.results.kept.clone() else {
            return;
        };
        let journal = match kept.journal() {
            Ok(journal) => journal,
            Err(problem) => {
                self.complain(problem.to_string());
                return;
            }
        };
        if journal.is_empty() && self.results.measured.is_none() {
            return;
        }
        let device = kept.edge.as_ref().map_or("unknown", |p| p.device.as_str());
        let mut run = Run {
            origin: Origin::Recorded(device.to_string()),
            session: self.opened,
            ..Run::new(0, Goal::Run, kept.plan.clone())
        };
        for (seconds, event) in journal {
            run.fold(millis(seconds), event);
        }
        run.done(run.at, self.results.measured.clone());
        match self.runs.iter().position(|r| r.id == 0) {
            Some(at) => self.runs[at] = run,
            None => {
                self.run += usize::from(!self.runs.is_empty());
                self.other_run = self.other_run.map(|i| i + 1);
                self.runs.insert(0, run);
            }
        }
    }

    /// What a run tells; partial results are on screen at once.
    pub fn run_event(&mut self, id: usize, at: u64, event: Event) -> Vec<Effect> {
        let Some(run) = self.runs.iter_mut().find(|r| r.id == id) else {
            return Vec::new();
        };
        let ours = run.session == self.opened;
        let results = match &event {
            Event::Profiled { part, profile } if ours => {
                let own = Some((**profile).clone());
                Some(match part {
                    Part::Edge => Results {
                        edge: own,
                        ..Results::default()
                    },
                    Part::Cloud => Results {
                        cloud: own,
                        ..Results::default()
                    },
                })
            }
            Event::Linked(link) if ours => Some(Results {
                link: Some(link.clone()),
                ..Results::default()
            }),
            _ => None,
        };
        run.fold(at, event);
        results.map_or(Vec::new(), |r| self.got_results(r))
    }

    /// Lets the shown run wait before its next stage, or go on.
    pub fn pause(&mut self) -> Vec<Effect> {
        let shown = self.run;
        let Some(run) = self.runs.get_mut(shown).filter(|r| r.is_running()) else {
            self.say("nothing runs here that could wait");
            return Vec::new();
        };
        if let Origin::Elsewhere(pid) = run.origin {
            self.complain(format!("it runs in process {pid}, which only x can reach"));
            return Vec::new();
        }
        run.pause = !run.pause;
        run.held = None;
        let (id, pause) = (run.id, run.pause);
        self.say(if pause {
            "it pauses before its next stage; the agents wait ten minutes"
        } else {
            "it goes on"
        });
        vec![Effect::Pause(id, pause)]
    }

    /// Asks the shown run to stop.
    pub fn stop(&mut self) -> Vec<Effect> {
        let running = |r: &&Run| r.is_running();
        let shown = self.shown_run().filter(running);
        let Some(run) = shown.or_else(|| self.runs.iter().rev().find(running)) else {
            self.say("nothing runs");
            return Vec::new();
        };
        let (id, name) = (run.id, run.label());
        self.say(format!("stopping {name}; finished stages are kept"));
        vec![Effect::Stop(id)]
    }

    pub fn select_run(&mut self, by: isize) {
        if !self.runs.is_empty() {
            self.end_playback();
            self.run = self.run.saturating_add_signed(by).min(self.runs.len() - 1);
        }
    }
}
