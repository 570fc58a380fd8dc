/*! Thresholds: the slider, each exit's own, and what follows over all thresholds. */

use super::hint;
use crate::predict::Outcome;
use crate::tui::state::State;
use crate::tui::state::tuning::Curves;
use crate::tui::widgets::curve::Curve;
use crate::tui::widgets::exit_mark;
use crate::tui::widgets::{columns, line, number, put, rows};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Span;

pub fn title(state: &State) -> Vec<Span<'static>> {
    let mut words = vec![Span::styled(
        format!("{:.2} ", state.threshold()),
        state.theme.point,
    )];
    words.push(Span::styled(
        match state.tuned_exit() {
            Some(name) => format!("of the exit after {name} "),
            None => "of all exits ".into(),
        },
        state.theme.dim,
    ));
    if let Some(curves) = &state.tuning.curves {
        let stale = if state.tuning.stale {
            ", being redrawn"
        } else {
            ""
        };
        words.push(Span::styled(
            format!("· predicted, {}{stale} ", source(curves)),
            state.theme.dim,
        ));
    }
    words
}

/// The set of the curves, and how many samples.
fn source(curves: &Curves) -> String {
    let first = curves.outcomes.first();
    first.map_or(String::new(), super::plan::source)
}

pub fn draw(state: &State, buf: &mut Buffer, area: Rect, focused: bool) {
    slider(state, buf, rows(area, 0, 1), focused);
    let mut below = rows(area, 1, area.height);
    // It is of the thresholds that were searched for, and of no others.
    let planned = state.derived.plan.iter().flat_map(|plan| &plan.exits);
    let now: Vec<f64> = planned.map(|exit| exit.threshold).collect();
    let promised = state.tuning.promised.as_ref();
    let promised = promised.filter(|(of, _)| *of == now).map(|(_, text)| text);
    if let (Some(guarantee), 9..) = (promised, below.height) {
        let text = guarantee.text();
        let needed = text.len() as u16 / below.width.max(1) + 1;
        let used = needed.min(below.height / 3);
        let at = rows(below, below.height - used, used);
        super::wrapped(buf, at, 0, &text, state.theme.dim);
        below = rows(below, 0, below.height - used);
    }
    let list = (below.width / 3).clamp(22, 26).min(below.width);
    exits(state, buf, columns(below, 0, list));
    curves(state, buf, columns(below, list + 1, below.width));
}

/// The threshold at a column of the slider.
pub fn at(area: Rect, column: u16) -> f64 {
    let track = area
        .width
        .saturating_sub(ENDS[0].len() as u16 + ENDS[1].len() as u16);
    let from = area.x + ENDS[0].len() as u16;
    let along = f64::from(column) - f64::from(from);
    (along / f64::from(track.max(2) - 1)).clamp(0.0, 1.0)
}

/// What stands left and right of the slider's track.
const ENDS: [&str; 2] = ["0.00 ", " 1.00"];

fn slider(state: &State, buf: &mut Buffer, area: Rect, focused: bool) {
    let theme = &state.theme;
    let [left, right] = ENDS;
    let ends = (left.len() + right.len()) as u16;
    if area.width < ends + 4 {
        return;
    }
    let track = area.width - ends;
    let style = if focused { theme.focus } else { theme.dim };
    put(buf, area, 0, 0, left, theme.dim);
    put(
        buf,
        area,
        left.len() as u16,
        0,
        &"─".repeat(usize::from(track)),
        style,
    );
    put(
        buf,
        area,
        area.width - right.len() as u16,
        0,
        right,
        theme.dim,
    );
    let place =
        |t: f64| left.len() as u16 + (t.clamp(0.0, 1.0) * f64::from(track - 1)).round() as u16;
    // Every exit's own threshold stands on the same track.
    for exit in state.derived.plan.iter().flat_map(|p| &p.exits) {
        let mark = exit_mark(exit.tier);
        if (exit.threshold - state.threshold()).abs() > 1e-9 {
            put(buf, area, place(exit.threshold), 0, mark, theme.exit);
        }
    }
    put(buf, area, place(state.threshold()), 0, "●", theme.point);
}

fn exits(state: &State, buf: &mut Buffer, area: Rect) {
    let theme = &state.theme;
    let policy = &state.document.session.policy;
    let style = |row: usize| {
        if row == state.tuning.selected {
            theme.selected
        } else {
            Style::new()
        }
    };
    let width = usize::from(area.width);
    let padded = |text: String| format!("{text:<width$}");
    // What a threshold means where exits are counted.
    let agree = policy.confidence.agreeing(policy.threshold);
    let agree = agree.map_or(String::new(), |count| format!("  {count} agree"));
    let all = format!("  all exits  {:.2}{agree}", policy.threshold);
    line(buf, area, 0, Span::styled(padded(all), style(0)));
    let exits = state.derived.plan.iter().flat_map(|p| &p.exits);
    for (i, exit) in exits.enumerate() {
        let mark = exit_mark(exit.tier);
        let own = policy.exits.iter().any(|(n, _)| *n == exit.after);
        let share = state
            .derived
            .predicted
            .as_ref()
            .and_then(|o| o.exits.get(i));
        let share = share.map_or(number::NONE.into(), |e| format!("{:.0}%", 100.0 * e.share));
        let name = number::clip(&exit.after, width.saturating_sub(14));
        let rest = width.saturating_sub(13);
        let text = format!(
            "{mark} {name:<rest$}{:.2}{} {share:>4}",
            exit.threshold,
            if own { "·" } else { " " },
        );
        line(buf, area, 1 + i as u16, Span::styled(text, style(i + 1)));
    }
}

/// A curve's title, what it reads and how it writes it.
type Drawn = (&'static str, fn(&Outcome) -> f64, fn(f64) -> String);

fn curves(state: &State, buf: &mut Buffer, area: Rect) {
    let theme = &state.theme;
    let Some(curves) = &state.tuning.curves else {
        let lacking = state.tuning.lacking.as_ref();
        let why = match lacking.or(state.derived.lacking.as_ref()) {
            Some(why) => format!("no curves: {why}"),
            None if state.derived.problem.is_some() => "no curves: there is no plan".into(),
            None => "the curves are being drawn".into(),
        };
        let used = super::wrapped(buf, area, 0, &why, theme.dim);
        line(
            buf,
            area,
            used,
            hint(
                state,
                "",
                "run",
                " gets what is missing: profiles, heads, tables",
            ),
        );
        return;
    };
    let all: [Drawn; 4] = [
        ("accuracy", |o| o.accuracy, number::percent),
        (
            "mean ms",
            |o| o.latency_ms.map_or(f64::NAN, |l| l.mean),
            number::ms,
        ),
        (
            "memory",
            |o| o.tiers.iter().map(|t| t.memory_bytes).sum::<usize>() as f64,
            number::bytes,
        ),
        (
            "$ per 1 M",
            |o| o.cost_per_million.map_or(f64::NAN, |c| c.unrounded),
            number::usd,
        ),
    ];
    // Side by side where they are wide enough to be read, else two by two.
    let across: u16 = match area.width {
        72.. => 4,
        36.. => 2,
        _ => 1,
    };
    let down = 4 / across;
    let (width, height) = (area.width / across, area.height / down);
    for (i, (title, read, write)) in all.into_iter().enumerate() {
        let (x, y) = (i as u16 % across, i as u16 / across);
        let cell = columns(
            rows(area, y * height, height),
            x * width,
            width.saturating_sub(2),
        );
        let pairs = curves.thresholds.iter().zip(&curves.outcomes);
        let points: Vec<(f64, f64)> = pairs.map(|(t, o)| (*t, read(o))).collect();
        Curve {
            title,
            points: &points,
            at: state.threshold(),
            write,
            style: theme.curve,
            point: theme.point,
            dim: theme.dim,
        }
        .draw(buf, cell);
    }
}
