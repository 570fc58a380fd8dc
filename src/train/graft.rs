/*! One graph grown on a value of another: heads, or their beginnings, on a backbone. */

use super::TrainError;
use crate::model::{Graph, ValueId};
use std::collections::HashMap;

/// Appends `piece`, which has one input, to `graph` so that it reads `at`; returns the value that
/// is its first output. `prefix` keeps its names apart.
pub(super) fn graft(
    graph: &mut Graph,
    at: ValueId,
    piece: &Graph,
    prefix: &str,
) -> Result<ValueId, TrainError> {
    let ([input], [output, ..]) = (piece.inputs.as_slice(), piece.outputs.as_slice()) else {
        return Err(TrainError::Request(format!(
            "head `{}` must have one input and an output",
            piece.name
        )));
    };
    let (given, wanted) = (&graph.value(at).shape, &piece.value(*input).shape);
    if given.at(1) != wanted.at(1) {
        return Err(TrainError::Request(format!(
            "head `{}` reads {wanted}, but `{}` is {given}",
            piece.name,
            graph.value(at).name
        )));
    }
    let mut ids = HashMap::from([(*input, at)]);
    for node in &piece.nodes {
        let mut node = node.clone();
        node.name = format!("{prefix}{}", node.name);
        for id in node.inputs.iter_mut().chain(&mut node.outputs) {
            let old = *id;
            *id = *ids.entry(old).or_insert_with(|| {
                let new = ValueId(graph.values.len() as u32);
                let mut value = piece.value(old).clone();
                value.name = format!("{prefix}{}", value.name);
                graph.values.push(value);
                if let Some(constant) = piece.constants.get(&old) {
                    graph.constants.insert(new, constant.clone());
                }
                new
            });
        }
        graph.nodes.push(node);
    }
    ids.get(output).copied().ok_or_else(|| {
        TrainError::Request(format!("head `{}` doesn't compute its output", piece.name))
    })
}
