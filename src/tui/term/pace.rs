/*!
How fast a line is, and when the next frame may follow. On a slow line frames must not pile up before
the terminal: what is shown would be older with every key. The line's speed is known where the terminal
names one (a serial line); else it shows when a write has to wait, and then frames keep their distance
until what lies before the terminal has drained.
*/

use std::time::Duration;

/// A write that takes longer has waited for the line.
const WAITED: Duration = Duration::from_millis(10);
/// Bytes that may lie before a terminal when a write waits: what a pseudo-terminal holds.
const HELD: f64 = 20_000.0;
/// While that drains, frames take so many times as long as the line needs for them.
const DRAINING: f64 = 2.0;
/// Factor on a frame's time on the line once what was held has drained.
const DRAINED: f64 = 1.2;
/// How much faster a line is taken to be after each write that didn't wait, once it has drained.
const FASTER: f64 = 1.01;
/// Bytes a second from which on nothing needs to be kept apart.
const FAST: f64 = 100_000.0;
/// No line is so slow that nothing may be shown for longer.
const LONGEST: f64 = 10.0;

/// The pace of frames. Times are since any start.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pace {
    /// Bytes a second, where the line is slow.
    rate: Option<f64>,
    /// Whether the terminal itself said so.
    known: bool,
    free: Duration,
    /// When a write last had waited, so that all before the terminal was full; bytes since then.
    full: Option<Duration>,
    since: usize,
    /// When that will have drained.
    drained: Duration,
}

impl Pace {
    /// Of a line whose terminal names its speed in bits a second; speeds that pseudo-terminals
    /// name without meaning them count for nothing.
    pub fn of(bits_per_second: Option<u32>) -> Pace {
        let rate = bits_per_second.filter(|b| (1..38_400).contains(b));
        Pace {
            // A byte takes ten bits, start and stop bits included.
            rate: rate.map(|bits| f64::from(bits) / 10.0),
            known: rate.is_some(),
            ..Pace::default()
        }
    }

    /// When the next frame may be written.
    pub fn free(&self) -> Duration {
        self.free
    }

    /// Some bytes were written from a time to a time.
    pub fn wrote(&mut self, bytes: usize, from: Duration, to: Duration) {
        self.since += bytes;
        if !self.known {
            self.learn(bytes, to.saturating_sub(from), to);
        }
        let distance = match (self.known, to < self.drained) {
            (true, _) => 1.0,
            (false, true) => DRAINING,
            (false, false) => DRAINED,
        };
        let pause = self.rate.map_or(0.0, |rate| distance * bytes as f64 / rate);
        self.free = to + Duration::from_secs_f64(pause.min(LONGEST));
    }

    fn learn(&mut self, bytes: usize, took: Duration, to: Duration) {
        if took < WAITED {
            if to >= self.drained {
                self.rate = self.rate.map(|rate| rate * FASTER).filter(|r| *r < FAST);
            }
            return;
        }
        // From full to full the line has taken just what was written.
        let seen = match self.full {
            Some(full) => self.since as f64 / (to - full).as_secs_f64().max(1e-3),
            None => bytes as f64 / took.as_secs_f64(),
        };
        (self.full, self.since) = (Some(to), 0);
        self.rate = Some(seen).filter(|rate| *rate < FAST);
        let drains = self.rate.map_or(0.0, |rate| HELD * DRAINING / rate);
        self.drained = to + Duration::from_secs_f64(drains.min(60.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line with a buffer before it: a write waits until there is room.
    struct Line {
        rate: f64,
        room: f64,
        held: f64,
        now: f64,
    }

    impl Line {
        fn until(&mut self, then: f64) {
            self.held = (self.held - self.rate * (then - self.now)).max(0.0);
            self.now = then;
        }

        fn write(&mut self, pace: &mut Pace, bytes: usize) {
            let start = self.now;
            let over = (self.held + bytes as f64 - self.room).max(0.0);
            self.until(start + over / self.rate);
            self.held += bytes as f64;
            let time = Duration::from_secs_f64;
            pace.wrote(bytes, time(start), time(self.now));
        }

        /// A minute of somebody who holds a key down: what lies before the terminal at its end.
        fn held_down(&mut self, pace: &mut Pace) -> f64 {
            let end = self.now + 60.0;
            while self.now < end {
                self.write(pace, 500);
                let next = self.now + 0.05;
                let free = pace.free().as_secs_f64();
                self.until(next.max(free));
            }
            self.held
        }
    }

    fn line(rate: f64) -> Line {
        Line {
            rate,
            room: 20_000.0,
            held: 0.0,
            now: 0.0,
        }
    }

    #[test]
    fn a_line_that_names_its_speed_is_never_ahead_of_by_more_than_a_frame() {
        assert!(line(960.0).held_down(&mut Pace::of(Some(9600))) <= 500.0);
    }

    #[test]
    fn what_piles_up_before_a_slow_line_drains_again() {
        for rate in [960.0, 3000.0, 8000.0] {
            let mut line = line(rate);
            let mut pace = Pace::of(Some(38_400));
            line.held_down(&mut pace);
            let held: f64 = (0..10).map(|_| line.held_down(&mut pace)).sum();
            // Twenty frames a second fill the buffer at once, and would stay behind by all of it.
            assert!(held / 10.0 < 12_000.0, "{held} at {rate}");
        }
    }

    #[test]
    fn a_fast_line_is_not_held_back_for_one_write_that_waited() {
        let mut pace = Pace::default();
        let ms = Duration::from_millis;
        pace.wrote(4000, ms(0), ms(100));
        assert!(pace.free() > ms(100));
        for at in 1..120 {
            pace.wrote(2000, ms(at * 1000), ms(at * 1000));
        }
        assert_eq!(pace.free(), ms(119_000));
    }
}
