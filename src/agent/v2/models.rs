/*! The models of the protocol by name: a network or part from a file, or a part that was sent. */

use crate::agent::body::blocking;
use crate::agent::error::Refused;
use crate::agent::state::Agent;
use crate::agent::stats::MODEL_VERSION;
use crate::model::fuse::fused;
use crate::model::onnx::import_reader;
use crate::runtime::is_bundle;
use crate::runtime::parts::{Part, PartSettings, Segment};
use crate::runtime::runner::{ExecutionOptions, Runner};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

/// Whether a model may be called so: it stands in addresses.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= 128 && !name.starts_with('.') && name.chars().all(plain)
}

/// A network or part from its file, ready to run.
pub(in crate::agent) fn load(
    name: &str,
    mut file: File,
    options: &ExecutionOptions,
) -> Result<Runner, String> {
    let about = file.metadata().map_err(|e| e.to_string())?;
    if about.is_file() {
        return read(name, &mut BufReader::new(file), about.len(), options);
    }
    // A pipe doesn't say how long it is.
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    read(name, &mut bytes.as_slice(), bytes.len() as u64, options)
}

fn read(
    name: &str,
    mut file: &mut dyn BufRead,
    length: u64,
    options: &ExecutionOptions,
) -> Result<Runner, String> {
    let start = file.fill_buf().map_err(|e| e.to_string())?;
    let part = if is_bundle(start) {
        Part::read(&mut file, length).map_err(|e| e.to_string())?
    } else {
        let graph = import_reader(&mut file, length, name).map_err(|e| e.to_string())?;
        Part {
            tier: crate::plan::Tier::Second,
            network: name.to_string(),
            classes: 0,
            // Its output is taken as it is, scores or not.
            ends_network: false,
            final_is_probabilities: false,
            segments: vec![Segment {
                graph: fused(graph),
                exit: None,
            }],
            settings: PartSettings::default(),
        }
    };
    Runner::new(part, options).map_err(|e| e.to_string())
}

/// A model's name and, where the address has it, version.
#[derive(serde::Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
    #[serde(default)]
    version: Option<String>,
}

/// The model of this name: one that was given at the start, or a part that was sent.
pub(super) async fn find(agent: &Arc<Agent>, named: &Named) -> Result<Arc<Runner>, Refused> {
    let name = &named.name;
    if let Some(version) = named.version.as_ref().filter(|v| *v != MODEL_VERSION) {
        let what = format!("`{name}` has no version {version}; there is {MODEL_VERSION}");
        return Err(Refused::missing(what));
    }
    if let Some((_, runner)) = agent.models.iter().find(|(n, _)| n == name) {
        return Ok(runner.clone());
    }
    if let Some(runner) = agent.parts.get(name) {
        return Ok(runner);
    }
    if agent.store.get(name).is_none() {
        let what = format!("there is no model `{}`", name.escape_debug());
        return Err(Refused::missing(what));
    }
    let (agent, name) = (agent.clone(), name.clone());
    blocking(move || agent.parts.prepare(&name, &agent.store)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("resnet-50_v1.5", true)]
    #[case("", false)]
    #[case("../etc/passwd", false)]
    #[case("..", false)]
    #[case("a/b", false)]
    #[case("a b", false)]
    fn names_stand_in_addresses(#[case] name: &str, #[case] good: bool) {
        assert_eq!(is_name(name), good);
    }
}
