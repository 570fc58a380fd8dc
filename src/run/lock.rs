/*!
One run at a time in an out folder. Whoever runs holds a lock on `run.lock` there, which the system
lets go of however the process ends; the file says who it is, for those who come second, and for a
workbench that wants to follow the run by its `events.jsonl`.
*/

use super::RunError;
use crate::event::{Event, Stage};
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A run that goes on in an out folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Number of the process that holds the lock.
    pub pid: u32,
    /// The last stage that is wanted.
    pub until: Stage,
}

/// The file that events are written to while a run goes on: a line with the number of its process, then
/// one per line, seconds since its start and the event.
pub fn events_file(out: &Path) -> PathBuf {
    out.join("events.jsonl")
}

fn lock_file(out: &Path) -> PathBuf {
    out.join("run.lock")
}

/// Who runs in a folder; `None` if nobody does.
pub fn holder(out: &Path) -> Option<Holder> {
    let file = File::open(lock_file(out)).ok()?;
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_) => None,
        Err((mut file, _)) => read(&mut file),
    }
}

fn read(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.read_to_string(&mut text).ok()?;
    let (pid, until) = serde_json::from_str(&text).ok()?;
    Some(Holder { pid, until })
}

/// The right to run in a folder, given back when dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: PathBuf,
    _held: Flock<File>,
}

impl Lock {
    pub fn take(out: &Path, until: Stage) -> Result<Lock, RunError> {
        let file = lock_file(out);
        let failed = |source| RunError::Io {
            file: file.clone(),
            source,
        };
        std::fs::create_dir_all(out).map_err(failed)?;
        let mut looks = 0;
        loop {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            let opened = options.open(&file).map_err(failed)?;
            let mut held = match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
                Ok(held) => held,
                // Whoever only looks who runs holds it too, for a moment.
                Err(_) if looks < 10 => {
                    looks += 1;
                    std::thread::sleep(Duration::from_millis(20));
                    continue;
                }
                Err((mut taken, _)) => {
                    let pid = read(&mut taken).map(|h| h.pid);
                    return Err(RunError::Busy {
                        out: out.to_owned(),
                        pid,
                    });
                }
            };
            // Whoever held it before may have removed the file since it was opened here.
            let same = held.metadata().map_err(failed)?.ino();
            if std::fs::metadata(&file).map_or(true, |m| m.ino() != same) {
                continue;
            }
            let text = serde_json::to_string(&(std::process::id(), until));
            let text = text.map_err(|e| failed(e.into()))?;
            let written = held
                .set_len(0)
                .and_then(|()| held.write_all(text.as_bytes()));
            written.map_err(failed)?;
            return Ok(Lock { file, _held: held });
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Writes the events of a run while it goes on.
pub(super) struct EventLog(BufWriter<File>, PathBuf);

impl EventLog {
    pub fn new(out: &Path) -> Result<EventLog, RunError> {
        let file = events_file(out);
        let begun = File::create(&file).and_then(|mut open| {
            writeln!(open, "{}", std::process::id())?;
            Ok(open)
        });
        match begun {
            Ok(open) => Ok(EventLog(BufWriter::new(open), file)),
            Err(source) => Err(RunError::Io { file, source }),
        }
    }

    pub fn note(&mut self, seconds: f64, event: &Event) -> Result<(), RunError> {
        let mut text = serde_json::to_vec(&(seconds, event)).unwrap_or_default();
        text.push(b'\n');
        // Whole lines only: somebody may read along.
        let written = self.0.write_all(&text).and_then(|()| self.0.flush());
        written.map_err(|source| RunError::Io {
            file: self.1.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_run_in_a_folder_is_told_who_is_first() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("runs/a");
        assert_eq!(holder(&out), None);
        let first = Lock::take(&out, Stage::Tables).unwrap();
        let pid = std::process::id();
        let until = Stage::Tables;
        assert_eq!(holder(&out), Some(Holder { pid, until }));
        let second = Lock::take(&out, Stage::Report).unwrap_err().to_string();
        assert!(second.contains(&pid.to_string()), "{second}");
        drop(first);
        assert_eq!(holder(&out), None);
        assert!(!lock_file(&out).exists());
        Lock::take(&out, Stage::Report).unwrap();
    }

    #[test]
    fn a_lock_that_a_killed_run_left_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(lock_file(dir.path()), "[1,\"report\"]").unwrap();
        assert_eq!(holder(dir.path()), None);
        let lock = Lock::take(dir.path(), Stage::Report).unwrap();
        let pid = std::process::id();
        assert_eq!(holder(dir.path()).map(|h| h.pid), Some(pid));
        drop(lock);
    }
}
