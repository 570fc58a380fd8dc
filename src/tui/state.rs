/*!
The state of the workbench and its pure update: a message goes in, effects come out, nothing else
happens. No clock, no file, no terminal in here.
*/

pub mod document;
pub mod editor;
pub mod explore;
pub mod export;
pub mod layers;
pub mod overlay;
pub mod plan;
pub mod playback;
pub mod runs;
pub mod tuning;

use super::command::Keymap;
use super::effects::{Effect, Opened, Source, Timer};
use super::theme::Theme;
use super::work::{Going, HeadFacts, Network, Predict, Results};
use crate::evaluate::Outcome;
use crate::exits::ExitError;
use crate::run::Event;
use crate::session::Session;
use crossterm::event::{KeyCode, KeyEvent, MouseEvent};
use document::Document;
use editor::Editor;
use explore::{Explore, Explored};
use layers::Layers;
use overlay::{Confirmed, Overlay};
use plan::Derived;
use playback::Playback;
use runs::{Origin, Run};
use std::path::PathBuf;
use std::sync::Arc;
use tuning::Tuning;

/// What happened.
#[derive(Debug)]
pub enum Msg {
    Key(KeyEvent),
    Paste(String),
    Resize(u16, u16),
    Timer(Timer),
    /// The terminal is gone.
    HangUp,
    Suspend,
    /// Somebody continued the process.
    Resume,
    Opened(Box<Opened>),
    Network(Result<Box<Network>, String>),
    /// Results of earlier runs of the session.
    Kept(Box<Results>),
    /// Likewise, as they ship with the program, measured on another machine.
    Shipped(Box<Results>),
    /// A run of the session goes on without the workbench.
    Going(Going),
    Sessions(Vec<PathBuf>),
    Saved(PathBuf, Box<Session>),
    /// There is a file of that name already.
    Exists(PathBuf),
    Said(String),
    Failed(String),
    Heads(u64, Result<Vec<HeadFacts>, Box<ExitError>>),
    Curves(u64, Result<Vec<Outcome>, String>),
    Explored(u64, Result<Explored, String>),
    Mouse(MouseEvent),
    /// What the mouse means where it is.
    Hit(Hit),
    /// Of the job of this number, at so many milliseconds since its start.
    Run(usize, u64, Box<Event>),
    /// Likewise; whether it was asked to stop, and what came of it.
    RunEnded(usize, u64, bool, Result<Box<Results>, String>),
}

/// What is in the focus: a panel of the overview, a page on a small screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Panel {
    Layers,
    Plan,
    Exits,
    Runs,
    Threshold,
    Explore,
    Session,
}

/// What lies under the mouse.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Hit {
    Panel(Panel),
    /// A row of the layer table.
    Layer(usize),
    /// A place on the slider.
    Threshold(f64),
    /// A plan of the explore page.
    Explored(usize),
    /// A turn of the wheel over a panel.
    Wheel(Panel, bool),
}

impl Panel {
    /// Those that the overview of a wide screen shows.
    pub const OVERVIEW: usize = 5;

    pub const ALL: [Panel; 7] = [
        Panel::Layers,
        Panel::Plan,
        Panel::Exits,
        Panel::Runs,
        Panel::Threshold,
        Panel::Explore,
        Panel::Session,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Panel::Layers => "Layers",
            Panel::Plan => "Plan",
            Panel::Exits => "Exits",
            Panel::Runs => "Runs",
            Panel::Threshold => "Threshold",
            Panel::Explore => "Explore",
            Panel::Session => "Session",
        }
    }
}

/// How urgent a notice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Info,
    Problem,
}

/// What of the results was measured on another machine than this, and ships with the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shipped {
    pub edge: bool,
    pub cloud: bool,
    pub measured: bool,
}

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
    pub predict: Arc<dyn Predict>,
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
    pub fn new(session: Session, theme: Theme, keymap: Keymap, predict: Arc<dyn Predict>) -> State {
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
            predict,
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
            // Only the views know what is where.
            Msg::Mouse(_) => {}
            Msg::Hit(hit) => return self.hit(hit),
            Msg::Run(id, at, event) => return self.run_event(id, at, *event),
            Msg::RunEnded(id, at, stopped, ended) => return self.run_ended(id, at, stopped, ended),
        }
        Vec::new()
    }

    fn opened(&mut self, opened: Opened) -> Vec<Effect> {
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

    fn got_network(&mut self, network: Network) -> Vec<Effect> {
        self.network = Some(Arc::new(network));
        self.network_problem = None;
        self.load_source();
        let mut effects = self.recompute();
        // The first look falls on what matters.
        if let Some(plan) = &self.derived.plan {
            let first = match plan.split {
                crate::partition::Split::After(i) => i,
                _ => 0,
            };
            self.layers.cursor = first;
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

    fn run_ended(
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
        ours.map(|r| Effect::Detach(r.id)).collect()
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
