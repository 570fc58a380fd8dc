/*! Explore: the Pareto-optimal plans, a line each, under the limits they keep to. */

use super::hint;
use crate::explore::{Candidate, Choice, Objective, Statistic, knee};
use crate::plan::Tier;
use crate::predict::Outcome;
use crate::tui::state::State;
use crate::tui::widgets::scatter::Scatter;
use crate::tui::widgets::{columns, line, number, put, put_right, rows};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// What the marks of the plane mean, at length and shorter where the plane stands beside the list.
const LEGENDS: [&str; 4] = [
    "● this plan  ▸ selected  K knee  W whole on the edge  C in the cloud  ┄ limit",
    "● this plan  ▸ selected  K knee  W edge only  C cloud only  ┄ limit",
    "● this ▸ row K knee W edge C cloud",
    "K knee  W edge  C cloud",
];

pub fn title(state: &State) -> Vec<Span<'static>> {
    let explore = &state.explore;
    let dim = state.theme.dim;
    match (&explore.found, explore.searching) {
        (_, true) => vec![Span::styled("searching … ", dim)],
        (Some(found), false) => vec![Span::styled(
            format!(
                "{} Pareto-optimal of {} plans · predicted, calibration ",
                found.front.len(),
                found.tried
            ),
            dim,
        )],
        (None, false) => Vec::new(),
    }
}

fn limits(state: &State, buf: &mut Buffer, area: Rect) {
    let theme = &state.theme;
    let limits = &state.explore.limits;
    let none = || number::NONE.to_string();
    let words = [
        (
            "limit-accuracy",
            "accuracy ≥ ",
            limits.accuracy.map_or_else(none, number::percent),
        ),
        (
            "limit-latency",
            "mean ≤ ",
            limits
                .latency_ms
                .map_or_else(none, |ms| format!("{} ms", number::ms(ms))),
        ),
        (
            "limit-memory",
            "memory ≤ ",
            limits
                .edge_memory_bytes
                .map_or_else(none, |b| number::bytes(b as f64)),
        ),
        (
            "limit-cost",
            "$/1 M ≤ ",
            limits.cost_per_million.map_or_else(none, number::dollars),
        ),
        (
            "limit-energy",
            "energy ≤ ",
            limits.energy_mj.map_or_else(none, number::energy),
        ),
    ];
    let mut spans = vec![Span::styled("limits  ", theme.dim)];
    for (command, what, value) in words {
        spans.push(Span::styled(
            format!("{} ", state.keymap.first(command)),
            theme.key,
        ));
        spans.push(Span::raw(what));
        spans.push(Span::styled(format!("{value}  "), theme.title));
    }
    let order = state.explore.by.name();
    let used: usize = spans.iter().map(Span::width).sum();
    if usize::from(area.width) >= used + order.len() {
        put_right(buf, area, 0, order, theme.dim);
    }
    line(buf, rows(area, 0, 1), 0, Line::from(spans));
}

/// The exits of each part, by their marks.
fn exits(candidate: &Candidate) -> String {
    let exits = candidate.plan.exits.iter();
    exits
        .map(|e| crate::tui::widgets::exit_mark(e.tier))
        .collect()
}

/// Numbers right-aligned in columns of their own; names take what is left. A column that doesn't fit
/// whole is left out, with those behind it.
fn row(width: usize, name: usize, cells: [&str; 9]) -> String {
    let [
        split,
        exits,
        threshold,
        accuracy,
        mean,
        p95,
        memory,
        cost,
        energy,
    ] = cells;
    let mut text = format!("{:<name$} {exits:<6}", number::clip(split, name));
    for (cell, columns) in [
        (threshold, 4),
        (accuracy, 7),
        (mean, 6),
        (p95, 6),
        (memory, 8),
        (cost, 9),
        (energy, 7),
    ] {
        if number::width(&text) + 1 + columns > width {
            break;
        }
        text += &format!(" {cell:>columns$}");
    }
    text
}

/// Columns that the list has beside the plane of accuracy and objective.
const LIST: u16 = 84;
/// Rows of the plane above the list, where there is room for both.
const PLANE: u16 = 6;

/// Where the list lies, and the plane, if there is room for it.
fn places(area: Rect) -> (Rect, Option<Rect>) {
    if area.width >= LIST + 30 {
        let plane = columns(area, LIST + 2, area.width - LIST - 2);
        let plane = rows(plane, 1, area.height.saturating_sub(1));
        return (columns(area, 0, LIST), Some(plane));
    }
    if area.height >= PLANE + 9 {
        let plane = rows(area, 1, PLANE);
        let below = rows(area, PLANE, area.height - PLANE);
        return (below, Some(plane));
    }
    (area, None)
}

/// Accuracy over the objective: the plans, and among them the one of the session, the knee, the whole
/// network on either side, and the goal's limits.
fn plane(state: &State, buf: &mut Buffer, area: Rect) {
    let (theme, explore) = (&state.theme, &state.explore);
    let Some(found) = &explore.found else {
        return;
    };
    let minimise = found.goal.minimise;
    let at = |o: &Outcome| (minimise.value(o), o.accuracy);
    let points: Vec<(f64, f64)> = found.front.iter().map(|c| at(&c.outcome)).collect();
    let mut marks = Vec::new();
    for (choice, outcome) in &found.whole {
        let (x, y) = at(outcome);
        let (symbol, style) = match choice {
            Choice::CloudOnly => ("C", theme.cloud),
            _ => ("W", theme.edge),
        };
        marks.push((x, y, symbol, style));
    }
    if let Some(&(x, y)) = knee(&points).and_then(|at| points.get(at)) {
        marks.push((x, y, "K", theme.title));
    }
    if let Some(&(x, y)) = points.get(explore.selected) {
        marks.push((x, y, "▸", theme.selected));
    }
    if let Some(own) = &state.derived.predicted {
        let (x, y) = at(own);
        marks.push((x, y, "●", theme.good));
    }
    let within = &found.within;
    let (name, write, limit): (&str, fn(f64) -> String, Option<f64>) = match minimise {
        Objective::Latency(Statistic::Mean) => ("mean, ms", number::ms, within.latency_ms),
        Objective::Latency(Statistic::P95) => ("p95, ms", number::ms, None),
        Objective::Cost => ("$ per 1 M", number::dollars, within.cost_per_million),
        Objective::EdgeMemory => {
            let most = within.edge_memory_bytes.map(|bytes| bytes as f64);
            ("edge memory", number::bytes, most)
        }
        Objective::Energy => ("energy", number::energy, within.energy_mj),
    };
    let fits = |legend: &&&str| legend.chars().count() <= usize::from(area.width);
    let legend = LEGENDS.iter().find(fits).unwrap_or(&LEGENDS[3]);
    let last = area.height.saturating_sub(1);
    let legend = number::clip(legend, area.width.into());
    line(buf, area, last, Span::styled(legend, theme.dim));
    Scatter {
        points: &points,
        marks: &marks,
        limits: (limit, within.accuracy),
        x: (name, write),
        y: number::percent,
        style: theme.exit,
        limit: theme.warning,
        dim: theme.dim,
    }
    .draw(buf, rows(area, 0, last));
}

/// The plan in a row of the screen.
pub fn row_at(state: &State, area: Rect, row: u16) -> Option<usize> {
    let (area, _) = places(area);
    let list = rows(area, 2, area.height.saturating_sub(3));
    let line = usize::from(row.checked_sub(list.y)?);
    let height = usize::from(list.height);
    let first = (state.explore.selected + 1).saturating_sub(height);
    let at = first + line;
    (line < height && at < state.explore.front().len()).then_some(at)
}

pub fn draw(state: &State, buf: &mut Buffer, area: Rect) {
    let theme = &state.theme;
    limits(state, buf, rows(area, 0, 1));
    if is_empty(state, buf, area) {
        return;
    }
    let (area, beside) = places(area);
    if let Some(beside) = beside {
        plane(state, buf, beside);
    }
    let figures = if area.width >= LIST { 65 } else { 57 };
    let name = usize::from(area.width).saturating_sub(figures).clamp(8, 28);
    let heading = [
        "  split after",
        "exits",
        "at",
        "accuracy",
        "mean",
        "p95",
        "edge mem",
        "$ per 1 M",
        "energy",
    ];
    line(
        buf,
        area,
        1,
        Span::styled(row(area.width.into(), name + 2, heading), theme.dim),
    );
    // Below the list, the exits of the selected plan by name.
    list(
        state,
        buf,
        rows(area, 2, area.height.saturating_sub(3)),
        name,
    );
    if let Some(candidate) = state.explore.front().get(state.explore.selected) {
        let exits = candidate.plan.exits.iter();
        let names: Vec<&str> = exits.map(|e| e.after.as_str()).collect();
        let words = if names.is_empty() {
            "no exits".to_string()
        } else {
            format!("exits after {}", names.join(", "))
        };
        let last = area.height.saturating_sub(1);
        line(buf, area, last, Span::styled(words, theme.dim));
    }
}

/// Whether there are no plans to list; says why.
fn is_empty(state: &State, buf: &mut Buffer, area: Rect) -> bool {
    let (theme, explore) = (&state.theme, &state.explore);
    if let Some(why) = &explore.lacking {
        let used = super::wrapped(buf, area, 2, &format!("no search: {why}"), theme.dim);
        let then = " gets what is missing: profiles, heads, tables";
        line(buf, area, 2 + used, hint(state, "", "run", then));
        return true;
    }
    let none = explore.found.is_some() && explore.front().is_empty();
    if none {
        let text = "no plan keeps to these limits; an empty answer lifts one";
        line(buf, area, 2, Span::styled(text, theme.warning));
    }
    none
}

/// As many plans as fit, the selected one among them; `name` is the width of its place.
fn list(state: &State, buf: &mut Buffer, area: Rect, name: usize) {
    let (theme, explore) = (&state.theme, &state.explore);
    let front = explore.front();
    let height = usize::from(area.height);
    let width = usize::from(area.width);
    let first = (explore.selected + 1).saturating_sub(height);
    for (i, candidate) in front.iter().enumerate().skip(first).take(height) {
        let mark = if state.is_taken(&candidate.plan) {
            "="
        } else {
            " "
        };
        let feasible = explore.found.as_ref();
        let feasible = feasible.is_none_or(|found| found.within.hold(&candidate.outcome));
        let style = match (i == explore.selected, feasible) {
            (true, _) => theme.selected,
            (false, true) => Style::new(),
            // What the session's goal rules out.
            (false, false) => theme.dim,
        };
        let cells = cells(state, candidate, width.saturating_sub(2), name);
        let text = format!("{mark} {cells}");
        let text = format!("{text:<width$}");
        line(buf, area, (i - first) as u16, Span::styled(text, style));
    }
    if first + height < front.len() && area.height > 0 {
        let end = area.width.saturating_sub(1);
        put(buf, area, end, area.height - 1, "▼", theme.dim);
    }
}

/// A plan's row: where it splits, its exits, what it is predicted to reach.
fn cells(state: &State, candidate: &Candidate, width: usize, name: usize) -> String {
    let o = &candidate.outcome;
    let ms = |of: fn(&crate::predict::Latency) -> f64| {
        let latency = o.latency_ms.as_ref();
        latency.map_or(number::NONE.into(), |l| number::ms(of(l)))
    };
    let threshold = match candidate.plan.exits.first() {
        Some(exit) => format!("{:.2}", exit.threshold),
        None => number::NONE.into(),
    };
    let cost = o
        .cost_per_million
        .map_or_else(|| number::dollars(0.0), |c| number::dollars(c.rounded));
    row(
        width,
        name,
        [
            &candidate.plan.place(&state.document.session.tier_names()),
            &exits(candidate),
            &threshold,
            &number::percent(o.accuracy),
            &ms(|l| l.mean),
            &ms(|l| l.p95),
            &number::bytes(o.memory_bytes(Tier::First) as f64),
            &cost,
            &o.energy
                .map_or(number::NONE.into(), |e| number::energy(e.mj())),
        ],
    )
}
