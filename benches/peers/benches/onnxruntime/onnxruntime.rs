//! ONNX Runtime, from its shared library.

use crate::Run;
use ort::session::Session;
use ort::value::TensorRef;
use std::error::Error;
use std::fmt::Display;

/// Fails where the library isn't named: ort would panic at its first use.
pub fn find() -> Result<(), Box<dyn Error>> {
    let path = std::env::var_os("ORT_DYLIB_PATH").unwrap_or_default();
    if std::path::Path::new(&path).is_file() {
        return Ok(());
    }
    Err(
        "set ORT_DYLIB_PATH to ONNX Runtime's shared library: PyPI's onnxruntime has it as \
         capi/libonnxruntime.so.VERSION"
            .into(),
    )
}

pub fn load<'a>(
    model: &[u8],
    shape: [usize; 4],
    input: &'a [f32],
    threads: usize,
) -> Result<Run<'a>, Box<dyn Error>> {
    let text = |e: &dyn Display| e.to_string();
    let mut session = Session::builder()?
        .with_intra_threads(threads)
        .map_err(|e| text(&e))?
        .commit_from_memory(model)?;
    Ok(Box::new(move || {
        let outputs = session.run(ort::inputs![TensorRef::from_array_view((shape, input))?])?;
        Ok(outputs[0].try_extract_tensor::<f32>()?.1.to_vec())
    }))
}
