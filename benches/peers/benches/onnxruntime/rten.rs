//! rten.

use super::unpacked::{Message, unpacked};
use crate::Run;
use rten::{ModelOptions, RunOptions, ThreadPool};
use rten_tensor::NdTensorView;
use rten_tensor::prelude::*;
use std::error::Error;
use std::sync::Arc;

pub fn load<'a>(
    model: &[u8],
    shape: [usize; 4],
    input: &'a [f32],
    threads: usize,
) -> Result<Run<'a>, Box<dyn Error>> {
    let model = ModelOptions::with_all_ops()
        .prepack_weights(true)
        .load(unpacked(Message::Model, model)?)?;
    let pool = Arc::new(ThreadPool::with_num_threads(threads));
    Ok(Box::new(move || {
        let options = RunOptions::default().with_thread_pool(Some(pool.clone()));
        let input = NdTensorView::from_data(shape, input);
        let output = model.run_one(input.into(), Some(options))?;
        let output = output.into_tensor::<f32>().ok_or("no floats")?;
        Ok(output.to_vec())
    }))
}
