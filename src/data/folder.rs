/*!
Folders of pictures, in the layouts people keep them in:

- `train/<class>/...` and `test/<class>/...`, also by other names (Training, val, validation, ...);
- `<class>/...` alone, or one side alone: a seeded part of each class becomes the test side;
- pictures in one folder with a table of their labels ([`super::table`]).

A class has every picture below its folder, however deep. What is left out is noted.
*/

use super::DataError;
use super::labels::Classes;
use super::picture::{DECODED, OTHERS};
use super::pictures::{Listed, Pictures, Place};
use super::table;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Names of the side to train on, the preferred first.
pub(super) const TRAIN: [&str; 2] = ["train", "training"];
/// Names of the side to test on, the preferred first.
pub(super) const TEST: [&str; 5] = ["test", "testing", "val", "valid", "validation"];
/// Folders within one another below a class; a link in a circle ends here.
const DEEPEST: usize = 8;
/// Names that one note lists.
const LISTED: usize = 3;
const LAYOUT: &str = "the folder must hold train/<class>/... and test/<class>/... (or val/), \
                      or <class>/... folders alone, or pictures with a table of their labels";

/// What a folder holds, sorted by name, hidden entries left out.
#[derive(Debug, Default)]
pub(super) struct Entries {
    pub folders: Vec<(String, PathBuf)>,
    pub files: Vec<(String, PathBuf)>,
}

/// Pictures by the name of their class, and what was left out.
#[derive(Debug, Default)]
struct Half {
    classes: BTreeMap<String, Vec<PathBuf>>,
    /// Whether the names are the labels of a table.
    from_table: bool,
    notes: Vec<String>,
}

/// Opens a folder; `known` is how many classes the network has, if that is known.
pub(super) fn open(folder: &Path, known: Option<usize>, seed: u64) -> Result<Pictures, DataError> {
    let here = entries(folder)?;
    let train = here.side(&TRAIN)?;
    let test = here.side(&TEST)?;
    let used: Vec<&str> = [&train, &test]
        .into_iter()
        .flatten()
        .map(|(name, _)| *name)
        .collect();
    let unused: Vec<String> = here
        .folders
        .iter()
        .filter(|(name, _)| !used.contains(&name.as_str()))
        .map(|(name, _)| format!("{name}/"))
        .collect();
    let plain = used == ["train", "test"] && unused.is_empty();
    let how = match used.as_slice() {
        [train, test] => format!("{train}/ trains and {test}/ tests"),
        [only] => format!("{only}/ is the only side, a fifth of each class is held out to test"),
        _ => String::new(),
    };
    let mut pictures = match (train, test) {
        (Some((_, train)), Some((_, test))) => two_sides(folder, train, test, known)?,
        (Some((_, side)), None) | (None, Some((_, side))) => one_side(folder, side, known, seed)?,
        (None, None) => return without_sides(folder, &here, known, seed),
    };
    if !plain {
        let rest = match some_of(&unused) {
            None => String::new(),
            Some(names) => format!("; not used: {names}"),
        };
        pictures
            .notes
            .insert(0, format!("{}: {how}{rest}", folder.display()));
    }
    Ok(pictures)
}

/// A folder that is one side itself, or holds one folder that is a data set.
fn without_sides(
    folder: &Path,
    here: &Entries,
    known: Option<usize>,
    seed: u64,
) -> Result<Pictures, DataError> {
    if let Some(classes) = class_folders(here, 2)? {
        return one_side(folder, classes, known, seed);
    }
    if let Some(pictures) = table::in_folder(folder, here, known, seed)? {
        return Ok(pictures);
    }
    if let [(name, only)] = here.folders.as_slice() {
        let mut pictures = open(only, known, seed)?;
        let note = format!("{}: the data set is in {name}/", folder.display());
        pictures.notes.insert(0, note);
        return Ok(pictures);
    }
    let names = |of: &[(String, PathBuf)]| {
        let names: Vec<String> = of.iter().map(|(name, _)| name.clone()).collect();
        some_of(&names).unwrap_or_else(|| "none".into())
    };
    Err(DataError::file(
        folder,
        format!(
            "no layout that is known; its folders: {}; its files: {}",
            names(&here.folders),
            names(&here.files)
        ),
        LAYOUT,
    ))
}

fn one_side(
    folder: &Path,
    half: Half,
    known: Option<usize>,
    seed: u64,
) -> Result<Pictures, DataError> {
    let classes = numbered(folder, &[&half], known)?;
    let listed = half.listed(&classes);
    let mut notes = half.notes;
    notes.extend(classes.note);
    Ok(Pictures::held_out(classes.names, &listed, seed, notes))
}

fn two_sides(
    folder: &Path,
    train: Half,
    test: Half,
    known: Option<usize>,
) -> Result<Pictures, DataError> {
    // A class that nothing trains is a name written in two ways, or half of a data set.
    if let Some((name, pictures)) = test
        .classes
        .iter()
        .find(|(name, _)| !train.classes.contains_key(*name))
    {
        let place = pictures.first().map_or(folder, PathBuf::as_path);
        return Err(DataError::file(
            place,
            format!("the class {name} is not among those to train on"),
            "both sides must have the same classes; an empty folder will do for one without pictures",
        ));
    }
    let classes = numbered(folder, &[&train, &test], known)?;
    let mut pictures = Pictures {
        train: train.listed(&classes),
        test: test.listed(&classes),
        names: classes.names,
        notes: train.notes,
    };
    pictures.notes.extend(test.notes);
    pictures.notes.extend(classes.note);
    Ok(pictures)
}

fn numbered(folder: &Path, halves: &[&Half], known: Option<usize>) -> Result<Classes, DataError> {
    let names: BTreeSet<&str> = halves
        .iter()
        .flat_map(|half| half.classes.keys().map(String::as_str))
        .collect();
    let classes = if halves.iter().all(|half| half.from_table) {
        Classes::by_label(names, known)
    } else {
        Classes::by_name(names)
    };
    classes.map_err(|problem| DataError::file(folder, problem, LAYOUT))
}

impl Half {
    fn listed(&self, classes: &Classes) -> Listed {
        let mut listed = Listed::default();
        for (name, pictures) in &self.classes {
            // Every name was among those counted.
            let Some(label) = classes.of(name) else {
                continue;
            };
            for picture in pictures {
                listed.push(Place::File(picture.clone()), label);
            }
        }
        listed
    }
}

impl Entries {
    /// The first folder of these names that holds classes or pictures with a table, and what it holds.
    fn side(&self, names: &[&str]) -> Result<Option<(&str, Half)>, DataError> {
        for wanted in names {
            for (name, path) in &self.folders {
                if !name.eq_ignore_ascii_case(wanted) {
                    continue;
                }
                let inside = entries(path)?;
                // Beside another folder, even one class with pictures makes a side.
                let half = match class_folders(&inside, 1)? {
                    Some(half) => Some(half),
                    None => labelled(path, &inside)?,
                };
                if let Some(half) = half {
                    return Ok(Some((name.as_str(), half)));
                }
            }
        }
        Ok(None)
    }
}

/// A side of pictures with one table of labels.
fn labelled(folder: &Path, here: &Entries) -> Result<Option<Half>, DataError> {
    let Some(rows) = table::only_one(folder, here)? else {
        return Ok(None);
    };
    let mut half = Half {
        from_table: true,
        ..Half::default()
    };
    for row in rows {
        half.classes.entry(row.label).or_default().push(row.picture);
    }
    Ok(Some(half))
}

/// What is below class folders, if there are two or more, `least` of them with pictures.
fn class_folders(here: &Entries, least: usize) -> Result<Option<Half>, DataError> {
    let mut half = Half::default();
    let mut others = Vec::new();
    let (mut empty, mut without) = (Vec::new(), Vec::new());
    for (name, path) in &here.folders {
        let mut pictures = Vec::new();
        let before = others.len();
        below(path, 0, &mut pictures, &mut others)?;
        if !pictures.is_empty() {
            half.classes.insert(name.clone(), pictures);
        } else if others.len() == before {
            empty.push(name.clone());
        } else {
            without.push(format!("{name}/"));
        }
    }
    if half.classes.len() < least || half.classes.len() + empty.len() < 2 {
        return Ok(None);
    }
    for name in empty {
        half.classes.insert(name, Vec::new());
    }
    others.extend(here.files.iter().map(|(_, path)| path.clone()));
    let names: Vec<String> = others
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    if let Some(names) = some_of(&names) {
        half.notes.push(format!("not pictures, left out: {names}"));
    }
    if let Some(names) = some_of(&without) {
        half.notes.push(format!(
            "folders without a picture, not taken as classes: {names}"
        ));
    }
    Ok(Some(half))
}

/// Collects the pictures below a folder, and the files that are none.
fn below(
    folder: &Path,
    depth: usize,
    pictures: &mut Vec<PathBuf>,
    others: &mut Vec<PathBuf>,
) -> Result<(), DataError> {
    if depth > DEEPEST {
        return Err(DataError::file(
            folder,
            format!("folders more than {DEEPEST} deep below a class"),
            "look for a link that leads back up",
        ));
    }
    let here = entries(folder)?;
    for (_, path) in here.files {
        if is_picture(&path)? {
            pictures.push(path);
        } else {
            others.push(path);
        }
    }
    for (_, path) in here.folders {
        below(&path, depth + 1, pictures, others)?;
    }
    Ok(())
}

/// Whether a file is a picture by its name.
///
/// # Errors
/// It is one in a format that isn't decoded: left out, it would make the set smaller unseen.
pub(super) fn is_picture(path: &Path) -> Result<bool, DataError> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    let extension = extension.to_ascii_lowercase();
    if OTHERS.contains(&extension.as_str()) {
        return Err(DataError::file(
            path,
            format!("a picture in the format .{extension}; JPEG, PNG, BMP and PNM can be decoded"),
            "convert it, or move it out of the data set",
        ));
    }
    Ok(DECODED.contains(&extension.as_str()))
}

/// What a folder holds.
pub(super) fn entries(folder: &Path) -> Result<Entries, DataError> {
    let io = |error| DataError::io(folder, error, LAYOUT);
    let mut found = Entries::default();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name().into_string().map_err(|name| {
            DataError::file(&folder.join(name), "a name that isn't UTF-8", "rename it")
        })?;
        // The second is what macOS adds to its archives.
        if name.starts_with('.') || name == "__MACOSX" {
            continue;
        }
        let path = entry.path();
        if path.is_dir() {
            found.folders.push((name, path));
        } else {
            found.files.push((name, path));
        }
    }
    found.folders.sort();
    found.files.sort();
    Ok(found)
}

/// The first few names and how many more there are; nothing of none.
pub(super) fn some_of(names: &[String]) -> Option<String> {
    let first = names.get(..names.len().min(LISTED))?.join(", ");
    match names.len() {
        0 => None,
        n if n <= LISTED => Some(first),
        n => Some(format!("{first} and {} more", n - LISTED)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Calibration, Fit, LoadOptions, LoadedData, Set, Source};
    use super::*;
    use crate::engine::Cancel;
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    fn picture(path: &Path, value: u8) {
        let image = image::RgbImage::from_fn(20, 10, |x, _| image::Rgb([value, x as u8, 9]));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        if path.extension().is_some_and(|e| e == "jpg") {
            use libjpeg_turbo_rs::{PixelFormat, Subsampling, compress};
            let (format, chroma) = (PixelFormat::Rgb, Subsampling::S420);
            std::fs::write(path, compress(&image, 20, 10, format, 90, chroma).unwrap()).unwrap();
        } else {
            image.save(path).unwrap();
        }
    }

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (label, class) in ["bee", "ant"].into_iter().enumerate() {
            for i in 0..4 {
                let extension = if i % 2 == 0 { "png" } else { "jpg" };
                let name = format!("{class}/{i}.{extension}");
                picture(&dir.path().join("train").join(&name), 100 * label as u8);
                picture(&dir.path().join("test").join(&name), 100 * label as u8);
            }
        }
        dir
    }

    /// A folder with empty pictures of these paths and files of these contents.
    fn laid_out(paths: &[&str], files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in paths
            .iter()
            .map(|path| (*path, ""))
            .chain(files.iter().copied())
        {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    fn load(dir: &Path) -> Result<LoadedData, DataError> {
        let options = LoadOptions {
            input: [3, 8, 8],
            fit: Fit::Stretch,
            classes: None,
            outputs: Vec::new(),
            output_names: Vec::new(),
            calibration: Calibration::FromTrain(2),
            train: None,
            test: None,
            seed: 5,
        };
        LoadedData::load(
            &Source::ImageFolder(dir.to_owned()),
            &options,
            &mut |_| {},
            &Cancel::new(),
        )
    }

    #[test]
    fn classes_are_sorted_and_pictures_resized() {
        let data = load(folder().path()).unwrap();
        assert_eq!(data.class_names(), ["ant", "bee"]);
        assert_eq!((data.len(Set::Train), data.len(Set::Test)), (6, 8));
        assert_eq!(data.notes(), &[] as &[String]);
        for i in 0..8 {
            let red = data.pixels(Set::Test, i)[0];
            let wanted = if data.label(Set::Test, i) == 0 {
                100
            } else {
                0
            };
            assert!(red.abs_diff(wanted) < 8, "{red}");
        }
    }

    #[test]
    fn one_folder_gives_a_fifth_to_the_test() {
        let dir = folder();
        let data = load(&dir.path().join("train")).unwrap();
        assert_eq!(data.len(Set::Test), 2);
        assert_eq!(data.len(Set::Train) + data.len(Set::Calibration), 6);
    }

    /// Pictures of the classes on both sides, and a part of a note, or of the error.
    #[rstest]
    #[case::usual(&["train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png"], &[], Ok(([1, 1], [1, 1])), "")]
    #[case::val(&["train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.png"], &[], Ok(([1, 1], [1, 1])), "train/ trains and val/ tests")]
    #[case::three(&["train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.png", "test/a/1.png", "test/b/1.png"], &[], Ok(([1, 1], [1, 1])), "not used: val/")]
    #[case::unlabelled_test(&["train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.png", "test/1.png"], &[], Ok(([1, 1], [1, 1])), "train/ trains and val/ tests; not used: test/")]
    #[case::other_words(&["Training/a/1.png", "Training/b/1.png", "Testing/a/1.png", "Testing/b/1.png"], &[], Ok(([1, 1], [1, 1])), "Training/ trains and Testing/ tests")]
    #[case::deeper(&["train/a/images/1.png", "train/b/x/y/1.png", "test/a/images/1.png", "test/b/1.png"], &[], Ok(([1, 1], [1, 1])), "")]
    #[case::class_called_train(&["bus/1.png", "bus/2.png", "train/1.png", "train/2.png", "train/3.png"], &[], Ok(([1, 2], [1, 1])), "")]
    #[case::train_alone(&["train/a/1.png", "train/a/2.png", "train/b/1.png", "train/b/2.png"], &[], Ok(([1, 1], [1, 1])), "train/ is the only side")]
    #[case::val_alone(&["val/a/1.png", "val/a/2.png", "val/b/1.png", "val/b/2.png"], &[], Ok(([1, 1], [1, 1])), "val/ is the only side")]
    #[case::in_one_folder(&["set/a/1.png", "set/a/2.png", "set/b/1.png", "set/b/2.png"], &[], Ok(([1, 1], [1, 1])), "the data set is in set/")]
    #[case::files_of_others(&["train/a/1.png", "train/b/1.ppm", "test/a/1.png", "test/b/1.png"], &[("train/a/boxes.txt", ""), ("train/b/GT.csv", ""), ("test/readme", "")], Ok(([1, 1], [1, 1])), "not pictures, left out: ")]
    #[case::no_classes_folder(&["a/1.png", "a/2.png", "b/1.png", "b/2.png"], &[("annotations/1.xml", "")], Ok(([1, 1], [1, 1])), "not taken as classes: annotations/")]
    #[case::webp(&["a/1.png", "a/2.webp", "b/1.png", "b/2.png"], &[], Err(()), "2.webp: a picture in the format .webp")]
    #[case::unknown_class(&["train/a/1.png", "train/b/1.png", "test/a/1.png", "test/B/1.png"], &[], Err(()), "the class B is not among those to train on")]
    #[case::not_tested(&["train/a/1.png", "train/b/1.png", "train/b/2.png", "test/a/1.png", "test/c/readme"], &[], Ok(([1, 1], [0, 1])), "train/ is the only side, a fifth of each class is held out to test; not used: test/")]
    #[case::nothing(&["readme"], &[], Err(()), "its folders: none; its files: readme")]
    fn layouts(
        #[case] paths: &[&str],
        #[case] files: &[(&str, &str)],
        #[case] wanted: Result<([usize; 2], [usize; 2]), ()>,
        #[case] says: &str,
    ) {
        let dir = laid_out(paths, files);
        let found = open(dir.path(), None, 5);
        let said = match &found {
            Ok(pictures) => pictures.notes.join("\n"),
            Err(error) => error.to_string(),
        };
        let counts = |listed: &Listed| {
            [0, 1].map(|class| {
                listed
                    .labels
                    .iter()
                    .filter(|&&label| label == class)
                    .count()
            })
        };
        let counts = found
            .map(|found| (counts(&found.train), counts(&found.test)))
            .map_err(|_| ());
        assert_eq!(counts, wanted, "{said}");
        assert!(
            said.contains(says) && said.is_empty() == says.is_empty(),
            "{said}"
        );
    }

    #[test]
    fn an_empty_class_is_warned_of() {
        let dir = folder();
        for side in ["train", "test"] {
            std::fs::create_dir_all(dir.path().join(side).join("cat")).unwrap();
        }
        picture(&dir.path().join("train/cat/0.png"), 1);
        let data = load(dir.path()).unwrap();
        assert_eq!(data.class_names(), ["ant", "bee", "cat"]);
        assert_eq!(data.notes(), ["1 class of 3 has no image to test: cat"]);
        assert_eq!(data.per_class(Set::Test), [4, 4, 0]);
    }

    #[test]
    fn bad_pictures_are_named() {
        let whole = std::fs::read(folder().path().join("train/ant/1.jpg")).unwrap();
        let png = std::fs::read(folder().path().join("train/ant/0.png")).unwrap();
        for (name, bytes, wanted) in [
            (
                "test/ant/1.jpg",
                whole[..whole.len() - 20].to_vec(),
                "a JPEG cut off at byte",
            ),
            (
                "test/ant/1.jpg",
                b"hello, I am text".to_vec(),
                "not a picture by its first bytes",
            ),
            (
                "test/ant/1.jpg",
                b"<!DOCTYPE html><title>Sign in</title>".to_vec(),
                "a web page (HTML); JPEG",
            ),
            (
                "test/ant/1.jpg",
                b"version https://git-lfs.github.com/spec/v1\noid sha256:0".to_vec(),
                "git lfs pull",
            ),
            ("test/ant/0.png", png[..png.len() / 2].to_vec(), "0.png"),
            ("test/ant/0.png", Vec::new(), "the file is empty"),
        ] {
            let dir = folder();
            std::fs::write(dir.path().join(name), bytes).unwrap();
            let text = load(dir.path()).unwrap_err().to_string();
            assert!(
                text.contains(name) && text.contains(wanted),
                "{wanted}: {text}"
            );
        }
    }

    #[test]
    fn a_link_in_a_circle_ends() {
        let dir = folder();
        std::os::unix::fs::symlink(dir.path().join("train"), dir.path().join("train/ant/up"))
            .unwrap();
        let text = load(dir.path()).unwrap_err().to_string();
        assert!(text.contains("a link that leads back up"), "{text}");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let text = load(Path::new("/no/such/nowhere")).unwrap_err().to_string();
        assert!(text.contains("nowhere"), "{text}");
    }
}
