/*!
Finished stages of a run, kept under its out folder so that a killed run goes on where it stopped.
Each is a file with a hash of what went into it; another hash means the stage is to be done again.
*/

use super::parse::{SessionError, dialect};
use super::save::write_atomically;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// First word of a stage's file, with the number of its form.
const MARK: &str = "edgelesspart-stage-1";

/// A hash of all that a stage's result depends on.
#[derive(Debug, Clone, Default)]
pub struct Inputs(Sha256);

impl Inputs {
    /// Starts a key that nothing has entered.
    pub fn new() -> Self {
        Self::default()
    }

    /// And of this. Lengths are hashed too, so that no two lists of inputs run together.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        for bytes in [name.as_bytes(), value.as_ref()] {
            self.0.update((bytes.len() as u64).to_le_bytes());
            self.0.update(bytes);
        }
        self
    }

    /// The hash, 64 hex digits.
    pub fn key(self) -> String {
        hex::encode(self.0.finalize())
    }
}

/// The folder of a run's finished stages.
#[derive(Debug, Clone)]
pub struct Stages {
    folder: PathBuf,
}

impl Stages {
    /// Opens `out`, made if need be.
    ///
    /// # Errors
    /// The folder can't be made.
    pub fn open(out: &Path) -> Result<Self, SessionError> {
        let folder = out.join("stages");
        std::fs::create_dir_all(&folder).map_err(|source| SessionError::Io {
            file: folder.clone(),
            source,
        })?;
        Ok(Stages { folder })
    }

    /// The same for many results of one kind, in a folder of their own.
    ///
    /// # Errors
    /// The folder can't be made.
    pub fn within(&self, kind: &str) -> Result<Self, SessionError> {
        let folder = self.folder.join(kind);
        std::fs::create_dir_all(&folder).map_err(|source| SessionError::Io {
            file: folder.clone(),
            source,
        })?;
        Ok(Stages { folder })
    }

    /// Lets go of the oldest beyond so many bytes, but of none of `used`.
    ///
    /// # Errors
    /// The folder can't be read, or a file not removed.
    pub fn prune(&self, bound: u64, used: &[String]) -> Result<(), SessionError> {
        let io = |source| SessionError::Io {
            file: self.folder.clone(),
            source,
        };
        let used: Vec<PathBuf> = used.iter().map(|stage| self.file(stage)).collect();
        let mut others = Vec::new();
        let mut bytes = 0;
        for entry in std::fs::read_dir(&self.folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            let (about, path) = (entry.metadata().map_err(io)?, entry.path());
            if !about.is_file() {
                continue;
            }
            bytes += about.len();
            if !used.contains(&path) {
                others.push((about.modified().map_err(io)?, about.len(), path));
            }
        }
        others.sort();
        for (_, len, path) in others {
            if bytes <= bound {
                break;
            }
            std::fs::remove_file(path).map_err(io)?;
            bytes -= len;
        }
        Ok(())
    }

    fn file(&self, stage: &str) -> PathBuf {
        self.folder.join(format!("{stage}.stage"))
    }

    /// The bytes a stage left, if it is finished with these inputs.
    ///
    /// # Errors
    /// The file can't be read, or is damaged.
    pub fn load_bytes(&self, stage: &str, key: &str) -> Result<Option<Vec<u8>>, SessionError> {
        let file = self.file(stage);
        let mut bytes = match std::fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(SessionError::Io { file, source }),
        };
        let damaged = || SessionError::Stage {
            file: self.file(stage),
        };
        let end = bytes.iter().position(|&b| b == b'\n').ok_or_else(damaged)?;
        let head = std::str::from_utf8(&bytes[..end]).map_err(|_| damaged())?;
        let words: Vec<String> = head.split(' ').map(str::to_owned).collect();
        let [mark, inputs, digest] = &words[..] else {
            return Err(damaged());
        };
        bytes.drain(..=end);
        if mark != MARK || *digest != hex::encode(Sha256::digest(&bytes)) {
            return Err(damaged());
        }
        Ok((inputs == key).then_some(bytes))
    }

    /// Keeps what a stage made of these inputs; atomically, over what it made of others.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn store_bytes(&self, stage: &str, key: &str, bytes: &[u8]) -> Result<(), SessionError> {
        let digest = hex::encode(Sha256::digest(bytes));
        let mut whole = format!("{MARK} {key} {digest}\n").into_bytes();
        whole.extend_from_slice(bytes);
        let file = self.file(stage);
        write_atomically(&file, &whole).map_err(|source| SessionError::Io { file, source })
    }

    /// As [`Stages::load_bytes`], read from RON (floats come back exactly).
    ///
    /// # Errors
    /// As there.
    pub fn load<T: DeserializeOwned>(
        &self,
        stage: &str,
        key: &str,
    ) -> Result<Option<T>, SessionError> {
        let Some(bytes) = self.load_bytes(stage, key)? else {
            return Ok(None);
        };
        // Whole by its digest, so only a program with other types can't read it.
        dialect()
            .from_bytes(&bytes)
            .map(Some)
            .map_err(|_| SessionError::Stage {
                file: self.file(stage),
            })
    }

    /// As [`Stages::store_bytes`], written as RON.
    ///
    /// # Errors
    /// As there.
    pub fn store<T: Serialize>(
        &self,
        stage: &str,
        key: &str,
        value: &T,
    ) -> Result<(), SessionError> {
        let text = dialect()
            .to_string(value)
            .map_err(|source| SessionError::Write {
                file: self.file(stage),
                source,
            })?;
        self.store_bytes(stage, key, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_a_bound_the_oldest_go_but_none_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let stages = Stages::open(dir.path()).unwrap().within("heads").unwrap();
        for name in ["a", "b", "c"] {
            stages.store_bytes(name, "k", &[0; 500]).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        stages.prune(1400, &["a".to_string()]).unwrap();
        let there = |name| stages.load_bytes(name, "k").unwrap().is_some();
        assert_eq!([there("a"), there("b"), there("c")], [true, false, true]);
    }

    #[test]
    fn a_finished_stage_is_found_again_by_its_inputs() {
        let dir = tempfile::tempdir().unwrap();
        let stages = Stages::open(&dir.path().join("out")).unwrap();
        let key = Inputs::new().with("model", "a").with("threads", "2").key();
        assert_eq!(stages.load::<Vec<f64>>("profile", &key).unwrap(), None);
        let value = vec![0.1, 1.0 / 3.0, 7e-300];
        stages.store("profile", &key, &value).unwrap();
        assert_eq!(stages.load("profile", &key).unwrap(), Some(value));
        let other = Inputs::new().with("model", "b").with("threads", "2").key();
        assert_eq!(stages.load::<Vec<f64>>("profile", &other).unwrap(), None);
    }

    #[test]
    fn inputs_do_not_run_together() {
        let key = |a: &str, b: &str| Inputs::new().with("x", a).with("y", b).key();
        assert_ne!(key("ab", "c"), key("a", "bc"));
        assert_eq!(key("a", "b"), key("a", "b"));
    }

    #[test]
    fn a_damaged_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let stages = Stages::open(dir.path()).unwrap();
        stages.store_bytes("heads", "k", &[1, 2, 3, 10, 4]).unwrap();
        assert_eq!(
            stages.load_bytes("heads", "k").unwrap().unwrap(),
            [1, 2, 3, 10, 4]
        );
        let file = dir.path().join("stages/heads.stage");
        let whole = std::fs::read(&file).unwrap();
        for cut in [0, 10, whole.len() - 1] {
            std::fs::write(&file, &whole[..cut]).unwrap();
            let text = stages.load_bytes("heads", "k").unwrap_err().to_string();
            assert!(
                text.contains("heads.stage") && text.contains("remove it"),
                "{text}"
            );
        }
    }
}
