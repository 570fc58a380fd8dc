/*! The last line: a notice where there is one, the next useful keys where not. */

use crate::tui::command::{Command, Place, here};
use crate::tui::message::{Panel, Severity};
use crate::tui::state::State;
use crate::tui::widgets::line;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

pub fn draw(state: &State, buf: &mut Buffer, area: Rect) {
    let theme = &state.theme;
    if let Some((severity, text)) = &state.notice {
        let (mark, style) = match severity {
            Severity::Info => (" ", theme.text),
            Severity::Problem => (" ! ", theme.error),
        };
        // One line: what is longer is the log's or a page's.
        let text = text.replace('\n', " ");
        line(
            buf,
            area,
            0,
            Line::from(vec![Span::styled(mark, style), Span::styled(text, style)]),
        );
        return;
    }
    if state.editor.typing {
        let words = [
            ("esc", "done"),
            ("ctrl-u", "undo"),
            ("ctrl-r", "redo"),
            ("ctrl-s", "save"),
            ("f1", "keys"),
        ];
        let spans = words.iter().flat_map(|(key, what)| {
            [
                Span::styled(format!(" {key} "), theme.key),
                Span::raw(*what),
                Span::raw(" "),
            ]
        });
        line(buf, area, 0, Line::from(spans.collect::<Vec<_>>()));
        return;
    }
    // A command that can't be run now is no useful next key.
    let useful = |c: &&Command| !c.hint.is_empty() && (c.enabled)(state).is_ok();
    let running = state.runs.iter().any(|r| r.is_running());
    let idle = |c: &Command| matches!(c.name, "stop" | "pause") && !running;
    let hint = |c: &'static Command| (state.keymap.first(c.name), c.hint);
    let (own, others): (Vec<_>, Vec<_>) = here(state)
        .filter(useful)
        .filter(|c| !idle(c))
        .partition(|c| c.place != Place::Any);
    let plays = state.focus == Panel::Runs && state.shown_playback().is_some();
    let threshold = (!plays).then(|| ("←/→".to_string(), "threshold"));
    // The page's own keys first.
    let own = own.into_iter().map(hint);
    let all = own.chain(threshold).chain(others.into_iter().map(hint));
    let width = usize::from(area.width);
    let mut spans = Vec::new();
    let mut used = 0;
    for (key, what) in all {
        let key = Span::styled(format!(" {key} "), theme.key);
        let what = Span::raw(format!("{what} "));
        used += key.width() + what.width();
        if used > width {
            break;
        }
        spans.extend([key, what]);
    }
    line(buf, area, 0, Line::from(spans));
}
