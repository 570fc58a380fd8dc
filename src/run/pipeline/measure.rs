/*! The plan and its baselines, measured. */

use super::Pipeline;
use crate::data::Set;
use crate::device::PartProfile;
use crate::event::{Event, Stage};
use crate::plan::Element;
use crate::plan::Plan;
use crate::plan::Tier;
use crate::report::Report;
use crate::run::distribute::{
    EvaluationContext, Measurement, Parts, Variant, part_settings, test_set,
};
use crate::run::stage_cache::{Listener, finished, told};
use crate::run::{RunError, report, summary, tables};
use crate::session::Degrade;
use crate::session::results::WireTables;

impl Pipeline<'_> {
    /// Runs the plan on its devices, then the baselines, and says what came of it.
    pub(super) fn distribute(
        &mut self,
        on: Listener,
        plan: &Plan,
    ) -> Result<Option<Report>, RunError> {
        let data = self.data.as_ref().ok_or(RunError::NothingToRun)?;
        let test = test_set(data)?;
        let settings = part_settings(self.session, data);
        let parts = Parts::of(&self.network, plan, &self.heads, &settings)?;
        let ground = EvaluationContext {
            session: self.session,
            test: &test,
            labels: data.labels(Set::Test),
            samples: data.len(Set::Test),
        };
        let (fleet, keep) = (&mut self.fleet, &self.keep);
        let session = self.session;
        let test_hash = data.hash(Set::Test);
        let key = summary::run_key(session, &parts, &test_hash);
        let timed = keep.stage(
            on,
            (Stage::Plan, "parts", &key("parts", &[])),
            |timed: &Vec<(Tier, PartProfile)>| format!("{} assembled parts timed", timed.len()),
            |reporter| ground.time_parts(reporter, fleet, &parts),
        )?;
        let tensors = !plan.sends_images() && parts.all().count() > 1;
        if session.wire.tensor != Element::F32 && tensors {
            let tables_key = format!("{} {}", self.results.tables_key, key("wire", &[]));
            let (network, heads, cancel) = (&self.network, &self.heads, self.cancel);
            let over = keep.stage(
                on,
                (Stage::Tables, "wire", &tables_key),
                |_: &Option<WireTables>| {
                    format!(
                        "the cloud's exits on tensors as {} delivers them",
                        session.wire.tensor
                    )
                },
                |reporter| {
                    tables::over_the_wire(reporter, session, network, data, heads, plan, cancel)
                },
            )?;
            self.results.wires.extend(over);
        }
        self.results.parts = timed;
        if self.options.until <= Stage::Plan {
            return Ok(None);
        }
        let thresholds: Vec<f64> = plan.exits.iter().map(|e| e.threshold).collect();
        let quality = session.jpeg_quality;
        let name = |what: Variant, plan: &Plan| match plan.sends_images() {
            true => format!("{} JPEG {quality}", what.name()),
            false => what.name().to_owned(),
        };
        let ran = keep.stage(
            on,
            (
                Stage::Run,
                "run",
                &key(
                    &name(Variant::Plan, plan).replacen("plan", "run", 1),
                    &thresholds,
                ),
            ),
            |ran: &Measurement| summary::ran(ran, plan.exits.len()),
            |reporter| ground.run(reporter, fleet, Variant::Plan, plan, &parts),
        )?;
        on(Event::Records(ran.records.clone()));
        let labels = data.labels(Set::Test);
        let clocks = summary::clocks(&self.results);
        let measured = summary::measured(session, plan, &ran, labels, &clocks)?;
        self.results
            .note(Variant::Plan.name(), Some(plan), measured.clone());
        self.results
            .keep_records(Variant::Plan.name(), plan, &ran.records)?;
        let mut baselines = Vec::new();
        let mut unavailable = Vec::new();
        // Alone, the first tier's part needs an exit to answer, and something to leave out.
        let can_be_alone = plan.offloads() && plan.exits_in(Tier::First).next().is_some();
        let last = plan.chain().next_back().unwrap_or(Tier::First);
        for what in [
            Variant::Original,
            Variant::CloudOnly,
            Variant::CloudOnlyJpeg,
            Variant::EdgeOnly,
        ] {
            let alone = match what {
                Variant::Original => Plan::unmodified(Tier::First, plan.tiers()),
                Variant::CloudOnly => Plan::unmodified(last, plan.tiers()),
                Variant::CloudOnlyJpeg => Plan::unmodified(last, plan.tiers()).with_images(),
                _ if !can_be_alone => continue,
                _ => Plan {
                    exits: plan.exits_in(Tier::First).cloned().collect(),
                    ..Plan::unmodified(Tier::First, plan.tiers())
                },
            };
            let own = match what {
                Variant::EdgeOnly => parts.only(Tier::First),
                _ => Parts::of(&self.network, &alone, &self.heads, &settings)?,
            };
            let key = summary::run_key(session, &own, &test_hash);
            let exits: Vec<f64> = alone.exits.iter().map(|e| e.threshold).collect();
            let ran = keep.stage(
                on,
                (
                    Stage::Baselines,
                    what.name(),
                    &key(&name(what, &alone), &exits),
                ),
                |ran: &Measurement| format!("{}: {}", what.label(), summary::ran(ran, 0)),
                |reporter| ground.run(reporter, fleet, what, &alone, &own),
            );
            let ran = match ran {
                Ok(ran) => ran,
                // The plan was run without its cloud, and so is what it is compared with.
                Err(error) if session.offload.degrade == Degrade::LastExit && error.is_away() => {
                    let outcome = format!("{}: not measured: {error}", what.label());
                    on(finished(Stage::Baselines, outcome, false, 0.0));
                    unavailable.push((what, error.to_string()));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let outcome = summary::measured(session, &alone, &ran, labels, &clocks)?;
            self.results.note(what.name(), None, outcome.clone());
            self.results
                .keep_records(what.name(), &alone, &ran.records)?;
            baselines.push(report::Baseline {
                what,
                outcome,
                records: ran.records,
            });
        }
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
                    baselines: &baselines,
                    unavailable: &unavailable,
                };
                report::make(&found, reporter, self.cancel)
            },
        )?;
        Ok(Some(report))
    }
}
