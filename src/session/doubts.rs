/*! What is doubtful about a session: what it leaves out, and what its last run's answers say. */

use super::tables::PackError;
use super::{ModelSource, Session};
use crate::predict::Doubt;
use crate::predict::doubt::doubts;

impl Session {
    /// Whether it leaves out how pixels come to a network that has been trained elsewhere.
    pub fn lacks_preprocessing(&self) -> bool {
        let own = matches!(self.model, ModelSource::Zoo { .. } | ModelSource::Demo);
        self.preprocessing.is_none() && !own
    }

    /// What is doubtful: by what is left out, and by the calibration table of its last run, if it holds
    /// one.
    ///
    /// # Errors
    /// The table is damaged.
    pub fn doubts(&self) -> Result<Vec<Doubt>, PackError> {
        let mut found = Vec::new();
        if self.lacks_preprocessing() {
            found.push(Doubt::NoPreprocessing);
        }
        if let Some(results) = &self.results
            && let Some(calibration) = &results.calibration
        {
            let classes = results.layers.classes;
            found.extend(doubts(&calibration.unpack()?, classes, &[]));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Preprocessing, Source};
    use pretty_assertions::assert_eq;

    #[test]
    fn a_network_from_a_file_needs_its_preprocessing_and_the_demo_is_beyond_doubt() {
        let data = Source::Synthetic { seed: 7 };
        let mut session = Session::with(ModelSource::Onnx("a.onnx".into()), data).unwrap();
        assert_eq!(session.doubts().unwrap(), [Doubt::NoPreprocessing]);
        session.preprocessing = Some(Preprocessing::default());
        assert_eq!(session.doubts().unwrap(), []);
        assert_eq!(Session::demo().unwrap().doubts().unwrap(), []);
    }
}
