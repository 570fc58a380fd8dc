/*!
The results of a session, unpacked: everything a replay reads. A session file that a run wrote is
enough; neither network nor images nor agents are needed.
*/

use super::{RunError, summary};
use crate::device::{LinkProfile, Profile};
use crate::plan::Part;
use crate::plan::Plan;
use crate::predict::{Assembled, ConfidenceTable, HeadKey, WireTable, World};
use crate::session::{Results, Session};

/// What replays of a session rest on.
#[derive(Debug, Clone)]
pub struct Replayed<'a> {
    session: &'a Session,
    results: &'a Results,
    edge: &'a Profile,
    cloud: &'a Profile,
    link: &'a LinkProfile,
    heads: Vec<HeadKey>,
    assembled: Vec<Assembled>,
    /// For the calibration table, for the test table.
    wires: [Vec<WireTable>; 2],
    /// What thresholds are tuned on.
    pub calibration: ConfidenceTable,
    /// What is measured on.
    pub test: ConfidenceTable,
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
        let profiles = results.edge.as_ref().zip(results.cloud.as_ref());
        let (Some((edge, cloud)), Some(link), Some(plan), Some((calibration, test))) = (
            profiles,
            results.link.as_ref(),
            results.plan.as_ref(),
            results.tables()?,
        ) else {
            return Err(RunError::NoResults);
        };
        let part = |side: Part| {
            let found = results.parts.iter().find(|(part, _)| *part == side);
            found.map(|(_, profile)| profile.clone())
        };
        let assembled = Assembled::new(plan, part(Part::Edge), part(Part::Cloud));
        Ok(Replayed {
            heads: results.head_keys(),
            assembled: vec![assembled],
            wires: [wires(results, true)?, wires(results, false)?],
            session,
            results,
            edge,
            cloud,
            link,
            calibration,
            test,
            plan,
        })
    }

    /// What a replay of the calibration table rests on.
    pub fn world(&self) -> World<'_> {
        World {
            wire_tables: &self.wires[0],
            ..self.bare(&self.assembled)
        }
    }

    /// What a replay of the test table rests on.
    pub fn test_world(&self) -> World<'_> {
        World {
            wire_tables: &self.wires[1],
            ..self.bare(&self.assembled)
        }
    }

    /// As [`Replayed::world`], but without the measured parts of the plan that ran: plans that are
    /// compared with one another are all predicted from their layers.
    pub fn level_world(&self) -> World<'_> {
        World {
            wire_tables: &self.wires[0],
            ..self.bare(&[])
        }
    }

    fn bare<'b>(&'b self, assembled: &'b [Assembled]) -> World<'b> {
        World {
            assembled,
            ..summary::world(
                self.session,
                &self.results.layers,
                self.edge,
                self.cloud,
                self.link,
                &self.heads,
            )
        }
    }
}

fn wires(results: &Results, calibrating: bool) -> Result<Vec<WireTable>, RunError> {
    let tables = results.wires.iter().map(|w| {
        let packed = if calibrating { &w.calibration } else { &w.test };
        Ok(WireTable {
            split_after: w.split_after.clone(),
            element: w.wire.tensor,
            table: packed.unpack()?,
        })
    });
    tables.collect()
}
