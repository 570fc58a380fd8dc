/*! Every template at every exit point of the networks built in: it builds, runs, learns a step, comes
back from ONNX the same, before and after that step, and ONNX Runtime, where Python has it, gives the
same numbers. `scripts/check-exits` asks it for more. */

use super::support::{difference, learns, noise, run, sound, stepped};
use crate::exits::{Head, TEMPLATES, head, points, replica};
use crate::model::export::to_onnx;
use crate::model::zoo::ZooModel;
use crate::model::{LayerTable, fuse};
use rstest::rstest;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const SCRIPT: &str = "
import sys, pathlib
import numpy as np
import onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 3
for path in sorted(pathlib.Path(sys.argv[1]).glob('*.onnx')):
    x = np.fromfile(path.with_suffix('.x'), '<f4')
    shape = [int(n) for n in path.with_suffix('.shape').read_text().split()]
    session = ort.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    y = session.run(None, {session.get_inputs()[0].name: x.reshape(shape)})[0]
    y.astype('<f4').tofile(path.with_suffix('.y'))
";

/// A Python that has ONNX Runtime.
fn python() -> Option<String> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let there = Command::new(&python)
        .args(["-c", "import onnxruntime, numpy"])
        .output();
    there.is_ok_and(|o| o.status.success()).then_some(python)
}

/// Holds heads against ONNX Runtime, two samples each.
fn agrees(python: &str, folder: &Path, heads: &[(String, Head)]) {
    let write = |i: usize, ending: &str, bytes: &[u8]| {
        std::fs::write(folder.join(format!("{i:04}.{ending}")), bytes).unwrap();
    };
    for (i, (_, head)) in heads.iter().enumerate() {
        let x = noise(2 * head.point.sample.iter().product::<usize>());
        let shape = [&[2], head.point.sample.as_slice()].concat();
        let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
        write(i, "onnx", &to_onnx(&head.graph).unwrap());
        write(i, "x", bytemuck::cast_slice(&x));
        write(i, "shape", shape.join(" ").as_bytes());
    }
    let output = Command::new(python)
        .args(["-c", SCRIPT])
        .arg(folder)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    for (i, (place, head)) in heads.iter().enumerate() {
        let bytes = std::fs::read(folder.join(format!("{i:04}.y"))).unwrap();
        let theirs: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
        let x = noise(2 * head.point.sample.iter().product::<usize>());
        let off = difference(&theirs, &run(&head.graph, &x));
        assert!(off < 1e-4, "{place}: {off} from ONNX Runtime");
    }
}

#[rstest]
#[case::resnet50(ZooModel::ResNet50, 32)]
#[case::mobilenetv2(ZooModel::MobileNetV2 { width: 1.0 }, 32)]
#[case::inceptionv3(ZooModel::InceptionV3, 75)]
fn every_template_stands_at_every_exit_point(#[case] network: ZooModel, #[case] side: usize) {
    let fused = fuse(&network.build((3, side, side), 10, 1).unwrap());
    let table = LayerTable::new(&fused).unwrap();
    let replica = replica(&fused).unwrap();
    let shipped = TEMPLATES.iter().map(|t| (t.name, t.source));
    let mut seen = BTreeSet::new();
    let mut tried = Vec::new();
    for (name, source) in shipped.chain([("replica", replica.as_str())]) {
        for point in points(&table, &fused) {
            let head = head(source, &point, "edge", 7).unwrap();
            // Points of one shape give one head, which need be tried only once.
            if seen.insert((point.sample.clone(), head.hash.clone())) {
                let place = format!("{name} after {}", point.after);
                sound(&head, 1e-4).unwrap_or_else(|e| panic!("{place}: {e}"));
                learns(&head).unwrap_or_else(|e| panic!("{place}: {e}"));
                let after = stepped(&head);
                sound(&after, 1e-3).unwrap_or_else(|e| panic!("{place}, a step later: {e}"));
                tried.push((place, after));
            }
        }
    }
    match python() {
        Some(python) => agrees(&python, tempfile::tempdir().unwrap().path(), &tried),
        None => println!("skipped: python3 (or PYTHON) has no onnxruntime and numpy"),
    }
}
