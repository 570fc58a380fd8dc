/*!
Whether there is memory for a run: a small file can describe a network whose values fill any machine,
and memory that can't be had ends the whole process. So it is looked at before anything is made.
*/

use super::RunnerError;
use crate::device::memory::MachineMemory;
use crate::model::{Graph, ValueId};
use std::collections::HashMap;
use std::path::Path;

/// Below this nobody needs to look: a look costs as much as a small offload.
const SMALL: usize = 64 << 20;
/// What kernels take besides the values, as a factor: copies in another order, padded edges.
const BESIDES: usize = 2;

/// Bytes of the values of a graph that are there at once, at most, for `batch` samples; constants
/// aside, which a file has paid for with its own length, and which take at most some times as much in
/// the form the kernels read.
pub(crate) fn peak(graph: &Graph, batch: usize) -> usize {
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

/// Whether the machine has so much memory to give.
///
/// # Errors
/// [`RunnerError::Memory`] where it hasn't.
pub(crate) fn check(bytes: usize) -> Result<(), RunnerError> {
    let needed = bytes.saturating_mul(BESIDES);
    if needed <= SMALL {
        return Ok(());
    }
    // A system that doesn't tell: what an allocator can't give is then seen when it is asked.
    let Ok(memory) = MachineMemory::read(Path::new("/")) else {
        return Ok(());
    };
    let available = memory.available_bytes;
    match needed <= available {
        true => Ok(()),
        false => Err(RunnerError::Memory { needed, available }),
    }
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
        let found = peak(&graph, 1);
        // The table counts layers, in which several nodes share what they work on.
        assert!(found >= values && found < 2 * values, "{found} {values}");
        assert_eq!(peak(&graph, 100), 100 * found);
        assert_eq!(peak(&graph, usize::MAX), usize::MAX);
        assert!(check(usize::MAX).is_err() && check(1).is_ok());
    }
}
