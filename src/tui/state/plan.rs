/*! The plan on screen: derived from the session's rules, edited through them, predicted at once. */

use super::State;
use super::document::EditKind;
use super::layers::refusal;
use crate::data::Set;
use crate::event::Stage;
use crate::explore::{Planner, PlannerError};
use crate::plan::{MAX_PER_PART, Placement, Plan, Split, SplitRule, Tier};
use crate::predict::doubt::doubts;
use crate::predict::{Answers, Doubt, Outcome, ReplayError, replay};
use crate::run::refused::{self, Refused};
use crate::tui::message::{Effect, Timer};
use std::sync::Arc;

/// What follows from the session and the results.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Derived {
    pub plan: Option<Plan>,
    /// Why there is no plan.
    pub problem: Option<PlannerError>,
    /// Why a run would be refused.
    pub refused: Option<Refused>,
    /// What the plan gives on the calibration set.
    pub predicted: Option<Outcome>,
    /// The unmodified network on the last tier, predicted likewise.
    pub cloud_only: Option<Outcome>,
    /// What a prediction lacks.
    pub lacking: Option<ReplayError>,
}

/// Signs that network and images don't belong together, as long as what they were read from stays.
#[derive(Debug, Default)]
pub struct Doubts {
    pub found: Vec<Doubt>,
    of: Option<Arc<Answers>>,
}

impl State {
    /// Derives plan and predictions anew, and asks for curves soon.
    pub fn recompute(&mut self) -> Vec<Effect> {
        let Some(network) = self.network.clone() else {
            self.derived = Derived::default();
            self.evidence = None;
            return Vec::new();
        };
        let session = &self.document.session;
        let names = session.tier_names();
        let evidence = self.results.evidence(&network, &self.editor.heads, names);
        let evidence = Arc::new(evidence);
        let (rules, terms) = (session.rules(), session.terms());
        let planner = Planner {
            rules: &rules,
            terms: &terms,
        };
        let ask = |plan: &Plan| replay(&evidence, &terms, Set::Calibration, plan);
        self.derived = match planner.plan(&evidence) {
            Err(problem) => Derived {
                problem: Some(problem),
                ..Derived::default()
            },
            Ok(plan) => {
                let last = plan.chain().next_back().unwrap_or(Tier::First);
                let (predicted, lacking) = match ask(&plan) {
                    Ok(outcome) => (Some(outcome), None),
                    Err(error) => (None, Some(error)),
                };
                Derived {
                    cloud_only: ask(&Plan::unmodified(last, plan.tiers())).ok(),
                    plan: Some(plan),
                    problem: None,
                    refused: None,
                    predicted,
                    lacking,
                }
            }
        };
        let (session, points) = (&self.document.session, &network.points);
        let refused = refused::check(session, &network.table, points, Stage::Report);
        self.derived.refused = refused.err();
        self.evidence = Some(evidence);
        self.doubt(network.table.classes);
        let exits = self.derived.plan.as_ref().map_or(0, |p| p.exits.len());
        self.tuning.selected = self.tuning.selected.min(exits);
        let mut effects = vec![Effect::Later {
            timer: Timer::Curves,
            ms: 60,
        }];
        effects.extend(self.ask_evidence());
        effects
    }

    /// Looks for signs in the tables again, where they are others.
    fn doubt(&mut self, classes: usize) {
        let session = &self.document.session;
        let before = std::mem::take(&mut self.doubts);
        let same = match (&before.of, &self.results.calibration) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        let mut found = before.found;
        found.retain(|doubt| same && *doubt != Doubt::NoPreprocessing);
        if !same && let Some(answers) = &self.results.calibration {
            found = doubts(&answers.table, classes, &[]);
        }
        if session.lacks_preprocessing() {
            found.push(Doubt::NoPreprocessing);
        }
        self.doubts = Doubts {
            found,
            of: self.results.calibration.clone(),
        };
    }

    /// Whether the last measured outcome is of the plan on screen.
    pub fn measured_is_current(&self) -> bool {
        match (&self.results.measured, &self.derived.plan) {
            (Some(measured), Some(plan)) => {
                measured.plan.runs_as(plan) && self.makes(plan, &measured.heads)
            }
            _ => false,
        }
    }

    /// The tier whose split the keys change: the chosen one, or the last that has one.
    pub fn split_in_hand(&self) -> Tier {
        let last = self.document.session.splits.len().saturating_sub(1);
        Tier::at(self.layers.split.min(last)).unwrap_or(Tier::First)
    }

    /// Chooses the next of several splits, with the cursor on it.
    pub fn next_split(&mut self) {
        let count = self.document.session.splits.len();
        if count < 2 {
            self.say("there is one split");
            return;
        }
        self.layers.split = (self.split_in_hand().index() + 1) % count;
        let behind = self.split_in_hand();
        let plan = self.derived.plan.as_ref();
        if let Some(row) = plan.and_then(|p| p.split_behind(behind)?.row()) {
            self.layers.cursor = row;
        }
        let names = self.document.session.tier_names();
        self.say(format!(
            "the keys change the split behind {}",
            names.name(behind)
        ));
    }

    /// Splits behind the layer under the cursor.
    pub fn split_here(&mut self) -> Vec<Effect> {
        let Some(network) = self.network.clone() else {
            return Vec::new();
        };
        let Some(layer) = network.table.layers.get(self.layers.cursor) else {
            return Vec::new();
        };
        if !layer.split_legal {
            let why = refusal(&network.table, self.layers.cursor, |l| l.split_legal);
            self.complain(format!("no split after {}: {why}", layer.name));
            return Vec::new();
        }
        let name = layer.name.clone();
        let behind = self.split_in_hand();
        self.edit(EditKind::Single, |s| {
            s.set_split(behind, SplitRule::After(name));
        })
    }

    /// Moves the split to the next legal cut, before the first to the cloud, behind the last to the
    /// edge.
    pub fn move_split(&mut self, forward: bool) -> Vec<Effect> {
        let (Some(network), Some(plan)) = (self.network.clone(), &self.derived.plan) else {
            return Vec::new();
        };
        let table = &network.table;
        let behind = self.split_in_hand();
        let Some(here) = plan.split_behind(behind) else {
            return Vec::new();
        };
        let mut all = Split::all(table);
        let next = if forward {
            all.find(|split| *split > here)
        } else {
            all.filter(|split| *split < here).last()
        };
        let Some(next) = next else {
            return Vec::new();
        };
        let rule = match next {
            Split::After(i) => {
                self.layers.cursor = i;
                SplitRule::After(table.layers[i].name.clone())
            }
            Split::End => SplitRule::Memory { share: 1.0 },
            Split::Start => SplitRule::Memory { share: 0.0 },
        };
        self.edit(EditKind::Single, |s| s.set_split(behind, rule))
    }

    /// The layers exits stand behind now.
    fn exit_names(&self) -> Vec<String> {
        let exits = self.derived.plan.iter().flat_map(|p| &p.exits);
        exits.map(|e| e.after.clone()).collect()
    }

    /// Sets or removes an exit behind the layer under the cursor.
    pub fn toggle_exit(&mut self) -> Vec<Effect> {
        let Some(network) = self.network.clone() else {
            return Vec::new();
        };
        let row = self.layers.cursor;
        let Some(layer) = network.table.layers.get(row) else {
            return Vec::new();
        };
        let mut names = self.exit_names();
        if let Some(at) = names.iter().position(|n| *n == layer.name) {
            names.remove(at);
        } else if !layer.exit_legal {
            let why = refusal(&network.table, row, |l| l.exit_legal);
            self.complain(format!("no exit after {}: {why}", layer.name));
            return Vec::new();
        } else if self.exits_beside(row) >= MAX_PER_PART {
            self.complain(format!(
                "no exit after {}: {MAX_PER_PART} stand in this part already; e on one removes it",
                layer.name
            ));
            return Vec::new();
        } else {
            names.push(layer.name.clone());
        }
        self.edit(EditKind::Single, |s| s.exits.at = Some(names))
    }

    /// How many exits stand in the part a row belongs to.
    fn exits_beside(&self, row: usize) -> usize {
        let Some(plan) = &self.derived.plan else {
            return 0;
        };
        plan.exits_in(plan.tier_of(row)).count()
    }

    /// Moves the exit under the cursor, or the nearest to it, to the next free point.
    pub fn move_exit(&mut self, forward: bool) -> Vec<Effect> {
        let (Some(network), Some(plan)) = (self.network.clone(), &self.derived.plan) else {
            return Vec::new();
        };
        let cursor = self.layers.cursor;
        let nearest = plan.exits.iter().min_by_key(|e| e.layer.abs_diff(cursor));
        let Some(exit) = nearest else {
            self.say("there is no exit to move; e sets one");
            return Vec::new();
        };
        let free = |&row: &usize| !plan.exits.iter().any(|e| e.layer == row);
        let mut points = network.points.iter().map(|p| p.layer);
        let to = if forward {
            points.find(|row| *row > exit.layer && free(row))
        } else {
            points.rfind(|row| *row < exit.layer && free(row))
        };
        let Some(to) = to else {
            return Vec::new();
        };
        let (from, onto) = (exit.after.clone(), network.table.layers[to].name.clone());
        let mut names = self.exit_names();
        for name in &mut names {
            if *name == from {
                *name = onto.clone();
            }
        }
        self.layers.cursor = to;
        self.edit(EditKind::Single, |s| s.exits.at = Some(names))
    }

    /// Back from exits set by hand to the spread.
    pub fn spread_exits(&mut self) -> Vec<Effect> {
        self.edit(EditKind::Single, |s| s.exits.at = None)
    }

    /// How many exits a part gets by the spread: 0 to 3, and around.
    pub fn cycle_per_part(&mut self) -> Vec<Effect> {
        self.edit(EditKind::Single, |s| {
            s.exits.at = None;
            s.exits.per_part = (s.exits.per_part + 1) % (MAX_PER_PART + 1);
        })
    }

    pub fn cycle_placement(&mut self) -> Vec<Effect> {
        self.edit(EditKind::Single, |s| {
            s.exits.at = None;
            s.exits.placement = match s.exits.placement {
                Placement::Linear => Placement::Pareto,
                Placement::Pareto => Placement::Linear,
            };
        })
    }

    pub fn toggle_at_split(&mut self) -> Vec<Effect> {
        self.edit(EditKind::Single, |s| {
            s.exits.at = None;
            s.exits.at_split = !s.exits.at_split;
        })
    }

    /// The next split rule. One that can't answer now says what it lacks in the plan's place.
    pub fn cycle_rule(&mut self) -> Vec<Effect> {
        let behind = self.split_in_hand();
        let plan = self.derived.plan.as_ref();
        let here = plan.and_then(|p| p.split_layers.get(behind.index()).cloned().flatten());
        let Some(rule) = self.document.session.split(behind) else {
            return Vec::new();
        };
        let next = match rule {
            SplitRule::Memory { share } => SplitRule::Layers { share: *share },
            SplitRule::Layers { .. } => SplitRule::Latency,
            SplitRule::Latency => SplitRule::Fastest,
            SplitRule::Fastest => SplitRule::Cheapest,
            SplitRule::Cheapest => match here {
                Some(name) => SplitRule::After(name),
                None => SplitRule::Memory { share: 0.7 },
            },
            SplitRule::After(_) => SplitRule::Memory { share: 0.7 },
        };
        self.edit(EditKind::Single, |s| s.set_split(behind, next))
    }

    /// Changes the share of the rules that have one.
    pub fn change_share(&mut self, by: f64) -> Vec<Effect> {
        let changed = |share: f64| (((share + by) * 100.0).round() / 100.0).clamp(0.0, 1.0);
        let behind = self.split_in_hand();
        let Some(rule) = self.document.session.split(behind) else {
            return Vec::new();
        };
        let next = match rule {
            SplitRule::Memory { share } => SplitRule::Memory {
                share: changed(*share),
            },
            SplitRule::Layers { share } => SplitRule::Layers {
                share: changed(*share),
            },
            _ => {
                self.say("this rule has no share; R changes the rule");
                return Vec::new();
            }
        };
        self.edit(EditKind::Share, |s| s.set_split(behind, next))
    }
}
