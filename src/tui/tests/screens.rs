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
