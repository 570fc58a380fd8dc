/*!
Several graphs joined into one ONNX graph. Names of ONNX values hold through all nested graphs, so each
piece gets names that no other has; what joins the pieces is bound by name.
*/

use super::DeployError;
use crate::model::export::{ExportError, graph_proto, tensor_proto};
use crate::model::{Constant, Graph, Value};
use crate::runtime::parts::PartError;
use candle_onnx::onnx as proto;
use proto::attribute_proto::AttributeType;
use std::collections::{HashMap, HashSet};

/// Names that are in use in a graph and all that it holds.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<String>);

/// The only input and the only output of a segment or head.
pub(super) fn ends(graph: &Graph) -> Result<(&Value, &Value), PartError> {
    match (graph.inputs.as_slice(), graph.outputs.as_slice()) {
        (&[x], &[y]) => Ok((graph.value(x), graph.value(y))),
        _ => Err(PartError::Damaged(format!(
            "a piece of `{}` hasn't one input and one output",
            graph.name
        ))),
    }
}

/// Nodes and constants of a graph, or of a branch of one.
#[derive(Debug, Default)]
pub(super) struct Piece {
    pub nodes: Vec<proto::NodeProto>,
    pub initializers: Vec<proto::TensorProto>,
}

impl Names {
    /// The name, or the first of `name_2`, `name_3`, … that is free.
    pub fn fresh(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_string();
        let mut n = 2;
        while !self.0.insert(name.clone()) {
            name = format!("{wanted}_{n}");
            n += 1;
        }
        name
    }

    /// A graph's nodes and constants under names of their own: those in `bound` become what they are
    /// bound to, others keep theirs where they are free behind `prefix`.
    pub fn piece(
        &mut self,
        graph: &Graph,
        prefix: &str,
        bound: &[(&str, &str)],
    ) -> Result<Piece, ExportError> {
        let graph = graph_proto(graph)?;
        let mut names: HashMap<String, String> = HashMap::new();
        for (inner, outer) in bound {
            names.insert((*inner).to_string(), (*outer).to_string());
        }
        // An input that is left out is called nothing.
        names.insert(String::new(), String::new());
        let mut rename = |own: &mut String| {
            let name = match names.get(own.as_str()) {
                Some(known) => known.clone(),
                None => {
                    let new = self.fresh(&format!("{prefix}{own}"));
                    names.insert(own.clone(), new.clone());
                    new
                }
            };
            *own = name;
        };
        let mut piece = Piece {
            nodes: graph.node,
            initializers: graph.initializer,
        };
        for tensor in &mut piece.initializers {
            rename(&mut tensor.name);
        }
        for node in &mut piece.nodes {
            node.input.iter_mut().for_each(&mut rename);
            node.output.iter_mut().for_each(&mut rename);
            node.name = format!("{prefix}{}", node.name);
        }
        Ok(piece)
    }

    /// A part's segment that reads the value `from`, and the name of what it gives.
    pub fn segment(&mut self, graph: &Graph, from: &str) -> Result<(Piece, String), DeployError> {
        let (input, output) = ends(graph)?;
        let to = self.fresh(&output.name);
        let bound = [
            (input.name.as_str(), from),
            (output.name.as_str(), to.as_str()),
        ];
        Ok((self.piece(graph, "", &bound)?, to))
    }

    /// The head of a part's exit `number`, from 0, that reads `from` and gives `logits`.
    pub fn head(
        &mut self,
        graph: &Graph,
        number: usize,
        from: &str,
        logits: &str,
    ) -> Result<Piece, DeployError> {
        let (input, output) = ends(graph)?;
        let bound = [(input.name.as_str(), from), (output.name.as_str(), logits)];
        Ok(self.piece(graph, &format!("exit_{number}/"), &bound)?)
    }
}

impl Piece {
    pub fn extend(&mut self, other: Piece) {
        self.nodes.extend(other.nodes);
        self.initializers.extend(other.initializers);
    }

    /// Appends a node, called like its first output.
    pub fn node(
        &mut self,
        op: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: Vec<proto::AttributeProto>,
    ) {
        self.nodes.push(proto::NodeProto {
            name: outputs.first().map_or(String::new(), |o| (*o).to_string()),
            op_type: op.to_string(),
            input: inputs.iter().map(|i| (*i).to_string()).collect(),
            output: outputs.iter().map(|o| (*o).to_string()).collect(),
            attribute: attributes,
            ..proto::NodeProto::default()
        });
    }

    pub fn constant(&mut self, name: &str, constant: &Constant) {
        self.initializers.push(tensor_proto(name, constant));
    }
}

pub(super) fn int(name: &str, i: i64) -> proto::AttributeProto {
    proto::AttributeProto {
        name: name.to_string(),
        r#type: AttributeType::Int as i32,
        i,
        ..proto::AttributeProto::default()
    }
}

pub(super) fn branch(name: &str, graph: proto::GraphProto) -> proto::AttributeProto {
    proto::AttributeProto {
        name: name.to_string(),
        r#type: AttributeType::Graph as i32,
        g: Some(graph),
        ..proto::AttributeProto::default()
    }
}
