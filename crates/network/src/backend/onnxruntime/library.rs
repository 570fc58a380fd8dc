/*!
The shared library of ONNX Runtime: where it is looked for, and loading it, once per process.

`ORT_DYLIB_PATH` names the file; without it the newest one is taken of the first folder that has one: beside
the program, in the library folders, and where Python's package keeps it.
*/

use super::super::id::{BackendError, BackendId};
use super::remedy::remedy;
use parking_lot::Mutex;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The variable that names the library's file.
const VARIABLE: &str = "ORT_DYLIB_PATH";
/// The file's name, less its version.
pub(super) const FILE: &str = if cfg!(target_os = "macos") {
    "libonnxruntime.dylib"
} else {
    "libonnxruntime.so"
};

/// Where the library may lie.
#[derive(Debug, Default)]
struct Places {
    /// The file that the user named.
    named: Option<PathBuf>,
    /// Folders that may hold it, first come first taken.
    folders: Vec<PathBuf>,
    /// Prefixes of Python environments: `PREFIX/lib/python3.X/site-packages`.
    pythons: Vec<PathBuf>,
}

impl Places {
    /// Those of this process and machine.
    fn here() -> Places {
        let named = env::var_os(VARIABLE).filter(|value| !value.is_empty());
        let exe = env::current_exe().ok();
        let beside = exe.as_deref().and_then(Path::parent).map(Path::to_path_buf);
        let mut folders: Vec<PathBuf> = beside.iter().map(|dir| dir.join("lib")).collect();
        folders.splice(0..0, beside);
        folders.extend(paths("LD_LIBRARY_PATH"));
        let system = [
            "/usr/local/lib".into(),
            "/usr/lib".into(),
            "/usr/lib64".into(),
            format!("/usr/lib/{}-linux-gnu", env::consts::ARCH),
            "/opt/onnxruntime/lib".into(),
            "/opt/homebrew/lib".into(),
        ];
        folders.extend(system.map(PathBuf::from));
        let mut pythons: Vec<PathBuf> = ["VIRTUAL_ENV", "CONDA_PREFIX"]
            .iter()
            .filter_map(env::var_os)
            .map(PathBuf::from)
            .collect();
        let programs = paths("PATH");
        pythons.extend(
            programs
                .iter()
                .filter_map(|dir| dir.parent().map(Path::to_path_buf)),
        );
        pythons.extend(env::var_os("HOME").map(|home| Path::new(&home).join(".local")));
        pythons.extend(["/usr/local", "/usr"].map(PathBuf::from));
        Places {
            named: named.map(PathBuf::from),
            folders,
            pythons,
        }
    }

    /// The library; the one that was named, whether it is there or not.
    fn find(&self) -> Option<PathBuf> {
        if self.named.is_some() {
            return self.named.clone();
        }
        let packages = self.pythons.iter().flat_map(|prefix| packages(prefix));
        let packages = packages.map(|folder| folder.join("onnxruntime/capi"));
        let mut folders = self.folders.iter().cloned().chain(packages);
        folders.find_map(|folder| newest(&folder))
    }
}

/// The folders that an environment variable lists.
fn paths(variable: &str) -> Vec<PathBuf> {
    let value: OsString = env::var_os(variable).unwrap_or_default();
    let listed = env::split_paths(&value);
    listed.filter(|path| path.is_absolute()).collect()
}

/// Where the Python environment at `prefix` keeps packages, the newest Python first.
fn packages(prefix: &Path) -> Vec<PathBuf> {
    let lib = prefix.join("lib");
    let mut pythons: Vec<(Vec<u64>, PathBuf)> = names(&lib)
        .filter_map(|name| Some((numbers(name.strip_prefix("python")?), lib.join(&name))))
        .collect();
    pythons.sort();
    let pythons = pythons.into_iter().rev().map(|(_, folder)| folder);
    pythons
        .flat_map(|folder| ["site-packages", "dist-packages"].map(|name| folder.join(name)))
        .collect()
}

/// The library of the highest version in a folder.
fn newest(folder: &Path) -> Option<PathBuf> {
    let version = |name: &str| match name.strip_prefix(FILE) {
        Some(rest) => Some(numbers(rest)),
        // As macOS has it: libonnxruntime.1.32.0.dylib.
        None => {
            let version = name.strip_prefix("libonnxruntime.")?;
            Some(numbers(version.strip_suffix(".dylib")?))
        }
    };
    let found = names(folder).filter_map(|name| Some((version(&name)?, folder.join(name))));
    found
        .filter(|(_, file)| file.is_file())
        .max()
        .map(|(_, file)| file)
}

/// The names in a folder; none where it can't be read.
fn names(folder: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// The numbers between dots: `1.32.0` as `[1, 32, 0]`.
fn numbers(text: &str) -> Vec<u64> {
    text.split('.')
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// The library that this process has loaded.
#[derive(Debug, Clone)]
pub(super) struct Library {
    pub(super) file: PathBuf,
    /// Version as the file's name has it: `1.32.0`; empty where the name has none.
    pub(super) version: String,
}

/// Loads the library, unless it was loaded before.
pub(super) fn load(id: BackendId) -> Result<Library, BackendError> {
    static LOADED: Mutex<Option<Library>> = Mutex::new(None);
    let mut loaded = LOADED.lock();
    if let Some(library) = &*loaded {
        return Ok(library.clone());
    }
    let Some(file) = Places::here().find() else {
        return Err(BackendError::NoLibrary {
            name: id,
            file: FILE,
            remedy: remedy(id),
        });
    };
    let refused = |reason: String| BackendError::Library {
        name: id,
        library: file.clone(),
        reason,
        remedy: remedy(id),
    };
    if !file.is_file() {
        return Err(refused(format!(
            "there is no such file ({VARIABLE} names it)"
        )));
    }
    // Else it would be looked for beside the program again.
    let absolute = std::path::absolute(&file).map_err(|e| refused(e.to_string()))?;
    let builder = ort::init_from(&absolute).map_err(|e| refused(e.to_string()))?;
    let builder = builder.with_name("edgelesspart").with_telemetry(false);
    // False only where something else in this process made ONNX Runtime ready before: then it is.
    let _ = builder.commit();
    let real = absolute.canonicalize().unwrap_or(absolute);
    let name = real
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let version: Vec<String> = numbers(name).iter().map(u64::to_string).collect();
    let library = Library {
        version: version.join("."),
        file: real,
    };
    *loaded = Some(library.clone());
    Ok(library)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use std::fs;

    fn touch(file: &Path) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "").unwrap();
    }

    #[test]
    fn the_newest_of_the_first_folder_that_has_one_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let venv = at("venv/lib/python3.12/site-packages/onnxruntime/capi");
        touch(&venv.join("libonnxruntime.so.1.24.1"));
        touch(&at(
            "venv/lib/python3.9/site-packages/onnxruntime/capi/libonnxruntime.so.1.30.0",
        ));
        let mut places = Places {
            named: None,
            folders: vec![at("beside"), at("lib")],
            pythons: vec![at("nowhere"), at("venv")],
        };
        assert_eq!(places.find(), Some(venv.join("libonnxruntime.so.1.24.1")));
        for name in [
            "libonnxruntime.so.1.9.0",
            "libonnxruntime.so.1.32.0",
            "libonnxruntime.so",
        ] {
            touch(&at("lib").join(name));
        }
        touch(&at("lib/libonnxruntime_providers_shared.so"));
        fs::create_dir_all(at("beside/libonnxruntime.so.2.0.0")).unwrap();
        assert_eq!(places.find(), Some(at("lib/libonnxruntime.so.1.32.0")));
        touch(&at("beside/libonnxruntime.1.20.0.dylib"));
        assert_eq!(
            places.find(),
            Some(at("beside/libonnxruntime.1.20.0.dylib"))
        );
        places.named = Some(at("other.so"));
        assert_eq!(places.find(), Some(at("other.so")));
        assert_eq!(Places::default().find(), None);
    }
}
