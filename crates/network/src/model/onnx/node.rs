/*! From an ONNX node to a typed op: the dispatch, and what the families share. */

mod algebra;
mod attention;
mod bits;
mod contrib;
pub(super) mod control;
mod einsum;
mod forms;
mod gather;
mod indexing;
mod layout;
mod quantized;
mod resample;
mod sample;
mod signal;
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
        if node.op_type.is_empty() {
            return Err(self.fail(node, "names no operator: the file is damaged"));
        }
        // A node that holds others goes on counting where it was.
        let outer = (self.first_of_node, self.steps);
        (self.first_of_node, self.steps) = (self.graph.values.len(), 0);
        let known = self.known_node(node)?;
        (self.first_of_node, self.steps) = outer;
        if known {
            return Ok(());
        }
        let domain = node.domain.as_str();
        let (op, why) = match domain {
            "" | "ai.onnx" => {
                let why = super::operators::why_not(&node.op_type);
                (node.op_type.clone(), why)
            }
            domain => (
                format!("{} (domain {domain})", node.op_type),
                Some(
                    "it is none of ONNX's own operators, and the file holds no function of this name",
                ),
            ),
        };
        Err(ImportError::UnknownOp {
            file: self.file.to_string(),
            node: super::name::of_node(node),
            op,
            why: why.unwrap_or("ONNX has no operator of this name"),
        })
    }

    /// Imports a node of any kind that is known. `false` if it is none.
    fn known_node(&mut self, node: &proto::NodeProto) -> Result<bool, ImportError> {
        let own = match node.domain.as_str() {
            "" | "ai.onnx" => self.own(node)?,
            "com.microsoft" => self.contrib(node)? || self.own(node)?,
            _ => false,
        };
        Ok(own || self.call(node)?)
    }

    /// Imports a node of ONNX's own operators. `false` if it is none that is known.
    fn own(&mut self, node: &proto::NodeProto) -> Result<bool, ImportError> {
        Ok(self.fold_ints(node)?
            || self.spatial(node)?
            || self.algebra(node)?
            || self.layout(node)?
            || self.trivial(node)?
            || self.quantized(node)?
            || self.forms(node)?
            || self.indexing(node)?
            || self.sample(node)?
            || self.signal(node)?
            || self.bits(node)?
            || self.control(node)?)
    }

    /// Constants, and nodes that change nothing.
    fn trivial(&mut self, node: &proto::NodeProto) -> Result<bool, ImportError> {
        match node.op_type.as_str() {
            "Constant" => {
                let constant = self.constant_node(node)?;
                let id = self.constant(&node.output[0], constant);
                if let Some(tensor) = attribute(node, "value").and_then(|a| a.t.as_ref()) {
                    self.codes.insert(id, tensor.data_type);
                }
                let size = self.graph.constants[&id].len();
                // A single number is a setting.
                if size > 1 {
                    self.unclaimed.insert(id, size);
                }
                self.env.insert(node.output[0].clone(), id);
            }
            "ConstantOfShape" => {
                let constant = self.constant_of_shape(node)?;
                let id = self.constant(&node.output[0], constant);
                self.env.insert(node.output[0].clone(), id);
            }
            "Range" => {
                let constant = self.float_range(node)?;
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
        if let Some(sparse) = attribute(node, "sparse_value").and_then(|a| a.sparse_tensor.as_ref())
        {
            return self.sparse(sparse);
        }
        Err(self.fail(
            node,
            "holds text, or nothing: networks here compute with numbers alone",
        ))
    }

    /// A filled float tensor (integers are folded before this is reached).
    fn constant_of_shape(&self, node: &proto::NodeProto) -> Result<Constant, ImportError> {
        let extents = self.known_ints(node, 0)?.unwrap_or_default();
        let extents: Option<Vec<usize>> =
            extents.iter().map(|&n| usize::try_from(n).ok()).collect();
        let extents = extents.ok_or_else(|| self.fail(node, "a negative extent"))?;
        let count = extents.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let count = count.filter(|&n| self.may_fill(n).is_some());
        let count = count.ok_or_else(|| self.fail(node, "the result is too large"))?;
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

    /// A range of floats (integers are folded before this is reached).
    fn float_range(&self, node: &proto::NodeProto) -> Result<Constant, ImportError> {
        let mut known = [0.0_f32; 3];
        for (at, number) in known.iter_mut().enumerate() {
            let given = self.scalar(node, at)?;
            *number = given.ok_or_else(|| self.fail(node, format!("input {at} is missing")))?;
        }
        let [start, limit, step] = known;
        let count = ((limit - start) / step).ceil().max(0.0);
        let fits = count.is_finite() && self.may_fill(count as usize).is_some();
        if !fits {
            return Err(self.fail(node, "the result is too large"));
        }
        let count = count as usize;
        let values = (0..count).map(|i| start + i as f32 * step).collect();
        Ok(Constant::f32(&[count], values))
    }

    /// Gives a node's input, or an error that names the one that is missing.
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
    ) -> Result<Option<f32>, ImportError> {
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
            Some(n) => Ok(Some(n)),
            None => Err(self.unknown_input(node, &node.input[at], "a number")),
        }
    }

    /// The floats of a constant input; `None` if it is left out or empty.
    pub(super) fn known_floats(
        &self,
        node: &proto::NodeProto,
        at: usize,
    ) -> Result<Option<Vec<f32>>, ImportError> {
        let Some(id) = self.optional(node, at) else {
            return Ok(None);
        };
        let constant = self.graph.constants.get(&id);
        let floats = constant.map(quantized::numbers);
        let floats = floats.ok_or_else(|| self.unknown_input(node, &node.input[at], "numbers"))?;
        Ok(Some(floats).filter(|f| !f.is_empty()))
    }

    /// An input that has to be known before the network runs, and isn't.
    pub(super) fn unknown_input(
        &self,
        node: &proto::NodeProto,
        name: &str,
        what: &'static str,
    ) -> ImportError {
        ImportError::Unbound {
            file: self.file.to_string(),
            node: format!("`{}` ({})", super::name::of_node(node), node.op_type),
            input: name.to_string(),
            what,
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
        let name = format!("{}/{n}", super::name::of_result(node));
        Ok(self.emit(node, op, inputs, &[&name])?[0])
    }

    /// Appends the step of a node that bears its name: the one that does the work.
    pub(super) fn main(
        &mut self,
        node: &proto::NodeProto,
        op: Op,
        inputs: Vec<ValueId>,
    ) -> Result<ValueId, ImportError> {
        let value = self.step_name(node);
        Ok(self.emit(node, op, inputs, &[&value])?[0])
    }

    /// Appends a step beside the one that bears the node's name.
    pub(super) fn aside(
        &mut self,
        node: &proto::NodeProto,
        op: Op,
        inputs: Vec<ValueId>,
    ) -> Result<ValueId, ImportError> {
        let value = self.step_name(node);
        let beside = proto::NodeProto {
            name: format!("{}/{}", super::name::of_node(node), self.steps),
            op_type: node.op_type.clone(),
            ..Default::default()
        };
        Ok(self.emit(&beside, op, inputs, &[&value])?[0])
    }

    /// A constant that a node brings along.
    pub(super) fn known(&mut self, node: &proto::NodeProto, constant: Constant) -> ValueId {
        let name = self.step_name(node);
        self.constant(&name, constant)
    }

    pub(super) fn step_name(&mut self, node: &proto::NodeProto) -> String {
        self.steps += 1;
        format!("{}/{}", super::name::of_result(node), self.steps)
    }

    /// The value with other extents; a constant stays one.
    pub(super) fn seen_as(
        &mut self,
        node: &proto::NodeProto,
        x: ValueId,
        to: Vec<Dim>,
    ) -> Result<ValueId, ImportError> {
        if self.shape(x).0 == to {
            return Ok(x);
        }
        let fixed: Option<Vec<usize>> = to.iter().map(|d| d.fixed()).collect();
        let constant = self.graph.constants.get(&x).zip(fixed);
        if let Some(seen) = constant.and_then(|(c, shape)| quantized::reshaped(c, shape)) {
            let id = self.known(node, seen);
            if let Some(size) = self.unclaimed.remove(&x) {
                self.unclaimed.insert(id, size);
            }
            return Ok(id);
        }
        self.aside(node, Op::Reshape { to }, vec![x])
    }

    /// The node's output is this value. One made for it takes the file's name.
    pub(super) fn name_output(&mut self, node: &proto::NodeProto, at: usize, id: ValueId) {
        let Some(name) = node.output.get(at).filter(|n| !n.is_empty()) else {
            return;
        };
        if id.0 as usize >= self.first_of_node {
            self.graph.values[id.0 as usize].name = name.clone();
        }
        self.env.insert(name.clone(), id);
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
        let inputs = self.alike(node, [self.input_id(node, 0)?, self.input_id(node, 1)?])?;
        self.push(node, Op::Binary(op, Activation::NONE), inputs.to_vec())?;
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
        let code = i32::try_from(code).unwrap_or(0);
        // What holds four bits here doesn't round to them.
        let whole = ![super::tensor::UINT4, super::tensor::INT4].contains(&code);
        let found = super::tensor::dtype(code).filter(|_| whole);
        found.ok_or_else(|| {
            self.fail(
                node,
                format!(
                    "`{name}` is the element type {}, which is not supported",
                    super::tensor::type_name(code)
                ),
            )
        })
    }
}
