/*! Evidence: what the last run showed of classes, confidences and single samples, and where the best plan changes. */

use super::State;
use super::explore::Question;
use super::runs::Run;
use crate::predict::{Evidence, ReplayError};
use crate::report::WhatIfReport;
use crate::run::{RunError, RunEvidence};
use crate::session;
use crate::tui::message::{Effect, EvidenceRequest, Panel, WhatIfRequest};
use std::sync::Arc;

/// What the page shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum View {
    /// How honest the confidences of each classifier are.
    #[default]
    Reliability,
    Classes,
    Confusions,
    Latency,
    /// Single samples that left early, late or wrongly.
    Samples,
    /// Other links, devices and prices.
    WhatIf,
}

impl View {
    pub const ALL: [View; 6] = [
        View::Reliability,
        View::Classes,
        View::Confusions,
        View::Latency,
        View::Samples,
        View::WhatIf,
    ];

    pub fn name(self) -> &'static str {
        match self {
            View::Reliability => "reliability",
            View::Classes => "classes",
            View::Confusions => "confusions",
            View::Latency => "latency",
            View::Samples => "samples",
            View::WhatIf => "what if",
        }
    }

    fn beside(self, by: usize) -> View {
        let at = View::ALL.iter().position(|view| *view == self);
        View::ALL[(at.unwrap_or(0) + by) % View::ALL.len()]
    }
}

/// What the question of other links, devices and prices is asked of.
#[derive(Debug, Clone)]
struct Asked {
    question: Question,
    evidence: Arc<Evidence>,
    with_map: bool,
}

/// The answer to "what if", as far as it is there.
#[derive(Debug, Clone, Default)]
pub struct WhatIfState {
    pub found: Option<WhatIfReport>,
    /// Why there is none.
    pub lacking: Option<ReplayError>,
    /// Settings searched, and how many there are, while they are.
    pub progress: Option<(usize, usize)>,
    /// The map of bandwidth by round trip is wanted too.
    pub with_map: bool,
    asked: Option<Asked>,
    generation: u64,
}

/// State of the evidence page.
#[derive(Debug, Clone, Default)]
pub struct EvidencePage {
    pub view: View,
    /// The row under the cursor.
    pub selected: usize,
    pub shown: Option<Arc<RunEvidence>>,
    /// Why there is nothing to show, or no picture.
    pub problem: Option<Arc<RunError>>,
    /// Names and pictures are still being read.
    pub reading: bool,
    pub what_if: WhatIfState,
    /// The results that what is shown is of.
    of: Option<Arc<session::Results>>,
    generation: u64,
}

impl EvidencePage {
    /// The page of a session that was just opened: answers for the one before are no longer waited for.
    pub fn of_another(&self) -> EvidencePage {
        EvidencePage {
            view: self.view,
            generation: self.generation + 1,
            what_if: WhatIfState {
                generation: self.what_if.generation + 1,
                ..WhatIfState::default()
            },
            ..EvidencePage::default()
        }
    }

    pub fn got(&mut self, generation: u64, found: Result<RunEvidence, RunError>, complete: bool) {
        if generation != self.generation {
            return;
        }
        self.reading = !complete;
        match found {
            Ok(found) => (self.shown, self.problem) = (Some(Arc::new(found)), None),
            Err(problem) => self.problem = Some(Arc::new(problem)),
        }
    }

    pub fn searched(&mut self, generation: u64, done: usize, total: usize) {
        if generation == self.what_if.generation {
            self.what_if.progress = Some((done, total));
        }
    }

    pub fn answered(&mut self, generation: u64, found: Result<WhatIfReport, ReplayError>) {
        let what_if = &mut self.what_if;
        if generation != what_if.generation {
            return;
        }
        what_if.progress = None;
        match found {
            Ok(found) => (what_if.found, what_if.lacking) = (Some(found), None),
            Err(problem) => (what_if.found, what_if.lacking) = (None, Some(problem)),
        }
    }
}

impl State {
    /// To the view after the one shown, or the one before.
    pub fn turn_evidence(&mut self, forward: bool) -> Vec<Effect> {
        let by = if forward { 1 } else { View::ALL.len() - 1 };
        self.show_evidence(self.evidence_page.view.beside(by))
    }

    fn show_evidence(&mut self, view: View) -> Vec<Effect> {
        let page = &mut self.evidence_page;
        (page.view, page.selected) = (view, 0);
        self.ask_evidence()
    }

    pub fn select_evidence(&mut self, by: isize) {
        let page = &mut self.evidence_page;
        page.selected = page.selected.saturating_add_signed(by);
        let last = self.evidence_rows().saturating_sub(1);
        self.evidence_page.selected = self.evidence_page.selected.min(last);
    }

    /// Rows that the cursor goes through.
    fn evidence_rows(&self) -> usize {
        let page = &self.evidence_page;
        let shown = page.shown.as_deref();
        let of = |rows: fn(&RunEvidence) -> usize| shown.map_or(0, rows);
        match page.view {
            View::Reliability => of(|e| e.reliability.len()),
            View::Classes => of(|e| e.shown.classes.len()),
            View::Confusions => of(|e| {
                e.shown
                    .confusions
                    .iter()
                    .filter(|c| c.label != c.prediction)
                    .count()
            }),
            View::Latency => of(|e| e.shown.latencies.len()),
            View::Samples => of(|e| e.shown.samples.len()),
            View::WhatIf => page.what_if.found.as_ref().map_or(0, |f| {
                f.text(&self.document.session.tier_names()).lines().count()
            }),
        }
    }

    /// Asks for what the page lacks, if it is looked at.
    pub fn ask_evidence(&mut self) -> Vec<Effect> {
        if self.focus != Panel::Evidence {
            return Vec::new();
        }
        if self.evidence_page.view == View::WhatIf {
            return self.ask_what_if();
        }
        let kept = self.results.kept.clone();
        let page = &mut self.evidence_page;
        let same = match (&page.of, &kept) {
            (Some(of), Some(kept)) => Arc::ptr_eq(of, kept),
            (None, None) => true,
            _ => false,
        };
        if same {
            return Vec::new();
        }
        page.generation += 1;
        (page.shown, page.problem, page.selected) = (None, None, 0);
        page.of.clone_from(&kept);
        page.reading = kept.is_some();
        let Some(results) = kept else {
            return Vec::new();
        };
        let request = EvidenceRequest {
            generation: page.generation,
            session: Box::new(self.document.session.resolved(&self.document.folder)),
            results,
        };
        vec![Effect::Evidence(request)]
    }

    /// Asks for the best plans under other links, devices and prices, unless the answer is there. A
    /// search would spoil the times of a run, so it waits for its end.
    fn ask_what_if(&mut self) -> Vec<Effect> {
        let Some(evidence) = self.evidence.clone() else {
            return Vec::new();
        };
        let question = self.question();
        let what_if = &mut self.evidence_page.what_if;
        let known = what_if.asked.as_ref().is_some_and(|asked| {
            asked.question == question
                && asked.evidence == evidence
                && asked.with_map == what_if.with_map
        });
        if known || self.runs.iter().any(Run::is_running) {
            return Vec::new();
        }
        what_if.generation += 1;
        (what_if.found, what_if.lacking, what_if.progress) = (None, None, Some((0, 0)));
        let request = WhatIfRequest {
            generation: what_if.generation,
            goal: question.goal,
            terms: self.document.session.terms(),
            thresholds: self.document.session.sweep.thresholds(),
            with_map: what_if.with_map,
            evidence: evidence.clone(),
        };
        what_if.asked = Some(Asked {
            question,
            evidence,
            with_map: what_if.with_map,
        });
        vec![Effect::WhatIf(Box::new(request))]
    }

    /// The map of bandwidth by round trip too, or no longer.
    pub fn map_evidence(&mut self) -> Vec<Effect> {
        self.evidence_page.what_if.with_map ^= true;
        self.show_evidence(View::WhatIf)
    }

    /// Stops the search for other links, devices and prices; else the run.
    pub fn stop_what_if(&mut self) -> Vec<Effect> {
        let what_if = &mut self.evidence_page.what_if;
        if what_if.progress.take().is_none() {
            return self.stop();
        }
        what_if.generation += 1;
        what_if.lacking = Some(ReplayError::Stopped);
        vec![Effect::StopWhatIf]
    }
}
