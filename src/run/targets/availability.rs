/*!
Targets that aren't there: of several on a side, one that can't be reached is done without for a while,
said so once, named in the report, and asked again later.
*/

use super::{Fleet, is_away};
use crate::event::{Connection, Event, Note, TargetId};
use crate::plan::Tier;
use crate::run::RunError;
use crate::run::stage_cache::Reporter;
use std::time::{Duration, Instant};

/// How long one is left alone, where there are others.
const BACKOFF: Duration = Duration::from_secs(20);

impl Fleet<'_> {
    /// Those of a side that answer. One of several that doesn't is named and left alone for a while.
    ///
    /// # Errors
    /// Where none answers; and what is wrong with the session rather than with a network.
    pub(in crate::run) fn reachable(
        &mut self,
        reporter: &mut Reporter,
        part: Tier,
    ) -> Result<Vec<usize>, RunError> {
        let all = self.targets(part).len();
        let mut there = Vec::new();
        for index in 0..all {
            if self.in_backoff(part, index) {
                continue;
            }
            match self.reach(reporter, part, index) {
                Ok(_) => {
                    if self.away.remove(&(part, index)).is_some() {
                        reporter.say_of(TargetId { part, index }, Note::Answers);
                    }
                    there.push(index);
                }
                Err(error) if is_away(&error) && all > 1 => {
                    self.mark_down(reporter, part, index, error);
                }
                Err(error) => return Err(error),
            }
        }
        match there.is_empty() {
            true => Err(self.none_reachable(part, None)),
            false => Ok(there),
        }
    }

    /// Whether a target that couldn't be reached is not to be asked yet.
    pub(super) fn in_backoff(&self, part: Tier, index: usize) -> bool {
        let away = self.away.get(&(part, index));
        away.is_some_and(|(since, _)| since.elapsed() < BACKOFF)
    }

    /// What to tell where nobody on a side answers: of this one, or of the first.
    pub(in crate::run) fn none_reachable(&mut self, part: Tier, index: Option<usize>) -> RunError {
        let all = self.targets(part).len();
        let mut of = |index| self.away.remove(&(part, index)).map(|(_, error)| error);
        let told = index.and_then(&mut of);
        let told = told.or_else(|| (0..all).find_map(of));
        told.unwrap_or(RunError::NothingToRun)
    }

    /// Does without a target that was lost on the way, where there are `others`.
    ///
    /// # Errors
    /// The error itself, where it is another one or there are none.
    pub(in crate::run) fn drop_target(
        &mut self,
        reporter: &mut Reporter,
        part: Tier,
        index: usize,
        error: RunError,
        others: bool,
    ) -> Result<(), RunError> {
        if !is_away(&error) || !others {
            return Err(error);
        }
        self.mark_down(reporter, part, index, error);
        Ok(())
    }

    /// Does without a target for a while, and says so.
    pub(in crate::run) fn mark_down(
        &mut self,
        reporter: &mut Reporter,
        part: Tier,
        index: usize,
        error: RunError,
    ) {
        let side = self.names.name(part).to_string();
        self.side(part)[index] = None;
        let place = (part, index);
        if !self.away.contains_key(&place) {
            let why = error.to_string();
            reporter.say_of(TargetId { part, index }, Note::LeftOut { error: why });
            reporter.event(Event::Target {
                part,
                index,
                connection: Connection::LeftOut,
            });
            let note = format!("The {side} target {index} was left out for a time: {error}.");
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
        self.away.insert(place, (Instant::now(), error));
    }

    /// Says which one of a side single jobs are for.
    pub(in crate::run) fn prefer(&mut self, part: Tier, index: usize) {
        self.lead.insert(part, index);
    }

    /// The one of a side that single jobs are for: the preferred one, or the first that answers.
    pub(in crate::run) fn lead(
        &mut self,
        reporter: &mut Reporter,
        part: Tier,
    ) -> Result<usize, RunError> {
        if self.targets(part).len() < 2 {
            return Ok(0);
        }
        let there = self.reachable(reporter, part)?;
        let preferred = self.lead.get(&part).filter(|at| there.contains(at));
        let lead = *preferred.unwrap_or(&there[0]);
        self.lead.insert(part, lead);
        Ok(lead)
    }
}
