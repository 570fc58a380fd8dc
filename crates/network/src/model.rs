/*!
The network as a graph.

What may live here: the graph and its typed ops, shape inference with a symbolic batch, ONNX import
and export, simplification and fusion, the layer table with its legal cuts and costs, and the
networks built in. Nothing here runs a network, starts a thread or draws; only `onnx` touches files.
*/

pub mod build;
pub mod constant;
mod ending;
pub mod export;
pub mod fuse;
pub mod graph;
pub mod infer;
pub mod layers;
mod loosen;
pub mod onnx;
pub mod op;
pub mod peak;
pub mod shape;
pub mod signature;
pub mod zoo;

pub use build::Builder;
pub use constant::{Constant, DType, Data};
pub use fuse::{ends_in_softmax, fuse, without_softmax};
pub use graph::{Graph, GraphError, Node, OwnExit, Value, ValueId};
pub use infer::{Operand, ShapeError, infer};
pub use layers::{Layer, LayerError, LayerTable};
pub use op::{Activation, Op};
pub use peak::peak_bytes;
pub use shape::{Dim, Shape};
pub use signature::Signature;
