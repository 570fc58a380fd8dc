/*! The parts of a session's plan, of what its run left: for those who take them elsewhere. */

use super::distribute::part_settings;
use super::stage_cache::Reporter;
use super::{Network, Refused, RunError, train_heads};
use crate::backend::{BackendId, CandleDevice, Provider};
use crate::data::{LoadedData, Set};
use crate::deploy::Serving;
use crate::device::Profile;
use crate::engine::Cancel;
use crate::event::Stage;
use crate::explore::Planner;
use crate::model::onnx::import_bytes;
use crate::plan::{Plan, PlannedExit, Tier, TierHead};
use crate::predict::PreparedPlan;
use crate::predict::replay::combinations;
use crate::runtime::parts::{Part, combine, parts};
use crate::session::results::TrainedHead;
use crate::session::stages::Stages;
use crate::session::{Results, Session, Target};
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

/// What servers are told of the devices that a session's tiers were measured on, one per tier of the plan.
/// Nothing is known of tiers without a profile, as that of a server of the Open Inference Protocol.
///
/// # Errors
/// Where there are no results, or no memory tier is large enough.
pub fn servings(session: &Session, plan: &Plan) -> Result<Vec<Serving>, RunError> {
    let results = session.results.as_deref().ok_or(RunError::NoResults)?;
    let known = |tier: &Tier| results.profile(*tier).is_some();
    let evidence = results.evidence(session.tier_names())?;
    let terms = session.terms();
    let prepared = match plan.chain().all(|tier| known(&tier)) {
        true => Some(PreparedPlan::new(
            &evidence,
            &terms,
            Set::Calibration,
            plan,
        )?),
        false => None,
    };
    let serving = |tier: Tier| {
        let Some(profile) = results.profile(tier) else {
            return Serving::unknown(tier);
        };
        Serving {
            tier,
            threads: profile.threads.max(1),
            gpu: session.targets(tier).iter().any(on_nvidia),
            part_ms: part_ms(profile, plan, tier, results.layers.layers.len()),
            memory_mib: prepared.as_ref().and_then(|p| p.rented_mib(tier)),
        }
    };
    Ok(plan.chain().map(serving).collect())
}

/// Milliseconds per sample of the layers of a tier's part, as fast as the device is without its slowdown.
fn part_ms(profile: &Profile, plan: &Plan, tier: Tier, rows: usize) -> Option<f64> {
    let layers = profile.layers.get(plan.rows(tier, rows))?;
    let sum: f64 = layers.iter().map(|layer| layer.ms.mean).sum();
    (!layers.is_empty()).then(|| sum / profile.slowdown / profile.batch.max(1) as f64)
}

/// Whether the session asks for an NVIDIA GPU there.
fn on_nvidia(target: &Target) -> bool {
    let engine = match target {
        Target::Local { engine, .. } => Some(*engine),
        Target::Agent { engine, .. } => *engine,
        Target::V2 { .. } => None,
    };
    matches!(
        engine,
        Some(
            BackendId::OnnxRuntime(Provider::Cuda(_) | Provider::TensorRt(_))
                | BackendId::Candle(CandleDevice::Cuda(_))
        )
    )
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
