/*! What the evidence page asks: what a run showed, and where the best plan changes. */

use crate::engine::Cancel;
use crate::explore::what_if;
use crate::predict::ReplayError;
use crate::report::WhatIfReport;
use crate::run::{run_evidence, run_evidence_with_images};
use crate::tui::message::{EvidenceRequest, Msg, WhatIfRequest};

impl EvidenceRequest {
    /// Tells what the session's last run showed: at once by what it kept, then with the names and
    /// pictures of its images.
    pub fn answer(&self, tell: &dyn Fn(Msg)) {
        let bare = run_evidence(&self.session, &self.results);
        let complete = bare.is_err();
        tell(Msg::Evidence(self.generation, Box::new(bare), complete));
        if !complete {
            let whole = run_evidence_with_images(&self.session, &self.results);
            tell(Msg::Evidence(self.generation, Box::new(whole), true));
        }
    }
}

impl WhatIfRequest {
    /// The best plans under each setting; `tell` hears how far the search is.
    ///
    /// # Errors
    /// As [`what_if`]; [`ReplayError::Stopped`] once `stop` is raised.
    pub fn answer(&self, stop: &Cancel, tell: &dyn Fn(Msg)) -> Result<WhatIfReport, ReplayError> {
        let mut progress = |done, total| tell(Msg::WhatIfProgress(self.generation, done, total));
        let stopped = || stop.is_cancelled();
        let found = what_if(
            &self.evidence,
            &self.terms,
            &self.goal,
            &self.thresholds,
            self.with_map,
            &stopped,
            &mut progress,
        )?;
        Ok(WhatIfReport::new(&found, &self.goal, &self.evidence.tiers))
    }
}
