/*!
Journals: where unsaved edits are kept while a workbench runs. Each workbench has one of its own, held by
a lock that the system lets go of however it ends, so that two on one session don't write over each
other's edits.
*/

use crate::session::{Session, write_atomically};
use crate::tui::message::Recovered;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// As many workbenches as have a journal of their own on one session.
const MOST: usize = 16;

/// The right to write a journal; its lock file goes when this is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    lock: PathBuf,
    _held: Flock<File>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // While the lock is still held: whoever opened the file meanwhile finds that it is gone.
        let _ = std::fs::remove_file(&self.lock);
    }
}

/// A journal that was claimed.
pub(super) struct Claimed {
    pub file: PathBuf,
    /// None where no lock can be had, as in a folder that can't be written to.
    pub claim: Option<Claim>,
    /// Another workbench has one too.
    pub shared: bool,
}

/// Claims a journal: the first free one that holds something, else the first free one.
pub(super) fn claim(base: &Path) -> Claimed {
    let nth = |n: usize| match n {
        0 => base.to_owned(),
        n => with(base, &format!(".{n}")),
    };
    let mut shared = false;
    let mut free: Option<(PathBuf, Claim)> = None;
    for n in 0..MOST {
        let file = nth(n);
        let holds = file.exists() || draft_of(&file).exists();
        if n > 0 && !holds && free.is_some() {
            continue;
        }
        match lock(&with(&file, ".lock")) {
            Ok(Some(claim)) if holds => {
                return Claimed {
                    file,
                    claim: Some(claim),
                    shared,
                };
            }
            Ok(Some(claim)) => {
                free.get_or_insert((file, claim));
            }
            Ok(None) => shared = true,
            Err(_) => break,
        }
    }
    match free {
        Some((file, claim)) => Claimed {
            file,
            claim: Some(claim),
            shared,
        },
        None => Claimed {
            file: base.to_owned(),
            claim: None,
            shared,
        },
    }
}

/// The lock, unless another process has it.
fn lock(path: &Path) -> io::Result<Option<Claim>> {
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(folder)?;
    }
    loop {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(path)?;
        let Ok(held) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
            return Ok(None);
        };
        // One that its owner took away while we waited for it is nobody's lock.
        let same = match std::fs::symlink_metadata(path) {
            Ok(there) => there.ino() == held.metadata()?.ino(),
            Err(_) => false,
        };
        if same {
            return Ok(Some(Claim {
                lock: path.to_owned(),
                _held: held,
            }));
        }
    }
}

fn with(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Where the exit source is kept while it doesn't check.
fn draft_of(journal: &Path) -> PathBuf {
    with(journal, ".draft")
}

/// Keeps a session's edits. What lies at the path, a planted link too, is replaced, not followed.
pub(super) fn write(journal: &Path, session: &Session, draft: Option<&str>) -> io::Result<()> {
    let folder = journal.parent().filter(|f| !f.as_os_str().is_empty());
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder)?;
    }
    let text = session.to_text().map_err(io::Error::other)?;
    let beside = draft_of(journal);
    // A draft is found by the journal it lies beside, so that a kill in between must leave the journal;
    // and one that is no longer so must not outlive it.
    match draft {
        Some(draft) => {
            write_atomically(journal, text.as_bytes())?;
            write_atomically(&beside, draft.as_bytes())
        }
        None => {
            remove(&beside)?;
            write_atomically(journal, text.as_bytes())
        }
    }
}

/// What a journal holds, if it holds anything.
pub(super) fn read(journal: &Path) -> Option<Recovered> {
    let text = std::fs::read_to_string(journal).ok()?;
    Some(Recovered {
        session: Session::parse(&text, journal).ok()?,
        draft: std::fs::read_to_string(draft_of(journal)).ok(),
    })
}

/// Nothing is unsaved any more.
pub(super) fn forget(journal: &Path) {
    // Mostly there is none.
    let _ = remove(journal);
    let _ = remove(&draft_of(journal));
}

fn remove(file: &Path) -> io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        let text = "Session(version: 1, model: Demo, data: Synthetic(seed: 7))";
        Session::parse(text, Path::new("my.ron")).unwrap()
    }

    #[test]
    fn two_workbenches_on_a_session_have_a_journal_each() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("my.ron.autosave");
        let first = claim(&base);
        let second = claim(&base);
        assert_eq!((first.file.clone(), first.shared), (base.clone(), false));
        assert_ne!(second.file, base);
        assert!(second.shared);
        write(&second.file, &session(), Some("[GlobalAvgPool")).unwrap();
        drop(first);
        drop(second);
        // What the second one left when it was killed is found again.
        let third = claim(&base);
        let found = read(&third.file).unwrap();
        assert_eq!(found.draft.as_deref(), Some("[GlobalAvgPool"));
        forget(&third.file);
        drop(third);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_planted_link_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let precious = folder.path().join("precious");
        std::fs::write(&precious, "mine").unwrap();
        let journal = folder.path().join("my.ron.autosave");
        std::os::unix::fs::symlink(&precious, &journal).unwrap();
        std::os::unix::fs::symlink(&precious, draft_of(&journal)).unwrap();
        write(&journal, &session(), Some("draft")).unwrap();
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "mine");
        assert_eq!(read(&journal).unwrap().draft.as_deref(), Some("draft"));
    }
}
