/*! Who carries effects out: threads for questions, for files and for each job. */

use super::files::touch;
use super::questions::Latest;
use super::{CurvesRequest, Effect, ExploreRequest, HeadsRequest, make_heads};
use crate::engine::Cancel;
use crate::run::Event;
use crate::tui::state::Msg;
use crate::tui::work::{Job, Results, Work};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a job that waits looks whether it may go on.
const LOOK: Duration = Duration::from_millis(100);

/// How long the end may wait for jobs and for files.
const LAST: Duration = Duration::from_secs(2);

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
