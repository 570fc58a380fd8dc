/*! The parts of a session's plan, of what its run left: for those who take them elsewhere. */

use super::distribute::part_settings;
use super::stage_cache::Reporter;
use super::{Network, Refused, RunError, train_heads};
use crate::data::LoadedData;
use crate::engine::Cancel;
use crate::event::Stage;
use crate::explore::Planner;
use crate::model::onnx::import_bytes;
use crate::plan::{Plan, PlannedExit, TierHead};
use crate::predict::replay::combinations;
use crate::runtime::parts::{Part, combine, parts};
use crate::session::results::TrainedHead;
use crate::session::stages::Stages;
use crate::session::{Results, Session};
use crate::train::Training;
use std::path::Path;
use std::sync::Arc;

/// The plan of a session that ran, and its parts with the heads that the run trained. `out` is where
/// the run kept its stages, in which a network that learnt together with its exits lies. Trains nothing.
///
/// # Errors
/// Where there are no results, or heads or network were made from something else than the session has
/// now; where the network or the images can't be read; [`RunError::Stopped`] when told to.
pub fn session_parts(
    session: &Session,
    out: &Path,
    cancel: &Cancel,
) -> Result<(Plan, Vec<Part>), RunError> {
    let results = session.results.as_deref().ok_or(RunError::NoResults)?;
    let mut network = Network::load(session)?;
    let mut quiet = |_| {};
    let mut reporter = Reporter {
        stage: Stage::Data,
        on: &mut quiet,
    };
    let untrained = network.heads(session, &mut reporter)?;
    let options = network.load_options(session)?;
    let data = LoadedData::load(&session.data, &options, &mut |_| {}, cancel)?;
    if results.layers != network.table {
        return Err(RunError::OtherResults(network.table.network));
    }
    let plan = plan_of(session, results, &network, &untrained)?;
    let trained: Vec<&TrainedHead> = match session.exits.training {
        Training::Frozen { .. } if network.untrained => {
            return Err(Refused::Untrained(network.table.network).into());
        }
        Training::Frozen { .. } => frozen(session, results, &network, &data, &untrained),
        Training::Joint { .. } | Training::Mixed { .. } => {
            let chosen = train_heads::planned_heads(&plan, &untrained);
            let key = train_heads::key(session, &network, &data, &chosen);
            network = learnt_network(out, &key)?;
            let same = results.heads_key == key;
            results.heads.iter().filter(|_| same).collect()
        }
    };
    let heads = unpacked(&plan, &trained)?;
    let settings = part_settings(session, &data);
    let mut made = parts(&network.fused, &network.table, &plan, &heads, &settings)?;
    let evidence = results.evidence(session.tier_names())?;
    let models = combinations(&evidence, settings.confidence, &plan)?;
    combine(&mut made, &plan, models);
    Ok((plan, made))
}

/// The heads over the frozen network that were trained from what the session has now: all of them, or
/// those of which that is known one by one.
fn frozen<'a>(
    session: &Session,
    results: &'a Results,
    network: &Network,
    data: &LoadedData,
    untrained: &[TierHead],
) -> Vec<&'a TrainedHead> {
    if train_heads::key(session, network, data, untrained) == results.heads_key {
        return results.heads.iter().collect();
    }
    let keys = train_heads::head_keys(session, network, data, untrained);
    let find = |key: &String| results.heads.iter().find(|head| head.key == *key);
    keys.iter().filter_map(find).collect()
}

/// The plan by the session's rules, as a run makes it.
fn plan_of(
    session: &Session,
    results: &Results,
    network: &Network,
    untrained: &[TierHead],
) -> Result<Plan, RunError> {
    let mut evidence = results.evidence(session.tier_names())?;
    evidence.points = Arc::new(network.points_with(untrained));
    let (rules, terms) = (session.rules(), session.terms());
    let planner = Planner {
        rules: &rules,
        terms: &terms,
    };
    Ok(planner.plan(&evidence)?)
}

/// The network that learnt together with its exits, from the folder of its run.
fn learnt_network(out: &Path, key: &str) -> Result<Network, RunError> {
    let lost = || RunError::NoBackbone(out.to_path_buf());
    if !out.is_dir() {
        return Err(lost());
    }
    let bytes = Stages::open(out)?.load_bytes("backbone", key)?;
    let graph = import_bytes(&bytes.ok_or_else(lost)?, "backbone.onnx")?;
    Network::of(graph, false)
}

/// The heads of a plan's exits among those that were trained.
fn unpacked(plan: &Plan, trained: &[&TrainedHead]) -> Result<Vec<TierHead>, RunError> {
    let head = |exit: &PlannedExit| {
        let here = trained.iter().filter(|head| head.point.after == exit.after);
        let own = exit.tier.own_or_first(here, |head| head.tier);
        let own = own.ok_or_else(|| RunError::NotTrained(exit.after.clone()))?;
        Ok(own.unpack()?)
    };
    plan.exits.iter().map(head).collect()
}
