/*! Keys while something lies over the panels, and what an answer does. */

use crate::tui::command::spoken::{self, Entry};
use crate::tui::error::AnswerError;
use crate::tui::message::{Effect, Over, Panel, Source};
use crate::tui::state::State;
use crate::tui::state::finder::Offer;
use crate::tui::state::goal::{self, GoalForm};
use crate::tui::state::overlay::{Confirmed, Overlay, Prompt};
use crate::tui::state::settings::ValueForm;
use crate::tui::state::typed::Typed;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::path::{Path, PathBuf};

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

/// What became of an overlay, and what is asked of the world.
enum Reply {
    Closed(Vec<Effect>),
    Stays(Vec<Effect>),
}

impl From<Option<Vec<Effect>>> for Reply {
    /// An answer's effects close an overlay.
    fn from(answer: Option<Vec<Effect>>) -> Reply {
        answer.map_or(Reply::Stays(Vec::new()), Reply::Closed)
    }
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
    pub(super) fn overlay_key(&mut self, event: KeyEvent) -> Vec<Effect> {
        let Some(mut overlay) = self.overlay.take() else {
            return Vec::new();
        };
        let control_c =
            event.code == KeyCode::Char('c') && event.modifiers == KeyModifiers::CONTROL;
        if event.code == KeyCode::Esc || control_c {
            self.closed(&overlay);
            return Vec::new();
        }
        let reply = match &mut overlay {
            Overlay::Help { scroll } | Overlay::Page { scroll, .. } => {
                if matches!(event.code, KeyCode::Char('q' | '?') | KeyCode::Enter) {
                    return Vec::new();
                }
                *scroll = step(*scroll, arrow(event.code), 10_000);
                Reply::Stays(Vec::new())
            }
            Overlay::Palette {
                input,
                selected,
                error,
            } => self.palette_key(event, input, selected, error),
            Overlay::Prompt { kind, input, error } => self.prompt_key(event, *kind, input, error),
            Overlay::Picker { input, selected } => self.picker_key(event, input, selected),
            Overlay::Value(form) => self.value_key(event, form).into(),
            Overlay::Templates { selected } => {
                if event.code == KeyCode::Enter {
                    return self.take_template(*selected);
                }
                *selected = step(*selected, arrow(event.code), State::template_names().len());
                Reply::Stays(Vec::new())
            }
            Overlay::Goal(form) => self.goal_key(event, form).into(),
            Overlay::Leaving { .. } => self.leaving_key(event).into(),
            Overlay::Changed { file } => self.changed_key(event, file).into(),
            Overlay::Confirm { then, .. } => self.confirm_key(event, then).into(),
        };
        match reply {
            Reply::Closed(effects) => effects,
            Reply::Stays(effects) => {
                // What isn't over stays; a command from the palette may have put another in its place.
                self.overlay.get_or_insert(overlay);
                effects
            }
        }
    }

    /// What giving up an overlay means besides its end.
    fn closed(&mut self, overlay: &Overlay) {
        match overlay {
            Overlay::Prompt {
                kind: Prompt::Filter,
                ..
            } => self.layers.filter.clear(),
            Overlay::Confirm {
                then: Confirmed::Recover(_),
                ..
            } => self.say("left as they are; the next edit writes over them"),
            _ => {}
        }
    }

    /// What a key does when runs are left behind; gives effects where it answers.
    fn leaving_key(&mut self, event: KeyEvent) -> Option<Vec<Effect>> {
        match event.code {
            KeyCode::Char('f') => Some(self.leave_running()),
            KeyCode::Char('s') => Some(self.leave()),
            KeyCode::Char('n' | 'q') => Some(Vec::new()),
            _ => None,
        }
    }

    /// What a key does where `file` was changed by somebody else; gives effects where it answers.
    fn changed_key(&mut self, event: KeyEvent, file: &Path) -> Option<Vec<Effect>> {
        match event.code {
            KeyCode::Char('o') => Some(vec![self.save_to(file.to_path_buf(), Over::Anything)]),
            KeyCode::Char('a') => {
                self.overlay = Some(Overlay::Prompt {
                    kind: Prompt::SaveAs,
                    input: Typed::offer(file.display().to_string()),
                    error: None,
                });
                Some(Vec::new())
            }
            // What is typed here is offered once theirs is open.
            KeyCode::Char('t') => {
                let mut effects = vec![self.journal()];
                effects.extend(self.open(Source::File(file.to_path_buf())));
                Some(effects)
            }
            KeyCode::Char('n' | 'q') => Some(Vec::new()),
            _ => None,
        }
    }

    /// What a key does at a question; gives effects where it answers.
    fn confirm_key(&mut self, event: KeyEvent, then: &Confirmed) -> Option<Vec<Effect>> {
        match event.code {
            KeyCode::Char('y' | 'Y') => Some(self.confirmed(then.clone())),
            KeyCode::Char('n' | 'N' | 'q') => Some(Vec::new()),
            _ => None,
        }
    }

    /// What a key does in the palette.
    fn palette_key(
        &mut self,
        event: KeyEvent,
        input: &mut Typed,
        selected: &mut usize,
        error: &mut Option<String>,
    ) -> Reply {
        let found = spoken::entries(self, input.text());
        let chosen = found.get(*selected);
        let copies = KeyEvent::new(KeyCode::Char('y'), KeyModifiers::CONTROL);
        match (event.code, chosen) {
            (KeyCode::Enter, None) => return Reply::Closed(Vec::new()),
            (KeyCode::Enter, Some(Entry::Command(command))) => {
                // One of another panel is run there.
                let panel = command.elsewhere(self);
                let mut effects = panel.map_or(Vec::new(), |p| self.show(p));
                effects.extend(self.dispatch(command));
                return Reply::Closed(effects);
            }
            (KeyCode::Enter, Some(Entry::Said(takes, argument))) => {
                match self.say_with(*takes, argument) {
                    Ok(effects) => return Reply::Closed(effects),
                    Err(problem) => *error = Some(problem.to_string()),
                }
                return Reply::Stays(Vec::new());
            }
            (KeyCode::Enter | KeyCode::Tab, Some(entry)) => {
                // The first of several arguments is the one that is typed already.
                let next = found.get(1).filter(|_| *selected == 0);
                let entry = match (entry, next) {
                    (Entry::Said(..), Some(next @ Entry::Said(..))) => next,
                    _ => entry,
                };
                *input = Typed::of(self.longer(input.text()).unwrap_or_else(|| entry.line()));
            }
            (KeyCode::Up | KeyCode::Down | KeyCode::PageUp | KeyCode::PageDown, _) => {
                *selected = step(*selected, event.code, found.len());
                return Reply::Stays(Vec::new());
            }
            (code, entry) if (code, event.modifiers) == (copies.code, copies.modifiers) => {
                let line = entry.and_then(|entry| entry.command_line(self));
                return Reply::Stays(line.into_iter().map(Effect::Clip).collect());
            }
            _ => input.key(event),
        }
        (*selected, *error) = (0, None);
        let path = spoken::parse(input.text()).filter(|(takes, _)| takes.is_path());
        let path = path.map(|(_, path)| path.to_owned());
        Reply::Stays(path.map_or(Vec::new(), |path| self.look_into(&path)))
    }

    /// A line whose argument is a path, with that completed.
    fn longer(&self, line: &str) -> Option<String> {
        let (takes, path) = spoken::parse(line)?;
        let longer = self.completed(path).filter(|_| takes.is_path())?;
        Some(format!("{}{longer}", &line[..line.len() - path.len()]))
    }

    /// What a key does in a prompt, whose input is what was offered until a letter is typed.
    fn prompt_key(
        &mut self,
        event: KeyEvent,
        kind: Prompt,
        input: &mut Typed,
        error: &mut Option<String>,
    ) -> Reply {
        match event.code {
            KeyCode::Enter => {
                match self.answer(kind, input.text()) {
                    Ok(effects) => return Reply::Closed(effects),
                    Err(problem) => *error = Some(problem.to_string()),
                }
                return Reply::Stays(Vec::new());
            }
            KeyCode::Tab if kind.is_path() => {
                if let Some(longer) = self.completed(input.text()) {
                    *input = Typed::of(longer);
                }
            }
            _ => input.key(event),
        }
        *error = None;
        if kind == Prompt::Filter {
            self.layers.filter = input.text().to_owned();
        }
        Reply::Stays(match kind.is_path() {
            true => self.look_into(input.text()),
            false => Vec::new(),
        })
    }

    /// What a key does where a session is looked for.
    fn picker_key(&mut self, event: KeyEvent, input: &mut Typed, selected: &mut usize) -> Reply {
        match event.code {
            KeyCode::Enter => {
                if let Some(source) = self.chosen(input.text(), *selected) {
                    return Reply::Closed(self.ask_open(source));
                }
                // A folder is gone into.
                if let Some(Offer::Path(path)) = self.offers(input.text()).get(*selected) {
                    *input = Typed::of(path.clone());
                }
            }
            KeyCode::Up | KeyCode::Down | KeyCode::PageUp | KeyCode::PageDown => {
                let count = self.offers(input.text()).len();
                *selected = step(*selected, event.code, count);
                return Reply::Stays(Vec::new());
            }
            KeyCode::Tab => match self.offers(input.text()).get(*selected) {
                Some(Offer::Path(path)) => {
                    let longer = self.completed(input.text());
                    *input = Typed::of(longer.unwrap_or_else(|| path.clone()));
                }
                Some(Offer::Session(file, _)) => {
                    *input = Typed::of(file.display().to_string());
                }
                _ => {}
            },
            _ => input.key(event),
        }
        *selected = 0;
        Reply::Stays(self.look_into(input.text()))
    }

    /// What a key does where a value is typed; gives effects where it closes it.
    fn value_key(&mut self, event: KeyEvent, form: &mut ValueForm) -> Option<Vec<Effect>> {
        if event.code == KeyCode::Enter {
            return self.take_value(form);
        }
        form.input.key(event);
        form.error = None;
        None
    }

    /// What a key does in the goal's form; gives effects where it closes it.
    fn goal_key(&mut self, event: KeyEvent, form: &mut GoalForm) -> Option<Vec<Effect>> {
        match event.code {
            KeyCode::Enter => return self.take_goal(form),
            KeyCode::Up | KeyCode::BackTab => {
                form.selected = form.selected.saturating_sub(1);
                form.offered = true;
            }
            KeyCode::Down | KeyCode::Tab => {
                form.selected = (form.selected + 1).min(GoalForm::ROWS - 1);
                form.offered = true;
            }
            KeyCode::Left | KeyCode::Right | KeyCode::Char(' ') if form.selected == 0 => {
                form.turn(event.code != KeyCode::Left);
            }
            code => {
                let letter = matches!(code, KeyCode::Char(_));
                let replaced = std::mem::take(&mut form.offered) && letter;
                if let Some(input) = form.input() {
                    if replaced {
                        input.clear();
                    }
                    typed(input, event);
                    form.error = None;
                }
            }
        }
        None
    }

    pub fn ask_open(&mut self, source: Source) -> Vec<Effect> {
        if !self.is_unsaved() {
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
            Confirmed::Recover(recovered) => self.recover(*recovered),
            Confirmed::Open(source) => self.open(source),
            Confirmed::Overwrite(file) => vec![self.save_to(file, Over::Anything)],
            Confirmed::Export(file) => match self.export_to(file, true) {
                Ok(effect) => vec![effect],
                Err(problem) => {
                    self.complain(problem.to_string());
                    Vec::new()
                }
            },
        }
    }

    /// Takes a prompt's answer.
    pub fn answer(&mut self, kind: Prompt, input: &str) -> Result<Vec<Effect>, AnswerError> {
        let number = || {
            let text = input.trim().trim_end_matches(['%', ' ']);
            text.parse::<f64>()
                .map_err(|_| AnswerError::Number(input.to_owned()))
        };
        // Of 0.91 nobody means 0.91 %, unless they write that.
        let share = || {
            let plain = !input.contains('%');
            number().map(|n| if plain && n <= 1.0 { n } else { n / 100.0 })
        };
        Ok(match kind {
            Prompt::Filter => Vec::new(),
            Prompt::Search => {
                self.focus = Panel::Exits;
                self.editor
                    .area
                    .set_search_pattern(input)
                    .map_err(|e| AnswerError::Pattern(e.to_string()))?;
                if !self.editor.area.search_forward(true) {
                    self.say(format!("`{input}` is not in the source"));
                }
                Vec::new()
            }
            Prompt::SaveAs => {
                let file = PathBuf::from(input.trim());
                if file.as_os_str().is_empty() {
                    return Err(AnswerError::NoName);
                }
                vec![self.save_to(file, Over::Nothing)]
            }
            Prompt::Export => {
                vec![self.export_to(input.trim().into(), false)?]
            }
            Prompt::Accuracy => {
                let accuracy = share()?;
                if !(0.0..=1.0).contains(&accuracy) {
                    return Err(AnswerError::Accuracy);
                }
                self.snap_accuracy(accuracy)
            }
            Prompt::Latency => {
                let ms = number()?;
                self.snap_latency(ms)
            }
            Prompt::LimitAccuracy
            | Prompt::LimitLatency
            | Prompt::LimitMemory
            | Prompt::LimitCost
            | Prompt::LimitEnergy => {
                let to = match (input.trim().is_empty(), kind) {
                    (true, _) => None,
                    (false, Prompt::LimitAccuracy) => Some(share()?),
                    (false, Prompt::LimitMemory) => Some(goal::edge_memory(input)?),
                    (false, _) => Some(number()?),
                };
                if to.is_some_and(|n| n.is_nan() || n < 0.0) {
                    return Err(AnswerError::Limit(input.into(), "a number from 0 up"));
                }
                self.limit(|limits| match kind {
                    Prompt::LimitAccuracy => limits.accuracy = to,
                    Prompt::LimitLatency => limits.latency_ms = to,
                    Prompt::LimitCost => limits.cost_per_million = to,
                    Prompt::LimitEnergy => limits.energy_mj = to,
                    _ => limits.edge_memory_bytes = to.map(|bytes| bytes as usize),
                })
            }
        })
    }
}
