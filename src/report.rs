/*!
The report: what a plan gives, in one document, with where each number comes from.

A [`Report`] is data alone; `text`, `csv`, `json` and `html` only print it. Every set of [`Figures`]
carries whether it was predicted or measured, on which set, and whether anything was emulated. The
sweep reads the calibration set; a plan's test numbers stand beside its measurement and nowhere else.
*/

mod budget;
mod chart;
pub mod csv;
pub mod evidence;
mod figures;
mod guarantee;
pub mod html;
pub mod json;
mod number;
pub mod reliability;
pub mod tables;
pub mod text;
mod verdict;
mod what_if;

pub use figures::{
    BaselineFigures, Bill, ExitFigures, Figures, PartFigures, PaysFigures, PlacementReport,
    PredictionError, Ratios,
};

pub use budget::{BudgetReport, BudgetRow, FoundReport};
pub use evidence::EvidenceReport;
pub use guarantee::{GuaranteeReport, OnTest};
pub use reliability::ReliabilityReport;
pub use what_if::WhatIfReport;

pub use verdict::{DifferenceReport, VerdictReport, VerdictRow};

use crate::data::Set;
use crate::device::{LinkProfile, PartProfile, Profile};
use crate::explore::Verdict;
use crate::model::layers::LayerTable;
use crate::plan::{Link, Wire};
use crate::plan::{Placement, Plan, Split, Tier, TierNames};
use crate::predict::{
    Billing, Clock, ConfidenceTable, Difference, Equality, HeadKey, HeadPays, Kind, Outcome,
    Slowest,
};
use serde::{Deserialize, Serialize};

/// Version of the JSON form.
pub const VERSION: u32 = 1;

/// Differing samples a report lists; the others are counted.
const LISTED: usize = 20;

/// Why a report can't be printed.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The report can't be written as JSON.
    #[error("the report as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The report can't be written as CSV.
    #[error("the report as CSV: {0}")]
    Csv(#[from] ::csv::Error),
    /// A curve can't be drawn.
    #[error("drawing `{chart}`: {what}")]
    Chart {
        /// Title of the curve.
        chart: String,
        /// What the drawing library says.
        what: String,
    },
    /// A sample's picture can't be put into the page.
    #[error("the picture of sample {0}: {1}")]
    Picture(u32, image::ImageError),
    /// The HTML page's template fails.
    #[error("the report's page: {0}")]
    Page(#[from] minijinja::Error),
}

/// How many images of a set were used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Used {
    /// Images that were used.
    pub used: usize,
    /// Images that the set has.
    pub of: usize,
}

/// What the report is of.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Subject {
    /// Name of the run, from the session.
    pub name: String,
    /// Name of the network.
    pub network: String,
    /// The images, in words.
    pub data: String,
    /// What was trained and for how long, in words ("heads, 2 + 1 epochs").
    pub training: String,
    /// Heads (and backbones) learnt on these.
    pub train: Used,
    /// The sweep and every choice read these.
    pub calibration: Used,
    /// The measurement ran over these.
    pub test: Used,
}

/// The plan, for the report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanReport {
    /// The layers before the splits, or the one tier that runs all (`edge only`, `cloud only`).
    pub split: String,
    /// Share of the network's split memory before the first split, 0 to 1.
    pub memory_share: f64,
    /// Share of its multiply-accumulates before the first split, 0 to 1.
    pub macs_share: f64,
    /// In order of depth.
    pub exits: Vec<ExitReport>,
    /// Shares asked for and reached, dropped targets, an unstable cut.
    pub notes: Vec<String>,
}

/// An exit of the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExitReport {
    /// Layer behind which it stands.
    pub after: String,
    /// What the tier is called in whose part it stands.
    pub part: String,
    /// Leave when the confidence is larger.
    pub threshold: f64,
    /// Share of the network's multiply-accumulates before it, 0 to 1.
    pub depth: f64,
}

/// Machine that a tier ran on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// The machine, in words.
    pub target: String,
    /// CPU model or device name.
    pub device: String,
    /// Clock of the processor in GHz, where known.
    pub ghz: Option<f64>,
    /// CPU threads that ran the network.
    pub threads: usize,
    /// Other than 1 means emulated.
    pub slowdown: f64,
}

impl From<&Profile> for DeviceReport {
    fn from(p: &Profile) -> Self {
        DeviceReport {
            target: p.target.clone(),
            device: p.device.clone(),
            ghz: p.ghz,
            threads: p.threads,
            slowdown: p.slowdown,
        }
    }
}

/// Under what conditions the numbers came about.
#[derive(Debug, Clone, Copy)]
pub struct Conditions<'a> {
    /// The devices, nearest to the sample first; two at least.
    pub tiers: &'a [&'a Profile],
    /// The links between them, as the session writes them and as measured.
    pub links: &'a [(Link, &'a LinkProfile)],
    /// How the split tensor travels.
    pub wire: Wire,
    /// Price model of the cloud.
    pub billing: Billing,
    /// Whether both sides share a machine.
    pub one_machine: bool,
}

/// The conditions, for the report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConditionsReport {
    /// Device of the first tier.
    pub edge: DeviceReport,
    /// Device of the last tier.
    pub cloud: DeviceReport,
    /// Every tier, in order.
    #[serde(default)]
    pub tiers: Vec<DeviceReport>,
    /// Whether two tiers share a machine.
    pub one_machine: bool,
    /// The first link, as the session writes it.
    pub link: Link,
    /// Whether any link is emulated.
    pub link_emulated: bool,
    /// Every link as the session writes it, in order.
    #[serde(default)]
    pub links: Vec<Link>,
    /// How the split tensor travels.
    pub wire: Wire,
    /// Provider whose prices the cost follows.
    pub provider: String,
    /// Whether billed times could be scaled to the tier's clock.
    pub billing_scaled: bool,
}

/// A run beside the table, for the report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EqualityReport {
    /// Whether no sample differs.
    pub equal: bool,
    /// Samples whose answers were compared.
    pub compared: usize,
    /// Met an exit at a confidence within 1e-5 of its threshold.
    pub within_band: usize,
    /// Others with another exit or another prediction.
    pub differing: usize,
    /// The first of them.
    pub first: Vec<Difference>,
    /// Largest difference of confidence between run and table.
    pub largest_difference: f32,
}

impl From<&Equality> for EqualityReport {
    fn from(e: &Equality) -> Self {
        EqualityReport {
            equal: e.holds(),
            compared: e.compared,
            within_band: e.within_band,
            differing: e.differing.len(),
            first: e.differing.iter().take(LISTED).copied().collect(),
            largest_difference: e.largest_difference,
        }
    }
}

/// Where the numbers of the exits come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Whether the figures are predicted or measured.
    pub kind: Kind,
    /// Set of samples that the figures are of.
    pub set: Set,
}

/// All that came of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of the JSON form: [`VERSION`].
    pub version: u32,
    /// What it is of.
    #[serde(flatten)]
    pub subject: Subject,
    /// What the tiers are called, in order.
    pub tiers: Vec<String>,
    /// Split and exits of the plan that ran.
    pub plan: PlanReport,
    /// What to deploy, and why; null where nothing could be compared.
    #[serde(default)]
    pub verdict: Option<VerdictReport>,
    /// What leaving early is promised to cost; null where the session asks for no guarantee.
    #[serde(default)]
    pub guarantee: Option<GuaranteeReport>,
    /// How honest each classifier's confidences are, on test; the final classifier (`after` null) last.
    #[serde(default)]
    pub calibration_errors: Vec<ReliabilityReport>,
    /// Sentences to be read with the numbers.
    pub caveats: Vec<String>,
    /// Devices, link and prices, where something was measured.
    pub conditions: Option<ConditionsReport>,
    /// The prediction: on the measurement's set where there is one, else on calibration.
    pub predicted: Option<Figures>,
    /// The prediction the plan was chosen by.
    pub predicted_on_calibration: Option<Figures>,
    /// The run of the parts on their devices.
    pub measured: Option<Figures>,
    /// How far the prediction is off.
    pub prediction_error: Option<PredictionError>,
    /// The run beside the table, sample by sample.
    pub equality: Option<EqualityReport>,
    /// The parts as they were assembled, beside their prediction.
    #[serde(default)]
    pub parts: Vec<PartFigures>,
    /// At each threshold, predicted on calibration.
    pub sweep: Vec<Figures>,
    /// In order of depth, the final classifier (`after` null) last.
    pub exits: Vec<ExitFigures>,
    /// Where the numbers of `exits` come from.
    pub exits_origin: Option<Origin>,
    /// What the plan is compared with.
    pub baselines: BaselineFigures,
    /// Accuracy of the network's own classifier over the whole set of the chief figures, by the
    /// confidence table, 0 to 1.
    pub unmodified_accuracy: Option<f64>,
    /// Which heads are worth their time, predicted on calibration.
    pub head_pays: Vec<PaysFigures>,
    /// Linear and Pareto placement beside each other, predicted on calibration.
    pub placements: Vec<PlacementReport>,
    /// What single samples show; null where nothing ran.
    #[serde(default)]
    pub evidence: Option<EvidenceReport>,
    /// Best plans if link, devices or prices were others; null where nothing could be compared.
    #[serde(default)]
    pub what_if: Option<WhatIfReport>,
    /// The best plan over splits, exits and thresholds, and what each budget buys; null where it wasn't
    /// searched for.
    #[serde(default)]
    pub budget: Option<BudgetReport>,
}

/// The devices by what their tiers are called; documents of release 0.1 had two and no names.
fn devices<'a>(report: &Report, of: &'a ConditionsReport) -> Vec<(String, &'a DeviceReport)> {
    if of.tiers.is_empty() {
        return vec![("edge".into(), &of.edge), ("cloud".into(), &of.cloud)];
    }
    report.tiers.iter().cloned().zip(&of.tiers).collect()
}

impl Report {
    /// A report of a plan, without numbers yet.
    pub fn new(subject: Subject, plan: &Plan, layers: &LayerTable, names: &TierNames) -> Report {
        let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        let depth = |row: usize| {
            let macs = layers.layers.get(row).map_or(0, |l| l.prefix_macs);
            share(macs, layers.macs)
        };
        // Of the first split: what the first tier keeps.
        let (memory_share, macs_share) = match plan.splits.first() {
            Some(Split::After(at)) => {
                let row = layers.layers.get(*at);
                let bytes = row.map_or(0, |l| l.prefix_memory_bytes) as u64;
                (share(bytes, layers.memory_bytes as u64), depth(*at))
            }
            Some(Split::Start) => (0.0, 0.0),
            Some(Split::End) | None => (1.0, 1.0),
        };
        let exit = |e: &crate::plan::PlannedExit| ExitReport {
            after: e.after.clone(),
            part: names.name(e.tier).to_string(),
            threshold: e.threshold,
            depth: depth(e.layer),
        };
        let mut report = Report {
            version: VERSION,
            tiers: names.all().into_iter().map(str::to_string).collect(),
            plan: PlanReport {
                split: plan.place(names),
                memory_share,
                macs_share,
                exits: plan.exits.iter().map(exit).collect(),
                notes: plan.remarks.iter().map(|r| r.text(names)).collect(),
            },
            verdict: None,
            guarantee: None,
            calibration_errors: Vec::new(),
            caveats: Vec::new(),
            conditions: None,
            predicted: None,
            predicted_on_calibration: None,
            measured: None,
            prediction_error: None,
            equality: None,
            parts: Vec::new(),
            sweep: Vec::new(),
            exits: Vec::new(),
            exits_origin: None,
            baselines: BaselineFigures::default(),
            unmodified_accuracy: None,
            head_pays: Vec::new(),
            placements: Vec::new(),
            evidence: None,
            what_if: None,
            budget: None,
            subject,
        };
        for sentence in report.subsets() {
            report.say(sentence);
        }
        report
    }

    pub(crate) fn names(&self) -> TierNames {
        TierNames::new(self.tiers.iter().cloned())
    }

    /// Adds a sentence to be read with the numbers, once.
    pub fn say(&mut self, sentence: impl Into<String>) {
        let sentence = sentence.into();
        if !self.caveats.contains(&sentence) {
            self.caveats.push(sentence);
        }
    }

    /// Says where the measured mean of a run is that of a few samples, and what it is without them.
    /// `latencies` are milliseconds, one per sample.
    pub fn say_slowest(&mut self, what: &str, latencies: &[f32]) {
        let Some(slowest) = Slowest::of(latencies) else {
            return;
        };
        let [least, most] = slowest.ms.map(number::ms);
        let took = match slowest.few {
            1 => format!("the slowest sample took {most} and makes"),
            few => format!("the slowest {few} samples took {least} to {most} and make"),
        };
        self.say(format!(
            "{what}: of {} samples {took} the mean {}; without, it is {}. A link that was away or a busy \
             machine does so: go by the mean without, and the median.",
            number::count(slowest.samples),
            number::ms(slowest.mean_ms),
            number::ms(slowest.without_ms)
        ));
    }

    /// States devices, link, wire and prices, and what about them is emulated or unknown.
    pub fn under(&mut self, conditions: &Conditions) {
        let [edge, .., cloud] = conditions.tiers else {
            return;
        };
        let names = self.names();
        if conditions.one_machine {
            self.say(if conditions.tiers.len() == 2 {
                "Edge and cloud are two processes on one machine."
            } else {
                "Tiers share a machine, as processes of their own."
            });
        }
        for (tier, profile) in names.tiers().zip(conditions.tiers) {
            if profile.slowdown != 1.0 {
                let (name, factor) = (names.name(tier), profile.slowdown);
                self.say(format!(
                    "Times of the {name} are stretched by {factor}: emulated."
                ));
            }
        }
        let several = conditions.links.len() > 1;
        for (before, (link, measured)) in names.tiers().zip(conditions.links) {
            let which = if several {
                format!("The link behind the {}", names.name(before))
            } else {
                "The link".to_owned()
            };
            match *link {
                Link::Emulated { mbit, rtt_ms } => self.say(format!(
                    "{which} is emulated: {mbit} Mbit/s, round trip {rtt_ms} ms."
                )),
                Link::Measured if measured.emulated => self.say(format!("{which} is emulated.")),
                Link::Measured => {}
            }
        }
        let rented = conditions.tiers.iter().skip(1);
        let memory_tier = conditions.billing.tier(0).ok();
        let scales = |profile: &&&Profile| {
            let clock = Clock {
                ghz: profile.ghz,
                threads: profile.threads,
            };
            memory_tier.is_some_and(|t| t.scale(clock).is_some())
        };
        let billing_scaled = rented.clone().filter(scales).count() == rented.count();
        if !billing_scaled {
            self.say(
                "The cloud's clock is unknown: billed times are as measured, not scaled to the tier.",
            );
        }
        self.conditions = Some(ConditionsReport {
            edge: (*edge).into(),
            cloud: (*cloud).into(),
            tiers: conditions.tiers.iter().map(|p| (*p).into()).collect(),
            one_machine: conditions.one_machine,
            link: conditions.links.first().map_or(Link::Measured, |l| l.0),
            link_emulated: conditions
                .links
                .iter()
                .any(|(link, measured)| measured.emulated || *link != Link::Measured),
            links: conditions.links.iter().map(|l| l.0).collect(),
            wire: conditions.wire,
            provider: conditions.billing.provider().to_string(),
            billing_scaled,
        });
    }

    /// Takes what was predicted on the calibration set: the plan, the sweep, the worth of the heads.
    pub fn predict(&mut self, plan: &Outcome, sweep: &[Outcome], heads: Vec<HeadPays>) {
        if plan.as_f32 {
            self.say(
                "Predicted answers of the cloud are those of F32 tensors, though another type \
                 travels (≈ F32).",
            );
        }
        self.predicted_on_calibration = Some(plan.into());
        self.sweep = sweep.iter().map(Figures::from).collect();
        let names = self.names();
        let figures = heads.iter().map(|pays| PaysFigures::new(pays, &names));
        self.head_pays = figures.collect();
        if self.measured.is_none() {
            self.predicted = Some(plan.into());
            self.exits_of(plan);
        }
    }

    /// Takes a run, the prediction on the same set, and their comparison sample by sample.
    pub fn measure(
        &mut self,
        measured: &Outcome,
        predicted: Option<&Outcome>,
        equality: Option<&Equality>,
    ) {
        if measured.degraded > 0 {
            self.say(format!(
                "The cloud didn't answer for {} samples; the last edge exit did.",
                measured.degraded
            ));
        }
        if measured.latency_ms.is_none() {
            self.say("The run measured no latency: samples ran in batches or side by side.");
        }
        self.say(
            "Memory: predicted is packed weights, arena and heads; measured is the peak resident \
             memory of the process, which is also what the bill's tier must hold.",
        );
        self.measured = Some(measured.into());
        self.exits_of(measured);
        self.equality = equality.map(EqualityReport::from);
        self.predicted = predicted.map(Figures::from);
        self.prediction_error = predicted.map(|p| PredictionError::new(p, measured));
    }

    /// Takes the parts as they were assembled and timed on their devices.
    pub fn assembled(&mut self, parts: &[(Tier, PartProfile)], predicted: &Outcome) {
        let names = self.names();
        let figures = parts.iter().map(|(tier, part)| PartFigures {
            part: names.name(*tier).to_string(),
            memory_bytes: part.weight_bytes + part.arena_bytes,
            predicted_memory_bytes: predicted.memory_bytes(*tier),
            median_ms: part
                .segments
                .iter()
                .chain(&part.heads)
                .map(|s| s.median)
                .sum(),
        });
        self.parts = figures.collect();
    }

    /// Takes what to deploy.
    pub fn answer(&mut self, verdict: &Verdict) {
        self.verdict = Some(VerdictReport::new(verdict, &self.names()));
    }

    /// Takes what leaving early is promised to cost.
    pub fn promise(&mut self, guarantee: GuaranteeReport) {
        self.guarantee = Some(guarantee);
    }

    /// Takes the classifiers of the plan, with their answers to the test images.
    pub fn judge_confidence(&mut self, plan: &Plan, heads: &[HeadKey], table: &ConfidenceTable) {
        self.calibration_errors = reliability::of_plan(plan, heads, table);
    }

    /// Takes the baselines, predicted or measured.
    pub fn compare(&mut self, baselines: BaselineFigures) {
        self.baselines = baselines;
    }

    /// Takes the accuracy of the network's own classifier over the whole test set.
    pub fn unmodified(&mut self, accuracy: f64) {
        self.unmodified_accuracy = Some(accuracy);
        let fewer = |b: &&Figures| {
            self.measured
                .as_ref()
                .is_some_and(|m| b.samples < m.samples)
        };
        if let Some(baseline) = self.baselines.original.as_ref().filter(fewer) {
            let (ran, of) = (baseline.samples, self.subject.test.used);
            self.say(format!(
                "Baselines ran over {} of the {} test images, drawn by seed, which their times are of; \
                 their accuracy is over all of them (confidence table).",
                number::count(ran),
                number::count(of),
            ));
        }
    }

    /// Takes a placement's prediction at the plan's threshold and over the sweep, as ratios to the
    /// unmodified network in the cloud, predicted on the same set.
    pub fn place(
        &mut self,
        placement: Placement,
        plan: &Plan,
        outcome: &Outcome,
        sweep: &[Outcome],
        cloud_only: &Outcome,
    ) {
        self.placements.push(PlacementReport {
            placement,
            exits: plan.exits.iter().map(|e| e.after.clone()).collect(),
            ratios: Ratios::new(outcome, cloud_only),
            figures: outcome.into(),
            sweep: sweep.iter().map(|o| Ratios::new(o, cloud_only)).collect(),
        });
    }

    /// The figures that count: measured where there is a measurement.
    pub fn chief(&self) -> Option<&Figures> {
        self.measured.as_ref().or(self.predicted.as_ref())
    }

    fn exits_of(&mut self, outcome: &Outcome) {
        let names = self.names();
        let figures = outcome.exits.iter();
        self.exits = figures.map(|exit| ExitFigures::new(exit, &names)).collect();
        self.exits_origin = Some(Origin {
            kind: outcome.kind,
            set: outcome.set,
        });
    }

    fn subsets(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        let mut part = |what: &str, set: Used, how: &str| {
            if set.used < set.of {
                let (used, of) = (number::count(set.used), number::count(set.of));
                let how = if how.is_empty() {
                    String::new()
                } else {
                    format!(", {how}")
                };
                sentences.push(format!("{what} {used} of {of} images{how}."));
            }
        };
        let subject = &self.subject;
        part("Trained on", subject.train, &subject.training);
        part("Calibrated on", subject.calibration, "");
        part("Tested on", subject.test, "");
        sentences
    }
}

#[cfg(test)]
pub(crate) mod tests;
