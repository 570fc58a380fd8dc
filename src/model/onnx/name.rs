/*! Names a user can read: `/layer1/layer1.0/conv1/Conv` is `layer1.0.conv1`. */

use candle_onnx::onnx as proto;

/// The node's own name, tidied; its first output's name where it has none.
pub(super) fn of_node(node: &proto::NodeProto) -> String {
    let output = node.output.iter().find(|o| !o.is_empty());
    let raw = match node.name.as_str() {
        "" => output.map_or("", String::as_str),
        name => name,
    };
    let tidy = tidy(raw, &node.op_type);
    if tidy.is_empty() {
        node.op_type.clone()
    } else {
        tidy
    }
}

fn tidy(raw: &str, op: &str) -> String {
    let Some(path) = raw.strip_prefix('/') else {
        return raw.to_string();
    };
    let mut parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    // PyTorch's last component is the op, numbered where a module holds several.
    if parts.len() > 1 && parts.last() == Some(&op) {
        parts.pop();
    }
    // A module's own path repeats its parent's: `layer1`, then `layer1.0`.
    let repeated = |i: usize| {
        parts.get(i + 1).is_some_and(|next| {
            let rest = next.strip_prefix(parts[i]);
            rest.is_some_and(|r| r.starts_with('.'))
        })
    };
    let kept: Vec<&str> = (0..parts.len())
        .filter(|&i| !repeated(i))
        .map(|i| parts[i])
        .collect();
    kept.join(".")
}

#[cfg(test)]
mod tests {
    use super::tidy;
    use rstest::rstest;

    #[rstest]
    #[case("/layer1/layer1.0/conv1/Conv", "Conv", "layer1.0.conv1")]
    #[case("/conv1/Conv", "Conv", "conv1")]
    #[case(
        "/features/features.1/conv/conv.0/conv.0.0/Conv",
        "Conv",
        "features.1.conv.0.0"
    )]
    #[case("/Add_3", "Add", "Add_3")]
    #[case("layer1.0.conv1", "Conv", "layer1.0.conv1")]
    #[case("model/conv2d/BiasAdd", "Conv", "model/conv2d/BiasAdd")]
    fn tidies(#[case] raw: &str, #[case] op: &str, #[case] tidied: &str) {
        assert_eq!(tidy(raw, op), tidied);
    }
}
