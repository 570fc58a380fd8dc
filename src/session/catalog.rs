/*!
The settings one by one: what each is for and what it may be. Validation, the comments of a saved file, the
workbench's session page, `--set` and `docs/settings.md` all read this list.
*/

use super::parse::{VERSION, dialect, explain};
use super::save::Field;
use super::{Session, Target, TierSettings, Token, Trust};
use crate::explore::Limit;
use crate::plan::{Link, Tier};
use crate::train::recipe;
use crate::units;
use serde::de::DeserializeOwned;
use std::fmt;
use std::path::Path;
use std::sync::LazyLock;

/// What a setting may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Allowed {
    /// A number from 0 to 1.
    Share,
    /// A whole number from the first to the second, or without end.
    Count(usize, Option<usize>),
    /// A number above 0.
    Positive,
    /// A number from this one up.
    From(f64),
    /// A number from the first to the second.
    Range(f64, f64),
    /// A number in a goal's range.
    Limit(Limit),
    /// One of these, as the file has them.
    OneOf(&'static [&'static str]),
    /// One of these, or one of these forms, as the file has them.
    OneOfOr(&'static [&'static str], &'static str),
    /// A text, in quotes in the file.
    Text,
    /// One of these forms, as the file has them.
    Forms(&'static str),
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Allowed::Share => write!(f, "0 to 1"),
            Allowed::Count(from, Some(to)) => write!(f, "{from} to {to}"),
            Allowed::Count(from, None) => write!(f, "a whole number, {from} or more"),
            Allowed::Positive => write!(f, "more than 0"),
            Allowed::From(least) => write!(f, "{least} or more"),
            Allowed::Range(least, most) => write!(f, "{least} to {most}"),
            Allowed::Limit(limit) => write!(f, "{}", limit.range()),
            Allowed::OneOf(all) => write!(f, "{}", all.join(", ")),
            Allowed::OneOfOr(all, forms) => write!(f, "{}, {forms}", all.join(", ")),
            Allowed::Text => write!(f, "a text"),
            Allowed::Forms(forms) => write!(f, "{forms}"),
        }
    }
}

/// A setting of a session.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its fields, as `exits.per_part`.
    pub path: &'static str,
    /// What it may be.
    pub allowed: Allowed,
    /// What it means where it is `None`; empty where it can't be.
    pub none: &'static str,
    /// What it is for, in a sentence without its full stop.
    pub help: &'static str,
    get: fn(&Session) -> Result<String, ron::Error>,
    set: fn(&mut Session, &str) -> Result<(), ron::error::Error>,
}

/// Why a session can't be changed in that way.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SettingError {
    /// No setting has this name; perhaps another one was meant.
    #[error("no setting is called `{name}`{}", .near.map_or(String::new(), |n| format!("; did you mean `{n}`?")))]
    Unknown {
        /// The name as it was typed.
        name: String,
        /// A setting whose name is close.
        near: Option<&'static str>,
    },
    /// What was typed isn't such a value.
    #[error("{problem}; it may be: {allowed}")]
    Form {
        /// What is wrong with the text.
        problem: String,
        /// What it may be.
        allowed: String,
    },
    /// A token, or what looks like one, was typed where the name of its variable belongs.
    #[error(
        "a session holds no token, only the name of the environment variable that does, and this looks like \
         the token itself: set the variable before you start the program (export EDGE_TOKEN=..), then type \
         its name, in capitals, behind the address (https://jetson:7070 EDGE_TOKEN)"
    )]
    Token,
    /// Another setting has a value that it can't have with the new one.
    #[error("{field}: {problem}")]
    Invalid {
        /// The setting that is wrong then.
        field: String,
        /// What it is and what it may be.
        problem: String,
    },
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, ron::error::Error> {
    dialect().from_str(text).map_err(|error| error.code)
}

macro_rules! settings {
    ($($first:ident$(.$rest:ident)* [$allowed:expr] $none:literal $help:literal;)*) => {
        &[$(Setting {
            path: concat!(stringify!($first) $(, ".", stringify!($rest))*),
            allowed: $allowed,
            none: $none,
            help: $help,
            get: |session| session.$first$(.$rest)*.ron(),
            set: |session, text| {
                session.$first$(.$rest)* = read(text)?;
                Ok(())
            },
        }),*]
    };
}

use Allowed::{Count, Forms, From, OneOf, OneOfOr, Positive, Share, Text};

/// A range as the recipe checks it.
const fn range(ends: [f64; 2]) -> Allowed {
    Allowed::Range(ends[0], ends[1])
}

const LEARNING_RATES: Allowed = range(recipe::LEARNING_RATES);
const WEIGHT_DECAYS: Allowed = range(recipe::WEIGHT_DECAYS);
const SMOOTHINGS: Allowed = range(recipe::SMOOTHINGS);

/// All settings but the tiers, in the order of the file.
pub const SETTINGS: &[Setting] = settings![
    name [Text] "the file's name" "Name of the run, whose results go to runs/NAME";
    model [Forms("Onnx(\"file\"), OnnxWith(path: \"file\", input: (3, 64, 64), classifier: \"logits\") for a file \
        that leaves something open, Zoo(network: ResNet50, input: (3, 32, 32), classes: 10), Demo")] ""
        "The network";
    data [Forms("ImageFolder(\"dir\"), Table(\"labels.csv\"), Cifar10(\"dir\"), Cifar100(\"dir\"), Idx(\"dir\"), \
        Npz(\"file\"), Tar(\"dir\"), Synthetic(seed: 7)")] ""
        "The images";
    preprocessing [Forms("(scale: 0.0039, mean: [0.5], std: [0.5], layout: Nchw or Nhwc (channels last), \
        channels: Rgb or Bgr, fit: Stretch or CentreCrop(keep: 0.875) for the middle)")] "0 to 1"
        "From pixels (0 to 255) to the network's input: (pixel * scale - mean) / std, one mean and std or one \
        per channel";
    classes [Forms("[(\"cat\", 3), (\"dog\", 5)], or [] where the classes are the outputs, in order")] ""
        "Which output of the network each class of the data is";
    calibration [Forms("FromTest(2000) sets test images aside, FromTrain(5000) training images, for networks \
        trained here")] ""
        "Images that tune thresholds, unseen by the network";
    train_samples [Count(1, None)] "all" "Images that exits learn from, at most";
    test_samples [Count(1, None)] "all" "Images of the measured run, at most";
    splits [Forms("per link Memory(share: 0.7) or Layers(share: 0.7) of the network before the cut, Latency, \
        After(\"layer\"), or by prediction Fastest or Cheapest")] ""
        "Where the network is cut, one per link";
    exits.per_part [Count(0, Some(3))] "" "Exits inside each part";
    exits.placement [OneOf(&["Linear", "Pareto"])] "" "How exits are spread over a part's MACs";
    exits.at_split [OneOf(&["true", "false"])] "" "Whether an exit stands at the split itself, one of the three";
    exits.at [Forms("[\"layer\", \"layer\"]")] "spread" "Exits exactly behind these layers, at most three per part";
    exits.classifier [Forms("Replica of the network's own, Template(\"[..]\"), File(\"head.ron.j2\"), OwnExits for those \
        that the network's file brings along, trained")] ""
        "What an exit is made of";
    exits.templates [Text] "the classifier's folder" "Folder of templates that the classifier may include";
    exits.training [Forms("Frozen(epochs: 20), Joint(epochs: 10), Mixed(backbone: 10, epochs: 10)")] ""
        "Whether exits learn over the frozen network or together with it, and for how long";
    exits.recipe.learning_rate [LEARNING_RATES] "by the kind of training" "Learning rate at its height";
    exits.recipe.weight_decay [WEIGHT_DECAYS] "by the kind of training" "Weight decay";
    exits.recipe.label_smoothing [SMOOTHINGS] "0" "Share of the target spread over all classes";
    exits.recipe.distill [Forms("(temperature: 2.0, weight: 0.5)")] "labels alone"
        "How much exits learn from the final classifier";
    exits.recipe.patience [Count(1, None)] "all epochs"
        "Epochs without a lower loss on calibration images after which an exit stops learning";
    exits.recipe.heads [Forms("[(\"layer\", (learning_rate: 0.001))]")] "" "Exits that learn in another way";
    policy.confidence [OneOf(&["MaxProbability", "Entropy", "Margin", "Patience", "Learned"])] "" "Measure of confidence; \
        Patience is k / (k + 1) where k exits in a row agree, Learned weighs all exits so far";
    policy.threshold [Share] "" "A sample leaves at the first exit whose confidence is above the threshold";
    policy.exits [Forms("[(\"layer\", 0.9)]")] "" "Exits with a threshold of their own";
    goal.minimise [OneOf(&["Latency(mean)", "Latency(p95)", "Cost", "EdgeMemory", "Energy"])] "" "What is to be small";
    goal.within.accuracy_loss_points [Allowed::Limit(Limit::AccuracyLoss)] "no limit"
        "Points of accuracy that may be lost against the unmodified network";
    goal.within.latency_ms [Allowed::Limit(Limit::Latency)] "no limit" "Mean milliseconds per sample, at most";
    goal.within.edge_memory [Allowed::Limit(Limit::EdgeMemory)] "no limit" "Bytes of the first tier, at most; in quotes where they have a unit";
    goal.within.energy_mj [Allowed::Limit(Limit::Energy)] "no limit"
        "Millijoules per inference on the first tier, at most";
    goal.within.cost_per_month [Allowed::Limit(Limit::CostPerMonth)] "no limit"
        "US dollars per month of 30 days, at most";
    goal.within.requests_per_second [Allowed::Limit(Limit::Load)] "1" "Load that the monthly bill is for, and by which \
        a radio is found asleep";
    guarantee [Forms("(accuracy_loss_points: 2.0, delta: Some(0.1)) for at most 2 points with a probability of \
        90 %, delta: None for 2 points in expectation")] "no promise"
        "What thresholds are to keep to; half of the calibration images are held back for it";
    sweep.from [Share] "" "Lowest threshold that the report compares";
    sweep.to [Share] "" "Highest threshold that the report compares";
    sweep.step [From(0.001)] "" "Step between the thresholds that the report compares";
    train_on [Forms("Here, Tier(\"cloud\")")] "" "Where exits over the frozen network are trained";
    links [Forms("[Measured], [Emulated(mbit: 40, rtt_ms: 12)], one between each tier and the next")] "" "Links";
    wire.tensor [OneOf(&["F32", "F16", "U8"])] "" "Type in which the tensor at the split travels";
    wire.compression [OneOf(&["None", "Lz4"])] "" "Compression of the tensor at the split";
    sends [OneOf(&["Tensor", "Image"])] ""
        "What no exit lets go is sent on as: the tensor at the split, or the image as a JPEG file, on which the \
        last tier runs the whole network";
    jpeg_quality [Count(1, Some(100))] "" "Quality of images that are sent as JPEG files";
    offload.deadline_ms [Positive] "no limit" "Milliseconds after which an answer of a tier behind is late";
    offload.degrade [OneOf(&["Fail", "LastExit"])] ""
        "What becomes of a late sample: the run fails, or the last exit before the link answers";
    billing [OneOfOr(&["GoogleCloudFunctions(tier: 1)", "GoogleCloudFunctions(tier: 2)", "CloudRun",
        "AwsLambda(arm: false)", "AwsLambda(arm: true)"], "or one's own as Rates(usd_per_second: .., \
        usd_per_gb_second: .., usd_per_request: .., usd_per_gb_out: .., step_ms: .., cpus: ..)")] ""
        "Whose prices";
    energy.radio [OneOfOr(&["Wired", "Wlan", "Lte"], "or one's own as Custom((up_nj_per_byte: .., down_nj_per_byte: .., \
        active_mw: .., wake_mj: .., wake_ms: .., tail_ms: .., tail_mw: .., cycle_ms: .., listen_ms: .., listen_mw: .., \
        sends_in_cycle: false))")] ""
        "What the first tier sends by: the radio's energy, and the time a sample waits for it";
    energy.watts [Positive] "the board's rails, else pj_per_mac and pj_per_byte" "Watts of the first tier while it computes";
    energy.pj_per_mac [From(0.0)] "" "Picojoules per multiply-accumulate";
    energy.pj_per_byte [From(0.0)] "" "Picojoules per byte of parameters and activations";
    seed [Count(0, None)] "" "Seed of every random choice";
    threads [Count(1, None)] "one per core" "Threads that train and make tables";
    batch.train [Count(1, None)] "" "Images per training step";
    batch.evaluate [Count(1, None)] "" "Images at a time while features are made";
];

/// What a group of settings, or the tiers, are about; for the comments of a saved file.
const GROUPS: &[(&str, &str)] = &[
    ("exits", "Early exits"),
    ("policy", "When a sample leaves"),
    (
        "goal",
        "What a deployment is to be, and within which limits",
    ),
    ("sweep", "Thresholds that the report compares"),
    (
        "tiers",
        "The devices that a sample passes, nearest first, two to four; targets of a tier share the images: \
         Local(cores: [0], slowdown: 6.0) on this machine, Agent(url: \"https://jetson:7070\", token: \
         Env(\"EDGE_TOKEN\")), or in the last V2(url: \"http://..\", model: \"..\"), with a token too. engine: Native, \
         Candle(Cpu) or OnnxRuntime(Cpu), with Cuda(0), TensorRt(0) or OpenVino.",
    ),
    ("wire", "How the tensor at the split travels"),
    ("energy", "Energy per inference on the first tier"),
    ("offload", "When a tier behind takes too long or is away"),
    ("batch", "Images at a time"),
];

/// The words on a field of the file: a setting's own, or those of a group and what is in it.
pub(super) fn comment(field: &str) -> String {
    if let Some(setting) = SETTINGS.iter().find(|s| s.path == field) {
        return setting.sentence();
    }
    let group = GROUPS.iter().find(|(name, _)| *name == field);
    let group = group.map_or("", |(_, words)| words);
    let inside = SETTINGS.iter().filter_map(|setting| {
        let name = setting.path.strip_prefix(field)?.strip_prefix('.')?;
        let (name, help) = (name.rsplit('.').next()?, setting.help);
        let lower = help.chars().next()?.to_lowercase().collect::<String>() + &help[1..];
        Some(format!("{name}: {lower} ({})", setting.values()))
    });
    let inside: Vec<String> = inside.collect();
    match inside.is_empty() {
        true => group.to_owned(),
        false => format!("{group}. {}.", inside.join("; ")),
    }
}

/// The session whose every setting is as if left out.
fn usual() -> &'static Session {
    static USUAL: LazyLock<Session> = LazyLock::new(|| {
        let text = format!("Session(version: {VERSION}, model: Demo, data: Synthetic(seed: 7))");
        // A constant that a test reads too.
        Session::parse(&text, Path::new("new.ron")).unwrap_or_else(|e| unreachable!("{e}"))
    });
    &USUAL
}

impl Setting {
    /// The setting of this name: its fields, or the last of them where only one setting ends so.
    ///
    /// # Errors
    /// There is none; a close one is named.
    pub fn find(name: &str) -> Result<&'static Setting, SettingError> {
        if let Some(exact) = SETTINGS.iter().find(|s| s.path == name) {
            return Ok(exact);
        }
        let ends = |s: &&Setting| s.path.rsplit('.').next() == Some(name);
        let mut found = SETTINGS.iter().filter(ends);
        if let (Some(only), None) = (found.next(), found.next()) {
            return Ok(only);
        }
        let near = SETTINGS.iter().map(|s| {
            let last = s.path.rsplit('.').next().unwrap_or(s.path);
            let near = strsim::jaro_winkler(last, name).max(strsim::jaro_winkler(s.path, name));
            (near, s.path)
        });
        let near = near.max_by(|a, b| a.0.total_cmp(&b.0));
        Err(SettingError::Unknown {
            name: name.to_owned(),
            near: near.filter(|(near, _)| *near > 0.8).map(|(_, path)| path),
        })
    }

    /// Its value, as the file has it.
    pub fn text(&self, session: &Session) -> String {
        let text = (self.get)(session).unwrap_or_else(|error| error.to_string());
        // RON marks what else would be an absent option.
        text.replace("r#None", "None")
    }

    /// Its value where a file leaves it out.
    pub fn usual(&self) -> String {
        self.text(usual())
    }

    /// Its value where a file leaves it out that has a session's tiers: there is a split and a link for each
    /// tier but the last.
    pub fn usual_in(&self, session: &Session) -> String {
        let own = usual();
        if !matches!(self.path, "splits" | "links") || session.tiers.len() == own.tiers.len() {
            return self.usual();
        }
        let mut next = Session {
            tiers: session.tiers.clone(),
            splits: Vec::new(),
            links: Vec::new(),
            ..own.clone()
        };
        next.complete();
        self.text(&next)
    }

    /// Whether a file must have it.
    pub fn is_required(&self) -> bool {
        matches!(self.path, "model" | "data")
    }

    /// What it may be, `None` too.
    pub fn values(&self) -> String {
        match self.none {
            "" => self.allowed.to_string(),
            none => format!("{}; None: {none}", self.allowed),
        }
    }

    /// Values that it may take, where they can be listed.
    pub fn choices(&self) -> Vec<&'static str> {
        let own = match self.allowed {
            Allowed::OneOf(all) | Allowed::OneOfOr(all, _) => all,
            _ => &[],
        };
        let none = (!self.none.is_empty()).then_some("None");
        own.iter().copied().chain(none).collect()
    }

    fn sentence(&self) -> String {
        format!("{}: {}.", self.help, self.values())
    }

    /// A session with another value of this setting, typed as the file has it; a text needs no quotes.
    ///
    /// # Errors
    /// What was typed is no such value, or doesn't go with the other settings.
    pub fn change(&self, session: &Session, text: &str) -> Result<Session, SettingError> {
        let mut next = session.clone();
        self.put(&mut next, text)?;
        checked(next)
    }

    /// Puts a value in, whatever the other settings are.
    fn put(&self, session: &mut Session, text: &str) -> Result<(), SettingError> {
        let text = text.trim();
        let quoted = match self.allowed {
            Allowed::Text if text.is_empty() => "None".to_owned(),
            // A text where it has a unit.
            Allowed::Limit(Limit::EdgeMemory) if units::read(text).is_ok() => format!("{text:?}"),
            Allowed::Text if !text.starts_with('"') && text != "None" => format!("{text:?}"),
            _ => text.to_owned(),
        };
        (self.set)(session, &quoted).map_err(|error| SettingError::Form {
            problem: format!("`{text}`: {}", explain(&error)),
            allowed: self.values(),
        })
    }

    /// Whether the value lies in the range.
    pub(super) fn check(&self, session: &Session) -> Result<(), (String, String)> {
        let wrong = |text: &str| {
            let problem = format!("{text}, it may be {}", self.allowed);
            (self.path.to_owned(), problem)
        };
        let least = match self.allowed {
            Allowed::Share | Allowed::Positive => 0.0,
            Allowed::Count(least, _) => least as f64,
            Allowed::From(least) | Allowed::Range(least, _) => least,
            _ => return Ok(()),
        };
        let text = self.text(session);
        // An absent one, and one that is no number, has no range.
        let Ok(number) = text.parse::<f64>() else {
            return Ok(());
        };
        let most = match self.allowed {
            Allowed::Share => 1.0,
            Allowed::Count(_, Some(most)) => most as f64,
            Allowed::Range(_, most) => most,
            _ => f64::MAX,
        };
        let open = self.allowed == Allowed::Positive && number <= 0.0;
        if open || !(least..=most).contains(&number) {
            return Err(wrong(&text));
        }
        Ok(())
    }
}

fn checked(mut next: Session) -> Result<Session, SettingError> {
    next.complete();
    let good = next.validate();
    good.map_err(|(field, problem)| SettingError::Invalid { field, problem })?;
    Ok(next)
}

/// What a target is typed as.
pub const TARGET_FORMS: &str = "Local(cores: [0], slowdown: 6.0), an agent's address with the variable that holds \
    its token (https://jetson:7070 EDGE_TOKEN; with #sha256:.. its certificate's fingerprint), Agent(..), or in the \
    last tier V2(url: \"http://..\", model: \"..\")";

/// A target as typed: as the file has it, or an agent's address and the variable that holds its token.
///
/// # Errors
/// It is typed in no such form; what was typed isn't repeated, since a token may stand in it.
fn target(text: &str) -> Result<Target, SettingError> {
    let text = text.trim();
    let form = |problem: String| SettingError::Form {
        problem,
        allowed: TARGET_FORMS.to_owned(),
    };
    if !text.starts_with("http") {
        return read(text).map_err(|error| form(explain(&error)));
    }
    let mut words = text.split_whitespace();
    let address = words.next().unwrap_or(text);
    let (url, print) = match address.split_once('#') {
        Some((url, print)) => (url, Some(print.to_owned())),
        None => (address, None),
    };
    let name = words.next();
    if words.next().is_some() {
        let problem = "there are more words than an address and the name of a variable";
        return Err(form(problem.to_owned()));
    }
    Ok(Target::Agent {
        url: url.trim_end_matches('/').to_owned(),
        token: name.map(|name| Token::Env(name.to_owned())),
        trust: print.map_or(Trust::System, Trust::Fingerprint),
        engine: None,
    })
}

/// Whether an environment variable can have this name.
pub(super) fn is_variable(name: &str) -> bool {
    let plain = |c: char| c == '_' || c.is_ascii_alphanumeric();
    let first = name.chars().next();
    name.len() <= LONGEST_VARIABLE
        && first.is_some_and(|c| !c.is_ascii_digit())
        && name.chars().all(plain)
}

/// Letters of a variable's name, at most.
const LONGEST_VARIABLE: usize = 64;

/// Whether what was typed as a variable's name is more likely a token itself. Names are made of words in
/// capitals, joined by `_`, as a rule; tokens are long, and mix digits and letters of both cases.
fn is_like_a_token(name: &str) -> bool {
    let one_word = !name.contains('_');
    name.split('_').any(|word| {
        let has = |kind: fn(&char) -> bool| word.chars().any(|c| kind(&c));
        let (digit, lower) = (has(char::is_ascii_digit), has(char::is_ascii_lowercase));
        let mixed = lower && has(char::is_ascii_uppercase);
        let short_secret = digit && lower && (one_word || word.len() >= 12);
        short_secret || (digit && word.len() >= 16) || (mixed && word.len() >= 20)
    })
}

impl Target {
    /// The environment variable that holds its token, where one does.
    pub(super) fn variable(&self) -> Option<&str> {
        match self {
            Target::Agent {
                token: Some(Token::Env(name)),
                ..
            }
            | Target::V2 {
                token: Some(Token::Env(name)),
                ..
            } => Some(name),
            _ => None,
        }
    }

    /// The target as the file has it, in a line.
    pub fn text(&self) -> String {
        self.ron().unwrap_or_else(|error| error.to_string())
    }
}

impl Session {
    /// A session with settings changed, each named by its fields, as `--set` has it: `exits.per_part=2`.
    /// What goes with what is looked at once all are in, so that their order says nothing.
    ///
    /// # Errors
    /// There is no such setting, or it can't have this value, with the place of the one that is wrong; without
    /// one where they don't go together.
    pub fn with_settings(
        &self,
        settings: &[(&str, &str)],
    ) -> Result<Session, (Option<usize>, SettingError)> {
        let mut next = self.clone();
        for (at, (name, text)) in settings.iter().enumerate() {
            let put = Setting::find(name).and_then(|setting| setting.put(&mut next, text));
            put.map_err(|error| (Some(at), error))?;
        }
        checked(next).map_err(|error| {
            let SettingError::Invalid { field, .. } = &error else {
                return (None, error);
            };
            // A field may be one inside a setting's value: `splits[0].share`.
            let of = |(name, _): &(&str, &str)| {
                let setting = Setting::find(name);
                setting.is_ok_and(|setting| field.starts_with(setting.path))
            };
            (settings.iter().rposition(of), error)
        })
    }

    /// A target as typed. A token in the place of its variable's name is refused before it is in a session,
    /// from where it would get into files; a name that the session has already is none.
    fn typed_target(&self, text: &str) -> Result<Target, SettingError> {
        let target = target(text)?;
        let known = |name: &str| {
            let mut all = self.tiers.iter().flat_map(|tier| &tier.targets);
            all.any(|own| own.variable() == Some(name))
        };
        let secret = |name: &&str| !known(name) && (!is_variable(name) || is_like_a_token(name));
        match target.variable().filter(secret) {
            Some(_) => Err(SettingError::Token),
            None => Ok(target),
        }
    }

    /// A session with a target more in a tier, or in another's place.
    ///
    /// # Errors
    /// It is typed in no such form, or may not stand there.
    pub fn with_target(
        &self,
        tier: Tier,
        at: Option<usize>,
        text: &str,
    ) -> Result<Session, SettingError> {
        let mut next = self.clone();
        let target = self.typed_target(text)?;
        if let Some(tier) = next.tiers.get_mut(tier.index()) {
            match at.and_then(|at| tier.targets.get_mut(at)) {
                Some(own) => *own = target,
                None => tier.targets.push(target),
            }
        }
        checked(next)
    }

    /// A session without a target.
    ///
    /// # Errors
    /// It is the last of its tier.
    pub fn without_target(&self, tier: Tier, at: usize) -> Result<Session, SettingError> {
        let mut next = self.clone();
        if let Some(tier) = next.tiers.get_mut(tier.index())
            && at < tier.targets.len()
        {
            tier.targets.remove(at);
        }
        checked(next)
    }

    /// A session with another name for a tier; what trains there still does.
    ///
    /// # Errors
    /// It is no word, or another tier's.
    pub fn with_tier_name(&self, tier: Tier, name: &str) -> Result<Session, SettingError> {
        let mut next = self.clone();
        let name = name.trim().trim_matches('"');
        if let Some(tier) = next.tiers.get_mut(tier.index()) {
            if next.train_on == super::TrainOn::Tier(tier.name.clone()) {
                next.train_on = super::TrainOn::Tier(name.to_owned());
            }
            name.clone_into(&mut tier.name);
        }
        checked(next)
    }

    /// A session with a tier more, at the end of the chain; its link is measured, and the splits are
    /// spread over the network's memory again.
    ///
    /// # Errors
    /// There are four already, or the target is typed in no such form.
    pub fn with_tier(&self, text: &str) -> Result<Session, SettingError> {
        let mut next = self.clone();
        let known = |name: &str| next.tiers.iter().any(|tier| tier.name == name);
        let names = ["cloud", "cloud-2", "cloud-3", "cloud-4", "cloud-5"];
        let name = names.into_iter().find(|name| !known(name));
        next.tiers.push(TierSettings {
            name: name.unwrap_or_default().to_owned(),
            targets: vec![self.typed_target(text)?],
        });
        next.links.push(Link::default());
        next.splits.clear();
        checked(next)
    }

    /// A session without a tier and the link before it, or behind the first; the splits are spread again.
    ///
    /// # Errors
    /// Two are the fewest.
    pub fn without_tier(&self, tier: Tier) -> Result<Session, SettingError> {
        let mut next = self.clone();
        let at = tier.index();
        if at < next.tiers.len() && !next.links.is_empty() {
            next.tiers.remove(at);
            next.links.remove(at.saturating_sub(1));
            next.splits.clear();
        }
        // `complete` gives one tier no link and no split, which then says that two are the fewest.
        checked(next)
    }
}

/// The table of `docs/settings.md`.
#[cfg(test)]
pub fn table() -> String {
    let mut out = String::from("| setting | usually | may be | what |\n|---|---|---|---|\n");
    for setting in SETTINGS {
        let usual = match setting.is_required() {
            true => "(required)".to_owned(),
            false => format!("`{}`", setting.usual().replace('\n', " ")),
        };
        let values = setting.values().replace('|', "\\|");
        out += &format!(
            "| `{}` | {usual} | {values} | {} |\n",
            setting.path, setting.help
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn session() -> Session {
        usual().clone()
    }

    #[test]
    fn every_setting_comes_back_as_it_is_written() {
        for setting in SETTINGS {
            let text = setting.text(&session());
            let same = setting.change(&session(), &text).unwrap();
            assert_eq!(same, session(), "{}", setting.path);
            for choice in setting.choices() {
                let other = setting.change(&session(), choice).unwrap();
                assert_eq!(setting.text(&other), *choice, "{}", setting.path);
            }
        }
    }

    #[rstest]
    #[case("threshold", "0.9", "policy.threshold", "0.9")]
    #[case("exits.per_part", "2", "exits.per_part", "2")]
    #[case("per_part", " 0 ", "exits.per_part", "0")]
    #[case("name", "my run", "name", "\"my run\"")]
    #[case("name", "", "name", "None")]
    #[case("deadline_ms", "20", "offload.deadline_ms", "20.0")]
    #[case("train_on", "Tier(\"cloud\")", "train_on", "Tier(\"cloud\")")]
    fn one_setting_is_changed(
        #[case] name: &str,
        #[case] typed: &str,
        #[case] path: &str,
        #[case] text: &str,
    ) {
        let changed = session().with_settings(&[(name, typed)]).unwrap();
        assert_eq!(Setting::find(path).unwrap().text(&changed), text);
    }

    #[rstest]
    #[case("policy.threshold", "1.2", "policy.threshold: 1.2, it may be 0 to 1")]
    #[case("exits.per_part", "4", "exits.per_part: 4, it may be 0 to 3")]
    #[case("exits.per_part", "many", "it may be: 0 to 3")]
    #[case("wire.tensor", "F12", "it may be: F32, F16, U8")]
    #[case(
        "batch.train",
        "0",
        "batch.train: 0, it may be a whole number, 1 or more"
    )]
    #[case("offload.deadline_ms", "0", "it may be more than 0")]
    #[case("treshold", "0.5", "did you mean `policy.threshold`?")]
    #[case("zzz", "1", "no setting is called `zzz`")]
    #[case("train_on", "Tier(\"moon\")", "no tier is called `moon`")]
    fn what_a_setting_cant_be_is_said_with_what_it_can(
        #[case] name: &str,
        #[case] typed: &str,
        #[case] says: &str,
    ) {
        let (_, error) = session().with_settings(&[(name, typed)]).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }

    #[test]
    fn targets_and_tiers_come_and_go() {
        let agent = "https://jetson:7070/ EDGE_TOKEN";
        let with = session().with_target(Tier::First, None, agent).unwrap();
        let Target::Agent {
            url, token, trust, ..
        } = &with.targets(Tier::First)[1]
        else {
            panic!("{with:?}");
        };
        assert_eq!(url, "https://jetson:7070");
        assert_eq!(*token, Some(Token::Env("EDGE_TOKEN".into())));
        assert_eq!(*trust, Trust::System);
        assert_eq!(with.without_target(Tier::First, 1).unwrap(), session());
        let last = session().without_target(Tier::First, 0).unwrap_err();
        assert!(last.to_string().contains("no target"), "{last}");

        let three = session().with_tier("Local()").unwrap();
        assert_eq!(
            (three.tiers.len(), three.links.len(), three.splits.len()),
            (3, 2, 2)
        );
        assert_eq!(three.without_tier(Tier::Third).unwrap(), session());
        let one = session().without_tier(Tier::Second).unwrap_err();
        assert!(one.to_string().contains("it may be 2 to 4"), "{one}");
        let renamed = session()
            .with_settings(&[("train_on", "Tier(\"edge\")")])
            .unwrap();
        let renamed = renamed.with_tier_name(Tier::First, "jetson").unwrap();
        assert_eq!(renamed.trains_on(), Some(Tier::First));
    }

    #[test]
    fn settings_that_only_go_together_are_changed_together_in_any_order() {
        let far = [("sweep.from", "0.96"), ("sweep.to", "0.99")];
        let near = [("sweep.to", "0.2"), ("sweep.from", "0.1")];
        for settings in [far, near] {
            let one = session().with_settings(&settings).unwrap();
            let other = session()
                .with_settings(&[settings[1], settings[0]])
                .unwrap();
            assert_eq!(one, other);
        }
        let patient = session().with_settings(&[("patience", "3")]).unwrap();
        let promise = ("guarantee", "(accuracy_loss_points: 2.0, delta: None)");
        let promised = patient.with_settings(&[promise, ("patience", "None")]);
        assert!(promised.unwrap().guarantee.is_some());
        let (at, error) = patient
            .with_settings(&[("seed", "3"), promise])
            .unwrap_err();
        assert_eq!(at, Some(1), "{error}");
        let (at, _) = session()
            .with_settings(&[("seed", "3"), ("seed", "x")])
            .unwrap_err();
        assert_eq!(at, Some(1));
        let (at, error) = patient
            .with_settings(&[("sweep.to", "0.1"), ("seed", "3")])
            .unwrap_err();
        assert_eq!(at, None, "{error}");
    }

    #[rstest]
    #[case::hex("5f3c9a0d5f3c9a0d5f3c9a0d5f3c9a0d")]
    #[case::hex_from_a_letter("af3c9a0d5f3c9a0d5f3c9a0d5f3c9a0d")]
    #[case::hex_in_capitals("AF3C9A0D5F3C9A0D5F3C9A0D5F3C9A0D")]
    #[case::short("s3cret")]
    #[case::base64("aZ9-bQ_x8Kd0mWv3TnR5yLp7")]
    #[case::with_a_prefix("ghp_16C7e42F292c6912E7710c838347Ae178B4a")]
    #[case::letters_alone("QmXhTzRkWpLsVbNcYdGf")]
    #[case::one_long_word_of_digits("TOKEN1234567890123456")]
    fn a_token_is_taken_for_no_name(#[case] token: &str) {
        for typed in [
            format!("https://jetson:7070 {token}"),
            format!("Agent(url: \"https://jetson:7070\", token: Env(\"{token}\"))"),
        ] {
            let added = session().with_target(Tier::First, None, &typed);
            let tier = session().with_tier(&typed);
            for error in [added.unwrap_err(), tier.unwrap_err()] {
                assert_eq!(error, SettingError::Token);
                assert!(!error.to_string().contains(token), "{error}");
            }
        }
        let broken = format!("Agent(url: \"https://jetson:7070\", token: \"{token}\")");
        let error = session().with_target(Tier::First, None, &broken);
        let error = error.unwrap_err().to_string();
        assert!(!error.contains(token), "{error}");
    }

    #[rstest]
    #[case("EDGE_TOKEN")]
    #[case("_T2")]
    #[case("edge_token_2")]
    #[case("JETSON2")]
    #[case("TOKEN_OF_THE_JETSON_ORIN_NANO_2024_LABORATORY")]
    fn a_name_is_taken_for_no_token(#[case] name: &str) {
        let typed = format!("https://jetson:7070 {name}");
        let with = session().with_target(Tier::First, None, &typed).unwrap();
        assert_eq!(with.targets(Tier::First)[1].variable(), Some(name));
    }

    #[test]
    fn a_name_that_a_file_has_may_stay_and_words_too_many_are_refused() {
        let text = "Session(version: 2, model: Demo, data: Synthetic(seed: 7), tiers: [(name: \"edge\", \
            targets: [Agent(url: \"https://jetson:7070\", token: Env(\"jetson2\"))]), \
            (name: \"cloud\", targets: [Local()])])";
        let read = Session::parse(text, Path::new("my.ron")).unwrap();
        let own = read.targets(Tier::First)[0].text();
        assert_eq!(read.with_target(Tier::First, Some(0), &own).unwrap(), read);
        let more = read.with_target(Tier::First, None, "https://jetson:7070 EDGE_TOKEN s3cret");
        let error = more.unwrap_err().to_string();
        assert!(
            error.contains("more words") && !error.contains("s3cret"),
            "{error}"
        );
    }

    #[test]
    fn the_docs_have_this_table() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md");
        let docs = std::fs::read_to_string(file).unwrap_or_default();
        let table = table();
        assert!(
            docs.contains(&table),
            "put this into docs/settings.md:\n{table}"
        );
    }
}
