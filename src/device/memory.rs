/*!
Memory of this process and of the machine.

*Resident memory* is what the kernel says this process holds in RAM, now and at its peak. The peak
counts from the process's start until it is reset, which the kernel allows a process for itself.
*/

use super::DeviceError;
use super::files::{kilobytes, text};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What this process holds in RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resident {
    /// Bytes resident at the moment of reading.
    pub bytes: usize,
    /// The most since the start, or since [`reset_peak`].
    pub peak_bytes: usize,
}

/// RAM of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineMemory {
    /// All of it that the kernel manages.
    pub total_bytes: usize,
    /// What a new process could get without swapping.
    pub available_bytes: usize,
    /// What the GPU of a Jetson holds of it (its memory is the machine's), where it is told.
    pub gpu_bytes: Option<usize>,
}

impl MachineMemory {
    /// What is in use.
    pub fn used_bytes(&self) -> usize {
        self.total_bytes.saturating_sub(self.available_bytes)
    }

    /// Read from `proc/meminfo` below `root`.
    ///
    /// # Errors
    /// Where the file isn't there or holds no total.
    pub fn read(root: &Path) -> Result<MachineMemory, DeviceError> {
        let path = root.join("proc/meminfo");
        let text = text(&path)?;
        let of = |key: &str| kilobytes(&text, key);
        let missing = || DeviceError::Missing {
            path: path.clone(),
            what: "MemTotal".to_string(),
        };
        Ok(MachineMemory {
            total_bytes: of("MemTotal").ok_or_else(missing)?,
            // Kernels before 3.14 don't estimate it.
            available_bytes: of("MemAvailable").or_else(|| of("MemFree")).unwrap_or(0),
            gpu_bytes: of("NvMapMemUsed"),
        })
    }
}

/// What this process holds in RAM, now and at its peak.
///
/// # Errors
/// Where the system has no `/proc/self/status`, or it doesn't tell.
pub fn resident() -> Result<Resident, DeviceError> {
    let path = Path::new("/proc/self/status");
    let text = text(path)?;
    let of = |key: &str| {
        kilobytes(&text, key).ok_or_else(|| DeviceError::Missing {
            path: path.to_path_buf(),
            what: key.to_string(),
        })
    };
    Ok(Resident {
        bytes: of("VmRSS")?,
        peak_bytes: of("VmHWM")?,
    })
}

/// Lets the peak begin anew at what the process holds now.
///
/// # Errors
/// [`DeviceError::PeakStays`] where the kernel doesn't allow it; the peak then goes on counting
/// from the process's start.
pub fn reset_peak() -> Result<(), DeviceError> {
    // Documented in proc_pid_clear_refs(5): 5 resets VmHWM to the current resident size.
    std::fs::write("/proc/self/clear_refs", "5").map_err(DeviceError::PeakStays)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far above what the other tests of this process may hold or free meanwhile.
    const BLOCK: usize = 512 << 20;

    #[test]
    fn the_peak_follows_a_large_block_and_begins_anew_when_asked() {
        if let Err(e) = resident() {
            println!("skipped: {e}");
            return;
        }
        let block = vec![1u8; BLOCK];
        assert!(resident().unwrap().bytes >= BLOCK, "{}", block[BLOCK / 2]);
        drop(block);
        assert!(resident().unwrap().peak_bytes >= BLOCK);
        match reset_peak() {
            Ok(()) => assert!(resident().unwrap().peak_bytes < BLOCK),
            Err(e) => println!("not checked: {e}"),
        }
    }

    #[test]
    fn memory_of_a_jetson_is_read_with_what_its_gpu_holds() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("proc")).unwrap();
        let text = "MemTotal:        7802664 kB\nMemFree:  100 kB\nMemAvailable:  5000000 kB\n\
                    NvMapMemUsed:     204800 kB\n";
        std::fs::write(root.path().join("proc/meminfo"), text).unwrap();
        let memory = MachineMemory::read(root.path()).unwrap();
        assert_eq!(memory.total_bytes, 7_802_664 * 1024);
        assert_eq!(memory.used_bytes(), 2_802_664 * 1024);
        assert_eq!(memory.gpu_bytes, Some(200 << 20));
    }
}
