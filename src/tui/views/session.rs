/*! The session: its file, what is unsaved, and every setting with what it may be. */

use super::wrapped;
use crate::event::TargetId;
use crate::tui::message::Tested;
use crate::tui::state::State;
use crate::tui::state::settings::Row;
use crate::tui::widgets::{line, number, rows};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// Columns of a setting's name.
const NAME: usize = 33;
/// Rows for the setting under the cursor: what it is for, what it may be and what it is usually.
const DETAIL: u16 = 5;

pub fn draw(state: &State, buf: &mut Buffer, area: Rect) {
    let theme = &state.theme;
    let document = &state.document;
    let file = match &document.file {
        Some(file) => file.display().to_string(),
        None => "the demo that ships with the program; saving asks for a name".into(),
    };
    let field = |name: &'static str, text: String| {
        Line::from(vec![Span::styled(name, theme.dim), Span::raw(text)])
    };
    line(buf, area, 0, field("file   ", file));
    let standing = if state.is_unsaved() {
        "unsaved edits, kept in"
    } else {
        "saved; edits go to"
    };
    let (undo, redo) = document.steps();
    let journal = document.journal.display();
    let text = format!("{standing} {journal}; {undo} back, {redo} forth");
    line(buf, area, 1, field("state  ", text));
    let mut from = 2;
    for doubt in &state.doubts.found {
        from += wrapped(buf, area, from, &doubt.to_string(), theme.warning);
    }
    let height = area.height.saturating_sub(from + DETAIL);
    list(state, buf, rows(area, from, height));
    detail(state, buf, rows(area, from + height, DETAIL));
}

/// The rows around the cursor, the values other than usual marked.
fn list(state: &State, buf: &mut Buffer, area: Rect) {
    let theme = &state.theme;
    let session = &state.document.session;
    let all = Row::all(session);
    let selected = state.settings.selected.min(all.len().saturating_sub(1));
    let height = usize::from(area.height);
    // Two rows behind the cursor stay in sight.
    let first = (selected + 3).min(all.len()).saturating_sub(height);
    for (i, row) in all.iter().enumerate().skip(first).take(height) {
        let text = row.text(session);
        let usual = row.usual(session);
        let own = usual.is_some_and(|usual| usual != text);
        let value = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let tested = match row {
            Row::Target(part, index) => {
                let id = TargetId {
                    part: *part,
                    index: *index,
                };
                state.settings.tested.get(&id)
            }
            _ => None,
        };
        let (told, style) = tested.map_or((String::new(), Style::new()), |t| words(state, t));
        let name = format!("{} {:<NAME$} ", if own { "•" } else { " " }, row.path());
        let room = usize::from(area.width).saturating_sub(NAME + 3);
        let most = match told.is_empty() {
            true => room,
            false => (room / 2).max(room.saturating_sub(number::width(&told) + 2)),
        };
        let value = cut(&value, most);
        let gap = " ".repeat(2.min(room.saturating_sub(number::width(&value))));
        let (names, values) = match (i == selected, own) {
            (true, _) => (theme.selected, theme.selected),
            (false, true) => (theme.dim, theme.point),
            (false, false) => (theme.dim, theme.text),
        };
        let spans = vec![
            Span::styled(name, names),
            Span::styled(value, values),
            Span::raw(gap),
            Span::styled(told, style),
        ];
        line(buf, area, (i - first) as u16, Line::from(spans));
    }
    if first + height < all.len() {
        let last = area.height.saturating_sub(1);
        crate::tui::widgets::put_right(buf, area, last, " ▼", theme.key);
    }
}

/// Cut behind where too long.
fn cut(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => {
            text.chars()
                .take(width.saturating_sub(1))
                .collect::<String>()
                + "…"
        }
        false => text.to_owned(),
    }
}

/// What a test says, in a line.
fn words(state: &State, tested: &Tested) -> (String, Style) {
    let theme = &state.theme;
    match tested {
        Tested::Asked => ("▸ connecting …".into(), theme.dim),
        Tested::Reached => ("▸ reached; asks who it is …".into(), theme.dim),
        Tested::Answers {
            device,
            threads,
            version,
        } if version == env!("CARGO_PKG_VERSION") => {
            let s = if *threads == 1 { "" } else { "s" };
            let words = format!("✓ {device}, {threads} thread{s}, version {version}");
            (words, theme.good)
        }
        Tested::Answers {
            device, version, ..
        } => {
            let own = env!("CARGO_PKG_VERSION");
            let words = format!("! {device}: version {version} there, {own} here");
            (words, theme.warning)
        }
        Tested::Local => ("✓ a run starts it here".into(), theme.good),
        Tested::Open => ("✓ takes connections".into(), theme.good),
        Tested::Failed(problem) => (format!("✗ {}", problem.replace('\n', " ")), theme.error),
        Tested::Stopped => ("■ stopped".into(), theme.warning),
    }
}

/// What the setting under the cursor is for, what it may be, what it is usually; of a target what its
/// test said in full.
fn detail(state: &State, buf: &mut Buffer, area: Rect) {
    let theme = &state.theme;
    let Some(row) = state.setting_row() else {
        return;
    };
    let rule = "─".repeat(usize::from(area.width));
    line(buf, area, 0, Span::styled(rule, theme.border));
    let mut from = 1;
    let failed = match row {
        Row::Target(part, index) => state.settings.tested.get(&TargetId { part, index }),
        _ => None,
    };
    if let Some(Tested::Failed(problem)) = failed {
        wrapped(buf, area, from, problem, theme.error);
        return;
    }
    from += wrapped(buf, area, from, row.help(), theme.text);
    let usual = row.usual(&state.document.session);
    let usual = usual.map_or(String::new(), |usual| format!("; usually {usual}"));
    let text = format!("{}{usual}", row.allowed());
    wrapped(buf, area, from, &text, theme.dim);
}
