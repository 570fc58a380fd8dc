/*! Every template at every exit point of the networks built in: it builds, runs, learns, and comes
back from ONNX the same. ONNX Runtime is asked by `scripts/check-exits`. */

use super::support::{learns, sound};
use crate::exits::{Part, TEMPLATES, head, points, replica};
use crate::model::zoo::ZooModel;
use crate::model::{LayerTable, fuse};
use rstest::rstest;
use std::collections::BTreeSet;

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
    for (name, source) in shipped.chain([("replica", replica.as_str())]) {
        for point in points(&table, &fused) {
            let head = head(source, &point, Part::Edge, 7).unwrap();
            // Points of one shape give one head, which need be tried only once.
            if seen.insert((point.sample.clone(), head.hash.clone())) {
                let place = format!("{name} after {}", point.after);
                sound(&head, 1e-4).unwrap_or_else(|e| panic!("{place}: {e}"));
                learns(&head).unwrap_or_else(|e| panic!("{place}: {e}"));
            }
        }
    }
}
