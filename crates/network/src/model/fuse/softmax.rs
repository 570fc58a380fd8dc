/*! Recognising a network that ends in Softmax, so that softmax is never applied twice. */

use crate::model::graph::{Graph, ValueId};
use crate::model::op::Op;

/// The softmax at the end of the first output, and the quantisations behind it. Reshapes between it
/// and the output are looked through; a log-softmax is none, since its softmax are probabilities.
fn last_softmax(graph: &Graph) -> Option<(usize, Vec<usize>)> {
    let producers = graph.producers();
    let mut at = *graph.outputs.first()?;
    let mut rounding = Vec::new();
    loop {
        let i = *producers.get(&at)?;
        let node = &graph.nodes[i];
        match node.op {
            Op::Softmax { log: false, .. } => return Some((i, rounding)),
            Op::Quantize { .. } | Op::Dequantize { .. } => rounding.push(i),
            Op::Reshape { .. } | Op::Identity => {}
            _ => return None,
        }
        at = *node.inputs.first()?;
    }
}

/// The value that enters the softmax a classifier ends in, if it ends in one: its logits. What
/// comes out of such a network are probabilities, and softmax must not be applied to them again.
pub fn logits_before_softmax(graph: &Graph) -> Option<ValueId> {
    let (softmax, _) = last_softmax(graph)?;
    graph.nodes[softmax].inputs.first().copied()
}

/// Whether the network's (first) output are probabilities already.
pub fn ends_in_softmax(graph: &Graph) -> bool {
    last_softmax(graph).is_some()
}

/// The network without the softmax at its end: its first output are logits. Unchanged if it has
/// none. Quantisations of the probabilities go with it, since their scale doesn't fit logits.
pub fn without_softmax(graph: &Graph) -> Graph {
    let Some((softmax, mut gone)) = last_softmax(graph) else {
        return graph.clone();
    };
    gone.push(softmax);
    // From the front to the back, so that each hands on what its input has become.
    gone.sort_unstable();
    let mut graph = graph.clone();
    for &i in &gone {
        let (from, to) = (graph.nodes[i].inputs[0], graph.nodes[i].outputs[0]);
        let redirect = |v: &mut ValueId| {
            if *v == to {
                *v = from;
            }
        };
        for node in &mut graph.nodes {
            node.inputs.iter_mut().for_each(redirect);
        }
        graph.outputs.iter_mut().for_each(redirect);
    }
    let pruned = graph.subgraph(&graph.inputs, &graph.outputs);
    pruned.unwrap_or(graph)
}
