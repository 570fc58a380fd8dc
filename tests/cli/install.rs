//! `scripts/install.sh`, from the folder of an unpacked tarball, with a program in it that does nothing.

use pretty_assertions::assert_eq;
use rstest::rstest;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const UNIT: &str = "edgelesspart-agent.service";

/// The folder of a tarball.
fn unpacked() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::copy(here.join("scripts/install.sh"), at("install.sh")).unwrap();
    fs::copy(here.join("assets").join(UNIT), at(UNIT)).unwrap();
    fs::write(at("edgelesspart"), "#!/bin/sh\necho edgelesspart 0.0.0\n").unwrap();
    fs::set_permissions(at("edgelesspart"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(at("man")).unwrap();
    fs::write(at("man/edgelesspart.1"), "").unwrap();
    fs::create_dir_all(at("completions")).unwrap();
    for shell in ["bash", "zsh", "fish"] {
        fs::write(at("completions").join(format!("edgelesspart.{shell}")), "").unwrap();
    }
    folder
}

/// Installs below `root`, and gives what was said; `None` where this system or user doesn't do.
fn install(root: &Path, prefix: &str) -> Option<String> {
    let user = Command::new("id").arg("-u").output().unwrap();
    let libc = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    if user.stdout != b"0\n" || !libc.is_ok_and(|out| out.status.success()) {
        println!("skipped: only root of a system with glibc installs a service");
        return None;
    }
    let package = unpacked();
    let out = Command::new(package.path().join("install.sh"))
        .args(["--prefix", prefix])
        .env("DESTDIR", root)
        .output()
        .unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.success(), "{said}");
    Some(said)
}

#[rstest]
#[case::own("/usr", Some(("/usr/lib/systemd/system", "edgelesspart")))]
#[case::local("/usr/local/", Some(("/usr/local/lib/systemd/system", "edgelesspart")))]
#[case::other("/opt/edgelesspart", Some(("/etc/systemd/system", "/opt/edgelesspart/bin/edgelesspart")))]
#[case::hidden_from_the_service("/root/tools", None)]
#[case::not_to_be_spelled("/opt/a b", None)]
fn the_unit_lies_where_systemd_reads_it_and_finds_the_program(
    #[case] prefix: &str,
    #[case] expected: Option<(&str, &str)>,
) {
    let root = tempfile::tempdir().unwrap();
    let Some(said) = install(root.path(), prefix) else {
        return;
    };
    let below = |path: &str| root.path().join(path.trim_start_matches('/'));
    assert!(below(prefix).join("bin/edgelesspart").is_file(), "{said}");
    let folders = [
        "/usr/lib/systemd/system",
        "/usr/local/lib/systemd/system",
        "/etc/systemd/system",
    ];
    let found = folders.iter().find_map(|folder| {
        let text = fs::read_to_string(below(folder).join(UNIT)).ok()?;
        let program = text.split_once("\nExecStart=")?.1.split_once(' ')?.0;
        Some((*folder, program.to_string()))
    });
    let expected = expected.map(|(folder, program)| (folder, program.to_string()));
    assert_eq!(found, expected, "{said}");
    assert_eq!(
        said.contains("is not installed"),
        expected.is_none(),
        "{said}"
    );
}

#[test]
fn a_unit_of_somebody_else_stays_and_its_own_is_written_anew() {
    let root = tempfile::tempdir().unwrap();
    let unit = root.path().join("etc/systemd/system").join(UNIT);
    if install(root.path(), "/opt/a").is_none() {
        return;
    }
    install(root.path(), "/opt/b").unwrap();
    let text = fs::read_to_string(&unit).unwrap();
    assert!(
        text.contains("\nExecStart=/opt/b/bin/edgelesspart "),
        "{text}"
    );
    fs::write(&unit, "mine").unwrap();
    let said = install(root.path(), "/opt/a").unwrap();
    assert_eq!(fs::read_to_string(&unit).unwrap(), "mine");
    assert!(said.contains("is not install.sh's and stays"), "{said}");
}
