/*! Grouping: which nodes of a fused graph make one layer. */

use crate::model::{Graph, Node, Op, ValueId};
use std::ops::Range;

/// The nodes of one layer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Group {
    /// Consecutive nodes of the graph.
    pub(super) nodes: Range<usize>,
    /// The first of them that depends on the input: it gives the layer its name and label.
    pub(super) anchor: usize,
    /// What others read of it.
    pub(super) output: ValueId,
}

/// Parts the nodes into layers, in order and without gaps.
///
/// A layer is a node and the longest run of element-wise or reshaping nodes right behind it that
/// reads nothing from outside (but constants), keeps the number of elements, and of which only the
/// very last value is read elsewhere. So `x · sigmoid(x)` belongs to the convolution that makes
/// `x`, while the sum of two branches is a layer of its own.
pub(super) fn layers(graph: &Graph, varying: &[bool]) -> Vec<Group> {
    let readers = readers(graph);
    let is_varying = |node: &Node| node.outputs.iter().any(|v| varying[v.0 as usize]);
    let mut groups = Vec::new();
    let mut start = 0;
    while let Some(offset) = graph.nodes[start..].iter().position(is_varying) {
        let anchor = start + offset;
        let mut made: Vec<ValueId> = graph.nodes[anchor].outputs.clone();
        let mut end = anchor + 1;
        let mut output = graph.nodes[anchor].outputs[0];
        for (at, node) in graph.nodes.iter().enumerate().skip(anchor + 1) {
            if !is_varying(node) {
                continue;
            }
            let own = |v: &ValueId| !varying[v.0 as usize] || made.contains(v);
            let size = |v: ValueId| graph.value(v).shape.elements(1);
            let same_size = size(node.outputs[0]) == size(graph.nodes[anchor].outputs[0]);
            if !follows(&node.op) || !node.inputs.iter().all(own) || !same_size {
                break;
            }
            made.extend(&node.outputs);
            let last = node.outputs[0];
            let escapes = |v: &ValueId| {
                let reader = readers[v.0 as usize];
                reader.is_some_and(|last_reader| last_reader > at)
            };
            if node.outputs.len() == 1 && made.iter().all(|v| *v == last || !escapes(v)) {
                end = at + 1;
                output = last;
            }
        }
        groups.push(Group {
            nodes: start..end,
            anchor,
            output,
        });
        start = end;
    }
    // What is left depends on no input; it belongs to the last layer so that none is lost.
    if let Some(last) = groups.last_mut() {
        last.nodes.end = graph.nodes.len();
    }
    groups
}

/// By `ValueId`: the last node that reads the value (past the end for an output of the graph).
fn readers(graph: &Graph) -> Vec<Option<usize>> {
    let mut readers = vec![None; graph.values.len()];
    for (at, node) in graph.nodes.iter().enumerate() {
        for input in &node.inputs {
            readers[input.0 as usize] = Some(at);
        }
    }
    for output in &graph.outputs {
        readers[output.0 as usize] = Some(graph.nodes.len());
    }
    readers
}

/// Whether a node of this kind is no layer by itself if it can be part of the one before.
fn follows(op: &Op) -> bool {
    matches!(
        op,
        Op::Unary(_)
            | Op::Binary(..)
            | Op::Where
            | Op::Reshape { .. }
            | Op::Transpose { .. }
            | Op::Cast { .. }
            | Op::Quantize { .. }
            | Op::Dequantize { .. }
            | Op::Identity
    )
}
