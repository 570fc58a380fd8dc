/*! Stages that are told of, timed, and kept under the out folder by a hash of what went into them. */

use super::RunError;
use crate::event::{Event, Note, Said, Stage, TargetId};
use crate::session::stages::Stages;
use serde::{Serialize, de::DeserializeOwned};
use std::time::Instant;

/// Where the events of a run go.
pub(super) type Listener<'a> = &'a mut dyn FnMut(Event);

/// Tells of one stage.
pub(super) struct Reporter<'a> {
    pub stage: Stage,
    pub on: Listener<'a>,
}

impl Reporter<'_> {
    pub fn progress(&mut self, done: usize, total: usize, note: &str) {
        (self.on)(Event::Progress {
            stage: self.stage,
            done: done as u64,
            total: total as u64,
            note: note.to_owned(),
        });
    }

    pub fn say(&mut self, note: impl Into<Note>) {
        self.said(None, note.into());
    }

    /// Something about one target.
    pub fn say_of(&mut self, target: TargetId, note: impl Into<Note>) {
        self.said(Some(target), note.into());
    }

    fn said(&mut self, origin: Option<TargetId>, note: Note) {
        (self.on)(Event::Say(Said {
            stage: self.stage,
            origin,
            note,
        }));
    }

    pub fn event(&mut self, event: Event) {
        (self.on)(event);
    }
}

/// The kept stages of a run.
pub(super) struct StageCache {
    pub stages: Stages,
    /// Whether everything is to be done again.
    pub fresh: bool,
}

impl StageCache {
    /// What a stage left if it was done with these inputs. A damaged file counts as not done.
    pub fn find<T: DeserializeOwned>(&self, file: &str, key: &str) -> Option<T> {
        if self.fresh {
            return None;
        }
        self.stages.load(file, key).ok().flatten()
    }

    /// The same for bytes.
    pub fn bytes(&self, file: &str, key: &str) -> Option<Vec<u8>> {
        if self.fresh {
            return None;
        }
        self.stages.load_bytes(file, key).ok().flatten()
    }

    /// Takes in what a session file brought for these inputs, unless the folder has it; says whether
    /// it did.
    pub fn adopt<T: Serialize + DeserializeOwned>(
        &self,
        file: &str,
        key: &str,
        value: &T,
    ) -> Result<bool, RunError> {
        let takes = !self.fresh && self.find::<T>(file, key).is_none();
        if takes {
            self.stages.store(file, key, value)?;
        }
        Ok(takes)
    }

    /// A stage: taken from the folder where its inputs are the same, else made and kept there.
    pub fn stage<T: Serialize + DeserializeOwned>(
        &self,
        on: Listener,
        (stage, file, key): (Stage, &str, &str),
        outcome: impl Fn(&T) -> String,
        make: impl FnOnce(&mut Reporter) -> Result<T, RunError>,
    ) -> Result<T, RunError> {
        if let Some(found) = self.find::<T>(file, key) {
            on(Event::Started(stage));
            let outcome = outcome(&found);
            on(finished(stage, outcome, true, 0.0));
            return Ok(found);
        }
        told(on, stage, outcome, |reporter| {
            let made = make(reporter)?;
            self.stages.store(file, key, &made)?;
            Ok(made)
        })
    }
}

/// A stage that isn't kept.
pub(super) fn told<T>(
    on: Listener,
    stage: Stage,
    outcome: impl Fn(&T) -> String,
    make: impl FnOnce(&mut Reporter) -> Result<T, RunError>,
) -> Result<T, RunError> {
    let start = Instant::now();
    on(Event::Started(stage));
    let made = make(&mut Reporter { stage, on })?;
    let seconds = start.elapsed().as_secs_f64();
    on(finished(stage, outcome(&made), false, seconds));
    Ok(made)
}

pub(super) fn finished(stage: Stage, outcome: String, kept: bool, seconds: f64) -> Event {
    Event::Finished {
        stage,
        outcome,
        kept,
        seconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_made_once_and_again_when_its_inputs_change_or_its_file_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let mut keep = StageCache {
            stages: Stages::open(dir.path()).unwrap(),
            fresh: false,
        };
        let made = std::cell::Cell::new(0);
        let mut kept = Vec::new();
        let mut go = |keep: &StageCache, key: &str| {
            let mut on = |e: Event| {
                if let Event::Finished { kept: k, .. } = e {
                    kept.push(k);
                }
            };
            let make = |_: &mut Reporter| {
                made.set(made.get() + 1);
                Ok(made.get())
            };
            keep.stage(&mut on, (Stage::Heads, "heads", key), i32::to_string, make)
                .unwrap()
        };
        assert_eq!([go(&keep, "a"), go(&keep, "a"), go(&keep, "b")], [1, 1, 2]);
        std::fs::write(dir.path().join("stages/heads.stage"), "damaged").unwrap();
        assert_eq!(go(&keep, "b"), 3);
        keep.fresh = true;
        assert_eq!(go(&keep, "b"), 4);
        assert_eq!(kept, [false, true, false, false, false]);
    }

    #[test]
    fn a_stage_that_fails_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let keep = StageCache {
            stages: Stages::open(dir.path()).unwrap(),
            fresh: false,
        };
        let fail = |_: &mut Reporter| Err::<i32, _>(RunError::Stopped);
        let at = (Stage::Heads, "heads", "a");
        let failed = keep.stage(&mut |_| {}, at, i32::to_string, fail);
        assert!(matches!(failed, Err(RunError::Stopped)));
        assert_eq!(keep.find::<i32>("heads", "a"), None);
    }
}
