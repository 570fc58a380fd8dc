/*! What workbench and agents say to each other, as JSON; tensors and records travel as bytes. */

use super::TlsTrust;
use crate::backend::BackendId;
use crate::data::Preprocessing;
use crate::device::telemetry::Telemetry;
use crate::device::{LinkProfile, PartProfile, Profile};
use crate::plan::{Element, Link, Tier, Wire};
use crate::predict::{Confidence, HopRecord};
use crate::runtime::runner::{PartAnswer, PartInfo};
use crate::train::{FEATURE_BATCH, HeadRecipe, TrainingConfig};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// SHA-256 of some bytes, hex: what models, parts and data sets are known by.
pub type Address = String;

/// What an agent says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct AgentInfo {
    pub version: String,
    /// The machine, in words.
    pub device: String,
    pub cores: Vec<usize>,
    /// Engine that runs parts there, and what it runs on.
    #[serde(default)]
    pub engine: BackendId,
    pub threads: usize,
    /// Clock in GHz where known.
    pub ghz: Option<f64>,
    /// Factor its times are stretched by; other than 1 means emulated.
    pub slowdown: f64,
    /// Peak resident memory of its process since it last was asked to begin anew.
    pub resident_bytes: usize,
    /// The largest body it takes.
    pub max_body: usize,
    /// Requests for inference it has answered since it started.
    #[serde(default)]
    pub requests: u64,
    /// Its sensors now; absent where the system tells nothing.
    #[serde(default)]
    pub telemetry: Option<Telemetry>,
    /// Energy of an inference in its last evaluation, in joules, where power is measured.
    #[serde(default)]
    pub joules_per_inference: Option<f64>,
}

/// A job for an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum JobRequest {
    /// Times a network (an ONNX file uploaded before) and heads on its values.
    Profile {
        model: Address,
        /// ONNX files of heads, each with layer, value it reads and hash.
        heads: Vec<HeadToProfile>,
        batch: usize,
        runs: usize,
    },
    /// Times an assembled part, segment by segment.
    ProfilePart { part: Address, runs: usize },
    /// Times the link to the cloud.
    MeasureLink { cloud: CloudTarget, link: Link },
    /// Runs a part over samples.
    Evaluate(Box<Evaluate>),
    /// Trains heads over a frozen network.
    TrainHeads(Box<TrainHeads>),
}

impl JobRequest {
    /// What kind of job it is, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            JobRequest::Profile { .. } => "profile",
            JobRequest::ProfilePart { .. } => "profile part",
            JobRequest::MeasureLink { .. } => "measure link",
            JobRequest::Evaluate(_) => "evaluate",
            JobRequest::TrainHeads(_) => "train heads",
        }
    }
}

/// A head for [`JobRequest::Profile`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct HeadToProfile {
    pub after: String,
    pub value: String,
    pub hash: String,
    pub model: Address,
}

/// Heads to train over a frozen network, whose features the agent makes and caches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TrainHeads {
    /// ONNX file of the network.
    pub model: Address,
    pub heads: Vec<HeadToTrain>,
    pub lessons: LabelledSet,
    /// Images nothing learns from, by which each epoch, and with patience early stopping, judges.
    #[serde(default)]
    pub judge: Option<LabelledSet>,
    pub preprocessing: Preprocessing,
    pub hyper: TrainingConfig,
    /// Images that the backbone takes at once.
    #[serde(default = "feature_batch")]
    pub batch: usize,
}

fn feature_batch() -> usize {
    FEATURE_BATCH
}

/// Images to learn from, or to be judged by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelledSet {
    /// Uploaded data set ([`DataSet`]).
    pub data: Address,
    /// Their classes: a file of 16-bit numbers, little-endian, one per image.
    pub labels: Address,
}

/// A head for [`JobRequest::TrainHeads`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct HeadToTrain {
    /// Name that reports show.
    pub name: String,
    /// Name of the network's value it reads.
    pub value: String,
    /// ONNX file of the head as it was rendered, its first weights in it.
    pub model: Address,
    /// Values that are dropped while it learns, and the share of them.
    pub dropout: Vec<(String, f32)>,
    /// What it does otherwise than the rest.
    #[serde(default)]
    pub recipe: HeadRecipe,
}

/// An epoch of a training: loss and accuracy of each learner over the training samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Number of the epoch, from 1.
    pub epoch: usize,
    /// Epochs in all.
    pub epochs: usize,
    /// Name, loss, accuracy (0 to 1).
    pub scores: Vec<(String, f64, f64)>,
    /// Accuracy (0 to 1) on images nothing learns from, in the order of `scores`; none for what wasn't judged,
    /// and in what was told by an earlier release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validation: Vec<Option<f64>>,
}

/// Heads that were trained; they are fetched apart, by their place in the request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Trained {
    pub heads: usize,
    /// The whole curve of each, whatever events a client missed.
    pub curve: Vec<Epoch>,
    pub seconds: f64,
}

/// Header under which a job may be handed in again, after an answer that got lost: the agent gives the
/// job it has under this key, unless that failed.
pub const JOB_KEY: &str = "idempotency-key";

/// How much of a file an agent has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Bytes that came, from the first on.
    pub received: u64,
    /// Whether it has all of it, and has compared it with its address.
    pub whole: bool,
}

/// Where an agent sends what it offloads. The token is in no file and no log.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct CloudTarget {
    pub url: String,
    #[serde(default)]
    pub token: Option<String>,
    #[serde(default)]
    pub believed: TlsTrust,
    /// Set where it is a server of the Open Inference Protocol and no agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v2: Option<V2Model>,
}

/// The cloud part on a server of the Open Inference Protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct V2Model {
    /// The name it is served under.
    pub name: String,
    /// Whether its output is probabilities, rather than logits.
    pub probabilities: bool,
}

impl CloudTarget {
    /// An agent, without a token, behind a certificate that the system's authorities vouch for (or
    /// none, for `http://`).
    pub fn new(url: impl Into<String>) -> CloudTarget {
        CloudTarget {
            url: url.into(),
            token: None,
            believed: TlsTrust::System,
            v2: None,
        }
    }
}

impl std::fmt::Debug for CloudTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CloudTarget({})", self.url)
    }
}

/// A run of a part over samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Evaluate {
    pub route: Route,
    /// Uploaded data set ([`DataSet`]).
    pub data: Address,
    pub preprocessing: Preprocessing,
    /// Samples to run, by number in the data set.
    pub samples: Vec<u32>,
    /// Samples run before them whose times are thrown away (the first of `samples`, again).
    pub warm_up: usize,
    pub confidence: Confidence,
    /// One per exit of all parts of the route, in order of depth.
    pub thresholds: Vec<f64>,
    /// The own part's last exit answers whatever its confidence.
    pub last_exit_answers: bool,
    pub wire: Wire,
    /// Quality at which the image is coded, 1 to 100, where it is sent on as a JPEG file in place of the
    /// tensor or the pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jpeg: Option<u8>,
    /// Milliseconds an offload may take; none if absent.
    pub deadline_ms: Option<f64>,
    /// The last exit before a link answers for a tier that doesn't; else the run fails.
    pub degrade: bool,
}

/// Which tiers take part in a run, from the agent that has the samples on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// The part that the agent runs itself; none where pixels go on as they are (u8), to be preprocessed by
    /// the first tier that runs something.
    pub part: Option<Address>,
    /// The tiers behind, nearest first; none where the agent's part goes to its end.
    pub onward: Vec<Hop>,
}

/// A tier behind a link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hop {
    /// What runs there; none where it only passes samples on.
    pub part: Option<Address>,
    /// One at least; each sample goes to the one with the least to do.
    pub targets: Vec<CloudTarget>,
    /// The link in front of it.
    pub link: Link,
}

impl Route {
    /// Gives the route on which one part runs and nothing follows.
    pub fn alone(part: Address) -> Route {
        Route {
            part: Some(part),
            onward: Vec::new(),
        }
    }

    /// A part (none where pixels are sent), and one tier behind a link.
    pub fn over(part: Option<Address>, behind: Hop) -> Route {
        Route {
            part,
            onward: vec![behind],
        }
    }

    /// Tiers that a sample may come to.
    pub fn tiers(&self) -> usize {
        self.onward.len() + 1
    }
}

/// How a job ended, or how far it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum JobEvent {
    /// Behind another timed job.
    Queued {
        ahead: usize,
    },
    Progress(Progress),
    /// An epoch of a training is over.
    Epoch(Epoch),
    /// Something worth a line in a log.
    Log {
        text: String,
    },
    /// Added by a client: the connection is lost, and made again after a pause.
    Lost {
        error: String,
        again_ms: u64,
    },
    /// Likewise: it is there again.
    Found,
    Done(Box<JobResult>),
    Failed {
        error: String,
        #[serde(default)]
        kind: FailureKind,
    },
    Cancelled,
}

/// Aggregated progress: at most five a second.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Progress {
    pub done: u64,
    pub total: u64,
    /// Samples that left at each of the plan's exits so far, the final classifier last.
    pub exits: Vec<u64>,
    pub offloaded: u64,
    /// Of the samples since the last progress, milliseconds.
    pub mean_latency_ms: Option<f64>,
    pub bytes_sent: u64,
    pub note: String,
    /// Answers that were fetched and judged so far; agents know no labels, so whoever runs fills this in.
    #[serde(default)]
    pub judged: u64,
    /// Those of them that are right.
    #[serde(default)]
    pub right: u64,
    /// Whether it waits because somebody asked it to.
    #[serde(default)]
    pub held: bool,
    /// Of the offloads since the last progress, milliseconds on the second tier.
    #[serde(default)]
    pub mean_cloud_ms: Option<f64>,
    /// Of the samples since the last progress, milliseconds on each tier that worked for them.
    #[serde(default)]
    pub mean_tier_ms: Vec<Option<f64>>,
    /// What each target behind a link has answered so far.
    #[serde(default)]
    pub clouds: Vec<CloudShare>,
    /// The sensors, now and then.
    #[serde(default)]
    pub telemetry: Option<Box<Telemetry>>,
}

/// What a job found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum JobResult {
    Profile(Box<Profile>),
    Part(PartProfile),
    Link(LinkProfile),
    Trained(Trained),
    /// The records are fetched apart.
    Evaluated(Evaluated),
}

/// What an evaluation found besides its records.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(from = "stored::Evaluated")]
#[allow(missing_docs)]
pub struct Evaluated {
    pub records: u64,
    /// Peak resident memory of each tier's process during the run, nearest first; 0 where nothing ran.
    /// An agent tells of itself and of the next tier.
    pub resident_bytes: Vec<usize>,
    /// Whether the edge's times or the link were emulated.
    pub emulated: bool,
    /// Wall time of the whole run.
    pub seconds: f64,
    pub wire: Option<Element>,
    /// Energy that the edge took for one inference, in joules, everything on it included; absent
    /// where power isn't measured.
    pub joules_per_inference: Option<f64>,
    /// What each target behind a link contributed, tier by tier, in the order they were named.
    pub clouds: Vec<CloudShare>,
}

/// What a target behind a link contributed to a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudShare {
    /// Tier of the target.
    #[serde(default = "second")]
    pub tier: Tier,
    /// Address of the agent.
    pub url: String,
    /// Samples it answered for.
    pub answered: u64,
    /// Requests it didn't answer, or not in time.
    pub failed: u64,
}

impl Default for CloudShare {
    fn default() -> CloudShare {
        CloudShare {
            tier: Tier::Second,
            url: String::new(),
            answered: 0,
            failed: 0,
        }
    }
}

/// Releases that knew one tier behind a link left it out.
fn second() -> Tier {
    Tier::Second
}

mod stored {
    /*! What runs of two tiers found, as stages of release 0.1 kept it. */

    use super::{CloudShare, Element};
    use serde::Deserialize;

    #[derive(Deserialize)]
    pub(super) struct Evaluated {
        records: u64,
        #[serde(default)]
        resident_bytes: Vec<usize>,
        #[serde(default)]
        edge_resident_bytes: usize,
        #[serde(default)]
        cloud_resident_bytes: usize,
        emulated: bool,
        seconds: f64,
        wire: Option<Element>,
        #[serde(default)]
        joules_per_inference: Option<f64>,
        #[serde(default)]
        clouds: Vec<CloudShare>,
    }

    impl From<Evaluated> for super::Evaluated {
        fn from(stored: Evaluated) -> super::Evaluated {
            let mut resident_bytes = stored.resident_bytes;
            if resident_bytes.is_empty() {
                resident_bytes = vec![stored.edge_resident_bytes, stored.cloud_resident_bytes];
            }
            super::Evaluated {
                records: stored.records,
                resident_bytes,
                emulated: stored.emulated,
                seconds: stored.seconds,
                wire: stored.wire,
                joules_per_inference: stored.joules_per_inference,
                clouds: stored.clouds,
            }
        }
    }
}

/// Header of a request for inference that carries an [`InferRequest`] as JSON, so that the body is
/// the tensor and nothing else.
pub const INFER_HEADER: &str = "edgelesspart-infer";

/// Header of a request for inference that carries, as JSON, what the exits before said of each sample: a list
/// per sample of a [`Decision`](crate::predict::policy::Decision) per exit. It goes along where the measure of
/// confidence looks at them.
pub const EARLIER_HEADER: &str = "edgelesspart-earlier";

/// What goes with a tensor sent to a part; the agent keeps nothing of it between requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct InferRequest {
    #[serde(default)]
    pub confidence: Confidence,
    /// One for each exit of the part, then one for each exit of the parts behind; if there is none, the
    /// part's own thresholds and measure hold.
    #[serde(default)]
    pub thresholds: Vec<f64>,
    /// Where samples that don't leave the part go on; none behind the part that ends the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onward: Option<Onward>,
    /// Set where the body is pixels as bytes `[samples, c, h, w]`, not a tensor of [`super::wire`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixels: Option<Preprocessing>,
    /// Whether those pixels are one image, coded as a JPEG file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub jpeg: bool,
}

/// Where an agent sends what doesn't leave its part, and how. Tokens of the targets are in no file and no
/// log there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Onward {
    /// The tiers behind, nearest first; one at least.
    pub hops: Vec<Hop>,
    /// Element type and compression of tensors on the way.
    pub wire: Wire,
    /// Milliseconds that an offload may take, counted from where the request came; none if absent.
    #[serde(default)]
    pub deadline_ms: Option<f64>,
    /// The part's last exit answers for a next tier that doesn't; else the request is refused.
    #[serde(default)]
    pub degrade: bool,
}

/// What became of a sample behind the part that answers for it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Passed {
    /// Milliseconds that each tier behind worked for it, nearest first.
    pub tier_ms: Vec<f32>,
    /// One per link behind, over which it was sent.
    pub hops: Vec<HopRecord>,
    /// Whether an exit before a link had to answer.
    pub degraded: bool,
    /// The targets behind that were asked for it.
    pub asked: Vec<Asked>,
}

/// A target that was asked for a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Links between the agent that tells and the target, less one.
    pub hop: usize,
    /// Its place among its tier's targets in the request.
    pub target: usize,
    /// Whether a classifier of the part answered the sample.
    pub answered: bool,
}

/// A part that was made ready, and what it found behind it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prepared {
    /// The part. Of an agent that only passes samples on, the one behind it, without exits.
    #[serde(flatten)]
    pub part: PartInfo,
    /// The parts behind; none where the request named none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<Behind>,
}

/// All parts behind an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behind {
    /// Number of exits in those parts.
    pub exits: usize,
    /// Whether any of the agents stretches its times, or a link is emulated.
    pub emulated: bool,
}

/// What a part answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct InferReply {
    /// Answers, one per sample, in order.
    pub answers: Vec<PartAnswer>,
    /// Decoding, or preprocessing of pixels.
    pub decode_ms: f64,
    /// Milliseconds in segments and heads.
    pub compute_ms: f64,
    /// Requests that are waiting or running there while this one is answered.
    #[serde(default)]
    pub outstanding: u32,
    /// One per answer where the request names tiers behind; else none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed: Vec<Passed>,
    /// What is worth a line in the run's log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The one line that an agent writes to standard output, once it serves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Ready {
    pub url: String,
    pub pid: u32,
    /// Where it keeps what it is sent.
    pub data: PathBuf,
    /// Whether that folder ends with it.
    pub temporary: bool,
}

/// The variable in which a child finds its token: arguments can be read by every user of a machine,
/// the environment of a process by its own user alone.
pub const TOKEN_VARIABLE: &str = "EDGELESSPART_AGENT_TOKEN";

/// Answer to a submitted job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Submitted {
    pub id: String,
}

/// What a client gets that comes back too late for the events it missed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Snapshot {
    /// Events that are gone.
    pub missed: u64,
    /// The last state among them.
    pub latest: Option<JobEvent>,
}

/// Every refusal of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The reason and the remedy, in words.
    pub error: String,
    /// The kind of the reason.
    #[serde(default)]
    pub kind: RefusalKind,
}

/// The kind of a refusal, for clients that do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// The request isn't what it should be.
    Invalid,
    /// The body ended before it was whole, or was damaged on the way.
    Incomplete,
    /// The token is missing or wrong.
    Unauthorized,
    /// The request comes from a web page, or names another host.
    Foreign,
    /// Nothing is served there under this name.
    NotFound,
    /// The agent doesn't know the job (any more).
    NoSuchJob,
    /// The agent doesn't have the file: it has to be sent first.
    NotStored,
    /// The path is not served with this method.
    Method,
    /// The body came too slowly.
    TooSlow,
    /// Another piece of the file is due.
    Conflict,
    /// The body is larger than the agent takes.
    TooLarge,
    /// The body is of a type or encoding that isn't read here.
    Unsupported,
    /// The network computes no answer from this input.
    Unanswerable,
    /// The agent has too much to do: worth asking again later.
    Busy,
    /// The agent is ending.
    Ending,
    /// The agent's part lets the sample go on, and no target behind it answers.
    NextTier,
    /// There is no room left for files.
    StorageFull,
    /// The agent speaks HTTPS here, the client HTTP.
    Encrypted,
    /// The agent itself failed.
    Failed,
    /// Any other, of a later release or another server.
    #[default]
    #[serde(other)]
    Other,
}

/// The kind of a job's failure, for clients that do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The request asks for what can't be done.
    Invalid,
    /// A file the request names is not on the agent: it has to be sent first.
    NotStored,
    /// The machine has too little memory for it.
    Memory,
    /// The agent's disk is full, or can't be read.
    Storage,
    /// No cloud target could be reached.
    CloudUnreachable,
    /// No cloud target answered in time.
    CloudLate,
    /// A cloud target refused.
    CloudRefused,
    /// A cloud target answered what isn't understood.
    CloudAnswer,
    /// The agent ended before the job's turn came.
    Ending,
    /// The agent itself failed.
    Internal,
    /// Any other, or of a later release.
    #[default]
    #[serde(other)]
    Other,
}

/// A data set as it travels: pixels as bytes `[samples, c, h, w]`. Labels stay at the workbench.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct DataSet {
    pub shape: [usize; 3],
    pub samples: usize,
    pub pixels: Vec<u8>,
}
