/*! The file a killed training resumes from: learners, epoch, and what training it belongs to. */

use super::config::TrainingConfig;
use super::learner::Learner;
use super::{Event, Samples, TrainError};
use crate::model::Graph;
use candle_core::{Device, Tensor};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// What makes two trainings the same one: settings, data, graphs and their first weights.
pub(super) fn fingerprint(
    hyper: &TrainingConfig,
    data: &dyn Samples,
    graphs: &[&Graph],
    more: &str,
) -> Vec<u8> {
    let mut hash = Sha256::new();
    let (samples, identity) = (data.len(), data.identity());
    hash.update(format!("{hyper:?} {samples} {identity} {more}"));
    for graph in graphs {
        hash.update(format!("{:?}", graph.nodes));
        for (id, constant) in &graph.constants {
            hash.update(format!("{id:?} {:?}", constant.shape));
            if let Some(floats) = constant.floats() {
                hash.update(bytemuck::cast_slice::<f32, u8>(floats));
            }
        }
    }
    hash.finalize().to_vec()
}

fn failed(path: &Path, what: impl ToString) -> TrainError {
    TrainError::Checkpoint {
        path: path.to_path_buf(),
        what: what.to_string(),
    }
}

/// Writes the file whole or not at all.
fn save(path: &Path, print: &[u8], epoch: usize, learners: &[&Learner]) -> Result<(), TrainError> {
    let mut tensors = BTreeMap::new();
    for (i, learner) in learners.iter().enumerate() {
        learner.save(&i.to_string(), &mut tensors)?;
    }
    tensors.insert("epoch".into(), Tensor::new(&[epoch as i64], &Device::Cpu)?);
    tensors.insert("training".into(), Tensor::new(print, &Device::Cpu)?);
    let tensors: HashMap<String, Tensor> = tensors.into_iter().collect();
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    let file = tempfile::NamedTempFile::new_in(folder).map_err(|e| failed(path, e))?;
    candle_core::safetensors::save(&tensors, file.path()).map_err(|e| failed(path, e))?;
    let kept = std::fs::File::open(file.path()).and_then(|f| f.sync_all());
    kept.map_err(|e| failed(path, e))?;
    file.persist(path).map_err(|e| failed(path, e))?;
    Ok(())
}

/// The backbone as a training that still goes on, or was stopped, has left it in its checkpoint.
///
/// # Errors
/// Where the file can't be read, or holds another network.
pub fn learnt_so_far(path: &Path, backbone: &Graph) -> Result<Graph, TrainError> {
    let tensors = candle_core::safetensors::load(path, &Device::Cpu);
    let tensors: BTreeMap<String, Tensor> =
        tensors.map_err(|e| failed(path, e))?.into_iter().collect();
    let mut learner = Learner::new(backbone)?;
    learner.load("0", &tensors)?;
    Ok(learner.net.to_graph()?)
}

/// The epochs done, the learners being as they were after them; 0 where there is no checkpoint of
/// this training.
fn load(
    path: &Path,
    print: &[u8],
    learners: &mut [&mut Learner],
    progress: &mut dyn FnMut(Event),
) -> Result<usize, TrainError> {
    if !path.exists() {
        return Ok(0);
    }
    let tensors = candle_core::safetensors::load(path, &Device::Cpu);
    let remedy = |e| failed(path, format!("{e}; remove the file to start anew"));
    let tensors: BTreeMap<String, Tensor> = tensors.map_err(remedy)?.into_iter().collect();
    let same = tensors
        .get("training")
        .map(|t| t.to_vec1::<u8>())
        .transpose()?;
    if same.as_deref() != Some(print) {
        progress(Event::StaleCheckpoint);
        return Ok(0);
    }
    for (i, learner) in learners.iter_mut().enumerate() {
        learner.load(&i.to_string(), &tensors)?;
    }
    let epoch = match tensors.get("epoch") {
        Some(t) => t.to_vec1::<i64>()?.first().map_or(0, |&e| e as usize),
        None => 0,
    };
    progress(Event::Resumed { epoch });
    Ok(epoch)
}

/// [`load`] where there is a path.
pub(super) fn resume(
    path: Option<&Path>,
    print: &[u8],
    learners: &mut [&mut Learner],
    progress: &mut dyn FnMut(Event),
) -> Result<usize, TrainError> {
    path.map_or(Ok(0), |path| load(path, print, learners, progress))
}

/// [`save`] where there is a path.
pub(super) fn keep(
    path: Option<&Path>,
    print: &[u8],
    epoch: usize,
    learners: &[&Learner],
) -> Result<(), TrainError> {
    path.map_or(Ok(()), |path| save(path, print, epoch, learners))
}
