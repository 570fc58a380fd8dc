//! What every command says of itself: people read it, and completions, pages and scripts are made of it.

use std::process::Command;

/// A command's `--help`, at the width that a pipe gets.
pub(super) fn help(path: &[String]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_edgelesspart"))
        .args(path)
        .arg("--help")
        .env_remove("COLUMNS")
        .output()
        .unwrap();
    assert!(output.status.success(), "{path:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The names in the list of commands.
pub(super) fn commands(help: &str) -> Vec<String> {
    let list = help.lines().skip_while(|l| *l != "Commands:").skip(1);
    // A line of a name has two spaces before it, what goes on of the line above has more.
    let names = list
        .take_while(|l| l.starts_with("  "))
        .filter(|l| !l.starts_with("   "))
        .filter_map(|l| l.split_whitespace().next());
    names.filter(|n| *n != "help").map(str::to_string).collect()
}

fn check(path: &[String]) {
    let text = help(path);
    let name = [&["edgelesspart".to_string()], path].concat().join("-");
    insta::assert_snapshot!(name, text);
    for command in commands(&text) {
        check(&[path, &[command]].concat());
    }
}

#[test]
fn every_command_says_what_it_does_and_takes() {
    let top = commands(&help(&[]));
    for known in ["run", "plan", "layers", "agent", "exits", "tui"] {
        assert!(top.iter().any(|c| c == known), "{known} is not in {top:?}");
    }
    check(&[]);
}
