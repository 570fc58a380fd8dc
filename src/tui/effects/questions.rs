/*! Questions that take longer than a frame, and the threads that answer the latest of each. */

use crate::data::Set;
use crate::exits;
use crate::exits::ExitPoint;
use crate::explore::{Choice, Limits, front, guarantee, search, tune, verdict};
use crate::model::{LayerTable, fuse};
use crate::plan::{Plan, Tier, TierHead, TierNames};
use crate::predict::head_cost::HeadWork;
use crate::predict::{PreparedPlan, ReplayError, replay};
use crate::run::ExitSource;
use crate::tui::message::{
    BestThresholds, CurvesAnswer, CurvesRequest, ExploreRequest, HeadsRequest,
};
use crate::tui::work::{Explored, HeadFacts};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the best thresholds are searched for, before a heuristic's must do.
const SEARCH: Duration = Duration::from_secs(2);

impl CurvesRequest {
    /// The outcomes over the thresholds, what each exit is worth at the plan's own, and what to
    /// deploy.
    ///
    /// # Errors
    /// Where the plan can't be predicted.
    pub fn answer(&self) -> Result<CurvesAnswer, ReplayError> {
        let set = Set::Calibration;
        let prepared = PreparedPlan::new(&self.evidence, &self.terms, set, &self.plan)?;
        let mut own: Vec<f64> = self.plan.exits.iter().map(|e| e.threshold).collect();
        let at = |&threshold: &f64| match self.exit {
            None => prepared.at(threshold),
            Some(exit) => {
                if let Some(one) = own.get_mut(exit) {
                    *one = threshold;
                }
                prepared.with_thresholds(&own)
            }
        };
        let best = if self.tune {
            let until = Instant::now() + SEARCH;
            let go_on = || Instant::now() < until;
            let found = tune(&self.evidence, &self.terms, &self.goal, &self.plan, &go_on)?;
            let mut plan = self.plan.clone();
            let thresholds = &found.per_exit.thresholds;
            for (exit, threshold) in plan.exits.iter_mut().zip(thresholds) {
                exit.threshold = *threshold;
            }
            Some(BestThresholds {
                // Of what was searched for only, and not of each place of the slider: who moves it until
                // the images held back agree has chosen by them.
                guarantee: self
                    .promise
                    .map(|promise| guarantee(&self.evidence, &self.terms, promise, &plan))
                    .transpose()?,
                tuned: found.per_exit,
            })
        } else {
            None
        };
        Ok(CurvesAnswer {
            best,
            outcomes: self.thresholds.iter().map(at).collect(),
            pays: prepared.head_pays(),
            verdict: verdict::predicted(
                &self.evidence,
                &self.terms,
                &self.goal,
                &self.plan,
                &self.explored,
            )?,
        })
    }
}

impl ExploreRequest {
    /// The Pareto-optimal plans.
    ///
    /// # Errors
    /// Where nothing can be predicted.
    pub fn answer(&self) -> Result<Explored, ReplayError> {
        let (evidence, terms) = (&self.evidence, &self.terms);
        let mut found = search(evidence, terms, &self.thresholds, &Limits::default())?;
        let tiers = evidence.tiers.count();
        let last = evidence.tiers.tiers().next_back().unwrap_or(Tier::First);
        let whole = |tier| {
            replay(
                evidence,
                terms,
                Set::Calibration,
                &Plan::unmodified(tier, tiers),
            )
        };
        let (original, cloud_only) = (whole(Tier::First)?, whole(last)?);
        let within = self.goal.limits(original.accuracy);
        let best = verdict::best(&self.goal, &within, &found).cloned();
        found.retain(|candidate| self.limits.hold(&candidate.outcome));
        let energy = self.goal.asks_energy(&terms.energy) || self.limits.energy_mj.is_some();
        Ok(Explored {
            goal: self.goal,
            within,
            tried: found.len(),
            front: front(&found, energy).into_iter().cloned().collect(),
            best,
            whole: vec![
                (Choice::Original, original),
                (Choice::CloudOnly, cloud_only),
            ],
        })
    }
}

/// A thread that answers the latest of the questions put to it.
#[derive(Debug)]
pub(super) struct Latest<T>(Arc<(Mutex<Option<T>>, Condvar)>);

impl<T: Send + 'static> Latest<T> {
    pub(super) fn start(name: &str, answer: impl Fn(T) + Send + 'static) -> std::io::Result<Self> {
        let slot = Arc::new((Mutex::new(None::<T>), Condvar::new()));
        let mine = slot.clone();
        std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                loop {
                    let (lock, signal) = &*mine;
                    let guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
                    let taken = signal.wait_while(guard, |waiting| waiting.is_none());
                    let question = taken.unwrap_or_else(PoisonError::into_inner).take();
                    if let Some(question) = question {
                        answer(question);
                    }
                }
            })?;
        Ok(Latest(slot))
    }

    pub(super) fn ask(&self, question: T) {
        let mut waiting = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting = Some(question);
        self.0.1.notify_one();
    }
}

/// The heads of a source at every point, or the findings at the first that fails, `first` first.
pub fn make_heads(request: &HeadsRequest) -> Result<Vec<HeadFacts>, Box<exits::ExitError>> {
    let points = &request.network.points;
    let own = request.network.own.as_ref();
    let made = match own.filter(|own| own.text.trim() == request.source.trim()) {
        Some(own) => Ok(ExitSource::clone(own)),
        None => ExitSource::with_text(&request.settings, request.source.clone()),
    };
    let source = made.map_err(|e| {
        Box::new(exits::ExitError {
            after: None,
            source_text: request.source.clone(),
            diagnostics: vec![exits::Diagnostic::at_start(e.to_string())],
        })
    })?;
    let rest = (0..points.len()).filter(|&i| i != request.first);
    let order = points.get(request.first).map(|_| request.first);
    let mut made: Vec<HeadFacts> = Vec::with_capacity(points.len());
    for i in order.into_iter().chain(rest) {
        made.extend(facts(&source, &points[i], &request.tiers, request.seed)?);
    }
    made.sort_by_key(|h| h.layer);
    Ok(made)
}

fn facts(
    source: &ExitSource,
    point: &ExitPoint,
    tiers: &TierNames,
    seed: u64,
) -> Result<Option<HeadFacts>, Box<exits::ExitError>> {
    let heads = source.heads(point, tiers, seed)?;
    let others = heads.iter().skip(1);
    let others = others.map(|of| (of.tier, of.head.hash.clone()));
    let others = others.collect();
    // There is one of the first tier, but where a network's own exits stand elsewhere.
    let Some(TierHead { head, .. }) = heads.into_iter().next() else {
        return Ok(None);
    };
    let fused = fuse(&head.graph);
    let rows = LayerTable::new(&fused).map(|t| t.layers);
    let line = |l: &crate::model::Layer| format!("{} → {}", l.op, l.shape);
    Ok(Some(HeadFacts {
        layer: point.layer,
        hash: head.hash,
        others,
        rendered: head.rendered,
        shapes: rows.unwrap_or_default().iter().map(line).collect(),
        params: head.params,
        macs: head.macs,
        work: HeadWork::of(&fused),
        warnings: head.warnings,
    }))
}
