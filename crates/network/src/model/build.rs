/*!
Building graphs by hand: the networks built in, heads, and tests. Each method appends one node and
infers its output shape; the caller vouches that the shapes fit (a mismatch panics in debug builds
of the caller's tests, so everything user-written is checked before it comes here).
*/

use super::constant::{Constant, DType};
use super::graph::{Graph, Node, Value, ValueId};
use super::op::{Activation, Op, Window};
use super::shape::{Dim, Shape};

/// Appends nodes to a growing graph.
#[derive(Debug, Default)]
pub struct Builder {
    graph: Graph,
}

impl Builder {
    /// Starts a graph without values or nodes.
    pub fn new(name: &str) -> Self {
        Builder {
            graph: Graph {
                name: name.to_string(),
                ..Graph::default()
            },
        }
    }

    /// Declares an input (F32).
    pub fn input(&mut self, name: &str, shape: Shape) -> ValueId {
        let id = self.value(name, DType::F32, shape);
        self.graph.inputs.push(id);
        id
    }

    /// Makes a value an output of the graph, behind those declared before.
    pub fn output(&mut self, id: ValueId) {
        self.graph.outputs.push(id);
    }

    /// Adds a constant and gives the value that stands for it.
    pub fn constant(&mut self, name: &str, constant: Constant) -> ValueId {
        let id = self.value(name, constant.dtype(), Shape::fixed(&constant.shape));
        self.graph.constants.insert(id, constant);
        id
    }

    /// Adds a value that a node pushed with [`Builder::node`] will produce.
    pub fn value(&mut self, name: &str, dtype: DType, shape: Shape) -> ValueId {
        let id = ValueId(self.graph.values.len() as u32);
        self.graph.values.push(Value {
            name: name.to_string(),
            dtype,
            shape,
        });
        id
    }

    /// The name of a value.
    pub fn name(&self, id: ValueId) -> &str {
        &self.graph.value(id).name
    }

    /// The shape of a value so far.
    pub fn shape(&self, id: ValueId) -> &Shape {
        &self.graph.value(id).shape
    }

    /// Appends any op whose output shape the caller knows. The output takes the node's name.
    pub fn node(
        &mut self,
        name: &str,
        op: Op,
        inputs: &[ValueId],
        shape: Shape,
        params: usize,
    ) -> ValueId {
        let out = self.value(name, DType::F32, shape);
        self.graph.nodes.push(Node {
            name: name.to_string(),
            op,
            inputs: inputs.to_vec(),
            outputs: vec![out],
            params,
        });
        out
    }

    /// Appends a node as it is; its outputs are values declared before.
    pub fn append(&mut self, node: Node) {
        self.graph.nodes.push(node);
    }

    /// A square 2-D convolution without bias. `weight` is `[channels, Cin/1, kernel, kernel]`.
    #[allow(clippy::too_many_arguments)]
    pub fn conv_with(
        &mut self,
        name: &str,
        x: ValueId,
        weight: Vec<f32>,
        channels: usize,
        kernel: usize,
        stride: usize,
        pad: usize,
        activation: Activation,
    ) -> ValueId {
        let cin = self.shape(x).0[1].at(1);
        let window = Window::square(kernel, stride, pad);
        let shape = self.windowed(x, channels, &window);
        let params = weight.len();
        let w = self.constant(
            &format!("{name}.weight"),
            Constant::f32(&[channels, cin, kernel, kernel], weight),
        );
        let op = Op::Conv {
            window,
            groups: 1,
            bias: false,
            residual: false,
            activation,
        };
        self.node(name, op, &[x, w], shape, params)
    }

    /// The shape `[N, channels, …]` that `window` makes of `x`.
    pub fn windowed(&self, x: ValueId, channels: usize, window: &Window) -> Shape {
        let input = self.shape(x);
        let mut dims = vec![input.0[0], Dim::Fixed(channels)];
        for (axis, d) in input.0[2..].iter().enumerate() {
            dims.push(Dim::Fixed(window.output(axis, d.at(1)).unwrap_or(0)));
        }
        Shape(dims)
    }

    /// Gives the graph as built so far.
    pub fn finish(self) -> Graph {
        self.graph
    }
}
