/*! The history of runs: started, paused, stopped, joined; what they tell goes to their panels. */

use super::State;
use super::playback::millis;
pub use super::run::{Log, Origin, Reach, Run, RunState, TargetState, stage_name};
use crate::event::Event;
use crate::plan::{Plan, Tier};
use crate::session::results::Measured;
use crate::tui::error::Refusal;
use crate::tui::message::Effect;
use crate::tui::ports::{Goal, Job, RunningJob};
use crate::tui::work::{self, Results};
use std::sync::Arc;

impl State {
    /// The run whose panels are shown.
    pub fn shown_run(&self) -> Option<&Run> {
        self.runs.get(self.run)
    }

    pub fn start(&mut self, goal: Goal) -> Vec<Effect> {
        if self.network.is_none() {
            let why = self.network_problem.clone();
            let why = why.map_or(Refusal::Reading, Refusal::Network);
            self.complain(why.to_string());
            return Vec::new();
        }
        let training = matches!(goal, Goal::Train | Goal::Run);
        if let Some(refused) = self.derived.refused.as_ref().filter(|_| training) {
            self.complain(refused.to_string());
            return Vec::new();
        }
        if let (Goal::Run, Some(problem)) = (goal, &self.derived.problem) {
            // Rules that read profiles can only be settled by the run itself.
            if !problem.lacks_evidence() {
                let problem = problem.to_string();
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
        self.say(format!(
            "{} {id} started: 4 shows it, x stops it",
            goal.name()
        ));
        effects.push(self.start_effect(id, goal));
        effects
    }

    fn add_run(&mut self, goal: Goal, origin: Origin) -> usize {
        let own = self.runs.iter().filter(|r| !r.is_recorded());
        let id = own.map(|r| r.id).max().unwrap_or(0) + 1;
        self.runs.push(Run {
            origin,
            session: self.opened,
            names: self.document.session.tier_names(),
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
            background: false,
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
        let mut job = self.job(Goal::Profile);
        job.background = true;
        vec![Effect::Start { id, job }]
    }

    /// A run of this session goes on in a process of its own: its panels follow it.
    pub fn join(&mut self, running: &RunningJob) -> Vec<Effect> {
        let id = self.add_run(running.goal, Origin::Elsewhere(running.pid));
        self.run = self.runs.len() - 1;
        self.say(format!(
            "{} {id} goes on in process {}; its panels follow it",
            running.goal.name(),
            running.pid
        ));
        vec![Effect::Join {
            id,
            job: self.job(running.goal),
            running: *running,
        }]
    }

    /// The runs that the session remembers, first in the history; the last of them with its events.
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
        let profiled = kept.profile(Tier::First).map(|p| p.device.as_str());
        let recorded = |device: &str, at: u64, plan: Option<Plan>| Run {
            origin: Origin::Recorded {
                device: match device {
                    "" => profiled.unwrap_or("unknown").to_owned(),
                    named => named.to_owned(),
                },
                at,
            },
            session: self.opened,
            names: self.document.session.tier_names(),
            ..Run::new(0, Goal::Run, plan)
        };
        let ran: Vec<&Measured> = kept.measured.iter().filter(|m| m.what == "plan").collect();
        let (last, earlier) = match ran.split_last() {
            Some((last, earlier)) => (Some(*last), earlier),
            None => (None, &[][..]),
        };
        let mut history: Vec<Run> = earlier
            .iter()
            .zip(1..)
            .map(|(one, age)| {
                let mut run = recorded(&one.device, one.at, one.plan.clone());
                // Number 0 is the last one's; these must not be those of runs that are started here.
                run.id = usize::MAX - age;
                run.done(0, work::Measured::of(&kept, one, false));
                run
            })
            .collect();
        let mut run = recorded(
            last.map_or("", |m| &m.device),
            last.map_or(0, |m| m.at),
            kept.plan.clone(),
        );
        for (seconds, event) in journal {
            run.fold(millis(seconds), event);
        }
        run.done(run.at, self.results.measured.clone());
        history.push(run);
        self.put_history(history);
    }

    /// Puts the remembered runs before those of this workbench, with what is shown and marked as it was.
    fn put_history(&mut self, mut history: Vec<Run>) {
        let before = self.runs.iter().take_while(|r| r.is_recorded()).count();
        for run in &mut history {
            let mut known = self.runs[..before].iter();
            run.marked = known.any(|known| known.marked && known.origin == run.origin);
        }
        let newest = history.len().saturating_sub(1);
        self.run = match self.run.checked_sub(before) {
            Some(own) if before < self.runs.len() => history.len() + own,
            _ => newest,
        };
        self.runs.splice(..before, history);
    }

    /// What a run tells; partial results are on screen at once.
    pub fn run_event(&mut self, id: usize, at: u64, event: Event) -> Vec<Effect> {
        let Some(run) = self.runs.iter_mut().find(|r| r.id == id) else {
            return Vec::new();
        };
        let ours = run.session == self.opened;
        let results = match &event {
            Event::Profiled { part, profile } if ours => {
                Some(Results::of_profile(*part, (**profile).clone()))
            }
            Event::Linked(linked) if ours => {
                Some(Results::of_link(linked.before, linked.link.clone()))
            }
            _ => None,
        };
        run.fold(at, event);
        results.map_or(Vec::new(), |r| self.got_results(r))
    }

    /// Lets the shown run wait, or go on.
    pub fn pause(&mut self) -> Vec<Effect> {
        let shown = self.run;
        let Some(run) = self.runs.get_mut(shown).filter(|r| r.is_running()) else {
            self.say("nothing runs here that could wait");
            return Vec::new();
        };
        run.pause = !run.pause;
        let (id, pause) = (run.id, run.pause);
        let key = self.keymap.first("pause");
        self.say(if pause {
            format!("it pauses at the next sample; {key} lets it go on")
        } else {
            "it goes on".into()
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

    /// New profiles or tables: everything predicted changes.
    pub fn got_results(&mut self, newer: Results) -> Vec<Effect> {
        let mut results = (*self.results).clone();
        for (tier, shipped) in Tier::ALL.into_iter().zip(&mut self.shipped.profiles) {
            *shipped &= newer.profile(tier).is_none();
        }
        self.shipped.measured &= newer.measured.is_none();
        results.absorb(newer);
        self.results = Arc::new(results);
        self.heads_of_results();
        let mut effects = self.recompute();
        effects.extend(self.explore_later());
        effects
    }
}
