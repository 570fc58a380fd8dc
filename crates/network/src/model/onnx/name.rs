/*! What a node is called. The file's own name is kept, so that an error can be found in the file; the
layer table tidies exporters' paths for people. */

use candle_onnx::onnx as proto;

/// The node's name; its first output's where it has none.
pub(super) fn of_node(node: &proto::NodeProto) -> String {
    let output = node.output.iter().find(|o| !o.is_empty());
    let named = Some(&node.name).filter(|n| !n.is_empty()).or(output);
    named.unwrap_or(&node.op_type).clone()
}

/// What the values between the steps of a node are called after: its first output.
pub(super) fn of_result(node: &proto::NodeProto) -> &str {
    let output = node.output.iter().find(|o| !o.is_empty());
    output.unwrap_or(&node.name)
}
