/*!
The state of the workbench: everything on screen, and what can be done to it. No clock, no file, no
terminal in here, and no keys: what a message changes is `update`'s to say.
*/

pub mod document;
pub mod editor;
pub mod evidence;
pub mod explore;
pub mod export;
pub mod finder;
pub mod goal;
pub mod layers;
pub mod overlay;
pub mod plan;
pub mod playback;
mod run;
pub mod runs;
pub mod settings;
pub mod tuning;
pub mod typed;

use super::error::NetworkError;
use super::keymap::Keymap;
use super::message::{Effect, Panel, Severity, Shipped, Source};
use super::theme::Theme;
use super::work::{NetworkFacts, Results};
use crate::event::TargetId;
use crate::predict::Evidence;
use crate::session::{Session, Target};
use document::Document;
use editor::Editor;
use evidence::EvidencePage;
use explore::Explore;
use finder::{Folder, Found};
use layers::Layers;
use overlay::{Confirmed, Overlay};
use plan::{Derived, Doubts};
use playback::Playback;
use runs::Run;
use settings::SettingsPage;
use std::collections::HashMap;
use std::sync::Arc;
use tuning::Tuning;

/// Everything that the screen shows and keys change.
pub struct State {
    pub size: (u16, u16),
    pub focus: Panel,
    /// The panel in focus fills a wide screen too.
    pub zoom: bool,
    pub theme: Theme,
    pub theme_name: String,
    pub ascii: bool,
    /// Pictures can be shown: the terminal has colours and blocks.
    pub pictures: bool,
    pub keymap: Keymap,
    pub document: Document,
    pub network: Option<Arc<NetworkFacts>>,
    /// Why there is no network.
    pub network_problem: Option<Arc<NetworkError>>,
    pub results: Arc<Results>,
    /// What predictions rest on, made of network, results and heads; absent without a network.
    pub evidence: Option<Arc<Evidence>>,
    pub derived: Derived,
    /// Signs that network and images don't belong together.
    pub doubts: Doubts,
    pub layers: Layers,
    pub editor: Editor,
    pub tuning: Tuning,
    pub explore: Explore,
    pub evidence_page: EvidencePage,
    /// The mouse is ours; otherwise the terminal's own selection works.
    pub mouse: bool,
    pub runs: Vec<Run>,
    /// The run whose panels are shown.
    pub run: usize,
    pub settings: SettingsPage,
    /// Sessions that can be opened, as they were last looked for.
    pub found: Found,
    /// The folder of a path that is typed.
    pub folder: Folder,
    pub overlay: Option<Overlay>,
    pub notice: Option<(Severity, String)>,
    pub playback: Option<Playback>,
    /// How fast the session's last run is to be played once it is open.
    pub playback_speed: Option<f64>,
    /// Which of edge profile, cloud profile and measured outcome ship with the program.
    pub shipped: Shipped,
    /// Whether each agent of the session took a connection when it was last seen to.
    pub reached: HashMap<TargetId, bool>,
    /// Sessions opened so far.
    pub opened: usize,
    /// The journal's timer runs.
    pub journal_due: bool,
    /// Set when the terminal is gone: nothing is drawn any more.
    pub gone: bool,
}

impl State {
    pub fn new(session: Session, theme: Theme, keymap: Keymap) -> State {
        State {
            size: (80, 24),
            focus: Panel::Layers,
            zoom: false,
            theme,
            theme_name: "default".into(),
            ascii: false,
            pictures: true,
            keymap,
            document: Document::new(session),
            network: None,
            network_problem: None,
            results: Arc::default(),
            evidence: None,
            derived: Derived::default(),
            doubts: Doubts::default(),
            layers: Layers::default(),
            editor: Editor::default(),
            tuning: Tuning::default(),
            explore: Explore::default(),
            evidence_page: EvidencePage::default(),
            mouse: false,
            runs: Vec::new(),
            run: 0,
            settings: SettingsPage::default(),
            found: Found::default(),
            folder: Folder::default(),
            overlay: None,
            notice: None,
            playback: None,
            playback_speed: None,
            shipped: Shipped::default(),
            reached: HashMap::new(),
            opened: 0,
            journal_due: false,
            gone: false,
        }
    }

    /// Whether everything that belongs together fits on one screen.
    pub fn is_wide(&self) -> bool {
        self.size.0 >= 120 && self.size.1 >= 40
    }

    pub fn say(&mut self, text: impl Into<String>) {
        self.notice = Some((Severity::Info, text.into()));
    }

    pub fn complain(&mut self, text: impl Into<String>) {
        self.notice = Some((Severity::Problem, text.into()));
    }

    /// To a panel; a search that is out of date is made when it is looked at.
    pub fn show(&mut self, panel: Panel) -> Vec<Effect> {
        self.focus = panel;
        match panel {
            Panel::Explore => self.ask_explore(),
            Panel::Evidence => self.ask_evidence(),
            _ => Vec::new(),
        }
    }

    /// Ends, or asks first where something would be lost or left running.
    pub fn quit(&mut self) -> Vec<Effect> {
        let running = self.runs.iter().filter(|r| r.is_ours()).count();
        let unsaved = self.is_unsaved();
        self.overlay = Some(match (unsaved, running) {
            (false, 0) => return self.leave(),
            (true, 0) => Overlay::Confirm {
                question: "The session has unsaved edits. Quit without saving?".into(),
                then: Confirmed::Quit,
            },
            (unsaved, running) => Overlay::Leaving { unsaved, running },
        });
        Vec::new()
    }

    pub fn leave(&self) -> Vec<Effect> {
        vec![Effect::Forget(self.document.journal.clone()), Effect::Quit]
    }

    /// Asks whether the session's agents take connections.
    pub fn see_who_is_there(&self) -> Vec<Effect> {
        let session = &self.document.session;
        let mut agents = Vec::new();
        for part in session.chain() {
            for (index, target) in session.targets(part).iter().enumerate() {
                if let Target::Agent { url, .. } | Target::V2 { url, .. } = target {
                    agents.push((TargetId { part, index }, url.clone()));
                }
            }
        }
        if agents.is_empty() {
            return Vec::new();
        }
        vec![Effect::Reach(agents)]
    }

    /// Ends while runs go on: what is unsaved is kept, and offered when the session is opened again.
    pub fn leave_running(&self) -> Vec<Effect> {
        let mut effects = self.let_finish();
        if self.is_unsaved() {
            effects.extend([self.journal(), Effect::Quit]);
        } else {
            effects.extend(self.leave());
        }
        effects
    }

    /// What runs here goes on in processes of its own.
    pub fn let_finish(&self) -> Vec<Effect> {
        let ours = self.runs.iter().filter(|r| r.is_ours());
        ours.map(|r| Effect::Leave(r.id)).collect()
    }

    pub fn open(&mut self, source: Source) -> Vec<Effect> {
        self.overlay = None;
        self.say(match &source {
            Source::Demo => "opening the demo".to_string(),
            Source::File(file) => format!("opening {}", file.display()),
        });
        vec![Effect::Open(source)]
    }
}
