/*!
The feature cache: what the frozen backbone makes of each sample, kept in memory as far as it fits,
else in a file that vanishes with the process.
*/

use super::{Event, Samples, TrainError};
use crate::engine::{Cancel, Engine};
use rayon::prelude::*;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Samples the backbone takes at once.
const PASS: usize = 64;

/// Where cached features may lie, and how much of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheLimits {
    /// In memory.
    pub memory_bytes: u64,
    /// What doesn't fit goes to a file here, of a fifth of the free disk at most; none: nowhere.
    pub folder: Option<PathBuf>,
}

impl CacheLimits {
    /// What the cache may take: in memory, or on the disk.
    fn bound(&self) -> u64 {
        let disk = self.folder.as_deref().and_then(free_bytes);
        self.memory_bytes.max(disk.unwrap_or(0) / 5)
    }
}

/// Bytes a user may still write to the disk that holds `folder`.
fn free_bytes(folder: &Path) -> Option<u64> {
    let stats = nix::sys::statvfs::statvfs(folder).ok()?;
    Some(stats.blocks_available() as u64 * stats.fragment_size() as u64)
}

/// Runs a backbone for its features.
pub(super) struct Extractor<'a> {
    pub engine: &'a Engine,
    pub data: &'a dyn Samples,
    /// Floats of a sample.
    pub sample: usize,
    /// Floats of a feature, for each output of the engine.
    pub dims: Vec<usize>,
    pub cancel: &'a Cancel,
}

impl Extractor<'_> {
    /// Features of some samples, one buffer an output.
    pub(super) fn run(&self, indices: &[usize]) -> Result<Vec<Vec<f32>>, TrainError> {
        let mut input = vec![0.0; indices.len() * self.sample];
        input
            .par_chunks_mut(self.sample.max(1))
            .zip(indices)
            .for_each(|(out, &index)| self.data.input(index, out));
        Ok(self.engine.run_f32(indices.len(), &[&input], self.cancel)?)
    }

    /// Seconds the backbone takes for all samples, from a measured few.
    fn estimate(&self) -> Result<f64, TrainError> {
        let few: Vec<usize> = (0..self.data.len().min(PASS)).collect();
        self.run(&few)?;
        let start = Instant::now();
        self.run(&few)?;
        Ok(start.elapsed().as_secs_f64() * self.data.len() as f64 / few.len().max(1) as f64)
    }
}

/// Features of all samples, one store an output, or none where they exceed their bound.
pub(super) enum Features {
    Memory(Vec<Vec<f32>>),
    Disk { file: File, starts: Vec<u64> },
    Nowhere,
}

fn failed(path: &Path, error: io::Error) -> TrainError {
    TrainError::Cache {
        path: path.to_path_buf(),
        source: error,
    }
}

impl Features {
    /// Runs the backbone over all samples, if there is room for what comes of it.
    pub(super) fn make(
        from: &Extractor<'_>,
        limits: &CacheLimits,
        progress: &mut dyn FnMut(Event),
    ) -> Result<Features, TrainError> {
        let samples = from.data.len();
        let lens: Vec<u64> = from.dims.iter().map(|d| (d * samples * 4) as u64).collect();
        let bytes = lens.iter().sum::<u64>();
        if bytes <= limits.memory_bytes {
            let empty = from.dims.iter().map(|d| Vec::with_capacity(d * samples));
            let mut all: Vec<Vec<f32>> = empty.collect();
            fill(from, progress, |_, parts| {
                let pairs = all.iter_mut().zip(&parts);
                pairs.for_each(|(all, part)| all.extend_from_slice(part));
                Ok(())
            })?;
            return Ok(Features::Memory(all));
        }
        let bound = limits.bound();
        let Some(folder) = limits.folder.as_deref().filter(|_| bytes <= bound) else {
            let seconds = from.estimate()?;
            progress(Event::NoCache {
                bytes,
                bound,
                seconds,
            });
            return Ok(Features::Nowhere);
        };
        // It has no name, so that it goes whatever ends the process.
        let file = tempfile::tempfile_in(folder).map_err(|e| failed(folder, e))?;
        let mut next = 0;
        let mut starts = Vec::new();
        for len in lens {
            starts.push(next);
            next += len;
        }
        fill(from, progress, |first, parts| {
            for ((part, &start), &dim) in parts.iter().zip(&starts).zip(&from.dims) {
                let at = start + (first * dim * 4) as u64;
                let written = file.write_all_at(bytemuck::cast_slice(part), at);
                written.map_err(|e| failed(folder, e))?;
            }
            Ok(())
        })?;
        Ok(Features::Disk { file, starts })
    }

    /// Whether the backbone has to run again.
    pub(super) fn are_nowhere(&self) -> bool {
        matches!(self, Features::Nowhere)
    }

    /// Features of the first samples, at most `count`, a multiple of [`PASS`]: the same bits
    /// wherever they come from.
    pub(super) fn first(
        &self,
        from: &Extractor<'_>,
        count: usize,
    ) -> Result<Vec<Vec<f32>>, TrainError> {
        let few: Vec<usize> = (0..from.data.len().min(count)).collect();
        if !self.are_nowhere() {
            let outputs = from.dims.iter().enumerate();
            return outputs.map(|(o, &d)| self.gather(o, d, &few)).collect();
        }
        let mut all = vec![Vec::new(); from.dims.len()];
        for chunk in few.chunks(PASS) {
            let parts = from.run(chunk)?;
            let pairs = all.iter_mut().zip(parts);
            pairs.for_each(|(all, part)| all.extend(part));
        }
        Ok(all)
    }

    /// Features of `dim` floats of some samples, of output `output`.
    pub(super) fn gather(
        &self,
        output: usize,
        dim: usize,
        indices: &[usize],
    ) -> Result<Vec<f32>, TrainError> {
        let mut rows = vec![0.0; indices.len() * dim];
        for (row, &i) in rows.chunks_exact_mut(dim.max(1)).zip(indices) {
            match self {
                Features::Memory(all) => {
                    row.copy_from_slice(&all[output][i * dim..(i + 1) * dim]);
                }
                Features::Disk { file, starts } => {
                    let at = starts[output] + (i * dim * 4) as u64;
                    let read = file.read_exact_at(bytemuck::cast_slice_mut(row), at);
                    read.map_err(|e| failed(Path::new("(unnamed)"), e))?;
                }
                Features::Nowhere => {}
            }
        }
        Ok(rows)
    }
}

/// Hands the features of all samples to `take` in order, with the number of the first.
fn fill(
    from: &Extractor<'_>,
    progress: &mut dyn FnMut(Event),
    mut take: impl FnMut(usize, Vec<Vec<f32>>) -> Result<(), TrainError>,
) -> Result<(), TrainError> {
    let indices: Vec<usize> = (0..from.data.len()).collect();
    for chunk in indices.chunks(PASS) {
        take(chunk[0], from.run(chunk)?)?;
        progress(Event::Features {
            done: chunk[0] + chunk.len(),
            total: from.data.len(),
        });
    }
    Ok(())
}
