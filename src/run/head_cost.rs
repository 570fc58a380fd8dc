/*!
What a head costs and whether it is worth it: measured on this machine, measured or predicted on the
targets of a session that has run, and its worth by replaying that session's plan with and without it.
*/

use super::{Replayed, RunError};
use crate::data::Set;
use crate::device::HeadProfile;
use crate::device::profile::{HeadToTime, ProfileOptions, profile_head};
use crate::engine::Cancel;
use crate::exits::Head;
use crate::model::fuse;
use crate::plan::{Tier, TierNames};
use crate::predict::head_cost::{HeadWork, head_ms};
use crate::predict::{HeadKey, Kind, PreparedPlan};
use crate::session::{Results, Session};
use serde::Serialize;

/// Runs of a head that is timed here, and those before that don't count.
const RUNS: (usize, usize) = (30, 5);

/// A head's time on a target of the session.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OnTarget {
    /// What its tier is called.
    pub part: String,
    /// Milliseconds a sample, median.
    pub ms: f64,
    /// Whether this very head was timed there.
    pub kind: Kind,
    /// Whether the target is slowed down, so that its times are emulated.
    pub emulated: bool,
}

/// Whether a head is worth its time, as replayed over the calibration set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Worth {
    /// What the tier it stands in is called.
    pub part: String,
    /// Whether it stands in the plan that ran; else the plan is replayed with it put in.
    pub in_plan: bool,
    /// Whether the mean latency is higher without it.
    pub pays: bool,
    /// Mean latency with it, milliseconds.
    pub latency_ms: f64,
    /// Mean latency in milliseconds without the exit.
    pub latency_without_ms: f64,
    /// Accuracy with it, 0 to 1.
    pub accuracy: f64,
    /// Accuracy without the exit, 0 to 1.
    pub accuracy_without: f64,
}

/// Times a head on this machine, at batch 1 and on all the cores it may use.
///
/// # Errors
/// Where the engine can't run it.
pub fn here(head: &Head) -> Result<HeadProfile, RunError> {
    let options = ProfileOptions {
        runs: RUNS.0,
        warm_up: RUNS.1,
        ..ProfileOptions::default()
    };
    let graph = fuse(&head.graph);
    let head = HeadToTime {
        after: &head.point.after,
        hash: &head.hash,
        graph: &graph,
    };
    Ok(profile_head(&head, &options, &Cancel::new())?)
}

/// A session with results, ready to be asked about heads.
#[derive(Debug)]
pub struct Costs<'a> {
    session: &'a Session,
    results: &'a Results,
    replayed: Option<Replayed<'a>>,
    names: TierNames,
}

impl<'a> Costs<'a> {
    /// Of a session that has run; none where nothing is known.
    pub fn of(session: &'a Session) -> Option<Costs<'a>> {
        let results = session.results.as_deref()?;
        Some(Costs {
            session,
            results,
            names: session.tier_names(),
            // Where it didn't run to the end, times may be there all the same.
            replayed: Replayed::of(session).ok(),
        })
    }

    /// Whether there is a plan to replay.
    pub fn ran(&self) -> bool {
        self.replayed.is_some()
    }

    /// What is known of a head's time on each side: where its own wasn't taken, predicted from the
    /// times of the network's layers.
    pub fn on_targets(&self, head: &Head) -> Vec<OnTarget> {
        let work = HeadWork::of(&fuse(&head.graph));
        let on = |tier: Tier| {
            let profile = self.results.profile(tier)?;
            let at = (head.point.after.as_str(), head.hash.as_str());
            let (ms, kind) = head_ms(profile, &self.results.layers, at, work)?;
            Some(OnTarget {
                part: self.names.name(tier).to_string(),
                ms,
                kind,
                emulated: profile.slowdown != 1.0,
            })
        };
        self.names.tiers().filter_map(on).collect()
    }

    /// Whether a head pays; none where it wasn't trained, or the session didn't run to the end.
    pub fn worth(&self, head: &Head) -> Option<Worth> {
        let replayed = self.replayed.as_ref()?;
        let after = &head.point.after;
        let in_plan = replayed.plan.exits.iter().any(|e| e.after == *after);
        let evidence = &replayed.evidence;
        let plan = if in_plan {
            replayed.plan.clone()
        } else {
            let threshold = self.session.rules().exits.threshold_of(after);
            replayed.plan.with_exit(head.point.layer, after, threshold)
        };
        let tier = plan.exits.iter().find(|e| e.after == *after)?.tier;
        let trained = |h: &HeadKey| h.after == *after && h.tier == tier && h.hash == head.hash;
        if !evidence.heads.iter().any(trained) {
            return None;
        }
        let prepared =
            PreparedPlan::new(evidence, &replayed.terms, Set::Calibration, &plan).ok()?;
        let all = prepared.head_pays();
        let found = all.into_iter().find(|p| p.after == *after)?;
        Some(Worth {
            part: self.names.name(tier).to_string(),
            in_plan,
            pays: found.pays,
            latency_ms: found.latency_ms,
            latency_without_ms: found.latency_without_ms,
            accuracy: found.accuracy,
            accuracy_without: found.accuracy_without,
        })
    }
}
