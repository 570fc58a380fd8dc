/*! Tensors as the caller of a run holds them: their elements borrowed, their extents those of a port. */

use super::EngineError;
use crate::model::{DType, Data, Graph, Shape, ValueId};

/// A tensor that a network takes or gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Name in the graph.
    pub name: String,
    /// Type of the elements.
    pub dtype: DType,
    /// Extents, some of them multiples of the batch size.
    pub shape: Shape,
}

impl Port {
    /// The ports of some values of a graph, in order.
    pub(crate) fn of(graph: &Graph, ids: &[ValueId]) -> Vec<Port> {
        let port = |&id: &ValueId| {
            let value = graph.value(id);
            Port {
                name: value.name.clone(),
                dtype: value.dtype,
                shape: value.shape.clone(),
            }
        };
        ids.iter().map(port).collect()
    }

    /// Elements at batch size `batch`.
    pub fn elements(&self, batch: usize) -> usize {
        self.shape.elements(batch)
    }
}

/// The elements of a tensor, row-major in the graph's own axis order (NCHW for images).
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub enum TensorRef<'a> {
    F32(&'a [f32]),
    I64(&'a [i64]),
    I32(&'a [i32]),
    U8(&'a [u8]),
    I8(&'a [i8]),
    /// Truth values, one byte each: 0 or 1.
    Bool(&'a [u8]),
}

impl<'a> TensorRef<'a> {
    /// Type of the elements that the slice holds.
    pub fn dtype(self) -> DType {
        match self {
            TensorRef::F32(_) => DType::F32,
            TensorRef::I64(_) => DType::I64,
            TensorRef::I32(_) => DType::I32,
            TensorRef::U8(_) => DType::U8,
            TensorRef::I8(_) => DType::I8,
            TensorRef::Bool(_) => DType::Bool,
        }
    }

    /// The elements as they lie in memory.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            TensorRef::F32(v) => bytemuck::cast_slice(v),
            TensorRef::I64(v) => bytemuck::cast_slice(v),
            TensorRef::I32(v) => bytemuck::cast_slice(v),
            TensorRef::U8(v) | TensorRef::Bool(v) => v,
            TensorRef::I8(v) => bytemuck::cast_slice(v),
        }
    }

    fn elements(self) -> usize {
        self.bytes().len() / self.dtype().bytes()
    }
}

impl<'a> From<&'a Data> for TensorRef<'a> {
    fn from(data: &'a Data) -> Self {
        match data {
            Data::F32(v) => TensorRef::F32(v),
            Data::I64(v) => TensorRef::I64(v),
            Data::I32(v) => TensorRef::I32(v),
            Data::U8(v) => TensorRef::U8(v),
            Data::I8(v) => TensorRef::I8(v),
            Data::Bool(v) => TensorRef::Bool(v),
        }
    }
}

/// A buffer for the elements of a tensor, row-major in the graph's own axis order.
#[derive(Debug, PartialEq)]
#[allow(missing_docs)]
pub enum TensorMut<'a> {
    F32(&'a mut [f32]),
    I64(&'a mut [i64]),
    I32(&'a mut [i32]),
    U8(&'a mut [u8]),
    I8(&'a mut [i8]),
    /// Truth values, one byte each: 0 or 1.
    Bool(&'a mut [u8]),
}

impl TensorMut<'_> {
    /// Type of the elements that the slice holds.
    pub fn dtype(&self) -> DType {
        self.as_ref().dtype()
    }

    /// The elements, to be read.
    pub fn as_ref(&self) -> TensorRef<'_> {
        match self {
            TensorMut::F32(v) => TensorRef::F32(v),
            TensorMut::I64(v) => TensorRef::I64(v),
            TensorMut::I32(v) => TensorRef::I32(v),
            TensorMut::U8(v) => TensorRef::U8(v),
            TensorMut::I8(v) => TensorRef::I8(v),
            TensorMut::Bool(v) => TensorRef::Bool(v),
        }
    }

    /// The elements as they lie in memory.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            TensorMut::F32(v) => bytemuck::cast_slice_mut(v),
            TensorMut::I64(v) => bytemuck::cast_slice_mut(v),
            TensorMut::I32(v) => bytemuck::cast_slice_mut(v),
            TensorMut::U8(v) | TensorMut::Bool(v) => v,
            TensorMut::I8(v) => bytemuck::cast_slice_mut(v),
        }
    }
}

/// The bytes of a constant's elements.
pub(crate) fn constant_bytes(data: &Data) -> &[u8] {
    TensorRef::from(data).bytes()
}

/// Refuses a run of no samples.
///
/// # Errors
/// Names the first input.
pub(crate) fn check_batch(ports: &[Port], batch: usize) -> Result<(), EngineError> {
    match batch {
        0 => Err(wrong_input(ports, 0, "at least one sample", "none")),
        _ => Ok(()),
    }
}

fn wrong_input(
    ports: &[Port],
    at: usize,
    expected: impl Into<String>,
    found: impl Into<String>,
) -> EngineError {
    let port = ports.get(at);
    EngineError::Input {
        name: port.map_or_else(|| format!("#{at}"), |port| port.name.clone()),
        expected: expected.into(),
        found: found.into(),
    }
}

/// Refuses inputs that don't fit a network's at batch size `batch`.
///
/// # Errors
/// Names the first input that is missing, or of another type or length than its port.
pub(crate) fn check_inputs(
    ports: &[Port],
    batch: usize,
    inputs: &[TensorRef],
) -> Result<(), EngineError> {
    check_batch(ports, batch)?;
    if inputs.len() != ports.len() {
        let found = format!("one of {} inputs", inputs.len());
        return Err(wrong_input(
            ports,
            0,
            format!("{} inputs", ports.len()),
            found,
        ));
    }
    for (at, (port, input)) in ports.iter().zip(inputs).enumerate() {
        if port.dtype != input.dtype() || port.elements(batch) != input.elements() {
            return Err(wrong_input(
                ports,
                at,
                format!("{:?} {} (batch {batch})", port.dtype, port.shape),
                format!("{} elements of {:?}", input.elements(), input.dtype()),
            ));
        }
    }
    Ok(())
}

/// Refuses buffers that don't fit the outputs of the network called `network` at batch size `batch`.
///
/// # Errors
/// Names the first output whose buffer is missing, or of another type or length than its port.
pub(crate) fn check_outputs(
    network: &str,
    ports: &[Port],
    batch: usize,
    outputs: &[TensorMut],
) -> Result<(), EngineError> {
    if ports.len() != outputs.len() {
        return Err(EngineError::Output {
            name: network.to_string(),
            expected: format!("{} outputs", ports.len()),
            found: format!("{} buffers", outputs.len()),
        });
    }
    for (port, buffer) in ports.iter().zip(outputs) {
        let found = buffer.as_ref();
        if port.dtype != found.dtype() || port.elements(batch) != found.elements() {
            return Err(EngineError::Output {
                name: port.name.clone(),
                expected: format!("{:?} {} (batch {batch})", port.dtype, port.shape),
                found: format!(
                    "a buffer of {} elements of {:?}",
                    found.elements(),
                    found.dtype()
                ),
            });
        }
    }
    Ok(())
}
