/*!
The exit classifier's source: text being typed, checked when it rests. Only a source that makes a head
at every point becomes the session's; until then the working heads stay.
*/

use super::State;
use super::document::EditKind;
use super::overlay::Overlay;
use crate::exits::{Classifier, Diagnostic, ExitError, TEMPLATES};
use crate::plan::Tier;
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

    pub fn set_text(&mut self, text: &str) {
        self.area = TextArea::new(text.lines().map(str::to_string).collect());
        self.area.set_tab_length(4);
        // Styles are the view's; set here is only that there are numbers, and no underlined line.
        self.area.set_line_number_style(Style::new());
        self.area.set_cursor_line_style(Style::new());
    }

    /// Another session: nothing of the last one's stays.
    pub fn forget(&mut self) {
        self.generation += 1;
        self.heads = Arc::default();
        self.error = None;
        self.checking = false;
        self.typing = false;
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

impl State {
    /// The source the session names, as the editor would show it.
    pub fn source_of_session(&self) -> Option<String> {
        let text = match &self.document.session.exits.classifier {
            Classifier::Replica => self.network.as_ref()?.replica.clone().ok()?,
            Classifier::Template(text) => text.clone(),
            Classifier::File(_) => self.editor.file_text.clone()?.ok()?,
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
        let area = &mut self.editor.area;
        area.select_all();
        area.cut();
        area.insert_str(text.trim_end());
        self.editor.error = None;
    }

    /// Puts the session's source into the editor.
    pub fn load_source(&mut self) {
        self.editor.missing = match &self.document.session.exits.classifier {
            Classifier::Replica => {
                let network = self.network.as_ref();
                network.and_then(|n| n.replica.as_ref().err().cloned())
            }
            Classifier::File(_) => match &self.editor.file_text {
                Some(Err(problem)) => Some(problem.to_string()),
                _ => None,
            },
            Classifier::Template(_) => None,
        };
        let text = self.source_of_session().unwrap_or_default();
        self.editor.set_text(&text);
        self.editor.error = None;
    }

    /// Asks for heads of the text as it stands.
    pub fn ask_heads(&mut self) -> Vec<Effect> {
        let Some(network) = self.network.clone() else {
            return Vec::new();
        };
        let source = self.editor.text();
        if source.trim().is_empty() {
            return Vec::new();
        }
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
        match made {
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
        }
    }

    /// Changes the text; it is checked when it rests.
    pub fn edit_text(
        &mut self,
        change: impl FnOnce(&mut TextArea<'static>) -> bool,
    ) -> Vec<Effect> {
        if !change(&mut self.editor.area) {
            return Vec::new();
        }
        self.editor.checking = true;
        vec![Effect::Later {
            timer: Timer::Source,
            ms: 250,
        }]
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
                    self.complain(problem);
                    return Vec::new();
                }
                None => return Vec::new(),
            },
        };
        // As an edit, so that the editor's own undo takes it back.
        self.edit_text(|area| {
            area.select_all();
            area.cut();
            area.insert_str(text.trim_end());
            true
        })
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
