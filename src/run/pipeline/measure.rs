/*! The plan and its baselines, measured. */

use super::Pipeline;
use crate::data::{LoadedData, Set};
use crate::device::PartProfile;
use crate::engine::Cancel;
use crate::event::{Event, Stage};
use crate::plan::{Element, Plan, Tier, TierHead};
use crate::predict::replay::combinations;
use crate::predict::{Confidence, Outcome};
use crate::report::Report;
use crate::run::distribute::{
    EvaluationContext, Measurement, Parts, Variant, part_settings, test_set,
};
use crate::run::stage_cache::{Listener, StageCache, finished, told};
use crate::run::targets::Fleet;
use crate::run::{Network, RunError, report, summary, tables};
use crate::runtime::parts::PartSettings;
use crate::session::results::WireTables;
use crate::session::{Degrade, Results, Session};

impl Pipeline<'_> {
    /// Runs the plan on its devices, then the baselines, and says what came of it.
    pub(super) fn distribute(
        &mut self,
        on: Listener,
        plan: &Plan,
    ) -> Result<Option<Report>, RunError> {
        let session = self.session;
        let data = self.data.as_ref().ok_or(RunError::NothingToRun)?;
        let test = test_set(data)?;
        let mut measuring = Measuring {
            session,
            data,
            ground: EvaluationContext {
                session,
                test: &test,
                labels: data.labels(Set::Test),
                samples: data.len(Set::Test),
            },
            settings: part_settings(session, data),
            test_hash: data.hash(Set::Test),
            network: &self.network,
            heads: &self.heads,
            keep: &self.keep,
            cancel: self.cancel,
            fleet: &mut self.fleet,
            results: &mut self.results,
        };
        let parts = measuring.parts(plan)?;
        measuring.time_parts(on, &parts)?;
        if session.wire.tensor != Element::F32 && !plan.sends_images() && parts.all().count() > 1 {
            measuring.tables_over_the_wire(on, plan, &parts)?;
        }
        if self.options.until <= Stage::Plan {
            return Ok(None);
        }
        let (ran, measured) = measuring.plan(on, plan, &parts)?;
        let compared = measuring.baselines(on, plan, &parts)?;
        let report = told(
            on,
            Stage::Report,
            |_| "written".to_owned(),
            |reporter| {
                let found = report::Findings {
                    session,
                    name: &self.options.name,
                    data,
                    results: &self.results,
                    ran: &ran,
                    measured: &measured,
                    baselines: &compared.measured,
                    unavailable: &compared.unavailable,
                };
                report::make(&found, reporter, self.cancel)
            },
        )?;
        Ok(Some(report))
    }
}

/// Parts that run over the test set: those of the plan, or of a baseline.
struct Trial<'p> {
    what: Variant,
    plan: &'p Plan,
    parts: &'p Parts,
}

impl Trial<'_> {
    /// File that keeps the records, and the first word of their key.
    fn file(&self) -> &'static str {
        match self.what {
            Variant::Plan => "run",
            baseline => baseline.name(),
        }
    }

    /// What runs, as the key of its records has it.
    fn name(&self, jpeg_quality: u8) -> String {
        if self.plan.sends_images() {
            format!("{} JPEG {jpeg_quality}", self.file())
        } else {
            self.file().to_owned()
        }
    }
}

/// Baselines beside a plan that ran.
#[derive(Default)]
struct Baselines {
    measured: Vec<report::Baseline>,
    /// Those whose target was away, each with the reason.
    unavailable: Vec<(Variant, String)>,
}

/// What all measurements of a run share: devices, test set, network and heads, and where results go.
struct Measuring<'m, 'f> {
    session: &'m Session,
    data: &'m LoadedData,
    ground: EvaluationContext<'m>,
    /// What every part says besides its graphs.
    settings: PartSettings,
    /// Hash of the test set.
    test_hash: String,
    network: &'m Network,
    heads: &'m [TierHead],
    keep: &'m StageCache,
    cancel: &'m Cancel,
    fleet: &'m mut Fleet<'f>,
    results: &'m mut Results,
}

impl Measuring<'_, '_> {
    /// The network cut as `plan` says, its exits with their models where confidence is learned.
    fn parts(&self, plan: &Plan) -> Result<Parts, RunError> {
        let measure = self.settings.confidence;
        let models = if measure == Confidence::Learned {
            let evidence = self.results.evidence(self.session.tier_names())?;
            combinations(&evidence, measure, plan)?
        } else {
            Vec::new()
        };
        Parts::of(self.network, plan, self.heads, &self.settings, &models)
    }

    /// Key of what is measured of these parts.
    fn key(&self, parts: &Parts, what: &str, thresholds: &[f64]) -> String {
        summary::run_key(self.session, parts, &self.test_hash)(what, thresholds)
    }

    /// Times the assembled parts, and keeps their profiles in the results.
    fn time_parts(&mut self, on: Listener, parts: &Parts) -> Result<(), RunError> {
        let key = self.key(parts, "parts", &[]);
        self.results.parts = self.keep.stage(
            on,
            (Stage::Plan, "parts", &key),
            |timed: &Vec<(Tier, PartProfile)>| format!("{} assembled parts timed", timed.len()),
            |reporter| self.ground.time_parts(reporter, self.fleet, parts),
        )?;
        Ok(())
    }

    /// Adds to the results what the exits behind the split make of tensors as the wire delivers them.
    fn tables_over_the_wire(
        &mut self,
        on: Listener,
        plan: &Plan,
        parts: &Parts,
    ) -> Result<(), RunError> {
        let (session, data) = (self.session, self.data);
        let (network, heads, cancel) = (self.network, self.heads, self.cancel);
        let wire = self.key(parts, "wire", &[]);
        let key = format!("{} {wire}", self.results.tables_key);
        let over = self.keep.stage(
            on,
            (Stage::Tables, "wire", &key),
            |_: &Option<WireTables>| {
                format!(
                    "the cloud's exits on tensors as {} delivers them",
                    session.wire.tensor
                )
            },
            |reporter| tables::over_the_wire(reporter, session, network, data, heads, plan, cancel),
        )?;
        self.results.wires.extend(over);
        Ok(())
    }

    /// Runs a trial, unless its records are kept already.
    fn run(
        &mut self,
        on: Listener,
        stage: Stage,
        trial: &Trial,
        outcome: impl Fn(&Measurement) -> String,
    ) -> Result<Measurement, RunError> {
        let thresholds: Vec<f64> = trial.plan.exits.iter().map(|e| e.threshold).collect();
        let name = trial.name(self.session.jpeg_quality);
        let key = self.key(trial.parts, &name, &thresholds);
        self.keep
            .stage(on, (stage, trial.file(), &key), outcome, |reporter| {
                self.ground
                    .run(reporter, self.fleet, trial.what, trial.plan, trial.parts)
            })
    }

    /// What a trial's records come to; noted in the results together with them.
    fn note(&mut self, trial: &Trial, ran: &Measurement) -> Result<Outcome, RunError> {
        let labels = self.data.labels(Set::Test);
        let clocks = summary::clocks(self.results);
        let outcome = summary::measured(self.session, trial.plan, ran, labels, &clocks)?;
        let (what, own) = (trial.what.name(), trial.what == Variant::Plan);
        self.results
            .note(what, own.then_some(trial.plan), outcome.clone());
        self.results.keep_records(what, trial.plan, &ran.records)?;
        Ok(outcome)
    }

    /// Runs the plan, and tells of each sample.
    fn plan(
        &mut self,
        on: Listener,
        plan: &Plan,
        parts: &Parts,
    ) -> Result<(Measurement, Outcome), RunError> {
        let what = Variant::Plan;
        let trial = Trial { what, plan, parts };
        let exits = plan.exits.len();
        let ran = self.run(on, Stage::Run, &trial, |ran| summary::ran(ran, exits))?;
        on(Event::Records(ran.records.clone()));
        let outcome = self.note(&trial, &ran)?;
        Ok((ran, outcome))
    }

    /// Runs the baselines of `plan`.
    fn baselines(
        &mut self,
        on: Listener,
        plan: &Plan,
        parts: &Parts,
    ) -> Result<Baselines, RunError> {
        let mut all = Baselines::default();
        for what in [
            Variant::Original,
            Variant::CloudOnly,
            Variant::CloudOnlyJpeg,
            Variant::EdgeOnly,
        ] {
            let Some(alone) = baseline(what, plan) else {
                continue;
            };
            let parts = match what {
                Variant::EdgeOnly => parts.only(Tier::First),
                _ => self.parts(&alone)?,
            };
            let trial = Trial {
                what,
                plan: &alone,
                parts: &parts,
            };
            let ran = self.run(on, Stage::Baselines, &trial, |ran| {
                format!("{}: {}", what.label(), summary::ran(ran, 0))
            });
            let degrades = self.session.offload.degrade == Degrade::LastExit;
            let ran = match ran {
                Ok(ran) => ran,
                // The plan was run without its cloud, and so is what it is compared with.
                Err(error) if degrades && error.is_away() => {
                    let outcome = format!("{}: not measured: {error}", what.label());
                    on(finished(Stage::Baselines, outcome, false, 0.0));
                    all.unavailable.push((what, error.to_string()));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let outcome = self.note(&trial, &ran)?;
            all.measured.push(report::Baseline {
                what,
                outcome,
                records: ran.records,
            });
        }
        Ok(all)
    }
}

/// What a baseline runs instead of `plan`; none for the plan itself, and where the first tier's part can't
/// be alone.
fn baseline(what: Variant, plan: &Plan) -> Option<Plan> {
    let first = Plan::unmodified(Tier::First, plan.tiers());
    let last = plan.chain().next_back().unwrap_or(Tier::First);
    let last = Plan::unmodified(last, plan.tiers());
    match what {
        Variant::Original => Some(first),
        Variant::CloudOnly => Some(last),
        Variant::CloudOnlyJpeg => Some(last.with_images()),
        Variant::EdgeOnly => {
            let exits: Vec<_> = plan.exits_in(Tier::First).cloned().collect();
            // Alone, the first tier's part needs an exit to answer, and something to leave out.
            let can_be_alone = plan.offloads() && !exits.is_empty();
            can_be_alone.then_some(Plan { exits, ..first })
        }
        Variant::Plan => None,
    }
}
