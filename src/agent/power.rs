/*!
The energy of a run: sensors read beside it, where there are any that tell power. Reading them takes a
little time off a board's cores, so it is done twice a second and not at all where it would tell
nothing.
*/

use crate::device::telemetry::Telemeter;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(500);

/// Sensors that are being read.
pub(super) struct Power(Option<(Sender<()>, JoinHandle<Option<f64>>)>);

impl Power {
    /// Begins to read the sensors below `root`.
    pub(super) fn start(root: &Path) -> Power {
        let mut meter = Telemeter::new(root);
        let start = Instant::now();
        let first = meter.sample(Duration::ZERO).ok();
        if first.and_then(|t| t.joules).is_none() {
            return Power(None);
        }
        let (end, ended) = channel::<()>();
        let reading = std::thread::Builder::new()
            .name("power".into())
            .spawn(move || {
                loop {
                    let over = ended.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout);
                    let read = meter.sample(start.elapsed());
                    if over {
                        return read.ok().and_then(|t| t.joules);
                    }
                }
            });
        Power(reading.ok().map(|reading| (end, reading)))
    }

    /// Joules since the start, where power is told.
    pub(super) fn stop(self) -> Option<f64> {
        let (end, reading) = self.0?;
        drop(end);
        reading.join().ok()?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn energy_is_counted_to_the_last_moment_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let file = root.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        write("proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 600 kB\n");
        assert_eq!(Power::start(root.path()).stop(), None);
        let zone = "sys/class/powercap/intel-rapl:0";
        write(&format!("{zone}/name"), "package-0");
        write(&format!("{zone}/max_energy_range_uj"), "100000000");
        write(&format!("{zone}/energy_uj"), "1000000");
        let power = Power::start(root.path());
        write(&format!("{zone}/energy_uj"), "3500000");
        assert_eq!(power.stop(), Some(2.5));
    }
}
