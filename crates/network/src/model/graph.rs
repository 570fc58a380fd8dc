/*!
The graph: values, the nodes that produce them, and the constants among them.

A `Graph` is in one of two states that share the type. *As imported* it still has its batch norms
and separate activations: that is what training works on. *Fused* (`fuse`) each node is one step of
inference. Cutting a piece out (`subgraph`) keeps names and shares constants.
*/

use super::constant::{Constant, DType};
use super::op::Op;
use super::shape::Shape;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// A value of one graph. Ids are dense, and mean nothing in another graph: between graphs, values
/// are known by name.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct ValueId(pub u32);

/// What is known of a value before running.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Unique in the graph; the name in the file where there is one.
    pub name: String,
    /// Type of the elements.
    pub dtype: DType,
    /// Extents of each axis; the batch may be symbolic.
    pub shape: Shape,
}

/// One operation and the values it connects.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Name for the user: unique in the graph, from the file where it has one.
    pub name: String,
    /// Operation and its settings.
    pub op: Op,
    /// In the order `Op` documents.
    pub inputs: Vec<ValueId>,
    /// Values that the node computes, one or more, in ONNX's order.
    pub outputs: Vec<ValueId>,
    /// Parameters as the file holds them: weights (quantised ones too), biases, scale and shift of
    /// batch norm; not its running statistics, nor the scales of a quantisation, the value of a
    /// padding or the bounds of a clamp. Kept across fusion.
    pub params: usize,
}

/// An exit that the file of a network brings along: a further output with a score per class, computed
/// from one value of the network.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnExit {
    /// Name of the output.
    pub output: String,
    /// Name of the network's value that the exit reads.
    pub value: String,
    /// The network from that value to the output.
    pub graph: Graph,
}

/// A network, or a piece of one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    /// Name of the network.
    pub name: String,
    /// Type and extents of every value, at the index its `ValueId` holds.
    pub values: Vec<Value>,
    /// In an order in which every input is produced before it is used.
    pub nodes: Vec<Node>,
    /// Values fed by the caller.
    pub inputs: Vec<ValueId>,
    /// Values the caller gets.
    pub outputs: Vec<ValueId>,
    /// Weights and other values that are known before the network runs.
    pub constants: BTreeMap<ValueId, Constant>,
    /// Why the network runs at the file's own batch alone, where that is fixed.
    pub fixed_batch: Option<String>,
    /// Names of the file's outputs that are left out.
    pub other_outputs: Vec<String>,
    /// Those of them that are exits.
    pub own_exits: Arc<Vec<OwnExit>>,
    /// What became of the end of the file's network, where it gives no score per class.
    pub ending: Option<String>,
    /// What the file's metadata calls the classes, by output; empty where it says nothing. They may be of
    /// another number than the outputs: a file may say anything.
    pub class_names: Vec<String>,
}

/// What is wrong with a request to cut a piece out of a graph.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum GraphError {
    /// No value of this name.
    #[error("the network `{graph}` has no value named `{name}`")]
    UnknownValue {
        /// Name of the graph.
        graph: String,
        /// The name asked for.
        name: String,
    },
    /// The outputs can't be computed from the inputs alone.
    #[error("`{output}` can't be computed from the inputs given: it needs `{missing}` too")]
    MissingInput {
        /// The output asked for.
        output: String,
        /// A graph input it depends on.
        missing: String,
    },
}

impl Graph {
    /// The value behind an id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0 as usize]
    }

    /// Finds a value by name.
    pub fn find(&self, name: &str) -> Result<ValueId, GraphError> {
        let at = self.values.iter().position(|v| v.name == name);
        at.map(|i| ValueId(i as u32))
            .ok_or_else(|| GraphError::UnknownValue {
                graph: self.name.clone(),
                name: name.to_string(),
            })
    }

    /// For every value, the node that produces it (inputs and constants have none).
    pub fn producers(&self) -> HashMap<ValueId, usize> {
        let nodes = self.nodes.iter().enumerate();
        nodes
            .flat_map(|(i, n)| n.outputs.iter().map(move |&o| (o, i)))
            .collect()
    }

    /// For every value, the nodes that read it, in order, once for each input slot.
    pub fn consumers(&self) -> HashMap<ValueId, Vec<usize>> {
        let mut map: HashMap<ValueId, Vec<usize>> = HashMap::new();
        for (i, node) in self.nodes.iter().enumerate() {
            for &input in &node.inputs {
                map.entry(input).or_default().push(i);
            }
        }
        map
    }

    /// The piece that computes `outputs` from `inputs`, with its own ids, the same names and shared
    /// constants. Nodes keep their order, so the same piece always compiles to the same program.
    pub fn subgraph(&self, inputs: &[ValueId], outputs: &[ValueId]) -> Result<Graph, GraphError> {
        let producers = self.producers();
        let given: HashSet<ValueId> = inputs.iter().copied().collect();
        let mut wanted: HashSet<usize> = HashSet::new();
        for &output in outputs {
            let mut stack = vec![output];
            while let Some(v) = stack.pop() {
                if given.contains(&v) || self.constants.contains_key(&v) {
                    continue;
                }
                match producers.get(&v) {
                    Some(&n) => {
                        if wanted.insert(n) {
                            stack.extend(self.nodes[n].inputs.iter().copied());
                        }
                    }
                    None => {
                        return Err(GraphError::MissingInput {
                            output: self.value(output).name.clone(),
                            missing: self.value(v).name.clone(),
                        });
                    }
                }
            }
        }
        let mut piece = Graph {
            name: self.name.clone(),
            fixed_batch: self.fixed_batch.clone(),
            other_outputs: self.other_outputs.clone(),
            own_exits: Arc::clone(&self.own_exits),
            class_names: self.class_names.clone(),
            ending: self.ending.clone(),
            ..Graph::default()
        };
        let mut ids: HashMap<ValueId, ValueId> = HashMap::new();
        let mut carry = |piece: &mut Graph, old: ValueId| -> ValueId {
            *ids.entry(old).or_insert_with(|| {
                let new = ValueId(piece.values.len() as u32);
                piece.values.push(self.value(old).clone());
                if let Some(c) = self.constants.get(&old) {
                    piece.constants.insert(new, c.clone());
                }
                new
            })
        };
        piece.inputs = inputs.iter().map(|&v| carry(&mut piece, v)).collect();
        for (i, node) in self.nodes.iter().enumerate() {
            if wanted.contains(&i) {
                let inputs = node.inputs.iter().map(|&v| carry(&mut piece, v)).collect();
                let outputs = node.outputs.iter().map(|&v| carry(&mut piece, v)).collect();
                piece.nodes.push(Node {
                    inputs,
                    outputs,
                    ..node.clone()
                });
            }
        }
        piece.outputs = outputs.iter().map(|&v| carry(&mut piece, v)).collect();
        Ok(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Activation, Builder, Shape};
    use super::*;
    use pretty_assertions::assert_eq;

    fn chain() -> Graph {
        let mut b = Builder::new("chain");
        let x = b.input("x", Shape::batched(&[3, 8, 8]));
        let a = b.conv_with("a", x, vec![0.0; 4 * 3], 4, 1, 1, 0, Activation::RELU);
        let c = b.conv_with("c", a, vec![0.0; 4 * 4], 4, 1, 1, 0, Activation::NONE);
        b.output(c);
        b.finish()
    }

    #[test]
    fn a_piece_keeps_names_and_only_what_it_needs() {
        let g = chain();
        let a = g.find("a").unwrap();
        let tail = g.subgraph(&[a], &g.outputs).unwrap();
        assert_eq!(tail.nodes.len(), 1);
        assert_eq!(tail.value(tail.inputs[0]).name, "a");
        assert_eq!(tail.constants.len(), 1);
    }

    #[test]
    fn a_piece_without_its_input_is_refused() {
        let g = chain();
        let err = g.subgraph(&[], &g.outputs).unwrap_err();
        assert_eq!(
            err,
            GraphError::MissingInput {
                output: "c".into(),
                missing: "x".into()
            }
        );
    }
}
