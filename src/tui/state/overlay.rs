/*! What lies over the panels: help, palette, prompts, pickers, questions. */

use super::State;
use super::goal::GoalForm;
use super::settings::ValueForm;
use super::typed::Typed;
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
        input: Typed,
        selected: usize,
        /// What is wrong with the argument that is typed.
        error: Option<String>,
    },
    Prompt {
        kind: Prompt,
        input: Typed,
        error: Option<String>,
    },
    /// Sessions to open; which there are, the state knows.
    Picker {
        input: Typed,
        selected: usize,
    },
    /// A value of the session's page.
    Value(ValueForm),
    Templates {
        selected: usize,
    },
    /// The form in which the session's goal is edited.
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
    LimitEnergy,
}

impl Prompt {
    /// Whether the answer is a file's path.
    pub fn is_path(self) -> bool {
        matches!(self, Prompt::SaveAs | Prompt::Export)
    }

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
            Prompt::LimitMemory => {
                "only plans whose edge side takes at most (MB, or with its unit; empty: any)"
            }
            Prompt::LimitEnergy => {
                "only plans with an energy of at most (mJ per inference; empty: any)"
            }
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
    /// The session's text as it would be written.
    Text,
}

impl Overlay {
    pub fn paste(&mut self, text: &str) {
        match self {
            Overlay::Palette { input, .. }
            | Overlay::Prompt { input, .. }
            | Overlay::Picker { input, .. } => input.paste(text),
            Overlay::Value(form) => form.input.paste(text),
            Overlay::Goal(form) => {
                if let Some(input) = form.input() {
                    input.extend(text.chars().filter(|c| !c.is_control()));
                }
            }
            _ => {}
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
                    input: Typed::offer(input),
                    error: None,
                });
                Vec::new()
            }
        }
    }
}
