/*! One threshold per exit by branch and bound: every threshold of the first exit, under each every one of
the second, and so on, but for branches that a bound rules out. */

use super::descent::prices;
use super::{Problem, Sums, between};

/// What a search found.
pub(super) struct Searched {
    /// The best within the limits, if any are.
    pub thresholds: Option<Vec<f64>>,
    /// Whether nothing within the limits is better.
    pub exact: bool,
    /// The least that anything within the limits can take.
    pub bound: f64,
}

/// A branch: what left so far, and who is left, in any order.
struct Branch {
    thresholds: Vec<f64>,
    sums: Sums,
    alive: Vec<u32>,
    bound: f64,
}

struct Search<'a, 'b> {
    problem: &'a Problem<'b>,
    /// Prices on a wrong answer, and for each, stage and sample the least that a sample can be charged
    /// there or later.
    least: Vec<(f64, Vec<Vec<f64>>)>,
    /// Per stage and sample, whether all answers from there on are wrong.
    lost: Vec<Vec<bool>>,
    /// By number of samples that may be sent, the least that is added for any number up to that.
    least_more: Vec<f64>,
    best: Option<(f64, Vec<f64>)>,
    /// What takes as much is of no use.
    below: f64,
    go_on: &'a dyn Fn() -> bool,
    stopped: bool,
}

/// Begins with the best of some thresholds.
pub(super) fn search(
    problem: &Problem,
    starts: Vec<Vec<f64>>,
    go_on: &dyn Fn() -> bool,
) -> Searched {
    search_below(problem, starts, f64::INFINITY, go_on)
}

/// The same of thresholds alone that take less than `below`; the search is over once none can.
pub(super) fn search_below(
    problem: &Problem,
    starts: Vec<Vec<f64>>,
    below: f64,
    go_on: &dyn Fn() -> bool,
) -> Searched {
    let mut search = Search::new(problem, below, go_on);
    for start in starts {
        let sums = problem.sums(&start);
        if problem.holds(&sums) {
            search.offer(problem.value(&sums), start);
        }
    }
    let root = search.root();
    let bound = root.bound;
    search.go(root);
    let exact = !search.stopped;
    let bound = match &search.best {
        Some((price, _)) if exact => *price,
        _ => bound,
    };
    Searched {
        thresholds: search.best.map(|(_, thresholds)| thresholds),
        exact,
        bound,
    }
}

/// The least that any thresholds within the limits can take; infinite where none can keep to them.
pub(super) fn bound(problem: &Problem) -> f64 {
    Search::new(problem, f64::INFINITY, &|| false).root().bound
}

impl<'a, 'b> Search<'a, 'b> {
    fn new(problem: &'a Problem<'b>, below: f64, go_on: &'a dyn Fn() -> bool) -> Search<'a, 'b> {
        let samples = problem.ways.samples;
        let stages = problem.stages();
        // Every fourth of the prices of a descent: each costs a table.
        let least = [0.0].into_iter().chain(prices(problem).step_by(4));
        let least = least.map(|price| {
            let mut table = vec![vec![f64::INFINITY; samples]; stages + 1];
            for stage in (0..stages).rev() {
                let own = problem.price[stage].iter().zip(&problem.ways.wrong[stage]);
                let charged = own.map(|(own, wrong)| own + price * f64::from(u8::from(*wrong)));
                let later = charged.zip(&table[stage + 1]);
                table[stage] = later.map(|(here, later)| here.min(*later)).collect();
            }
            (price, table)
        });
        let mut lost = vec![vec![true; samples]; stages + 1];
        for stage in (0..stages).rev() {
            let later = problem.ways.wrong[stage].iter().zip(&lost[stage + 1]);
            lost[stage] = later.map(|(wrong, lost)| *wrong && *lost).collect();
        }
        let least_more = problem.more.iter().scan(f64::INFINITY, |least, more| {
            *least = least.min(*more);
            Some(*least)
        });
        Search {
            problem,
            least: least.collect(),
            lost,
            least_more: least_more.collect(),
            best: None,
            below,
            go_on,
            stopped: false,
        }
    }

    /// All samples before the first exit.
    fn root(&self) -> Branch {
        let alive: Vec<u32> = (0..self.problem.ways.samples as u32).collect();
        let sums = Sums {
            price: 0.0,
            wrong: 0,
            sent: 0,
            caps: vec![0.0; self.problem.caps.len()],
        };
        Branch {
            thresholds: Vec::new(),
            bound: self.bound(0, &sums, &alive),
            sums,
            alive,
        }
    }
}

impl Search<'_, '_> {
    fn offer(&mut self, price: f64, thresholds: Vec<f64>) {
        if self.best.as_ref().is_none_or(|(best, _)| price < *best) {
            self.best = Some((price, thresholds));
        }
    }

    /// Whether a branch can't be better than the best, by more than the rounding of sums.
    fn is_ruled_out(&self, bound: f64) -> bool {
        let best = self.best.as_ref().map_or(f64::INFINITY, |(best, _)| *best);
        let best = best.min(self.below);
        bound == f64::INFINITY || bound >= best - 1e-12 * best.abs()
    }

    /// The least that a branch can take, with `alive` before `stage`; infinite where the limits can't be
    /// kept.
    fn bound(&self, stage: usize, sums: &Sums, alive: &[u32]) -> f64 {
        let lost = alive.iter().filter(|i| self.lost[stage][**i as usize]);
        if sums.wrong + lost.count() > self.problem.wrong {
            return f64::INFINITY;
        }
        let room = (self.problem.wrong - sums.wrong) as f64;
        let at = |(price, table): &(f64, Vec<Vec<f64>>)| {
            let charged: f64 = alive.iter().map(|i| table[stage][*i as usize]).sum();
            sums.price + charged - price * room
        };
        let each = self.least.iter().map(at);
        each.fold(f64::NEG_INFINITY, f64::max) + self.more(stage, sums.sent + alive.len())
    }

    /// The least that is added where so many samples are sent already or may be, before `stage`. Behind the
    /// first link they all are; before it none is yet.
    fn more(&self, stage: usize, sent: usize) -> f64 {
        match stage >= self.problem.ways.sent_from {
            true => super::more(&self.problem.more, sent),
            false => super::more(&self.least_more, sent),
        }
    }

    fn go(&mut self, branch: Branch) {
        if self.is_ruled_out(branch.bound) {
            return;
        }
        if self.stopped || !(self.go_on)() {
            self.stopped = true;
            return;
        }
        let exit = branch.thresholds.len();
        let last = self.problem.stages() - 1;
        if exit == last {
            let sums = self.left(branch.sums, last, &branch.alive);
            if self.problem.holds(&sums) {
                self.offer(self.problem.value(&sums), branch.thresholds);
            }
            return;
        }
        let mut branches = self.branches(&branch, exit);
        branches.sort_by(|a, b| a.2.total_cmp(&b.2));
        let confidence = self.problem.ways.confidence[exit];
        let mut order = branch.alive;
        order.sort_by(|&a, &b| confidence[b as usize].total_cmp(&confidence[a as usize]));
        for (gone, threshold, bound) in branches {
            if self.stopped || self.is_ruled_out(bound) {
                // Those behind it are no better.
                return;
            }
            let sums = self.left(branch.sums.clone(), exit, &order[..gone]);
            let mut thresholds = branch.thresholds.clone();
            thresholds.push(threshold);
            self.go(Branch {
                thresholds,
                sums,
                alive: order[gone..].to_vec(),
                bound,
            });
        }
    }

    /// The sums after these samples left at a stage.
    fn left(&self, mut sums: Sums, stage: usize, samples: &[u32]) -> Sums {
        for &sample in samples {
            self.problem.add(&mut sums, stage, sample as usize);
        }
        sums
    }

    /// Every threshold of an exit that parts the branch's samples differently: how many leave, the
    /// threshold, and the bound of what follows. One pass over the samples.
    fn branches(&self, branch: &Branch, exit: usize) -> Vec<(usize, f64, f64)> {
        let confidence = self.problem.ways.confidence[exit];
        let mut order = branch.alive.clone();
        order.sort_by(|&a, &b| confidence[b as usize].total_cmp(&confidence[a as usize]));
        let next = exit + 1;
        let mut charged: Vec<f64> = self
            .least
            .iter()
            .map(|(_, table)| order.iter().map(|i| table[next][*i as usize]).sum())
            .collect();
        let mut lost = order
            .iter()
            .filter(|i| self.lost[next][**i as usize])
            .count();
        let mut sums = branch.sums.clone();
        let bound = |sums: &Sums, charged: &[f64], lost: usize, alive: usize| {
            if sums.wrong + lost > self.problem.wrong {
                return f64::INFINITY;
            }
            let room = (self.problem.wrong - sums.wrong) as f64;
            let prices = self.least.iter().zip(charged);
            let each = prices.map(|((price, _), charged)| sums.price + charged - price * room);
            each.fold(f64::NEG_INFINITY, f64::max) + self.more(next, sums.sent + alive)
        };
        let mut found = vec![(0, 1.0, bound(&sums, &charged, lost, order.len()))];
        for (i, &sample) in order.iter().enumerate() {
            let own = confidence[sample as usize];
            // Nothing leaves at a confidence of 0.
            if own <= 0.0 {
                break;
            }
            sums = self.left(sums, exit, &[sample]);
            for (charged, (_, table)) in charged.iter_mut().zip(&self.least) {
                *charged -= table[next][sample as usize];
            }
            lost -= usize::from(self.lost[next][sample as usize]);
            let behind = order.get(i + 1).map_or(0.0, |s| confidence[*s as usize]);
            if behind < own {
                let bound = bound(&sums, &charged, lost, order.len() - i - 1);
                if bound < f64::INFINITY {
                    found.push((i + 1, between(behind.max(0.0), own), bound));
                }
            }
        }
        found
    }
}
