//! Whole screens, as they are seen.

use super::driver::Bench;

fn shown(name: &str, bench: &Bench) {
    insta::assert_snapshot!(name, bench.screen());
}

#[test]
fn wide() {
    let mut bench = Bench::new(120, 40);
    shown("overview-120x40", &bench);
    bench.tell(crate::tui::message::Msg::Resize(200, 60));
    shown("overview-200x60", &bench);
}

#[test]
fn pages_of_a_small_screen() {
    let mut bench = Bench::new(80, 24);
    for (key, name) in [
        ("1", "layers"),
        ("2", "plan"),
        ("3", "exits"),
        ("4", "runs"),
        ("5", "threshold"),
    ] {
        bench.press(key);
        shown(&format!("{name}-80x24"), &bench);
    }
}

#[test]
fn ascii() {
    let mut bench = Bench::new(120, 40);
    bench.state.ascii = true;
    assert!(bench.screen().is_ascii());
    shown("overview-ascii", &bench);
    bench.press("?");
    assert!(bench.screen().is_ascii());
}

#[test]
fn before_anything_is_measured() {
    let mut bench = Bench::bare(80, 24);
    shown("bare-layers-80x24", &bench);
    bench.press("2");
    shown("bare-plan-80x24", &bench);
    bench.press("5");
    shown("bare-threshold-80x24", &bench);
}

#[test]
fn help_and_palette() {
    let mut bench = Bench::new(80, 24);
    bench.press("2?");
    shown("help-80x24", &bench);
    bench.press("<esc>:split");
    shown("palette-80x24", &bench);
}

#[test]
fn three_tiers() {
    let mut bench = Bench::three(120, 40);
    let screen = bench.screen();
    for words in ["device ━", "device ms", "edge ms", "edge to cloud"] {
        assert!(screen.contains(words), "{words}\n{screen}");
    }
    let rule = |bench: &Bench, at: usize| bench.state.document.session.splits[at].clone();
    let before = [rule(&bench, 0), rule(&bench, 1)];
    // The keys change the first split, until another one is chosen.
    bench.press("2]");
    assert_ne!(rule(&bench, 0), before[0]);
    assert_eq!(rule(&bench, 1), before[1]);
    bench.press("u;]");
    assert_eq!(rule(&bench, 0), before[0]);
    assert_ne!(rule(&bench, 1), before[1]);
    bench.tell(crate::tui::message::Msg::Resize(80, 24));
    let screen = bench.screen();
    // Behind the second split there is no other legal cut: all of the network comes before it.
    assert!(screen.contains("/ ▸memory 100 %"), "{screen}");
    bench.press("1");
    let screen = bench.screen();
    assert!(screen.contains("cloud ms"), "{screen}");
}
