//! Sources of exit classifiers: rendered, checked and built at every exit point of the demo's network.

#![no_main]

use edgelesspart::exits::{self, ExitPoint};
use edgelesspart::model::fuse::fuse;
use edgelesspart::model::layers::LayerTable;
use edgelesspart::model::onnx::import_bytes;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static POINTS: LazyLock<Vec<ExitPoint>> = LazyLock::new(|| {
    let graph = import_bytes(include_bytes!("../../assets/demo.onnx"), "demo.onnx");
    let graph = graph.expect("the network that ships is read");
    let fused = fuse(&graph);
    let table = LayerTable::new(&fused).expect("the network that ships has layers");
    exits::points(&table, &fused)
});

fuzz_target!(|source: &str| {
    for point in POINTS.iter() {
        let _ = exits::head(source, point, "edge", 1);
    }
});
