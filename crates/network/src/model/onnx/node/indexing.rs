/*!
Ops that pick, place and order elements by indices. Where the indices are known they come in as gathers
along one axis; where they are worked out while running, as comparisons with every index there is.
*/

use super::super::attributes::attribute;
use super::super::{ImportError, Importer};
use crate::model::constant::{Constant, DType, Data};
use crate::model::graph::ValueId;
use crate::model::op::{Activation, Binary, Op, Reduction};
use crate::model::shape::Dim;
use candle_onnx::onnx as proto;

/// Longest axis that is compared with itself, or with as many indices.
const MAX_COMPARED: usize = 4096;

const fn binary(op: Binary) -> Op {
    Op::Binary(op, Activation::NONE)
}

impl Importer<'_> {
    pub(super) fn indexing(&mut self, node: &proto::NodeProto) -> Result<bool, ImportError> {
        match node.op_type.as_str() {
            "GatherElements" => self.gather_elements(node)?,
            "ScatterElements" | "Scatter" => self.scatter_elements(node)?,
            "ScatterND" => self.scatter_nd(node)?,
            "TopK" => self.top_k(node)?,
            "Trilu" => self.trilu(node)?,
            "OneHot" => self.one_hot(node)?,
            "Hardmax" => self.hardmax(node)?,
            "CumSum" => self.cum_sum(node)?,
            "CumProd" => self.cum_prod(node)?,
            "NonZero" => self.non_zero(node)?,
            "Compress" => self.compress(node)?,
            "EyeLike" => self.eye_like(node)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// `0, 1, … n − 1` along an axis with `behind` axes behind it.
    fn counting(&mut self, node: &proto::NodeProto, n: usize, behind: usize) -> ValueId {
        let mut shape = vec![n];
        shape.extend(std::iter::repeat_n(1, behind));
        self.known(node, Constant::i64(&shape, (0..n as i64).collect()))
    }

    /// Indices of any integer type as I64, counted from the front of an axis of `n`.
    fn counted_from_front(
        &mut self,
        node: &proto::NodeProto,
        indices: ValueId,
        n: usize,
    ) -> Result<ValueId, ImportError> {
        if let Some(constant) = self.graph.constants.get(&indices) {
            let shape = constant.shape.clone();
            let list = self.integers(node, indices)?;
            let count = n as i64;
            let list = list.into_iter().map(|i| if i < 0 { i + count } else { i });
            let list: Vec<i64> = list.collect();
            if list.iter().any(|i| !(0..count).contains(i)) {
                return Err(self.fail(node, format!("an index is out of range, there are {n}")));
            }
            return Ok(self.known(node, Constant::i64(&shape, list)));
        }
        let mut at = indices;
        if self.graph.value(at).dtype != DType::I64 {
            at = self.aside(node, Op::Cast { to: DType::I64 }, vec![at])?;
        }
        let zero = self.known(node, Constant::i64(&[], vec![0]));
        let extent = self.known(node, Constant::i64(&[], vec![n as i64]));
        let below = self.aside(node, binary(Binary::Less), vec![at, zero])?;
        let wrapped = self.aside(node, binary(Binary::Add), vec![at, extent])?;
        self.aside(node, Op::Where, vec![below, wrapped, at])
    }

    /// The elements of a constant of integers, however many.
    pub(super) fn integers(
        &self,
        node: &proto::NodeProto,
        id: ValueId,
    ) -> Result<Vec<i64>, ImportError> {
        let found = self.graph.constants.get(&id).and_then(|c| match &c.data {
            Data::I64(v) => Some(v.to_vec()),
            Data::I32(v) => Some(v.iter().map(|&x| x.into()).collect()),
            Data::U8(v) | Data::Bool(v) => Some(v.iter().map(|&x| x.into()).collect()),
            Data::I8(v) => Some(v.iter().map(|&x| x.into()).collect()),
            Data::F32(_) => None,
        });
        found.ok_or_else(|| {
            let name = &self.graph.value(id).name;
            self.unknown_input(node, name, "indices")
        })
    }

    fn gather_elements(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let (x, indices) = (self.input_id(node, 0)?, self.input_id(node, 1)?);
        let dims = self.shape(x).0.clone();
        let axis = self.axis(node, self.int(node, "axis", 0), dims.len())?;
        let n = self.fixed_extent(node, dims[axis], axis)?;
        let picked = self.shape(indices).0.clone();
        let same = picked.len() == dims.len()
            && (0..dims.len())
                .all(|i| i == axis || picked[i] == dims[i] || dims[i] == Dim::Fixed(1));
        if !same || n > MAX_COMPARED {
            let what = format!("picks {} of {}", self.shape(indices), self.shape(x));
            return Err(self.fail(node, format!("{what}, which is not supported")));
        }
        // One axis more: `[…, picked, …, n]` compared with every index there is.
        let at = self.counted_from_front(node, indices, n)?;
        let mut to = picked;
        to.push(Dim::Fixed(1));
        let at = self.seen_as(node, at, to)?;
        let every = self.counting(node, n, 0);
        let hit = self.main(node, binary(Binary::Equal), vec![at, every])?;
        let mut perm: Vec<usize> = (0..dims.len()).filter(|&i| i != axis).collect();
        perm.insert(axis, dims.len());
        perm.push(axis);
        let mut wide = dims.clone();
        wide.push(Dim::Fixed(1));
        let x = self.seen_as(node, x, wide)?;
        let x = self.aside(node, Op::Transpose { perm }, vec![x])?;
        let y = self.picked(node, hit, x)?;
        self.name_output(node, 0, y);
        Ok(())
    }

    /// The only element along the last axis that `hit` marks.
    fn picked(
        &mut self,
        node: &proto::NodeProto,
        hit: ValueId,
        x: ValueId,
    ) -> Result<ValueId, ImportError> {
        let zero = self.zero_of(node, x)?;
        let kept = self.aside(node, Op::Where, vec![hit, x, zero])?;
        let last = self.shape(kept).rank() - 1;
        let sum = Op::Reduce {
            kind: Reduction::Sum,
            axes: vec![last],
            keep: false,
        };
        self.aside(node, sum, vec![kept])
    }

    fn zero_of(&mut self, node: &proto::NodeProto, x: ValueId) -> Result<ValueId, ImportError> {
        let data = match self.graph.value(x).dtype {
            DType::F32 => Data::F32(vec![0.0].into()),
            DType::I64 => Data::I64(vec![0].into()),
            DType::I32 => Data::I32(vec![0].into()),
            DType::U8 => Data::U8(vec![0].into()),
            DType::I8 => Data::I8(vec![0].into()),
            DType::Bool => return Err(self.fail(node, "booleans are not supported")),
        };
        let shape = Vec::new();
        Ok(self.known(node, Constant { shape, data }))
    }

    /// `x` with some of its elements replaced: `from[i]` is the place in `x` and the updates, one
    /// behind the other, of the result's element `i`.
    fn replaced(
        &mut self,
        node: &proto::NodeProto,
        x: ValueId,
        updates: ValueId,
        from: Vec<i64>,
    ) -> Result<(), ImportError> {
        let to = self.shape(x).0.clone();
        let flat = |dims: &[Dim]| dims.iter().map(|d| d.at(1)).product::<usize>();
        let (n, m) = (flat(&to), flat(&self.shape(updates).0.clone()));
        let x = self.seen_as(node, x, vec![Dim::Fixed(n)])?;
        let updates = self.seen_as(node, updates, vec![Dim::Fixed(m)])?;
        let both = self.aside(node, Op::Concat { axis: 0 }, vec![x, updates])?;
        let from = self.known(node, Constant::i64(&[n], from));
        let y = self.main(node, Op::Gather { axis: 0 }, vec![both, from])?;
        let y = self.seen_as(node, y, to)?;
        self.name_output(node, 0, y);
        Ok(())
    }

    /// Extents of a tensor whose elements are placed one by one.
    fn placed_extents(
        &self,
        node: &proto::NodeProto,
        x: ValueId,
    ) -> Result<Vec<usize>, ImportError> {
        if self.text(node, "reduction", "none") != "none" {
            return Err(self.fail(node, "a reduction is not supported"));
        }
        let dims: Option<Vec<usize>> = self.shape(x).0.iter().map(|d| d.fixed()).collect();
        dims.ok_or_else(|| self.fail(node, "places elements across the batch"))
    }

    fn scatter_nd(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let [x, indices, updates] = [0, 1, 2].map(|i| self.input_id(node, i));
        let (x, indices, updates) = (x?, indices?, updates?);
        let dims = self.placed_extents(node, x)?;
        let list = self.integers(node, indices)?;
        let depth = self.shape(indices).at(1).last().copied().unwrap_or(0);
        if !(1..=dims.len()).contains(&depth) {
            return Err(self.fail(node, "the indices don't fit the axes they index"));
        }
        let block: usize = dims[depth..].iter().product();
        let n: usize = dims.iter().product();
        let mut from: Vec<i64> = (0..n as i64).collect();
        for (row, index) in list.chunks(depth).enumerate() {
            let flat = index.iter().zip(&dims).try_fold(0, |flat, (&i, &d)| {
                let i = if i < 0 { i + d as i64 } else { i };
                let i = usize::try_from(i).ok().filter(|&i| i < d)?;
                Some(flat * d + i)
            });
            let flat = flat.ok_or_else(|| self.fail(node, "an index is out of range"))?;
            for k in 0..block {
                from[flat * block + k] = (n + row * block + k) as i64;
            }
        }
        self.replaced(node, x, updates, from)
    }

    fn scatter_elements(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let [x, indices, updates] = [0, 1, 2].map(|i| self.input_id(node, i));
        let (x, indices, updates) = (x?, indices?, updates?);
        let dims = self.placed_extents(node, x)?;
        let axis = self.axis(node, self.int(node, "axis", 0), dims.len())?;
        let list = self.integers(node, indices)?;
        let shape = self.shape(indices).at(1);
        let fits = shape.len() == dims.len() && shape.iter().zip(&dims).all(|(s, d)| s <= d);
        if !fits {
            return Err(self.fail(node, "the indices don't fit the axes they index"));
        }
        let n: usize = dims.iter().product();
        let mut from: Vec<i64> = (0..n as i64).collect();
        for (i, &index) in list.iter().enumerate() {
            let extent = dims[axis] as i64;
            let index = if index < 0 { index + extent } else { index };
            if !(0..extent).contains(&index) {
                return Err(self.fail(node, "an index is out of range"));
            }
            let (mut left, mut at, mut stride) = (i, 0, 1);
            for a in (0..dims.len()).rev() {
                let own = left % shape[a];
                left /= shape[a];
                at += stride * if a == axis { index as usize } else { own };
                stride *= dims[a];
            }
            from[at] = (n + i) as i64;
        }
        self.replaced(node, x, updates, from)
    }

    /// The largest (or smallest) of an axis in order: an element's place is the number of those that
    /// go before it.
    fn top_k(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let dims = self.shape(x).0.clone();
        let axis = self.axis(node, self.int(node, "axis", -1), dims.len())?;
        let n = self.fixed_extent(node, dims[axis], axis)?;
        let k = match attribute(node, "k") {
            Some(_) => Some(self.int(node, "k", 0)),
            None => self.known_ints(node, 1)?.and_then(|k| k.first().copied()),
        };
        let k = k.and_then(|k| usize::try_from(k).ok()).filter(|&k| k <= n);
        let k = k.ok_or_else(|| self.fail(node, format!("k is missing, or more than {n}")))?;
        if n > MAX_COMPARED {
            return Err(self.fail(node, format!("orders {n} elements, at most {MAX_COMPARED}")));
        }
        let last = dims.len() - 1;
        let mut perm: Vec<usize> = (0..dims.len()).collect();
        perm.swap(axis, last);
        let turn = Op::Transpose { perm };
        let turned = match axis == last {
            true => x,
            false => self.aside(node, turn.clone(), vec![x])?,
        };
        let outer: Vec<Dim> = self.shape(turned).0[..last].to_vec();
        let with = |a: usize, b: usize| [&outer[..], &[Dim::Fixed(a), Dim::Fixed(b)]].concat();
        // Row: the element; column: one that may go before it.
        let rows = self.seen_as(node, turned, with(n, 1))?;
        let columns = self.seen_as(node, turned, with(1, n))?;
        let largest = self.int(node, "largest", 1) != 0;
        let beats = if largest {
            Binary::Greater
        } else {
            Binary::Less
        };
        let beaten = self.main(node, binary(beats), vec![columns, rows])?;
        let equal = self.aside(node, binary(Binary::Equal), vec![columns, rows])?;
        let earlier = (0..n * n)
            .map(|i| u8::from(i % n < i / n))
            .collect::<Vec<u8>>();
        let earlier = Constant {
            shape: vec![n, n],
            data: Data::Bool(earlier.into()),
        };
        let earlier = self.known(node, earlier);
        let tied = self.aside(node, binary(Binary::And), vec![equal, earlier])?;
        let before = self.aside(node, binary(Binary::Or), vec![beaten, tied])?;
        let before = self.aside(node, Op::Cast { to: DType::F32 }, vec![before])?;
        let count = Op::Reduce {
            kind: Reduction::Sum,
            axes: vec![last + 1],
            keep: false,
        };
        let place = self.aside(node, count, vec![before])?;
        let place = self.seen_as(node, place, with(1, n))?;
        let wanted = Constant::f32(&[k, 1], (0..k).map(|i| i as f32).collect());
        let wanted = self.known(node, wanted);
        let hit = self.aside(node, binary(Binary::Equal), vec![place, wanted])?;
        let values = self.picked(node, hit, columns)?;
        let every = self.counting(node, n, 0);
        let indices = self.picked(node, hit, every)?;
        for (at, mut y) in [values, indices].into_iter().enumerate() {
            if axis != last {
                y = self.aside(node, turn.clone(), vec![y])?;
            }
            self.name_output(node, at, y);
        }
        Ok(())
    }

    fn trilu(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let dims = self.shape(x).0.clone();
        let [.., h, w] = dims[..] else {
            return Err(self.fail(node, "takes matrices"));
        };
        let rank = dims.len();
        let h = self.fixed_extent(node, h, rank - 2)?;
        let w = self.fixed_extent(node, w, rank - 1)?;
        let shift = self.known_ints(node, 1)?.and_then(|k| k.first().copied());
        let shift = shift.unwrap_or(0);
        let upper = self.int(node, "upper", 1) != 0;
        let kept = |i: usize| {
            let beyond = (i % w) as i64 - (i / w) as i64 - shift;
            u8::from(if upper { beyond >= 0 } else { beyond <= 0 })
        };
        let mask = Constant {
            shape: vec![h, w],
            data: Data::Bool((0..h * w).map(kept).collect::<Vec<u8>>().into()),
        };
        let mask = self.known(node, mask);
        let zero = self.zero_of(node, x)?;
        self.push(node, Op::Where, vec![mask, x, zero])
    }

    fn one_hot(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let indices = self.input_id(node, 0)?;
        let depth = self.known_ints(node, 1)?.and_then(|d| d.first().copied());
        let depth = depth.and_then(|d| usize::try_from(d).ok());
        let depth = depth.ok_or_else(|| self.fail(node, "its depth is no number"))?;
        let values = self.input_id(node, 2)?;
        let rank = self.shape(indices).rank();
        let axis = self.axis(node, self.int(node, "axis", -1), rank + 1)?;
        let mut indices = indices;
        if self.graph.value(indices).dtype != DType::I64 {
            indices = self.aside(node, Op::Cast { to: DType::I64 }, vec![indices])?;
        }
        let at = self.counted_from_front(node, indices, depth)?;
        let mut to = self.shape(at).0.clone();
        to.insert(axis, Dim::Fixed(1));
        let at = self.seen_as(node, at, to)?;
        let every = self.counting(node, depth, rank - axis);
        let hit = self.aside(node, binary(Binary::Equal), vec![at, every])?;
        let mut pair = Vec::new();
        for i in 0..2 {
            let at = self.known(node, Constant::i64(&[], vec![i]));
            pair.push(self.aside(node, Op::Gather { axis: 0 }, vec![values, at])?);
        }
        self.push(node, Op::Where, vec![hit, pair[1], pair[0]])
    }

    /// One at the first of the largest, else zero.
    fn hardmax(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let dims = self.shape(x).0.clone();
        let old = self.opset < 13;
        let axis = self.int(node, "axis", if old { 1 } else { -1 });
        let axis = self.axis(node, axis, dims.len())?;
        if old && axis + 1 != dims.len() {
            return Err(self.fail(node, "over several axes (before opset 13) is not supported"));
        }
        let n = self.fixed_extent(node, dims[axis], axis)?;
        let first = Op::ArgMax {
            axis,
            keep: true,
            last: false,
            min: false,
        };
        let first = self.main(node, first, vec![x])?;
        let every = self.counting(node, n, dims.len() - 1 - axis);
        let hit = self.aside(node, binary(Binary::Equal), vec![first, every])?;
        self.push(node, Op::Cast { to: DType::F32 }, vec![hit])
    }

    /// Sums so far, as the product with a triangle of ones.
    fn cum_sum(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let dims = self.shape(x).0.clone();
        let axis = self.known_ints(node, 1)?.and_then(|a| a.first().copied());
        let axis = self.axis(node, axis.unwrap_or(0), dims.len())?;
        let n = self.fixed_extent(node, dims[axis], axis)?;
        if n > MAX_COMPARED {
            return Err(self.fail(
                node,
                format!("adds up {n} elements, at most {MAX_COMPARED}"),
            ));
        }
        let whole = i64::from(self.int(node, "exclusive", 0) == 0);
        let back = self.int(node, "reverse", 0) != 0;
        let rows = (0..n * n).map(|i| {
            let (to, from) = ((i / n) as i64, (i % n) as i64);
            let ahead = if back { from - to } else { to - from };
            f32::from(u8::from(ahead + whole > 0))
        });
        let rows = rows.collect();
        let dtype = self.graph.value(x).dtype;
        let mut y = self.as_floats(node, x)?;
        let single = dims.len() == 1;
        if single {
            y = self.seen_as(node, y, vec![Dim::Fixed(1), dims[0]])?;
        }
        y = self.times_matrix(node, y, axis + usize::from(single), [n, n], rows)?;
        if single {
            y = self.seen_as(node, y, dims)?;
        }
        if dtype != DType::F32 {
            y = self.aside(node, Op::Cast { to: dtype }, vec![y])?;
        }
        self.name_output(node, 0, y);
        Ok(())
    }

    /// Products up to each element: of all elements of the axis, those that don't count taken as 1.
    fn cum_prod(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let dims = self.shape(x).0.clone();
        let axis = self.known_ints(node, 1)?.and_then(|a| a.first().copied());
        let axis = self.axis(node, axis.unwrap_or(0), dims.len())?;
        let n = self.fixed_extent(node, dims[axis], axis)?;
        if n > MAX_COMPARED {
            let what = format!("multiplies {n} elements, at most {MAX_COMPARED}");
            return Err(self.fail(node, what));
        }
        let whole = i64::from(self.int(node, "exclusive", 0) == 0);
        let back = self.int(node, "reverse", 0) != 0;
        // One axis more, before the one that is multiplied: `[…, to, from, …]`.
        let counts = (0..n * n).map(|i| {
            let (to, from) = ((i / n) as i64, (i % n) as i64);
            let ahead = if back { from - to } else { to - from };
            u8::from(ahead + whole > 0)
        });
        let mut shape = vec![n, n];
        shape.extend(std::iter::repeat_n(1, dims.len() - axis - 1));
        let data = Data::Bool(counts.collect::<Vec<u8>>().into());
        let counts = self.known(node, Constant { shape, data });
        let dtype = self.graph.value(x).dtype;
        let x = self.as_floats(node, x)?;
        let mut wide = dims;
        wide.insert(axis, Dim::Fixed(1));
        let wide = self.seen_as(node, x, wide)?;
        let one = self.single(node, 1.0);
        let kept = self.aside(node, Op::Where, vec![counts, wide, one])?;
        let product = Op::Reduce {
            kind: Reduction::Prod,
            axes: vec![axis + 1],
            keep: false,
        };
        let mut y = self.main(node, product, vec![kept])?;
        if dtype != DType::F32 {
            y = self.aside(node, Op::Cast { to: dtype }, vec![y])?;
        }
        self.name_output(node, 0, y);
        Ok(())
    }

    /// Where a constant is not zero, one row per axis. Of what is worked out while running, how many those
    /// are would depend on the values.
    fn non_zero(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let Some(constant) = self.graph.constants.get(&x) else {
            return Err(self.unknown_input(node, &node.input[0], "numbers"));
        };
        let numbers = super::quantized::numbers(constant);
        let shape = constant.shape.clone();
        let found: Vec<usize> = (0..numbers.len()).filter(|&i| numbers[i] != 0.0).collect();
        let mut rows = Vec::with_capacity(shape.len() * found.len());
        for axis in 0..shape.len() {
            let behind: usize = shape[axis + 1..].iter().product();
            rows.extend(found.iter().map(|i| (i / behind % shape[axis]) as i64));
        }
        let id = self.known(node, Constant::i64(&[shape.len(), found.len()], rows));
        self.name_output(node, 0, id);
        Ok(())
    }

    fn compress(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let mut x = self.input_id(node, 0)?;
        let condition = self.input_id(node, 1)?;
        let kept = self.integers(node, condition)?.into_iter().enumerate();
        let kept: Vec<i64> = kept
            .filter(|(_, c)| *c != 0)
            .map(|(i, _)| i as i64)
            .collect();
        let axis = match attribute(node, "axis") {
            Some(_) => self.axis(node, self.int(node, "axis", 0), self.shape(x).rank())?,
            None => {
                let all = self.product(node, &self.shape(x).0.clone())?;
                x = self.seen_as(node, x, vec![all])?;
                0
            }
        };
        let kept = self.known(node, Constant::i64(&[kept.len()], kept));
        self.push(node, Op::Gather { axis }, vec![x, kept])
    }

    fn eye_like(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let x = self.input_id(node, 0)?;
        let [Dim::Fixed(h), Dim::Fixed(w)] = self.shape(x).0[..] else {
            return Err(self.fail(node, "takes one matrix whose extents are known"));
        };
        let shift = self.int(node, "k", 0);
        let one = |i: usize| f32::from(u8::from((i % w) as i64 - (i / w) as i64 == shift));
        let eye = Constant::f32(&[h, w], (0..h * w).map(one).collect());
        let to = match self.int(node, "dtype", 0) {
            0 => self.graph.value(x).dtype,
            _ => self.type_attribute(node, "dtype")?,
        };
        let mut y = self.known(node, eye);
        if to != DType::F32 {
            y = self.main(node, Op::Cast { to }, vec![y])?;
        }
        self.name_output(node, 0, y);
        Ok(())
    }
}
