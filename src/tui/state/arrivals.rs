/*! What arrives: a session, its network, results, the end of a run. */

use super::State;
use super::document::Document;
use super::explore::Explore;
use super::layers::Layers;
use super::message::Shipped;
use super::overlay::{Confirmed, Overlay};
use super::plan::Derived;
use super::runs::{Origin, Run};
use super::tuning::Tuning;
use crate::tui::effects::{Effect, Opened};
use crate::tui::work::{Network, Results};
use std::sync::Arc;

impl State {
    pub(super) fn opened(&mut self, opened: Opened) -> Vec<Effect> {
        let recovered = opened.recovered.clone();
        self.editor.file_text = opened.classifier.clone();
        self.document = Document::opened(opened);
        self.network = None;
        self.network_problem = None;
        self.results = Arc::default();
        self.derived = Derived::default();
        self.layers = Layers::default();
        self.tuning = Tuning::default();
        self.editor.forget();
        self.explore = Explore::default();
        self.opened += 1;
        self.shipped = Shipped::default();
        self.playback = None;
        // The history is the session's; what still runs is seen to its end.
        self.runs.retain(Run::is_running);
        self.run = 0;
        self.other_run = None;
        if let Some(session) = recovered {
            self.overlay = Some(Overlay::Confirm {
                question: "Unsaved edits of a workbench that ended early were found. Take them?"
                    .into(),
                then: Confirmed::Recover(Box::new(session)),
            });
        }
        Vec::new()
    }

    pub(super) fn got_network(&mut self, network: Network) -> Vec<Effect> {
        self.network = Some(Arc::new(network));
        self.network_problem = None;
        self.load_source();
        let mut effects = self.recompute();
        // The first look falls on what matters.
        if let Some(plan) = &self.derived.plan {
            let first = plan.splits.first().and_then(|split| split.row());
            self.layers.cursor = first.unwrap_or(0);
        }
        effects.extend(self.ask_heads());
        effects
    }

    /// New profiles or tables: everything predicted changes.
    pub fn got_results(&mut self, newer: Results) -> Vec<Effect> {
        let mut results = (*self.results).clone();
        let of_here = (newer.edge.is_some(), newer.cloud.is_some());
        if (self.shipped.edge && of_here.0) || (self.shipped.cloud && of_here.1) {
            // Assembled parts were timed on the other machine too.
            results.assembled.clear();
        }
        self.shipped.edge &= !of_here.0;
        self.shipped.cloud &= !of_here.1;
        self.shipped.measured &= newer.measured.is_none();
        results.absorb(newer);
        self.results = Arc::new(results);
        self.heads_of_results();
        let mut effects = self.recompute();
        effects.extend(self.explore_later());
        effects
    }

    pub(super) fn run_ended(
        &mut self,
        id: usize,
        at: u64,
        stopped: bool,
        ended: Result<Box<Results>, String>,
    ) -> Vec<Effect> {
        let Some(run) = self.runs.iter_mut().find(|r| r.id == id) else {
            return Vec::new();
        };
        let ours = run.session == self.opened;
        let background = run.origin == Origin::Background;
        let (words, effects) = match ended {
            Ok(results) => {
                run.done(at, results.measured.clone());
                let words = match background {
                    true => "this machine is profiled: predictions are its own now".to_string(),
                    false => format!("{} is done", run.label()),
                };
                let effects = if ours {
                    self.got_results(*results)
                } else {
                    Vec::new()
                };
                (Ok(words), effects)
            }
            Err(problem) => {
                run.failed(at, stopped, problem.clone());
                let words = format!("{}: {problem}", run.label());
                (if stopped { Ok(words) } else { Err(words) }, Vec::new())
            }
        };
        match words {
            // Nobody asked for it: a failure is the run's log to tell, and no notice is covered.
            Ok(words) if !background || self.notice.is_none() => self.say(words),
            Err(words) if !background => self.complain(words),
            _ => {}
        }
        effects
    }
}
