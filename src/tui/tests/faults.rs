//! Nothing typed is lost, nobody's work is overwritten in silence, and what terminals and networks do
//! wrong is borne.

use super::driver::{Bench, results};
use crate::event::TargetId;
use crate::event::{Event, Stage};
use crate::exits::Classifier;
use crate::plan::{Remark, Tier};
use crate::predict::{Kind, Outcome};
use crate::protocol::message::{CloudShare, Progress};
use crate::session::Session;
use crate::session::{Target, Trust};
use crate::tui::effects::Files;
use crate::tui::error::FileError;
use crate::tui::message::{Content, Effect, Msg, Over, Recovered, Source, Timer};
use crate::tui::ports::{Job, JobControl, JobError, JobRunner};
use crate::tui::state::overlay::Overlay;
use crate::tui::tests::loops::Idle;
use crate::tui::widgets::number;
use crate::tui::work::{Measured, Results};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use rstest::rstest;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

/// Drafts in the journals that were written, the last one last.
fn journalled(bench: &Bench) -> Vec<Option<String>> {
    let effects = bench.effects.iter();
    effects
        .filter_map(|e| match e {
            Effect::Journal { draft, .. } => Some(draft.clone()),
            _ => None,
        })
        .collect()
}

fn saved(bench: &Bench) -> Vec<(Session, Option<String>)> {
    let effects = bench.effects.iter();
    effects
        .filter_map(|e| match e {
            Effect::Save { session, draft, .. } => Some(((**session).clone(), draft.clone())),
            _ => None,
        })
        .collect()
}

/// Opened from a file, so that saving asks for no name.
fn of_file(columns: u16, rows: u16) -> Bench {
    let mut bench = Bench::new(columns, rows);
    bench.state.document.file = Some("demo.ron".into());
    bench
}

#[test]
fn a_source_that_does_not_check_is_journalled_and_kept_at_a_hang_up() {
    let mut bench = Bench::new(80, 24);
    bench.press("3<ret>(<esc>");
    assert!(bench.screen().contains("finding"), "{}", bench.screen());
    let draft = journalled(&bench).pop().flatten().unwrap();
    assert!(draft.starts_with('('), "{draft}");
    assert!(bench.screen().contains("[unsaved]"));
    bench.effects.clear();
    bench.tell(Msg::HangUp);
    assert_eq!(journalled(&bench), [Some(draft)]);
}

#[test]
fn typing_without_a_rest_does_not_put_the_journal_off() {
    let mut bench = Bench::new(80, 24);
    bench.quiet = true;
    bench.press("3<ret>abc");
    let timers = |e: &&Effect| matches!(e, Effect::Later { timer, .. } if *timer == Timer::Journal);
    assert_eq!(bench.effects.iter().filter(timers).count(), 1);
    bench.tell(Msg::Timer(Timer::Journal));
    assert!(
        journalled(&bench)
            .pop()
            .flatten()
            .unwrap()
            .starts_with("abc")
    );
    bench.press("d");
    assert_eq!(bench.effects.iter().filter(timers).count(), 2);
}

#[test]
fn a_draft_found_in_a_journal_is_offered_and_comes_back() {
    let mut bench = Bench::new(80, 24);
    let session = bench.state.document.session.clone();
    let recovered = Recovered {
        session,
        draft: Some("[GlobalAvgPool, Linear(".into()),
    };
    let effects = bench.state.recover(recovered);
    assert!(!effects.is_empty());
    assert!(bench.state.editor.text().contains("Linear("));
    assert!(bench.state.has_draft());
    // One step back is the text the session has.
    bench.press("3<ret><c-u>");
    assert!(!bench.state.has_draft());
}

#[test]
fn undo_ends_at_the_text_that_was_opened() {
    let mut bench = Bench::new(80, 24);
    let opened = bench.state.editor.text();
    bench.press("3T<ret>");
    let template = bench.state.editor.text();
    assert_ne!(template, opened);
    bench.press("<ret>x<c-u>");
    assert_eq!(bench.state.editor.text(), template);
    bench.press("<c-u>");
    assert_eq!(bench.state.editor.text(), opened);
    bench.press("<c-u><c-u><c-u>");
    assert_eq!(bench.state.editor.text(), opened);
    bench.press("<c-r><c-r>");
    assert!(bench.state.editor.text().contains('x'));
}

#[test]
fn an_emptied_source_is_checked_like_any_other() {
    let mut bench = Bench::new(80, 24);
    let letters = bench.state.editor.text().len();
    bench.press("3<ret>");
    bench.press(&"<del>".repeat(letters + 2));
    assert_eq!(bench.state.editor.text().trim(), "");
    assert!(!bench.state.editor.checking);
    assert!(bench.screen().contains("finding"), "{}", bench.screen());
}

#[test]
fn without_a_network_nothing_is_checked_for_ever() {
    let mut bench = Bench::new(80, 24);
    bench.state.network = None;
    bench.press("3<ret>x");
    assert!(!bench.screen().contains("checking"));
}

#[test]
fn saving_with_a_source_that_does_not_check_says_what_is_not_in_the_file() {
    let mut bench = of_file(120, 40);
    bench.press("3<ret>(<esc>w");
    let (session, draft) = saved(&bench).pop().unwrap();
    assert_eq!(session.exits.classifier, Classifier::Replica);
    assert!(draft.unwrap().starts_with('('));
    bench.tell(Msg::Saved {
        file: "demo.ron".into(),
        session: Box::new(session),
        content: Content(1),
    });
    let notice = bench.line("saved to demo.ron");
    assert!(notice.contains("without the exit source"), "{notice}");
    assert!(bench.screen().contains("[unsaved]"));
}

#[test]
fn saving_while_the_source_is_being_checked_waits_for_it() {
    let mut bench = of_file(80, 24);
    bench.quiet = true;
    bench.press("3<ret>");
    bench.tell(Msg::Paste("// mine\n".into()));
    assert!(bench.state.editor.checking);
    bench.quiet = false;
    bench.press("<c-s>");
    let (session, draft) = saved(&bench).pop().unwrap();
    let Classifier::Template(text) = session.exits.classifier else {
        panic!("{:?}", session.exits.classifier);
    };
    assert!(text.starts_with("// mine"), "{text}");
    assert_eq!(draft, None);
}

#[test]
fn leaving_a_training_to_finish_keeps_the_edits_it_was_started_with() {
    let mut bench = Bench::new(80, 24);
    bench.press("[tqf");
    assert!(bench.quit);
    assert_eq!(journalled(&bench).last(), Some(&None));
    assert!(!bench.effects.iter().any(|e| matches!(e, Effect::Forget(_))));
}

#[test]
fn pasted_carriage_returns_are_ends_of_lines() {
    let mut bench = Bench::new(80, 24);
    bench.press("3<ret>");
    bench.tell(Msg::Paste("// a\r// b\r\n// c\n".into()));
    let lines = bench.state.editor.area.lines();
    assert_eq!(lines[..3], ["// a", "// b", "// c"]);
}

#[test]
fn an_escape_with_a_key_close_behind_is_both() {
    let alt = |c| Msg::Key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::ALT));
    let mut bench = Bench::new(80, 24);
    bench.press("3<ret>");
    bench.tell(alt('4'));
    assert!(!bench.state.editor.typing);
    assert_eq!(bench.state.focus.name(), "Runs");
    bench.press("?");
    bench.tell(alt('1'));
    assert!(bench.state.overlay.is_none());
    assert_eq!(bench.state.focus.name(), "Layers");
}

#[rstest]
#[case("0.91", "91.0 %")]
#[case("91", "91.0 %")]
#[case("91 %", "91.0 %")]
#[case("0.5 %", "0.5 %")]
fn an_accuracy_is_a_share_or_a_percentage(#[case] typed: &str, #[case] meant: &str) {
    let mut bench = Bench::new(120, 40);
    bench.press("5A").press(typed).press("<ret>");
    let notice = bench.state.notice.clone().unwrap().1;
    assert!(notice.contains(meant), "{notice}");
    bench.press("6A").press(typed).press("<ret>");
    let limit = bench.state.explore.limits.accuracy.unwrap();
    assert_eq!(format!("{:.1} %", 100.0 * limit), meant);
}

#[test]
fn what_is_typed_takes_the_place_of_the_name_that_was_offered() {
    let mut bench = Bench::new(80, 24);
    bench.press("Wmine.ron<ret>");
    let to = |e: &Effect| matches!(e, Effect::Save { file, .. } if file == Path::new("mine.ron"));
    assert!(bench.effects.iter().any(to), "{:?}", bench.effects.last());
    // What is only mended stays.
    bench.press("W<bs>x");
    let Some(Overlay::Prompt { input, .. }) = &bench.state.overlay else {
        panic!("no prompt");
    };
    assert_eq!(input.text(), "demo.rox");
}

#[test]
fn a_session_that_cannot_be_opened_is_not_read_for_ever() {
    let mut bench = Bench::new(80, 24);
    bench.state.network = None;
    let error = std::io::Error::other("no such file");
    let file = "gone.ron".into();
    bench.tell(Msg::NotOpened(FileError::Io { file, error }));
    bench.press("1j");
    assert!(bench.line("gone.ron").contains("no such file"));
    assert!(!bench.screen().contains("reading"), "{}", bench.screen());
}

#[test]
fn a_job_that_found_everything_done_before_does_not_pass_for_a_measurement() {
    let mut bench = Bench::new(80, 24);
    bench.press("p");
    let id = bench.jobs[0].0;
    for stage in [Stage::Profile, Stage::Link] {
        bench.run_event(id, 1, Event::Started(stage));
        let outcome = "timed".to_string();
        bench.run_event(
            id,
            2,
            Event::Finished {
                stage,
                outcome,
                kept: true,
                seconds: 0.0,
            },
        );
    }
    bench.tell(Msg::RunEnded(id, 3, false, Ok(Box::new(results()))));
    let notice = bench.state.notice.clone().unwrap().1;
    assert!(notice.contains("nothing was measured"), "{notice}");
}

#[test]
fn no_share_is_more_than_the_whole() {
    let mut bench = Bench::new(120, 40);
    bench.press("4r");
    let id = bench.jobs[0].0;
    let progress = Progress {
        done: 30,
        total: 20,
        offloaded: 60,
        clouds: vec![CloudShare {
            answered: 60,
            ..CloudShare::default()
        }],
        ..Progress::default()
    };
    bench.run_event(id, 10, Event::Started(Stage::Run));
    bench.run_event(id, 20, Event::Evaluating { index: 0, progress });
    let screen = bench.screen();
    assert!(
        !screen.contains("200 %") && !screen.contains("150 %"),
        "{screen}"
    );
    assert!(screen.contains("30 of 30"), "{screen}");
}

/// Files carried out for real, in a folder of their own.
fn files() -> (Files, Receiver<Msg>, tempfile::TempDir) {
    let (tell, told) = channel();
    let folder = tempfile::tempdir().unwrap();
    (Files::new(Arc::new(Idle), tell), told, folder)
}

fn save(file: &Path, session: &Session, over: Over) -> Effect {
    Effect::Save {
        session: Box::new(session.clone()),
        file: file.to_owned(),
        over,
        draft: None,
        journal: file.with_extension("autosave"),
    }
}

#[test]
fn what_somebody_else_wrote_is_not_written_over_unasked() {
    let (mut files, told, folder) = files();
    let file = folder.path().join("my.ron");
    let mut session = Bench::bare(80, 24).state.document.session;
    files.carry_out(save(&file, &session, Over::Nothing));
    let Msg::Saved { content, .. } = told.try_recv().unwrap() else {
        panic!("not saved");
    };
    session.seed += 1;
    files.carry_out(save(&file, &session, Over::Known(content)));
    assert!(matches!(told.try_recv(), Ok(Msg::Saved { .. })));
    // The first content isn't there any more: as if an editor had written it.
    files.carry_out(save(&file, &session, Over::Known(content)));
    assert!(matches!(told.try_recv(), Ok(Msg::Changed(_))));
    files.carry_out(save(&file, &session, Over::Nothing));
    assert!(matches!(told.try_recv(), Ok(Msg::Exists { .. })));
    files.carry_out(save(&file, &session, Over::Anything));
    assert!(matches!(told.try_recv(), Ok(Msg::Saved { .. })));
}

#[test]
fn a_second_workbench_is_told_of_the_first() {
    let (mut first, told, folder) = files();
    let file = folder.path().join("my.ron");
    let session = Bench::bare(80, 24).state.document.session;
    session.save(&file).unwrap();
    first.carry_out(Effect::Open(Source::File(file.clone())));
    let opened = |told: &Receiver<Msg>| match told.try_recv().unwrap() {
        Msg::Opened(opened) => *opened,
        other => panic!("{other:?}"),
    };
    let one = opened(&told);
    let (tell, told) = channel();
    let mut second = Files::new(Arc::new(Idle), tell);
    second.carry_out(Effect::Open(Source::File(file)));
    let two = opened(&told);
    assert_ne!(one.journal, two.journal);
    assert_eq!((one.shared, two.shared), (false, true));
    let mut bench = Bench::bare(120, 40);
    bench.tell(Msg::Opened(Box::new(two)));
    assert!(bench.line("another workbench").contains("is asked"));
}

#[test]
fn both_are_offered_where_a_file_was_changed_by_somebody_else() {
    let offered = || {
        let mut bench = of_file(80, 24);
        bench.press("[w");
        bench.tell(Msg::Changed("demo.ron".into()));
        assert!(bench.screen().contains("changed by somebody else"));
        bench.effects.clear();
        bench
    };
    let mut bench = offered();
    bench.press("o");
    assert!(matches!(
        bench.effects[..],
        [Effect::Save {
            over: Over::Anything,
            ..
        }]
    ));
    let mut bench = offered();
    bench.press("t");
    assert!(matches!(
        bench.effects[..],
        [Effect::Journal { .. }, Effect::Open(Source::File(_))]
    ));
    let mut bench = offered();
    bench.press("aother.ron<ret>");
    let other =
        |e: &Effect| matches!(e, Effect::Save { file, .. } if file == Path::new("other.ron"));
    assert!(bench.effects.iter().any(other));
    let mut bench = offered();
    bench.press("<esc>");
    assert!(bench.effects.is_empty());
}

#[test]
fn an_exported_table_asks_before_it_takes_the_place_of_another_file() {
    let mut bench = Bench::new(80, 24);
    bench.press("Xmine.csv<ret>");
    let over = |b: &Bench| match b.effects.last() {
        Some(Effect::Write { over, .. }) => *over,
        other => panic!("{other:?}"),
    };
    assert!(!over(&bench));
    bench.tell(Msg::Exists {
        file: "mine.csv".into(),
        export: true,
    });
    bench.press("y");
    assert!(over(&bench));
}

#[test]
fn numbers_of_a_run_with_other_heads_are_marked() {
    let mut bench = Bench::new(120, 40);
    let plan = bench.state.derived.plan.clone().unwrap();
    let hash = |b: &Bench, row: usize| {
        let head = b.state.editor.head_at(row).unwrap();
        head.hash.clone()
    };
    let heads = plan.exits.iter().map(|e| hash(&bench, e.layer)).collect();
    let measured = Measured {
        outcome: bench.state.derived.predicted.clone().unwrap(),
        plan,
        heads,
        original: None,
        cloud_only: None,
        edge_only: None,
        cloud_only_jpeg: None,
    };
    bench.tell(Msg::Kept(Box::new(Results {
        measured: Some(measured),
        ..Results::default()
    })));
    assert!(!bench.screen().contains("≠ measured"));
    // Another source makes other heads at the same places.
    bench.press("3T<down><down><ret>");
    assert!(bench.screen().contains("≠ measured"), "{}", bench.screen());
    bench.press("<ret><c-u><esc>");
    assert!(!bench.screen().contains("≠ measured"));
}

#[test]
fn results_of_other_heads_give_way_to_those_of_the_sessions_own() {
    /// What a run with another exit source left here, later than what ships.
    struct Elsewhere;
    impl JobRunner for Elsewhere {
        fn run(
            &self,
            _: &Job,
            _: &mut dyn FnMut(u64, Event),
            _: &JobControl,
        ) -> Result<Results, JobError> {
            Err(JobError::None)
        }

        fn results(&self, _: &Session, _: &Path) -> Results {
            let demo = Session::demo().unwrap();
            let demo_names = demo.tier_names();
            let mut kept = *demo.results.unwrap();
            for head in &mut kept.heads {
                head.hash = "another source's".into();
            }
            for measured in &mut kept.measured {
                measured.at += 1;
            }
            Results::of(&kept, demo_names).unwrap()
        }
    }
    let (tell, told) = channel();
    let mut files = Files::new(Arc::new(Elsewhere), tell);
    files.carry_out(Effect::Open(Source::Demo));
    let messages: Vec<Msg> = told.try_iter().collect();
    let shipped = |m: &Msg| matches!(m, Msg::Shipped(_));
    assert!(messages.iter().any(shipped));
    let tables = |m: &Msg| matches!(m, Msg::Kept(kept) if kept.calibration.is_some());
    assert!(!messages.iter().any(tables));
}

#[test]
fn at_forty_columns_no_numbers_run_into_each_other() {
    let mut bench = Bench::new(40, 24);
    let outcome = Outcome {
        kind: Kind::Measured,
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
    bench.tell(Msg::Kept(Box::new(Results {
        measured: Some(measured),
        ..Results::default()
    })));
    for page in ["1", "2", "5", "6"] {
        bench.press(page);
        let screen = bench.screen();
        for line in screen.lines().skip(2) {
            let unit = line.chars().zip(line.chars().skip(1));
            let mut unit = unit.filter(|(one, next)| *one == 'B' && next.is_ascii_digit());
            assert_eq!(unit.next(), None, "page {page}: {line}");
            // Two numbers in one have two decimal points.
            let words = line.split(|c: char| c.is_whitespace() || "│/".contains(c));
            let is_number = |w: &&str| w.chars().all(|c| c.is_ascii_digit() || c == '.');
            for word in words.filter(is_number) {
                assert!(word.matches('.').count() < 2, "page {page}: {line}");
            }
        }
    }
}

#[test]
fn a_plan_with_more_than_fits_says_so_and_shows_it_zoomed() {
    let mut bench = Bench::new(120, 40);
    let mut plan = bench.state.derived.plan.clone().unwrap();
    plan.remarks = (0..9).map(|i| Remark::Said(format!("note {i}"))).collect();
    bench.state.derived.plan = Some(plan);
    assert!(!bench.screen().contains("note 8"));
    assert!(
        bench.screen().contains("▼ Z shows all"),
        "{}",
        bench.screen()
    );
    bench.press("2Z");
    assert!(bench.screen().contains("note 8"));
}

#[test]
fn a_session_without_preprocessing_is_doubted_in_its_plan_and_in_full_on_its_page() {
    let mut bench = Bench::new(120, 40);
    assert!(!bench.screen().contains("no preprocessing is set"));
    bench.state.document.session.preprocessing = None;
    bench.state.recompute();
    let screen = bench.screen();
    assert!(screen.contains("no preprocessing is set"), "{screen}");
    bench.press("7");
    let screen = bench.screen();
    assert!(screen.contains("`edgelesspart new` finds out"), "{screen}");
}

#[test]
fn a_refused_place_names_the_reason_and_the_nearest_ones() {
    let mut bench = Bench::new(200, 60);
    let table = &bench.state.network.as_ref().unwrap().table;
    let inner = table.layers.iter().position(|l| !l.is_cut).unwrap();
    let after = table.layers[inner..]
        .iter()
        .find(|l| l.split_legal)
        .unwrap();
    let after = after.name.clone();
    bench.state.layers.cursor = inner;
    bench.press("s");
    let notice = bench.line("no split after");
    assert!(
        notice.contains("a skip connection crosses here"),
        "{notice}"
    );
    assert!(notice.contains(&format!("nearest place is after {after}")) || notice.contains(&after));
}

#[test]
fn the_dots_show_which_agents_can_be_reached() {
    let mut bench = Bench::new(120, 40);
    bench.state.document.session.tiers[0].targets = vec![Target::Agent {
        engine: None,
        url: "https://board:7070".into(),
        token: None,
        trust: Trust::System,
    }];
    let id = TargetId {
        part: Tier::First,
        index: 0,
    };
    let head = |b: &Bench| b.screen().lines().next().unwrap().to_string();
    assert!(head(&bench).contains("edge ○"));
    bench.tell(Msg::Reached(vec![(id, true)]));
    assert!(head(&bench).contains("edge ●"));
    bench.tell(Msg::Reached(vec![(id, false)]));
    assert!(head(&bench).contains("edge ✗"));
    let asks = |e: &Effect| matches!(e, Effect::Reach(_));
    assert_eq!(bench.effects.iter().filter(|e| asks(e)).count(), 2);
}

#[test]
fn the_exits_stand_in_a_table_with_share_and_accuracy() {
    let mut bench = Bench::new(120, 40);
    bench.press("2Z");
    let exit = bench.state.derived.predicted.clone().unwrap().exits[0].clone();
    assert!(bench.screen().contains("exit after"), "{}", bench.screen());
    let accuracy = number::percent(exit.accuracy.unwrap());
    let screen = bench.screen();
    let row = |l: &&str| l.contains(&number::percent(exit.share)) && l.contains(&accuracy);
    assert!(screen.lines().any(|l| row(&l)), "{screen}");
}

#[test]
fn a_training_tells_the_time_it_still_takes() {
    let mut bench = Bench::new(120, 40);
    bench.press("4t");
    let id = bench.jobs[0].0;
    bench.run_event(id, 1_000, Event::Started(Stage::Heads));
    let epoch = |epoch| Event::Epoch {
        stage: Stage::Heads,
        epoch,
        epochs: 5,
        scores: vec![("layer1".to_string(), 1.0, 0.5)],
        validation: Vec::new(),
    };
    bench.run_event(id, 11_000, epoch(1));
    bench.run_event(id, 21_000, epoch(2));
    assert!(bench.line("epoch 2 of 5").contains("0:30 left"));
}

#[test]
fn a_training_shows_how_each_exit_does_on_images_it_does_not_learn_from() {
    let mut bench = Bench::new(120, 40);
    bench.press("4t3");
    let id = bench.jobs[0].0;
    bench.run_event(id, 0, Event::Started(Stage::Heads));
    let epoch = |epoch, training, validation| Event::Epoch {
        stage: Stage::Heads,
        epoch,
        epochs: 5,
        scores: vec![("stage1.0".into(), 1.0, training)],
        validation,
    };
    bench.run_event(id, 1_000, epoch(1, 0.5, Vec::new()));
    assert!(bench.line("50.0 %").contains("stage1.0"));
    assert!(!bench.screen().contains("calibration images"));
    bench.run_event(id, 2_000, epoch(2, 0.9, vec![Some(0.4)]));
    bench.run_event(id, 3_000, epoch(3, 0.95, vec![Some(0.8)]));
    assert!(
        bench
            .screen()
            .contains("right on training → calibration images")
    );
    let row = bench.line("95.0 %");
    assert!(row.contains("→  80.0 % ▄█"), "{row}");
}

#[test]
fn every_stage_tells_the_time_it_still_takes() {
    let mut bench = Bench::new(120, 40);
    bench.press("4t");
    let id = bench.jobs[0].0;
    let told = |done, total| Event::Progress {
        stage: Stage::Tables,
        done,
        total,
        note: "images".into(),
    };
    bench.run_event(id, 1_000, Event::Started(Stage::Tables));
    bench.run_event(id, 2_000, told(100, 1000));
    assert!(!bench.line("100 of 1000").contains("left"));
    bench.run_event(id, 4_000, told(300, 1000));
    assert!(bench.line("300 of 1000").contains("0:07 left"));
    // What is counted next has a pace of its own.
    bench.run_event(id, 5_000, told(10, 50));
    assert!(!bench.line("10 of 50").contains("left"));
}

#[test]
fn the_footer_names_a_pages_own_keys_first() {
    let mut bench = Bench::new(80, 24);
    bench.press("1");
    let screen = bench.screen();
    let footer = screen.lines().last().unwrap();
    let at = |what: &str| footer.find(what).unwrap_or(usize::MAX);
    assert!(at("details") < at("threshold"), "{footer}");
    assert!(at("filter") < at("quit"), "{footer}");
}
