/*!
Where TensorRT keeps the engines that it builds for minutes, so that the next process has them.

ONNX Runtime names an engine by the names of a graph's inputs and values, so two networks of one structure,
and one network for two batch sizes, would share a file and get each other's answers
(microsoft/onnxruntime#6455). Hence a folder of its own for each ONNX file, each kind of extents and each
precision:

```text
f32, or tf32            by NVIDIA_TF32_OVERRIDE: an engine keeps the precision that it was built with
├── *.timing            times of kernels, which are of no network
└── SHA-256 of the file
    ├── one             for one sample
    └── any             for any batch size
```
*/

use super::super::id::{BackendError, BackendId};
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs::create_dir_all;
use std::io;
use std::path::{Path, PathBuf};

/// The folder of all engines of one precision; it is there and can be written to.
#[derive(Debug, Clone)]
pub(super) struct Cache(PathBuf);

impl Cache {
    /// The cache that this process's environment names, made where it isn't there.
    ///
    /// # Errors
    /// Where no variable names a folder, or that folder can't be made or written to.
    pub(super) fn open(name: BackendId, tf32: bool) -> Result<Cache, BackendError> {
        let folder = folder(|variable| std::env::var_os(variable));
        Cache::at(&folder.ok_or(BackendError::NoCache { name })?, name, tf32)
    }

    fn at(folder: &Path, name: BackendId, tf32: bool) -> Result<Cache, BackendError> {
        let precision = if tf32 { "tf32" } else { "f32" };
        let folder = folder.join(precision);
        // TensorRT itself only warns of an engine that it can't write, and builds it again each time.
        let made = create_dir_all(&folder).and_then(|()| tempfile::tempfile_in(&folder));
        match made {
            Ok(_) => Ok(Cache(folder)),
            Err(error) => Err(BackendError::Cache {
                name,
                folder,
                reason: error.to_string(),
            }),
        }
    }

    /// The folder of the timings, which every network may use.
    pub(super) fn timings(&self) -> &Path {
        &self.0
    }

    /// The folder of the engines of an ONNX file for any batch size or, `fixed`, for one sample; made
    /// where it isn't there.
    ///
    /// # Errors
    /// Where it can't be made.
    pub(super) fn engines(&self, file: &[u8], fixed: bool) -> io::Result<PathBuf> {
        let extents = if fixed { "one" } else { "any" };
        let folder = self.0.join(hex::encode(Sha256::digest(file))).join(extents);
        create_dir_all(&folder)?;
        Ok(folder)
    }
}

/// The folder for engines that an environment names: systemd's `CACHE_DIRECTORY` (the first, if there are
/// more), then `XDG_CACHE_HOME`, then `HOME`. None is shared with other users, who could put engines there.
fn folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name: &str| {
        let value = variable(name)?;
        let first = std::env::split_paths(&value).next()?;
        first.is_absolute().then_some(first)
    };
    let service = || Some(absolute("CACHE_DIRECTORY")?.join("tensorrt"));
    let named = || Some(absolute("XDG_CACHE_HOME")?.join("edgelesspart/tensorrt"));
    let home = || Some(absolute("HOME")?.join(".cache/edgelesspart/tensorrt"));
    service().or_else(named).or_else(home)
}

#[cfg(test)]
mod tests {
    use super::super::super::id::Provider;
    use super::*;
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    const NAME: BackendId = BackendId::OnnxRuntime(Provider::TensorRt(0));

    #[rstest]
    #[case::nothing(&[], None)]
    #[case::home(&[("HOME", "/home/a")], Some("/home/a/.cache/edgelesspart/tensorrt"))]
    #[case::named(&[("HOME", "/home/a"), ("XDG_CACHE_HOME", "/c")], Some("/c/edgelesspart/tensorrt"))]
    #[case::relative(&[("HOME", "/home/a"), ("XDG_CACHE_HOME", "c")], Some("/home/a/.cache/edgelesspart/tensorrt"))]
    #[case::empty(&[("HOME", ""), ("XDG_CACHE_HOME", "")], None)]
    #[case::service(&[("HOME", "/"), ("XDG_CACHE_HOME", "/c"), ("CACHE_DIRECTORY", "/var/cache/e")], Some("/var/cache/e/tensorrt"))]
    #[case::service_of_two(&[("CACHE_DIRECTORY", "/var/cache/e:/var/cache/f")], Some("/var/cache/e/tensorrt"))]
    fn the_service_comes_before_the_user(
        #[case] set: &[(&str, &str)],
        #[case] expected: Option<&str>,
    ) {
        let variable = |name: &str| {
            let found = set.iter().find(|(key, _)| *key == name)?;
            Some(OsString::from(found.1))
        };
        assert_eq!(folder(variable), expected.map(PathBuf::from));
    }

    #[test]
    fn no_two_files_extents_or_precisions_share_an_engine() {
        let root = tempfile::tempdir().unwrap();
        let exact = Cache::at(root.path(), NAME, false).unwrap();
        let rough = Cache::at(root.path(), NAME, true).unwrap();
        // By sha256sum: of "abc", and of nothing.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let none = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for (cache, file, fixed, expected) in [
            (&exact, "abc", false, format!("f32/{abc}/any")),
            (&exact, "abc", true, format!("f32/{abc}/one")),
            (&exact, "", false, format!("f32/{none}/any")),
            (&rough, "abc", false, format!("tf32/{abc}/any")),
        ] {
            let found = cache.engines(file.as_bytes(), fixed).unwrap();
            assert_eq!(found, root.path().join(expected));
            assert!(found.is_dir());
        }
        assert_eq!(exact.timings(), root.path().join("f32"));
    }

    #[test]
    fn a_folder_that_cannot_be_is_named_with_what_helps() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = Cache::at(&file, NAME, false).unwrap_err().to_string();
        let place = file.join("f32").display().to_string();
        for words in [place.as_str(), "CACHE_DIRECTORY", "Not a directory"] {
            assert!(error.contains(words), "{error}");
        }
        assert!(!error.contains("pip install"), "{error}");
    }
}
