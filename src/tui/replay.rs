/*! Predictions by replay: the question of the screen put to the room that replays plans. */

use super::work::{Predict, Question};
use crate::evaluate::Outcome;
use crate::evaluate::replay::{HeadKey, Prepared, World};
use crate::exits::Part;

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
}

/// Lays the plan over what is known, and says in a few words what isn't.
fn ask<T>(question: Question<'_>, answer: impl FnOnce(&Prepared<'_>) -> T) -> Result<T, String> {
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
    let after = |layer: usize| layers.layers.get(layer).map(|l| l.name.clone());
    // Where a source makes different heads for the two parts, each is a column of its own; the
    // editor's heads are those of the edge, and a cloud column of the same hash is the same head.
    let heads: Vec<HeadKey> = question
        .plan
        .exits
        .iter()
        .filter_map(|exit| {
            let head = question.heads.iter().find(|h| h.layer == exit.layer)?;
            let hash = match exit.part {
                Part::Edge => head.hash.clone(),
                Part::Cloud => head.cloud_hash.clone(),
            };
            Some(HeadKey {
                after: after(exit.layer)?,
                part: exit.part,
                hash,
            })
        })
        .collect();
    let session = question.session;
    let world = World {
        wire: session.wire,
        billing: session.billing,
        heads: &heads,
        assembled: &results.assembled,
        wire_tables: &results.wire_tables,
        seed: session.seed,
        ..World::new(layers, edge, cloud, link, &session.policy)
    };
    let prepared = Prepared::new(table, question.plan, &world).map_err(|e| e.to_string())?;
    Ok(answer(&prepared))
}
