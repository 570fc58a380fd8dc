/*! Constants of a graph: weights, shapes, scales. Their data is shared, never copied with a graph. */

use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Element types the importer knows. F16, BF16 and F64 files are converted to `F32` at import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum DType {
    F32,
    I64,
    I32,
    U8,
    I8,
    Bool,
}

impl DType {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            DType::I64 => 8,
            DType::F32 | DType::I32 => 4,
            DType::U8 | DType::I8 | DType::Bool => 1,
        }
    }
}

/// Shared element data, row-major.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Data {
    F32(Arc<Vec<f32>>),
    I64(Arc<Vec<i64>>),
    I32(Arc<Vec<i32>>),
    U8(Arc<Vec<u8>>),
    I8(Arc<Vec<i8>>),
    /// Truth values, one byte each: 0 or 1.
    Bool(Arc<Vec<u8>>),
}

/// A tensor whose value is known before the network runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    /// Extents, row-major; a constant has no symbolic axis.
    pub shape: Vec<usize>,
    /// Elements, row-major; as many as the product of `shape`.
    pub data: Data,
}

impl Data {
    /// Number of elements that are stored.
    pub(super) fn len(&self) -> usize {
        match self {
            Data::F32(v) => v.len(),
            Data::I64(v) => v.len(),
            Data::I32(v) => v.len(),
            Data::U8(v) | Data::Bool(v) => v.len(),
            Data::I8(v) => v.len(),
        }
    }
}

impl Constant {
    /// A float tensor. `data` holds the product of `shape` elements.
    pub fn f32(shape: &[usize], data: Vec<f32>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len());
        Constant {
            shape: shape.to_vec(),
            data: Data::F32(Arc::new(data)),
        }
    }

    /// An index tensor. `data` holds the product of `shape` elements.
    pub fn i64(shape: &[usize], data: Vec<i64>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len());
        Constant {
            shape: shape.to_vec(),
            data: Data::I64(Arc::new(data)),
        }
    }

    /// Type of the elements that are stored.
    pub fn dtype(&self) -> DType {
        match &self.data {
            Data::F32(_) => DType::F32,
            Data::I64(_) => DType::I64,
            Data::I32(_) => DType::I32,
            Data::U8(_) => DType::U8,
            Data::I8(_) => DType::I8,
            Data::Bool(_) => DType::Bool,
        }
    }

    /// Number of elements: the product of the extents.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The floats, if it is a float tensor.
    pub fn floats(&self) -> Option<&[f32]> {
        match &self.data {
            Data::F32(v) => Some(v),
            _ => None,
        }
    }
}
