/*! A plan at each of a list of thresholds, predicted. Reads the calibration table only, so that what
is chosen by it isn't chosen on the test set. */

use crate::data::Set;
use crate::plan::Plan;
use crate::predict::{ConfidenceTable, Outcome, Prepared, ReplayError, World};

/// Why there is no sweep.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SweepError {
    /// The wrong set.
    #[error("a sweep reads the calibration table, not the {0:?} one, or its choice would not hold")]
    Set(Set),
    /// The plan can't be replayed.
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

/// The outcomes at these thresholds, in their order. Each is common to all exits but those the
/// policy names, which keep their own.
///
/// # Errors
/// On another table than the calibration set's, and as [`Prepared::new`].
pub fn sweep(
    table: &ConfidenceTable,
    plan: &Plan,
    world: &World,
    thresholds: &[f64],
) -> Result<Vec<Outcome>, SweepError> {
    if table.set != Set::Calibration {
        return Err(SweepError::Set(table.set));
    }
    let prepared = Prepared::new(table, plan, world)?;
    Ok(thresholds.iter().map(|&t| prepared.at(t)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Split;
    use crate::predict::replay::tests::{plan, setting};

    #[test]
    fn one_outcome_a_threshold() {
        let s = setting(50, 1);
        let chosen = plan(Split::After(3), &[1, 4], 0.7);
        let outcomes = sweep(&s.table, &chosen, &s.world(), &[0.3, 0.9, 0.5]).unwrap();
        let thresholds: Vec<f64> = outcomes.iter().map(|o| o.threshold).collect();
        assert_eq!(thresholds, [0.3, 0.9, 0.5]);
        assert!(outcomes[0].offloaded < outcomes[2].offloaded);
        assert!(outcomes[2].offloaded < outcomes[1].offloaded);
    }

    #[test]
    fn the_test_set_is_not_swept() {
        let mut s = setting(50, 1);
        s.table.set = Set::Test;
        let chosen = plan(Split::After(3), &[1], 0.7);
        let error = sweep(&s.table, &chosen, &s.world(), &[0.5]).unwrap_err();
        assert_eq!(error, SweepError::Set(Set::Test));
    }
}
