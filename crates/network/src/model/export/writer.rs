/*! Collects the ONNX nodes of a graph, with fresh names for what lies between. */

use super::{ExportError, PARAMS, tensor_proto};
use crate::model::constant::{Constant, DType, Data};
use crate::model::graph::{Graph, Node, ValueId};
use crate::model::op::Activation;
use crate::model::shape::{Dim, Shape};
use candle_onnx::onnx as proto;
use proto::attribute_proto::AttributeType;
use std::collections::HashSet;

/// Nodes and constants so far.
pub(super) struct Writer<'a> {
    pub(super) graph: &'a Graph,
    pub(super) nodes: Vec<proto::NodeProto>,
    pub(super) initializers: Vec<proto::TensorProto>,
    value_names: HashSet<String>,
    node_names: HashSet<String>,
}

/// One ONNX op with its attributes.
pub(super) struct Call {
    op: &'static str,
    attributes: Vec<proto::AttributeProto>,
}

impl Call {
    pub(super) fn new(op: &'static str) -> Self {
        Call {
            op,
            attributes: Vec::new(),
        }
    }

    fn with(mut self, name: &str, kind: AttributeType, set: proto::AttributeProto) -> Self {
        self.attributes.push(proto::AttributeProto {
            name: name.into(),
            r#type: kind as i32,
            ..set
        });
        self
    }

    pub(super) fn int(self, name: &str, i: i64) -> Self {
        let set = proto::AttributeProto {
            i,
            ..Default::default()
        };
        self.with(name, AttributeType::Int, set)
    }

    pub(super) fn float(self, name: &str, f: f32) -> Self {
        let set = proto::AttributeProto {
            f,
            ..Default::default()
        };
        self.with(name, AttributeType::Float, set)
    }

    pub(super) fn text(self, name: &str, text: &str) -> Self {
        let set = proto::AttributeProto {
            s: text.as_bytes().to_vec(),
            ..Default::default()
        };
        self.with(name, AttributeType::String, set)
    }

    pub(super) fn sizes(self, name: &str, list: impl IntoIterator<Item = usize>) -> Self {
        let set = proto::AttributeProto {
            ints: list.into_iter().map(|n| n as i64).collect(),
            ..Default::default()
        };
        self.with(name, AttributeType::Ints, set)
    }
}

impl<'a> Writer<'a> {
    pub(super) fn new(graph: &'a Graph) -> Self {
        Writer {
            graph,
            nodes: Vec::new(),
            initializers: Vec::new(),
            value_names: graph.values.iter().map(|v| v.name.clone()).collect(),
            node_names: graph.nodes.iter().map(|n| n.name.clone()).collect(),
        }
    }

    pub(super) fn name(&self, id: ValueId) -> String {
        self.graph.value(id).name.clone()
    }

    pub(super) fn names(&self, ids: &[ValueId]) -> Vec<String> {
        ids.iter().map(|&id| self.name(id)).collect()
    }

    pub(super) fn shape(&self, id: ValueId) -> &'a Shape {
        &self.graph.value(id).shape
    }

    pub(super) fn dtype(&self, id: ValueId) -> DType {
        self.graph.value(id).dtype
    }

    pub(super) fn unsupported<T>(
        &self,
        node: &Node,
        what: impl Into<String>,
    ) -> Result<T, ExportError> {
        Err(ExportError::Unsupported {
            node: node.name.clone(),
            what: what.into(),
        })
    }

    /// A name no value has: of something between the ONNX nodes of one node.
    pub(super) fn fresh(&mut self, node: &Node, what: &str) -> String {
        fresh(&mut self.value_names, &format!("{}/{what}", node.name))
    }

    /// Appends the ONNX node that carries the node's own name and its parameters.
    pub(super) fn own(
        &mut self,
        node: &Node,
        call: Call,
        inputs: Vec<String>,
        outputs: Vec<String>,
    ) {
        let doc_string = format!("{PARAMS}{}", node.params);
        self.nodes.push(proto::NodeProto {
            name: node.name.clone(),
            op_type: call.op.into(),
            attribute: call.attributes,
            input: inputs,
            output: outputs,
            doc_string,
            ..Default::default()
        });
    }

    /// Appends an ONNX node beside the node's own; it counts no parameters.
    pub(super) fn beside(
        &mut self,
        node: &Node,
        what: &str,
        call: Call,
        inputs: Vec<String>,
        output: String,
    ) {
        let name = fresh(&mut self.node_names, &format!("{}/{what}", node.name));
        self.nodes.push(proto::NodeProto {
            name,
            op_type: call.op.into(),
            attribute: call.attributes,
            input: inputs,
            output: vec![output],
            doc_string: format!("{PARAMS}0"),
            ..Default::default()
        });
    }

    /// A list of integers as an input.
    pub(super) fn ints(&mut self, node: &Node, what: &str, list: Vec<i64>) -> String {
        let name = self.fresh(node, what);
        let constant = Constant::i64(&[list.len()], list);
        self.initializers.push(tensor_proto(&name, &constant));
        name
    }

    /// One number as an input, of the type of `like`.
    pub(super) fn number(&mut self, node: &Node, what: &str, number: f32, like: DType) -> String {
        let name = self.fresh(node, what);
        let data = match like {
            DType::F32 => Data::F32(vec![number].into()),
            DType::I64 => Data::I64(vec![number as i64].into()),
            DType::I32 => Data::I32(vec![number as i32].into()),
            DType::U8 => Data::U8(vec![number as u8].into()),
            DType::I8 => Data::I8(vec![number as i8].into()),
            DType::Bool => Data::Bool(vec![u8::from(number != 0.0)].into()),
        };
        // A node rather than an initializer: what a file initializes counts as its parameters.
        let shape = Vec::new();
        let value = tensor_proto(&name, &Constant { shape, data });
        let set = proto::AttributeProto {
            t: Some(value),
            ..Default::default()
        };
        let call = Call::new("Constant").with("value", AttributeType::Tensor, set);
        self.beside(node, what, call, Vec::new(), name.clone());
        name
    }

    /// The extents of `shape` as an input. Where they depend on the batch, they are computed from
    /// the shape of the graph's first batched input.
    pub(super) fn extents(&mut self, node: &Node, shape: &[Dim]) -> Result<String, ExportError> {
        if let Some(fixed) = shape.iter().map(|d| d.fixed()).collect::<Option<Vec<_>>>() {
            let fixed = fixed.into_iter().map(|n| n as i64).collect();
            return Ok(self.ints(node, "extents", fixed));
        }
        let batched = |id: &&ValueId| self.shape(**id).0.first() == Some(&Dim::Batch(1));
        let Some(&source) = self.graph.inputs.iter().find(batched) else {
            return self.unsupported(node, "a shape that depends on a batch no input starts with");
        };
        let input = self.name(source);
        let all = self.fresh(node, "input_shape");
        self.beside(node, "shape", Call::new("Shape"), vec![input], all.clone());
        let first = self.ints(node, "first", vec![0]);
        let batch = self.fresh(node, "batch");
        let gather = Call::new("Gather").int("axis", 0);
        self.beside(node, "gather", gather, vec![all, first], batch.clone());
        let mut pieces = Vec::new();
        for dim in shape {
            pieces.push(match *dim {
                Dim::Batch(1) => batch.clone(),
                Dim::Batch(k) => {
                    let factor = self.ints(node, "factor", vec![k as i64]);
                    let times = self.fresh(node, "times");
                    let inputs = vec![batch.clone(), factor];
                    self.beside(node, "mul", Call::new("Mul"), inputs, times.clone());
                    times
                }
                Dim::Fixed(n) => self.ints(node, "extent", vec![n as i64]),
            });
        }
        let out = self.fresh(node, "extents");
        let concat = Call::new("Concat").int("axis", 0);
        self.beside(node, "concat", concat, pieces, out.clone());
        Ok(out)
    }

    /// Appends the clamp behind a node, from `input` to the node's first output.
    pub(super) fn clamp(&mut self, node: &Node, activation: Activation, input: String) {
        let output = self.name(node.outputs[0]);
        let dtype = self.dtype(node.outputs[0]);
        let (call, inputs) = self.clip(node, activation, input, dtype);
        self.beside(node, "clamp", call, inputs, output);
    }

    /// A clamp as an ONNX op: `Relu` where it is one, else `Clip`.
    pub(super) fn clip(
        &mut self,
        node: &Node,
        activation: Activation,
        input: String,
        dtype: DType,
    ) -> (Call, Vec<String>) {
        if activation == Activation::RELU {
            return (Call::new("Relu"), vec![input]);
        }
        let mut inputs = vec![input];
        inputs.push(match activation.low {
            f32::NEG_INFINITY => String::new(),
            low => self.number(node, "low", low, dtype),
        });
        if activation.high != f32::INFINITY {
            inputs.push(self.number(node, "high", activation.high, dtype));
        }
        if inputs.last().is_some_and(String::is_empty) {
            inputs.pop();
        }
        (Call::new("Clip"), inputs)
    }
}

fn fresh(taken: &mut HashSet<String>, wanted: &str) -> String {
    let mut name = wanted.to_string();
    let mut n = 2;
    while !taken.insert(name.clone()) {
        name = format!("{wanted}_{n}");
        n += 1;
    }
    name
}
