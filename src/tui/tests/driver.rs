//! A workbench without terminal and threads: effects are carried out at once, so that what a key does
//! is on screen before the next one is pressed. Profiles and table are made up here, and only here.

use crate::data::Set;
use crate::device::{HeadProfile, LayerProfile, LinkProfile, Profile, SegmentMemory, Stats};
use crate::event::Event;
use crate::model::zoo::ZooModel;
use crate::model::{LayerTable, fuse};
use crate::plan::{Link, SplitRule, TierNames};
use crate::predict::Answers;
use crate::predict::policy::Output;
use crate::predict::{Column, ConfidenceTable};
use crate::session::{Session, Target, TierSettings};
use crate::tui::command;
use crate::tui::effects::make_heads;
use crate::tui::error::NoReplica;
use crate::tui::message::{Effect, HeadsRequest, Msg, Timer};
use crate::tui::ports::Job;
use crate::tui::state::State;
use crate::tui::theme::Theme;
use crate::tui::work::{NetworkFacts, Results};
use crate::tui::{app, views};
use crate::{exits, tui};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use rand::{RngExt, SeedableRng};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

pub struct Bench {
    pub state: State,
    pub effects: Vec<Effect>,
    pub jobs: Vec<(usize, Job)>,
    pub quit: bool,
    /// Timers are left to the test, and nothing is answered.
    pub quiet: bool,
}

fn session() -> Session {
    // Its own words, so that no screen here changes with the session that ships.
    let text = r#"Session(
        version: 2,
        name: "demo",
        model: Onnx("../assets/demo.onnx"),
        data: Synthetic(seed: 7),
        preprocessing: (std: [1.0]),
        calibration: FromTrain(1000),
        splits: [Memory(share: 0.7)],
        exits: (per_part: 3, placement: Pareto, classifier: Replica, training: Frozen(epochs: 20)),
        policy: (confidence: MaxProbability, threshold: 0.7),
        tiers: [
            (name: "edge", targets: [Local(cores: [0], slowdown: 6.0)]),
            (name: "cloud", targets: [Local(cores: [1])]),
        ],
    )"#;
    Session::parse(text, Path::new("demo.ron")).unwrap()
}

pub fn network() -> NetworkFacts {
    static NETWORK: OnceLock<NetworkFacts> = OnceLock::new();
    let make = || {
        let model = ZooModel::ResNet {
            depth: 14,
            width: 16,
        };
        let fused = fuse(&model.build((3, 32, 32), 10, 1).unwrap());
        let table = LayerTable::new(&fused).unwrap();
        NetworkFacts {
            points: Arc::new(exits::points(&table, &fused)),
            replica: exits::replica(&fused).map_err(NoReplica::from),
            own: None,
            table: Arc::new(table),
        }
    };
    NETWORK.get_or_init(make).clone()
}

fn profile(network: &NetworkFacts, slower: f64, heads: &[tui::HeadFacts]) -> Profile {
    let stats = |ms: f64| Stats {
        min: 0.9 * ms,
        median: ms,
        mean: 1.02 * ms,
        p95: 1.2 * ms,
    };
    let layers: Vec<LayerProfile> = network
        .table
        .layers
        .iter()
        .map(|l| LayerProfile {
            name: l.name.clone(),
            ms: stats(slower * (0.004 + l.macs as f64 * 4e-8)),
            bytes: l.param_bytes + l.activation_bytes,
        })
        .collect();
    let total: f64 = layers.iter().map(|l| l.ms.median).sum();
    Profile {
        target: "made up".into(),
        device: "for tests".into(),
        ghz: Some(2.0),
        threads: 1,
        batch: 1,
        slowdown: slower,
        total_ms: stats(total),
        layers,
        heads: heads
            .iter()
            .map(|h| HeadProfile {
                after: network.table.layers[h.layer].name.clone(),
                hash: h.hash.clone(),
                ms: stats(slower * 0.01),
                bytes: 4 * h.params + 8_000,
                arena_bytes: 8_000,
            })
            .collect(),
        samples_ms: (0..40)
            .map(|i| total * (0.95 + 0.005 * f64::from(i % 20)))
            .collect(),
        prefixes: vec![],
        weight_bytes: 4 * network.table.params,
        arena_bytes: 200_000,
        segments: segments(&network.table),
        boundaries: vec![],
        codec: vec![],
        load: None,
        watts: None,
        resident_bytes: 30_000_000,
    }
}

/// Of any consecutive layers.
fn segments(table: &LayerTable) -> Vec<SegmentMemory> {
    let rows = table.layers.len();
    let all = (0..rows).flat_map(|from| (from + 1..=rows).map(move |to| (from, to)));
    let segment = |(from, to): (usize, usize)| SegmentMemory {
        from,
        to,
        weight_bytes: 4 * table.layers[from..to]
            .iter()
            .map(|l| l.params)
            .sum::<usize>(),
        arena_bytes: 200_000,
    };
    all.map(segment).collect()
}

/// Heads that get better with depth, and surer of easy samples.
fn table(network: &NetworkFacts, heads: &[tui::HeadFacts]) -> ConfidenceTable {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
    let samples = 1000;
    let labels: Vec<u16> = (0..samples).map(|i| (i * 7 % 10) as u16).collect();
    let hardness: Vec<f32> = (0..samples).map(|_| rng.random::<f32>()).collect();
    let mut table = ConfidenceTable::new(Set::Calibration, labels.clone());
    let ends = heads
        .iter()
        .map(|h| (Some(h), network.table.layers[h.layer].prefix_macs));
    for (head, macs) in ends.chain([(None, network.table.macs)]) {
        let depth = macs as f32 / network.table.macs as f32;
        let after = head.map(|h| network.table.layers[h.layer].name.as_str());
        let mut column = Column::new(after, head.map_or("", |h| &h.hash), 1.0);
        for (label, hard) in labels.iter().zip(&hardness) {
            let mut logits: Vec<f32> = (0..10).map(|_| rng.random::<f32>() * 2.5).collect();
            logits[*label as usize] += (1.0 + 8.0 * depth) * (1.0 - hard * 0.9);
            column.extend(&logits, 10, Output::Logits).unwrap();
        }
        table.push(column).unwrap();
    }
    table
}

pub fn results() -> Results {
    static RESULTS: OnceLock<Results> = OnceLock::new();
    let make = || {
        let network = network();
        let heads = make_heads(&HeadsRequest {
            settings: Default::default(),
            generation: 0,
            source: network.replica.clone().unwrap(),
            network: Arc::new(network.clone()),
            seed: 7,
            tiers: TierNames::default(),
            first: 0,
        })
        .unwrap();
        Results {
            profiles: [6.0, 1.0]
                .map(|slower| Some(Arc::new(profile(&network, slower, &heads))))
                .into(),
            links: vec![Some(Arc::new(LinkProfile {
                idle: vec![(1_000, 1.5), (1_000_000, 40.0)],
                warm: vec![(1_000, 0.4), (1_000_000, 20.0)],
                emulated: false,
                jitter_ms: vec![],
            }))],
            calibration: Some(Arc::new(Answers {
                table: table(&network, &heads),
                wires: vec![],
                images: None,
            })),
            ..Results::default()
        }
    };
    RESULTS.get_or_init(make).clone()
}

impl Bench {
    /// With a network and nothing measured.
    pub fn bare(columns: u16, rows: u16) -> Bench {
        let keymap = command::keymap(&BTreeMap::new()).unwrap();
        let theme = Theme::shipped("default").unwrap();
        let mut bench = Bench {
            state: State::new(session(), theme, keymap),
            effects: Vec::new(),
            jobs: Vec::new(),
            quit: false,
            quiet: false,
        };
        bench.state.document.journal = "demo.autosave".into();
        bench.tell(Msg::Resize(columns, rows));
        bench.tell(Msg::Network(Ok(Box::new(network()))));
        bench
    }

    /// A bench whose session has a network, profiles, tables and heads.
    pub fn new(columns: u16, rows: u16) -> Bench {
        let mut bench = Bench::bare(columns, rows);
        bench.tell(Msg::Kept(Box::new(results())));
        bench
    }

    /// With everything, over three tiers.
    pub fn three(columns: u16, rows: u16) -> Bench {
        let mut bench = Bench::bare(columns, rows);
        let session = &mut bench.state.document.session;
        let tier = |(name, slowdown): (&str, f64)| TierSettings {
            name: name.into(),
            targets: vec![Target::Local {
                engine: crate::backend::BackendId::Native,
                cores: vec![0],
                slowdown,
                threads: None,
            }],
        };
        session.tiers = [("device", 6.0), ("edge", 2.0), ("cloud", 1.0)]
            .map(tier)
            .into();
        session.links = vec![Link::Measured; 2];
        session.splits = [0.3, 0.7].map(|share| SplitRule::Memory { share }).into();
        let mut results = results();
        let near = results.profiles[0].as_deref().unwrap();
        let mut between = near.clone();
        between.slowdown = 2.0;
        results.profiles.insert(1, Some(Arc::new(between)));
        results.links.push(results.links[0].clone());
        bench.tell(Msg::Kept(Box::new(results)));
        bench
    }

    pub fn tell(&mut self, message: Msg) {
        let mut queue = self.state.update(message);
        while !queue.is_empty() {
            let effect = queue.remove(0);
            self.effects.push(effect.clone());
            let answer = match effect {
                Effect::Later { .. } | Effect::Heads(_) if self.quiet => continue,
                Effect::Heads(request) => Msg::Heads(request.generation, make_heads(&request)),
                Effect::Curves(request) => {
                    Msg::Curves(request.generation, Box::new(request.answer()))
                }
                Effect::Explore(request) => {
                    Msg::Explored(request.generation, Box::new(request.answer()))
                }
                Effect::WhatIf(request) => {
                    let told = std::cell::RefCell::new(Vec::new());
                    let tell = |message| told.borrow_mut().push(message);
                    let found = request.answer(&crate::engine::Cancel::new(), &tell);
                    for message in told.into_inner() {
                        queue.extend(self.state.update(message));
                    }
                    Msg::WhatIf(request.generation, Box::new(found))
                }
                // A playback would never end here; the tests tell it when time passes.
                Effect::Later {
                    timer: Timer::Playback,
                    ..
                } => continue,
                Effect::Later { timer, .. } => Msg::Timer(timer),
                Effect::Start { id, job } => {
                    self.jobs.push((id, *job));
                    continue;
                }
                Effect::Quit => {
                    self.quit = true;
                    continue;
                }
                _ => continue,
            };
            queue.extend(self.state.update(answer));
        }
    }

    /// Presses keys: letters as they are, others as `<ret>`, `<c-r>`, `<left>`.
    pub fn press(&mut self, keys: &str) -> &mut Bench {
        let mut rest = keys;
        while let Some(c) = rest.chars().next() {
            let named = rest.strip_prefix('<').and_then(|r| r.split_once('>'));
            let (event, after) = match named {
                Some((name, after)) if name.len() > 1 => (key(name), after),
                _ => (KeyEvent::from(KeyCode::Char(c)), &rest[c.len_utf8()..]),
            };
            self.tell(Msg::Key(event));
            rest = after;
        }
        self
    }

    pub fn run_event(&mut self, id: usize, at: u64, event: Event) {
        self.tell(Msg::Run(id, at, Box::new(event)));
    }

    pub fn buffer(&self) -> Buffer {
        let (columns, rows) = self.state.size;
        views::draw(&self.state, Rect::new(0, 0, columns, rows))
    }

    pub fn screen(&self) -> String {
        app::text(&self.buffer())
    }

    /// The first line that has a text, below the names of the pages.
    pub fn line(&self, text: &str) -> String {
        let screen = self.screen();
        let line = screen.lines().skip(2).find(|l| l.contains(text));
        line.unwrap_or_else(|| panic!("no `{text}` in\n{screen}"))
            .to_string()
    }

    /// What follows a label in its line.
    pub fn field(&self, label: &str) -> String {
        let line = self.line(label);
        line[line.find(label).unwrap()..].to_string()
    }

    /// The cell where a text begins.
    pub fn cell(&self, text: &str) -> ratatui::buffer::Cell {
        let buffer = self.buffer();
        let screen = self.screen();
        let (y, line) = screen
            .lines()
            .enumerate()
            .skip(2)
            .find(|(_, l)| l.contains(text))
            .unwrap();
        let x = line[..line.find(text).unwrap()].chars().count();
        buffer[(x as u16, y as u16)].clone()
    }
}

fn key(name: &str) -> KeyEvent {
    if let Some(letter) = name.strip_prefix("c-") {
        return KeyEvent::new(
            KeyCode::Char(letter.chars().next().unwrap()),
            KeyModifiers::CONTROL,
        );
    }
    KeyEvent::from(match name {
        "ret" => KeyCode::Enter,
        "esc" => KeyCode::Esc,
        "tab" => KeyCode::Tab,
        "s-tab" => KeyCode::BackTab,
        "left" => KeyCode::Left,
        "right" => KeyCode::Right,
        "up" => KeyCode::Up,
        "down" => KeyCode::Down,
        "bs" => KeyCode::Backspace,
        "del" => KeyCode::Delete,
        "home" => KeyCode::Home,
        "end" => KeyCode::End,
        "pgdn" => KeyCode::PageDown,
        "space" => KeyCode::Char(' '),
        "f6" => KeyCode::F(6),
        other => panic!("no key <{other}>"),
    })
}
