/*! The last line: a notice where there is one, the next useful keys where not. */

use crate::tui::command::{Command, here};
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
    let mut spans = match state.focus == Panel::Runs && state.shown_playback().is_some() {
        true => Vec::new(),
        false => vec![Span::styled(" ←/→ ", theme.key), Span::raw("threshold ")],
    };
    let width = usize::from(area.width);
    let mut used: usize = spans.iter().map(Span::width).sum();
    for command in here(state).filter(useful) {
        let idle = matches!(command.name, "stop" | "pause");
        if idle && !state.runs.iter().any(|r| r.is_running()) {
            continue;
        }
        let key = Span::styled(format!(" {} ", state.keymap.first(command.name)), theme.key);
        let what = Span::raw(format!("{} ", command.hint));
        used += key.width() + what.width();
        if used > width {
            break;
        }
        spans.extend([key, what]);
    }
    line(buf, area, 0, Line::from(spans));
}
