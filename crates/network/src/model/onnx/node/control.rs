/*!
Nodes that hold other nodes: functions of the file, and branches and loops whose course is known
before the network runs. What they hold is put in their place.
*/

use super::super::attributes::attribute;
use super::super::{ImportError, Importer};
use crate::model::constant::{Constant, Data};
use crate::model::graph::ValueId;
use crate::model::op::Op;
use crate::model::shape::Dim;
use candle_onnx::onnx as proto;
use std::collections::{HashMap, HashSet};

/// How deep functions, branches and loops may lie in one another.
const MAX_DEPTH: usize = 32;

/// Nodes that all of them together may become: more than people's networks have, and read within seconds.
const MAX_NODES: usize = 1 << 15;

/// Nodes to put in the place of one, with what their names stand for.
struct Body<'a> {
    nodes: &'a [proto::NodeProto],
    initializers: &'a [proto::TensorProto],
    /// Names inside that stand for names outside.
    bound: HashMap<String, String>,
    /// Settings that the nodes refer to by name.
    attributes: HashMap<String, proto::AttributeProto>,
    /// Put before each name of its own.
    prefix: String,
}

impl Importer<'_> {
    pub(super) fn control(&mut self, node: &proto::NodeProto) -> Result<bool, ImportError> {
        match node.op_type.as_str() {
            "If" => self.branch(node)?,
            "Loop" => self.unrolled(node)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// A call of a function of the file. `false` if the file has none of this name.
    pub(super) fn call(&mut self, node: &proto::NodeProto) -> Result<bool, ImportError> {
        let key = (node.domain.clone(), node.op_type.clone());
        let Some(function) = self.functions.get(&key).copied() else {
            return Ok(false);
        };
        let given = |list: &[String], outer: &[String]| -> Vec<(String, String)> {
            let outer = outer
                .iter()
                .cloned()
                .chain(std::iter::repeat(String::new()));
            list.iter().cloned().zip(outer).collect()
        };
        let mut bound: HashMap<String, String> = HashMap::new();
        bound.extend(given(&function.input, &node.input));
        let outputs = given(&function.output, &node.output);
        bound.extend(outputs.into_iter().filter(|(_, outer)| !outer.is_empty()));
        let defaults = function.attribute_proto.iter().chain(&node.attribute);
        let body = Body {
            nodes: &function.node,
            initializers: &[],
            bound,
            attributes: defaults.map(|a| (a.name.clone(), a.clone())).collect(),
            prefix: self.prefix(node),
        };
        let version = function.opset_import.iter();
        let version = version.filter(|o| o.domain.is_empty() || o.domain == "ai.onnx");
        let opset = version.map(|o| o.version).next().unwrap_or(self.opset);
        let outer = std::mem::replace(&mut self.opset, opset);
        let done = self.inline(node, body);
        self.opset = outer;
        done.map(|()| true)
    }

    /// What the names of a body begin with: something no name outside begins with.
    fn prefix(&mut self, node: &proto::NodeProto) -> String {
        self.inlined += 1;
        format!("{}/{}/", super::super::name::of_node(node), self.inlined)
    }

    fn inline(&mut self, node: &proto::NodeProto, body: Body) -> Result<(), ImportError> {
        self.expanded += body.nodes.len();
        if self.depth >= MAX_DEPTH || self.expanded > MAX_NODES {
            let what = format!(
                "functions, branches and loops of this file become more than {MAX_NODES} nodes, or lie more \
                 than {MAX_DEPTH} deep in one another; export the network with fewer rounds"
            );
            return Err(self.fail(node, what));
        }
        let mut own: HashSet<&str> = HashSet::new();
        for inner in body.nodes {
            own.extend(inner.output.iter().map(String::as_str));
        }
        own.extend(body.initializers.iter().map(|t| t.name.as_str()));
        let mut names = body.bound.clone();
        for name in own {
            if !name.is_empty() && !names.contains_key(name) {
                names.insert(name.to_string(), format!("{}{name}", body.prefix));
            }
        }
        for tensor in body.initializers {
            let name = names.get(&tensor.name).unwrap_or(&tensor.name).clone();
            let code = tensor.data_type;
            let constant = self.tensor(tensor.clone())?;
            self.initializer(&name, constant, code);
        }
        let mut nodes = Vec::with_capacity(body.nodes.len());
        for inner in body.nodes {
            nodes.push(renamed(inner, &names, &body.attributes, &body.prefix));
        }
        self.depth += 1;
        let done = self.nodes(&nodes);
        self.depth -= 1;
        done
    }

    fn branch(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let condition = self.input_id(node, 0)?;
        let condition = self.truth(condition).ok_or_else(|| {
            self.fail(
                node,
                "its condition is only known while the network runs: a network that takes \
                 different ways for different inputs can't be compiled",
            )
        })?;
        let name = if condition {
            "then_branch"
        } else {
            "else_branch"
        };
        let graph = attribute(node, name).and_then(|a| a.g.clone());
        let graph = graph.ok_or_else(|| self.fail(node, format!("has no {name}")))?;
        let inner = graph.output.iter().map(|o| o.name.clone());
        let produced: HashSet<&String> = graph.node.iter().flat_map(|n| &n.output).collect();
        let mut bound = HashMap::new();
        let mut handed = Vec::new();
        for (inner, outer) in inner.zip(&node.output) {
            // A branch may hand on what it has not made itself.
            if produced.contains(&inner) && !bound.contains_key(&inner) {
                bound.insert(inner, outer.clone());
            } else {
                handed.push((inner, outer.clone()));
            }
        }
        let prefix = self.prefix(node);
        let names = bound.clone();
        let body = Body {
            nodes: &graph.node,
            initializers: &graph.initializer,
            bound,
            attributes: HashMap::new(),
            prefix: prefix.clone(),
        };
        self.inline(node, body)?;
        for (inner, outer) in handed {
            let own = format!("{prefix}{inner}");
            let known = [names.get(&inner), Some(&own), Some(&inner)];
            let id = known
                .into_iter()
                .flatten()
                .find_map(|n| self.env.get(n))
                .copied();
            let id = id.ok_or_else(|| self.fail(node, format!("`{inner}` is nowhere made")))?;
            self.env.insert(outer, id);
        }
        Ok(())
    }

    /// A boolean that is known now.
    fn truth(&self, id: ValueId) -> Option<bool> {
        let ints = self.ints(id)?;
        let [value] = ints.values[..] else {
            return None;
        };
        value.known().map(|v| v != 0)
    }

    /// One round of a loop's body over what the round before left; gives the body's outputs.
    fn round(
        &mut self,
        node: &proto::NodeProto,
        graph: &proto::GraphProto,
        round: i64,
        state: &[ValueId],
    ) -> Result<Vec<ValueId>, ImportError> {
        let prefix = self.prefix(node);
        let mut bound = HashMap::new();
        let flag = Constant {
            shape: Vec::new(),
            data: Data::Bool(vec![1].into()),
        };
        let count = self.known(node, Constant::i64(&[], vec![round]));
        let flag = self.known(node, flag);
        let given = [count, flag].into_iter().chain(state.iter().copied());
        for (i, (input, id)) in graph.input.iter().zip(given).enumerate() {
            let outer = format!("{prefix}in/{i}");
            self.env.insert(outer.clone(), id);
            bound.insert(input.name.clone(), outer);
        }
        let names = bound.clone();
        let body = Body {
            nodes: &graph.node,
            initializers: &graph.initializer,
            bound,
            attributes: HashMap::new(),
            prefix: prefix.clone(),
        };
        self.inline(node, body)?;
        let made = |importer: &Self, inner: &str| {
            let own = format!("{prefix}{inner}");
            let known = [
                Some(own.as_str()),
                names.get(inner).map(String::as_str),
                Some(inner),
            ];
            let id = known
                .into_iter()
                .flatten()
                .find_map(|n| importer.env.get(n));
            id.copied()
                .ok_or_else(|| importer.fail(node, format!("`{inner}` is nowhere made")))
        };
        let results = graph.output.iter().map(|o| made(self, &o.name));
        results.collect()
    }

    /// A loop whose number of rounds is known: its body, once for each.
    fn unrolled(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let rounds = match self.optional(node, 0) {
            Some(_) => self.known_ints(node, 0)?.and_then(|n| n.first().copied()),
            None => None,
        };
        let rounds = rounds.ok_or_else(|| self.fail(node, "has no known number of rounds"))?;
        let graph = attribute(node, "body").and_then(|a| a.g.clone());
        let graph = graph.ok_or_else(|| self.fail(node, "has no body"))?;
        let mut goes_on = match self.optional(node, 1) {
            Some(id) => self.truth(id),
            None => Some(true),
        };
        let carried = node.input.len().saturating_sub(2);
        if graph.input.len() != carried + 2 || graph.output.len() <= carried {
            return Err(self.fail(node, "its body doesn't fit its inputs"));
        }
        let mut state: Vec<ValueId> = (0..carried)
            .map(|i| self.input_id(node, i + 2))
            .collect::<Result<_, _>>()?;
        let mut scans: Vec<Vec<ValueId>> = vec![Vec::new(); graph.output.len() - 1 - carried];
        for round in 0..rounds {
            match goes_on {
                Some(true) => {}
                Some(false) => break,
                None => {
                    let what = "whether it goes on is only known while the network runs";
                    return Err(self.fail(node, what));
                }
            }
            let results = self.round(node, &graph, round, &state)?;
            goes_on = self.truth(results[0]);
            state = results[1..=carried].to_vec();
            for (scan, &id) in scans.iter_mut().zip(&results[carried + 1..]) {
                scan.push(id);
            }
        }
        for (id, outer) in state.into_iter().zip(&node.output) {
            self.env.insert(outer.clone(), id);
        }
        for (scan, outer) in scans.into_iter().zip(node.output.iter().skip(carried)) {
            let mut rows = Vec::new();
            for id in scan {
                let to = std::iter::once(Dim::Fixed(1)).chain(self.shape(id).0.clone());
                rows.push(self.seen_as(node, id, to.collect())?);
            }
            if rows.is_empty() {
                return Err(self.fail(node, "goes no round, and so collects nothing"));
            }
            let all = self.main(node, Op::Concat { axis: 0 }, rows)?;
            self.env.insert(outer.clone(), all);
        }
        Ok(())
    }
}

/// A node of a body under the names it has outside, its settings filled in.
fn renamed(
    node: &proto::NodeProto,
    names: &HashMap<String, String>,
    attributes: &HashMap<String, proto::AttributeProto>,
    prefix: &str,
) -> proto::NodeProto {
    let outer = |name: &String| names.get(name).unwrap_or(name).clone();
    let mut copy = node.clone();
    copy.name = match node.name.is_empty() {
        true => String::new(),
        false => format!("{prefix}{}", node.name),
    };
    copy.input = node.input.iter().map(outer).collect();
    copy.output = node.output.iter().map(outer).collect();
    copy.attribute.clear();
    for attribute in &node.attribute {
        let mut own = match attribute.ref_attr_name.as_str() {
            "" => attribute.clone(),
            // A setting that the call leaves out is left out here.
            name => match attributes.get(name) {
                Some(given) => proto::AttributeProto {
                    name: attribute.name.clone(),
                    ..given.clone()
                },
                None => continue,
            },
        };
        if let Some(graph) = &mut own.g {
            let mut inside = names.clone();
            for inner in &graph.node {
                inner.output.iter().for_each(|o| {
                    inside.remove(o);
                });
            }
            let nodes = graph.node.iter();
            graph.node = nodes
                .map(|n| renamed(n, &inside, attributes, prefix))
                .collect();
            graph
                .output
                .iter_mut()
                .for_each(|o| o.name = inside.get(&o.name).unwrap_or(&o.name).clone());
        }
        copy.attribute.push(own);
    }
    copy
}

/// The names a node reads, those that the nodes in it read from outside among them.
pub(in super::super) fn reads(node: &proto::NodeProto) -> Vec<&str> {
    let mut found: Vec<&str> = node.input.iter().map(String::as_str).collect();
    for graph in node.attribute.iter().filter_map(|a| a.g.as_ref()) {
        let mut own: HashSet<&str> = graph.input.iter().map(|i| i.name.as_str()).collect();
        own.extend(graph.initializer.iter().map(|t| t.name.as_str()));
        for inner in &graph.node {
            own.extend(inner.output.iter().map(String::as_str));
        }
        let inner = graph.node.iter().flat_map(reads);
        let inner = inner.chain(graph.output.iter().map(|o| o.name.as_str()));
        found.extend(inner.filter(|n| !own.contains(n)));
    }
    found.retain(|n| !n.is_empty());
    found
}
