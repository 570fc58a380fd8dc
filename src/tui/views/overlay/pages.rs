/*! Pages to read: a layer, a log, findings, the session as text. */

use super::compare;
use crate::device::Profile;
use crate::model::{Layer, LayerTable};
use crate::tui::state::State;
use crate::tui::state::overlay::Page;
use crate::tui::widgets::number;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// Title and lines of a page.
pub fn content(state: &State, page: Page) -> (&'static str, Vec<Line<'static>>) {
    match page {
        Page::Layer => ("layer", layer(state)),
        Page::Log => ("log", log(state)),
        Page::Compare => ("comparison", compare::lines(state)),
        Page::Text => ("the session as its file has it", session(state)),
        Page::Findings => {
            let text = match (&state.editor.error, warnings(state)) {
                (Some(error), _) => error.text(),
                (None, text) if !text.is_empty() => text,
                (None, _) => "nothing is wrong with the source".into(),
            };
            (
                "findings",
                text.lines().map(|l| Line::raw(l.to_string())).collect(),
            )
        }
    }
}

/// The session's text as it would be written, results aside.
fn session(state: &State) -> Vec<Line<'static>> {
    let text = state.document.session.to_text();
    let text = text.unwrap_or_else(|error| error.to_string());
    let line = |words: &str| {
        let comment = words.trim_start().starts_with("//");
        let style = if comment {
            state.theme.comment
        } else {
            state.theme.text
        };
        Line::styled(words.to_owned(), style)
    };
    text.lines().map(line).collect()
}

/// What every head is warned of.
fn warnings(state: &State) -> String {
    let mut text = String::new();
    let layers = state.network.iter().flat_map(|n| &n.table.layers);
    let names: Vec<&str> = layers.map(|l| l.name.as_str()).collect();
    for head in state.editor.heads.iter() {
        for w in &head.warnings {
            let after = names.get(head.layer).unwrap_or(&"");
            text += &format!("after {after}, {}:{}: {}\n", w.line, w.column, w.message);
            text += &w
                .help
                .as_ref()
                .map_or(String::new(), |h| format!("    {h}\n"));
        }
    }
    text
}

/// Lines of a name and what it says.
struct Facts {
    lines: Vec<Line<'static>>,
    dim: Style,
}

impl Facts {
    fn say(&mut self, name: &str, text: impl Into<String>) {
        self.lines.push(Line::from(vec![
            Span::styled(format!("{name:<22}"), self.dim),
            Span::raw(text.into()),
        ]));
    }

    /// What the layer is, and its share of the network.
    fn of_layer(&mut self, l: &Layer, table: &LayerTable) {
        let share = |part: f64, whole: f64| number::percent(part / whole.max(1.0));
        let of_bytes = |n: usize| number::bytes(n as f64);
        self.say("name", l.name.as_str());
        self.say("op", l.op.as_str());
        self.say("output", format!("{} ({})", l.shape, l.value));
        self.say(
            "parameters",
            format!("{} ({} as F32)", l.params, of_bytes(l.param_bytes)),
        );
        self.say("output, batch 1", of_bytes(l.activation_bytes));
        let macs = share(l.macs as f64, table.macs as f64);
        self.say("MACs", format!("{} ({macs})", number::count(l.macs as f64)));
        let memory = share(l.prefix_memory_bytes as f64, table.memory_bytes as f64);
        self.say(
            "up to here: memory",
            format!("{} ({memory})", of_bytes(l.prefix_memory_bytes)),
        );
        self.say(
            "up to here: MACs",
            share(l.prefix_macs as f64, table.macs as f64),
        );
        let may = match (l.split_legal, l.exit_legal) {
            (true, true) => "a split and an exit",
            (true, false) => "a split",
            (false, true) => "an exit",
            (false, false) => "nothing",
        };
        self.say("behind it may stand", may);
        if let Some(why) = &l.why_not {
            self.say("", why.as_str());
        }
    }

    /// What a tier's device was measured to take for the layer in `row`.
    fn of_profile(&mut self, tier: &str, profile: &Profile, row: usize, table: &LayerTable) {
        let Some(l) = profile.layers.get(row) else {
            let told = match profile.rows_ms(table, row..row + 1) {
                Ok(ms) => format!("{} ms, by which two prefixes differ", number::ms(ms)),
                Err(_) => format!("{} no time of its own", number::NONE),
            };
            self.say(tier, format!("{told}: what ran it fuses layers"));
            return;
        };
        let ms = l.ms;
        self.say(
            &format!("{tier}, measured"),
            format!(
                "median {} ms, mean {}, min {}, p95 {}; engine memory {}",
                number::ms(ms.median),
                number::ms(ms.mean),
                number::ms(ms.min),
                number::ms(ms.p95),
                number::bytes(l.bytes as f64)
            ),
        );
        if profile.slowdown != 1.0 {
            self.say("", format!("slowed {}×, emulated", profile.slowdown));
        }
    }
}

fn layer(state: &State) -> Vec<Line<'static>> {
    let row = state.layers.cursor;
    let table = state.network.as_ref().map(|network| &network.table);
    let Some((table, l)) = table.and_then(|table| Some((table, table.layers.get(row)?))) else {
        return Vec::new();
    };
    let mut facts = Facts {
        lines: Vec::new(),
        dim: state.theme.dim,
    };
    facts.of_layer(l, table);
    let names = state.document.session.tier_names();
    for tier in names.tiers() {
        let name = names.name(tier);
        match state.results.profile(tier) {
            Some(profile) => facts.of_profile(name, profile, row, table),
            None => facts.say(
                name,
                format!(
                    "{} not measured; {} profiles",
                    number::NONE,
                    state.keymap.first("profile")
                ),
            ),
        }
    }
    facts.lines
}

fn log(state: &State) -> Vec<Line<'static>> {
    let Some(run) = state.shown_run() else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    if run.log.dropped > 0 {
        lines.push(Line::styled(
            format!("{} older lines dropped", run.log.dropped),
            state.theme.dim,
        ));
    }
    for (at, text) in &run.log.lines {
        lines.push(Line::from(vec![
            Span::styled(format!("{:>6} ", number::clock(*at)), state.theme.dim),
            Span::raw(text.clone()),
        ]));
    }
    lines
}
