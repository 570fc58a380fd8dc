/*! Folders of JPEG and PNG pictures of any size, one folder a class. */

use super::DataError;
use super::error::FETCH_AGAIN;
use super::load::{Images, Side};
use super::pixels::fit;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::path::{Path, PathBuf};

/// Of a folder without `train/` and `test/`, one picture in so many becomes a test picture.
const TEST_ONE_IN: usize = 5;

#[derive(Debug, Default)]
struct Files {
    paths: Vec<PathBuf>,
    labels: Vec<u16>,
}

/// A folder of pictures, listed; they are decoded when they are chosen.
#[derive(Debug)]
pub(super) struct Folder {
    names: Vec<String>,
    train: Files,
    test: Files,
}

impl Folder {
    pub fn open(folder: &Path, seed: u64) -> Result<Self, DataError> {
        let (train_folder, test_folder) = (folder.join("train"), folder.join("test"));
        match (train_folder.is_dir(), test_folder.is_dir()) {
            (true, true) => {
                let train = classes(&train_folder)?;
                let test = classes(&test_folder)?;
                let names: Vec<String> = train.iter().map(|(name, _)| name.clone()).collect();
                let lacks = |of: &[(String, Vec<PathBuf>)], name: &str| {
                    !of.iter().any(|(other, _)| other == name)
                };
                for (name, here, there, where_to) in test
                    .iter()
                    .map(|(name, _)| (name, &test_folder, &train, &train_folder))
                    .chain(
                        train
                            .iter()
                            .map(|(name, _)| (name, &train_folder, &test, &test_folder)),
                    )
                {
                    if lacks(there, name) {
                        return Err(DataError::file(
                            &here.join(name),
                            format!("{} has no such class", where_to.display()),
                            "both must hold the same classes",
                        ));
                    }
                }
                Ok(Folder {
                    names,
                    train: Files::all(train),
                    test: Files::all(test),
                })
            }
            (false, false) => Self::one_folder(folder, seed),
            (has_train, _) => {
                let (has, lacks) = if has_train {
                    ("train", "test")
                } else {
                    ("test", "train")
                };
                Err(DataError::file(
                    folder,
                    format!("holds {has}/ but not {lacks}/"),
                    "unpack both halves of the data set here",
                ))
            }
        }
    }

    fn one_folder(folder: &Path, seed: u64) -> Result<Self, DataError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut opened = Folder {
            names: Vec::new(),
            train: Files::default(),
            test: Files::default(),
        };
        for (label, (name, mut paths)) in classes(folder)?.into_iter().enumerate() {
            if paths.len() < 2 {
                return Err(DataError::file(
                    &folder.join(&name),
                    "a single picture, which can't both train and test",
                    "add pictures of this class, or make train/ and test/ folders",
                ));
            }
            paths.shuffle(&mut rng);
            let rest = paths.split_off(paths.len().div_ceil(TEST_ONE_IN));
            opened.test.add(label, paths);
            opened.train.add(label, rest);
            opened.names.push(name);
        }
        Ok(opened)
    }

    fn side(&self, side: Side) -> &Files {
        match side {
            Side::Train => &self.train,
            Side::Test => &self.test,
        }
    }
}

impl Files {
    fn add(&mut self, label: usize, paths: Vec<PathBuf>) {
        // `classes` refuses more than u16 can count.
        self.labels
            .extend(std::iter::repeat_n(label as u16, paths.len()));
        self.paths.extend(paths);
    }

    fn all(classes: Vec<(String, Vec<PathBuf>)>) -> Files {
        let mut files = Files::default();
        for (label, (_, paths)) in classes.into_iter().enumerate() {
            files.add(label, paths);
        }
        files
    }
}

/// Names and sorted paths of what a folder holds, hidden entries left out.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, DataError> {
    let remedy = "the folder must hold train/<class>/… and test/<class>/…, or <class>/… folders";
    let io = |error| DataError::io(folder, error, remedy);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name().into_string().map_err(|name| {
            DataError::file(&folder.join(name), "a name that isn't UTF-8", "rename it")
        })?;
        if !name.starts_with('.') {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

fn classes(folder: &Path) -> Result<Vec<(String, Vec<PathBuf>)>, DataError> {
    let mut found = Vec::new();
    for (name, path) in entries(folder)? {
        if !path.is_dir() {
            return Err(DataError::file(
                &path,
                "a file where class folders were expected",
                "move it out of the data set, or into the folder of its class",
            ));
        }
        let mut pictures = Vec::new();
        for (_, path) in entries(&path)? {
            let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
            if !["jpg", "jpeg", "png"].contains(&extension.to_ascii_lowercase().as_str()) {
                return Err(DataError::file(
                    &path,
                    "neither JPEG nor PNG by its name",
                    "convert it, or move it out of the data set",
                ));
            }
            pictures.push(path);
        }
        if pictures.is_empty() {
            return Err(DataError::file(
                &path,
                "a class without a picture",
                "add some, or remove the folder",
            ));
        }
        found.push((name, pictures));
    }
    if found.len() < 2 || found.len() > usize::from(u16::MAX) {
        return Err(DataError::file(
            folder,
            format!(
                "{} class folders; 2 to 65535 can be told apart",
                found.len()
            ),
            "the folder must hold train/<class>/… and test/<class>/…, or <class>/… folders",
        ));
    }
    Ok(found)
}

/// Whether a JPEG ends: decoders fill up what is missing with grey and say nothing. Within the
/// compressed data 0xff is always followed by a stuffed 0 or a marker, so an end marker behind the
/// first scan header is a true one (thumbnails lie before it).
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[marker, kind, high, low]) = bytes.get(at..at + 4) {
        if marker != 0xff {
            return false;
        }
        if kind == 0xff {
            at += 1;
        } else if kind == 0xda {
            return bytes[at..].windows(2).any(|pair| pair == [0xff, 0xd9]);
        } else {
            at += 2 + usize::from(u16::from_be_bytes([high, low]));
        }
    }
    false
}

impl Images for Folder {
    fn class_names(&self) -> Vec<String> {
        self.names.clone()
    }

    fn labels(&self, side: Side) -> &[u16] {
        &self.side(side).labels
    }

    fn decode(
        &self,
        side: Side,
        index: usize,
        input: [usize; 3],
        out: &mut [u8],
    ) -> Result<Option<f32>, DataError> {
        let file = &self.side(side).paths[index];
        let bytes = std::fs::read(file).map_err(|error| DataError::io(file, error, FETCH_AGAIN))?;
        let bad = |problem: String| {
            let remedy = "replace it, or move it out of the data set";
            DataError::file(
                file,
                format!("picture {index} of its side: {problem}"),
                remedy,
            )
        };
        if bytes.is_empty() {
            return Err(bad("the file is empty".into()));
        }
        // By content: a PNG named .jpg is a common accident, and harmless.
        if bytes.starts_with(&[0xff, 0xd8]) && !jpeg_is_whole(&bytes) {
            return Err(bad(format!("a JPEG cut off at byte {}", bytes.len())));
        }
        let image = image::load_from_memory(&bytes).map_err(|error| bad(error.to_string()))?;
        fit(&image, input, out);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Calibration, LoadOptions, LoadedData, Set, Source};
    use super::*;
    use crate::engine::Cancel;

    fn picture(path: &Path, value: u8) {
        let image = image::RgbImage::from_fn(20, 10, |x, _| image::Rgb([value, x as u8, 9]));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        image.save(path).unwrap();
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

    fn load(dir: &Path) -> Result<LoadedData, DataError> {
        let options = LoadOptions {
            input: [3, 8, 8],
            classes: None,
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
            ("test/ant/1.jpg", b"hello, I am text".to_vec(), "picture"),
            ("test/ant/0.png", png[..png.len() / 2].to_vec(), "picture"),
            ("test/ant/0.png", Vec::new(), "the file is empty"),
            ("test/ant/notes.txt", b"x".to_vec(), "neither JPEG nor PNG"),
            (
                "test/notes.txt",
                b"x".to_vec(),
                "a file where class folders",
            ),
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
    fn odd_folders_are_named() {
        let dir = folder();
        picture(&dir.path().join("test/cat/0.png"), 1);
        let text = load(dir.path()).unwrap_err().to_string();
        assert!(
            text.contains("test/cat") && text.contains("no such class"),
            "{text}"
        );
        std::fs::remove_file(dir.path().join("test/cat/0.png")).unwrap();
        let text = load(dir.path()).unwrap_err().to_string();
        assert!(text.contains("a class without a picture"), "{text}");
        std::fs::remove_dir_all(dir.path().join("test")).unwrap();
        let text = load(dir.path()).unwrap_err().to_string();
        assert!(text.contains("holds train/ but not test/"), "{text}");
        let text = load(&dir.path().join("nowhere")).unwrap_err().to_string();
        assert!(text.contains("nowhere"), "{text}");
    }
}
