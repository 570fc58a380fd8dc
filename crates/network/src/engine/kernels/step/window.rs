/*! What a convolution reads of its input for an output pixel. */

use super::super::loops::Plane;

/// The cells under a window, and where it lies.
#[derive(Debug, Clone)]
pub(super) struct Window {
    /// Offsets (rows, columns) of the taps from the window's first cell.
    pub taps: Vec<(isize, isize)>,
    /// The largest of them on each axis.
    pub far: (isize, isize),
    /// One tap, over cells as far apart as the output's.
    pub same: bool,
    input: [isize; 2],
    stride: [usize; 2],
    pad: [isize; 2],
}

impl Window {
    /// Of a kernel whose `taps` (row, column) are those that ever fall on a real cell.
    pub(super) fn new(p: &Plane, taps: &[(usize, usize)]) -> Window {
        let at = |&(ky, kx): &(usize, usize)| {
            let (y, x) = (ky * p.dilation[0], kx * p.dilation[1]);
            (y as isize, x as isize)
        };
        let taps: Vec<(isize, isize)> = taps.iter().map(at).collect();
        let far = taps
            .iter()
            .fold((0, 0), |far, tap| (far.0.max(tap.0), far.1.max(tap.1)));
        let same = p.stride == [1, 1] && p.input == p.output && p.pad == [0, 0];
        Window {
            same: same && taps == [(0, 0)],
            taps,
            far,
            input: p.input.map(|i| i as isize),
            stride: p.stride,
            pad: p.pad.map(|i| i as isize),
        }
    }

    /// Row and column of the first cell under an output pixel's window, which may be padding.
    pub(super) fn first(&self, oy: usize, ox: usize) -> (isize, isize) {
        let start = |axis: usize, o: usize| (o * self.stride[axis]) as isize - self.pad[axis];
        (start(0, oy), start(1, ox))
    }

    /// Whether a tap of that window falls on a real cell.
    pub(super) fn real(&self, at: (isize, isize), tap: (isize, isize)) -> bool {
        (0..self.input[0]).contains(&(at.0 + tap.0)) && (0..self.input[1]).contains(&(at.1 + tap.1))
    }

    /// Whether every tap does.
    pub(super) fn holds(&self, at: (isize, isize)) -> bool {
        at.0 >= 0 && at.1 >= 0 && self.real(at, self.far)
    }
}
