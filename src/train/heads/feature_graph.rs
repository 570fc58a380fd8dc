/*! The backbone with the beginnings of heads on it, and trained heads made whole again. */

use super::HeadSpec;
use crate::model::{Graph, Op, ValueId};
use crate::train::TrainError;
use crate::train::graft::graft;
use crate::train::learner::logits;

/// The backbone with the heads' prefixes grown on it, and which output feeds which head; with
/// `taught`, its last output is the final classifier's logits, which feed none.
pub(super) fn feature_graph(
    backbone: &Graph,
    heads: &[HeadSpec<'_>],
    splits: &[ValueId],
    taught: bool,
) -> Result<(Graph, Vec<usize>), TrainError> {
    let mut cuts = Vec::new();
    for head in heads {
        let cut = backbone.find(&head.value)?;
        if !cuts.contains(&cut) {
            cuts.push(cut);
        }
    }
    let teacher = taught.then(|| logits(backbone)).transpose()?;
    cuts.extend(teacher.filter(|t| !cuts.contains(t)));
    let mut graph = backbone.subgraph(&backbone.inputs, &cuts)?;
    graph.outputs.clear();
    let mut known: Vec<(String, ValueId)> = Vec::new();
    let mut feeds = Vec::new();
    for (head, &end) in heads.iter().zip(splits) {
        let piece = head.graph.subgraph(&head.graph.inputs, &[end])?;
        let ops: Vec<&Op> = piece.nodes.iter().map(|n| &n.op).collect();
        let key = format!("{} {ops:?} ", head.value);
        let value = match known.iter().find(|(k, _)| *k == key) {
            Some((_, value)) => *value,
            None => {
                let at = graph.find(&head.value)?;
                let value = match piece.nodes.is_empty() {
                    true => at,
                    false => graft(&mut graph, at, &piece, &key)?,
                };
                known.push((key, value));
                value
            }
        };
        let at = graph.outputs.iter().position(|&o| o == value);
        feeds.push(at.unwrap_or_else(|| {
            graph.outputs.push(value);
            graph.outputs.len() - 1
        }));
    }
    if let Some(teacher) = teacher {
        let teacher = graph.find(&backbone.value(teacher).name)?;
        graph.outputs.push(teacher);
    }
    Ok((graph, feeds))
}

/// The whole head with the constants its trained rest has.
pub(super) fn merge(head: &Graph, rest: &Graph) -> Result<Graph, TrainError> {
    let mut whole = head.clone();
    for (id, constant) in &rest.constants {
        let id = whole.find(&rest.value(*id).name)?;
        whole.constants.insert(id, constant.clone());
    }
    Ok(whole)
}
