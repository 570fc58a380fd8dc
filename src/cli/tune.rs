/*! `tune`: the thresholds that a session's goal asks for, and what they keep with a guarantee; from what a
run left, without network, images or agents. */

use super::error::usage;
use super::session::SessionArgs;
use super::sweep::{header, quiet, row};
use crate::data::Set;
use crate::explore::{Guarantee, Objective, Point, Tuned, Tuning, guarantee, tune};
use crate::plan::Plan;
use crate::predict::{Outcome, PreparedPlan};
use crate::report::{Figures, GuaranteeReport};
use crate::run::Replayed;
use anyhow::Context;
use serde::Serialize;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Rows of the budget curve as text.
const ROWS: usize = 12;

/// Search for the thresholds that the session's goal asks for: one for all exits, and one per exit; with
/// --guarantee, test which of them keep it. Chosen on calibration images from what a run left, judged once
/// on the test images.
#[derive(Debug, clap::Args)]
pub struct TuneArgs {
    #[command(flatten)]
    session: SessionArgs,
    /// Search for so many seconds at most; what is found by then is said to be a heuristic's.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    seconds: f64,
    /// Write the session with the thresholds that were found to this file.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// One JSON document.
    #[arg(long)]
    json: bool,
}

/// What was found, for scripts.
#[derive(Serialize)]
struct TuneJson {
    /// The plan at its own thresholds, predicted on calibration.
    own: Figures,
    common: TunedRow,
    per_exit: TunedRow,
    /// What the curves' `value` is of.
    objective: Objective,
    /// What the values of curves and bounds are of.
    spent: Objective,
    common_curve: Vec<CurveRow>,
    per_exit_curve: Vec<CurveRow>,
    guarantee: Option<GuaranteeReport>,
    /// What was chosen: the guaranteed thresholds where there are any, else those per exit.
    chosen: Vec<f64>,
    /// What was chosen, on the test images.
    test: Figures,
    /// The whole network on the test images, 0 to 1.
    test_unmodified_accuracy: f64,
}

#[derive(Serialize)]
struct TunedRow {
    /// One per exit of the plan, 0 to 1.
    thresholds: Vec<f64>,
    /// Whether no thresholds of this form can be better.
    exact: bool,
    /// The least that any could have of the objective, where it is known.
    bound: Option<f64>,
    /// Whether they keep to the goal's limits.
    feasible: bool,
    predicted: Figures,
}

#[derive(Serialize)]
struct CurveRow {
    thresholds: Vec<f64>,
    /// Milliseconds in the mean, or US dollars per million inferences.
    value: f64,
    accuracy: f64,
}

impl From<&Tuned> for TunedRow {
    fn from(tuned: &Tuned) -> TunedRow {
        TunedRow {
            thresholds: tuned.thresholds.clone(),
            exact: tuned.exact,
            bound: tuned.bound,
            feasible: tuned.feasible,
            predicted: Figures::from(&tuned.outcome),
        }
    }
}

fn curve(points: &[Point]) -> Vec<CurveRow> {
    let row = |p: &Point| CurveRow {
        thresholds: p.thresholds.clone(),
        value: p.value,
        accuracy: p.accuracy,
    };
    points.iter().map(row).collect()
}

/// Runs the command.
pub fn run(args: &TuneArgs) -> anyhow::Result<()> {
    if !(args.seconds >= 0.0 && args.seconds.is_finite()) {
        return Err(usage("--seconds: a number from 0 up".to_string()));
    }
    let chosen = args.session.load()?;
    let session = chosen.with_results()?;
    let replayed = Replayed::of(&session)?;
    let (evidence, terms, plan) = (&replayed.evidence, &replayed.terms, replayed.plan);
    if plan.exits.is_empty() {
        return Err(anyhow::Error::msg(
            "the plan has no exits, so there are no thresholds to choose; give it some with `exits`",
        ));
    }
    let until = Instant::now() + Duration::from_secs_f64(args.seconds.min(1e6));
    let found = tune(evidence, terms, &session.goal, plan, &|| {
        Instant::now() < until
    })?;
    let tuned = with_thresholds(plan, &found.per_exit.thresholds);
    let promised = session
        .guarantee
        .map(|promise| guarantee(evidence, terms, promise, &tuned))
        .transpose()?;
    let kept = promised.as_ref().and_then(Guarantee::kept);
    let best = kept.map_or(&found.per_exit.thresholds, |kept| &kept.thresholds);
    let best = with_thresholds(plan, best);
    // Once, of what was chosen.
    let test = PreparedPlan::new(evidence, terms, Set::Test, &best)?.outcome();
    let answers = &evidence.answers(Set::Test)?.table;
    let whole = answers.final_column()?.accuracy(&answers.labels);
    let report = promised
        .as_ref()
        .map(|found| GuaranteeReport::new(found, evidence, terms, &tuned))
        .transpose()?;
    if let Some(file) = &args.save {
        let mut session = chosen.session.clone();
        session.policy.set_thresholds(&best);
        session.save(file).context("--save")?;
    }
    let mut out = io::stdout().lock();
    quiet(if args.json {
        let document = TuneJson {
            own: Figures::from(&found.own),
            common: TunedRow::from(&found.common),
            per_exit: TunedRow::from(&found.per_exit),
            objective: session.goal.minimise,
            spent: found.spent,
            common_curve: curve(&found.common_curve),
            per_exit_curve: curve(&found.per_exit_curve),
            guarantee: report,
            chosen: best.exits.iter().map(|e| e.threshold).collect(),
            test: Figures::from(&test),
            test_unmodified_accuracy: whole,
        };
        serde_json::to_writer_pretty(&mut out, &document)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out))
    } else {
        human(&mut out, &found)
            .and_then(|()| report.map_or(Ok(()), |g| writeln!(out, "\n{}.", g.sentence())))
            .and_then(|()| judged(&mut out, &best, &test, whole))
    })
}

/// The plan at other thresholds, one per exit.
fn with_thresholds(plan: &Plan, thresholds: &[f64]) -> Plan {
    let mut plan = plan.clone();
    for (exit, threshold) in plan.exits.iter_mut().zip(thresholds) {
        exit.threshold = *threshold;
    }
    plan
}

fn list(thresholds: impl IntoIterator<Item = f64>) -> String {
    let all: Vec<String> = thresholds.into_iter().map(|t| t.to_string()).collect();
    all.join(", ")
}

fn human(out: &mut impl Write, found: &Tuning) -> io::Result<()> {
    writeln!(out, "Thresholds, predicted on the calibration set")?;
    header(out, "")?;
    row(out, "this plan", &found.own)?;
    row(out, "best common threshold", &found.common.outcome)?;
    row(out, "best one per exit", &found.per_exit.outcome)?;
    let common = found.common.thresholds.first().copied();
    writeln!(
        out,
        "\nbest common threshold: {}, {}",
        list(common),
        sure(&found.common)
    )?;
    writeln!(
        out,
        "best one per exit: {}, {}",
        list(found.per_exit.thresholds.iter().copied()),
        sure(&found.per_exit)
    )?;
    let unit = match found.spent {
        Objective::Cost => "$ of 1 M",
        Objective::Energy => "mJ",
        Objective::Latency(_) | Objective::EdgeMemory => "mean ms",
    };
    writeln!(out, "\n{unit:>10} {:>12} {:>12}", "common", "one per exit")?;
    let count = found.per_exit_curve.len();
    let rows = ROWS.min(count);
    for i in 0..rows {
        let point = &found.per_exit_curve[i * (count - 1) / (rows - 1).max(1)];
        let within = found.common_curve.iter();
        let within = within.take_while(|p| p.value <= point.value + 1e-12).last();
        let common = within.map_or("–".to_string(), |p| {
            format!("{:.1} %", 100.0 * p.accuracy)
        });
        writeln!(
            out,
            "{:>10.2} {common:>12} {:>10.1} %",
            point.value,
            100.0 * point.accuracy
        )?;
    }
    Ok(())
}

/// How sure it is that nothing is better, and what else is to be said.
fn sure(tuned: &Tuned) -> String {
    let proof = match (tuned.exact, tuned.bound) {
        (true, _) => "proved to be the best".to_string(),
        (false, Some(bound)) => {
            format!("the best that a heuristic found; none can be below {bound:.2}")
        }
        (false, None) => "the best that a heuristic found".to_string(),
    };
    if tuned.feasible {
        return proof;
    }
    format!(
        "the best reachable, for no threshold keeps the goal's limits ({proof}); loosen a limit"
    )
}

fn judged(out: &mut impl Write, plan: &Plan, test: &Outcome, whole: f64) -> io::Result<()> {
    let thresholds = list(plan.exits.iter().map(|e| e.threshold));
    writeln!(
        out,
        "\nOn the test set, once: {:.1} % at {thresholds} where the whole network has {:.1} %; {:.2} ms in \
         the mean, {:.1} % offloaded, over {} images",
        100.0 * test.accuracy,
        100.0 * whole,
        test.latency_ms.map_or(f64::NAN, |l| l.mean),
        100.0 * test.offloaded(),
        test.samples
    )
}
