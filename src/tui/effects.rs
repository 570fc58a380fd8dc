/*!
Effects: what the pure update asks the world to do. Everything that may take longer than a frame runs
on a thread and comes back as a message; of questions that supersede one another only the latest waits.
*/

use super::state::Msg;
use super::state::explore::Explored;
use super::work::{Goal, HeadFacts, Job, Network, Predict, Question, Results, Work};
use crate::engine::Cancel;
use crate::evaluate::Outcome;
use crate::evaluate::explore::Limits;
use crate::exits::{self, Classifier, ExitPoint, Part};
use crate::model::{LayerTable, fuse};
use crate::partition::{Plan, Split};
use crate::run::{Event, ExitSource};
use crate::session::{ExitSettings, Session};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a job that waits looks whether it may go on.
const LOOK: Duration = Duration::from_millis(100);

/// How long the end may wait for jobs and for files.
const LAST: Duration = Duration::from_secs(2);

/// Which session is opened.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// The one that ships.
    Demo,
    /// A file.
    File(PathBuf),
}

/// What the world is asked to do.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Read a session, and then its network.
    Open(Source),
    /// Look for sessions.
    List,
    /// Write the session, and forget its journal; over a file that is there only if told so.
    Save {
        session: Box<Session>,
        file: PathBuf,
        over: bool,
        journal: PathBuf,
    },
    /// Keep unsaved edits.
    Journal {
        session: Box<Session>,
        file: PathBuf,
    },
    /// Nothing is unsaved any more.
    Forget(PathBuf),
    /// Write a file the user asked for.
    Write { file: PathBuf, text: String },
    /// To the terminal's clipboard, and to a file since tmux may drop the former.
    Copy,
    /// Make a head of the source at every point.
    Heads(HeadsRequest),
    /// Outcomes over thresholds.
    Curves(Box<CurvesRequest>),
    /// The plans that no other beats.
    Explore(Box<ExploreRequest>),
    /// Take the mouse, or leave it to the terminal.
    Mouse(bool),
    /// A message after some milliseconds; a newer one of the same timer replaces it.
    Later { timer: Timer, ms: u64 },
    /// Start a job.
    Start { id: usize, job: Box<Job> },
    /// Ask a job to stop.
    Stop(usize),
    /// Let a job wait before its next stage, or go on.
    Pause(usize, bool),
    /// Follow a run in another process.
    Join { id: usize, job: Box<Job> },
    /// Hand a job over to a process of its own.
    Detach(usize),
    /// Give the terminal to the shell.
    Suspend,
    /// End.
    Quit,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Timer {
    /// The source of the exit classifier rests.
    Source,
    /// Edits rest and are worth a journal.
    Journal,
    /// Curves are worth computing.
    Curves,
    /// A playback goes on.
    Playback,
    /// What the explore page shows is out of date.
    Explore,
}

/// A source to make heads of.
#[derive(Debug, Clone)]
pub struct HeadsRequest {
    pub generation: u64,
    pub source: String,
    /// Where what the source includes is looked for, paths resolved.
    pub settings: ExitSettings,
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

/// A session as it was opened.
#[derive(Debug, Clone)]
pub struct Opened {
    pub session: Session,
    /// `None` for the one that ships.
    pub file: Option<PathBuf>,
    /// Where its paths start.
    pub folder: PathBuf,
    /// Text of the exit classifier, where it is a file.
    pub classifier: Option<Result<String, String>>,
    /// Edits of a workbench that didn't end well.
    pub recovered: Option<Session>,
    pub journal: PathBuf,
    /// What a run left in the file; the session itself is without.
    pub results: Option<Box<crate::session::Results>>,
}

/// A thread that answers the latest of the questions put to it.
#[derive(Debug)]
struct Latest<T>(Arc<(Mutex<Option<T>>, Condvar)>);

impl<T: Send + 'static> Latest<T> {
    fn start(name: &str, answer: impl Fn(T) + Send + 'static) -> std::io::Result<Self> {
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

    fn ask(&self, question: T) {
        let mut waiting = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting = Some(question);
        self.0.1.notify_one();
    }
}

/// What the thread of files is asked for.
enum File {
    Effect(Effect),
    Detach(Box<Job>),
}

/// Carries effects out.
pub struct Runner {
    tell: Sender<Msg>,
    work: Arc<dyn Work>,
    files: Sender<File>,
    files_done: Receiver<()>,
    heads: Latest<HeadsRequest>,
    curves: Latest<Box<CurvesRequest>>,
    explore: Latest<Box<ExploreRequest>>,
    jobs: HashMap<usize, Started>,
    /// Runs of other processes that are followed.
    joined: HashMap<usize, Cancel>,
    threads: Vec<JoinHandle<()>>,
}

/// A job on its thread.
struct Started {
    job: Job,
    cancel: Cancel,
    pause: Arc<AtomicBool>,
}

impl Runner {
    /// Starts its threads.
    ///
    /// # Errors
    /// There are no more threads to be had.
    pub fn new(tell: Sender<Msg>, work: Arc<dyn Work>) -> std::io::Result<Runner> {
        let told = tell.clone();
        let heads = Latest::start("heads", move |request: HeadsRequest| {
            let made = make_heads(&request);
            let _ = told.send(Msg::Heads(request.generation, made));
        })?;
        let told = tell.clone();
        let curves = Latest::start("curves", move |request: Box<CurvesRequest>| {
            let _ = told.send(Msg::Curves(request.generation, request.answer()));
        })?;
        let told = tell.clone();
        let explore = Latest::start("explore", move |request: Box<ExploreRequest>| {
            let _ = told.send(Msg::Explored(request.generation, request.answer()));
        })?;
        let (files, queue) = channel();
        let (done, files_done) = channel();
        let (told, kept) = (tell.clone(), work.clone());
        std::thread::Builder::new()
            .name("files".into())
            .spawn(move || {
                for asked in queue {
                    match asked {
                        File::Effect(effect) => touch(effect, &*kept, &told),
                        File::Detach(job) => {
                            if let Err(problem) = kept.detach(&job) {
                                let _ = told.send(Msg::Failed(problem));
                            }
                        }
                    }
                }
                drop(done);
            })?;
        Ok(Runner {
            tell,
            work,
            files,
            files_done,
            heads,
            curves,
            explore,
            jobs: HashMap::new(),
            joined: HashMap::new(),
            threads: Vec::new(),
        })
    }

    /// Carries out one effect that needs no terminal.
    pub fn run(&mut self, effect: Effect) {
        match effect {
            Effect::Heads(request) => self.heads.ask(request),
            Effect::Curves(request) => self.curves.ask(request),
            Effect::Explore(request) => self.explore.ask(request),
            Effect::Start { id, job } => self.start(id, *job),
            Effect::Stop(id) => {
                let own = self.jobs.get(&id).map(|s| &s.cancel);
                if let Some(cancel) = own.or(self.joined.get(&id)) {
                    cancel.cancel();
                }
            }
            Effect::Pause(id, pause) => {
                if let Some(started) = self.jobs.get(&id) {
                    started.pause.store(pause, Ordering::Relaxed);
                }
            }
            Effect::Join { id, job } => self.join(id, *job),
            Effect::Detach(id) => {
                if let Some(started) = self.jobs.get(&id) {
                    started.cancel.cancel();
                    let _ = self.files.send(File::Detach(Box::new(started.job.clone())));
                }
            }
            other => {
                let _ = self.files.send(File::Effect(other));
            }
        }
    }

    fn start(&mut self, id: usize, job: Job) {
        let cancel = Cancel::new();
        let pause = Arc::new(AtomicBool::new(false));
        self.jobs.insert(
            id,
            Started {
                job: job.clone(),
                cancel: cancel.clone(),
                pause: pause.clone(),
            },
        );
        let (work, told) = (self.work.clone(), self.tell.clone());
        let thread = self.spawn(id, cancel.clone(), move |began| {
            let mut say = |event: Event| {
                let at = began.elapsed().as_millis() as u64;
                let between = matches!(event, Event::Started(_));
                let _ = told.send(Msg::Run(id, at, Box::new(event)));
                // Stages begin here, so this is where one can be held back.
                while between && pause.load(Ordering::Relaxed) && !cancel.is_cancelled() {
                    std::thread::sleep(LOOK);
                }
            };
            work.run(&job, &mut say, &cancel)
        });
        self.threads.extend(thread);
    }

    fn join(&mut self, id: usize, job: Job) {
        let cancel = Cancel::new();
        self.joined.insert(id, cancel.clone());
        let (work, told) = (self.work.clone(), self.tell.clone());
        // Nobody waits for its end: the run is another process's.
        let _ = self.spawn(id, cancel.clone(), move |_| {
            let mut say = |at, event| {
                let _ = told.send(Msg::Run(id, at, Box::new(event)));
            };
            work.join(&job, &mut say, &cancel)
        });
    }

    fn spawn(
        &self,
        id: usize,
        cancel: Cancel,
        job: impl FnOnce(Instant) -> Result<Results, String> + Send + 'static,
    ) -> Option<JoinHandle<()>> {
        let tell = self.tell.clone();
        let body = move || {
            let began = Instant::now();
            let run = std::panic::AssertUnwindSafe(|| job(began));
            let ended = std::panic::catch_unwind(run).unwrap_or_else(|_| {
                Err("the job broke; its report is in the temporary folder".to_string())
            });
            let at = began.elapsed().as_millis() as u64;
            let stopped = cancel.is_cancelled();
            let _ = tell.send(Msg::RunEnded(id, at, stopped, ended.map(Box::new)));
        };
        let name = format!("job {id}");
        match std::thread::Builder::new().name(name).spawn(body) {
            Ok(thread) => Some(thread),
            Err(error) => {
                let ended = Err(format!("no thread for the job: {error}"));
                let _ = self.tell.send(Msg::RunEnded(id, 0, false, ended));
                None
            }
        }
    }

    /// Asks all jobs of this process to stop, and waits a moment for them, since they let go of
    /// their agents, and for what was asked of files.
    pub fn finish(self) {
        for started in self.jobs.values() {
            started.cancel.cancel();
        }
        drop(self.files);
        // The other end is dropped when the queue is empty.
        let _ = self.files_done.recv_timeout(LAST);
        let began = Instant::now();
        while self.threads.iter().any(|t| !t.is_finished()) && began.elapsed() < LAST {
            std::thread::sleep(Duration::from_millis(10));
        }
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
    })
}

/// Everything that reads or writes files.
fn touch(effect: Effect, work: &dyn Work, tell: &Sender<Msg>) {
    let say = |message| {
        let _ = tell.send(message);
    };
    match effect {
        Effect::Open(source) => match open(&source) {
            Ok(opened) => {
                say(Msg::Opened(Box::new(opened.clone())));
                say(Msg::Network(network(&opened).map(Box::new)));
                if let Some(going) = work.going(&named(&opened), &opened.folder) {
                    say(Msg::Going(going));
                }
                say(kept(&opened, work));
            }
            Err(problem) => say(Msg::Failed(problem)),
        },
        Effect::List => say(Msg::Sessions(sessions())),
        Effect::Save {
            file, over: false, ..
        } if file.exists() => say(Msg::Exists(file)),
        Effect::Save {
            session,
            file,
            journal,
            ..
        } => match session.save(&file) {
            Ok(()) => {
                let _ = std::fs::remove_file(journal);
                say(Msg::Saved(file, session));
            }
            Err(error) => say(Msg::Failed(error.to_string())),
        },
        Effect::Journal { session, file } => {
            let kept = session.to_text().map_err(|e| e.to_string());
            let folder = file.parent().map_or(Ok(()), std::fs::create_dir_all);
            let kept = folder.map_err(|e| e.to_string()).and(kept);
            let kept = kept.and_then(|t| std::fs::write(&file, t).map_err(|e| e.to_string()));
            if let Err(error) = kept {
                say(Msg::Failed(format!(
                    "no autosave in {}: {error}",
                    file.display()
                )));
            }
        }
        Effect::Forget(file) => {
            let _ = std::fs::remove_file(file);
        }
        Effect::Write { file, text } => match std::fs::write(&file, text) {
            Ok(()) => say(Msg::Said(format!("written to {}", file.display()))),
            Err(error) => say(Msg::Failed(format!("{}: {error}", file.display()))),
        },
        _ => {}
    }
}

/// The session by the name its results go under: its own, or its file's.
fn named(opened: &Opened) -> Session {
    let mut session = opened.session.clone();
    if session.name.is_none() {
        let stem = opened.file.as_ref().and_then(|f| f.file_stem());
        session.name = stem.map(|s| s.to_string_lossy().into_owned());
    }
    session
}

/// What earlier runs left: in the session's file, or, for the one that ships, first of all here.
fn kept(opened: &Opened, work: &dyn Work) -> Msg {
    let here = || work.kept(&named(opened), &opened.folder);
    let Some(results) = &opened.results else {
        return Msg::Kept(Box::new(here()));
    };
    let ships = opened.file.is_none();
    let ran = |r: &crate::session::Results| r.last("plan").map_or(0, |m| m.at);
    let here = here();
    let newer = here.kept.as_ref().is_some_and(|kept| {
        // What ships was measured on another machine, whenever that was.
        ran(kept) > if ships { 0 } else { ran(results) }
    });
    if newer {
        return Msg::Kept(Box::new(here));
    }
    match (Results::of(results).map(Box::new), ships) {
        (Ok(results), true) => Msg::Shipped(results),
        (Ok(results), false) => Msg::Kept(results),
        (Err(problem), _) => Msg::Failed(problem),
    }
}

fn open(source: &Source) -> Result<Opened, String> {
    let (mut session, file, folder) = match source {
        Source::Demo => {
            let text = include_str!("../../sessions/demo.ron");
            let session = Session::parse(text, Path::new("demo.ron")).map_err(|e| e.to_string())?;
            (session, None, PathBuf::from("sessions"))
        }
        Source::File(file) => {
            let session = Session::read(file).map_err(|e| e.to_string())?;
            let folder = file.parent().unwrap_or(Path::new("")).to_owned();
            (session, Some(file.clone()), folder)
        }
    };
    let classifier = match &session.exits.classifier {
        Classifier::File(path) => {
            let path = folder.join(path);
            let text = std::fs::read_to_string(&path);
            Some(text.map_err(|e| format!("{}: {e}", path.display())))
        }
        _ => None,
    };
    let journal = journal(file.as_deref());
    let text = std::fs::read_to_string(&journal).ok();
    let recovered = text.and_then(|t| Session::parse(&t, &journal).ok());
    let results = session.results.take();
    Ok(Opened {
        recovered: recovered.filter(|r| *r != session),
        session,
        file,
        folder,
        classifier,
        journal,
        results,
    })
}

/// Where unsaved edits are kept: beside the session's file, or, for the one that ships, in the
/// user's state folder.
fn journal(file: Option<&Path>) -> PathBuf {
    if let Some(file) = file {
        let mut name = file.as_os_str().to_owned();
        name.push(".autosave");
        return name.into();
    }
    let home = || std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".local/state"));
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let state = state.filter(|p| p.is_absolute()).or_else(home);
    let state = state.unwrap_or_else(std::env::temp_dir);
    state.join("edgelesspart/demo.autosave")
}

/// The network of a session; where its file isn't here, what a run left of it in the session.
fn network(opened: &Opened) -> Result<Network, String> {
    let session = opened.session.resolved(&opened.folder);
    let loaded = session.model.load(session.seed).map_err(|e| e.to_string());
    let graph = match (loaded, &opened.results) {
        (Ok(graph), _) => graph,
        (Err(problem), Some(kept)) => {
            return Ok(Network {
                table: kept.layers.clone(),
                points: kept.points.clone(),
                replica: Err(format!("without the network's file: {problem}")),
            });
        }
        (Err(problem), None) => return Err(problem),
    };
    let fused = fuse(&graph);
    let table = LayerTable::new(&fused).map_err(|e| e.to_string())?;
    Ok(Network {
        points: exits::points(&table, &fused),
        replica: exits::replica(&fused).map_err(|e| e.to_string()),
        table,
    })
}

/// Session files in this folder, in `sessions/` and in the folders of runs.
fn sessions() -> Vec<PathBuf> {
    let runs = std::fs::read_dir("runs").into_iter().flatten().flatten();
    let folders = [PathBuf::from("sessions"), PathBuf::from(".")].into_iter();
    let mut found: Vec<PathBuf> = folders
        .chain(runs.map(|entry| entry.path()))
        .flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "ron"))
        .collect();
    found.sort();
    found
}

impl Goal {
    /// For the log.
    pub fn sentence(self) -> &'static str {
        match self {
            Goal::Profile => "profiling both sides and the link",
            Goal::Train => "training a head at every exit point",
            Goal::Run => "running the parts on their targets",
        }
    }
}
