/*! What a head has to withstand before it may be trained, packed and sent. */

use crate::autograd::{Run, TrainableGraph};
use crate::backend::Compiled;
use crate::engine::{Cancel, Engine, Options};
use crate::exits::{Dropout, ExitPoint, Head};
use crate::model::export::to_onnx;
use crate::model::onnx::import_bytes;
use crate::model::{Graph, LayerTable, Node, Op, fuse};
use candle_core::{Device, Tensor};

/// A point with features of this shape, nothing else of interest.
pub fn point(sample: &[usize]) -> ExitPoint {
    super::point(sample)
}

/// Numbers between −1 and 1, the same every time.
pub fn noise(count: usize) -> Vec<f32> {
    (0..count)
        .map(|i| (i as f32 * 0.7391 + 0.3).sin())
        .collect()
}

/// Two samples through a graph.
pub fn run(graph: &Graph, x: &[f32]) -> Vec<f32> {
    let engine = Engine::new(graph.clone(), &Options { threads: 1 }).unwrap();
    let mut y = engine.run_f32(2, &[x], &Cancel::new()).unwrap();
    y.remove(0)
}

/// The largest difference, as a share of the largest element.
pub fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = a.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    let off = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    off.fold(0.0, f32::max) / largest
}

/// Builds, runs and exports a head: the engine, fused or not, and training's interpreter agree,
/// and an ONNX file of it, read back as it was written, gives the same numbers bit by bit.
pub fn sound(head: &Head, tolerance: f32) -> Result<(), String> {
    let x = noise(2 * head.point.sample.iter().product::<usize>());
    let fused = fuse(&head.graph);
    let check = |what: &str, good: bool| match good {
        true => Ok(()),
        false => Err(format!("{what}: {}", head.rendered)),
    };
    let (plain, quick) = (run(&head.graph, &x), run(&fused, &x));
    check("shape", plain.len() == 2 * head.point.classes)?;
    check("finite", plain.iter().all(|v| v.is_finite()))?;
    check("fused differs", difference(&plain, &quick) < tolerance)?;
    let bytes = to_onnx(&head.graph).map_err(|e| e.to_string())?;
    let back = import_bytes(&bytes, "head.onnx").map_err(|e| e.to_string())?;
    let again = run(&back, &x);
    // A norm of values that hardly differ makes more of their rounding.
    let near = (0.1 * tolerance).max(1e-5);
    // Import folds what keeps weights from training, and then other kernels may run.
    let good = again == plain || keeps(&head.graph) && difference(&again, &plain) < near;
    check("re-imported differs", good)?;
    // What a session keeps: the fused head, written, read and fused again.
    let bytes = to_onnx(&fused).map_err(|e| e.to_string())?;
    let back = import_bytes(&bytes, "head.onnx").map_err(|e| e.to_string())?;
    check("packed differs", run(&fuse(&back), &x) == quick)?;
    let net = TrainableGraph::new(&head.graph).map_err(|e| e.to_string())?;
    let y = net.forward(&[tensor(&head.point, &x)], &net.graph().outputs);
    let y = y.map_err(|e| e.to_string())?[0].flatten_all().unwrap();
    let y = y.to_vec1::<f32>().unwrap();
    check(
        "training differs",
        difference(&plain, &y) < 10.0 * tolerance,
    )?;
    // A head may do nothing at all, and then has no layers to count.
    if fused.nodes.iter().any(|n| n.op != Op::Identity) {
        let table = LayerTable::new(&fused).map_err(|e| e.to_string())?;
        check("MACs", table.macs == head.macs)?;
    }
    let params: usize = head.graph.nodes.iter().map(|n| n.params).sum();
    check("parameters", params == head.params)
}

/// Whether some weights stand behind an `Identity`, so that they aren't trained.
fn keeps(graph: &Graph) -> bool {
    let constant = |n: &Node| n.inputs.iter().all(|v| graph.constants.contains_key(v));
    let mut identities = graph.nodes.iter().filter(|n| n.op == Op::Identity);
    identities.any(constant)
}

pub fn tensor(point: &ExitPoint, x: &[f32]) -> Tensor {
    let shape = [&[2], point.sample.as_slice()].concat();
    Tensor::from_slice(x, shape, &Device::Cpu).unwrap()
}

/// A step of training: every parameter has a gradient, all of them finite. Returns how many
/// parameters there are.
pub fn learns(head: &Head) -> Result<usize, String> {
    let net = TrainableGraph::new(&head.graph).map_err(|e| e.to_string())?;
    let x = noise(2 * head.point.sample.iter().product::<usize>());
    let logits = head.graph.outputs[0];
    let dropout: Vec<_> = head
        .dropout
        .iter()
        .map(|Dropout { value, rate }| (head.graph.find(value).unwrap(), *rate))
        .collect();
    let cancel = Cancel::new();
    let run = Run {
        dropout: &dropout,
        ..Run::new(&cancel)
    };
    let (y, tape) = net
        .record(&[tensor(&head.point, &x)], &[logits], &run)
        .map_err(|e| e.to_string())?;
    let seed = noise(y[0].elem_count());
    let grads = tape
        .backward(vec![(logits, seed)], &cancel)
        .map_err(|e| e.to_string())?;
    let parameters = net.parameters();
    for p in &parameters {
        let Some(grad) = grads.get(p.id) else {
            return Err(format!("{} has no gradient: {}", p.name, head.rendered));
        };
        if grad.len() != p.tensor.elem_count() || !grad.iter().all(|g| g.is_finite()) {
            return Err(format!("the gradient of {}: {}", p.name, head.rendered));
        }
    }
    Ok(parameters.len())
}

/// The head after a step of training on two samples: other weights, other running statistics.
pub fn stepped(head: &Head) -> Head {
    let net = TrainableGraph::new(&head.graph).unwrap();
    let x = noise(2 * head.point.sample.iter().product::<usize>());
    let (cancel, logits) = (Cancel::new(), head.graph.outputs[0]);
    let recorded = net.record(&[tensor(&head.point, &x)], &[logits], &Run::new(&cancel));
    let (y, tape) = recorded.unwrap();
    let seed = noise(y[0].elem_count());
    let grads = tape.backward(vec![(logits, seed)], &cancel).unwrap();
    for parameter in net.parameters() {
        let grad = grads.get(parameter.id).unwrap();
        // Of one length, whatever the gradient's: a head of any scale stays near where it was.
        let long = grad.iter().map(|g| g * g).sum::<f32>().sqrt().max(1e-6);
        let change = |w: &mut [f32]| {
            let pairs = w.iter_mut().zip(grad);
            pairs.for_each(|(w, g)| *w -= 0.05 * g / long);
        };
        parameter.change(change).unwrap();
    }
    Head {
        graph: net.to_graph().unwrap(),
        ..head.clone()
    }
}
