/*! Predictions by replay: the question of the screen put to the room that replays plans. */

use super::state::explore::Explored;
use super::work::{Predict, Question};
use crate::explore::{Limits, front, search};
use crate::plan::Part;
use crate::predict::replay::{Assembled, HeadKey, Prepared, World};
use crate::predict::{ConfidenceTable, Outcome, Policy};

/// Replays plans over the calibration table and the profiles.
#[derive(Debug, Clone, Copy, Default)]
pub struct Replay;

impl Predict for Replay {
    fn predict(&self, question: Question<'_>) -> Result<Outcome, String> {
        ask(question, |prepared| prepared.outcome())
    }

    fn sweep(
        &self,
        question: Question<'_>,
        exit: Option<usize>,
        thresholds: &[f64],
    ) -> Result<Vec<Outcome>, String> {
        let mut own: Vec<f64> = question.plan.exits.iter().map(|e| e.threshold).collect();
        ask(question, |prepared| {
            let at = |&threshold: &f64| match exit {
                None => prepared.at(threshold),
                Some(exit) => {
                    if let Some(one) = own.get_mut(exit) {
                        *one = threshold;
                    }
                    prepared.with_thresholds(&own)
                }
            };
            thresholds.iter().map(at).collect()
        })
    }

    fn explore(
        &self,
        question: Question<'_>,
        thresholds: &[f64],
        limits: &Limits,
    ) -> Result<Explored, String> {
        let network = question.network;
        // Without measured parts: plans that are compared are all predicted from their layers.
        with_world(question, &[], |table, world| {
            // Every exit goes by the threshold that is tried.
            let policy = Policy {
                exits: Vec::new(),
                ..world.policy.clone()
            };
            let world = World {
                policy: &policy,
                ..*world
            };
            let (layers, points) = (&network.table, &network.points);
            let found = search(table, layers, points, &world, thresholds, limits)
                .map_err(|e| e.to_string())?;
            Ok(Explored {
                tried: found.len(),
                front: front(&found).into_iter().cloned().collect(),
            })
        })
    }
}

/// Lays the plan over what is known, and says in a few words what isn't.
fn ask<T>(question: Question<'_>, answer: impl FnOnce(&Prepared<'_>) -> T) -> Result<T, String> {
    let assembled = &question.results.assembled;
    with_world(question, assembled, |table, world| {
        let prepared = Prepared::new(table, question.plan, world).map_err(|e| e.to_string())?;
        Ok(answer(&prepared))
    })
}

fn with_world<T>(
    question: Question<'_>,
    assembled: &[Assembled],
    answer: impl FnOnce(&ConfidenceTable, &World<'_>) -> Result<T, String>,
) -> Result<T, String> {
    let results = question.results;
    let missing = |what: &str| Err(format!("{what} yet"));
    let Some(table) = &results.calibration else {
        return missing(match (&results.edge, &results.cloud) {
            (None, _) | (_, None) => "no profiles and no confidence table",
            _ => "no confidence table",
        });
    };
    let (Some(edge), Some(cloud)) = (&results.edge, &results.cloud) else {
        return missing("no profile of both sides");
    };
    let Some(link) = &results.link else {
        return missing("the link was not measured");
    };
    let layers = &question.network.table;
    // Where a source makes different heads for the two parts, each is a column of its own.
    let keys = question.heads.iter().flat_map(|head| {
        let after = layers.layers.get(head.layer).map(|l| l.name.clone());
        let sides = [(Part::Edge, &head.hash), (Part::Cloud, &head.cloud_hash)];
        sides.into_iter().filter_map(move |(part, hash)| {
            Some(HeadKey {
                after: after.clone()?,
                part,
                hash: hash.clone(),
            })
        })
    });
    let heads: Vec<HeadKey> = keys.collect();
    let session = question.session;
    let world = World {
        wire: session.wire,
        billing: session.billing,
        heads: &heads,
        assembled,
        wire_tables: &results.wire_tables,
        seed: session.seed,
        ..World::new(layers, edge, cloud, link, &session.policy)
    };
    answer(table, &world)
}
