/*! The stages of a run, one after the other. */

use super::distribute::{Ground, Parts, RUNS, Ran, What, test_set, unmodified};
use super::due::Due;
use super::keep::{Keep, Listener, Teller, told};
use super::learn::{self, Lesson};
use super::lock::{Diary, Lock};
use super::pause::Pause;
use super::targets::Fleet;
use super::{Done, Event, Network, Options, RunError, Stage, report, summary, tables};
use crate::data::{LoadOptions, LoadedData, Set};
use crate::device::{LinkProfile, PartProfile, Profile};
use crate::engine::Cancel;
use crate::evaluate::ConfidenceTable;
use crate::evaluate::explore::{self, Goal, Limits};
use crate::evaluate::report::Report;
use crate::exits::{ExitPoint, Head, Part};
use crate::model::export::to_onnx;
use crate::model::fuse::fuse;
use crate::partition::manual::with_exits_at;
use crate::partition::{ExitRule, Plan, Split, SplitRule, plan};
use crate::remote::Element;
use crate::remote::message::{HeadToProfile, JobRequest, JobResult};
use crate::session::results::{TrainedHead, WireTables};
use crate::session::stages::{Inputs, Stages};
use crate::session::{Results, Session, Target};
use crate::train::Training;
use std::time::Instant;

/// All that a run knows so far.
struct Course<'a> {
    session: &'a Session,
    options: &'a Options,
    keep: Keep,
    fleet: Fleet<'a>,
    cancel: &'a Cancel,
    network: Network,
    data: Option<LoadedData>,
    heads: Vec<(Part, Head, f32)>,
    tables: Option<(ConfidenceTable, ConfidenceTable)>,
    results: Results,
}

pub(super) fn go(
    session: &Session,
    options: &Options,
    on: Listener,
    cancel: &Cancel,
) -> Result<Done, RunError> {
    // Where nothing is kept, nobody is in the way.
    let looks = options.until == Stage::Plan && looks_only(&session.split);
    let held = (!looks)
        .then(|| Lock::take(&options.out, options.until))
        .transpose()?;
    let mut diary = (!looks).then(|| Diary::new(&options.out)).transpose()?;
    let mut unwritten = None;
    let start = Instant::now();
    let mut journal: Vec<(f64, Event)> = Vec::new();
    let mut due = Due::default();
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
            tell(Event::Held(true));
            pause.wait(cancel);
            tell(Event::Held(false));
        }
    };
    let network = Network::load(session)?;
    let mut course = Course {
        session,
        options,
        keep: Keep {
            stages: Stages::open(&options.out)?,
            fresh: options.fresh,
        },
        fleet: Fleet::new(session, options.program.clone(), cancel, pause.clone())?,
        cancel,
        results: Results::new(network.table.clone(), network.points.clone()),
        network,
        data: None,
        heads: Vec::new(),
        tables: None,
    };
    let report = course.run(&mut on)?;
    if let Some(error) = unwritten {
        return Err(error);
    }
    let mut results = course.results;
    results.keep_journal(&journal)?;
    let mut session = session.clone();
    session.name = Some(options.name.clone());
    session.results = Some(Box::new(results));
    Ok(Done {
        session,
        report,
        _held: held,
    })
}

/// Whether a rule looks at the network alone.
fn looks_only(rule: &SplitRule) -> bool {
    !matches!(
        rule,
        SplitRule::Latency | SplitRule::Fastest | SplitRule::Cheapest
    )
}

fn brought(stage: Stage, what: &str) -> Event {
    Event::Say {
        stage,
        text: format!("{what}; --fresh makes them again"),
    }
}

impl Course<'_> {
    fn run(&mut self, on: Listener) -> Result<Option<Report>, RunError> {
        let session = self.session;
        let until = self.options.until;
        let untrained = self.untrained_heads(on)?;
        let with_heads = |point: &&ExitPoint| {
            let here = |(_, h): &(Part, Head)| h.point.layer == point.layer;
            untrained.iter().any(here)
        };
        let points: Vec<ExitPoint> = self
            .network
            .points
            .iter()
            .filter(with_heads)
            .cloned()
            .collect();
        // Rules that look at the network alone need nothing else to plan.
        if until == Stage::Plan && looks_only(&session.split) {
            self.plan(on, &points)?;
            return Ok(None);
        }
        self.load_data(on)?;
        if until <= Stage::Data {
            return Ok(None);
        }
        self.profile(on, &untrained)?;
        if until <= Stage::Link || (until == Stage::Plan && session.split == SplitRule::Latency) {
            if until == Stage::Plan {
                self.plan(on, &points)?;
            }
            return Ok(None);
        }
        let plan = match session.exits.training {
            Training::Frozen { epochs } => {
                if self.network.untrained {
                    return Err(RunError::Untrained(self.network.table.network.clone()));
                }
                self.learn(on, &untrained, Some(epochs))?;
                self.make_tables(on)?;
                if until < Stage::Plan {
                    return Ok(None);
                }
                self.plan(on, &points)?
            }
            // The network changes with its exits, so only those of one plan can be trained.
            Training::Joint { .. } | Training::Mixed { .. } => {
                match session.split {
                    SplitRule::Fastest => return Err(RunError::NeedsFrozen("Fastest")),
                    SplitRule::Cheapest => return Err(RunError::NeedsFrozen("Cheapest")),
                    _ => {}
                }
                let plan = self.plan(on, &points)?;
                let chosen: Vec<(Part, Head)> = plan
                    .exits
                    .iter()
                    .filter_map(|e| {
                        let here = untrained.iter().filter(|(_, h)| h.point.layer == e.layer);
                        here.clone()
                            .find(|(p, _)| *p == e.part)
                            .or(here.clone().next())
                    })
                    .cloned()
                    .collect();
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

    fn untrained_heads(&mut self, on: Listener) -> Result<Vec<(Part, Head)>, RunError> {
        let mut teller = Teller {
            stage: Stage::Data,
            on,
        };
        self.network.heads(self.session, &mut teller)
    }

    fn load_data(&mut self, on: Listener) -> Result<(), RunError> {
        let session = self.session;
        let load = LoadOptions {
            input: self.network.image(session)?,
            classes: Some(self.network.table.classes),
            calibration: session.calibration,
            train: session.train_samples,
            test: session.test_samples,
            seed: session.seed,
        };
        let cancel = self.cancel;
        let data = told(
            on,
            Stage::Data,
            |data: &LoadedData| {
                let [train, calibration, test] =
                    [Set::Train, Set::Calibration, Set::Test].map(|set| data.len(set));
                format!("{train} images to train, {calibration} to calibrate, {test} to test")
            },
            |teller| {
                let mut progress = |p: crate::data::Progress| {
                    teller.progress(p.done as usize, p.total as usize, "images");
                };
                Ok(LoadedData::load(
                    &session.data,
                    &load,
                    &mut progress,
                    cancel,
                )?)
            },
        )?;
        self.data = Some(data);
        Ok(())
    }

    /// The layers of both sides, and the link between them.
    fn profile(&mut self, on: Listener, heads: &[(Part, Head)]) -> Result<(), RunError> {
        let session = self.session;
        let target = |t: &Target| format!("{t:?} {}", summary::machine());
        let targets = [target(&session.edge[0]), target(&session.cloud[0])];
        for (part, target) in [Part::Edge, Part::Cloud].into_iter().zip(&targets) {
            let mut inputs = Inputs::new()
                .with("network", &self.network.hash)
                .with("target", target)
                .with("runs", RUNS.to_string());
            for (_, head) in heads {
                inputs = inputs.with(&head.point.after, &head.hash);
            }
            let (file, side) = match part {
                Part::Edge => ("profile-edge", "edge"),
                Part::Cloud => ("profile-cloud", "cloud"),
            };
            let (fleet, network) = (&mut self.fleet, &self.network);
            let profile = self.keep.stage(
                on,
                (Stage::Profile, file, &inputs.key()),
                |p: &Profile| summary::profile(side, p),
                |teller| {
                    let model = fleet.put(teller, part, 0, &network.onnx)?;
                    let mut to_profile = Vec::new();
                    for (_, head) in heads {
                        let onnx = to_onnx(&fuse(&head.graph))?;
                        to_profile.push(HeadToProfile {
                            after: head.point.after.clone(),
                            value: head.point.value.clone(),
                            hash: head.hash.clone(),
                            model: fleet.put(teller, part, 0, &onnx)?,
                        });
                    }
                    let request = JobRequest::Profile {
                        model,
                        heads: to_profile,
                        batch: 1,
                        runs: RUNS,
                    };
                    match fleet.job(teller, part, request)? {
                        JobResult::Profile(profile) => Ok(profile),
                        _ => Err(RunError::OtherAnswer),
                    }
                },
            )?;
            on(Event::Profiled {
                part,
                profile: Box::new(profile.clone()),
            });
            match part {
                Part::Edge => self.results.edge = Some(profile),
                Part::Cloud => self.results.cloud = Some(profile),
            }
        }
        let key = Inputs::new()
            .with("edge", &targets[0])
            .with("cloud", &targets[1])
            .with("link", format!("{:?}", session.link));
        let fleet = &mut self.fleet;
        let link = self.keep.stage(
            on,
            (Stage::Link, "link", &key.key()),
            summary::link,
            |teller| {
                let cloud = fleet.cloud_target(teller, 0, Some(false))?;
                let link = session.link;
                let request = JobRequest::MeasureLink { cloud, link };
                match fleet.job(teller, Part::Edge, request)? {
                    JobResult::Link(link) => Ok::<LinkProfile, _>(link),
                    _ => Err(RunError::OtherAnswer),
                }
            },
        )?;
        on(Event::Linked(link.clone()));
        self.results.link = Some(link);
        Ok(())
    }

    fn learn(
        &mut self,
        on: Listener,
        heads: &[(Part, Head)],
        frozen: Option<usize>,
    ) -> Result<(), RunError> {
        let data = self.data.as_ref().ok_or(RunError::NothingToRun)?;
        let key = learn::key(self.session, &self.network, &data.hash(Set::Train), heads);
        if let Some(results) = self.session.results.as_deref()
            && results.heads_key == key
            && frozen.is_some()
            && self.keep.adopt("heads", &key, &results.heads)?
        {
            on(brought(
                Stage::Heads,
                "the session brings these exits trained",
            ));
        }
        let lesson = Lesson {
            session: self.session,
            network: &self.network,
            data,
            keep: &self.keep,
            folder: &self.options.out,
            cancel: self.cancel,
        };
        let learnt = match frozen {
            Some(epochs) => lesson.frozen(on, heads, epochs)?,
            None => lesson.together(on, heads)?,
        };
        if let Some(network) = learnt.network {
            self.network = network;
        }
        self.results.heads_key = key;
        self.heads = learnt.heads.into_iter().map(|(p, h)| (p, h, 1.0)).collect();
        Ok(())
    }

    fn make_tables(&mut self, on: Listener) -> Result<(), RunError> {
        let data = self.data.as_ref().ok_or(RunError::NothingToRun)?;
        let key = Inputs::new()
            .with("heads", &self.results.heads_key)
            .with("network", &self.network.hash)
            .with("calibration", data.hash(Set::Calibration))
            .with("test", data.hash(Set::Test))
            .key();
        let (session, network, cancel) = (self.session, &self.network, self.cancel);
        let heads: Vec<(Part, Head)> = self.heads.iter().map(|(p, h, _)| (*p, h.clone())).collect();
        if let Some(results) = session.results.as_deref()
            && results.tables_key == key
            && let (Some(calibration), Some(test)) = (&results.calibration, &results.test)
        {
            let kept = tables::Tables {
                temperatures: results.heads.iter().map(|h| h.temperature).collect(),
                calibration: calibration.clone(),
                test: test.clone(),
            };
            if self.keep.adopt("tables", &key, &kept)? {
                on(brought(Stage::Tables, "the session brings these tables"));
            }
        }
        let made = self.keep.stage(
            on,
            (Stage::Tables, "tables", &key),
            |t: &tables::Tables| {
                let (calibration, test) = (t.calibration.samples, t.test.samples);
                format!("{calibration} calibration and {test} test images through every exit")
            },
            |teller| tables::make(teller, session, network, data, &heads, cancel),
        )?;
        for (head, t) in self.heads.iter_mut().zip(&made.temperatures) {
            head.2 = *t;
        }
        self.results.heads = self
            .heads
            .iter()
            .map(|(part, head, t)| TrainedHead::pack(*part, head, *t))
            .collect::<Result<_, _>>()?;
        self.tables = Some((made.calibration.unpack()?, made.test.unpack()?));
        self.results.tables_key = key;
        self.results.calibration = Some(made.calibration);
        self.results.test = Some(made.test);
        Ok(())
    }

    fn plan(&mut self, on: Listener, points: &[ExitPoint]) -> Result<Plan, RunError> {
        let session = self.session;
        let rule = ExitRule {
            placement: session.exits.placement,
            per_part: session.exits.per_part,
            at_split: session.exits.at_split,
            threshold: session.policy.threshold,
            thresholds: session.policy.exits.clone(),
        };
        let made = {
            let results = &self.results;
            let profiles = results.edge.as_ref().zip(results.cloud.as_ref());
            let keys = self.results.head_keys();
            let goal = match session.split {
                SplitRule::Fastest => Some(Goal::Fastest),
                SplitRule::Cheapest => Some(Goal::Cheapest),
                _ => None,
            };
            let world = profiles
                .zip(results.link.as_ref())
                .map(|((edge, cloud), link)| {
                    summary::world(session, &results.layers, edge, cloud, link, &keys)
                });
            let scored = goal.zip(world).zip(self.tables.as_ref());
            let score = scored.map(|((goal, world), (calibration, _))| {
                explore::score(calibration, world, goal, Limits::default())
            });
            let score = score.as_ref().map(|s| s as &dyn Fn(&Plan) -> Option<f64>);
            let table = &self.network.table;
            told(on, Stage::Plan, summary::plan, |teller| {
                let mut made = plan(table, points, &session.split, &rule, profiles, score)?;
                if let Some(names) = &session.exits.at {
                    let own = |name: &str| session.policy.threshold_of(name);
                    made = with_exits_at(made, table, points, names, own)?;
                }
                made.notes.iter().for_each(|note| teller.say(note));
                Ok(made)
            })?
        };
        self.results.plan = Some(made.clone());
        Ok(made)
    }

    /// Runs the plan on its devices, then the baselines, and says what came of it.
    fn distribute(&mut self, on: Listener, plan: &Plan) -> Result<Option<Report>, RunError> {
        let data = self.data.as_ref().ok_or(RunError::NothingToRun)?;
        let test = test_set(data)?;
        let parts = Parts::of(&self.network, plan, &self.heads)?;
        let ground = Ground {
            session: self.session,
            test: &test,
            samples: data.len(Set::Test),
        };
        let (fleet, keep) = (&mut self.fleet, &self.keep);
        let session = self.session;
        let test_hash = data.hash(Set::Test);
        let key = summary::run_key(session, &parts, &test_hash);
        let timed = keep.stage(
            on,
            (Stage::Plan, "parts", &key("parts", &[])),
            |timed: &Vec<(Part, PartProfile)>| format!("{} assembled parts timed", timed.len()),
            |teller| ground.time_parts(teller, fleet, &parts),
        )?;
        if session.wire.tensor != Element::F32 && parts.edge.is_some() && parts.cloud.is_some() {
            let tables_key = format!("{} {}", self.results.tables_key, key("wire", &[]));
            let (network, heads, cancel) = (&self.network, &self.heads, self.cancel);
            let over = keep.stage(
                on,
                (Stage::Tables, "wire", &tables_key),
                |_: &Option<WireTables>| {
                    format!(
                        "the cloud's exits on tensors as {:?} delivers them",
                        session.wire.tensor
                    )
                },
                |teller| tables::over_the_wire(teller, session, network, data, heads, plan, cancel),
            )?;
            self.results.wires.extend(over);
        }
        self.results.parts = timed;
        if self.options.until <= Stage::Plan {
            return Ok(None);
        }
        let thresholds: Vec<f64> = plan.exits.iter().map(|e| e.threshold).collect();
        let ran = keep.stage(
            on,
            (Stage::Run, "run", &key("run", &thresholds)),
            |ran: &Ran| summary::ran(ran, plan.exits.len()),
            |teller| ground.run(teller, fleet, What::Plan, plan, &parts),
        )?;
        on(Event::Records(ran.records.clone()));
        let labels = data.labels(Set::Test);
        let clock = summary::clock(&self.results);
        let measured = summary::measured(session, plan, &ran, labels, clock)?;
        self.results
            .note(What::Plan.name(), Some(plan), measured.clone());
        let mut baselines = Vec::new();
        let edge_exits = plan.exits.iter().any(|e| e.part == Part::Edge);
        for what in [What::Original, What::CloudOnly, What::EdgeOnly] {
            let alone = match what {
                What::Original => unmodified(Split::EdgeOnly),
                What::CloudOnly => unmodified(Split::CloudOnly),
                _ if !edge_exits || plan.split == Split::EdgeOnly => continue,
                _ => Plan {
                    split: Split::EdgeOnly,
                    exits: plan
                        .exits
                        .iter()
                        .filter(|e| e.part == Part::Edge)
                        .cloned()
                        .collect(),
                    ..plan.clone()
                },
            };
            let own = match what {
                What::EdgeOnly => Parts {
                    cloud: None,
                    ..parts.clone()
                },
                _ => Parts::of(&self.network, &alone, &self.heads)?,
            };
            let key = summary::run_key(session, &own, &test_hash);
            let exits: Vec<f64> = alone.exits.iter().map(|e| e.threshold).collect();
            let ran = keep.stage(
                on,
                (Stage::Baselines, what.name(), &key(what.name(), &exits)),
                |ran: &Ran| format!("{}: {}", what.label(), summary::ran(ran, 0)),
                |teller| ground.run(teller, fleet, what, &alone, &own),
            )?;
            let outcome = summary::measured(session, &alone, &ran, labels, clock)?;
            self.results.note(what.name(), None, outcome.clone());
            baselines.push((what, outcome));
        }
        let report = told(
            on,
            Stage::Report,
            |_| "written".to_owned(),
            |_| {
                report::make(&report::Findings {
                    session,
                    name: &self.options.name,
                    data,
                    results: &self.results,
                    points: &self.network.points,
                    ran: &ran,
                    measured: &measured,
                    baselines: &baselines,
                })
            },
        )?;
        Ok(Some(report))
    }
}
