/*! What candle's operations cover; everything else is refused when compiling. */

use crate::engine::TensorInfo;
use crate::model::op::{Binary, PoolKind, Unary};
use crate::model::{Constant, DType, Op};

/// Whether `op` runs on a device. The general path has accepted it. `known` are the inputs that are
/// constants. The error says what is not covered.
pub(super) fn check(
    op: &Op,
    ins: &[TensorInfo],
    outs: &[TensorInfo],
    known: &[Option<&Constant>],
) -> Result<(), String> {
    let name = format!("{op:?}");
    let name = name.split([' ', '{', '(']).next().unwrap_or_default();
    let refuse = |what: &str| Err(format!("{name}: {what}"));
    if ins.iter().chain(outs).any(|info| info.dims.contains(&0)) {
        return refuse("a tensor without elements");
    }
    let floats = |infos: &[TensorInfo]| infos.iter().all(|info| info.dtype == DType::F32);
    let dtype = ins[0].dtype;
    match op {
        Op::Conv { window, .. } if window.kernel.len() > 2 => refuse("three spatial axes"),
        Op::Pool { window, .. } if window.kernel.len() > 2 => refuse("three spatial axes"),
        Op::Pool { .. } if outs.len() > 1 => refuse("the indices of the maxima"),
        Op::Pool {
            kind: PoolKind::Max,
            ..
        } if dtype != DType::F32 => refuse("integers"),
        Op::Conv { .. }
        | Op::Pool { .. }
        | Op::GlobalPool { .. }
        | Op::Gemm { .. }
        | Op::MatMul
        | Op::BatchNorm { .. }
        | Op::LayerNorm { .. }
        | Op::InstanceNorm { .. }
        | Op::Lrn { .. }
        | Op::Softmax { .. }
        | Op::Resize { .. }
        | Op::Reduce { .. }
            if !floats(ins) =>
        {
            refuse("element types other than F32")
        }
        Op::ArgMax { .. } if dtype != DType::F32 => refuse("element types other than F32"),
        Op::Unary(Unary::Not) => Ok(()),
        Op::Unary(_) if dtype != DType::F32 => refuse("element types other than F32"),
        Op::Binary(op, _) => binary(*op, dtype, known.get(1).copied().flatten())
            .map_err(|what| format!("{name} {op:?}: {what}")),
        Op::Cast { to } => match (dtype, to) {
            (from, to) if from == *to => Ok(()),
            (_, DType::F32 | DType::I64 | DType::Bool) | (DType::Bool, DType::U8) => Ok(()),
            (from, to) => refuse(&format!("{from:?} to {to:?}")),
        },
        Op::Quantize { to, .. } if !matches!(to, DType::U8 | DType::I8) => {
            refuse(&format!("to {to:?}"))
        }
        _ => Ok(()),
    }
}

fn binary(op: Binary, dtype: DType, second: Option<&Constant>) -> Result<(), String> {
    match (op, dtype) {
        (Binary::Pow, DType::F32) => match second {
            // Candle's power of two tensors has no value for a negative base.
            Some(c) if c.len() == 1 => Ok(()),
            _ => Err("an exponent that isn't one constant".to_string()),
        },
        (_, DType::F32) => Ok(()),
        (
            Binary::Add
            | Binary::Sub
            | Binary::Mul
            | Binary::Min
            | Binary::Max
            | Binary::Equal
            | Binary::Greater
            | Binary::GreaterOrEqual
            | Binary::Less
            | Binary::LessOrEqual,
            DType::I64,
        )
        | (Binary::And | Binary::Or | Binary::Xor | Binary::Equal, DType::Bool) => Ok(()),
        _ => Err(format!("elements of type {dtype:?}")),
    }
}
