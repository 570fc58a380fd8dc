/*! Questions that take longer than a frame, and the threads that answer the latest of each. */

use crate::exits;
use crate::exits::ExitPoint;
use crate::explore::Limits;
use crate::model::{LayerTable, fuse};
use crate::plan::Part;
use crate::plan::{Plan, Split};
use crate::predict::Outcome;
use crate::run::ExitSource;
use crate::session::{ExitSettings, Session};
use crate::tui::state::explore::Explored;
use crate::tui::work::{HeadFacts, Network, Predict, Question, Results};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// A source to make heads of.
#[derive(Debug, Clone)]
pub struct HeadsRequest {
    pub generation: u64,
    pub source: String,
    /// Where what the source includes is looked for, paths resolved.
    pub settings: Box<ExitSettings>,
    pub network: Arc<Network>,
    pub seed: u64,
    /// The point whose findings are told first.
    pub first: usize,
}

/// Thresholds to predict.
#[derive(Clone)]
pub struct CurvesRequest {
    pub generation: u64,
    pub network: Arc<Network>,
    pub results: Arc<Results>,
    pub session: Session,
    pub heads: Arc<Vec<HeadFacts>>,
    pub plan: Plan,
    pub exit: Option<usize>,
    pub thresholds: Vec<f64>,
    pub predict: Arc<dyn Predict>,
}

impl std::fmt::Debug for CurvesRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CurvesRequest({})", self.generation)
    }
}

impl CurvesRequest {
    /// The outcomes.
    pub fn answer(&self) -> Result<Vec<Outcome>, String> {
        let question = Question {
            network: &self.network,
            results: &self.results,
            session: &self.session,
            heads: &self.heads,
            plan: &self.plan,
        };
        self.predict.sweep(question, self.exit, &self.thresholds)
    }
}

/// Limits to search within.
#[derive(Clone)]
pub struct ExploreRequest {
    pub generation: u64,
    pub network: Arc<Network>,
    pub results: Arc<Results>,
    pub session: Session,
    pub heads: Arc<Vec<HeadFacts>>,
    pub thresholds: Vec<f64>,
    pub limits: Limits,
    pub predict: Arc<dyn Predict>,
}

impl std::fmt::Debug for ExploreRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ExploreRequest({})", self.generation)
    }
}

impl ExploreRequest {
    /// The plans.
    pub fn answer(&self) -> Result<Explored, String> {
        let question = Question {
            network: &self.network,
            results: &self.results,
            session: &self.session,
            heads: &self.heads,
            plan: &Plan {
                split: Split::CloudOnly,
                split_after: None,
                exits: Vec::new(),
                notes: Vec::new(),
            },
        };
        self.predict
            .explore(question, &self.thresholds, &self.limits)
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
    let made = ExitSource::with_text(&request.settings, request.source.clone());
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
        made.push(facts(&source, &points[i], request.seed)?);
    }
    made.sort_by_key(|h| h.layer);
    Ok(made)
}

fn facts(
    source: &ExitSource,
    point: &ExitPoint,
    seed: u64,
) -> Result<HeadFacts, Box<exits::ExitError>> {
    let heads = source.with_library(|l| exits::heads_with(&source.text, point, seed, l))?;
    let cloud_hash = heads.last().map_or(String::new(), |(_, h)| h.hash.clone());
    // There always is one of the edge.
    let Some((_, head)) = heads.into_iter().find(|(part, _)| *part == Part::Edge) else {
        return Err(Box::new(exits::ExitError {
            after: Some(point.after.clone()),
            source_text: source.text.clone(),
            diagnostics: Vec::new(),
        }));
    };
    let rows = LayerTable::new(&fuse(&head.graph)).map(|t| t.layers);
    let line = |l: &crate::model::Layer| format!("{} → {}", l.op, l.shape);
    Ok(HeadFacts {
        layer: point.layer,
        hash: head.hash,
        cloud_hash,
        rendered: head.rendered,
        shapes: rows.unwrap_or_default().iter().map(line).collect(),
        params: head.params,
        macs: head.macs,
        warnings: head.warnings,
    })
}
