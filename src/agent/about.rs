/*! What an agent says of itself and of the machine it runs on. */

use super::server::Agent;
use crate::device::machine::Machine;
use crate::device::memory::resident;
use crate::protocol::message::AgentInfo;
use std::path::Path;
use std::sync::atomic::Ordering;

/// The machine in words, and its clock; what it doesn't tell is left out.
pub(super) fn machine() -> (String, Option<f64>) {
    match Machine::read(Path::new("/")) {
        Ok(machine) => (machine.to_string(), machine.ghz()),
        Err(_) => (std::env::consts::ARCH.to_string(), None),
    }
}

/// Peak resident memory of this process since it last was reset; 0 where the system doesn't tell.
pub(super) fn peak_resident() -> usize {
    resident().map_or(0, |r| r.peak_bytes)
}

/// All of it.
pub(super) fn info(agent: &Agent) -> AgentInfo {
    AgentInfo {
        version: env!("CARGO_PKG_VERSION").to_string(),
        device: agent.machine.0.clone(),
        cores: agent.cores.clone(),
        processor: agent.backend.to_string(),
        threads: agent.threads,
        ghz: agent.machine.1,
        slowdown: agent.slowdown,
        resident_bytes: peak_resident(),
        max_body: agent.max_body,
        requests: agent.requests.load(Ordering::Relaxed),
        telemetry: agent.telemetry(),
        joules_per_inference: agent.energy(),
    }
}
