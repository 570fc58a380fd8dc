/*!
What if link, devices or prices were others: the best plan by the goal under each, to see where it changes.

A setting stretches what was measured. Of the link's warm round trips, the one of the smallest payload
stands for the round trip, the rest of each for its payload's way, which more bandwidth shortens. A device
that is so many times as fast takes as much less for everything, at as many times the clock, so that a bill
by a provider's own clock stays.
*/

use super::search::search_told;
use super::verdict::best;
use super::{Candidate, Goal};
use crate::data::Set;
use crate::device::{LinkProfile, Profile, Stats};
use crate::plan::{Plan, Sends, Split};
use crate::predict::{Billing, Evidence, Outcome, ReplayError, Terms};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Factors of a strip or of a side of the map; 1 is what was measured.
pub const FACTORS: [f64; 7] = [0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0];

/// What may be another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Bandwidth of every link.
    Bandwidth,
    /// Round trip of every link, of the smallest payload.
    RoundTrip,
    /// Speed of the first tier.
    EdgeSpeed,
    /// Speed of every tier behind the first.
    CloudSpeed,
}

impl Axis {
    /// Every axis, in the order of the report.
    pub const ALL: [Axis; 4] = [
        Axis::Bandwidth,
        Axis::RoundTrip,
        Axis::EdgeSpeed,
        Axis::CloudSpeed,
    ];
}

/// By how much each axis is another: factors, 1 for what was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Setting([f64; 4]);

impl Setting {
    fn with(self, axis: Axis, factor: f64) -> Setting {
        let mut factors = self.0;
        factors[axis as usize] = factor;
        Setting(factors)
    }

    /// The evidence as it would be.
    fn of(self, evidence: &Evidence) -> Evidence {
        let [bandwidth, round_trip, edge, cloud] = self.0;
        let mut other = evidence.clone();
        for link in other.links.iter_mut().flatten() {
            *link = Arc::new(stretched(link, bandwidth, round_trip));
        }
        for (tier, profile) in other.profiles.iter_mut().enumerate() {
            let speed = if tier == 0 { edge } else { cloud };
            if let Some(profile) = profile {
                *profile = Arc::new(faster(profile, speed));
            }
        }
        other
    }
}

fn stretched(link: &LinkProfile, bandwidth: f64, round_trip: f64) -> LinkProfile {
    let points = |points: &[(usize, f64)]| {
        let least = points.first().map_or(0.0, |point| point.1);
        let other =
            |&(bytes, ms): &(usize, f64)| (bytes, round_trip * least + (ms - least) / bandwidth);
        points.iter().map(other).collect()
    };
    LinkProfile {
        idle: points(&link.idle),
        warm: points(&link.warm),
        jitter_ms: link.jitter_ms.iter().map(|ms| round_trip * ms).collect(),
        emulated: link.emulated,
    }
}

fn faster(profile: &Profile, speed: f64) -> Profile {
    let mut other = profile.clone();
    let quicken = |ms: &mut Stats| {
        for ms in [&mut ms.min, &mut ms.median, &mut ms.mean, &mut ms.p95] {
            *ms /= speed;
        }
    };
    quicken(&mut other.total_ms);
    other.layers.iter_mut().for_each(|l| quicken(&mut l.ms));
    other.prefixes.iter_mut().for_each(|p| quicken(&mut p.ms));
    other.heads.iter_mut().for_each(|h| quicken(&mut h.ms));
    other.samples_ms.iter_mut().for_each(|ms| *ms /= speed);
    for cut in &mut other.boundaries {
        cut.enter_ms /= speed;
        cut.leave_ms /= speed;
    }
    for codec in &mut other.codec {
        codec.encode_ms /= speed;
        codec.decode_ms /= speed;
    }
    other.ghz = other.ghz.map(|ghz| ghz * speed);
    other
}

/// The best plan under one setting.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Which of [`WhatIf::plans`] it is.
    pub plan: usize,
    /// What it gives there, at the best of the thresholds.
    pub outcome: Outcome,
}

/// The best plans along one axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Strip {
    /// Which quantity is scaled along the strip.
    pub axis: Axis,
    /// One per factor of [`FACTORS`]; `None` where no plan holds the limits.
    pub answers: Vec<Option<Answer>>,
}

/// Where the best plan changes.
#[derive(Debug, Clone, PartialEq)]
pub struct WhatIf {
    /// Plans that are best somewhere, each once whatever its thresholds; the first is the one that is best
    /// as things are, if one is.
    pub plans: Vec<Plan>,
    /// A strip of regions per axis.
    pub strips: Vec<Strip>,
    /// Bandwidth across, round trip down, each by [`FACTORS`]; empty where it wasn't asked for.
    pub map: Vec<Vec<Option<Answer>>>,
    /// The best plan at each price list.
    pub prices: Vec<(Billing, Option<Answer>)>,
}

/// The best plans by a goal over the settings, all predicted on the calibration set. After some of them
/// `progress` hears how many are done, of how many.
///
/// # Errors
/// As [`search`](super::search); [`ReplayError::Stopped`] once `stopped` says so.
pub fn what_if(
    evidence: &Evidence,
    terms: &Terms,
    goal: &Goal,
    thresholds: &[f64],
    with_map: bool,
    stopped: &(dyn Fn() -> bool + Sync),
    progress: &mut dyn FnMut(usize, usize),
) -> Result<WhatIf, ReplayError> {
    let as_is = Setting([1.0; 4]);
    let mut asked: Vec<(Setting, Billing)> = vec![(as_is, terms.billing)];
    for axis in Axis::ALL {
        asked.extend(FACTORS.map(|factor| (as_is.with(axis, factor), terms.billing)));
    }
    let lists = price_lists(terms.billing);
    asked.extend(lists.iter().map(|&billing| (as_is, billing)));
    if with_map {
        for round_trip in FACTORS {
            let row = as_is.with(Axis::RoundTrip, round_trip);
            let cell = |bandwidth| (row.with(Axis::Bandwidth, bandwidth), terms.billing);
            asked.extend(FACTORS.map(cell));
        }
    }
    let unmodified = unmodified_accuracy(evidence)?;
    let limits = goal.limits(unmodified);
    let answer = |&(setting, billing): &(Setting, Billing)| {
        let terms = Terms {
            billing,
            ..terms.clone()
        };
        let mut go_on = |_, _| !stopped();
        let setting = setting.of(evidence);
        let found = search_told(&setting, &terms, thresholds, &limits, &mut go_on);
        Ok(best(goal, &limits, &found?).cloned())
    };
    // The middle of every strip and the session's own prices are one setting, searched once.
    let mut once: Vec<(Setting, Billing)> = Vec::new();
    let place = |one: &(Setting, Billing)| {
        let known = once.iter().position(|other| other == one);
        known.unwrap_or_else(|| {
            once.push(*one);
            once.len() - 1
        })
    };
    let places: Vec<usize> = asked.iter().map(place).collect();
    let mut found: Vec<Option<Candidate>> = Vec::with_capacity(once.len());
    for some in once.chunks(rayon::current_num_threads()) {
        let answers: Result<Vec<_>, ReplayError> = some.par_iter().map(answer).collect();
        found.extend(answers?);
        progress(found.len(), once.len());
    }
    let found = places.into_iter().map(|at| found[at].clone());
    Ok(sorted(found.collect(), lists))
}

fn sorted(found: Vec<Option<Candidate>>, lists: Vec<Billing>) -> WhatIf {
    let mut plans: Vec<Plan> = Vec::new();
    let mut answers = found.into_iter().map(|found| {
        let found = found?;
        let same = |plan: &Plan| places(plan) == places(&found.plan);
        let plan = plans.iter().position(same).unwrap_or_else(|| {
            plans.push(found.plan.clone());
            plans.len() - 1
        });
        Some(Answer {
            plan,
            outcome: found.outcome,
        })
    });
    // As things are: only so that its plan is the first.
    answers.next();
    let strip = |axis| Strip {
        axis,
        answers: answers.by_ref().take(FACTORS.len()).collect(),
    };
    let strips: Vec<Strip> = Axis::ALL.map(strip).into();
    let prices = lists.into_iter().zip(answers.by_ref()).collect();
    let cells: Vec<Option<Answer>> = answers.collect();
    WhatIf {
        map: cells.chunks(FACTORS.len()).map(<[_]>::to_vec).collect(),
        plans,
        strips,
        prices,
    }
}

/// What tells a plan from another, whatever its thresholds.
fn places(plan: &Plan) -> (&[Split], Vec<usize>, Sends) {
    let exits = plan.exits.iter().map(|exit| exit.layer);
    (&plan.splits, exits.collect(), plan.sends)
}

/// The price lists there are, the session's own first.
fn price_lists(own: Billing) -> Vec<Billing> {
    let known = [
        Billing::GoogleCloudFunctions { tier: 1 },
        Billing::GoogleCloudFunctions { tier: 2 },
        Billing::CloudRun,
        Billing::AwsLambda { arm: false },
        Billing::AwsLambda { arm: true },
    ];
    let others = known.into_iter().filter(|list| *list != own);
    [own].into_iter().chain(others).collect()
}

/// The network's own accuracy on the calibration set.
fn unmodified_accuracy(evidence: &Evidence) -> Result<f64, ReplayError> {
    let table = &evidence.answers(Set::Calibration)?.table;
    Ok(table.final_column()?.accuracy(&table.labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Boundary, CodecTime, Form};
    use crate::explore::search;
    use crate::explore::{Objective, Statistic, Within};
    use crate::plan::Tier;
    use crate::predict::replay::tests::{Setting as Measured, setting};

    fn all_of(
        s: &Measured,
        goal: &Goal,
        thresholds: &[f64],
        with_map: bool,
    ) -> Result<WhatIf, ReplayError> {
        let mut last = (0, 0);
        let mut progress = |done, of| last = (done, of);
        let go_on = || false;
        let (evidence, terms) = (&s.evidence, &s.terms);
        let found = what_if(
            evidence,
            terms,
            goal,
            thresholds,
            with_map,
            &go_on,
            &mut progress,
        );
        assert!(last.0 > 0 && last.0 == last.1, "{last:?}");
        found
    }

    #[test]
    fn it_stops_when_asked() {
        let s = setting(60, 3);
        let goal = Goal::default();
        let (evidence, terms) = (&s.evidence, &s.terms);
        let found = what_if(
            evidence,
            terms,
            &goal,
            &[0.5],
            true,
            &|| true,
            &mut |_, _| (),
        );
        assert!(matches!(found, Err(ReplayError::Stopped)), "{found:?}");
    }

    #[test]
    fn the_middle_of_every_strip_is_what_explore_finds() {
        let s = setting(60, 3);
        let goal = Goal::default();
        let thresholds = [0.5, 0.7];
        let found = all_of(&s, &goal, &thresholds, true).unwrap();
        let limits = goal.limits(unmodified_accuracy(&s.evidence).unwrap());
        let all = search(&s.evidence, &s.terms, &thresholds, &limits).unwrap();
        let expected = best(&goal, &limits, &all).unwrap();
        assert_eq!(places(&found.plans[0]), places(&expected.plan));
        for strip in &found.strips {
            let middle = strip.answers[3].as_ref().unwrap();
            assert_eq!((middle.plan, &middle.outcome), (0, &expected.outcome));
        }
        assert_eq!(found.map[3][3].as_ref().unwrap().outcome, expected.outcome);
        assert_eq!(found.prices[0].0, s.terms.billing);
        assert_eq!(found.prices.len(), 5);
    }

    #[test]
    fn a_better_link_or_device_is_never_slower() {
        let s = setting(60, 3);
        let goal = Goal {
            minimise: Objective::Latency(Statistic::Mean),
            within: Within {
                accuracy_loss_points: Some(5.0),
                ..Within::default()
            },
        };
        let found = all_of(&s, &goal, &[0.5, 0.9], false).unwrap();
        assert!(found.map.is_empty());
        for strip in &found.strips {
            let ms = strip.answers.iter().map(|answer| {
                let answer = answer.as_ref().unwrap();
                answer.outcome.latency_ms.unwrap().mean
            });
            let mut ms: Vec<f64> = ms.collect();
            if strip.axis == Axis::RoundTrip {
                ms.reverse();
            }
            assert!(
                ms.is_sorted_by(|a, b| *a >= *b - 1e-9),
                "{:?} {ms:?}",
                strip.axis
            );
        }
        // With an edge eight times as fast nothing is worth sending.
        let edge = &found.strips[Axis::EdgeSpeed as usize].answers;
        let [slow, fast] = [&edge[0], &edge[6]].map(|a| a.as_ref().unwrap());
        assert!(slow.outcome.latency_ms.unwrap().mean > fast.outcome.latency_ms.unwrap().mean);
    }

    #[test]
    fn a_setting_stretches_what_was_measured() {
        let link = LinkProfile {
            idle: vec![],
            warm: vec![(1000, 10.0), (2000, 12.0)],
            jitter_ms: vec![1.0],
            emulated: false,
        };
        let other = stretched(&link, 4.0, 0.5);
        assert_eq!(other.warm, [(1000, 5.0), (2000, 5.5)]);
        assert_eq!(other.jitter_ms, [0.5]);
    }

    #[test]
    fn a_device_twice_as_fast_takes_half_for_everything() {
        let s = setting(60, 3);
        let mut profile = s.evidence.profile(Tier::First).unwrap().clone();
        profile.boundaries = vec![Boundary {
            rows: 2,
            leave_ms: 0.2,
            enter_ms: 0.4,
        }];
        profile.codec = vec![CodecTime {
            form: Form::F32,
            elements: 100,
            encode_ms: 0.6,
            decode_ms: 0.8,
        }];
        let other = faster(&profile, 2.0);
        for rows in [0..2, 2..4, 0..4] {
            let ms = |of: &Profile| of.segment_ms(&s.evidence.layers, rows.clone()).unwrap();
            assert!((2.0 * ms(&other) - ms(&profile)).abs() < 1e-12, "{rows:?}");
        }
        assert_eq!(other.codec_ms(Form::F32, 100), Some((0.3, 0.4)));
        assert_eq!(other.heads[0].ms.median, profile.heads[0].ms.median / 2.0);
    }

    #[test]
    fn the_image_is_another_plan_than_the_pixels() {
        let pixels = Plan::unmodified(Tier::Second, 2);
        let image = pixels.clone().with_images();
        assert_ne!(places(&pixels), places(&image));
    }
}
