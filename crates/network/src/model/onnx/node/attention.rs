/*! Attention as one op of ONNX (opset 23 on), in the steps that its definition names. */

use super::super::{ImportError, Importer};
use super::forms::binary;
use crate::model::constant::{Constant, DType};
use crate::model::graph::ValueId;
use crate::model::op::{Binary, Op, Unary};
use crate::model::shape::Dim;
use candle_onnx::onnx as proto;

/// What a masked score becomes: nothing after the softmax, and no NaN where all are masked.
const MASKED: f32 = -1e30;

impl Importer<'_> {
    /// `softmax(q · kᵀ · scale + mask) · v` for each head.
    pub(super) fn attention(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let caches = ["past_key", "past_value", "nonpad_kv_seqlen"];
        let cached = (4..)
            .zip(caches)
            .find(|(at, _)| self.optional(node, *at).is_some());
        if let Some((_, name)) = cached {
            let what = format!("keeps earlier words (`{name}`), which is for text generation");
            return Err(self.fail(node, what));
        }
        if node.output.iter().skip(1).any(|name| !name.is_empty()) {
            return Err(self.fail(node, "only its first output is supported"));
        }
        let flat = self.shape(self.input_id(node, 0)?).rank() == 3;
        let [q, k, v] = [(0, "q_num_heads"), (1, "kv_num_heads"), (2, "kv_num_heads")]
            .map(|(at, heads)| self.heads(node, at, heads));
        let (q, k, v) = (q?, k?, v?);
        let (queries, keys) = (self.shape(q).0.clone(), self.shape(k).0.clone());
        let extent = |at: usize| self.fixed_extent(node, queries[at], at);
        let (heads, depth) = (extent(1)?, extent(3)?);
        let sources = self.fixed_extent(node, keys[1], 1)?;
        if sources == 0 || heads % sources != 0 {
            let what = format!("{heads} heads of queries don't divide into {sources} of keys");
            return Err(self.fail(node, what));
        }
        let scale = self.float(node, "scale", 1.0 / (depth as f32).sqrt());
        let scale = self.single(node, scale);
        let q = self.aside(node, binary(Binary::Mul), vec![q, scale])?;
        // Several heads of queries share one of keys: one axis more.
        let shared = vec![
            queries[0],
            Dim::Fixed(sources),
            Dim::Fixed(heads / sources),
            queries[2],
            queries[3],
        ];
        let q = self.seen_as(node, q, shared.clone())?;
        let (k, v) = (self.one_more(node, k)?, self.one_more(node, v)?);
        let perm = vec![0, 1, 2, 4, 3];
        let k = self.aside(node, Op::Transpose { perm }, vec![k])?;
        let scores = self.aside(node, Op::MatMul, vec![q, k])?;
        let whole = vec![queries[0], queries[1], queries[2], keys[2]];
        let mut scores = self.seen_as(node, scores, whole)?;
        let cap = self.float(node, "softcap", 0.0);
        if cap > 0.0 {
            let cap = self.single(node, cap);
            scores = self.aside(node, binary(Binary::Div), vec![scores, cap])?;
            scores = self.aside(node, Op::Unary(Unary::Tanh), vec![scores])?;
            scores = self.aside(node, binary(Binary::Mul), vec![scores, cap])?;
        }
        let scores = self.masked(node, scores)?;
        let softmax = Op::Softmax {
            axis: 3,
            flatten: false,
            log: false,
        };
        let weights = self.aside(node, softmax, vec![scores])?;
        let mut apart = shared[..4].to_vec();
        apart.push(keys[2]);
        let weights = self.seen_as(node, weights, apart)?;
        let y = self.main(node, Op::MatMul, vec![weights, v])?;
        let wide = self.shape(v).0[4];
        let mut y = self.seen_as(node, y, vec![queries[0], queries[1], queries[2], wide])?;
        if flat {
            let perm = vec![0, 2, 1, 3];
            y = self.aside(node, Op::Transpose { perm }, vec![y])?;
            let wide = Dim::Fixed(heads * self.fixed_extent(node, wide, 3)?);
            y = self.seen_as(node, y, vec![queries[0], queries[2], wide])?;
        }
        self.name_output(node, 0, y);
        Ok(())
    }

    /// An input as `[N, heads, positions, depth]`; one of three axes holds the heads one behind the other.
    fn heads(
        &mut self,
        node: &proto::NodeProto,
        at: usize,
        attribute: &str,
    ) -> Result<ValueId, ImportError> {
        let x = self.input_id(node, at)?;
        let dims = self.shape(x).0.clone();
        match dims[..] {
            [_, _, _, _] => Ok(x),
            [n, positions, all] => {
                let all = self.fixed_extent(node, all, 2)?;
                let heads = usize::try_from(self.int(node, attribute, 0)).unwrap_or(0);
                if heads == 0 || all % heads != 0 {
                    let what =
                        format!("{all} numbers don't divide into `{attribute}`, {heads} heads");
                    return Err(self.fail(node, what));
                }
                let apart = vec![n, positions, Dim::Fixed(heads), Dim::Fixed(all / heads)];
                let apart = self.seen_as(node, x, apart)?;
                let perm = vec![0, 2, 1, 3];
                self.aside(node, Op::Transpose { perm }, vec![apart])
            }
            _ => Err(self.fail(node, "queries, keys and values have three or four axes")),
        }
    }

    /// `[N, heads, positions, depth]` with an axis of 1 behind the heads.
    fn one_more(&mut self, node: &proto::NodeProto, x: ValueId) -> Result<ValueId, ImportError> {
        let mut dims = self.shape(x).0.clone();
        dims.insert(2, Dim::Fixed(1));
        self.seen_as(node, x, dims)
    }

    /// The scores with what may not be looked at taken away.
    fn masked(
        &mut self,
        node: &proto::NodeProto,
        mut scores: ValueId,
    ) -> Result<ValueId, ImportError> {
        let dims = self.shape(scores).0.clone();
        if let Some(mut mask) = self.optional(node, 3) {
            let last = self.shape(mask).0.last().copied();
            if ![Some(dims[3]), Some(Dim::Fixed(1))].contains(&last) {
                return Err(self.fail(node, "its mask is shorter than the keys"));
            }
            if self.graph.value(mask).dtype == DType::Bool {
                let [seen, unseen] = [0.0, MASKED].map(|n| self.single(node, n));
                mask = self.aside(node, Op::Where, vec![mask, seen, unseen])?;
            }
            scores = self.aside(node, binary(Binary::Add), vec![scores, mask])?;
        }
        let causal = self.int(node, "is_causal", 0) != 0;
        let [left, right] =
            ["left_window_size", "right_window_size"].map(|name| self.int(node, name, -1));
        if !causal && left < 0 && right < 0 {
            return Ok(scores);
        }
        let rows = self.fixed_extent(node, dims[2], 2)?;
        let columns = self.fixed_extent(node, dims[3], 3)?;
        let mut mask = Vec::with_capacity(rows * columns);
        for row in 0..rows as i64 {
            for column in 0..columns as i64 {
                let ahead = column - row;
                let hidden = (causal && ahead > 0)
                    || (left >= 0 && -ahead > left)
                    || (right >= 0 && ahead > right);
                mask.push(if hidden { MASKED } else { 0.0 });
            }
        }
        let mask = self.known(node, Constant::f32(&[rows, columns], mask));
        self.aside(node, binary(Binary::Add), vec![scores, mask])
    }

    /// Pairs of numbers of each head, turned by an angle that goes with the position.
    pub(super) fn rotary(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let dims = self.shape(x).0.clone();
        let flat = dims.len() == 3;
        // The axes of heads and positions: in a flat input positions come first.
        let x = match (flat, self.int(node, "num_heads", 0)) {
            (true, heads) if heads > 0 => {
                let (heads, all) = (heads as usize, self.fixed_extent(node, dims[2], 2)?);
                if all % heads != 0 {
                    return Err(self.fail(
                        node,
                        format!("{all} numbers don't divide into {heads} heads"),
                    ));
                }
                let apart = vec![dims[0], dims[1], Dim::Fixed(heads), Dim::Fixed(all / heads)];
                self.seen_as(node, x, apart)?
            }
            (false, _) if dims.len() == 4 => x,
            _ => return Err(self.fail(node, "takes four axes, or three and `num_heads`")),
        };
        let whole = self.shape(x).0.clone();
        let depth = self.fixed_extent(node, whole[3], 3)?;
        let turned = usize::try_from(self.int(node, "rotary_embedding_dim", 0)).unwrap_or(0);
        let turned = if turned == 0 { depth } else { turned };
        if turned > depth || turned % 2 != 0 {
            return Err(self.fail(
                node,
                format!("{turned} of {depth} numbers can't be turned in pairs"),
            ));
        }
        let angles = [1, 2].map(|at| self.angles(node, at, flat, turned / 2));
        let [cos, sin] = angles;
        let (cos, sin) = (cos?, sin?);
        let (part, rest) = match depth - turned {
            0 => (x, None),
            rest => {
                let [part, rest] = self.split_in_two(node, x, 3, vec![turned, rest])?;
                (part, Some(rest))
            }
        };
        let half = Dim::Fixed(turned / 2);
        let narrow = vec![whole[0], whole[1], whole[2], half];
        let mixed = self.int(node, "interleaved", 0) != 0;
        let [a, b] = match mixed {
            true => {
                let pairs = [&narrow[..], &[Dim::Fixed(2)]].concat();
                let pairs = self.seen_as(node, part, pairs)?;
                let [a, b] = self.split_in_two(node, pairs, 4, vec![1, 1])?;
                [
                    self.seen_as(node, a, narrow.clone())?,
                    self.seen_as(node, b, narrow.clone())?,
                ]
            }
            false => self.split_in_two(node, part, 3, vec![turned / 2; 2])?,
        };
        let [ac, bs, as_, bc] = [(a, cos), (b, sin), (a, sin), (b, cos)]
            .map(|(x, by)| self.aside(node, binary(Binary::Mul), vec![x, by]));
        let first = self.aside(node, binary(Binary::Sub), vec![ac?, bs?])?;
        let second = self.aside(node, binary(Binary::Add), vec![as_?, bc?])?;
        let mut y = match mixed {
            true => {
                let apart = [&narrow[..], &[Dim::Fixed(1)]].concat();
                let both = [first, second].map(|x| self.seen_as(node, x, apart.clone()));
                let [first, second] = both;
                let pairs = self.main(node, Op::Concat { axis: 4 }, vec![first?, second?])?;
                let to = vec![whole[0], whole[1], whole[2], Dim::Fixed(turned)];
                self.seen_as(node, pairs, to)?
            }
            false => self.main(node, Op::Concat { axis: 3 }, vec![first, second])?,
        };
        if let Some(rest) = rest {
            y = self.aside(node, Op::Concat { axis: 3 }, vec![y, rest])?;
        }
        let y = self.seen_as(node, y, dims)?;
        self.name_output(node, 0, y);
        Ok(())
    }

    /// A cache of cosines or sines as `[N or 1, 1, positions, half]`; the axes in the middle change places for a
    /// flat input.
    fn angles(
        &mut self,
        node: &proto::NodeProto,
        at: usize,
        flat: bool,
        half: usize,
    ) -> Result<ValueId, ImportError> {
        let mut cache = self.input_id(node, at)?;
        if let Some(positions) = self.optional(node, 3) {
            cache = self.aside(node, Op::Gather { axis: 0 }, vec![cache, positions])?;
        }
        let dims = self.shape(cache).0.clone();
        let &[n, positions, wide] = dims.as_slice() else {
            return Err(self.fail(
                node,
                "cosines and sines are of each position, or named by `position_ids`",
            ));
        };
        if wide.fixed() != Some(half) {
            return Err(self.fail(node, format!("its cosines or sines are {wide}, not {half}")));
        }
        let one = Dim::Fixed(1);
        let to = match flat {
            true => vec![n, positions, one, wide],
            false => vec![n, one, positions, wide],
        };
        self.seen_as(node, cache, to)
    }
}
