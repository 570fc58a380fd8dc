/*! The report as tables for a spreadsheet: one of figures, one of exits. */

use super::{Figures, Report, ReportError};
use ::csv::Writer;

/// Names of the columns that [`rows`] fills.
const FIGURES: [&str; 20] = [
    "row",
    "kind",
    "set",
    "emulated",
    "samples",
    "threshold",
    "accuracy",
    "offloaded",
    "latency_mean_ms",
    "latency_p50_ms",
    "latency_p95_ms",
    "latency_p99_ms",
    "edge_memory_bytes",
    "cloud_memory_bytes",
    "bytes_sent",
    "cost_per_million_usd",
    "cost_unrounded_usd",
    "energy_mj",
    "radio_mj",
    "power",
];

/// The sweep, the plan predicted and measured, and the baselines, a row each.
///
/// # Errors
/// Where it can't be written.
pub fn figures(report: &Report) -> Result<String, ReportError> {
    let sweep = report.sweep.iter().map(|f| ("sweep", Some(f)));
    let b = &report.baselines;
    let single = [
        ("predicted", report.predicted.as_ref()),
        ("measured", report.measured.as_ref()),
        ("original", b.original.as_ref()),
        ("cloud_only", b.cloud_only.as_ref()),
        ("cloud_only_jpeg", b.cloud_only_jpeg.as_ref()),
        ("exits_else_image", b.exits_else_image.as_ref()),
        ("edge_only", b.edge_only.as_ref()),
    ];
    let there = sweep.chain(single).filter_map(|(row, f)| Some((row, f?)));
    rows(there)
}

/// Any figures, a row each under its name.
///
/// # Errors
/// Where it can't be written.
pub fn rows<'a>(
    figures: impl Iterator<Item = (&'a str, &'a Figures)>,
) -> Result<String, ReportError> {
    let mut writer = Writer::from_writer(Vec::new());
    writer.write_record(FIGURES)?;
    for (row, figures) in figures {
        writer.write_record(record(row, figures))?;
    }
    finish(writer)
}

/// The exits, a row each.
///
/// # Errors
/// Where it can't be written.
pub fn exits(report: &Report) -> Result<String, ReportError> {
    let mut writer = Writer::from_writer(Vec::new());
    writer.write_record(["after", "part", "threshold", "share", "accuracy"])?;
    for exit in &report.exits {
        writer.write_record([
            exit.after.clone().unwrap_or_default(),
            exit.part.clone(),
            exit.threshold.to_string(),
            exit.share.to_string(),
            exit.accuracy.map_or(String::new(), |a| a.to_string()),
        ])?;
    }
    finish(writer)
}

fn record(row: &str, f: &Figures) -> Vec<String> {
    let latency = |pick: fn(&crate::predict::Latency) -> f64| {
        f.latency_ms.map_or(String::new(), |l| pick(&l).to_string())
    };
    vec![
        row.to_string(),
        f.kind.to_string(),
        f.set.to_string(),
        f.emulated.to_string(),
        f.samples.to_string(),
        f.threshold.to_string(),
        f.accuracy.to_string(),
        f.offloaded.to_string(),
        latency(|l| l.mean),
        latency(|l| l.p50),
        latency(|l| l.p95),
        latency(|l| l.p99),
        f.edge_memory_bytes.to_string(),
        f.cloud_memory_bytes.to_string(),
        f.bytes_sent.to_string(),
        f.cost_per_million_usd.to_string(),
        f.bill_usd
            .map_or(String::new(), |b| b.unrounded.to_string()),
        f.energy.map_or(String::new(), |e| e.mj().to_string()),
        f.energy
            .and_then(|e| e.radio_mj)
            .map_or(String::new(), |mj| mj.to_string()),
        f.energy.map_or("", |e| e.power.name()).to_string(),
    ]
}

fn finish(writer: Writer<Vec<u8>>) -> Result<String, ReportError> {
    let bytes = writer.into_inner().map_err(|e| {
        let error = std::io::Error::other(e.to_string());
        ReportError::Csv(error.into())
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
