/*!
A data set in memory: the pixels of the three sets as bytes at the network's size, and their labels.
*/

use super::source::{Frame, Images, Side};
use super::split::{self, Chosen};
use super::synthetic::Synthetic;
use super::{Calibration, DataError, Fit, Preprocessing, Set, Source, Survey};
use super::{cifar, folder, idx, npz, shards, table};
use crate::engine::Cancel;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::sync::OnceLock;

/// Images decoded between two looks at the cancel token; small enough to stop within 200 ms.
const BATCH: usize = 256;

/// What to load, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadOptions {
    /// Channels (1 or 3), height and width of the network's input.
    pub input: [usize; 3],
    /// How a picture of another size comes to that size.
    pub fit: Fit,
    /// Classes of the network, if known: a data set with other labels is refused.
    pub classes: Option<usize>,
    /// The output of the network that stands for each class of the data, by name; empty where the
    /// classes are the outputs, in order.
    pub outputs: Vec<(String, usize)>,
    /// What the network calls its outputs, in order; empty where it says nothing.
    pub output_names: Vec<String>,
    /// Where the calibration images come from.
    pub calibration: Calibration,
    /// At most so many training images, drawn by seed; all if absent.
    pub train: Option<usize>,
    /// At most so many test images, drawn by seed; all if absent.
    pub test: Option<usize>,
    /// Seed of every choice.
    pub seed: u64,
}

/// How far the loading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Images that are decoded.
    pub done: u64,
    /// Images there will be.
    pub total: u64,
    /// The set they belong to.
    pub set: Set,
}

#[derive(Debug, Default)]
struct Stored {
    pixels: Vec<u8>,
    labels: Vec<u16>,
    difficulty: Vec<Option<f32>>,
    hash: OnceLock<String>,
}

/// Train, calibration and test sets, disjoint, at the network's input size.
#[derive(Debug)]
pub struct LoadedData {
    input: [usize; 3],
    class_names: Vec<String>,
    sets: [Stored; 3],
    available: [usize; 3],
    notes: Vec<String>,
}

fn slot(set: Set) -> usize {
    match set {
        Set::Train => 0,
        Set::Calibration => 1,
        Set::Test => 2,
    }
}

/// A warning about the classes that have no image among `labels`.
fn without(labels: &[u16], names: &[String], to: &str) -> Option<String> {
    let counts = split::counts(labels, names.len());
    let empty: Vec<String> = names
        .iter()
        .zip(&counts)
        .filter(|(_, count)| **count == 0)
        .map(|(name, _)| name.clone())
        .collect();
    folder::some_of(&empty).map(|names| {
        let (classes, have) = if empty.len() == 1 {
            ("class", "has")
        } else {
            ("classes", "have")
        };
        format!(
            "{} {classes} of {} {have} no image to {to}: {names}",
            empty.len(),
            counts.len()
        )
    })
}

/// A data set that was opened and checked; no picture is decoded yet.
pub struct Opened(Box<dyn Images>);

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opened({} classes)", self.0.class_names().len())
    }
}

impl Opened {
    /// Opens `source`. `known` is how many classes there are, if that is known: the last ones may
    /// have no picture. `seed` draws the test side of a set that has one side.
    ///
    /// # Errors
    /// Names the file and the record of anything short, mislabelled or odd.
    pub fn open(source: &Source, known: Option<usize>, seed: u64) -> Result<Opened, DataError> {
        Ok(Opened(match source {
            Source::Synthetic { seed } => Box::new(Synthetic::new(*seed)),
            Source::Cifar10(folder) => Box::new(cifar::open_10(folder)?),
            Source::Cifar100(folder) => Box::new(cifar::open_100(folder)?),
            Source::Idx(folder) => Box::new(idx::open(folder)?),
            Source::Npz(file) => Box::new(npz::open(file, known, seed)?),
            Source::ImageFolder(folder) => Box::new(folder::open(folder, known, seed)?),
            Source::Table(path) => Box::new(table::open(path, known, seed)?),
            Source::Tar(path) => Box::new(shards::open(path, known, seed)?),
        }))
    }

    /// Opens `source` for what the options ask for.
    ///
    /// # Errors
    /// As [`Opened::open`].
    pub fn of(source: &Source, options: &LoadOptions) -> Result<Opened, DataError> {
        // Classes that are mapped to outputs are all there are, whatever the network tells apart.
        let known = match options.outputs.len() {
            0 => options.classes,
            n => Some(n),
        };
        Opened::open(source, known, options.seed)
    }

    /// What it holds, and the extents of up to `looks` pictures.
    ///
    /// # Errors
    /// A picture that was looked at can't be decoded.
    pub fn survey(&self, looks: usize) -> Result<Survey, DataError> {
        Survey::of(&*self.0, looks)
    }

    /// Names of the classes that a network of these options tells apart, in the order of their labels.
    ///
    /// # Errors
    /// The classes don't fit the options.
    pub fn class_names(&self, options: &LoadOptions) -> Result<Vec<String>, DataError> {
        Ok(Labels::of(&*self.0, options)?.names)
    }

    /// Images of the test set that [`Opened::load`] would load, by their numbers there: label, and pixels
    /// `[c, h, w]`. No other is decoded.
    ///
    /// # Errors
    /// There is no such image, or it can't be decoded.
    pub fn test_images(
        &self,
        options: &LoadOptions,
        numbers: &[u32],
    ) -> Result<Vec<(u16, Vec<u8>)>, DataError> {
        check_input(options.input)?;
        let output = Labels::of(&*self.0, options)?.output;
        let test = chosen(&*self.0, options)?.test;
        let frame = Frame {
            input: options.input,
            fit: options.fit,
        };
        let image = |&number: &u32| {
            let index = *test.get(number as usize).ok_or_else(|| {
                DataError::Request(format!(
                    "image {number} of the test set; there are {} now",
                    test.len()
                ))
            })?;
            let mut pixels = vec![0; options.input.iter().product()];
            self.0.decode(Side::Test, index, frame, &mut pixels)?;
            let label = self.0.labels(Side::Test)[index];
            Ok((output[usize::from(label)], pixels))
        };
        numbers.iter().map(image).collect()
    }

    /// Decodes what the options ask for, in parallel.
    ///
    /// # Errors
    /// As [`LoadedData::load`].
    pub fn load(
        &self,
        options: &LoadOptions,
        progress: &mut dyn FnMut(Progress),
        cancel: &Cancel,
    ) -> Result<LoadedData, DataError> {
        LoadedData::decode(&*self.0, options, progress, cancel)
    }
}

/// The classes a network is to tell apart, and the label of each class of the data among them.
struct Labels {
    names: Vec<String>,
    /// By the data's own labels.
    output: Vec<u16>,
}

impl Labels {
    fn of(images: &dyn Images, options: &LoadOptions) -> Result<Labels, DataError> {
        let names = images.class_names();
        if options.outputs.is_empty() {
            if let Some(classes) = options.classes
                && classes != names.len()
            {
                return Err(DataError::Request(format!(
                    "the network has {classes} classes, the data {}; take a network and a data set \
                     that belong together, or say which output each class is by `classes` in the \
                     session, which `edgelesspart new` finds out",
                    names.len()
                )));
            }
            // No data set has more classes than u16 counts.
            let output = (0..names.len()).map(|label| label as u16).collect();
            // Bare numbers are no names: the network's own say more.
            let numbers = names.iter().enumerate().all(|(at, n)| n.parse() == Ok(at));
            let known = options.output_names.len() == names.len();
            let names = match numbers && known {
                true => options.output_names.clone(),
                false => names,
            };
            return Ok(Labels { names, output });
        }
        let all = options.classes.unwrap_or(names.len());
        let mut outputs = Vec::new();
        for name in &names {
            let given = options.outputs.iter().find(|(class, _)| class == name);
            let (_, output) = given.ok_or_else(|| {
                DataError::Request(format!(
                    "classes: no output is given for the class `{name}` of the data; give one, as \
                     (\"{name}\", 0)"
                ))
            })?;
            let fits = u16::try_from(*output)
                .ok()
                .filter(|_| *output < all)
                .ok_or_else(|| {
                    DataError::Request(format!(
                        "classes: output {output} for `{name}`; the network has the outputs 0 to {}",
                        all.saturating_sub(1)
                    ))
                })?;
            outputs.push(fits);
        }
        let mut named: Vec<String> = match options.output_names.len() == all {
            true => options.output_names.clone(),
            false => (0..all).map(|output| format!("output {output}")).collect(),
        };
        for (name, &output) in names.iter().zip(&outputs) {
            named[usize::from(output)].clone_from(name);
        }
        Ok(Labels {
            names: named,
            output: outputs,
        })
    }
}

/// Which pictures of each side are in which set.
fn chosen(images: &dyn Images, options: &LoadOptions) -> Result<Chosen, DataError> {
    split::choose(
        images.labels(Side::Train).len(),
        images.labels(Side::Test).len(),
        options.calibration,
        (options.train, options.test),
        options.seed,
    )
}

/// Whether images can fill an input of these extents.
fn check_input([channels, height, width]: [usize; 3]) -> Result<(), DataError> {
    if !matches!(channels, 1 | 3) || height == 0 || width == 0 {
        return Err(DataError::Request(format!(
            "the network takes {channels}×{height}×{width}; images can fill 1 or 3 channels \
             of at least one pixel"
        )));
    }
    Ok(())
}

/// The labels of the images and their sets, if all that the options ask for is there.
fn fitting(images: &dyn Images, options: &LoadOptions) -> Result<(Labels, Chosen), DataError> {
    check_input(options.input)?;
    let labels = Labels::of(images, options)?;
    for (side, name) in [(Side::Train, "train"), (Side::Test, "test")] {
        if images.labels(side).is_empty() {
            return Err(DataError::Request(format!(
                "no image to {name}; a class needs two images to have one held out to test"
            )));
        }
    }
    Ok((labels, chosen(images, options)?))
}

impl LoadedData {
    /// Opens, checks and decodes `source`, in parallel.
    ///
    /// # Errors
    /// Names the file and the record of anything short, mislabelled or odd; a set is never silently
    /// smaller than its files say.
    pub fn load(
        source: &Source,
        options: &LoadOptions,
        progress: &mut dyn FnMut(Progress),
        cancel: &Cancel,
    ) -> Result<LoadedData, DataError> {
        Opened::of(source, options)?.load(options, progress, cancel)
    }

    /// Opens and checks `source` as [`LoadedData::load`] does, and decodes nothing.
    ///
    /// # Errors
    /// What `load` would refuse before it decodes.
    pub fn check(source: &Source, options: &LoadOptions) -> Result<(), DataError> {
        let Opened(images) = Opened::of(source, options)?;
        fitting(&*images, options).map(|_| ())
    }

    fn decode(
        images: &dyn Images,
        options: &LoadOptions,
        progress: &mut dyn FnMut(Progress),
        cancel: &Cancel,
    ) -> Result<LoadedData, DataError> {
        let (labels, chosen) = fitting(images, options)?;
        let Labels {
            names: class_names,
            output,
        } = labels;
        let Chosen {
            train,
            calibration,
            test,
            available,
        } = chosen;
        let own_names = images.class_names();
        let mut notes = images.notes().to_vec();
        for (side, name) in [(Side::Train, "train"), (Side::Test, "test")] {
            notes.extend(without(images.labels(side), &own_names, name));
        }
        let calibration_side = match options.calibration {
            Calibration::FromTrain(_) => Side::Train,
            Calibration::FromTest(_) => Side::Test,
        };
        let total = (train.len() + calibration.len() + test.len()) as u64;
        let mut done = 0;
        let frame = Frame {
            input: options.input,
            fit: options.fit,
        };
        let mut sets: [Stored; 3] = Default::default();
        for (set, side, chosen) in [
            (Set::Train, Side::Train, train),
            (Set::Calibration, calibration_side, calibration),
            (Set::Test, Side::Test, test),
        ] {
            let labels = images.labels(side);
            let stored = &mut sets[slot(set)];
            let label = |&index: &usize| output[usize::from(labels[index])];
            stored.labels = chosen.iter().map(label).collect();
            let size: usize = options.input.iter().product();
            stored.pixels = vec![0; chosen.len() * size];
            for (indices, pixels) in chosen
                .chunks(BATCH)
                .zip(stored.pixels.chunks_mut(BATCH * size))
            {
                if cancel.is_cancelled() {
                    return Err(DataError::Cancelled);
                }
                let difficulty: Result<Vec<_>, _> = indices
                    .par_iter()
                    .zip(pixels.par_chunks_mut(size))
                    .map(|(&index, out)| images.decode(side, index, frame, out))
                    .collect();
                stored.difficulty.extend(difficulty?);
                done += indices.len() as u64;
                progress(Progress { done, total, set });
            }
        }
        if options.train.is_some() && options.outputs.is_empty() {
            notes.extend(without(&sets[0].labels, &class_names, "train, as drawn"));
        }
        Ok(LoadedData {
            input: options.input,
            class_names,
            sets,
            available,
            notes,
        })
    }

    /// Images of a set.
    pub fn len(&self, set: Set) -> usize {
        self.sets[slot(set)].labels.len()
    }

    /// Images the set would have without a limit on their number.
    pub fn available(&self, set: Set) -> usize {
        self.available[slot(set)]
    }

    /// Whether a set has no image; none has, after [`LoadedData::load`].
    pub fn is_empty(&self, set: Set) -> bool {
        self.len(set) == 0
    }

    /// `[c, h, w]` of every image.
    pub fn shape(&self) -> [usize; 3] {
        self.input
    }

    /// Class of an image.
    pub fn label(&self, set: Set, index: usize) -> u16 {
        self.sets[slot(set)].labels[index]
    }

    /// Classes of all images of a set.
    pub fn labels(&self, set: Set) -> &[u16] {
        &self.sets[slot(set)].labels
    }

    /// Pixels of an image, `[c, h, w]`.
    pub fn pixels(&self, set: Set, index: usize) -> &[u8] {
        let size: usize = self.input.iter().product();
        &self.sets[slot(set)].pixels[index * size..(index + 1) * size]
    }

    /// How hard an image was drawn, 0 (plain) to 1; `None` where the source doesn't say.
    pub fn difficulty(&self, set: Set, index: usize) -> Option<f32> {
        self.sets[slot(set)].difficulty[index]
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.class_names.len()
    }

    /// Names of the classes, in the order of their labels.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// Images of each class of a set, in the order of the classes.
    pub fn per_class(&self, set: Set) -> Vec<usize> {
        split::counts(self.labels(set), self.classes())
    }

    /// Sentences for the user: what of the source was left out or taken in an unusual way, and which
    /// classes have no image.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// SHA-256 (hex) over shape, pixels and labels of a set; computed once.
    pub fn hash(&self, set: Set) -> String {
        let stored = &self.sets[slot(set)];
        let hash = stored.hash.get_or_init(|| {
            let mut sha = Sha256::new();
            for extent in self.input {
                sha.update((extent as u64).to_le_bytes());
            }
            sha.update(&stored.pixels);
            for label in &stored.labels {
                sha.update(label.to_le_bytes());
            }
            hex::encode(sha.finalize())
        });
        hash.clone()
    }

    /// The network's input for one image: `(x · scale − mean) / std`, in the layout asked for.
    ///
    /// # Errors
    /// `out` isn't c·h·w long, or mean or std have neither one entry nor one a channel.
    pub fn input(
        &self,
        set: Set,
        index: usize,
        preprocessing: &Preprocessing,
        out: &mut [f32],
    ) -> Result<(), DataError> {
        preprocessing.apply(self.input, self.pixels(set, index), out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Layout;

    fn options(input: [usize; 3]) -> LoadOptions {
        LoadOptions {
            input,
            fit: Fit::Stretch,
            classes: Some(10),
            outputs: Vec::new(),
            output_names: Vec::new(),
            calibration: Calibration::FromTrain(30),
            train: Some(50),
            test: Some(40),
            seed: 1,
        }
    }

    fn load(options: &LoadOptions) -> Result<LoadedData, DataError> {
        let source = Source::Synthetic { seed: 7 };
        LoadedData::load(&source, options, &mut |_| {}, &Cancel::new())
    }

    #[test]
    fn some_images_are_the_same_as_among_all() {
        let (options, source) = (options([3, 32, 32]), Source::Synthetic { seed: 7 });
        let data = load(&options).unwrap();
        let opened = Opened::of(&source, &options).unwrap();
        assert_eq!(opened.class_names(&options).unwrap(), data.class_names());
        let some = opened.test_images(&options, &[39, 0]).unwrap();
        let all = |at| {
            (
                data.label(Set::Test, at),
                data.pixels(Set::Test, at).to_vec(),
            )
        };
        assert_eq!(some, [all(39), all(0)]);
        let error = opened.test_images(&options, &[40]).unwrap_err();
        assert!(error.to_string().contains("there are 40 now"), "{error}");
    }

    #[test]
    fn loads_the_sets_asked_for() {
        let mut last = None;
        let source = Source::Synthetic { seed: 7 };
        let data = LoadedData::load(
            &source,
            &options([3, 32, 32]),
            &mut |p| last = Some((p.done, p.total)),
            &Cancel::new(),
        )
        .unwrap();
        assert_eq!(last, Some((120, 120)));
        let sizes = [Set::Train, Set::Calibration, Set::Test].map(|set| data.len(set));
        assert_eq!(sizes, [50, 30, 40]);
        assert_eq!(data.classes(), 10);
        assert_eq!(data.hash(Set::Test).len(), 64);
        assert_ne!(data.hash(Set::Test), data.hash(Set::Train));
        assert_eq!(
            data.hash(Set::Test),
            load(&options([3, 32, 32])).unwrap().hash(Set::Test)
        );
    }

    #[test]
    fn preprocesses_in_both_layouts() {
        let data = load(&options([3, 8, 8])).unwrap();
        let mut preprocessing = Preprocessing {
            mean: vec![0.1, 0.2, 0.3],
            std: vec![0.5, 0.25, 2.0],
            ..Preprocessing::default()
        };
        let (mut planar, mut interleaved) = (vec![0.0; 192], vec![0.0; 192]);
        data.input(Set::Test, 3, &preprocessing, &mut planar)
            .unwrap();
        preprocessing.layout = Layout::Nhwc;
        data.input(Set::Test, 3, &preprocessing, &mut interleaved)
            .unwrap();
        let pixel = data.pixels(Set::Test, 3)[64 + 5];
        assert_eq!(
            planar[64 + 5],
            (f32::from(pixel) * (1.0 / 255.0) - 0.2) / 0.25
        );
        for channel in 0..3 {
            for at in 0..64 {
                assert_eq!(planar[channel * 64 + at], interleaved[at * 3 + channel]);
            }
        }
        preprocessing.mean = vec![0.0; 2];
        let error = data
            .input(Set::Test, 3, &preprocessing, &mut planar)
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("preprocessing.mean has 2 values")
        );
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let text = |options: &LoadOptions| load(options).unwrap_err().to_string();
        assert!(text(&options([4, 32, 32])).contains("4×32×32"));
        let mut other = options([3, 32, 32]);
        other.classes = Some(100);
        assert!(text(&other).contains("the network has 100 classes, the data 10"));
    }

    #[test]
    fn stops_when_told() {
        let cancel = Cancel::new();
        cancel.cancel();
        let source = Source::Synthetic { seed: 7 };
        let error = LoadedData::load(&source, &options([3, 32, 32]), &mut |_| {}, &cancel);
        assert!(matches!(error, Err(DataError::Cancelled)));
    }
}
