/*! What an agent says of itself. */

use super::state::Agent;
use crate::device::memory::resident;
use crate::protocol::message::AgentInfo;
use std::sync::atomic::Ordering;

/// Peak resident bytes of this process since the peak was last reset; 0 where the system doesn't tell.
pub(super) fn peak_resident() -> usize {
    resident().map_or(0, |r| r.peak_bytes)
}

/// The answer to `/v1/info`.
pub(super) fn info(agent: &Agent) -> AgentInfo {
    AgentInfo {
        version: env!("CARGO_PKG_VERSION").to_string(),
        device: agent.machine.0.clone(),
        cores: agent.cores.clone(),
        engine: agent.backend,
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
