/*! Shapes with a symbolic batch: every extent is a constant or a multiple of the batch size. */

use serde::{Deserialize, Serialize};
use std::fmt;

/// One extent of a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Dim {
    /// A number known from the file.
    Fixed(usize),
    /// `k` times the batch size (`k` > 1 where the batch was merged with another axis).
    Batch(usize),
}

impl Dim {
    /// The extent at batch size `batch`.
    pub fn at(self, batch: usize) -> usize {
        match self {
            Dim::Fixed(n) => n,
            Dim::Batch(k) => k * batch,
        }
    }

    /// The number, if it doesn't depend on the batch.
    pub fn fixed(self) -> Option<usize> {
        match self {
            Dim::Fixed(n) => Some(n),
            Dim::Batch(_) => None,
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(n) => write!(f, "{n}"),
            Dim::Batch(1) => write!(f, "N"),
            Dim::Batch(k) => write!(f, "{k}N"),
        }
    }
}

/// The shape of a value. A scalar has no extents.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Shape(pub Vec<Dim>);

impl Shape {
    /// A shape that doesn't depend on the batch.
    pub fn fixed(dims: &[usize]) -> Self {
        Shape(dims.iter().map(|&n| Dim::Fixed(n)).collect())
    }

    /// `[N, dims…]`, the usual shape of an activation.
    pub fn batched(dims: &[usize]) -> Self {
        let rest = dims.iter().map(|&n| Dim::Fixed(n));
        Shape(std::iter::once(Dim::Batch(1)).chain(rest).collect())
    }

    /// Number of axes, the batch included.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The extents at batch size `batch`.
    pub fn at(&self, batch: usize) -> Vec<usize> {
        self.0.iter().map(|d| d.at(batch)).collect()
    }

    /// Number of elements at batch size `batch`.
    pub fn elements(&self, batch: usize) -> usize {
        self.0.iter().map(|d| d.at(batch)).product()
    }

    /// The extents behind the first axis, if they are all fixed: `[C, H, W]` of an activation.
    pub fn sample(&self) -> Option<Vec<usize>> {
        self.0.iter().skip(1).map(|d| d.fixed()).collect()
    }
}

impl fmt::Display for Shape {
    /// Writes extents as `N×64×8×8`, the batch as `N`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return write!(f, "scalar");
        }
        for (i, d) in self.0.iter().enumerate() {
            if i > 0 {
                write!(f, "×")?;
            }
            write!(f, "{d}")?;
        }
        Ok(())
    }
}
