/*! Pages to read: a layer, a log, findings, the session as text. */

use super::compare;
use crate::tui::state::State;
use crate::tui::state::overlay::Page;
use crate::tui::widgets::number;
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

fn layer(state: &State) -> Vec<Line<'static>> {
    let Some(network) = &state.network else {
        return Vec::new();
    };
    let table = &network.table;
    let row = state.layers.cursor;
    let Some(l) = table.layers.get(row) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    let mut say = |name: &str, text: String| {
        lines.push(Line::from(vec![
            Span::styled(format!("{name:<22}"), state.theme.dim),
            Span::raw(text),
        ]));
    };
    let share = |part: f64, whole: f64| number::percent(part / whole.max(1.0));
    say("name", l.name.clone());
    say("op", l.op.clone());
    say("output", format!("{} ({})", l.shape, l.value));
    say(
        "parameters",
        format!(
            "{} ({} as F32)",
            l.params,
            number::bytes(l.param_bytes as f64)
        ),
    );
    say("output, batch 1", number::bytes(l.activation_bytes as f64));
    say(
        "MACs",
        format!(
            "{} ({})",
            number::count(l.macs as f64),
            share(l.macs as f64, table.macs as f64)
        ),
    );
    say(
        "up to here: memory",
        format!(
            "{} ({})",
            number::bytes(l.prefix_memory_bytes as f64),
            share(l.prefix_memory_bytes as f64, table.memory_bytes as f64)
        ),
    );
    say(
        "up to here: MACs",
        share(l.prefix_macs as f64, table.macs as f64),
    );
    let may = match (l.split_legal, l.exit_legal) {
        (true, true) => "a split and an exit",
        (true, false) => "a split",
        (false, true) => "an exit",
        (false, false) => "nothing",
    };
    say("behind it may stand", may.into());
    if let Some(why) = &l.why_not {
        say("", why.clone());
    }
    let names = state.document.session.tier_names();
    for tier in names.tiers() {
        let (side, profile) = (names.name(tier), state.results.profile(tier));
        match profile.map(|p| (p, p.layers.get(row))) {
            Some((p, Some(l))) => {
                let ms = l.ms;
                say(
                    &format!("{side}, measured"),
                    format!(
                        "median {} ms, mean {}, min {}, p95 {}; engine memory {}",
                        number::ms(ms.median),
                        number::ms(ms.mean),
                        number::ms(ms.min),
                        number::ms(ms.p95),
                        number::bytes(l.bytes as f64)
                    ),
                );
                if p.slowdown != 1.0 {
                    say("", format!("slowed {}×, emulated", p.slowdown));
                }
            }
            Some((p, None)) => {
                let told = match p.rows_ms(table, row..row + 1) {
                    Ok(ms) => format!("{} ms, by which two prefixes differ", number::ms(ms)),
                    Err(_) => format!("{} no time of its own", number::NONE),
                };
                say(side, format!("{told}: what ran it fuses layers"));
            }
            None => say(
                side,
                format!(
                    "{} not measured; {} profiles",
                    number::NONE,
                    state.keymap.first("profile")
                ),
            ),
        }
    }
    lines
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
