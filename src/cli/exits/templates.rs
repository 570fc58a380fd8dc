/*! `exits templates`: sources to start from, and the reference of their language. */

use super::PlaceArgs;
use crate::cli::error::usage;
use crate::exits::{self, BLOCKS, TEMPLATES};
use std::io::{self, Write};

/// List the templates that ship, or print one to start from.
#[derive(Debug, clap::Args)]
pub struct TemplatesArgs {
    /// Print this one; `replica` is made of the network --model names.
    name: Option<String>,
    #[command(flatten)]
    place: PlaceArgs,
    /// Print the reference of the language: variables, filters, functions, layers, blocks.
    #[arg(long, conflicts_with_all = ["name", "json"])]
    reference: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Row {
    name: &'static str,
    says: String,
    source: String,
}

/// Runs the command.
pub fn run(args: &TemplatesArgs) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if args.reference {
        return finish(write!(out, "{}", exits::reference()));
    }
    let mut rows: Vec<Row> = TEMPLATES
        .iter()
        .map(|t| Row {
            name: t.name,
            says: t.says(),
            source: t.source.to_string(),
        })
        .collect();
    rows.push(Row {
        name: BLOCKS.name,
        says: "Blocks to import into a source of one's own: conv, down, separable, bottleneck."
            .into(),
        source: BLOCKS.source.to_string(),
    });
    let asked = |name: &str| args.name.as_deref().is_none_or(|n| n == name);
    if asked("replica") {
        let source = exits::replica(&args.place.load()?.network.fused)?;
        let says = "The network's own classifier, resized for each exit point. The default: take \
                    it where features at an exit resemble the last ones.";
        let row = Row {
            name: "replica",
            says: says.into(),
            source,
        };
        rows.insert(0, row);
    }
    rows.retain(|r| asked(r.name));
    let written = match (&args.name, rows.as_slice()) {
        (Some(name), []) => {
            let names: Vec<&str> = TEMPLATES.iter().map(|t| t.name).collect();
            return Err(usage(format!(
                "there is no template `{name}`; there are replica, {}, {}",
                names.join(", "),
                BLOCKS.name
            )));
        }
        _ if args.json => serde_json::to_writer_pretty(&mut out, &rows)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out)),
        (Some(_), rows) => rows.iter().try_for_each(|r| write!(out, "{}", r.source)),
        (None, rows) => rows
            .iter()
            .try_for_each(|r| writeln!(out, "{:<20} {}", r.name, r.says)),
    };
    finish(written)
}

fn finish(written: io::Result<()>) -> anyhow::Result<()> {
    match written {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
