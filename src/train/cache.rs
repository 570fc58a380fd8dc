/*!
The feature cache: what the frozen backbone makes of each sample, held in memory as far as it fits,
else in a file that vanishes with the process. What fits in memory may also be kept for the next
training ([`super::feature_store`]), which then runs the backbone only for what it doesn't find.
*/

use super::feature_store::{FeatureStore, names};
use super::{Event, Samples, TrainError};
use crate::backend::{Backend, CompileOptions, Compiled, Native};
use crate::engine::Cancel;
use crate::model::{Graph, ValueId};
use rayon::prelude::*;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Instant;

/// Samples that the backbone takes at once where nothing else is said.
pub const FEATURE_BATCH: usize = 64;

/// Where cached features may lie, and how much of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheLimits {
    /// Most bytes of features that are kept in memory.
    pub memory_bytes: u64,
    /// What doesn't fit goes to a file here, of a fifth of the free disk at most; none: nowhere.
    pub folder: Option<PathBuf>,
    /// Where what fits is kept for the next training, of the same bytes altogether at most; none:
    /// nowhere.
    pub kept: Option<PathBuf>,
    /// Samples that the backbone takes at once.
    pub batch: usize,
}

impl CacheLimits {
    /// Memory alone, and nothing kept.
    pub const fn memory(bytes: u64) -> CacheLimits {
        CacheLimits {
            memory_bytes: bytes,
            folder: None,
            kept: None,
            batch: FEATURE_BATCH,
        }
    }

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
    /// The backbone up to the features, which are its outputs.
    graph: Graph,
    backbone: OnceLock<Box<dyn Compiled>>,
    pub data: &'a dyn Samples,
    /// Floats of a sample.
    sample: usize,
    /// Samples that the backbone takes at once.
    batch: usize,
    /// Floats of a feature, for each output.
    pub dims: Vec<usize>,
    pub cancel: &'a Cancel,
}

impl<'a> Extractor<'a> {
    /// Of `graph`'s outputs, for samples of `sample` floats, of which the graph takes `batch` at once.
    pub(super) fn new(
        graph: Graph,
        data: &'a dyn Samples,
        (sample, batch): (usize, usize),
        cancel: &'a Cancel,
    ) -> Extractor<'a> {
        let outputs = graph.outputs.iter();
        Extractor {
            dims: outputs.map(|&o| graph.value(o).shape.elements(1)).collect(),
            backbone: OnceLock::new(),
            graph,
            data,
            sample,
            batch: batch.max(1),
            cancel,
        }
    }

    /// The same for some of the outputs.
    fn only(&self, outputs: &[usize]) -> Result<Extractor<'a>, TrainError> {
        let ids: Vec<ValueId> = outputs.iter().map(|&o| self.graph.outputs[o]).collect();
        let graph = self.graph.subgraph(&self.graph.inputs, &ids)?;
        let size = (self.sample, self.batch);
        Ok(Extractor::new(graph, self.data, size, self.cancel))
    }

    fn backbone(&self) -> Result<&dyn Compiled, TrainError> {
        if let Some(backbone) = self.backbone.get() {
            return Ok(&**backbone);
        }
        let made = Native::default().compile(self.graph.clone(), &CompileOptions::default())?;
        Ok(&**self.backbone.get_or_init(|| made))
    }

    /// Features of some samples, one buffer an output.
    pub(super) fn run(&self, indices: &[usize]) -> Result<Vec<Vec<f32>>, TrainError> {
        let mut input = vec![0.0; indices.len() * self.sample];
        input
            .par_chunks_mut(self.sample.max(1))
            .zip(indices)
            .for_each(|(out, &index)| self.data.input(index, out));
        Ok(self
            .backbone()?
            .run_f32(indices.len(), &[&input], self.cancel)?)
    }

    /// Seconds the backbone takes for all samples, from a measured few.
    fn estimate(&self) -> Result<f64, TrainError> {
        let few: Vec<usize> = (0..self.data.len().min(self.batch)).collect();
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
            return Ok(Features::Memory(held(from, limits, progress)?));
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

    /// Features of the first samples, at most `count`, a multiple of the batch: the same bits
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
        for chunk in few.chunks(from.batch) {
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

/// The features in memory: those kept by an earlier training, and the rest from the backbone.
fn held(
    from: &Extractor<'_>,
    limits: &CacheLimits,
    progress: &mut dyn FnMut(Event),
) -> Result<Vec<Vec<f32>>, TrainError> {
    let samples = from.data.len();
    let kept = limits.kept.as_deref().map(|folder| FeatureStore {
        folder,
        bound: limits.memory_bytes,
    });
    // Samples that can't be told from others are computed afresh.
    let identity = from.data.identity();
    let kept = kept.filter(|_| !identity.is_empty());
    let names = match kept {
        Some(_) => names(&from.graph, &format!("{samples} {identity}"))?,
        None => Vec::new(),
    };
    let lens = from.dims.iter().map(|d| d * samples);
    let mut all: Vec<Option<Vec<f32>>> = match &kept {
        Some(kept) => names
            .iter()
            .zip(lens)
            .map(|(n, len)| kept.read(n, len))
            .collect(),
        None => vec![None; from.dims.len()],
    };
    let missing: Vec<usize> = (0..all.len()).filter(|&o| all[o].is_none()).collect();
    if missing.len() < all.len() {
        let places = all.len() - missing.len();
        progress(Event::KeptFeatures { places });
    }
    if !missing.is_empty() {
        let part = from.only(&missing)?;
        let empty = part.dims.iter().map(|d| Vec::with_capacity(d * samples));
        let mut made: Vec<Vec<f32>> = empty.collect();
        fill(&part, progress, |_, parts| {
            let pairs = made.iter_mut().zip(&parts);
            pairs.for_each(|(all, part)| all.extend_from_slice(part));
            Ok(())
        })?;
        for (o, made) in missing.into_iter().zip(made) {
            all[o] = Some(made);
        }
    }
    let all: Vec<Vec<f32>> = all.into_iter().flatten().collect();
    if let Some(kept) = &kept
        && let Err(error) = kept.keep(&names, &all)
    {
        // Only the next training waits for it.
        progress(Event::UnkeptFeatures {
            why: format!("{}: {error}", kept.folder.display()),
        });
    }
    Ok(all)
}

/// Hands the features of all samples to `take` in order, with the number of the first.
fn fill(
    from: &Extractor<'_>,
    progress: &mut dyn FnMut(Event),
    mut take: impl FnMut(usize, Vec<Vec<f32>>) -> Result<(), TrainError>,
) -> Result<(), TrainError> {
    let indices: Vec<usize> = (0..from.data.len()).collect();
    for chunk in indices.chunks(from.batch) {
        take(chunk[0], from.run(chunk)?)?;
        progress(Event::Features {
            done: chunk[0] + chunk.len(),
            total: from.data.len(),
        });
    }
    Ok(())
}
