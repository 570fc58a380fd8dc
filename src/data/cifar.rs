/*!
CIFAR-10 and CIFAR-100 in their binary form: records of one label byte (CIFAR-100: a coarse one, then
the fine one used here) and 3,072 pixel bytes, planes R, G, B of 32×32.
*/

use super::DataError;
use super::error::FETCH_AGAIN;
use super::load::{Images, Side};
use super::pixels::fit_planes;
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
}

const CIFAR10: Format = Format {
    train: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
    ],
    test: "test_batch.bin",
    label_bytes: 1,
    classes: 10,
    ratio: 1,
    names: "batches.meta.txt",
};

const CIFAR100: Format = Format {
    train: &["train.bin"],
    test: "test.bin",
    label_bytes: 2,
    classes: 100,
    ratio: 5,
    names: "fine_label_names.txt",
};

#[derive(Debug, Default)]
struct Records {
    labels: Vec<u16>,
    pixels: Vec<u8>,
}

/// A CIFAR folder, read and checked.
#[derive(Debug)]
pub(super) struct Cifar {
    names: Vec<String>,
    train: Records,
    test: Records,
}

impl Cifar {
    pub fn open_10(folder: &Path) -> Result<Self, DataError> {
        Self::open(folder, &CIFAR10)
    }

    pub fn open_100(folder: &Path) -> Result<Self, DataError> {
        Self::open(folder, &CIFAR100)
    }

    fn open(folder: &Path, format: &Format) -> Result<Self, DataError> {
        let mut test = Records::default();
        let in_test = test.read(&folder.join(format.test), format)?;
        let mut train = Records::default();
        for name in format.train {
            let file = folder.join(name);
            let found = train.read(&file, format)?;
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
        Ok(Cifar {
            names: names(&folder.join(format.names), format)?,
            train,
            test,
        })
    }

    fn side(&self, side: Side) -> &Records {
        match side {
            Side::Train => &self.train,
            Side::Test => &self.test,
        }
    }
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

impl Records {
    /// Appends a file's records and says how many they are.
    fn read(&mut self, file: &Path, format: &Format) -> Result<usize, DataError> {
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
            let problem =
                if bytes.len() < size {
                    Some((
                        format!("cut off after {} of {size} bytes", bytes.len()),
                        FETCH_AGAIN,
                    ))
                } else {
                    let label = bytes[format.label_bytes - 1];
                    (usize::from(label) >= format.classes).then(|| {
                    (
                        format!("label {label}, but classes go from 0 to {}", format.classes - 1),
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
            self.labels.push(u16::from(bytes[format.label_bytes - 1]));
            self.pixels.extend_from_slice(&bytes[format.label_bytes..]);
        }
        Ok(bytes.len() / size)
    }
}

impl Images for Cifar {
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
        let pixels = &self.side(side).pixels[index * PIXELS..(index + 1) * PIXELS];
        fit_planes(pixels, STORED, input, out);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
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
            std::fs::write(dir.path().join(name), records(4, 1, 3)).unwrap();
        }
        dir
    }

    #[test]
    fn reads_both_formats() {
        let dir = folder();
        let cifar = Cifar::open_10(dir.path()).unwrap();
        assert_eq!(cifar.labels(Side::Train), [3; 20]);
        assert_eq!(cifar.labels(Side::Test).len(), 4);
        let mut out = [0; PIXELS];
        cifar.decode(Side::Train, 6, STORED, &mut out).unwrap();
        assert_eq!(out, [2; PIXELS]);

        std::fs::write(dir.path().join("train.bin"), records(10, 2, 99)).unwrap();
        std::fs::write(dir.path().join("test.bin"), records(2, 2, 99)).unwrap();
        let cifar = Cifar::open_100(dir.path()).unwrap();
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
            (records(3, 1, 3), "3 records where test_batch.bin has 4"),
            (Vec::new(), "the file is empty"),
        ] {
            let dir = folder();
            std::fs::write(dir.path().join("data_batch_4.bin"), bytes).unwrap();
            let text = Cifar::open_10(dir.path()).unwrap_err().to_string();
            assert!(text.contains("data_batch_4.bin"), "{text}");
            assert!(text.contains(wanted), "{text}");
        }
        let dir = folder();
        std::fs::remove_file(dir.path().join("data_batch_5.bin")).unwrap();
        let text = Cifar::open_10(dir.path()).unwrap_err().to_string();
        assert!(
            text.contains("data_batch_5.bin") && text.contains("must hold"),
            "{text}"
        );
    }
}
