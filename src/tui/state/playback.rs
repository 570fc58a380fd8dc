/*!
Playback: the events of a run that ended, folded again into the same panels at the pace they came in,
or another. Going back starts over and folds up to the place; the run is whole again when playback
ends.
*/

use super::State;
use crate::tui::error::Refusal;
use crate::tui::message::{Effect, Panel, Timer};

/// Milliseconds between two steps of a playback on screen; as many frames as live progress has.
pub const TICK_MS: u64 = 200;
/// How far a seek goes.
pub const SEEK_MS: u64 = 5000;
/// The slowest and the fastest.
const SPEEDS: (f64, f64) = (0.125, 256.0);

/// A run that is played again.
#[derive(Debug, Clone, PartialEq)]
pub struct Playback {
    /// Number of the run that is played.
    pub run: usize,
    /// Milliseconds since the run's start.
    pub at: u64,
    /// When its last event came.
    pub end: u64,
    pub speed: f64,
    pub paused: bool,
    /// Fractions of a millisecond that slow playback hasn't shown yet.
    rest: f64,
}

impl Playback {
    pub fn is_over(&self) -> bool {
        self.at >= self.end
    }
}

/// When an event of a journal came, as runs count.
pub fn millis(seconds: f64) -> u64 {
    (seconds.max(0.0) * 1000.0).round() as u64
}

impl State {
    /// Why the shown run can't be played again.
    pub fn can_play_back(&self) -> Result<(), Refusal> {
        let Some(run) = self.shown_run() else {
            return Err(Refusal::NoRuns);
        };
        if run.is_running() {
            return Err(Refusal::StillRuns);
        }
        if run.events.is_empty() {
            return Err(Refusal::NoEvents);
        }
        Ok(())
    }

    /// Plays the shown run from its start.
    pub fn play_back(&mut self, speed: f64) -> Vec<Effect> {
        self.end_playback();
        let run = self.runs.get(self.run).filter(|r| !r.is_running());
        let Some((id, end)) = run.and_then(|r| Some((r.id, r.events.last()?.0))) else {
            return Vec::new();
        };
        self.focus = Panel::Runs;
        self.playback = Some(Playback {
            run: id,
            at: 0,
            end,
            speed: speed.clamp(SPEEDS.0, SPEEDS.1),
            paused: false,
            rest: 0.0,
        });
        self.seek_to(0);
        tick()
    }

    /// Folds the played run up to a time.
    fn seek_to(&mut self, to: u64) {
        let Some(playback) = &mut self.playback else {
            return;
        };
        let to = to.min(playback.end);
        let Some(run) = self.runs.iter_mut().find(|r| r.id == playback.run) else {
            return;
        };
        let events = std::mem::take(&mut run.events);
        let from = if to < playback.at || to == 0 {
            run.rewind();
            None
        } else {
            Some(playback.at)
        };
        for (at, event) in &events {
            if *at <= to && from.is_none_or(|from| *at > from) {
                run.apply(*at, event.clone());
            }
        }
        run.events = events;
        run.at = to;
        playback.at = to;
    }

    /// Some time has passed.
    pub fn play_on(&mut self) -> Vec<Effect> {
        let Some(playback) = &mut self.playback else {
            return Vec::new();
        };
        if playback.paused || playback.is_over() {
            return Vec::new();
        }
        let step = TICK_MS as f64 * playback.speed + playback.rest;
        playback.rest = step.fract();
        let to = playback.at + step as u64;
        self.seek_to(to);
        tick()
    }

    pub fn pause_playback(&mut self) -> Vec<Effect> {
        let Some(playback) = &mut self.playback else {
            return Vec::new();
        };
        if playback.is_over() {
            // Once more from the start.
            playback.paused = false;
            self.seek_to(0);
            return tick();
        }
        playback.paused = !playback.paused;
        if playback.paused { Vec::new() } else { tick() }
    }

    /// To the next event, and pause there.
    pub fn step_playback(&mut self) -> Vec<Effect> {
        let Some(playback) = &mut self.playback else {
            return Vec::new();
        };
        playback.paused = true;
        let (id, at) = (playback.run, playback.at);
        let run = self.runs.iter().find(|r| r.id == id);
        let next = run.and_then(|r| r.events.iter().find(|(t, _)| *t > at));
        if let Some((to, _)) = next {
            let to = *to;
            self.seek_to(to);
        }
        Vec::new()
    }

    /// Back or forth; `None` for the start and the end.
    pub fn seek(&mut self, forward: bool, by: Option<u64>) -> Vec<Effect> {
        let Some(playback) = &self.playback else {
            return Vec::new();
        };
        let was_over = playback.is_over();
        let to = match (forward, by) {
            (true, Some(ms)) => playback.at.saturating_add(ms),
            (false, Some(ms)) => playback.at.saturating_sub(ms),
            (true, None) => playback.end,
            (false, None) => 0,
        };
        self.seek_to(to);
        // At its end no tick is under way.
        if was_over { tick() } else { Vec::new() }
    }

    pub fn change_speed(&mut self, factor: f64) -> Vec<Effect> {
        if let Some(playback) = &mut self.playback {
            playback.speed = (playback.speed * factor).clamp(SPEEDS.0, SPEEDS.1);
        }
        Vec::new()
    }

    /// The run is whole again.
    pub fn end_playback(&mut self) {
        if let Some(end) = self.playback.as_ref().map(|p| p.end) {
            self.seek_to(end);
        }
        self.playback = None;
    }

    /// The played run, while it is shown.
    pub fn shown_playback(&self) -> Option<&Playback> {
        let run = self.shown_run()?;
        self.playback.as_ref().filter(|p| p.run == run.id)
    }
}

fn tick() -> Vec<Effect> {
    vec![Effect::Later {
        timer: Timer::Playback,
        ms: TICK_MS,
    }]
}
