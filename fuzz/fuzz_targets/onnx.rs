//! ONNX files: imported, fused, cut into layers, and written again as the same network.

#![no_main]

use edgelesspart::model::export::to_onnx;
use edgelesspart::model::fuse::fuse;
use edgelesspart::model::layers::LayerTable;
use edgelesspart::model::onnx::import_bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(graph) = import_bytes(bytes, "fuzz.onnx") else {
        return;
    };
    let fused = fuse(&graph);
    let _ = LayerTable::new(&fused);
    if let Ok(written) = to_onnx(&graph) {
        // What was refused as a whole may be legal in ONNX; what was written must be read.
        let again = import_bytes(&written, "written.onnx");
        assert!(again.is_ok(), "{:?}", again.err());
    }
});
