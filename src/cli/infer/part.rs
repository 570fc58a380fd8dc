/*! `infer --part`: a part run sample by sample as an agent runs it, with no network connection. */

use super::InferArgs;
use crate::cli::error::usage;
use crate::data::npy;
use crate::engine::{Cancel, share_threads};
use crate::model::{Constant, DType, Data};
use crate::runtime::parts::Part;
use crate::runtime::runner::{ExecutionOptions, ExitRules, Runner, Verdict};
use anyhow::Context;
use serde::Serialize;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

/// What became of a sample.
#[derive(Serialize)]
struct Row<'a> {
    sample: usize,
    /// Whether the part answers; otherwise the sample goes on to the part behind.
    answered: bool,
    /// Exit that was come to last, from 0; the number of exits for the final classifier; absent in a
    /// part that has no classifier.
    exit: Option<u16>,
    /// Layer behind which that exit stands.
    after: Option<&'a str>,
    class: Option<u16>,
    label: Option<&'a str>,
    confidence: Option<f32>,
    /// Segments that ran, of all.
    segments: usize,
    /// Milliseconds in segments and heads.
    ms: f32,
}

/// Samples one after the other, as the part takes them.
struct Samples {
    values: Vec<f32>,
    each: usize,
}

/// Runs the part in a file.
pub(super) fn run(args: &InferArgs, file: &Path, cancel: &Cancel) -> anyhow::Result<()> {
    let ([input], true) = (args.input.as_slice(), args.output.len() < 2) else {
        return Err(usage("a part takes one --input and one --output"));
    };
    if args.threshold.is_some_and(|t| !(0.0..=1.0).contains(&t)) {
        return Err(usage("--threshold: a threshold lies between 0 and 1"));
    }
    let part = Part::open(file).context(file.display().to_string())?;
    let exits = part.segments.iter().filter_map(|s| s.exit.as_ref());
    let after: Vec<String> = exits.map(|exit| exit.after.clone()).collect();
    share_threads(args.threads);
    let options = ExecutionOptions {
        backend: args.engine.backend()?,
        threads: args.threads,
        ..ExecutionOptions::default()
    };
    let runner = Runner::new(part, &options)?;
    let samples = samples(&runner, input)?;
    let thresholds = vec![args.threshold.unwrap_or_default(); runner.info().exits];
    let rules = match args.threshold {
        None => runner.rules(),
        Some(_) => ExitRules {
            thresholds: &thresholds,
            ..runner.rules()
        },
    };
    let mut work = runner.work();
    work.keep_scores = runner.info().ends_network;
    let (mut rows, mut output) = (Vec::new(), Vec::new());
    for (sample, values) in samples.values.chunks(samples.each).enumerate() {
        runner.run(1, values, &rules, &mut work, cancel)?;
        output.extend_from_slice(if work.keep_scores {
            &work.kept_scores
        } else {
            work.tensor()
        });
        let (segments, ms) = (work.segments_ms.len(), work.compute_ms());
        rows.push(row(&runner, &after, sample, work.verdicts[0], segments, ms));
    }
    if let Some(path) = args.output.first() {
        write(&runner, path, output)?;
    }
    let mut out = io::stdout().lock();
    let said = if args.json {
        serde_json::to_writer_pretty(&mut out, &rows)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out))
    } else {
        human(&mut out, &runner, &rows)
    };
    match said {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing the answers"),
    }
}

/// The samples of a file: what the part takes, or pixels of images, which are made into it.
fn samples(runner: &Runner, path: &Path) -> anyhow::Result<Samples> {
    let array = npy::read(path)?;
    let takes = &runner.info().input;
    let each: usize = takes.iter().product();
    let fail = |what: String| anyhow::Error::msg(format!("{}: {what}", path.display()));
    let preprocessing = runner.settings().preprocessing.as_ref();
    let image = preprocessing.and_then(|p| Some((p, runner.image(p.layout)?)));
    let is_pixels = array.dtype() == "uint8";
    let wanted = match (is_pixels, &image) {
        (true, Some((_, shape))) => shape.as_slice(),
        _ => takes,
    };
    match array.shape.split_first() {
        Some((_, sample)) if sample == wanted && each > 0 => {}
        _ => {
            let pixels = match &image {
                Some((_, [c, h, w])) => format!(", or pixels as uint8 [samples, {c}, {h}, {w}]"),
                None => String::new(),
            };
            let found = &array.shape;
            return Err(fail(format!(
                "the part takes float32 [samples, {takes:?}]{pixels}; this is {} {found:?}",
                array.dtype()
            )));
        }
    }
    let values = match (is_pixels, image) {
        (true, Some((preprocessing, shape))) => {
            let pixels = array.to_constant(DType::U8).map_err(fail)?;
            let Data::U8(pixels) = pixels.data else {
                return Err(fail("it holds no pixels".to_string()));
            };
            let mut values = vec![0.0; pixels.len()];
            for (from, to) in pixels.chunks_exact(each).zip(values.chunks_exact_mut(each)) {
                preprocessing.apply(shape, from, to)?;
            }
            values
        }
        _ => match array.to_constant(DType::F32).map_err(fail)?.data {
            Data::F32(values) => values.to_vec(),
            _ => return Err(fail("it holds no float32".to_string())),
        },
    };
    Ok(Samples { values, each })
}

fn row<'a>(
    runner: &'a Runner,
    after: &'a [String],
    sample: usize,
    verdict: Verdict,
    segments: usize,
    ms: f32,
) -> Row<'a> {
    let labels = &runner.settings().labels;
    let latest = verdict.latest;
    Row {
        sample,
        answered: verdict.answered,
        exit: latest.map(|a| a.exit),
        after: latest.and_then(|a| after.get(usize::from(a.exit)).map(String::as_str)),
        class: latest.map(|a| a.prediction),
        label: latest.and_then(|a| labels.get(usize::from(a.prediction)).map(String::as_str)),
        confidence: latest.map(|a| a.confidence),
        segments,
        ms,
    }
}

/// Writes the scores of every sample, or the tensors of those that go on.
fn write(runner: &Runner, path: &Path, values: Vec<f32>) -> anyhow::Result<()> {
    let sample = if runner.info().ends_network {
        vec![runner.info().classes]
    } else {
        runner.output_shape(1).split_off(1)
    };
    let each: usize = sample.iter().product();
    let shape = std::iter::once(values.len() / each.max(1)).chain(sample);
    let tensor = Constant {
        shape: shape.collect(),
        data: Data::F32(Arc::new(values)),
    };
    npy::write(path, &tensor).context(format!("writing {}", path.display()))?;
    crate::cli::progress::note(format_args!("{}: {:?}", path.display(), tensor.shape));
    Ok(())
}

fn human(out: &mut impl Write, runner: &Runner, rows: &[Row]) -> io::Result<()> {
    writeln!(
        out,
        "{:>6}  {:<30} {:<16} {:>10} {:>9} {:>9}",
        "sample", "left at", "class", "confidence", "segments", "ms"
    )?;
    let all = runner.info().segments;
    for row in rows {
        let place = match (row.answered, row.exit, row.after) {
            (true, Some(exit), Some(after)) => format!("exit {exit}, {after}"),
            (true, ..) => "the final classifier".to_string(),
            (false, ..) => "goes on".to_string(),
        };
        let class = match (row.class, row.label) {
            (Some(class), Some(label)) => format!("{class} {label}"),
            (Some(class), None) => class.to_string(),
            (None, _) => "-".to_string(),
        };
        let confidence = row
            .confidence
            .map_or("-".to_string(), |c| format!("{c:.4}"));
        writeln!(
            out,
            "{:>6}  {place:<30} {class:<16} {confidence:>10} {:>9} {:>9.3}",
            row.sample,
            format!("{} of {all}", row.segments),
            row.ms
        )?;
    }
    Ok(())
}
