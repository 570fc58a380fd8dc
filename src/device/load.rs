/*!
How busy a machine was while something was timed on it, by what the kernel tells of its cores and by the
times themselves: a number taken beside a compiler is no property of the network.
*/

use super::files::{maybe, text};
use super::machine::Machine;
use super::{DeviceError, percentile};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Runs of one block; the medians of blocks are compared.
const BLOCK: usize = 20;
/// Clock ticks below which shares of the cores' time are noise: the kernel counts in 10 ms.
const LEAST_TICKS: u64 = 20;
/// Above these shares a machine counts as busy.
const MOST_OTHERS: f64 = 0.2;
const MOST_STEAL: f64 = 0.02;
const MOST_SPREAD: f64 = 0.1;
const MOST_STALLS: f64 = 0.05;
/// A run that takes so many times the median has stalled.
const STALL: f64 = 1.5;

/// The state of a machine over the time that something was timed.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Load {
    /// Share of the time of the cores in use that other processes took, 0 to 1; `None` where the time was
    /// too short to tell, or the system doesn't.
    pub others: Option<f64>,
    /// Share of that time that the host of a virtual machine took away, 0 to 1.
    pub steal: Option<f64>,
    /// Largest median of blocks of 20 runs over the smallest, less 1; 0 on a machine that keeps its pace.
    pub spread: f64,
    /// Share of the runs that took more than 1.5 times the median.
    pub stalls: f64,
}

/// Counters of the kernel when something began.
#[derive(Debug, Clone)]
pub struct LoadWatch {
    cores: Vec<usize>,
    start: Option<Ticks>,
}

/// Clock ticks since the machine started.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ticks {
    /// All of the cores', idle or not.
    all: u64,
    busy: u64,
    steal: u64,
    /// Processor time of this process alone, in the same unit.
    own: u64,
}

impl LoadWatch {
    /// Begins to watch the cores this process may use.
    ///
    /// # Errors
    /// Where the machine can't be read.
    pub fn start() -> Result<LoadWatch, DeviceError> {
        LoadWatch::below(Path::new("/"))
    }

    fn below(root: &Path) -> Result<LoadWatch, DeviceError> {
        let cores = Machine::read(root)?.cores;
        let start = Ticks::read(root, &cores)?;
        Ok(LoadWatch { cores, start })
    }

    /// What the machine did since, and how evenly runs of the same thing took their time (milliseconds, in
    /// order; none where there were none).
    ///
    /// # Errors
    /// As [`LoadWatch::start`].
    pub fn load(&self, runs_ms: &[f64]) -> Result<Load, DeviceError> {
        self.load_below(Path::new("/"), runs_ms)
    }

    fn load_below(&self, root: &Path, runs_ms: &[f64]) -> Result<Load, DeviceError> {
        let mut load = Load {
            spread: spread(runs_ms),
            stalls: stalls(runs_ms),
            ..Load::default()
        };
        if let (Some(start), Some(end)) = (self.start, Ticks::read(root, &self.cores)?) {
            let since = |now: u64, then: u64| now.saturating_sub(then);
            let all = since(end.all, start.all);
            if all >= LEAST_TICKS {
                let share = |ticks: u64| ticks as f64 / all as f64;
                let busy = since(end.busy, start.busy);
                load.others = Some(share(busy.saturating_sub(since(end.own, start.own))));
                load.steal = Some(share(since(end.steal, start.steal)));
            }
        }
        Ok(load)
    }
}

impl Ticks {
    /// `None` where the kernel doesn't tell of these cores.
    fn read(root: &Path, cores: &[usize]) -> Result<Option<Ticks>, DeviceError> {
        let stat = text(&root.join("proc/stat"))?;
        let mut ticks = Ticks {
            all: 0,
            busy: 0,
            steal: 0,
            own: match maybe(&root.join("proc/self/stat")).and_then(|text| own(&text)) {
                Some(own) => own,
                None => return Ok(None),
            },
        };
        for line in stat.lines() {
            let mut words = line.split_whitespace();
            let core = words.next().and_then(|word| word.strip_prefix("cpu"));
            let Some(core) = core.and_then(|number| number.parse::<usize>().ok()) else {
                continue;
            };
            if !cores.contains(&core) {
                continue;
            }
            // user nice system idle iowait irq softirq steal; guests are in user already.
            let counts: Vec<u64> = words.take(8).map_while(|word| word.parse().ok()).collect();
            let [user, nice, system, idle, iowait, irq, softirq, steal] = counts[..] else {
                continue;
            };
            let busy = user + nice + system + irq + softirq;
            ticks.busy += busy;
            ticks.steal += steal;
            ticks.all += busy + idle + iowait + steal;
        }
        Ok((ticks.all > 0).then_some(ticks))
    }
}

/// Ticks that a process has run, of its `stat`, whose second field is a name in brackets.
fn own(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut number = || fields.next()?.parse::<u64>().ok();
    Some(number()? + number()?)
}

/// Largest median of blocks of consecutive runs over the smallest, less 1; 0 of fewer than two blocks.
fn spread(runs_ms: &[f64]) -> f64 {
    let medians: Vec<f64> = runs_ms.chunks_exact(BLOCK).map(median).collect();
    let least = medians.iter().copied().fold(f64::INFINITY, f64::min);
    let most = medians.iter().copied().fold(0.0, f64::max);
    if medians.len() < 2 || least <= 0.0 {
        return 0.0;
    }
    most / least - 1.0
}

fn stalls(runs_ms: &[f64]) -> f64 {
    if runs_ms.is_empty() {
        return 0.0;
    }
    let usual = median(runs_ms);
    let stalled = runs_ms.iter().filter(|ms| **ms > STALL * usual).count();
    stalled as f64 / runs_ms.len() as f64
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    percentile(&sorted, 50.0)
}

impl Load {
    /// Whether times taken then are those of a busy machine.
    pub fn is_busy(&self) -> bool {
        !self.signs().is_empty()
    }

    /// Why the machine counts as busy, in words and figures; empty where it was quiet.
    pub fn signs(&self) -> String {
        let percent = |share: f64| format!("{:.0} %", 100.0 * share);
        let mut signs = Vec::new();
        if let Some(others) = self.others.filter(|others| *others > MOST_OTHERS) {
            signs.push(format!(
                "other processes took {} of its cores",
                percent(others)
            ));
        }
        if let Some(steal) = self.steal.filter(|steal| *steal > MOST_STEAL) {
            signs.push(format!("its host took {} away", percent(steal)));
        }
        if self.spread > MOST_SPREAD {
            let spread = percent(self.spread);
            signs.push(format!("its pace changed by {spread}"));
        }
        if self.stalls > MOST_STALLS {
            signs.push(format!("{} of the runs stalled", percent(self.stalls)));
        }
        signs.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorded::write;
    use super::*;
    use rstest::rstest;

    const STATUS: &str = "Name:\tx\nCpus_allowed_list:\t1-2\n";

    fn tree(stat: &str, own: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        set(root.path(), stat, own);
        write(
            root.path(),
            &[
                ("proc/self/status", STATUS),
                ("proc/cpuinfo", "model name : x\n"),
                ("proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 500 kB\n"),
            ],
        );
        root
    }

    fn set(root: &Path, stat: &str, own: &str) {
        write(root, &[("proc/stat", stat), ("proc/self/stat", own)]);
    }

    #[test]
    fn shares_are_of_the_cores_in_use() {
        let own = |ticks: u64| format!("7 (a (b) c) S 1 1 1 0 -1 0 0 0 0 0 {ticks} 5 0 0 20 0");
        let before =
            "cpu 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0\ncpu1 0 0 0 100 0 0 0 0\ncpu2 0 0 0 100 0 0 0 0\n";
        let root = tree(before, &own(10));
        let watch = LoadWatch::below(root.path()).unwrap();
        // Core 0 isn't ours; of 200 ticks 100 are busy, 40 of them ours, and 10 stolen.
        let after = "cpu 0 0 0 0\ncpu0 999 0 0 0 0 0 0 0\ncpu1 30 10 20 140 0 0 0 0\n\
                     cpu2 20 0 10 140 10 5 5 10 0 0\n";
        set(root.path(), after, &own(50));
        let load = watch.load_below(root.path(), &[]).unwrap();
        assert_eq!((load.others, load.steal), (Some(0.3), Some(0.05)));
        let said = "other processes took 30 % of its cores, its host took 5 % away";
        assert_eq!(load.signs(), said);
        // Ten more ticks tell nothing.
        let short = LoadWatch::below(root.path()).unwrap();
        let load = short.load_below(root.path(), &[]).unwrap();
        assert_eq!((load.others, load.is_busy()), (None, false));
    }

    #[rstest]
    #[case::steady(&|_| 1.0, false)]
    #[case::one_stall(&|i| if i == 3 { 50.0 } else { 1.0 }, false)]
    #[case::many_stalls(&|i| if i % 10 == 3 { 50.0 } else { 1.0 }, true)]
    #[case::slower_at_the_end(&|i| if i < 60 { 1.0 } else { 1.3 }, true)]
    fn runs_of_uneven_length_tell_it_too(#[case] ms: &dyn Fn(usize) -> f64, #[case] busy: bool) {
        let runs: Vec<f64> = (0..100).map(ms).collect();
        let load = Load {
            spread: spread(&runs),
            stalls: stalls(&runs),
            ..Load::default()
        };
        assert_eq!(load.is_busy(), busy, "{}", load.signs());
    }
}
