/*! The one place where rules and evidence become a plan. The workbench, the commands and a run all
plan here, so that what runs is what was shown. */

use crate::data::Set;
use crate::plan::manual::with_exits_at;
use crate::plan::remark::Predicted;
use crate::plan::{Plan, PlanError, Remark, Rules, Split, SplitRule, Tier, plan_at, split};
use crate::predict::{Evidence, Outcome, ReplayError, Terms, replay};
use std::cmp::Ordering;

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlannerError {
    /// The rules or the network don't allow one.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A rule compares predictions, and no plan can be predicted.
    #[error("{rule} needs predictions of every split: {why}")]
    NoPrediction {
        /// Name of the rule.
        rule: &'static str,
        /// Why the first plan tried has none.
        why: ReplayError,
    },
    /// Rules that choose by different predictions.
    #[error("one split rule is Fastest and another Cheapest; choose one of the two for all")]
    TwoObjectives,
}

impl PlannerError {
    /// Whether measuring helps: a profile or a table is all that lacks.
    pub fn lacks_evidence(&self) -> bool {
        match self {
            PlannerError::Plan(error) => *error == PlanError::NoProfiles,
            PlannerError::NoPrediction { why, .. } => matches!(
                why,
                ReplayError::Missing(_) | ReplayError::NoLink | ReplayError::HeadNotTimed { .. }
            ),
            PlannerError::TwoObjectives => false,
        }
    }
}

/// Makes plans by a user's rules.
#[derive(Debug, Clone, Copy)]
pub struct Planner<'a> {
    /// Rules for splits and exits.
    pub rules: &'a Rules,
    /// What rules that compare predictions predict under.
    pub terms: &'a Terms,
}

impl Planner<'_> {
    /// The plan.
    ///
    /// # Errors
    /// Where a setting is out of range, a place illegal, or what a rule reads is not there.
    pub fn plan(&self, evidence: &Evidence) -> Result<Plan, PlannerError> {
        let mut plan = self.made(evidence)?;
        plan.remarks.extend(busy(evidence));
        Ok(plan)
    }

    fn made(&self, evidence: &Evidence) -> Result<Plan, PlannerError> {
        let (table, rules) = (&evidence.layers, self.rules);
        rules.exits.check(table)?;
        let tiers = evidence.tiers.count();
        if rules.splits.len() + 1 != tiers {
            return Err(PlannerError::Plan(PlanError::Hops {
                found: rules.splits.len(),
                tiers,
            }));
        }
        let mut choices: Vec<Vec<Split>> = Vec::new();
        let mut remarks = Vec::new();
        let mut by = None;
        for (tier, rule) in Tier::chain(tiers).zip(&rules.splits) {
            let predicted = match rule {
                SplitRule::Fastest => Predicted::Fastest,
                SplitRule::Cheapest => Predicted::Cheapest,
                rule => {
                    let outcome = fixed(evidence, tier, rule)?;
                    remarks.push(outcome.remark);
                    choices.push(vec![outcome.split]);
                    continue;
                }
            };
            if by.is_some_and(|by| by != predicted) {
                return Err(PlannerError::TwoObjectives);
            }
            by = Some(predicted);
            choices.push(Split::all(table).collect());
        }
        match by {
            None => {
                let splits = choices.into_iter().flatten().collect();
                let mut plan = self.at(evidence, ascending(splits))?;
                remarks.append(&mut plan.remarks);
                plan.remarks = remarks;
                Ok(plan)
            }
            Some(by) => self.best(evidence, &choices, by, remarks),
        }
    }

    /// The plan with its exits by the rules around given splits.
    ///
    /// # Errors
    /// Where an exit set by hand can't stand where it should.
    pub fn at(&self, evidence: &Evidence, splits: Vec<Split>) -> Result<Plan, PlanError> {
        let (table, points, exits) = (&evidence.layers, &evidence.points, &self.rules.exits);
        let plan = plan_at(table, points, splits, exits);
        let plan = match &self.rules.at {
            None => plan,
            Some(names) => with_exits_at(plan, table, points, names, exits)?,
        };
        if self.rules.sends.is_tensor() {
            return Ok(plan);
        }
        // Without an exit before the link it is the image of every sample that goes.
        let sends = plan.sending_images().map(|sends| Plan {
            remarks: plan.remarks.clone(),
            ..sends
        });
        Ok(sends.unwrap_or_else(|| plan.with_images()))
    }

    /// Every choice tried; of equally good ones the earliest split.
    fn best(
        &self,
        evidence: &Evidence,
        choices: &[Vec<Split>],
        by: Predicted,
        mut remarks: Vec<Remark>,
    ) -> Result<Plan, PlannerError> {
        let mut best: Option<(Outcome, Plan)> = None;
        let mut why_not = None;
        for splits in combinations(choices) {
            // Exits set by hand may not fit around every split.
            let Ok(plan) = self.at(evidence, splits) else {
                continue;
            };
            match replay(evidence, self.terms, Set::Calibration, &plan) {
                Ok(outcome) => {
                    let better = |(other, _): &(Outcome, Plan)| {
                        compare(by, &outcome, other) == Ordering::Less
                    };
                    if best.as_ref().is_none_or(better) {
                        best = Some((outcome, plan));
                    }
                }
                Err(error) => {
                    why_not.get_or_insert(error);
                }
            }
        }
        let Some((_, mut plan)) = best else {
            return Err(match why_not {
                Some(why) => PlannerError::NoPrediction {
                    rule: by.name(),
                    why,
                },
                None => match self.at(evidence, vec![Split::End; choices.len()]) {
                    Err(error) => error.into(),
                    Ok(_) => PlanError::NoSplit.into(),
                },
            });
        };
        remarks.insert(0, Remark::BestPredicted { by });
        remarks.append(&mut plan.remarks);
        plan.remarks = remarks;
        Ok(plan)
    }
}

/// The split of a rule that looks at the network or at profiles alone.
fn fixed(
    evidence: &Evidence,
    tier: Tier,
    rule: &SplitRule,
) -> Result<split::SplitOutcome, PlanError> {
    let table = &evidence.layers;
    match rule {
        SplitRule::Memory { share } => split::memory(table, tier, *share),
        SplitRule::Layers { share } => split::layers(table, tier, *share),
        SplitRule::After(name) => split::after(table, tier, name),
        SplitRule::Latency => {
            let next = Tier::at(tier.index() + 1).unwrap_or(tier);
            let profiles = evidence.profile(tier).and_then(|near| {
                let far = evidence.profile(next)?;
                Ok((near, far))
            });
            let (near, far) = profiles.map_err(|_| PlanError::NoProfiles)?;
            split::latency(table, tier, near, far, &evidence.tiers)
        }
        SplitRule::Fastest | SplitRule::Cheapest => Err(PlanError::NoSplit),
    }
}

/// A remark on each tier that was timed on a busy machine.
fn busy(evidence: &Evidence) -> impl Iterator<Item = Remark> {
    evidence.tiers.tiers().filter_map(|tier| {
        let load = evidence.profile(tier).ok()?.load?;
        load.is_busy().then(|| Remark::Busy {
            tier,
            signs: load.signs(),
        })
    })
}

/// Each split at least as deep as the one before it.
fn ascending(mut splits: Vec<Split>) -> Vec<Split> {
    for at in 1..splits.len() {
        splits[at] = splits[at].max(splits[at - 1]);
    }
    splits
}

/// Every way to take one split of each hop's choices that doesn't descend.
pub(super) fn combinations(choices: &[Vec<Split>]) -> Vec<Vec<Split>> {
    choices.iter().fold(vec![Vec::new()], |taken, choices| {
        let extended = taken.into_iter().flat_map(|splits: Vec<Split>| {
            let least = splits.last().copied().unwrap_or(Split::Start);
            let deeper = choices.iter().filter(move |s| **s >= least);
            deeper.map(move |split| {
                let mut splits = splits.clone();
                splits.push(*split);
                splits
            })
        });
        extended.collect()
    })
}

/// Which of two outcomes is better. Of equally rounded bills the smaller unrounded one is, and of
/// equally cheap plans the faster.
pub fn compare(by: Predicted, a: &Outcome, b: &Outcome) -> Ordering {
    let latency = |o: &Outcome| o.latency_ms.map_or(f64::INFINITY, |l| l.mean);
    let faster = latency(a).total_cmp(&latency(b));
    match by {
        Predicted::Fastest => faster,
        Predicted::Cheapest => {
            let rounded = |o: &Outcome| o.cost_per_million.map_or(0.0, |c| c.rounded);
            let unrounded = |o: &Outcome| o.cost_per_million.map_or(0.0, |c| c.unrounded);
            rounded(a)
                .total_cmp(&rounded(b))
                .then(unrounded(a).total_cmp(&unrounded(b)))
                .then(faster)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{ExitRule, Placement, Sends};
    use crate::predict::Missing;
    use crate::predict::replay::tests::{LAYERS, Setting, plan, setting};
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    fn rules(splits: Vec<SplitRule>) -> Rules {
        Rules {
            splits,
            exits: ExitRule {
                placement: Placement::Linear,
                per_part: 0,
                at_split: false,
                threshold: 0.7,
                thresholds: vec![],
            },
            at: None,
            sends: Sends::Tensor,
        }
    }

    fn planned(s: &Setting, rules: &Rules) -> Result<Plan, PlannerError> {
        let planner = Planner {
            rules,
            terms: &s.terms,
        };
        planner.plan(&s.evidence)
    }

    #[rstest]
    #[case(SplitRule::Fastest, Predicted::Fastest)]
    #[case(SplitRule::Cheapest, Predicted::Cheapest)]
    fn the_rule_takes_the_best_of_all_splits(#[case] rule: SplitRule, #[case] by: Predicted) {
        let s = setting(80, 3);
        let chosen = planned(&s, &rules(vec![rule])).unwrap();
        let own = s.replay(&chosen).unwrap();
        for split in Split::all(&s.evidence.layers) {
            let other = s.replay(&plan(split, &[], 0.7)).unwrap();
            assert_ne!(compare(by, &other, &own), Ordering::Less, "{split:?}");
        }
        assert_eq!(chosen.remarks, [Remark::BestPredicted { by }]);
    }

    #[test]
    fn of_equal_bills_the_smaller_unrounded_one_is_cheaper_and_then_the_faster_plan() {
        let s = setting(20, 1);
        let a = s.replay(&plan(Split::Start, &[], 0.7)).unwrap();
        let mut b = a.clone();
        assert_eq!(compare(Predicted::Cheapest, &a, &b), Ordering::Equal);
        b.latency_ms.as_mut().unwrap().mean += 1.0;
        assert_eq!(compare(Predicted::Cheapest, &a, &b), Ordering::Less);
        b.cost_per_million.as_mut().unwrap().unrounded -= 0.1;
        assert_eq!(compare(Predicted::Cheapest, &a, &b), Ordering::Greater);
        b.cost_per_million.as_mut().unwrap().rounded += 0.1;
        assert_eq!(compare(Predicted::Cheapest, &a, &b), Ordering::Less);
    }

    #[test]
    fn exits_set_by_hand_are_those_that_are_scored() {
        let s = setting(60, 4);
        let mut by_hand = rules(vec![SplitRule::Fastest]);
        by_hand.at = Some(vec!["l1".into(), "l4".into()]);
        let chosen = planned(&s, &by_hand).unwrap();
        let own = s.replay(&chosen).unwrap();
        for split in Split::all(&s.evidence.layers) {
            let other = s.replay(&plan(split, &[1, 4], 0.7)).unwrap();
            assert_ne!(compare(Predicted::Fastest, &other, &own), Ordering::Less);
        }
    }

    #[test]
    fn what_lacks_is_told_from_what_is_wrong() {
        let mut s = setting(20, 2);
        let unknown = rules(vec![SplitRule::After("nowhere".into())]);
        assert!(!planned(&s, &unknown).unwrap_err().lacks_evidence());
        let mut thresholds = rules(vec![SplitRule::Latency]);
        thresholds.exits.thresholds = vec![("nowhere".into(), 0.5)];
        assert!(!planned(&s, &thresholds).unwrap_err().lacks_evidence());
        let two = rules(vec![SplitRule::Latency, SplitRule::Latency]);
        let refused = PlanError::Hops { found: 2, tiers: 2 };
        assert_eq!(planned(&s, &two), Err(refused.into()));
        s.evidence.profiles[1] = None;
        let latency = planned(&s, &rules(vec![SplitRule::Latency])).unwrap_err();
        assert!(latency.lacks_evidence());
        s.evidence.calibration = None;
        let fastest = planned(&s, &rules(vec![SplitRule::Fastest])).unwrap_err();
        assert!(fastest.lacks_evidence());
        let missing = ReplayError::Missing(Missing::Table(Set::Calibration));
        let expected = PlannerError::NoPrediction {
            rule: "Fastest",
            why: missing,
        };
        assert_eq!(fastest, expected);
    }

    #[test]
    fn three_tiers_take_a_rule_a_hop_and_splits_never_descend() {
        let mut s = setting(20, 5);
        s.evidence.tiers = crate::plan::TierNames::usual(3);
        let share = |share| SplitRule::Layers { share };
        let at = |splits| planned(&s, &rules(splits)).unwrap().splits;
        let two = at(vec![share(0.3), share(0.6)]);
        assert_eq!(two, [Split::After(1), Split::After(3)]);
        let crossed = at(vec![share(0.6), share(0.3)]);
        assert_eq!(crossed, [Split::After(3), Split::After(3)]);
        let all = combinations(&vec![Split::all(&s.evidence.layers).collect(); 2]);
        // Pairs out of LAYERS + 1 places, repetition allowed.
        assert_eq!(all.len(), (LAYERS + 1) * (LAYERS + 2) / 2);
    }
}
