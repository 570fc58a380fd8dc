/*! What lies over the panels. */

mod compare;
mod pages;

use crate::explore::Limit;
use crate::tui::command::spoken::{self, Entry};
use crate::tui::command::{Place, here};
use crate::tui::state::State;
use crate::tui::state::finder::Offer;
use crate::tui::state::goal::{GoalForm, objective, words};
use crate::tui::state::overlay::{Overlay, Prompt};
use crate::tui::state::settings::ValueForm;
use crate::tui::state::typed::Typed;
use crate::tui::widgets::{frame, line, number, put, rows};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Widget as _};
use std::path::Path;

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
    match overlay {
        Overlay::Help { scroll } => help(state, buf, area, *scroll),
        Overlay::Palette {
            input,
            selected,
            error,
        } => palette(state, buf, area, (input, *selected), error.as_deref()),
        Overlay::Prompt { kind, input, error } => {
            prompt(state, buf, area, (*kind, input), error.as_deref());
        }
        Overlay::Picker { input, selected } => picker(state, buf, area, input, *selected),
        Overlay::Value(form) => value(state, buf, area, form),
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

/// A text to be typed; below it the paths that go on from one.
fn prompt(
    state: &State,
    buf: &mut Buffer,
    area: Rect,
    (kind, input): (Prompt, &Typed),
    error: Option<&str>,
) {
    let theme = &state.theme;
    let paths = match kind.is_path() && !input.is_offered() {
        true => state.paths(input.text()),
        false => Vec::new(),
    };
    let shown = paths.len().min(8);
    let inside = open(state, buf, area, (64, 4 + shown as u16), kind.title());
    input_line(state, buf, inside, "", input);
    let words = match (error, kind.is_path()) {
        (Some(error), _) => Span::styled(error, theme.error),
        (None, true) => Span::styled("enter takes it, tab completes it, esc leaves it", theme.dim),
        (None, false) => Span::styled("enter takes it, esc leaves it", theme.dim),
    };
    line(buf, inside, 1, words);
    for (i, path) in paths.iter().take(shown).enumerate() {
        line(
            buf,
            inside,
            2 + i as u16,
            Span::styled(format!("  {path}"), theme.dim),
        );
    }
}

/// The commands that fit what is typed; of the one under the cursor the command line.
fn palette(
    state: &State,
    buf: &mut Buffer,
    area: Rect,
    (input, selected): (&Typed, usize),
    error: Option<&str>,
) {
    let theme = &state.theme;
    let inside = open(state, buf, area, (76, 20), "commands");
    input_line(state, buf, inside, ":", input);
    let entries = spoken::entries(state, input.text());
    let items: Vec<String> = entries.iter().map(|entry| row(state, entry)).collect();
    let foot = 3.min(inside.height.saturating_sub(1));
    let room = inside.height.saturating_sub(1 + foot);
    list(state, buf, rows(inside, 1, room), &items, selected);
    let foot = rows(inside, 1 + room, foot);
    // Of a command that was found by two words, the row says all.
    let is_command = matches!(entries.get(selected), Some(spoken::Entry::Command(_)));
    let said = spoken::parse(input.text()).filter(|_| !is_command);
    let help = said.map(|(takes, _)| takes.words(state));
    match (error, help) {
        (Some(error), _) => {
            super::wrapped(buf, rows(foot, 0, 2), 0, error, theme.error);
        }
        (None, Some(help)) => {
            super::wrapped(buf, rows(foot, 0, 2), 0, &help, theme.dim);
        }
        (None, None) => line(
            buf,
            foot,
            1,
            Span::styled("tab completes, enter runs", theme.dim),
        ),
    }
    let same = entries.get(selected).and_then(|e| e.command_line(state));
    if let Some(same) = same {
        let keys = "ctrl-y copies";
        let width = usize::from(foot.width).saturating_sub(keys.len() + 4);
        let words = vec![
            Span::styled("$ ", theme.key),
            Span::raw(number::clip(&same, width)),
            Span::styled(format!("  {keys}"), theme.dim),
        ];
        line(buf, foot, 2, Line::from(words));
    }
}

fn row(state: &State, entry: &Entry) -> String {
    match entry {
        Entry::Command(command) => {
            let keys = state.keymap.of(command.name).iter();
            let keys: Vec<String> = keys.map(ToString::to_string).collect();
            let place = command.elsewhere(state);
            let place = place.map_or(String::new(), |p| format!("{}: ", p.name()));
            let keys = keys.join(" ");
            format!("{:<16} {keys:<14} {place}{}", command.name, command.help)
        }
        Entry::Word(name, help) => format!("{:<31} {help}", format!("{name} …")),
        Entry::Said(..) => entry.line(),
    }
}

/// The sessions that were found.
fn picker(state: &State, buf: &mut Buffer, area: Rect, input: &Typed, selected: usize) {
    let offers = state.offers(input.text());
    let labels: Vec<String> = offers.iter().map(Offer::label).collect();
    let inside = open(state, buf, area, (76, 20), "open a session");
    input_line(state, buf, inside, "", input);
    let room = inside.height.saturating_sub(2);
    list(state, buf, rows(inside, 1, room), &labels, selected);
    let words = "letters find, a path with / is gone through, tab completes, enter opens";
    line(buf, inside, 1 + room, Span::styled(words, state.theme.dim));
}

/// A value of the session's page, with what it is for and what it may be.
fn value(state: &State, buf: &mut Buffer, area: Rect, form: &ValueForm) {
    let theme = &state.theme;
    let width = 76.min(area.width);
    let texts = [
        (form.of.help().to_owned(), theme.text),
        (form.of.allowed(), theme.dim),
    ];
    let wrap = |text: &str| textwrap::wrap(text, usize::from(width) - 2).len() as u16;
    let error = form.error.clone().unwrap_or_default();
    let lines = texts.iter().map(|(text, _)| wrap(text)).sum::<u16>();
    let size = (width, lines + wrap(&error).max(1) + 3);
    let inside = open(state, buf, area, size, &form.of.title());
    let mut from = 0;
    for (text, style) in texts {
        from += super::wrapped(buf, inside, from, &text, style);
    }
    input_line(state, buf, rows(inside, from, 1), "▸ ", &form.input);
    match form.error.is_some() {
        true => super::wrapped(buf, inside, from + 1, &error, theme.error),
        false => super::wrapped(
            buf,
            inside,
            from + 1,
            "enter takes it, esc leaves it",
            theme.dim,
        ),
    };
}

/// A line that is typed, its cursor in it; where it is too long, the part around the cursor.
fn input_line(state: &State, buf: &mut Buffer, area: Rect, mark: &str, input: &Typed) {
    let theme = &state.theme;
    if input.is_offered() {
        line(
            buf,
            area,
            0,
            Span::styled(input.text().to_owned(), theme.selected),
        );
        return;
    }
    let room = usize::from(area.width)
        .saturating_sub(number::width(mark) + 1)
        .max(1);
    let (text, cursor) = (input.text(), input.cursor());
    let from = cursor.saturating_sub(room);
    let letters: Vec<char> = text.chars().skip(from).take(room).collect();
    let at = cursor - from;
    let part = |letters: &[char]| letters.iter().collect::<String>();
    let under = letters.get(at).map_or(" ".to_owned(), char::to_string);
    let words = vec![
        Span::styled(mark.to_owned(), theme.key),
        Span::raw(part(&letters[..at.min(letters.len())])),
        Span::styled(under, theme.cursor),
        Span::raw(letters.get(at + 1..).map_or(String::new(), part)),
    ];
    line(buf, area, 0, Line::from(words));
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
