/*! Runs: a panel for each target of the shown run, its stages and log, the history. */

mod targets;

use super::hint;
use crate::event::Stage;
use crate::tui::state::State;
use crate::tui::state::playback::Playback;
use crate::tui::state::runs::{Log, Origin, Run, RunState, stage_name};
use crate::tui::widgets::{bar, columns, line, number, put, put_right, rows};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

pub fn title(state: &State) -> Vec<Span<'static>> {
    let running = state.runs.iter().filter(|r| r.is_running()).count();
    match (state.runs.len(), running) {
        (0, _) => Vec::new(),
        (n, 0) => vec![Span::styled(
            format!("{n} in this session "),
            state.theme.dim,
        )],
        (n, r) => vec![
            Span::styled(format!("{r} running "), state.theme.good),
            Span::styled(format!("of {n} "), state.theme.dim),
        ],
    }
}

fn standing(state: &State, run: &Run) -> (&'static str, String, Style) {
    let theme = &state.theme;
    match &run.state {
        RunState::Running => match (run.held, run.pause, &run.origin) {
            (true, ..) => ("▸", "paused".into(), theme.warning),
            (false, true, _) => ("▸", "pauses at its next sample".into(), theme.warning),
            (_, _, Origin::Elsewhere(pid)) => {
                ("▸", format!("running in process {pid}"), theme.good)
            }
            (_, _, Origin::Background) => ("▸", "running in the background".into(), theme.good),
            _ => ("▸", "running".into(), theme.good),
        },
        RunState::Done => match &run.origin {
            Origin::Recorded { device, .. } => ("✓", format!("on {device}"), theme.text),
            _ => ("✓", "done".into(), theme.text),
        },
        RunState::Stopped => ("■", "stopped".into(), theme.warning),
        RunState::Failed(problem) => ("✗", problem.clone(), theme.error),
    }
}

pub fn draw(state: &State, buf: &mut Buffer, area: Rect) {
    let Some(run) = state.shown_run() else {
        line(
            buf,
            area,
            0,
            Span::styled("nothing has run yet", state.theme.dim),
        );
        for (i, (command, what)) in [
            ("profile", " times the layers on both sides"),
            ("train", " trains a head at every exit point"),
            ("run", " runs the plan on its targets"),
        ]
        .into_iter()
        .enumerate()
        {
            line(buf, area, 1 + i as u16, hint(state, "", command, what));
        }
        return;
    };
    // History only where there is one, and room for it beside what runs.
    let history = match (state.runs.len(), area.height) {
        (0 | 1, _) | (_, 0..14) => 0,
        (n, height) => (n as u16).min(height / 5).min(4),
    };
    draw_history(state, buf, rows(area, 0, history));
    let rest = rows(area, history, area.height);
    head(state, buf, rest, run);
    let below = rows(rest, 2, rest.height);
    let across = run.names.tiers().map(|tier| run.side(tier).count());
    let across = across.max().unwrap_or(0) as u16;
    let evaluates = run.evaluated().1 > 0;
    let sides = match (evaluates, below.height) {
        // A line each, until there is more to say of them.
        (false, height) => across.min(height / 2),
        // Each with its log, where that leaves room for the run's own.
        (true, height) => {
            let all = across * (targets::ROWS + 2);
            if height >= all + 3 { all } else { height }
        }
    };
    let count = run.names.count() as u16;
    for (column, part) in (0..count).zip(run.names.tiers()) {
        let each = below.width / count;
        let width = if column + 1 < count {
            each.saturating_sub(1)
        } else {
            below.width
        };
        let place = columns(rows(below, 0, sides), column * each, width);
        targets::draw(state, buf, place, run, part);
    }
    let below = rows(below, sides, below.height);
    // Before the run itself the heads' curves are what there is to see.
    let used = if evaluates {
        0
    } else {
        learners(state, buf, rows(below, 0, below.height * 2 / 3), run)
    };
    draw_log(state, buf, rows(below, used, below.height), &run.log);
}

fn draw_history(state: &State, buf: &mut Buffer, area: Rect) {
    let height = usize::from(area.height);
    let first = (state.run + 1).saturating_sub(height);
    for (i, run) in state.runs.iter().enumerate().skip(first).take(height) {
        let (mark, words, style) = standing(state, run);
        let text = format!("{mark} {} {} {words}", run.label(), number::clock(run.at));
        let outcome = run.measured.as_ref().map(|m| {
            let o = &m.outcome;
            let latency = o
                .latency_ms
                .map_or(String::new(), |l| format!(", {} ms", number::ms(l.mean)));
            format!(
                "  {} at {:.2}{latency}",
                number::percent(o.accuracy),
                o.threshold
            )
        });
        let style = if i == state.run {
            state.theme.selected
        } else {
            style
        };
        let marked = if run.marked { " (marked)" } else { "" };
        let row = (i - first) as u16;
        line(
            buf,
            area,
            row,
            Span::styled(
                format!("{text}{}{marked}", outcome.unwrap_or_default()),
                style,
            ),
        );
    }
}

/// Name and state; the stage under way with its bar.
fn head(state: &State, buf: &mut Buffer, area: Rect, run: &Run) {
    let theme = &state.theme;
    let (mark, words, style) = standing(state, run);
    line(
        buf,
        area,
        0,
        Line::from(vec![
            Span::styled(format!("{mark} {} ", run.label()), theme.title),
            Span::styled(words, style),
        ]),
    );
    match state.shown_playback() {
        Some(playback) => draw_playback(state, buf, rows(area, 0, 1), run, playback),
        None => put_right(buf, rows(area, 0, 1), 0, &number::clock(run.at), theme.dim),
    }
    let Some(stage) = run.current() else {
        return;
    };
    let area = rows(area, 1, 1);
    let share = if stage.total > 0 {
        stage.done as f64 / stage.total as f64
    } else {
        0.0
    };
    let share = if stage.finished.is_some() { 1.0 } else { share };
    let name = format!("{:<10}", stage_name(stage.stage));
    put(buf, area, 0, 0, &name, theme.title);
    let width = 20.min(area.width.saturating_sub(30));
    put(buf, area, 10, 0, &bar::bar(share, width), theme.good);
    let left = stage.time_left().filter(|_| run.is_running());
    let left = left.map_or(String::new(), |ms| format!(", {} left", number::clock(ms)));
    let learns = matches!(stage.stage, Stage::Heads | Stage::Backbone) && run.epoch.1 > 0;
    let text = match (&stage.finished, stage.total) {
        (Some((outcome, kept, _)), _) => format!("{}{outcome}", if *kept { "kept: " } else { "" }),
        (None, _) if learns => format!(
            "epoch {} of {}{left} {}",
            run.epoch.0, run.epoch.1, stage.note
        ),
        (None, 0) => stage.note.clone(),
        (None, total) => format!("{} of {total}{left} {}", stage.done, stage.note),
    };
    // Answers are fetched every second, and judged here.
    let text = match run.judged() {
        (right, judged) if stage.stage == Stage::Run && judged > 0 && stage.finished.is_none() => {
            let accuracy = number::percent(right as f64 / judged as f64);
            format!("{text}  {accuracy} right so far")
        }
        _ => text,
    };
    put(buf, area, 11 + width, 0, &text, Style::new());
}

/// Where a playback is, over the run's first line.
fn draw_playback(state: &State, buf: &mut Buffer, area: Rect, run: &Run, playback: &Playback) {
    let theme = &state.theme;
    let how = match (playback.is_over(), playback.paused) {
        (true, _) => "at its end",
        (false, true) => "paused",
        (false, false) => "playback",
    };
    let words = format!("{} · {how} ", run.label());
    let times = format!(
        " {} of {}  {}×",
        number::clock(playback.at),
        number::clock(playback.end),
        playback.speed
    );
    let used = (number::width(&words) + number::width(&times)) as u16;
    let width = area.width.saturating_sub(used);
    let share = playback.at as f64 / playback.end.max(1) as f64;
    let bar = bar::bar(share, width);
    let rest = usize::from(width).saturating_sub(number::width(&bar));
    line(
        buf,
        area,
        0,
        Line::from(vec![
            Span::styled(words, theme.focus),
            Span::styled(bar, theme.point),
            Span::styled("┈".repeat(rest), theme.dim),
            Span::styled(times, theme.text),
        ]),
    );
}

/// What the columns of [`learners`] are, where there is room for a line of its own.
const LEARNERS: &str = "right on training → calibration images, and the latter by epoch from 0 %";
const TRAINING_ALONE: &str = "right on training images, now and by epoch from 0 %";

/// The accuracy of each head on training and calibration images, and the curve of the latter (of training
/// where nothing else is known) epoch by epoch, in as many columns as it takes to see all; gives the rows
/// it took.
fn learners(state: &State, buf: &mut Buffer, area: Rect, run: &Run) -> u16 {
    let judged = run.learners.iter().any(|l| !l.validation.is_empty());
    let room = usize::from(area.height) > run.learners.len();
    let title = u16::from(room && !run.learners.is_empty());
    let set = if judged { LEARNERS } else { TRAINING_ALONE };
    if title > 0 {
        line(buf, area, 0, Span::styled(set, state.theme.dim));
    }
    let area = rows(area, title, area.height);
    let height = usize::from(area.height).min(run.learners.len());
    if height == 0 {
        return 0;
    }
    let names = run.learners.iter().map(|l| number::width(&l.name));
    let across = run.learners.len().div_ceil(height);
    // A name, its numbers, and a curve of a few epochs at least.
    let least = if judged { 44 } else { 34 };
    let across = across.clamp(1, usize::from(area.width / least).max(1));
    let width = area.width / across as u16;
    let name = names.max().unwrap_or(0).min(16);
    for (i, learner) in run.learners.iter().take(across * height).enumerate() {
        let column = (i / height) as u16;
        let cell = columns(area, column * width, width.saturating_sub(1));
        let last = |series: &[f64]| series.last().map_or(String::new(), |a| number::percent(*a));
        let mut label = format!(
            "{:<name$} {:>7} ",
            number::clip(&learner.name, name),
            last(&learner.training)
        );
        if judged {
            label += &format!("→ {:>7} ", last(&learner.validation));
        }
        let curve = if learner.validation.is_empty() {
            &learner.training
        } else {
            &learner.validation
        };
        let rest = cell.width.saturating_sub(number::width(&label) as u16);
        let spark = bar::sparkline(curve.iter().copied(), rest);
        let words = [Span::raw(label), Span::styled(spark, state.theme.curve)];
        line(buf, cell, (i % height) as u16, Line::from(words.to_vec()));
    }
    height as u16 + title
}

/// The last lines of a log.
fn draw_log(state: &State, buf: &mut Buffer, area: Rect, log: &Log) {
    let height = usize::from(area.height);
    let skip = log.lines.len().saturating_sub(height);
    for (i, (at, text)) in log.lines.iter().skip(skip).enumerate() {
        line(
            buf,
            area,
            i as u16,
            Line::from(vec![
                Span::styled(format!("{:>5} ", number::clock(*at)), state.theme.dim),
                Span::raw(text.as_str()),
            ]),
        );
    }
}
