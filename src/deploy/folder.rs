/*!
Parts written to a folder: everything, or nothing. The files are written beside the folder and take its
name when all are there, so that whoever looks finds either none of them or all.
*/

use super::DeployError;
use super::flat::flat;
use super::kserve::{Places, services};
use super::progressive::progressive;
use super::serving::Serving;
use super::triton::{Files, repository};
use crate::plan::{Tier, TierNames};
use crate::runtime::manifest::{ExitEntry, FileEntry, MANIFEST, Manifest, PartFiles, Whole};
use crate::runtime::parts::{Part, PartError, address};
use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What parts are written as.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Form<'a> {
    /// A folder for each tier: ONNX files, and the manifest as JSON and RON.
    Onnx,
    /// An archive for each tier, as agents take it.
    Bundle,
    /// A model repository for each tier, of tiers that were measured so.
    Triton(&'a [Serving]),
    /// For each tier behind the first a folder of images and manifests for KServe, Knative and Cloud Run.
    Kserve(&'a [Serving], &'a Places),
}

/// What was written of one part.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// What its tier is called.
    pub tier: String,
    /// The part's folder or archive, within the folder that was asked for.
    pub path: PathBuf,
    /// What the part says of itself.
    pub manifest: Manifest,
    /// The archive's SHA-256, under which an agent serves it, in the form for KServe too; of a folder of ONNX
    /// files the manifest's; of a model repository that of its files' names and hashes.
    pub address: String,
    /// The files below the folder that was asked for, without the manifest's.
    pub files: Vec<FileEntry>,
    /// Why there is no file, or no model, that stops by itself.
    pub without_progressive: Option<&'static str>,
}

impl Written {
    /// The part's exits, in order.
    pub fn exits(&self) -> impl Iterator<Item = &ExitEntry> {
        self.manifest
            .segments
            .iter()
            .filter_map(|s| s.exit.as_ref())
    }
}

/// The manifest for those who read RON.
const RON: &str = "manifest.ron";

/// Writes the parts of a plan to `out`, which must be empty or not there yet; tiers are called by
/// `names`. All of it is there afterwards, or nothing.
///
/// # Errors
/// Where something is there, there is no room, or a part can't be written as ONNX.
pub fn write(
    parts: &[Part],
    names: &TierNames,
    form: Form,
    out: &Path,
) -> Result<Vec<Written>, DeployError> {
    if parts.is_empty() {
        return Err(DeployError::NoPart);
    }
    let parts: Vec<&Part> = match form {
        Form::Kserve(..) => parts.iter().filter(|p| p.tier != Tier::First).collect(),
        Form::Onnx | Form::Bundle | Form::Triton(_) => parts.iter().collect(),
    };
    if parts.is_empty() {
        return Err(DeployError::NothingBehind);
    }
    let failed = |source| DeployError::Write {
        file: out.to_path_buf(),
        source,
    };
    match std::fs::read_dir(out) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(DeployError::NotEmpty(out.to_path_buf()));
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            return Err(DeployError::NotEmpty(out.to_path_buf()));
        }
        Err(error) => return Err(failed(error)),
    }
    let whole = std::path::absolute(out).map_err(failed)?;
    let parent = whole.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(parent).map_err(failed)?;
    // As any new folder: what the user's umask leaves.
    let beside = tempfile::Builder::new()
        .prefix(".parts-")
        .permissions(Permissions::from_mode(0o777))
        .tempdir_in(parent)
        .map_err(failed)?;
    let mut written = Vec::new();
    for part in parts {
        let tier = file_name(names, part);
        let target = Destination {
            folder: beside.path(),
            shown: out,
        };
        written.push(match form {
            Form::Onnx => target.onnx(part, tier)?,
            Form::Bundle => target.bundle(part, tier)?,
            Form::Triton(servings) => {
                let serving = Serving::find(servings, part.tier);
                let (files, manifest, without) = repository(part, &tier, &serving)?;
                target.folder(tier, &files, manifest, without)?
            }
            Form::Kserve(servings, places) => {
                let serving = Serving::find(servings, part.tier);
                let (files, manifest, without) = services(part, &tier, &serving, places)?;
                let written = target.folder(tier, &files, manifest, without)?;
                Written {
                    address: address(&part.bundle()?),
                    ..written
                }
            }
        });
    }
    sync(beside.path()).map_err(failed)?;
    // Over an empty folder too; over one that somebody has filled meanwhile it fails.
    std::fs::rename(beside.path(), &whole).map_err(failed)?;
    // It has another name now, and is not to be removed.
    let _ = beside.keep();
    sync(parent).map_err(failed)?;
    Ok(written)
}

fn sync(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// What the tier's folder is called: its name where that is fit for one, else by its number.
fn file_name(names: &TierNames, part: &Part) -> String {
    let name = names.name(part.tier);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let others = names.all().iter().filter(|n| **n == name).count() > 1;
    if !name.is_empty() && name.chars().all(plain) && !others {
        name.to_string()
    } else {
        format!("tier-{}", part.tier.index() + 1)
    }
}

/// Where the files of one export are written, and what the folder is called when they are.
struct Destination<'a> {
    folder: &'a Path,
    shown: &'a Path,
}

impl Destination<'_> {
    fn write(&self, name: &Path, bytes: &[u8]) -> Result<(), DeployError> {
        let write = || -> std::io::Result<()> {
            let mut file = File::create(self.folder.join(name))?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|source| DeployError::Write {
            file: self.shown.join(name),
            source,
        })
    }

    fn bundle(&self, part: &Part, tier: String) -> Result<Written, DeployError> {
        let files = PartFiles::of(part)?;
        let bytes = files.bundle()?;
        let path = PathBuf::from(format!("{tier}.tar"));
        self.write(&path, &bytes)?;
        let address = address(&bytes);
        Ok(Written {
            tier,
            manifest: files.manifest,
            files: vec![FileEntry {
                name: path.display().to_string(),
                bytes: bytes.len() as u64,
                sha256: address.clone(),
            }],
            path,
            address,
            without_progressive: None,
        })
    }

    /// Files below the tier's folder.
    fn folder(
        &self,
        tier: String,
        files: &Files,
        manifest: Manifest,
        without_progressive: Option<&'static str>,
    ) -> Result<Written, DeployError> {
        let path = PathBuf::from(&tier);
        let mut entries = Vec::new();
        let mut folders = BTreeSet::new();
        for (name, bytes) in files {
            let name = path.join(name);
            let parent = name.parent().unwrap_or(&path);
            let made = std::fs::create_dir_all(self.folder.join(parent));
            made.map_err(|source| DeployError::Write {
                file: self.shown.join(parent),
                source,
            })?;
            let within = parent.ancestors().take_while(|p| !p.as_os_str().is_empty());
            folders.extend(within.map(Path::to_path_buf));
            self.write(&name, bytes)?;
            entries.push(FileEntry {
                name: name.display().to_string(),
                bytes: bytes.len() as u64,
                sha256: address(bytes),
            });
        }
        for folder in folders {
            sync(&self.folder.join(&folder)).map_err(|source| DeployError::Write {
                file: self.shown.join(&folder),
                source,
            })?;
        }
        let lines = entries
            .iter()
            .map(|e| format!("{}  {}\n", e.sha256, e.name));
        Ok(Written {
            address: address(lines.collect::<String>().as_bytes()),
            tier,
            path,
            manifest,
            files: entries,
            without_progressive,
        })
    }

    fn onnx(&self, part: &Part, tier: String) -> Result<Written, DeployError> {
        let mut files = PartFiles::of(part)?;
        let (bytes, flat) = flat(part)?;
        files.add(&flat.file, bytes);
        let progressive = match progressive(part)? {
            None => None,
            Some((bytes, progressive)) => {
                files.add(&progressive.file, bytes);
                Some(progressive)
            }
        };
        let exits = part.segments.iter().any(|s| s.exit.is_some());
        let without_progressive = match (&progressive, exits) {
            (Some(_), _) => None,
            (None, true) if part.settings.confidence.looks_back() => {
                Some("its exits look at what the exits before said, which an agent can tell them")
            }
            (None, true) => Some("the network's file fixes another number of samples than one"),
            (None, false) => Some("the part has no exit"),
        };
        files.manifest.whole = Some(Whole { flat, progressive });
        let path = PathBuf::from(&tier);
        let made = std::fs::create_dir(self.folder.join(&path));
        made.map_err(|source| DeployError::Write {
            file: self.shown.join(&path),
            source,
        })?;
        for (name, bytes) in &files.files {
            self.write(&path.join(name), bytes)?;
        }
        let json = files.manifest.to_json()?;
        self.write(&path.join(MANIFEST), &json)?;
        let pretty = ron::ser::PrettyConfig::default();
        let ron =
            ron::ser::to_string_pretty(&files.manifest, pretty).map_err(|e| PartError::Export {
                file: RON.to_string(),
                what: e.to_string(),
            })?;
        self.write(&path.join(RON), ron.as_bytes())?;
        sync(&self.folder.join(&path)).map_err(|source| DeployError::Write {
            file: self.shown.join(&path),
            source,
        })?;
        let entries = files.manifest.files.iter();
        let files_below = entries.map(|entry| FileEntry {
            name: format!("{tier}/{}", entry.name),
            ..entry.clone()
        });
        Ok(Written {
            files: files_below.collect(),
            tier,
            path,
            address: address(&json),
            manifest: files.manifest,
            without_progressive,
        })
    }
}
