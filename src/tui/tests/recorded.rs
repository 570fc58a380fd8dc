//! Runs that were recorded, run elsewhere, wait, or are left behind.

use super::driver::{Bench, network, results};
use crate::event::{Event, Said, Stage};
use crate::plan::Tier;
use crate::session;
use crate::tui::message::{Effect, Msg, Panel, Timer};
use crate::tui::ports::{Goal, JobError, RunningJob};
use crate::tui::work::Results;
use pretty_assertions::assert_eq;
use std::sync::Arc;

fn say(text: &str) -> Event {
    Event::Say(Said {
        stage: Stage::Heads,
        origin: None,
        note: text.into(),
    })
}

fn epoch(epoch: usize, accuracy: f64) -> Event {
    Event::Epoch {
        stage: Stage::Heads,
        epoch,
        epochs: 3,
        scores: vec![("stage1.0".into(), 1.0, accuracy)],
        validation: Vec::new(),
    }
}

/// Twenty seconds of a run, as a session keeps them.
fn recorded() -> Results {
    let network = network();
    let mut kept = session::Results::new((*network.table).clone(), (*network.points).clone());
    kept.keep_journal(&[
        (0.0, Event::Started(Stage::Heads)),
        (1.0, epoch(1, 0.41)),
        (2.0, epoch(2, 0.52)),
        (9.5, epoch(3, 0.63)),
        (20.0, say("the last of it")),
    ])
    .unwrap();
    Results {
        kept: Some(Arc::new(kept)),
        ..results()
    }
}

fn playing_back(size: (u16, u16)) -> Bench {
    let mut bench = Bench::bare(size.0, size.1);
    bench.tell(Msg::Kept(Box::new(recorded())));
    bench.press("4v");
    bench
}

/// The last line.
fn notice(bench: &Bench) -> String {
    bench.screen().lines().last().unwrap().to_string()
}

fn ticks(bench: &mut Bench, count: usize) {
    for _ in 0..count {
        bench.tell(Msg::Timer(Timer::Playback));
    }
}

#[test]
fn the_recorded_run_is_history_and_plays_as_it_went() {
    let mut bench = playing_back((80, 24));
    assert!(bench.line("recorded run · ").contains("0:00 of 0:20"));
    assert!(!bench.screen().contains("41.0 %"));
    ticks(&mut bench, 5);
    assert!(bench.screen().contains("41.0 %"), "{}", bench.screen());
    ticks(&mut bench, 5);
    assert!(bench.screen().contains("52.0 %"));
    assert!(bench.screen().contains("epoch 2 of 3"));
    // Forwards to the third epoch, and back before it.
    bench.press("<right><right>");
    assert!(bench.screen().contains("63.0 %"));
    bench.press("<left>");
    assert!(bench.screen().contains("52.0 %"));
    assert!(!bench.screen().contains("63.0 %"));
    bench.press("<end>");
    assert!(bench.line("recorded run · ").contains("at its end"));
    assert!(bench.screen().contains("the last of it"));
    bench.press("<home>");
    assert!(!bench.screen().contains("41.0 %"));
    // Over: everything is there again.
    bench.press("<esc>");
    assert!(bench.state.playback.is_none());
    assert!(bench.screen().contains("63.0 %"));
}

#[test]
fn a_paused_playback_steps_from_event_to_event_and_stands_still() {
    let mut bench = playing_back((80, 24));
    bench.press("<space>");
    assert!(bench.line("recorded run").contains("paused"));
    ticks(&mut bench, 50);
    assert_eq!(bench.state.playback.as_ref().unwrap().at, 0);
    let at = |b: &Bench| b.state.playback.as_ref().unwrap().at;
    bench.press(".");
    assert_eq!(at(&bench), 1000);
    bench.press("<right>");
    assert_eq!(at(&bench), 2000);
    assert!(bench.screen().contains("52.0 %"));
    bench.press("<space>++");
    ticks(&mut bench, 5);
    assert_eq!(at(&bench), 2000 + 5 * 4 * 200);
    bench.press("----");
    ticks(&mut bench, 1);
    assert_eq!(at(&bench), 6000 + 50);
}

#[test]
fn thresholds_are_tuned_while_a_run_plays() {
    let mut bench = playing_back((120, 40));
    let before = bench.field("offloaded");
    bench.press("5<right><right><right><right>");
    ticks(&mut bench, 5);
    assert!((bench.state.threshold() - 0.74).abs() < 1e-9);
    assert_ne!(before, bench.field("offloaded"));
    assert_eq!(bench.state.playback.as_ref().unwrap().at, 1000);
}

#[test]
fn a_live_run_can_be_played_again_once_it_has_ended() {
    let mut bench = Bench::new(80, 24);
    bench.press("4v");
    assert!(notice(&bench).contains("nothing has run yet"));
    bench.press("t");
    let id = bench.jobs[0].0;
    bench.run_event(id, 0, Event::Started(Stage::Heads));
    bench.run_event(id, 3000, epoch(1, 0.1234));
    bench.press("v");
    assert!(notice(&bench).contains("it still runs"));
    bench.tell(Msg::RunEnded(id, 4000, false, Ok(Box::default())));
    bench.press("v");
    assert!(!bench.screen().contains("12.3 %"));
    bench.press("<right>");
    assert!(bench.screen().contains("12.3 %"));
}

#[test]
fn a_session_without_a_record_says_so_when_it_is_to_be_played() {
    let mut bench = Bench::bare(80, 24);
    bench.state.playback_speed = Some(2.0);
    bench.tell(Msg::Kept(Box::new(results())));
    assert!(bench.line("no recorded run").contains('!'));
    let mut bench = Bench::bare(80, 24);
    bench.state.playback_speed = Some(2.0);
    bench.tell(Msg::Shipped(Box::new(recorded())));
    assert_eq!(bench.state.playback.as_ref().unwrap().speed, 2.0);
    assert_eq!(bench.state.focus, Panel::Runs);
    assert!(bench.jobs.is_empty(), "a playback leaves the machine alone");
}

#[test]
fn shipped_numbers_are_told_apart_until_this_machine_is_profiled() {
    let mut bench = Bench::bare(120, 40);
    bench.tell(Msg::Shipped(Box::new(recorded())));
    assert!(bench.line("1 Layers").contains("(shipped)"));
    assert!(bench.screen().contains("from another machine"));
    assert!(bench.line("recorded run").contains("on "));
    let (id, job) = bench.jobs[0].clone();
    assert_eq!(job.goal, Goal::Profile);
    // Nobody asked for it, so it asks nobody.
    let shown = bench.state.focus;
    let faster = crate::device::Profile {
        device: "this one".into(),
        ..results().profile(Tier::First).unwrap().clone()
    };
    let before = bench.state.results.profiles[0].clone();
    for part in [Tier::First, Tier::Second] {
        let profile = Box::new(faster.clone());
        bench.run_event(id, 100, Event::Profiled { part, profile });
    }
    assert_ne!(bench.state.results.profiles[0], before);
    assert!(bench.line("1 Layers").contains("timed on this one"));
    assert!(!bench.line("1 Layers").contains("(shipped)"));
    assert_eq!(bench.state.focus, shown);
    bench.press("q");
    assert!(bench.quit);
}

#[test]
fn what_is_asked_for_goes_before_the_profile_in_the_background() {
    let mut bench = Bench::bare(120, 40);
    bench.tell(Msg::Shipped(Box::new(recorded())));
    let background = bench.jobs[0].0;
    bench.press("r");
    let stopped = |e: &Effect| matches!(e, Effect::Stop(id) if *id == background);
    assert!(bench.effects.iter().any(stopped));
    assert_eq!(bench.jobs[1].1.goal, Goal::Run);
    // Its end is no news.
    let stop = Err(JobError::Stopped);
    bench.tell(Msg::RunEnded(background, 10, true, stop));
    assert!(bench.screen().contains("run 2 started"));
}

#[test]
fn bars_fill_in_while_a_profile_goes_on() {
    let mut bench = Bench::bare(80, 24);
    bench.press("p");
    assert!(bench.screen().contains("edge –"));
    let profile = Box::new(results().profile(Tier::First).unwrap().clone());
    let part = Tier::First;
    bench.run_event(1, 10, Event::Profiled { part, profile });
    assert!(!bench.screen().contains("edge –"), "{}", bench.screen());
    assert!(bench.screen().contains("cloud –"));
}

#[test]
fn results_of_another_session_stay_out_of_this_one() {
    let mut bench = Bench::bare(120, 40);
    bench.press("p");
    bench.state.opened += 1;
    let profile = Box::new(results().profile(Tier::First).unwrap().clone());
    let part = Tier::First;
    bench.run_event(1, 10, Event::Profiled { part, profile });
    bench.tell(Msg::RunEnded(1, 20, false, Ok(Box::new(results()))));
    assert_eq!(bench.state.results.profile(Tier::First), None);
    assert_eq!(bench.state.results.calibration, None);
}

#[test]
fn a_job_that_went_less_far_takes_nothing_from_what_is_kept() {
    let mut bench = Bench::bare(80, 24);
    bench.tell(Msg::Kept(Box::new(recorded())));
    let network = network();
    let less = session::Results::new((*network.table).clone(), (*network.points).clone());
    let less = Results {
        kept: Some(Arc::new(less)),
        ..Results::default()
    };
    bench.press("p");
    bench.tell(Msg::RunEnded(1, 20, false, Ok(Box::new(less))));
    let kept = bench.state.results.kept.clone().unwrap();
    assert_eq!(kept.journal().unwrap().len(), 5);
}

#[test]
fn leaving_a_run_asks_whether_it_is_to_finish() {
    let mut bench = Bench::new(80, 24);
    bench.press("rq");
    assert!(bench.screen().contains("1 running"));
    bench.press("n");
    assert!(!bench.quit);
    bench.press("qf");
    assert!(bench.quit);
    assert!(bench.effects.iter().any(|e| matches!(e, Effect::Leave(1))));
    let mut bench = Bench::new(80, 24);
    bench.press("rqs");
    assert!(bench.quit);
    assert!(!bench.effects.iter().any(|e| matches!(e, Effect::Leave(_))));
}

#[test]
fn a_lost_terminal_leaves_the_run_to_finish() {
    let mut bench = Bench::new(80, 24);
    bench.press("r");
    bench.tell(Msg::HangUp);
    assert!(bench.effects.iter().any(|e| matches!(e, Effect::Leave(1))));
}

#[test]
fn a_run_that_goes_on_elsewhere_is_joined() {
    let mut bench = Bench::new(80, 24);
    let goal = Goal::Run;
    bench.tell(Msg::Running(RunningJob { pid: 4711, goal }));
    assert!(bench.line("goes on in process 4711").contains("run 1"));
    let joined = |e: &Effect| matches!(e, Effect::Join { id: 1, .. });
    assert!(bench.effects.iter().any(joined));
    bench.run_event(1, 500, say("from elsewhere"));
    bench.press("4");
    assert!(bench.line("run 1").contains("running in process 4711"));
    assert!(bench.screen().contains("from elsewhere"));
    // It needs nobody here: leaving asks nothing, x stops it.
    bench.press("x");
    assert!(bench.effects.iter().any(|e| matches!(e, Effect::Stop(1))));
    bench.press("q");
    assert!(bench.quit);
}

#[test]
fn a_run_pauses_and_goes_on() {
    let mut bench = Bench::new(80, 24);
    let asked = |b: &Bench, waits| {
        let effect = b
            .effects
            .iter()
            .rev()
            .find(|e| matches!(e, Effect::Pause(..)));
        matches!(effect, Some(Effect::Pause(1, w)) if *w == waits)
    };
    bench.press("4r<space>");
    assert!(asked(&bench, true));
    bench.press("<esc>");
    assert!(bench.line("run 1").contains("pauses at its next sample"));
    bench.run_event(1, 10, Event::Paused(true));
    assert!(bench.line("run 1").contains("paused"));
    bench.press("<space>");
    assert!(asked(&bench, false));
    bench.run_event(1, 20, Event::Paused(false));
    bench.press("<esc>");
    assert!(bench.line("run 1").contains("running"));
    // One that somebody else paused goes on by the same key.
    bench.run_event(1, 30, Event::Paused(true));
    bench.press("<space>");
    assert!(asked(&bench, false));
}
