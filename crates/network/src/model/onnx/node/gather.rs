/*! `GatherND`, as the reshape and the gather along one axis that it is where its indices are known. */

use super::super::{ImportError, Importer};
use crate::model::constant::Constant;
use crate::model::op::Op;
use candle_onnx::onnx as proto;

impl Importer<'_> {
    /// Exporters write a pooling whose windows differ in size this way.
    pub(super) fn gather_nd(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        if self.int(node, "batch_dims", 0) != 0 {
            return Err(self.fail(node, "batch_dims other than 0 is not supported"));
        }
        let x = self.input_id(node, 0)?;
        let dims = self.shape(x).0.clone();
        let extents = self.shape(self.input_id(node, 1)?).0.clone();
        let extents: Option<Vec<usize>> = extents.iter().map(|d| d.fixed()).collect();
        let indices = self.known_ints(node, 1)?.unwrap_or_default();
        let (depth, outer) = match extents.as_deref() {
            Some([outer @ .., depth]) if (1..=dims.len()).contains(depth) => (*depth, outer),
            _ => return Err(self.fail(node, "the indices don't fit the axes they index")),
        };
        let indexed: Option<Vec<usize>> = dims[..depth].iter().map(|d| d.fixed()).collect();
        let indexed = indexed.ok_or_else(|| self.fail(node, "indexes the batch"))?;
        let flat = indices.chunks(depth).map(|index| {
            index.iter().zip(&indexed).try_fold(0, |flat, (&i, &n)| {
                let n = n as i64;
                let from_front = if i < 0 { i.saturating_add(n) } else { i };
                let inside = (0..n).contains(&from_front);
                inside.then_some(flat * n + from_front)
            })
        });
        let flat: Option<Vec<i64>> = flat.collect();
        let flat = flat.ok_or_else(|| self.fail(node, "an index is out of range"))?;
        let mut to = vec![self.product(node, &dims[..depth])?];
        to.extend_from_slice(&dims[depth..]);
        let rows = match depth {
            1 => x,
            _ => self.step(node, Op::Reshape { to }, vec![x], 1)?,
        };
        let name = format!("{}/rows", node.output[0]);
        let flat = self.constant(&name, Constant::i64(outer, flat));
        self.push(node, Op::Gather { axis: 0 }, vec![rows, flat])
    }
}
