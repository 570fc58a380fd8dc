use super::*;
use crate::model::op::{Binary, SliceRange, Unary, Window};
use crate::model::{Activation, Builder, Constant, Op};
use pretty_assertions::assert_eq;
use proptest::prelude::*;
use std::collections::HashSet;

/// A fused convolution with bias, and a residual where one is given.
fn conv(
    b: &mut Builder,
    name: &str,
    x: ValueId,
    channels: usize,
    stride: usize,
    residual: Option<ValueId>,
) -> ValueId {
    let cin = b.shape(x).at(1)[1];
    let window = Window::square(3, stride, 1);
    let shape = b.windowed(x, channels, &window);
    let dims = [channels, cin, 3, 3];
    let count = dims.iter().product();
    let weight = b.constant(&format!("{name}.w"), Constant::f32(&dims, vec![0.0; count]));
    let bias = Constant::f32(&[channels], vec![0.0; channels]);
    let bias = b.constant(&format!("{name}.b"), bias);
    let op = Op::Conv {
        window,
        groups: 1,
        bias: true,
        residual: residual.is_some(),
        activation: Activation::RELU,
    };
    let inputs: Vec<ValueId> = [x, weight, bias].into_iter().chain(residual).collect();
    // Two parameters a channel: scale and shift of the batch norm that was folded.
    b.node(name, op, &inputs, shape, count + 2 * channels)
}

fn resnet20() -> Graph {
    let mut b = Builder::new("resnet20");
    let x = b.input("input", Shape::batched(&[3, 32, 32]));
    let mut x = conv(&mut b, "conv1", x, 16, 1, None);
    for (stage, channels) in [16, 32, 64].into_iter().enumerate() {
        for block in 0..3 {
            let name = format!("layer{}.{block}", stage + 1);
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let y = conv(&mut b, &format!("{name}.conv1"), x, channels, stride, None);
            let mut shortcut = x;
            if stride == 2 {
                let size = b.shape(y).at(1)[2];
                let range = SliceRange {
                    start: 0,
                    step: 2,
                    count: size,
                };
                let ranges = vec![None, None, Some(range), Some(range)];
                let half = Shape::batched(&[channels / 2, size, size]);
                let slice = Op::Slice { ranges };
                shortcut = b.node(&format!("{name}.slice"), slice, &[x], half, 0);
                let side = (channels / 4) as i64;
                let pad = Op::Pad {
                    mode: crate::model::op::PadMode::Constant,
                    pads: vec![(0, 0), (side, side), (0, 0), (0, 0)],
                    value: 0.0,
                };
                let full = Shape::batched(&[channels, size, size]);
                shortcut = b.node(&format!("{name}.pad"), pad, &[shortcut], full, 0);
            }
            x = conv(
                &mut b,
                &format!("{name}.conv2"),
                y,
                channels,
                1,
                Some(shortcut),
            );
        }
    }
    let pooled = Shape::batched(&[64, 1, 1]);
    let x = b.node("avgpool", Op::GlobalPool { average: true }, &[x], pooled, 0);
    let to = Shape::batched(&[64]);
    let flat = Op::Reshape { to: to.0.clone() };
    let x = b.node("flatten", flat, &[x], to, 0);
    let w = b.constant("linear.w", Constant::f32(&[10, 64], vec![0.0; 640]));
    let c = b.constant("linear.b", Constant::f32(&[10], vec![0.0; 10]));
    let gemm = Op::Gemm {
        trans_a: false,
        trans_b: true,
        alpha: 1.0,
        beta: 1.0,
        activation: Activation::NONE,
    };
    let y = b.node("logits", gemm, &[x, w, c], Shape::batched(&[10]), 650);
    b.output(y);
    b.finish()
}

#[test]
fn resnet20_has_the_memory_and_macs_of_the_issue() {
    let table = LayerTable::new(&resnet20()).unwrap();
    assert_eq!(table.memory_bytes, 4 * 269_722 + 196_608);
    assert_eq!((table.params, table.classes), (269_722, 10));
    let share = |part: f64, whole: f64| (part / whole * 100.0).round() as u32;
    let splits: Vec<&Layer> = table.splits().map(|i| &table.layers[i]).collect();
    let whole = table.memory_bytes as f64;
    let memory: Vec<u32> = splits
        .iter()
        .map(|l| share(l.prefix_memory_bytes as f64, whole))
        .collect();
    assert_eq!(memory, [6, 17, 18, 20, 24, 30, 36, 53, 77]);
    let macs: Vec<u32> = splits
        .iter()
        .map(|l| share(l.prefix_macs as f64, table.macs as f64))
        .collect();
    assert_eq!(macs, [1, 13, 24, 36, 45, 56, 68, 77, 88]);
    assert_eq!(splits[1].name, "layer1.0.conv2");
    assert_eq!(splits[1].op, "conv 3×3 + add");
}

#[test]
fn no_exit_stands_in_the_final_pooling_and_the_reason_is_told() {
    let table = LayerTable::new(&resnet20()).unwrap();
    let last = table.get("layer3.2.conv2").unwrap();
    assert!(last.is_cut && !last.split_legal && !last.exit_legal);
    assert_eq!(
        last.why_not.as_deref(),
        Some("less than 1 % of the MACs behind it")
    );
    let inside = table.get("layer1.1.conv1").unwrap();
    assert!(!inside.is_cut);
    assert_eq!(
        inside.why_not.as_deref(),
        Some("the output of `layer1.0.conv2` is alive here too")
    );
    // The flatten is no row of its own.
    assert_eq!(table.get("avgpool").unwrap().shape, Shape::batched(&[64]));
    let end = table.layers.last().unwrap();
    assert_eq!(end.why_not.as_deref(), Some("the end of the network"));
}

#[test]
fn a_mistyped_layer_gets_the_nearest_name() {
    let table = LayerTable::new(&resnet20()).unwrap();
    let err = table.find("layer2.1.covn2").unwrap_err();
    assert_eq!(
        err.to_string(),
        "`resnet20` has no layer named `layer2.1.covn2`; did you mean `layer2.1.conv2`?"
    );
    assert!(
        table
            .find("zzz")
            .unwrap_err()
            .to_string()
            .contains("lists them")
    );
}

#[test]
fn torch_paths_are_tidied_while_they_stay_unique() {
    let raw = [
        "/layer3/layer3.1/conv1/Conv",
        "/Mixed_7a/MaxPool",
        "/Mixed_7a/Concat",
        "/features/features.14/conv/conv.0/conv.0.0/Conv",
        "/a/Relu",
        "a",
        "",
    ];
    let tidy = name::unique(&raw);
    assert_eq!(
        tidy,
        [
            "layer3.1.conv1",
            "Mixed_7a.MaxPool",
            "Mixed_7a.Concat",
            "features.14.conv.0.0",
            "/a/Relu",
            "a",
            "layer"
        ]
    );
}

#[test]
fn a_gate_on_its_own_value_belongs_to_the_layer_that_makes_it() {
    let mut b = Builder::new("silu");
    let shape = Shape::batched(&[4, 8, 8]);
    let x = b.input("x", shape.clone());
    let a = conv(&mut b, "a", x, 4, 1, None);
    let s = b.node("s", Op::Unary(Unary::Sigmoid), &[a], shape.clone(), 0);
    let mul = Op::Binary(Binary::Mul, Activation::NONE);
    let m = b.node("m", mul.clone(), &[a, s], shape.clone(), 0);
    // This one is read again later, so the sum behind it has to be a layer of its own.
    let r = b.node("r", Op::Unary(Unary::Relu), &[m], shape.clone(), 0);
    let c = conv(&mut b, "c", r, 4, 1, None);
    let add = Op::Binary(Binary::Add, Activation::NONE);
    let y = b.node("y", add, &[c, r], shape, 0);
    b.output(y);
    let table = LayerTable::new(&b.finish()).unwrap();
    let rows: Vec<(&str, &str, bool)> = table
        .layers
        .iter()
        .map(|l| (l.name.as_str(), l.value.as_str(), l.is_cut))
        .collect();
    assert_eq!(
        rows,
        [("a", "r", true), ("c", "c", false), ("y", "y", false)]
    );
}

#[test]
fn a_network_with_two_inputs_is_refused() {
    let mut b = Builder::new("two");
    let shape = Shape::batched(&[4]);
    let (x, y) = (b.input("x", shape.clone()), b.input("y", shape.clone()));
    let z = b.node(
        "z",
        Op::Binary(Binary::Add, Activation::NONE),
        &[x, y],
        shape,
        0,
    );
    b.output(z);
    let err = LayerTable::new(&b.finish()).unwrap_err().to_string();
    assert!(err.starts_with("`two` takes 2 inputs (x, y); only a network with one can be split"));
    assert!(err.contains("--fix"), "{err}");
}

/// A random network: each step reads one or two earlier values; what nobody reads is summed up at
/// the end, so that all of it matters.
fn network(steps: &[(u8, usize, usize)]) -> Graph {
    let mut b = Builder::new("random");
    let shape = Shape::batched(&[2, 4, 4]);
    let mut made = vec![b.input("x", shape.clone())];
    let mut read = HashSet::new();
    for (at, &(kind, first, second)) in steps.iter().enumerate() {
        // Near values are likelier: else hardly any network would have a cut.
        let pick = |n: usize| made[made.len() - 1 - n % made.len().min(3)];
        let (x, y) = (pick(first), pick(second));
        let name = format!("n{at}");
        let value = match kind % 4 {
            0 => b.node(&name, Op::Unary(Unary::Relu), &[x], shape.clone(), 0),
            1 => conv(&mut b, &name, x, 2, 1, None),
            2 => conv(&mut b, &name, x, 2, 1, Some(y)),
            _ => {
                let add = Op::Binary(Binary::Add, Activation::NONE);
                b.node(&name, add, &[x, y], shape.clone(), 0)
            }
        };
        read.insert(x);
        if kind % 4 >= 2 {
            read.insert(y);
        }
        made.push(value);
    }
    let loose: Vec<ValueId> = made.iter().copied().filter(|v| !read.contains(v)).collect();
    let mut end = loose[0];
    for (at, &value) in loose.iter().enumerate().skip(1) {
        let add = Op::Binary(Binary::Add, Activation::NONE);
        end = b.node(&format!("end{at}"), add, &[end, value], shape.clone(), 0);
    }
    end = conv(&mut b, "last", end, 2, 1, None);
    b.output(end);
    b.finish()
}

/// Whether every path from the input to the output runs through `value`, by walking all of it.
fn disconnects(graph: &Graph, value: ValueId) -> bool {
    let mut reached: HashSet<ValueId> = graph.inputs.iter().copied().collect();
    reached.remove(&value);
    for node in &graph.nodes {
        if node.inputs.iter().any(|v| reached.contains(v)) {
            let outputs = node.outputs.iter().copied();
            reached.extend(outputs.filter(|&v| v != value));
        }
    }
    !reached.contains(&graph.outputs[0])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn cuts_are_where_the_network_falls_apart(
        steps in prop::collection::vec((any::<u8>(), 0usize..3, 0usize..3), 1..16),
    ) {
        let graph = network(&steps);
        let table = LayerTable::new(&graph).unwrap();
        let covered: Vec<usize> = table.layers.iter().flat_map(|l| l.nodes.clone()).collect();
        prop_assert_eq!(covered, (0..graph.nodes.len()).collect::<Vec<_>>());
        for (i, layer) in table.layers.iter().enumerate() {
            let last = i + 1 == table.layers.len();
            // Counted anew: made up to here, read behind here.
            let (before, behind) = graph.nodes.split_at(layer.nodes.end);
            let made = before.iter().flat_map(|n| &n.outputs).chain(&graph.inputs);
            let wanted: HashSet<ValueId> = behind.iter().flat_map(|n| &n.inputs).copied().collect();
            let live: HashSet<ValueId> = made.copied().filter(|v| wanted.contains(v)).collect();
            let alone = live.len() == 1 && live.contains(&layer.output);
            prop_assert_eq!(layer.is_cut, alone && !last, "live values behind {}", layer.name);
            let apart = disconnects(&graph, layer.output);
            prop_assert_eq!(layer.is_cut, apart && !last, "paths past {}", layer.name);
            let suffix = graph.subgraph(&[layer.output], &graph.outputs);
            prop_assert_eq!(layer.is_cut, suffix.is_ok() && !last, "suffix of {}", layer.name);
            if layer.is_cut {
                let prefix = graph.subgraph(&graph.inputs, &[layer.output]).unwrap();
                let parts = prefix.nodes.len() + suffix.unwrap().nodes.len();
                prop_assert_eq!(parts, graph.nodes.len(), "a node in both parts or in none");
            }
        }
        let grown = table.layers.windows(2).all(|w| {
            w[0].prefix_memory_bytes <= w[1].prefix_memory_bytes && w[0].prefix_macs <= w[1].prefix_macs
        });
        prop_assert!(grown);
    }
}
