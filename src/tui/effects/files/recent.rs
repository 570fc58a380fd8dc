/*! Sessions that were opened: their paths in a file of the user's state folder, the last one first. */

use super::state_folder;
use crate::session::write_atomically;
use std::path::{Path, PathBuf};

/// Paths that are kept.
const MOST: usize = 20;

fn file() -> PathBuf {
    state_folder().join("recent")
}

/// Sessions that were opened and are still there.
pub(super) fn read() -> Vec<PathBuf> {
    listed(&file())
        .into_iter()
        .filter(|f| f.is_file())
        .collect()
}

fn listed(list: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(list).unwrap_or_default();
    text.lines().map(PathBuf::from).collect()
}

/// Notes that a session was opened. A list that can't be written is no reason to bother anybody.
pub(super) fn add(opened: &Path) {
    let _ = add_to(&file(), opened);
}

fn add_to(list: &Path, opened: &Path) -> std::io::Result<()> {
    let opened = std::path::absolute(opened)?;
    let mut all = listed(list);
    all.retain(|other| *other != opened);
    all.insert(0, opened);
    all.truncate(MOST);
    let lines = all.iter().map(|path| format!("{}\n", path.display()));
    if let Some(folder) = list.parent() {
        std::fs::create_dir_all(folder)?;
    }
    write_atomically(list, lines.collect::<String>().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_comes_first_and_once_and_the_list_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("state/recent");
        for name in ["a", "b", "a"] {
            add_to(&list, &Path::new("/x").join(name)).unwrap();
        }
        assert_eq!(listed(&list), [Path::new("/x/a"), Path::new("/x/b")]);
        for i in 0..30 {
            add_to(&list, Path::new(&format!("/y/{i}"))).unwrap();
        }
        let all = listed(&list);
        assert_eq!((all.len(), all[0].clone()), (MOST, PathBuf::from("/y/29")));
    }
}
