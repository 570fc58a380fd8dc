/*!
What the workbench knows of a network and of what was measured.
*/

use super::error::NoReplica;
use crate::device::{LinkProfile, Profile};
use crate::exits::{Diagnostic, ExitPoint};
use crate::explore::{Candidate, Choice, Goal, Limits};
use crate::model::LayerTable;
use crate::plan::Plan;
use crate::plan::{Tier, TierNames};
use crate::predict::head_cost::{HeadWork, head_ms};
use crate::predict::{Answers, Evidence, HeadKey, HeldBack, Kind, Outcome};
use crate::run::ExitSource;
use crate::session;
use crate::session::Session;
use crate::session::tables::PackError;
use std::sync::Arc;

/// A network, as far as the workbench looks into it.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkFacts {
    /// Layers and cuts of the network.
    pub table: Arc<LayerTable>,
    /// Where exits may stand.
    pub points: Arc<Vec<ExitPoint>>,
    /// Its own classifier as an exit source, or why there is none.
    pub replica: Result<String, NoReplica>,
    /// The exits that its file brings along, where it brings any.
    pub own: Option<Arc<ExitSource>>,
}

/// What is known by now; a job adds to it. Nothing here is ever made up: what wasn't measured or
/// computed is absent, and the screen says which key gets it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Results {
    /// One per tier, of its first target; shorter where the last were never profiled.
    pub profiles: Vec<Option<Arc<Profile>>>,
    /// One per link, nearest to the sample first; shorter where the last were never measured.
    pub links: Vec<Option<Arc<LinkProfile>>>,
    /// What thresholds are tuned on.
    pub calibration: Option<Arc<Answers>>,
    /// What a guarantee rests on.
    pub held_back: Option<Arc<HeldBack>>,
    /// The plan that ran, with what it gave and the baselines measured beside it.
    pub measured: Option<Measured>,
    /// All of it as a session file keeps it.
    pub kept: Option<Arc<session::Results>>,
}

impl Results {
    /// What a run left in its session, which has tiers of these names.
    ///
    /// # Errors
    /// A table is damaged.
    pub fn of(kept: &session::Results, names: TierNames) -> Result<Results, PackError> {
        let evidence = kept.evidence(names)?;
        let ran = kept.last("plan");
        Ok(Results {
            profiles: evidence.profiles,
            links: evidence.links,
            calibration: evidence.calibration,
            held_back: evidence.held_back,
            measured: ran.and_then(|ran| Measured::of(kept, ran, true)),
            kept: Some(Arc::new(kept.clone())),
        })
    }

    /// What was measured of a tier; `None` where it never was.
    pub fn profile(&self, tier: Tier) -> Option<&Profile> {
        self.profiles.get(tier.index())?.as_deref()
    }

    /// What was measured of the link behind a tier; `None` where it never was.
    pub fn link(&self, behind: Tier) -> Option<&LinkProfile> {
        self.links.get(behind.index())?.as_deref()
    }

    /// Results that are the profile of a tier alone.
    pub fn of_profile(tier: Tier, profile: Profile) -> Results {
        let mut profiles = vec![None; tier.index()];
        profiles.push(Some(Arc::new(profile)));
        Results {
            profiles,
            ..Results::default()
        }
    }

    /// Results that are the measurement of the link behind a tier alone.
    pub fn of_link(behind: Tier, link: LinkProfile) -> Results {
        let mut links = vec![None; behind.index()];
        links.push(Some(Arc::new(link)));
        Results {
            links,
            ..Results::default()
        }
    }

    /// What stays of the results of one session for another of the same network and images: the tables,
    /// and what was measured of devices and links that both have in the same place.
    pub fn on_other_devices(mut self, before: &Session, now: &Session) -> Results {
        let same = |tier: Tier| {
            let first = |s: &Session| s.targets(tier).first().cloned();
            first(now).is_some() && first(before) == first(now)
        };
        let linked = |behind: Tier| {
            let next = Tier::at(behind.index() + 1);
            before.link(behind) == now.link(behind) && same(behind) && next.is_some_and(same)
        };
        fn clear<T>(all: &mut [Option<T>], at: usize) {
            if let Some(own) = all.get_mut(at) {
                *own = None;
            }
        }
        let mut kept = self.kept.take().map(|kept| (*kept).clone());
        for tier in Tier::ALL {
            let at = tier.index();
            if !same(tier) {
                clear(&mut self.profiles, at);
                kept.iter_mut().for_each(|k| clear(&mut k.profiles, at));
            }
            if !linked(tier) {
                clear(&mut self.links, at);
                kept.iter_mut().for_each(|k| clear(&mut k.links, at));
            }
        }
        self.kept = kept.map(Arc::new);
        self.measured = None;
        self
    }

    /// All that predictions for `network` with these heads read. Exits stand where a head does; while
    /// no head is known, at every legal point.
    pub fn evidence(
        &self,
        network: &NetworkFacts,
        heads: &[HeadFacts],
        names: TierNames,
    ) -> Evidence {
        let has_head = |p: &&ExitPoint| heads.iter().any(|h| h.layer == p.layer);
        let points = if heads.is_empty() || heads.len() == network.points.len() {
            network.points.clone()
        } else {
            Arc::new(network.points.iter().filter(has_head).cloned().collect())
        };
        let layers = &network.table.layers;
        let keys = heads.iter().flat_map(|head| {
            let after = layers.get(head.layer).map(|l| l.name.clone());
            let keys = names.tiers().filter_map(move |tier| {
                Some(HeadKey {
                    after: after.clone()?,
                    tier,
                    hash: head.hash_on(tier).to_string(),
                })
            });
            keys.collect::<Vec<_>>()
        });
        let mut evidence = Evidence {
            heads: keys.collect(),
            calibration: self.calibration.clone(),
            held_back: self.held_back.clone(),
            ..Evidence::new(network.table.clone(), points, names)
        };
        for (own, profile) in evidence.profiles.iter_mut().zip(&self.profiles) {
            own.clone_from(profile);
        }
        for (own, link) in evidence.links.iter_mut().zip(&self.links) {
            own.clone_from(link);
        }
        evidence
    }

    /// Takes over what the newer ones have.
    pub fn absorb(&mut self, mut newer: Results) {
        fn take<T>(old: &mut Option<T>, new: Option<T>) {
            if new.is_some() {
                *old = new;
            }
        }
        fill(&mut newer.profiles, &self.profiles);
        fill(&mut newer.links, &self.links);
        self.profiles = newer.profiles;
        self.links = newer.links;
        if newer.calibration.is_some() {
            // Tables are made anew as a whole: with a part held back, or with none.
            self.held_back = newer.held_back;
        }
        take(&mut self.calibration, newer.calibration);
        take(&mut self.measured, newer.measured);
        self.kept = match (self.kept.take(), newer.kept) {
            (Some(old), Some(new)) => Some(Arc::new(merged(&old, &new))),
            (old, new) => new.or(old),
        };
    }
}

/// Puts what only `others` has in its place.
fn fill<T: Clone>(all: &mut Vec<Option<T>>, others: &[Option<T>]) {
    let count = all.len().max(others.len());
    all.resize_with(count, || None);
    for (own, other) in all.iter_mut().zip(others) {
        if own.is_none() {
            own.clone_from(other);
        }
    }
}

/// What a session keeps when a job adds to it: one that went less far takes nothing away.
fn merged(old: &session::Results, new: &session::Results) -> session::Results {
    let mut all = new.clone();
    if all.heads.is_empty() {
        all.heads_key = old.heads_key.clone();
        all.heads = old.heads.clone();
    }
    if all.calibration.is_none() {
        all.tables_key = old.tables_key.clone();
        all.held_back = old.held_back;
        all.calibration = old.calibration.clone();
        all.test = old.test.clone();
        all.wires = old.wires.clone();
    }
    fill(&mut all.profiles, &old.profiles);
    fill(&mut all.links, &old.links);
    if all.measured.is_empty() {
        all.plan = old.plan.clone();
        all.parts = old.parts.clone();
        all.measured = old.measured.clone();
        all.records = old.records.clone();
        all.journal = old.journal.clone();
    } else {
        all.remember(&old.measured);
    }
    all
}

/// Plan that a run carried out, and what it gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Plan that ran.
    pub plan: Plan,
    /// Hash of the head at each of its exits.
    pub heads: Vec<String>,
    /// Figures that were measured over the test set.
    pub outcome: Outcome,
    /// The unmodified network on the edge.
    pub original: Option<Outcome>,
    /// The unmodified network in the cloud.
    pub cloud_only: Option<Outcome>,
    /// The edge part alone.
    pub edge_only: Option<Outcome>,
    /// The unmodified network in the cloud, its images sent as JPEG files.
    pub cloud_only_jpeg: Option<Outcome>,
}

impl Measured {
    /// What a run of a plan gave; of the last one with the baselines measured beside it.
    pub fn of(
        kept: &session::Results,
        ran: &session::results::Measured,
        last: bool,
    ) -> Option<Measured> {
        let plan = ran.plan.clone()?;
        let heads = if ran.heads.is_empty() {
            kept.heads_of(&plan)
        } else {
            ran.heads.clone()
        };
        let baseline = |what: &str| {
            let found = kept.last(what).filter(|_| last);
            found.map(|m| m.outcome.clone())
        };
        Some(Measured {
            plan,
            heads,
            outcome: ran.outcome.clone(),
            original: baseline("original"),
            cloud_only: baseline("cloud_only"),
            cloud_only_jpeg: baseline("cloud_only_jpeg"),
            edge_only: baseline("edge_only"),
        })
    }
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Explored {
    /// Plans that were tried and keep to the limits.
    pub tried: usize,
    /// The Pareto-optimal ones of them.
    pub front: Vec<Candidate>,
    /// The best of all by the goal, whatever the page shows.
    pub best: Option<Candidate>,
    /// The unmodified network on the first tier and on the last.
    pub whole: Vec<(Choice, Outcome)>,
    /// What is wanted of a deployment.
    pub goal: Goal,
    /// The goal's limits for this network.
    pub within: Limits,
}

/// A head that stands, as far as predictions need it.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadFacts {
    /// Row of the layer table behind which it stands.
    pub layer: usize,
    /// Hash of the head, half of its confidence table's key.
    pub hash: String,
    /// The keys of the tiers for which the source makes another head.
    pub others: Vec<(Tier, String)>,
    /// Source of the head as rendered for its exit point.
    pub rendered: String,
    /// Its layers in a line each: what goes in and out.
    pub shapes: Vec<String>,
    /// Number of trained values.
    pub params: usize,
    /// Multiply-accumulates per sample.
    pub macs: u64,
    /// What its time is predicted from; `None` where its layers aren't at hand.
    pub work: Option<HeadWork>,
    /// What is no error and yet worth knowing, placed in the source.
    pub warnings: Vec<Diagnostic>,
}

impl HeadFacts {
    /// The table key of the head where it stands in a tier's part.
    pub fn hash_on(&self, tier: Tier) -> &str {
        let own = self.others.iter().find(|(other, _)| *other == tier);
        own.map_or(&self.hash, |(_, hash)| hash)
    }

    /// Milliseconds that the head takes on the device of a profile, and whether they were measured.
    pub fn ms(&self, table: &LayerTable, profile: &Profile) -> Option<(f64, Kind)> {
        let after = &table.layers.get(self.layer)?.name;
        head_ms(profile, table, (after, &self.hash), self.work)
    }
}
