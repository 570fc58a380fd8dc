/*!
Ops on the bits of integers known before the network runs: no network here computes with integers that are
only known while it runs, but shapes, masks and tables of an export may be made so.
*/

use super::super::{ImportError, Importer};
use crate::model::constant::{Constant, DType, Data};
use crate::model::graph::ValueId;
use candle_onnx::onnx as proto;
use std::sync::Arc;

impl Importer<'_> {
    pub(super) fn bits(&mut self, node: &proto::NodeProto) -> Result<bool, ImportError> {
        let op = node.op_type.as_str();
        match op {
            "BitwiseNot" => {
                let (x, bits) = self.whole_numbers(node, 0)?;
                let values = x.iter().map(|&a| bits.kept(!a)).collect();
                self.bits_of(node, 0, values)?;
            }
            "BitwiseAnd" | "BitwiseOr" | "BitwiseXor" | "BitShift" => {
                let (a, bits) = self.whole_numbers(node, 0)?;
                let (b, _) = self.whole_numbers(node, 1)?;
                let left = self.text(node, "direction", "") == "LEFT";
                let count = a.len().max(b.len());
                let alike = [&a, &b].iter().all(|list| [1, count].contains(&list.len()));
                let shapes =
                    [0, 1].map(|at| self.input_id(node, at).map(|id| self.shape(id).clone()));
                let [one, other] = shapes;
                if !alike || (a.len() == b.len() && one? != other?) {
                    return Err(self.fail(
                        node,
                        "only extents that are alike, or one number, are supported",
                    ));
                }
                let at = |list: &[i64], i: usize| list[if list.len() == 1 { 0 } else { i }];
                let pair = |i: usize| (at(&a, i), at(&b, i));
                let values = (0..count).map(|i| {
                    let (a, b) = pair(i);
                    bits.kept(match op {
                        "BitwiseAnd" => a & b,
                        "BitwiseOr" => a | b,
                        "BitwiseXor" => a ^ b,
                        _ => bits.shifted(a, b, left),
                    })
                });
                self.bits_of(node, usize::from(b.len() > a.len()), values.collect())?;
            }
            "BitCast" => self.bit_cast(node)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The whole numbers of a constant input, and their bits.
    fn whole_numbers(
        &self,
        node: &proto::NodeProto,
        at: usize,
    ) -> Result<(Vec<i64>, Bits), ImportError> {
        let id = self.input_id(node, at)?;
        let code = self.codes.get(&id).copied();
        let values = match self.graph.constants.get(&id).map(|c| &c.data) {
            Some(Data::F32(_)) => return Err(self.fail(node, "works on the bits of integers")),
            Some(_) => self.integers(node, id)?,
            None => return Err(self.unknown_input(node, &node.input[at], "integers")),
        };
        Ok((values, Bits::of(code, self.graph.value(id).dtype)))
    }

    /// The node's output: numbers of the type and extents of an input.
    fn bits_of(
        &mut self,
        node: &proto::NodeProto,
        like: usize,
        values: Vec<i64>,
    ) -> Result<(), ImportError> {
        let (x, like) = (self.input_id(node, 0)?, self.input_id(node, like)?);
        let dims = self.shape(like).0.iter().map(|d| d.fixed());
        let shape: Option<Vec<usize>> = dims.collect();
        let shape = shape.ok_or_else(|| self.fail(node, "its extents depend on the batch"))?;
        let data = match self.graph.value(x).dtype {
            DType::I32 => Data::I32(Arc::new(values.iter().map(|&n| n as i32).collect())),
            DType::U8 => Data::U8(Arc::new(values.iter().map(|&n| n as u8).collect())),
            DType::I8 => Data::I8(Arc::new(values.iter().map(|&n| n as i8).collect())),
            DType::Bool => return Err(self.fail(node, "works on the bits of integers")),
            _ => Data::I64(Arc::new(values)),
        };
        self.known_output(node, Constant { shape, data }, self.codes.get(&x).copied());
        Ok(())
    }

    fn known_output(&mut self, node: &proto::NodeProto, constant: Constant, code: Option<i32>) {
        let id: ValueId = self.constant(&node.output[0], constant);
        if let Some(code) = code {
            self.codes.insert(id, code);
        }
        self.env.insert(node.output[0].clone(), id);
    }

    /// The bits of a constant read as another type of as many.
    fn bit_cast(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let to = self.type_attribute(node, "to")?;
        let id = self.input_id(node, 0)?;
        let Some(constant) = self.graph.constants.get(&id).cloned() else {
            return Err(self.unknown_input(node, &node.input[0], "numbers"));
        };
        let data = match (&constant.data, to) {
            (Data::F32(v), DType::I32) => {
                Data::I32(Arc::new(v.iter().map(|x| x.to_bits() as i32).collect()))
            }
            (Data::I32(v), DType::F32) => Data::F32(Arc::new(
                v.iter().map(|&x| f32::from_bits(x as u32)).collect(),
            )),
            (Data::U8(v), DType::I8) => Data::I8(Arc::new(v.iter().map(|&x| x as i8).collect())),
            (Data::I8(v), DType::U8) => Data::U8(Arc::new(v.iter().map(|&x| x as u8).collect())),
            (data, to) if constant.dtype() == to => data.clone(),
            _ => {
                return Err(self.fail(
                    node,
                    "only types of as many bits, as they are held here, are supported",
                ));
            }
        };
        let shape = constant.shape;
        let code = i32::try_from(self.int(node, "to", 0)).ok();
        self.known_output(node, Constant { shape, data }, code);
        Ok(())
    }
}

/// How wide integers are, and whether they have a sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bits {
    width: u32,
    signed: bool,
}

impl Bits {
    /// By the element type of the file where it is known, else by the one that holds them here.
    fn of(code: Option<i32>, dtype: DType) -> Bits {
        use proto::tensor_proto::DataType;
        let file = code.and_then(|code| DataType::try_from(code).ok());
        let (width, signed) = match (file, dtype) {
            (Some(DataType::Uint8), _) | (None, DType::U8) => (8, false),
            (Some(DataType::Uint16), _) => (16, false),
            (Some(DataType::Uint32), _) => (32, false),
            (Some(DataType::Uint64), _) => (64, false),
            _ => (64, true),
        };
        Bits { width, signed }
    }

    /// The bits that there are.
    fn kept(self, n: i64) -> i64 {
        match (self.signed, self.width) {
            (true, _) | (_, 64) => n,
            (false, width) => n & ((1_i64 << width) - 1),
        }
    }

    /// Zeros come in from the other side.
    fn shifted(self, n: i64, by: i64, left: bool) -> i64 {
        let by = u32::try_from(by).ok().filter(|&by| by < self.width);
        let moved = by.and_then(|by| match left {
            true => (n as u64).checked_shl(by),
            false => (n as u64).checked_shr(by),
        });
        moved.unwrap_or(0) as i64
    }
}
