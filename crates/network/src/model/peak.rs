/*! How much memory the values of a running graph take. */

use super::{Graph, ValueId};
use std::collections::HashMap;

/// Largest sum of bytes, over the nodes of a graph in order, of the values alive at once in a run of
/// `batch` samples; constants aside.
pub fn peak_bytes(graph: &Graph, batch: usize) -> usize {
    let bytes = |id: &ValueId| {
        let value = graph.value(*id);
        let extents = value.shape.at(1);
        let count = extents.iter().fold(1usize, |n, &d| n.saturating_mul(d));
        let count = match value.shape.sample() {
            Some(_) => count.saturating_mul(batch),
            None => count,
        };
        count.saturating_mul(value.dtype.bytes())
    };
    let mut last: HashMap<ValueId, usize> = HashMap::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        last.extend(node.inputs.iter().map(|&id| (id, at)));
    }
    for &id in &graph.outputs {
        last.insert(id, usize::MAX);
    }
    let mut alive: usize = graph
        .inputs
        .iter()
        .map(bytes)
        .fold(0, usize::saturating_add);
    let mut peak = alive;
    for (at, node) in graph.nodes.iter().enumerate() {
        let made = node.outputs.iter().map(bytes);
        alive = made.fold(alive, usize::saturating_add);
        peak = peak.max(alive);
        let mut over: Vec<&ValueId> = node.inputs.iter().collect();
        over.sort_unstable();
        over.dedup();
        let over = over
            .into_iter()
            .filter(|id| last.get(id) == Some(&at) && !graph.constants.contains_key(id));
        alive = over.map(bytes).fold(alive, usize::saturating_sub);
    }
    peak
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fuse::fuse;
    use crate::model::layers::LayerTable;
    use crate::model::zoo::ZooModel;

    #[test]
    fn it_is_the_largest_set_alive_at_once() {
        let model = ZooModel::ResNet {
            depth: 8,
            width: 16,
        };
        let graph = fuse(&model.build((3, 32, 32), 10, 1).unwrap());
        let table = LayerTable::new(&graph).unwrap();
        let values = table.memory_bytes - 4 * table.params;
        let found = peak_bytes(&graph, 1);
        // The table counts layers, in which several nodes share what they work on.
        assert!(found >= values && found < 2 * values, "{found} {values}");
        assert_eq!(peak_bytes(&graph, 100), 100 * found);
        assert_eq!(peak_bytes(&graph, usize::MAX), usize::MAX);
    }
}
