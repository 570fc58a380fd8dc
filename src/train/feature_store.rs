/*!
Features kept between trainings, a file each, under the hash of all they depend on: the layers before
them with their weights, and the samples. An edit of a head needs no backbone then.
*/

use super::TrainError;
use crate::model::{Graph, ValueId};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Ending of the files.
const ENDING: &str = "features";

/// A folder of kept features.
pub(super) struct FeatureStore<'a> {
    pub folder: &'a Path,
    /// What all of them may take, in bytes.
    pub bound: u64,
}

/// A name for each output of `graph` over `samples`: the same for the same numbers, whatever else
/// the graph computes and however its values are numbered.
pub(super) fn names(graph: &Graph, samples: &str) -> Result<Vec<String>, TrainError> {
    let digests: HashMap<&str, [u8; 32]> = graph
        .constants
        .iter()
        .map(|(&id, constant)| {
            let mut hash = Sha256::new();
            hash.update(format!("{:?} {:?}", constant.shape, constant.dtype()));
            match constant.floats() {
                Some(floats) => hash.update(bytemuck::cast_slice::<f32, u8>(floats)),
                None => hash.update(format!("{constant:?}")),
            }
            (graph.value(id).name.as_str(), hash.finalize().into())
        })
        .collect();
    let outputs = graph.outputs.iter();
    let name = |&output: &ValueId| {
        let piece = graph.subgraph(&graph.inputs, &[output])?;
        let mut hash = Sha256::new();
        hash.update(samples);
        let mut numbers: HashMap<ValueId, usize> = HashMap::new();
        let mut see = |hash: &mut Sha256, id: ValueId| {
            let next = numbers.len();
            let number = *numbers.entry(id).or_insert(next);
            hash.update(number.to_le_bytes());
            if let Some(digest) = digests.get(piece.value(id).name.as_str()) {
                hash.update(digest);
            }
        };
        for &input in &piece.inputs {
            hash.update(format!("{}", piece.value(input).shape));
            see(&mut hash, input);
        }
        for node in &piece.nodes {
            hash.update(format!("{:?}", node.op));
            let ends = node.inputs.iter().chain(&node.outputs);
            ends.for_each(|&id| see(&mut hash, id));
        }
        piece.outputs.iter().for_each(|&id| see(&mut hash, id));
        let digest = hash.finalize();
        Ok(hex::encode(&digest[..16]))
    };
    outputs.map(name).collect()
}

impl FeatureStore<'_> {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.{ENDING}"))
    }

    /// The floats kept under a name; none where there are none, not so many, or they are damaged.
    pub(super) fn read(&self, name: &str, len: usize) -> Option<Vec<f32>> {
        let file = self.file(name);
        let bytes = std::fs::read(&file).ok()?;
        let (body, digest) = bytes.split_at_checked(len * size_of::<f32>())?;
        if Sha256::digest(body).as_slice() != digest {
            return None;
        }
        // The least recently used go first; where the time can't be set, the oldest.
        let opened = std::fs::File::options().append(true).open(&file);
        let _ = opened.and_then(|f| f.set_modified(SystemTime::now()));
        let floats = body.as_chunks::<4>().0.iter();
        Some(floats.map(|&b| f32::from_le_bytes(b)).collect())
    }

    /// Keeps what isn't there yet, and lets go of the least recently used beyond the bound.
    pub(super) fn keep(&self, names: &[String], all: &[Vec<f32>]) -> io::Result<()> {
        std::fs::create_dir_all(self.folder)?;
        for (name, floats) in names.iter().zip(all) {
            let file = self.file(name);
            if file.exists() && self.read(name, floats.len()).is_some() {
                continue;
            }
            let mut temporary = tempfile::NamedTempFile::new_in(self.folder)?;
            let mut hash = Sha256::new();
            let mut bytes = Vec::new();
            for chunk in floats.chunks(1 << 16) {
                bytes.clear();
                bytes.extend(chunk.iter().flat_map(|v| v.to_le_bytes()));
                hash.update(&bytes);
                temporary.write_all(&bytes)?;
            }
            temporary.write_all(&hash.finalize())?;
            temporary.persist(&file).map_err(|e| e.error)?;
        }
        self.prune(names)
    }

    fn prune(&self, used: &[String]) -> io::Result<()> {
        let mut others = Vec::new();
        let mut bytes = 0;
        for entry in std::fs::read_dir(self.folder)? {
            let entry = entry?;
            let path = entry.path();
            if path.extension().is_none_or(|e| e != ENDING) {
                continue;
            }
            let about = entry.metadata()?;
            bytes += about.len();
            let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned());
            if !stem.is_some_and(|s| used.contains(&s)) {
                others.push((about.modified()?, about.len(), path));
            }
        }
        others.sort();
        for (_, len, path) in others {
            if bytes <= self.bound {
                break;
            }
            std::fs::remove_file(path)?;
            bytes -= len;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn what_is_kept_comes_back_unless_it_is_damaged_or_another() {
        let folder = tempfile::tempdir().unwrap();
        let kept = FeatureStore {
            folder: &folder.path().join("features"),
            bound: 1 << 20,
        };
        let (name, floats) = ("a".to_string(), vec![0.5f32, -1.0, f32::MIN_POSITIVE]);
        kept.keep(std::slice::from_ref(&name), std::slice::from_ref(&floats))
            .unwrap();
        assert_eq!(kept.read("a", 3), Some(floats));
        assert_eq!(kept.read("a", 2), None);
        assert_eq!(kept.read("b", 3), None);
        let file = kept.file("a");
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[1] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        assert_eq!(kept.read("a", 3), None);
    }

    #[test]
    fn beyond_the_bound_those_not_in_use_go() {
        let folder = tempfile::tempdir().unwrap();
        let each = 100 * 4 + 32;
        let kept = FeatureStore {
            folder: folder.path(),
            bound: 2 * each,
        };
        for name in ["a", "b", "c"] {
            kept.keep(&[name.to_string()], &[vec![1.0; 100]]).unwrap();
            // A clock that stands still between two of them decides by size and name.
            let back = SystemTime::now() - std::time::Duration::from_secs(60);
            let file = std::fs::File::options().append(true).open(kept.file(name));
            file.unwrap().set_modified(back).unwrap();
        }
        let there = |name| kept.file(name).exists();
        assert_eq!([there("a"), there("b"), there("c")], [false, true, true]);
    }
}
