/*! What every kind of data set offers once it is opened. */

use super::DataError;

/// The side of a stored data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Train,
    Test,
}

/// A stored data set, opened and checked, its pictures not yet decoded.
pub(super) trait Images: Sync {
    fn class_names(&self) -> Vec<String>;
    /// Labels, all below the count of classes.
    fn labels(&self, side: Side) -> &[u16];
    /// Sentences for the user about what was left out or taken in an unusual way.
    fn notes(&self) -> &[String] {
        &[]
    }
    /// Writes picture `index` into `out` as `[c, h, w]`; returns its difficulty where known.
    fn decode(
        &self,
        side: Side,
        index: usize,
        input: [usize; 3],
        out: &mut [u8],
    ) -> Result<Option<f32>, DataError>;
}
