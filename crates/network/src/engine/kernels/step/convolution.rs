/*! A convolution, whichever way it is computed. */

use super::super::loops::{KernelTable, Plane};
use super::super::threads::Team;
use super::{Arena, Conv, Pixels, Winograd};

/// The tensors of a convolution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConvOperands {
    pub x: Pixels,
    /// Added before the clamp.
    pub residual: Option<Pixels>,
    pub y: Pixels,
}

impl ConvOperands {
    /// Panics unless the extents are those of so many samples over this plane, into so many channels.
    pub(super) fn check(&self, plane: &Plane, samples: usize, channels: usize) {
        for t in self.residual.iter().chain([&self.y]) {
            assert_eq!([t.samples, t.channels], [samples, channels]);
            assert_eq!([t.height, t.width], plane.output);
        }
        assert_eq!(self.x.samples, samples);
        assert_eq!([self.x.height, self.x.width], plane.input);
    }
}

/// A convolution by the loops that serve it best.
#[derive(Debug, Clone)]
pub(crate) enum Convolution {
    Rows(Conv),
    Products(Winograd),
}

impl Convolution {
    /// Bytes of weights and biases as the kernel keeps them.
    pub(crate) fn parameter_bytes(&self) -> usize {
        match self {
            Convolution::Rows(conv) => conv.parameter_bytes(),
            Convolution::Products(conv) => conv.parameter_bytes(),
        }
    }

    /// Bytes that so many threads work in, beside the arena, in each of two places.
    pub(crate) fn scratch_bytes(&self, kernels: &KernelTable, threads: usize) -> [usize; 2] {
        match self {
            Convolution::Rows(_) => [0; 2],
            Convolution::Products(conv) => conv.scratch_bytes(kernels, threads),
        }
    }

    /// Runs the convolution over one batch.
    pub(crate) fn run(
        &self,
        arena: &mut Arena<'_>,
        operands: &ConvOperands,
        kernels: &KernelTable,
        pool: Team<'_>,
    ) {
        match self {
            Convolution::Rows(conv) => conv.run(arena, operands, kernels, pool),
            Convolution::Products(conv) => conv.run(arena, operands, kernels, pool),
        }
    }
}
