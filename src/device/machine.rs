/*!
What a machine is: its board and processor, the cores this process may use, their clock, its
memory, and a Jetson's release and power mode.

Everything is read below a root folder, so that a recorded tree can stand in for a board. What a
machine doesn't tell is `None`, never a guess; only `/proc` itself must be there.
*/

use super::DeviceError;
use super::files::{field, maybe, number, text};
use super::memory::MachineMemory;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// A machine, as it describes itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Name of the board, where a device tree gives one (Jetson, Raspberry Pi).
    pub board: Option<String>,
    /// Processor's model name, as the system gives it.
    pub cpu: String,
    /// Cores this process may use.
    pub cores: Vec<usize>,
    /// The fastest of these cores' clocks right now, in GHz.
    pub ghz_now: Option<f64>,
    /// The highest clock any of these cores may reach, in GHz.
    pub ghz_max: Option<f64>,
    /// RAM the kernel manages.
    pub memory_bytes: usize,
    /// Release of a Jetson's Linux, such as `36.3.0`.
    pub jetson_release: Option<String>,
    /// Power mode of a Jetson, such as `15W`.
    pub power_mode: Option<String>,
}

impl Machine {
    /// This machine, or the one whose tree was recorded below `root`.
    ///
    /// # Errors
    /// Where there is no `/proc`, or it doesn't say which cores may be used or how much memory
    /// there is.
    pub fn read(root: &Path) -> Result<Machine, DeviceError> {
        let status_path = root.join("proc/self/status");
        let status = text(&status_path)?;
        let cores = field(&status, "Cpus_allowed_list").and_then(list);
        let cores = cores.ok_or_else(|| DeviceError::Missing {
            path: status_path,
            what: "Cpus_allowed_list".to_string(),
        })?;
        let info = text(&root.join("proc/cpuinfo"))?;
        let frequency = |file: &str| {
            let of = |core: &usize| {
                let folder = format!("sys/devices/system/cpu/cpu{core}/cpufreq");
                number::<f64>(&root.join(folder).join(file)).map(|khz| khz / 1e6)
            };
            cores.iter().filter_map(of).reduce(f64::max)
        };
        let mhz = || {
            let lines = info.lines().filter_map(|l| l.split_once(':'));
            let mhz = lines.filter(|(key, _)| key.trim() == "cpu MHz");
            let ghz = mhz.filter_map(|(_, v)| v.trim().parse::<f64>().ok());
            ghz.map(|m| m / 1e3).reduce(f64::max)
        };
        Ok(Machine {
            board: maybe(&root.join("proc/device-tree/model")),
            cpu: processor(&info),
            ghz_now: frequency("scaling_cur_freq").or_else(mhz),
            ghz_max: frequency("cpuinfo_max_freq"),
            cores,
            memory_bytes: MachineMemory::read(root)?.total_bytes,
            jetson_release: maybe(&root.join("etc/nv_tegra_release")).and_then(|t| release(&t)),
            power_mode: power_mode(root),
        })
    }

    /// The clock for billing and for comparing machines: the highest it may reach, else the
    /// present one.
    pub fn ghz(&self) -> Option<f64> {
        self.ghz_max.or(self.ghz_now)
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(board) = &self.board {
            write!(f, "{board}, ")?;
        }
        let cores = self.cores.len();
        write!(
            f,
            "{}, {cores} core{}",
            self.cpu,
            if cores == 1 { "" } else { "s" }
        )?;
        if let Some(ghz) = self.ghz() {
            write!(f, " at {ghz:.2} GHz")?;
        }
        write!(f, ", {:.1} GB", self.memory_bytes as f64 / 1e9)?;
        if let Some(release) = &self.jetson_release {
            write!(f, ", L4T {release}")?;
        }
        if let Some(mode) = &self.power_mode {
            write!(f, ", {mode}")?;
        }
        Ok(())
    }
}

/// `0-2,5` as a list; `None` where it is none.
fn list(text: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for piece in text.split(',') {
        let (first, last) = piece.split_once('-').unwrap_or((piece, piece));
        let core = |text: &str| text.trim().parse::<usize>().ok();
        let (first, last) = (core(first)?, core(last)?);
        // A kernel knows of some thousands of cores at most.
        cores.extend((first..=last).take(1 << 16));
    }
    Some(cores)
}

/// The processor's name: as it gives it itself (x86), else by its maker's and part number (Arm).
fn processor(info: &str) -> String {
    if let Some(name) = field(info, "model name").filter(|n| !n.is_empty()) {
        return name.to_string();
    }
    let code = |key: &str| {
        let text = field(info, key)?.strip_prefix("0x")?;
        u32::from_str_radix(text, 16).ok()
    };
    match (code("CPU implementer"), code("CPU part")) {
        (Some(maker), Some(part)) => arm(maker, part).map_or_else(
            || format!("{} (part {maker:#04x}/{part:#05x})", std::env::consts::ARCH),
            str::to_string,
        ),
        _ => std::env::consts::ARCH.to_string(),
    }
}

/// Names of the Arm cores found on boards and in clouds, by the codes of their main ID register.
fn arm(maker: u32, part: u32) -> Option<&'static str> {
    Some(match (maker, part) {
        (0x41, 0xd03) => "Arm Cortex-A53",
        (0x41, 0xd04) => "Arm Cortex-A35",
        (0x41, 0xd05) => "Arm Cortex-A55",
        (0x41, 0xd07) => "Arm Cortex-A57",
        (0x41, 0xd08) => "Arm Cortex-A72",
        (0x41, 0xd09) => "Arm Cortex-A73",
        (0x41, 0xd0a) => "Arm Cortex-A75",
        (0x41, 0xd0b) => "Arm Cortex-A76",
        (0x41, 0xd0c) => "Arm Neoverse N1",
        (0x41, 0xd40) => "Arm Neoverse V1",
        (0x41, 0xd41) => "Arm Cortex-A78",
        (0x41, 0xd42) => "Arm Cortex-A78AE",
        (0x41, 0xd49) => "Arm Neoverse N2",
        (0x41, 0xd4f) => "Arm Neoverse V2",
        (0x4e, 0x003) => "NVIDIA Denver 2",
        (0x4e, 0x004) => "NVIDIA Carmel",
        _ => return None,
    })
}

/// `# R36 (release), REVISION: 3.0, …` as `36.3.0`.
fn release(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("# R")?;
    let major: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let (_, rest) = rest.split_once("REVISION: ")?;
    let minor = rest.split(',').next()?.trim();
    (!major.is_empty()).then(|| format!("{major}.{minor}"))
}

/// The name that `nvpmodel.conf` gives the mode in `nvpmodel`'s status file: what `nvpmodel -q`
/// says, without the rights it needs.
fn power_mode(root: &Path) -> Option<String> {
    let status = maybe(&root.join("var/lib/nvpmodel/status"))?;
    let digits = status
        .split_whitespace()
        .find_map(|w| w.strip_prefix("pmode:"))?;
    let wanted: usize = digits.parse().ok()?;
    let conf = maybe(&root.join("etc/nvpmodel.conf"));
    let named = conf.as_deref().unwrap_or("").lines().find_map(|line| {
        let words = line.trim().strip_prefix('<')?.split_whitespace();
        let words: Vec<&str> = words.collect();
        let of = |key: &str| words.iter().find_map(|w| w.strip_prefix(key));
        let same = words.first() == Some(&"POWER_MODEL")
            && of("ID=").and_then(|id| id.parse().ok()) == Some(wanted);
        same.then(|| of("NAME="))?
    });
    Some(named.map_or_else(|| format!("mode {wanted}"), str::to_string))
}

/// Cores this process may use; none where the system doesn't say.
#[cfg(target_os = "linux")]
pub fn available_cores() -> Vec<usize> {
    use nix::sched::{CpuSet, sched_getaffinity};
    let Ok(set) = sched_getaffinity(nix::unistd::Pid::from_raw(0)) else {
        return Vec::new();
    };
    let has = |&core: &usize| set.is_set(core).unwrap_or(false);
    (0..CpuSet::count()).filter(has).collect()
}

/// Cores this process may use; none where the system doesn't say.
#[cfg(not(target_os = "linux"))]
pub fn available_cores() -> Vec<usize> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::super::recorded;
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn an_orin_nano_is_described_by_its_recorded_tree() {
        let root = recorded::orin_nano();
        let machine = Machine::read(root.path()).unwrap();
        let expected = Machine {
            board: Some("NVIDIA Jetson Orin Nano Developer Kit".into()),
            cpu: "Arm Cortex-A78AE".into(),
            cores: vec![0, 1, 2, 3, 5],
            ghz_now: Some(1.344),
            ghz_max: Some(1.5104),
            memory_bytes: 7_802_664 * 1024,
            jetson_release: Some("36.3.0".into()),
            power_mode: Some("25W".into()),
        };
        assert_eq!(machine, expected);
        assert_eq!(
            machine.to_string(),
            "NVIDIA Jetson Orin Nano Developer Kit, Arm Cortex-A78AE, 5 cores at 1.51 GHz, \
             8.0 GB, L4T 36.3.0, 25W"
        );
    }

    #[test]
    fn jetpack_7_names_its_release_and_its_mode() {
        let root = recorded::orin_nano_jetpack_7();
        let machine = Machine::read(root.path()).unwrap();
        assert_eq!(machine.jetson_release.as_deref(), Some("39.2.0"));
        assert_eq!(machine.power_mode.as_deref(), Some("MAXN_SUPER"));
    }

    #[test]
    fn a_plain_pc_has_a_model_name_and_neither_board_nor_mode() {
        let root = recorded::plain_pc();
        let machine = Machine::read(root.path()).unwrap();
        assert_eq!(machine.cpu, "AMD Ryzen 7 5800X 8-Core Processor");
        assert_eq!((machine.ghz_now, machine.ghz_max), (Some(3.8), None));
        assert_eq!(machine.cores, [0, 1]);
        assert_eq!((machine.board, machine.power_mode), (None, None));
    }

    #[test]
    fn a_folder_that_is_no_machine_is_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        let error = Machine::read(root.path()).unwrap_err().to_string();
        assert!(error.contains("proc/self/status"), "{error}");
    }

    #[test]
    fn this_machine_names_its_processor_and_a_core() {
        if !cfg!(target_os = "linux") {
            return;
        }
        let machine = Machine::read(Path::new("/")).unwrap();
        assert!(!machine.cpu.is_empty() && !machine.cores.is_empty());
        let available = std::thread::available_parallelism().unwrap().get();
        assert!(machine.cores.len() >= available, "{machine:?}");
    }
}
