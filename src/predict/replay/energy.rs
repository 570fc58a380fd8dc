/*! What of a plan takes energy on the first tier, and which samples find its radio asleep. */

use super::chain::Chain;
use super::times::{Elapsed, Pace, Times, head};
use super::{ANSWER_BYTES, Evidence, ReplayError, Sleep, Terms};
use crate::model::layers::LayerTable;
use crate::plan::{Plan, Tier};
use crate::predict::energy::{EnergySettings, RadioModel, Reached, Spending};
use crate::predict::outcome::Power;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::ops::Range;

/// Added to the seed of the draws: those of the times stay what they are with any radio.
const STREAM: u64 = 0x7261_6469;

/// Bytes of a parameter.
const PARAMETER: usize = 4;

pub(super) fn spending(
    chain: &Chain,
    times: &Times,
    plan: &Plan,
    evidence: &Evidence,
    terms: &Terms,
) -> Result<Spending, ReplayError> {
    let settings = &terms.energy;
    let layers = &evidence.layers;
    let rows = plan.rows(Tier::First, layers.layers.len());
    // What is sent as it came runs nothing there.
    let rails = match rows.is_empty() {
        true => None,
        false => evidence.profile(Tier::First)?.watts,
    };
    let (power, watts) = match (settings.watts, rails) {
        (Some(watts), _) => (Power::Watts, Some(watts)),
        (None, Some(watts)) => (Power::Rails, Some(watts)),
        (None, None) => (Power::Model, None),
    };
    let mut from = rows.start;
    let mut work = Vec::with_capacity(chain.stages.len());
    let mut to_split = 0.0;
    for (stage, exit) in chain
        .stages
        .iter()
        .zip(plan.exits.iter().map(Some).chain([None]))
    {
        let here = stage.tier == Tier::First && !rows.is_empty();
        let to = exit
            .filter(|_| here)
            .map_or(rows.end, |exit| exit.layer + 1);
        let body = mj(settings, layers, from..to);
        from = to;
        let (body, head) = match (here, exit) {
            (true, Some(exit)) => {
                let profile = evidence.profile(Tier::First)?;
                let head = head(profile, &exit.after, stage.hash)?;
                let bytes = head.bytes.saturating_sub(head.arena_bytes);
                (
                    body,
                    picojoules(settings, (bytes / PARAMETER) as u64, bytes) / 1e9,
                )
            }
            (true, None) => (body, 0.0),
            // Nothing is left of the first tier behind the first stage that isn't there.
            (false, _) => {
                to_split += body;
                (0.0, 0.0)
            }
        };
        work.push((body, head));
    }
    Ok(Spending {
        power,
        watts,
        work,
        to_split,
        radio: settings.radio.model().filter(|_| plan.offloads()),
        rate_hz: terms.rate_hz,
        up: times.payload.first().copied().unwrap_or(0.0),
        down: ANSWER_BYTES,
    })
}

fn picojoules(settings: &EnergySettings, macs: u64, bytes: usize) -> f64 {
    settings.pj_per_mac * macs as f64 + settings.pj_per_byte * bytes as f64
}

/// Millijoules of some layers by the model: their multiply-accumulates, and the bytes of their parameters and
/// outputs.
fn mj(settings: &EnergySettings, layers: &LayerTable, rows: Range<usize>) -> f64 {
    let rows = layers.layers.get(rows).unwrap_or_default();
    let each = rows.iter().map(|layer| {
        let bytes = layer.param_bytes + layer.activation_bytes;
        picojoules(settings, layer.macs, bytes)
    });
    each.sum::<f64>() / 1e9
}

/// What reaching each stage takes at a pace.
pub(super) fn reached(times: &[Elapsed], pace: &Pace<f64>) -> Vec<Reached> {
    let one = |spent: &Elapsed| {
        let first_ms = spent.tiers[0] * pace.tiers[0];
        Reached {
            first_ms,
            away_ms: match spent.hops {
                0 => 0.0,
                _ => spent.at(pace) - first_ms,
            },
            is_sent: spent.hops > 0,
        }
    };
    times.iter().map(one).collect()
}

/// The draws of the samples, where a radio makes them wait.
pub(super) fn sleeps(radio: Option<RadioModel>, seed: u64, samples: usize) -> Vec<Sleep> {
    let Some(radio) = radio.filter(RadioModel::waits) else {
        return Vec::new();
    };
    let mut rng = ChaCha8Rng::seed_from_u64(seed.wrapping_add(STREAM));
    let mut draw = || Sleep {
        luck: rng.random_range(0.0..1.0),
        wait_ms: radio.wait_ms(rng.random_range(0.0..1.0)),
    };
    (0..samples).map(|_| draw()).collect()
}
