/*! What the files of a part hold. `scripts/check-parts` runs them in ONNX Runtime. */

mod servers;

use super::flat::flat;
use super::progressive::progressive;
use super::*;
use crate::backend::Compiled;
use crate::engine::{Cancel, Engine, Options};
use crate::model::Graph;
use crate::model::fuse::fuse;
use crate::model::onnx::{Outputs, Settings, import, import_bytes};
use crate::plan::TierNames;
use crate::predict::Confidence;
use crate::runtime::manifest::Extent;
use crate::runtime::parts::Part;
use crate::runtime::tests::made;
use candle_onnx::onnx as proto;
use pretty_assertions::assert_eq;
use prost::Message;
use rstest::rstest;
use std::collections::HashSet;
use std::path::Path;

fn run(graph: &Graph, x: &[f32]) -> Vec<Vec<f32>> {
    let engine = Engine::new(graph.clone(), &Options::default()).unwrap();
    engine.run_f32(2, &[x], &Cancel::new()).unwrap()
}

#[test]
fn the_flat_part_gives_the_logits_of_each_exit_and_the_output() {
    let (_, parts) = made();
    let mut x: Vec<f32> = (0..2 * 192).map(|i| (i as f32 * 0.7).sin()).collect();
    for part in &parts {
        let (bytes, said) = flat(part).unwrap();
        let settings = Settings {
            outputs: Outputs::All,
            ..Settings::default()
        };
        let whole = fuse(&import(&bytes, "part.onnx", None, &settings).unwrap());
        let names: Vec<&str> = whole
            .outputs
            .iter()
            .map(|&o| whole.value(o).name.as_str())
            .collect();
        let listed: Vec<&str> = said.outputs.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, listed);
        let found = run(&whole, &x);
        let mut exits = Vec::new();
        for segment in &part.segments {
            x = run(&segment.graph, &x).remove(0);
            if let Some(exit) = &segment.exit {
                exits.push(run(&exit.head, &x).remove(0));
            }
        }
        let wanted = [vec![x.clone()], exits].concat();
        assert_eq!(names[1..], ["exit_0_logits"]);
        assert_eq!(found.len(), wanted.len());
        for (found, wanted) in found.iter().zip(&wanted) {
            let near = found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6);
            assert!(near && found.len() == wanted.len());
        }
    }
}

/// Every name that a graph and those within it give a value, and the nodes by the depth they lie at.
fn walk(
    graph: &proto::GraphProto,
    depth: usize,
    names: &mut Vec<String>,
    nodes: &mut Vec<(usize, String)>,
) {
    names.extend(graph.initializer.iter().map(|t| t.name.clone()));
    for node in &graph.node {
        names.extend(node.output.iter().cloned());
        nodes.push((depth, node.name.clone()));
        for inner in node.attribute.iter().filter_map(|a| a.g.as_ref()) {
            walk(inner, depth + 1, names, nodes);
        }
    }
}

#[rstest]
#[case(Confidence::MaxProbability, "ReduceMax")]
#[case(Confidence::Entropy, "ReduceSum")]
#[case(Confidence::Margin, "TopK")]
fn what_lies_behind_an_exit_lies_inside_its_branch(#[case] measure: Confidence, #[case] op: &str) {
    let (_, mut parts) = made();
    for (number, part) in parts.iter_mut().enumerate() {
        part.settings.confidence = measure;
        let (bytes, said) = progressive(part).unwrap().unwrap();
        let graph = proto::ModelProto::decode(&bytes[..])
            .unwrap()
            .graph
            .unwrap();
        let inputs: Vec<&str> = graph.input.iter().map(|i| i.name.as_str()).collect();
        let input = if number == 0 { "x" } else { "c" };
        assert_eq!(inputs, [input, "threshold_0"]);
        assert_eq!(
            (said.thresholds.len(), said.thresholds[0].default),
            (1, 0.5)
        );
        let outputs: Vec<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
        let wanted = ["logits", "confidence", "exit", "tensor"];
        assert_eq!(outputs, wanted[..4 - number]);
        let (mut names, mut nodes) = (Vec::new(), Vec::new());
        walk(&graph, 0, &mut names, &mut nodes);
        let distinct: HashSet<&String> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
        // The part has one exit, so its second segment lies in the one branch.
        let depth = |name: &str| nodes.iter().find(|n| n.1 == name).map(|n| n.0);
        let (first, second) = if number == 0 { ("a", "c") } else { ("d", "e") };
        assert_eq!(
            (depth(first), depth(second)),
            (Some(0), Some(1)),
            "{nodes:?}"
        );
        assert!(graph.node.iter().any(|n| n.op_type == op));
        // No reader of ours takes it for a network it could run.
        let refused = import_bytes(&bytes, "progressive.onnx")
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("If") && refused.contains("condition"),
            "{refused}"
        );
    }
}

#[test]
fn a_part_without_exits_has_nothing_to_stop_at() {
    let (_, mut parts) = made();
    parts[0].segments.iter_mut().for_each(|s| s.exit = None);
    assert_eq!(progressive(&parts[0]).unwrap(), None);
}

fn export(parts: &[Part], form: Form, out: &Path) -> Result<Vec<Written>, DeployError> {
    write(parts, &TierNames::default(), form, out)
}

/// The files below a folder.
fn files(folder: &Path) -> Vec<String> {
    let mut found: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    found
}

#[test]
fn a_folder_holds_everything_and_reads_back() {
    let (_, parts) = made();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new/parts");
    let written = export(&parts, Form::Onnx, &out).unwrap();
    assert_eq!(files(&out), ["cloud", "edge"]);
    let all = [
        "head-0.onnx",
        "manifest.json",
        "manifest.ron",
        "part.onnx",
        "progressive.onnx",
        "segment-0.onnx",
        "segment-1.onnx",
    ];
    for (part, written) in parts.iter().zip(&written) {
        let own = out.join(&written.path);
        assert_eq!(files(&own), all);
        let back = Part::open(&own).unwrap();
        assert_eq!(
            (back.settings, back.tier),
            (part.settings.clone(), part.tier)
        );
        let ron = std::fs::read_to_string(own.join("manifest.ron")).unwrap();
        let manifest: crate::runtime::manifest::Manifest = ron::from_str(&ron).unwrap();
        assert_eq!(manifest, written.manifest);
        let sent = &manifest.input.shape[0];
        assert_eq!(*sent, Extent::Samples("N".to_string()));
        for file in &manifest.files {
            let bytes = std::fs::read(own.join(&file.name)).unwrap();
            assert_eq!(crate::runtime::parts::address(&bytes), file.sha256);
        }
    }
    let refused = export(&parts, Form::Onnx, &out).unwrap_err().to_string();
    assert!(
        refused.contains("not an empty folder") && refused.contains("--out"),
        "{refused}"
    );
}

#[test]
fn a_bundle_is_the_part_and_its_address() {
    let (_, parts) = made();
    let folder = tempfile::tempdir().unwrap();
    // An empty folder will do.
    let written = export(&parts, Form::Bundle, folder.path()).unwrap();
    assert_eq!(files(folder.path()), ["cloud.tar", "edge.tar"]);
    for (part, written) in parts.iter().zip(&written) {
        let bytes = std::fs::read(folder.path().join(&written.path)).unwrap();
        assert_eq!(bytes, part.bundle().unwrap());
        assert_eq!(crate::runtime::parts::address(&bytes), written.address);
    }
}

#[test]
fn nothing_is_left_of_what_fails() {
    let (_, mut parts) = made();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("parts");
    parts[1].segments.clear();
    assert!(export(&parts, Form::Onnx, &out).is_err());
    assert!(matches!(
        export(&[], Form::Onnx, &out),
        Err(DeployError::NoPart)
    ));
    assert_eq!(files(folder.path()), [""; 0]);
    let file = folder.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    for out in [file.clone(), file.join("parts")] {
        let refused = export(&parts[..1], Form::Onnx, &out)
            .unwrap_err()
            .to_string();
        assert!(refused.contains("--out"), "{refused}");
    }
    assert_eq!(files(folder.path()), ["file"]);
}

#[rstest]
#[case(&["near", "far"], &["near", "far"])]
#[case(&["my edge", "../cloud"], &["tier-1", "tier-2"])]
#[case(&["same", "same"], &["tier-1", "tier-2"])]
fn folders_are_called_like_their_tiers(#[case] names: &[&str], #[case] wanted: &[&str]) {
    let (_, parts) = made();
    let folder = tempfile::tempdir().unwrap();
    let names = TierNames::new(names.iter().map(|n| (*n).to_string()));
    let written = write(&parts, &names, Form::Onnx, folder.path()).unwrap();
    let found: Vec<&str> = written.iter().map(|w| w.tier.as_str()).collect();
    assert_eq!(found, wanted);
}
