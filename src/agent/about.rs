/*! What an agent says of the machine it runs on. */

use crate::remote::message::AgentInfo;
use std::sync::atomic::Ordering;

/// What the system tells of its processor.
pub(super) struct Machine {
    device: String,
    ghz: Option<f64>,
}

impl Machine {
    pub(super) fn read() -> Machine {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |key: &str| {
            let line = cpu.lines().find(|l| l.starts_with(key))?;
            Some(line.split_once(':')?.1.trim().to_string())
        };
        let board = std::fs::read_to_string("/proc/device-tree/model");
        let board = board.map(|b| b.trim_end_matches('\0').to_string()).ok();
        let device = board.or_else(|| field("model name"));
        Machine {
            device: device.unwrap_or_else(|| std::env::consts::ARCH.to_string()),
            ghz: field("cpu MHz")
                .and_then(|mhz| mhz.parse::<f64>().ok())
                .map(|mhz| mhz / 1e3),
        }
    }
}

/// Peak resident memory of this process since [`reset_peak`], 0 where the system doesn't tell.
pub(super) fn peak_resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|l| l.split_whitespace().next()?.parse::<usize>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Lets the peak begin anew at what the process holds now.
pub(super) fn reset_peak() -> std::io::Result<()> {
    std::fs::write("/proc/self/clear_refs", "5")
}

/// All of it.
pub(super) fn info(agent: &super::server::Agent) -> AgentInfo {
    AgentInfo {
        version: env!("CARGO_PKG_VERSION").to_string(),
        device: agent.machine.device.clone(),
        cores: agent.cores.clone(),
        threads: agent.threads,
        ghz: agent.machine.ghz,
        slowdown: agent.slowdown,
        resident_bytes: peak_resident(),
        max_body: agent.max_body,
        requests: agent.requests.load(Ordering::Relaxed),
    }
}
