//! Completions and manual pages: they must know every command that the help knows.

use crate::help::{commands, help};
use rstest::rstest;
use std::collections::BTreeSet;
use std::fs::read_to_string;
use std::process::{Command, Output};

fn edgelesspart(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgelesspart"));
    command.args(args).output().unwrap()
}

/// The path of every command, such as `[exits, check]`; that of the program itself is empty.
fn tree(path: &[String], found: &mut Vec<Vec<String>>) {
    found.push(path.to_vec());
    for command in commands(&help(path)) {
        tree(&[path, &[command]].concat(), found);
    }
}

#[rstest]
#[case::bash("bash", "complete -F")]
#[case::zsh("zsh", "#compdef edgelesspart")]
#[case::fish("fish", "complete -c edgelesspart")]
#[case::elvish("elvish", "edit:completion:arg-completer[edgelesspart]")]
#[case::powershell("powershell", "Register-ArgumentCompleter")]
fn a_completion_script_knows_every_command(#[case] shell: &str, #[case] of_the_shell: &str) {
    let output = edgelesspart(&["completions", shell]);
    assert!(output.status.success());
    let script = String::from_utf8(output.stdout).unwrap();
    assert!(script.contains(of_the_shell));
    for command in commands(&help(&[])) {
        assert!(script.contains(&command), "{command}");
    }
}

#[test]
fn bash_completes_what_the_script_says() {
    let Ok(bash) = Command::new("bash").arg("--version").output() else {
        eprintln!("not run: no bash here");
        return;
    };
    assert!(bash.status.success());
    let script = edgelesspart(&["completions", "bash"]).stdout;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), script).unwrap();
    let ask = "source \"$0\"; COMP_WORDS=(edgelesspart exits che); COMP_CWORD=2; \
               _edgelesspart edgelesspart che exits; echo \"${COMPREPLY[*]}\"";
    let mut command = Command::new("bash");
    command.args(["--norc", "-c", ask]).arg(file.path());
    let said = command.output().unwrap();
    assert_eq!(String::from_utf8(said.stdout).unwrap().trim(), "check");
}

#[test]
fn there_is_a_page_per_command_with_all_its_options() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("made/here");
    let output = edgelesspart(&["man", "--out", out.to_str().unwrap()]);
    assert!(output.status.success());
    assert!(output.stdout.is_empty());
    let mut paths = Vec::new();
    tree(&[], &mut paths);
    let name = |path: &Vec<String>| {
        [&["edgelesspart".to_string()], &path[..]]
            .concat()
            .join("-")
    };
    let wanted: BTreeSet<String> = paths.iter().map(|p| name(p) + ".1").collect();
    let names = std::fs::read_dir(&out)
        .unwrap()
        .map(|e| e.unwrap().file_name());
    let found: BTreeSet<String> = names.map(|n| n.into_string().unwrap()).collect();
    assert_eq!(found, wanted);
    for path in &paths {
        let page = read_to_string(out.join(name(path) + ".1")).unwrap();
        assert!(page.contains(&format!(".TH {} 1 ", name(path))), "{page}");
        let plain = page.replace('\\', "");
        let help = help(path);
        let options = help.split_whitespace().filter(|w| w.starts_with("--"));
        for option in options {
            let option = option.trim_matches(|c: char| c != '-' && !c.is_ascii_alphanumeric());
            assert!(
                plain.contains(option),
                "{option} is not in the page of {path:?}"
            );
        }
    }
    let own = read_to_string(out.join("edgelesspart.1")).unwrap();
    for section in ["EXIT STATUS", "ENVIRONMENT", "EDGELESSPART_AGENT_TOKEN"] {
        assert!(own.contains(section), "{section}");
    }
    assert_eq!(edgelesspart(&["man"]).stdout, own.as_bytes());
}

#[test]
fn pages_that_can_t_be_written_are_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let output = edgelesspart(&["man", "--out", path]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains(path));
}
