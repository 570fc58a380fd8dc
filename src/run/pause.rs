/*!
Letting a run wait. Who asks puts a file into its out folder, be it this process or a workbench that
only follows; the run looks for it often. What is computed here waits at its next event,
what agents do waits there.
*/

use crate::engine::Cancel;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How often the file is looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The file that lets a run wait while it is there. A run removes what an earlier one left.
pub fn pause_file(out: &Path) -> PathBuf {
    out.join("run.pause")
}

/// Whether a run is to wait.
#[derive(Debug, Clone)]
pub(super) struct Pause(Rc<Asked>);

#[derive(Debug)]
struct Asked {
    /// None for a run that keeps nothing, and is over in a moment.
    file: Option<PathBuf>,
    looked: Cell<Option<Instant>>,
    there: Cell<bool>,
    /// Agents are at work, and do the waiting.
    elsewhere: Cell<bool>,
}

impl Pause {
    /// Of the run that has this folder for itself.
    pub fn new(out: Option<&Path>) -> Pause {
        let file = out.map(pause_file);
        if let Some(file) = &file {
            // There mostly is none.
            let _ = std::fs::remove_file(file);
        }
        Pause(Rc::new(Asked {
            file,
            looked: Cell::new(None),
            there: Cell::new(false),
            elsewhere: Cell::new(false),
        }))
    }

    /// Whether the run is asked to pause.
    pub fn is_asked(&self) -> bool {
        let Some(file) = &self.0.file else {
            return false;
        };
        if self
            .0
            .looked
            .get()
            .is_none_or(|then| then.elapsed() >= POLL_INTERVAL)
        {
            self.0.looked.set(Some(Instant::now()));
            self.0.there.set(file.exists());
        }
        self.0.there.get()
    }

    /// Whether agents do the waiting from now on.
    pub fn elsewhere(&self, agents: bool) {
        self.0.elsewhere.set(agents);
    }

    /// Whether it is asked for, and nobody else does it.
    pub fn is_here(&self) -> bool {
        !self.0.elsewhere.get() && self.is_asked()
    }

    /// Waits while somebody asks, or until `cancel` is raised.
    pub fn wait(&self, cancel: &Cancel) {
        while self.is_asked() && !cancel.is_cancelled() {
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            let _ = std::fs::remove_file(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_lets_it_wait_and_what_an_earlier_run_left_does_not() {
        let out = tempfile::tempdir().unwrap();
        let file = pause_file(out.path());
        std::fs::write(&file, "").unwrap();
        let pause = Pause::new(Some(out.path()));
        assert!(!pause.is_asked());
        std::fs::write(&file, "").unwrap();
        std::thread::sleep(POLL_INTERVAL);
        assert!(pause.is_here());
        pause.elsewhere(true);
        assert!(!pause.is_here() && pause.is_asked());
        let cancel = Cancel::new();
        cancel.cancel();
        pause.wait(&cancel);
        drop(pause);
        assert!(!file.exists());
    }
}
