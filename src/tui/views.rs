/*!
Views: one file a panel, each drawing borrowed state into a buffer. On a wide screen all panels are
seen together; on a small one the panel in focus is a page, with the plan's strip above it.
*/

mod exits;
mod footer;
mod header;
mod layers;
mod overlay;
mod plan;
mod runs;
mod session;
mod threshold;

use super::state::{Panel, State};
use super::widgets::{ascii, frame, rows};
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// Draws everything.
pub fn draw(state: &State, area: Rect) -> Buffer {
    let mut buf = Buffer::empty(area);
    if area.is_empty() {
        return buf;
    }
    buf.set_style(area, state.theme.text);
    let [head, tabs, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    header::draw(state, &mut buf, head, tabs);
    footer::draw(state, &mut buf, foot);
    if state.is_wide() && !state.zoom && state.focus != Panel::Session {
        overview(state, &mut buf, body);
    } else {
        page(state, &mut buf, body);
    }
    if state.overlay.is_some() {
        overlay::draw(state, &mut buf, area);
    }
    if state.ascii {
        ascii::fold_buffer(&mut buf);
    }
    buf
}

fn overview(state: &State, buf: &mut Buffer, area: Rect) {
    let tuning = if area.height > 50 { 14 } else { 9 };
    let [top, bottom] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(tuning)]).areas(area);
    let [left, right] =
        Layout::horizontal([Constraint::Percentage(56), Constraint::Percentage(44)]).areas(top);
    let [layers, exits] = Layout::vertical([Constraint::Fill(3), Constraint::Fill(2)]).areas(left);
    let [plan, runs] =
        Layout::vertical([Constraint::Length(plan::HEIGHT), Constraint::Fill(1)]).areas(right);
    panel(state, buf, layers, Panel::Layers);
    panel(state, buf, exits, Panel::Exits);
    panel(state, buf, plan, Panel::Plan);
    panel(state, buf, runs, Panel::Runs);
    panel(state, buf, bottom, Panel::Threshold);
}

fn page(state: &State, buf: &mut Buffer, area: Rect) {
    let summary = state.focus != Panel::Plan && state.focus != Panel::Session && area.height >= 12;
    let above = if summary { 3 } else { 0 };
    if summary {
        plan::summary(state, buf, rows(area, 0, above));
    }
    let rest = rows(area, above, area.height.saturating_sub(above));
    panel(state, buf, rest, state.focus);
}

fn panel(state: &State, buf: &mut Buffer, area: Rect, panel: Panel) {
    let theme = &state.theme;
    let focused = state.focus == panel;
    let border = if focused { theme.focus } else { theme.border };
    let title = if focused { theme.focus } else { theme.title };
    let number = Panel::ALL.iter().position(|p| *p == panel).unwrap_or(0) + 1;
    let mut words = vec![Span::styled(format!(" {number} {} ", panel.name()), title)];
    words.extend(match panel {
        Panel::Layers => layers::title(state),
        Panel::Plan => Vec::new(),
        Panel::Exits => exits::title(state),
        Panel::Runs => runs::title(state),
        Panel::Threshold => threshold::title(state),
        Panel::Session => Vec::new(),
    });
    let inside = frame(buf, area, Line::from(words), border);
    match panel {
        Panel::Layers => layers::draw(state, buf, inside, focused),
        Panel::Plan => plan::draw(state, buf, inside),
        Panel::Exits => exits::draw(state, buf, inside),
        Panel::Runs => runs::draw(state, buf, inside),
        Panel::Threshold => threshold::draw(state, buf, inside, focused),
        Panel::Session => session::draw(state, buf, inside),
    }
}

/// A sentence for where there is nothing, naming the key that changes it.
fn hint<'a>(state: &State, text: &'a str, command: &str, then: &'a str) -> Line<'a> {
    Line::from(vec![
        Span::styled(text, state.theme.dim),
        Span::styled(state.keymap.first(command), state.theme.key),
        Span::styled(then, state.theme.dim),
    ])
}

/// Text over several rows, broken at spaces; gives the number of rows.
fn wrapped(buf: &mut Buffer, area: Rect, from: u16, text: &str, style: Style) -> u16 {
    let mut row = from;
    for line in wrap(text, usize::from(area.width)) {
        super::widgets::line(buf, area, row, Line::styled(line, style));
        row += 1;
    }
    row - from
}

/// A text in lines of so many columns, broken at spaces.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_inclusive(' ') {
            if !line.is_empty() && (line.chars().count() + word.trim_end().chars().count()) > width
            {
                lines.push(line.trim_end().to_string());
                line = String::new();
            }
            line.push_str(word);
        }
        lines.push(line.trim_end().to_string());
    }
    lines
}
