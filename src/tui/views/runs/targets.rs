/*!
A panel for each target of a run: how it is connected and what its sensors say, how far it is and how
fast, at which exits samples leave it, how long they take, and its own log.
*/

use super::draw_log;
use crate::event::Vitals;
use crate::plan::{Plan, Tier};
use crate::tui::state::State;
use crate::tui::state::runs::{Reach, Run, TargetState};
use crate::tui::widgets::{bar, columns, line, number, put, put_right, rows};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

/// Rows a target takes that runs, without its log.
pub const ROWS: u16 = 5;

/// The targets of a side, one below the other.
pub fn draw(state: &State, buf: &mut Buffer, area: Rect, run: &Run, part: Tier) {
    let count = run.side(part).count() as u16;
    if area.is_empty() {
        return;
    }
    if count == 0 {
        let words = format!("{} {}", run.names.name(part), number::NONE);
        line(buf, area, 0, Span::styled(words, state.theme.dim));
        return;
    }
    // All of them where they fit, with what is left over shared.
    let each = (area.height / count).max(1);
    for (i, target) in run.side(part).enumerate() {
        let from = i as u16 * each;
        let height = if i as u16 + 1 == count {
            area.height
        } else {
            each
        };
        let place = rows(area, from, height);
        title(state, buf, rows(place, 0, 1), run, target, count > 1);
        let place = rows(place, 1, place.height);
        if run.evaluated().1 == 0 {
            continue;
        }
        let used = match part {
            Tier::First => edge(state, buf, place, run, target),
            _ => cloud(state, buf, place, run, target),
        };
        draw_log(state, buf, rows(place, used, place.height), &target.log);
    }
}

fn side_style(state: &State, part: Tier) -> Style {
    let tiers = state.document.session.tiers.len();
    state.theme.tier(part, tiers)
}

/// Name and connection; on the right as much of the sensors as there is room for.
fn title(
    state: &State,
    buf: &mut Buffer,
    area: Rect,
    run: &Run,
    target: &TargetState,
    several: bool,
) {
    let theme = &state.theme;
    let plays = state.shown_playback().is_some();
    let told = || {
        let connection = target.connection.as_ref();
        connection.map_or(String::new(), ToString::to_string)
    };
    let (mark, words, style) = match target.reach() {
        _ if target.progress.held && run.is_running() => ("●", "paused".into(), theme.warning),
        Reach::Lost | Reach::Reconnecting => ("✗", told(), theme.error),
        _ if !run.is_running() && !plays => ("○", "ended".into(), theme.dim),
        Reach::Connected => ("●", "connected".into(), theme.good),
        Reach::Connecting => ("○", told(), theme.warning),
        Reach::Unknown => ("○", number::NONE.into(), theme.dim),
    };
    let name = if several {
        format!("{} {} ", run.names.name(target.part), target.index)
    } else {
        format!("{} ", run.names.name(target.part))
    };
    let head = Line::from(vec![
        Span::styled(
            name,
            side_style(state, target.part).add_modifier(Modifier::BOLD),
        ),
        Span::styled(format!("{mark} {words}"), style),
    ]);
    let room = usize::from(area.width).saturating_sub(head.width() + 2);
    line(buf, area, 0, head);
    if let Some(told) = &target.vitals {
        put_right(buf, area, 0, &vitals(told, room), theme.text);
    }
}

/// What the sensors say, as far as it fits: heat and power first.
fn vitals(told: &Vitals, room: usize) -> String {
    let percent = |name: &str, share: f64| format!("{name} {:.0} %", 100.0 * share);
    let memory = (told.memory_total_bytes > 0).then(|| {
        let [used, total] = [told.memory_used_bytes, told.memory_total_bytes];
        let gigabytes = |bytes: usize| bytes as f64 / 1e9;
        format!("{:.1}/{:.1} GB", gigabytes(used), gigabytes(total))
    });
    let words = [
        told.celsius.map(|c| format!("{c:.0}°C")),
        told.watts.map(|w| format!("{w:.1} W")),
        told.cpu.map(|share| percent("cpu", share)),
        told.gpu.map(|share| percent("gpu", share)),
        memory,
    ];
    let mut text = String::new();
    for word in words.into_iter().flatten() {
        let gap = if text.is_empty() { "" } else { "  " };
        if number::width(&text) + gap.len() + number::width(&word) > room {
            break;
        }
        text = text + gap + &word;
    }
    text
}

/// A share as a bar, its percentage on the right.
fn progress(buf: &mut Buffer, area: Rect, share: f64, style: Style) {
    let area = rows(area, 0, 1);
    // Edges and clouds report a moment apart.
    let share = share.clamp(0.0, 1.0);
    let bar = bar::bar(share, area.width.saturating_sub(6));
    put(buf, area, 0, 0, &bar, style);
    put_right(buf, area, 0, &format!("{:.0} %", 100.0 * share), style);
}

fn rate(target: &TargetState) -> String {
    let rate = target.rate_hz;
    rate.map_or(number::NONE.into(), |r| format!("{}/s", number::count(r)))
}

/// The last time, and those before it as a line of columns.
fn times(state: &State, buf: &mut Buffer, area: Rect, target: &TargetState) {
    let Some(last) = target.times_ms.back() else {
        return;
    };
    // The line's scale is from nothing to the longest of them.
    let most = target.times_ms.iter().copied().fold(0.0, f64::max);
    let text = format!("{} ms  0–{} ", number::ms(*last), number::ms(most));
    let width = area.width.saturating_sub(number::width(&text) as u16);
    let spark = bar::sparkline(target.times_ms.iter().copied(), width);
    let style = side_style(state, target.part);
    let words = vec![Span::raw(text), Span::styled(spark, style)];
    line(buf, area, 0, Line::from(words));
}

/// A stretch of a bar: how many, with which mark, in which style.
type Stretch = (u64, &'static str, Style);

/// Exits as a bar; a stretch without room for its number has it in `numbers`, before the bar.
fn exits(buf: &mut Buffer, area: Rect, parts: &[Stretch], of: u64) {
    let share = |n: u64| n as f64 / of.max(1) as f64;
    let parts: Vec<(f64, String, Style)> = parts
        .iter()
        .map(|(n, mark, style)| {
            let style = style.add_modifier(Modifier::REVERSED);
            (*n as f64, format!("{mark}{:.0}%", 100.0 * share(*n)), style)
        })
        .collect();
    bar::shares(buf, area, 0, &parts);
}

/// The same in words, for the end of a line.
fn numbers(parts: &[Stretch], of: u64) -> String {
    let share = |n: u64| 100.0 * n as f64 / of.max(1) as f64;
    let words = parts
        .iter()
        .map(|(n, mark, _)| format!("{mark}{:.0}", share(*n)));
    words.collect::<Vec<String>>().join(" ") + " %"
}

/// Puts words at the end of a line that has `used` columns, where they fit.
fn put_end(buf: &mut Buffer, area: Rect, used: usize, words: &str, style: Style) {
    if used + 2 + number::width(words) <= usize::from(area.width) {
        put_right(buf, area, 0, words, style);
    }
}

fn edge(state: &State, buf: &mut Buffer, area: Rect, run: &Run, target: &TargetState) -> u16 {
    let theme = &state.theme;
    let told = &target.progress;
    let total = told.total.max(told.done);
    progress(
        buf,
        area,
        told.done as f64 / total.max(1) as f64,
        theme.edge,
    );
    let text = format!("{} of {total}  {}", told.done, rate(target));
    put(buf, area, 0, 1, &text, Style::new());
    let planned = run.plan.as_ref().map_or(&[][..], |p| &p.exits);
    let own = told.exits.iter().zip(planned);
    let own = own.filter(|(_, exit)| exit.tier == Tier::First);
    let mut parts: Vec<Stretch> = own.map(|(n, _)| (*n, "◆", theme.edge)).collect();
    // What ends in no exit here goes on, or, with no cloud, to the final classifier.
    let left: u64 = parts.iter().map(|p| p.0).sum();
    let on = told.done.saturating_sub(left);
    match told.offloaded {
        0 if on > 0 => parts.push((on, "■", theme.edge)),
        _ => parts.push((on, "▸", theme.cloud)),
    }
    let words = numbers(&parts, told.done);
    put_end(
        buf,
        rows(area, 1, 1),
        number::width(&text),
        &words,
        theme.exit,
    );
    exits(buf, rows(area, 2, 1), &parts, told.done);
    times(state, buf, rows(area, 3, 1), target);
    ROWS - 1
}

fn cloud(state: &State, buf: &mut Buffer, area: Rect, run: &Run, target: &TargetState) -> u16 {
    let theme = &state.theme;
    let (done, _) = run.evaluated();
    let (answered, failed) = target.answered;
    // Agents of an earlier release don't tell who answered.
    let answered = match (target.part, run.side(Tier::Second).count()) {
        (Tier::Second, 1) => answered.max(run.offloaded().saturating_sub(failed)),
        _ => answered,
    };
    let style = side_style(state, target.part);
    // A cloud's answer is counted before its edge counts the sample.
    let done = done.max(answered);
    progress(buf, area, answered as f64 / done.max(1) as f64, style);
    let mut text = format!("{answered} answered  {}", rate(target));
    if target.index == 0 && target.part == Tier::Second {
        text += &format!("  {}", number::bytes(run.bytes_sent() as f64));
    }
    put(buf, area, 0, 1, &text, Style::new());
    let used = number::width(&text);
    if failed > 0 {
        let words = format!("{failed} failed");
        let rest = columns(rows(area, 1, 1), used as u16 + 2, area.width);
        put(buf, rest, 0, 0, &words, theme.warning);
    }
    // Which cloud let a sample go at which exit nobody counts: the side's stand with the first.
    if target.index == 0 {
        let all = run.exits();
        let planned = run.plan.as_ref().map_or(&[][..], |p| &p.exits);
        let last = run.plan.as_ref().map_or(Tier::Second, Plan::last_tier);
        let here = |i: usize| planned.get(i).map_or(last, |e| e.tier) == target.part;
        let parts: Vec<Stretch> = all
            .iter()
            .enumerate()
            .filter(|(i, _)| here(*i))
            .map(|(i, n)| {
                let mark = if i < planned.len() { "◇" } else { "■" };
                (*n, mark, style)
            })
            .collect();
        if failed == 0 {
            let words = numbers(&parts, done);
            put_end(buf, rows(area, 1, 1), used, &words, theme.exit);
        }
        exits(buf, rows(area, 2, 1), &parts, done);
    }
    times(state, buf, rows(area, 3, 1), target);
    ROWS - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sensors_are_told_as_far_as_there_is_room_heat_first() {
        let told = Vitals {
            celsius: Some(46.4),
            watts: Some(5.21),
            cpu: Some(0.97),
            gpu: None,
            memory_used_bytes: 1_240_000_000,
            memory_total_bytes: 7_900_000_000,
        };
        assert_eq!(vitals(&told, 40), "46°C  5.2 W  cpu 97 %  1.2/7.9 GB");
        assert_eq!(vitals(&told, 30), "46°C  5.2 W  cpu 97 %");
        assert_eq!(vitals(&told, 5), "46°C");
        assert_eq!(vitals(&Vitals::default(), 40), "");
    }
}
