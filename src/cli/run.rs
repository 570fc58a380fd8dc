/*! `run`: the whole of a session, from its network and images to a report of a distributed run. */

mod dry;

use super::pictures;
use super::progress::{Bar, Loudness, LoudnessArgs, loudness};
use super::session::{Chosen, SessionArgs};
use crate::engine::Cancel;
use crate::event::{Event, Stage, TargetId, Vitals};
use crate::plan::TierNames;
use crate::report;
use crate::run::{self, Options, RunError};
use anyhow::Context;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// Run a session: profile both sides, train the exits, plan, run the parts distributed, and report.
/// What is finished is kept under --out, and taken from there the next time.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    session: SessionArgs,
    /// Do everything again, the training too, whatever is kept.
    #[arg(long)]
    fresh: bool,
    /// Say what would be done and what is kept from before, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    loudness: LoudnessArgs,
    /// One JSON document.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// The sweep as comma-separated values.
    #[arg(long)]
    csv: bool,
    /// Start a session of its own, wait until the folder is free, and go only so far: how a workbench
    /// runs its jobs, which outlive it.
    #[arg(long, hide = true, value_enum, value_name = "GOAL")]
    detached: Option<Detached>,
    /// End with the process that started this one.
    #[arg(long, hide = true, requires = "detached")]
    with_parent: bool,
}

/// How far a detached run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Detached {
    /// To profiles and link.
    Profile,
    /// To heads and tables.
    Train,
    /// Every stage, to the report.
    Run,
}

/// How often a detached run looks whether the one before it has let go of the folder, and whether its
/// parent is still there.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// What a detached run that doesn't go to its report leaves of its results, beside `session.ron`.
pub const REACHED: &str = "job/reached.ron";

/// Extension of the file, beside its session, in which a detached run that failed leaves why.
pub const FAILED: &str = "failed";

/// Runs the command.
pub fn run(args: &RunArgs, cancel: &Cancel) -> anyhow::Result<()> {
    args.loudness.apply();
    let done = to_its_goal(args, cancel);
    if let (Some(_), Some(file), Err(error)) = (args.detached, args.session.file(), &done) {
        // Where even this can't be written, whoever follows the run names its log.
        let _ = std::fs::write(file.with_extension(FAILED), error.to_string());
    }
    done
}

fn to_its_goal(args: &RunArgs, cancel: &Cancel) -> anyhow::Result<()> {
    let chosen = args.session.load()?;
    let until = match args.detached {
        None | Some(Detached::Run) => Stage::Report,
        Some(Detached::Train) => Stage::Tables,
        Some(Detached::Profile) => Stage::Link,
    };
    if args.dry_run {
        return dry::show(&chosen, args.fresh);
    }
    if args.detached.is_some() {
        nix::unistd::setsid().context("starting a session of its own")?;
    }
    if args.with_parent {
        end_with_parent(cancel)?;
    }
    let done = loop {
        match attempt(&chosen, args.fresh, until, cancel) {
            Err(RunError::Busy { .. }) if args.detached.is_some() && !cancel.is_cancelled() => {
                std::thread::sleep(POLL_INTERVAL);
            }
            other => break other?,
        }
    };
    let out = &chosen.out;
    if until != Stage::Report {
        done.session.save(&out.join(REACHED))?;
        return Ok(());
    }
    let [text, csv, json] = keep(&done, out)?;
    let shown = match (args.json, args.csv) {
        (true, _) => &json,
        (_, true) => &csv,
        _ => {
            if let Some(report) = &done.report {
                pictures::show(report)?;
            }
            &text
        }
    };
    show_report(shown, out)
}

/// Runs a session to its report, which is kept and shown as text.
pub fn to_report(chosen: &Chosen, cancel: &Cancel) -> anyhow::Result<()> {
    let done = go(chosen, false, Stage::Report, cancel)?;
    let [text, ..] = keep(&done, &chosen.out)?;
    show_report(&text, &chosen.out)
}

fn show_report(shown: &str, out: &Path) -> anyhow::Result<()> {
    match io::stdout().lock().write_all(shown.as_bytes()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
        other => other.context("writing the report")?,
    }
    crate::cli::progress::tell(format_args!(
        "{}: report.html, report.json, report.csv, session.ron",
        out.display()
    ));
    Ok(())
}

/// Raises `cancel` when the process that started this one is gone.
fn end_with_parent(cancel: &Cancel) -> anyhow::Result<()> {
    let (parent, cancel) = (nix::unistd::getppid(), cancel.clone());
    let watch = std::thread::Builder::new().name("parent".into());
    let watching = watch.spawn(move || {
        while nix::unistd::getppid() == parent {
            std::thread::sleep(POLL_INTERVAL);
        }
        cancel.cancel();
    });
    watching.context("watching over the parent")?;
    Ok(())
}

/// Writes the report in all its forms, and the session that replays it; gives text, CSV and JSON.
///
/// # Errors
/// Names the file; or there is no report.
pub fn keep(done: &run::Done, out: &Path) -> anyhow::Result<[String; 3]> {
    let report = done
        .report
        .as_ref()
        .ok_or_else(|| anyhow::Error::msg("the run ended without a report"))?;
    let text = report::text::text(report);
    let csv = report::csv::figures(report)?;
    let json = report::json::json(report)?;
    write(&out.join("report.txt"), text.as_bytes())?;
    write(&out.join("report.csv"), csv.as_bytes())?;
    write(&out.join("report.json"), json.as_bytes())?;
    let page = report::html::html(report)?;
    write(&out.join("report.html"), page.as_bytes())?;
    done.session.save(&out.join("session.ron"))?;
    Ok([text, csv, json])
}

/// Runs a session up to a stage, its progress on standard error.
pub fn go(
    chosen: &Chosen,
    fresh: bool,
    until: Stage,
    cancel: &Cancel,
) -> anyhow::Result<run::Done> {
    Ok(attempt(chosen, fresh, until, cancel)?)
}

fn attempt(
    chosen: &Chosen,
    fresh: bool,
    until: Stage,
    cancel: &Cancel,
) -> Result<run::Done, RunError> {
    let options = Options {
        out: chosen.out.clone(),
        name: chosen.name.clone(),
        fresh,
        until,
        program: None,
    };
    let mut bar: Option<Bar> = None;
    let names = chosen.session.tier_names();
    run::run(
        &chosen.session,
        &options,
        &mut |event| show(&mut bar, &names, event),
        cancel,
    )
}

fn write(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(file, bytes).context(file.display().to_string())
}

fn label(stage: Stage) -> &'static str {
    match stage {
        Stage::Data => "images",
        Stage::Backbone => "network",
        Stage::Targets => "targets",
        Stage::Profile => "profile",
        Stage::Link => "link",
        Stage::Heads => "exits",
        Stage::Tables => "confidence",
        Stage::Plan => "plan",
        Stage::Run => "distributed run",
        Stage::Baselines => "baselines",
        Stage::Report => "report",
    }
}

/// What a target's sensors say, in a line.
fn reading(vitals: &Vitals) -> String {
    let percent = |name: &str, share: f64| format!("{name} {:.0} %", 100.0 * share);
    let words = [
        vitals.celsius.map(|c| format!("{c:.0} °C")),
        vitals.watts.map(|w| format!("{w:.1} W")),
        vitals.cpu.map(|share| percent("cpu", share)),
        vitals.gpu.map(|share| percent("gpu", share)),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// A line per exit: loss and accuracy on training images, and accuracy on calibration images as far as it
/// was told.
fn learnt(epoch: usize, scores: &[(String, f64, f64)], validation: &[Option<f64>]) -> String {
    let mut text = format!("epoch {epoch}, on training images:");
    for (i, (name, loss, right)) in scores.iter().enumerate() {
        text += &format!(
            "\n  {name:<28} loss {loss:.3}, {:.1} % right",
            100.0 * right
        );
        if let Some(share) = validation.get(i).copied().flatten() {
            text += &format!(", {:.1} % on calibration images", 100.0 * share);
        }
    }
    text
}

fn show(bar: &mut Option<Bar>, names: &TierNames, event: Event) {
    match event {
        Event::Started(stage) => *bar = Some(Bar::start(label(stage), 0)),
        Event::Progress {
            done, total, note, ..
        } => {
            if let Some(bar) = bar {
                bar.set(done, total, &note);
            }
        }
        Event::Say(said) => match bar {
            Some(bar) => bar.say(&said.named(names)),
            None => crate::cli::progress::tell(format_args!(
                "{}: {}",
                label(said.stage),
                said.named(names)
            )),
        },
        Event::Target {
            part,
            index,
            connection,
        } => {
            let target = TargetId { part, index }.named(names);
            if let Some(bar) = bar {
                bar.say(&format!("{target}: {connection}"));
            }
        }
        Event::Epoch {
            epoch,
            epochs,
            scores,
            validation,
            ..
        } if epoch == epochs || loudness() == Loudness::Verbose => {
            if let Some(bar) = bar {
                bar.say(&learnt(epoch, &scores, &validation));
            }
        }
        Event::Finished { outcome, kept, .. } => {
            let kept = if kept { " [kept from before]" } else { "" };
            if let Some(bar) = bar.take() {
                bar.done(&format!("{outcome}{kept}"));
            }
        }
        Event::Paused(held) => {
            if let Some(bar) = bar {
                bar.say(if held { "paused" } else { "goes on" });
            }
        }
        Event::Vitals {
            part,
            index,
            vitals,
        } if loudness() == Loudness::Verbose => {
            let target = TargetId { part, index }.named(names);
            if let Some(bar) = bar {
                bar.say(&format!("{target}: {}", reading(&vitals)));
            }
        }
        Event::Epoch { .. }
        | Event::Vitals { .. }
        | Event::Evaluating { .. }
        | Event::Records(_)
        | Event::Profiled { .. }
        | Event::Linked(_) => {}
    }
}
