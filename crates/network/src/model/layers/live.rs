/*! Liveness: which tensors are alive while a layer runs, and which cross the place behind it. */

use super::group::Group;
use crate::model::{Graph, ValueId};
use std::collections::HashMap;

/// What is alive at one layer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Crossing {
    /// Bytes alive while the layer runs, at batch 1: what it reads, what it writes, and what only
    /// later layers read.
    pub(super) alive_bytes: usize,
    /// Whether the layer's own output is alive behind it.
    pub(super) own: bool,
    /// What else is alive behind it, made so far and wanted later: the first [`NAMED`] of them.
    pub(super) others: Vec<ValueId>,
    /// How many they are altogether.
    pub(super) other_count: usize,
}

/// Values alive behind a layer that a message may name.
const NAMED: usize = 2;

/// By `ValueId`: whether a value depends on a graph input. What doesn't is known beforehand, can be
/// made again on either side of a cut, and so crosses none.
pub(super) fn varying(graph: &Graph) -> Vec<bool> {
    let mut varying = vec![false; graph.values.len()];
    for input in &graph.inputs {
        varying[input.0 as usize] = true;
    }
    for node in &graph.nodes {
        if node.inputs.iter().any(|v| varying[v.0 as usize]) {
            for output in &node.outputs {
                varying[output.0 as usize] = true;
            }
        }
    }
    varying
}

/// Bytes of a value at batch 1.
pub(super) fn bytes(graph: &Graph, value: ValueId) -> usize {
    let value = graph.value(value);
    value.shape.elements(1) * value.dtype.bytes()
}

/// One crossing for each group. Values made and used up within a group don't count: the
/// element-wise nodes at its end work in place.
pub(super) fn crossings(graph: &Graph, groups: &[Group], varying: &[bool]) -> Vec<Crossing> {
    // The index of the last group that reads a value; outputs of the graph outlive every group.
    let mut last_use: HashMap<ValueId, usize> = HashMap::new();
    for (g, group) in groups.iter().enumerate() {
        for node in &graph.nodes[group.nodes.clone()] {
            for &input in &node.inputs {
                last_use.insert(input, g);
            }
        }
    }
    for &output in &graph.outputs {
        last_use.insert(output, groups.len());
    }
    let mut alive: Vec<ValueId> = graph.inputs.clone();
    let mut crossings = Vec::with_capacity(groups.len());
    for (g, group) in groups.iter().enumerate() {
        for node in &graph.nodes[group.nodes.clone()] {
            let made = node.outputs.iter().copied();
            alive.extend(made.filter(|&v| {
                let inside = v != group.output && last_use.get(&v).is_none_or(|&last| last <= g);
                varying[v.0 as usize] && !inside
            }));
        }
        let alive_bytes = alive.iter().map(|&v| bytes(graph, v)).sum();
        alive.retain(|v| last_use.get(v).is_some_and(|&last| last > g));
        let own = alive.contains(&group.output);
        let others = alive.iter().copied().filter(|&v| v != group.output);
        crossings.push(Crossing {
            alive_bytes,
            own,
            others: others.take(NAMED).collect(),
            other_count: alive.len() - usize::from(own),
        });
    }
    crossings
}
