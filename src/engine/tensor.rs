/*! Candle tensors in and out of the engine. */

use super::{Cancel, Engine, EngineError};
use crate::model::{Constant, DType, Data};
use candle_core::{Device, Tensor};

/// Why a tensor could not go in or out.
#[derive(Debug, thiserror::Error)]
pub enum TensorError {
    /// The engine's own refusal.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Candle's.
    #[error("a tensor could not be read or made")]
    Candle(#[from] candle_core::Error),
    /// An element type the engine doesn't know.
    #[error("a tensor of type {0:?}: the engine takes F32, I64, I32 and U8")]
    Type(candle_core::DType),
}

/// A tensor's elements, copied to the processor.
pub fn from_tensor(tensor: &Tensor) -> Result<Constant, TensorError> {
    let flat = tensor.flatten_all()?;
    let data = match tensor.dtype() {
        candle_core::DType::F32 => Data::F32(flat.to_vec1()?.into()),
        candle_core::DType::I64 => Data::I64(flat.to_vec1()?.into()),
        candle_core::DType::I32 => Data::I32(flat.to_vec1()?.into()),
        candle_core::DType::U8 => Data::U8(flat.to_vec1()?.into()),
        other => return Err(TensorError::Type(other)),
    };
    Ok(Constant {
        shape: tensor.dims().to_vec(),
        data,
    })
}

/// A constant as a tensor on `device`. I8 becomes I32 and Bool becomes U8, which candle has.
pub fn to_tensor(constant: &Constant, device: &Device) -> Result<Tensor, TensorError> {
    let shape = constant.shape.as_slice();
    Ok(match &constant.data {
        Data::F32(v) => Tensor::from_slice(v, shape, device)?,
        Data::I64(v) => Tensor::from_slice(v, shape, device)?,
        Data::I32(v) => Tensor::from_slice(v, shape, device)?,
        Data::U8(v) | Data::Bool(v) => Tensor::from_slice(v, shape, device)?,
        Data::I8(v) => {
            let wide: Vec<i32> = v.iter().map(|&x| i32::from(x)).collect();
            Tensor::from_vec(wide, shape, device)?
        }
    })
}

impl Engine {
    /// Runs on tensors, and returns the outputs on the device of the first input (the processor
    /// where there is none). U8 tensors feed boolean inputs too.
    pub fn run_tensors(
        &self,
        inputs: &[&Tensor],
        cancel: &Cancel,
    ) -> Result<Vec<Tensor>, TensorError> {
        let device = inputs.first().map_or(Device::Cpu, |t| t.device().clone());
        let mut constants = vec![];
        for (at, tensor) in inputs.iter().enumerate() {
            let mut constant = from_tensor(tensor)?;
            let wanted = self
                .graph()
                .inputs
                .get(at)
                .map(|&id| self.graph().value(id).dtype);
            if let (Some(DType::Bool), Data::U8(v)) = (wanted, &constant.data) {
                constant.data = Data::Bool(v.clone());
            }
            constants.push(constant);
        }
        let outputs = self.run(&constants, cancel)?;
        outputs.iter().map(|c| to_tensor(c, &device)).collect()
    }
}
