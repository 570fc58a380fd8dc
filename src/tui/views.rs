/*!
Views: one file a panel, each drawing borrowed state into a buffer. On a wide screen all panels are
seen together; on a small one the panel in focus is a page, with the plan's strip above it.
*/

mod evidence;
mod exits;
mod explore;
mod footer;
mod header;
mod layers;
mod overlay;
mod plan;
mod runs;
mod session;
mod threshold;

use super::message::{Hit, Panel};
use super::state::State;
use super::state::runs::{Origin, Run};
use super::widgets::{ascii, frame, rows};
use crossterm::event::{MouseButton, MouseEvent, MouseEventKind};
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Margin, Position, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// Draws the whole screen.
pub fn draw(state: &State, area: Rect) -> Buffer {
    let mut buf = Buffer::empty(area);
    if area.is_empty() {
        return buf;
    }
    buf.set_style(area, state.theme.text);
    let [head, tabs, body, foot] = bands(area);
    header::draw(state, &mut buf, head, tabs);
    footer::draw(state, &mut buf, foot);
    if has_summary(state, body) {
        plan::summary(state, &mut buf, rows(body, 0, SUMMARY));
    }
    for (shown, place) in places(state, body) {
        panel(state, &mut buf, place, shown);
    }
    if state.overlay.is_some() {
        overlay::draw(state, &mut buf, area);
    }
    if state.ascii {
        ascii::fold_buffer(&mut buf);
    }
    buf
}

/// Rows of the plan's summary above a page.
const SUMMARY: u16 = 3;

/// Header, pages, body, footer.
fn bands(area: Rect) -> [Rect; 4] {
    Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area)
}

fn is_overview(state: &State) -> bool {
    let at = Panel::ALL.iter().position(|p| *p == state.focus);
    state.is_wide() && !state.zoom && at.is_some_and(|at| at < Panel::OVERVIEW)
}

fn has_summary(state: &State, body: Rect) -> bool {
    let own = matches!(state.focus, Panel::Plan | Panel::Session);
    !is_overview(state) && !own && body.height >= 12
}

/// Whether the runs get the room of the exit classifier, where there isn't enough for both: while one
/// is looked at or goes on, and the classifier isn't what is looked at.
fn wants_room(state: &State) -> bool {
    let goes_on = |r: &Run| r.is_running() && r.origin != Origin::Background;
    let runs = state.focus == Panel::Runs || state.runs.iter().any(goes_on);
    runs && state.focus != Panel::Exits
}

/// The panels on screen, frames included.
fn places(state: &State, body: Rect) -> Vec<(Panel, Rect)> {
    if !is_overview(state) {
        let above = if has_summary(state, body) { SUMMARY } else { 0 };
        let rest = rows(body, above, body.height.saturating_sub(above));
        return vec![(state.focus, rest)];
    }
    let tuning = if body.height > 50 { 14 } else { 9 };
    let [top, bottom] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(tuning)]).areas(body);
    let halves = Layout::horizontal([Constraint::Percentage(56), Constraint::Percentage(44)]);
    if body.height < 50 && wants_room(state) {
        let [above, runs] =
            Layout::vertical([Constraint::Fill(1), Constraint::Length(11)]).areas(top);
        let [layers, plan] = halves.areas(above);
        return vec![
            (Panel::Layers, layers),
            (Panel::Plan, plan),
            (Panel::Runs, runs),
            (Panel::Threshold, bottom),
        ];
    }
    let [left, right] = halves.areas(top);
    let [layers, exits] = Layout::vertical([Constraint::Fill(3), Constraint::Fill(2)]).areas(left);
    let [plan, runs] =
        Layout::vertical([Constraint::Length(plan::HEIGHT), Constraint::Fill(1)]).areas(right);
    vec![
        (Panel::Layers, layers),
        (Panel::Exits, exits),
        (Panel::Plan, plan),
        (Panel::Runs, runs),
        (Panel::Threshold, bottom),
    ]
}

/// What the mouse means where it is.
pub fn hit(state: &State, area: Rect, event: MouseEvent) -> Option<Hit> {
    let at = Position::new(event.column, event.row);
    let [_, tabs, body, _] = bands(area);
    let shown = places(state, body);
    let under = shown.iter().find(|(_, place)| place.contains(at)).copied();
    let inside = |place: Rect| place.inner(Margin::new(1, 1));
    match event.kind {
        MouseEventKind::ScrollDown => under.map(|(panel, _)| Hit::Wheel(panel, true)),
        MouseEventKind::ScrollUp => under.map(|(panel, _)| Hit::Wheel(panel, false)),
        MouseEventKind::Drag(MouseButton::Left) => {
            let (_, place) = shown.iter().find(|(p, _)| *p == Panel::Threshold)?;
            let place = inside(*place);
            (event.row == place.y).then(|| Hit::Threshold(threshold::at(place, event.column)))
        }
        MouseEventKind::Down(MouseButton::Left) if tabs.contains(at) => {
            header::page_at(event.column - tabs.x, tabs.width).map(Hit::Panel)
        }
        MouseEventKind::Down(MouseButton::Left) => {
            let (panel, place) = under?;
            let place = inside(place);
            let own = match panel {
                _ if !place.contains(at) => None,
                Panel::Layers => layers::row_at(state, place, event.row).map(Hit::Layer),
                Panel::Threshold if event.row == place.y => {
                    Some(Hit::Threshold(threshold::at(place, event.column)))
                }
                Panel::Explore => explore::row_at(state, place, event.row).map(Hit::Explored),
                _ => None,
            };
            own.or(Some(Hit::Panel(panel)))
        }
        _ => None,
    }
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
        Panel::Plan => plan::title(state),
        Panel::Exits => exits::title(state),
        Panel::Runs => runs::title(state),
        Panel::Threshold => threshold::title(state),
        Panel::Explore => explore::title(state),
        Panel::Session => Vec::new(),
        Panel::Evidence => evidence::title(state),
    });
    let inside = frame(buf, area, Line::from(words), border);
    match panel {
        Panel::Layers => layers::draw(state, buf, inside, focused),
        Panel::Plan => plan::draw(state, buf, inside),
        Panel::Exits => exits::draw(state, buf, inside),
        Panel::Runs => runs::draw(state, buf, inside),
        Panel::Threshold => threshold::draw(state, buf, inside, focused),
        Panel::Explore => explore::draw(state, buf, inside),
        Panel::Session => session::draw(state, buf, inside),
        Panel::Evidence => evidence::draw(state, buf, inside),
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
    for line in textwrap::wrap(text, usize::from(area.width)) {
        super::widgets::line(buf, area, row, Line::styled(line, style));
        row += 1;
    }
    row - from
}
