/*!
The pure update: a message goes in, the state changes, effects come out, nothing else happens.
*/

mod overlays;

use super::command;
use super::error::FileError;
use super::message::{Content, Effect, Hit, Msg, Opened, Panel, Shipped, Timer};
use super::ports::{Goal, JobError};
use super::state::State;
use super::state::document::Document;
use super::state::explore::Explore;
use super::state::layers::Layers;
use super::state::overlay::{Confirmed, Overlay};
use super::state::plan::Derived;
use super::state::runs::{Origin, Run};
use super::state::settings::SettingsPage;
use super::state::tuning::Tuning;
use super::work::{NetworkFacts, Results};
use crate::session::Session;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::path::PathBuf;
use std::sync::Arc;

/// Milliseconds between two looks whether agents can be reached.
const REACH_MS: u64 = 10_000;

impl State {
    /// Folds one message in.
    pub fn update(&mut self, msg: Msg) -> Vec<Effect> {
        match msg {
            Msg::Key(key) => return self.key(key),
            Msg::Paste(text) => return self.paste(&text),
            Msg::Resize(columns, rows) => self.size = (columns, rows),
            Msg::Timer(timer) => return self.timer(timer),
            Msg::HangUp => return self.hang_up(),
            Msg::Suspend => return vec![Effect::Suspend],
            Msg::Resume => {}
            Msg::Opened(opened) => return self.opened(*opened),
            Msg::Network(Ok(network)) => return self.got_network(*network),
            Msg::Network(Err(problem)) => {
                self.network = None;
                self.complain(problem.to_string());
                self.network_problem = Some(Arc::new(problem));
            }
            Msg::Kept(kept) => {
                let mut effects = self.got_results(*kept);
                self.record();
                effects.extend(self.play_if_asked());
                return effects;
            }
            Msg::Shipped(kept) => return self.got_shipped(*kept),
            Msg::Running(running) => return self.join(&running),
            Msg::Sessions(found) => self.found = found,
            Msg::Names(folder) => {
                if folder.typed == self.folder.typed {
                    self.folder = folder;
                }
            }
            Msg::Classifier(text) => {
                self.editor.file_text = text;
                return self.follow_source();
            }
            Msg::Tested(number, target, tested) => self.got_tested(number, target, tested),
            Msg::Saved {
                file,
                session,
                content,
            } => self.saved(file, *session, content),
            Msg::Exists { file, export } => self.ask_to_write_over(file, export),
            Msg::Reached(reached) => {
                self.reached = reached.into_iter().collect();
                return vec![Effect::Later {
                    timer: Timer::Reach,
                    ms: REACH_MS,
                }];
            }
            Msg::Changed(file) => self.overlay = Some(Overlay::Changed { file }),
            Msg::Wrote(file) => self.say(format!("written to {}", file.display())),
            Msg::Failed(problem) => self.complain(problem.to_string()),
            Msg::NotOpened(problem) => self.not_opened(problem),
            Msg::Heads(generation, made) => return self.got_heads(generation, made),
            Msg::Curves(generation, curves) => {
                if let Some(best) = self.tuning.got(generation, *curves) {
                    return self.take_thresholds(&best);
                }
            }
            Msg::Explored(generation, found) => {
                self.explore.got(generation, *found);
                // The verdict may have a better plan to name.
                return self.ask_curves();
            }
            Msg::Evidence(generation, found, complete) => {
                self.evidence_page.got(generation, *found, complete);
            }
            Msg::WhatIfProgress(generation, done, total) => {
                self.evidence_page.searched(generation, done, total);
            }
            Msg::WhatIf(generation, found) => self.evidence_page.answered(generation, *found),
            // Only the views know what is where; what was written is the loop's.
            Msg::Mouse(_) | Msg::Written(_) => {}
            Msg::Hit(hit) => return self.hit(hit),
            Msg::Run(id, at, event) => return self.run_event(id, at, *event),
            Msg::RunEnded(id, at, stopped, ended) => return self.run_ended(id, at, stopped, ended),
        }
        Vec::new()
    }

    /// The terminal is gone: keeps what isn't saved, lets what runs finish, and ends.
    fn hang_up(&mut self) -> Vec<Effect> {
        self.gone = true;
        let mut effects = Vec::new();
        if self.is_unsaved() {
            effects.push(self.journal());
        }
        effects.extend(self.let_finish());
        effects.push(Effect::Quit);
        effects
    }

    /// Takes in the results that come with the program, and tells which keys to begin with.
    fn got_shipped(&mut self, kept: Results) -> Vec<Effect> {
        let mut effects = self.got_results(kept);
        self.shipped = Shipped {
            profiles: [true; 4],
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
        if self.playback_speed.is_none() {
            effects.extend(self.profile_in_background());
        }
        effects.extend(self.play_if_asked());
        effects
    }

    fn saved(&mut self, file: PathBuf, session: Session, content: Content) {
        let name = file.display().to_string();
        self.document.saved(file, session, content);
        if self.has_draft() {
            self.complain(format!(
                "saved to {name} without the exit source as it stands, which doesn't check: \
                 its last good text is in the file"
            ));
        } else {
            self.say(format!("saved to {name}"));
        }
    }

    fn ask_to_write_over(&mut self, file: PathBuf, export: bool) {
        let question = format!("{} is there already. Write over it?", file.display());
        let then = if export {
            Confirmed::Export(file)
        } else {
            Confirmed::Overwrite(file)
        };
        self.overlay = Some(Overlay::Confirm { question, then });
    }

    fn not_opened(&mut self, problem: FileError) {
        self.complain(problem.to_string());
        // Where nothing was open before, nothing more comes.
        if self.network.is_none() && self.network_problem.is_none() {
            self.network_problem = Some(Arc::new(problem.into()));
        }
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
                    Panel::Session => self.select_setting(by),
                    Panel::Evidence => self.select_evidence(by),
                }
            }
        }
        Vec::new()
    }

    fn timer(&mut self, timer: Timer) -> Vec<Effect> {
        match timer {
            Timer::Source => self.ask_heads(),
            Timer::Journal => {
                self.journal_due = false;
                if self.is_unsaved() {
                    vec![self.journal()]
                } else {
                    vec![Effect::Forget(self.document.journal.clone())]
                }
            }
            Timer::Curves => self.ask_curves(),
            Timer::Playback => self.play_on(),
            Timer::Explore => self.ask_explore(),
            Timer::Reach => self.see_who_is_there(),
        }
    }

    fn paste(&mut self, text: &str) -> Vec<Effect> {
        if let Some(overlay) = &mut self.overlay {
            overlay.paste(text);
            return Vec::new();
        }
        if self.editor.typing {
            // A terminal sends the ends of lines as carriage returns.
            let text = text.replace("\r\n", "\n").replace('\r', "\n");
            return self.edit_text(|area| area.insert_str(text));
        }
        Vec::new()
    }

    fn key(&mut self, event: KeyEvent) -> Vec<Effect> {
        // An escape with a key close behind arrives as that key with alt: where that means nothing of
        // its own, it is the two.
        if event.modifiers.contains(KeyModifiers::ALT)
            && (self.overlay.is_some()
                || self.editor.typing
                || command::find(event.into(), self).is_none())
        {
            let mut effects = self.key(KeyEvent::from(KeyCode::Esc));
            let rest = event.modifiers.difference(KeyModifiers::ALT);
            effects.extend(self.key(KeyEvent::new(event.code, rest)));
            return effects;
        }
        self.notice = None;
        if self.overlay.is_some() {
            return self.overlay_key(event);
        }
        if self.editor.typing {
            return self.typing_key(event);
        }
        let key = event.into();
        match command::find(key, self) {
            Some(command) => self.dispatch(command),
            None if matches!(event.code, KeyCode::Esc) => {
                self.layers.filter.clear();
                self.zoom = false;
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    /// Runs a command, or says why it can't be run now.
    pub fn dispatch(&mut self, command: &command::Command) -> Vec<Effect> {
        if let Err(why) = (command.enabled)(self) {
            self.complain(why.to_string());
            return Vec::new();
        }
        (command.run)(self)
    }

    fn play_if_asked(&mut self) -> Vec<Effect> {
        let Some(speed) = self.playback_speed.take() else {
            return Vec::new();
        };
        self.run = self.runs.iter().position(|r| r.id == 0).unwrap_or(0);
        if self.can_play_back().is_err() {
            self.focus = Panel::Runs;
            self.complain("the session holds no recorded run; r runs it, w then saves it");
            return Vec::new();
        }
        self.play_back(speed)
    }

    fn opened(&mut self, opened: Opened) -> Vec<Effect> {
        let recovered = opened.recovered.clone();
        let opened_elsewhere = opened.shared;
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
        self.evidence_page = self.evidence_page.of_another();
        self.opened += 1;
        self.reached.clear();
        self.settings = SettingsPage {
            // What an earlier test still says is of another session's targets.
            test: self.settings.test + 1,
            ..SettingsPage::default()
        };
        self.shipped = Shipped::default();
        self.playback = None;
        // The history is the session's; what still runs is seen to its end.
        self.runs.retain(Run::is_running);
        self.run = 0;
        if opened_elsewhere {
            self.complain("another workbench has this session open: who saves second is asked");
        }
        let migrated = &self.document.session.migrated;
        if !migrated.is_empty() {
            self.say(migrated.join("; "));
        }
        if let Some(recovered) = recovered {
            self.overlay = Some(Overlay::Confirm {
                question: "Unsaved edits of a workbench that ended early were found. Take them?"
                    .into(),
                then: Confirmed::Recover(Box::new(recovered)),
            });
        }
        self.see_who_is_there()
    }

    fn got_network(&mut self, network: NetworkFacts) -> Vec<Effect> {
        self.network = Some(Arc::new(network));
        self.network_problem = None;
        self.load_source();
        let mut effects = self.recompute();
        // The first look falls on what matters.
        if let Some(plan) = &self.derived.plan {
            let first = plan.splits.first().and_then(|split| split.row());
            self.layers.cursor = first.unwrap_or(0);
        }
        effects.extend(self.ask_heads());
        effects
    }

    fn run_ended(
        &mut self,
        id: usize,
        at: u64,
        stopped: bool,
        ended: Result<Box<Results>, JobError>,
    ) -> Vec<Effect> {
        let Some(run) = self.runs.iter_mut().find(|r| r.id == id) else {
            return Vec::new();
        };
        let ours = run.session == self.opened;
        let background = run.origin == Origin::Background;
        let (words, effects) = match ended {
            Ok(results) => {
                // One that went less far measured no plan: what it found kept is an earlier run's.
                let measured = results.measured.clone().filter(|_| run.goal == Goal::Run);
                run.done(at, measured);
                let words = if background {
                    "this machine is profiled: predictions are its own now".to_string()
                } else if run.was_kept() {
                    format!(
                        "{} is done: everything was kept from before, nothing was measured now",
                        run.label()
                    )
                } else {
                    format!("{} is done", run.label())
                };
                let effects = if ours {
                    self.got_results(*results)
                } else {
                    Vec::new()
                };
                (Ok(words), effects)
            }
            Err(problem) => {
                let problem = problem.to_string();
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
}
