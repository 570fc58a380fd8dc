//! What keys do, one test a story.

use super::driver::{Bench, results};
use crate::exits::Classifier;
use crate::plan::Tier;
use crate::plan::{Placement, Split, SplitRule};
use crate::predict::Kind;
use crate::tui::command::{COMMANDS, key_table};
use crate::tui::message::{Content, Effect, Msg, Over, Panel};
use pretty_assertions::assert_eq;
use ratatui::style::{Color, Modifier};

#[test]
fn every_number_follows_the_split_in_the_same_frame() {
    let mut bench = Bench::new(120, 40);
    let before = (
        bench.field("bytes/sample"),
        bench.field("edge memory"),
        bench.line("┄┄ split"),
    );
    bench.press("[");
    let after = (
        bench.field("bytes/sample"),
        bench.field("edge memory"),
        bench.line("┄┄ split"),
    );
    assert_ne!(before.0, after.0);
    assert_ne!(before.1, after.1);
    assert!(matches!(
        bench.state.document.session.splits[0],
        SplitRule::After(_)
    ));
    bench.press("u");
    assert_eq!(before.0, bench.field("bytes/sample"));
    assert_eq!(
        bench.state.document.session.splits[0],
        SplitRule::Memory { share: 0.7 }
    );
    bench.press("U");
    assert_eq!(after.0, bench.field("bytes/sample"));
}

#[test]
fn an_illegal_place_says_why() {
    let mut bench = Bench::new(120, 40);
    let table = &bench.state.network.as_ref().unwrap().table;
    let inner = table.layers.iter().position(|l| !l.is_cut).unwrap();
    let (name, why) = (
        table.layers[inner].name.clone(),
        table.layers[inner].why_not.clone(),
    );
    bench.state.layers.cursor = inner;
    bench.press("s");
    let notice = bench.line("no split after");
    assert!(
        notice.contains(&name) && notice.contains(&why.clone().unwrap()),
        "{notice}"
    );
    assert!(!bench.state.document.is_unsaved());
    bench.press("e");
    assert!(bench.line("no exit after").contains(&why.unwrap()));
}

#[test]
fn the_split_walks_from_cloud_only_to_edge_only() {
    let mut bench = Bench::new(80, 24);
    let cuts = bench.state.network.as_ref().unwrap().table.splits().count();
    bench.press(&"[".repeat(cuts + 2));
    let split = |b: &Bench| b.state.derived.plan.as_ref().unwrap().splits[0];
    assert_eq!(split(&bench), Split::Start);
    for _ in 0..cuts {
        bench.press("]");
        assert!(matches!(split(&bench), Split::After(_)));
    }
    bench.press("]");
    assert_eq!(split(&bench), Split::End);
    assert!(bench.state.derived.predicted.is_some());
}

#[test]
fn exits_are_set_removed_and_moved_by_hand() {
    let mut bench = Bench::new(120, 40);
    let exits = |b: &Bench| -> Vec<usize> {
        let plan = b.state.derived.plan.as_ref().unwrap();
        plan.exits.iter().map(|e| e.layer).collect()
    };
    bench.press("2P1");
    let spread = exits(&bench);
    assert!(spread.len() >= 3, "{spread:?}");
    bench.state.layers.cursor = spread[0];
    bench.press("e");
    assert_eq!(exits(&bench), spread[1..]);
    assert!(bench.line("rule ").contains("exits by hand"));
    bench.press("e");
    assert_eq!(exits(&bench), spread);
    let points: Vec<usize> = bench
        .state
        .network
        .as_ref()
        .unwrap()
        .points
        .iter()
        .map(|p| p.layer)
        .collect();
    let last = *spread.last().unwrap();
    let free = points
        .iter()
        .rev()
        .find(|p| **p < last && !spread.contains(p))
        .copied();
    bench.state.layers.cursor = last;
    bench.press("<");
    assert_eq!(exits(&bench).contains(&free.unwrap()), true);
    assert!(!exits(&bench).contains(&last));
    // No fourth in one part.
    let edge = |b: &Bench| {
        let plan = b.state.derived.plan.clone().unwrap();
        plan.exits.iter().filter(|e| e.tier == Tier::First).count()
    };
    bench.press("2E");
    for point in points.iter().filter(|p| **p < spread[spread.len() - 1]) {
        if !exits(&bench).contains(point) {
            bench.state.layers.cursor = *point;
            bench.press("e");
        }
    }
    assert_eq!(edge(&bench), 3);
    bench.press("E");
    assert_eq!(exits(&bench), spread);
}

#[test]
fn rules_and_spread_change_by_key() {
    let mut bench = Bench::new(120, 40);
    bench.press("2+");
    assert_eq!(
        bench.state.document.session.splits[0],
        SplitRule::Memory { share: 0.75 }
    );
    bench.press("--n");
    assert_eq!(
        bench.state.document.session.splits[0],
        SplitRule::Memory { share: 0.65 }
    );
    assert_eq!(bench.state.document.session.exits.per_part, 0);
    bench.press("nnPR");
    assert_eq!(bench.state.document.session.exits.per_part, 2);
    assert_eq!(
        bench.state.document.session.exits.placement,
        Placement::Linear
    );
    assert_eq!(
        bench.state.document.session.splits[0],
        SplitRule::Layers { share: 0.65 }
    );
    bench.press("R");
    assert_eq!(bench.state.document.session.splits[0], SplitRule::Latency);
    bench.press("R");
    assert_eq!(bench.state.document.session.splits[0], SplitRule::Fastest);
    assert!(bench.line("Fastest: best predicted").contains("Fastest"));
    // The cheapest plan has no cloud side, and no cut to take over by hand.
    bench.press("RR");
    assert_eq!(
        bench.state.document.session.splits[0],
        SplitRule::Memory { share: 0.7 }
    );
    bench.press("[");
    assert!(matches!(
        bench.state.document.session.splits[0],
        SplitRule::After(_)
    ));
}

#[test]
fn a_rule_without_its_profiles_says_so() {
    let mut bench = Bench::bare(80, 24);
    bench.press("2RR");
    assert!(
        bench.screen().contains("needs a profile of every tier"),
        "{}",
        bench.screen()
    );
    bench.tell(Msg::Kept(Box::new(results())));
    assert!(!bench.screen().contains("needs a profile of every tier"));
}

#[test]
fn nothing_measured_is_a_dash_and_a_key() {
    let bench = Bench::bare(120, 40);
    let line = bench.field("accuracy ");
    assert_eq!(line.matches('–').count(), 3, "{line}");
    assert!(bench.line("no profile:").contains("p times the layers"));
}

#[test]
fn the_threshold_moves_numbers_and_points_but_not_curves() {
    let mut bench = Bench::new(120, 40);
    let before = bench.state.derived.predicted.clone().unwrap();
    let curves = bench.state.tuning.curves.clone();
    bench.press("<right><right>");
    assert!((bench.state.threshold() - 0.72).abs() < 1e-9);
    let after = bench.state.derived.predicted.clone().unwrap();
    assert!(after.offloaded() >= before.offloaded());
    assert_eq!(curves.unwrap().outcomes[72].accuracy, after.accuracy);
    assert_eq!(after.kind, Kind::Predicted);
    // Moves in a row are one step back.
    bench.press("u");
    assert!((bench.state.threshold() - 0.70).abs() < 1e-9);
    bench.press(&"<right>".repeat(80));
    assert_eq!(bench.state.threshold(), 1.0);
    assert_eq!(
        bench.state.derived.predicted.clone().unwrap().offloaded(),
        1.0
    );
}

#[test]
fn one_exit_has_a_threshold_of_its_own_until_it_is_reset() {
    let mut bench = Bench::new(120, 40);
    bench.press("5j<left>");
    let name = bench.state.tuned_exit().unwrap().to_string();
    let policy = &bench.state.document.session.policy;
    assert_eq!(policy.exits, [(name.clone(), 0.69)]);
    assert_eq!(policy.threshold, 0.7);
    assert!(bench.line("5 Threshold 0.69").contains(&name));
    bench.press("<del>");
    assert!(bench.state.document.session.policy.exits.is_empty());
}

#[test]
fn snaps_to_what_was_asked_for() {
    let mut bench = Bench::new(120, 40);
    bench.press("5A90<ret>");
    let outcome = bench.state.derived.predicted.clone().unwrap();
    assert!(outcome.accuracy >= 0.9, "{}", outcome.accuracy);
    let cost = outcome.cost_per_million.unwrap().unrounded;
    let curves = bench.state.tuning.curves.clone().unwrap();
    for o in curves.outcomes.iter().filter(|o| o.accuracy >= 0.9) {
        assert!(o.cost_per_million.unwrap().unrounded >= cost - 1e-9);
    }
    bench.press("A1000<ret>");
    assert!(bench.screen().contains("accuracy lies between"));
    bench.press("<esc>M0.0001<ret>");
    assert!(
        bench
            .line("most accurate within")
            .contains("no threshold gives that")
    );
}

#[test]
fn layers_are_sorted_filtered_folded_and_scaled() {
    let mut bench = Bench::new(120, 40);
    bench.press("SSS");
    let rows = crate::tui::state::layers::rows(&bench.state);
    assert!(rows.windows(2).all(|w| w[0].bytes >= w[1].bytes));
    assert!(bench.line("1 Layers").contains("by memory"));
    bench.press("SS/linear<ret>");
    let rows = crate::tui::state::layers::rows(&bench.state);
    assert_eq!(rows.len(), 1);
    bench.press("<esc>z");
    let all = bench.state.network.as_ref().unwrap().table.layers.len();
    let rows = crate::tui::state::layers::rows(&bench.state);
    assert!(rows.len() < all);
    assert_eq!(rows.iter().map(|r| r.layers.len()).sum::<usize>(), all);
    bench.press("zL");
    assert!(bench.line("1 Layers").contains("log scale"));
    bench.press("<home><ret>");
    assert!(bench.screen().contains("behind it may stand"));
}

#[test]
fn the_table_is_exported_in_the_format_of_the_name() {
    let mut bench = Bench::new(120, 40);
    bench.press("X<ret>");
    let written = |b: &Bench| match b.effects.last() {
        Some(Effect::Write { file, text, .. }) => (file.clone(), text.clone()),
        other => panic!("{other:?}"),
    };
    let (file, csv) = written(&bench);
    assert_eq!(file.to_str(), Some("layers.csv"));
    let layers = bench.state.network.as_ref().unwrap().table.layers.len();
    assert_eq!(csv.lines().count(), layers + 1);
    bench.press("X<c-u>a.json<ret>");
    let json: serde_json::Value = serde_json::from_str(&written(&bench).1).unwrap();
    assert_eq!(json.as_array().unwrap().len(), layers);
    assert!(json[0]["edge_ms"].is_number());
    bench.press("X<c-u>a.txt<ret>");
    assert!(bench.screen().contains("ends in .csv or .json"));
}

#[test]
fn a_bad_edit_is_underlined_and_never_replaces_a_working_head() {
    let mut bench = Bench::new(120, 40);
    let heads = bench.state.editor.heads.clone();
    bench.press("3<ret>");
    // In front of everything, so that the place is known.
    bench.press("<home>");
    bench.press("[Liner(classes)] ");
    assert!(bench.state.editor.error.is_some());
    assert_eq!(bench.state.editor.heads, heads);
    assert_eq!(
        bench.state.document.session.exits.classifier,
        Classifier::Replica
    );
    assert!(bench.line("3 Exits").contains("the last good heads stay"));
    assert!(
        bench.line("did you mean").contains("Linear"),
        "{}",
        bench.screen()
    );
    let cell = bench.cell("Liner");
    assert!(cell.modifier.contains(Modifier::UNDERLINED), "{cell:?}");
    assert_eq!(cell.fg, Color::Red);
    bench.press("<esc>q");
    assert!(bench.line("unsaved edits").contains("Quit without saving"));
    assert!(!bench.quit);
}

#[test]
fn a_good_edit_becomes_the_sessions_and_the_plans_numbers_follow() {
    let mut bench = Bench::new(120, 40);
    bench.press("3T<ret>");
    let Classifier::Template(text) = &bench.state.document.session.exits.classifier else {
        panic!("{:?}", bench.state.document.session.exits.classifier);
    };
    assert!(text.contains("Linear probe"));
    assert!(bench.line("3 Exits").contains("✓"));
    let shown = bench
        .state
        .editor
        .head_at(bench.state.layers.cursor)
        .unwrap();
    assert!(
        shown.shapes.iter().any(|s| s.contains("linear")),
        "{:?}",
        shown.shapes
    );
    bench.press("u");
    assert_eq!(
        bench.state.document.session.exits.classifier,
        Classifier::Replica
    );
    assert!(!bench.state.editor.text().contains("Linear probe"));
    // The editor's own undo knows the way too.
    bench.press("<ret><c-u>");
    assert!(
        bench.state.editor.text().contains("Linear probe"),
        "{}",
        bench.state.editor.text()
    );
}

#[test]
fn a_heavy_head_is_warned_of_where_it_is_written() {
    let mut bench = Bench::new(120, 40);
    let first = bench.state.network.as_ref().unwrap().points[0].layer;
    bench.state.layers.cursor = first;
    bench.press("3<ret>");
    bench.state.editor.area.select_all();
    bench.state.editor.area.cut();
    let source = "[\n  Conv2d(256),\n  GlobalAvgPool,\n  Linear(classes),\n]";
    bench.tell(Msg::Paste(source.into()));
    assert!(bench.state.editor.error.is_none());
    assert!(bench.line("3 Exits").contains("! 4 warned"));
    let cell = bench.cell("Conv2d(256)");
    assert!(cell.modifier.contains(Modifier::UNDERLINED), "{cell:?}");
    assert_eq!(cell.fg, Color::Yellow);
    assert!(bench.line("2:3 ").contains("the head's 33"));
    // It isn't timed yet: what it will take is predicted, and says so.
    assert!(bench.line("edge ≈").contains("cloud ≈"));
    bench.press("<esc>d");
    assert!(bench.screen().contains("2:3: "));
}

#[test]
fn saving_asks_for_a_name_once_and_quitting_is_quiet_after() {
    let mut bench = Bench::new(80, 24);
    bench.press("]wq.ron");
    assert!(bench.screen().contains("save as"));
    bench.press("<c-u>mine.ron<ret>");
    let Some(Effect::Save {
        session,
        file,
        over,
        ..
    }) = bench.effects.last().cloned()
    else {
        panic!("{:?}", bench.effects.last());
    };
    assert_eq!(over, Over::Nothing);
    bench.tell(Msg::Exists {
        file: file.clone(),
        export: false,
    });
    assert!(bench.screen().contains("mine.ron is there already"));
    bench.press("y");
    assert!(matches!(
        bench.effects.last(),
        Some(Effect::Save {
            over: Over::Anything,
            ..
        })
    ));
    bench.tell(Msg::Saved {
        file,
        session,
        content: Content(1),
    });
    assert!(bench.line("saved to").contains("mine.ron"));
    assert!(!bench.state.document.is_unsaved());
    bench.press("q");
    assert!(bench.quit);
}

#[test]
fn a_lost_terminal_keeps_unsaved_edits() {
    let mut bench = Bench::new(80, 24);
    bench.press("]");
    bench.tell(Msg::HangUp);
    assert!(bench.quit && bench.state.gone);
    let kept = bench.effects.iter().rev().find_map(|e| match e {
        Effect::Journal { session, .. } => Some(session.clone()),
        _ => None,
    });
    assert_eq!(*kept.unwrap(), bench.state.document.session);
}

#[test]
fn commands_are_found_by_name_and_run() {
    let mut bench = Bench::new(80, 24);
    bench.press(":go to nowhere");
    assert!(bench.screen().contains("nothing of that name"));
    bench.press("<esc>:threshold-up<ret>");
    assert!((bench.state.threshold() - 0.71).abs() < 1e-9);
    // Of another panel, to which it leads.
    bench.press(":placement");
    assert!(bench.screen().contains("Plan: exits spread"));
    bench.press("<ret>");
    assert_eq!(bench.state.focus, Panel::Plan);
    assert_eq!(
        bench.state.document.session.exits.placement,
        Placement::Linear
    );
}

#[test]
fn tab_goes_round_and_numbers_go_to() {
    let mut bench = Bench::new(120, 40);
    for panel in [
        Panel::Plan,
        Panel::Exits,
        Panel::Runs,
        Panel::Threshold,
        Panel::Layers,
    ] {
        bench.press("<tab>");
        assert_eq!(bench.state.focus, panel);
    }
    bench.press("<s-tab>");
    assert_eq!(bench.state.focus, Panel::Threshold);
    bench.press("7v");
    assert!(
        bench
            .screen()
            .contains("EdgeLessPart session, written by the program")
    );
}

#[test]
fn sides_are_told_by_colour_and_by_sign() {
    let bench = Bench::new(120, 40);
    assert_eq!(bench.cell("edge ━").fg, Color::Green);
    assert_eq!(bench.cell("┃").fg, Color::Red);
    assert_eq!(bench.cell("◆").fg, Color::Yellow);
    // The panel in focus differs in more than colour.
    assert!(bench.cell("┌ 1 Layers").modifier.contains(Modifier::BOLD));
    assert!(!bench.cell("┌ 3 Exits").modifier.contains(Modifier::BOLD));
}

#[test]
fn every_command_can_be_pressed_anywhere_without_harm() {
    for panel in Panel::ALL {
        for command in COMMANDS {
            let mut bench = Bench::new(80, 24);
            bench.state.focus = panel;
            let effects = bench.state.dispatch(command);
            drop(effects);
            bench.screen();
            bench.press("<esc><esc>");
        }
    }
}

#[test]
fn the_docs_have_the_key_table_and_every_theme() {
    let read = |name: &str| {
        let file = format!("{}/docs/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(file).unwrap()
    };
    let table = key_table();
    assert!(
        read("keys.md").contains(&table),
        "put this into docs/keys.md:\n{table}"
    );
    let workbench = read("workbench.md");
    for theme in crate::tui::theme::names() {
        assert!(
            workbench.contains(&format!("`{theme}`")),
            "no theme {theme}"
        );
    }
}
