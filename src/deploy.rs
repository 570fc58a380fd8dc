/*!
Parts as files for other runtimes: the whole part in one graph, with every exit's logits or stopping by
itself, beside its segments and heads; and as what servers take, Triton's model repository and services for
KServe, Knative and Cloud Run. Knows no session and no network connection.

| file          | what it is                                                           |
|---------------|----------------------------------------------------------------------|
| `compose`     | several graphs joined into one ONNX graph, their names kept apart    |
| `flat`        | a part in one graph that gives the logits of every exit              |
| `progressive` | a part in one graph whose exits are conditions                       |
| `serving`     | what a server is told of the device that a tier was measured on      |
| `pbtxt`       | the text form of Protocol Buffers                                    |
| `triton`      | a part as a model repository                                         |
| `kserve`      | images and manifests for KServe, Knative and Cloud Run               |
| `folder`      | all of it written, or nothing                                        |
*/

mod compose;
mod flat;
mod folder;
mod kserve;
mod pbtxt;
mod progressive;
mod serving;
#[cfg(test)]
mod tests;
mod triton;

pub use folder::{Form, Written, write};
pub use kserve::Places;
pub use serving::Serving;

use crate::model::export::ExportError;
use crate::runtime::parts::PartError;
use std::path::PathBuf;

/// Why parts can't be written.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// A part that doesn't fit together.
    #[error(transparent)]
    Part(#[from] PartError),
    /// A graph that no ONNX file holds.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// Something is there already.
    #[error(
        "{} is not an empty folder; name one that is empty or not there yet with --out",
        .0.display()
    )]
    NotEmpty(PathBuf),
    /// A file or folder that the system refuses to write.
    #[error(
        "can't write {}, and nothing was left there; make room, or name another folder with --out: {source}",
        .file.display()
    )]
    Write {
        /// The file or folder.
        file: PathBuf,
        /// Reason that the operating system gives.
        source: std::io::Error,
    },
    /// No tier has anything to run.
    #[error("the plan has no part; check the session's split")]
    NoPart,
    /// All of the plan is on the first tier, which no cluster serves.
    #[error(
        "the plan leaves nothing to a tier behind the first, and that is what KServe would serve; set `splits` \
         to one that does, or take another --format"
    )]
    NothingBehind,
}
