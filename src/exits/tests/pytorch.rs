/*! The PyTorch source of a head computes what the head computes, where PyTorch is at hand. */

use super::files::network;
use super::support::{difference, noise, point, run};
use crate::exits::{Head, Library, TEMPLATES, head, head_with};
use crate::model::export::to_onnx;
use crate::model::zoo::ZooModel;
use serde_json::json;
use std::process::Command;

const SOURCES: &[&str] = &[
    "[Repeat(2, [Residual([Conv2d(channels, pad: 1), BatchNorm2d(epsilon: 0.001), HardSwish])]), \
     SeparableConv2d(6, bias: true), Silu, Parallel([MaxPool2d(2), AvgPool2d(2)]), \
     SqueezeExcite(reduction: 3), Gelu, AttentionPool(heads: 3), Dropout(0.2), LayerNorm, Linear(classes)]",
    "[Parallel([MaxPool2d(2), AvgPool2d(2), Conv2d(channels, kernel: 2, stride: 2)], mix), Flatten, Linear(classes)]",
    "[DepthwiseConv2d(stride: 2, pad: 1), LeakyRelu(0.2), Relu6, Parallel([[], [Conv2d(channels, \
     kernel: 1, bias: false), Sigmoid]], sum), Tanh, AdaptiveAvgPool2d(2), Flatten, Linear(classes, bias: false)]",
    "[GemPool, BatchNorm1d(epsilon: 0.001), Linear(classes)]",
];
const TOKENS: &[&str] = &[
    "[Linear(8), Gelu, LayerNorm, Parallel([Linear(4), Linear(4, bias: false)]), AttentionPool(heads: 2), Linear(classes)]",
    "[GlobalMaxPool, Linear(classes)]",
    "[GemPool(2.5), BatchNorm1d, Linear(classes)]",
];

const POOLS: &str = "[AvgPool2d(3, stride: 2, pad: 1), Gelu, MaxPool2d(2, stride: 1, pad: 1), \
     AttentionPool(heads: 2), LayerNorm, Parallel([Relu, Tanh]), Linear(classes)]";

const SCRIPT: &str = "
import json, sys, torch
torch.set_num_threads(1)
for case in json.load(sys.stdin):
    space = {}
    exec(case['source'], space)
    head = space['Head']().eval()
    state = {name: torch.tensor(w['data']).reshape(w['shape']) for name, w in case['weights'].items()}
    for name in head.state_dict():
        if name.endswith('num_batches_tracked'):
            state[name] = torch.tensor(0)
    head.load_state_dict(state)
    with torch.no_grad():
        y = head(torch.tensor(case['x']).reshape(case['shape']))
    print(json.dumps(y.flatten().tolist()))
";

fn heads() -> Vec<Head> {
    let image = [9, 8, 8];
    let mut heads = Vec::new();
    let mut add = |source: &str, sample: &[usize]| {
        heads.push(head(source, &point(sample), "edge", 5).unwrap());
    };
    SOURCES.iter().for_each(|s| add(s, &image));
    TOKENS.iter().for_each(|s| add(s, &[7, 6]));
    for template in TEMPLATES {
        add(template.source, &image);
        add(template.source, &[12]);
        add(template.source, &[6, 8]);
    }
    heads.extend(from_files());
    heads
}

/// Networks from files as layers: on their own, in a branch, and whole ones of the zoo.
fn from_files() -> Vec<Head> {
    let zoo = |model: ZooModel, side: usize| {
        let graph = model.build((3, side, side), 10, 3).unwrap();
        to_onnx(&graph).unwrap()
    };
    let files = |name: &str| match name {
        "own" => Ok(network()),
        "resnet" => Ok(zoo(ZooModel::ResNet { depth: 8, width: 4 }, 16)),
        "mobilenet" => Ok(zoo(ZooModel::MobileNetV2 { width: 0.25 }, 32)),
        "pools" => Ok(to_onnx(&head(POOLS, &point(&[4, 9, 9]), "edge", 4).unwrap().graph).unwrap()),
        _ => Err("no such file".to_string()),
    };
    let library = Library::new().with_files(&files);
    let cases: &[(&str, &[usize])] = &[
        ("[Onnx(\"own\")]", &[4, 6, 6]),
        (
            "[Relu, Parallel([[Onnx(\"own\", trainable: false)], [GlobalAvgPool, Linear(10)]], mix), Linear(classes)]",
            &[4, 6, 6],
        ),
        (
            "[Repeat(1, [Residual([Relu]), Onnx(\"resnet\", trainable: false)])]",
            &[3, 16, 16],
        ),
        ("[Onnx(\"mobilenet\")]", &[3, 32, 32]),
        ("[Onnx(\"pools\", trainable: false)]", &[4, 9, 9]),
    ];
    let make = |(source, sample): &(&str, &[usize])| {
        head_with(source, &point(sample), "edge", 5, &library).unwrap()
    };
    cases.iter().map(make).collect()
}

#[test]
fn its_names_are_those_of_the_graph() {
    for head in heads() {
        let text = head.pytorch().unwrap();
        assert!(text.contains("class Head(nn.Sequential):"), "{text}");
        for name in head.weights().keys() {
            let first = name.split('.').next().unwrap();
            assert!(
                text.contains(&format!("(\"{first}\", ")),
                "{name} in {text}"
            );
        }
    }
}

#[test]
fn pytorch_computes_the_same() {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let there = Command::new(&python).args(["-c", "import torch"]).output();
    if !there.is_ok_and(|o| o.status.success()) {
        println!("skipped: {python} has no torch");
        return;
    }
    let heads = heads();
    let inputs: Vec<Vec<f32>> = heads
        .iter()
        .map(|h| noise(2 * h.point.sample.iter().product::<usize>()))
        .collect();
    let case = |(head, x): (&Head, &Vec<f32>)| {
        let weights = head.weights();
        let weights = weights.iter().map(|(name, c)| {
            (
                name.clone(),
                json!({"shape": c.shape, "data": c.floats().unwrap()}),
            )
        });
        let shape = [&[2], head.point.sample.as_slice()].concat();
        json!({
            "source": head.pytorch().unwrap(),
            "weights": weights.collect::<serde_json::Map<_, _>>(),
            "x": x,
            "shape": shape,
        })
    };
    let all: Vec<_> = heads.iter().zip(&inputs).map(case).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cases.json");
    std::fs::write(&file, serde_json::to_vec(&all).unwrap()).unwrap();
    let output = Command::new(&python)
        .args(["-c", SCRIPT])
        .stdin(std::fs::File::open(&file).unwrap())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    let found: Vec<Vec<f32>> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(found.len(), heads.len());
    for ((head, x), y) in heads.iter().zip(&inputs).zip(&found) {
        let off = difference(&run(&head.graph, x), y);
        assert!(off < 1e-4, "{off} in {}", head.rendered);
    }
}
