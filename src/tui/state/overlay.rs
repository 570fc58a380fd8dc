/*! What lies over the panels: help, palette, prompts, pickers, questions. */

use super::State;
use super::goal::GoalForm;
use crate::session::Session;
use crate::tui::message::{Effect, Over, Recovered, Source};
use std::path::PathBuf;

/// One at a time.
#[derive(Debug, Clone, PartialEq)]
pub enum Overlay {
    Help {
        scroll: usize,
    },
    Palette {
        input: String,
        selected: usize,
    },
    Prompt {
        kind: Prompt,
        input: String,
        /// The input is what it was opened with: the first letter typed replaces it.
        offered: bool,
        error: Option<String>,
    },
    Picker {
        items: Vec<PathBuf>,
        selected: usize,
    },
    Templates {
        selected: usize,
    },
    /// The session's goal.
    Goal(GoalForm),
    Confirm {
        question: String,
        then: Confirmed,
    },
    /// The session's file was written by somebody else since it was read.
    Changed {
        file: PathBuf,
    },
    /// Asks whether to leave while something still runs.
    Leaving {
        unsaved: bool,
        running: usize,
    },
    /// A page to read: a layer, a log, a comparison.
    Page {
        page: Page,
        scroll: usize,
    },
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prompt {
    Filter,
    Search,
    SaveAs,
    Export,
    Accuracy,
    Latency,
    LimitAccuracy,
    LimitLatency,
    LimitMemory,
    LimitCost,
}

impl Prompt {
    pub fn title(self) -> &'static str {
        match self {
            Prompt::Filter => "show layers with",
            Prompt::Search => "search the source for (regular expression)",
            Prompt::SaveAs => "save as",
            Prompt::Export => "export the table to (.csv or .json)",
            Prompt::Accuracy => "cheapest with accuracy of at least (%)",
            Prompt::Latency => "most accurate within (ms)",
            Prompt::LimitAccuracy => "only plans with an accuracy of at least (%; empty: any)",
            Prompt::LimitLatency => "only plans with a mean of at most (ms; empty: any)",
            Prompt::LimitCost => "only plans with a bill of at most (US$ per million; empty: any)",
            Prompt::LimitMemory => "only plans whose edge side takes at most (MB; empty: any)",
        }
    }
}

/// What happens on yes.
#[derive(Debug, Clone, PartialEq)]
pub enum Confirmed {
    Quit,
    Recover(Box<Recovered>),
    Open(Source),
    /// The session over a file that is there.
    Overwrite(PathBuf),
    /// The layer table over a file that is there.
    Export(PathBuf),
}

/// What a page is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    Layer,
    Log,
    Compare,
    Findings,
}

impl Overlay {
    pub fn paste(&mut self, text: &str) {
        if let Overlay::Prompt { input, offered, .. } = self
            && std::mem::take(offered)
        {
            input.clear();
        }
        let input = match self {
            Overlay::Palette { input, .. } | Overlay::Prompt { input, .. } => Some(input),
            Overlay::Goal(form) => form.input(),
            _ => None,
        };
        if let Some(input) = input {
            input.extend(text.chars().filter(|c| !c.is_control()));
        }
    }
}

impl State {
    /// The session with what runs have left, as files and jobs have it.
    pub fn whole_session(&self) -> Session {
        let mut session = self.document.session.clone();
        session.results = self.results.kept.as_deref().cloned().map(Box::new);
        session
    }

    pub fn save_to(&self, file: PathBuf, over: Over) -> Effect {
        Effect::Save {
            session: Box::new(self.whole_session()),
            file,
            over,
            draft: self.draft(),
            journal: self.document.journal.clone(),
        }
    }

    /// Saves to the session's own file; the one that ships has none, and asks for one.
    pub fn save(&mut self) -> Vec<Effect> {
        if self.editor.checking && self.has_draft() && self.network.is_some() {
            // What is being typed is part of it, if it checks.
            self.editor.save_when_checked = true;
            return self.ask_heads();
        }
        match self.document.file.clone() {
            Some(file) => vec![self.save_to(file, self.document.over())],
            None => {
                let input = format!("{}.ron", self.document.name());
                self.overlay = Some(Overlay::Prompt {
                    kind: Prompt::SaveAs,
                    input,
                    offered: true,
                    error: None,
                });
                Vec::new()
            }
        }
    }
}
