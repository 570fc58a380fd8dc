/*! `new`: from a network and labelled images to a session that can be run. */

use super::data::DataArg;
use super::error::usage;
use super::network::{self, Choice, InputShape, Sizes};
use super::printed;
use super::progress::Bar;
use super::session::Chosen;
use crate::data::Calibration;
use crate::engine::Cancel;
use crate::propose::{self, Look, Progress, Step, Trial, Wishes};
use crate::protocol::client::ClientError;
use crate::protocol::message::RefusalKind;
use crate::run::{RunError, probe};
use crate::session::{ModelSource, Session, Target, Token, Trust, write_atomically};
use anyhow::Context;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Columns of a sentence on standard output.
const WIDTH: usize = 78;

/// Write a session for a network and labelled images: finds out what both are and which preprocessing
/// fits, by trying the usual ones, and proposes the rest.
#[derive(Debug, clap::Args)]
pub struct NewArgs {
    /// An ONNX file; or a built-in network, which the run then trains: resnet50, mobilenetv2,
    /// inceptionv3, resnet8, resnet14, resnet20; or demo, a small trained one.
    #[arg(value_name = "MODEL")]
    model: String,
    /// Labelled images: a folder (a folder per class, with train/ and test/ or without; CIFAR, MNIST,
    /// tar), a table (CSV), an .npz file, or `synthetic`.
    #[arg(value_name = "DATA")]
    data: DataArg,
    /// Agent that runs the edge part, as https://jetson:7070 or with its certificate's fingerprint as
    /// https://jetson:7070#sha256:..; its token is taken from EDGE_TOKEN. This machine, slowed down,
    /// if left out.
    #[arg(long, value_name = "URL")]
    edge: Vec<AgentArg>,
    /// Agent that runs the cloud part, likewise, its token from CLOUD_TOKEN; or a model on a server of the
    /// Open Inference Protocol (Triton, KServe), as http://triton:8000/v2/models/NAME; this machine if left
    /// out.
    #[arg(long, value_name = "URL")]
    cloud: Vec<AgentArg>,
    /// Agent of a tier between edge and cloud, which gets a part of its own, nearest to the edge first; at
    /// most two. Its token is taken from BETWEEN_TOKEN.
    #[arg(long, value_name = "URL")]
    between: Vec<AgentArg>,
    /// The file to write; the network's name with .ron, here, if left out.
    #[arg(long, value_name = "FILE.ron")]
    out: Option<PathBuf>,
    /// Replace the file if it is there; what was there is kept as FILE.ron.bak.
    #[arg(long)]
    yes: bool,
    /// Go on with `run` at once.
    #[arg(long)]
    run: bool,
    /// Labelled images each preprocessing is tried on; as many as 20 seconds allow, 100 to 400, if left
    /// out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(10..))]
    images: Option<u32>,
    /// Input of a network that takes any size, or of a built-in one; proposed if left out.
    #[arg(long, value_name = "CxHxW")]
    input: Option<InputShape>,
    #[command(flatten)]
    choice: Choice,
}

/// An agent's address, and the fingerprint of its certificate where it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentArg {
    url: String,
    print: Option<String>,
    /// Model that a server of the Open Inference Protocol has there.
    model: Option<String>,
}

/// What stands before a model's name in its address on a server of the Open Inference Protocol.
const MODELS: &str = "/v2/models/";

impl FromStr for AgentArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (url, print) = match text.split_once('#') {
            Some((url, print)) => (url, Some(print.to_string())),
            None => (text, None),
        };
        let is_web = url.starts_with("http://") || url.starts_with("https://");
        let known = url::Url::parse(url).is_ok_and(|u| u.host_str().is_some());
        if !is_web || !known {
            return Err("write an address as https://jetson:7070".into());
        }
        let (url, model) = match url.split_once(MODELS) {
            Some((server, name)) => (server, Some(name.trim_end_matches('/').to_string())),
            None => (url, None),
        };
        if model
            .as_ref()
            .is_some_and(|name| name.is_empty() || name.contains('/'))
        {
            return Err("write a server's model as http://triton:8000/v2/models/NAME".into());
        }
        Ok(AgentArg {
            url: url.trim_end_matches('/').to_string(),
            print,
            model,
        })
    }
}

/// The sides that parts run on, and where their agents' tokens are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Edge,
    Between,
    Cloud,
}

impl Side {
    pub fn name(self) -> &'static str {
        match self {
            Side::Edge => "edge",
            Side::Between => "between",
            Side::Cloud => "cloud",
        }
    }

    pub fn variable(self) -> &'static str {
        match self {
            Side::Edge => "EDGE_TOKEN",
            Side::Between => "BETWEEN_TOKEN",
            Side::Cloud => "CLOUD_TOKEN",
        }
    }
}

impl AgentArg {
    /// The target as the session names it, if it answers.
    pub(super) fn reached(&self, side: Side, cancel: &Cancel) -> anyhow::Result<Target> {
        if let Some(model) = &self.model {
            if side != Side::Cloud {
                return Err(usage(format!(
                    "{}{MODELS}{model}: a server of the Open Inference Protocol runs the last part alone: give \
                     it with --cloud",
                    self.url
                )));
            }
            super::progress::note(format_args!(
                "{}: is to serve the cloud part as `{model}`; `edgelesspart export parts` writes it once exits \
                 are trained, and the run asks for it",
                self.url
            ));
            let (url, model) = (self.url.clone(), model.clone());
            return Ok(Target::V2 {
                url,
                model,
                token: None,
            });
        }
        let name = side.variable();
        let token = std::env::var_os(name).map(|_| Token::Env(name.to_string()));
        let without = token.is_none();
        let target = Target::Agent {
            url: self.url.clone(),
            token,
            trust: self.print.clone().map_or(Trust::System, Trust::Fingerprint),
            engine: None,
        };
        let bar = Bar::start(&format!("{} {}", side.name(), self.url), 0);
        let info = probe(&target, cancel).map_err(|error| {
            let refused = matches!(
                &error,
                RunError::Client(ClientError::Refused {
                    kind: RefusalKind::Unauthorized,
                    ..
                })
            );
            let error = anyhow::Error::new(error).context(side.name());
            match refused && without {
                true => error.context(format!("set {name} to the agent's token and try again")),
                false => error,
            }
        })?;
        if let Some(info) = info {
            let own = env!("CARGO_PKG_VERSION");
            let threads = info.threads;
            bar.done(&format!(
                "answers: {}, {threads} threads, version {}",
                info.device, info.version
            ));
            if info.version != own {
                super::progress::note(format_args!(
                    "{}: version {} there, {own} here; use the same release on all sides",
                    side.name(),
                    info.version
                ));
            }
        }
        Ok(target)
    }
}

/// Runs the command.
pub fn run(args: &NewArgs, cancel: &Cancel) -> anyhow::Result<()> {
    let file = args
        .out
        .clone()
        .unwrap_or_else(|| proposed_file(&args.model));
    // Before the work, not after it.
    may_write(&file, args.yes)?;
    let reach = |side, agents: &[AgentArg]| -> anyhow::Result<Vec<Target>> {
        agents
            .iter()
            .map(|agent| agent.reached(side, cancel))
            .collect()
    };
    if args.between.len() > 2 {
        return Err(usage(
            "--between: a session has two to four tiers, so at most two between",
        ));
    }
    let edge = reach(Side::Edge, &args.edge)?;
    let between = reach(Side::Between, &args.between)?;
    let cloud = reach(Side::Cloud, &args.cloud)?;
    let model = model(&args.model, args.input, &args.choice)?;
    let input = args.input.map(|InputShape(input)| input);
    let look = look(model, &args.data, input, cancel)?;
    let mut out = io::stdout().lock();
    printed(describe(&mut out, &look))?;
    let trial = tried(&look, args.images.map(|n| n as usize), cancel)?;
    if let Some(trial) = &trial {
        printed(table(&mut out, trial))?;
    }
    drop(out);
    let wishes = Wishes {
        edge,
        between,
        cloud,
        name: run_name(&file),
        folder: folder_of(&file),
        ..Wishes::default()
    };
    let session = propose::settle(&look, trial.as_ref(), &wishes)?;
    written(&session, &look, trial.as_ref(), &file, args.yes)?;
    let mut out = io::stdout().lock();
    printed(next(&mut out, &session, &file))?;
    drop(out);
    match args.run {
        true => super::run::to_report(&Chosen::of(session, &file)?, cancel),
        false => Ok(()),
    }
}

/// The network a name or path means, what it leaves open to be found.
pub(super) fn model(
    name: &str,
    input: Option<InputShape>,
    choice: &Choice,
) -> anyhow::Result<ModelSource> {
    let sizes = Sizes {
        classes: None,
        width: None,
    };
    choice.applied(network::source(name, input, &sizes)?)
}

/// Where a session for a network goes if nobody says: here, by the network's name.
pub(super) fn proposed_file(model: &str) -> PathBuf {
    let stem = Path::new(model).file_stem().unwrap_or_default();
    let mut name = stem.to_owned();
    name.push(".ron");
    PathBuf::from(name)
}

fn folder_of(file: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).to_owned()
}

/// The name of a run by its file: what a folder may be called.
pub(super) fn run_name(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let name = stem.trim_start_matches('.');
    if name.is_empty() { "session" } else { name }.to_string()
}

fn may_write(file: &Path, replace: bool) -> anyhow::Result<()> {
    if file.exists() && !replace {
        return Err(anyhow::Error::msg(format!(
            "{}: is there already; give another name with --out, or replace it with --yes (what is there \
             is kept as {}.bak)",
            file.display(),
            file.display()
        )));
    }
    Ok(())
}

/// Writes the session's commented text. What was there is kept beside.
pub(super) fn written(
    session: &Session,
    look: &Look,
    trial: Option<&Trial>,
    file: &Path,
    replace: bool,
) -> anyhow::Result<()> {
    let text = propose::text(session, look, trial, file)?;
    may_write(file, replace)?;
    if file.exists() {
        let mut kept = file.as_os_str().to_owned();
        kept.push(".bak");
        std::fs::copy(file, &kept).context(format!("keeping {}", file.display()))?;
    }
    write_atomically(file, text.as_bytes()).context(file.display().to_string())
}

/// Looks at network and data, with a bar.
pub(super) fn look(
    model: ModelSource,
    data: &DataArg,
    input: Option<[usize; 3]>,
    cancel: &Cancel,
) -> anyhow::Result<Look> {
    let mut bars = Bars::default();
    let seed = network::SEED;
    let found = propose::look(
        model,
        data.0.clone(),
        input,
        seed,
        &mut |p| bars.set(p),
        cancel,
    );
    bars.end();
    unless_stopped(found, cancel)
}

/// Tries the usual preprocessings, with a bar; nothing of a network that has yet to learn.
pub(super) fn tried(
    look: &Look,
    images: Option<usize>,
    cancel: &Cancel,
) -> anyhow::Result<Option<Trial>> {
    if !look.is_trained() {
        return Ok(None);
    }
    let mut bars = Bars::default();
    let found = propose::trial(look, images, &mut |p| bars.set(p), cancel);
    bars.end();
    unless_stopped(found, cancel).map(Some)
}

/// What was found; of a step that was stopped only that.
fn unless_stopped<T>(
    found: Result<T, propose::ProposeError>,
    cancel: &Cancel,
) -> anyhow::Result<T> {
    match found {
        Err(_) if cancel.is_cancelled() => Err(anyhow::Error::msg("stopped; nothing was written")),
        other => Ok(other?),
    }
}

/// A bar for the step that goes on.
#[derive(Default)]
struct Bars {
    step: Option<Step>,
    bar: Option<Bar>,
}

impl Bars {
    fn set(&mut self, progress: Progress) {
        let label = match progress.step {
            Step::Network => "reading the network",
            Step::Survey => "listing the images",
            Step::Decode => "decoding images",
            Step::Try => "trying preprocessings",
        };
        if self.step != Some(progress.step) {
            self.end();
            self.step = Some(progress.step);
            self.bar = Some(Bar::start(label, progress.total as u64));
        }
        if let Some(bar) = &mut self.bar {
            bar.set(progress.done as u64, progress.total as u64, "");
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.clear();
        }
        self.step = None;
    }
}

fn wrapped(out: &mut impl Write, mark: &str, text: &str) -> io::Result<()> {
    let indent = " ".repeat(mark.chars().count());
    let options = textwrap::Options::new(WIDTH)
        .initial_indent(mark)
        .subsequent_indent(&indent)
        .break_words(false);
    for line in textwrap::wrap(text, options) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// What network and data are.
pub(super) fn describe(out: &mut impl Write, look: &Look) -> io::Result<()> {
    let table = &look.network.table;
    let [c, h, w] = look.input;
    let splits = table.splits().count();
    let text = format!(
        "{}, takes {c}x{h}x{w}, {} classes, {:.2} million parameters, {:.1} million MACs; it can be \
         cut in two at {splits} places, and images can leave early at {}",
        table.network,
        table.classes,
        table.params as f64 / 1e6,
        table.macs as f64 / 1e6,
        look.network.points.len()
    );
    wrapped(out, "network   ", &text)?;
    let survey = &look.survey;
    let size = survey.size().map_or(String::new(), |size| {
        let about = if size.same { "" } else { "about " };
        format!(", {about}{}x{} pixels", size.height, size.width)
    });
    let names = &survey.class_names;
    let shown = names.len().min(5);
    let more = if names.len() > shown { ", ..." } else { "" };
    let text = format!(
        "{} images to train, {} to test{size}; {} classes: {}{more}",
        survey.trains(),
        survey.tests(),
        names.len(),
        names[..shown].join(", ")
    );
    wrapped(out, "images    ", &text)?;
    for remark in &look.remarks {
        wrapped(out, "        - ", &remark.to_string())?;
    }
    Ok(())
}

/// Which preprocessing gives what, and what that says.
pub(super) fn table(out: &mut impl Write, trial: &Trial) -> io::Result<()> {
    writeln!(
        out,
        "\n   preprocessing                         right   95 % interval   images"
    )?;
    for (at, tried) in trial.tried.iter().enumerate() {
        let (low, high) = tried.interval();
        let mark = match (at, tried.is_tie) {
            (0, _) => ">",
            (_, true) => "=",
            _ => " ",
        };
        writeln!(
            out,
            " {mark} {:<35} {:>5.1} %  {:>5.1} to {:>5.1}   {:>6}",
            tried.name,
            100.0 * tried.accuracy(),
            100.0 * low,
            100.0 * high,
            tried.images
        )?;
    }
    let ties: Vec<&str> = trial
        .tried
        .iter()
        .filter(|t| t.is_tie)
        .map(|t| t.name.as_str())
        .collect();
    if let Some(best) = trial.best().filter(|_| !trial.is_guessing()) {
        let images = best.images;
        let text = match ties.as_slice() {
            [] => format!(
                "\"{}\" is taken: it is ahead of all others beyond chance",
                best.name
            ),
            [one] => format!(
                "\"{}\" is taken; \"{one}\" can't be told from it on {images} images",
                best.name
            ),
            many => format!(
                "\"{}\" is taken; {} others, marked =, can't be told from it on {images} images",
                best.name,
                many.len()
            ),
        };
        wrapped(out, "        - ", &text)?;
    }
    for remark in &trial.remarks {
        wrapped(out, "        - ", &remark.to_string())?;
    }
    Ok(())
}

/// What was written, and which command comes next.
fn next(out: &mut impl Write, session: &Session, file: &Path) -> io::Result<()> {
    let samples = |n: Option<usize>, set: &str| match n {
        Some(n) => format!("{n} {set} images"),
        None => format!("all other {set} images"),
    };
    let tunes = match session.calibration {
        Calibration::FromTrain(n) => format!("{n} of the training images"),
        Calibration::FromTest(n) => format!("{n} of the test images"),
    };
    let text = format!(
        "{} is written: thresholds are tuned on {tunes}, exits learn from {}, {} are measured; every line \
         of the file says what it sets",
        file.display(),
        samples(session.train_samples, "training"),
        samples(session.test_samples, "test")
    );
    writeln!(out)?;
    wrapped(out, "session   ", &text)?;
    writeln!(out, "next:")?;
    writeln!(
        out,
        "  edgelesspart run {}    # all stages, to the report",
        file.display()
    )?;
    writeln!(
        out,
        "  edgelesspart {}        # the workbench",
        file.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    #[rstest]
    #[case("https://jetson:7070", Some(("https://jetson:7070", None)))]
    #[case("https://jetson:7070/", Some(("https://jetson:7070", None)))]
    #[case("https://a#sha256:ab", Some(("https://a", Some("sha256:ab"))))]
    #[case("jetson:7070", None)]
    #[case("https://", None)]
    fn an_agent_is_an_address_and_perhaps_a_fingerprint(
        #[case] text: &str,
        #[case] wanted: Option<(&str, Option<&str>)>,
    ) {
        let wanted = wanted.map(|(url, print)| AgentArg {
            url: url.into(),
            print: print.map(str::to_owned),
            model: None,
        });
        assert_eq!(text.parse::<AgentArg>().ok(), wanted);
    }

    #[rstest]
    #[case("http://triton:8000/v2/models/cut", Some("cut"))]
    #[case("http://triton:8000/v2/models/cut/", Some("cut"))]
    #[case("http://triton:8000/v2/models/", None)]
    #[case("http://triton:8000/v2/models/cut/infer", None)]
    fn a_model_on_a_server_is_an_address_too(#[case] text: &str, #[case] model: Option<&str>) {
        let read = text.parse::<AgentArg>().ok();
        let wanted = model.map(|name| AgentArg {
            url: "http://triton:8000".into(),
            print: None,
            model: Some(name.into()),
        });
        assert_eq!(read, wanted);
        let (Some(server), cancel) = (read, Cancel::new()) else {
            return;
        };
        assert!(server.reached(Side::Edge, &cancel).is_err());
        let (url, model) = ("http://triton:8000".into(), "cut".into());
        assert_eq!(
            server.reached(Side::Cloud, &cancel).unwrap(),
            Target::V2 {
                url,
                model,
                token: None,
            }
        );
    }

    #[rstest]
    #[case("nets/My Net.onnx", "My Net.ron", "My Net")]
    #[case("resnet50", "resnet50.ron", "resnet50")]
    #[case("v1.2.onnx", "v1.2.ron", "v1.2")]
    fn a_session_is_called_like_its_network(
        #[case] model: &str,
        #[case] file: &str,
        #[case] name: &str,
    ) {
        let found = proposed_file(model);
        assert_eq!(
            (found.as_path(), run_name(&found)),
            (Path::new(file), name.to_string())
        );
    }
}
