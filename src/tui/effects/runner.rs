/*! Who carries effects out: threads for questions, for files and for each job. */

use super::files::Files;
use super::questions::{Latest, make_heads};
use crate::engine::Cancel;
use crate::event::{Event, TargetId};
use crate::run::probe;
use crate::session::Target;
use crate::tui::message::{
    CurvesRequest, Effect, EvidenceRequest, ExploreRequest, HeadsRequest, Msg, Tested,
    WhatIfRequest,
};
use crate::tui::ports::{Job, JobControl, JobError, JobRunner};
use crate::tui::work::Results;
use std::collections::HashMap;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the end may wait for files.
const LAST_FILES: Duration = Duration::from_secs(2);
/// How long the end may wait for jobs, which are told to stop all the same.
const LAST_JOBS: Duration = Duration::from_millis(700);

/// How long an agent may take to accept a connection.
const ANSWER: Duration = Duration::from_secs(2);

/// Carries out effects, each that may take longer than a frame on a thread.
pub struct Runner {
    tell: Sender<Msg>,
    work: Arc<dyn JobRunner>,
    files: Sender<Effect>,
    files_done: Receiver<()>,
    heads: Latest<HeadsRequest>,
    curves: Latest<Box<CurvesRequest>>,
    explore: Latest<Box<ExploreRequest>>,
    jobs: HashMap<usize, JobControl>,
    evidence: Latest<EvidenceRequest>,
    /// Stops the search for other conditions that goes on.
    searching: Cancel,
    /// Stops the tests of targets that go on.
    testing: Cancel,
    /// Each with the number of its job, and whether that ends with the workbench.
    threads: Vec<(usize, bool, JoinHandle<()>)>,
}

/// Whether somebody takes connections at an address. Nothing is sent, and no token needed.
fn takes_connections(url: &str) -> bool {
    let parsed = reqwest::Url::parse(url).ok();
    let places = parsed.and_then(|url| url.socket_addrs(|| None).ok());
    let mut places = places.into_iter().flatten();
    places.any(|place| TcpStream::connect_timeout(&place, ANSWER).is_ok())
}

/// Sees whether a target is reached, takes the token and of which release it is, and says each as soon
/// as it is known.
fn test(target: &Target, stopped: &Cancel, say: &dyn Fn(Tested)) {
    let url = match target {
        Target::Local { .. } => return say(Tested::Local),
        Target::Agent { url, .. } | Target::V2 { url, .. } => url,
    };
    if !takes_connections(url) {
        return say(Tested::Failed(format!("nobody takes connections at {url}")));
    }
    say(Tested::Reached);
    say(match probe(target, stopped) {
        Ok(Some(info)) => Tested::Answers {
            device: info.device,
            threads: info.threads,
            version: info.version,
        },
        Ok(None) => Tested::Open,
        Err(_) if stopped.is_cancelled() => Tested::Stopped,
        Err(error) => Tested::Failed(error.to_string()),
    });
}

impl Runner {
    /// Starts its threads.
    ///
    /// # Errors
    /// There are no more threads to be had.
    pub fn new(tell: Sender<Msg>, work: Arc<dyn JobRunner>) -> std::io::Result<Runner> {
        let told = tell.clone();
        let heads = Latest::start("heads", move |request: HeadsRequest| {
            let made = make_heads(&request);
            let _ = told.send(Msg::Heads(request.generation, made));
        })?;
        let told = tell.clone();
        let curves = Latest::start("curves", move |request: Box<CurvesRequest>| {
            let _ = told.send(Msg::Curves(request.generation, Box::new(request.answer())));
        })?;
        let told = tell.clone();
        let explore = Latest::start("explore", move |request: Box<ExploreRequest>| {
            let _ = told.send(Msg::Explored(
                request.generation,
                Box::new(request.answer()),
            ));
        })?;
        let told = tell.clone();
        let evidence = Latest::start("evidence", move |request: EvidenceRequest| {
            request.answer(&|message| {
                let _ = told.send(message);
            });
        })?;
        let (files, queue) = channel();
        let (done, files_done) = channel();
        let mut carrier = Files::new(work.clone(), tell.clone());
        std::thread::Builder::new()
            .name("files".into())
            .spawn(move || {
                for effect in queue {
                    carrier.carry_out(effect);
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
            evidence,
            searching: Cancel::default(),
            jobs: HashMap::new(),
            testing: Cancel::default(),
            threads: Vec::new(),
        })
    }

    /// Carries out one effect that needs no terminal.
    pub fn run(&mut self, effect: Effect) {
        match effect {
            Effect::Heads(request) => self.heads.ask(request),
            Effect::Curves(request) => self.curves.ask(request),
            Effect::Explore(request) => self.explore.ask(request),
            Effect::Evidence(request) => self.evidence.ask(request),
            Effect::WhatIf(request) => self.search_elsewhere(request),
            Effect::StopWhatIf => std::mem::take(&mut self.searching).cancel(),
            Effect::Start { id, job } => self.start(id, *job),
            Effect::Reach(agents) => {
                let tell = self.tell.clone();
                // Not had, it is seen at the next look.
                let _ = std::thread::Builder::new()
                    .name("reach".into())
                    .spawn(move || {
                        let seen = |(id, url): (TargetId, String)| (id, takes_connections(&url));
                        let _ = tell.send(Msg::Reached(agents.into_iter().map(seen).collect()));
                    });
            }
            Effect::Test { number, targets } => self.test(number, targets),
            Effect::StopTest => self.stop_test(),
            Effect::Stop(id) => {
                if let Some(control) = self.jobs.get(&id) {
                    control.cancel.cancel();
                }
            }
            Effect::Pause(id, waits) => {
                if let Some(control) = self.jobs.get(&id) {
                    control.pause(waits);
                }
            }
            Effect::Leave(id) => {
                for (_, ends, _) in self.threads.iter_mut().filter(|(of, ..)| *of == id) {
                    *ends = false;
                }
            }
            Effect::Join { id, job, running } => {
                let control = JobControl::default();
                self.jobs.insert(id, control.clone());
                let work = self.work.clone();
                let thread = self.spawn(id, control, move |tell, control| {
                    work.join(&job, running, tell, control)
                });
                self.threads
                    .extend(thread.map(|thread| (id, false, thread)));
            }
            other => {
                let _ = self.files.send(other);
            }
        }
    }

    /// Searches under other conditions on a thread of its own; a search that goes on is stopped.
    fn search_elsewhere(&mut self, request: Box<WhatIfRequest>) {
        std::mem::take(&mut self.searching).cancel();
        let (tell, stop) = (self.tell.clone(), self.searching.clone());
        let generation = request.generation;
        let body = move || {
            let say = |message| {
                let _ = tell.send(message);
            };
            let found = request.answer(&stop, &say);
            say(Msg::WhatIf(generation, Box::new(found)));
        };
        if std::thread::Builder::new()
            .name("what if".into())
            .spawn(body)
            .is_err()
        {
            let stopped = Box::new(Err(crate::predict::ReplayError::Stopped));
            let _ = self.tell.send(Msg::WhatIf(generation, stopped));
        }
    }

    /// Tests each target on a thread of its own; a test that goes on is stopped.
    fn test(&mut self, number: u64, targets: Vec<(TargetId, Target)>) {
        self.stop_test();
        for (id, target) in targets {
            let (tell, stopped) = (self.tell.clone(), self.testing.clone());
            let body = move || {
                let say = |tested| {
                    let _ = tell.send(Msg::Tested(number, id, tested));
                };
                test(&target, &stopped, &say);
            };
            let name = "test".to_owned();
            if let Err(error) = std::thread::Builder::new().name(name).spawn(body) {
                let failed = Tested::Failed(error.to_string());
                let _ = self.tell.send(Msg::Tested(number, id, failed));
            }
        }
    }

    fn stop_test(&mut self) {
        std::mem::take(&mut self.testing).cancel();
    }

    fn start(&mut self, id: usize, job: Job) {
        let control = JobControl::default();
        self.jobs.insert(id, control.clone());
        let work = self.work.clone();
        let thread = self.spawn(id, control, move |tell, control| {
            work.run(&job, tell, control)
        });
        self.threads.extend(thread.map(|thread| (id, true, thread)));
    }

    fn spawn(
        &self,
        id: usize,
        control: JobControl,
        job: impl FnOnce(&mut dyn FnMut(u64, Event), &JobControl) -> Result<Results, JobError>
        + Send
        + 'static,
    ) -> Option<JoinHandle<()>> {
        let tell = self.tell.clone();
        let body = move || {
            let mut last = 0;
            let mut say = |at: u64, event: Event| {
                last = at;
                let _ = tell.send(Msg::Run(id, at, Box::new(event)));
            };
            let run = std::panic::AssertUnwindSafe(|| job(&mut say, &control));
            let ended = std::panic::catch_unwind(run).unwrap_or(Err(JobError::Broke));
            let stopped = control.cancel.is_cancelled();
            let _ = tell.send(Msg::RunEnded(id, last, stopped, ended.map(Box::new)));
        };
        let name = format!("job {id}");
        match std::thread::Builder::new().name(name).spawn(body) {
            Ok(thread) => Some(thread),
            Err(error) => {
                let ended = Err(JobError::Thread(error));
                let _ = self.tell.send(Msg::RunEnded(id, 0, false, ended));
                None
            }
        }
    }

    /// Asks the jobs that end with the workbench to stop, leaves the others to themselves, and waits a
    /// moment for both, since the former let go of their agents, and for what was asked of files.
    pub fn finish(self) {
        for (id, ends, _) in &self.threads {
            match (self.jobs.get(id), ends) {
                (Some(control), true) => control.cancel.cancel(),
                (Some(control), false) => control.leave(),
                (None, _) => {}
            }
        }
        drop(self.files);
        // The other end is dropped when the queue is empty.
        let _ = self.files_done.recv_timeout(LAST_FILES);
        let began = Instant::now();
        while self.threads.iter().any(|(.., t)| !t.is_finished()) && began.elapsed() < LAST_JOBS {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
