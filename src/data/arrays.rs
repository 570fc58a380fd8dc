/*! Data sets whose pixels lie in arrays of one size: CIFAR, IDX and NumPy archives. */

use super::DataError;
use super::pixels::fit_planes;
use super::source::{Frame, Images, Side};
use super::split;

/// Labels and pixels of a side.
#[derive(Debug, Clone, Default)]
pub(super) struct Half {
    pub labels: Vec<u16>,
    /// Channel planes `[c, h, w]`, picture by picture.
    pub pixels: Vec<u8>,
    /// Channels (1 or 3), height and width; the test side may have others than the training side.
    pub stored: [usize; 3],
}

/// Both sides, read and checked.
#[derive(Debug, Default)]
pub(super) struct Arrays {
    pub names: Vec<String>,
    pub train: Half,
    pub test: Half,
    pub notes: Vec<String>,
}

impl Half {
    fn size(&self) -> usize {
        self.stored.iter().product()
    }

    /// The pictures of `indices`, in their order.
    fn only(&self, indices: &[usize]) -> Half {
        let size = self.size();
        let pixels = |&index: &usize| &self.pixels[index * size..(index + 1) * size];
        Half {
            labels: indices.iter().map(|&index| self.labels[index]).collect(),
            pixels: indices.iter().flat_map(pixels).copied().collect(),
            stored: self.stored,
        }
    }

    /// A seeded part of each class becomes the test side.
    pub fn split(&self, classes: usize, seed: u64) -> (Half, Half) {
        let (train, test) = split::hold_out(&self.labels, classes, seed);
        (self.only(&train), self.only(&test))
    }
}

impl Arrays {
    fn side(&self, side: Side) -> &Half {
        match side {
            Side::Train => &self.train,
            Side::Test => &self.test,
        }
    }
}

impl Images for Arrays {
    fn class_names(&self) -> Vec<String> {
        self.names.clone()
    }

    fn labels(&self, side: Side) -> &[u16] {
        &self.side(side).labels
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn stored(&self, side: Side, _: usize) -> Result<Option<[usize; 3]>, DataError> {
        Ok(Some(self.side(side).stored))
    }

    fn decode(
        &self,
        side: Side,
        index: usize,
        frame: Frame,
        out: &mut [u8],
    ) -> Result<Option<f32>, DataError> {
        let half = self.side(side);
        let size = half.size();
        let pixels = &half.pixels[index * size..(index + 1) * size];
        fit_planes(pixels, half.stored, frame, out);
        Ok(None)
    }
}
