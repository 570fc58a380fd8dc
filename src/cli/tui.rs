/*! `tui`, and what happens without a command: the workbench. */

use super::CliError;
use crate::engine::Cancel;
use crate::run::lock::{events_file, holder};
use crate::run::{self, Event, RunError, Stage};
use crate::session::Session;
use crate::tui::{self, ColorChoice, Goal, Going, Job, Replay, Results, Work};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a run elsewhere is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How long the files of a run that has ended may take to be written.
const LAST_FILES: Duration = Duration::from_secs(5);

/// How the workbench looks.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Look {
    /// How many colours the workbench uses.
    #[arg(long, value_enum, default_value_t)]
    color: ColorChoice,
    /// Borders, bars and marks in ASCII.
    #[arg(long)]
    ascii: bool,
    /// default, dark, light, high-contrast, colour-blind or mono; or one of your own.
    #[arg(long, value_name = "NAME")]
    theme: Option<String>,
}

/// Open the workbench on a session, or on the demo.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TuiArgs {
    /// The session file; the demo that ships if absent.
    pub session: Option<PathBuf>,
    #[command(flatten)]
    pub(super) look: Look,
}

/// Play the last run of a session again, as it went; nothing but the session file is needed.
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    /// A session file that a run left; the demo that ships if absent.
    pub session: Option<PathBuf>,
    /// So many times as fast as it was.
    #[arg(long, default_value_t = 1.0, value_name = "N", value_parser = speed)]
    speed: f64,
    #[command(flatten)]
    look: Look,
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if (0.125..=256.0).contains(&speed) => Ok(speed),
        _ => Err("a number from 0.125 to 256".to_string()),
    }
}

/// Runs `tui`.
pub fn run(args: &TuiArgs) -> Result<(), CliError> {
    open(args.session.clone(), &args.look, None)
}

/// Runs `replay`.
pub fn replay(args: &ReplayArgs) -> Result<(), CliError> {
    open(args.session.clone(), &args.look, Some(args.speed))
}

fn open(session: Option<PathBuf>, look: &Look, replay: Option<f64>) -> Result<(), CliError> {
    let options = tui::Options {
        session,
        color: look.color,
        ascii: look.ascii,
        theme: look.theme.clone(),
        replay,
    };
    Ok(tui::run(&options, Arc::new(Stages), Arc::new(Replay))?)
}

/// The jobs of the workbench, by the stages of a run; kept where `run` keeps them.
struct Stages;

/// The folder of a file that was named without one is the current one.
fn absolute(folder: &Path) -> std::io::Result<PathBuf> {
    let here = folder.as_os_str().is_empty();
    std::path::absolute(if here { Path::new(".") } else { folder })
}

/// Where the results of a session go.
fn out(session: &Session) -> (String, PathBuf) {
    let name = session.name.clone().unwrap_or_else(|| "unnamed".into());
    let out = Path::new("runs").join(&name);
    (name, out)
}

/// Whether what one session measured is of the other: all but plan, policy and what runs where it is
/// computed afresh.
fn same_ground(one: &Session, other: &Session) -> bool {
    one.model == other.model
        && one.data == other.data
        && one.preprocessing == other.preprocessing
        && one.calibration == other.calibration
        && one.test_samples == other.test_samples
        && (&one.edge, &one.cloud, one.link) == (&other.edge, &other.cloud, other.link)
}

fn until(goal: Goal) -> Stage {
    match goal {
        Goal::Profile => Stage::Link,
        Goal::Train => Stage::Tables,
        Goal::Run => Stage::Report,
    }
}

/// Runs when the jobs of this process that came before have let go of the folder. Another process is
/// not waited for.
fn in_turn(
    session: &Session,
    options: &run::Options,
    tell: &mut dyn FnMut(Event),
    cancel: &Cancel,
) -> Result<run::Done, RunError> {
    let mut told = false;
    loop {
        match run::run(session, options, tell, cancel) {
            Err(RunError::Busy { pid, .. }) if pid == Some(std::process::id()) => {
                if cancel.is_cancelled() {
                    return Err(RunError::Stopped);
                }
                if !told {
                    told = true;
                    tell(Event::Say {
                        stage: Stage::Data,
                        text: "waits for the job before it".to_owned(),
                    });
                }
                std::thread::sleep(LOOK);
            }
            other => return other,
        }
    }
}

/// Passes on the whole lines that have come to a run's events since the last time.
fn follow(
    file: &Path,
    from: &mut u64,
    last: &mut Option<Stage>,
    tell: &mut dyn FnMut(u64, Event),
) -> std::io::Result<()> {
    let mut open = File::open(file)?;
    if open.metadata()?.len() < *from {
        // Begun anew.
        *from = 0;
    }
    open.seek(SeekFrom::Start(*from))?;
    let mut text = Vec::new();
    open.read_to_end(&mut text)?;
    let whole = text.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
    *from += whole as u64;
    for line in text[..whole].split(|&b| b == b'\n') {
        if let Ok((seconds, event)) = serde_json::from_slice::<(f64, Event)>(line) {
            if let Event::Finished { stage, .. } = &event {
                *last = Some(*stage);
            }
            tell((seconds * 1000.0) as u64, event);
        }
    }
    Ok(())
}

impl Work for Stages {
    fn run(
        &self,
        job: &Job,
        tell: &mut dyn FnMut(Event),
        cancel: &Cancel,
    ) -> Result<Results, String> {
        let folder = absolute(&job.folder).map_err(|e| e.to_string())?;
        let session = job.session.resolved(&folder);
        let (name, out) = out(&session);
        let options = run::Options {
            out: out.clone(),
            name,
            fresh: false,
            until: until(job.goal),
            program: None,
        };
        let done = in_turn(&session, &options, tell, cancel).map_err(|e| e.to_string())?;
        if job.goal == Goal::Run {
            super::run::keep(&done, &out).map_err(|e| e.to_string())?;
        }
        match &done.session.results {
            Some(results) => Results::of(results),
            None => Ok(Results::default()),
        }
    }

    fn kept(&self, session: &Session, folder: &Path) -> Results {
        let Ok(folder) = absolute(folder) else {
            return Results::default();
        };
        let session = session.resolved(&folder);
        let file = out(&session).1.join("session.ron");
        let kept = Session::read(&file).ok();
        let kept = kept.filter(|k| same_ground(k, &session));
        let results = kept.and_then(|k| k.results);
        results
            .and_then(|r| Results::of(&r).ok())
            .unwrap_or_default()
    }

    fn going(&self, session: &Session, folder: &Path) -> Option<Going> {
        let folder = absolute(folder).ok()?;
        let holder = runner(&out(&session.resolved(&folder)).1)?;
        let goal = match holder.until {
            Stage::Link => Goal::Profile,
            Stage::Report => Goal::Run,
            _ => Goal::Train,
        };
        let pid = holder.pid;
        (pid != std::process::id()).then_some(Going { pid, goal })
    }

    fn join(
        &self,
        job: &Job,
        tell: &mut dyn FnMut(u64, Event),
        cancel: &Cancel,
    ) -> Result<Results, String> {
        let folder = absolute(&job.folder).map_err(|e| e.to_string())?;
        let out = out(&job.session.resolved(&folder)).1;
        let file = events_file(&out);
        let (mut from, mut last) = (0, None);
        let mut stopping = false;
        loop {
            let held = runner(&out);
            // After the look at the lock, so that its last words are read too.
            let _ = follow(&file, &mut from, &mut last, tell);
            let Some(held) = held else { break };
            if cancel.is_cancelled() && !stopping {
                stopping = true;
                let pid = i32::try_from(held.pid).map_err(|e| e.to_string())?;
                kill(Pid::from_raw(pid), Signal::SIGTERM)
                    .map_err(|e| format!("process {pid} can't be stopped: {e}"))?;
            }
            std::thread::sleep(LOOK);
        }
        if stopping {
            return Err("stopped; what was finished is kept".to_owned());
        }
        if last != Some(until(job.goal)) {
            return Err(format!(
                "it ended early; {} has its last words",
                out.join("run.log").display()
            ));
        }
        match job.goal {
            // Its files are written when the lock is let go of.
            Goal::Run => {
                let start = Instant::now();
                let changed = |file: &Path| file.metadata().and_then(|m| m.modified()).ok();
                let session = out.join("session.ron");
                while changed(&session) < changed(&file) && start.elapsed() < LAST_FILES {
                    std::thread::sleep(LOOK);
                }
                Ok(self.kept(&job.session, &job.folder))
            }
            // All of it is kept by stages, which a run of our own only has to pick up.
            Goal::Profile | Goal::Train => self.run(job, &mut |_| {}, cancel),
        }
    }

    fn detach(&self, job: &Job) -> Result<(), String> {
        let text = |e: std::io::Error| e.to_string();
        let folder = absolute(&job.folder).map_err(text)?;
        let mut session = job.session.resolved(&folder);
        let (name, out) = out(&session);
        session.name = Some(name);
        std::fs::create_dir_all(&out).map_err(text)?;
        let file = out.join("detached.ron");
        session.save(&file).map_err(|e| e.to_string())?;
        let log = File::create(out.join("run.log")).map_err(text)?;
        let goal = match job.goal {
            Goal::Profile => "profile",
            Goal::Train => "train",
            Goal::Run => "run",
        };
        let started = Command::new(std::env::current_exe().map_err(text)?)
            .args(["run", "--detached", goal, "--out"])
            .arg(&out)
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(text)?)
            .stderr(log)
            .spawn();
        let child = started.map_err(text)?;
        // Until it has the folder, this is how it is known.
        let asked = serde_json::to_string(&(child.id(), until(job.goal)));
        let asked = asked.map_err(|e| e.to_string())?;
        std::fs::write(out.join(ASKED), asked).map_err(text)
    }
}

/// Names the run that a workbench left behind, beside what it writes.
const ASKED: &str = "detached.pid";

/// Who runs in a folder, or is about to: a run that was left behind waits for the workbench to let go
/// of the folder, and may be asked for in between.
fn runner(out: &Path) -> Option<run::lock::Holder> {
    holder(out).or_else(|| {
        let text = std::fs::read_to_string(out.join(ASKED)).ok()?;
        let (pid, until): (u32, Stage) = serde_json::from_str(&text).ok()?;
        let process = Pid::from_raw(i32::try_from(pid).ok()?);
        let alive = kill(process, None).is_ok();
        alive.then_some(run::lock::Holder { pid, until })
    })
}
