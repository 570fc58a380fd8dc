/*! Time and energy of a run, without what passes while it waits. */

use crate::agent::power::Power;
use std::path::Path;
use std::time::{Duration, Instant};

/// A clock and the sensors of power, stopped and started together.
pub(super) struct Meter {
    running: Option<(Instant, Power)>,
    time: Duration,
    joules: Option<f64>,
}

impl Meter {
    pub(super) fn start() -> Meter {
        let mut meter = Meter {
            running: None,
            time: Duration::ZERO,
            joules: None,
        };
        meter.go_on();
        meter
    }

    pub(super) fn go_on(&mut self) {
        let power = Power::start(Path::new("/"));
        self.running = Some((Instant::now(), power));
    }

    pub(super) fn stop(&mut self) {
        if let Some((since, power)) = self.running.take() {
            self.time += since.elapsed();
            let joules = power.stop();
            self.joules = match (self.joules, joules) {
                (Some(before), Some(now)) => Some(before + now),
                (before, now) => before.or(now),
            };
        }
    }

    /// Gives the seconds that the evaluation ran.
    pub(super) fn seconds(&self) -> f64 {
        self.time.as_secs_f64()
    }

    /// While it ran; nothing where power isn't measured.
    pub(super) fn joules(&self) -> Option<f64> {
        self.joules
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_while_it_stands_counts_for_nothing() {
        let mut meter = Meter::start();
        meter.stop();
        let before = meter.seconds();
        std::thread::sleep(Duration::from_millis(5));
        meter.stop();
        assert_eq!(meter.seconds(), before);
        meter.go_on();
        std::thread::sleep(Duration::from_millis(5));
        meter.stop();
        assert!(meter.seconds() >= before + 0.005);
    }
}
