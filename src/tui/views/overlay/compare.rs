/*!
Runs beside each other: the first is what the others are compared with, each difference in words and, where
there is colour, green or red. Words alone say as much: faster, cheaper, more.
*/

use crate::plan::TierNames;
use crate::predict::{Interval, Latency, Outcome};
use crate::tui::state::State;
use crate::tui::state::runs::Run;
use crate::tui::theme::Theme;
use crate::tui::views::plan::column_title;
use crate::tui::widgets::number;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// Columns of a figure's name, and of a run.
const NAME: usize = 14;
const COLUMN: usize = 20;

type Read = Box<dyn Fn(&Outcome) -> Option<f64>>;

/// A figure that runs are compared by.
struct Figure {
    name: String,
    read: Read,
    write: fn(f64) -> String,
    /// How a difference is written.
    by: fn(f64) -> String,
    /// What less and more of it are called.
    words: [&'static str; 2],
    /// Whether less is better; none where neither is.
    less: Option<bool>,
    /// How sure it is.
    interval: Option<fn(&Outcome) -> Option<Interval>>,
}

fn ms(n: f64) -> String {
    format!("{} ms", number::ms(n))
}

fn points(share: f64) -> String {
    format!("{:.1} points", 100.0 * share)
}

impl Figure {
    fn new(
        name: &str,
        read: impl Fn(&Outcome) -> Option<f64> + 'static,
        write: fn(f64) -> String,
        words: [&'static str; 2],
        less: Option<bool>,
    ) -> Figure {
        Figure {
            name: name.to_owned(),
            read: Box::new(read),
            write,
            by: write,
            words,
            less,
            interval: None,
        }
    }

    /// One of the latency's figures.
    fn latency(
        name: &str,
        of: fn(Latency) -> f64,
        interval: Option<fn(&Outcome) -> Option<Interval>>,
    ) -> Figure {
        let read = move |o: &Outcome| o.latency_ms.map(of);
        let words = ["faster", "slower"];
        Figure {
            interval,
            ..Figure::new(name, read, ms, words, Some(true))
        }
    }
}

fn figures(tiers: &TierNames) -> Vec<Figure> {
    let size = ["less", "more"];
    let mut all = vec![
        Figure {
            by: points,
            interval: Some(Outcome::accuracy_interval),
            ..Figure::new(
                "accuracy",
                |o| Some(o.accuracy),
                number::percent,
                ["worse", "better"],
                Some(false),
            )
        },
        Figure::latency("mean", |l| l.mean, Some(|o| o.intervals.mean_ms)),
        Figure::latency("p50", |l| l.p50, None),
        Figure::latency("p95", |l| l.p95, Some(|o| o.intervals.p95_ms)),
        Figure {
            by: points,
            ..Figure::new(
                "offloaded",
                |o| Some(o.offloaded()),
                number::percent,
                size,
                None,
            )
        },
        Figure::new(
            "sent/sample",
            |o| Some(o.bytes_sent()),
            number::bytes,
            size,
            Some(true),
        ),
    ];
    for tier in tiers.tiers() {
        let read = move |o: &Outcome| {
            Some(o.memory_bytes(tier))
                .filter(|b| *b > 0)
                .map(|b| b as f64)
        };
        let name = format!("{} memory", tiers.name(tier));
        all.push(Figure::new(&name, read, number::bytes, size, Some(true)));
    }
    all.push(Figure::new(
        "energy",
        |o| o.energy.map(|energy| energy.mj()),
        number::energy,
        size,
        Some(true),
    ));
    all.push(Figure::new(
        "$ per million",
        |o| o.cost_per_million.map(|c| c.rounded),
        number::usd,
        ["cheaper", "dearer"],
        Some(true),
    ));
    all
}

/// Whether two intervals share a value, so that the difference may be chance.
fn overlap(one: Option<Interval>, other: Option<Interval>) -> bool {
    one.zip(other)
        .is_some_and(|(a, b)| a.low <= b.high && b.low <= a.high)
}

impl Figure {
    /// What another run's figure is against the first one's, in words.
    fn difference(
        &self,
        first: &Outcome,
        other: &Outcome,
        theme: &Theme,
    ) -> Option<(String, Style)> {
        let by = (self.read)(other)? - (self.read)(first)?;
        let amount = (self.by)(by.abs());
        // What reads the same is the same.
        if (self.write)((self.read)(first)?) == (self.write)((self.read)(other)?) {
            return Some(("=".into(), theme.dim));
        }
        let word = self.words[usize::from(by > 0.0)];
        let chance = self
            .interval
            .is_some_and(|of| overlap(of(first), of(other)));
        let style = match (chance, self.less) {
            (true, _) => theme.dim,
            (false, None) => theme.warning,
            (false, Some(less)) if less == (by < 0.0) => theme.good,
            (false, Some(_)) => theme.error,
        };
        let mark = if chance { "~" } else { "" };
        Some((format!("{mark}{word} by {amount}"), style))
    }
}

/// The runs that are compared: those that are marked and the shown one, or the one before it.
fn compared(state: &State) -> Vec<&Run> {
    let shown = state.run;
    let mut chosen: Vec<usize> = (0..state.runs.len())
        .filter(|at| state.runs[*at].marked || *at == shown)
        .collect();
    if chosen.len() < 2 {
        let before = shown.checked_sub(1).unwrap_or(shown + 1);
        chosen.push(before);
        chosen.sort_unstable();
    }
    chosen
        .into_iter()
        .filter_map(|at| state.runs.get(at))
        .collect()
}

/// The lines of the page, as many runs as a screen of this width holds.
pub fn lines(state: &State) -> Vec<Line<'static>> {
    let theme = &state.theme;
    let all = compared(state);
    let fit = (usize::from(state.size.0).saturating_sub(NAME + 4) / (COLUMN + 1)).max(2);
    let runs = &all[..all.len().min(fit)];
    let mut lines = Vec::new();
    let mut say = |name: &str, cells: Vec<(String, Style)>| {
        let mut spans = vec![Span::styled(format!("{name:<NAME$}"), theme.dim)];
        for (text, style) in cells {
            let text = number::clip(&text, COLUMN);
            spans.push(Span::styled(format!(" {text:>COLUMN$}"), style));
        }
        lines.push(Line::from(spans));
    };
    let row = |write: &dyn Fn(&Run) -> String| -> Vec<(String, Style)> {
        runs.iter().map(|run| (write(run), theme.text)).collect()
    };
    let outcome = |run: &Run, write: &dyn Fn(&Outcome) -> String| {
        let measured = run.measured.as_ref();
        measured.map_or(number::NONE.to_owned(), |m| write(&m.outcome))
    };
    say("", row(&|run| run.label().replace("run of ", "")));
    say("of", row(&|run| outcome(run, &column_title)));
    let split = |run: &Run| {
        let plan = run.plan.as_ref();
        plan.and_then(|p| p.split_layers.first()?.clone())
            .unwrap_or(number::NONE.into())
    };
    say("split after", row(&split));
    let exits = |run: &Run| {
        run.plan
            .as_ref()
            .map_or(number::NONE.into(), |p| p.exits.len().to_string())
    };
    say("exits", row(&exits));
    say(
        "threshold",
        row(&|run| outcome(run, &|o| format!("{:.2}", o.threshold))),
    );
    let first = runs.first().and_then(|run| run.measured.as_ref());
    let mut chance = false;
    for figure in figures(&state.document.session.tier_names()) {
        let value = |o: &Outcome| (figure.read)(o).map_or(number::NONE.into(), figure.write);
        say(&figure.name, row(&|run| outcome(run, &value)));
        let told: Vec<(String, Style)> = runs
            .iter()
            .skip(1)
            .map(|run| {
                let pair = first.zip(run.measured.as_ref());
                let told = pair.and_then(|(a, b)| figure.difference(&a.outcome, &b.outcome, theme));
                told.unwrap_or_default()
            })
            .collect();
        chance |= told.iter().any(|(text, _)| text.starts_with('~'));
        if told.iter().any(|(text, _)| !text.is_empty() && text != "=") {
            let own = (String::new(), theme.dim);
            say("", std::iter::once(own).chain(told).collect());
        }
    }
    if chance {
        lines.push(Line::styled(
            "~ may be chance: the 95 % intervals overlap",
            theme.dim,
        ));
    }
    if all.len() > runs.len() {
        let more = all.len() - runs.len();
        let words = format!("{more} more marked; a wider screen shows them");
        lines.push(Line::styled(words, theme.dim));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn outcome(accuracy: f64, mean: f64) -> Outcome {
        let demo = crate::session::Session::demo().unwrap();
        let mut outcome = demo.results.unwrap().last("plan").unwrap().outcome.clone();
        outcome.accuracy = accuracy;
        outcome.intervals = crate::predict::Intervals::default();
        let latency = outcome.latency_ms.as_mut().unwrap();
        latency.mean = mean;
        outcome
    }

    #[rstest]
    #[case("accuracy", (0.90, 5.0), (0.95, 5.0), "better by 5.0 points", true)]
    #[case("accuracy", (0.90, 5.0), (0.85, 5.0), "worse by 5.0 points", false)]
    #[case("mean", (0.9, 5.0), (0.9, 3.8), "faster by 1.20 ms", true)]
    #[case("mean", (0.9, 5.0), (0.9, 6.25), "slower by 1.25 ms", false)]
    fn a_difference_is_named_and_coloured(
        #[case] name: &str,
        #[case] first: (f64, f64),
        #[case] other: (f64, f64),
        #[case] says: &str,
        #[case] good: bool,
    ) {
        let theme = Theme::shipped("default").unwrap();
        let all = figures(&TierNames::default());
        let mut figure = all.into_iter().find(|f| f.name == name).unwrap();
        figure.interval = None;
        let told = figure.difference(
            &outcome(first.0, first.1),
            &outcome(other.0, other.1),
            &theme,
        );
        let style = if good { theme.good } else { theme.error };
        assert_eq!(told, Some((says.to_owned(), style)));
    }

    #[test]
    fn a_difference_within_the_intervals_may_be_chance() {
        let theme = Theme::shipped("default").unwrap();
        let [accuracy, ..] = &figures(&TierNames::default())[..] else {
            unreachable!();
        };
        let (text, style) = accuracy
            .difference(&outcome(0.90, 5.0), &outcome(0.902, 5.0), &theme)
            .unwrap();
        assert_eq!((text.as_str(), style), ("~better by 0.2 points", theme.dim));
    }
}
