/*! What a data set holds: its classes, how many pictures each has, and how large pictures are. */

use super::source::{Images, Side};
use super::{DataError, split};

/// What a data set holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    /// Names of the classes, in the order of their labels.
    pub class_names: Vec<String>,
    /// Pictures to train on, by class.
    pub train: Vec<usize>,
    /// Pictures to test on, by class.
    pub test: Vec<usize>,
    /// Channels, height and width of some pictures; none where they are drawn at any size.
    pub sizes: Vec<[usize; 3]>,
    /// Sentences for the user about what was left out or taken in an unusual way.
    pub notes: Vec<String>,
}

impl Survey {
    pub(super) fn of(images: &dyn Images, looks: usize) -> Result<Survey, DataError> {
        let class_names = images.class_names();
        let per_class = |side| split::counts(images.labels(side), class_names.len());
        let (train, test) = (per_class(Side::Train), per_class(Side::Test));
        let mut sizes = Vec::new();
        for side in [Side::Train, Side::Test] {
            // From all of it: what is listed by class may differ by class.
            let count = images.labels(side).len();
            let step = count.div_ceil(looks.div_ceil(2).max(1)).max(1);
            for index in (0..count).step_by(step) {
                sizes.extend(images.stored(side, index)?);
            }
        }
        Ok(Survey {
            class_names,
            train,
            test,
            sizes,
            notes: images.notes().to_vec(),
        })
    }

    /// Pictures to train on.
    pub fn trains(&self) -> usize {
        self.train.iter().sum()
    }

    /// Pictures to test on.
    pub fn tests(&self) -> usize {
        self.test.iter().sum()
    }

    /// The one size that all pictures that were looked at have, or else the median of their heights
    /// and of their widths.
    pub fn size(&self) -> Option<PictureSize> {
        let first = *self.sizes.first()?;
        if self.sizes.iter().all(|size| size[1..] == first[1..]) {
            return Some(PictureSize {
                height: first[1],
                width: first[2],
                same: true,
            });
        }
        let median = |axis: usize| {
            let mut all: Vec<usize> = self.sizes.iter().map(|size| size[axis]).collect();
            all.sort_unstable();
            all[all.len() / 2]
        };
        Some(PictureSize {
            height: median(1),
            width: median(2),
            same: false,
        })
    }

    /// Whether no picture that was looked at has colours.
    pub fn is_grey(&self) -> bool {
        !self.sizes.is_empty() && self.sizes.iter().all(|size| size[0] == 1)
    }
}

/// How large pictures are, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureSize {
    /// Of all, or the median.
    pub height: usize,
    /// Of all, or the median.
    pub width: usize,
    /// Whether all that were looked at have it.
    pub same: bool,
}

#[cfg(test)]
mod tests {
    use super::super::{Opened, Source};
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_folder_is_surveyed_by_class_and_size() {
        let dir = tempfile::tempdir().unwrap();
        for (path, width, height) in [
            ("train/ant/1.png", 20, 10),
            ("train/ant/2.png", 20, 10),
            ("train/bee/1.png", 40, 30),
            ("test/ant/1.png", 20, 10),
            ("test/bee/1.png", 20, 12),
        ] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            image::RgbImage::new(width, height).save(path).unwrap();
        }
        let open = |path: &std::path::Path| {
            let source = Source::recognise(path);
            Opened::open(&source, None, 7).unwrap().survey(64).unwrap()
        };
        let survey = open(dir.path());
        assert_eq!(survey.class_names, ["ant", "bee"]);
        assert_eq!(
            (survey.train.as_slice(), survey.test.as_slice()),
            (&[2, 1][..], &[1, 1][..])
        );
        assert_eq!((survey.trains(), survey.tests()), (3, 2));
        assert_eq!(survey.sizes.len(), 5);
        let median = PictureSize {
            height: 10,
            width: 20,
            same: false,
        };
        assert_eq!(survey.size(), Some(median));
        assert!(!survey.is_grey());
        let synthetic = Opened::open(&Source::Synthetic { seed: 7 }, None, 7).unwrap();
        assert_eq!(synthetic.survey(64).unwrap().size(), None);
    }
}
