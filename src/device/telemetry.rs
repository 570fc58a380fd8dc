/*!
What a device reports of itself while it works: temperature, power and energy, load of processor and
GPU, memory in use.

A [`Telemeter`] finds the sensors below a root folder and reads them whenever it is asked; the time of a
sample is an argument. A kind of sensor that isn't there is looked for again at each sample: a service
that starts with the board is there before some drivers are (the GPU's devfreq node on JetPack 7.2).
Jetsons report power through ina3221 monitors (mV × mA on each rail), PCs through RAPL's energy counters
where these may be read. NVML is not asked: on Orin it starts, and then supports neither load nor power.
Energy is the integral of power over the samples (trapezoid), or the difference of counters. What a
device doesn't report is `None`.
*/

use super::DeviceError;
use super::files::{entries, maybe, number};
use super::memory::MachineMemory;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Names of a Jetson GPU in its device tree.
const GPUS: [&str; 5] = ["gv11b", "gp10b", "ga10b", "gb10b", "gpu"];
/// Rails that carry the whole board; without one, the rails are summed.
const TOTALS: [&str; 2] = ["VDD_IN", "POM_5V_IN"];

/// Temperature of one thermal zone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Temperature {
    /// Its name, such as `cpu-thermal`.
    pub name: String,
    /// Temperature in degrees Celsius.
    pub celsius: f64,
}

/// Power drawn over one rail of the board.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rail {
    /// Its label, such as `VDD_IN`.
    pub name: String,
    /// Power in watts.
    pub watts: f64,
}

/// What the board's sensors showed at one moment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Telemetry {
    /// Time of the sample on the telemeter's clock, in milliseconds.
    pub at_ms: f64,
    /// Thermal zones that report.
    pub temperatures: Vec<Temperature>,
    /// Power rails that report.
    pub rails: Vec<Rail>,
    /// Power of the whole device (of the processor packages, where RAPL is all there is).
    pub watts: Option<f64>,
    /// Energy since the first sample.
    pub joules: Option<f64>,
    /// Share of all cores' time that was not idle since the sample before, 0 to 1.
    pub cpu_load: Option<f64>,
    /// Load of the GPU, 0 to 1.
    pub gpu_load: Option<f64>,
    /// Memory of the machine, in use.
    pub memory_used_bytes: usize,
    /// Memory of the machine.
    pub memory_total_bytes: usize,
    /// What the GPU holds of it, on a Jetson.
    pub gpu_memory_bytes: Option<usize>,
}

impl Telemetry {
    /// Gives the zone with the highest temperature.
    pub fn hottest(&self) -> Option<&Temperature> {
        let zones = self.temperatures.iter();
        zones.max_by(|a, b| a.celsius.total_cmp(&b.celsius))
    }
}

#[derive(Debug)]
struct RailFiles {
    name: String,
    millivolts: PathBuf,
    milliamperes: PathBuf,
}

/// An energy counter of RAPL, and where it wraps around.
#[derive(Debug)]
struct Counter {
    file: PathBuf,
    range: u64,
    last: Option<u64>,
}

/// Reads the sensors of a device, and keeps what rates and integrals need.
#[derive(Debug)]
pub struct Telemeter {
    root: PathBuf,
    zones: Vec<(String, PathBuf)>,
    rails: Vec<RailFiles>,
    counters: Vec<Counter>,
    gpu: Option<PathBuf>,
    /// Busy and all ticks of the last sample.
    ticks: Option<(u64, u64)>,
    /// Time and, if the rails reported, power of the last sample.
    last: Option<(Duration, Option<f64>)>,
    joules: f64,
}

impl Telemeter {
    /// Finds the sensors below `root`.
    pub fn new(root: &Path) -> Telemeter {
        let mut meter = Telemeter {
            root: root.to_path_buf(),
            zones: Vec::new(),
            rails: Vec::new(),
            counters: Vec::new(),
            gpu: None,
            ticks: None,
            last: None,
            joules: 0.0,
        };
        meter.find();
        meter
    }

    /// Looks for each kind of sensor that wasn't found so far.
    fn find(&mut self) {
        if self.zones.is_empty() {
            self.zones = zones(&self.root);
        }
        // One source of power: a board that measures its rails needs no estimate beside them.
        if self.rails.is_empty() && self.counters.is_empty() {
            self.rails = rails(&self.root);
            if self.rails.is_empty() {
                self.counters = counters(&self.root);
            }
        }
        if self.gpu.is_none() {
            self.gpu = gpu(&self.root);
        }
    }

    /// Reads all sensors; `now` is the time on any clock that only goes forward.
    ///
    /// # Errors
    /// Where `/proc/meminfo` can't be read; a sensor that fails is left out.
    pub fn sample(&mut self, now: Duration) -> Result<Telemetry, DeviceError> {
        let memory = MachineMemory::read(&self.root)?;
        self.find();
        let rails: Vec<Rail> = self.rails.iter().filter_map(RailFiles::read).collect();
        let watts = if self.counters.is_empty() {
            self.integrate(now, total(&rails))
        } else {
            self.count(now)
        };
        let temperature = |(name, file): &(String, PathBuf)| {
            // A zone whose sensor sleeps fails to read, or says −256 °C.
            let celsius = number::<f64>(file)? / 1e3;
            (celsius > -100.0).then(|| Temperature {
                name: name.clone(),
                celsius,
            })
        };
        let has_power = !self.rails.is_empty() || !self.counters.is_empty();
        Ok(Telemetry {
            at_ms: now.as_secs_f64() * 1e3,
            temperatures: self.zones.iter().filter_map(temperature).collect(),
            rails,
            watts,
            joules: has_power.then_some(self.joules),
            cpu_load: self.cpu_load(),
            gpu_load: self.gpu.as_deref().and_then(number::<f64>).map(|l| l / 1e3),
            memory_used_bytes: memory.used_bytes(),
            memory_total_bytes: memory.total_bytes,
            gpu_memory_bytes: memory.gpu_bytes,
        })
    }

    /// Adds the trapezoid since the last sample. A sample without power ends an interval: nothing
    /// is made up for it.
    fn integrate(&mut self, now: Duration, watts: Option<f64>) -> Option<f64> {
        if let (Some((then, Some(before))), Some(watts)) = (self.last, watts) {
            self.joules += (before + watts) / 2.0 * now.saturating_sub(then).as_secs_f64();
        }
        self.last = Some((now, watts));
        watts
    }

    /// Adds what the counters counted since the last sample; their mean power.
    fn count(&mut self, now: Duration) -> Option<f64> {
        let seconds = self.last.map(|(then, _)| now.saturating_sub(then));
        let mut joules = 0.0;
        for counter in &mut self.counters {
            joules += counter.advance();
        }
        self.joules += joules;
        self.last = Some((now, None));
        let seconds = seconds?.as_secs_f64();
        (seconds > 0.0).then(|| joules / seconds)
    }

    fn cpu_load(&mut self) -> Option<f64> {
        let text = maybe(&self.root.join("proc/stat"))?;
        let line = text.lines().find_map(|l| l.strip_prefix("cpu "))?;
        // user nice system idle iowait irq softirq steal; guests are in user already.
        let ticks: Vec<u64> = line
            .split_whitespace()
            .take(8)
            .map_while(|t| t.parse().ok())
            .collect();
        let all: u64 = ticks.iter().sum();
        let idle: u64 = ticks.iter().skip(3).take(2).sum();
        let now = (all - idle, all);
        let before = self.ticks.replace(now)?;
        let passed = now.1.checked_sub(before.1).filter(|&n| n > 0)?;
        Some(now.0.saturating_sub(before.0) as f64 / passed as f64)
    }
}

impl RailFiles {
    fn read(&self) -> Option<Rail> {
        let (volts, amperes) = (
            number::<f64>(&self.millivolts)?,
            number::<f64>(&self.milliamperes)?,
        );
        Some(Rail {
            name: self.name.clone(),
            watts: volts / 1e3 * amperes / 1e3,
        })
    }
}

impl Counter {
    /// Joules since the last reading.
    fn advance(&mut self) -> f64 {
        let Some(now) = number::<u64>(&self.file) else {
            return 0.0;
        };
        let Some(before) = self.last.replace(now) else {
            return 0.0;
        };
        let wrapped = || now + self.range.saturating_sub(before);
        now.checked_sub(before).unwrap_or_else(wrapped) as f64 / 1e6
    }
}

fn total(rails: &[Rail]) -> Option<f64> {
    let whole = rails.iter().find(|r| TOTALS.contains(&r.name.as_str()));
    match whole {
        Some(rail) => Some(rail.watts),
        None => (!rails.is_empty()).then(|| rails.iter().map(|r| r.watts).sum()),
    }
}

/// Name and temperature file of each thermal zone.
fn zones(root: &Path) -> Vec<(String, PathBuf)> {
    let zone = |folder: PathBuf| {
        let temp = folder.join("temp");
        let name = maybe(&folder.join("type"))?;
        temp.exists().then_some((name, temp))
    };
    let folders = entries(&root.join("sys/devices/virtual/thermal"));
    folders.into_iter().filter_map(zone).collect()
}

/// The file of a Jetson GPU's load, in thousandths.
fn gpu(root: &Path) -> Option<PathBuf> {
    let device = |folder: PathBuf| {
        let name = maybe(&folder.join("device/of_node/name"))?;
        let load = folder.join("device/load");
        (GPUS.contains(&name.as_str()) && load.exists()).then_some(load)
    };
    let folders = entries(&root.join("sys/class/devfreq"));
    folders.into_iter().find_map(device)
}

fn rails(root: &Path) -> Vec<RailFiles> {
    let mut rails = Vec::new();
    for device in entries(&root.join("sys/bus/i2c/devices")) {
        if maybe(&device.join("name")).is_none_or(|n| n != "ina3221") {
            continue;
        }
        for folder in entries(&device.join("hwmon")) {
            // Channel 7 is the monitor's own sum of shunt voltages.
            for n in 1..=6 {
                let Some(name) = maybe(&folder.join(format!("in{n}_label"))) else {
                    continue;
                };
                if !name.contains("NC") {
                    rails.push(RailFiles {
                        name,
                        millivolts: folder.join(format!("in{n}_input")),
                        milliamperes: folder.join(format!("curr{n}_input")),
                    });
                }
            }
        }
    }
    rails
}

/// The counters of whole packages that this process may read (most systems keep them for root).
fn counters(root: &Path) -> Vec<Counter> {
    let counter = |zone: PathBuf| {
        let name = maybe(&zone.join("name"))?;
        let file = zone.join("energy_uj");
        (name.starts_with("package") && number::<u64>(&file).is_some()).then(|| Counter {
            file,
            range: number(&zone.join("max_energy_range_uj")).unwrap_or(0),
            last: None,
        })
    };
    let zones = entries(&root.join("sys/class/powercap")).into_iter();
    zones.filter_map(counter).collect()
}

#[cfg(test)]
mod tests {
    use super::super::recorded;
    use super::*;
    use pretty_assertions::assert_eq;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_orin_nano_reports_rails_heat_and_load() {
        let root = recorded::orin_nano();
        let mut meter = Telemeter::new(root.path());
        let sample = meter.sample(SECOND).unwrap();
        let rails: Vec<(&str, f64)> = sample
            .rails
            .iter()
            .map(|r| (r.name.as_str(), r.watts))
            .collect();
        assert_eq!(
            rails,
            [("VDD_IN", 5.0), ("VDD_CPU_GPU_CV", 1.5), ("VDD_SOC", 1.25)]
        );
        assert_eq!((sample.watts, sample.joules), (Some(5.0), Some(0.0)));
        let hottest = sample.hottest().unwrap();
        assert_eq!(
            (hottest.name.as_str(), hottest.celsius),
            ("tj-thermal", 47.5)
        );
        assert_eq!(
            sample.temperatures.len(),
            2,
            "the sleeping zone is left out"
        );
        assert_eq!(sample.gpu_load, Some(0.425));
        assert_eq!(sample.gpu_memory_bytes, Some(200 << 20));
        assert_eq!(sample.cpu_load, None, "a load needs two samples");
    }

    #[test]
    fn a_sensor_that_appears_after_the_start_is_found() {
        let root = recorded::orin_nano_jetpack_7();
        let mut meter = Telemeter::new(root.path());
        let early = meter.sample(SECOND).unwrap();
        assert_eq!((early.gpu_load, early.watts), (None, Some(5.0)));
        recorded::write(root.path(), &recorded::ORIN_GPU);
        assert_eq!(meter.sample(2 * SECOND).unwrap().gpu_load, Some(0.425));
    }

    #[test]
    fn energy_counts_from_the_sample_in_which_the_rails_appear() {
        let root = tempfile::tempdir().unwrap();
        recorded::write(
            root.path(),
            &[("proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 600 kB\n")],
        );
        let mut meter = Telemeter::new(root.path());
        let before = meter.sample(SECOND).unwrap();
        assert_eq!((before.watts, before.joules), (None, None), "not measured");
        recorded::write(root.path(), &recorded::ORIN_RAILS);
        let found = meter.sample(2 * SECOND).unwrap();
        assert_eq!((found.watts, found.joules), (Some(5.0), Some(0.0)));
        assert_eq!(meter.sample(4 * SECOND).unwrap().joules, Some(10.0));
    }

    #[test]
    fn energy_is_the_trapezoid_over_the_samples_and_load_what_passed_between() {
        let root = recorded::orin_nano();
        let mut meter = Telemeter::new(root.path());
        meter.sample(SECOND).unwrap();
        recorded::write(
            root.path(),
            &[
                (recorded::ORIN_CURRENT, "2000"),
                ("proc/stat", "cpu  150 0 150 850 50 0 0 0 0 0\n"),
            ],
        );
        let sample = meter.sample(3 * SECOND).unwrap();
        assert_eq!(sample.watts, Some(10.0));
        assert_eq!(sample.joules, Some(15.0));
        assert_eq!(sample.cpu_load, Some(0.5));
        // A rail that fails leaves a gap, which adds nothing.
        std::fs::remove_file(root.path().join(recorded::ORIN_CURRENT)).unwrap();
        let gap = meter.sample(4 * SECOND).unwrap();
        assert!(gap.rails.iter().all(|r| r.name != "VDD_IN"));
    }

    #[test]
    fn a_pc_reports_its_zones_and_counts_energy_across_a_wrap() {
        let root = recorded::plain_pc();
        let mut meter = Telemeter::new(root.path());
        let first = meter.sample(SECOND).unwrap();
        assert_eq!((first.watts, first.joules), (None, Some(0.0)));
        assert_eq!(first.gpu_load, None);
        assert_eq!(first.hottest().unwrap().celsius, 61.0);
        // 10 J before the wrap at 100 J, then 20 more.
        recorded::write(root.path(), &[(recorded::PC_ENERGY, "20000000")]);
        let second = meter.sample(3 * SECOND).unwrap();
        assert_eq!((second.watts, second.joules), (Some(15.0), Some(30.0)));
    }

    #[test]
    fn a_machine_without_sensors_reports_memory_alone() {
        let root = tempfile::tempdir().unwrap();
        recorded::write(
            root.path(),
            &[("proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 600 kB\n")],
        );
        let sample = Telemeter::new(root.path()).sample(SECOND).unwrap();
        assert_eq!(
            (sample.watts, sample.joules, sample.cpu_load),
            (None, None, None)
        );
        assert_eq!(sample.memory_used_bytes, 400 * 1024);
    }
}
