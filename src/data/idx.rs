/*!
IDX, the format of MNIST and its kin: a big-endian magic number (0x00000803 for images, 0x00000801
for labels), the dimensions as u32, then bytes. Plain or gzip, told apart by content.
*/

use super::DataError;
use super::arrays::{Arrays, Half};
use super::error::FETCH_AGAIN;
use flate2::read::MultiGzDecoder;
use std::io::Read;
use std::path::{Path, PathBuf};

const IMAGES: u32 = 0x0803;
const LABELS: u32 = 0x0801;
/// No data set of this format comes near; a header that says more is damaged.
const LARGEST: u64 = 8 << 30;

/// Reads and checks the four files of an IDX folder.
pub(super) fn open(folder: &Path) -> Result<Arrays, DataError> {
    let (train, train_labels) = half(folder, "train")?;
    let (test, test_labels) = half(folder, "t10k")?;
    // The format doesn't say how many classes there are; the training labels do.
    let classes = train.labels.iter().copied().max().unwrap_or(0) + 1;
    if let Some(record) = test.labels.iter().position(|&label| label >= classes) {
        return Err(DataError::Record {
            problem: format!(
                "label {}, but the labels of {} go from 0 to {}",
                test.labels[record],
                train_labels.display(),
                classes - 1
            ),
            file: test_labels,
            record,
            offset: 8 + record as u64,
            remedy: FETCH_AGAIN,
        });
    }
    Ok(Arrays {
        names: (0..classes).map(|class| class.to_string()).collect(),
        train,
        test,
        notes: Vec::new(),
    })
}

/// A side, and the file of its labels.
fn half(folder: &Path, prefix: &str) -> Result<(Half, PathBuf), DataError> {
    let images = find(folder, prefix, "images", 3)?;
    let labels = find(folder, prefix, "labels", 1)?;
    let (extents, pixels) = read(&images, IMAGES)?;
    let (count, bytes) = read(&labels, LABELS)?;
    if count[0] != extents[0] {
        return Err(DataError::file(
            &labels,
            format!(
                "{} labels for the {} images of {}",
                count[0],
                extents[0],
                images.display()
            ),
            "the two files don't belong together: fetch both again",
        ));
    }
    let half = Half {
        labels: bytes.into_iter().map(u16::from).collect(),
        pixels,
        stored: [1, extents[1], extents[2]],
    };
    Ok((half, labels))
}

/// The file under any of the names it goes by.
fn find(folder: &Path, prefix: &str, what: &str, dims: usize) -> Result<PathBuf, DataError> {
    let usual = format!("{prefix}-{what}-idx{dims}-ubyte");
    for name in [
        usual.clone(),
        format!("{usual}.gz"),
        format!("{prefix}-{what}.idx{dims}-ubyte"),
        format!("{prefix}-{what}.idx{dims}-ubyte.gz"),
    ] {
        let file = folder.join(name);
        if file.exists() {
            return Ok(file);
        }
    }
    Err(DataError::file(
        &folder.join(usual),
        "not there, neither plain nor with .gz",
        "the folder must hold train-images-idx3-ubyte, train-labels-idx1-ubyte and their t10k twins",
    ))
}

/// Dimensions that a header names, none of them 0; its magic number must be `magic`.
fn extents(file: &Path, header: &[u8], magic: u32) -> Result<Vec<usize>, DataError> {
    let rank = (magic & 0xff) as usize;
    let word = |at: usize| {
        header
            .get(4 * at..4 * at + 4)
            .map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    };
    match word(0) {
        Some(found) if found == magic => {}
        Some(found) => {
            return Err(DataError::file(
                file,
                format!("magic number {found:#010x} at byte 0, {magic:#010x} was expected"),
                "this isn't the IDX file its name says; images and labels may be swapped",
            ));
        }
        None => return Err(DataError::file(file, "cut off in the header", FETCH_AGAIN)),
    }
    let mut extents = Vec::with_capacity(rank);
    for at in 1..=rank {
        match word(at) {
            Some(0) => {
                return Err(DataError::file(
                    file,
                    "a dimension of 0: no data",
                    FETCH_AGAIN,
                ));
            }
            Some(extent) => extents.push(extent as usize),
            None => return Err(DataError::file(file, "cut off in the header", FETCH_AGAIN)),
        }
    }
    Ok(extents)
}

/// Dimensions and bytes of a file whose magic number must be `magic`.
fn read(file: &Path, magic: u32) -> Result<(Vec<usize>, Vec<u8>), DataError> {
    let bytes = std::fs::read(file).map_err(|error| DataError::io(file, error, FETCH_AGAIN))?;
    if bytes.is_empty() {
        return Err(DataError::file(file, "the file is empty", FETCH_AGAIN));
    }
    let gzip = bytes.starts_with(&[0x1f, 0x8b]);
    let mut reader: Box<dyn Read> = if gzip {
        Box::new(MultiGzDecoder::new(&bytes[..]))
    } else {
        Box::new(&bytes[..])
    };
    // Reads up to `limit` bytes: a damaged or hostile archive can't unpack to more than its header says.
    let mut take = |limit: u64| -> Result<Vec<u8>, DataError> {
        let mut out = Vec::new();
        match reader.by_ref().take(limit).read_to_end(&mut out) {
            Ok(_) => Ok(out),
            Err(error) => Err(DataError::io(
                file,
                error,
                "the gzip data is damaged: fetch it again",
            )),
        }
    };
    // One word for the magic, one for each dimension.
    let header = take(4 + 4 * u64::from(magic & 0xff))?;
    let extents = extents(file, &header, magic)?;
    let size = extents
        .iter()
        .try_fold(1u64, |size, &extent| size.checked_mul(extent as u64))
        .filter(|&size| size <= LARGEST)
        .ok_or_else(|| {
            let problem = format!("a header of {extents:?} elements, more than any file holds");
            DataError::file(file, problem, FETCH_AGAIN)
        })?;
    let data = take(size)?;
    if (data.len() as u64) < size {
        let record = size / extents[0] as u64;
        return Err(DataError::Record {
            file: file.to_owned(),
            record: data.len() / record as usize,
            offset: (header.len() + data.len()) as u64,
            problem: format!(
                "the data ends here, its header promises {} records",
                extents[0]
            ),
            remedy: FETCH_AGAIN,
        });
    }
    // Reading on also makes gzip verify its checksum.
    if !take(1)?.is_empty() {
        return Err(DataError::file(
            file,
            format!("more data than the {} records of its header", extents[0]),
            FETCH_AGAIN,
        ));
    }
    Ok((extents, data))
}

#[cfg(test)]
mod tests {
    use super::super::source::{Frame, Images, Side};
    use super::*;
    use std::io::Write;

    fn file(magic: u32, extents: &[u32], data: &[u8]) -> Vec<u8> {
        let mut bytes = magic.to_be_bytes().to_vec();
        for extent in extents {
            bytes.extend(extent.to_be_bytes());
        }
        bytes.extend(data);
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let pixels: Vec<u8> = (0..12).collect();
        for prefix in ["train", "t10k"] {
            let images = gzip(&file(IMAGES, &[3, 2, 2], &pixels));
            std::fs::write(
                dir.path().join(format!("{prefix}-images-idx3-ubyte.gz")),
                images,
            )
            .unwrap();
            let labels = file(LABELS, &[3], &[0, 4, 2]);
            std::fs::write(
                dir.path().join(format!("{prefix}-labels-idx1-ubyte")),
                labels,
            )
            .unwrap();
        }
        dir
    }

    #[test]
    fn reads_plain_and_gzip() {
        let idx = open(folder().path()).unwrap();
        assert_eq!(idx.labels(Side::Train), [0, 4, 2]);
        assert_eq!(idx.class_names().len(), 5);
        let mut out = [0; 12];
        idx.decode(Side::Test, 1, Frame::stretched([3, 2, 2]), &mut out)
            .unwrap();
        assert_eq!(out, [4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7]);
    }

    #[test]
    fn bad_files_say_what_is_wrong() {
        let pixels: Vec<u8> = (0..12).collect();
        let good = file(IMAGES, &[3, 2, 2], &pixels);
        let mut checksum = gzip(&good);
        let at = checksum.len() - 6;
        checksum[at] ^= 0xff;
        let images = "t10k-images-idx3-ubyte.gz";
        let labels = "t10k-labels-idx1-ubyte";
        for (name, bytes, wanted) in [
            (
                images,
                good[..20].to_vec(),
                "record 1 (byte 20): the data ends here",
            ),
            (images, gzip(&good[..20]), "record 1 (byte 20)"),
            (images, gzip(&good)[..15].to_vec(), "gzip data is damaged"),
            (images, checksum, "gzip data is damaged"),
            (
                images,
                b"GIF89a and so on, not an IDX file".to_vec(),
                "magic number 0x47494638",
            ),
            (images, good[..9].to_vec(), "cut off in the header"),
            (images, Vec::new(), "the file is empty"),
            (
                images,
                file(IMAGES, &[u32::MAX, u32::MAX, 3], &[]),
                "more than any file holds",
            ),
            (
                images,
                file(IMAGES, &[3, 2, 2], &[0; 13]),
                "more data than the 3 records",
            ),
            (
                labels,
                file(LABELS, &[2], &[0, 1]),
                "2 labels for the 3 images",
            ),
            (
                labels,
                file(LABELS, &[3], &[0, 1, 9]),
                "record 2 (byte 10): label 9",
            ),
            (
                labels,
                file(IMAGES, &[3, 1, 1], &[0, 1, 2]),
                "images and labels may be swapped",
            ),
        ] {
            let dir = folder();
            std::fs::write(dir.path().join(name), bytes).unwrap();
            let text = open(dir.path()).unwrap_err().to_string();
            assert!(
                text.contains(name) && text.contains(wanted),
                "{wanted}: {text}"
            );
        }
    }
}
