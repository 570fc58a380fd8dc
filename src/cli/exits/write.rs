/*! `exits render`: the heads a source makes, as text, ONNX or PyTorch source. */

use super::cost::{Cost, Pricer};
use super::{PlaceArgs, SourceArgs};
use crate::cli::error::usage;
use crate::exits::{ExitPoint, Head, Line};
use crate::model::export::write_file;
use crate::plan::{Tier, TierHead};
use anyhow::Context;
use serde::Serialize;
use std::io::{self, Write};
use std::path::PathBuf;

/// Show the heads a source makes: layers with their shapes, parameters and multiply-accumulates
/// (MACs), with their times, at one exit point or all; or write one as ONNX or PyTorch source.
#[derive(Debug, clap::Args)]
pub struct RenderArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    place: PlaceArgs,
    /// Write the head, untrained, as an ONNX file; needs --at.
    #[arg(long, value_name = "OUT.onnx", requires = "at", conflicts_with_all = ["json", "pytorch"])]
    onnx: Option<PathBuf>,
    /// Print PyTorch source that builds the same module; needs --at.
    #[arg(long, requires = "at", conflicts_with = "json")]
    pytorch: bool,
    /// The head for the part of this tier (`edge` or `cloud` where a session names no others), for
    /// a source that tells them apart.
    #[arg(long, value_name = "TIER")]
    part: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row<'a> {
    point: &'a ExitPoint,
    part: &'a str,
    rendered: &'a str,
    hash: &'a str,
    parameters: usize,
    parameter_bytes: usize,
    macs: u64,
    cost: Cost,
    layers: &'a [Line],
}

/// A head of the source at one point.
struct Made {
    /// What the tier it is made for is called.
    tier: String,
    head: Head,
    /// Whether the source makes others for other tiers.
    apart: bool,
    /// Whether it was asked for.
    wanted: bool,
}

/// Runs the command.
pub fn run(args: &RenderArgs) -> anyhow::Result<()> {
    let place = args.place.load()?;
    let source = args.source.read(&place)?;
    let text = source.source.text.as_str();
    let mut heads: Vec<Made> = Vec::new();
    let wanted = match &args.part {
        None => None,
        Some(name) => Some(place.tiers.find(name).ok_or_else(|| {
            let names = place.tiers.all().join(", ");
            usage(format!(
                "--part: there is no tier `{name}`; there are {names}"
            ))
        })?),
    };
    for point in &place.points {
        let made = source.source.heads(point, &place.tiers, place.seed)?;
        let apart = made.len() > 1;
        let own = |tier: Tier| made.iter().any(|other| other.tier == tier);
        // A tier without a head of its own has the first one's.
        let wanted = wanted.map(|tier| if own(tier) { tier } else { Tier::First });
        let made = made.into_iter().map(|TierHead { tier, head, .. }| Made {
            tier: place.tiers.name(tier).to_string(),
            head,
            apart,
            wanted: wanted.is_none_or(|wanted| wanted == tier),
        });
        heads.extend(made.filter(|made| made.wanted));
    }
    for warning in heads.iter().flat_map(|made| &made.head.warnings) {
        crate::cli::progress::note(format_args!(
            "warning: {}:{}",
            source.name,
            warning.text(text)
        ));
    }
    let mut out = io::stdout().lock();
    if args.onnx.is_some() || args.pytorch {
        let [Made { head, .. }] = heads.as_slice() else {
            return Err(usage(format!(
                "the source makes {} heads here; say which with --part: {}",
                heads.len(),
                place.tiers.all().join(", ")
            )));
        };
        if let Some(path) = &args.onnx {
            write_file(&head.graph, path)?;
            crate::cli::progress::note(format_args!(
                "{}: the head after {}, untrained, {} parameters",
                path.display(),
                head.point.after,
                head.params
            ));
            return Ok(());
        }
        return write!(out, "{}", head.pytorch()?).context("writing the source");
    }
    let pricer = Pricer::of(&place);
    let written = match args.json {
        true => {
            let rows = heads.iter().map(|head| row(head, &pricer));
            let rows = rows.collect::<anyhow::Result<Vec<Row>>>()?;
            serde_json::to_writer_pretty(&mut out, &rows)
                .map_err(io::Error::from)
                .and_then(|()| writeln!(out))
        }
        false => {
            let mut written = Ok(());
            for head in &heads {
                let cost = pricer.cost(&head.head)?;
                written = written.and_then(|()| human(&mut out, head, &cost));
            }
            written
        }
    };
    match written {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing the heads"),
    }
}

fn row<'a>(made: &'a Made, pricer: &Pricer<'_>) -> anyhow::Result<Row<'a>> {
    let head = &made.head;
    Ok(Row {
        point: &head.point,
        part: &made.tier,
        rendered: &head.rendered,
        hash: &head.hash,
        parameters: head.params,
        parameter_bytes: head.params * size_of::<f32>(),
        macs: head.macs,
        cost: pricer.cost(head)?,
        layers: &head.lines,
    })
}

fn human(out: &mut impl Write, made: &Made, cost: &Cost) -> io::Result<()> {
    let Made { tier, head, .. } = made;
    let part = if made.apart {
        format!(", for {tier}")
    } else {
        String::new()
    };
    let text = |line: &Line| format!("{}{}", "  ".repeat(line.depth + 1), line.text);
    let widths = head.lines.iter().map(|l| text(l).chars().count());
    let width = widths.max().unwrap_or(0).clamp(24, 60);
    writeln!(
        out,
        "after {} (exit point {} of {}{part}): {} parameters, {} MACs, {} bytes, {}",
        head.point.after,
        head.point.index + 1,
        head.point.count,
        head.params,
        head.macs,
        head.params * size_of::<f32>(),
        head.hash
    )?;
    writeln!(
        out,
        "{:<width$} {:>14} {:>10} {:>12}",
        "  input",
        shape(&head.point.sample),
        "params",
        "MACs"
    )?;
    for line in &head.lines {
        writeln!(
            out,
            "{:<width$} {:>14} {:>10} {:>12}",
            text(line),
            shape(&line.output),
            line.params,
            line.macs
        )?;
    }
    for line in cost.lines() {
        writeln!(out, "  {line}")?;
    }
    writeln!(out)
}

fn shape(sample: &[usize]) -> String {
    let dims: Vec<String> = sample.iter().map(usize::to_string).collect();
    dims.join("×")
}
