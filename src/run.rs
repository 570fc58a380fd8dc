/*!
From a session to its report: the stages of a run, in order, each kept under the out folder when it is
done, so that a stopped run goes on where it was. The commands and the workbench both come here; this
room prints and draws nothing, it reports what happens through [`Event`].
*/

mod distribute;
mod error;
pub mod head_cost;
pub mod local;
pub mod lock;
mod network;
mod parts;
mod pause;
mod pipeline;
pub mod refused;
mod replayed;
mod report;
pub mod samples;
mod shown;
mod source;
mod stage_cache;
mod summary;
mod tables;
mod targets;
mod train_heads;
mod travel;

pub use error::RunError;
pub use network::Network;
pub use parts::{servings, session_parts};
pub use pause::pause_file;
pub use refused::Refused;
pub use replayed::Replayed;
pub use shown::{RunEvidence, run_evidence, run_evidence_with_images};
pub use source::ExitSource;
pub use targets::probe;

use crate::engine::Cancel;
use crate::event::{Event, Stage};
use crate::report::Report;
use crate::session::Session;
use std::path::PathBuf;

/// How a session is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where results and finished stages go.
    pub out: PathBuf,
    /// Name of the run, from the session.
    pub name: String,
    /// Whether everything is done again, whatever is there.
    pub fresh: bool,
    /// The last stage that is wanted.
    pub until: Stage,
    /// The program that local targets run; the running one if absent.
    pub program: Option<PathBuf>,
}

/// What a run leaves. The out folder is its own until this is dropped, so that whoever waits for the
/// folder finds there what its owner wrote of the run.
#[derive(Debug)]
pub struct Done {
    /// The session with its results, as far as they go.
    pub session: Session,
    /// What came of it, if the run went that far.
    pub report: Option<Report>,
    _held: Option<lock::Lock>,
}

/// Runs a session (its paths resolved) up to the stage asked for. Every finished stage is in the out
/// folder, so that the next run takes it from there.
///
/// # Errors
/// Where a stage fails, with what to do; [`RunError::Stopped`] when told to.
pub fn run(
    session: &Session,
    options: &Options,
    on: &mut dyn FnMut(Event),
    cancel: &Cancel,
) -> Result<Done, RunError> {
    pipeline::execute(session, options, on, cancel)
}
