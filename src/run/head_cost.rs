/*!
What a head costs and whether it is worth it: measured on this machine, measured or predicted on the
targets of a session that has run, and its worth by replaying that session's plan with and without it.
*/

use super::{Replayed, RunError};
use crate::device::profile::{HeadToTime, ProfileOptions, profile_head};
use crate::device::{HeadProfile, Profile};
use crate::engine::Cancel;
use crate::exits::Head;
use crate::model::layers::LayerTable;
use crate::model::{Graph, fuse};
use crate::plan::Part;
use crate::plan::{Plan, PlannedExit, Split};
use crate::predict::Prepared;
use crate::session::{Results, Session};
use serde::Serialize;

/// Runs of a head that is timed here, and those before that don't count.
const RUNS: (usize, usize) = (30, 5);

/// Whose a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// By a clock.
    Measured,
    /// By a formula, from what was measured of others.
    Predicted,
}

/// A head's time on a target of the session.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OnTarget {
    /// Which side.
    pub part: Part,
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
    /// Its part.
    pub part: Part,
    /// Whether it stands in the plan that ran; else the plan is replayed with it put in.
    pub in_plan: bool,
    /// Whether the mean latency is higher without it.
    pub pays: bool,
    /// Mean latency with it, milliseconds.
    pub latency_ms: f64,
    /// And without.
    pub latency_without_ms: f64,
    /// Accuracy with it, 0 to 1.
    pub accuracy: f64,
    /// And without.
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
}

impl<'a> Costs<'a> {
    /// Of a session that has run; none where nothing is known.
    pub fn of(session: &'a Session) -> Option<Costs<'a>> {
        let results = session.results.as_deref()?;
        Some(Costs {
            session,
            results,
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
        let sides = [
            (Part::Edge, &self.results.edge),
            (Part::Cloud, &self.results.cloud),
        ];
        let on = |(part, profile): (Part, &Option<Profile>)| {
            let profile = profile.as_ref()?;
            let mut known = profile.heads.iter();
            let known = known.find(|h| h.after == head.point.after && h.hash == head.hash);
            let (ms, kind) = match known {
                Some(known) => (known.ms.median, Kind::Measured),
                None => {
                    let rates = Rates::of(profile, &self.results.layers)?;
                    (rates.predict(&fuse(&head.graph))?, Kind::Predicted)
                }
            };
            Some(OnTarget {
                part,
                ms,
                kind,
                emulated: profile.slowdown != 1.0,
            })
        };
        sides.into_iter().filter_map(on).collect()
    }

    /// Whether a head pays; none where it wasn't trained, or the session didn't run to the end.
    pub fn worth(&self, head: &Head) -> Option<Worth> {
        let replayed = self.replayed.as_ref()?;
        let after = &head.point.after;
        let in_plan = replayed.plan.exits.iter().any(|e| e.after == *after);
        let plan = match in_plan {
            true => replayed.plan.clone(),
            false => with_exit(replayed.plan, head, self.threshold(after)),
        };
        let part = plan.exits.iter().find(|e| e.after == *after)?.part;
        let trained = |h: &crate::predict::HeadKey| {
            h.after == *after && h.part == part && h.hash == head.hash
        };
        if !self.results.head_keys().iter().any(trained) {
            return None;
        }
        let world = match in_plan {
            true => replayed.world(),
            false => replayed.level_world(),
        };
        let prepared = Prepared::new(&replayed.calibration, &plan, &world).ok()?;
        let all = prepared.head_pays();
        let found = all.into_iter().find(|p| p.after == *after)?;
        Some(Worth {
            part,
            in_plan,
            pays: found.pays,
            latency_ms: found.latency_ms,
            latency_without_ms: found.latency_without_ms,
            accuracy: found.accuracy,
            accuracy_without: found.accuracy_without,
        })
    }

    fn threshold(&self, after: &str) -> f64 {
        let policy = &self.session.policy;
        let own = policy.exits.iter().find(|(name, _)| name == after);
        own.map_or(policy.threshold, |(_, threshold)| *threshold)
    }
}

/// The plan with one more exit, whose part follows from the split.
fn with_exit(plan: &Plan, head: &Head, threshold: f64) -> Plan {
    let mut plan = plan.clone();
    let layer = head.point.layer;
    let part = match plan.split {
        Split::After(split) if layer <= split => Part::Edge,
        Split::EdgeOnly => Part::Edge,
        Split::After(_) | Split::CloudOnly => Part::Cloud,
    };
    plan.exits.push(PlannedExit {
        layer,
        after: head.point.after.clone(),
        part,
        threshold,
    });
    plan.exits.sort_by_key(|e| e.layer);
    plan
}

/// What a device takes for a layer: something each, by its multiply-accumulates, and by the bytes it
/// moves. Fitted to the layers of a profile.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rates([f64; 3]);

impl Rates {
    /// The rates, none below 0, that come nearest to the times of a network's layers, each by its
    /// share. None where there is too little to tell from.
    fn of(profile: &Profile, layers: &LayerTable) -> Option<Rates> {
        let rows = layers.layers.iter().zip(&profile.layers);
        let known = rows.filter(|(_, p)| p.ms.median > 0.0 && p.ms.median.is_finite());
        let rows: Vec<[f64; 3]> = known
            .map(|(row, p)| [1.0, row.macs as f64, p.bytes as f64].map(|v| v / p.ms.median))
            .collect();
        let loss = |r: &[f64; 3]| -> f64 {
            let misses = rows.iter().map(|row| {
                let at: f64 = row.iter().zip(r).map(|(a, b)| a * b).sum();
                (at - 1.0).powi(2)
            });
            misses.sum()
        };
        // The best without one or two of them, where the best with all would have one below 0.
        let subsets = (1..8_usize).filter_map(|set| {
            let used: Vec<usize> = (0..3).filter(|i| set >> i & 1 == 1).collect();
            let found = least_squares(&rows, &used)?;
            found.iter().all(|r| *r >= 0.0).then_some(found)
        });
        let best = subsets.min_by(|a, b| loss(a).total_cmp(&loss(b)));
        best.filter(|_| rows.len() >= 3).map(Rates)
    }

    /// Milliseconds of a fused head; none where it has no layers.
    fn predict(&self, head: &Graph) -> Option<f64> {
        let table = LayerTable::new(head).ok()?;
        let mut read = 4 * table.input.elements(1);
        let each = table.layers.iter().map(|row| {
            let bytes = row.param_bytes + row.activation_bytes + read;
            read = row.activation_bytes;
            let Rates([fixed, mac, byte]) = self;
            fixed + mac * row.macs as f64 + byte * bytes as f64
        });
        Some(each.sum())
    }
}

/// Σ over rows (row · r − 1)² at its least, r being 0 but for `used`: the normal equations.
fn least_squares(rows: &[[f64; 3]], used: &[usize]) -> Option<[f64; 3]> {
    let n = used.len();
    // Scaled to one size, so that elimination can tell what is 0.
    let scale: Vec<f64> = used
        .iter()
        .map(|&i| rows.iter().map(|r| r[i] * r[i]).sum::<f64>().sqrt())
        .collect();
    if scale.iter().any(|s| *s <= 0.0 || !s.is_finite()) {
        return None;
    }
    let mut m = vec![vec![0.0; n + 1]; n];
    for (i, row) in m.iter_mut().enumerate() {
        for (j, cell) in row.iter_mut().take(n).enumerate() {
            let products = rows.iter().map(|r| r[used[i]] * r[used[j]]);
            *cell = products.sum::<f64>() / (scale[i] * scale[j]);
        }
        row[n] = rows.iter().map(|r| r[used[i]]).sum::<f64>() / scale[i];
    }
    for k in 0..n {
        if m[k][k].abs() < 1e-9 {
            return None;
        }
        let pivot = m[k].clone();
        for (i, row) in m.iter_mut().enumerate() {
            if i != k {
                let factor = row[k] / pivot[k];
                let pairs = row.iter_mut().zip(&pivot);
                pairs.for_each(|(a, b)| *a -= factor * b);
            }
        }
    }
    let mut found = [0.0; 3];
    for (k, &i) in used.iter().enumerate() {
        found[i] = m[k][n] / m[k][k] / scale[k];
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{LayerProfile, Stats};
    use crate::exits::{head, points};
    use crate::model::zoo::ZooModel;

    fn fitted(rates: [f64; 3]) -> (Rates, Graph) {
        let network = ZooModel::ResNet { depth: 8, width: 4 };
        let fused = fuse(&network.build((3, 32, 32), 10, 1).unwrap());
        let layers = LayerTable::new(&fused).unwrap();
        let timed = layers.layers.iter().enumerate().map(|(i, row)| {
            let bytes = 1000 * (i + 1) + row.param_bytes;
            let ms = rates[0] + rates[1] * row.macs as f64 + rates[2] * bytes as f64;
            LayerProfile {
                name: row.name.clone(),
                ms: Stats::of(&[ms]),
                bytes,
            }
        });
        let mut profile = crate::session::Session::parse(
            include_str!("../../sessions/demo.ron"),
            std::path::Path::new("demo.ron"),
        )
        .unwrap()
        .results
        .unwrap()
        .edge
        .unwrap();
        profile.layers = timed.collect();
        let point = &points(&layers, &fused)[0];
        let head = head("[GlobalAvgPool, Linear(classes)]", point, Part::Edge, 1).unwrap();
        (Rates::of(&profile, &layers).unwrap(), fuse(&head.graph))
    }

    #[test]
    fn rates_of_layers_are_found_again() {
        let expected = [2e-3, 1e-7, 3e-8];
        let (Rates(found), head) = fitted(expected);
        for (a, b) in found.iter().zip(expected) {
            assert!((a / b - 1.0).abs() < 1e-6, "{found:?}");
        }
        let table = LayerTable::new(&head).unwrap();
        let ms = Rates(found).predict(&head).unwrap();
        // Input 4×32×32, pooled 4, logits 10, 50 parameters.
        let bytes = 4 * (4 * 32 * 32 + 4 + 4 + 10 + 50);
        let by_hand = 2.0 * 2e-3 + table.macs as f64 * 1e-7 + f64::from(bytes) * 3e-8;
        assert_eq!(table.layers.len(), 2);
        assert!((ms / by_hand - 1.0).abs() < 1e-6, "{ms} {by_hand}");
    }

    #[test]
    fn what_costs_nothing_is_never_below_nothing() {
        let (Rates(found), _) = fitted([0.0, 2e-7, 0.0]);
        assert!(found.iter().all(|r| *r >= 0.0), "{found:?}");
        assert!((found[1] / 2e-7 - 1.0).abs() < 1e-3, "{found:?}");
    }
}
