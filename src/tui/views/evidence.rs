/*! Evidence: how honest confidences are, what is mistaken for what, single samples, and other conditions. */

use super::{hint, wrapped};
use crate::predict::Bin;
use crate::report::evidence::{ClassFigures, Confusion, Group, LatencyBin, Picture, ShownSample};
use crate::report::reliability::ReliabilityReport;
use crate::run::RunEvidence;
use crate::tui::state::State;
use crate::tui::state::evidence::View;
use crate::tui::widgets::bar::bar;
use crate::tui::widgets::{columns, line, number, put, put_right, rows};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};

/// Columns of the list beside a diagram or a picture.
const LIST: u16 = 36;
/// Columns of a cell of the matrix, and of the names beside it, at least and at most.
const CELL: u16 = 6;
const NAMES: (u16, u16) = (13, 22);
/// Columns of the list of samples beside a picture, at least.
const ANSWERS: u16 = 54;

pub fn title(state: &State) -> Vec<Span<'static>> {
    let page = &state.evidence_page;
    let words = match (page.view, &page.shown) {
        (View::WhatIf, _) => "the best plan elsewhere · predicted, calibration ",
        (_, Some(_)) => "the last run · measured, test ",
        (_, None) => "",
    };
    vec![Span::styled(words, state.theme.dim)]
}

pub fn draw(state: &State, buf: &mut Buffer, area: Rect) {
    let theme = &state.theme;
    let page = &state.evidence_page;
    let mut tabs = Vec::new();
    for view in View::ALL {
        let style = if view == page.view {
            theme.selected
        } else {
            theme.dim
        };
        tabs.extend([
            Span::styled(format!(" {} ", view.name()), style),
            Span::raw(" "),
        ]);
    }
    line(buf, area, 0, Line::from(tabs));
    let below = rows(area, 1, area.height);
    if page.view == View::WhatIf {
        return what_if(state, buf, below);
    }
    let Some(evidence) = page.shown.as_deref() else {
        return nothing(state, buf, below);
    };
    let mut used = 0;
    if let Some(problem) = &page.problem {
        used = wrapped(buf, below, 0, &problem.to_string(), theme.warning);
    }
    let below = rows(below, used, below.height);
    match page.view {
        View::Reliability => reliability(state, buf, below, &evidence.reliability),
        View::Classes => classes(state, buf, below, &evidence.shown.classes),
        View::Confusions => confusions(state, buf, below, evidence),
        View::Latency => latency(state, buf, below, &evidence.shown.latencies),
        View::Samples => samples(state, buf, below, &evidence.shown.samples),
        View::WhatIf => {}
    }
}

/// Why there is nothing, and the key that changes it.
fn nothing(state: &State, buf: &mut Buffer, area: Rect) {
    let page = &state.evidence_page;
    let why = match (&page.problem, page.reading) {
        (Some(problem), _) => problem.to_string(),
        (None, true) => "reading what the run kept".into(),
        (None, false) => "nothing has run yet".into(),
    };
    let used = wrapped(buf, area, 0, &why, state.theme.dim);
    let then = " runs the plan; what its samples show stands here then";
    line(buf, area, used, hint(state, "", "run", then));
}

/// The first row to draw so that the selected one is seen among `height`.
fn first(selected: usize, height: u16) -> usize {
    (selected + 1).saturating_sub(usize::from(height))
}

/// A share, or nothing.
fn share(share: Option<f64>) -> String {
    share.map_or(number::NONE.into(), number::percent)
}

fn row_style(state: &State, row: usize) -> Style {
    if row == state.evidence_page.selected {
        state.theme.selected
    } else {
        Style::new()
    }
}

/// Says that there are more rows than are seen.
fn more(state: &State, buf: &mut Buffer, area: Rect, below: bool) {
    if below && area.height > 0 {
        put_right(buf, area, area.height - 1, "▼", state.theme.key);
    }
}

/// The classifiers with their calibration errors, and the diagram of the selected one.
fn reliability(state: &State, buf: &mut Buffer, area: Rect, all: &[ReliabilityReport]) {
    let theme = &state.theme;
    let heading = format!("{:<16} {:>8} {:>9}", "classifier", "ECE raw", "scaled");
    line(buf, area, 0, Span::styled(heading, theme.dim));
    let list = rows(columns(area, 0, LIST), 1, area.height);
    let from = first(state.evidence_page.selected, list.height);
    for (i, of) in all.iter().enumerate().skip(from).take(list.height.into()) {
        let before = share(of.error_before.map(f64::from));
        let text = format!(
            "{:<16} {before:>8} {:>9}",
            number::clip(of.name(), 16),
            number::percent(of.reliability.error)
        );
        line(
            buf,
            list,
            (i - from) as u16,
            Span::styled(text, row_style(state, i)),
        );
    }
    if let Some(of) = all.get(state.evidence_page.selected) {
        diagram(state, buf, columns(area, LIST + 2, area.width), of);
    }
}

/// Accuracy in each bin of confidence as a bar, with the bin's mean confidence marked on it: an honest
/// classifier's bars end at the marks.
fn diagram(state: &State, buf: &mut Buffer, area: Rect, of: &ReliabilityReport) {
    let theme = &state.theme;
    let label = 27;
    let width = area.width.saturating_sub(label);
    if width < 8 {
        return;
    }
    let heading = format!("{:<11} {:>7} {:>6} ", "confidence", "right", "n");
    let legend = format!(
        "┃ confidence; scaled by a temperature of {:.2}",
        of.temperature
    );
    let legend = if number::width(&legend) <= width.into() {
        &legend
    } else {
        "┃ confidence"
    };
    line(
        buf,
        area,
        0,
        Span::styled(format!("{heading}{legend}"), theme.dim),
    );
    let bins = &of.reliability.bins;
    let count = bins.len().max(1) as f64;
    let seen = bins.iter().enumerate().filter(|(_, bin)| bin.samples > 0);
    let list = rows(area, 1, area.height);
    for (row, (i, bin)) in seen.enumerate() {
        let Bin {
            samples,
            confidence,
            accuracy,
        } = *bin;
        let (from, to) = (i as f64 / count, (i + 1) as f64 / count);
        let range = format!("{from:.2}–{to:.2}");
        let text = format!("{range:<11} {:>7} {samples:>6} ", number::percent(accuracy));
        put(buf, list, 0, row as u16, &text, Style::new());
        let plot = columns(list, label, width);
        put(buf, plot, 0, row as u16, &bar(accuracy, width), theme.curve);
        let at = (confidence * f64::from(width - 1)).round() as u16;
        put(buf, plot, at, row as u16, "┃", theme.point);
    }
}

/// The classes, the least accurate first.
fn classes(state: &State, buf: &mut Buffer, area: Rect, all: &[ClassFigures]) {
    let theme = &state.theme;
    let name = usize::from(area.width).saturating_sub(40).clamp(8, 28);
    let heading = format!(
        "{:<name$} {:>7} {:>8} {:>10}",
        "class", "samples", "right", "left early"
    );
    line(buf, area, 0, Span::styled(heading, theme.dim));
    let mut sorted: Vec<&ClassFigures> = all.iter().collect();
    let accuracy = |class: &ClassFigures| class.accuracy.unwrap_or(2.0);
    sorted.sort_by(|a, b| accuracy(a).total_cmp(&accuracy(b)));
    let list = rows(area, 1, area.height);
    let from = first(state.evidence_page.selected, list.height);
    for (i, class) in sorted
        .iter()
        .enumerate()
        .skip(from)
        .take(list.height.into())
    {
        let text = format!(
            "{:<name$} {:>7} {:>8} {:>10} ",
            number::clip(&class.name, name),
            class.samples,
            share(class.accuracy),
            share(class.early)
        );
        let row = (i - from) as u16;
        put(buf, list, 0, row, &text, row_style(state, i));
        let used = number::width(&text) as u16;
        let room = list.width.saturating_sub(used + 1);
        let drawn = bar(class.accuracy.unwrap_or(0.0), room);
        put(buf, list, used, row, &drawn, theme.curve);
    }
    more(
        state,
        buf,
        list,
        from + usize::from(list.height) < all.len(),
    );
}

/// The confusion matrix where it fits, and which classes are taken for which most often.
fn confusions(state: &State, buf: &mut Buffer, area: Rect, evidence: &RunEvidence) {
    let (classes, all) = (&evidence.shown.classes, &evidence.shown.confusions);
    let count = classes.len() as u16;
    let cells = count.saturating_mul(CELL);
    let name = area.width.saturating_sub(cells).min(NAMES.1);
    let height = count.saturating_add(2);
    let fits = name >= NAMES.0 && height <= area.height;
    if fits {
        let place = columns(area, 0, name + cells);
        matrix(state, buf, (place, name), classes, all);
    }
    let width = name + cells + 3;
    let rest = match fits {
        true if area.width >= width + 30 => columns(area, width, area.width),
        true => rows(area, height, area.height),
        false => area,
    };
    let mut wrong: Vec<&Confusion> = all.iter().filter(|c| c.label != c.prediction).collect();
    wrong.sort_by_key(|c| (std::cmp::Reverse(c.samples), c.label, c.prediction));
    if rest.height < 2 {
        return;
    }
    let heading = "taken for another, the most often first";
    line(buf, rest, 0, Span::styled(heading, state.theme.dim));
    let list = rows(rest, 1, rest.height);
    let called = |class: u16| {
        let named = classes.get(usize::from(class));
        named.map_or_else(|| class.to_string(), |class| class.name.clone())
    };
    let from = first(state.evidence_page.selected, list.height);
    for (i, confusion) in wrong.iter().enumerate().skip(from).take(list.height.into()) {
        let (label, taken) = (called(confusion.label), called(confusion.prediction));
        let text = format!("{:>6}  {label} → {taken}", confusion.samples);
        line(
            buf,
            list,
            (i - from) as u16,
            Span::styled(text, row_style(state, i)),
        );
    }
    more(
        state,
        buf,
        list,
        from + usize::from(list.height) < wrong.len(),
    );
}

/// True classes down, answers across by the number of their class, behind `name` columns of names.
fn matrix(
    state: &State,
    buf: &mut Buffer,
    (area, name): (Rect, u16),
    classes: &[ClassFigures],
    all: &[Confusion],
) {
    let theme = &state.theme;
    put(buf, area, 0, 0, "is \\ answered", theme.dim);
    let cell = |column: usize| columns(area, name + column as u16 * CELL, CELL);
    for (at, class) in classes.iter().enumerate() {
        put_right(buf, cell(at), 0, &at.to_string(), theme.dim);
        let called = if class.name == at.to_string() {
            ""
        } else {
            &class.name
        };
        let called: String = format!("{at:>2} {called}")
            .chars()
            .take(usize::from(name) - 1)
            .collect();
        put(buf, area, 0, 1 + at as u16, &called, theme.dim);
    }
    for confusion in all {
        let style = if confusion.label == confusion.prediction {
            theme.good
        } else {
            theme.text
        };
        let row = 1 + confusion.label;
        let text = confusion.samples.to_string();
        put_right(buf, cell(confusion.prediction.into()), row, &text, style);
    }
}

/// Samples by latency: those that stayed on the first tier, and those sent on.
fn latency(state: &State, buf: &mut Buffer, area: Rect, bins: &[LatencyBin]) {
    let theme = &state.theme;
    let names = state.document.session.tier_names();
    let mut tiers = names.tiers().map(|tier| names.name(tier).to_string());
    let own = tiers.next().unwrap_or_default();
    if bins.is_empty() {
        let text = "no latency was measured, or all samples took the same";
        line(buf, area, 0, Span::styled(text, theme.dim));
        return;
    }
    let heading = Line::from(vec![
        Span::styled(format!("{:<17} {:>7}  ", "ms", "samples"), theme.dim),
        Span::styled("█", theme.edge),
        Span::styled(format!(" answered on {own}  "), theme.dim),
        Span::styled("░", theme.cloud),
        Span::styled(" sent on; last: the rest", theme.dim),
    ]);
    line(buf, area, 0, heading);
    let list = rows(area, 1, area.height);
    let most = bins
        .iter()
        .map(|b| b.local + b.offloaded)
        .max()
        .unwrap_or(0)
        .max(1);
    let from = first(state.evidence_page.selected, list.height);
    for (i, bin) in bins.iter().enumerate().skip(from).take(list.height.into()) {
        let row = (i - from) as u16;
        let range = format!("{} to {}", number::ms(bin.from_ms), number::ms(bin.to_ms));
        let text = format!("{range:<17} {:>7}  ", bin.local + bin.offloaded);
        put(buf, list, 0, row, &text, row_style(state, i));
        let plot = columns(list, 27, list.width);
        let long = |n: usize| (n * usize::from(plot.width)).div_ceil(most);
        let local = long(bin.local);
        put(buf, plot, 0, row, &"█".repeat(local), theme.edge);
        put(
            buf,
            plot,
            local as u16,
            row,
            &"░".repeat(long(bin.offloaded)),
            theme.cloud,
        );
    }
    more(
        state,
        buf,
        list,
        from + usize::from(list.height) < bins.len(),
    );
}

/// Why a sample is listed.
fn group(group: Group) -> &'static str {
    match group {
        Group::Early => "first exit",
        Group::Late => "to the end",
        Group::Wrong => "wrong",
    }
}

/// Single samples, and the picture of the selected one where it is known and colours can be shown.
fn samples(state: &State, buf: &mut Buffer, area: Rect, all: &[ShownSample]) {
    let theme = &state.theme;
    let selected = all.get(state.evidence_page.selected);
    let picture = selected.and_then(|s| s.picture.as_ref());
    let picture = picture.filter(|_| state.pictures && area.width >= ANSWERS + 16);
    let side = picture.map_or(0, |_| {
        (2 * area.height.min(16)).min(area.width - ANSWERS - 2)
    });
    let width = area.width.saturating_sub(side + u16::from(side > 0) * 2);
    let list = columns(area, 0, width);
    let answer = usize::from(width).saturating_sub(38).max(6);
    let heading = format!(
        "{:<10} {:>6} {:<answer$} {:>5} {:>8}",
        "left", "sample", "answer", "conf.", "ms"
    );
    line(buf, list, 0, Span::styled(heading, theme.dim));
    let detail = u16::from(list.height > 4);
    let inside = rows(list, 1, list.height.saturating_sub(1 + detail));
    let from = first(state.evidence_page.selected, inside.height);
    for (i, sample) in all.iter().enumerate().skip(from).take(inside.height.into()) {
        let taken = match sample.label == sample.prediction {
            true => sample.label.clone(),
            false => format!("{}, is {}", sample.prediction, sample.label),
        };
        let ms = sample
            .latency_ms
            .map_or(number::NONE.into(), |ms| number::ms(ms.into()));
        let taken: String = taken.chars().take(answer).collect();
        let text = format!(
            "{:<10} {:>6} {taken:<answer$} {:>5.3} {ms:>8}",
            group(sample.group),
            sample.sample,
            sample.confidence
        );
        let style = match (i == state.evidence_page.selected, sample.group) {
            (true, _) => theme.selected,
            (false, Group::Wrong) => theme.error,
            (false, _) => Style::new(),
        };
        line(buf, inside, (i - from) as u16, Span::styled(text, style));
    }
    more(
        state,
        buf,
        inside,
        from + usize::from(inside.height) < all.len(),
    );
    if let (Some(sample), 1) = (selected, detail) {
        let left = sample.after.as_ref();
        let left = left.map_or("answered by the final classifier".into(), |a| {
            format!("left after {a}")
        });
        let reading = if state.evidence_page.reading {
            "; the pictures are being read"
        } else {
            ""
        };
        line(
            buf,
            list,
            list.height - 1,
            Span::styled(left + reading, theme.dim),
        );
    }
    if let Some(picture) = picture {
        half_blocks(buf, columns(area, area.width - side, side), picture);
    }
}

/// A picture of half blocks, two pixels a cell, as large as the area lets a square be.
fn half_blocks(buf: &mut Buffer, area: Rect, picture: &Picture) {
    let side = u32::from(area.width.min(2 * area.height));
    let colour = |x: u32, y: u32| {
        let (x, y) = (x * picture.width / side, y * picture.height / side);
        let at = 3 * (y * picture.width + x) as usize;
        let rgb = picture.rgb.get(at..at + 3);
        rgb.map_or(Color::Reset, |rgb| Color::Rgb(rgb[0], rgb[1], rgb[2]))
    };
    for row in 0..side / 2 {
        for column in 0..side {
            let style = Style::new()
                .fg(colour(column, 2 * row))
                .bg(colour(column, 2 * row + 1));
            put(buf, area, column as u16, row as u16, "▀", style);
        }
    }
}

/// The best plan where link, devices or prices are others, as the report words it.
fn what_if(state: &State, buf: &mut Buffer, area: Rect) {
    let theme = &state.theme;
    let page = &state.evidence_page.what_if;
    if let Some((done, total)) = page.progress {
        let far = match total {
            0 => String::new(),
            _ => format!(", {done} of {total} settings"),
        };
        let text = format!("searching the best plan under other conditions{far}; ");
        let words = vec![
            Span::styled(text, theme.dim),
            Span::styled(state.keymap.first("stop-what-if"), theme.key),
            Span::styled(" stops", theme.dim),
        ];
        line(buf, area, 0, Line::from(words));
        return;
    }
    let Some(found) = &page.found else {
        let why = match (&page.lacking, &state.derived.lacking) {
            (Some(crate::predict::ReplayError::Stopped), _) => {
                "stopped; changing the goal or the map asks anew".into()
            }
            (Some(why), _) | (None, Some(why)) => format!("no answer: {why}"),
            (None, None) => "asked once no run goes on".to_string(),
        };
        wrapped(buf, area, 0, &why, theme.dim);
        return;
    };
    let text = found.text(&state.document.session.tier_names());
    let lines: Vec<&str> = text.lines().collect();
    let height = usize::from(area.height);
    let from = state
        .evidence_page
        .selected
        .min(lines.len().saturating_sub(height));
    for (row, text) in lines.iter().skip(from).take(height).enumerate() {
        line(buf, area, row as u16, Span::raw((*text).to_string()));
    }
    more(state, buf, area, from + height < lines.len());
}
