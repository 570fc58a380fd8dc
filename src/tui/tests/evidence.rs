//! The page of evidence: what a run's samples showed, and where other plans are best.

use super::driver::{Bench, network, results};
use crate::data::Set;
use crate::predict::{Kind, Reliability, reliability};
use crate::report::evidence::{
    ClassFigures, Confusion, EvidenceReport, Group, LatencyBin, Picture, ShownSample,
};
use crate::report::{Origin, ReliabilityReport};
use crate::run::{RunError, RunEvidence};
use crate::session;
use crate::tui::message::{Effect, Msg};
use crate::tui::work::Results;
use pretty_assertions::assert_eq;
use ratatui::style::Color;
use std::sync::Arc;

fn honest(after: Option<&str>) -> ReliabilityReport {
    // Nine of ten right at 0.9.
    let answers = (0..10).map(|i| (0.9, i > 0));
    let Reliability { bins, error } = reliability(answers);
    ReliabilityReport {
        after: after.map(str::to_string),
        temperature: 1.5,
        error_before: Some(0.25),
        reliability: Reliability { bins, error },
    }
}

fn sample(group: Group, sample: u32, prediction: &str, grey: u8) -> ShownSample {
    ShownSample {
        group,
        sample,
        label: "cat".into(),
        prediction: prediction.into(),
        after: (group == Group::Early).then(|| "stem".into()),
        confidence: 0.875,
        latency_ms: Some(1.25),
        picture: Some(Picture {
            width: 1,
            height: 1,
            rgb: vec![grey; 3],
        }),
    }
}

fn shown() -> RunEvidence {
    let class = |name: &str, accuracy| ClassFigures {
        name: name.into(),
        samples: 10,
        accuracy: Some(accuracy),
        early: Some(0.5),
    };
    let confusion = |label, prediction, samples| Confusion {
        label,
        prediction,
        samples,
    };
    let bin = |from_ms: f64, local, offloaded| LatencyBin {
        from_ms,
        to_ms: from_ms + 1.0,
        local,
        offloaded,
    };
    RunEvidence {
        shown: EvidenceReport {
            origin: Origin {
                kind: Kind::Measured,
                set: Set::Test,
            },
            classes: vec![class("cat", 0.9), class("dog", 0.7)],
            confusions: vec![
                confusion(0, 0, 9),
                confusion(0, 1, 1),
                confusion(1, 0, 3),
                confusion(1, 1, 7),
            ],
            latencies: vec![bin(1.0, 15, 0), bin(2.0, 0, 5)],
            samples: vec![
                sample(Group::Early, 7, "cat", 40),
                sample(Group::Wrong, 12, "dog", 200),
            ],
        },
        reliability: vec![honest(Some("stem")), honest(None)],
    }
}

/// A bench whose session has a run, on the page of its evidence, which was asked for and not answered.
fn asked(columns: u16, rows: u16) -> (Bench, u64) {
    let network = network();
    let kept = session::Results::new((*network.table).clone(), (*network.points).clone());
    let mut bench = Bench::new(columns, rows);
    bench.tell(Msg::Kept(Box::new(Results {
        kept: Some(Arc::new(kept)),
        ..results()
    })));
    bench.effects.clear();
    bench.press("8");
    let mut requests = bench.effects.iter().filter_map(|effect| match effect {
        Effect::Evidence(request) => Some(request.generation),
        _ => None,
    });
    let generation = requests.next().unwrap();
    assert_eq!(requests.next(), None);
    (bench, generation)
}

fn told(columns: u16, rows: u16) -> Bench {
    let (mut bench, generation) = asked(columns, rows);
    bench.tell(Msg::Evidence(generation, Box::new(Ok(shown())), true));
    bench
}

#[test]
fn each_view_shows_what_the_run_showed() {
    let mut bench = told(80, 24);
    assert!(bench.line("8 Evidence").contains("measured, test"));
    let row = bench.line("stem  ");
    assert!(row.contains("25.0 %") && row.contains("0.0 %"), "{row}");
    assert!(bench.line("0.87–0.93").contains("90.0 %     10"));
    bench.press(" ");
    // The least accurate first.
    let screen = bench.screen();
    let at = |text: &str| screen.find(text).unwrap();
    assert!(at("dog ") < at("cat "), "{screen}");
    bench.press(" ");
    assert!(bench.line(" 0 cat").contains("9     1"));
    bench.line("     3  dog → cat");
    bench.press(" ");
    assert!(bench.line("1.00 to 2.00").contains("15  █"));
    assert!(bench.line("2.00 to 3.00").contains("5  ░"));
    bench.press(" ");
    assert!(bench.line("first exit").contains("7 cat"));
    let wrong = bench.line("wrong ");
    assert!(
        wrong.contains("12 dog, is cat") && wrong.contains("0.875"),
        "{wrong}"
    );
    bench.press("<bs>");
    assert!(bench.screen().contains("1.00 to 2.00"));
}

#[test]
fn the_selected_sample_is_seen_where_there_are_colours() {
    let mut bench = told(80, 24);
    bench.press("    ");
    let colours = |bench: &Bench| -> Vec<Color> {
        let buffer = bench.buffer();
        let blocks = buffer.content.iter().filter(|cell| cell.symbol() == "▀");
        blocks.map(|cell| cell.fg).collect()
    };
    assert!(colours(&bench).len() > 100);
    assert!(colours(&bench).iter().all(|c| *c == Color::Rgb(40, 40, 40)));
    bench.press("j");
    assert!(
        colours(&bench)
            .iter()
            .all(|c| *c == Color::Rgb(200, 200, 200))
    );
    bench.press("jjj");
    assert!(bench.screen().contains("answered by the final classifier"));
    bench.state.pictures = false;
    assert_eq!(colours(&bench), []);
    bench.state.ascii = true;
    assert!(bench.screen().is_ascii());
}

#[test]
fn what_is_shown_is_asked_once_and_anew_of_another_run() {
    let (mut bench, generation) = asked(80, 24);
    assert!(bench.screen().contains("reading what the run kept"));
    bench.tell(Msg::Evidence(
        generation,
        Box::new(Err(RunError::NoRecords)),
        true,
    ));
    assert!(bench.screen().contains("kept no records of its samples"));
    bench.effects.clear();
    bench.press("18");
    let asks = |bench: &Bench| {
        let all = bench.effects.iter();
        all.filter(|e| matches!(e, Effect::Evidence(_))).count()
    };
    assert_eq!(asks(&bench), 0);
    let kept = bench.state.results.kept.as_deref().cloned();
    bench.tell(Msg::Kept(Box::new(Results {
        kept: kept.map(Arc::new),
        ..results()
    })));
    assert_eq!(asks(&bench), 1);
    // What still comes of the run before is nobody's.
    bench.tell(Msg::Evidence(generation, Box::new(Ok(shown())), true));
    assert!(bench.screen().contains("reading what the run kept"));
}

#[test]
fn pictures_that_cannot_be_had_take_nothing_away() {
    let (mut bench, generation) = asked(80, 24);
    bench.tell(Msg::Evidence(generation, Box::new(Ok(shown())), false));
    bench.press("    ");
    assert!(bench.screen().contains("the pictures are being read"));
    bench.tell(Msg::Evidence(
        generation,
        Box::new(Err(RunError::OtherImages)),
        true,
    ));
    let screen = bench.screen();
    assert!(
        screen.contains("aren't those that the run was over") && screen.contains("12 dog"),
        "{screen}"
    );
}

#[test]
fn other_conditions_are_searched_when_looked_at_and_stopped() {
    let mut bench = Bench::new(80, 24);
    bench.press("8<bs>");
    let row = bench.line("bandwidth");
    assert!(row.contains("A "), "{row}");
    assert!(bench.line("8 Evidence").contains("predicted, calibration"));
    // A threshold's place asks nothing new, since each is tried.
    let searches = |bench: &Bench| {
        let all = bench.effects.iter();
        all.filter(|e| matches!(e, Effect::WhatIf(_))).count()
    };
    assert_eq!(searches(&bench), 1);
    bench.press("<left>18");
    assert_eq!(searches(&bench), 1);
    bench.press("m");
    assert_eq!(searches(&bench), 2);
    let told = bench.state.evidence_page.what_if.found.clone().unwrap();
    assert_eq!((told.map.len(), told.map[0].len()), (7, 7));
}

#[test]
fn a_stopped_search_says_so_and_what_it_finds_is_dropped() {
    let mut bench = Bench::new(80, 24);
    bench.press("8<bs>");
    let found = bench.state.evidence_page.what_if.found.clone().unwrap();
    // As while it is searched.
    let mut effects = bench.state.map_evidence();
    let Some(Effect::WhatIf(request)) = effects.pop() else {
        panic!("{effects:?}");
    };
    bench.tell(Msg::WhatIfProgress(request.generation, 3, 82));
    assert!(bench.line("3 of 82 settings").contains("x stops"));
    bench.press("x");
    assert!(
        bench
            .effects
            .iter()
            .any(|e| matches!(e, Effect::StopWhatIf))
    );
    bench.tell(Msg::WhatIf(request.generation, Box::new(Ok(found))));
    assert!(bench.screen().contains("stopped; "), "{}", bench.screen());
}
