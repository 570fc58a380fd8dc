/*! What lies over the panels: help, palette, prompts, pickers, questions. */

use super::{Panel, Severity, State};
use crate::session::Session;
use crate::tui::command;
use crate::tui::effects::{Effect, Source};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
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
        error: Option<String>,
    },
    Picker {
        items: Vec<PathBuf>,
        selected: usize,
    },
    Templates {
        selected: usize,
    },
    Confirm {
        question: String,
        then: Confirmed,
    },
    /// Something still runs.
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
            Prompt::LimitMemory => "only plans whose edge side takes at most (MB; empty: any)",
        }
    }
}

/// What happens on yes.
#[derive(Debug, Clone, PartialEq)]
pub enum Confirmed {
    Quit,
    Recover(Box<Session>),
    Open(Source),
    /// The session's text over a file that is there.
    Overwrite(PathBuf),
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
        if let Overlay::Palette { input, .. } | Overlay::Prompt { input, .. } = self {
            input.extend(text.chars().filter(|c| !c.is_control()));
        }
    }
}

/// Moves a selection among `count` entries.
fn step(selected: usize, code: KeyCode, count: usize) -> usize {
    let to = match code {
        KeyCode::Up => selected.saturating_sub(1),
        KeyCode::Down => selected + 1,
        KeyCode::PageUp => selected.saturating_sub(10),
        KeyCode::PageDown => selected + 10,
        KeyCode::Home => 0,
        KeyCode::End => count,
        _ => selected,
    };
    to.min(count.saturating_sub(1))
}

/// Letters as arrows, where nothing is typed.
fn arrow(code: KeyCode) -> KeyCode {
    match code {
        KeyCode::Char('j') => KeyCode::Down,
        KeyCode::Char('k') => KeyCode::Up,
        KeyCode::Char('g') => KeyCode::Home,
        KeyCode::Char('G') => KeyCode::End,
        KeyCode::Char(' ') => KeyCode::PageDown,
        other => other,
    }
}

fn typed(input: &mut String, event: KeyEvent) {
    match event.code {
        KeyCode::Backspace => {
            input.pop();
        }
        KeyCode::Char('u') if event.modifiers.contains(KeyModifiers::CONTROL) => input.clear(),
        KeyCode::Char(c) if !event.modifiers.contains(KeyModifiers::CONTROL) => input.push(c),
        _ => {}
    }
}

impl State {
    pub fn overlay_key(&mut self, event: KeyEvent) -> Vec<Effect> {
        let Some(mut overlay) = self.overlay.take() else {
            return Vec::new();
        };
        let control_c =
            event.code == KeyCode::Char('c') && event.modifiers == KeyModifiers::CONTROL;
        if event.code == KeyCode::Esc || control_c {
            if let Overlay::Prompt {
                kind: Prompt::Filter,
                ..
            } = overlay
            {
                self.layers.filter.clear();
            }
            if let Overlay::Confirm {
                then: Confirmed::Recover(_),
                ..
            } = overlay
            {
                self.say("left as they are; the next edit writes over them");
            }
            return Vec::new();
        }
        match &mut overlay {
            Overlay::Help { scroll } | Overlay::Page { scroll, .. } => {
                if matches!(event.code, KeyCode::Char('q' | '?') | KeyCode::Enter) {
                    return Vec::new();
                }
                *scroll = step(*scroll, arrow(event.code), 10_000);
            }
            Overlay::Palette { input, selected } => {
                let found = command::search(self, input);
                match event.code {
                    KeyCode::Enter => {
                        let Some(command) = found.get(*selected).copied() else {
                            return Vec::new();
                        };
                        // One of another panel is run there.
                        let panel = command.elsewhere(self);
                        let mut effects = panel.map_or(Vec::new(), |p| self.show(p));
                        effects.extend(self.dispatch(command));
                        return effects;
                    }
                    KeyCode::Up | KeyCode::Down | KeyCode::PageUp | KeyCode::PageDown => {
                        *selected = step(*selected, event.code, found.len());
                    }
                    _ => {
                        typed(input, event);
                        *selected = 0;
                    }
                }
            }
            Overlay::Prompt { kind, input, error } => {
                if event.code == KeyCode::Enter {
                    match self.answer(*kind, input) {
                        Ok(effects) => return effects,
                        Err(problem) => *error = Some(problem),
                    }
                } else {
                    typed(input, event);
                    *error = None;
                    if *kind == Prompt::Filter {
                        self.layers.filter = input.clone();
                    }
                }
            }
            Overlay::Picker { items, selected } => {
                if event.code == KeyCode::Enter {
                    let source = match selected.checked_sub(1) {
                        None => Source::Demo,
                        Some(i) => match items.get(i) {
                            Some(file) => Source::File(file.clone()),
                            None => return Vec::new(),
                        },
                    };
                    return self.ask_open(source);
                }
                *selected = step(*selected, arrow(event.code), items.len() + 1);
            }
            Overlay::Templates { selected } => {
                if event.code == KeyCode::Enter {
                    return self.take_template(*selected);
                }
                *selected = step(*selected, arrow(event.code), State::template_names().len());
            }
            Overlay::Leaving { .. } => match event.code {
                KeyCode::Char('f') => {
                    let mut effects = self.let_finish();
                    effects.extend(self.leave());
                    return effects;
                }
                KeyCode::Char('s') => return self.leave(),
                KeyCode::Char('n' | 'q') => return Vec::new(),
                _ => {}
            },
            Overlay::Confirm { then, .. } => match event.code {
                KeyCode::Char('y' | 'Y') => return self.confirmed(then.clone()),
                KeyCode::Char('n' | 'N' | 'q') => return Vec::new(),
                _ => {}
            },
        }
        // What isn't over stays; a command from the palette may have put another in its place.
        self.overlay.get_or_insert(overlay);
        Vec::new()
    }

    fn ask_open(&mut self, source: Source) -> Vec<Effect> {
        if !self.document.is_unsaved() && !self.has_draft() {
            return self.open(source);
        }
        self.overlay = Some(Overlay::Confirm {
            question: "The session has unsaved edits. Open another without saving?".into(),
            then: Confirmed::Open(source),
        });
        Vec::new()
    }

    fn confirmed(&mut self, then: Confirmed) -> Vec<Effect> {
        match then {
            Confirmed::Quit => self.leave(),
            Confirmed::Recover(session) => self.recover(*session),
            Confirmed::Open(source) => self.open(source),
            Confirmed::Overwrite(file) => vec![self.save_to(file, true)],
        }
    }

    /// The session with what runs have left, as files and jobs have it.
    pub fn whole_session(&self) -> Session {
        let mut session = self.document.session.clone();
        session.results = self.results.kept.as_deref().cloned().map(Box::new);
        session
    }

    fn save_to(&self, file: PathBuf, over: bool) -> Effect {
        Effect::Save {
            session: Box::new(self.whole_session()),
            file,
            over,
            journal: self.document.journal.clone(),
        }
    }

    /// Saves to the session's own file; the one that ships has none, and asks for one.
    pub fn save(&mut self) -> Vec<Effect> {
        if self.has_draft() && self.editor.error.is_some() {
            self.notice = Some((
                Severity::Problem,
                "the exit source has errors: the last one that worked is saved".into(),
            ));
        }
        match self.document.file.clone() {
            Some(file) => vec![self.save_to(file, true)],
            None => {
                let input = format!("{}.ron", self.document.name());
                self.overlay = Some(Overlay::Prompt {
                    kind: Prompt::SaveAs,
                    input,
                    error: None,
                });
                Vec::new()
            }
        }
    }

    /// Takes a prompt's answer.
    fn answer(&mut self, kind: Prompt, input: &str) -> Result<Vec<Effect>, String> {
        let number = || {
            let text = input.trim().trim_end_matches(['%', ' ']);
            text.parse::<f64>()
                .map_err(|_| format!("`{input}` is no number"))
        };
        Ok(match kind {
            Prompt::Filter => Vec::new(),
            Prompt::Search => {
                self.focus = Panel::Exits;
                self.editor
                    .area
                    .set_search_pattern(input)
                    .map_err(|e| e.to_string())?;
                if !self.editor.area.search_forward(true) {
                    self.say(format!("`{input}` is not in the source"));
                }
                Vec::new()
            }
            Prompt::SaveAs => {
                let file = PathBuf::from(input.trim());
                if file.as_os_str().is_empty() {
                    return Err("a file needs a name".into());
                }
                vec![self.save_to(file, false)]
            }
            Prompt::Export => {
                let text = self.export(input.trim())?;
                vec![Effect::Write {
                    file: input.trim().into(),
                    text,
                }]
            }
            Prompt::Accuracy => {
                let percent = number()?;
                if !(0.0..=100.0).contains(&percent) {
                    return Err("accuracy lies between 0 and 100 %".into());
                }
                self.snap_accuracy(percent / 100.0)
            }
            Prompt::Latency => {
                let ms = number()?;
                self.snap_latency(ms)
            }
            Prompt::LimitAccuracy | Prompt::LimitLatency | Prompt::LimitMemory => {
                let to = match input.trim().is_empty() {
                    true => None,
                    false => Some(number()?),
                };
                if to.is_some_and(|n| n.is_nan() || n < 0.0) {
                    return Err("a limit is no less than 0".into());
                }
                self.limit(|limits| match kind {
                    Prompt::LimitAccuracy => limits.accuracy = to.map(|n| n / 100.0),
                    Prompt::LimitLatency => limits.latency_ms = to,
                    _ => limits.edge_memory_bytes = to.map(|mb| (mb * 1e6) as usize),
                })
            }
        })
    }
}
