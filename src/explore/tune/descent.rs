/*! One threshold per exit by a descent, exit by exit: at a price on wrong answers, each exit in turn gets
the threshold that is best for those of the others, until none changes. Many prices give a budget curve. A
heuristic: where no single exit can do better, several together might. */

use super::{Problem, Sums, between};

/// Prices on a wrong answer that are tried, as many times what the objective ranges over.
const PRICES: usize = 40;
/// Rounds over the exits, at most.
const ROUNDS: usize = 20;

/// Thresholds that are good at some price, with what they sum to.
pub(super) fn search(
    problem: &Problem,
    starts: &[Vec<f64>],
    go_on: &dyn Fn() -> bool,
) -> Vec<(Vec<f64>, Sums)> {
    let exits = problem.stages() - 1;
    let orders: Vec<Vec<u32>> = problem
        .ways
        .confidence
        .iter()
        .map(|c| descending(c))
        .collect();
    let mut found: Vec<(Vec<f64>, Sums)> = Vec::new();
    let mut keep = |thresholds: Vec<f64>| {
        let sums = problem.sums(&thresholds);
        found.push((thresholds, sums));
    };
    for start in starts {
        keep(start.clone());
    }
    let mut thresholds = vec![1.0; exits];
    for price in prices(problem) {
        if !go_on() {
            break;
        }
        descend(problem, &orders, price, &mut thresholds);
        keep(thresholds.clone());
    }
    // From the best within the limits, each exit moves as far as they let it.
    let best = found.iter().filter(|(_, sums)| problem.holds(sums));
    let best = best.min_by(|a, b| problem.value(&a.1).total_cmp(&problem.value(&b.1)));
    if let Some((best, _)) = best.cloned() {
        let mut within = best;
        for _ in 0..ROUNDS {
            let before = within.clone();
            for exit in 0..exits {
                if go_on() {
                    within[exit] = farthest(problem, &orders[exit], exit, &within);
                }
            }
            if within == before {
                break;
            }
        }
        let sums = problem.sums(&within);
        found.push((within, sums));
    }
    found
}

/// Numbers of samples, the surest first.
fn descending(confidence: &[f32]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..confidence.len() as u32).collect();
    order.sort_by(|&a, &b| confidence[b as usize].total_cmp(&confidence[a as usize]));
    order
}

/// From a price at which nothing may be wrong to one at which all may, as steps of a ratio.
pub(super) fn prices(problem: &Problem) -> impl Iterator<Item = f64> {
    let (first, last) = (&problem.price[0], &problem.price[problem.stages() - 1]);
    let range: f64 = last.iter().sum::<f64>() - first.iter().sum::<f64>();
    // What one sample saves in the mean where it leaves first and not last.
    let one = range.abs().max(f64::MIN_POSITIVE) / problem.ways.samples.max(1) as f64;
    (0..PRICES).rev().map(move |i| {
        let ratio = i as f64 / (PRICES - 1) as f64;
        one * 10_f64.powf(4.0 * ratio - 1.0)
    })
}

/// Visits, for each threshold of an exit that parts its samples differently, which sample begins to leave
/// there; only those that reach the exit.
fn walk(
    problem: &Problem,
    order: &[u32],
    exit: usize,
    thresholds: &[f64],
    mut leave: impl FnMut(usize, usize),
    mut step: impl FnMut(f64),
) {
    let confidence = problem.ways.confidence[exit];
    let mut later = thresholds.to_vec();
    later[exit] = 1.0;
    // Those that reach the exit.
    let reach = order.iter().filter_map(|&sample| {
        let sample = sample as usize;
        let at = problem.at(sample, &later);
        (at > exit && confidence[sample] > 0.0).then_some((sample, at))
    });
    let reach: Vec<(usize, usize)> = reach.collect();
    for (i, &(sample, at)) in reach.iter().enumerate() {
        leave(sample, at);
        let next = reach.get(i + 1).map_or(0.0, |(s, _)| confidence[*s]);
        if next < confidence[sample] {
            step(between(next, confidence[sample]));
        }
    }
}

fn descend(problem: &Problem, orders: &[Vec<u32>], price: f64, thresholds: &mut [f64]) {
    for _ in 0..ROUNDS {
        let mut changed = false;
        for exit in (0..thresholds.len()).rev() {
            let now = std::cell::Cell::new(0.0);
            let (mut best, mut at) = (0.0, 1.0);
            let charge = |stage: usize, sample: usize| {
                let wrong = f64::from(u8::from(problem.ways.wrong[stage][sample]));
                problem.price[stage][sample] + price * wrong
            };
            walk(
                problem,
                &orders[exit],
                exit,
                thresholds,
                |sample, from| now.set(now.get() + charge(exit, sample) - charge(from, sample)),
                |threshold| {
                    if now.get() < best - 1e-12 {
                        (best, at) = (now.get(), threshold);
                    }
                },
            );
            changed |= thresholds[exit] != at;
            thresholds[exit] = at;
        }
        if !changed {
            return;
        }
    }
}

/// The threshold of one exit, those of the others given, that takes least within the limits.
fn farthest(problem: &Problem, order: &[u32], exit: usize, thresholds: &[f64]) -> f64 {
    let mut all_stay = thresholds.to_vec();
    all_stay[exit] = 1.0;
    let sums = std::cell::RefCell::new(problem.sums(&all_stay));
    let mut best = f64::INFINITY;
    let mut at = thresholds[exit];
    if problem.holds(&sums.borrow()) {
        (best, at) = (problem.value(&sums.borrow()), 1.0);
    }
    walk(
        problem,
        order,
        exit,
        thresholds,
        |sample, from| {
            let mut sums = sums.borrow_mut();
            problem.add(&mut sums, exit, sample);
            problem.take(&mut sums, from, sample);
        },
        |threshold| {
            let sums = sums.borrow();
            let value = problem.value(&sums);
            if value < best - 1e-12 && problem.holds(&sums) {
                (best, at) = (value, threshold);
            }
        },
    );
    at
}
