/*! Why a part doesn't run. */

use crate::backend::BackendError;
use crate::engine::EngineError;
use crate::predict::Confidence;
use crate::predict::policy::PolicyError;

/// A number of bytes, as it is written.
fn size(bytes: &usize) -> String {
    crate::units::bytes(*bytes as f64)
}

/// Why a part can't be made ready, or doesn't run.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// The part has no segment.
    #[error("the part has no segment; make the plan's parts anew")]
    Empty,
    /// A segment that isn't a chain's link.
    #[error("segment {segment} has {inputs} inputs and {outputs} outputs, one of each is needed")]
    Ends {
        /// Number of the segment, from 0.
        segment: usize,
        /// Number of its inputs.
        inputs: usize,
        /// Number of its outputs.
        outputs: usize,
    },
    /// Not one threshold an exit.
    #[error("{found} thresholds for the {exits} exits of the part")]
    Thresholds {
        /// Number of exits in the part.
        exits: usize,
        /// Number of thresholds that were given.
        found: usize,
    },
    /// A measure that looks at the exits before, on a part that was made for another one.
    #[error(
        "the part was made for the measure {made_for:?} and is asked to leave by {asked:?}, which looks at the \
         exits before; make the part anew with `policy.confidence` {asked:?}"
    )]
    Measure {
        /// Measure that the request names.
        asked: Confidence,
        /// The part's own.
        made_for: Confidence,
    },
    /// The exits before the part said something, and it wasn't told.
    #[error(
        "the part's exits look at what the exits before said ({}), and {found} of their answers came for \
         {batch} samples: send samples through the parts before it, by agents of this release", .exits.join(", ")
    )]
    Earlier {
        /// Layers behind which they stand, in order.
        exits: Vec<String>,
        /// Number of samples.
        batch: usize,
        /// Answers that came.
        found: usize,
    },
    /// An input of another length.
    #[error("the part takes {expected:?} per sample ({batch} samples here), not {found} numbers")]
    Input {
        /// Extents of a sample.
        expected: Vec<usize>,
        /// Number of samples.
        batch: usize,
        /// Length that was given.
        found: usize,
    },
    /// More than the machine has to give.
    #[error(
        "a run would take {} of memory, and {} are free here: send fewer samples at a time, or \
         run it on a larger machine", size(.needed), size(.available)
    )]
    Memory {
        /// Bytes it takes, about.
        needed: usize,
        /// Bytes that are free.
        available: usize,
    },
    /// A backend whose device isn't there.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The engine refused or failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A classifier's output that means nothing.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}
