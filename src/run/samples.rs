/*! The images of a set as training takes them, and how many of them a network gets right. */

use crate::backend::Compiled;
use crate::data::{DataError, LoadedData, Preprocessing, Set};
use crate::engine::{Cancel, EngineError};
use crate::train::Samples;
use sha2::{Digest, Sha256};

/// A set of images, preprocessed as a network takes them.
#[derive(Debug, Clone, Copy)]
pub struct Images<'a> {
    data: &'a LoadedData,
    set: Set,
    preprocessing: &'a Preprocessing,
}

impl<'a> Images<'a> {
    /// The images of `set`.
    ///
    /// # Errors
    /// Where the preprocessing doesn't fit images of so many channels.
    pub fn new(
        data: &'a LoadedData,
        set: Set,
        preprocessing: &'a Preprocessing,
    ) -> Result<Self, DataError> {
        if !data.is_empty(set) {
            let mut pixels = vec![0.0; data.shape().iter().product()];
            data.input(set, 0, preprocessing, &mut pixels)?;
        }
        Ok(Images {
            data,
            set,
            preprocessing,
        })
    }
}

impl Samples for Images<'_> {
    fn len(&self) -> usize {
        self.data.len(self.set)
    }

    fn label(&self, index: usize) -> u16 {
        self.data.label(self.set, index)
    }

    fn input(&self, index: usize, out: &mut [f32]) {
        let done = self.data.input(self.set, index, self.preprocessing, out);
        if done.is_err() {
            // `new` has made sure of the preprocessing, so it is the buffer's size; numbers that
            // are none make a loss that is none, which training refuses.
            out.fill(f32::NAN);
        }
    }

    fn identity(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.data.hash(self.set));
        hash.update(self.preprocessing.key());
        hex::encode(hash.finalize())
    }
}

/// Share of `samples` (0 to 1) whose label is the largest of the network's first output.
///
/// The network takes `batch` of them at once.
///
/// # Errors
/// What the engine says; [`EngineError::Cancelled`] when stopped.
pub fn accuracy(
    network: &dyn Compiled,
    samples: &dyn Samples,
    batch: usize,
    cancel: &Cancel,
) -> Result<f64, EngineError> {
    let size = network.inputs().first().map_or(0, |port| port.elements(1));
    let indices: Vec<usize> = (0..samples.len()).collect();
    let mut right = 0;
    for chunk in indices.chunks(batch.max(1)) {
        let mut input = vec![0.0; chunk.len() * size];
        for (out, &index) in input.chunks_exact_mut(size.max(1)).zip(chunk) {
            samples.input(index, out);
        }
        let outputs = network.run_f32(chunk.len(), &[&input], cancel)?;
        let Some(scores) = outputs.first() else {
            return Ok(0.0);
        };
        let classes = (scores.len() / chunk.len()).max(1);
        for (row, &index) in scores.chunks_exact(classes).zip(chunk) {
            let best = (0..classes).max_by(|&a, &b| row[a].total_cmp(&row[b]));
            right += usize::from(best == Some(usize::from(samples.label(index))));
        }
    }
    Ok(right as f64 / samples.len().max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Backend, CompileOptions, Native};
    use crate::data::{Calibration, Fit, LoadOptions, Source};
    use crate::model::fuse;
    use crate::model::zoo::ZooModel;

    fn data() -> LoadedData {
        let options = LoadOptions {
            input: [3, 8, 8],
            fit: Fit::Stretch,
            classes: None,
            outputs: Vec::new(),
            output_names: Vec::new(),
            calibration: Calibration::FromTrain(70),
            train: Some(20),
            test: Some(10),
            seed: 1,
        };
        let source = Source::Synthetic { seed: 7 };
        LoadedData::load(&source, &options, &mut |_| {}, &Cancel::new()).unwrap()
    }

    #[test]
    fn identity_follows_pixels_and_preprocessing() {
        let data = data();
        let plain = Preprocessing::default();
        let mut other = plain.clone();
        other.mean = vec![0.5];
        let of = |set, p| Images::new(&data, set, p).unwrap().identity();
        assert_eq!(of(Set::Train, &plain), of(Set::Train, &plain));
        assert_ne!(of(Set::Train, &plain), of(Set::Test, &plain));
        assert_ne!(of(Set::Train, &plain), of(Set::Train, &other));
        other.mean = vec![0.5; 2];
        assert!(Images::new(&data, Set::Train, &other).is_err());
    }

    #[test]
    fn accuracy_is_the_share_of_labels_that_are_largest() {
        let data = data();
        let plain = Preprocessing::default();
        let images = Images::new(&data, Set::Calibration, &plain).unwrap();
        let model = ZooModel::ResNet { depth: 8, width: 4 };
        let graph = fuse(&model.build((3, 8, 8), 10, 1).unwrap());
        let network = Native::default()
            .compile(graph, &CompileOptions::default())
            .unwrap();
        // One at a time, against batches of 64 and a rest.
        let mut right = 0;
        for index in 0..images.len() {
            let mut input = vec![0.0; 192];
            images.input(index, &mut input);
            let scores = &network.run_f32(1, &[&input], &Cancel::new()).unwrap()[0];
            let label = scores[usize::from(images.label(index))];
            right += usize::from(scores.iter().all(|&s| s <= label));
        }
        let found = accuracy(&*network, &images, 64, &Cancel::new()).unwrap();
        assert_eq!(found, right as f64 / 70.0);
    }
}
