//! The order of the rooms in `src/lib.rs` holds, over both packages: no room imports one below it. Reads the sources, so
//! that a back arrow names its file and line.

#![allow(clippy::unwrap_used)] // a failure should stop a test

use std::collections::HashMap;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The rooms in the order of the table in `src/lib.rs`.
fn rooms(lib: &str) -> Vec<String> {
    let row = |line: &str| {
        let name = line.strip_prefix("| [`")?.split('`').next()?;
        Some(name.to_string())
    };
    lib.lines().filter_map(row).collect()
}

/// Whether a file holds tests alone: they may look wherever they need to.
fn is_test(path: &Path) -> bool {
    let name = |part: &std::ffi::OsStr| part == "tests" || part == "tests.rs";
    path.iter().any(name)
}

/// The rooms that a line of code names as `crate::room`, alone or in a list.
fn named(line: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        text[..end.unwrap_or(text.len())].to_string()
    };
    let after = line.split("crate::").skip(1);
    after
        .flat_map(|rest| match rest.strip_prefix('{') {
            Some(list) => list.split(',').map(|item| word(item.trim())).collect(),
            None => vec![word(rest)],
        })
        .filter(|name| !name.is_empty())
        .collect()
}

/// The sources of a package under the repository's root, and those of the rooms that every other knows.
fn packages(root: &Path) -> [PathBuf; 2] {
    ["src", "crates/network/src"].map(|folder| root.join(folder))
}

/// `file:line: room → room` for each import of a room that lies below, in one package's sources.
fn back_arrows(src: &Path, rooms: &[String]) -> Vec<String> {
    let order: HashMap<&str, usize> = rooms.iter().map(String::as_str).zip(0..).collect();
    let mut files = Vec::new();
    sources(src, &mut files);
    let mut found = Vec::new();
    for path in files {
        let inside = path.strip_prefix(src).unwrap();
        let room = inside.iter().next().unwrap().to_string_lossy();
        let room = room.trim_end_matches(".rs").to_string();
        let Some(&own) = order.get(room.as_str()) else {
            continue;
        };
        if is_test(inside) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        // Tests stand at the end of a file.
        let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
        for (number, line) in code.lines().enumerate() {
            let line = line.split("//").next().unwrap();
            for name in named(line) {
                if order.get(name.as_str()).is_some_and(|&other| other > own) {
                    let shown = inside.display();
                    found.push(format!("{shown}:{}: {room} → {name}", number + 1));
                }
            }
        }
    }
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn mapped() -> Vec<String> {
    rooms(&std::fs::read_to_string(root().join("src/lib.rs")).unwrap())
}

#[test]
fn every_room_is_in_the_map() {
    let mut declared: Vec<String> = Vec::new();
    for src in packages(root()) {
        let lib = std::fs::read_to_string(src.join("lib.rs")).unwrap();
        let named = |line: &str| {
            Some(
                line.strip_prefix("pub mod ")?
                    .strip_suffix(';')?
                    .to_string(),
            )
        };
        declared.extend(lib.lines().filter_map(named));
    }
    let mut mapped = mapped();
    declared.sort();
    mapped.sort();
    assert_eq!(mapped, declared);
}

#[test]
fn no_room_imports_one_below_it() {
    let rooms = mapped();
    let found: Vec<String> = packages(root())
        .iter()
        .flat_map(|src| back_arrows(src, &rooms))
        .collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn an_arrow_back_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("high.rs", "use crate::low::Thing;\n");
    write("low.rs", "use crate::{high::Other, low::Own};\n");
    let rooms = rooms("/*!\n| [`low`] | a |\n| [`high`] | b |\n*/\n");
    assert_eq!(back_arrows(folder.path(), &rooms), ["low.rs:1: low → high"]);
}

/// The tests that a row of SECURITY.md's table names: the last parts of what stands in backticks after the promise.
fn promised(row: &str) -> Vec<String> {
    let quoted = row.split('`').skip(1).step_by(2);
    let tests = quoted.filter(|name| !name.contains('/') && !name.starts_with('-'));
    let last = |name: &str| name.rsplit("::").next().unwrap_or(name).to_string();
    tests.map(last).collect()
}

#[test]
fn every_test_that_security_md_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let (_, table) = text.split_once("| promise | test |").unwrap();
    let rows: Vec<&str> = table.lines().filter(|l| l.starts_with("| ")).collect();
    assert!(rows.len() > 15, "{rows:?}");
    let mut files = Vec::new();
    for folder in ["src", "tests", "crates/network/src"] {
        sources(&root.join(folder), &mut files);
    }
    let all: String = files
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    // `faults` and `uploads` are whole files of tests/agents.
    let modules = ["faults", "uploads"];
    for row in rows {
        let named = promised(row);
        assert!(!named.is_empty(), "{row}");
        for name in named
            .iter()
            .filter(|name| !modules.contains(&name.as_str()))
        {
            assert!(all.contains(&format!("fn {name}(")), "{name} in {row}");
        }
    }
}
