/*!
How fast a line is, and when the next frame may follow. On a slow line frames must not pile up before
the terminal: what is shown would be older with every key. The line's speed is known where the terminal
names one (a serial line); else it shows when a write has to wait, and then frames keep their distance
until what lies before the terminal has drained.
*/

use std::time::Duration;

/// A write that takes longer has waited for the line.
const WAITED: Duration = Duration::from_millis(60);
/// Frames take so many times as long as the line needs for them, while what has piled up drains.
const DISTANCE: f64 = 2.0;
/// How much faster a line is taken to be after each write that didn't wait.
const FASTER: f64 = 1.05;
/// Bytes a second from which on nothing needs to be kept apart.
const FAST: f64 = 100_000.0;

/// The pace of frames. Times are since any start.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pace {
    /// Bytes a second, where the line is slow.
    rate: Option<f64>,
    /// Whether the terminal itself said so.
    known: bool,
    free: Duration,
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
            free: Duration::ZERO,
        }
    }

    /// When the next frame may be written.
    pub fn free(&self) -> Duration {
        self.free
    }

    /// Some bytes were written from a time to a time.
    pub fn wrote(&mut self, bytes: usize, from: Duration, to: Duration) {
        let took = to.saturating_sub(from);
        if !self.known {
            let waited = took >= WAITED;
            let seen = bytes as f64 / took.as_secs_f64().max(1e-6);
            self.rate = match self.rate {
                _ if waited && seen < FAST => Some(seen),
                Some(rate) if rate * FASTER < FAST => Some(rate * FASTER),
                _ => None,
            };
        }
        self.free = match self.rate {
            None => to,
            Some(rate) => {
                let distance = if self.known { 1.0 } else { DISTANCE };
                // No line is so slow that nothing may be shown for longer than this.
                let pause = (distance * bytes as f64 / rate).min(10.0);
                to + Duration::from_secs_f64(pause)
            }
        };
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
        // Twenty frames a second would fill the buffer at once, and stay twenty seconds behind.
        let mut line = line(960.0);
        let mut pace = Pace::of(Some(38_400));
        line.held_down(&mut pace);
        assert!(line.held_down(&mut pace) < 5000.0, "{}", line.held);
    }

    #[test]
    fn a_fast_line_is_not_held_back_for_one_write_that_waited() {
        let mut pace = Pace::default();
        let ms = Duration::from_millis;
        pace.wrote(4000, ms(0), ms(100));
        assert!(pace.free() > ms(100));
        for at in 1..80 {
            pace.wrote(2000, ms(at * 1000), ms(at * 1000));
        }
        assert_eq!(pace.free(), ms(79_000));
    }
}
