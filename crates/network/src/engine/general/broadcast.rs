/*! Extents and walks of tensors that are repeated along axes, as NumPy broadcasts them. */

use super::Team;

/// The extents that numpy broadcasting gives, or what is wrong.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let rank = a.len().max(b.len());
    let at = |dims: &[usize], axis: usize| match (axis + dims.len()).checked_sub(rank) {
        Some(i) => dims[i],
        None => 1,
    };
    (0..rank)
        .map(|axis| match (at(a, axis), at(b, axis)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            _ => Err(format!("broadcasting {a:?} with {b:?}")),
        })
        .collect()
}

/// Strides of a tensor of extents `dims` seen as one of extents `to`: zero where it is repeated.
pub(super) fn broadcast_strides(dims: &[usize], to: &[usize]) -> Vec<usize> {
    let own = super::strides(dims);
    let lead = to.len() - dims.len();
    (0..to.len())
        .map(|axis| match axis.checked_sub(lead) {
            Some(i) if dims[i] != 1 => own[i],
            _ => 0,
        })
        .collect()
}

/// A walk over `dims` in rows, with the offsets of `N` operands; neighbouring axes that every
/// operand walks through evenly are merged, so that equal shapes are one row.
#[derive(Debug, Clone)]
pub(super) struct Rows<const N: usize> {
    dims: Vec<usize>,
    strides: Vec<[usize; N]>,
}

impl<const N: usize> Rows<N> {
    pub(super) fn new(dims: &[usize], operands: [Vec<usize>; N]) -> Self {
        let mut rows = Rows {
            dims: vec![],
            strides: vec![],
        };
        for (axis, &extent) in dims.iter().enumerate() {
            if extent == 1 {
                continue;
            }
            let step: [usize; N] = std::array::from_fn(|k| operands[k][axis]);
            match (rows.dims.last_mut(), rows.strides.last_mut()) {
                (Some(d), Some(s)) if (0..N).all(|k| s[k] == step[k] * extent) => {
                    *d *= extent;
                    *s = step;
                }
                _ => {
                    rows.dims.push(extent);
                    rows.strides.push(step);
                }
            }
        }
        rows
    }

    /// Calls `f(offsets, steps, cells)` for all of the output `y` in rows, with the threads of
    /// `team`: whole innermost rows, or pieces of one that is all there is.
    pub(super) fn shared_out<U: Send>(
        &self,
        y: &mut [U],
        piece: usize,
        team: Team<'_>,
        f: impl Fn([usize; N], [usize; N], &mut [U]) + Sync,
    ) {
        if self.dims.contains(&0) || y.is_empty() {
            return;
        }
        let Some((&length, outer)) = self.dims.split_last() else {
            return f([0; N], [0; N], &mut y[..1]);
        };
        let steps = self.strides[outer.len()];
        if outer.is_empty() {
            return team.pieces(y, piece, |i, y| {
                f(std::array::from_fn(|k| i * piece * steps[k]), steps, y);
            });
        }
        let rows = (piece / length).max(1);
        team.pieces(y, rows * length, |i, y| {
            let mut index = vec![0; outer.len()];
            let (mut left, mut at) = (i * rows, [0; N]);
            for axis in (0..outer.len()).rev() {
                index[axis] = left % outer[axis];
                left /= outer[axis];
                (0..N).for_each(|k| at[k] += index[axis] * self.strides[axis][k]);
            }
            for y in y.chunks_exact_mut(length) {
                f(at, steps, y);
                for axis in (0..outer.len()).rev() {
                    index[axis] += 1;
                    let stride = self.strides[axis];
                    (0..N).for_each(|k| at[k] += stride[k]);
                    if index[axis] < outer[axis] {
                        break;
                    }
                    (0..N).for_each(|k| at[k] -= stride[k] * outer[axis]);
                    index[axis] = 0;
                }
            }
        });
    }
}
