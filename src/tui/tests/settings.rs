//! The session's page, the palette's arguments, opening sessions, and runs beside each other.

use super::driver::{Bench, results};
use crate::plan::{SplitRule, Tier};
use crate::predict::{Outcome, replay};
use crate::session::catalog::Setting;
use crate::session::{Session, Target};
use crate::tui::command::spoken::{self, Entry};
use crate::tui::message::{Effect, Msg, Source, Tested};
use crate::tui::state::finder::{Folder, Found};
use crate::tui::state::settings::Row;
use crate::tui::work::{Measured, Results};
use pretty_assertions::assert_eq;
use rstest::rstest;
use std::path::Path;

/// The page with the cursor on a setting.
fn at(bench: &mut Bench, path: &str) {
    bench.press("7g");
    for _ in 0..100 {
        if bench.state.setting_row().unwrap().path() == path {
            return;
        }
        bench.press("j");
    }
    panic!("no {path}");
}

#[test]
fn a_setting_is_typed_turned_and_taken_back() {
    let mut bench = Bench::new(80, 24);
    at(&mut bench, "exits.per_part");
    insta::assert_snapshot!("session-80x24", bench.screen());
    bench.press("<ret><bs>4<ret>");
    assert!(
        bench.screen().contains("it may be 0 to 3"),
        "{}",
        bench.screen()
    );
    bench.press("<bs>2<ret>");
    assert_eq!(bench.state.document.session.exits.per_part, 2);
    bench.press("<del>");
    assert_eq!(bench.state.document.session.exits.per_part, 3);
    at(&mut bench, "wire.tensor");
    bench.press("<space>");
    assert!(bench.line("wire.tensor").contains("F16"));
    bench.press("uu");
    assert_eq!(bench.state.document.session.exits.per_part, 2);
}

#[test]
fn a_value_that_is_only_looked_at_stays_as_it_is() {
    let mut bench = Bench::new(120, 40);
    let text = r#"Session(version: 2, model: Onnx("a  b.onnx"), data: ImageFolder("/data/My  photos"),
        name: "it's \"so\"", classes: [("grey  cat", 1), ("o'dog", 0)], jpeg_quality: 77,
        exits: (templates: "/home/o'neil/h", classifier: Template("[\n    Linear(classes),\n]")),
        tiers: [(name: "edge", targets: [Local(), Agent(url: "https://jetson:7070",
            token: File("/etc/my  token"), trust: Ca("o'ca.pem"))]), (name: "cloud", targets: [Local()])])"#;
    let session = Session::parse(text, Path::new("my.ron")).unwrap();
    bench.state.document.session = session.clone();
    bench.press("7g");
    for row in Row::all(&session) {
        assert_eq!(bench.state.setting_row().unwrap().path(), row.path());
        bench.press("<ret><ret>");
        assert!(bench.state.overlay.is_none(), "{}", bench.screen());
        assert_eq!(bench.state.document.session, session, "{}", row.path());
        bench.press("j");
    }
}

#[rstest]
#[case(
    "splits",
    "[Fastest, Latency]",
    "[Memory(share: 0.35), Memory(share: 0.7)]"
)]
#[case(
    "links",
    "[Measured, Emulated(mbit: 40, rtt_ms: 12)]",
    "[Measured, Measured]"
)]
fn what_there_is_of_for_each_tier_is_taken_back_for_three(
    #[case] path: &str,
    #[case] other: &str,
    #[case] usual: &str,
) {
    let mut bench = Bench::new(120, 40);
    let three = bench.state.document.session.with_tier("Local()").unwrap();
    bench.state.take_session(three);
    at(&mut bench, path);
    bench.press(&format!("<ret><c-u>{other}<ret>"));
    assert!(bench.line(path).contains('•'), "{}", bench.screen());
    bench.press("<del>");
    let setting = Setting::find(path).unwrap();
    assert_eq!(setting.text(&bench.state.document.session), usual);
    let line = bench.line(path);
    assert!(line.contains(usual) && !line.contains('•'), "{line}");
    let told = format!("usually {usual}");
    assert!(bench.screen().contains(&told), "{}", bench.screen());
}

#[test]
fn targets_are_added_tested_and_removed() {
    let mut bench = Bench::new(120, 40);
    at(&mut bench, "tiers[0].name");
    bench.press("ahttps://jetson:7070 EDGE_TOKEN<ret>");
    let edge = |bench: &Bench| bench.state.document.session.targets(Tier::First).to_vec();
    assert!(matches!(&edge(&bench)[1], Target::Agent { url, .. } if url == "https://jetson:7070"));
    at(&mut bench, "tiers[0].targets[1]");
    bench.press("c");
    let Some(Effect::Test { number, targets }) = bench.effects.last().cloned() else {
        panic!("{:?}", bench.effects.last());
    };
    assert_eq!(targets.len(), 1);
    bench.tell(Msg::Tested(number, targets[0].0, Tested::Reached));
    assert!(bench.line("targets[1]").contains("reached"));
    bench.press("x");
    assert!(bench.line("targets[1]").contains("stopped"));
    // The word of a stopped test isn't taken for anything.
    let late = Tested::Failed("late".into());
    bench.tell(Msg::Tested(number, targets[0].0, late));
    assert!(bench.line("targets[1]").contains("stopped"));
    bench.press("D");
    assert_eq!(edge(&bench).len(), 1);
}

#[test]
fn what_was_measured_goes_with_the_devices_and_comes_back_with_none() {
    let mut bench = Bench::new(120, 40);
    assert!(bench.state.derived.predicted.is_some());
    at(&mut bench, "tiers[0].targets[0]");
    bench.press("<ret><c-u>Local(cores: [1])<ret>");
    // Another edge was never profiled; the tables stay, and so does the cloud's profile.
    assert!(bench.state.derived.predicted.is_none());
    assert!(bench.state.results.calibration.is_some());
    assert!(bench.state.results.profile(Tier::Second).is_some());
    let asked = |e: &Effect| matches!(e, Effect::Reload { network: false, .. });
    assert!(bench.effects.iter().any(asked));
    at(&mut bench, "model");
    bench.press("<ret><c-u>Demo<ret>");
    assert!(bench.state.network.is_none());
    assert!(bench.state.results.calibration.is_none());
}

#[rstest]
#[case(":threshold 0.9<ret>", |b: &Bench| b.state.document.session.policy.threshold == 0.9)]
#[case(":memory 0.5<ret>", |b: &Bench| {
    b.state.document.session.splits[0] == SplitRule::Memory { share: 0.5 }
})]
#[case(":exits.placement L<tab><ret>", |b: &Bench| {
    Setting::find("placement").unwrap().text(&b.state.document.session) == "Linear"
})]
#[case(":theme mono<ret>", |b: &Bench| b.state.theme_name == "mono")]
#[case(":open my.ron<ret>", |b: &Bench| {
    b.effects.iter().any(|e| matches!(e, Effect::Open(Source::File(f)) if f.ends_with("my.ron")))
})]
#[case(":threshold 2<ret>", |b: &Bench| b.screen().contains("it may be 0 to 1"))]
fn the_palette_takes_arguments(#[case] keys: &str, #[case] holds: fn(&Bench) -> bool) {
    let mut bench = Bench::new(80, 24);
    bench.press(keys);
    assert!(holds(&bench), "{}", bench.screen());
}

#[rstest]
// A search of two words, the first of which takes an argument, finds what it names.
#[case("threshold down", "threshold-down")]
#[case("exits spread", "placement")]
#[case("layers filter", "filter")]
// What is an argument, or was begun as one, comes first, and the search below it.
#[case("threshold 0.9", "policy.threshold 0.9")]
#[case("threshold 2", "policy.threshold 2")]
#[case("exits.placement L", "exits.placement L")]
#[case("filter layers", "filter layers")]
fn the_palette_finds_words_and_takes_arguments(#[case] typed: &str, #[case] first: &str) {
    let bench = Bench::new(80, 24);
    let found = spoken::entries(&bench.state, typed);
    let lines: Vec<String> = found.iter().map(Entry::line).collect();
    assert_eq!(lines[0], first, "{lines:?}");
    let own = crate::tui::command::search(&bench.state, typed);
    for command in own {
        assert!(lines.iter().any(|line| line == command.name), "{lines:?}");
    }
}

#[test]
fn the_palette_shows_the_command_line_with_what_is_not_saved() {
    let mut bench = Bench::new(80, 24);
    bench.press(":exits.per_part 2<ret>:threshold 0.9");
    let line = "edgelesspart run --set 'exits.per_part=2' --set 'policy.threshold=0.9'";
    // What doesn't fit is cut at its beginning.
    assert!(
        bench.screen().contains("2' --set 'policy.threshold=0.9'"),
        "{}",
        bench.screen()
    );
    bench.press("<c-y>");
    let copied = |e: &Effect| matches!(e, Effect::Clip(text) if text == line);
    assert!(bench.effects.iter().any(copied));
}

#[test]
fn sessions_are_found_by_letters_and_by_path() {
    let mut bench = Bench::new(80, 24);
    bench.press("o");
    bench.tell(Msg::Sessions(Found {
        recent: vec!["/home/me/jetson.ron".into()],
        below: vec!["sessions/cifar.ron".into(), "runs/demo/session.ron".into()],
    }));
    bench.press("cfr");
    assert!(bench.screen().contains("sessions/cifar.ron"));
    assert!(!bench.screen().contains("jetson"));
    bench.press("<ret>");
    let opened = |bench: &Bench, name: &str| {
        let file = |e: &Effect| matches!(e, Effect::Open(Source::File(f)) if f.ends_with(name));
        bench.effects.iter().any(file)
    };
    assert!(opened(&bench, "sessions/cifar.ron"));
    bench.press("oruns/");
    let names = ["a.ron", "deep/", "demo/"].map(str::to_owned).to_vec();
    bench.tell(Msg::Names(Folder {
        typed: "runs/".into(),
        names,
    }));
    bench.press("de<tab>");
    assert!(bench.screen().contains("runs/deep/"), "{}", bench.screen());
}

fn measured(bench: &Bench, change: impl Fn(&mut Outcome)) -> Results {
    let plan = bench.state.derived.plan.clone().unwrap();
    let evidence = bench.state.evidence.clone().unwrap();
    let terms = bench.state.document.session.terms();
    let set = crate::data::Set::Calibration;
    let mut outcome = replay(&evidence, &terms, set, &plan).unwrap();
    change(&mut outcome);
    Results {
        measured: Some(Measured {
            plan,
            heads: vec![],
            outcome,
            original: None,
            cloud_only: None,
            cloud_only_jpeg: None,
            edge_only: None,
        }),
        ..results()
    }
}

#[test]
fn several_runs_are_compared_with_their_differences_named() {
    let mut bench = Bench::new(120, 40);
    for (by, id) in [(0.0, 1), (-1.0, 2), (2.0, 3)] {
        bench.press("r");
        let done = measured(&bench, |o| {
            if let Some(latency) = &mut o.latency_ms {
                latency.mean += by;
            }
        });
        bench.tell(Msg::RunEnded(id, 10, false, Ok(Box::new(done))));
    }
    bench.press("4kkmjmjc");
    let screen = bench.screen();
    for words in [
        "run 1",
        "run 2",
        "run 3",
        "faster by 1.00 ms",
        "slower by 2.00 ms",
    ] {
        assert!(screen.contains(words), "{words}\n{screen}");
    }
}
