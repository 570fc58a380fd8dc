/*! `exits check`: whether a source makes a head, at every exit point of a network. */

use super::cost::{Cost, Pricer};
use super::{PlaceArgs, SourceArgs};
use crate::exits::{Diagnostic, ExitPoint};
use crate::plan::{TierHead, TierNames};
use anyhow::Context;
use serde::Serialize;
use std::io::{self, Write};

/// Check a source at every exit point of a network: all that is wrong with it, each finding with
/// its line and a way out. Exit code 1 where it makes no head.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    place: PlaceArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct CheckJson<'a> {
    source: &'a str,
    network: &'a str,
    points: Vec<Row<'a>>,
}

/// An exit point with its heads or what is wrong.
#[derive(Serialize)]
struct Row<'a> {
    after: &'a str,
    index: usize,
    heads: Vec<HeadRow<'a>>,
    errors: &'a [Diagnostic],
}

#[derive(Serialize)]
struct HeadRow<'a> {
    part: &'a str,
    hash: &'a str,
    parameters: usize,
    macs: u64,
    cost: &'a Cost,
    warnings: &'a [Diagnostic],
}

/// One finding, and the points where it was found.
struct Found<'a> {
    finding: &'a Diagnostic,
    points: Vec<&'a str>,
}

type Checked<'a> = (
    &'a ExitPoint,
    Result<Vec<(TierHead, Cost)>, Vec<Diagnostic>>,
);

/// Runs the command.
pub fn run(args: &CheckArgs) -> anyhow::Result<()> {
    let place = args.place.load()?;
    let source = args.source.read(&place)?;
    let pricer = Pricer::of(&place);
    let mut checked: Vec<Checked> = Vec::with_capacity(place.points.len());
    for point in &place.points {
        let heads = match source.source.heads(point, &place.tiers, place.seed) {
            Ok(heads) => {
                let priced = heads.into_iter().map(|of| {
                    let cost = pricer.cost(&of.head)?;
                    Ok((of, cost))
                });
                Ok(priced.collect::<anyhow::Result<Vec<_>>>()?)
            }
            Err(error) => Err(error.diagnostics),
        };
        checked.push((point, heads));
    }
    let failed = checked.iter().filter(|(_, c)| c.is_err()).count();
    let mut out = io::stdout().lock();
    let written = match args.json {
        true => {
            let document = CheckJson {
                source: &source.name,
                network: &place.network.fused.name,
                points: checked.iter().map(|c| row(c, &place.tiers)).collect(),
            };
            serde_json::to_writer_pretty(&mut out, &document)
                .map_err(io::Error::from)
                .and_then(|()| writeln!(out))
        }
        false => human(
            &mut out,
            &source.name,
            &source.source.text,
            &checked,
            &place.tiers,
        ),
    };
    written.context("writing the findings")?;
    match failed {
        0 => Ok(()),
        n => Err(anyhow::Error::msg(format!(
            "{}: no head at {n} of {} exit points",
            source.name,
            checked.len()
        ))),
    }
}

fn row<'a>((point, heads): &'a Checked, tiers: &'a TierNames) -> Row<'a> {
    let made = heads.as_deref().unwrap_or_default();
    let head = |(TierHead { tier, head, .. }, cost): &'a (TierHead, Cost)| HeadRow {
        part: tiers.name(*tier),
        hash: &head.hash,
        parameters: head.params,
        macs: head.macs,
        cost,
        warnings: &head.warnings,
    };
    Row {
        after: &point.after,
        index: point.index,
        heads: made.iter().map(head).collect(),
        errors: heads.as_ref().err().map_or(&[], Vec::as_slice),
    }
}

fn human(
    out: &mut impl Write,
    name: &str,
    text: &str,
    checked: &[Checked],
    tiers: &TierNames,
) -> io::Result<()> {
    let errors = collect(checked, |(_, made)| {
        made.as_ref().err().into_iter().flatten()
    });
    let warnings = collect(checked, |(_, made)| {
        let made = made.as_deref().unwrap_or_default();
        made.iter().flat_map(|(of, _)| &of.head.warnings)
    });
    for (what, found) in [("error", errors), ("warning", warnings)] {
        for Found { finding, points } in found {
            let places = match (points.len(), checked.len()) {
                (n, all) if n == all && all > 1 => format!("at all {all} exit points"),
                (n, _) if n > 3 => format!("at {n} exit points, first after `{}`", points[0]),
                _ => format!("after `{}`", points.join("`, `")),
            };
            writeln!(out, "{what} {places}")?;
            writeln!(out, "{name}:{}\n", finding.text(text))?;
        }
    }
    for (point, made) in checked {
        for (TierHead { tier, head, .. }, cost) in made.as_deref().unwrap_or_default() {
            let apart = made.as_ref().is_ok_and(|m| m.len() > 1);
            let part = if apart {
                format!(" for {}", tiers.name(*tier))
            } else {
                String::new()
            };
            writeln!(
                out,
                "after {}{part}: {} parameters, {} MACs",
                point.after, head.params, head.macs
            )?;
            for line in cost.lines() {
                writeln!(out, "  {line}")?;
            }
        }
    }
    Ok(())
}

/// Equal findings of several points as one.
fn collect<'a, I>(checked: &'a [Checked<'a>], of: impl Fn(&'a Checked<'a>) -> I) -> Vec<Found<'a>>
where
    I: IntoIterator<Item = &'a Diagnostic>,
{
    let mut all: Vec<Found> = Vec::new();
    for one in checked {
        let after = one.0.after.as_str();
        for finding in of(one) {
            match all.iter_mut().find(|f| f.finding == finding) {
                Some(found) if found.points.last() == Some(&after) => {}
                Some(found) => found.points.push(after),
                None => all.push(Found {
                    finding,
                    points: vec![after],
                }),
            }
        }
    }
    all
}
