/*!
The results of a session, unpacked: everything a replay reads. A session file that a run wrote is
enough; neither network nor images nor agents are needed.
*/

use super::RunError;
use crate::plan::Plan;
use crate::predict::{Evidence, Missing, Terms};
use crate::session::{Results, Session};

/// What replays of a session that ran rest on.
#[derive(Debug, Clone)]
pub struct Replayed<'a> {
    /// Unpacked from the session's results.
    pub evidence: Evidence,
    /// Policy, wire, prices and seed of the session.
    pub terms: Terms,
    /// The plan that ran last.
    pub plan: &'a Plan,
}

impl<'a> Replayed<'a> {
    /// Unpacks a session's results.
    ///
    /// # Errors
    /// Where there are none, some are missing, or one is damaged.
    pub fn of(session: &'a Session) -> Result<Replayed<'a>, RunError> {
        let results = session.results.as_deref().ok_or(RunError::NoResults)?;
        Replayed::over(session, results)
    }

    pub(super) fn over(
        session: &'a Session,
        results: &'a Results,
    ) -> Result<Replayed<'a>, RunError> {
        let plan = results.plan.as_ref().ok_or(RunError::NoResults)?;
        let evidence = results.evidence(session.tier_names())?;
        let whole = || -> Result<(), Missing> {
            for tier in evidence.tiers.tiers() {
                evidence.profile(tier)?;
            }
            evidence.answers(crate::data::Set::Calibration)?;
            evidence.answers(crate::data::Set::Test)?;
            Ok(())
        };
        if whole().is_err() || evidence.links.iter().any(Option::is_none) {
            return Err(RunError::NoResults);
        }
        Ok(Replayed {
            evidence,
            terms: session.terms(),
            plan,
        })
    }
}
