/*! Explore: the Pareto-optimal plans within the user's limits, to choose from. */

use super::State;
use super::document::EditKind;
use super::runs::Run;
use crate::explore::{Candidate, Choice, Goal, Limits};
use crate::plan::{Plan, Tier};
use crate::predict::{ReplayError, Terms};
use crate::tui::message::{Effect, ExploreRequest, Panel, Timer};
use crate::tui::work::Explored;

/// By what the plans stand in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum By {
    /// By the session's goal, what keeps to its limits first.
    #[default]
    Goal,
    Accuracy,
    Latency,
    Cost,
    Memory,
    Energy,
}

impl By {
    pub fn next(self) -> By {
        match self {
            By::Goal => By::Accuracy,
            By::Accuracy => By::Latency,
            By::Latency => By::Cost,
            By::Cost => By::Memory,
            By::Memory => By::Energy,
            By::Energy => By::Goal,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            By::Goal => "the best by the goal first",
            By::Latency => "the fastest first",
            By::Accuracy => "the most accurate first",
            By::Cost => "the cheapest first",
            By::Memory => "the smallest edge first",
            By::Energy => "the least energy first",
        }
    }

    /// Orders two plans by figures alone; the goal's order needs the goal.
    fn key(self, candidate: &Candidate) -> f64 {
        let o = &candidate.outcome;
        match self {
            By::Goal => 0.0,
            By::Latency => o.latency_ms.map_or(f64::INFINITY, |l| l.mean),
            By::Accuracy => -o.accuracy,
            By::Cost => o.cost_per_million.map_or(0.0, |c| c.rounded),
            By::Memory => o.memory_bytes(Tier::First) as f64,
            By::Energy => o.energy.map_or(f64::INFINITY, |energy| energy.mj()),
        }
    }
}

/// What a search is asked, besides what was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    pub(super) goal: Goal,
    /// Terms of the predictions; their common threshold is 0, since the grid has its own.
    terms: Terms,
    /// The grid of thresholds, 0 to 1, rising.
    thresholds: Vec<f64>,
}

/// State of the explorer's page.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Explore {
    pub limits: Limits,
    pub found: Option<Explored>,
    /// What a search lacks.
    pub lacking: Option<ReplayError>,
    pub selected: usize,
    pub by: By,
    /// A search is under way.
    pub searching: bool,
    /// What was found is of other results or limits.
    pub stale: bool,
    /// What the last search was asked.
    asked: Option<Question>,
    generation: u64,
}

impl Explore {
    fn sort(&mut self) {
        let by = self.by;
        if let Some(found) = &mut self.found {
            let (goal, within) = (found.goal, found.within);
            found.front.sort_by(|a, b| match by {
                By::Goal => {
                    let over = |c: &Candidate| !within.hold(&c.outcome);
                    let better = goal.minimise.compare(&a.outcome, &b.outcome);
                    over(a).cmp(&over(b)).then(better)
                }
                by => by.key(a).total_cmp(&by.key(b)),
            });
        }
    }

    pub fn got(&mut self, generation: u64, found: Result<Explored, ReplayError>) {
        if generation != self.generation {
            return;
        }
        self.searching = false;
        match found {
            Ok(found) => {
                self.selected = self.selected.min(found.front.len().saturating_sub(1));
                self.found = Some(found);
                self.lacking = None;
                self.sort();
            }
            Err(problem) => {
                self.found = None;
                self.lacking = Some(problem);
            }
        }
    }

    /// The best of all plans by the goal.
    pub fn best(&self) -> Option<&Candidate> {
        self.found.as_ref().and_then(|f| f.best.as_ref())
    }

    /// The plans on screen.
    pub fn front(&self) -> &[Candidate] {
        self.found.as_ref().map_or(&[], |f| &f.front)
    }
}

impl State {
    /// What was found is out of date: it is searched again soon, since the verdict has the best plan to
    /// name; but not beside a run, whose times a search would spoil, unless somebody looks at the page.
    pub fn explore_later(&mut self) -> Option<Effect> {
        self.explore.stale = true;
        let seen = self.focus == Panel::Explore;
        let quiet = !self.runs.iter().any(Run::is_running);
        (seen || quiet).then_some(Effect::Later {
            timer: Timer::Explore,
            ms: 200,
        })
    }

    /// Whether the session now asks for another search than the last.
    pub fn asks_otherwise(&self) -> bool {
        let asked = self.explore.asked.as_ref();
        asked.is_some_and(|asked| *asked != self.question())
    }

    /// What a search is asked, by the session.
    pub(super) fn question(&self) -> Question {
        let session = &self.document.session;
        let mut sweep = session.sweep;
        // A finer grid than a report's, as the command of the same name has it.
        sweep.step = sweep.step.min(0.05);
        let mut terms = session.terms();
        // Every threshold of the grid is tried in its place, so that moving it asks nothing new.
        terms.policy.threshold = 0.0;
        Question {
            goal: session.goal,
            terms,
            thresholds: sweep.thresholds(),
        }
    }

    /// Searches, if what was found is out of date.
    pub fn ask_explore(&mut self) -> Vec<Effect> {
        let (Some(evidence), true) = (self.evidence.clone(), self.explore.stale) else {
            return Vec::new();
        };
        let asked = self.question();
        self.explore.stale = false;
        self.explore.searching = true;
        self.explore.generation += 1;
        self.explore.asked = Some(asked.clone());
        vec![Effect::Explore(Box::new(ExploreRequest {
            generation: self.explore.generation,
            goal: asked.goal,
            evidence,
            terms: self.document.session.terms(),
            thresholds: asked.thresholds,
            limits: self.explore.limits,
        }))]
    }

    pub fn limit(&mut self, change: impl FnOnce(&mut Limits)) -> Vec<Effect> {
        change(&mut self.explore.limits);
        self.explore.stale = true;
        self.ask_explore()
    }

    pub fn sort_explored(&mut self) {
        self.explore.by = self.explore.by.next();
        self.explore.sort();
    }

    pub fn select_explored(&mut self, by: isize) {
        let last = self.explore.front().len().saturating_sub(1);
        let explore = &mut self.explore;
        explore.selected = explore.selected.saturating_add_signed(by).min(last);
    }

    /// Whether a plan is the one of the session.
    pub fn is_taken(&self, plan: &Plan) -> bool {
        let own = self.derived.plan.as_ref();
        own.is_some_and(|own| own.runs_as(plan))
    }

    /// Makes the selected plan the session's.
    pub fn take_explored(&mut self) -> Vec<Effect> {
        let Some(candidate) = self.explore.front().get(self.explore.selected).cloned() else {
            self.say("there is no plan to take over yet");
            return Vec::new();
        };
        self.take_plan(&candidate.plan)
    }

    /// Makes what the verdict says to deploy the session's plan.
    pub fn take_verdict(&mut self) -> Vec<Effect> {
        let verdict = self.tuning.curves.as_ref().map(|c| c.verdict.clone());
        let tiers = self.document.session.tier_names().count();
        let deploy = verdict.as_ref().and_then(|v| v.deploy.clone());
        let plan = match deploy {
            None if verdict.is_none() => {
                self.say("there is no verdict yet: it needs profiles, heads and tables");
                return Vec::new();
            }
            None => {
                self.say("no plan holds the session's limits; loosen its goal");
                return Vec::new();
            }
            Some(Choice::ThisPlan) => {
                self.say("this plan is what the verdict says to deploy");
                return Vec::new();
            }
            Some(Choice::EdgeOnly) => {
                self.say(
                    "the first part alone answers by its last exit: no plan of the session does",
                );
                return Vec::new();
            }
            Some(Choice::Original) => Plan::unmodified(Tier::First, tiers),
            Some(Choice::CloudOnly) => {
                let last = Tier::chain(tiers).next_back().unwrap_or(Tier::First);
                Plan::unmodified(last, tiers)
            }
            Some(Choice::CloudOnlyJpeg) => {
                let last = Tier::chain(tiers).next_back().unwrap_or(Tier::First);
                Plan::unmodified(last, tiers).with_images()
            }
            Some(Choice::ExitsElseImage) => {
                let own = self.derived.plan.as_ref();
                own.and_then(Plan::sending_images).unwrap_or_default()
            }
            Some(Choice::Explored) => verdict.and_then(|v| v.explored).unwrap_or_default(),
        };
        self.take_plan(&plan)
    }

    fn take_plan(&mut self, plan: &Plan) -> Vec<Effect> {
        if let Some(at) = plan.splits.first().and_then(|split| split.row()) {
            self.layers.cursor = at;
        }
        let effects = self.edit(EditKind::Single, |s| s.pin(plan));
        self.say("taken over as the plan; u undoes");
        effects
    }
}
