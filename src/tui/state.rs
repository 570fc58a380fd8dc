/*!
The state of the workbench and its pure update: a message goes in, effects come out, nothing else
happens. No clock, no file, no terminal in here.
*/

mod arrivals;
pub mod document;
pub mod editor;
pub mod explore;
pub mod export;
pub mod layers;
mod message;
pub mod overlay;
pub mod plan;
pub mod playback;
mod run;
pub mod runs;
pub mod tuning;

pub use message::{Hit, Msg, Panel, Severity, Shipped};

use super::command::Keymap;
use super::effects::{Effect, Source, Timer};
use super::theme::Theme;
use super::work::{Network, Results};
use crate::predict::Evidence;
use crate::session::Session;
use crossterm::event::{KeyCode, KeyEvent};
use document::Document;
use editor::Editor;
use explore::Explore;
use layers::Layers;
use overlay::{Confirmed, Overlay};
use plan::Derived;
use playback::Playback;
use runs::Run;
use std::sync::Arc;
use tuning::Tuning;

/// Everything on screen.
pub struct State {
    pub size: (u16, u16),
    pub focus: Panel,
    /// The panel in focus fills a wide screen too.
    pub zoom: bool,
    pub theme: Theme,
    pub theme_name: String,
    pub ascii: bool,
    pub keymap: Keymap,
    pub document: Document,
    pub network: Option<Arc<Network>>,
    /// Why there is no network.
    pub network_problem: Option<String>,
    pub results: Arc<Results>,
    /// What predictions rest on, made of network, results and heads; absent without a network.
    pub evidence: Option<Arc<Evidence>>,
    pub derived: Derived,
    pub layers: Layers,
    pub editor: Editor,
    pub tuning: Tuning,
    pub explore: Explore,
    /// The mouse is ours; otherwise the terminal's own selection works.
    pub mouse: bool,
    pub runs: Vec<Run>,
    /// The run whose panels are shown.
    pub run: usize,
    /// The run it is compared with.
    pub other_run: Option<usize>,
    pub overlay: Option<Overlay>,
    pub notice: Option<(Severity, String)>,
    pub playback: Option<Playback>,
    /// How fast the session's last run is to be played once it is open.
    pub replay_at: Option<f64>,
    /// Which of edge profile, cloud profile and measured outcome ship with the program.
    pub shipped: Shipped,
    /// Sessions opened so far.
    pub opened: usize,
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
            keymap,
            document: Document::new(session),
            network: None,
            network_problem: None,
            results: Arc::default(),
            evidence: None,
            derived: Derived::default(),
            layers: Layers::default(),
            editor: Editor::default(),
            tuning: Tuning::default(),
            explore: Explore::default(),
            mouse: false,
            runs: Vec::new(),
            run: 0,
            other_run: None,
            overlay: None,
            notice: None,
            playback: None,
            replay_at: None,
            shipped: Shipped::default(),
            opened: 0,
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

    /// Folds one message in.
    pub fn update(&mut self, msg: Msg) -> Vec<Effect> {
        match msg {
            Msg::Key(key) => return self.key(key),
            Msg::Paste(text) => return self.paste(&text),
            Msg::Resize(columns, rows) => self.size = (columns, rows),
            Msg::Timer(timer) => return self.timer(timer),
            Msg::HangUp => {
                self.gone = true;
                let mut effects = Vec::new();
                if self.document.is_unsaved() {
                    effects.push(self.document.journal());
                }
                effects.extend(self.let_finish());
                effects.push(Effect::Quit);
                return effects;
            }
            Msg::Suspend => return vec![Effect::Suspend],
            Msg::Resume => {}
            Msg::Opened(opened) => return self.opened(*opened),
            Msg::Network(Ok(network)) => return self.got_network(*network),
            Msg::Network(Err(problem)) => {
                self.network = None;
                self.network_problem = Some(problem.clone());
                self.complain(problem);
            }
            Msg::Kept(kept) => {
                let mut effects = self.got_results(*kept);
                self.record();
                effects.extend(self.play_if_asked());
                return effects;
            }
            Msg::Shipped(kept) => {
                let mut effects = self.got_results(*kept);
                self.shipped = Shipped {
                    edge: true,
                    cloud: true,
                    measured: true,
                };
                self.record();
                if self.notice.is_none() {
                    let key = |name| self.keymap.first(name);
                    let words = format!(
                        "{} and {} move the split, ←/→ the threshold, {} runs it on two agents; {}: all keys",
                        key("split-back"),
                        key("split-forward"),
                        key("run"),
                        key("help")
                    );
                    self.say(words);
                }
                // A recorded run is looked at; the machine is left alone.
                if self.replay_at.is_none() {
                    effects.extend(self.profile_in_background());
                }
                effects.extend(self.play_if_asked());
                return effects;
            }
            Msg::Going(going) => return self.join(&going),
            Msg::Sessions(items) => {
                if let Some(Overlay::Picker { items: shown, .. }) = &mut self.overlay {
                    *shown = items;
                }
            }
            Msg::Saved(file, session) => {
                self.say(format!("saved to {}", file.display()));
                self.document.saved(file, *session);
            }
            Msg::Exists(file) => {
                self.overlay = Some(Overlay::Confirm {
                    question: format!("{} is there already. Write over it?", file.display()),
                    then: Confirmed::Overwrite(file),
                });
            }
            Msg::Said(text) => self.say(text),
            Msg::Failed(text) => self.complain(text),
            Msg::Heads(generation, made) => return self.got_heads(generation, made),
            Msg::Curves(generation, curves) => self.tuning.got(generation, curves),
            Msg::Explored(generation, found) => self.explore.got(generation, found),
            // Only the views know what is where; what was written is the loop's.
            Msg::Mouse(_) | Msg::Written(_) => {}
            Msg::Hit(hit) => return self.hit(hit),
            Msg::Run(id, at, event) => return self.run_event(id, at, *event),
            Msg::RunEnded(id, at, stopped, ended) => return self.run_ended(id, at, stopped, ended),
        }
        Vec::new()
    }

    fn hit(&mut self, hit: Hit) -> Vec<Effect> {
        if self.overlay.is_some() || self.editor.typing {
            return Vec::new();
        }
        self.notice = None;
        match hit {
            Hit::Panel(panel) => return self.show(panel),
            Hit::Layer(row) => {
                self.focus = Panel::Layers;
                self.layers.cursor = row;
            }
            Hit::Threshold(to) => {
                self.focus = Panel::Threshold;
                return self.set_threshold(to);
            }
            Hit::Explored(row) => {
                self.explore.selected = row;
                self.select_explored(0);
            }
            Hit::Wheel(panel, down) => {
                let by = if down { 1 } else { -1 };
                match panel {
                    Panel::Layers | Panel::Plan | Panel::Exits => self.move_cursor(by),
                    Panel::Runs => self.select_run(by),
                    Panel::Threshold => return self.move_threshold(by as f64),
                    Panel::Explore => self.select_explored(by),
                    Panel::Session => {}
                }
            }
        }
        Vec::new()
    }

    /// To a panel; a search that is out of date is made when it is looked at.
    pub fn show(&mut self, panel: Panel) -> Vec<Effect> {
        self.focus = panel;
        match panel {
            Panel::Explore => self.ask_explore(),
            _ => Vec::new(),
        }
    }

    fn timer(&mut self, timer: Timer) -> Vec<Effect> {
        match timer {
            Timer::Source => self.ask_heads(),
            Timer::Journal if self.document.is_unsaved() => vec![self.document.journal()],
            Timer::Journal => vec![Effect::Forget(self.document.journal.clone())],
            Timer::Curves => self.ask_curves(),
            Timer::Playback => self.play_on(),
            Timer::Explore => self.ask_explore(),
        }
    }

    fn paste(&mut self, text: &str) -> Vec<Effect> {
        if let Some(overlay) = &mut self.overlay {
            overlay.paste(text);
            return Vec::new();
        }
        if self.editor.typing {
            return self.edit_text(|area| area.insert_str(text));
        }
        Vec::new()
    }

    fn key(&mut self, event: KeyEvent) -> Vec<Effect> {
        self.notice = None;
        if self.overlay.is_some() {
            return self.overlay_key(event);
        }
        if self.editor.typing {
            return self.typing_key(event);
        }
        let key = event.into();
        match self.keymap.find(key, self) {
            Some(command) => {
                let command = *command;
                self.dispatch(&command)
            }
            None if matches!(event.code, KeyCode::Esc) => {
                self.layers.filter.clear();
                self.zoom = false;
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    /// Runs a command, or says why it can't be run now.
    pub fn dispatch(&mut self, command: &super::command::Command) -> Vec<Effect> {
        if let Err(why) = (command.enabled)(self) {
            self.complain(why);
            return Vec::new();
        }
        (command.run)(self)
    }

    /// Ends, or asks first where something would be lost or left running.
    pub fn quit(&mut self) -> Vec<Effect> {
        let running = self.runs.iter().filter(|r| r.is_ours()).count();
        let unsaved = self.document.is_unsaved() || self.has_draft();
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

    /// What runs here goes on in processes of its own.
    pub fn let_finish(&self) -> Vec<Effect> {
        let ours = self.runs.iter().filter(|r| r.is_ours());
        ours.map(|r| Effect::Leave(r.id)).collect()
    }

    fn play_if_asked(&mut self) -> Vec<Effect> {
        let Some(speed) = self.replay_at.take() else {
            return Vec::new();
        };
        self.run = 0;
        if self.can_replay().is_err() {
            self.focus = Panel::Runs;
            self.complain("the session holds no recorded run; r runs it, w then saves it");
            return Vec::new();
        }
        self.replay(speed)
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
