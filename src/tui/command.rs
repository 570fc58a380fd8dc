/*!
The commands: one list that feeds dispatch, footer, help, palette and the key table of `docs/keys.md`. A
command knows its keys, where it applies, what it does and whether it can be run now.
*/

pub mod spoken;

use super::error::{ConfigError, Refusal};
use super::input::Key;
use super::keymap::Keymap;
use super::message::{Effect, Panel};
use super::ports::Goal;
use super::state::State;
use super::state::goal::GoalForm;
use super::state::overlay::{Overlay, Page, Prompt};
use super::state::playback::SEEK_MS;
use super::state::typed::Typed;
use super::theme::{self, Theme};
use std::collections::BTreeMap;

/// Where a command applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Everywhere, whatever has the focus.
    Any,
    /// Only in this panel, where it goes before one of everywhere with the same key.
    In(Panel),
    /// In the runs' panel while it plays a run again, where it goes before all others.
    Playback,
}

/// Command of the workbench: its name, its keys, where it counts and what it does.
#[derive(Debug, Clone, Copy)]
pub struct Command {
    /// As the palette and the configuration call it.
    pub name: &'static str,
    pub keys: &'static [&'static str],
    pub place: Place,
    /// What it does, for help and palette.
    pub help: &'static str,
    /// A word or two for the footer; empty: not there.
    pub hint: &'static str,
    pub enabled: fn(&State) -> Result<(), Refusal>,
    pub run: fn(&mut State) -> Vec<Effect>,
}

impl Command {
    /// The panel it belongs to, where that isn't in the focus.
    pub fn elsewhere(&self, state: &State) -> Option<Panel> {
        match self.place {
            Place::In(panel) if panel != state.focus => Some(panel),
            _ => None,
        }
    }
}

fn always(_: &State) -> Result<(), Refusal> {
    Ok(())
}

fn with_network(state: &State) -> Result<(), Refusal> {
    match (&state.network, &state.network_problem) {
        (Some(_), _) => Ok(()),
        (None, Some(problem)) => Err(Refusal::Network(problem.clone())),
        (None, None) => Err(Refusal::Reading),
    }
}

fn with_plan(state: &State) -> Result<(), Refusal> {
    with_network(state)?;
    match &state.derived.problem {
        Some(problem) if state.derived.plan.is_none() => Err(Refusal::Plan(problem.clone())),
        _ => Ok(()),
    }
}

fn with_runs(state: &State) -> Result<(), Refusal> {
    if state.runs.is_empty() {
        return Err(Refusal::NoRuns);
    }
    Ok(())
}

fn with_two_runs(state: &State) -> Result<(), Refusal> {
    if state.runs.len() < 2 {
        return Err(Refusal::OneRun);
    }
    Ok(())
}

fn nothing() -> Vec<Effect> {
    Vec::new()
}

fn show(state: &mut State, panel: Panel) -> Vec<Effect> {
    state.show(panel)
}

fn mouse(state: &mut State) -> Vec<Effect> {
    state.mouse = !state.mouse;
    state.say(if state.mouse {
        "the mouse points, drags and scrolls here; with shift it is the terminal's"
    } else {
        "the mouse is the terminal's"
    });
    vec![Effect::Mouse(state.mouse)]
}

fn prompt(state: &mut State, kind: Prompt, input: String) -> Vec<Effect> {
    state.overlay = Some(Overlay::Prompt {
        kind,
        input: Typed::offer(input),
        error: None,
    });
    match kind.is_path() {
        true => state.look_into(""),
        false => nothing(),
    }
}

fn page(state: &mut State, page: Page) -> Vec<Effect> {
    state.overlay = Some(Overlay::Page { page, scroll: 0 });
    nothing()
}

fn cursor(state: &mut State, by: isize) -> Vec<Effect> {
    state.move_cursor(by);
    nothing()
}

fn legal(state: &mut State, forward: bool) -> Vec<Effect> {
    state.move_to_legal(forward);
    nothing()
}

fn next_panel(state: &mut State, forward: bool) -> Vec<Effect> {
    // What isn't in the overview is no stop on the way through it.
    let count = if state.is_wide() && !state.zoom {
        Panel::OVERVIEW
    } else {
        Panel::ALL.len()
    };
    let at = Panel::ALL.iter().position(|p| *p == state.focus);
    let by = if forward { 1 } else { count - 1 };
    let next = Panel::ALL[(at.unwrap_or(0).min(count - 1) + by) % count];
    state.show(next)
}

fn next_theme(state: &mut State) -> Vec<Effect> {
    let all: Vec<&str> = theme::names().collect();
    let at = all.iter().position(|n| *n == state.theme_name);
    let next = all[at.map_or(0, |i| (i + 1) % all.len())];
    match Theme::shipped(next) {
        Ok(theme) => {
            state.theme = theme;
            state.theme_name = next.to_string();
            state.say(format!("theme {next}"));
        }
        Err(problem) => state.complain(problem.to_string()),
    }
    nothing()
}

fn mark(state: &mut State) -> Vec<Effect> {
    let key = state.keymap.first("compare");
    let Some(run) = state.runs.get_mut(state.run) else {
        return nothing();
    };
    run.marked = !run.marked;
    let words = if run.marked {
        format!("marked; {key} compares what is marked with what is shown")
    } else {
        "no longer marked".into()
    };
    state.say(words);
    nothing()
}

const L: Place = Place::In(Panel::Layers);
const P: Place = Place::In(Panel::Plan);
const E: Place = Place::In(Panel::Exits);
const R: Place = Place::In(Panel::Runs);
const T: Place = Place::In(Panel::Threshold);
const X: Place = Place::In(Panel::Explore);
const S: Place = Place::In(Panel::Session);
const V: Place = Place::In(Panel::Evidence);

macro_rules! commands {
    ($($name:literal [$($key:literal),*] $place:expr, $hint:literal, $help:literal, $enabled:expr, $run:expr;)*) => {
        &[$(Command {
            name: $name, keys: &[$($key),*], place: $place, hint: $hint, help: $help,
            enabled: $enabled, run: $run,
        }),*]
    };
}

/// All of them, in the order help and key table show them.
pub const COMMANDS: &[Command] = commands![
    // Everywhere.
    "help" ["?", "f1"] Place::Any, "keys", "the keys that work here", always,
        |s| { s.overlay = Some(Overlay::Help { scroll: 0 }); nothing() };
    "palette" [":"] Place::Any, "", "find a command by its name", always,
        |s| { s.overlay = Some(Overlay::Palette { input: Typed::default(), selected: 0, error: None }); nothing() };
    "layers" ["1"] Place::Any, "", "to the layers", always, |s| show(s, Panel::Layers);
    "plan" ["2"] Place::Any, "", "to the plan", always, |s| show(s, Panel::Plan);
    "exits" ["3"] Place::Any, "", "to the exit classifier", always, |s| show(s, Panel::Exits);
    "runs" ["4"] Place::Any, "", "to the runs", always, |s| show(s, Panel::Runs);
    "threshold" ["5"] Place::Any, "", "to the thresholds", always, |s| show(s, Panel::Threshold);
    "explore" ["6"] Place::Any, "", "to the Pareto-optimal plans", always, |s| show(s, Panel::Explore);
    "session" ["7"] Place::Any, "", "to the session", always, |s| show(s, Panel::Session);
    "evidence" ["8"] Place::Any, "", "to what the last run showed, and where other plans are best", always, |s| show(s, Panel::Evidence);
    "next-panel" ["tab"] Place::Any, "", "the next panel", always, |s| next_panel(s, true);
    "previous-panel" ["shift-tab"] Place::Any, "", "the panel before", always, |s| next_panel(s, false);
    "zoom" ["Z"] Place::Any, "", "the panel alone on the screen, and back (small screens always do)", always,
        |s| { s.zoom = !s.zoom; nothing() };
    "run" ["r"] Place::Any, "run", "run the parts on their targets", with_plan, |s| s.start(Goal::Run);
    "train" ["t"] Place::Any, "", "train a head at every exit point, and fill the tables", with_network, |s| s.start(Goal::Train);
    "profile" ["p"] Place::Any, "", "time the layers on both sides, and the link", with_network, |s| s.start(Goal::Profile);
    "stop" ["x"] Place::Any, "stop", "stop the run; finished stages are kept", always, |s| s.stop();
    "split-here" ["s"] Place::Any, "split here", "split behind the layer under the cursor", with_network, |s| s.split_here();
    "next-split" [";"] Place::Any, "", "of several splits, choose which one the keys change", with_plan, |s| { s.next_split(); nothing() };
    "exit-here" ["e"] Place::Any, "exit here", "set or remove an exit behind the layer under the cursor", with_plan, |s| s.toggle_exit();
    "split-back" ["["] Place::Any, "", "the split to the legal cut before", with_plan, |s| s.move_split(false);
    "split-forward" ["]"] Place::Any, "", "the split to the next legal cut", with_plan, |s| s.move_split(true);
    "exit-back" ["<"] Place::Any, "", "the exit nearest to the cursor to the point before", with_plan, |s| s.move_exit(false);
    "exit-forward" [">"] Place::Any, "", "the exit nearest to the cursor to the next point", with_plan, |s| s.move_exit(true);
    "threshold-down" ["left", "h"] Place::Any, "", "the threshold down by 0.01", always, |s| s.move_threshold(-1.0);
    "threshold-up" ["right", "l"] Place::Any, "", "the threshold up by 0.01", always, |s| s.move_threshold(1.0);
    "take-verdict" ["b"] Place::Any, "", "make what the verdict says to deploy the session's plan", with_network, |s| s.take_verdict();
    "goal" ["O"] Place::Any, "goal", "the goal: what to make small, within which limits", always,
        |s| { s.overlay = Some(Overlay::Goal(GoalForm::new(&s.document.session.goal))); nothing() };
    "undo" ["u"] Place::Any, "", "undo the last edit of the plan", always, |s| s.undo();
    "redo" ["ctrl-r", "U"] Place::Any, "", "redo it", always, |s| s.redo();
    "save" ["w", "ctrl-s"] Place::Any, "save", "save the session", always, |s| s.save();
    "save-as" ["W"] Place::Any, "", "save the session under another name", always,
        |s| { let name = s.document.file.as_ref().map_or_else(
            || format!("{}.ron", s.document.name()), |f| f.display().to_string()); prompt(s, Prompt::SaveAs, name) };
    "open" ["o"] Place::Any, "", "open a session", always,
        |s| s.find_session();
    "copy" ["y"] Place::Any, "", "copy the screen as text, to the clipboard and to a file", always,
        |_| vec![Effect::Copy];
    "theme" ["f5"] Place::Any, "", "the next theme", always, next_theme;
    "mouse" ["f6"] Place::Any, "", "take the mouse, or leave it to the terminal's own selection", always, mouse;
    "suspend" ["ctrl-z"] Place::Any, "", "back to the shell; `fg` comes back", always, |_| vec![Effect::Suspend];
    "quit" ["q", "ctrl-c"] Place::Any, "quit", "quit; asks where something would be lost", always, |s| s.quit();
    // Layers.
    "down" ["down", "j"] L, "", "the next row", always, |s| cursor(s, 1);
    "up" ["up", "k"] L, "", "the row before", always, |s| cursor(s, -1);
    "page-down" ["pgdn", "ctrl-d"] L, "", "ten rows down", always, |s| cursor(s, 10);
    "page-up" ["pgup", "ctrl-u"] L, "", "ten rows up", always, |s| cursor(s, -10);
    "first" ["home", "g"] L, "", "the first row", always, |s| cursor(s, isize::MIN);
    "last" ["end", "G"] L, "", "the last row", always, |s| cursor(s, isize::MAX);
    "details" ["enter"] L, "details", "all about the layer", with_network, |s| page(s, Page::Layer);
    "filter" ["/"] L, "filter", "show only layers with a word in name or op; esc shows all", always,
        |s| { let input = s.layers.filter.clone(); prompt(s, Prompt::Filter, input) };
    "sort" ["S"] L, "sort", "sort by order, time, memory or MACs", always, |s| { s.layers.sort = s.layers.sort.next(); nothing() };
    "log-scale" ["L"] L, "log", "bars on a logarithmic scale, and back", always, |s| { s.layers.log = !s.layers.log; nothing() };
    "fold" ["z"] L, "fold", "fold the layers to blocks, and back", always, |s| { s.layers.folded = !s.layers.folded; nothing() };
    "export" ["X"] L, "", "write the table to a file, CSV or JSON", with_network, |s| prompt(s, Prompt::Export, "layers.csv".into());
    // Plan.
    "next-place" ["down", "j"] P, "", "to the next place where a split or an exit may stand", always, |s| legal(s, true);
    "previous-place" ["up", "k"] P, "", "to the place before", always, |s| legal(s, false);
    "rule" ["R"] P, "rule", "the next split rule", with_network, |s| s.cycle_rule();
    "more" ["+", "="] P, "share", "a larger share of memory or layers at the edge", with_network, |s| s.change_share(0.05);
    "less" ["-"] P, "", "a smaller share", with_network, |s| s.change_share(-0.05);
    "per-part" ["n"] P, "exits", "how many exits a part gets: 0 to 3", with_network, |s| s.cycle_per_part();
    "placement" ["P"] P, "spread", "exits spread linearly or after Pareto", with_network, |s| s.cycle_placement();
    "at-split" ["a"] P, "", "an exit at the split itself, or not", with_network, |s| s.toggle_at_split();
    "spread" ["E"] P, "", "from exits set by hand back to the spread", with_network, |s| s.spread_exits();
    // Exits.
    "edit" ["enter", "i"] E, "edit", "type in the source; esc ends", always, |s| s.start_typing();
    "template" ["T"] E, "template", "start from a source that ships", with_network,
        |s| { s.overlay = Some(Overlay::Templates { selected: 0 }); nothing() };
    "search" ["/"] E, "", "search the source", always, |s| prompt(s, Prompt::Search, String::new());
    "next-hit" ["n"] E, "", "the next hit", always, |s| { s.editor.area.search_forward(false); nothing() };
    "previous-hit" ["N"] E, "", "the hit before", always, |s| { s.editor.area.search_back(false); nothing() };
    "next-point" ["down", "j"] E, "next point", "the head at the next exit point", always, |s| legal(s, true);
    "previous-point" ["up", "k"] E, "", "the head at the point before", always, |s| legal(s, false);
    "findings" ["d"] E, "", "everything that is wrong with the source", always, |s| page(s, Page::Findings);
    // Runs.
    "next-run" ["down", "j"] R, "", "the next run of the history", always, |s| { s.select_run(1); nothing() };
    "previous-run" ["up", "k"] R, "", "the run before", always, |s| { s.select_run(-1); nothing() };
    "log" ["enter"] R, "log", "the run's log", with_runs, |s| page(s, Page::Log);
    "mark" ["m"] R, "mark", "mark the run for a comparison, or no longer", with_runs, mark;
    "compare" ["c"] R, "compare", "the run beside the marked ones, or beside the one before", with_two_runs, |s| page(s, Page::Compare);
    "pause" ["space"] R, "pause", "the run waits at its next sample, or goes on", with_runs, |s| s.pause();
    "playback" ["v"] R, "play back", "play the shown run again, as it went", State::can_play_back, |s| s.play_back(1.0);
    "playback-pause" ["space"] Place::Playback, "pause", "pause, go on; at the end, once more", always, |s| s.pause_playback();
    "playback-step" ["."] Place::Playback, "step", "to the next event; so does forward while paused", always, |s| s.step_playback();
    "playback-forward" ["right", "l"] Place::Playback, "+5 s", "five seconds on", always,
        |s| if s.playback.as_ref().is_some_and(|p| p.paused) { s.step_playback() } else { s.seek(true, Some(SEEK_MS)) };
    "playback-back" ["left", "h"] Place::Playback, "-5 s", "five seconds back", always, |s| s.seek(false, Some(SEEK_MS));
    "playback-start" ["home", "g"] Place::Playback, "", "to its start", always, |s| s.seek(false, None);
    "playback-last" ["end", "G"] Place::Playback, "", "to its end", always, |s| s.seek(true, None);
    "faster" ["+", "="] Place::Playback, "faster", "twice as fast", always, |s| s.change_speed(2.0);
    "slower" ["-"] Place::Playback, "slower", "half as fast", always, |s| s.change_speed(0.5);
    "playback-end" ["esc"] Place::Playback, "end", "back to the run as it ended", always, |s| { s.end_playback(); nothing() };
    // Threshold.
    "next-exit" ["down", "j"] T, "next exit", "the slider to the next exit", always, |s| s.select_threshold(1);
    "previous-exit" ["up", "k"] T, "", "the slider to the exit before; first of all: all of them", always, |s| s.select_threshold(-1);
    "down-5" ["H", "pgdn"] T, "", "the threshold down by 0.05", always, |s| s.move_threshold(-5.0);
    "up-5" ["L", "pgup"] T, "", "the threshold up by 0.05", always, |s| s.move_threshold(5.0);
    "reset" ["delete", "backspace"] T, "", "the common threshold for this exit; on all, for every exit", always, |s| s.reset_threshold();
    "cheapest" ["A"] T, "cheapest", "snap to the cheapest threshold with an accuracy", always, |s| prompt(s, Prompt::Accuracy, String::new());
    "most-accurate" ["M"] T, "", "snap to the most accurate threshold within a time", always, |s| prompt(s, Prompt::Latency, String::new());
    "best-thresholds" ["B"] T, "best", "the best thresholds for the goal, one per exit, by search", always, |s| s.tune();
    // Explore.
    "next-plan" ["down", "j"] X, "", "the next plan", always, |s| { s.select_explored(1); nothing() };
    "previous-plan" ["up", "k"] X, "", "the plan before", always, |s| { s.select_explored(-1); nothing() };
    "plans-down" ["pgdn", "ctrl-d"] X, "", "ten plans down", always, |s| { s.select_explored(10); nothing() };
    "plans-up" ["pgup", "ctrl-u"] X, "", "ten plans up", always, |s| { s.select_explored(-10); nothing() };
    "first-plan" ["home", "g"] X, "", "the first plan", always, |s| { s.select_explored(isize::MIN); nothing() };
    "last-plan" ["end", "G"] X, "", "the last plan", always, |s| { s.select_explored(isize::MAX); nothing() };
    "take" ["enter"] X, "take over", "make the plan the session's", with_network, |s| s.take_explored();
    "order" ["S"] X, "order", "order by the goal, accuracy, latency, cost, edge memory or energy", always, |s| { s.sort_explored(); nothing() };
    "limit-accuracy" ["A"] X, "", "only plans with an accuracy", with_network, |s| prompt(s, Prompt::LimitAccuracy, String::new());
    "limit-latency" ["M"] X, "", "only plans within a mean time", with_network, |s| prompt(s, Prompt::LimitLatency, String::new());
    "limit-memory" ["B"] X, "", "only plans within an edge memory", with_network, |s| prompt(s, Prompt::LimitMemory, String::new());
    "limit-cost" ["C"] X, "", "only plans with a bill", with_network, |s| prompt(s, Prompt::LimitCost, String::new());
    "limit-energy" ["J"] X, "", "only plans within an energy per inference", with_network, |s| prompt(s, Prompt::LimitEnergy, String::new());
    // Session.
    "next-setting" ["down", "j"] S, "", "the next setting", always, |s| { s.select_setting(1); nothing() };
    "previous-setting" ["up", "k"] S, "", "the setting before", always, |s| { s.select_setting(-1); nothing() };
    "settings-down" ["pgdn", "ctrl-d"] S, "", "ten settings down", always, |s| { s.select_setting(10); nothing() };
    "settings-up" ["pgup", "ctrl-u"] S, "", "ten settings up", always, |s| { s.select_setting(-10); nothing() };
    "first-setting" ["home", "g"] S, "", "the first setting", always, |s| { s.select_setting(isize::MIN); nothing() };
    "last-setting" ["end", "G"] S, "", "the last setting", always, |s| { s.select_setting(isize::MAX); nothing() };
    "edit-setting" ["enter", "i"] S, "edit", "type another value", always, |s| s.edit_setting();
    "next-value" ["space"] S, "next value", "the next of the values that can be listed", always, |s| s.turn_setting(true);
    "add-target" ["a"] S, "add target", "a target more in the tier under the cursor, else in the last", always, |s| s.add_target();
    "add-tier" ["A"] S, "", "a tier more at the end of the chain", always, |s| s.add_tier();
    "remove" ["delete", "backspace", "D"] S, "", "remove the target or tier; a setting as if left out", always, |s| s.remove_setting();
    "test" ["c"] S, "test", "test the target under the cursor, or all: reached, token, release", always, |s| s.test_targets();
    "stop-test" ["x"] S, "", "stop the test, or else the run", always, |s| s.stop_test();
    "as-text" ["v"] S, "as text", "the session as its file has it", always, |s| page(s, Page::Text);
    // Evidence.
    "next-view" ["space", "enter"] V, "next view", "confidences, classes, confusions, latencies, samples, what if", always, |s| s.turn_evidence(true);
    "previous-view" ["backspace"] V, "view before", "the view before", always, |s| s.turn_evidence(false);
    "next-row" ["down", "j"] V, "", "the next row", always, |s| { s.select_evidence(1); nothing() };
    "previous-row" ["up", "k"] V, "", "the row before", always, |s| { s.select_evidence(-1); nothing() };
    "rows-down" ["pgdn", "ctrl-d"] V, "", "ten rows down", always, |s| { s.select_evidence(10); nothing() };
    "rows-up" ["pgup", "ctrl-u"] V, "", "ten rows up", always, |s| { s.select_evidence(-10); nothing() };
    "first-row" ["home", "g"] V, "", "the first row", always, |s| { s.select_evidence(isize::MIN); nothing() };
    "last-row" ["end", "G"] V, "", "the last row", always, |s| { s.select_evidence(isize::MAX); nothing() };
    "map" ["m"] V, "map", "what if: bandwidth by round trip too, or no longer", always, |s| s.map_evidence();
    "stop-what-if" ["x"] V, "", "stop the search for other conditions, or else the run", always, |s| s.stop_what_if();
];

/// The registry's keys, with the configuration's in place of a command's own.
///
/// # Errors
/// Names a command or a key that doesn't exist.
pub fn keymap(own: &BTreeMap<String, Vec<String>>) -> Result<Keymap, ConfigError> {
    Keymap::new(COMMANDS.iter().map(|c| (c.name, c.keys)), own)
}

/// What a key means here and now.
pub fn find(key: Key, state: &State) -> Option<&'static Command> {
    find_in(&state.keymap, key, places(state).into_iter().flatten())
}

fn find_in(
    keymap: &Keymap,
    key: Key,
    mut places: impl Iterator<Item = Place>,
) -> Option<&'static Command> {
    places.find_map(|place| {
        let mut here = COMMANDS.iter().filter(|c| c.place == place);
        here.find(|c| keymap.of(c.name).contains(&key))
    })
}

/// The places that are here, the nearest first.
fn places(state: &State) -> [Option<Place>; 3] {
    let plays = state.focus == Panel::Runs && state.shown_playback().is_some();
    [
        plays.then_some(Place::Playback),
        Some(Place::In(state.focus)),
        Some(Place::Any),
    ]
}

/// The commands that apply here and now: those of the panel in focus, then those of everywhere.
pub fn here(state: &State) -> impl Iterator<Item = &'static Command> {
    let places = places(state).into_iter().flatten();
    places.flat_map(|place| COMMANDS.iter().filter(move |c| c.place == place))
}

/// Commands whose name or help has all the words: those that apply here and now first, then those of
/// other panels.
pub fn search(state: &State, words: &str) -> Vec<&'static Command> {
    let words = words.to_lowercase();
    let known: Vec<Place> = places(state).into_iter().flatten().collect();
    let elsewhere = |c: &&Command| matches!(c.place, Place::In(_)) && !known.contains(&c.place);
    let all = here(state).chain(COMMANDS.iter().filter(elsewhere));
    let hit = |c: &&Command| {
        let text = format!("{} {}", c.name, c.help).to_lowercase();
        words.split_whitespace().all(|w| text.contains(w))
    };
    let mut found: Vec<&Command> = all.filter(hit).collect();
    // What begins with the word is meant more often.
    found.sort_by_key(|c| !c.name.starts_with(words.trim()));
    found
}

/// The key table of `docs/keys.md`.
#[cfg(test)]
pub fn key_table() -> String {
    let mut out = String::from("| where | keys | what |\n|---|---|---|\n");
    for command in COMMANDS {
        let place = match command.place {
            Place::Any => "everywhere",
            Place::In(panel) => panel.name(),
            Place::Playback => "Runs, playback",
        };
        let keys: Vec<String> = command.keys.iter().map(|k| format!("`{k}`")).collect();
        out += &format!("| {place} | {} | {} |\n", keys.join(" "), command.help);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_and_keys_are_unique_where_they_apply() {
        let mut names = HashSet::new();
        let mut keys = HashSet::new();
        for command in COMMANDS {
            assert!(names.insert(command.name), "{}", command.name);
            for key in command.keys {
                key.parse::<Key>().unwrap();
                let place = format!("{:?}", command.place);
                assert!(keys.insert((place, *key)), "{key} of {}", command.name);
            }
        }
        assert!(keymap(&BTreeMap::new()).is_ok());
    }

    #[test]
    fn the_configuration_replaces_keys_and_is_checked() {
        let own =
            |name: &str, key: &str| BTreeMap::from([(name.to_string(), vec![key.to_string()])]);
        let map = keymap(&own("split-here", "ctrl-x")).unwrap();
        let find = |key: &str| {
            let places = [Place::In(Panel::Layers), Place::Any];
            find_in(&map, key.parse().unwrap(), places.into_iter()).map(|c| c.name)
        };
        assert_eq!(find("ctrl-x"), Some("split-here"));
        assert_eq!(find("s"), None);
        assert_eq!(find("?"), Some("help"));
        let refused = |name: &str, key: &str| keymap(&own(name, key)).unwrap_err().to_string();
        assert!(refused("splt", "x").contains("splt"));
        assert!(refused("split-here", "hyper-x").contains("hyper-x"));
    }
}
