/*!
What the workbench hands out and gets back: the questions it asks the rooms below, and the work that
takes longer than a frame. The workbench computes none of it.
*/

use super::state::explore::Explored;
use crate::device::{LinkProfile, Profile};
use crate::engine::Cancel;
use crate::exits::{Diagnostic, ExitPoint};
use crate::explore::Limits;
use crate::model::LayerTable;
use crate::plan::Part;
use crate::plan::Plan;
use crate::predict::replay::{Assembled, WireTable};
use crate::predict::{ConfidenceTable, Outcome};
use crate::run::Event;
use crate::session::{self, Session};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A network, as far as the workbench looks into it.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// Its layers.
    pub table: LayerTable,
    /// Where exits may stand.
    pub points: Vec<ExitPoint>,
    /// Its own classifier as an exit source, or why there is none.
    pub replica: Result<String, String>,
}

/// What is known by now; a job adds to it. Nothing here is ever made up: what wasn't measured or
/// computed is absent, and the screen says which key gets it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Results {
    /// Of the edge target.
    pub edge: Option<Profile>,
    /// Of the cloud target.
    pub cloud: Option<Profile>,
    /// Between them.
    pub link: Option<LinkProfile>,
    /// What thresholds are tuned on.
    pub calibration: Option<ConfidenceTable>,
    /// Cloud-side columns as the wire delivers them, of splits that ran.
    pub wire_tables: Vec<WireTable>,
    /// Measured parts of plans that ran.
    pub assembled: Vec<Assembled>,
    /// The plan that ran, with what it gave and the baselines measured beside it.
    pub measured: Option<Measured>,
    /// All of it as a session file keeps it.
    pub kept: Option<Arc<session::Results>>,
}

impl Results {
    /// What a run left in its session.
    ///
    /// # Errors
    /// A table is damaged.
    pub fn of(kept: &session::Results) -> Result<Results, String> {
        let unpack = |t: &session::tables::PackedTable| t.unpack().map_err(|e| e.to_string());
        let wire = |w: &session::results::WireTables| {
            Ok::<_, String>(WireTable {
                split_after: w.split_after.clone(),
                element: w.wire.tensor,
                table: unpack(&w.calibration)?,
            })
        };
        let part = |side: Part| {
            let mut parts = kept.parts.iter();
            parts
                .find(|(part, _)| *part == side)
                .map(|(_, p)| p.clone())
        };
        let baseline = |what: &str| kept.last(what).map(|m| m.outcome.clone());
        let ran = kept.last("plan");
        Ok(Results {
            edge: kept.edge.clone(),
            cloud: kept.cloud.clone(),
            link: kept.link.clone(),
            calibration: kept.calibration.as_ref().map(unpack).transpose()?,
            wire_tables: kept.wires.iter().map(wire).collect::<Result<_, _>>()?,
            assembled: kept
                .plan
                .iter()
                .map(|plan| Assembled::new(plan, part(Part::Edge), part(Part::Cloud)))
                .collect(),
            measured: ran.and_then(|m| {
                Some(Measured {
                    plan: m.plan.clone()?,
                    outcome: m.outcome.clone(),
                    original: baseline("original"),
                    cloud_only: baseline("cloud_only"),
                    edge_only: baseline("edge_only"),
                })
            }),
            kept: Some(Arc::new(kept.clone())),
        })
    }

    /// Takes over what the newer ones have.
    pub fn absorb(&mut self, newer: Results) {
        fn take<T>(old: &mut Option<T>, new: Option<T>) {
            if new.is_some() {
                *old = new;
            }
        }
        take(&mut self.edge, newer.edge);
        take(&mut self.cloud, newer.cloud);
        take(&mut self.link, newer.link);
        take(&mut self.calibration, newer.calibration);
        take(&mut self.measured, newer.measured);
        self.kept = match (self.kept.take(), newer.kept) {
            (Some(old), Some(new)) => Some(Arc::new(merged(&old, &new))),
            (old, new) => new.or(old),
        };
        if !newer.wire_tables.is_empty() {
            self.wire_tables = newer.wire_tables;
        }
        if !newer.assembled.is_empty() {
            self.assembled = newer.assembled;
        }
    }
}

/// What a session keeps when a job adds to it: one that went less far takes nothing away.
fn merged(old: &session::Results, new: &session::Results) -> session::Results {
    let mut all = new.clone();
    if all.heads.is_empty() {
        all.heads_key = old.heads_key.clone();
        all.heads = old.heads.clone();
    }
    if all.calibration.is_none() {
        all.tables_key = old.tables_key.clone();
        all.calibration = old.calibration.clone();
        all.test = old.test.clone();
        all.wires = old.wires.clone();
    }
    all.edge = all.edge.or_else(|| old.edge.clone());
    all.cloud = all.cloud.or_else(|| old.cloud.clone());
    all.link = all.link.or_else(|| old.link.clone());
    if all.measured.is_empty() {
        all.plan = old.plan.clone();
        all.parts = old.parts.clone();
        all.measured = old.measured.clone();
        all.journal = old.journal.clone();
    }
    all
}

/// A run's outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// What ran.
    pub plan: Plan,
    /// What it gave.
    pub outcome: Outcome,
    /// The unmodified network on the edge.
    pub original: Option<Outcome>,
    /// The unmodified network in the cloud.
    pub cloud_only: Option<Outcome>,
    /// The edge part alone.
    pub edge_only: Option<Outcome>,
}

/// A head that stands, as far as predictions need it.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadFacts {
    /// Row of the layer table behind which it stands.
    pub layer: usize,
    /// Its table key where it stands in the edge part.
    pub hash: String,
    /// And in the cloud part; another only where the source tells the parts apart.
    pub cloud_hash: String,
    /// Its rendered source.
    pub rendered: String,
    /// Its layers in a line each: what goes in and out.
    pub shapes: Vec<String>,
    /// Parameters.
    pub params: usize,
    /// Multiply-accumulates a sample.
    pub macs: u64,
    /// What is no error and yet worth knowing, placed in the source.
    pub warnings: Vec<Diagnostic>,
}

impl HeadFacts {
    /// Milliseconds it takes where a profile is of, and whether they were measured: one that wasn't
    /// timed is predicted by its MACs, at the pace the network's layers have there.
    pub fn ms(&self, table: &LayerTable, profile: &Profile) -> Option<(f64, bool)> {
        let after = &table.layers.get(self.layer)?.name;
        let mut timed = profile.heads.iter();
        let own = timed.find(|h| h.after == *after && h.hash == self.hash);
        if let Some(own) = own {
            return Some((own.ms.median, true));
        }
        let all: f64 = profile.layers.iter().map(|l| l.ms.median).sum();
        (table.macs > 0).then(|| (all * self.macs as f64 / table.macs as f64, false))
    }
}

/// Everything a prediction reads.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The network.
    pub network: &'a Network,
    /// Profiles, link and tables.
    pub results: &'a Results,
    /// Policy, wire, billing.
    pub session: &'a Session,
    /// One a point, of the source that is in force.
    pub heads: &'a [HeadFacts],
    /// The plan asked about.
    pub plan: &'a Plan,
}

/// Predicts what a plan gives on the calibration set. Pure and fast: it is asked within a frame.
pub trait Predict: Send + Sync {
    /// The outcome.
    ///
    /// # Errors
    /// What is missing, in a few words ("no edge profile").
    fn predict(&self, question: Question<'_>) -> Result<Outcome, String>;

    /// The outcomes with every exit at each of these thresholds, or, with `exit`, only that exit of
    /// the plan. Asked in the background.
    ///
    /// # Errors
    /// As [`Predict::predict`].
    fn sweep(
        &self,
        question: Question<'_>,
        exit: Option<usize>,
        thresholds: &[f64],
    ) -> Result<Vec<Outcome>, String> {
        let mut plan = question.plan.clone();
        thresholds
            .iter()
            .map(|&threshold| {
                for (i, planned) in plan.exits.iter_mut().enumerate() {
                    if exit.is_none_or(|e| e == i) {
                        planned.threshold = threshold;
                    }
                }
                self.predict(Question {
                    plan: &plan,
                    ..question
                })
            })
            .collect()
    }

    /// The plans that no other beats within the limits, at these thresholds. Asked in the background;
    /// the question's own plan plays no part.
    ///
    /// # Errors
    /// As [`Predict::predict`].
    fn explore(
        &self,
        _question: Question<'_>,
        _thresholds: &[f64],
        _limits: &Limits,
    ) -> Result<Explored, String> {
        Err("plans can't be compared here".into())
    }
}

/// What a job is to reach; each includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Profiles of both sides and the link.
    Profile,
    /// Heads and confidence tables.
    Train,
    /// The parts on their targets, and the report.
    Run,
}

impl Goal {
    /// For the screen.
    pub fn name(self) -> &'static str {
        match self {
            Goal::Profile => "profile",
            Goal::Train => "train",
            Goal::Run => "run",
        }
    }

    /// For the log.
    pub fn sentence(self) -> &'static str {
        match self {
            Goal::Profile => "profiling both sides and the link",
            Goal::Train => "training a head at every exit point",
            Goal::Run => "running the parts on their targets",
        }
    }
}

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// How far it goes.
    pub goal: Goal,
    /// The settings, paths as the file has them.
    pub session: Session,
    /// The folder paths start at.
    pub folder: PathBuf,
    /// The plan on screen, so that what runs is what was seen.
    pub plan: Option<Plan>,
    /// Nobody asked for it: it ends with the workbench.
    pub background: bool,
}

/// A run of a session in another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Going {
    /// Its process.
    pub pid: u32,
    /// How far it is to go.
    pub goal: Goal,
}

/// What a job is asked for while it runs.
#[derive(Debug, Clone, Default)]
pub struct Orders {
    /// Raised: it is to stop.
    pub cancel: Cancel,
    paused: Arc<AtomicBool>,
    leave: Arc<AtomicBool>,
}

impl Orders {
    /// Lets it wait, or go on.
    pub fn pause(&self, waits: bool) {
        self.paused.store(waits, Ordering::Relaxed);
    }

    /// Whether it is to wait.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Leaves it to itself.
    pub fn leave(&self) {
        self.leave.store(true, Ordering::Relaxed);
    }

    /// Whether it is left to itself: who follows it returns, and it goes on.
    pub fn are_to_leave(&self) -> bool {
        self.leave.load(Ordering::Relaxed)
    }
}

/// Carries jobs out. Called on a thread of its own; several may run at once.
pub trait Work: Send + Sync {
    /// Runs a job to its end, telling what happens with the milliseconds since its start.
    ///
    /// # Errors
    /// For the user: what failed and what to do. A stopped or left job gives an error too.
    fn run(
        &self,
        job: &Job,
        tell: &mut dyn FnMut(u64, Event),
        orders: &Orders,
    ) -> Result<Results, String>;

    /// What is kept of earlier runs of this session.
    fn kept(&self, _session: &Session, _folder: &std::path::Path) -> Results {
        Results::default()
    }

    /// Whether a run of this session goes on in another process.
    fn going(&self, _session: &Session, _folder: &std::path::Path) -> Option<Going> {
        None
    }

    /// Follows it to its end, as [`Work::run`] does.
    ///
    /// # Errors
    /// As [`Work::run`].
    fn join(
        &self,
        _job: &Job,
        _going: Going,
        _tell: &mut dyn FnMut(u64, Event),
        _orders: &Orders,
    ) -> Result<Results, String> {
        Err("nothing goes on elsewhere".into())
    }
}
