/*! `sweep` and `explore`: what other thresholds and other plans would give, replayed from what a run
left. Neither needs the network, the images or an agent. */

use super::error::usage;
use super::progress::Bar;
use super::session::SessionArgs;
use crate::explore;
use crate::explore::{Candidate, Limits, Phase};
use crate::explore::{sweep, verdict};
use crate::plan::{Tier, TierNames};
use crate::predict::Outcome;
use crate::report;
use crate::report::{BudgetReport, Figures, WhatIfReport};
use crate::run::Replayed;
use crate::session::Session;
use crate::units::{self, energy};
use anyhow::Context;
use serde::Serialize;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// Say what other thresholds would give, predicted on the calibration set from what a run left.
#[derive(Debug, clap::Args)]
pub struct SweepArgs {
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    range: Range,
    /// One JSON document.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Comma-separated values, a header line first.
    #[arg(long)]
    csv: bool,
}

/// Which thresholds.
#[derive(Debug, clap::Args)]
struct Range {
    /// First threshold; the session's sweep if left out.
    #[arg(long)]
    from: Option<f64>,
    /// Last threshold.
    #[arg(long)]
    to: Option<f64>,
    /// From one to the next.
    #[arg(long)]
    step: Option<f64>,
}

/// Try every split, spread and threshold, and list the plans no other beats in accuracy, latency,
/// cost, edge
/// memory and energy together; predicted on the calibration set from what a run left.
#[derive(Debug, clap::Args)]
pub struct ExploreArgs {
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    range: Range,
    /// Only plans whose mean latency is at most so many milliseconds.
    #[arg(long, value_name = "MS")]
    latency: Option<f64>,
    /// Only plans at least so accurate, 0 to 1.
    #[arg(long, value_name = "SHARE")]
    accuracy: Option<f64>,
    /// Only plans whose edge side takes at most so many bytes, as 600000, 600 kB or 1.5 MiB
    /// (weights, arena, heads).
    #[arg(long, value_name = "BYTES", value_parser = units::read_memory)]
    memory: Option<usize>,
    /// The best plan by the goal if bandwidth, round trip, a tier's speed or the prices were others, and a
    /// map of it over bandwidth and round trip, in place of the list.
    #[arg(long, conflicts_with_all = ["latency", "accuracy", "memory", "energy"])]
    what_if: bool,
    /// The best plan over every split and every set of exits, with one threshold for all exits and with one per
    /// exit, and the accuracy that each budget of the goal's objective buys, in place of the list.
    #[arg(long, conflicts_with_all = ["latency", "accuracy", "memory", "energy", "what_if"])]
    best: bool,
    /// Search for so many seconds at most with --best; what isn't proved by then is said to be a heuristic's.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 60.0,
        requires = "best"
    )]
    seconds: f64,
    /// Only plans whose edge takes at most so many millijoules per inference, computing and radio.
    #[arg(long, value_name = "MJ")]
    energy: Option<f64>,
    /// One JSON document.
    #[arg(long)]
    json: bool,
}

impl Range {
    fn thresholds(&self, session: &Session) -> anyhow::Result<Vec<f64>> {
        let mut session = session.clone();
        session.sweep.from = self.from.unwrap_or(session.sweep.from);
        session.sweep.to = self.to.unwrap_or(session.sweep.to);
        session.sweep.step = self.step.unwrap_or(session.sweep.step);
        let name = std::path::Path::new("--from, --to, --step");
        session.check(name).map_err(|e| usage(e.to_string()))?;
        Ok(session.sweep.thresholds())
    }
}

/// Runs `sweep`.
pub fn run(args: &SweepArgs) -> anyhow::Result<()> {
    let session = args.session.load()?.with_results()?;
    let thresholds = args.range.thresholds(&session)?;
    let replayed = Replayed::of(&session)?;
    let outcomes = sweep(
        &replayed.evidence,
        &replayed.terms,
        replayed.plan,
        &thresholds,
    )?;
    let figures: Vec<Figures> = outcomes.iter().map(Figures::from).collect();
    let mut out = io::stdout().lock();
    let written = if args.json {
        serde_json::to_writer_pretty(&mut out, &figures)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out))
    } else if args.csv {
        let rows = figures.iter().map(|f| ("sweep", f));
        out.write_all(report::csv::rows(rows)?.as_bytes())
    } else {
        header(&mut out, "threshold").and_then(|()| {
            let mut rows = outcomes.iter();
            rows.try_for_each(|o| row(&mut out, &format!("{:.3}", o.threshold), o))
        })
    };
    quiet(written)
}

/// A plan of the front, for scripts.
#[derive(Serialize)]
struct Row<'a> {
    split: String,
    placement: String,
    threshold: f64,
    exits: Vec<&'a str>,
    predicted: Figures,
}

/// Runs `explore`.
pub fn explore(args: &ExploreArgs) -> anyhow::Result<()> {
    let session = args.session.load()?.with_results()?;
    let mut session = session;
    // A finer grid than a report's, unless asked for another.
    session.sweep.step = session.sweep.step.min(0.05);
    let thresholds = args.range.thresholds(&session)?;
    let replayed = Replayed::of(&session)?;
    if args.what_if {
        return others(args, &session, &replayed, &thresholds);
    }
    if args.best {
        return best(args, &session, &replayed);
    }
    let limits = Limits {
        edge_memory_bytes: args.memory,
        latency_ms: args.latency,
        accuracy: args.accuracy,
        energy_mj: args.energy,
        ..Limits::default()
    };
    let evidence = &replayed.evidence;
    let names = &evidence.tiers;
    let found = explore::search(evidence, &replayed.terms, &thresholds, &limits)?;
    let goal = &session.goal;
    let energy = goal.asks_energy(&replayed.terms.energy) || args.energy.is_some();
    let mut front = explore::front(&found, energy);
    front.sort_by(|a, b| goal.minimise.compare(&a.outcome, &b.outcome));
    if front.is_empty() {
        return Err(anyhow::Error::msg(
            "no plan keeps to these limits; loosen one of --latency, --accuracy, --memory and --energy",
        ));
    }
    let mut out = io::stdout().lock();
    let written = if args.json {
        let rows: Vec<Row> = front.iter().map(|c| described(c, names)).collect();
        serde_json::to_writer_pretty(&mut out, &rows)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out))
    } else {
        let verdict = verdict::predicted(evidence, &replayed.terms, goal, replayed.plan, &found)?;
        human(&mut out, found.len(), &front, names)
            .and_then(|()| writeln!(out, "\n{}", verdict.text(names)))
    };
    quiet(written)
}

/// Says what would be best if link, devices or prices were others.
fn others(
    args: &ExploreArgs,
    session: &Session,
    replayed: &Replayed,
    thresholds: &[f64],
) -> anyhow::Result<()> {
    let (evidence, goal) = (&replayed.evidence, &session.goal);
    let mut bar = Bar::start("what if", 0);
    let found = explore::what_if(
        evidence,
        &replayed.terms,
        goal,
        thresholds,
        true,
        // Ctrl-C ends the program: nothing is written yet.
        &|| false,
        &mut |done, total| bar.set(done as u64, total as u64, ""),
    );
    bar.clear();
    let found = found?;
    let found = WhatIfReport::new(&found, goal, &evidence.tiers);
    let mut out = io::stdout().lock();
    quiet(if args.json {
        serde_json::to_writer_pretty(&mut out, &found)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out))
    } else {
        let head = "The best plan by the goal and its mean ms, predicted on the calibration set";
        let text = found.text(&evidence.tiers);
        write!(out, "{head}\n\n{text}")
    })
}

/// Says which plan is best over splits, exits and thresholds, and what each budget buys.
fn best(args: &ExploreArgs, session: &Session, replayed: &Replayed) -> anyhow::Result<()> {
    if !(args.seconds >= 0.0 && args.seconds.is_finite()) {
        return Err(usage("--seconds: a number from 0 up".to_string()));
    }
    let (evidence, goal) = (&replayed.evidence, &session.goal);
    let until = Instant::now() + Duration::from_secs_f64(args.seconds.min(1e6));
    let mut bar = Bar::start("best plan", 0);
    let found = explore::joint(
        evidence,
        &replayed.terms,
        goal,
        &mut |phase, done, total| {
            bar.set(done as u64, total as u64, "");
            // Each plan is looked at once however long that takes.
            phase == Phase::Look || Instant::now() < until
        },
    );
    bar.clear();
    let found = BudgetReport::new(&found?, goal, &evidence.tiers);
    let mut out = io::stdout().lock();
    quiet(if args.json {
        serde_json::to_writer_pretty(&mut out, &found)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out))
    } else {
        budget(&mut out, &found)
    })
}

fn budget(out: &mut impl Write, found: &BudgetReport) -> io::Result<()> {
    for sentence in found.sentences() {
        writeln!(out, "{sentence}")?;
    }
    writeln!(
        out,
        "\n{:>12} {:>9}   most accurate plan",
        found.unit(),
        "accuracy"
    )?;
    for row in found.rows() {
        let at = row.threshold.map_or(String::new(), |t| format!(" at {t}"));
        let (value, accuracy) = (found.written(row.value), 100.0 * row.accuracy);
        writeln!(out, "{value:>12} {accuracy:>7.1} %   {}{at}", row.plan)?;
    }
    Ok(())
}

fn described<'a>(candidate: &'a Candidate, names: &TierNames) -> Row<'a> {
    Row {
        split: candidate.plan.place(names),
        placement: candidate.placement.to_string(),
        threshold: candidate.outcome.threshold,
        exits: candidate
            .plan
            .exits
            .iter()
            .map(|e| e.after.as_str())
            .collect(),
        predicted: Figures::from(&candidate.outcome),
    }
}

fn human(
    out: &mut impl Write,
    tried: usize,
    front: &[&Candidate],
    names: &TierNames,
) -> io::Result<()> {
    writeln!(
        out,
        "{tried} plans tried, {} that no other beats; predicted on the calibration set",
        front.len()
    )?;
    header(out, "split after")?;
    for candidate in front {
        row(out, &candidate.plan.place(names), &candidate.outcome)?;
        let exits: Vec<&str> = candidate
            .plan
            .exits
            .iter()
            .map(|e| e.after.as_str())
            .collect();
        if !exits.is_empty() {
            let threshold = candidate.outcome.threshold;
            writeln!(
                out,
                "    exits after {}, threshold {threshold:.2}",
                exits.join(", ")
            )?;
        }
    }
    Ok(())
}

pub(super) fn header(out: &mut impl Write, first: &str) -> io::Result<()> {
    writeln!(
        out,
        "{first:<24} {:>9} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "accuracy", "offloaded", "mean ms", "p95 ms", "edge MB", "$ of 1 M", "energy"
    )
}

pub(super) fn row(out: &mut impl Write, first: &str, outcome: &Outcome) -> io::Result<()> {
    let (mean, p95) = outcome
        .latency_ms
        .map_or((f64::NAN, f64::NAN), |l| (l.mean, l.p95));
    writeln!(
        out,
        "{first:<24} {:>7.1} % {:>8.1} % {mean:>10.2} {p95:>10.2} {:>10.2} {:>10.3} {:>10}",
        100.0 * outcome.accuracy,
        100.0 * outcome.offloaded(),
        outcome.memory_bytes(Tier::First) as f64 / 1e6,
        outcome.cost_per_million.map_or(0.0, |c| c.rounded),
        outcome.energy.map_or("–".into(), |e| energy(e.mj())),
    )
}

pub(super) fn quiet(written: io::Result<()>) -> anyhow::Result<()> {
    match written {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing the result"),
    }
}
