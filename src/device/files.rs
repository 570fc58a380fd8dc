/*!
Reading what Linux tells in small files under `/proc`, `/sys` and `/etc`, below a root folder: `/`
on a live machine, a recorded tree in a test.
*/

use super::DeviceError;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The text of a file that must be there.
pub(super) fn text(path: &Path) -> Result<String, DeviceError> {
    let bytes = std::fs::read(path).map_err(|source| DeviceError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    Ok(clean(&bytes))
}

/// The text of a file, if it is there and may be read.
pub(super) fn maybe(path: &Path) -> Option<String> {
    std::fs::read(path).ok().map(|bytes| clean(&bytes))
}

/// The number a file holds, if it is there, may be read, and holds one.
pub(super) fn number<T: FromStr>(path: &Path) -> Option<T> {
    maybe(path)?.parse().ok()
}

/// Device trees end their strings with NUL.
fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim_matches(|c: char| c == '\0' || c.is_whitespace())
        .to_string()
}

/// What stands behind `key` and a colon, on the first line that starts so.
pub(super) fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

/// A field in kB, as `/proc` writes memory, in bytes.
pub(super) fn kilobytes(text: &str, key: &str) -> Option<usize> {
    let number = field(text, key)?.split_whitespace().next()?;
    number.parse::<usize>().ok()?.checked_mul(1024)
}

/// The entries of a folder in order of name; none where there is no folder.
pub(super) fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(read) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = read.flatten().map(|e| e.path()).collect();
    paths.sort();
    paths
}
