/*! Typed access to a node's attributes. */

use super::{ImportError, Importer};
use candle_onnx::onnx as proto;

impl Importer<'_> {
    pub(super) fn int(&self, node: &proto::NodeProto, name: &str, default: i64) -> i64 {
        attribute(node, name).map_or(default, |a| a.i)
    }

    pub(super) fn float(&self, node: &proto::NodeProto, name: &str, default: f32) -> f32 {
        attribute(node, name).map_or(default, |a| a.f)
    }

    pub(super) fn text(&self, node: &proto::NodeProto, name: &str, default: &str) -> String {
        let bytes = attribute(node, name).map(|a| String::from_utf8_lossy(&a.s).into_owned());
        bytes
            .filter(|s| !s.is_empty())
            .unwrap_or_else(|| default.to_string())
    }

    pub(super) fn int_list(&self, node: &proto::NodeProto, name: &str) -> Option<Vec<i64>> {
        attribute(node, name).map(|a| a.ints.clone())
    }

    /// A list of sizes: as many as `len` and none negative; `default` each if absent.
    pub(super) fn sizes(
        &self,
        node: &proto::NodeProto,
        name: &str,
        len: usize,
        default: usize,
    ) -> Result<Vec<usize>, ImportError> {
        let Some(list) = self.int_list(node, name) else {
            return Ok(vec![default; len]);
        };
        let sizes: Option<Vec<usize>> = list.iter().map(|&n| usize::try_from(n).ok()).collect();
        match sizes {
            Some(sizes) if sizes.len() == len => Ok(sizes),
            _ => Err(self.fail(node, format!("`{name}` is {list:?}, expected {len} sizes"))),
        }
    }
}

pub(super) fn attribute<'n>(
    node: &'n proto::NodeProto,
    name: &str,
) -> Option<&'n proto::AttributeProto> {
    node.attribute.iter().find(|a| a.name == name)
}
