/*! A plan at each of a list of thresholds, predicted. Reads the calibration table only, so that what
is chosen by it isn't chosen on the test set. */

use crate::data::Set;
use crate::plan::Plan;
use crate::predict::{Evidence, Outcome, PreparedPlan, ReplayError, Terms};

/// The outcomes at these thresholds, in their order. Each is common to all exits but those the
/// policy names, which keep their own.
///
/// # Errors
/// As [`PreparedPlan::new`].
pub fn sweep(
    evidence: &Evidence,
    terms: &Terms,
    plan: &Plan,
    thresholds: &[f64],
) -> Result<Vec<Outcome>, ReplayError> {
    let prepared = PreparedPlan::new(evidence, terms, Set::Calibration, plan)?;
    Ok(thresholds.iter().map(|&t| prepared.at(t)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Split;
    use crate::predict::Missing;
    use crate::predict::replay::tests::{plan, setting};

    #[test]
    fn one_outcome_a_threshold() {
        let s = setting(50, 1);
        let chosen = plan(Split::After(3), &[1, 4], 0.7);
        let outcomes = sweep(&s.evidence, &s.terms, &chosen, &[0.3, 0.9, 0.5]).unwrap();
        let thresholds: Vec<f64> = outcomes.iter().map(|o| o.threshold).collect();
        assert_eq!(thresholds, [0.3, 0.9, 0.5]);
        assert!(outcomes[0].offloaded() < outcomes[2].offloaded());
        assert!(outcomes[2].offloaded() < outcomes[1].offloaded());
    }

    #[test]
    fn the_test_set_is_not_swept() {
        let mut s = setting(50, 1);
        s.answers_mut().table.set = Set::Test;
        let chosen = plan(Split::After(3), &[1], 0.7);
        let error = sweep(&s.evidence, &s.terms, &chosen, &[0.5]).unwrap_err();
        assert_eq!(error, Missing::Table(Set::Calibration).into());
    }
}
