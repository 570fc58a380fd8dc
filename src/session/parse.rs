/*! Reading a session file: where it is wrong, what was expected, what was probably meant. */

use super::Session;
use super::migrate::SessionV1;
use ron::error::{Error as Ron, SpannedError};
use ron::extensions::Extensions;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The version of the file's form that this program writes.
pub const VERSION: u32 = 2;

/// A session file that can't be used or written.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// It can't be read or written.
    #[error("{}: {source}", .file.display())]
    Io {
        /// Path of the session's file.
        file: PathBuf,
        /// Reason that the operating system gives.
        source: std::io::Error,
    },
    /// It isn't what a session looks like.
    #[error("{}:{line}:{column}: {problem}", .file.display())]
    Syntax {
        /// Path of the session's file.
        file: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// Number of the column, from 1.
        column: usize,
        /// What was found, what was expected, what was probably meant.
        problem: String,
    },
    /// It is of a form this program doesn't know; it was left as it is.
    #[error(
        "{}: version {found}, this program knows version {VERSION}; {remedy} (the file was left as it is)",
        .file.display()
    )]
    Version {
        /// Path of the session's file.
        file: PathBuf,
        /// Version that the file names.
        found: u32,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A setting has a value it can't have.
    #[error("{}: {field}: {problem}", .file.display())]
    Invalid {
        /// Path of the session's file.
        file: PathBuf,
        /// Which setting, as `exits.per_part`.
        field: String,
        /// What it is and what it may be.
        problem: String,
    },
    /// What a finished stage left is damaged, or was left by another program.
    #[error("{}: damaged, or written by another version of the program; remove it and the stage is done again", .file.display())]
    Stage {
        /// Path of the session's file.
        file: PathBuf,
    },
    /// It can't be put into words.
    #[error("{}: the session can't be written: {source}", .file.display())]
    Write {
        /// Path of the session's file.
        file: PathBuf,
        /// Reason that the session can't be written as RON.
        source: Ron,
    },
}

/// The dialect of session files: an optional value is written without `Some`.
pub(super) fn dialect() -> ron::Options {
    ron::Options::default().with_default_extension(Extensions::IMPLICIT_SOME)
}

#[derive(Deserialize)]
#[serde(rename = "Session")]
struct Versioned {
    version: u32,
}

/// The version of the form of a file.
pub(super) fn version(text: &str) -> Result<u32, SpannedError> {
    dialect().from_str::<Versioned>(text).map(|v| v.version)
}

/// What a run left, from a file of its own.
fn results(text: &str, file: &Path) -> Result<super::Results, SessionError> {
    let read = dialect().from_str(text);
    read.map_err(|error| syntax(&error, file))
}

fn syntax(error: &SpannedError, file: &Path) -> SessionError {
    SessionError::Syntax {
        file: file.to_owned(),
        line: error.span.start.line,
        column: error.span.start.col,
        problem: explain(&error.code),
    }
}

impl Session {
    /// Reads and checks a session file; its paths stay as written (see [`Session::resolved`]).
    ///
    /// # Errors
    /// Names the file, and the line and column, or the setting.
    pub fn read(file: &Path) -> Result<Session, SessionError> {
        let text = |file: &Path| {
            std::fs::read_to_string(file).map_err(|source| SessionError::Io {
                file: file.to_owned(),
                source,
            })
        };
        let mut session = Session::parse(&text(file)?, file)?;
        if let (None, Some(recorded)) = (&session.results, &session.recorded) {
            let beside = file.parent().unwrap_or(Path::new("")).join(recorded);
            session.results = Some(Box::new(results(&text(&beside)?, &beside)?));
        }
        Ok(session)
    }

    /// The session that ships with the program, with what its run left; its paths are those of a file
    /// in `sessions/`.
    ///
    /// # Errors
    /// Only where what ships is damaged.
    pub fn demo() -> Result<Session, SessionError> {
        let mut session = Session::parse(
            include_str!("../../sessions/demo.ron"),
            Path::new("demo.ron"),
        )?;
        let recorded = include_str!("../../sessions/demo.results.ron");
        let recorded = results(recorded, Path::new("demo.results.ron"))?;
        session.results = Some(Box::new(recorded));
        Ok(session)
    }

    /// The same from text; `file` only names it in errors.
    ///
    /// # Errors
    /// As [`Session::read`].
    pub fn parse(text: &str, file: &Path) -> Result<Session, SessionError> {
        let syntax = |error: SpannedError| syntax(&error, file);
        // The version first: a file of another one may have any other fields.
        let found = version(text).map_err(syntax)?;
        let read = match found {
            1 => dialect().from_str::<SessionV1>(text).map(Session::from),
            VERSION => dialect().from_str::<Session>(text),
            _ => {
                return Err(SessionError::Version {
                    file: file.to_owned(),
                    found,
                    remedy: if found > VERSION {
                        "use a newer program"
                    } else {
                        "no program ever wrote that one, write `version: 2`"
                    },
                });
            }
        };
        let mut session = read.map_err(syntax)?;
        session.complete();
        session.check(file)?;
        Ok(session)
    }

    /// Checks what the types can't say; `file` only names it in errors.
    ///
    /// # Errors
    /// Names the setting that can't be.
    pub fn check(&self, file: &Path) -> Result<(), SessionError> {
        self.validate()
            .map_err(|(field, problem)| SessionError::Invalid {
                file: file.to_owned(),
                field,
                problem,
            })
    }
}

pub(super) fn explain(error: &Ron) -> String {
    let unknown = |what: &str, found: &str, expected: &[&str], outer: &Option<String>| {
        let place = outer
            .as_ref()
            .map(|o| format!(" in `{o}`"))
            .unwrap_or_default();
        let meant = nearest(found, expected)
            .map(|name| format!("; did you mean `{name}`?"))
            .unwrap_or_default();
        let list = expected.join("`, `");
        format!("unknown {what} `{found}`{place}{meant} (known: `{list}`)")
    };
    match error {
        Ron::NoSuchStructField {
            expected,
            found,
            outer,
        } => unknown("field", found, expected, outer),
        Ron::NoSuchEnumVariant {
            expected,
            found,
            outer,
        } => unknown("name", found, expected, outer),
        other => other.to_string(),
    }
}

/// The known name with the fewest edits, if they are fewer than half its letters.
fn nearest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    let (edits, name) = known
        .iter()
        .map(|name| (edits(&found.to_lowercase(), &name.to_lowercase()), *name))
        .min()?;
    (2 * edits <= name.len()).then_some(name)
}

/// Levenshtein distance: insertions, deletions and replacements between two words.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Link, SplitRule};

    fn parse(settings: &str) -> Result<Session, SessionError> {
        let text = format!(
            "Session(\n    version: 2,\n    model: Onnx(\"a.onnx\"),\n    data: Synthetic(seed: 7),\n    {settings}\n)"
        );
        Session::parse(&text, Path::new("my.ron"))
    }

    #[test]
    fn a_short_file_gets_defaults() {
        let session = parse("").unwrap();
        assert_eq!(session.exits.per_part, 3);
        assert_eq!(
            session.sweep.thresholds(),
            [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
        );
        let full = session.resolved(Path::new("/there"));
        assert_eq!(
            full.model,
            super::super::ModelSource::Onnx("/there/a.onnx".into())
        );
    }

    #[test]
    fn results_may_lie_in_a_file_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let text = |recorded: &str| {
            format!(
                "Session(version: 2, model: Demo, data: Synthetic(seed: 7), recorded: \"{recorded}\")"
            )
        };
        let left = include_str!("../../sessions/demo.results.ron");
        std::fs::write(at("left.ron"), left).unwrap();
        std::fs::write(at("my.ron"), text("left.ron")).unwrap();
        let session = Session::read(&at("my.ron")).unwrap();
        assert_eq!(session.results, Session::demo().unwrap().results);
        // What is written with its results needs no second file.
        let whole = session.to_text().unwrap();
        assert!(!whole.contains("recorded:"));
        let alone = Session {
            results: None,
            ..session
        };
        assert!(alone.to_text().unwrap().contains("recorded: \"left.ron\""));
        for (name, content, wanted) in [
            ("nowhere.ron", None, "nowhere.ron"),
            ("damaged.ron", Some(&left[..left.len() / 2]), "damaged.ron:"),
        ] {
            if let Some(content) = content {
                std::fs::write(at(name), content).unwrap();
            }
            std::fs::write(at("bad.ron"), text(name)).unwrap();
            let error = Session::read(&at("bad.ron")).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn a_goal_out_of_range_is_named() {
        let error = parse("goal: (within: (latency_ms: -1)),").unwrap_err();
        let error = error.to_string();
        assert!(error.contains("goal.within.latency_ms: -1"), "{error}");
        let session = parse("goal: (minimise: Latency(p95)),").unwrap();
        assert_eq!(session.goal.within.accuracy_loss_points, Some(1.0));
    }

    /// Two tiers, the second of this target.
    fn behind(target: &str) -> String {
        format!("tiers: [(name: \"a\", targets: [Local()]), (name: \"b\", targets: [{target}])],")
    }

    /// Each of these settings is refused in words that hold what stands beside it.
    fn refuses(cases: &[(&str, &str)]) {
        for (settings, wanted) in cases {
            let text = parse(settings).expect_err(settings).to_string();
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
    }

    #[test]
    fn unknown_fields_are_named_with_the_likely_one() {
        refuses(&[
            ("thread: 2,", "my.ron:5:5: unknown field `thread`"),
            ("thread: 2,", "did you mean `threads`?"),
            ("splits: [Memry(share: 0.7)],", "did you mean `Memory`?"),
            ("splits: [Memory(shar: 0.7)],", "did you mean `share`?"),
            ("exits: (per_prt: 3),", "did you mean `per_part`?"),
            ("policy: (treshold: 0.5),", "did you mean `threshold`?"),
            ("wire: (tensr: F32),", "did you mean `tensor`?"),
            (
                "links: [Emulated(mbits: 1, rtt_ms: 2)],",
                "did you mean `mbit`?",
            ),
            ("edge: [],", "unknown field `edge` in `Session`"),
            (
                "tiers: [(name: \"a\", target: []), (name: \"b\", targets: [Local()])],",
                "did you mean `targets`?",
            ),
        ]);
    }

    #[test]
    fn values_out_of_range_are_named_with_their_place() {
        refuses(&[
            ("exits: (per_part: three),", "my.ron:5:"),
            ("exits: (per_part: 4),", "exits.per_part: 4"),
            ("splits: [Memory(share: 1.5)],", "splits[0].share: 1.5"),
            ("policy: (threshold: -0.1),", "policy.threshold: -0.1"),
            (
                "policy: (threshold: 0.5, exits: [(\"a\", 2.0)]),",
                "policy.exits[0]: 2",
            ),
            ("calibration: FromTest(0),", "calibration: 0"),
            ("train_samples: 0,", "train_samples: 0"),
            ("threads: 0,", "threads: 0"),
            ("links: [Emulated(mbit: 0, rtt_ms: 2)],", "links[0].mbit: 0"),
            ("billing: GoogleCloudFunctions(tier: 3),", "billing.tier: 3"),
            ("preprocessing: (std: [0.0]),", "preprocessing.std: "),
            ("preprocessing: (mean: [1.0, 2.0]),", "preprocessing.mean: "),
            (
                "preprocessing: (fit: CentreCrop(keep: 0)),",
                "preprocessing.fit.keep: 0",
            ),
            (
                "classes: [(\"a\", 1), (\"b\", 1)],",
                "classes[1]: (\"b\", 1), its name or output",
            ),
            ("sweep: (step: 0.0),", "sweep.step: 0"),
            ("batch: (train: 0),", "batch.train: 0"),
            ("energy: (watts: 0),", "energy.watts: 0"),
            ("energy: (pj_per_mac: -1),", "energy.pj_per_mac: -1"),
            (
                "energy: (radio: Custom((up_nj_per_byte: -1, down_nj_per_byte: 0, active_mw: 0, wake_mj: 0, \
                 wake_ms: 0, tail_ms: 0, tail_mw: 0))),",
                "energy.radio.up_nj_per_byte: -1",
            ),
            (
                "energy: (radio: Custom((up_nj_per_byte: 1, down_nj_per_byte: 0, active_mw: 0, wake_mj: 0, \
                 wake_ms: 0, tail_ms: 0, tail_mw: 0, cycle_ms: 10, listen_ms: 11))),",
                "energy.radio.listen_ms: 11",
            ),
            ("offload: (deadline_ms: 0.0),", "offload.deadline_ms: 0"),
            ("offload: (deadline_ms: 1e300),", "a day"),
            (
                "links: [Emulated(mbit: 1, rtt_ms: 1e300)],",
                "between 0 and 60000",
            ),
            ("exits: (training: Frozen(epochs: 0)),", "exits.training: 0"),
            (
                "exits: (recipe: (heads: [(\"a\", (weight_decay: 2))])),",
                "exits.recipe.heads[0].weight_decay: 2, it may be 0 to 1",
            ),
            (
                "exits: (recipe: (patience: 0)),",
                "exits.recipe.patience: 0",
            ),
            ("name: \"../up\",", "name: "),
        ]);
    }

    #[test]
    fn tiers_links_and_splits_must_fit_each_other() {
        refuses(&[
            ("tiers: [],", "tiers: 0, it may be 2 to 4"),
            ("tiers: [(name: \"a\", targets: [Local()])],", "tiers: 1, "),
            (
                "tiers: [(name: \"a\", targets: []), (name: \"b\", targets: [Local()])],",
                "tiers[0].targets: no target",
            ),
            (
                "tiers: [(name: \"\", targets: [Local()]), (name: \"b\", targets: [Local()])],",
                "tiers[0].name: ``",
            ),
            (
                "tiers: [(name: \"a\", targets: [Local()]), (name: \"a\", targets: [Local()])],",
                "tiers[1].name: `a`, tiers[0] has that name",
            ),
            (
                "links: [Measured, Measured],",
                "links: 2, 2 tiers have 1 link between them",
            ),
            (
                "splits: [Latency, Latency],",
                "splits: 2, 2 tiers are split 1 time",
            ),
        ]);
    }

    #[test]
    fn impossible_targets_are_named_with_their_place() {
        refuses(&[
            (
                "tiers: [(name: \"a\", targets: [V2(url: \"http://a\", model: \"m\")]), \
                 (name: \"b\", targets: [Local()])],",
                "tiers[0].targets[0]: ",
            ),
            (
                &behind("Local(slowdown: 0.5)"),
                "tiers[1].targets[0].slowdown: 0.5",
            ),
            (
                &behind("Agent(url: \"jetson:7070\")"),
                "tiers[1].targets[0].url: ",
            ),
            (
                &behind("V2(url: \"https://a\", model: \"m\", token: Env(\"a-b\"))"),
                "tiers[1].targets[0].token: ",
            ),
            (
                &behind("Agent(url: \"https://me:secret@a\")"),
                "a name or a password in the address",
            ),
            (
                &behind("Agent(url: \"https://a\", trust: Fingerprint(\"ab\"))"),
                "tiers[1].targets[0].trust: ",
            ),
        ]);
    }

    #[test]
    fn a_tier_that_cannot_train_is_refused() {
        refuses(&[
            (
                "exits: (training: Joint(epochs: 1)), train_on: Tier(\"cloud\"),",
                "train_on: ",
            ),
            (
                &format!(
                    "{} train_on: Tier(\"b\"),",
                    behind("V2(url: \"http://a\", model: \"m\")")
                ),
                "train_on: a V2 server",
            ),
            (
                "train_on: Tier(\"nowhere\"),",
                "train_on: no tier is called `nowhere`",
            ),
        ]);
    }

    #[test]
    fn another_version_is_refused() {
        for (version, wanted) in [(3, "use a newer program"), (0, "write `version: 2`")] {
            let text = format!("Session(version: {version}, brand_new: [1, (a: 2)])");
            let error = Session::parse(&text, Path::new("my.ron")).unwrap_err();
            assert!(error.to_string().contains(wanted), "{error}");
        }
    }

    #[test]
    fn links_and_splits_that_are_left_out_follow_the_tiers() {
        let tier = |name: &str| format!("(name: \"{name}\", targets: [Local()])");
        let three = ["a", "b", "c"].map(tier).join(", ");
        let session = parse(&format!("tiers: [{three}],")).unwrap();
        assert_eq!(session.links, [Link::Measured; 2]);
        let share = |share| SplitRule::Memory { share };
        assert_eq!(session.splits, [share(0.35), share(0.7)]);
        assert_eq!(session.tier_names().all(), ["a", "b", "c"]);
        let five = ["a", "b", "c", "d", "e"].map(tier).join(", ");
        let error = parse(&format!("tiers: [{five}],")).unwrap_err().to_string();
        assert!(error.contains("tiers: 5, it may be 2 to 4"), "{error}");
    }

    #[test]
    fn a_session_of_version_1_says_the_same_in_version_2() {
        let old = "Session(version: 1, model: Demo, data: Synthetic(seed: 7), split: Latency, \
                   preprocessing: (resize: (9, 8), mean: [0.5], channels: Bgr), train_on: Cloud, \
                   edge: [Local(), Local(slowdown: 2.0)], cloud: [Local(cores: [3])], \
                   link: Emulated(mbit: 1, rtt_ms: 2), sends: Image, jpeg_quality: 90, \
                   classes: [(\"a\", 1)])";
        let new = "Session(version: 2, model: Demo, data: Synthetic(seed: 7), splits: [Latency], \
                   preprocessing: (mean: [0.5], channels: Bgr), train_on: Tier(\"cloud\"), tiers: [\
                   (name: \"edge\", targets: [Local(), Local(slowdown: 2.0)]), \
                   (name: \"cloud\", targets: [Local(cores: [3])])], \
                   links: [Emulated(mbit: 1, rtt_ms: 2)], sends: Image, jpeg_quality: 90, \
                   classes: [(\"a\", 1)])";
        let read = |text: &str| Session::parse(text, Path::new("my.ron")).unwrap();
        let mut migrated = read(old);
        let told = std::mem::take(&mut migrated.migrated);
        assert!(
            told.len() == 1 && told[0].contains("preprocessing.resize"),
            "{told:?}"
        );
        assert_eq!(migrated, read(new));
        // What was left out has the same defaults in both.
        let short = |version| {
            read(&format!(
                "Session(version: {version}, model: Demo, data: Synthetic(seed: 7))"
            ))
        };
        assert_eq!(
            Session {
                version: 2,
                ..short(1)
            },
            short(2)
        );
        let error = Session::parse("Session(version: 1, tiers: [])", Path::new("my.ron"));
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("unknown field `tiers`")
        );
    }

    /// The sessions as version 1 shipped them.
    #[test]
    fn shipped_sessions_of_version_1_read_as_those_that_ship_now() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut count = 0;
        for entry in std::fs::read_dir(root.join("tests/sessions-1")).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains("version: 1"));
            let now = root.join("sessions").join(path.file_name().unwrap());
            let now = std::fs::read_to_string(now).unwrap();
            let mut old = Session::parse(&text, &path).unwrap();
            // One gave a size to images that they never had.
            assert_eq!(old.migrated.len(), usize::from(text.contains("resize")));
            old.migrated.clear();
            assert_eq!(old, Session::parse(&now, &path).unwrap());
            count += 1;
        }
        assert_eq!(count, 5);
    }
}
