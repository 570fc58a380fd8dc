/*!
Signs that a network doesn't see what it was trained on: an accuracy near chance, another order of the
classes that fits far better, exits that beat the network's own classifier. Each has a likely cause, and
nothing else in a report would tell.
*/

use super::ConfidenceTable;
use super::interval::{Z95, wilson};
use pathfinding::kuhn_munkres::kuhn_munkres;
use pathfinding::matrix::Matrix;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Standard errors beyond which a difference is no accident, however often one looks.
const Z_SURE: f64 = 3.0;
/// Share above chance (of what is left to 1) that a network is to reach at least.
const ABOVE_CHANCE: f64 = 0.05;
/// Accuracy, 0 to 1, by which another order of classes, or an exit, has to be better.
const FAR: f64 = 0.1;
/// Pairs of class and output that a sentence names.
const NAMED: usize = 3;

/// A sign that something is wrong with network, preprocessing or labels. Accuracies are 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// The unmodified network is hardly better than guessing.
    NearChance {
        /// Accuracy of the unmodified network, 0 to 1.
        accuracy: f64,
        /// That of always naming the commonest class, or of guessing.
        chance: f64,
        /// Images it was tried on.
        images: usize,
    },
    /// The same answers fit far better if each class is another output.
    OtherOrder {
        /// Accuracy as the labels stand.
        accuracy: f64,
        /// Accuracy in the other order, on images that had no part in finding it.
        other: f64,
        /// Images it was tried on.
        images: usize,
        /// Classes, by name, and the outputs that fit them, where those aren't their own.
        pairs: Vec<(String, usize)>,
    },
    /// An exit is right far more often than the network's own classifier behind it.
    ExitBeatsNetwork {
        /// Layer the exit stands behind.
        after: String,
        /// Accuracy of the exit on the same samples, 0 to 1.
        exit: f64,
        /// Accuracy of the network's own classifier, 0 to 1.
        network: f64,
        /// Images both were tried on.
        images: usize,
    },
    /// The session says nothing of preprocessing, and the network comes from a file.
    NoPreprocessing,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: &f64| format!("{:.1} %", 100.0 * share);
        match self {
            Doubt::NearChance {
                accuracy,
                chance,
                images,
            } => write!(
                f,
                "the unmodified network is right on {} of {images} images, and guessing on {}: it likely \
                 gets other pixels than in training (preprocessing), its classes are in another order, or \
                 it is another network; `edgelesspart new` tries the usual preprocessings and orders",
                percent(accuracy),
                percent(chance)
            ),
            Doubt::OtherOrder {
                accuracy,
                other,
                images,
                pairs,
            } => {
                let named: Vec<String> = pairs
                    .iter()
                    .take(NAMED)
                    .map(|(class, output)| format!("`{class}` is output {output}"))
                    .collect();
                let more = match pairs.len().saturating_sub(NAMED) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                write!(
                    f,
                    "the classes are likely in another order than the network's outputs, or the preprocessing \
                     is wrong: on {images} images {} are right as the labels stand, and {} if {}{more}; \
                     `edgelesspart new` tries both and writes `classes` and `preprocessing`",
                    percent(accuracy),
                    percent(other),
                    named.join(", ")
                )
            }
            Doubt::ExitBeatsNetwork {
                after,
                exit,
                network,
                images,
            } => write!(
                f,
                "the exit after `{after}` is right on {} of {images} images, the network's own classifier \
                 on {}: exits learn from your labels and pixels as they are, so the network likely gets \
                 other pixels than in training (preprocessing), or its classes are in another order; \
                 `edgelesspart new` tries the usual ones",
                percent(exit),
                percent(network)
            ),
            Doubt::NoPreprocessing => write!(
                f,
                "the session sets no `preprocessing`, so the network gets pixels from 0 to 1; if it was \
                 trained on others, every figure is too low: `edgelesspart new` finds out"
            ),
        }
    }
}

impl Doubt {
    /// The same in a few words, for where there is little room.
    pub fn short(&self) -> String {
        let percent = |share: f64| format!("{:.0} %", 100.0 * share);
        match self {
            Doubt::NearChance { accuracy, .. } => format!(
                "the network is right on {}, near chance: wrong preprocessing, class order or network?",
                percent(*accuracy)
            ),
            Doubt::OtherOrder {
                accuracy, other, ..
            } => format!(
                "wrong class order? {} right as the labels stand, {} in another",
                percent(*accuracy),
                percent(*other)
            ),
            Doubt::ExitBeatsNetwork { exit, network, .. } => format!(
                "an exit is right on {}, the network on {}: wrong preprocessing or class order?",
                percent(*exit),
                percent(*network)
            ),
            Doubt::NoPreprocessing => {
                "no preprocessing is set: the network gets pixels from 0 to 1".to_string()
            }
        }
    }
}

/// How two answers to the same images compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paired {
    /// Images that only the first gets right.
    pub only_first: usize,
    /// Images that only the second gets right.
    pub only_second: usize,
}

impl Paired {
    /// Of the images that both were tried on, in the same order.
    pub fn of(first: &[bool], second: &[bool]) -> Paired {
        let only = |a: &[bool], b: &[bool]| a.iter().zip(b).filter(|(a, b)| **a && !**b).count();
        Paired {
            only_first: only(first, second),
            only_second: only(second, first),
        }
    }

    /// How far the first is ahead, in standard errors (McNemar's).
    fn ahead(self) -> f64 {
        let (a, b) = (self.only_first as f64, self.only_second as f64);
        (a - b) / (a + b).max(1.0).sqrt()
    }

    /// Whether they can't be told apart at 95 %.
    pub fn is_tie(self) -> bool {
        self.ahead().abs() <= Z95
    }

    /// Whether their difference is within one standard error.
    pub fn is_near(self) -> bool {
        self.ahead().abs() <= 1.0
    }

    /// Whether the first is ahead beyond any accident.
    pub fn is_sure(self) -> bool {
        self.ahead() > Z_SURE
    }
}

/// The accuracy of who knows how often each class occurs and never looks: 0 to 1.
pub fn chance(labels: &[u16]) -> f64 {
    let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
    for &label in labels {
        *counts.entry(label).or_default() += 1;
    }
    let most = counts.values().max().copied().unwrap_or(0);
    most as f64 / labels.len().max(1) as f64
}

/// Whether an accuracy isn't sure to be better than guessing.
pub fn is_near_chance(right: usize, of: usize, chance: f64) -> bool {
    wilson(right, of).map_or(0.0, |share| share.low) < chance + ABOVE_CHANCE * (1.0 - chance)
}

/// Which output stands for each class that occurs, so that most answers are right; in the order of the
/// classes. `outputs` is how many the network has, at least as many as classes occur.
pub fn best_order(labels: &[u16], answers: &[u16], outputs: usize) -> Vec<(u16, u16)> {
    let mut counts: BTreeMap<(u16, u16), i64> = BTreeMap::new();
    for (&label, &answer) in labels.iter().zip(answers) {
        *counts.entry((label, answer)).or_default() += 1;
    }
    let classes: Vec<u16> = labels
        .iter()
        .copied()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let is_output = |&output: &u16| usize::from(output) < outputs;
    let mut columns: BTreeSet<u16> = answers.iter().copied().filter(is_output).collect();
    columns.extend(classes.iter().copied().filter(is_output));
    // There are at least as many outputs as classes, by what the caller promises.
    for output in (0..=u16::MAX).take(outputs) {
        if columns.len() >= classes.len() {
            break;
        }
        columns.insert(output);
    }
    let columns: Vec<u16> = columns.into_iter().collect();
    if classes.is_empty() || columns.len() < classes.len() {
        return Vec::new();
    }
    let weights = Matrix::from_fn(classes.len(), columns.len(), |(row, column)| {
        let pair = (classes[row], columns[column]);
        // Of equals the one that leaves a class its own output.
        2 * counts.get(&pair).copied().unwrap_or(0) + i64::from(pair.0 == pair.1)
    });
    let (_, assigned) = kuhn_munkres(&weights);
    classes
        .into_iter()
        .zip(assigned)
        .map(|(class, column)| (class, columns[column]))
        .collect()
}

/// Which answers are right if each half of the images is read in the order that fits the other half
/// best: what a found order is worth on images that had no part in finding it.
pub fn right_in_best_order(labels: &[u16], answers: &[u16], outputs: usize) -> Vec<bool> {
    let mut seen: BTreeMap<u16, usize> = BTreeMap::new();
    let half: Vec<usize> = labels
        .iter()
        .map(|&label| {
            let count = seen.entry(label).or_default();
            *count += 1;
            *count % 2
        })
        .collect();
    let mut right = vec![false; labels.len()];
    for fitted in 0..2 {
        let of = |wanted: usize, from: &[u16]| -> Vec<u16> {
            let pairs = from.iter().zip(&half);
            pairs
                .filter(|(_, h)| **h == wanted)
                .map(|(&x, _)| x)
                .collect()
        };
        let order: BTreeMap<u16, u16> =
            best_order(&of(fitted, labels), &of(fitted, answers), outputs)
                .into_iter()
                .collect();
        for (at, right) in right.iter_mut().enumerate() {
            if half[at] != fitted {
                *right = order.get(&labels[at]) == Some(&answers[at]);
            }
        }
    }
    right
}

/// Accuracy of a list of right and wrong answers, 0 to 1.
fn share(right: &[bool]) -> f64 {
    right.iter().filter(|r| **r).count() as f64 / right.len().max(1) as f64
}

/// The doubt about the order of the classes, if another fits far better. `names` are those of the
/// classes; a number stands for one that is missing.
pub fn other_order(
    labels: &[u16],
    answers: &[u16],
    outputs: usize,
    names: &[String],
) -> Option<Doubt> {
    let as_is: Vec<bool> = labels.iter().zip(answers).map(|(l, a)| l == a).collect();
    // No order can do better than if each class chose its output for itself: spares most the search.
    let mut counts: BTreeMap<u16, BTreeMap<u16, usize>> = BTreeMap::new();
    for (&label, &answer) in labels.iter().zip(answers) {
        *counts.entry(label).or_default().entry(answer).or_default() += 1;
    }
    let bound: usize = counts.values().filter_map(|c| c.values().max()).sum();
    if (bound as f64 / labels.len().max(1) as f64) < share(&as_is) + FAR {
        return None;
    }
    let other = right_in_best_order(labels, answers, outputs);
    let far = share(&other) >= share(&as_is) + FAR && Paired::of(&other, &as_is).is_sure();
    far.then(|| Doubt::OtherOrder {
        accuracy: share(&as_is),
        other: share(&other),
        images: labels.len(),
        pairs: best_order(labels, answers, outputs)
            .into_iter()
            .filter(|(class, output)| class != output)
            .map(|(class, output)| {
                let name = names.get(usize::from(class)).cloned();
                let name = name.unwrap_or_else(|| format!("class {class}"));
                (name, usize::from(output))
            })
            .collect(),
    })
}

/// What is doubtful about the answers of a network and its exits. `outputs` is how many classes the
/// network has, `names` what they are called.
pub fn doubts(table: &ConfidenceTable, outputs: usize, names: &[String]) -> Vec<Doubt> {
    let labels = &table.labels;
    let Ok(last) = table.final_column() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let images = labels.len();
    let network = last.accuracy(labels);
    let right = last
        .prediction
        .iter()
        .zip(labels)
        .filter(|(p, l)| p == l)
        .count();
    let chance = chance(labels);
    if let Some(order) = other_order(labels, &last.prediction, outputs, names) {
        found.push(order);
    } else if is_near_chance(right, images, chance) {
        found.push(Doubt::NearChance {
            accuracy: network,
            chance,
            images,
        });
    }
    let best = table
        .columns
        .iter()
        .filter_map(|column| Some((column.after.as_ref()?, column)))
        .max_by(|a, b| a.1.accuracy(labels).total_cmp(&b.1.accuracy(labels)));
    if let Some((after, column)) = best {
        let exit = column.accuracy(labels);
        let is_right =
            |of: &[u16]| -> Vec<bool> { of.iter().zip(labels).map(|(p, l)| p == l).collect() };
        let pair = Paired::of(&is_right(&column.prediction), &is_right(&last.prediction));
        if exit >= network + FAR && pair.is_sure() {
            found.push(Doubt::ExitBeatsNetwork {
                after: after.clone(),
                exit,
                network,
                images,
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::Column;
    use super::*;
    use crate::data::Set;
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    /// `images` of ten classes; an answer is `map` of its label, but every `wrong`-th is another.
    fn answers(images: usize, wrong: usize, map: impl Fn(u16) -> u16) -> (Vec<u16>, Vec<u16>) {
        let labels: Vec<u16> = (0..images).map(|i| (i % 10) as u16).collect();
        let answer = |(i, &label): (usize, &u16)| {
            let shift = u16::from((i / 10).is_multiple_of(wrong));
            (map(label) + shift * (1 + (i % 7) as u16)) % 10
        };
        let answers = labels.iter().enumerate().map(answer).collect();
        (labels, answers)
    }

    #[rstest]
    #[case::as_it_is(|l| l, false)]
    #[case::turned(|l| (l + 3) % 10, true)]
    #[case::two_exchanged(|l| match l { 0 => 1, 1 => 0, l => l }, true)]
    #[case::all_the_same(|_| 4, false)]
    fn another_order_is_found_where_there_is_one(
        #[case] map: fn(u16) -> u16,
        #[case] is_other: bool,
    ) {
        let (labels, answers) = answers(300, 5, map);
        let found = other_order(&labels, &answers, 10, &[]);
        assert_eq!(found.is_some(), is_other, "{found:?}");
        if is_other {
            for (class, output) in best_order(&labels, &answers, 10) {
                assert_eq!(output, map(class));
            }
        }
    }

    #[test]
    fn an_order_of_few_images_is_not_believed() {
        // One image for each of 100 classes, answered at random: an order fits all of them.
        let labels: Vec<u16> = (0..100).collect();
        let answers: Vec<u16> = (0..100).map(|i| (i * 37 + 11) % 100).collect();
        let order: BTreeMap<u16, u16> = best_order(&labels, &answers, 100).into_iter().collect();
        assert!(labels.iter().zip(&answers).all(|(l, a)| order[l] == *a));
        assert_eq!(other_order(&labels, &answers, 100, &[]), None);
    }

    #[test]
    fn classes_find_their_outputs_among_many() {
        let (labels, answers) = answers(200, 6, |l| l);
        let far: Vec<u16> = answers.iter().map(|a| 990 - 50 * a).collect();
        let order = best_order(&labels, &far, 1000);
        let wanted: Vec<(u16, u16)> = (0..10).map(|l| (l, 990 - 50 * l)).collect();
        assert_eq!(order, wanted);
        let right = right_in_best_order(&labels, &far, 1000);
        let as_it_was = labels.iter().zip(&answers).filter(|(l, a)| l == a).count();
        assert_eq!(right.iter().filter(|r| **r).count(), as_it_was);
    }

    fn table(columns: &[(Option<&str>, Vec<u16>)], labels: &[u16]) -> ConfidenceTable {
        let mut table = ConfidenceTable::new(Set::Calibration, labels.to_vec());
        for (after, prediction) in columns {
            let mut column = Column::new(*after, "hash", 1.0);
            let count = prediction.len();
            column.prediction.clone_from(prediction);
            for measure in [
                &mut column.max_probability,
                &mut column.entropy,
                &mut column.margin,
            ] {
                measure.resize(count, 0.5);
            }
            table.push(column).unwrap();
        }
        table
    }

    #[test]
    fn a_table_tells_what_is_doubtful() {
        let (labels, good) = answers(300, 5, |l| l);
        let turned: Vec<u16> = good.iter().map(|a| (a + 3) % 10).collect();
        let same = vec![4; 300];
        let kinds = |network: &[u16], exit: &[u16]| -> Vec<&str> {
            let columns = [(Some("a"), exit.to_vec()), (None, network.to_vec())];
            let found = doubts(&table(&columns, &labels), 10, &[]);
            let kind = |doubt: &Doubt| match doubt {
                Doubt::NearChance { .. } => "chance",
                Doubt::OtherOrder { .. } => "order",
                Doubt::ExitBeatsNetwork { .. } => "exit",
                Doubt::NoPreprocessing => "none",
            };
            found.iter().map(kind).collect()
        };
        assert_eq!(kinds(&good, &same), [] as [&str; 0]);
        assert_eq!(kinds(&same, &same), ["chance"]);
        assert_eq!(kinds(&same, &good), ["chance", "exit"]);
        assert_eq!(kinds(&turned, &same), ["order"]);
    }
}
