/*! The PyTorch source of a head computes what the head computes, where PyTorch is at hand. */

use super::support::{difference, noise, point, run};
use crate::exits::{Head, Part, TEMPLATES, head};
use serde_json::json;
use std::process::Command;

const SOURCES: &[&str] = &[
    "[Repeat(2, [Residual([Conv2d(channels, pad: 1), BatchNorm2d(epsilon: 0.001), HardSwish])]), \
     SeparableConv2d(6, bias: true), Silu, Parallel([MaxPool2d(2), AvgPool2d(2)]), \
     SqueezeExcite(reduction: 3), Gelu, AttentionPool(heads: 3), Dropout(0.2), LayerNorm, Linear(classes)]",
    "[Parallel([MaxPool2d(2), AvgPool2d(2), Conv2d(channels, kernel: 2, stride: 2)], mix), Flatten, Linear(classes)]",
    "[DepthwiseConv2d(stride: 2, pad: 1), LeakyRelu(0.2), Relu6, Parallel([[], [Conv2d(channels, \
     kernel: 1, bias: false), Sigmoid]], sum), Tanh, AdaptiveAvgPool2d(2), Flatten, Linear(classes, bias: false)]",
];
const TOKENS: &[&str] = &[
    "[Linear(8), Gelu, LayerNorm, Parallel([Linear(4), Linear(4, bias: false)]), AttentionPool(heads: 2), Linear(classes)]",
    "[GlobalMaxPool, Linear(classes)]",
];

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
        heads.push(head(source, &point(sample), Part::Edge, 5).unwrap());
    };
    SOURCES.iter().for_each(|s| add(s, &image));
    TOKENS.iter().for_each(|s| add(s, &[7, 6]));
    for template in TEMPLATES {
        add(template.source, &image);
        add(template.source, &[12]);
        add(template.source, &[6, 8]);
    }
    heads
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
