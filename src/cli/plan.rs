/*! `plan`: where a session's rules split its network and put exits, and why. */

use super::run::go;
use super::session::SessionArgs;
use crate::engine::Cancel;
use crate::event::Stage;
use crate::explore::{guarantee, verdict};
use crate::plan::{Plan, Split, Tier};
use crate::predict::{Doubt, Evidence};
use crate::report::VerdictReport;
use crate::session::{Results, Session};
use crate::units;
use anyhow::Context;
use serde::Serialize;
use std::io::{self, Write};

/// Say where a session's rules split the network and put its exits. The rules that look at the
/// network alone answer at once; the others run (or take from --out) the stages they read.
#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    #[command(flatten)]
    session: SessionArgs,
    /// One JSON document.
    #[arg(long)]
    json: bool,
}

/// The plan as scripts read it. Shares are of the whole network, 0 to 1.
#[derive(Serialize)]
struct PlanJson<'a> {
    network: &'a str,
    /// The first of `splits`.
    split: SplitRow<'a>,
    /// One between each tier and the next.
    splits: Vec<SplitRow<'a>>,
    exits: Vec<ExitRow<'a>>,
    notes: Vec<String>,
    /// What to deploy, predicted; null where that can't be.
    verdict: Option<VerdictReport>,
    /// Why there is no verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_verdict: Option<String>,
    /// What leaving early is promised to cost; null where the session asks for no guarantee.
    guarantee: Option<String>,
}

#[derive(Serialize)]
struct SplitRow<'a> {
    /// The tier before the split.
    behind: String,
    rule: String,
    /// `after`, `edge_only` or `cloud_only`.
    kind: &'static str,
    after: Option<&'a str>,
    memory_share: f64,
    macs_share: f64,
    layers: usize,
    /// Of the F32 tensor that is sent on.
    bytes: usize,
}

#[derive(Serialize)]
struct ExitRow<'a> {
    after: &'a str,
    part: String,
    threshold: f64,
    macs_share: f64,
}

/// Runs the command.
pub fn run(args: &PlanArgs, cancel: &Cancel) -> anyhow::Result<()> {
    let chosen = args.session.load()?;
    let done = go(&chosen, false, Stage::Plan, cancel)?;
    let results = done.session.results.as_deref();
    let found = results.and_then(|r| Some((r, r.plan.as_ref()?)));
    let (results, plan) =
        found.ok_or_else(|| anyhow::Error::msg("the run ended without a plan"))?;
    let mut doubts = done.session.doubts().context("reading the tables")?;
    for doubt in chosen.session.doubts().context("reading the tables")? {
        if !doubts.contains(&doubt) {
            doubts.push(doubt);
        }
    }
    let evidence = evidence(&chosen.session, results);
    let verdict = verdict(&chosen.session, &evidence, plan);
    let promised = promised(&chosen.session, &evidence, plan);
    let document = document(&chosen.session, results, plan, &doubts, verdict, promised);
    let mut out = io::stdout().lock();
    let written = match args.json {
        true => serde_json::to_writer_pretty(&mut out, &document)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out)),
        false => human(&mut out, &document),
    };
    match written {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing the plan"),
    }
}

/// What this run or one before it measured of the same network; or why nobody can say.
fn evidence(session: &Session, results: &Results) -> Result<Evidence, String> {
    let kept = session.results.as_deref();
    let names = session.tier_names();
    let same = |r: &&Results| r.layers == results.layers;
    let all = [Some(results), kept].into_iter().flatten().filter(same);
    let mut evidence = None;
    for found in all {
        let found = found.evidence(names.clone()).map_err(|e| e.to_string())?;
        let timed = found.profiles.iter().all(Option::is_some);
        if timed && found.links.iter().all(Option::is_some) && found.calibration.is_some() {
            evidence.get_or_insert(found);
        }
    }
    evidence.ok_or("it needs profiles, exits and tables; `edgelesspart run` makes them".into())
}

/// What to deploy, or why nobody can say.
fn verdict(
    session: &Session,
    evidence: &Result<Evidence, String>,
    plan: &Plan,
) -> Result<VerdictReport, String> {
    let evidence = evidence.as_ref().map_err(Clone::clone)?;
    let (terms, thresholds) = (session.terms(), session.sweep.thresholds());
    let verdict = verdict::explored(evidence, &terms, &session.goal, plan, &thresholds);
    let verdict = verdict.map_err(|e| e.to_string())?;
    Ok(VerdictReport::new(&verdict, &session.tier_names()))
}

/// What leaving early is promised to cost, where the session asks for it.
fn promised(session: &Session, evidence: &Result<Evidence, String>, plan: &Plan) -> Option<String> {
    let (Some(promise), Ok(evidence)) = (session.guarantee, evidence) else {
        return None;
    };
    Some(match guarantee(evidence, &session.terms(), promise, plan) {
        Ok(found) => found.text(),
        // As with the verdict, the plan itself is known all the same.
        Err(error) => format!("nobody can say what leaving early costs: {error}"),
    })
}

fn document<'a>(
    session: &Session,
    results: &'a Results,
    plan: &'a Plan,
    doubts: &[Doubt],
    verdict: Result<VerdictReport, String>,
    guarantee: Option<String>,
) -> PlanJson<'a> {
    let (verdict, no_verdict) = match verdict {
        Ok(verdict) => (Some(verdict), None),
        Err(why) => (None, Some(why)),
    };
    let table = &results.layers;
    let macs = |row: usize| table.layers[row].prefix_macs as f64 / table.macs.max(1) as f64;
    let names = session.tier_names();
    let of_row = |row: usize| {
        let layer = &table.layers[row];
        let memory = layer.prefix_memory_bytes as f64 / table.memory_bytes.max(1) as f64;
        ("after", memory, macs(row), row + 1, layer.activation_bytes)
    };
    // Up to each split: what the tiers before it keep, and send on.
    let of_split = |at: usize| {
        let split = plan.splits.get(at).copied().unwrap_or(Split::End);
        let (kind, memory_share, macs_share, layers, bytes) = match split {
            Split::After(row) => of_row(row),
            Split::End => ("edge_only", 1.0, 1.0, table.layers.len(), 0),
            Split::Start => ("cloud_only", 0.0, 0.0, 0, 0),
        };
        let rule = session.splits.get(at);
        SplitRow {
            behind: names.name(Tier::ALL[at]).to_string(),
            rule: rule.map_or_else(String::new, ToString::to_string),
            kind,
            after: plan.split_layers.get(at).and_then(Option::as_deref),
            memory_share,
            macs_share,
            layers,
            bytes,
        }
    };
    PlanJson {
        network: &table.network,
        split: of_split(0),
        splits: (0..plan.splits.len()).map(of_split).collect(),
        exits: plan
            .exits
            .iter()
            .map(|exit| ExitRow {
                after: &exit.after,
                part: names.name(exit.tier).to_string(),
                threshold: exit.threshold,
                macs_share: macs(exit.layer),
            })
            .collect(),
        notes: plan
            .remarks
            .iter()
            .map(|r| r.text(&names))
            .chain(doubts.iter().map(Doubt::to_string))
            .collect(),
        verdict,
        no_verdict,
        guarantee,
    }
}

fn human(out: &mut impl Write, document: &PlanJson) -> io::Result<()> {
    let rules: Vec<&str> = document.splits.iter().map(|s| s.rule.as_str()).collect();
    writeln!(out, "{}, by rule {}", document.network, rules.join(", "))?;
    for split in &document.splits {
        let up_to = if document.splits.len() > 1 {
            format!("up to the {}", split.behind)
        } else {
            format!("on the {}", split.behind)
        };
        match split.after {
            Some(after) => writeln!(
                out,
                "split after {after}: {:.0} % of the memory, {:.0} % of the MACs and {} layers {up_to}; \
                 {} sent on",
                100.0 * split.memory_share,
                100.0 * split.macs_share,
                split.layers,
                units::bytes(split.bytes as f64)
            )?,
            None => writeln!(out, "split: {}", split.kind.replace('_', " "))?,
        }
    }
    for exit in &document.exits {
        writeln!(
            out,
            "exit on the {:<5} after {:<24} threshold {:.2}, {:>3.0} % of the MACs before it",
            exit.part,
            exit.after,
            exit.threshold,
            100.0 * exit.macs_share
        )?;
    }
    for note in &document.notes {
        writeln!(out, "- {note}")?;
    }
    if let Some(verdict) = &document.verdict {
        writeln!(out, "\n{}", verdict.text)?;
    }
    if let Some(guarantee) = &document.guarantee {
        writeln!(out, "\n{guarantee}")?;
    }
    if let Some(why) = &document.no_verdict {
        writeln!(out, "\nNo verdict on what to deploy yet: {why}")?;
    }
    Ok(())
}
