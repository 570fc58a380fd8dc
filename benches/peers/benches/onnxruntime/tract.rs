//! tract, on the one thread it has.

use crate::Run;
use std::error::Error;
use tract_onnx::prelude::*;

pub fn load<'a>(
    mut model: &[u8],
    shape: [usize; 4],
    input: &'a [f32],
) -> Result<Run<'a>, Box<dyn Error>> {
    let model = tract_onnx::onnx()
        .model_for_read(&mut model)?
        .with_input_fact(0, f32::fact(shape).into())?
        .into_optimized()?
        .into_runnable()?;
    Ok(Box::new(move || {
        let tensor = Tensor::from_shape(&shape, input)?;
        let outputs = model.run(tvec!(tensor.into_tvalue()))?;
        let floats = outputs[0].to_plain_array_view::<f32>()?;
        Ok(floats.iter().copied().collect())
    }))
}
