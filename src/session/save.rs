/*! Writing a session: in our own commented form, whole or not at all. */

use super::parse::{SessionError, VERSION, dialect, version};
use super::{Session, catalog};
use nix::fcntl::OFlag;
use ron::extensions::Extensions;
use ron::ser::PrettyConfig;
use serde::Serialize;
use std::fs::{File, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

/// Columns of a comment's text.
const COMMENT: usize = 90;
/// Head of every file we write; by it a hand-written one is told apart.
const MARK: &str = "// EdgeLessPart session, written by the program.";

impl Session {
    /// The file's text: every setting, each with a word on it.
    ///
    /// # Errors
    /// A setting that RON can't express.
    pub fn to_text(&self) -> Result<String, ron::Error> {
        Ok(format!("{MARK}\n{}", self.body()?))
    }

    /// The same as the user's own: under a comment of these lines in place of the program's mark, so
    /// that a program that writes over it keeps it beside.
    ///
    /// # Errors
    /// A setting that RON can't express.
    pub fn to_text_under(&self, head: &str) -> Result<String, ron::Error> {
        let mut text = String::new();
        for line in head.lines() {
            text += format!("// {line}").trim_end();
            text.push('\n');
        }
        Ok(text + &self.body()?)
    }

    fn body(&self) -> Result<String, ron::Error> {
        let mut text = "Session(\n".to_string();
        let mut put = |comment: &str, field: &str, value: &dyn Field| -> Result<(), ron::Error> {
            for line in textwrap::wrap(comment, COMMENT) {
                text += &format!("    // {line}\n");
            }
            text += &format!("    {field}: {},\n", value.ron()?);
            Ok(())
        };
        put("Version of this file's form.", "version", &self.version)?;
        let fields: [(&str, &dyn Field); 26] = [
            ("name", &self.name),
            ("model", &self.model),
            ("data", &self.data),
            ("preprocessing", &self.preprocessing),
            ("classes", &self.classes),
            ("calibration", &self.calibration),
            ("train_samples", &self.train_samples),
            ("test_samples", &self.test_samples),
            ("splits", &self.splits),
            ("exits", &self.exits),
            ("policy", &self.policy),
            ("goal", &self.goal),
            ("guarantee", &self.guarantee),
            ("sweep", &self.sweep),
            ("tiers", &self.tiers),
            ("train_on", &self.train_on),
            ("links", &self.links),
            ("wire", &self.wire),
            ("sends", &self.sends),
            ("jpeg_quality", &self.jpeg_quality),
            ("offload", &self.offload),
            ("billing", &self.billing),
            ("energy", &self.energy),
            ("seed", &self.seed),
            ("threads", &self.threads),
            ("batch", &self.batch),
        ];
        for (field, value) in fields {
            if field == "name" && self.name.is_none() {
                continue;
            }
            put(&catalog::comment(field), field, value)?;
        }
        if let (None, Some(recorded)) = (&self.results, &self.recorded) {
            put("The file with what a run left.", "recorded", recorded)?;
        }
        if let Some(results) = &self.results {
            text += "    // What the last run left: profiles, heads, confidence tables, outcomes, journal.\n";
            text += &format!("    results: {},\n", dialect().to_string(results)?);
        }
        text += ")\n";
        Ok(text)
    }

    /// Writes the session atomically. A file there that a hand wrote, or that has the form of another
    /// version, is kept as `<file>.bak`.
    ///
    /// # Errors
    /// Names the file; what was there before is then still there.
    pub fn save(&self, file: &Path) -> Result<(), SessionError> {
        let text = self.to_text().map_err(|source| SessionError::Write {
            file: file.to_owned(),
            source,
        })?;
        let io = |source| SessionError::Io {
            file: file.to_owned(),
            source,
        };
        match read_plain(file) {
            Ok(before) if !is_ours(&before) => {
                let mut name = file.as_os_str().to_owned();
                name.push(".bak");
                write_atomically(&PathBuf::from(name), &before).map_err(io)?;
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
        }
        // A link stays one: what it leads to is written.
        let real = file.canonicalize().unwrap_or_else(|_| file.to_owned());
        write_atomically(&real, text.as_bytes()).map_err(io)
    }
}

/// Opens a plain file to read. A pipe without a writer would keep its reader waiting for good, and a
/// device may never end.
///
/// # Errors
/// The file can't be opened, or is no plain file.
pub fn open_plain(file: &Path) -> std::io::Result<File> {
    let refused = || {
        let problem = "a folder, pipe or device is there, not a plain file; name another";
        std::io::Error::new(std::io::ErrorKind::InvalidInput, problem)
    };
    // Looked at before it is opened, which may do something to a device, and opened without waiting, should
    // it be another one by then.
    if !file.metadata()?.is_file() {
        return Err(refused());
    }
    let mut options = File::options();
    options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
    let opened = options.open(file)?;
    match opened.metadata()?.is_file() {
        true => Ok(opened),
        false => Err(refused()),
    }
}

/// Reads a plain file, as [`open_plain`] opens it.
///
/// # Errors
/// As [`open_plain`], or it can't be read.
pub fn read_plain(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_plain(file)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether this program wrote a file, in the form it writes now.
fn is_ours(file: &[u8]) -> bool {
    let text = std::str::from_utf8(file).ok();
    let text = text.filter(|text| text.starts_with(MARK));
    text.is_some_and(|text| version(text).is_ok_and(|found| found == VERSION))
}

/// A value of a field, as the file has it.
pub(super) trait Field {
    fn ron(&self) -> Result<String, ron::Error>;
}

impl<T: Serialize> Field for T {
    fn ron(&self) -> Result<String, ron::Error> {
        let spaced = PrettyConfig::new()
            .compact_structs(true)
            .compact_arrays(true)
            .extensions(Extensions::empty());
        dialect().to_string_pretty(self, spaced)
    }
}

/// Writes a temporary file in the same folder, synced, and renames it: the file is the old one or the
/// new one, with the old one's mode and, where that is allowed, owner. A link is replaced, not followed.
///
/// # Errors
/// The folder can't be written to; what was there before is then still there.
pub fn write_atomically(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // As any new file: what the user's umask leaves.
    let mut temporary = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)?;
    temporary.write_all(bytes)?;
    if let Ok(before) = file.symlink_metadata()
        && before.is_file()
    {
        // Another's file stays another's only where the system lets us say so.
        let _ = chown(temporary.path(), Some(before.uid()), Some(before.gid()));
        temporary.as_file().set_permissions(before.permissions())?;
    }
    temporary.as_file().sync_all()?;
    temporary.persist(file).map_err(|error| error.error)?;
    // The rename itself lasts only once the folder is synced.
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::{BuiltIn, Degrade, ModelSource, Target, Token, TrainOn, Trust};
    use super::*;
    use crate::backend::{BackendId, Provider};
    use crate::data::{Calibration, Channels, Fit, Preprocessing, Source};
    use crate::exits::Classifier;
    use crate::plan::Link;
    use crate::train::{Distill, HeadRecipe, Recipe, Training};
    use proptest::prelude::*;

    fn short() -> Session {
        let text = "Session(version: 2, model: Onnx(\"a.onnx\"), data: Synthetic(seed: 7))";
        Session::parse(text, Path::new("my.ron")).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            threshold in 0.0..=1.0f64, slowdown in 1.0..9.0f64, mbit in 0.001..1e5f64,
            text in "[ -~\n\"\\\\]{0,40}", samples in proptest::option::of(1usize..9999),
            deadline in proptest::option::of(0.001..1e4f64), seed: u64, scale in 1e-9..1e9f32,
            zoo: bool, at_split: bool,
        ) {
            let mut session = short();
            session.seed = seed;
            session.policy.threshold = threshold;
            session.policy.exits = vec![(text.clone(), threshold)];
            session.preprocessing = samples.map(|_| Preprocessing {
                scale,
                channels: Channels::Bgr,
                fit: Fit::CentreCrop { keep: 0.875 },
                ..Preprocessing::default()
            });
            session.classes = vec![(text.clone(), 3), (format!("{text}2"), 1)];
            session.train_samples = samples;
            session.threads = samples;
            session.calibration = Calibration::FromTest(12);
            session.offload.deadline_ms = deadline;
            session.offload.degrade = Degrade::LastExit;
            session.exits.at_split = at_split;
            session.exits.classifier = Classifier::Template(text.clone());
            session.exits.training = Training::Mixed { backbone: 3, epochs: 4 };
            session.exits.templates = Some(PathBuf::from(&text));
            session.exits.recipe = Recipe {
                learning_rate: Some(threshold + 1e-3),
                patience: samples,
                distill: Some(Distill::default()),
                heads: vec![(text.clone(), HeadRecipe {
                    weight_decay: Some(threshold),
                    ..HeadRecipe::default()
                })],
                ..Recipe::default()
            };
            let engine = if at_split {
                BackendId::OnnxRuntime(Provider::TensorRt(seed as usize))
            } else {
                BackendId::Native
            };
            if at_split {
                session.exits.training = Training::Frozen { epochs: 4 };
                session.train_on = TrainOn::Tier("cloud".into());
            }
            session.links = vec![Link::Emulated { mbit, rtt_ms: 0.0 }];
            session.data = Source::ImageFolder(text.clone().into());
            session.name = samples.map(|n| format!("run {n}"));
            if zoo {
                session.model = ModelSource::Zoo {
                    network: BuiltIn::MobileNetV2, input: (3, 32, 32), classes: 10, width: Some(0.5),
                };
            }
            session.tiers[0].targets.push(Target::Local {
                cores: vec![],
                slowdown,
                threads: samples,
                engine,
            });
            session.tiers[1].targets.push(Target::Agent {
                url: "https://jetson:7070".into(),
                token: Some(Token::Env("EDGE_TOKEN".into())),
                trust: Trust::Fingerprint(format!("sha256:{}", "ab".repeat(32))),
                engine: zoo.then_some(engine),
            });
            session.tiers[1].targets.push(Target::Agent {
                url: "https://vm:7070".into(),
                token: Some(Token::File("token".into())),
                trust: Trust::Ca(text.clone().into()),
                engine: None,
            });
            let written = session.to_text().unwrap();
            prop_assert_eq!(Session::parse(&written, Path::new("my.ron")).unwrap(), session);
        }
    }

    #[test]
    fn a_link_stays_a_link_and_the_mode_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real.ron"), dir.path().join("my.ron"));
        short().save(&real).unwrap();
        std::fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let mut other = short();
        other.seed += 1;
        other.save(&link).unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(Session::read(&real).unwrap(), other);
        assert_eq!(real.metadata().unwrap().mode() & 0o777, 0o640);
    }

    #[test]
    fn a_file_of_a_hand_or_of_an_older_form_is_kept_beside() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("my.ron");
        let backup = dir.path().join("my.ron.bak");
        short().save(&file).unwrap();
        assert!(!backup.exists());
        short().save(&file).unwrap();
        assert!(!backup.exists());
        let of_version_1 = format!("{MARK}\nSession(version: 1)");
        for text in ["// mine", &of_version_1] {
            std::fs::write(&file, text).unwrap();
            short().save(&file).unwrap();
            assert_eq!(std::fs::read_to_string(&backup).unwrap(), text);
        }
        assert_eq!(Session::read(&file).unwrap(), short());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn shipped_sessions_parse() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sessions");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            // What a run left lies beside some.
            if path.to_string_lossy().ends_with(".results.ron") {
                continue;
            }
            let mut session = Session::read(&path).unwrap();
            let text = session.to_text().unwrap();
            if session.results.is_some() {
                // Written with its results, a session needs no second file.
                session.recorded = None;
            }
            assert_eq!(Session::parse(&text, Path::new("again")).unwrap(), session);
            count += 1;
        }
        assert_eq!(count, 5);
    }
}
