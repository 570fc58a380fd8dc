/*! From an ONNX node to a typed op: the dispatch, and what the families share. */

mod algebra;
mod gather;
mod layout;
mod spatial;

use super::ints::Int;
use super::{ImportError, Importer, attributes::attribute};
use crate::model::constant::{Constant, DType, Data};
use crate::model::graph::ValueId;
use crate::model::op::{Activation, Binary, Op, Unary};
use crate::model::shape::Dim;
use candle_onnx::onnx as proto;
use std::sync::Arc;

impl Importer<'_> {
    /// Imports one node whose inputs are all known.
    pub(super) fn node(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        if node.output.iter().all(String::is_empty) {
            return Err(self.fail(node, "has no outputs"));
        }
        if let Some(twice) = node.output.iter().find(|o| self.env.contains_key(*o)) {
            return Err(self.fail(node, format!("produces `{twice}`, which exists already")));
        }
        let own = ["", "ai.onnx", "com.microsoft"].contains(&node.domain.as_str());
        if own && self.fold_ints(node)? {
            return Ok(());
        }
        let known = own
            && (self.spatial(node)?
                || self.algebra(node)?
                || self.layout(node)?
                || self.trivial(node)?);
        if known {
            return Ok(());
        }
        let domain = match node.domain.as_str() {
            "" => String::new(),
            domain => format!(" (domain {domain})"),
        };
        Err(ImportError::UnknownOp {
            file: self.file.to_string(),
            node: super::name::of_node(node),
            op: format!("{}{domain}", node.op_type),
        })
    }

    /// Constants, and nodes that change nothing.
    fn trivial(&mut self, node: &proto::NodeProto) -> Result<bool, ImportError> {
        match node.op_type.as_str() {
            "Constant" => {
                let constant = self.constant_node(node)?;
                let id = self.constant(&node.output[0], constant);
                if let Some(floats) = self.graph.constants[&id].floats().filter(|f| f.len() > 1) {
                    self.unclaimed.insert(id, floats.len());
                }
                self.env.insert(node.output[0].clone(), id);
            }
            "ConstantOfShape" => {
                let constant = self.constant_of_shape(node)?;
                let id = self.constant(&node.output[0], constant);
                self.env.insert(node.output[0].clone(), id);
            }
            "Identity" => self.alias(node)?,
            "Dropout" => {
                let trains = node.input.get(2).filter(|n| !n.is_empty());
                let trains = trains.is_some_and(|n| {
                    // What is only known while running may be on.
                    let mode = self.ints(self.env[n]);
                    mode.is_none_or(|i| i.values != [Int::new(0)])
                });
                if trains {
                    return Err(self.fail(
                        node,
                        "training_mode is on, or an input: export the network for inference",
                    ));
                }
                self.alias(node)?;
                if let Some(mask) = node.output.get(1).filter(|m| !m.is_empty()) {
                    let shape = self.shape(self.env[&node.input[0]]).clone();
                    let dims: Option<Vec<usize>> = shape.0.iter().map(|d| d.fixed()).collect();
                    // Old exports name a mask that nobody reads; one that is read is missed there.
                    let Some(dims) = dims else { return Ok(true) };
                    let ones = vec![1u8; dims.iter().product()];
                    let data = Data::Bool(Arc::new(ones));
                    let id = self.constant(mask, Constant { shape: dims, data });
                    self.env.insert(mask.clone(), id);
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The first output is the first input.
    fn alias(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let id = self.input_id(node, 0)?;
        self.env.insert(node.output[0].clone(), id);
        Ok(())
    }

    fn constant_node(&self, node: &proto::NodeProto) -> Result<Constant, ImportError> {
        if let Some(tensor) = attribute(node, "value").and_then(|a| a.t.clone()) {
            return self.tensor(tensor);
        }
        if let Some(a) = attribute(node, "value_float") {
            return Ok(Constant::f32(&[], vec![a.f]));
        }
        if let Some(a) = attribute(node, "value_int") {
            return Ok(Constant::i64(&[], vec![a.i]));
        }
        if let Some(a) = attribute(node, "value_floats") {
            return Ok(Constant::f32(&[a.floats.len()], a.floats.clone()));
        }
        if let Some(a) = attribute(node, "value_ints") {
            return Ok(Constant::i64(&[a.ints.len()], a.ints.clone()));
        }
        Err(self.fail(
            node,
            "holds no tensor and no number (sparse and text constants are not supported)",
        ))
    }

    /// A filled float tensor (integers are folded before this is reached).
    fn constant_of_shape(&self, node: &proto::NodeProto) -> Result<Constant, ImportError> {
        let extents = self.known_ints(node, 0)?.unwrap_or_default();
        let extents: Option<Vec<usize>> =
            extents.iter().map(|&n| usize::try_from(n).ok()).collect();
        let extents = extents.ok_or_else(|| self.fail(node, "a negative extent"))?;
        let count = extents.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let count = count
            .filter(|&n| n <= 1 << 26)
            .ok_or_else(|| self.fail(node, "the result is too large"))?;
        let value = match attribute(node, "value").and_then(|a| a.t.clone()) {
            Some(tensor) => self.tensor(tensor)?,
            None => Constant::f32(&[1], vec![0.0]),
        };
        match &value.data {
            Data::F32(v) if v.len() == 1 => Ok(Constant::f32(&extents, vec![v[0]; count])),
            Data::I64(v) if v.len() == 1 => Ok(Constant::i64(&extents, vec![v[0]; count])),
            _ => Err(self.fail(node, "its value is neither one float nor one integer")),
        }
    }

    /// A required input.
    pub(super) fn input_id(
        &self,
        node: &proto::NodeProto,
        at: usize,
    ) -> Result<ValueId, ImportError> {
        let found = self.optional(node, at);
        found.ok_or_else(|| self.fail(node, format!("input {at} is missing")))
    }

    /// An input that may be left out.
    pub(super) fn optional(&self, node: &proto::NodeProto, at: usize) -> Option<ValueId> {
        node.input
            .get(at)
            .filter(|n| !n.is_empty())
            .map(|n| self.env[n])
    }

    /// All inputs, none of which may be left out.
    pub(super) fn all_inputs(&self, node: &proto::NodeProto) -> Result<Vec<ValueId>, ImportError> {
        (0..node.input.len())
            .map(|i| self.input_id(node, i))
            .collect()
    }

    /// Inputs up to the first that is left out; one behind a gap is an error.
    pub(super) fn leading(
        &self,
        node: &proto::NodeProto,
        most: usize,
    ) -> Result<Vec<ValueId>, ImportError> {
        let ids: Vec<_> = (0..most).map_while(|i| self.optional(node, i)).collect();
        match (ids.len()..most).any(|i| self.optional(node, i).is_some()) {
            true => Err(self.fail(
                node,
                format!("input {} is left out but a later one is not", ids.len()),
            )),
            false => Ok(ids),
        }
    }

    /// One number given as a constant input (of any float or integer type).
    pub(super) fn scalar(
        &self,
        node: &proto::NodeProto,
        at: usize,
    ) -> Result<Option<(f32, ValueId)>, ImportError> {
        let Some(id) = self.optional(node, at) else {
            return Ok(None);
        };
        let number = self.graph.constants.get(&id).and_then(|c| match &c.data {
            Data::F32(v) => v.first().copied(),
            Data::I64(v) => v.first().map(|&x| x as f32),
            Data::I32(v) => v.first().map(|&x| x as f32),
            Data::U8(v) | Data::Bool(v) => v.first().map(|&x| f32::from(x)),
            Data::I8(v) => v.first().map(|&x| f32::from(x)),
        });
        match number {
            Some(n) => Ok(Some((n, id))),
            None => Err(self.fail(
                node,
                format!(
                    "`{}` must be a number known before the network runs: bind it at import",
                    node.input[at]
                ),
            )),
        }
    }

    /// An axis counted from the front.
    pub(super) fn axis(
        &self,
        node: &proto::NodeProto,
        axis: i64,
        rank: usize,
    ) -> Result<usize, ImportError> {
        let from_front = if axis < 0 {
            axis.checked_add(rank as i64)
        } else {
            Some(axis)
        };
        let found = from_front
            .and_then(|a| usize::try_from(a).ok())
            .filter(|&a| a < rank);
        found.ok_or_else(|| self.fail(node, format!("axis {axis} of a tensor with {rank} axes")))
    }

    /// Appends the node's op with the node's own outputs.
    pub(super) fn push(
        &mut self,
        node: &proto::NodeProto,
        op: Op,
        inputs: Vec<ValueId>,
    ) -> Result<(), ImportError> {
        // Outputs behind the last one that is named and wanted don't exist.
        let named = node
            .output
            .iter()
            .rposition(|o| !o.is_empty())
            .map_or(0, |i| i + 1);
        let names: Vec<String> = node.output[..named]
            .iter()
            .enumerate()
            .map(|(i, o)| {
                if o.is_empty() {
                    format!("{}/{i}", node.output[0])
                } else {
                    o.clone()
                }
            })
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let ids = self.emit(node, op, inputs, &names)?;
        if ids.len() < names.len() {
            return Err(self.fail(
                node,
                format!("has {} outputs, {} are supported", names.len(), ids.len()),
            ));
        }
        for (name, id) in names.iter().zip(ids) {
            self.env.insert((*name).to_string(), id);
        }
        Ok(())
    }

    /// Appends an intermediate step of a node that becomes several.
    pub(super) fn step(
        &mut self,
        node: &proto::NodeProto,
        op: Op,
        inputs: Vec<ValueId>,
        n: usize,
    ) -> Result<ValueId, ImportError> {
        let name = format!("{}/{n}", node.output[0]);
        Ok(self.emit(node, op, inputs, &[&name])?[0])
    }

    /// Inputs combined one after the other (`Sum`, `Min`, `Max` of many).
    pub(super) fn chain(
        &mut self,
        node: &proto::NodeProto,
        op: Binary,
        mean: bool,
    ) -> Result<(), ImportError> {
        let inputs = self.all_inputs(node)?;
        let Some((&first, rest)) = inputs.split_first() else {
            return Err(self.fail(node, "has no inputs"));
        };
        let mut so_far = first;
        for (i, &next) in rest.iter().enumerate() {
            let pair = vec![so_far, next];
            let op = Op::Binary(op, Activation::NONE);
            if i + 1 == rest.len() && !mean {
                return self.push(node, op, pair);
            }
            so_far = self.step(node, op, pair, i + 1)?;
        }
        if mean && inputs.len() > 1 {
            let share = Constant::f32(&[], vec![1.0 / inputs.len() as f32]);
            let share = self.constant(&format!("{}/share", node.output[0]), share);
            return self.push(
                node,
                Op::Binary(Binary::Mul, Activation::NONE),
                vec![so_far, share],
            );
        }
        self.alias(node)
    }

    pub(super) fn unary(
        &mut self,
        node: &proto::NodeProto,
        op: Unary,
    ) -> Result<bool, ImportError> {
        let x = self.input_id(node, 0)?;
        self.push(node, Op::Unary(op), vec![x])?;
        Ok(true)
    }

    pub(super) fn binary(
        &mut self,
        node: &proto::NodeProto,
        op: Binary,
    ) -> Result<bool, ImportError> {
        let inputs = vec![self.input_id(node, 0)?, self.input_id(node, 1)?];
        self.push(node, Op::Binary(op, Activation::NONE), inputs)?;
        Ok(true)
    }

    /// The product of extents as one extent, if it is one.
    pub(super) fn product(
        &self,
        node: &proto::NodeProto,
        dims: &[Dim],
    ) -> Result<Dim, ImportError> {
        let mut fixed = 1usize;
        let mut batches = 0;
        for dim in dims {
            let (Dim::Fixed(n) | Dim::Batch(n)) = *dim;
            batches += usize::from(matches!(dim, Dim::Batch(_)));
            fixed = fixed
                .checked_mul(n)
                .ok_or_else(|| self.fail(node, "the extents overflow"))?;
        }
        match batches {
            0 => Ok(Dim::Fixed(fixed)),
            1 => Ok(Dim::Batch(fixed)),
            _ => Err(self.fail(node, "the batch size squared is no extent")),
        }
    }

    /// The element type a `to` attribute names.
    pub(super) fn type_attribute(
        &self,
        node: &proto::NodeProto,
        name: &str,
    ) -> Result<DType, ImportError> {
        let code = self.int(node, name, 0);
        let found = i32::try_from(code).ok().and_then(super::tensor::dtype);
        found.ok_or_else(|| {
            self.fail(
                node,
                format!("`{name}` is the element type {code}, which is not supported"),
            )
        })
    }
}
