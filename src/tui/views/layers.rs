/*! The layer table: bars on one scale, marks where split and exits stand. */

use super::hint;
use crate::device::Profile;
use crate::plan::{Split, Tier};
use crate::tui::state::State;
use crate::tui::state::layers::{Row, Sort, position, rows};
use crate::tui::widgets::exit_mark;
use crate::tui::widgets::{bar, line, number, put, put_right, rows as part};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Span;

/// What the frame says of how the table is shown.
pub fn title(state: &State) -> Vec<Span<'static>> {
    let view = &state.layers;
    let mut words = Vec::new();
    if let Some(network) = &state.network {
        words.push(Span::styled(
            format!("{} ", network.table.network),
            state.theme.text,
        ));
    }
    let mut say = |text: String| words.push(Span::styled(format!("· {text} "), state.theme.dim));
    if let Some(where_timed) = timed_on(state) {
        say(where_timed);
    }
    if view.sort != Sort::Order {
        say(view.sort.name(&state.document.session.tier_names()));
    }
    if view.log {
        say("log scale".into());
    }
    if view.folded {
        say("blocks".into());
    }
    if !view.filter.is_empty() {
        say(format!("with \"{}\", esc shows all", view.filter));
    }
    words
}

/// The devices of the profiles, and which of them aren't this machine's own.
fn timed_on(state: &State) -> Option<String> {
    let results = &state.results;
    let side = |profile: &Profile, shipped: bool| {
        let device = &profile.device;
        if shipped {
            format!("{device} (shipped)")
        } else {
            device.clone()
        }
    };
    let names = state.document.session.tier_names();
    let sides = names.tiers().map(|tier| {
        let shipped = state.shipped.profiles[tier.index()];
        Some((names.name(tier), side(results.profile(tier)?, shipped)))
    });
    let sides: Vec<(&str, String)> = sides.collect::<Option<_>>()?;
    let (_, first) = sides.first()?;
    Some(if sides.iter().all(|(_, device)| device == first) {
        format!("timed on {first}")
    } else {
        let each = sides
            .iter()
            .map(|(name, device)| format!("{name} on {device}"));
        format!("timed: {}", each.collect::<Vec<_>>().join(", "))
    })
}

/// What stands behind a layer.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mark {
    None,
    Exit(Tier),
    Split,
}

fn mark(state: &State, row: &Row) -> Mark {
    let Some(plan) = &state.derived.plan else {
        return Mark::None;
    };
    let exit = plan.exits.iter().find(|e| row.layers.contains(&e.layer));
    let mut splits = plan.splits.iter().filter_map(|split| split.row());
    match exit {
        Some(exit) => Mark::Exit(exit.tier),
        None if splits.any(|at| row.layers.contains(&at)) => Mark::Split,
        None => Mark::None,
    }
}

/// Widths of what fits.
#[derive(Debug, Clone, Copy, Default)]
struct Widths {
    name: u16,
    op: u16,
    output: u16,
    bar: u16,
    /// How many of the tiers, nearest first, have a column of times.
    tiers: usize,
    prefix: bool,
}

impl Widths {
    fn of(width: u16, rows: &[Row], tiers: usize) -> Widths {
        let longest = |text: fn(&Row) -> &str| {
            rows.iter()
                .map(|r| number::width(text(r)))
                .max()
                .unwrap_or(5) as u16
        };
        let widest = if width >= 76 { 28 } else { 20 };
        // Of a narrow screen the name gets what times and memory leave.
        let room = width.saturating_sub(4 + 1 + 7 + 9).max(1);
        let name = longest(|r| &r.name).clamp(5, widest).min(room);
        let mut w = Widths {
            name,
            ..Widths::default()
        };
        // Marks, edge time, memory, each with a gap.
        let mut left = width.saturating_sub(4 + name + 7 + 9);
        let mut take = |columns: u16, keep: u16| {
            let fits = left >= columns + keep;
            if fits {
                left -= columns;
            }
            fits
        };
        w.prefix = take(6, 6);
        w.tiers = 1;
        while w.tiers < tiers && take(7, 9) {
            w.tiers += 1;
        }
        if take(longest(|r| &r.op).clamp(4, 18) + 1, 12) {
            w.op = longest(|r| &r.op).clamp(4, 18);
        }
        if take(11, 18) {
            w.output = 10;
        }
        w.bar = left / (w.tiers as u16 + 1);
        w
    }
}

/// Why no network is there yet.
fn unread(state: &State, buf: &mut Buffer, area: Rect) {
    let theme = &state.theme;
    let Some(problem) = &state.network_problem else {
        let reading = Span::styled("reading the network …", theme.dim);
        return line(buf, area, 0, reading);
    };
    let used = super::wrapped(buf, area, 0, &problem.to_string(), theme.error);
    let other = hint(state, "", "open", " opens another session");
    line(buf, area, used + 1, other);
}

pub fn draw(state: &State, buf: &mut Buffer, area: Rect, focused: bool) {
    let theme = &state.theme;
    let Some(network) = &state.network else {
        unread(state, buf, area);
        return;
    };
    let rows = rows(state);
    let widths = Widths::of(area.width, &rows, state.document.session.tiers.len());
    heading(state, buf, area, widths);
    let table = part(area, 1, area.height.saturating_sub(2));
    totals(
        state,
        buf,
        part(area, area.height.saturating_sub(1), 1),
        &rows,
    );
    if area.height < 3 {
        return;
    }
    if rows.is_empty() {
        line(buf, table, 0, Span::styled("no layer has that", theme.dim));
        return;
    }
    let times = rows.iter().flat_map(|r| &r.ms).flatten();
    let scale = Scale {
        ms: times.copied().fold(0.0, f64::max),
        bytes: rows.iter().map(|r| r.bytes as f64).fold(0.0, f64::max),
        log: state.layers.log,
    };
    let height = usize::from(table.height);
    let (selected, splits, first, lines) = window(state, &rows, height);
    let mut at = 0;
    for (i, row) in rows.iter().enumerate() {
        if at >= first && at < first + height {
            let style = match (i == selected, focused) {
                (true, true) => theme.selected,
                (true, false) => theme.title,
                _ => Style::new(),
            };
            draw_row(
                state,
                buf,
                part(table, (at - first) as u16, 1),
                row,
                widths,
                scale,
                i == selected,
                style,
            );
        }
        at += 1;
        for behind in splits
            .iter()
            .filter(|(_, row)| *row == i)
            .map(|(tier, _)| *tier)
        {
            if at >= first && at < first + height {
                let bytes = network
                    .table
                    .layers
                    .get(row.layers.end - 1)
                    .map_or(0, |l| l.activation_bytes);
                let place = part(table, (at - first) as u16, 1);
                split_line(state, buf, place, behind, bytes);
            }
            at += 1;
        }
    }
    if first + height < lines {
        // In the row of totals, where it covers no number.
        let last = part(area, area.height.saturating_sub(1), 1);
        put_right(buf, last, 0, "▼", theme.key);
    }
}

/// The row of the cursor; the tiers before splits, each with the row behind which the split's own line
/// stands; the first line that is seen, and how many there are.
fn window(state: &State, rows: &[Row], height: usize) -> (usize, Vec<(Tier, usize)>, usize, usize) {
    let plan = state.derived.plan.as_ref();
    let plan = plan.filter(|_| state.layers.sort == Sort::Order);
    let splits = plan.map_or(&[][..], |p| &p.splits);
    let line = |(tier, split): (Tier, &Split)| {
        let at = split.row()?;
        let row = rows.iter().position(|r| r.layers.contains(&at))?;
        Some((tier, row))
    };
    let splits: Vec<(Tier, usize)> = Tier::chain(splits.len())
        .zip(splits)
        .filter_map(line)
        .collect();
    let selected = position(rows, state.layers.cursor);
    let lines = rows.len() + splits.len();
    let cursor_line = selected + splits.iter().filter(|(_, row)| *row < selected).count();
    let first = cursor_line
        .saturating_sub(height / 2)
        .min(lines.saturating_sub(height));
    (selected, splits, first, lines)
}

/// The layer in a row of the screen.
pub fn row_at(state: &State, area: Rect, row: u16) -> Option<usize> {
    let rows = rows(state);
    let table = part(area, 1, area.height.saturating_sub(2));
    let line = usize::from(row.checked_sub(table.y)?);
    if line >= usize::from(table.height) || rows.is_empty() {
        return None;
    }
    let (_, splits, first, _) = window(state, &rows, usize::from(table.height));
    let mut at = first + line;
    for (above, (_, split)) in splits.iter().enumerate() {
        // Lines of splits above this one are gone already.
        at -= usize::from(first + line > split + above);
    }
    rows.get(at).map(|r| r.layers.start)
}

fn heading(state: &State, buf: &mut Buffer, area: Rect, w: Widths) {
    let dim = state.theme.dim;
    let mut x = 4;
    put(buf, area, x, 0, "layer", dim);
    x += w.name + 1;
    if w.op > 0 {
        put(buf, area, x, 0, "op", dim);
        x += w.op + 1;
    }
    if w.output > 0 {
        put(buf, area, x, 0, "output", dim);
        x += w.output + 1;
    }
    let names = state.document.session.tier_names();
    for tier in names.tiers().take(w.tiers) {
        // Without a bar a column is as wide as its numbers.
        let room = usize::from(7 + w.bar).saturating_sub(1).max(6);
        let words = format!("{} ms", names.name(tier));
        let words = number::clip(&words, room);
        put(
            buf,
            area,
            x,
            0,
            &words,
            state.theme.tier(tier, names.count()),
        );
        x += 7 + w.bar;
    }
    put(buf, area, x, 0, "  memory", state.theme.memory);
    if w.prefix {
        let end = area.width.saturating_sub(4);
        put(buf, area, end, 0, "  Σ%", dim);
    }
}

#[derive(Debug, Clone, Copy)]
struct Scale {
    ms: f64,
    bytes: f64,
    log: bool,
}

#[allow(clippy::too_many_arguments)]
fn draw_row(
    state: &State,
    buf: &mut Buffer,
    area: Rect,
    row: &Row,
    w: Widths,
    scale: Scale,
    here: bool,
    style: Style,
) {
    let theme = &state.theme;
    put(buf, area, 0, 0, if here { "▸" } else { " " }, theme.focus);
    let (symbol, mark_style) = match mark(state, row) {
        Mark::Exit(tier) => (exit_mark(tier), theme.exit),
        Mark::Split => ("┃", theme.split),
        Mark::None => (" ", style),
    };
    put(buf, area, 1, 0, symbol, mark_style);
    let last = state
        .network
        .as_ref()
        .and_then(|n| n.table.layers.get(row.layers.end - 1));
    let legal = match last.map(|l| (l.split_legal, l.exit_legal)) {
        Some((true, true)) => "✓",
        Some((true, false)) => "│",
        Some((false, true)) => "○",
        _ => " ",
    };
    put(buf, area, 2, 0, legal, theme.dim);
    let mut x = 4;
    let pad = |text: &str, width: u16| {
        format!(
            "{:<1$}",
            number::clip(text, width.into()),
            usize::from(width)
        )
    };
    put(buf, area, x, 0, &pad(&row.name, w.name), style);
    x += w.name + 1;
    if w.op > 0 {
        put(buf, area, x, 0, &pad(&row.op, w.op), theme.dim);
        x += w.op + 1;
    }
    if w.output > 0 {
        let shape = last.map_or(String::new(), |l| {
            let sample = l.shape.sample().unwrap_or_default();
            let dims: Vec<String> = sample.iter().map(usize::to_string).collect();
            dims.join("×")
        });
        put(buf, area, x, 0, &pad(&shape, w.output), theme.dim);
        x += w.output + 1;
    }
    let mut time = |x: u16, ms: Option<f64>, style: Style| {
        let text = ms.map_or(number::NONE.to_string(), number::ms);
        put(buf, area, x, 0, &format!("{text:>6}"), Style::new());
        let share = ms.map_or(0.0, |ms| bar::scaled(ms, scale.ms, scale.log));
        put(
            buf,
            area,
            x + 7,
            0,
            &bar::bar(share, w.bar.saturating_sub(1)),
            style,
        );
    };
    let tiers = row.ms.len();
    for (tier, ms) in Tier::chain(w.tiers).zip(&row.ms) {
        time(x, *ms, theme.tier(tier, tiers));
        x += 7 + w.bar;
    }
    let bytes = number::bytes(row.bytes as f64);
    put(buf, area, x, 0, &format!("{bytes:>8}"), Style::new());
    let share = bar::scaled(row.bytes as f64, scale.bytes, scale.log);
    put(
        buf,
        area,
        x + 9,
        0,
        &bar::bar(share, w.bar.saturating_sub(1)),
        theme.memory,
    );
    if w.prefix {
        let text = format!("{:>4.0}", 100.0 * row.prefix);
        put(buf, area, area.width.saturating_sub(4), 0, &text, theme.dim);
    }
}

fn split_line(state: &State, buf: &mut Buffer, area: Rect, behind: Tier, bytes: usize) {
    let names = state.document.session.tier_names();
    // With two tiers there is one split, and no need to say which.
    let which = match Tier::at(behind.index() + 1) {
        Some(next) if names.count() > 2 => {
            format!("{} to {}", names.name(behind), names.name(next))
        }
        _ => "split".to_owned(),
    };
    let words = format!("┄┄ {which} ┄┄ {} per sample ", number::bytes(bytes as f64));
    let rest = usize::from(area.width).saturating_sub(number::width(&words));
    line(
        buf,
        area,
        0,
        Span::styled(format!("{words}{}", "┄".repeat(rest)), state.theme.split),
    );
}

fn totals(state: &State, buf: &mut Buffer, area: Rect, rows: &[Row]) {
    let Some(network) = &state.network else {
        return;
    };
    let sum = |tier: Tier| {
        let times = rows
            .iter()
            .map(|r| r.ms.get(tier.index()).copied().flatten());
        let sum = times.sum::<Option<f64>>();
        // Layers of an engine that fuses them have no times, and the network has one all the same.
        let covered: usize = rows.iter().map(|r| r.layers.len()).sum();
        let all = network.table.layers.len();
        let whole = || {
            let profile = state.results.profile(tier)?;
            profile.rows_ms(&network.table, 0..all).ok()
        };
        sum.or_else(|| whole().filter(|_| covered == all))
    };
    let ms = |time: Option<f64>| {
        time.map_or(number::NONE.to_string(), |t| {
            format!("{} ms", number::ms(t))
        })
    };
    let table = &network.table;
    let mut words = Vec::new();
    let names = state.document.session.tier_names();
    if names
        .tiers()
        .any(|tier| state.results.profile(tier).is_none())
    {
        words.push(Span::styled("no profile: ", state.theme.dim));
        words.push(Span::styled(state.keymap.first("profile"), state.theme.key));
        words.push(Span::styled(" times the layers  ", state.theme.dim));
    }
    let sums = names
        .tiers()
        .map(|tier| format!("{} {}", names.name(tier), ms(sum(tier))));
    words.push(Span::styled(
        format!(
            "{} layers  {}  {}  {} MACs",
            rows.len(),
            sums.collect::<Vec<_>>().join("  "),
            number::bytes(table.memory_bytes as f64),
            number::count(table.macs as f64),
        ),
        state.theme.title,
    ));
    line(buf, area, 0, ratatui::text::Line::from(words));
}
