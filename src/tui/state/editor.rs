/*!
The exit classifier's source: text being typed, checked when it rests. Only a source that makes a head
at every point becomes the session's; until then the working heads stay.
*/

use super::State;
use super::document::EditKind;
use super::overlay::Overlay;
use crate::exits::{Classifier, Diagnostic, ExitError, TEMPLATES};
use crate::plan::{Plan, Tier};
use crate::tui::error::FileError;
use crate::tui::message::{Effect, HeadsRequest, Panel, Timer};
use crate::tui::work::HeadFacts;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Style;
use std::sync::Arc;
use tui_textarea::TextArea;

/// The editor and what stands by its source.
#[derive(Debug, Default)]
pub struct Editor {
    pub area: TextArea<'static>,
    /// Keys go into the text.
    pub typing: bool,
    /// Heads of the last good source, one a point.
    pub heads: Arc<Vec<HeadFacts>>,
    /// What is wrong with the text as it stands.
    pub error: Option<Box<ExitError>>,
    /// The text is newer than the last answer.
    pub checking: bool,
    /// The session's classifier, where it is a file.
    pub file_text: Option<Result<String, Arc<FileError>>>,
    /// Why there is nothing to edit.
    pub missing: Option<String>,
    /// A draft found in a journal, until the source it is of is there.
    pub recovered: Option<String>,
    /// The session is saved once the text is checked.
    pub save_when_checked: bool,
    /// Texts that another took the place of as a whole, each with its own history.
    earlier: Vec<TextArea<'static>>,
    later: Vec<TextArea<'static>>,
    generation: u64,
}

impl Editor {
    pub fn text(&self) -> String {
        let mut text = self.area.lines().join("\n");
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text
    }

    /// Opens a text: nothing is before it.
    pub fn set_text(&mut self, text: &str) {
        self.area = area(text);
        self.earlier.clear();
        self.later.clear();
    }

    /// Puts another text in the place of the one there, as one step of the history.
    pub fn replace(&mut self, text: &str) {
        let before = std::mem::replace(&mut self.area, area(text));
        self.earlier.push(before);
        self.later.clear();
    }

    /// One step back; past the beginning of a text, the one before it comes back. Whether there was one.
    pub fn undo(&mut self) -> bool {
        if self.area.undo() {
            return true;
        }
        let Some(before) = self.earlier.pop() else {
            return false;
        };
        let after = std::mem::replace(&mut self.area, before);
        self.later.push(after);
        true
    }

    /// One step forth. Whether there was one.
    pub fn redo(&mut self) -> bool {
        if self.area.redo() {
            return true;
        }
        let Some(after) = self.later.pop() else {
            return false;
        };
        let before = std::mem::replace(&mut self.area, after);
        self.earlier.push(before);
        true
    }

    /// Another session: nothing of the last one's stays.
    pub fn forget(&mut self) {
        self.generation += 1;
        self.heads = Arc::default();
        self.error = None;
        self.checking = false;
        self.typing = false;
        self.recovered = None;
        self.save_when_checked = false;
        self.set_text("");
    }

    /// What the text is to be underlined for: its findings, or else the warnings of the head at a row;
    /// and whether they are findings.
    pub fn marks(&self, row: usize) -> (&[Diagnostic], bool) {
        match &self.error {
            Some(error) => (&error.diagnostics, true),
            None => (self.head_at(row).map_or(&[], |h| &h.warnings), false),
        }
    }

    /// The head at a point, by its row of the layer table; the nearest before it otherwise.
    pub fn head_at(&self, row: usize) -> Option<&HeadFacts> {
        let before = self.heads.iter().rev().find(|h| h.layer <= row);
        before.or(self.heads.first())
    }
}

fn area(text: &str) -> TextArea<'static> {
    let mut area = TextArea::new(text.lines().map(str::to_string).collect());
    area.set_tab_length(4);
    // Styles are the view's; set here is only that there are numbers, and no underlined line.
    area.set_line_number_style(Style::new());
    area.set_cursor_line_style(Style::new());
    area
}

impl State {
    /// The source the session names, as the editor would show it.
    pub fn source_of_session(&self) -> Option<String> {
        let text = match &self.document.session.exits.classifier {
            Classifier::Replica => self.network.as_ref()?.replica.clone().ok()?,
            Classifier::Template(text) => text.clone(),
            Classifier::File(_) => self.editor.file_text.clone()?.ok()?,
            Classifier::OwnExits => self.network.as_ref()?.own.as_ref()?.text.clone(),
        };
        let mut text = text.trim_end().to_string();
        text.push('\n');
        Some(text)
    }

    /// Whether the editor holds a text that the session doesn't.
    pub fn has_draft(&self) -> bool {
        let source = self.source_of_session();
        source.is_some_and(|s| s.trim_end() != self.editor.text().trim_end())
    }

    /// Whether the source in force makes the heads of these hashes at a plan's exits; where either
    /// isn't known, nothing says otherwise.
    pub fn makes(&self, plan: &Plan, hashes: &[String]) -> bool {
        plan.exits.iter().zip(hashes).all(|(exit, hash)| {
            let mut heads = self.editor.heads.iter();
            let head = heads.find(|h| h.layer == exit.layer);
            head.is_none_or(|head| head.hash_on(exit.tier) == hash)
        })
    }

    /// Where neither the network nor the source is here, the heads that a run left stand in.
    pub fn heads_of_results(&mut self) {
        let Some(kept) = &self.results.kept else {
            return;
        };
        if self.editor.missing.is_none() || !self.editor.heads.is_empty() {
            return;
        }
        let mut heads: Vec<HeadFacts> = Vec::new();
        for head in &kept.heads {
            match heads.iter_mut().find(|h| h.layer == head.point.layer) {
                Some(known) if head.tier == Tier::First => known.hash = head.hash.clone(),
                Some(known) => known.others.push((head.tier, head.hash.clone())),
                None => heads.push(HeadFacts {
                    layer: head.point.layer,
                    hash: head.hash.clone(),
                    others: Vec::new(),
                    rendered: head.rendered.clone(),
                    shapes: Vec::new(),
                    params: head.params,
                    macs: head.macs,
                    work: None,
                    warnings: Vec::new(),
                }),
            }
        }
        heads.sort_by_key(|h| h.layer);
        self.editor.heads = Arc::new(heads);
    }

    /// Puts another source of the session into the editor as an edit, so that the editor's own undo
    /// and redo go on from there.
    pub fn reload_source(&mut self) {
        let Some(text) = self.source_of_session() else {
            self.load_source();
            return;
        };
        self.editor.replace(text.trim_end());
        self.editor.error = None;
    }

    /// Puts the session's source into the editor.
    pub fn load_source(&mut self) {
        self.editor.missing = match &self.document.session.exits.classifier {
            Classifier::Replica => {
                let network = self.network.as_ref();
                network.and_then(|n| n.replica.as_ref().err().map(ToString::to_string))
            }
            Classifier::File(_) => match &self.editor.file_text {
                Some(Err(problem)) => Some(problem.to_string()),
                _ => None,
            },
            Classifier::Template(_) => None,
            Classifier::OwnExits => {
                let own = self.network.as_ref().map(|network| network.own.is_some());
                let none = own == Some(false);
                none.then(|| "the network's file brings no exits along".to_owned())
            }
        };
        let source = self.source_of_session();
        self.editor.set_text(source.as_deref().unwrap_or_default());
        self.editor.error = None;
        if source.is_some()
            && let Some(draft) = self.editor.recovered.take()
        {
            self.editor.replace(draft.trim_end());
        }
    }

    /// Asks for heads of the text as it stands.
    pub fn ask_heads(&mut self) -> Vec<Effect> {
        let network = self.network.clone();
        let Some(network) = network.filter(|_| self.editor.missing.is_none()) else {
            self.editor.checking = false;
            return Vec::new();
        };
        let source = self.editor.text();
        self.editor.generation += 1;
        self.editor.checking = true;
        let cursor = self.layers.cursor;
        let first = network.points.iter().rposition(|p| p.layer <= cursor);
        vec![Effect::Heads(HeadsRequest {
            generation: self.editor.generation,
            source,
            settings: Box::new(self.document.session.resolved(&self.document.folder).exits),
            network,
            seed: self.document.session.seed,
            tiers: self.document.session.tier_names(),
            first: first.unwrap_or(0),
        })]
    }

    pub fn got_heads(
        &mut self,
        generation: u64,
        made: Result<Vec<HeadFacts>, Box<ExitError>>,
    ) -> Vec<Effect> {
        if generation != self.editor.generation {
            return Vec::new();
        }
        self.editor.checking = false;
        let mut effects = match made {
            Err(error) => {
                self.editor.error = Some(error);
                Vec::new()
            }
            Ok(heads) => {
                self.editor.error = None;
                self.editor.heads = Arc::new(heads);
                self.explore.stale = true;
                if self.has_draft() {
                    let text = self.editor.text();
                    self.edit(EditKind::Source, |s| {
                        // What the file includes lies beside it still.
                        if let Classifier::File(file) = &s.exits.classifier
                            && s.exits.templates.is_none()
                            && let Some(folder) = file.parent()
                        {
                            s.exits.templates = Some(folder.to_owned());
                        }
                        s.exits.classifier = Classifier::Template(text)
                    })
                } else {
                    self.recompute()
                }
            }
        };
        if std::mem::take(&mut self.editor.save_when_checked) {
            effects.extend(self.save());
        }
        effects
    }

    /// Changes the text; it is checked when it rests.
    pub fn edit_text(
        &mut self,
        change: impl FnOnce(&mut TextArea<'static>) -> bool,
    ) -> Vec<Effect> {
        if !change(&mut self.editor.area) {
            return Vec::new();
        }
        self.editor.later.clear();
        self.text_changed()
    }

    fn text_changed(&mut self) -> Vec<Effect> {
        self.editor.checking = true;
        let check = Effect::Later {
            timer: Timer::Source,
            ms: 250,
        };
        std::iter::once(check).chain(self.journal_soon()).collect()
    }

    fn step_text(&mut self, step: fn(&mut Editor) -> bool) -> Vec<Effect> {
        if step(&mut self.editor) {
            self.text_changed()
        } else {
            Vec::new()
        }
    }

    pub fn typing_key(&mut self, event: KeyEvent) -> Vec<Effect> {
        match (event.code, event.modifiers) {
            (KeyCode::Esc, _) => {
                self.editor.typing = false;
                Vec::new()
            }
            (KeyCode::F(1), _) => {
                self.overlay = Some(Overlay::Help { scroll: 0 });
                Vec::new()
            }
            (KeyCode::Char('s'), KeyModifiers::CONTROL) => self.save(),
            (KeyCode::Char('u'), KeyModifiers::CONTROL) => self.step_text(Editor::undo),
            (KeyCode::Char('r'), KeyModifiers::CONTROL) => self.step_text(Editor::redo),
            (KeyCode::Tab, _) => self.edit_text(|area| area.insert_tab()),
            _ => self.edit_text(|area| area.input(event)),
        }
    }

    pub fn start_typing(&mut self) -> Vec<Effect> {
        self.focus = Panel::Exits;
        self.editor.typing = true;
        Vec::new()
    }

    /// Replaces the text by one that ships, or by the network's own classifier.
    pub fn take_template(&mut self, index: usize) -> Vec<Effect> {
        let text = match TEMPLATES.get(index) {
            Some(template) => template.source.to_string(),
            None => match self.network.as_ref().map(|n| n.replica.clone()) {
                Some(Ok(text)) => text,
                Some(Err(problem)) => {
                    self.complain(problem.to_string());
                    return Vec::new();
                }
                None => return Vec::new(),
            },
        };
        self.editor.replace(text.trim_end());
        self.text_changed()
    }

    /// Where the template picker's entries come from: those that ship, then the replica.
    pub fn template_names() -> Vec<String> {
        let shipped = TEMPLATES.iter().map(|t| {
            let first = t.source.lines().next().unwrap_or("");
            format!("{:<20} {}", t.name, first.trim_start_matches("// "))
        });
        let replica = "replica              the network's own classifier, resized for each point";
        shipped.chain([replica.to_string()]).collect()
    }
}
