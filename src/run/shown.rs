/*! What the last run of a session showed, of what it kept: for those who look at it again. */

use super::{Network, Replayed, RunError};
use crate::data::{Opened, Set};
use crate::report::EvidenceReport;
use crate::report::evidence::{Picture, Shown};
use crate::report::reliability::{self, ReliabilityReport};
use crate::session::{Results, Session};
use std::collections::HashMap;

/// What a run showed over the test images, as its report has it.
#[derive(Debug, Clone, PartialEq)]
pub struct RunEvidence {
    /// Classes, latencies and single samples.
    pub shown: EvidenceReport,
    /// How honest the confidences of each classifier of the plan are, in order of depth.
    pub reliability: Vec<ReliabilityReport>,
}

/// Names of the classes, and the pictures of the samples that are listed, by number.
type Faces = (Vec<String>, HashMap<u32, Picture>);

/// What the last run of the session's plan showed, by what it kept alone: classes go by their numbers and
/// no sample has a picture.
///
/// # Errors
/// Where there are no results, or none of each sample, or they are damaged.
pub fn run_evidence(session: &Session, results: &Results) -> Result<RunEvidence, RunError> {
    gather(session, results, &Faces::default())
}

/// The same, with names and pictures of the session's images, of which those listed alone are decoded.
///
/// # Errors
/// As [`run_evidence`], and where network or images can't be read or aren't those of the run.
pub fn run_evidence_with_images(
    session: &Session,
    results: &Results,
) -> Result<RunEvidence, RunError> {
    let bare = run_evidence(session, results)?;
    let network = Network::load(session)?;
    let options = network.load_options(session)?;
    let opened = Opened::of(&session.data, &options)?;
    let numbers: Vec<u32> = bare.shown.samples.iter().map(|s| s.sample).collect();
    let images = opened.test_images(&options, &numbers)?;
    let replayed = Replayed::over(session, results)?;
    let labels = &replayed.evidence.answers(Set::Test)?.table.labels;
    let same =
        |(&number, (label, _)): (&u32, &(u16, Vec<u8>))| labels.get(number as usize) == Some(label);
    if !numbers.iter().zip(&images).all(same) {
        return Err(RunError::OtherImages);
    }
    let pictures = numbers
        .iter()
        .zip(&images)
        .filter_map(|(&number, (_, pixels))| Some((number, Picture::of(pixels, options.input)?)));
    let faces = (opened.class_names(&options)?, pictures.collect());
    gather(session, results, &faces)
}

fn gather(
    session: &Session,
    results: &Results,
    (names, pictures): &Faces,
) -> Result<RunEvidence, RunError> {
    let Replayed { evidence, plan, .. } = Replayed::over(session, results)?;
    let kept = results.records.iter().find(|kept| kept.what == "plan");
    let records = kept.ok_or(RunError::NoRecords)?.unpack()?;
    let table = &evidence.answers(Set::Test)?.table;
    let shown = Shown {
        records: &records,
        labels: &table.labels,
        class_names: names,
        exits: plan.exits.iter().map(|exit| exit.after.clone()).collect(),
        picture: &|sample| pictures.get(&sample).cloned(),
    };
    Ok(RunEvidence {
        shown: shown.report(),
        reliability: reliability::of_plan(plan, &evidence.heads, table),
    })
}
