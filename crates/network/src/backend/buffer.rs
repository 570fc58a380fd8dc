/*! Outputs of any element type, before they are filled. */

use crate::engine::TensorMut;
use crate::model::{DType, Data};
use std::sync::Arc;

/// An output in the making.
pub(super) enum Buffer {
    F32(Vec<f32>),
    I64(Vec<i64>),
    I32(Vec<i32>),
    U8(Vec<u8>),
    I8(Vec<i8>),
    Bool(Vec<u8>),
}

impl Buffer {
    pub(super) fn new(dtype: DType, len: usize) -> Buffer {
        match dtype {
            DType::F32 => Buffer::F32(vec![0.0; len]),
            DType::I64 => Buffer::I64(vec![0; len]),
            DType::I32 => Buffer::I32(vec![0; len]),
            DType::U8 => Buffer::U8(vec![0; len]),
            DType::I8 => Buffer::I8(vec![0; len]),
            DType::Bool => Buffer::Bool(vec![0; len]),
        }
    }

    pub(super) fn tensor(&mut self) -> TensorMut<'_> {
        match self {
            Buffer::F32(v) => TensorMut::F32(v),
            Buffer::I64(v) => TensorMut::I64(v),
            Buffer::I32(v) => TensorMut::I32(v),
            Buffer::U8(v) => TensorMut::U8(v),
            Buffer::I8(v) => TensorMut::I8(v),
            Buffer::Bool(v) => TensorMut::Bool(v),
        }
    }
}

impl From<Buffer> for Data {
    fn from(buffer: Buffer) -> Data {
        match buffer {
            Buffer::F32(v) => Data::F32(Arc::new(v)),
            Buffer::I64(v) => Data::I64(Arc::new(v)),
            Buffer::I32(v) => Data::I32(Arc::new(v)),
            Buffer::U8(v) => Data::U8(Arc::new(v)),
            Buffer::I8(v) => Data::I8(Arc::new(v)),
            Buffer::Bool(v) => Data::Bool(Arc::new(v)),
        }
    }
}
