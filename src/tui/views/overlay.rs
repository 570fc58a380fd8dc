/*! What lies over the panels. */

mod pages;

use crate::explore::Limit;
use crate::tui::command::{self, Place, here};
use crate::tui::state::State;
use crate::tui::state::goal::{GoalForm, objective, words};
use crate::tui::state::overlay::Overlay;
use crate::tui::widgets::{frame, line, number, put, rows};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Widget as _};
use std::path::{Path, PathBuf};

/// A box in the middle, its content cleared.
fn open(state: &State, buf: &mut Buffer, area: Rect, size: (u16, u16), title: &str) -> Rect {
    let width = size.0.min(area.width);
    let height = size.1.min(area.height);
    let place = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    Clear.render(place, buf);
    buf.set_style(place, state.theme.text);
    let title = Line::styled(format!(" {title} "), state.theme.focus);
    frame(buf, place, title, state.theme.focus)
}

pub fn draw(state: &State, buf: &mut Buffer, area: Rect) {
    let Some(overlay) = &state.overlay else {
        return;
    };
    let theme = &state.theme;
    match overlay {
        Overlay::Help { scroll } => help(state, buf, area, *scroll),
        Overlay::Palette { input, selected } => palette(state, buf, area, input, *selected),
        Overlay::Prompt {
            kind,
            input,
            offered,
            error,
        } => {
            let inside = open(state, buf, area, (64, 4), kind.title());
            if *offered {
                line(buf, inside, 0, Span::styled(input.as_str(), theme.selected));
            } else {
                line(buf, inside, 0, typed(state, "", input));
            }
            match error {
                Some(error) => line(buf, inside, 1, Span::styled(error.as_str(), theme.error)),
                None => line(
                    buf,
                    inside,
                    1,
                    Span::styled("enter takes it, esc leaves it", theme.dim),
                ),
            }
        }
        Overlay::Picker { items, selected } => picker(state, buf, area, items, *selected),
        Overlay::Templates { selected } => {
            let names = State::template_names();
            let inside = open(
                state,
                buf,
                area,
                (100, names.len() as u16 + 2),
                "start from",
            );
            list(state, buf, inside, &names, *selected);
        }
        Overlay::Goal(form) => goal(state, buf, area, form),
        Overlay::Confirm { question, .. } => confirm(state, buf, area, question),
        Overlay::Changed { file } => changed(state, buf, area, file),
        Overlay::Leaving { unsaved, running } => {
            leaving(state, buf, area, *unsaved, *running);
        }
        Overlay::Page { page, scroll } => {
            let (title, lines) = pages::content(state, *page);
            reader(state, buf, area, title, &lines, *scroll);
        }
    }
}

/// The commands that fit what is typed.
fn palette(state: &State, buf: &mut Buffer, area: Rect, input: &str, selected: usize) {
    let inside = open(state, buf, area, (72, 20), "commands");
    line(buf, inside, 0, typed(state, ":", input));
    let items: Vec<String> = command::search(state, input)
        .iter()
        .map(|c| {
            let keys: Vec<String> = state
                .keymap
                .of(c.name)
                .iter()
                .map(ToString::to_string)
                .collect();
            let place = c.elsewhere(state);
            let place = place.map_or(String::new(), |p| format!("{}: ", p.name()));
            format!("{:<16} {:<14} {place}{}", c.name, keys.join(" "), c.help)
        })
        .collect();
    list(state, buf, rows(inside, 1, inside.height), &items, selected);
}

/// The sessions that were found.
fn picker(state: &State, buf: &mut Buffer, area: Rect, items: &[PathBuf], selected: usize) {
    let demo = "the demo that ships".to_string();
    let names = items.iter().map(|f| f.display().to_string());
    let all: Vec<String> = std::iter::once(demo).chain(names).collect();
    let inside = open(
        state,
        buf,
        area,
        (64, all.len() as u16 + 3),
        "open a session",
    );
    list(
        state,
        buf,
        rows(inside, 0, inside.height.saturating_sub(1)),
        &all,
        selected,
    );
}

/// A question to be answered by yes or no.
fn confirm(state: &State, buf: &mut Buffer, area: Rect, question: &str) {
    let theme = &state.theme;
    let width = 60.min(area.width.saturating_sub(2));
    let lines = textwrap::wrap(question, usize::from(width.saturating_sub(2)));
    let inside = open(state, buf, area, (width, lines.len() as u16 + 3), "?");
    for (i, text) in lines.iter().enumerate() {
        line(buf, inside, i as u16, Span::raw(&**text));
    }
    line(
        buf,
        inside,
        lines.len() as u16,
        Line::from(vec![
            Span::styled("y", theme.key),
            Span::raw(" yes   "),
            Span::styled("n", theme.key),
            Span::raw(" no"),
        ]),
    );
}

/// What a deployment is to be, to be typed.
fn goal(state: &State, buf: &mut Buffer, area: Rect, form: &GoalForm) {
    let theme = &state.theme;
    let height = GoalForm::ROWS as u16 + 4;
    let inside = open(state, buf, area, (66, height), "what a deployment is to be");
    let minimise = ("minimise", objective(form.objective), "");
    let limits = Limit::ALL.into_iter().zip(&form.typed);
    let limits = limits.map(|(limit, typed)| {
        let (name, unit, _) = words(limit);
        (name, typed.as_str(), unit)
    });
    for (row, (name, value, unit)) in std::iter::once(minimise).chain(limits).enumerate() {
        let here = row == form.selected;
        let (mark, style) = match (here, form.offered) {
            (true, true) => ("▸ ", theme.selected),
            (true, false) => ("▸ ", theme.text),
            (false, _) => ("  ", theme.text),
        };
        let empty = value.is_empty() && !here;
        let value = Span::styled(if empty { number::NONE } else { value }, style);
        let cursor = if here && row > 0 {
            theme.cursor
        } else {
            Style::new()
        };
        let gap = 14_usize.saturating_sub(value.width() + 1);
        let words = vec![
            Span::styled(mark, theme.key),
            Span::styled(format!("{name:<16}"), theme.dim),
            value,
            Span::styled(" ", cursor),
            Span::raw(" ".repeat(gap)),
            Span::styled(unit, theme.dim),
        ];
        line(buf, inside, row as u16, Line::from(words));
    }
    let below = GoalForm::ROWS as u16;
    let (text, style) = match &form.error {
        Some((_, error)) => (error.as_str(), theme.error),
        None if form.selected == 0 => ("←/→ choose what is to be small", theme.dim),
        None => {
            let limit = Limit::ALL[form.selected - 1];
            (limit.range(), theme.dim)
        }
    };
    line(buf, inside, below, Span::styled(text, style));
    let keys = [("↑/↓", "row"), ("enter", "take"), ("esc", "leave")];
    let keys = keys.iter().flat_map(|(key, what)| {
        [
            Span::styled(format!("{key} "), theme.key),
            Span::raw(format!("{what}   ")),
        ]
    });
    line(buf, inside, below + 1, Line::from(keys.collect::<Vec<_>>()));
}

/// What is to become of a file that somebody else has written.
fn changed(state: &State, buf: &mut Buffer, area: Rect, file: &Path) {
    let theme = &state.theme;
    let inside = open(state, buf, area, (66, 7), "save");
    let what = format!("{} was changed by somebody else.", file.display());
    line(buf, inside, 0, Span::raw(what));
    for (i, (key, text)) in [
        ("o", "write over it: theirs is lost"),
        ("a", "save this one under another name"),
        ("t", "open theirs; the edits made here are offered then"),
        ("n", "neither"),
    ]
    .into_iter()
    .enumerate()
    {
        let words = vec![
            Span::styled(format!("{key:<3}"), theme.key),
            Span::raw(text),
        ];
        line(buf, inside, 1 + i as u16, Line::from(words));
    }
}

/// What is to become of runs when the workbench is left.
fn leaving(state: &State, buf: &mut Buffer, area: Rect, unsaved: bool, running: usize) {
    let theme = &state.theme;
    let inside = open(state, buf, area, (66, 7), "quit");
    let what = if unsaved {
        format!("{running} running, and the session has unsaved edits.")
    } else {
        format!("{running} running.")
    };
    line(buf, inside, 0, Span::raw(what));
    let (again, stop) = if unsaved {
        (
            "the session is opened again; the edits are offered then",
            "stop it: finished stages are kept; the edits are lost",
        )
    } else {
        (
            "the session is opened again",
            "stop it: finished stages are kept",
        )
    };
    for (i, (key, text)) in [
        (
            "f",
            "let it finish: it goes on by itself, and is joined when",
        ),
        ("", again),
        ("s", stop),
        ("n", "stay"),
    ]
    .into_iter()
    .enumerate()
    {
        let words = vec![
            Span::styled(format!("{key:<3}"), theme.key),
            Span::raw(text),
        ];
        line(buf, inside, 1 + i as u16, Line::from(words));
    }
}

fn typed<'a>(state: &State, mark: &'a str, input: &'a str) -> Line<'a> {
    Line::from(vec![
        Span::styled(mark, state.theme.key),
        Span::raw(input),
        Span::styled(" ", state.theme.cursor),
    ])
}

fn list(state: &State, buf: &mut Buffer, area: Rect, items: &[String], selected: usize) {
    let height = usize::from(area.height);
    let first = (selected + 1).saturating_sub(height);
    let width = usize::from(area.width);
    for (i, item) in items.iter().enumerate().skip(first).take(height) {
        let style = if i == selected {
            state.theme.selected
        } else {
            Style::new()
        };
        line(
            buf,
            area,
            (i - first) as u16,
            Span::styled(format!("{item:<width$}"), style),
        );
    }
    if items.is_empty() {
        line(
            buf,
            area,
            0,
            Span::styled("nothing of that name", state.theme.dim),
        );
    }
}

/// Lines to read, with how far it is at the end.
fn reader(
    state: &State,
    buf: &mut Buffer,
    area: Rect,
    title: &str,
    lines: &[Line<'_>],
    scroll: usize,
) {
    let widest = lines.iter().map(Line::width).max().unwrap_or(20) as u16;
    let size = (
        widest.max(number::width(title) as u16 + 4) + 2,
        lines.len() as u16 + 2,
    );
    let inside = open(state, buf, area, size, title);
    let height = usize::from(inside.height);
    let first = scroll.min(lines.len().saturating_sub(height));
    for (i, text) in lines.iter().skip(first).take(height).enumerate() {
        line(buf, inside, i as u16, text.clone());
    }
    if first + height < lines.len() {
        put(
            buf,
            inside,
            inside.width.saturating_sub(2),
            inside.height.saturating_sub(1),
            " ▼",
            state.theme.key,
        );
    }
}

fn help(state: &State, buf: &mut Buffer, area: Rect, scroll: usize) {
    let mut lines = Vec::new();
    let mut own = true;
    lines.push(Line::styled(
        format!("in {}", state.focus.name()),
        state.theme.title,
    ));
    for command in here(state) {
        if own && command.place == Place::Any {
            own = false;
            lines.push(Line::raw(""));
            lines.push(Line::styled("everywhere", state.theme.title));
        }
        let keys: Vec<String> = state
            .keymap
            .of(command.name)
            .iter()
            .map(ToString::to_string)
            .collect();
        let why = (command.enabled)(state).err();
        let style = if why.is_some() {
            state.theme.dim
        } else {
            Style::new()
        };
        lines.push(Line::from(vec![
            Span::styled(format!("  {:<16}", keys.join(" ")), state.theme.key),
            Span::styled(command.help, style),
        ]));
    }
    lines.push(Line::raw(""));
    lines.push(Line::styled("marks", state.theme.title));
    for (mark, what) in [
        ("┃ ◆ ◇", "split, exit at the edge, exit in the cloud"),
        (
            "✓ │ ○",
            "a split and an exit, only a split, only an exit may stand behind it",
        ),
        (
            "≠ ≈F32 emu",
            "of another plan; the wire's type not yet in it; emulated",
        ),
        (
            "≈",
            "a head's time predicted by its MACs, until it is profiled",
        ),
        (
            "rss",
            "peak memory of a process; without it, packed weights, arena and heads",
        ),
    ] {
        lines.push(Line::from(vec![
            Span::styled(format!("  {mark:<16}"), state.theme.exit),
            Span::raw(what),
        ]));
    }
    reader(state, buf, area, "keys", &lines, scroll);
}
