/*! The session that comes of it, and its commented text. */

use super::{Look, ProposeError, Trial};
use crate::data::{Calibration, Source};
use crate::explore::Goal;
use crate::plan::{Link, Placement};
use crate::session::{ModelSource, Session, Target, TierSettings};
use crate::train::Training;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Images that tune thresholds, at most: more change little.
const TUNE: usize = 1000;
/// Images that train exits, at most, and milliseconds that running the network over them may take.
const TRAIN: usize = 10_000;
const TRAIN_MS: f64 = 120_000.0;
/// Images of the measured run, at least and at most, and milliseconds that it may take.
const TEST: std::ops::RangeInclusive<usize> = 200..=2000;
const TEST_MS: f64 = 60_000.0;
/// Factor by which a local edge is slowed down: that of a session that says nothing.
const SLOWDOWN: f64 = 6.0;
/// Round trip and bandwidth of the link between two processes of one machine, which has none.
const LINK: Link = Link::Emulated {
    mbit: 40.0,
    rtt_ms: 12.0,
};
/// Epochs that exits learn for, and that a network built in learns for before.
const EPOCHS: usize = 10;
/// The threshold to start from.
const THRESHOLD: f64 = 0.8;

/// What can't be found out from network and images.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// Where the edge part runs; on this machine, slowed down, if empty.
    pub edge: Vec<Target>,
    /// Agents of the tiers between, nearest to the edge first; at most two.
    pub between: Vec<Target>,
    /// Where the cloud part runs; on this machine if empty.
    pub cloud: Vec<Target>,
    /// What is wanted of a deployment.
    pub goal: Goal,
    /// Name of the run.
    pub name: String,
    /// Folder of the session file: its paths start there.
    pub folder: PathBuf,
}

/// Images that tune thresholds, of so many test images: half of them, up to 1,000.
pub(super) fn tuning(tests: usize) -> usize {
    (tests / 2).clamp(1, TUNE)
}

/// `path` as a file in `folder` is to name it: relative where it lies below, absolute elsewhere.
pub fn path_from(folder: &Path, path: &Path) -> PathBuf {
    let whole = |path: &Path| {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        path.canonicalize().or_else(|_| std::path::absolute(path))
    };
    let (Ok(folder), Ok(whole)) = (whole(folder), whole(path)) else {
        return path.to_owned();
    };
    match whole.strip_prefix(&folder) {
        Ok(below) if !below.as_os_str().is_empty() => below.to_owned(),
        _ => whole,
    }
}

/// The session: what was found, what is wanted, and defaults that give a first answer in minutes.
///
/// # Errors
/// A setting that a session can't have.
pub fn settle(
    look: &Look,
    trial: Option<&Trial>,
    wishes: &Wishes,
) -> Result<Session, ProposeError> {
    let mut session = Session::with(look.model.clone(), look.data.clone())?;
    session.name = Some(wishes.name.clone());
    session.goal = wishes.goal;
    session.seed = look.seed;
    if let ModelSource::Onnx(path) | ModelSource::OnnxWith { path, .. } = &mut session.model {
        *path = path_from(&wishes.folder, path);
    }
    if let Some(path) = session.data.path_mut() {
        *path = path_from(&wishes.folder, path);
    }
    let mut pixels = session.pixels().clone();
    pixels.layout = look.layout;
    let best = trial.and_then(Trial::best);
    session.preprocessing = Some(best.map_or(pixels, |tried| tried.pixels.clone()));
    session.classes = trial.map_or_else(Vec::new, |t| t.classes.clone());
    let (trains, tests) = (look.survey.trains(), look.survey.tests());
    session.calibration = match (&look.model, &look.data) {
        // Held out of what these two were trained on, or will be.
        (ModelSource::Demo, Source::Synthetic { seed: 7 }) => Calibration::FromTrain(TUNE),
        (ModelSource::Zoo { .. }, _) => Calibration::FromTrain((trains / 5).clamp(1, TUNE)),
        _ => Calibration::FromTest(tuning(tests)),
    };
    let (mut trains, mut tests) = (trains, tests);
    match session.calibration {
        Calibration::FromTrain(n) => trains = trains.saturating_sub(n),
        Calibration::FromTest(n) => tests = tests.saturating_sub(n),
    }
    let agents = [&wishes.edge, &wishes.between, &wishes.cloud];
    let local = agents.iter().all(|side| side.is_empty());
    if let Some(trial) = trial {
        let affordable = (TRAIN_MS / trial.image_ms) as usize;
        session.train_samples = limit(trains, affordable.clamp(100, TRAIN));
    }
    let sample_ms = trial.filter(|_| wishes.edge.is_empty()).map(|trial| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        SLOWDOWN * cores * trial.image_ms + 15.0
    });
    let affordable = sample_ms.map_or(*TEST.end(), |ms| (TEST_MS / ms) as usize);
    session.test_samples = limit(tests, affordable.clamp(*TEST.start(), *TEST.end()));
    session.exits.placement = Placement::Linear;
    session.exits.at_split = true;
    session.exits.classifier = look.classifier.clone();
    session.exits.training = match look.is_trained() {
        true => Training::Frozen { epochs: EPOCHS },
        false => Training::Mixed {
            backbone: EPOCHS,
            epochs: EPOCHS / 2,
        },
    };
    session.policy.threshold = THRESHOLD;
    // The default tiers, edge first.
    for (tier, targets) in session.tiers.iter_mut().zip([&wishes.edge, &wishes.cloud]) {
        if !targets.is_empty() {
            tier.targets.clone_from(targets);
        }
    }
    for (at, target) in wishes.between.iter().enumerate() {
        let name = match wishes.between.len() {
            1 => "between".to_string(),
            _ => format!("between-{}", at + 1),
        };
        let targets = vec![target.clone()];
        session.tiers.insert(at + 1, TierSettings { name, targets });
    }
    if !wishes.between.is_empty() {
        session.links.clear();
        session.splits.clear();
        session.complete();
    }
    if local {
        session.links.fill(LINK);
    }
    session.check(Path::new("the proposal"))?;
    Ok(session)
}

/// A limit where there is more.
fn limit(there: usize, most: usize) -> Option<usize> {
    (there > most).then_some(most)
}

/// The file's text: what was found, then every setting with a word on it. `file` is its name.
///
/// # Errors
/// A setting that can't be written.
pub fn text(
    session: &Session,
    look: &Look,
    trial: Option<&Trial>,
    file: &Path,
) -> Result<String, ProposeError> {
    let mut head = String::from("EdgeLessPart session, proposed by `edgelesspart new`.\n");
    let name = file.display();
    // Writing to a string can't fail.
    let _ = writeln!(
        head,
        "Run it with `edgelesspart run {name}`, open it with `edgelesspart {name}`."
    );
    let _ = writeln!(
        head,
        "Paths start at the folder of this file. A line may be left out, but for version, model and data:\n\
         it then has its default, which is not always what stands here."
    );
    if let Some(trial) = trial {
        let _ = writeln!(
            head,
            "\nAnswers of the network that are right, by preprocessing:"
        );
        for tried in &trial.tried {
            let (low, high) = tried.interval();
            let _ = writeln!(
                head,
                "  {:<35} {:>5.1} % of {:>3} images (95 % interval {:.1} to {:.1})",
                tried.name,
                100.0 * tried.accuracy(),
                tried.images,
                100.0 * low,
                100.0 * high
            );
        }
    }
    let remarks = look
        .remarks
        .iter()
        .chain(trial.map_or(&[][..], |t| &t.remarks));
    for remark in remarks {
        head.push('\n');
        let remark = remark.to_string();
        for line in textwrap::wrap(&remark, 96) {
            let _ = writeln!(head, "{line}");
        }
    }
    Ok(session.to_text_under(&head)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Cancel;
    use crate::propose::look;
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    #[rstest]
    #[case(2, 1)]
    #[case(61, 30)]
    #[case(10_000, 1000)]
    fn half_of_the_test_images_tune_up_to_a_thousand(#[case] tests: usize, #[case] tune: usize) {
        assert_eq!(tuning(tests), tune);
    }

    #[test]
    fn what_lies_below_the_file_is_named_from_there() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(dir.join("a/images")).unwrap();
        let images = dir.join("a/images");
        assert_eq!(path_from(&dir, &images), Path::new("a/images"));
        assert_eq!(path_from(&dir.join("a"), &images), Path::new("images"));
        assert_eq!(path_from(&images, &dir.join("a")), dir.join("a"));
        assert_eq!(path_from(&images, &images), images);
    }

    #[test]
    fn tiers_between_have_a_link_and_a_split_each() {
        let cancel = Cancel::new();
        let data = Source::Synthetic { seed: 9 };
        let look = look(ModelSource::Demo, data, None, 7, &mut |_| {}, &cancel).unwrap();
        let agent = |url: &str| Target::Agent {
            url: url.into(),
            token: None,
            trust: crate::session::Trust::System,
            engine: None,
        };
        let wishes = Wishes {
            between: vec![agent("https://a"), agent("https://b")],
            name: "mine".into(),
            ..Wishes::default()
        };
        let session = settle(&look, None, &wishes).unwrap();
        let names: Vec<&str> = session.tiers.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["edge", "between-1", "between-2", "cloud"]);
        assert_eq!(session.tiers[2].targets, [agent("https://b")]);
        assert_eq!((session.links.len(), session.splits.len()), (3, 3));
        assert!(!session.links.contains(&LINK));
    }

    #[test]
    fn the_text_is_the_session_and_stays_the_users() {
        let cancel = Cancel::new();
        let data = Source::Synthetic { seed: 9 };
        let look = look(ModelSource::Demo, data, None, 7, &mut |_| {}, &cancel).unwrap();
        let wishes = Wishes {
            name: "mine".into(),
            folder: PathBuf::from("."),
            ..Wishes::default()
        };
        let session = settle(&look, None, &wishes).unwrap();
        assert_eq!(session.calibration, Calibration::FromTest(1000));
        assert_eq!(session.test_samples, Some(2000));
        assert_eq!(session.links, [LINK]);
        let text = text(&session, &look, None, Path::new("mine.ron")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mine.ron");
        std::fs::write(&file, &text).unwrap();
        let again = Session::read(&file).unwrap();
        assert_eq!(again, session);
        again.save(&file).unwrap();
        // What a program writes over it is kept beside: it is the user's.
        let kept = std::fs::read_to_string(dir.path().join("mine.ron.bak")).unwrap();
        assert_eq!(kept, text);
        // Every setting has a comment above it.
        let lines: Vec<&str> = text.lines().collect();
        let settings = lines.windows(2).filter(|pair| {
            let name = pair[1]
                .strip_prefix("    ")
                .and_then(|l| l.split_once(": "));
            name.is_some_and(|(name, _)| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        });
        for pair in settings {
            assert!(pair[0].starts_with("    // "), "{pair:?}");
        }
    }
}
