//! What the demo that ships is an answer to: a board on which the whole network has no room.

use edgelesspart::data::Set;
use edgelesspart::explore::{Choice, Limit, Limits, search, verdict};
use edgelesspart::plan::Split;
use edgelesspart::predict::replay;
use edgelesspart::run::Replayed;
use edgelesspart::session::Session;
use pretty_assertions::assert_eq;

#[test]
fn a_split_is_the_answer_and_the_explorer_finds_it() {
    let session = Session::demo().unwrap();
    let replayed = Replayed::of(&session).unwrap();
    let thresholds = session.sweep.thresholds();
    let (evidence, terms, goal) = (&replayed.evidence, &replayed.terms, &session.goal);
    let answer = verdict::explored(evidence, terms, goal, replayed.plan, &thresholds).unwrap();
    assert_eq!(answer.deploy, Some(Choice::Explored));
    let plan = answer.explored.clone().unwrap();
    assert!(matches!(plan.splits[..], [Split::After(_)]), "{plan:?}");
    // Not the network as it is: on the edge it has no room, in the cloud it takes longer.
    let original = answer.row(&Choice::Original).unwrap();
    let broken: Vec<Limit> = original.broken.iter().map(|b| b.limit).collect();
    assert_eq!(broken, [Limit::EdgeMemory]);
    let best = answer.row(&Choice::Explored).unwrap();
    let cloud = answer.row(&Choice::CloudOnly).unwrap();
    assert!(cloud.is_feasible() && best.is_feasible());
    assert!(
        best.value < cloud.value / 2.0,
        "{} {}",
        best.value,
        cloud.value
    );
    let said = answer.text(&session.tier_names());
    for words in ["split after", "MB is the most", "predicted on calibration"] {
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_mean_lies_above_its_p95_only_where_few_are_sent_on() {
    let session = Session::demo().unwrap();
    let replayed = Replayed::of(&session).unwrap();
    let thresholds: Vec<f64> = (6..20).map(|i| f64::from(i) / 20.0).collect();
    let (evidence, terms) = (&replayed.evidence, &replayed.terms);
    let found = search(evidence, terms, &thresholds, &Limits::default()).unwrap();
    assert!(found.len() > 1000, "{}", found.len());
    for candidate in &found {
        let outcome = &candidate.outcome;
        let latency = outcome.latency_ms.unwrap();
        let few = outcome.offloaded() > 0.0 && outcome.offloaded() <= 0.05;
        let plan = &candidate.plan;
        assert!(few || latency.mean <= latency.p95, "{latency:?} {plan:?}");
    }
}

/// The plan that ran is among those that are explored, with the prediction that it has elsewhere.
#[test]
fn a_plan_has_one_prediction() {
    let session = Session::demo().unwrap();
    let replayed = Replayed::of(&session).unwrap();
    let (evidence, terms) = (&replayed.evidence, &replayed.terms);
    let alone = replay(evidence, terms, Set::Calibration, replayed.plan).unwrap();
    let threshold = session.policy.threshold;
    let found = search(evidence, terms, &[threshold], &Limits::default()).unwrap();
    let same: Vec<_> = found
        .iter()
        .filter(|c| c.plan.runs_as(replayed.plan))
        .collect();
    assert_eq!(same.len(), 1);
    assert_eq!(same[0].outcome, alone);
}
