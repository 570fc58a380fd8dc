/*! A run: its events folded into what its panels show. */

mod target;

pub use target::{Log, Reach, TargetState};

use crate::event::{Event, Stage, TargetId};
use crate::plan::{Plan, Tier, TierNames};
use crate::protocol::message::Progress;
use crate::tui::ports::Goal;
use crate::tui::work::Measured;

/// How a run stands.
#[derive(Debug, Clone, PartialEq)]
pub enum RunState {
    Running,
    Done,
    Stopped,
    Failed(String),
}

/// A time of the workbench's clock as day and minute of UTC: `06 Nov 1994 08:49`.
fn date(at: u64) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(at);
    // "Sun, 06 Nov 1994 08:49:37 GMT", always of this length.
    let text = httpdate::fmt_http_date(time);
    text.get(5..22).unwrap_or(&text).to_owned()
}

/// A stage of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct StageLine {
    pub stage: Stage,
    pub done: u64,
    pub total: u64,
    pub note: String,
    /// Milliseconds from the run's start to its own.
    pub began: u64,
    /// What came of it, whether it was kept from before, and its seconds.
    pub finished: Option<(String, bool, f64)>,
    /// Whether it was kept from before each time it was come to.
    pub cached: bool,
    /// How far it was, and at which millisecond: when this count began, and when it was last told.
    pace: [(u64, u64); 2],
}

impl StageLine {
    /// Notes how far it is. A count to another total is another one, and has its own pace; of one in
    /// steps, as epochs, the step that is told first took from the beginning on.
    fn advance(&mut self, at: u64, (done, total): (u64, u64), steps: bool) {
        if total != self.total || done < self.done {
            let first = if steps { done.saturating_sub(1) } else { done };
            let from = if steps {
                self.pace[1].1.max(self.began)
            } else {
                at
            };
            self.pace[0] = (first, from);
        }
        self.pace[1] = (done, at);
        (self.done, self.total) = (done, total);
    }

    /// Milliseconds that it still takes at the pace so far; unknown before there is one.
    pub fn time_left(&self) -> Option<u64> {
        let [(first, from), (done, to)] = self.pace;
        let (made, took) = (done.checked_sub(first)?, to.checked_sub(from)?);
        let left = self.total.checked_sub(done)?;
        (self.finished.is_none() && made > 0 && took > 0).then(|| took * left / made)
    }
}

/// Accuracy (0 to 1) of an exit or network that learns, epoch by epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct LearnerCurve {
    pub name: String,
    /// On the images it learns from.
    pub training: Vec<f64>,
    /// On calibration images, from which nothing learns; shorter where that isn't known.
    pub validation: Vec<f64>,
}

impl LearnerCurve {
    /// Takes an epoch in, counted from 1; one that is told again replaces what followed it.
    fn push(&mut self, epoch: usize, training: f64, validation: Option<f64>) {
        self.training.truncate(epoch.saturating_sub(1));
        self.training.push(training);
        self.validation.truncate(epoch.saturating_sub(1));
        self.validation.extend(validation);
    }
}

/// Job that was started or found, and what it has told so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub id: usize,
    pub goal: Goal,
    pub state: RunState,
    /// Milliseconds since its start, as of the last event.
    pub at: u64,
    pub stages: Vec<StageLine>,
    /// Edges first, each side in the session's order.
    pub targets: Vec<TargetState>,
    /// What is trained, in the network's order.
    pub learners: Vec<LearnerCurve>,
    pub epoch: (usize, usize),
    pub log: Log,
    /// What its session calls its tiers.
    pub names: TierNames,
    /// The plan it was started with.
    pub plan: Option<Plan>,
    pub measured: Option<Measured>,
    /// What it told so far, for a playback.
    pub events: Vec<(u64, Event)>,
    pub origin: Origin,
    /// Which of the sessions opened so far it belongs to.
    pub session: usize,
    /// Whether it is marked for a comparison.
    pub marked: bool,
    /// Whether the run was asked to pause.
    pub pause: bool,
    /// It says that it waits.
    pub held: bool,
}

/// Where a run comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// Started by this workbench.
    Here,
    /// By the workbench itself, to fill in what a first look lacks.
    Background,
    /// Kept in the session: the device of its edge, and the seconds since 1970 at which it ended.
    Recorded { device: String, at: u64 },
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
            learners: Vec::new(),
            epoch: (0, 0),
            log,
            names: TierNames::default(),
            plan,
            measured: None,
            events: Vec::new(),
            origin: Origin::Here,
            session: 0,
            marked: false,
            pause: false,
            held: false,
        }
    }

    /// Whether it runs in this process because somebody asked for it.
    pub fn is_ours(&self) -> bool {
        self.is_running() && self.origin == Origin::Here
    }

    /// Whether the session remembers it from before.
    pub fn is_recorded(&self) -> bool {
        matches!(self.origin, Origin::Recorded { .. })
    }

    /// What it is called on screen.
    pub fn label(&self) -> String {
        match self.origin {
            Origin::Recorded { at: 0, .. } => format!("recorded {}", self.goal.name()),
            Origin::Recorded { at, .. } => format!("{} of {}", self.goal.name(), date(at)),
            _ => format!("{} {}", self.goal.name(), self.id),
        }
    }

    /// Forgets what events left in its panels, before they are folded again.
    pub fn rewind(&mut self) {
        let bare = Run::new(self.id, self.goal, None);
        self.at = 0;
        self.stages = bare.stages;
        self.targets = bare.targets;
        self.held = false;
        self.learners = bare.learners;
        self.epoch = bare.epoch;
        self.log = bare.log;
    }

    pub fn is_running(&self) -> bool {
        self.state == RunState::Running
    }

    fn target(&mut self, part: Tier, index: usize) -> &mut TargetState {
        let place = |t: &TargetState| (t.part, t.index);
        let at = self.targets.binary_search_by_key(&(part, index), place);
        let at = at.unwrap_or_else(|at| {
            self.targets.insert(at, TargetState::new(part, index));
            at
        });
        &mut self.targets[at]
    }

    /// The targets of a side.
    pub fn side(&self, part: Tier) -> impl Iterator<Item = &TargetState> {
        self.targets.iter().filter(move |t| t.part == part)
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
                    began: 0,
                    finished: None,
                    cached: true,
                    pace: [(0, 0); 2],
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
        if let Event::Paused(held) = &event {
            // Whoever asked for it: the same key lets it go on.
            self.pause = *held;
        }
        self.apply(at, event);
    }

    /// What an event changes in the run's panels.
    pub fn apply(&mut self, at: u64, event: Event) {
        self.at = self.at.max(at);
        match event {
            Event::Started(stage) => {
                let line = self.stage(stage);
                (line.finished, line.began) = (None, at);
                line.pace = [(0, at); 2];
                self.log.push(at, format!("{}: begins", stage_name(stage)));
            }
            Event::Progress {
                stage,
                done,
                total,
                note,
            } => {
                let line = self.stage(stage);
                line.advance(at, (done, total), false);
                line.note = note;
            }
            Event::Say(said) => {
                if let Some(TargetId { part, index }) = said.origin {
                    let note = said.note.to_string();
                    self.target(part, index).log.push(at, note);
                }
                self.log.push(
                    at,
                    format!("{}: {}", stage_name(said.stage), said.named(&self.names)),
                );
            }
            Event::Epoch {
                stage,
                epoch,
                epochs,
                scores,
                validation,
            } => {
                self.stage(stage)
                    .advance(at, (epoch as u64, epochs as u64), true);
                self.epoch = (epoch, epochs);
                self.learnt(epoch, scores, validation);
            }
            Event::Target {
                part,
                index,
                connection,
            } => {
                let id = TargetId { part, index };
                let name = id.named(&self.names);
                self.log.push(at, format!("{name}: {connection}"));
                let target = self.target(part, index);
                target.log.push(at, connection.to_string());
                target.connection = Some(connection);
            }
            Event::Vitals {
                part,
                index,
                vitals,
            } => self.target(part, index).vitals = Some(vitals),
            Event::Paused(held) => {
                self.held = held;
                let words = if held { "paused" } else { "goes on" };
                self.log.push(at, words.into());
            }
            Event::Evaluating { index, progress } => self.follow(at, index, progress),
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
                let line = self.stage(stage);
                line.cached &= kept;
                line.finished = Some((outcome, kept, seconds));
            }
        }
    }

    /// Continues the curves of what is trained: name, loss and accuracy of each after `epoch`, and its
    /// accuracy on calibration images, which may be missing.
    fn learnt(
        &mut self,
        epoch: usize,
        scores: Vec<(String, f64, f64)>,
        validation: Vec<Option<f64>>,
    ) {
        let validation = validation.into_iter().chain(std::iter::repeat(None));
        for ((name, _, accuracy), validation) in scores.into_iter().zip(validation) {
            let at = self.learners.iter().position(|l| l.name == name);
            let at = at.unwrap_or_else(|| {
                self.learners.push(LearnerCurve {
                    name,
                    training: Vec::new(),
                    validation: Vec::new(),
                });
                self.learners.len() - 1
            });
            self.learners[at].push(epoch, accuracy, validation);
        }
    }

    /// What the first tier's target at `index` did so far, and the shares that those behind it have
    /// in it and in all others.
    fn follow(&mut self, at: u64, index: usize, progress: Progress) {
        let told = progress.clone();
        let edge = self.target(Tier::First, index);
        edge.done(at, progress.done);
        edge.took(progress.mean_latency_ms);
        edge.progress = progress;
        for (at_all, share) in told.clouds.iter().enumerate() {
            let tier = share.tier;
            let before = &told.clouds[..at_all];
            let index = before.iter().filter(|other| other.tier == tier).count();
            let shares = self
                .side(Tier::First)
                .filter_map(|e| e.progress.clouds.get(at_all));
            let answered = shares.fold((0, 0), |(answered, failed), share| {
                (answered + share.answered, failed + share.failed)
            });
            let ms = told.mean_tier_ms.get(tier.index()).copied().flatten();
            let ms = match tier {
                Tier::Second => ms.or(told.mean_cloud_ms),
                _ => ms,
            };
            let target = self.target(tier, index);
            if answered.0 > target.answered.0 {
                target.took(ms);
            }
            target.done(at, answered.0);
            target.answered = answered;
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
        let sides = self.side(Tier::First);
        // One that took over another's samples does more than it was given.
        let sides = sides.map(|e| (e.progress.done, e.progress.total.max(e.progress.done)));
        sides.fold((0, 0), |sum, e| (sum.0 + e.0, sum.1 + e.1))
    }

    /// Samples that left at each exit so far, over all edge targets.
    pub fn exits(&self) -> Vec<u64> {
        let mut sum: Vec<u64> = Vec::new();
        for side in self.side(Tier::First) {
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
        self.side(Tier::First).map(|e| e.progress.offloaded).sum()
    }

    pub fn bytes_sent(&self) -> u64 {
        self.side(Tier::First).map(|e| e.progress.bytes_sent).sum()
    }

    /// How many of the answers that were fetched so far are right, and of how many; over all edge
    /// targets.
    pub fn judged(&self) -> (u64, u64) {
        let sides = self.side(Tier::First).map(|e| &e.progress);
        sides.fold((0, 0), |sum, p| (sum.0 + p.right, sum.1 + p.judged))
    }

    /// Whether every stage it came to was taken from an earlier run.
    pub fn was_kept(&self) -> bool {
        let mut stages = self.stages.iter();
        !self.stages.is_empty()
            && stages.all(|s| s.finished.is_some() && (s.cached || s.stage == Stage::Data))
    }

    /// The stage that is under way, or the last.
    pub fn current(&self) -> Option<&StageLine> {
        let open = self.stages.iter().rev().find(|s| s.finished.is_none());
        open.or(self.stages.last())
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
