/*! `export parts`: the parts of a session's plan as files, for agents and for other runtimes. */

use crate::cli::session::SessionArgs;
use crate::deploy::{Form, Places, Written, write};
use crate::engine::Cancel;
use crate::plan::Plan;
use crate::run::{servings, session_parts};
use crate::runtime::manifest::{Extent, Tensor};
use crate::session::Session;
use anyhow::Context;
use serde::Serialize;
use std::io::{self, Write as _};
use std::path::PathBuf;

/// Write the parts of a session's plan, with the exits that its run trained: for each tier the part in
/// one ONNX file, one that stops by itself, its segments and heads, and a manifest; the bundles that
/// agents take; a model repository for Triton; or services for KServe, Knative and Cloud Run.
#[derive(Debug, clap::Args)]
pub struct PartsArgs {
    /// A session that ran; the demo that ships with the program if left out.
    #[arg(value_name = "SESSION")]
    session: Option<PathBuf>,
    /// Where the parts go: a folder that is empty or not there yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// onnx: a folder for each tier; bundle: an archive (tar) for each tier, as agents take it; triton: a
    /// model repository for each tier; kserve: for each tier behind the first a folder with Containerfiles and
    /// manifests for KServe, Knative and Cloud Run, for an agent and for Triton.
    #[arg(long, value_enum, default_value_t = Format::Onnx)]
    format: Format,
    /// With --format kserve: registry and path that images are pushed to.
    #[arg(long, value_name = "HOST/PATH", default_value_t = Places::default().images)]
    images: String,
    /// With --format kserve: folder of model repositories that KServe reads (gs://, s3://, pvc://, …).
    #[arg(long, value_name = "URI", default_value_t = Places::default().models)]
    models: String,
    /// In place of the session's threshold, 0 to 1.
    #[arg(long, value_name = "C_THR")]
    threshold: Option<f64>,
    /// Folder of the session's run; runs/NAME if left out.
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Print one JSON document: path, SHA-256, exits and files of each part.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Onnx,
    Bundle,
    Triton,
    Kserve,
}

/// A part for scripts.
#[derive(Serialize)]
struct Row<'a> {
    tier: &'a str,
    path: PathBuf,
    /// SHA-256 of the bundle, or of the manifest.
    sha256: &'a str,
    exits: usize,
    files: Vec<File<'a>>,
}

#[derive(Serialize)]
struct File<'a> {
    name: &'a str,
    bytes: u64,
    sha256: &'a str,
}

/// Runs the command.
pub fn run(args: &PartsArgs, cancel: &Cancel) -> anyhow::Result<()> {
    let chosen = SessionArgs::of(&args.session, args.threshold, &args.from).load()?;
    let session = chosen.with_results()?;
    let (plan, parts) = session_parts(&session, &chosen.out, cancel)?;
    let servings = match args.format {
        Format::Onnx | Format::Bundle => Vec::new(),
        Format::Triton | Format::Kserve => servings(&session, &plan)?,
    };
    let places = Places {
        images: args.images.trim_end_matches('/').to_string(),
        models: args.models.trim_end_matches('/').to_string(),
    };
    let form = match args.format {
        Format::Onnx => Form::Onnx,
        Format::Bundle => Form::Bundle,
        Format::Triton => Form::Triton(&servings),
        Format::Kserve => Form::Kserve(&servings, &places),
    };
    let written = write(&parts, &session.tier_names(), form, &args.out)?;
    let mut out = io::stdout().lock();
    let said = if args.json {
        serde_json::to_writer_pretty(&mut out, &rows(args, &written))
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out))
    } else {
        human(&mut out, args, &session, &plan, &written)
    };
    match said {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing what was exported"),
    }
}

fn rows<'a>(args: &PartsArgs, written: &'a [Written]) -> Vec<Row<'a>> {
    let row = |part: &'a Written| Row {
        tier: &part.tier,
        path: args.out.join(&part.path),
        sha256: &part.address,
        exits: part.exits().count(),
        files: part
            .files
            .iter()
            .map(|f| File {
                name: &f.name,
                bytes: f.bytes,
                sha256: &f.sha256,
            })
            .collect(),
    };
    written.iter().map(row).collect()
}

fn human(
    out: &mut impl io::Write,
    args: &PartsArgs,
    session: &Session,
    plan: &Plan,
    written: &[Written],
) -> io::Result<()> {
    let network = written.first().map_or("", |part| &part.manifest.network);
    writeln!(out, "{network}, {}", plan.describe(&session.tier_names()))?;
    for part in written {
        let manifest = &part.manifest;
        writeln!(out)?;
        writeln!(
            out,
            "{}: {} to {}",
            args.out.join(&part.path).display(),
            shown(&manifest.input),
            shown(&manifest.output.tensor)
        )?;
        for (number, exit) in part.exits().enumerate() {
            writeln!(
                out,
                "  exit {number} after {}, threshold {:.2}, temperature {:.3}",
                exit.after, exit.threshold, exit.temperature
            )?;
        }
        for file in &part.files {
            writeln!(out, "  {:<40} {:>12} bytes", file.name, file.bytes)?;
        }
        if let Some(why) = part.without_progressive {
            let what = match args.format {
                Format::Onnx | Format::Bundle => "file",
                Format::Triton | Format::Kserve => "model",
            };
            writeln!(out, "  no {what} that stops by itself: {why}")?;
        }
        if args.format == Format::Bundle {
            writeln!(out, "  an agent serves it as {}", part.address)?;
        }
    }
    Ok(())
}

fn shown(tensor: &Tensor) -> String {
    let extents: Vec<String> = tensor.shape.iter().map(Extent::to_string).collect();
    format!("{} {}", tensor.name, extents.join("×"))
}
