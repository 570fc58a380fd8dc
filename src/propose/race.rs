/*! Who is ahead on the images tried so far, and who is out. */

use super::usual::Usual;
use crate::predict::doubt::{Paired, best_order, chance, is_near_chance, right_in_best_order};
use std::collections::BTreeMap;

/// A preprocessing under trial.
#[derive(Debug, Clone)]
pub(super) struct Runner {
    pub usual: Usual,
    /// The network's answer to each image so far.
    pub answers: Vec<u16>,
    /// Surely behind, and tried no further.
    pub out: bool,
}

/// How an answer is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// The classes are the outputs, in order.
    AsIs,
    /// Which output a class is is found from the other half of the images.
    Found,
}

/// All of them, on the same images in the same order.
#[derive(Debug)]
pub(super) struct Race<'a> {
    pub runners: Vec<Runner>,
    pub labels: &'a [u16],
    /// Outputs of the network.
    pub outputs: usize,
    pub order: Order,
}

impl Runner {
    pub fn new(usual: Usual) -> Runner {
        Runner {
            usual,
            answers: Vec::new(),
            out: false,
        }
    }
}

impl Race<'_> {
    /// Which answers of a runner are right, by an order of the classes.
    pub fn right_by(&self, order: Order, runner: &Runner) -> Vec<bool> {
        let labels = &self.labels[..runner.answers.len()];
        match order {
            Order::AsIs => {
                let pairs = labels.iter().zip(&runner.answers);
                pairs.map(|(label, answer)| label == answer).collect()
            }
            Order::Found => right_in_best_order(labels, &runner.answers, self.outputs),
        }
    }

    /// Which answers of a runner are right.
    pub fn right(&self, runner: &Runner) -> Vec<bool> {
        self.right_by(self.order, runner)
    }

    /// The runner that is right most often, of those that were tried on the most images; of equal ones
    /// the first.
    pub fn best_by(&self, order: Order) -> Option<usize> {
        let most = self.runners.iter().map(|r| r.answers.len()).max()?;
        let whole = self.runners.iter().enumerate();
        whole
            .filter(|(_, r)| r.answers.len() == most)
            .map(|(at, r)| (count(&self.right_by(order, r)), at))
            .max_by_key(|&(right, at)| (right, std::cmp::Reverse(at)))
            .map(|(_, at)| at)
    }

    /// The runner whose answers an order fits best that is found from the same images; of equal ones the
    /// first.
    pub fn closest(&self) -> Option<usize> {
        let most = self.runners.iter().map(|r| r.answers.len()).max()?;
        let whole = self.runners.iter().enumerate();
        whole
            .filter(|(_, r)| r.answers.len() == most)
            .max_by_key(|(at, r)| {
                let labels = &self.labels[..most];
                let fitted = fitting(labels, &r.answers, self.outputs);
                (fitted, std::cmp::Reverse(*at))
            })
            .map(|(at, _)| at)
    }

    /// The best by the order in force.
    pub fn best(&self) -> Option<usize> {
        self.best_by(self.order)
    }

    /// The runner to take: the commonest of those within one standard error of the best, since an
    /// image more or less says nothing.
    pub fn choice(&self) -> Option<usize> {
        let best = self.best()?;
        let ahead = self.right(&self.runners[best]);
        let near = |runner: &Runner| {
            let whole = !runner.out && runner.answers.len() == ahead.len();
            whole && Paired::of(&ahead, &self.right(runner)).is_near()
        };
        let all = self.runners.iter().enumerate().filter(|(_, r)| near(r));
        let commonest = all.min_by_key(|(_, r)| r.usual.rank);
        commonest.map(|(at, _)| at).or(Some(best))
    }

    /// Takes out who is surely behind the best. Nobody while the best is no better than guessing: then
    /// the accuracies say nothing of preprocessing.
    pub fn drop_behind(&mut self) {
        let Some(best) = self.best() else { return };
        let ahead = self.right(&self.runners[best]);
        if is_near_chance(
            count(&ahead),
            ahead.len(),
            chance(&self.labels[..ahead.len()]),
        ) {
            return;
        }
        for at in 0..self.runners.len() {
            let runner = &self.runners[at];
            if at == best || runner.out {
                continue;
            }
            if Paired::of(&ahead, &self.right(runner)).is_sure() {
                self.runners[at].out = true;
            }
        }
    }

    /// Judges by a found order from now on, if that makes a runner right far more often than the best
    /// is as the labels stand, and the best as they stand is no better than guessing.
    pub fn doubt_order(&mut self) {
        if self.order == Order::Found {
            return;
        }
        let (Some(as_is), Some(found)) = (self.best(), self.best_by(Order::Found)) else {
            return;
        };
        let as_is = self.right(&self.runners[as_is]);
        let found = self.right_by(Order::Found, &self.runners[found]);
        let chance = chance(&self.labels[..as_is.len()]);
        let is_near = |right: &[bool]| is_near_chance(count(right), right.len(), chance);
        if is_near(&as_is) && !is_near(&found) && Paired::of(&found, &as_is).is_sure() {
            self.order = Order::Found;
        }
    }

    /// Whether two runners can't be told apart on the images both were tried on.
    pub fn is_tie(&self, one: usize, other: usize) -> bool {
        let (one, other) = (&self.runners[one], &self.runners[other]);
        !other.out && Paired::of(&self.right(one), &self.right(other)).is_tie()
    }
}

/// How many answers are right in the order that fits these very answers best.
pub(super) fn fitting(labels: &[u16], answers: &[u16], outputs: usize) -> usize {
    let order: BTreeMap<u16, u16> = best_order(labels, answers, outputs).into_iter().collect();
    let pairs = labels.iter().zip(answers);
    pairs
        .filter(|(label, answer)| order.get(label) == Some(answer))
        .count()
}

pub(super) fn count(right: &[bool]) -> usize {
    right.iter().filter(|r| **r).count()
}

#[cfg(test)]
mod tests {
    use super::super::usual::ranges;
    use super::*;
    use crate::data::Layout;
    use pretty_assertions::assert_eq;

    /// Runners that are right on the images below a number and answer 0 to the others, through a map
    /// of the classes.
    fn race<'a>(labels: &'a [u16], right: &[usize], map: fn(u16) -> u16) -> Race<'a> {
        let mut race = Race {
            runners: ranges(3, Layout::Nchw)
                .into_iter()
                .map(Runner::new)
                .collect(),
            labels,
            outputs: 10,
            order: Order::AsIs,
        };
        race.runners.truncate(right.len());
        for (runner, &right) in race.runners.iter_mut().zip(right) {
            let answer = |(i, &label)| if i < right { map(label) } else { 0 };
            runner.answers = labels.iter().enumerate().map(answer).collect();
        }
        race
    }

    fn labels() -> Vec<u16> {
        (0..200).map(|i| (i % 10) as u16).collect()
    }

    #[test]
    fn the_best_stays_with_those_near_it() {
        let labels = labels();
        let mut race = race(&labels, &[150, 160, 158, 40], |l| l);
        race.drop_behind();
        race.doubt_order();
        assert_eq!((race.best(), race.order), (Some(1), Order::AsIs));
        let out: Vec<bool> = race.runners.iter().map(|r| r.out).collect();
        assert_eq!(out, [false, false, false, true]);
        assert!(race.is_tie(1, 2) && !race.is_tie(1, 0) && !race.is_tie(1, 3));
        assert_eq!(race.choice(), Some(1));
    }

    #[test]
    fn of_equals_the_commonest_is_taken() {
        let labels = labels();
        let race = race(&labels, &[150, 159, 160, 160], |l| l);
        assert_eq!((race.best(), race.choice()), (Some(2), Some(1)));
    }

    #[test]
    fn nobody_is_out_while_all_guess_and_the_order_is_found() {
        let labels = labels();
        let mut race = race(&labels, &[40, 170], |l| (l + 1) % 10);
        race.drop_behind();
        assert!(race.runners.iter().all(|r| !r.out));
        // As the labels stand, who answers 0 most often is best.
        assert_eq!(race.best(), Some(0));
        race.doubt_order();
        assert_eq!((race.best(), race.order), (Some(1), Order::Found));
        race.drop_behind();
        assert!(race.runners[0].out);
    }

    #[test]
    fn a_network_that_only_guesses_gets_no_order() {
        let labels = labels();
        let mut race = race(&labels, &[0, 0], |l| l);
        race.doubt_order();
        assert_eq!(race.order, Order::AsIs);
    }
}
