/*! The session: its file, what is unsaved, and its text as it would be written. */

use super::hint;
use crate::tui::state::State;
use crate::tui::widgets::line;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

pub fn draw(state: &State, buf: &mut Buffer, area: Rect) {
    let theme = &state.theme;
    let document = &state.document;
    let file = match &document.file {
        Some(file) => file.display().to_string(),
        None => "the demo that ships with the program; saving asks for a name".into(),
    };
    let (undo, redo) = document.steps();
    let standing = if state.is_unsaved() {
        "unsaved edits, kept in"
    } else {
        "saved; edits go to"
    };
    line(
        buf,
        area,
        0,
        Line::from(vec![Span::styled("file     ", theme.dim), Span::raw(file)]),
    );
    let journal = format!("{standing} {}", document.journal.display());
    line(
        buf,
        area,
        1,
        Line::from(vec![
            Span::styled("state    ", theme.dim),
            Span::raw(journal),
        ]),
    );
    let steps = format!("{undo} back, {redo} forth");
    line(
        buf,
        area,
        2,
        Line::from(vec![Span::styled("edits    ", theme.dim), Span::raw(steps)]),
    );
    line(
        buf,
        area,
        3,
        hint(state, "open     ", "open", " lists sessions"),
    );
    let mut from = 4;
    for doubt in &state.doubts.found {
        from += super::wrapped(buf, area, from, &doubt.to_string(), theme.warning);
    }
    let text = document.session.to_text().unwrap_or_else(|e| e.to_string());
    for (i, words) in text.lines().enumerate() {
        let comment = words.trim_start().starts_with("//");
        let style = if comment { theme.comment } else { theme.text };
        line(
            buf,
            area,
            from + 1 + i as u16,
            Span::styled(words.to_string(), style),
        );
    }
}
