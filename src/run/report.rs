/*! From what a run found to its report. */

use super::RunError;
use super::distribute::{Measurement, Variant};
use super::replayed::Replayed;
use super::stage_cache::Reporter;
use crate::data::{Calibration, LoadedData, Set, Source};
use crate::engine::Cancel;
use crate::explore::verdict::{self, Contender};
use crate::explore::{Choice, Verdict, guarantee, joint, sweep, what_if};
use crate::plan::{Element, Placement, Plan, Tier, plan_at};
use crate::predict::doubt::doubts;
use crate::predict::{Doubt, Outcome, PreparedPlan, Record, ReplayError, SampleResult, baselines};
use crate::report::evidence::{Picture, Shown};
use crate::report::{
    BaselineFigures, BudgetReport, Conditions, Figures, GuaranteeReport, Report, Subject, Used,
    WhatIfReport,
};
use crate::session::{ModelSource, Results, Session, Target};
use crate::train::Training;
use std::time::{Duration, Instant};

/// Time between two reports of progress.
const TELL: Duration = Duration::from_millis(200);
/// What the question of other links, devices and prices may take at the end of a run.
const WHAT_IF: Duration = Duration::from_secs(10);
/// What the search for the best of all plans may take at the end of a run.
const BUDGET: Duration = Duration::from_secs(2);

/// All that a report tells of.
pub(super) struct Findings<'a> {
    pub session: &'a Session,
    pub name: &'a str,
    pub data: &'a LoadedData,
    pub results: &'a Results,
    pub ran: &'a Measurement,
    pub measured: &'a Outcome,
    pub baselines: &'a [Baseline],
    /// Baselines that could not be measured, and the reasons.
    pub unavailable: &'a [(Variant, String)],
}

/// Makes the report of a finished run.
///
/// # Errors
/// Where something is missing or can't be predicted, and [`RunError::Stopped`] where `cancel` is raised.
pub(super) fn make(
    found: &Findings,
    reporter: &mut Reporter,
    cancel: &Cancel,
) -> Result<Report, RunError> {
    let (session, results) = (found.session, found.results);
    let replayed = Replayed::over(session, results)?;
    let Replayed { evidence, plan, .. } = &replayed;
    let mut report = Report::new(subject(found), plan, &results.layers, &evidence.tiers);
    say_conditions(&mut report, found)?;
    say_doubts(&mut report, found, &replayed);
    say_more(&mut report, session, &replayed);
    say_of_targets(&mut report, found.ran);
    say_slowest(&mut report, found);
    show_plan(&mut report, found, &replayed)?;
    compare_baselines(&mut report, found, &replayed)?;
    compare_placements(&mut report, session, &replayed)?;
    let mut told = Instant::now();
    let mut go_on = |done, total| {
        if told.elapsed() >= TELL {
            told = Instant::now();
            reporter.progress(done, total, "ways to split explored");
        }
        !cancel.is_cancelled()
    };
    report.answer(&answer(found, &replayed, &mut go_on)?);
    let answers = &evidence.answers(Set::Test)?.table;
    report.judge_confidence(plan, &evidence.heads, answers);
    judge_guarantee(&mut report, session, &replayed)?;
    ask_what_if(&mut report, session, &replayed, reporter, cancel)?;
    search_budget(&mut report, session, &replayed, reporter, cancel)?;
    let shown = Shown {
        records: &found.ran.records,
        labels: found.data.labels(Set::Test),
        class_names: found.data.class_names(),
        exits: plan.exits.iter().map(|exit| exit.after.clone()).collect(),
        picture: &|sample| {
            Picture::of(
                found.data.pixels(Set::Test, sample as usize),
                found.data.shape(),
            )
        },
    };
    report.evidence = Some(shown.report());
    Ok(report)
}

/// Says under what conditions the plan ran: devices, links, wire and prices.
fn say_conditions(report: &mut Report, found: &Findings) -> Result<(), RunError> {
    let (session, results) = (found.session, found.results);
    let tiers = session.chain().map(|tier| results.profile(tier));
    let links = Tier::chain(session.links.len())
        .map(|before| Some((session.link(before), results.link(before)?)));
    let (Some(tiers), Some(links)) = (
        tiers.collect::<Option<Vec<_>>>(),
        links.collect::<Option<Vec<_>>>(),
    ) else {
        return Err(RunError::NoResults);
    };
    report.under(&Conditions {
        tiers: &tiers,
        links: &links,
        wire: session.wire,
        billing: session.billing,
        one_machine: one_machine(session),
    });
    Ok(())
}

/// Shows what was predicted of the plan on the calibration images, and what was measured on the test
/// images beside its prediction for them.
fn show_plan(report: &mut Report, found: &Findings, replayed: &Replayed) -> Result<(), RunError> {
    let (evidence, terms) = (&replayed.evidence, &replayed.terms);
    let plan = replayed.plan;
    let prepared = PreparedPlan::new(evidence, terms, Set::Calibration, plan)?;
    let thresholds = found.session.sweep.thresholds();
    report.predict(
        &prepared.outcome(),
        &sweep(evidence, terms, plan, &thresholds)?,
        prepared.head_pays(),
    );
    let tested = PreparedPlan::new(evidence, terms, Set::Test, plan)?;
    let equality = tested.equality(&found.ran.records)?;
    report.measure(found.measured, Some(&tested.outcome()), Some(&equality));
    report.assembled(&found.results.parts, &tested.outcome());
    Ok(())
}

/// Sets the baselines beside the plan, those that could not be measured by name and reason.
fn compare_baselines(
    report: &mut Report,
    found: &Findings,
    replayed: &Replayed,
) -> Result<(), RunError> {
    let evidence = &replayed.evidence;
    // What baselines answer to samples they didn't run is in the table.
    let whole = baselines(evidence, &replayed.terms, Set::Test, replayed.plan)?;
    let of = |what, whole: Option<&Outcome>| {
        let ran = found.baselines.iter().find(|b| b.what == what)?;
        Some(Figures::from(&ran.outcome).with_accuracy_of(whole?))
    };
    report.compare(BaselineFigures {
        original: of(Variant::Original, Some(&whole.original)),
        cloud_only: of(Variant::CloudOnly, Some(&whole.cloud_only)),
        cloud_only_jpeg: of(Variant::CloudOnlyJpeg, whole.cloud_only_jpeg.as_ref()),
        exits_else_image: whole.exits_else_image.as_ref().map(Figures::from),
        edge_only: of(Variant::EdgeOnly, whole.edge_only.as_ref()),
    });
    for (what, reason) in found.unavailable {
        report.say(format!(
            "The baseline \"{}\" was not measured: {reason}.",
            what.label()
        ));
    }
    let answers = &evidence.answers(Set::Test)?.table;
    report.unmodified(answers.final_column()?.accuracy(&answers.labels));
    Ok(())
}

/// Compares the ways to place exits with cloud-only, at the plan's splits and over all thresholds.
fn compare_placements(
    report: &mut Report,
    session: &Session,
    replayed: &Replayed,
) -> Result<(), RunError> {
    let Replayed {
        evidence,
        terms,
        plan,
    } = replayed;
    let calibration = Set::Calibration;
    let thresholds = session.sweep.thresholds();
    let cloud_only = baselines(evidence, terms, calibration, plan)?.cloud_only;
    // Together with the network only this plan's exits were trained.
    let both = matches!(session.exits.training, Training::Frozen { .. });
    for placement in [Placement::Linear, Placement::Pareto] {
        let other = if placement == session.exits.placement {
            (*plan).clone()
        } else if both {
            let mut rules = session.rules();
            rules.exits.placement = placement;
            plan_at(
                &evidence.layers,
                &evidence.points,
                plan.splits.clone(),
                &rules.exits,
            )
        } else {
            continue;
        };
        let prepared = PreparedPlan::new(evidence, terms, calibration, &other)?;
        let swept = sweep(evidence, terms, &other, &thresholds)?;
        report.place(placement, &other, &prepared.outcome(), &swept, &cloud_only);
    }
    Ok(())
}

/// Says whether the promise of the session holds, and where it rests on images the network may know.
fn judge_guarantee(
    report: &mut Report,
    session: &Session,
    replayed: &Replayed,
) -> Result<(), RunError> {
    let Some(promise) = session.guarantee else {
        return Ok(());
    };
    let Replayed {
        evidence,
        terms,
        plan,
    } = replayed;
    let found = guarantee(evidence, terms, promise, plan)?;
    report.promise(GuaranteeReport::new(&found, evidence, terms, plan)?);
    let from_file = matches!(
        session.model,
        ModelSource::Onnx(_) | ModelSource::OnnxWith { .. }
    );
    if from_file && matches!(session.calibration, Calibration::FromTrain(_)) {
        report.say(
            "The guarantee rests on calibration images that are taken from the training images: it holds \
             only if the network never learnt from them. `calibration: FromTest(..)` takes others."
                .to_owned(),
        );
    }
    Ok(())
}

/// Asks what other links, devices and prices would change, for at most [`WHAT_IF`].
fn ask_what_if(
    report: &mut Report,
    session: &Session,
    replayed: &Replayed,
    reporter: &mut Reporter,
    cancel: &Cancel,
) -> Result<(), RunError> {
    let (evidence, terms) = (&replayed.evidence, &replayed.terms);
    let thresholds = session.sweep.thresholds();
    let until = Instant::now() + WHAT_IF;
    let stopped = || cancel.is_cancelled() || Instant::now() >= until;
    let mut progress = |done, total| {
        reporter.progress(done, total, "other links, devices and prices");
    };
    let goal = &session.goal;
    match what_if(evidence, terms, goal, &thresholds, false, &stopped, &mut progress) {
        Ok(others) => report.what_if = Some(WhatIfReport::new(&others, goal, &evidence.tiers)),
        Err(ReplayError::Stopped) if cancel.is_cancelled() => return Err(RunError::Stopped),
        Err(ReplayError::Stopped) => report.say(format!(
            "What other links, devices and prices would change takes more than {} s here, and is left out: \
             `edgelesspart explore --what-if` says it.",
            WHAT_IF.as_secs()
        )),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Searches for the best plan over splits, exits and thresholds, for at most [`BUDGET`].
fn search_budget(
    report: &mut Report,
    session: &Session,
    replayed: &Replayed,
    reporter: &mut Reporter,
    cancel: &Cancel,
) -> Result<(), RunError> {
    // Together with the network only this plan's exits were trained.
    if !matches!(session.exits.training, Training::Frozen { .. }) {
        return Ok(());
    }
    let (evidence, terms, goal) = (&replayed.evidence, &replayed.terms, &session.goal);
    let until = Instant::now() + BUDGET;
    let mut told = Instant::now();
    let found = joint(evidence, terms, goal, &mut |_, done, total| {
        if told.elapsed() >= TELL {
            told = Instant::now();
            reporter.progress(done, total, "plans searched for the best");
        }
        !cancel.is_cancelled() && Instant::now() < until
    });
    match found {
        Ok(found) => report.budget = Some(BudgetReport::new(&found, goal, &evidence.tiers)),
        Err(ReplayError::Stopped) if cancel.is_cancelled() => return Err(RunError::Stopped),
        Err(ReplayError::Stopped) => report.say(format!(
            "The best of all plans takes more than {} s to find here, and is left out: `edgelesspart explore \
             --best` finds it.",
            BUDGET.as_secs()
        )),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// A baseline that ran.
pub(super) struct Baseline {
    pub what: Variant,
    pub outcome: Outcome,
    pub records: Vec<Record>,
}

/// What to deploy: of the plan and the baselines by what was measured, unless a choice that didn't run, and
/// so can only be predicted, is better than all of them.
fn answer(
    found: &Findings,
    replayed: &Replayed,
    go_on: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<Verdict, RunError> {
    let session = found.session;
    let (terms, goal, plan) = (&replayed.terms, &session.goal, replayed.plan);
    let evidence = &replayed.evidence;
    let thresholds = session.sweep.thresholds();
    let predicted = verdict::explored_told(evidence, terms, goal, plan, &thresholds, go_on);
    let predicted = predicted.map_err(|error| match error {
        ReplayError::Stopped => RunError::Stopped,
        other => other.into(),
    })?;
    let prepare = |plan: &Plan| PreparedPlan::new(evidence, terms, Set::Test, plan);
    let whole = |plan: Plan| {
        let whole = prepare(&plan)?;
        Ok::<_, ReplayError>((whole.outcome(), whole.samples()))
    };
    let unmodified_on_last = || {
        let last = plan.chain().next_back().unwrap_or(Tier::First);
        Plan::unmodified(last, plan.tiers())
    };
    let labels = found.data.labels(Set::Test);
    let own = prepare(plan)?;
    let ran = (found.measured, found.ran.records.as_slice());
    let table = (own.outcome(), own.samples());
    let this = contender(Choice::ThisPlan, labels, ran, table);
    let mut others = Vec::new();
    for baseline in found.baselines {
        let (what, table) = match baseline.what {
            Variant::Original => (
                Choice::Original,
                whole(Plan::unmodified(Tier::First, plan.tiers()))?,
            ),
            Variant::CloudOnly => (Choice::CloudOnly, whole(unmodified_on_last())?),
            Variant::CloudOnlyJpeg => (
                Choice::CloudOnlyJpeg,
                whole(unmodified_on_last().with_images())?,
            ),
            Variant::EdgeOnly => match own.edge_only().zip(own.edge_only_samples()) {
                Some(table) => (Choice::EdgeOnly, table),
                None => continue,
            },
            Variant::Plan => continue,
        };
        let ran = (&baseline.outcome, baseline.records.as_slice());
        others.push(contender(what, labels, ran, table));
    }
    // A choice that didn't run can only be predicted, and is no worse for it.
    let ran = |choice: &Choice| *choice == this.what || others.iter().any(|c| c.what == *choice);
    if predicted.deploy.as_ref().is_some_and(|choice| !ran(choice)) {
        return Ok(predicted);
    }
    let answers = &evidence.answers(Set::Test)?.table;
    let accuracy = answers.final_column()?.accuracy(&answers.labels);
    Ok(verdict::decide(goal, accuracy, &this, &others))
}

/// What ran, with the answers that the table has to the samples that didn't, and with the engine's
/// memory, which limits are of: a process's peak isn't.
fn contender(
    what: Choice,
    labels: &[u16],
    (outcome, records): (&Outcome, &[Record]),
    (whole, mut samples): (Outcome, Vec<SampleResult>),
) -> Contender {
    for sample in &mut samples {
        sample.latency_ms = f64::NAN;
    }
    for record in records {
        let at = record.sample as usize;
        if let Some((sample, label)) = samples.get_mut(at).zip(labels.get(at)) {
            sample.right = record.prediction == *label;
            sample.latency_ms = record.latency_ms.into();
        }
    }
    let right = samples.iter().filter(|s| s.right).count();
    Contender {
        what,
        outcome: Outcome {
            accuracy: right as f64 / samples.len().max(1) as f64,
            tiers: whole.tiers,
            // Without power rails it can only be predicted.
            energy: outcome.energy.or(whole.energy),
            ..outcome.clone()
        },
        samples,
    }
}

/// Whether targets of two tiers share a machine, as far as their addresses tell.
fn one_machine(session: &Session) -> bool {
    let hosts = |targets: &[Target]| -> Vec<String> { targets.iter().map(host).collect() };
    let mut seen: Vec<String> = Vec::new();
    session.chain().any(|tier| {
        let own = hosts(session.targets(tier));
        let shared = own.iter().any(|host| seen.contains(host));
        seen.extend(own);
        shared
    })
}

/// The machine of a target; `localhost` for this one.
fn host(target: &Target) -> String {
    let (Target::Agent { url, .. } | Target::V2 { url, .. }) = target else {
        return "localhost".to_owned();
    };
    let host = url::Url::parse(url).ok();
    let host = host.as_ref().and_then(url::Url::host_str).unwrap_or(url);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<std::net::IpAddr>() {
        Ok(address) if address.is_loopback() => "localhost".to_owned(),
        _ => host.to_ascii_lowercase(),
    }
}

fn subject(found: &Findings) -> Subject {
    let (session, data) = (found.session, found.data);
    let used = |set| Used {
        used: data.len(set),
        of: data.available(set),
    };
    let training = match session.exits.training {
        Training::Frozen { epochs } => format!("heads over the frozen network, {epochs} epochs"),
        Training::Joint { epochs } => format!("network and heads together, {epochs} epochs"),
        Training::Mixed { backbone, epochs } => {
            format!("network for {backbone} epochs, then with its heads for {epochs}")
        }
    };
    let training = match session.exits.recipe.patience {
        Some(_) => format!("{training} at most, each stopped early on calibration images"),
        None => training,
    };
    Subject {
        name: found.name.to_owned(),
        network: found.results.layers.network.clone(),
        data: match &session.data {
            Source::Synthetic { seed } => format!("synthetic images, seed {seed}"),
            Source::Cifar10(_) => "CIFAR-10".to_owned(),
            Source::Cifar100(_) => "CIFAR-100".to_owned(),
            Source::Idx(path)
            | Source::Npz(path)
            | Source::ImageFolder(path)
            | Source::Table(path)
            | Source::Tar(path) => {
                let name = path.file_name().unwrap_or(path.as_os_str());
                format!("images of {}", name.to_string_lossy())
            }
        },
        training: match session.trains_on() {
            None => training,
            Some(side) => format!(
                "{training}, trained on the {} target",
                session.tier_names().name(side)
            ),
        },
        train: used(Set::Train),
        calibration: used(Set::Calibration),
        test: used(Set::Test),
    }
}

/// Signs that the network doesn't see what it was trained on: no number is right then.
fn say_doubts(report: &mut Report, found: &Findings, replayed: &Replayed) {
    if found.session.lacks_preprocessing() {
        report.say(sentence(&Doubt::NoPreprocessing));
    }
    if let Ok(answers) = replayed.evidence.answers(Set::Calibration) {
        let classes = found.results.layers.classes;
        for doubt in doubts(&answers.table, classes, found.data.class_names()) {
            report.say(sentence(&doubt));
        }
    }
}

/// A doubt as the report's notes are written.
fn sentence(doubt: &Doubt) -> String {
    let text = doubt.to_string();
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), letters.as_str())
}

/// What must be read with the numbers, besides what the report says by itself.
fn say_more(report: &mut Report, session: &Session, replayed: &Replayed) {
    let table = |set| replayed.evidence.answers(set).map(|answers| &answers.table);
    // The whole of the test images tells what the network does, whoever tunes on a part of them.
    if let Calibration::FromTest(n) = session.calibration
        && let (Ok(calibration), Ok(test)) = (table(Set::Calibration), table(Set::Test))
        && let (Ok(a), Ok(b)) = (calibration.final_column(), test.final_column())
    {
        let (na, nb) = (calibration.labels.len() as f64, test.labels.len() as f64);
        let right = a.accuracy(&calibration.labels) * na + b.accuracy(&test.labels) * nb;
        let whole = calibration.labels.len() + test.labels.len();
        report.say(format!(
            "The final classifier alone has {:.2} % over {whole} test images; {n} of them calibrate, \
             so the test set keeps {}.",
            100.0 * right / (na + nb),
            test.labels.len()
        ));
    }
    if session.exits.recipe.patience.is_some() {
        report.say(
            "Training stopped early on the calibration images, so that figures on calibration flatter \
             the exits a little; the test images had no part in it.",
        );
    }
    if session.tiers.iter().any(|tier| tier.targets.len() > 1) {
        report.say("Predictions are for the first target of each tier.");
    }
    if session.wire.tensor != Element::F32 {
        report.say(format!(
            "The split tensor travels as {}; the cloud's answers are predicted from tensors as they arrive.",
            session.wire.tensor
        ));
    }
}

/// Which targets weren't there when they were wanted.
fn say_of_targets(report: &mut Report, ran: &Measurement) {
    for note in &ran.notes {
        report.say(note.clone());
    }
    for cloud in ran.found.clouds.iter().filter(|c| c.failed > 0) {
        report.say(format!(
            "The cloud at {} didn't answer {} of its {} requests.",
            cloud.url,
            cloud.failed,
            cloud.failed + cloud.answered
        ));
    }
}

/// Whose measured mean is that of a few samples.
fn say_slowest(report: &mut Report, found: &Findings) {
    let mut say = |what: &str, records: &[Record]| {
        let latencies: Vec<f32> = records.iter().map(|r| r.latency_ms).collect();
        report.say_slowest(what, &latencies);
    };
    say("The plan", &found.ran.records);
    for baseline in found.baselines {
        say(&format!("\"{}\"", baseline.what.label()), &baseline.records);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("http://127.0.0.1:7070", "localhost")]
    #[case("http://[::1]:7070", "localhost")]
    #[case("https://LOCALHOST:1", "localhost")]
    #[case("https://jetson.lan:7070", "jetson.lan")]
    #[case("https://10.0.0.3", "10.0.0.3")]
    fn an_address_tells_the_machine(#[case] url: &str, #[case] expected: &str) {
        let target = Target::Agent {
            engine: None,
            url: url.to_owned(),
            token: None,
            trust: crate::session::Trust::System,
        };
        assert_eq!(host(&target), expected);
    }
}
