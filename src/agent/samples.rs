/*!
The samples of an uploaded data set, read from its file one by one: what a run holds in memory is then
what the part needs, not what the experiment does.
*/

use super::error::JobError;
use super::store::Blob;
use crate::protocol::dataset::{HEADER, extents};
use crate::protocol::message::FailureKind;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// An opened data set.
pub(super) struct Samples {
    file: File,
    shape: [usize; 3],
    count: usize,
    /// Keeps the file from being removed.
    _blob: Blob,
}

impl Samples {
    pub(super) fn open(blob: Blob) -> Result<Samples, JobError> {
        let failed = |e: std::io::Error| {
            JobError::new(FailureKind::Storage, format!("reading the data set: {e}"))
        };
        let file = File::open(&blob.path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut head = [0; HEADER];
        file.read_exact_at(&mut head, 0).map_err(failed)?;
        let pixels = length.saturating_sub(HEADER as u64);
        let (shape, count) = extents(&head, pixels).map_err(JobError::invalid)?;
        Ok(Samples {
            file,
            shape,
            count,
            _blob: blob,
        })
    }

    /// `[c, h, w]` of each.
    pub(super) fn shape(&self) -> [usize; 3] {
        self.shape
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The pixels of one.
    pub(super) fn read(&self, sample: u32, pixels: &mut [u8]) -> Result<(), JobError> {
        let at = HEADER as u64 + u64::from(sample) * pixels.len() as u64;
        let read = self.file.read_exact_at(pixels, at);
        read.map_err(|e| {
            JobError::new(
                FailureKind::Storage,
                format!("reading sample {sample}: {e}"),
            )
        })
    }
}
