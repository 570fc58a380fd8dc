//! Pareto-optimal plans; the mouse; keys that come faster than frames.

use super::driver::{Bench, network, results};
use super::loops::{Counter, Idle};
use crate::data::Set;
use crate::explore::{Choice, Objective, Statistic};
use crate::predict::Answers;
use crate::predict::ConfidenceTable;
use crate::predict::policy::Output;
use crate::tui::app;
use crate::tui::effects::Runner;
use crate::tui::message::{Effect, Hit, Msg, Panel};
use crate::tui::views;
use crate::tui::work::Results;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use pretty_assertions::assert_eq;
use ratatui::layout::Rect;
use rstest::rstest;
use std::sync::Arc;
use std::sync::mpsc::channel;

#[test]
fn the_front_is_listed_and_taken_over() {
    let mut bench = Bench::new(80, 24);
    bench.press("6");
    let front = bench.state.explore.front().to_vec();
    assert!(front.len() > 5, "{}", front.len());
    assert!(
        bench
            .line("6 Explore")
            .contains(&format!("{} Pareto-optimal of", front.len()))
    );
    bench.press("jj<ret>");
    let chosen = &front[2];
    let plan = bench.state.derived.plan.clone().unwrap();
    assert_eq!(
        (&plan.splits, &plan.exits),
        (&chosen.plan.splits, &chosen.plan.exits)
    );
    let outcome = bench.state.derived.predicted.clone().unwrap();
    assert_eq!(outcome.accuracy, chosen.outcome.accuracy);
    assert_eq!(outcome.latency_ms, chosen.outcome.latency_ms);
    bench.press("u");
    assert!(!bench.state.document.is_unsaved());
}

#[test]
fn what_the_goal_rules_out_stands_last_and_the_best_first() {
    let mut bench = Bench::new(120, 40);
    bench.press("6");
    let found = bench.state.explore.found.clone().unwrap();
    let holds: Vec<bool> = found
        .front
        .iter()
        .map(|c| found.within.hold(&c.outcome))
        .collect();
    let feasible = holds.iter().filter(|holds| **holds).count();
    assert!(0 < feasible && feasible < holds.len(), "{feasible}");
    assert!(holds[..feasible].iter().all(|holds| *holds));
    let mean = |c: &crate::explore::Candidate| c.outcome.latency_ms.unwrap().mean;
    let best = &found.front[..feasible];
    assert!(best.windows(2).all(|w| mean(&w[0]) <= mean(&w[1])));
}

/// Else the verdict names a plan, or none, of settings that were before.
#[rstest]
#[case::measure(":policy.confidence Margin<ret>", true)]
#[case::seed(":seed 8<ret>", true)]
// The grid has its own.
#[case::threshold(":threshold 0.42<ret>", false)]
fn what_a_search_is_asked_is_searched_anew(#[case] keys: &str, #[case] anew: bool) {
    let mut bench = Bench::new(80, 24);
    bench.effects.clear();
    bench.press(keys);
    assert!(bench.state.document.is_unsaved(), "{}", bench.screen());
    let asked = |e: &Effect| matches!(e, Effect::Explore(_));
    assert_eq!(bench.effects.iter().any(asked), anew);
}

#[test]
fn the_goal_is_typed_and_the_verdict_and_the_explorer_follow() {
    let mut bench = Bench::new(80, 24);
    let before = bench.state.tuning.curves.clone().unwrap().verdict;
    assert!(before.row(&Choice::Original).unwrap().is_feasible());
    // Three rows down, less than the whole network takes.
    let row = before.row(&Choice::Original).unwrap();
    let own = bench.state.derived.predicted.clone().unwrap();
    let whole = own.memory_bytes(crate::plan::Tier::First) as f64 - row.edge_memory_bytes;
    let most = (whole / 1e6 * 0.9 * 1e4).round() / 1e4;
    bench.press(&format!("O<down><down><down>{most}"));
    let screen = bench.screen();
    assert!(screen.contains("what a deployment is to be"), "{screen}");
    assert!(screen.contains(&format!("{most}")), "{screen}");
    bench.press("<ret>");
    let goal = bench.state.document.session.goal;
    let bytes = goal.within.edge_memory.unwrap() as f64;
    assert!((bytes - most * 1e6).abs() < 1.0, "{bytes} {most}");
    let verdict = bench.state.tuning.curves.clone().unwrap().verdict;
    assert!(!verdict.row(&Choice::Original).unwrap().is_feasible());
    let found = bench.state.explore.found.clone().unwrap();
    assert_eq!(found.goal, goal);
    let best = found.best.unwrap();
    assert!(best.outcome.memory_bytes(crate::plan::Tier::First) as f64 <= bytes);
    assert!(bench.state.document.is_unsaved());
    // What is saved is read again.
    let text = bench.state.document.session.to_text().unwrap();
    assert!(text.contains(&format!("edge_memory: {bytes}")), "{text}");
    // The first row turns what is to be small.
    bench.press("O<right><ret>");
    let p95 = Objective::Latency(Statistic::P95);
    assert_eq!(bench.state.document.session.goal.minimise, p95);
    bench.press("uu");
    assert!(!bench.state.document.is_unsaved());
    assert_eq!(
        bench
            .state
            .explore
            .found
            .clone()
            .unwrap()
            .goal
            .within
            .edge_memory,
        None
    );
}

#[rstest]
#[case(
    "O<down>101<ret>",
    "`101`: it must be a number from 0 to 100, or empty"
)]
#[case(
    "O<down><down>fast<ret>",
    "`fast`: it must be a number from 0 up, or empty"
)]
#[case(
    "O<down><down><down>-1<ret>",
    "`-1`: it must be MB as 1.5, or with its unit as 600 kB, or empty"
)]
#[case(
    "O<down><down><down><down><down><down>0<ret>",
    "`0`: it must be a number above 0, or empty"
)]
fn a_limit_out_of_range_is_told_its_range(#[case] keys: &str, #[case] said: &str) {
    let mut bench = Bench::new(80, 24);
    let before = bench.state.document.session.goal;
    bench.press(keys);
    assert!(bench.screen().contains(said), "{}", bench.screen());
    assert_eq!(bench.state.document.session.goal, before);
    // An empty answer lifts the limit.
    bench.press("<bs><ret>");
    bench.press("<esc>");
    assert!(!bench.screen().contains("what a deployment is to be"));
}

#[test]
fn the_front_is_drawn_with_what_it_is_compared_with() {
    for (columns, rows) in [(80, 24), (160, 40)] {
        let mut bench = Bench::new(columns, rows);
        bench.press("6");
        let screen = bench.screen();
        for mark in ["● this plan", " W", " C"] {
            assert!(screen.contains(mark), "{columns}: {screen}");
        }
        assert!(screen.contains("mean, ms"), "{screen}");
    }
}

#[test]
fn limits_are_kept_to_and_lifted() {
    let mut bench = Bench::new(80, 24);
    bench.press("6");
    let all = bench.state.explore.front().len();
    let mut found: Vec<f64> = bench
        .state
        .explore
        .front()
        .iter()
        .map(|c| c.outcome.accuracy)
        .collect();
    found.sort_by(f64::total_cmp);
    let percent = (100.0 * found[all / 2]).floor();
    bench.press(&format!("A{percent}<ret>"));
    let front = bench.state.explore.front();
    assert!(!front.is_empty() && front.len() < all);
    assert!(front.iter().all(|c| c.outcome.accuracy >= percent / 100.0));
    assert!(bench.line("limits").contains(&format!("{percent:.1} %")));
    bench.press("M0.000001<ret>");
    assert!(bench.screen().contains("no plan keeps to these limits"));
    bench.press("M<ret>A<ret>");
    assert_eq!(bench.state.explore.front().len(), all);
    bench.press("S");
    let front = bench.state.explore.front();
    let accurate = |w: &[crate::explore::Candidate]| w[0].outcome.accuracy >= w[1].outcome.accuracy;
    assert!(front.windows(2).all(accurate));
}

#[test]
fn without_tables_the_page_says_what_is_missing() {
    let mut bench = Bench::bare(80, 24);
    bench.press("6");
    assert!(bench.line("no search").contains("confidence table"));
}

fn mouse(kind: MouseEventKind, column: u16, row: u16) -> MouseEvent {
    MouseEvent {
        kind,
        column,
        row,
        modifiers: KeyModifiers::NONE,
    }
}

/// Where a text begins.
fn find(bench: &Bench, text: &str) -> (u16, u16) {
    let screen = bench.screen();
    let mut lines = screen.lines().enumerate();
    let (y, line) = lines.find(|(_, l)| l.contains(text)).unwrap();
    let x = line[..line.find(text).unwrap()].chars().count();
    (x as u16, y as u16)
}

#[test]
fn the_mouse_is_the_terminals_until_it_is_asked_for() {
    let mut bench = Bench::new(120, 40);
    bench.press("<home><f6>");
    assert!(matches!(bench.effects.last(), Some(Effect::Mouse(true))));
    let area = Rect::new(0, 0, 120, 40);
    let press = MouseEventKind::Down(MouseButton::Left);
    let hit =
        |bench: &Bench, kind, (x, y): (u16, u16)| views::hit(&bench.state, area, mouse(kind, x, y));
    assert_eq!(
        hit(&bench, press, find(&bench, "6 Explore")),
        Some(Hit::Panel(Panel::Explore))
    );
    let name = bench.state.network.as_ref().unwrap().table.layers[2]
        .name
        .clone();
    let found = hit(&bench, press, find(&bench, &name)).unwrap();
    bench.tell(Msg::Hit(found));
    assert_eq!(bench.state.layers.cursor, 2);
    // The end of the slider's track, and a drag to its start.
    let end = find(&bench, "─ 1.00│");
    let found = hit(&bench, press, end).unwrap();
    bench.tell(Msg::Hit(found));
    assert_eq!(bench.state.threshold(), 1.0);
    let start = find(&bench, "0.00 ─");
    let drag = MouseEventKind::Drag(MouseButton::Left);
    let found = hit(&bench, drag, start).unwrap();
    bench.tell(Msg::Hit(found));
    assert_eq!(bench.state.threshold(), 0.0);
    assert_eq!(bench.state.focus, Panel::Threshold);
    bench.press("<f6>");
    assert!(matches!(bench.effects.last(), Some(Effect::Mouse(false))));
}

/// 10,000 samples, seven classifiers.
fn large() -> Results {
    let small = results();
    let table = &small.calibration.as_ref().unwrap().table;
    let labels: Vec<u16> = (0..10_000).map(|i| (i % 10) as u16).collect();
    let mut large = ConfidenceTable::new(Set::Calibration, labels.clone());
    let last = table.columns.len() - 1;
    for (i, column) in table.columns.iter().enumerate() {
        if i != last && i >= 6 {
            continue;
        }
        let after = column.after.as_deref();
        let mut wide = crate::predict::Column::new(after, &column.head, 1.0);
        for (sample, label) in labels.iter().enumerate() {
            let mut logits = [0.0; 10];
            logits[usize::from(*label)] = (sample % 97) as f32 * 0.05 * (i + 1) as f32;
            wide.extend(&logits, 10, Output::Logits).unwrap();
        }
        large.push(wide).unwrap();
    }
    Results {
        calibration: Some(Arc::new(Answers {
            table: large,
            wires: vec![],
            images: None,
        })),
        ..small
    }
}

#[test]
fn keys_that_come_faster_than_frames_share_one() {
    let mut bench = Bench::bare(120, 40);
    let names: Vec<String> = {
        let network = network();
        let points = network.points.iter().take(6);
        points.map(|p| p.after.clone()).collect()
    };
    bench.state.document.session.exits.at = Some(names[..3].to_vec());
    bench.tell(Msg::Kept(Box::new(large())));
    assert!(
        bench.state.derived.predicted.is_some(),
        "{:?}",
        bench.state.derived
    );
    bench.state.document.session.policy.threshold = 0.0;
    // A hang-up keeps the edits: here, and not where the tests are run.
    let folder = tempfile::tempdir().unwrap();
    bench.state.document.journal = folder.path().join("demo.autosave");
    let (tell, messages) = channel();
    let key = |code| Msg::Key(KeyEvent::from(code));
    for _ in 0..90 {
        tell.send(key(KeyCode::Right)).unwrap();
    }
    tell.send(Msg::HangUp).unwrap();
    let mut runner = Runner::new(tell, Arc::new(Idle)).unwrap();
    let mut display = Counter::new();
    app::run(
        &mut bench.state,
        &mut display,
        &messages,
        &mut runner,
        Vec::new(),
    )
    .unwrap();
    // Every key counted, none had a frame of its own.
    assert!((bench.state.threshold() - 0.9).abs() < 1e-9);
    assert!(display.frames <= 2, "{} frames for 90 keys", display.frames);
}
