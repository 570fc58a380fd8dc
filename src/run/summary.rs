/*! Stages in a sentence, and what the replays of a run rest on. */

use super::RunError;
use super::distribute::{Measurement, Parts};
use crate::data::Set;
use crate::device::machine::Machine;
use crate::device::{LinkProfile, Load, Profile};
use crate::plan::Tier;
use crate::plan::{Plan, TierNames};
use crate::predict;
use crate::predict::replay::ANSWER_BYTES;
use crate::predict::{Clock, Combination, Outcome};
use crate::session::stages::Inputs;
use crate::session::{Results, Session};
use crate::units::bytes;
use std::path::Path;

/// This machine, as a stage's inputs know it: a profile of another one is not taken for its own.
pub(super) fn machine() -> String {
    Machine::read(Path::new("/")).map_or_else(|_| String::new(), |m| format!("{m:?}"))
}

pub(super) fn profile(side: &str, profile: &Profile) -> String {
    let emulated = match profile.slowdown {
        s if s > 1.0 => format!(", slowed down {s}× (emulated)"),
        _ => String::new(),
    };
    let pieces = match (profile.layers.len(), profile.prefixes.len()) {
        (0, 0) => "no layers".to_string(),
        (0, prefixes) => format!("{prefixes} prefixes"),
        (layers, _) => format!("{layers} layers"),
    };
    let busy = profile.load.filter(Load::is_busy);
    let busy = busy.map_or(String::new(), |load| format!("; busy: {}", load.signs()));
    format!(
        "{side}: {:.3} ms the whole network, {pieces} and {} exits timed{emulated}{busy}",
        profile.total_ms.median,
        profile.heads.len()
    )
}

pub(super) fn link(link: &LinkProfile) -> String {
    let at = |points: &[(usize, f64)]| {
        let ends = points.first().zip(points.last());
        ends.map_or_else(String::new, |(a, b)| {
            format!(
                "{:.2} ms at {}, {:.2} ms at {}",
                a.1,
                bytes(a.0 as f64),
                b.1,
                bytes(b.0 as f64)
            )
        })
    };
    let emulated = if link.emulated { " (emulated)" } else { "" };
    format!("round trip {}{emulated}", at(&link.warm))
}

pub(super) fn plan(plan: &Plan, names: &TierNames) -> String {
    let exits = plan.exits.len();
    let s = if exits == 1 { "" } else { "s" };
    let place = plan.place(names);
    if plan.splits.iter().any(|split| split.row().is_some()) {
        format!("split after {place}, {exits} exit{s}")
    } else {
        format!("{place}, {exits} exit{s}")
    }
}

pub(super) fn ran(ran: &Measurement, exits: usize) -> String {
    let n = ran.records.len();
    let offloaded = ran.records.iter().filter(|r| r.offloaded()).count();
    let early = ran
        .records
        .iter()
        .filter(|r| usize::from(r.exit) < exits)
        .count();
    let share = |part: usize| 100.0 * part as f64 / n.max(1) as f64;
    let exits = match exits {
        0 => String::new(),
        _ => format!(", {:.1} % left early", share(early)),
    };
    format!(
        "{n} samples in {:.1} s{exits}, {:.1} % offloaded",
        ran.found.seconds,
        share(offloaded)
    )
}

/// Makes keys of runs on these parts: the same parts, samples, targets and settings of the way give
/// the same run.
pub(super) fn run_key<'a>(
    session: &'a Session,
    parts: &'a Parts,
    test: &'a str,
) -> impl Fn(&str, &[f64]) -> String + 'a {
    move |what, thresholds| {
        let content = |tier| parts.on(tier).map_or("", |p| p.content.as_str());
        let mut inputs = Inputs::new().with("what", what);
        for tier in session.chain() {
            // By their usual names, so that what ran before they could be renamed is still found.
            inputs = inputs.with(tier.usual_name(session.tiers.len()), content(tier));
        }
        let targets = session
            .tiers
            .iter()
            .map(|tier| format!("{:?}", tier.targets));
        let targets: Vec<String> = targets.collect();
        let links: Vec<String> = session
            .links
            .iter()
            .map(|link| format!("{link:?}"))
            .collect();
        inputs
            .with("test", test)
            .with("pixels", session.pixels().key())
            .with("thresholds", format!("{thresholds:?}"))
            .with("measure", measure(session, parts))
            .with("targets", targets.join(" "))
            .with("machine", machine())
            .with(
                "way",
                format!(
                    "{} {:?} {:?}",
                    links.join(" "),
                    session.wire,
                    session.offload
                ),
            )
            .key()
    }
}

/// How confidence is measured: where it is learned, by which models.
fn measure(session: &Session, parts: &Parts) -> String {
    let exits = parts.all().flat_map(|packed| &packed.part.segments);
    let exits = exits.filter_map(|segment| segment.exit.as_ref());
    let models: Vec<&Combination> = exits.filter_map(|e| e.combination.as_ref()).collect();
    let measure = format!("{:?}", session.policy.confidence);
    match models.is_empty() {
        false => format!("{measure} {models:?}"),
        true => measure,
    }
}

/// The machines that the tiers' durations were measured on, one per tier there can be.
pub(super) fn clocks(results: &Results) -> [Clock; 4] {
    Tier::ALL.map(|tier| {
        let profile = results.profile(tier);
        Clock {
            ghz: profile.and_then(|p| p.ghz),
            threads: profile.map_or(1, |p| p.threads),
        }
    })
}

pub(super) fn measured(
    session: &Session,
    plan: &Plan,
    ran: &Measurement,
    labels: &[u16],
    clocks: &[Clock],
) -> Result<Outcome, RunError> {
    Ok(predict::measured(&predict::Run {
        records: &ran.records,
        labels,
        set: Set::Test,
        plan,
        threshold: session.policy.threshold,
        emulated: ran.found.emulated,
        resident_bytes: &ran.found.resident_bytes,
        billing: session.billing,
        clocks,
        answer_bytes: ANSWER_BYTES,
        joules_per_inference: ran.found.joules_per_inference,
    })?)
}
