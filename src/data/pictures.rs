/*! Data sets of picture files, in folders or within tar archives: listed first, decoded when chosen. */

use super::DataError;
use super::error::FETCH_AGAIN;
use super::picture::{self, Undecoded};
use super::pixels::fit;
use super::source::{Frame, Images, Side};
use super::split;
use image::DynamicImage;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

/// Where the bytes of a picture lie.
#[derive(Debug, Clone)]
pub(super) enum Place {
    File(PathBuf),
    /// A part of an archive.
    Within {
        archive: Arc<(PathBuf, File)>,
        entry: String,
        offset: u64,
        length: u64,
    },
}

/// Pictures with their labels.
#[derive(Debug, Clone, Default)]
pub(super) struct Listed {
    pub places: Vec<Place>,
    pub labels: Vec<u16>,
}

/// Files of the training and the test side, listed, not yet read.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    pub names: Vec<String>,
    pub train: Listed,
    pub test: Listed,
    pub notes: Vec<String>,
}

impl Place {
    /// The file to name in messages.
    fn file(&self) -> PathBuf {
        match self {
            Place::File(path) => path.clone(),
            // As `tar` itself shows it: the archive, then the path within.
            Place::Within { archive, entry, .. } => archive.0.join(entry),
        }
    }

    fn read(&self) -> Result<Vec<u8>, DataError> {
        let read = match self {
            Place::File(path) => std::fs::read(path),
            Place::Within {
                archive,
                offset,
                length,
                ..
            } => {
                // The length was checked against the archive's when it was listed.
                let mut bytes = vec![0; *length as usize];
                archive.1.read_exact_at(&mut bytes, *offset).map(|()| bytes)
            }
        };
        read.map_err(|error| DataError::io(&self.file(), error, FETCH_AGAIN))
    }

    fn decode(&self) -> Result<DynamicImage, DataError> {
        picture::decode(&self.read()?)
            .map_err(|Undecoded { problem, remedy }| DataError::file(&self.file(), problem, remedy))
    }
}

impl Listed {
    pub fn push(&mut self, place: Place, label: u16) {
        self.places.push(place);
        self.labels.push(label);
    }

    fn only(&self, indices: &[usize]) -> Listed {
        let mut listed = Listed::default();
        for &index in indices {
            listed.push(self.places[index].clone(), self.labels[index]);
        }
        listed
    }
}

impl Pictures {
    /// From one side: a seeded fifth of each class becomes the test side.
    pub fn held_out(names: Vec<String>, all: &Listed, seed: u64, notes: Vec<String>) -> Self {
        let (train, test) = split::hold_out(&all.labels, names.len(), seed);
        Pictures {
            names,
            train: all.only(&train),
            test: all.only(&test),
            notes,
        }
    }

    fn side(&self, side: Side) -> &Listed {
        match side {
            Side::Train => &self.train,
            Side::Test => &self.test,
        }
    }
}

impl Images for Pictures {
    fn class_names(&self) -> Vec<String> {
        self.names.clone()
    }

    fn labels(&self, side: Side) -> &[u16] {
        &self.side(side).labels
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn stored(&self, side: Side, index: usize) -> Result<Option<[usize; 3]>, DataError> {
        let image = self.side(side).places[index].decode()?;
        let channels = if image.color().has_color() { 3 } else { 1 };
        Ok(Some([
            channels,
            image.height() as usize,
            image.width() as usize,
        ]))
    }

    fn decode(
        &self,
        side: Side,
        index: usize,
        frame: Frame,
        out: &mut [u8],
    ) -> Result<Option<f32>, DataError> {
        fit(&self.side(side).places[index].decode()?, frame, out);
        Ok(None)
    }
}
