/*! The session being edited: undo and redo, what is saved, where unsaved edits are kept. */

use super::State;
use crate::exits::Classifier;
use crate::plan::Tier;
use crate::session::Session;
use crate::tui::message::{Content, Effect, Opened, Over, Recovered, Timer};
use crate::tui::work::Results;
use std::path::PathBuf;
use std::sync::Arc;

/// More than anybody steps back.
const MOST_UNDOS: usize = 200;

/// Edits of one kind in a row are undone together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EditKind {
    Threshold,
    Share,
    Source,
    /// Never together with the one before.
    Single,
}

/// The session and its history.
#[derive(Debug, Clone)]
pub struct Document {
    pub session: Session,
    /// `None` for the one that ships.
    pub file: Option<PathBuf>,
    /// Where its paths start.
    pub folder: PathBuf,
    pub journal: PathBuf,
    /// What the file held when it was last read or written.
    content: Option<Content>,
    saved: Session,
    undo: Vec<Session>,
    redo: Vec<Session>,
    last: EditKind,
}

impl Document {
    pub fn new(session: Session) -> Document {
        Document {
            saved: session.clone(),
            session,
            file: None,
            folder: PathBuf::new(),
            journal: PathBuf::new(),
            content: None,
            undo: Vec::new(),
            redo: Vec::new(),
            last: EditKind::Single,
        }
    }

    pub fn opened(opened: Opened) -> Document {
        Document {
            file: opened.file,
            folder: opened.folder,
            journal: opened.journal,
            content: opened.content,
            ..Document::new(opened.session)
        }
    }

    /// What it is called.
    pub fn name(&self) -> String {
        let file = self.file.as_ref().and_then(|f| f.file_stem());
        let file = file.map(|f| f.to_string_lossy().into_owned());
        let name = self.session.name.clone().or(file);
        name.unwrap_or_else(|| "unnamed".into())
    }

    pub fn is_unsaved(&self) -> bool {
        self.session != self.saved
    }

    /// The session as its file has it.
    pub fn as_saved(&self) -> &Session {
        &self.saved
    }

    /// What was written, results aside, is saved now.
    pub fn saved(&mut self, file: PathBuf, mut session: Session, content: Content) {
        session.results = None;
        self.file = Some(file);
        self.content = Some(content);
        self.saved = session;
        self.last = EditKind::Single;
    }

    /// What the session's file may hold when it is saved.
    pub fn over(&self) -> Over {
        self.content.map_or(Over::Anything, Over::Known)
    }

    /// How many steps can be taken back and forth.
    pub fn steps(&self) -> (usize, usize) {
        (self.undo.len(), self.redo.len())
    }

    fn remember(&mut self, kind: EditKind) {
        let together = kind != EditKind::Single && kind == self.last && !self.undo.is_empty();
        if !together {
            self.undo.push(self.session.clone());
            if self.undo.len() > MOST_UNDOS {
                self.undo.remove(0);
            }
        }
        self.redo.clear();
        self.last = kind;
    }
}

impl State {
    /// Changes the session; every number follows in the same frame.
    pub fn edit(&mut self, kind: EditKind, change: impl FnOnce(&mut Session)) -> Vec<Effect> {
        let mut next = self.document.session.clone();
        change(&mut next);
        if next == self.document.session {
            return Vec::new();
        }
        self.document.remember(kind);
        let before = std::mem::replace(&mut self.document.session, next);
        self.changed(&before)
    }

    /// What follows from another session than before in the place of the open one.
    fn changed(&mut self, before: &Session) -> Vec<Effect> {
        let mut effects = self.leave_ground(before);
        effects.extend(self.recompute());
        if self.asks_otherwise() {
            effects.extend(self.explore_later());
        }
        effects.extend(self.journal_soon());
        effects
    }

    /// Whether anything would be lost: edits of the session, or a draft of the exit source.
    pub fn is_unsaved(&self) -> bool {
        self.document.is_unsaved() || self.has_draft()
    }

    /// The exit source as it is typed, where the session doesn't hold it.
    pub fn draft(&self) -> Option<String> {
        self.has_draft().then(|| self.editor.text())
    }

    /// Keeps what is unsaved.
    pub fn journal(&self) -> Effect {
        Effect::Journal {
            session: Box::new(self.document.session.clone()),
            draft: self.draft(),
            file: self.document.journal.clone(),
        }
    }

    /// Keeps what is unsaved in a moment. More edits don't put that off, or whoever types without a
    /// rest would lose it all.
    pub fn journal_soon(&mut self) -> Option<Effect> {
        if std::mem::replace(&mut self.journal_due, true) {
            return None;
        }
        Some(Effect::Later {
            timer: Timer::Journal,
            ms: 800,
        })
    }

    pub fn undo(&mut self) -> Vec<Effect> {
        let Some(before) = self.document.undo.pop() else {
            self.say("nothing to undo");
            return Vec::new();
        };
        let now = std::mem::replace(&mut self.document.session, before);
        self.document.redo.push(now.clone());
        self.stepped(&now)
    }

    pub fn redo(&mut self) -> Vec<Effect> {
        let Some(after) = self.document.redo.pop() else {
            self.say("nothing to redo");
            return Vec::new();
        };
        let now = std::mem::replace(&mut self.document.session, after);
        self.document.undo.push(now.clone());
        self.stepped(&now)
    }

    fn stepped(&mut self, before: &Session) -> Vec<Effect> {
        self.document.last = EditKind::Single;
        let mut effects = self.changed(before);
        effects.extend(self.follow_source());
        effects
    }

    /// Shows the source that the session names, where the editor has another.
    pub fn follow_source(&mut self) -> Vec<Effect> {
        if self.network.is_none() || self.source_of_session() == Some(self.editor.text()) {
            return Vec::new();
        }
        self.reload_source();
        self.ask_heads()
    }

    /// Lets go of results that are of another network, other images or other devices than the session
    /// has now, and asks for those that are of these.
    fn leave_ground(&mut self, before: &Session) -> Vec<Effect> {
        let now = &self.document.session;
        let file = now.exits.classifier != before.exits.classifier;
        let file = file && matches!(now.exits.classifier, Classifier::File(_));
        let stays = before.shares_ground(now);
        if stays && !file {
            return Vec::new();
        }
        let network = now.model != before.model;
        let mut session = now.clone();
        session.name = Some(self.document.name());
        let reload = Effect::Reload {
            session: Box::new(session),
            folder: self.document.folder.clone(),
            network,
        };
        if !stays {
            let results = (*self.results).clone();
            let kept = if before.shares_tables(now) {
                results.on_other_devices(before, now)
            } else {
                Results::default()
            };
            for (tier, shipped) in Tier::ALL.into_iter().zip(&mut self.shipped.profiles) {
                *shipped &= kept.profile(tier).is_some();
            }
            self.shipped.measured = false;
            self.results = Arc::new(kept);
        }
        if network {
            self.network = None;
            self.network_problem = None;
        }
        vec![reload]
    }

    /// Takes over edits found in a journal, undoable.
    pub fn recover(&mut self, recovered: Recovered) -> Vec<Effect> {
        let mut effects = self.edit(EditKind::Single, |s| *s = recovered.session);
        self.editor.recovered = recovered.draft;
        self.load_source();
        effects.extend(self.ask_heads());
        self.say("unsaved edits are back; w saves, u undoes");
        effects
    }
}
