/*! The three disjoint sets, chosen by seed. */

use super::{Calibration, DataError};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Images of the stored training and test sides that make up each set, ascending.
#[derive(Debug, PartialEq)]
pub(super) struct Chosen {
    pub train: Vec<usize>,
    /// Of the training or the test side, as the calibration setting says.
    pub calibration: Vec<usize>,
    pub test: Vec<usize>,
    /// Images of the three sets before the limits cut them.
    pub available: [usize; 3],
}

/// Calibration is drawn first and the limits cut what is left, so that a smaller subset never
/// changes which images calibrate.
pub(super) fn choose(
    train: usize,
    test: usize,
    calibration: Calibration,
    limits: (Option<usize>, Option<usize>),
    seed: u64,
) -> Result<Chosen, DataError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut from_train: Vec<usize> = (0..train).collect();
    from_train.shuffle(&mut rng);
    let mut from_test: Vec<usize> = (0..test).collect();
    from_test.shuffle(&mut rng);

    let (side, name, wanted) = match calibration {
        Calibration::FromTrain(n) => (&mut from_train, "training", n),
        Calibration::FromTest(n) => (&mut from_test, "test", n),
    };
    if wanted == 0 {
        return Err(DataError::Request(
            "calibration: 0 images; thresholds need at least one, take FromTrain(1000) or \
             FromTest(1000)"
                .into(),
        ));
    }
    if wanted >= side.len() {
        return Err(DataError::Request(format!(
            "calibration: {wanted} images asked of the {name} side, which has {}, and one at \
             least must be left; ask for fewer",
            side.len()
        )));
    }
    let mut calibration: Vec<usize> = side.drain(..wanted).collect();
    let available = [from_train.len(), calibration.len(), from_test.len()];
    for (name, set, limit) in [
        ("train_samples", &mut from_train, limits.0),
        ("test_samples", &mut from_test, limits.1),
    ] {
        let Some(limit) = limit else { continue };
        if limit == 0 || limit > set.len() {
            return Err(DataError::Request(format!(
                "{name}: {limit} images asked for, there are {} beside the calibration set; ask \
                 for 1 to {0}, or leave it out for all",
                set.len()
            )));
        }
        set.truncate(limit);
    }
    for set in [&mut from_train, &mut calibration, &mut from_test] {
        set.sort_unstable();
    }
    Ok(Chosen {
        train: from_train,
        calibration,
        test: from_test,
        available,
    })
}

/// Images of each class among labels below `classes`.
pub(super) fn counts(labels: &[u16], classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    for &label in labels {
        counts[usize::from(label)] += 1;
    }
    counts
}

/// Of a side that must give both, one picture in so many becomes a test picture.
const TEST_ONE_IN: usize = 5;

/// Parts one side in two: a seeded fifth of each class to test, the rest to train. The only picture
/// of a class trains.
pub(super) fn hold_out(labels: &[u16], classes: usize, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut by_class = vec![Vec::new(); classes];
    for (index, &label) in labels.iter().enumerate() {
        by_class[usize::from(label)].push(index);
    }
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for mut indices in by_class {
        indices.shuffle(&mut rng);
        let held = match indices.len() {
            0 | 1 => 0,
            n => n.div_ceil(TEST_ONE_IN),
        };
        train.extend(indices.split_off(held));
        test.extend(indices);
    }
    (train, test)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sets_are_disjoint_and_whole(train in 2usize..80, test in 2usize..80, n in 1usize..79,
                                       from_test: bool, seed: u64) {
            let side = if from_test { test } else { train };
            prop_assume!(n < side);
            let calibration = if from_test { Calibration::FromTest(n) } else { Calibration::FromTrain(n) };
            let chosen = choose(train, test, calibration, (None, None), seed).unwrap();
            prop_assert_eq!(chosen.calibration.len(), n);
            let (same, other, whole) = if from_test {
                (&chosen.test, &chosen.train, train)
            } else {
                (&chosen.train, &chosen.test, test)
            };
            let mut all: Vec<usize> = chosen.calibration.iter().chain(same).copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..side).collect::<Vec<_>>());
            prop_assert_eq!(other, &(0..whole).collect::<Vec<_>>());
            prop_assert_eq!(&chosen, &choose(train, test, calibration, (None, None), seed).unwrap());
        }
    }

    #[test]
    fn a_fifth_of_each_class_is_held_out() {
        let labels = [[0; 10].as_slice(), &[1; 4], &[3; 1]].concat();
        let (train, test) = hold_out(&labels, 4, 7);
        let count = |of: &[usize], class| of.iter().filter(|&&i| labels[i] == class).count();
        assert_eq!([0, 1, 3].map(|class| count(&test, class)), [2, 1, 0]);
        assert_eq!([0, 1, 3].map(|class| count(&train, class)), [8, 3, 1]);
        let mut all = [train.clone(), test].concat();
        all.sort_unstable();
        assert_eq!(all, (0..15).collect::<Vec<_>>());
        assert_ne!(train, hold_out(&labels, 4, 8).0);
    }

    #[test]
    fn a_limit_leaves_the_calibration_set_alone() {
        let all = choose(50, 30, Calibration::FromTrain(10), (None, None), 3).unwrap();
        let few = choose(50, 30, Calibration::FromTrain(10), (Some(5), Some(4)), 3).unwrap();
        assert_eq!(few.calibration, all.calibration);
        assert_eq!((few.train.len(), few.test.len()), (5, 4));
        assert_eq!(few.available, [40, 10, 30]);
        assert_ne!(
            all.calibration,
            choose(50, 30, Calibration::FromTrain(10), (None, None), 4)
                .unwrap()
                .calibration
        );
    }

    #[test]
    fn asking_for_too_much_says_how_much_there_is() {
        let text = |c, l| choose(20, 10, c, l, 0).unwrap_err().to_string();
        assert!(text(Calibration::FromTest(10), (None, None)).contains("test side, which has 10"));
        assert!(text(Calibration::FromTrain(0), (None, None)).contains("at least one"));
        assert!(text(Calibration::FromTrain(5), (Some(16), None)).contains("there are 15"));
        assert!(text(Calibration::FromTrain(5), (None, Some(11))).starts_with("test_samples"));
    }
}
