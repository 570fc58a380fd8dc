/*! What can end a run. */

use std::path::PathBuf;

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The messages say it.
pub enum RunError {
    #[error("stopped; what was finished is kept, and the same command goes on from there")]
    Stopped,
    #[error("{}: {source}", .file.display())]
    Io {
        file: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "{} runs in {} already; wait until it has ended, or give another folder with --out",
        .pid.map_or("another process".into(), |pid| format!("process {pid}")),
        .out.display()
    )]
    Busy { out: PathBuf, pid: Option<u32> },
    #[error(transparent)]
    Refused(#[from] super::refused::Refused),
    #[error("the token in the environment variable {0} is not set; set it and run again")]
    Token(String),
    #[error(
        "the token of the cloud at {cloud} would reach the edge at {edge} unencrypted; start the agent \
         there with --tls-cert and --tls-key, or reach it through a tunnel"
    )]
    TokenInTheOpen { edge: String, cloud: String },
    #[error("{0}")]
    Died(String),
    #[error(
        "the agent at {url} runs parts by {found}, and the session wants {wanted}: start the agent with \
         --engine {} --provider {}, or take `engine` out of the session",
        .wanted.engine(), .wanted.provider()
    )]
    OtherEngine {
        url: String,
        wanted: crate::backend::BackendId,
        found: crate::backend::BackendId,
    },
    #[error("an agent answered another question than was asked; use the same release on all sides")]
    OtherAnswer,
    #[error("the session holds no results to replay; run it first with `edgelesspart run`")]
    NoResults,
    #[error(
        "the run kept no records of its samples (early releases kept none); run it again with `edgelesspart run`"
    )]
    NoRecords,
    #[error(
        "the session's images aren't those that the run was over: no picture is shown; run it again"
    )]
    OtherImages,
    #[error(
        "runs go over two tiers, and the session has {0}; plan and predict it, or run it on two"
    )]
    Tiers(usize),
    #[error(
        "the results are of another network than `{0}`, which the session names; run the session again \
         with `edgelesspart run`"
    )]
    OtherResults(String),
    #[error(
        "the results hold no head after `{0}` that was trained for the session's network, images and \
         settings as they are now; run the session again with `edgelesspart run`"
    )]
    NotTrained(String),
    #[error(
        "the network that learnt together with its exits is not in {} for the session's settings as \
         they are now; name the folder of its run with --from, or run the session again with \
         `edgelesspart run`",
        .0.display()
    )]
    NoBackbone(PathBuf),
    #[error("neither side has anything to run; the plan is empty")]
    NothingToRun,
    #[error("{found} records came back for {expected} samples; run it again")]
    Records { found: usize, expected: usize },
    #[error("the part that serves agents could not be started")]
    Runtime(#[source] std::io::Error),
    #[error(transparent)]
    Model(#[from] crate::session::ModelError),
    #[error(transparent)]
    Layers(#[from] crate::model::layers::LayerError),
    #[error(transparent)]
    Import(#[from] crate::model::onnx::ImportError),
    #[error(transparent)]
    Export(#[from] crate::model::export::ExportError),
    #[error(transparent)]
    Graph(#[from] crate::model::graph::GraphError),
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
    #[error(transparent)]
    Exit(#[from] crate::exits::ExitError),
    #[error(transparent)]
    Backend(#[from] crate::backend::BackendError),
    #[error(transparent)]
    Engine(#[from] crate::engine::EngineError),
    #[error(transparent)]
    Device(#[from] crate::device::DeviceError),
    #[error(transparent)]
    Train(#[from] crate::train::TrainError),
    #[error(transparent)]
    Plan(#[from] crate::plan::PlanError),
    #[error(transparent)]
    Part(#[from] crate::runtime::parts::PartError),
    #[error(transparent)]
    Table(#[from] crate::predict::table::TableError),
    #[error(transparent)]
    Replay(#[from] crate::predict::replay::ReplayError),
    #[error(transparent)]
    Planner(#[from] crate::explore::PlannerError),
    #[error(transparent)]
    Missing(#[from] crate::predict::Missing),
    #[error(transparent)]
    Measured(#[from] crate::predict::measured::MeasuredError),
    #[error(transparent)]
    Session(#[from] crate::session::SessionError),
    #[error(transparent)]
    Pack(#[from] crate::session::tables::PackError),
    #[error(transparent)]
    PackedRecords(#[from] crate::session::records::RecordsError),
    #[error(transparent)]
    Journal(#[from] crate::session::results::JournalError),
    #[error(transparent)]
    Head(#[from] crate::session::results::HeadError),
    #[error(transparent)]
    Client(#[from] crate::protocol::client::ClientError),
    #[error(transparent)]
    Local(#[from] crate::run::local::LocalError),
    #[error(transparent)]
    Wire(#[from] crate::protocol::wire::WireError),
    #[error(transparent)]
    DataSet(#[from] crate::protocol::dataset::DataSetError),
}

impl RunError {
    /// Whether it ended because a target, or the cloud of an edge, could not be reached in time.
    pub fn is_away(&self) -> bool {
        use crate::protocol::client::ClientError;
        use crate::protocol::message::FailureKind;
        match self {
            RunError::Client(ClientError::Unreachable { .. }) => true,
            RunError::Client(ClientError::Job { kind, .. }) => {
                matches!(kind, FailureKind::CloudUnreachable | FailureKind::CloudLate)
            }
            _ => false,
        }
    }

    /// Whether it ended because somebody asked.
    pub fn is_stop(&self) -> bool {
        use crate::data::DataError;
        use crate::engine::EngineError;
        use crate::protocol::client::ClientError;
        use crate::train::TrainError;
        matches!(
            self,
            RunError::Stopped
                | RunError::Engine(EngineError::Cancelled)
                | RunError::Train(TrainError::Engine(EngineError::Cancelled))
                | RunError::Data(DataError::Cancelled)
                | RunError::Client(ClientError::Cancelled)
        )
    }
}
