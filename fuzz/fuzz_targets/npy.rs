//! Arrays of numpy, as inputs and as data sets.

#![no_main]

use edgelesspart::data::npy;
use edgelesspart::model::DType;
use libfuzzer_sys::fuzz_target;
use std::io::Write;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut file) = tempfile::NamedTempFile::new() else {
        return;
    };
    if file.write_all(bytes).is_err() {
        return;
    }
    if let Ok(array) = npy::read(file.path()) {
        for wanted in [DType::F32, DType::I64, DType::U8] {
            let _ = array.to_constant(wanted);
        }
    }
});
