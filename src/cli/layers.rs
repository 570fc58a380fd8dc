/*! `layers`: what a network is made of, what each layer costs, and where it may be cut. */

use super::network::NetworkArgs;
use crate::backend::{Backend, CompileOptions, Native, Timing};
use crate::engine::{StepInfo, Unsupported};
use crate::model::Graph;
use crate::model::layers::{Layer, LayerTable};
use anyhow::Context;
use serde::Serialize;
use std::io::{self, Write};

/// List the layers of a network with their costs, and where it may be split and take an exit.
#[derive(Debug, clap::Args)]
pub struct LayersArgs {
    #[command(flatten)]
    network: NetworkArgs,
    /// One JSON document.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Comma-separated values, a header line first.
    #[arg(long)]
    csv: bool,
    /// Also say why a place is not legal, and which kernel runs each layer.
    #[arg(long, short)]
    verbose: bool,
}

/// A row as scripts read it. Bytes at batch 1; shares of the whole network from 0 to 1.
#[derive(Debug, Serialize)]
struct Row<'a> {
    name: &'a str,
    op: &'a str,
    output: String,
    parameters: usize,
    parameter_bytes: usize,
    macs: u64,
    activation_bytes: usize,
    prefix_memory_bytes: usize,
    prefix_memory_share: f64,
    prefix_macs_share: f64,
    split: bool,
    exit: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<String>,
}

#[derive(Debug, Serialize)]
struct LayersJson<'a> {
    network: &'a str,
    input: String,
    classes: usize,
    parameters: usize,
    macs: u64,
    memory_bytes: usize,
    layers: Vec<Row<'a>>,
}

/// Runs the command.
pub fn run(args: &LayersArgs) -> anyhow::Result<()> {
    let network = args.network.load()?;
    let table = network.table()?;
    if !network.fused.other_outputs.is_empty() {
        let output = &network.fused.value(network.fused.outputs[0]).name;
        let others = network.fused.other_outputs.join(", ");
        super::progress::note(format_args!(
            "`{output}` is taken for the classifier's output, not {others}: --classifier chooses"
        ));
    }
    if let Some(ending) = &network.fused.ending {
        super::progress::note(format_args!("{ending}"));
    }
    let ways = match args.verbose {
        true => Some(ways(&network.fused)?),
        false => None,
    };
    let kernels: Vec<Option<String>> = table
        .layers
        .iter()
        .map(|layer| ways.as_ref().map(|w| kernels(&network.fused, layer, w)))
        .collect();
    let rows: Vec<Row> = table
        .layers
        .iter()
        .zip(kernels)
        .map(|(layer, kernel)| row(&table, layer, kernel))
        .collect();
    let mut out = io::stdout().lock();
    let written = if args.json {
        let document = LayersJson {
            network: &table.network,
            input: table.input.to_string(),
            classes: table.classes,
            parameters: table.params,
            macs: table.macs,
            memory_bytes: table.memory_bytes,
            layers: rows,
        };
        serde_json::to_writer_pretty(&mut out, &document)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out))
    } else if args.csv {
        comma_separated(&mut out, &rows)
    } else {
        human(&mut out, &table, &rows, args.verbose)
    };
    match written {
        // Whoever read the first lines and left (`| head`) got what they wanted.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing the table"),
    }
}

fn row<'a>(table: &LayerTable, layer: &'a Layer, kernel: Option<String>) -> Row<'a> {
    Row {
        name: &layer.name,
        op: &layer.op,
        output: layer.shape.to_string(),
        parameters: layer.params,
        parameter_bytes: layer.param_bytes,
        macs: layer.macs,
        activation_bytes: layer.activation_bytes,
        prefix_memory_bytes: layer.prefix_memory_bytes,
        prefix_memory_share: share(layer.prefix_memory_bytes as f64, table.memory_bytes as f64),
        prefix_macs_share: share(layer.prefix_macs as f64, table.macs as f64),
        split: layer.split_legal,
        exit: layer.exit_legal,
        why_not: layer.why_not.as_deref(),
        kernel,
    }
}

fn share(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

/// What the engine does for each node: the steps that run it, or why it can't.
type Ways = (Vec<StepInfo>, Vec<Unsupported>);

fn ways(graph: &Graph) -> anyhow::Result<Ways> {
    let refused = Native::default().check(graph);
    if !refused.is_empty() {
        return Ok((Vec::new(), refused));
    }
    let network = Native::default().compile(graph.clone(), &CompileOptions::default())?;
    Ok(match network.timing() {
        Timing::Steps(steps) => (steps.steps(1)?, refused),
        Timing::Whole => (Vec::new(), refused),
    })
}

/// The kernels of the layer's nodes, each once, and what the engine doesn't cover of it.
fn kernels(graph: &Graph, layer: &Layer, (steps, refused): &Ways) -> String {
    let mut found: Vec<String> = Vec::new();
    for node in &graph.nodes[layer.nodes.clone()] {
        let steps = steps.iter().filter(|s| s.node == node.name);
        let refused = refused.iter().filter(|r| r.node == node.name);
        let ways = steps.map(|s| s.kernel.clone());
        for way in ways.chain(refused.map(|r| format!("not supported: {}", r.what))) {
            if !found.contains(&way) {
                found.push(way);
            }
        }
    }
    found.join(", ")
}

fn comma_separated(out: &mut impl Write, rows: &[Row]) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record([
        "name",
        "op",
        "output",
        "parameters",
        "parameter_bytes",
        "macs",
        "activation_bytes",
        "prefix_memory_bytes",
        "prefix_memory_share",
        "prefix_macs_share",
        "split",
        "exit",
        "why_not",
    ])?;
    for r in rows {
        csv.write_record([
            r.name,
            r.op,
            &r.output,
            &r.parameters.to_string(),
            &r.parameter_bytes.to_string(),
            &r.macs.to_string(),
            &r.activation_bytes.to_string(),
            &r.prefix_memory_bytes.to_string(),
            &format!("{:.6}", r.prefix_memory_share),
            &format!("{:.6}", r.prefix_macs_share),
            &r.split.to_string(),
            &r.exit.to_string(),
            r.why_not.unwrap_or(""),
        ])?;
    }
    csv.flush()
}

fn human(out: &mut impl Write, table: &LayerTable, rows: &[Row], verbose: bool) -> io::Result<()> {
    let width = |text: &dyn Fn(&Row) -> usize, least: usize, most: usize| {
        rows.iter().map(text).max().unwrap_or(0).clamp(least, most)
    };
    let name = width(&|r| r.name.chars().count(), 5, 28);
    let op = width(&|r| r.op.chars().count(), 2, 16);
    let shape = width(&|r| r.output.chars().count(), 6, 14);
    writeln!(
        out,
        "{}: {} layers, input {}, {} classes",
        table.network,
        rows.len(),
        table.input,
        table.classes
    )?;
    writeln!(
        out,
        "{:<name$} {:<op$} {:<shape$} {:>8} {:>8} {:>9} {:>6} {:>5}  legal here",
        "layer", "op", "output", "params", "MACs", "output B", "memory", "MACs"
    )?;
    for r in rows {
        let legal = match (r.split, r.exit) {
            (true, true) => "split exit",
            (true, false) => "split",
            (false, true) => "exit",
            (false, false) => "-",
        };
        writeln!(
            out,
            "{:<name$} {:<op$} {:<shape$} {:>8} {:>8} {:>9} {:>4.0} % {:>3.0} %  {legal}",
            clipped(r.name, name),
            clipped(r.op, op),
            clipped(&r.output, shape),
            short(r.parameters as f64),
            short(r.macs as f64),
            short(r.activation_bytes as f64),
            100.0 * r.prefix_memory_share,
            100.0 * r.prefix_macs_share,
        )?;
        if verbose {
            let kernel = r
                .kernel
                .as_deref()
                .filter(|k| !k.is_empty())
                .unwrap_or("none");
            writeln!(out, "    kernel: {kernel}")?;
            if let Some(why) = r.why_not {
                writeln!(out, "    {why}")?;
            }
        }
    }
    let splits = rows.iter().filter(|r| r.split).count();
    let exits = rows.iter().filter(|r| r.exit).count();
    writeln!(
        out,
        "total: {} parameters, {} MACs, split memory {} bytes; {splits} legal splits, {exits} exit points",
        table.params, table.macs, table.memory_bytes
    )?;
    writeln!(
        out,
        "memory and MACs are shares of the whole network up to and including the layer"
    )
}

/// The end of a long name says more than its beginning.
pub(super) fn clipped(text: &str, width: usize) -> String {
    let count = text.chars().count();
    match count > width {
        true => format!(
            "~{}",
            text.chars().skip(count + 1 - width).collect::<String>()
        ),
        false => text.to_string(),
    }
}

/// `123`, `45.6k`, `7.89M`.
fn short(n: f64) -> String {
    match n {
        n if n < 1000.0 => format!("{n:.0}"),
        n if n < 1e6 => format!("{:.1}k", n / 1e3),
        n if n < 1e9 => format!("{:.2}M", n / 1e6),
        n => format!("{:.2}G", n / 1e9),
    }
}
