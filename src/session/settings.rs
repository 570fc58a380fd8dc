/*! The settings as the file has them; all but `version`, `model` and `data` may be left out. */

use super::ModelSource;
use super::parse::{SessionError, VERSION};
use crate::backend::BackendId;
use crate::data::{Calibration, Preprocessing, Source};
use crate::exits::Classifier;
use crate::explore::{Goal, Promise};
use crate::plan::{ExitRule, Plan, Rules, Sends, Split, Tier, TierNames};
use crate::plan::{Link, Wire};
use crate::plan::{Placement, SplitRule};
use crate::predict::Terms;
use crate::predict::{Billing, Confidence, EnergySettings, Policy};
use crate::train::{Recipe, Training};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Everything a run needs to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Of the file's form; [`super::VERSION`].
    pub version: u32,
    /// Of the run and its folder; the file's name if absent.
    #[serde(default)]
    pub name: Option<String>,
    /// Where the network comes from.
    pub model: ModelSource,
    /// Where the images come from.
    pub data: Source,
    /// From pixels to the network's input; [`Session::pixels`] if absent.
    #[serde(default)]
    pub preprocessing: Option<Preprocessing>,
    /// The output of the network that each class of the data is, by name; empty where the classes are
    /// the outputs, in order.
    #[serde(default)]
    pub classes: Vec<(String, usize)>,
    /// Where calibration images come from.
    #[serde(default = "calibration")]
    pub calibration: Calibration,
    /// At most so many training images; all if absent. Stated in the report.
    #[serde(default)]
    pub train_samples: Option<usize>,
    /// At most so many test images; all if absent. Stated in the report.
    #[serde(default)]
    pub test_samples: Option<usize>,
    /// Where to split: one rule per link, nearest to the sample first. A file that leaves them out gets
    /// shares of the network's memory, spread evenly up to 70 %.
    #[serde(default)]
    pub splits: Vec<SplitRule>,
    /// Which exits, and how they are trained.
    #[serde(default)]
    pub exits: ExitSettings,
    /// When a sample leaves.
    #[serde(default = "policy")]
    pub policy: Policy,
    /// What is wanted of a deployment, and within which limits.
    #[serde(default)]
    pub goal: Goal,
    /// What thresholds are to keep with a probability; half of the calibration images are held back for it.
    #[serde(default)]
    pub guarantee: Option<Promise>,
    /// The thresholds the report sweeps.
    #[serde(default)]
    pub sweep: Sweep,
    /// The devices a sample passes on its way, nearest first: two to four.
    #[serde(default = "tiers")]
    pub tiers: Vec<TierSettings>,
    /// Where exits over the frozen network are trained.
    #[serde(default)]
    pub train_on: TrainOn,
    /// One between each tier and the next. A file that leaves them out has them measured.
    #[serde(default)]
    pub links: Vec<Link>,
    /// How the split tensor travels.
    #[serde(default)]
    pub wire: Wire,
    /// What a sample that no exit lets go is sent on as.
    #[serde(default)]
    pub sends: Sends,
    /// Quality of images that are sent as JPEG files, 1 to 100.
    #[serde(default = "jpeg_quality")]
    pub jpeg_quality: u8,
    /// When a tier behind is late or away.
    #[serde(default)]
    pub offload: Offload,
    /// Price model of the cloud.
    #[serde(default)]
    pub billing: Billing,
    /// How the first tier's energy is predicted.
    #[serde(default)]
    pub energy: EnergySettings,
    /// Of every random choice but the synthetic images, which have their own.
    #[serde(default = "seed")]
    pub seed: u64,
    /// Threads of the process that trains and makes tables; one per core if absent.
    #[serde(default)]
    pub threads: Option<usize>,
    /// Images at a time.
    #[serde(default)]
    pub batch: BatchSizes,
    /// A file that holds what a run left, where `results` doesn't; read with the session.
    #[serde(default)]
    pub recorded: Option<PathBuf>,
    /// What a run left; in the files it writes.
    #[serde(default)]
    pub results: Option<Box<super::Results>>,
    /// What became of settings of an older file that this form doesn't have; told when it is opened, and
    /// never written.
    #[serde(skip)]
    pub migrated: Vec<String>,
}

/// A tier of the chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierSettings {
    /// What it is called on screen, in reports and in `train_on`.
    pub name: String,
    /// Where its part runs; several share the samples.
    pub targets: Vec<Target>,
}

/// Which exits, and how they are trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExitSettings {
    /// Exits inside each part, 0 to 3.
    pub per_part: usize,
    /// How they are spread.
    pub placement: Placement,
    /// Whether one stands at the split itself; it counts towards the three.
    pub at_split: bool,
    /// Exits exactly behind these layers, at most three per part, in place of a spread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Vec<String>>,
    /// What a head is made of.
    pub classifier: Classifier,
    /// A folder of templates that the classifier may include; the one the classifier's file lies in,
    /// or the session's, if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub templates: Option<PathBuf>,
    /// Whether heads learn over the frozen network or together with it, and for how long.
    pub training: Training,
    /// How heads learn: rate, weight decay, smoothing, distillation, patience.
    #[serde(skip_serializing_if = "Recipe::is_usual")]
    pub recipe: Recipe,
}

impl Default for ExitSettings {
    fn default() -> Self {
        ExitSettings {
            per_part: 3,
            placement: Placement::default(),
            at_split: false,
            at: None,
            classifier: Classifier::default(),
            templates: None,
            training: Training::default(),
            recipe: Recipe::default(),
        }
    }
}

/// Thresholds from `from` to `to`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Sweep {
    pub from: f64,
    pub to: f64,
    pub step: f64,
}

impl Default for Sweep {
    /// Gives the paper's three exits per part, spread evenly, replicas of the classifier.
    fn default() -> Self {
        Sweep {
            from: 0.3,
            to: 0.9,
            step: 0.1,
        }
    }
}

impl Sweep {
    /// The thresholds, ascending. Rounded to a millionth, so that 0.3 + 4 · 0.1 reads 0.7.
    pub fn thresholds(&self) -> Vec<f64> {
        let steps = ((self.to - self.from) / self.step + 1e-6).floor() as usize;
        (0..=steps)
            .map(|i| ((self.from + i as f64 * self.step) * 1e6).round() / 1e6)
            .collect()
    }
}

/// A device that runs a part.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Target {
    /// A child process of this program on this machine.
    Local {
        /// Cores it may use; any if empty.
        #[serde(default)]
        cores: Vec<usize>,
        /// Factor its times are stretched by; other than 1 is labelled emulated.
        #[serde(default = "one")]
        slowdown: f64,
        /// Threads; one a core if absent.
        #[serde(default)]
        threads: Option<usize>,
        /// Engine that runs its part; our own if absent.
        #[serde(default, skip_serializing_if = "is_native")]
        engine: BackendId,
    },
    /// This program on another machine.
    Agent {
        /// Address, beginning with `http://` or `https://`.
        url: String,
        /// Where its token is found; never the token.
        #[serde(default)]
        token: Option<Token>,
        /// Which certificate is believed.
        #[serde(default)]
        trust: Trust,
        /// Engine that the agent has to have been started with; any if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        engine: Option<BackendId>,
    },
    /// A server of the Open Inference Protocol; in the last tier only.
    V2 {
        /// Address, beginning with `http://` or `https://`.
        url: String,
        /// The name it serves the last part under.
        model: String,
        /// Where its token is found; never the token. Shown as `Authorization: Bearer`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<Token>,
    },
}

/// Results are kept under this text: an engine stands in it only where the session names one, so that what
/// was measured before sessions could is still found.
impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (mut text, engine) = match self {
            Target::Local {
                cores,
                slowdown,
                threads,
                engine,
            } => {
                let mut text = f.debug_struct("Local");
                text.field("cores", cores).field("slowdown", slowdown);
                text.field("threads", threads);
                (text, (!is_native(engine)).then_some(engine))
            }
            Target::Agent {
                url,
                token,
                trust,
                engine,
            } => {
                let mut text = f.debug_struct("Agent");
                text.field("url", url).field("token", token);
                text.field("trust", trust);
                (text, engine.as_ref())
            }
            Target::V2 { url, model, token } => {
                let mut text = f.debug_struct("V2");
                text.field("url", url).field("model", model);
                if let Some(token) = token {
                    text.field("token", token);
                }
                (text, None)
            }
        };
        if let Some(engine) = engine {
            text.field("engine", engine);
        }
        text.finish()
    }
}

/// Where exits are trained.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum TrainOn {
    /// In the workbench's own process.
    #[default]
    Here,
    /// On the first target of the tier of this name that answers.
    Tier(String),
}

/// Where a token is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Token {
    /// In this environment variable.
    Env(String),
    /// In this file, alone.
    File(PathBuf),
}

/// Which certificate of an agent is believed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Trust {
    /// One the system's authorities vouch for.
    #[default]
    System,
    /// The one of this SHA-256, as `sha256:` and 64 hex digits.
    Fingerprint(String),
    /// One that the authorities in this file (PEM) vouch for.
    Ca(PathBuf),
}

/// When a tier behind is late or away.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Offload {
    /// Milliseconds after which an answer is late, counted from where the first tier sends; none if absent.
    pub deadline_ms: Option<f64>,
    /// What becomes of a sample whose answer is late.
    pub degrade: Degrade,
}

/// What becomes of a sample that the tiers behind don't answer in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Degrade {
    /// The run fails and says so.
    #[default]
    Fail,
    /// The last exit before the link answers; such samples are counted apart.
    LastExit,
}

/// Images at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchSizes {
    /// Images per step of a training.
    pub train: usize,
    /// While the features that exits learn from are made, on the frozen network. Tables and runs go image
    /// by image.
    pub evaluate: usize,
}

impl Default for BatchSizes {
    fn default() -> Self {
        BatchSizes {
            train: 128,
            evaluate: 64,
        }
    }
}

impl Session {
    /// A session of this network and these images, every other setting as if left out.
    ///
    /// # Errors
    /// Only where this program can't read what it writes.
    pub fn with(model: ModelSource, data: Source) -> Result<Session, SessionError> {
        // One place has the defaults: what a file may leave out.
        let text = format!("Session(version: {VERSION}, model: Demo, data: Synthetic(seed: 7))");
        let mut session = Session::parse(&text, Path::new("new.ron"))?;
        (session.model, session.data) = (model, data);
        Ok(session)
    }

    /// From pixels to the network's input: the session's, or 0 to 1 where it doesn't say.
    pub fn pixels(&self) -> &Preprocessing {
        static USUAL: LazyLock<Preprocessing> = LazyLock::new(Preprocessing::default);
        self.preprocessing.as_ref().unwrap_or(&USUAL)
    }

    /// Whether what one session measured is of the other: all but plan, policy and what runs where it is
    /// computed afresh.
    pub fn shares_ground(&self, other: &Session) -> bool {
        self.shares_tables(other)
            && self.test_samples == other.test_samples
            && self.tiers == other.tiers
            && self.links == other.links
    }

    /// Whether network, images and what lies between them are the same, so that the confidence tables
    /// of one are the other's.
    pub fn shares_tables(&self, other: &Session) -> bool {
        self.model == other.model
            && self.data == other.data
            && self.pixels() == other.pixels()
            && self.classes == other.classes
            && self.calibration == other.calibration
    }

    /// What the tiers are called, in order.
    pub fn tier_names(&self) -> TierNames {
        TierNames::new(self.tiers.iter().map(|tier| tier.name.clone()))
    }

    /// The tiers, in order.
    pub fn chain(&self) -> impl DoubleEndedIterator<Item = Tier> + Clone {
        Tier::chain(self.tiers.len())
    }

    /// The tier farthest from the sample, whose part ends the network.
    pub fn last_tier(&self) -> Tier {
        self.chain().next_back().unwrap_or(Tier::First)
    }

    /// The targets of a tier, in order; none for a tier the session doesn't have.
    pub fn targets(&self, tier: Tier) -> &[Target] {
        let found = self.tiers.get(tier.index());
        found.map_or(&[], |tier| tier.targets.as_slice())
    }

    /// The engine that makes the confidence tables: the one that all targets run by, where they are all on
    /// this machine and agree; else our own.
    pub fn table_engine(&self) -> BackendId {
        let mut targets = self.tiers.iter().flat_map(|tier| &tier.targets);
        let local = |target: &Target| match target {
            Target::Local { engine, .. } => Some(*engine),
            Target::Agent { .. } | Target::V2 { .. } => None,
        };
        match targets.next().and_then(local) {
            Some(first) if targets.all(|target| local(target) == Some(first)) => first,
            _ => BackendId::Native,
        }
    }

    /// The link between a tier and the next; measured as it is where the session has none there.
    pub fn link(&self, behind: Tier) -> Link {
        let found = self.links.get(behind.index());
        found.copied().unwrap_or_default()
    }

    /// The rule for the split behind a tier; none behind the last.
    pub fn split(&self, behind: Tier) -> Option<&SplitRule> {
        self.splits.get(behind.index())
    }

    /// Sets the rule for the split behind a tier; behind the last there is nothing to set.
    pub fn set_split(&mut self, behind: Tier, rule: SplitRule) {
        if let Some(own) = self.splits.get_mut(behind.index()) {
            *own = rule;
        }
    }

    /// The tier on whose target exits are trained; none for the workbench's own process.
    pub fn trains_on(&self) -> Option<Tier> {
        match &self.train_on {
            TrainOn::Here => None,
            TrainOn::Tier(name) => self.tier_names().find(name),
        }
    }

    /// Puts in what a file may leave out and what depends on the number of its tiers: the links are
    /// measured, and the splits are spread over the network's memory.
    pub(crate) fn complete(&mut self) {
        let hops = self.tiers.len().saturating_sub(1);
        if self.links.is_empty() {
            self.links = vec![Link::default(); hops];
        }
        if self.splits.is_empty() {
            self.splits = usual_splits(hops);
        }
    }

    /// The rules by which its plan is made.
    pub fn rules(&self) -> Rules {
        Rules {
            splits: self.splits.clone(),
            exits: ExitRule {
                placement: self.exits.placement,
                per_part: self.exits.per_part,
                at_split: self.exits.at_split,
                threshold: self.policy.threshold,
                thresholds: self.policy.exits.clone(),
            },
            at: self.exits.at.clone(),
            sends: self.sends,
        }
    }

    /// Sets rules that give this plan and no other, whatever is measured meanwhile: its splits, its
    /// exits by name, and their thresholds.
    pub fn pin(&mut self, plan: &Plan) {
        let names = plan.split_layers.iter();
        let rule = |(split, name): (&Split, &Option<String>)| match (split, name) {
            (Split::After(_), Some(name)) => SplitRule::After(name.clone()),
            (Split::Start, _) => SplitRule::Memory { share: 0.0 },
            _ => SplitRule::Memory { share: 1.0 },
        };
        self.splits = plan.splits.iter().zip(names).map(rule).collect();
        self.sends = plan.sends;
        self.exits.at = Some(plan.exits.iter().map(|e| e.after.clone()).collect());
        if let Some(first) = plan.exits.first() {
            self.policy.threshold = first.threshold;
        }
        let common = self.policy.threshold;
        let own = plan.exits.iter().filter(|e| e.threshold != common);
        self.policy.exits = own.map(|e| (e.after.clone(), e.threshold)).collect();
    }

    /// Whether the plan depends on what was measured.
    pub fn plans_by_evidence(&self) -> bool {
        let by_evidence = |rule: &SplitRule| {
            matches!(
                rule,
                SplitRule::Latency | SplitRule::Fastest | SplitRule::Cheapest
            )
        };
        self.splits.iter().any(by_evidence)
    }

    /// What predictions are asked under.
    pub fn terms(&self) -> Terms {
        Terms {
            policy: self.policy.clone(),
            wire: self.wire,
            billing: self.billing,
            energy: self.energy,
            rate_hz: self.goal.rate_hz(),
            seed: self.seed,
        }
    }

    /// The same with every relative path joined to `folder`, the one of the session file.
    pub fn resolved(&self, folder: &Path) -> Session {
        let mut session = self.clone();
        let join = |path: &mut PathBuf| *path = folder.join(&path);
        if let ModelSource::Onnx(path) | ModelSource::OnnxWith { path, .. } = &mut session.model {
            join(path);
        }
        if let Some(path) = session.data.path_mut() {
            join(path);
        }
        if let Classifier::File(path) = &mut session.exits.classifier {
            join(path);
        }
        match (&mut session.exits.templates, &session.exits.classifier) {
            (Some(path), _) => join(path),
            // What a source in the session includes lies beside the session.
            (none, Classifier::Template(_)) => *none = Some(folder.to_owned()),
            (None, _) => {}
        }
        for target in session.tiers.iter_mut().flat_map(|t| &mut t.targets) {
            if let Target::Agent { token, .. } | Target::V2 { token, .. } = target
                && let Some(Token::File(path)) = token
            {
                join(path);
            }
            if let Target::Agent {
                trust: Trust::Ca(path),
                ..
            } = target
            {
                join(path);
            }
        }
        session
    }
}

pub(super) fn calibration() -> Calibration {
    Calibration::FromTest(1000)
}

/// Shares of the network's memory, evenly spread up to the paper's 70 %.
fn usual_splits(hops: usize) -> Vec<SplitRule> {
    let share = |hop: usize| (70.0 * hop as f64 / hops as f64).round() / 100.0;
    let shares = (1..=hops).map(share);
    shares.map(|share| SplitRule::Memory { share }).collect()
}

pub(super) fn policy() -> Policy {
    Policy {
        confidence: Confidence::default(),
        threshold: 0.7,
        exits: Vec::new(),
    }
}

fn tiers() -> Vec<TierSettings> {
    let tier = |name: &str, target| TierSettings {
        name: name.to_owned(),
        targets: vec![target],
    };
    vec![tier("edge", local(0, 6.0)), tier("cloud", local(1, 1.0))]
}

pub(super) fn local(core: usize, slowdown: f64) -> Target {
    Target::Local {
        cores: vec![core],
        slowdown,
        threads: None,
        engine: BackendId::Native,
    }
}

fn is_native(engine: &BackendId) -> bool {
    *engine == BackendId::Native
}

fn one() -> f64 {
    1.0
}

/// A picture that looks untouched; a camera's usual setting.
pub(super) fn jpeg_quality() -> u8 {
    90
}

pub(super) fn seed() -> u64 {
    7
}

#[cfg(test)]
mod tests {
    use crate::backend::{BackendId, Provider};
    use crate::explore::Planner;
    use crate::plan::Split;
    use crate::predict::replay::tests::{plan, setting};
    use crate::session::Session;
    use pretty_assertions::assert_eq;
    use rstest::rstest;
    use std::path::Path;

    fn with_targets(edge: &str, cloud: &str) -> Session {
        let text = format!(
            "Session(version: 2, model: Demo, data: Synthetic(seed: 7), tiers: [\
             (name: \"edge\", targets: [{edge}]), (name: \"cloud\", targets: [{cloud}])])"
        );
        Session::parse(&text, Path::new("my.ron")).unwrap()
    }

    const BY_ORT: &str = "Local(engine: OnnxRuntime(Cpu))";
    const AGENT: &str = "Agent(url: \"http://jetson:7070\", engine: OnnxRuntime(Cpu))";

    #[rstest]
    #[case("Local()", "Local(cores: [1])", BackendId::Native)]
    #[case(BY_ORT, BY_ORT, BackendId::OnnxRuntime(Provider::Cpu))]
    #[case(BY_ORT, "Local()", BackendId::Native)]
    #[case(BY_ORT, "Local(engine: OnnxRuntime(OpenVino))", BackendId::Native)]
    #[case(BY_ORT, AGENT, BackendId::Native)]
    #[case(AGENT, AGENT, BackendId::Native)]
    fn tables_are_made_by_the_engine_that_all_targets_here_share(
        #[case] edge: &str,
        #[case] cloud: &str,
        #[case] engine: BackendId,
    ) {
        assert_eq!(with_targets(edge, cloud).table_engine(), engine);
    }

    #[test]
    fn results_of_targets_without_an_engine_are_kept_as_before_there_were_engines() {
        let session = with_targets("Local(cores: [0], slowdown: 6)", BY_ORT);
        let texts = session.tiers.iter().flat_map(|tier| &tier.targets);
        let texts: Vec<String> = texts.map(|target| format!("{target:?}")).collect();
        assert_eq!(
            texts[0],
            "Local { cores: [0], slowdown: 6.0, threads: None }"
        );
        assert!(
            texts[1].contains("engine: OnnxRuntime(Cpu)"),
            "{}",
            texts[1]
        );
    }

    #[rstest]
    #[case(Split::Start, &[2])]
    #[case(Split::After(3), &[1, 2, 5])]
    #[case(Split::After(3), &[])]
    #[case(Split::End, &[0, 4])]
    fn a_pinned_session_plans_that_plan_and_no_other(
        #[case] split: Split,
        #[case] exits: &[usize],
    ) {
        let mut wanted = plan(split, exits, 0.8);
        if let Some(last) = wanted.exits.last_mut() {
            last.threshold = 0.6;
        }
        let text = "Session(version: 2, model: Demo, data: Synthetic(seed: 7), splits: [Fastest])";
        let mut session = Session::parse(text, Path::new("my.ron")).unwrap();
        assert!(session.plans_by_evidence());
        session.pin(&wanted);
        assert!(!session.plans_by_evidence());
        let s = setting(30, 2);
        let planner = Planner {
            rules: &session.rules(),
            terms: &session.terms(),
        };
        let made = planner.plan(&s.evidence).unwrap();
        assert_eq!((made.splits, made.exits), (wanted.splits, wanted.exits));
    }
}
