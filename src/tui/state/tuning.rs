/*! Thresholds: one for all exits or one per exit, the curves over them, and the snaps. */

use super::State;
use super::document::EditKind;
use crate::explore::{Guarantee, Verdict};
use crate::predict::Outcome;
use crate::predict::{HeadPays, ReplayError};
use crate::tui::message::{BestThresholds, CurvesAnswer, CurvesRequest, Effect};

/// The slider's steps, and the curves' points.
pub const STEPS: usize = 100;

/// Outcomes of the plan at each threshold, and what follows from them.
#[derive(Debug, Clone, PartialEq)]
pub struct Curves {
    pub thresholds: Vec<f64>,
    pub outcomes: Vec<Outcome>,
    /// What each exit of the plan is worth, in their order.
    pub pays: Vec<HeadPays>,
    /// Verdict on the plan against its alternatives.
    pub verdict: Verdict,
}

/// Which threshold the slider holds, and what is known over it.
#[derive(Debug, Clone, Default)]
pub struct Tuning {
    /// 0 for all exits, else one more than the exit's number in the plan.
    pub selected: usize,
    pub curves: Option<Curves>,
    /// What the curves lack.
    pub lacking: Option<ReplayError>,
    /// The curves shown are older than the plan.
    pub stale: bool,
    /// What leaving early is promised to cost at thresholds that were searched for, one per exit.
    pub promised: Option<(Vec<f64>, Guarantee)>,
    generation: u64,
}

fn thresholds() -> Vec<f64> {
    (0..=STEPS).map(|i| i as f64 / STEPS as f64).collect()
}

impl Tuning {
    /// Takes an answer over; gives the best thresholds where they were asked for.
    pub fn got(
        &mut self,
        generation: u64,
        curves: Result<CurvesAnswer, ReplayError>,
    ) -> Option<BestThresholds> {
        if generation != self.generation {
            return None;
        }
        self.stale = false;
        match curves {
            Ok(CurvesAnswer {
                outcomes,
                pays,
                verdict,
                best,
            }) => {
                let thresholds = thresholds();
                self.lacking = None;
                self.curves = Some(Curves {
                    thresholds,
                    outcomes,
                    pays,
                    verdict,
                });
                best
            }
            Err(problem) => {
                self.curves = None;
                self.lacking = Some(problem);
                None
            }
        }
    }
}

impl State {
    /// Asks for the curves of the plan on screen.
    pub fn ask_curves(&mut self) -> Vec<Effect> {
        self.ask(false)
    }

    /// Asks for the best thresholds by the goal, one per exit; they become the session's when found.
    pub fn tune(&mut self) -> Vec<Effect> {
        if self
            .derived
            .plan
            .as_ref()
            .is_none_or(|p| p.exits.is_empty())
        {
            self.say("the plan has no exits, so there are no thresholds to choose");
            return Vec::new();
        }
        if let Some(why) = self.derived.lacking.as_ref().map(ToString::to_string) {
            self.complain(why);
            return Vec::new();
        }
        self.say("searching for the best thresholds…");
        self.ask(true)
    }

    /// Makes thresholds that were searched for the session's: those that keep its guarantee, or the best.
    pub fn take_thresholds(&mut self, best: &BestThresholds) -> Vec<Effect> {
        let Some(mut plan) = self.derived.plan.clone() else {
            return Vec::new();
        };
        let kept = best.guarantee.as_ref().and_then(Guarantee::kept);
        let (thresholds, outcome) = match kept {
            Some(kept) => (&kept.thresholds, &kept.outcome),
            None => (&best.tuned.thresholds, &best.tuned.outcome),
        };
        for (exit, threshold) in plan.exits.iter_mut().zip(thresholds) {
            exit.threshold = *threshold;
        }
        let promised = best.guarantee.clone();
        self.tuning.promised = promised.map(|promised| (thresholds.clone(), promised));
        let how = match (kept, best.tuned.feasible, best.tuned.exact) {
            (Some(_), ..) => "the best that keep the guarantee",
            (None, false, _) => "the best reachable, for none keeps the goal's limits",
            (None, true, true) => "proved to be the best for the goal",
            (None, true, false) => "the best for the goal that a heuristic found",
        };
        self.say(format!(
            "one threshold per exit: {:.1} % in {:.2} ms, {how} (predicted, calibration)",
            100.0 * outcome.accuracy,
            outcome.latency_ms.map_or(f64::NAN, |l| l.mean)
        ));
        self.edit(EditKind::Single, |s| s.policy.set_thresholds(&plan))
    }

    fn ask(&mut self, tune: bool) -> Vec<Effect> {
        let (Some(evidence), Some(plan)) = (&self.evidence, &self.derived.plan) else {
            self.tuning.curves = None;
            return Vec::new();
        };
        self.tuning.generation += 1;
        self.tuning.stale = true;
        let request = CurvesRequest {
            generation: self.tuning.generation,
            evidence: evidence.clone(),
            terms: self.document.session.terms(),
            plan: plan.clone(),
            exit: self.tuning.selected.checked_sub(1),
            thresholds: thresholds(),
            goal: self.document.session.goal,
            explored: self.explore.best().cloned().into_iter().collect(),
            promise: self.document.session.guarantee,
            tune,
        };
        vec![Effect::Curves(Box::new(request))]
    }

    /// The name of the exit the slider holds; `None` for all.
    pub fn tuned_exit(&self) -> Option<&str> {
        let exit = self.tuning.selected.checked_sub(1)?;
        let plan = self.derived.plan.as_ref()?;
        plan.exits.get(exit).map(|e| e.after.as_str())
    }

    /// The threshold the slider shows.
    pub fn threshold(&self) -> f64 {
        let policy = &self.document.session.policy;
        match self.tuned_exit() {
            Some(name) => policy.threshold_of(name),
            None => policy.threshold,
        }
    }

    pub fn set_threshold(&mut self, to: f64) -> Vec<Effect> {
        let to = ((to * STEPS as f64).round() / STEPS as f64).clamp(0.0, 1.0);
        let exit = self.tuned_exit().map(str::to_string);
        self.edit(EditKind::Threshold, |s| match exit {
            None => s.policy.threshold = to,
            Some(name) => match s.policy.exits.iter_mut().find(|(n, _)| *n == name) {
                Some(own) => own.1 = to,
                None => s.policy.exits.push((name, to)),
            },
        })
    }

    pub fn move_threshold(&mut self, steps: f64) -> Vec<Effect> {
        self.set_threshold(self.threshold() + steps / STEPS as f64)
    }

    /// The exit goes by the common threshold again; on "all", every exit does.
    pub fn reset_threshold(&mut self) -> Vec<Effect> {
        let exit = self.tuned_exit().map(str::to_string);
        self.edit(EditKind::Single, |s| match exit {
            Some(name) => s.policy.exits.retain(|(n, _)| *n != name),
            None => s.policy.exits.clear(),
        })
    }

    pub fn select_threshold(&mut self, by: isize) -> Vec<Effect> {
        let most = self.derived.plan.as_ref().map_or(0, |p| p.exits.len());
        let next = self.tuning.selected.saturating_add_signed(by).min(most);
        if next == self.tuning.selected {
            return Vec::new();
        }
        self.tuning.selected = next;
        self.ask_curves()
    }

    fn snap(
        &mut self,
        good: impl Fn(&Outcome) -> bool,
        better: impl Fn(&Outcome) -> f64,
        what: &str,
    ) -> Vec<Effect> {
        if self.tuning.stale {
            self.say("the curves are still being drawn; try again in a moment");
            return Vec::new();
        }
        let Some(curves) = &self.tuning.curves else {
            let why = self.tuning.lacking.clone();
            let why = why.map(|why| why.to_string());
            self.complain(why.unwrap_or_else(|| "there are no curves yet".into()));
            return Vec::new();
        };
        let points = curves.thresholds.iter().zip(&curves.outcomes);
        let best = points
            .filter(|(_, o)| good(o))
            .min_by(|a, b| better(a.1).total_cmp(&better(b.1)));
        match best.map(|(t, _)| *t) {
            Some(threshold) => {
                self.say(format!(
                    "{what}: threshold {threshold:.2} (predicted, calibration)"
                ));
                self.set_threshold(threshold)
            }
            None => {
                self.complain(format!("{what}: no threshold gives that"));
                Vec::new()
            }
        }
    }

    /// The cheapest threshold with at least this accuracy; of equally cheap ones the fastest.
    pub fn snap_accuracy(&mut self, accuracy: f64) -> Vec<Effect> {
        let price = |o: &Outcome| {
            let cost = o.cost_per_million.map_or(0.0, |c| c.unrounded);
            cost * 1e6 + o.latency_ms.map_or(0.0, |l| l.mean)
        };
        let what = format!(
            "cheapest with accuracy of at least {:.1} %",
            100.0 * accuracy
        );
        self.snap(|o| o.accuracy >= accuracy, price, &what)
    }

    /// The most accurate threshold with a mean latency of at most so many milliseconds.
    pub fn snap_latency(&mut self, ms: f64) -> Vec<Effect> {
        let what = format!("most accurate within {ms} ms");
        self.snap(
            |o| o.latency_ms.is_some_and(|l| l.mean <= ms),
            |o| -o.accuracy,
            &what,
        )
    }
}
