/*! The plan: the strip, and what it gives, predicted beside measured beside cloud-only. */

use super::hint;
use crate::data::Set;
use crate::explore::Choice;
use crate::plan::{Placement, Split, Tier, TierNames};
use crate::predict::{Kind, Outcome};
use crate::tui::state::State;
use crate::tui::widgets::exit_mark;
use crate::tui::widgets::strip::Strip;
use crate::tui::widgets::{bar, line, number, put, put_right, rows};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

/// Rows the panel takes in the overview, its frame included.
pub const HEIGHT: u16 = 21;

fn strip(state: &State) -> Option<Strip> {
    let network = state.network.as_ref()?;
    let plan = state.derived.plan.as_ref()?;
    let theme = &state.theme;
    let table = &network.table;
    let place = |row: usize| {
        let macs = table.layers.get(row).map_or(0, |l| l.prefix_macs);
        macs as f64 / table.macs.max(1) as f64
    };
    let names = state.document.session.tier_names();
    let at = |split: &Split| match split {
        Split::After(row) => place(*row),
        Split::Start => 0.0,
        Split::End => 1.0,
    };
    let last = plan.chain().next_back().unwrap_or(Tier::First);
    Some(Strip {
        ends: (names.name(Tier::First).into(), names.name(last).into()),
        splits: plan.splits.iter().map(at).collect(),
        exits: plan
            .exits
            .iter()
            .map(|e| (place(e.layer), Some(e.tier)))
            .collect(),
        cursor: Some(place(state.layers.cursor)),
        tiers: plan.chain().map(|t| theme.tier(t, plan.tiers())).collect(),
        split_style: theme.split,
        exit_style: theme.exit,
        cursor_style: theme.focus,
    })
}

/// The rule in words.
pub fn rule(state: &State) -> String {
    let session = &state.document.session;
    // Of several the one that the keys change is marked.
    let several = session.splits.len() > 1;
    let hand = state.split_in_hand().index();
    let rules = session.splits.iter().enumerate().map(|(i, rule)| {
        let mark = if several && i == hand { "▸" } else { "" };
        format!("{mark}{rule}")
    });
    let split = rules.collect::<Vec<_>>().join(" / ");
    let exits = match (&session.exits.at, session.exits.placement) {
        (Some(_), _) => "by hand".to_string(),
        (None, placement) => {
            let spread = match placement {
                Placement::Linear => "linear",
                Placement::Pareto => "Pareto",
            };
            let at = if session.exits.at_split {
                ", at split"
            } else {
                ""
            };
            format!("{} per part, {spread}{at}", session.exits.per_part)
        }
    };
    format!("{split} · exits {exits}")
}

/// Three lines above a page: the strip, its cursor, the numbers that matter.
pub fn summary(state: &State, buf: &mut Buffer, area: Rect) {
    let theme = &state.theme;
    if let Some(strip) = strip(state) {
        strip.draw(buf, rows(area, 0, 2));
    }
    let mut words = vec![Span::styled(
        format!(" at {:.2}  ", state.document.session.policy.threshold),
        theme.title,
    )];
    match (
        &state.derived.predicted,
        &state.derived.problem,
        &state.derived.lacking,
    ) {
        (Some(o), ..) => {
            let latency = o.latency_ms.map_or(number::NONE.into(), |l| {
                format!("{} ms", number::ms(l.mean))
            });
            words.push(Span::styled(
                format!(
                    "acc {}  mean {latency}  offloaded {}  ",
                    number::percent(o.accuracy),
                    number::percent(o.offloaded())
                ),
                theme.predicted,
            ));
            // A page of eighty columns has room for this much.
            let text = if area.width < 96 {
                format!("pred., {}", source(o).replace("calibration", "calib."))
            } else {
                format!("predicted, {}", source(o))
            };
            words.push(Span::styled(text, theme.dim));
        }
        (None, Some(problem), _) => {
            words.push(Span::styled(problem.to_string(), theme.error));
        }
        (None, None, Some(lacking)) => {
            words.push(Span::styled(
                format!("{} prediction: {lacking}", number::NONE),
                theme.dim,
            ));
        }
        (None, None, None) => {}
    }
    line(buf, area, 2, Line::from(words));
}

/// Whose numbers they are, where they aren't this machine's.
pub fn title(state: &State) -> Vec<Span<'static>> {
    let shipped = state.shipped;
    let words = match (shipped.profiles.contains(&true), shipped.measured) {
        (true, _) => "shipped numbers, from another machine ",
        (false, true) => "measured on another machine, as shipped ",
        (false, false) => return Vec::new(),
    };
    vec![Span::styled(format!("· {words}"), state.theme.warning)]
}

pub fn draw(state: &State, buf: &mut Buffer, area: Rect) {
    let theme = &state.theme;
    let mut row = 0;
    if let Some(strip) = strip(state) {
        strip.draw(buf, rows(area, 0, 2));
        row = 2;
    }
    line(
        buf,
        area,
        row,
        Line::from(vec![
            Span::styled("rule ", theme.dim),
            Span::raw(rule(state)),
        ]),
    );
    row += 1;
    let derived = &state.derived;
    if let Some(refused) = &derived.refused {
        row += super::wrapped(buf, area, row, &refused.to_string(), theme.error);
    }
    if let Some(problem) = &derived.problem {
        row += super::wrapped(buf, area, row, &problem.to_string(), theme.error);
        line(
            buf,
            area,
            row,
            hint(state, "", "rule", " takes another rule"),
        );
        return;
    }
    let Some(plan) = &derived.plan else {
        return;
    };
    let names = state.document.session.tier_names();
    if let Some(first) = plan.remarks.first() {
        let text = first.text(&names);
        row += super::wrapped(buf, rows(area, 0, row + 2), row, &text, Style::new()).min(2);
    }
    for doubt in &state.doubts.found {
        row += super::wrapped(buf, area, row, &doubt.short(), theme.warning);
    }
    row += verdict(state, buf, area, row);
    row = outcomes(state, buf, area, row);
    if let Some(o) = &derived.predicted {
        shares(state, buf, area, row, o);
        row += 1;
    }
    if let Some(lacking) = &derived.lacking {
        row += super::wrapped(
            buf,
            area,
            row,
            &format!("no prediction: {lacking}"),
            theme.dim,
        );
        let (key, what) = match (
            state.results.profile(Tier::First),
            &state.results.calibration,
        ) {
            (None, _) => ("profile", " times both sides"),
            (_, None) => ("train", " trains the heads and fills the tables"),
            _ => ("run", " runs the plan"),
        };
        line(buf, area, row, hint(state, "", key, what));
        row += 1;
    }
    for remark in plan.remarks.iter().skip(1) {
        let text = remark.text(&names);
        row += super::wrapped(buf, area, row, &text, theme.warning);
    }
    if let Some(o) = &derived.predicted {
        row += exits_table(state, buf, area, row, o);
    }
    if row > area.height {
        more(state, buf, area);
    }
}

/// What to deploy, by the session's goal; gives the rows it took.
fn verdict(state: &State, buf: &mut Buffer, area: Rect, row: u16) -> u16 {
    let Some(curves) = &state.tuning.curves else {
        return 0;
    };
    let theme = &state.theme;
    let verdict = &curves.verdict;
    let names = state.document.session.tier_names();
    let mut text = verdict.text(&names);
    let stays = verdict.deploy == Some(Choice::ThisPlan);
    let takes = matches!(
        verdict.deploy,
        Some(Choice::Original | Choice::CloudOnly | Choice::Explored)
    );
    if takes {
        let key = state.keymap.first("take-verdict");
        text = format!("{key} ▸ {text}");
    }
    let style = match (state.tuning.stale, stays) {
        (true, _) => theme.dim,
        (false, true) => theme.good,
        (false, false) => theme.warning,
    };
    // The figures below it must stay in sight.
    let most = if area.height < TALL { 3 } else { 8 };
    let end = (row + most).min(area.height);
    let used = super::wrapped(buf, rows(area, 0, end), row, &text, style);
    if used > most {
        put_right(buf, area, end.saturating_sub(1), " …", style);
    }
    used.min(most)
}

/// Rows of a panel that holds a verdict of any length and all the figures.
const TALL: u16 = 30;

/// Says that there is more than fits, and which key shows it.
fn more(state: &State, buf: &mut Buffer, area: Rect) {
    let key = state.keymap.first("zoom");
    let words = if state.is_wide() && !state.zoom {
        format!(" ▼ {key} shows all ")
    } else {
        " ▼ ".to_string()
    };
    // On the frame, where it covers no number.
    let frame = Rect {
        y: area.bottom(),
        height: 1,
        ..area
    };
    crate::tui::widgets::put_right(
        buf,
        frame.intersection(buf.area),
        0,
        &words,
        state.theme.key,
    );
}

/// What each exit lets out, and how much of that is right, where there is room for all of them; gives
/// the rows it took.
fn exits_table(state: &State, buf: &mut Buffer, area: Rect, from: u16, outcome: &Outcome) -> u16 {
    let theme = &state.theme;
    let used = outcome.exits.len() as u16 + 1;
    if from + used > area.height || area.width < 50 {
        return 0;
    }
    let name = usize::from(area.width).saturating_sub(38).min(28);
    let row = |mark: &str, after: &str, cells: [&str; 4]| {
        let [threshold, share, accuracy, pays] = cells;
        let after = number::clip(after, name);
        format!("{mark:<2}{after:<name$} {threshold:>9} {share:>8} {accuracy:>9} {pays:>5}")
    };
    let heading = row("", "exit after", ["threshold", "share", "accuracy", "pays"]);
    let curves = state.tuning.curves.as_ref().filter(|_| !state.tuning.stale);
    put(buf, area, 0, from, &heading, theme.dim);
    for (i, exit) in outcome.exits.iter().enumerate() {
        let style = theme.tier(exit.tier, outcome.tiers.len());
        let mark = exit.after.as_ref().map_or("■", |_| exit_mark(exit.tier));
        let threshold = match &exit.after {
            Some(_) => format!("{:.2}", exit.threshold),
            None => number::NONE.into(),
        };
        let accuracy = exit.accuracy.map_or(number::NONE.into(), number::percent);
        // Whether the mean would be longer without it.
        let worth = curves.and_then(|c| c.pays.get(i)).map(|p| p.pays);
        let pays = match worth {
            Some(true) => "yes",
            Some(false) => "no",
            None => number::NONE,
        };
        let after = exit.after.as_deref().unwrap_or("the network's own end");
        let text = row(
            mark,
            after,
            [&threshold, &number::percent(exit.share), &accuracy, pays],
        );
        put(buf, area, 0, from + 1 + i as u16, &text, style);
    }
    used
}

/// A column of numbers and where they come from.
struct Column<'a> {
    title: String,
    outcome: Option<&'a Outcome>,
    style: Style,
}

/// Set and kind of a number, and what it isn't.
pub fn source(outcome: &Outcome) -> String {
    let mut words = format!("{} {}", outcome.set, outcome.samples);
    if outcome.emulated {
        words += ", emu";
    }
    if outcome.as_f32 {
        words += ", ≈F32";
    }
    words
}

/// What a number isn't; where the column doesn't say it, also its kind.
fn flags(outcome: &Outcome, with_kind: bool) -> String {
    let mut words = Vec::new();
    if with_kind {
        words.push(match outcome.kind {
            Kind::Measured => "meas.",
            Kind::Predicted => "pred.",
        });
    }
    match (outcome.emulated, with_kind) {
        (true, true) => words.push("emu"),
        (true, false) => words.push("emulated"),
        (false, _) => {}
    }
    if outcome.as_f32 {
        words.push("≈F32");
    }
    words.join(" ")
}

/// Predicted, a side's packed weights, arena and heads; measured, the peak of its process. They are
/// not the same thing, and don't look so.
fn memory(outcome: &Outcome, bytes: usize) -> String {
    let text = number::bytes(bytes as f64);
    match outcome.kind {
        Kind::Measured => format!("{text} rss"),
        Kind::Predicted => text,
    }
}

type Write = Box<dyn Fn(&Outcome) -> Option<String>>;

/// The rows every table of outcomes has: a name, and what stands beside it; `energy` among them where somebody
/// asks for it.
pub fn table(tiers: &TierNames, energy: bool) -> Vec<(String, Write)> {
    let row = |name: &str, write: Write| (name.to_owned(), write);
    let mut all = vec![
        row("accuracy", Box::new(|o| Some(number::percent(o.accuracy)))),
        row(
            "mean/p95 ms",
            Box::new(|o| {
                let pair = |l: crate::predict::Latency| {
                    format!("{}/{}", number::ms(l.mean), number::ms(l.p95))
                };
                o.latency_ms.map(pair)
            }),
        ),
    ];
    if tiers.count() == 2 {
        let share = |o: &Outcome| Some(number::percent(o.offloaded()));
        all.push(row("offloaded", Box::new(share)));
    } else {
        for (hop, behind) in tiers.tiers().skip(1).enumerate() {
            let share = move |o: &Outcome| Some(number::percent(o.hops.get(hop)?.share));
            let name = format!("to {}", tiers.name(behind));
            all.push(row(&name, Box::new(share)));
        }
    }
    all.push(row(
        "bytes/sample",
        Box::new(|o| Some(number::bytes(o.bytes_sent()))),
    ));
    for tier in tiers.tiers() {
        let own = move |o: &Outcome| Some(memory(o, o.memory_bytes(tier)));
        let name = format!("{} memory", tiers.name(tier));
        all.push(row(&name, Box::new(own)));
    }
    if energy {
        all.push(row(
            "energy/sample",
            Box::new(|o| o.energy.map(|energy| number::energy(energy.mj()))),
        ));
    }
    // As billed, and with durations as they are.
    all.push(row(
        "$ per 1 M/exact",
        Box::new(|o| {
            let pair = |c: crate::predict::Cost| {
                format!(
                    "{}/{}",
                    number::dollars(c.rounded),
                    number::dollars(c.unrounded)
                )
            };
            o.cost_per_million.map(pair)
        }),
    ));
    all
}

/// The plan's own figures and those it is compared with; the last are left out where there is no room.
fn outcome_columns(state: &State) -> [Column<'_>; 6] {
    let theme = &state.theme;
    let measured = state.results.measured.as_ref();
    let current = state.measured_is_current();
    let stale = if current {
        theme.measured
    } else {
        theme.dim.remove_modifier(Modifier::BOLD)
    };
    let cloud = measured.and_then(|m| m.cloud_only.as_ref());
    let cloud = cloud.or(state.derived.cloud_only.as_ref());
    [
        Column {
            title: "predicted".into(),
            outcome: state.derived.predicted.as_ref(),
            style: theme.predicted,
        },
        Column {
            title: if measured.is_some() && !current {
                "≠ measured"
            } else {
                "measured"
            }
            .into(),
            outcome: measured.map(|m| &m.outcome),
            style: stale,
        },
        Column {
            title: "cloud-only".into(),
            outcome: cloud,
            style: Style::new(),
        },
        Column {
            title: "unmodified".into(),
            outcome: measured.and_then(|m| m.original.as_ref()),
            style: Style::new(),
        },
        Column {
            title: "edge part".into(),
            outcome: measured.and_then(|m| m.edge_only.as_ref()),
            style: Style::new(),
        },
        Column {
            title: "cloud JPEG".into(),
            outcome: measured.and_then(|m| m.cloud_only_jpeg.as_ref()),
            style: Style::new(),
        },
    ]
}

fn outcomes(state: &State, buf: &mut Buffer, area: Rect, from: u16) -> u16 {
    let theme = &state.theme;
    let columns = outcome_columns(state);
    let label = 15.min(area.width);
    // A number takes up to eleven columns, and one between it and the next.
    let room = usize::from((area.width - label) / 12).max(1);
    let shown = if area.width >= 80 { columns.len() } else { 3 };
    let shown = shown.min(room);
    let columns = &columns[..shown];
    let width = (area.width - label) / shown as u16;
    let right = |buf: &mut Buffer, i: usize, row: u16, text: &str, style: Style| {
        let cell = crate::tui::widgets::columns(area, label + width * i as u16, width);
        if row < area.height {
            crate::tui::widgets::put_right(buf, cell, row, text, style);
        }
    };
    for (i, column) in columns.iter().enumerate() {
        right(buf, i, from, &column.title, theme.title);
        // How many they are of belongs to what they say: baselines run on fewer.
        let words = column.outcome.map_or(String::new(), |o| {
            let name = match o.set {
                Set::Calibration if width < 18 => "calib.".to_owned(),
                other => other.to_string(),
            };
            format!("{name} {}", o.samples)
        });
        right(buf, i, from + 1, &words, theme.dim);
        let flags = column.outcome.map_or(String::new(), |o| flags(o, i >= 2));
        right(buf, i, from + 2, &flags, theme.dim);
    }
    let session = &state.document.session;
    // By nothing but the usual picojoules it would take the room of what is measured.
    let energy = session.goal.asks_energy(&session.energy)
        || state
            .results
            .measured
            .as_ref()
            .is_some_and(|m| m.outcome.energy.is_some());
    let table = table(&session.tier_names(), energy);
    for (r, (name, write)) in table.iter().enumerate() {
        let row = from + 3 + r as u16;
        put(buf, area, 0, row, name, theme.dim);
        for (i, column) in columns.iter().enumerate() {
            let text = column
                .outcome
                .and_then(write)
                .unwrap_or(number::NONE.into());
            right(buf, i, row, &text, column.style);
        }
    }
    from + 3 + table.len() as u16
}

/// The share of each exit, as the strip has them.
fn shares(state: &State, buf: &mut Buffer, area: Rect, row: u16, outcome: &Outcome) {
    let theme = &state.theme;
    put(buf, area, 0, row, "exits", theme.dim);
    let rest = crate::tui::widgets::columns(area, 6, area.width);
    let parts: Vec<(f64, String, Style)> = outcome
        .exits
        .iter()
        .map(|e| {
            let style = theme.tier(e.tier, outcome.tiers.len());
            let mark = e.after.as_ref().map_or("■", |_| exit_mark(e.tier));
            (
                e.share,
                format!("{mark}{:.0}%", 100.0 * e.share),
                style.add_modifier(Modifier::REVERSED),
            )
        })
        .collect();
    if row < area.height {
        bar::shares(buf, rows(rest, row, 1), 0, &parts);
    }
}

/// What an outcome is called.
pub fn column_title(outcome: &Outcome) -> String {
    format!("{}, {}", outcome.kind, source(outcome))
}
