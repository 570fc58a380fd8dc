/*! The stages of a run, one after the other. */

mod exits;
mod journal;
mod measure;
mod profile;

use super::lock::{EventLog, Lock};
use super::pause::Pause;
use super::stage_cache::{Listener, Reporter, StageCache, told};
use super::targets::Fleet;
use super::{Done, Network, Options, RunError, summary, train_heads};
use crate::data::{LoadedData, Set};
use crate::engine::Cancel;
use crate::event::{Event, Note, Stage};
use crate::exits::ExitPoint;
use crate::explore::Planner;
use crate::plan::{Plan, SplitRule, TierHead};
use crate::predict::{ConfidenceTable, Doubt};
use crate::report::Report;
use crate::session::results::Measured;
use crate::session::stages::Stages;
use crate::session::{Results, Session};
use crate::train::Training;
use journal::JournalThrottle;
use std::sync::Arc;
use std::time::Instant;

/// All that a run knows so far.
struct Pipeline<'a> {
    session: &'a Session,
    options: &'a Options,
    keep: StageCache,
    fleet: Fleet<'a>,
    cancel: &'a Cancel,
    network: Network,
    data: Option<LoadedData>,
    heads: Vec<TierHead>,
    /// What each of them was trained from and with.
    head_keys: Vec<String>,
    tables: Option<(ConfidenceTable, ConfidenceTable)>,
    results: Results,
}

/// Whether a split is chosen by predictions, which need the confidence tables.
fn by_prediction(session: &Session) -> bool {
    let mut rules = session.splits.iter();
    rules.any(|rule| matches!(rule, SplitRule::Fastest | SplitRule::Cheapest))
}

pub(super) fn execute(
    session: &Session,
    options: &Options,
    on: Listener,
    cancel: &Cancel,
) -> Result<Done, RunError> {
    // Where nothing is kept, nobody is in the way.
    let looks = options.until == Stage::Plan && !session.plans_by_evidence();
    let held = (!looks)
        .then(|| Lock::take(&options.out, options.until))
        .transpose()?;
    let mut diary = (!looks).then(|| EventLog::new(&options.out)).transpose()?;
    let mut unwritten = None;
    let start = Instant::now();
    let mut journal: Vec<(f64, Event)> = Vec::new();
    let mut due = JournalThrottle::default();
    let pause = Pause::new((!looks).then_some(&options.out));
    let mut tell = |event: Event| {
        let seconds = start.elapsed().as_secs_f64();
        let journalled = event.is_journalled() && due.is(&event, seconds);
        // Who follows wants to see results at once; a session has a place of its own for them.
        let followed = matches!(event, Event::Profiled { .. } | Event::Linked(_));
        if (journalled || followed)
            && let Some(diary) = &mut diary
            && let Err(error) = diary.note(seconds, &event)
        {
            unwritten = Some(error);
        }
        if journalled {
            journal.push((seconds, event.clone()));
        }
        on(event);
    };
    let mut on = |event: Event| {
        tell(event);
        if pause.is_here() {
            tell(Event::Paused(true));
            pause.wait(cancel);
            tell(Event::Paused(false));
        }
    };
    let network = Network::load(session)?;
    network.check(session, options.until)?;
    let mut pipeline = Pipeline {
        session,
        options,
        keep: StageCache {
            stages: Stages::open(&options.out)?,
            fresh: options.fresh,
        },
        fleet: Fleet::new(session, options.program.clone(), cancel, pause.clone())?,
        cancel,
        results: Results::new(network.table.clone(), network.points.clone()),
        network,
        data: None,
        heads: Vec::new(),
        head_keys: Vec::new(),
        tables: None,
    };
    if !looks {
        pipeline.fleet.make_resumable(options)?;
    }
    let earlier = earlier(session, options);
    let report = pipeline.run(&mut on)?;
    if let Some(error) = unwritten {
        return Err(error);
    }
    let mut results = pipeline.results;
    results.keep_journal(&journal)?;
    results.remember(&earlier);
    let mut session = session.clone();
    session.name = Some(options.name.clone());
    session.results = Some(Box::new(results));
    Ok(Done {
        session,
        report,
        _held: held,
    })
}

/// What earlier runs gave: those that the session itself holds, and those that its out folder does. A
/// file there that can't be read is written over by this run, and has nothing to remember.
fn earlier(session: &Session, options: &Options) -> Vec<Measured> {
    let left = Session::read(&options.out.join("session.ron")).ok();
    let left = left.and_then(|session| session.results);
    let own = session.results.as_ref().map_or(&[][..], |r| &r.measured);
    let mut all = own.to_vec();
    for one in left.iter().flat_map(|results| &results.measured) {
        if !all.contains(one) {
            all.push(one.clone());
        }
    }
    all.sort_by_key(|one| one.at);
    all
}

impl Pipeline<'_> {
    fn run(&mut self, on: Listener) -> Result<Option<Report>, RunError> {
        let session = self.session;
        let until = self.options.until;
        let untrained = self.untrained_heads(on)?;
        let points = self.network.points_with(&untrained);
        // Rules that look at the network alone need nothing else to plan.
        if until == Stage::Plan && !session.plans_by_evidence() {
            self.plan(on, &points)?;
            return Ok(None);
        }
        self.load_data(on)?;
        if until <= Stage::Data {
            return Ok(None);
        }
        self.profile(on, &untrained)?;
        if until <= Stage::Link || (until == Stage::Plan && !by_prediction(session)) {
            if until == Stage::Plan {
                self.plan(on, &points)?;
            }
            return Ok(None);
        }
        let plan = match session.exits.training {
            Training::Frozen { epochs } => {
                self.learn(on, &untrained, Some(epochs))?;
                self.make_tables(on)?;
                if until < Stage::Plan {
                    return Ok(None);
                }
                self.plan(on, &points)?
            }
            // The network changes with its exits, so only those of one plan can be trained.
            Training::Joint { .. } | Training::Mixed { .. } => {
                let plan = self.plan(on, &points)?;
                let chosen = train_heads::planned_heads(&plan, &untrained);
                self.learn(on, &chosen, None)?;
                self.make_tables(on)?;
                plan
            }
        };
        if until <= Stage::Plan {
            return Ok(None);
        }
        self.distribute(on, &plan)
    }

    fn untrained_heads(&mut self, on: Listener) -> Result<Vec<TierHead>, RunError> {
        let mut reporter = Reporter {
            stage: Stage::Data,
            on,
        };
        self.network.heads(self.session, &mut reporter)
    }

    fn load_data(&mut self, on: Listener) -> Result<(), RunError> {
        let session = self.session;
        let load = self.network.load_options(session)?;
        let cancel = self.cancel;
        let data = told(
            on,
            Stage::Data,
            |data: &LoadedData| {
                let [train, calibration, test] =
                    [Set::Train, Set::Calibration, Set::Test].map(|set| data.len(set));
                let per_class = data.per_class(Set::Train);
                let least = per_class.iter().min().copied().unwrap_or(0);
                let most = per_class.iter().max().copied().unwrap_or(0);
                format!(
                    "{train} images to train ({least} to {most} per class of {}), {calibration} to \
                     calibrate, {test} to test",
                    per_class.len()
                )
            },
            |reporter| {
                let mut progress = |p: crate::data::Progress| {
                    reporter.progress(p.done as usize, p.total as usize, "images");
                };
                let data = LoadedData::load(&session.data, &load, &mut progress, cancel)?;
                data.notes().iter().for_each(|note| reporter.say(note));
                if session.lacks_preprocessing() {
                    reporter.say(Note::Doubt(Doubt::NoPreprocessing));
                }
                Ok(data)
            },
        )?;
        self.data = Some(data);
        Ok(())
    }

    /// The plan by the session's rules, over the points at which a head can stand.
    fn plan(&mut self, on: Listener, points: &[ExitPoint]) -> Result<Plan, RunError> {
        let session = self.session;
        let (rules, terms) = (session.rules(), session.terms());
        let mut evidence = self.results.evidence(session.tier_names())?;
        evidence.points = Arc::new(points.to_vec());
        let planner = Planner {
            rules: &rules,
            terms: &terms,
        };
        let names = evidence.tiers.clone();
        let made = told(
            on,
            Stage::Plan,
            |plan| summary::plan(plan, &names),
            |reporter| {
                let made = planner.plan(&evidence)?;
                let remarks = made.remarks.iter();
                remarks.for_each(|remark| reporter.say(remark.text(&evidence.tiers)));
                Ok(made)
            },
        )?;
        self.results.plan = Some(made.clone());
        Ok(made)
    }
}
