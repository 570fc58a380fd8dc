/*! What every kind of data set offers once it is opened. */

use super::{DataError, Fit};

/// The side of a stored data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Train,
    Test,
}

/// What pictures are to become.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Frame {
    /// Channels, height and width.
    pub input: [usize; 3],
    /// How one of another size comes to it.
    pub fit: Fit,
}

#[cfg(test)]
impl Frame {
    /// What most tests want.
    pub fn stretched(input: [usize; 3]) -> Frame {
        Frame {
            input,
            fit: Fit::Stretch,
        }
    }
}

/// A stored data set, opened and checked, its pictures not yet decoded.
pub(super) trait Images: Send + Sync {
    fn class_names(&self) -> Vec<String>;
    /// Labels, all below the count of classes.
    fn labels(&self, side: Side) -> &[u16];
    /// Sentences for the user about what was left out or taken in an unusual way.
    fn notes(&self) -> &[String] {
        &[]
    }
    /// Channels, height and width of picture `index` as it is stored; `None` where it is drawn at any.
    fn stored(&self, side: Side, index: usize) -> Result<Option<[usize; 3]>, DataError>;
    /// Writes picture `index` into `out` as `[c, h, w]`; returns its difficulty where known.
    fn decode(
        &self,
        side: Side,
        index: usize,
        frame: Frame,
        out: &mut [u8],
    ) -> Result<Option<f32>, DataError>;
}
