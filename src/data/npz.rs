/*!
Data sets in one NumPy archive (.npz): MedMNIST's names (`train_images`, `train_labels`, ...) or Keras's
(`x_train`, `y_train`, ...), pictures as bytes `[n, h, w]` or `[n, h, w, c]`.
*/

use super::DataError;
use super::arrays::{Arrays, Half};
use super::error::FETCH_AGAIN;
use super::npy;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use zip::ZipArchive;

/// Names of the pictures and labels of both sides, by who writes them.
const NAMES: [[&str; 4]; 2] = [
    ["train_images", "train_labels", "test_images", "test_labels"],
    ["x_train", "y_train", "x_test", "y_test"],
];
/// The same of an archive with one side.
const ONE_SIDE: [[&str; 2]; 4] = [
    ["images", "labels"],
    ["data", "labels"],
    ["x", "y"],
    ["X", "y"],
];
const REMEDY: &str = "the archive must hold train_images, train_labels, test_images and test_labels, \
                      or x_train, y_train, x_test and y_test";

struct Archive<'a> {
    path: &'a Path,
    zip: ZipArchive<BufReader<File>>,
}

/// Opens an archive; `classes` is how many the network has, if known.
pub(super) fn open(path: &Path, classes: Option<usize>, seed: u64) -> Result<Arrays, DataError> {
    let file = File::open(path).map_err(|error| DataError::io(path, error, REMEDY))?;
    let zip = ZipArchive::new(BufReader::new(file)).map_err(|error| {
        DataError::file(path, format!("not a ZIP archive: {error}"), FETCH_AGAIN)
    })?;
    let mut archive = Archive { path, zip };
    let here: Vec<String> = archive
        .zip
        .file_names()
        .filter_map(|name| Some(name.ok()?.strip_suffix(".npy")?.to_owned()))
        .collect();
    let has = |name: &str| here.iter().any(|other| other == name);
    let mut used: Vec<&str> = Vec::new();
    let mut notes = Vec::new();
    let (train, test) = if let Some(names) = NAMES.iter().find(|names| names.iter().all(|n| has(n)))
    {
        used.extend(names);
        let [images, labels, test_images, test_labels] = names;
        (
            archive.half(images, labels)?,
            Some(archive.half(test_images, test_labels)?),
        )
    } else if let Some(names) = ONE_SIDE.iter().find(|names| names.iter().all(|n| has(n))) {
        used.extend(names);
        (archive.half(names[0], names[1])?, None)
    } else {
        let problem = format!("its arrays are {}", here.join(", "));
        return Err(DataError::file(path, problem, REMEDY));
    };
    let largest = |half: &Half| half.labels.iter().copied().max().map_or(0, usize::from);
    let found = largest(&train).max(test.as_ref().map_or(0, largest)) + 1;
    // The archive doesn't say how many classes there are; the last ones may have no picture.
    let classes = classes.map_or(found, |classes| classes.max(found));
    let (train, test) = match test {
        Some(test) => (train, test),
        None => {
            notes.push(format!(
                "{}: no test side; a fifth of each class is held out by seed",
                path.display()
            ));
            train.split(classes, seed)
        }
    };
    let unused: Vec<&str> = here
        .iter()
        .map(String::as_str)
        .filter(|name| !used.contains(name))
        .collect();
    if !unused.is_empty() {
        notes.push(format!(
            "{}: {} not used",
            path.display(),
            unused.join(", ")
        ));
    }
    Ok(Arrays {
        names: (0..classes).map(|class| class.to_string()).collect(),
        train,
        test,
        notes,
    })
}

impl Archive<'_> {
    fn array(&mut self, name: &str) -> Result<npy::Array, DataError> {
        let path = self.path;
        let mut entry = self
            .zip
            .by_name(&format!("{name}.npy"))
            .map_err(|error| DataError::file(path, format!("{name}.npy: {error}"), FETCH_AGAIN))?;
        let size = entry.size();
        npy::read_from(&mut entry, size, path, name)
    }

    fn half(&mut self, images: &str, labels: &str) -> Result<Half, DataError> {
        let (pictures, classes) = (self.array(images)?, self.array(labels)?);
        let bad = |name: &str, problem: String| {
            DataError::file(self.path, format!("{name}: {problem}"), REMEDY)
        };
        let shape = pictures.shape.clone();
        let pixels = pictures.into_u8().map_err(|problem| bad(images, problem))?;
        let (stored, pixels) = planes(&shape, pixels).ok_or_else(|| {
            let problem = format!(
                "the shape {shape:?}; [n, h, w] or [n, h, w, c] with 1 or 3 channels was expected"
            );
            bad(images, problem)
        })?;
        let count = labels_per_picture(&classes.shape).ok_or_else(|| {
            let problem = format!(
                "the shape {:?}; one label per picture was expected",
                classes.shape
            );
            bad(labels, problem)
        })?;
        if count != shape[0] {
            let problem = format!("{count} labels for the {} pictures of {images}", shape[0]);
            return Err(bad(labels, problem));
        }
        let labels = classes
            .integers()
            .and_then(|values| {
                let label = |(record, value): (usize, i64)| {
                    u16::try_from(value)
                        .ok()
                        .filter(|&label| label < u16::MAX)
                        .ok_or_else(|| {
                            format!("record {record}: label {value}; 0 to 65534 can be told apart")
                        })
                };
                values.into_iter().enumerate().map(label).collect()
            })
            .map_err(|problem: String| bad(labels, problem))?;
        Ok(Half {
            labels,
            pixels,
            stored,
        })
    }
}

/// How many pictures labels of this shape belong to: MedMNIST has a column of one label each.
fn labels_per_picture(shape: &[usize]) -> Option<usize> {
    match *shape {
        [count] | [count, 1] => Some(count),
        _ => None,
    }
}

/// Channels, height and width, and the pixels as planes.
fn planes(shape: &[usize], pixels: Vec<u8>) -> Option<([usize; 3], Vec<u8>)> {
    let (stored, interleaved) = match *shape {
        [_, height, width] => ([1, height, width], false),
        [_, height, width, channels @ (1 | 3)] => ([channels, height, width], channels == 3),
        [_, channels @ (1 | 3), height, width] => ([channels, height, width], false),
        _ => return None,
    };
    let size: usize = stored.iter().product();
    if size == 0 || shape[0] == 0 {
        return None;
    }
    if !interleaved {
        return Some((stored, pixels));
    }
    let mut out = vec![0; pixels.len()];
    let plane = size / 3;
    for (from, to) in pixels.chunks_exact(size).zip(out.chunks_exact_mut(size)) {
        for (at, pixel) in from.as_chunks::<3>().0.iter().enumerate() {
            for (channel, &value) in pixel.iter().enumerate() {
                to[channel * plane + at] = value;
            }
        }
    }
    Some((stored, out))
}
