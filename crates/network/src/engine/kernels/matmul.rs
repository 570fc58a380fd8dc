/*! A safe face of the `gemm` crate, for products of matrices that are not weights. */

/// A matrix over borrowed floats with (row, column) strides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    stride: (usize, usize),
}

impl<'a> Matrix<'a> {
    /// Panics unless every element lies within `data`.
    pub(crate) fn new(
        data: &'a [f32],
        rows: usize,
        columns: usize,
        stride: (usize, usize),
    ) -> Self {
        if rows * columns > 0 {
            assert!((rows - 1) * stride.0 + (columns - 1) * stride.1 < data.len());
        }
        Matrix {
            data,
            rows,
            columns,
            stride,
        }
    }

    /// `count` rows from `first` on. Panics unless there are as many.
    pub(crate) fn rows(self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.rows);
        let from = (first * self.stride.0).min(self.data.len());
        Matrix {
            data: &self.data[from..],
            rows: count,
            ..self
        }
    }
}

impl Matrix<'_> {
    /// `count` columns from `first` on. Panics unless there are as many.
    pub(crate) fn columns(self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.columns);
        let from = (first * self.stride.1).min(self.data.len());
        Matrix {
            data: &self.data[from..],
            columns: count,
            ..self
        }
    }
}

/// `y = a · b`, row-major, on the calling thread. Panics unless the extents fit.
pub(crate) fn product(a: Matrix<'_>, b: Matrix<'_>, y: &mut [f32]) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert_eq!(k, b.rows);
    assert_eq!(y.len(), m * n);
    if k == 0 {
        y.fill(0.0);
        return;
    }
    if m * n == 0 {
        return;
    }
    // SAFETY: `Matrix::new` checked that every element of a and b lies within its slice, y holds
    // m · n elements, and y is borrowed mutably, so it overlaps neither. Without `read_dst` y's
    // old content is not used.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            y.as_mut_ptr(),
            1,
            n as isize,
            false,
            a.data.as_ptr(),
            a.stride.1 as isize,
            a.stride.0 as isize,
            b.data.as_ptr(),
            b.stride.1 as isize,
            b.stride.0 as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
