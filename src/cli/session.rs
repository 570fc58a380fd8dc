/*! The SESSION argument, the same for every command that works on one. */

use super::data::DataArg;
use super::error::usage;
use super::network::{self, InputShape, Sizes};
use crate::engine::share_threads;
use crate::explore::{Goal, Objective, Promise, PromiseError, Statistic};
use crate::run::Network;
use crate::session::{ModelSource, Session, VERSION};
use anyhow::Context;
use std::path::{Path, PathBuf};

/// Which session, and what of it is replaced.
#[derive(Debug, clap::Args)]
pub struct SessionArgs {
    /// A session file; the demo that ships with the program if left out.
    #[arg(value_name = "SESSION")]
    session: Option<PathBuf>,
    /// In place of the session's network: an ONNX file, or a built-in one.
    #[arg(long)]
    model: Option<String>,
    /// Input of a built-in network given with --model; the session's, or its paper's, if left out.
    #[arg(long, value_name = "CxHxW", requires = "model")]
    input: Option<InputShape>,
    /// In place of the session's images: `synthetic`, or a folder or file, told by what is in it.
    #[arg(long, value_name = "DIR|synthetic")]
    data: Option<DataArg>,
    /// In place of the session's threshold, 0 to 1.
    #[arg(long, value_name = "C_THR")]
    threshold: Option<f64>,
    /// In place of a setting of the session, as exits.per_part=2; again for another one.
    /// docs/settings.md lists them.
    #[arg(long, value_name = "SETTING=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    goal: GoalArgs,
    #[command(flatten)]
    promise: PromiseArgs,
    /// Where results and finished stages go; runs/NAME if left out.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What is wanted of a deployment, in place of the session's goal.
#[derive(Debug, Default, clap::Args)]
struct GoalArgs {
    /// What to make small: latency (the mean), p95, cost, edge-memory, or energy.
    #[arg(long, value_enum, value_name = "WHAT")]
    minimise: Option<Minimise>,
    /// Points of accuracy (0 to 100) that may be lost against the unmodified network.
    #[arg(long, value_name = "POINTS")]
    accuracy_loss: Option<f64>,
    /// US dollars per month of 30 days at most, at --requests-per-second.
    #[arg(long, value_name = "USD")]
    cost_per_month: Option<f64>,
    /// The load that a month's bill is for; 1 if left out.
    #[arg(long, value_name = "RATE")]
    requests_per_second: Option<f64>,
}

/// What thresholds are to keep to, in place of the session's guarantee.
#[derive(Debug, Default, clap::Args)]
struct PromiseArgs {
    /// Promise that leaving early costs at most so many points of accuracy (above 0, below 100) against the
    /// whole network; half of the calibration images are held back for it.
    #[arg(long, value_name = "POINTS")]
    guarantee: Option<f64>,
    /// The probability that the guarantee is broken, above 0 and below 1; 0.1 if left out.
    #[arg(long, value_name = "SHARE", requires = "guarantee")]
    delta: Option<f64>,
    /// Promise in expectation, not with a probability.
    #[arg(long, requires = "guarantee", conflicts_with = "delta")]
    in_expectation: bool,
}

impl PromiseArgs {
    fn promise(&self) -> anyhow::Result<Option<Promise>> {
        let Some(accuracy_loss_points) = self.guarantee else {
            return Ok(None);
        };
        let delta = (!self.in_expectation).then(|| self.delta.unwrap_or(0.1));
        let promise = Promise {
            accuracy_loss_points,
            delta,
        };
        let flag = |e: &PromiseError| match e {
            PromiseError::Loss(_) => "--guarantee",
            PromiseError::Delta(_) => "--delta",
        };
        promise
            .check()
            .map_err(|e| usage(format!("{}: {e}", flag(&e))))?;
        Ok(Some(promise))
    }
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Minimise {
    Latency,
    P95,
    Cost,
    EdgeMemory,
    Energy,
}

impl GoalArgs {
    fn apply(&self, goal: &mut Goal) -> anyhow::Result<()> {
        if let Some(minimise) = self.minimise {
            goal.minimise = match minimise {
                Minimise::Latency => Objective::Latency(Statistic::Mean),
                Minimise::P95 => Objective::Latency(Statistic::P95),
                Minimise::Cost => Objective::Cost,
                Minimise::EdgeMemory => Objective::EdgeMemory,
                Minimise::Energy => Objective::Energy,
            };
        }
        let within = &mut goal.within;
        within.accuracy_loss_points = self.accuracy_loss.or(within.accuracy_loss_points);
        within.cost_per_month = self.cost_per_month.or(within.cost_per_month);
        within.requests_per_second = self.requests_per_second.or(within.requests_per_second);
        goal.check()
            .map_err(|e| usage(format!("--{}: {e}", e.limit.field().replace('_', "-"))))
    }
}

/// A session ready to be run.
#[derive(Debug)]
pub struct Chosen {
    /// With its paths resolved and its replacements made.
    pub session: Session,
    /// Name of the run, by which its folder is called.
    pub name: String,
    /// Folder that results are written to.
    pub out: PathBuf,
}

impl Chosen {
    /// The session of a file, as it stands.
    pub fn of(session: Session, file: &Path) -> anyhow::Result<Chosen> {
        // Absolute, so that the session a run writes elsewhere still finds its files.
        let folder = std::path::absolute(file).context(file.display().to_string())?;
        let folder = folder.parent().unwrap_or(Path::new("/"));
        let stem = file.file_stem().unwrap_or(file.as_os_str());
        let name = session.name.clone();
        let name = name.unwrap_or_else(|| stem.to_string_lossy().into_owned());
        Ok(Chosen {
            session: session.resolved(folder),
            out: Path::new("runs").join(&name),
            name,
        })
    }

    /// The session with its results: those in its own file, or where its last run left them.
    pub fn with_results(&self) -> anyhow::Result<Session> {
        if self.session.results.is_some() {
            return Ok(self.session.clone());
        }
        let kept = self
            .left()
            .map_err(|never| self.refused().unwrap_or(never))?;
        Ok(Session {
            results: kept.results,
            ..self.session.clone()
        })
    }

    /// Why the session can't be run, if it can't: of no use to somebody who is told to run it.
    fn refused(&self) -> Option<anyhow::Error> {
        let network = match Network::load(&self.session) {
            Ok(network) => network,
            Err(error) => return Some(error.into()),
        };
        let checked = network.check_whole(&self.session);
        checked.err().map(anyhow::Error::from)
    }

    /// The session as it ran, with what `--set` and its kin changed then.
    pub fn as_run(&self) -> anyhow::Result<Session> {
        match self.session.results {
            Some(_) => Ok(self.session.clone()),
            None => self.left(),
        }
    }

    /// What the last run left.
    fn left(&self) -> anyhow::Result<Session> {
        let left = self.out.join("session.ron");
        if !left.is_file() {
            return Err(anyhow::Error::msg(format!(
                "{} was never run: neither the session nor {} holds results; run it first with \
                 `edgelesspart run`",
                self.name,
                self.out.display()
            )));
        }
        Ok(Session::read(&left)?)
    }
}

impl SessionArgs {
    /// A session of which nothing but the threshold is replaced; `out` is where its run left results.
    pub fn of(
        session: &Option<PathBuf>,
        threshold: Option<f64>,
        out: &Option<PathBuf>,
    ) -> SessionArgs {
        SessionArgs {
            session: session.clone(),
            model: None,
            input: None,
            data: None,
            threshold,
            set: Vec::new(),
            goal: GoalArgs::default(),
            promise: PromiseArgs::default(),
            out: out.clone(),
        }
    }

    /// The session file, if one was given.
    pub fn file(&self) -> Option<&Path> {
        self.session.as_deref()
    }

    /// Reads the session and puts in what was given instead.
    pub fn load(&self) -> anyhow::Result<Chosen> {
        let (mut session, stem) = match &self.session {
            Some(file) => {
                let chosen = Chosen::of(Session::read(file)?, file)?;
                (chosen.session, chosen.name)
            }
            None => (Session::demo()?, "demo".to_owned()),
        };
        if let Some(name) = &self.model {
            session.model = self.model_of(name, &session.model)?;
        }
        if let Some(DataArg(source)) = &self.data {
            session.data = source.clone();
        }
        if let Some(threshold) = self.threshold {
            session.policy.threshold = threshold;
            session
                .check(Path::new("--threshold"))
                .context("--threshold")?;
        }
        session = self.with_settings(session)?;
        self.goal.apply(&mut session.goal)?;
        if let Some(promise) = self.promise.promise()? {
            session.guarantee = Some(promise);
            session
                .check(Path::new("--guarantee"))
                .context("--guarantee")?;
        }
        if let Some(threads) = session.threads {
            // Before anything is computed, so that every pool gets this number.
            share_threads(threads);
        }
        for note in &session.migrated {
            eprintln!(
                "{stem}: {note}; the file is of an older version than {VERSION}, and is left so"
            );
        }
        let name = session.name.clone().unwrap_or(stem);
        let out = self.out.clone();
        Ok(Chosen {
            out: out.unwrap_or_else(|| Path::new("runs").join(&name)),
            session,
            name,
        })
    }

    /// The session with what `--set` changes.
    fn with_settings(&self, session: Session) -> anyhow::Result<Session> {
        if self.set.is_empty() {
            return Ok(session);
        }
        let mut settings = Vec::new();
        for setting in &self.set {
            let pair = setting
                .split_once('=')
                .ok_or_else(|| usage(format!("--set {setting}: write it as exits.per_part=2")))?;
            settings.push((pair.0.trim(), pair.1));
        }
        session.with_settings(&settings).map_err(|(at, problem)| {
            let whose = at.and_then(|at| self.set.get(at));
            let whose = whose.map_or(String::new(), |setting| format!(" {setting}"));
            usage(format!("--set{whose}: {problem}"))
        })
    }

    /// A built-in network takes over input and classes from the one it stands in for.
    fn model_of(&self, name: &str, before: &ModelSource) -> anyhow::Result<ModelSource> {
        let (input, classes) = match *before {
            ModelSource::Zoo {
                input: (c, h, w),
                classes,
                ..
            } => (Some(InputShape([c, h, w])), Some(classes)),
            _ => (None, None),
        };
        let built_in = name.parse::<crate::session::BuiltIn>().is_ok();
        let sizes = Sizes {
            classes: classes.filter(|_| built_in),
            width: None,
        };
        // A file has its own input, unless it leaves it open.
        let input = input.filter(|_| built_in);
        network::source(name, self.input.or(input), &sizes)
    }
}
