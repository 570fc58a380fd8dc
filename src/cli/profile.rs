/*! `profile`: how long each layer of a network takes on this device, and how much memory. */

use super::engine::EngineArgs;
use super::error::usage;
use super::layers::clipped;
use super::network::NetworkArgs;
use super::progress::Bar;
use crate::device::profile::{ProfileOptions, profile};
use crate::device::{HeadProfile, PrefixProfile, Profile, Stats};
use crate::engine::Cancel;
use anyhow::Context;
use serde::Serialize;
use std::io::{self, Write};

/// Cells of the longest bar.
const BAR: usize = 20;

/// Time a network on this device, as a whole and layer by layer, and say what memory it takes.
#[derive(Debug, clap::Args)]
pub struct ProfileArgs {
    #[command(flatten)]
    network: NetworkArgs,
    /// Samples a run.
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Threads; all the cores this process may use if left out.
    #[arg(long, default_value_t = 0, value_parser = super::threads)]
    threads: usize,
    /// Runs that count, after a fifth as many to warm up.
    #[arg(long, default_value_t = 100)]
    runs: usize,
    #[command(flatten)]
    engine: EngineArgs,
    /// One JSON document.
    #[arg(long)]
    json: bool,
}

/// A layer as scripts read it: its median time, and bytes of packed parameters, input and output.
#[derive(Debug, Serialize)]
struct Row<'a> {
    name: &'a str,
    ms: f64,
    ms_min: f64,
    ms_mean: f64,
    ms_p95: f64,
    bytes: usize,
}

#[derive(Debug, Serialize)]
struct ProfileJson<'a> {
    network: &'a str,
    target: &'a str,
    device: &'a str,
    ghz: Option<f64>,
    threads: usize,
    batch: usize,
    slowdown: f64,
    total_ms: Stats,
    layers: Vec<Row<'a>>,
    /// Times up to each place where the network may be cut, where what ran it knows none per layer.
    #[serde(skip_serializing_if = "<[PrefixProfile]>::is_empty")]
    prefixes: &'a [PrefixProfile],
    heads: &'a [HeadProfile],
    samples_ms: &'a [f64],
    weight_bytes: usize,
    arena_bytes: usize,
    resident_bytes: usize,
}

/// Runs the command.
pub fn run(args: &ProfileArgs, cancel: &Cancel) -> anyhow::Result<()> {
    for (option, value) in [("--batch", args.batch), ("--runs", args.runs)] {
        if value == 0 {
            return Err(usage(format!("{option} is at least 1")));
        }
    }
    let network = args.network.load()?;
    let table = network.table()?;
    let options = ProfileOptions {
        backend: args.engine.backend()?,
        threads: args.threads,
        batch: args.batch,
        runs: args.runs,
        warm_up: args.runs.div_ceil(5),
        ..ProfileOptions::default()
    };
    let mut stage = Bar::start("profile", 0);
    let mut progress = |done: usize, total: usize| {
        stage.set(done as u64, total as u64, &table.network);
    };
    let measured = profile(network.fused, &table, &[], &options, &mut progress, cancel)
        .context(format!("profiling {}", table.network))?;
    if let Some(sentence) = disturbed(&measured) {
        stage.say(&sentence);
    }
    stage.done(&format!("{} runs on {}", args.runs, measured.target));
    let mut out = io::stdout().lock();
    let written = match args.json {
        true => serde_json::to_writer_pretty(&mut out, &document(&table.network, &measured))
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out)),
        false => human(&mut out, &table.network, &measured),
    };
    match written {
        // Whoever read the first lines and left (`| head`) got what they wanted.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing the profile"),
    }
}

/// Each layer's median leaves out the runs in which something else had the processor; the median of
/// the whole can't, since in most runs some layer is hit. Then the two don't add up.
fn disturbed(p: &Profile) -> Option<String> {
    if p.layers.is_empty() {
        return None;
    }
    let sum: f64 = p.layers.iter().map(|l| l.ms.median).sum();
    let off = sum / p.total_ms.median - 1.0;
    (off.abs() > 0.05).then(|| {
        format!(
            "the sum of the layers is off by {:+.0} % from the whole: other work on this device disturbed the \
             measurement; stop it and repeat",
            100.0 * off
        )
    })
}

fn document<'a>(network: &'a str, p: &'a Profile) -> ProfileJson<'a> {
    let rows = p.layers.iter().map(|l| Row {
        name: &l.name,
        ms: l.ms.median,
        ms_min: l.ms.min,
        ms_mean: l.ms.mean,
        ms_p95: l.ms.p95,
        bytes: l.bytes,
    });
    ProfileJson {
        network,
        target: &p.target,
        device: &p.device,
        ghz: p.ghz,
        threads: p.threads,
        batch: p.batch,
        slowdown: p.slowdown,
        total_ms: p.total_ms,
        layers: rows.collect(),
        prefixes: &p.prefixes,
        heads: &p.heads,
        samples_ms: &p.samples_ms,
        weight_bytes: p.weight_bytes,
        arena_bytes: p.arena_bytes,
        resident_bytes: p.resident_bytes,
    }
}

fn human(out: &mut impl Write, network: &str, p: &Profile) -> io::Result<()> {
    let (threads, batch) = (p.threads, p.batch);
    writeln!(out, "{network} on {}", p.target)?;
    writeln!(
        out,
        "batch {batch}, {threads} thread{}, median of {} runs",
        if threads == 1 { "" } else { "s" },
        p.samples_ms.len()
    )?;
    let sum = match p.layers.is_empty() {
        true => {
            prefixes(out, p)?;
            String::new()
        }
        false => format!(", sum of the layers {:.4} ms", layers(out, p)?),
    };
    let t = &p.total_ms;
    writeln!(
        out,
        "total: {:.4} ms (min {:.4}, mean {:.4}, p95 {:.4}){sum}",
        t.median, t.min, t.mean, t.p95
    )?;
    // What knows no layers keeps its memory to itself: these are the network's own bytes.
    let (weights, arena) = if p.layers.is_empty() {
        ("parameters", "activations")
    } else {
        ("packed weights", "arena")
    };
    writeln!(
        out,
        "memory: {weights} {}, {arena} {}, peak resident {} for the whole process",
        size(p.weight_bytes),
        size(p.arena_bytes),
        size(p.resident_bytes)
    )
}

/// The table of the layers; gives the sum of their median times, in milliseconds.
fn layers(out: &mut impl Write, p: &Profile) -> io::Result<f64> {
    let longest = p.layers.iter().map(|l| l.ms.median).fold(0.0, f64::max);
    let sum: f64 = p.layers.iter().map(|l| l.ms.median).sum();
    let widths = p.layers.iter().map(|l| l.name.chars().count());
    let name = widths.max().unwrap_or(0).clamp(5, 28);
    writeln!(
        out,
        "{:<name$} {:>9} {:<BAR$} {:>6} {:>10}",
        "layer", "ms", "", "time", "memory"
    )?;
    for l in &p.layers {
        let share = if sum > 0.0 { l.ms.median / sum } else { 0.0 };
        let scale = if longest > 0.0 {
            l.ms.median / longest
        } else {
            0.0
        };
        writeln!(
            out,
            "{:<name$} {:>9.4} {:<BAR$} {:>4.1} % {:>10}",
            clipped(&l.name, name),
            l.ms.median,
            bar(scale, BAR),
            100.0 * share,
            size(l.bytes)
        )?;
    }
    Ok(sum)
}

/// The table of the prefixes that were timed instead of layers.
fn prefixes(out: &mut impl Write, p: &Profile) -> io::Result<()> {
    if p.prefixes.is_empty() {
        return writeln!(out, "timed as a whole: what ran it knows no time per layer");
    }
    let widths = p.prefixes.iter().map(|x| x.after.chars().count());
    let name = widths.max().unwrap_or(0).clamp(12, 28);
    writeln!(
        out,
        "{:<name$} {:>9} {:<BAR$} {:>6}",
        "up to", "ms", "", "time"
    )?;
    for x in &p.prefixes {
        let share = x.ms.median / p.total_ms.median;
        writeln!(
            out,
            "{:<name$} {:>9.4} {:<BAR$} {:>4.1} %",
            clipped(&x.after, name),
            x.ms.median,
            bar(share, BAR),
            100.0 * share,
        )?;
    }
    Ok(())
}

/// A bar of eighths of a cell; something that isn't zero shows.
fn bar(share: f64, cells: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * 8.0 * cells as f64).round() as usize;
    let eighths = if share > 0.0 { eighths.max(1) } else { 0 };
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

fn size(bytes: usize) -> String {
    crate::units::bytes(bytes as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::LayerProfile;
    use pretty_assertions::assert_eq;

    #[test]
    fn bars_end_in_eighths_and_what_is_not_zero_shows() {
        assert_eq!(bar(1.0, 4), "████");
        assert_eq!(bar(0.5, 3), "█▌");
        assert_eq!(bar(0.001, 4), "▏");
        assert_eq!(bar(0.0, 4), "");
    }

    #[test]
    fn the_table_shares_one_scale_and_ends_with_the_total() {
        let stats = |median| Stats {
            min: median,
            median,
            mean: median,
            p95: median,
        };
        let layer = |name: &str, ms| LayerProfile {
            name: name.to_string(),
            ms: stats(ms),
            bytes: 2500,
        };
        let profile = Profile {
            target: "a board".into(),
            device: "a core".into(),
            ghz: None,
            threads: 1,
            batch: 1,
            slowdown: 1.0,
            total_ms: stats(4.1),
            layers: vec![layer("conv1", 3.0), layer("fc", 1.0)],
            prefixes: vec![],
            heads: vec![],
            samples_ms: vec![4.1],
            weight_bytes: 1_000_000,
            arena_bytes: 20_000,
            segments: vec![],
            boundaries: vec![],
            codec: vec![],
            load: None,
            watts: None,
            resident_bytes: 5_000_000,
        };
        assert_eq!(disturbed(&profile), None);
        let slower = Profile {
            total_ms: stats(5.0),
            ..profile.clone()
        };
        assert!(disturbed(&slower).unwrap().contains("-20 %"));
        let mut out = Vec::new();
        human(&mut out, "net", &profile).unwrap();
        let text = String::from_utf8(out).unwrap();
        let expected = "\
net on a board
batch 1, 1 thread, median of 1 runs
layer        ms                        time     memory
conv1    3.0000 ████████████████████ 75.0 %    2.50 kB
fc       1.0000 ██████▋              25.0 %    2.50 kB
total: 4.1000 ms (min 4.1000, mean 4.1000, p95 4.1000), sum of the layers 4.0000 ms
memory: packed weights 1.00 MB, arena 20.0 kB, peak resident 5.00 MB for the whole process
";
        assert_eq!(text, expected);
    }
}
