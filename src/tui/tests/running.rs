//! A run on screen while it goes on, and as it ends.

use super::driver::Bench;
use crate::event::{Connection, Event, Stage, Vitals};
use crate::plan::Tier;
use crate::predict::Kind;
use crate::protocol::message::{CloudShare, Progress};
use crate::tui::message::Effect;
use crate::tui::message::Msg;
use crate::tui::ports::{Goal, JobError};
use crate::tui::work::{Measured, Results};
use pretty_assertions::assert_eq;

fn progress(done: u64) -> Progress {
    Progress {
        done,
        total: 2000,
        exits: vec![done / 2, done / 4, 0, 0, done / 4],
        offloaded: done / 4,
        mean_latency_ms: Some(4.0 + done as f64 / 1000.0),
        bytes_sent: done * 1000,
        mean_cloud_ms: Some(0.5),
        clouds: vec![CloudShare {
            answered: done / 4,
            ..CloudShare::default()
        }],
        ..Progress::default()
    }
}

#[test]
fn runs_get_the_room_of_the_classifier_while_they_are_looked_at() {
    let mut bench = Bench::new(120, 40);
    assert!(bench.screen().contains(" 3 Exits ✓"));
    bench.press("r");
    assert!(!bench.screen().contains(" 3 Exits ✓"));
    bench.press("3");
    assert!(bench.screen().contains(" 3 Exits ✓"));
    bench.tell(Msg::RunEnded(1, 10, false, Ok(Box::default())));
    bench.press("1");
    assert!(bench.screen().contains(" 3 Exits ✓"));
    // A larger screen has room for both.
    bench.tell(Msg::Resize(200, 60));
    bench.press("4");
    assert!(bench.screen().contains(" 3 Exits ✓"));
}

fn connected(part: Tier) -> Event {
    Event::Target {
        part,
        index: 0,
        connection: Connection::Connected {
            device: "a board".into(),
            processor: None,
            threads: Some(1),
            slowdown: 1.0,
        },
    }
}

fn evaluating(progress: Progress) -> Event {
    Event::Evaluating { index: 0, progress }
}

/// A run whose targets are both connected, 1200 samples of 2000 on its way in three seconds.
fn under_way() -> (Bench, usize) {
    let mut bench = Bench::new(120, 40);
    bench.press("r");
    let (id, job) = bench.jobs[0].clone();
    assert_eq!(job.goal, Goal::Run);
    assert_eq!(job.plan, bench.state.derived.plan);
    bench.run_event(id, 10, connected(Tier::First));
    bench.run_event(id, 20, connected(Tier::Second));
    let vitals = Vitals {
        celsius: Some(46.2),
        watts: Some(5.2),
        ..Vitals::default()
    };
    bench.run_event(
        id,
        25,
        Event::Vitals {
            part: Tier::First,
            index: 0,
            vitals,
        },
    );
    bench.run_event(id, 30, Event::Started(Stage::Run));
    for (at, done) in [(1000, 400), (2000, 800), (3000, 1200)] {
        bench.run_event(id, at, evaluating(progress(done)));
    }
    (bench, id)
}

#[test]
fn a_run_streams_into_its_panels() {
    let (mut bench, _) = under_way();
    let run = bench.state.shown_run().unwrap();
    let [edge, cloud] = &run.targets[..] else {
        panic!("{:?}", run.targets);
    };
    assert_eq!((edge.rate_hz, cloud.rate_hz), (Some(400.0), Some(100.0)));
    assert!(bench.line("1200 of 2000").contains("400/s"));
    assert!(bench.line("300 answered").contains("100/s  1.20 MB"));
    assert!(bench.line("edge ● connected").contains("46°C  5.2 W"));
    insta::assert_snapshot!("running-120x40", bench.screen());
    bench.tell(Msg::Resize(80, 24));
    bench.press("4");
    insta::assert_snapshot!("running-80x24", bench.screen());
    bench.tell(Msg::Resize(200, 60));
    insta::assert_snapshot!("running-200x60", bench.screen());
}

/// Each target's panel says how it is connected; its log has what it said.
#[test]
fn a_target_that_is_lost_or_waits_is_told() {
    let (mut bench, id) = under_way();
    bench.press("4");
    bench.run_event(
        id,
        3100,
        Event::Target {
            part: Tier::Second,
            index: 0,
            connection: Connection::Reconnecting {
                after_ms: 2000,
                error: "no route".into(),
            },
        },
    );
    assert!(
        bench
            .line("cloud ✗ reconnecting in 2 s")
            .contains("no route")
    );
    let held = Progress {
        held: true,
        ..progress(1200)
    };
    bench.run_event(id, 3200, evaluating(held));
    assert!(bench.screen().contains("edge ● paused"));
    bench.run_event(id, 3300, connected(Tier::Second));
    assert!(bench.screen().contains("cloud ● connected"));
}

#[test]
fn a_run_ends_beside_the_prediction() {
    let (mut bench, id) = under_way();
    bench.press("1");
    let outcome = crate::predict::Outcome {
        kind: Kind::Measured,
        set: crate::data::Set::Test,
        ..bench.state.derived.predicted.clone().unwrap()
    };
    let measured = Measured {
        plan: bench.state.derived.plan.clone().unwrap(),
        heads: Vec::new(),
        outcome,
        original: None,
        cloud_only: None,
        edge_only: None,
        cloud_only_jpeg: None,
    };
    let results = Results {
        measured: Some(measured),
        ..Results::default()
    };
    bench.tell(Msg::RunEnded(id, 5000, false, Ok(Box::new(results))));
    let accuracy = bench.field("accuracy ");
    assert_eq!(accuracy.matches('%').count(), 3, "{accuracy}");
    assert!(bench.line("calib. 1000").contains("test 1000"));
    // Another plan than the measured one is told.
    bench.press("[");
    assert!(bench.screen().contains("≠ measured"));
    bench.press("ruq");
    assert!(bench.screen().contains("1 running"));
    bench.press("s");
    assert!(bench.quit);
}

#[test]
fn runs_stop_fail_and_are_compared() {
    let mut bench = Bench::new(80, 24);
    bench.press("rx");
    assert!(bench.effects.iter().any(|e| matches!(e, Effect::Stop(1))));
    bench.tell(Msg::RunEnded(1, 10, true, Err(JobError::Stopped)));
    bench.press("r");
    bench.tell(Msg::RunEnded(
        2,
        10,
        false,
        Err(JobError::Failed("the edge agent went away".into())),
    ));
    assert!(bench.line("went away").contains('!'));
    bench.press("4c");
    assert!(bench.screen().contains("comparison"));
    bench.press("<esc><ret>");
    assert!(bench.screen().contains("the edge agent went away"));
}

#[test]
fn heads_curves_are_seen_while_they_train() {
    let mut bench = Bench::new(120, 40);
    bench.press("t");
    let id = bench.jobs[0].0;
    assert_eq!(bench.jobs[0].1.goal, Goal::Train);
    bench.run_event(id, 0, Event::Started(Stage::Heads));
    for epoch in 1..=3 {
        let scores = vec![(
            "stage1.0".to_string(),
            1.0 / epoch as f64,
            0.5 + 0.1 * epoch as f64,
        )];
        bench.run_event(
            id,
            100,
            Event::Epoch {
                stage: Stage::Heads,
                epoch,
                epochs: 20,
                scores,
                validation: Vec::new(),
            },
        );
    }
    assert!(bench.screen().contains("80.0 %"));
    assert!(bench.screen().contains("epoch 3 of 20"));
}
