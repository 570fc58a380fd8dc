/*!
CIFAR-10 and CIFAR-100. The binary version: records of one label byte (CIFAR-100: a coarse one, then
the fine one used here) and 3,072 pixel bytes, planes R, G, B of 32×32. The Python version: pickled
dictionaries with the same pixels as an array of one row per picture.
*/

mod python;

use super::DataError;
use super::arrays::{Arrays, Half};
use super::error::FETCH_AGAIN;
use std::path::{Path, PathBuf};

const STORED: [usize; 3] = [3, 32, 32];
const PIXELS: usize = 3072;

const CIFAR10_NAMES: [&str; 10] = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
];

/// What tells the two formats apart.
struct Format {
    train: &'static [&'static str],
    test: &'static str,
    /// Bytes before the pixels; the last one is the label.
    label_bytes: usize,
    classes: usize,
    /// Records of a training file for each record of the test file, as published.
    ratio: usize,
    names: &'static str,
    /// The pickle with the names, and the key they are under.
    meta: &'static str,
    meta_key: &'static str,
    /// The key of the labels in a pickle.
    label_key: &'static str,
    /// Folders the published archives unpack to, below which one may be named.
    unpacked: [&'static str; 2],
}

/// How a folder's files are written.
#[derive(Debug, Clone, Copy)]
enum Version {
    Binary,
    /// Pickled arrays, the version torchvision downloads.
    Python,
}

impl Format {
    /// The folder with the files, `folder` or the archive's below it, and their version.
    fn find(&self, folder: &Path) -> Result<(PathBuf, Version), DataError> {
        for folder in [folder.to_owned()]
            .into_iter()
            .chain(self.unpacked.map(|name| folder.join(name)))
        {
            if folder.join(format!("{}.bin", self.test)).is_file() {
                return Ok((folder, Version::Binary));
            }
            if folder.join(self.test).is_file() && folder.join(self.meta).is_file() {
                return Ok((folder, Version::Python));
            }
        }
        let [binary, python] = self.unpacked;
        Err(DataError::file(
            folder,
            format!(
                "neither {test}.bin nor {test} with {meta} is there, nor {binary}/ or {python}/",
                test = self.test,
                meta = self.meta
            ),
            "the folder must hold the files of the binary or the Python version, unpacked",
        ))
    }
}

const CIFAR10: Format = Format {
    train: &[
        "data_batch_1",
        "data_batch_2",
        "data_batch_3",
        "data_batch_4",
        "data_batch_5",
    ],
    test: "test_batch",
    label_bytes: 1,
    classes: 10,
    ratio: 1,
    names: "batches.meta.txt",
    meta: "batches.meta",
    meta_key: "label_names",
    label_key: "labels",
    unpacked: ["cifar-10-batches-bin", "cifar-10-batches-py"],
};

const CIFAR100: Format = Format {
    train: &["train"],
    test: "test",
    label_bytes: 2,
    classes: 100,
    ratio: 5,
    names: "fine_label_names.txt",
    meta: "meta",
    meta_key: "fine_label_names",
    label_key: "fine_labels",
    unpacked: ["cifar-100-binary", "cifar-100-python"],
};

/// Reads and checks a CIFAR-10 folder.
pub(super) fn open_10(folder: &Path) -> Result<Arrays, DataError> {
    open(folder, &CIFAR10)
}

/// Reads and checks a CIFAR-100 folder.
pub(super) fn open_100(folder: &Path) -> Result<Arrays, DataError> {
    open(folder, &CIFAR100)
}

fn open(folder: &Path, format: &Format) -> Result<Arrays, DataError> {
    let (folder, version) = format.find(folder)?;
    let mut test = Half {
        stored: STORED,
        ..Half::default()
    };
    let mut train = test.clone();
    let file = |name: &str| match version {
        Version::Binary => folder.join(format!("{name}.bin")),
        Version::Python => folder.join(name),
    };
    let read = |half: &mut Half, file: &Path| match version {
        Version::Binary => binary(half, file, format),
        Version::Python => python::read(half, file, format),
    };
    let in_test = read(&mut test, &file(format.test))?;
    for name in format.train {
        let file = file(name);
        let found = read(&mut train, &file)?;
        // A file cut off between two records still has whole ones. Only its neighbours tell:
        // as published all have their fixed proportion.
        if found != in_test * format.ratio {
            return Err(DataError::file(
                &file,
                format!(
                    "{found} records where {} has {in_test}; {} were expected",
                    format.test,
                    in_test * format.ratio
                ),
                "one of the two is cut off: fetch or unpack the data set again",
            ));
        }
    }
    Ok(Arrays {
        names: match version {
            Version::Binary => names(&folder.join(format.names), format)?,
            Version::Python => python::names(&folder.join(format.meta), format)?,
        },
        train,
        test,
        notes: Vec::new(),
    })
}

fn names(file: &PathBuf, format: &Format) -> Result<Vec<String>, DataError> {
    let found: Vec<String> = match std::fs::read_to_string(file) {
        Ok(text) => text
            .lines()
            .map(|line| line.trim().to_owned())
            .filter(|line| !line.is_empty())
            .collect(),
        // The names are a courtesy of the archive; the data is whole without them.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(match format.classes {
                10 => CIFAR10_NAMES.map(str::to_owned).to_vec(),
                classes => (0..classes).map(|class| format!("class {class}")).collect(),
            });
        }
        Err(error) => return Err(DataError::io(file, error, FETCH_AGAIN)),
    };
    if found.len() != format.classes {
        return Err(DataError::file(
            file,
            format!("{} names for {} classes", found.len(), format.classes),
            FETCH_AGAIN,
        ));
    }
    Ok(found)
}

/// Appends the records of a file of the binary version and says how many they are.
fn binary(half: &mut Half, file: &Path, format: &Format) -> Result<usize, DataError> {
    let bytes = std::fs::read(file).map_err(|error| {
        DataError::io(
            file,
            error,
            "the folder must hold the files of the binary version (.bin), unpacked",
        )
    })?;
    let size = format.label_bytes + PIXELS;
    if bytes.is_empty() {
        return Err(DataError::file(file, "the file is empty", FETCH_AGAIN));
    }
    for (record, bytes) in bytes.chunks(size).enumerate() {
        let problem = if bytes.len() < size {
            Some((
                format!("cut off after {} of {size} bytes", bytes.len()),
                FETCH_AGAIN,
            ))
        } else {
            let label = bytes[format.label_bytes - 1];
            (usize::from(label) >= format.classes).then(|| {
                (
                    format!(
                        "label {label}, but classes go from 0 to {}",
                        format.classes - 1
                    ),
                    "the file is damaged or of another format (Cifar10 and Cifar100 differ)",
                )
            })
        };
        if let Some((problem, remedy)) = problem {
            return Err(DataError::Record {
                file: file.to_owned(),
                record,
                offset: (record * size) as u64,
                problem,
                remedy,
            });
        }
        half.labels.push(u16::from(bytes[format.label_bytes - 1]));
        half.pixels.extend_from_slice(&bytes[format.label_bytes..]);
    }
    Ok(bytes.len() / size)
}

#[cfg(test)]
mod tests {
    use super::super::source::{Frame, Images, Side};
    use super::*;

    fn records(count: usize, label_bytes: usize, label: u8) -> Vec<u8> {
        (0..count)
            .flat_map(|i| {
                let mut record = vec![label; label_bytes];
                record.extend(std::iter::repeat_n(i as u8, PIXELS));
                record
            })
            .collect()
    }

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in CIFAR10.train.iter().chain([&CIFAR10.test]) {
            let file = dir.path().join(format!("{name}.bin"));
            std::fs::write(file, records(4, 1, 3)).unwrap();
        }
        dir
    }

    #[test]
    fn reads_both_formats() {
        let dir = folder();
        let cifar = open_10(dir.path()).unwrap();
        assert_eq!(cifar.labels(Side::Train), [3; 20]);
        assert_eq!(cifar.labels(Side::Test).len(), 4);
        let mut out = [0; PIXELS];
        cifar
            .decode(Side::Train, 6, Frame::stretched(STORED), &mut out)
            .unwrap();
        assert_eq!(out, [2; PIXELS]);

        std::fs::write(dir.path().join("train.bin"), records(10, 2, 99)).unwrap();
        std::fs::write(dir.path().join("test.bin"), records(2, 2, 99)).unwrap();
        let cifar = open_100(dir.path()).unwrap();
        assert_eq!(cifar.labels(Side::Train), [99; 10]);
        assert_eq!(cifar.class_names().len(), 100);
    }

    #[test]
    fn bad_files_name_file_and_record() {
        let mut mislabelled = records(4, 1, 3);
        mislabelled[2 * 3073] = 10;
        for (bytes, wanted) in [
            (
                records(4, 1, 3)[..9000].to_vec(),
                "record 2 (byte 6146): cut off after 2854 of 3073",
            ),
            (
                mislabelled,
                "record 2 (byte 6146): label 10, but classes go from 0 to 9",
            ),
            (records(3, 1, 3), "3 records where test_batch has 4"),
            (Vec::new(), "the file is empty"),
        ] {
            let dir = folder();
            std::fs::write(dir.path().join("data_batch_4.bin"), bytes).unwrap();
            let text = open_10(dir.path()).unwrap_err().to_string();
            assert!(text.contains("data_batch_4.bin"), "{text}");
            assert!(text.contains(wanted), "{text}");
        }
        let dir = folder();
        std::fs::remove_file(dir.path().join("data_batch_5.bin")).unwrap();
        let text = open_10(dir.path()).unwrap_err().to_string();
        assert!(
            text.contains("data_batch_5.bin") && text.contains("must hold"),
            "{text}"
        );
    }
}
