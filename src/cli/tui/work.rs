/*!
The jobs of the workbench: each a process of this program, `run --detached`, in a session of its own. It
outlives the workbench however that ends, and a workbench that opens the session later follows it by
the same files. What is kept is kept where `run` keeps it.
*/

use crate::cli::run::{FAILED, REACHED};
use crate::event::{Event, Note, Said, Stage};
use crate::run::lock::{Holder, events_file, holder};
use crate::run::pause_file;
use crate::session::Session;
use crate::tui::{Goal, Job, JobControl, JobError, JobRunner, Results, RunningJob};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How often a run is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Names the run that a workbench started, beside what it writes.
const ASKED: &str = "job/pid";

/// Carries jobs out in processes of their own.
pub(super) struct Processes;

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

fn until(goal: Goal) -> Stage {
    match goal {
        Goal::Profile => Stage::Link,
        Goal::Train => Stage::Tables,
        Goal::Run => Stage::Report,
    }
}

/// What a job leaves when it has reached its goal.
fn left(out: &Path, goal: Goal) -> PathBuf {
    out.join(match goal {
        Goal::Run => "session.ron",
        Goal::Profile | Goal::Train => REACHED,
    })
}

/// Drops what was measured for a goal, so that who asks again after it was reached has it measured anew.
/// What was computed or learnt stays.
fn forget(out: &Path, goal: Goal) {
    let measured: &[&str] = match goal {
        Goal::Profile => &["profile-", "link"],
        Goal::Run => &["run.", "parts."],
        Goal::Train => &[],
    };
    let stages = std::fs::read_dir(out.join("stages"));
    for stage in stages.into_iter().flatten().flatten() {
        let name = stage.file_name();
        let name = name.to_string_lossy();
        if measured.iter().any(|begins| name.starts_with(begins)) {
            // One that stays is taken as measured, and said to be kept from before.
            let _ = std::fs::remove_file(stage.path());
        }
    }
}

fn log_file(out: &Path, goal: Goal) -> PathBuf {
    out.join("job").join(goal.name()).with_extension("log")
}

/// Who runs in a folder, or is about to.
fn runner(out: &Path) -> Option<Holder> {
    holder(out).or_else(|| {
        let text = std::fs::read_to_string(out.join(ASKED)).ok()?;
        let (pid, until): (u32, Stage) = serde_json::from_str(&text).ok()?;
        alive(pid).then_some(Holder { pid, until })
    })
}

fn alive(pid: u32) -> bool {
    // One that nobody has reaped yet is over all the same.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    let over = stat.is_ok_and(|s| s.rsplit(") ").next().is_some_and(|s| s.starts_with('Z')));
    !over && i32::try_from(pid).is_ok_and(|pid| kill(Pid::from_raw(pid), None).is_ok())
}

/// The process of a job, our child or another workbench's.
struct Process {
    pid: u32,
    child: Option<Child>,
}

impl Process {
    fn start(job: &Job, session: &Session, out: &Path) -> std::io::Result<Process> {
        let goal = job.goal.name();
        let log = log_file(out, job.goal);
        let file = log.with_extension("ron");
        std::fs::create_dir_all(out.join("job"))?;
        let mut session = session.clone();
        if let Some(plan) = &job.plan
            && session.plans_by_evidence()
        {
            // Measured anew on the way, such a rule might choose another than the one that was seen.
            session.pin(plan);
        }
        session.save(&file).map_err(std::io::Error::other)?;
        if !job.background && left(out, job.goal).is_file() {
            forget(out, job.goal);
        }
        // What an earlier one left there is none of this one's.
        let _ = std::fs::remove_file(log.with_extension(FAILED));
        let log = File::create(log)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["run", "--detached", goal, "--out"]).arg(out);
        if job.background {
            command.arg("--with-parent");
        }
        let child = command
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let pid = child.id();
        // Until it has the folder, this is how it is known; what ends with us nobody joins.
        if !job.background {
            let asked = serde_json::to_string(&(pid, until(job.goal)))?;
            std::fs::write(out.join(ASKED), asked)?;
        }
        Ok(Process {
            pid,
            child: Some(child),
        })
    }

    fn is_alive(&mut self) -> bool {
        match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => alive(self.pid),
        }
    }

    fn stop(&self) -> Result<(), JobError> {
        let pid = self.pid;
        let raw = i32::try_from(pid).map_err(std::io::Error::other);
        let sent = raw.and_then(|raw| Ok(kill(Pid::from_raw(raw), Signal::SIGTERM)?));
        sent.map_err(|error| JobError::Stop { pid, error })
    }
}

/// The events of one process, as far as they were read.
struct EventLog {
    file: PathBuf,
    pid: u32,
    from: u64,
    last: Option<Stage>,
}

impl EventLog {
    /// Passes on the whole lines that have come; none while the file is another process's.
    fn follow(&mut self, tell: &mut dyn FnMut(u64, Event)) -> std::io::Result<()> {
        let mut open = BufReader::new(File::open(&self.file)?);
        let mut whose = String::new();
        let first = open.read_line(&mut whose)?;
        if whose.trim_end().parse() != Ok(self.pid) {
            return Ok(());
        }
        self.from = self.from.max(first as u64);
        open.seek(SeekFrom::Start(self.from))?;
        let mut text = Vec::new();
        open.read_to_end(&mut text)?;
        let whole = text.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
        self.from += whole as u64;
        for line in text[..whole].split(|&b| b == b'\n') {
            if let Ok((seconds, event)) = serde_json::from_slice::<(f64, Event)>(line) {
                if let Event::Finished { stage, .. } = &event {
                    self.last = Some(*stage);
                }
                tell((seconds * 1000.0) as u64, event);
            }
        }
        Ok(())
    }
}

/// Puts the file that lets a run wait, or takes it away.
fn pause(out: &Path, waits: bool) -> Result<(), JobError> {
    let file = pause_file(out);
    let done = if waits {
        std::fs::write(&file, "")
    } else {
        std::fs::remove_file(&file)
    };
    match done {
        Err(error) if waits || error.kind() != std::io::ErrorKind::NotFound => {
            Err(JobError::Pause { file, error })
        }
        _ => Ok(()),
    }
}

impl Processes {
    /// Follows a process to its end, and takes in what it leaves.
    fn follow(
        &self,
        job: &Job,
        mut process: Process,
        out: &Path,
        tell: &mut dyn FnMut(u64, Event),
        control: &JobControl,
    ) -> Result<Results, JobError> {
        let mut diary = EventLog {
            file: events_file(out),
            pid: process.pid,
            from: 0,
            last: None,
        };
        let (mut stopping, mut told, mut paused) = (false, false, None);
        loop {
            let lives = process.is_alive();
            let held = holder(out);
            let ours = held.is_some_and(|h| h.pid == process.pid);
            // After the look at the process, so that its last words are read too.
            let _ = diary.follow(tell);
            if !lives {
                break;
            }
            if control.is_left() {
                if paused == Some(true) {
                    pause(out, false)?;
                }
                return Err(JobError::Left);
            }
            if control.cancel.is_cancelled() && !stopping {
                stopping = true;
                process.stop()?;
            }
            if let (Some(before), false, false) = (held, ours, told) {
                told = true;
                let said = Said {
                    stage: Stage::Data,
                    origin: None,
                    note: Note::WaitsFor { pid: before.pid },
                };
                tell(0, Event::Say(said));
            }
            if ours {
                let before = *paused.get_or_insert_with(|| {
                    // Somebody else may have asked it to.
                    let there = pause_file(out).exists();
                    if there {
                        control.pause(true);
                    }
                    there
                });
                let waits = control.is_paused();
                if before != waits {
                    paused = Some(waits);
                    pause(out, waits)?;
                }
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        if stopping {
            return Err(JobError::Stopped);
        }
        if diary.last != Some(until(job.goal)) {
            return Err(failure(&log_file(out, job.goal)));
        }
        let kept = Session::read(&left(out, job.goal))?;
        match &kept.results {
            Some(results) => Ok(Results::of(results, job.session.tier_names())?),
            None => Ok(Results::default()),
        }
    }
}

/// Why a run failed, as it left it beside its session.
fn failure(log: &Path) -> JobError {
    match std::fs::read_to_string(log.with_extension(FAILED)) {
        Ok(words) => JobError::Failed(words),
        Err(_) => JobError::EndedEarly {
            log: log.to_owned(),
        },
    }
}

impl JobRunner for Processes {
    fn run(
        &self,
        job: &Job,
        tell: &mut dyn FnMut(u64, Event),
        control: &JobControl,
    ) -> Result<Results, JobError> {
        let folder = absolute(&job.folder).map_err(JobError::Start)?;
        let mut session = job.session.resolved(&folder);
        let (name, out) = out(&session);
        session.name = Some(name);
        let process = Process::start(job, &session, &out).map_err(JobError::Start)?;
        self.follow(job, process, &out, tell, control)
    }

    fn results(&self, session: &Session, folder: &Path) -> Results {
        let Ok(folder) = absolute(folder) else {
            return Results::default();
        };
        let session = session.resolved(&folder);
        let out = out(&session).1;
        let written = |file: &Path| file.metadata().and_then(|m| m.modified()).ok();
        let mut files = [left(&out, Goal::Run), left(&out, Goal::Train)];
        // The newer one's word counts.
        files.sort_by_key(|file| written(file));
        let mut all = Results::default();
        for file in files {
            let kept = Session::read(&file).ok();
            let kept = kept.filter(|k| k.shares_ground(&session));
            let results =
                kept.and_then(|k| Results::of(k.results.as_deref()?, session.tier_names()).ok());
            if let Some(results) = results {
                all.absorb(results);
            }
        }
        all
    }

    fn running(&self, session: &Session, folder: &Path) -> Option<RunningJob> {
        let folder = absolute(folder).ok()?;
        let held = runner(&out(&session.resolved(&folder)).1)?;
        let goal = match held.until {
            Stage::Link => Goal::Profile,
            Stage::Report => Goal::Run,
            _ => Goal::Train,
        };
        Some(RunningJob {
            pid: held.pid,
            goal,
        })
    }

    fn join(
        &self,
        job: &Job,
        running: RunningJob,
        tell: &mut dyn FnMut(u64, Event),
        control: &JobControl,
    ) -> Result<Results, JobError> {
        let folder = absolute(&job.folder).map_err(JobError::Start)?;
        let out = out(&job.session.resolved(&folder)).1;
        let process = Process {
            pid: running.pid,
            child: None,
        };
        self.follow(job, process, &out, tell, control)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_events_of_the_process_that_is_followed_are_told_and_whole_ones() {
        let out = tempfile::tempdir().unwrap();
        let file = events_file(out.path());
        let mut diary = EventLog {
            file: file.clone(),
            pid: 7,
            from: 0,
            last: None,
        };
        let mut seen = Vec::new();
        let mut look = |diary: &mut EventLog, text: &str| {
            std::fs::write(&file, text).unwrap();
            diary
                .follow(&mut |at, event| seen.push((at, event)))
                .unwrap();
            std::mem::take(&mut seen)
        };
        let event = |stage| serde_json::to_string(&(0.5, Event::Started(stage))).unwrap();
        let (one, two) = (event(Stage::Data), event(Stage::Run));
        assert_eq!(look(&mut diary, &format!("6\n{one}\n")), []);
        assert_eq!(
            look(&mut diary, &format!("7\n{one}\n{}", &two[..5])),
            [(500, Event::Started(Stage::Data))]
        );
        assert_eq!(
            look(&mut diary, &format!("7\n{one}\n{two}\n")),
            [(500, Event::Started(Stage::Run))]
        );
    }

    #[test]
    fn a_failure_is_told_in_the_runs_own_words_whatever_its_log_says() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("run.log");
        std::fs::write(&log, "edgelesspart: something else\n").unwrap();
        assert!(failure(&log).to_string().contains("run.log"));
        std::fs::write(folder.path().join("run.failed"), "the edge is gone").unwrap();
        assert_eq!(failure(&log).to_string(), "the edge is gone");
    }
}
