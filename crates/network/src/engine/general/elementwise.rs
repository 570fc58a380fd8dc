/*! Functions of one or two elements, and conversions. */

use super::broadcast::{Rows, broadcast, broadcast_strides};
use super::view::{Number, View, ViewMut, by_number};
use super::{Team, TensorInfo, Work, expect_dims, expect_type, piece};
use crate::model::op::{Binary, Unary};
use crate::model::{Activation, DType};
use bytemuck::Pod;

fn map<T: Pod + Sync, U: Pod + Send>(f: impl Fn(T) -> U + Send + Sync + 'static) -> Work {
    Box::new(move |ins: &[View], outs: &mut [ViewMut], team: Team| {
        let (x, y) = (ins[0].of::<T>(), outs[0].of::<U>());
        // A function such as the exponential takes some tens of cycles.
        let len = piece(16);
        team.pieces(y, len, |i, y| {
            let x = &x[i * len..][..y.len()];
            y.iter_mut().zip(x).for_each(|(y, &x)| *y = f(x));
        });
        Ok(())
    })
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// Calls `$apply` with the scalar function of a unary op. A macro, so that each function gets a
/// loop of its own.
macro_rules! with_unary {
    ($unary:expr, $apply:ident) => {
        match $unary {
            Unary::Relu => $apply(|x: f32| if x > 0.0 { x } else { 0.0 }),
            Unary::LeakyRelu { alpha } => {
                $apply(move |x: f32| if x >= 0.0 { x } else { alpha * x })
            }
            Unary::Elu { alpha } => {
                $apply(move |x: f32| if x >= 0.0 { x } else { alpha * x.exp_m1() })
            }
            Unary::Selu { alpha, gamma } => {
                $apply(move |x: f32| gamma * if x > 0.0 { x } else { alpha * x.exp_m1() })
            }
            Unary::Sigmoid => $apply(sigmoid),
            Unary::HardSigmoid { alpha, beta } => {
                $apply(move |x: f32| (alpha * x + beta).clamp(0.0, 1.0))
            }
            Unary::HardSwish => $apply(|x: f32| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
            Unary::Silu => $apply(|x: f32| x * sigmoid(x)),
            Unary::Tanh => $apply(f32::tanh),
            Unary::Gelu { tanh: false } => $apply(|x: f32| {
                0.5 * x
                    * (1.0 + candle_core::cpu::erf::erf_f32(x * std::f32::consts::FRAC_1_SQRT_2))
            }),
            Unary::Gelu { tanh: true } => $apply(|x: f32| {
                let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
                0.5 * x * (1.0 + inner.tanh())
            }),
            Unary::Softplus => $apply(softplus),
            Unary::Softsign => $apply(|x: f32| x / (1.0 + x.abs())),
            Unary::Mish => $apply(|x: f32| x * softplus(x).tanh()),
            Unary::Erf => $apply(candle_core::cpu::erf::erf_f32),
            Unary::Exp => $apply(f32::exp),
            Unary::Log => $apply(f32::ln),
            Unary::Sqrt => $apply(f32::sqrt),
            Unary::Reciprocal => $apply(|x: f32| 1.0 / x),
            Unary::Neg => $apply(|x: f32| -x),
            Unary::Abs => $apply(f32::abs),
            Unary::Sign => $apply(|x: f32| if x == 0.0 { 0.0 } else { x.signum() }),
            Unary::Floor => $apply(f32::floor),
            Unary::Ceil => $apply(f32::ceil),
            Unary::Round => $apply(f32::round_ties_even),
            Unary::Sin => $apply(f32::sin),
            Unary::Cos => $apply(f32::cos),
            Unary::Clip { low, high } => $apply(move |x: f32| clamp(x, low, high)),
            Unary::Not => return Err("Not of floats".to_string()),
        }
    };
}

/// `min(max(x, low), high)`, which keeps NaN; `f32::clamp` would panic where `low > high`.
#[inline]
pub(super) fn clamp(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

fn float_map(f: impl Fn(f32) -> f32 + Send + Sync + 'static) -> Work {
    map::<f32, f32>(f)
}

pub(super) fn unary(unary: Unary, ins: &[TensorInfo], outs: &[TensorInfo]) -> Result<Work, String> {
    let dtype = ins[0].dtype;
    expect_type("a result", &outs[0], dtype)?;
    expect_dims("a result", &outs[0], &ins[0].dims)?;
    match (unary, dtype) {
        (Unary::Not, DType::Bool) => Ok(map::<u8, u8>(|x| u8::from(x == 0))),
        (_, DType::F32) => Ok(with_unary!(unary, float_map)),
        (Unary::Relu, _) => by_number!(dtype, T => Ok(map::<T, T>(Number::positive))),
        (Unary::Abs, _) => by_number!(dtype, T => Ok(map::<T, T>(Number::abs))),
        (Unary::Neg, DType::I64 | DType::I32 | DType::I8) => {
            by_number!(dtype, T => Ok(map::<T, T>(|x| Number::sub(T::ZERO, x))))
        }
        (Unary::Sign, _) => by_number!(dtype, T => Ok(map::<T, T>(Number::sign))),
        (Unary::Clip { low, high }, _) => by_number!(dtype, T => {
            let (low, high) = (T::from_f64(f64::from(low)), T::from_f64(f64::from(high)));
            Ok(map::<T, T>(move |x| x.max(low).min(high)))
        }),
        _ => Err(format!("{unary:?} of type {dtype:?}")),
    }
}

fn zip<T: Pod + Sync, U: Pod + Send>(
    rows: Rows<2>,
    f: impl Fn(T, T) -> U + Send + Sync + 'static,
) -> Work {
    Box::new(move |ins: &[View], outs: &mut [ViewMut], team: Team| {
        let (a, b, y) = (ins[0].of::<T>(), ins[1].of::<T>(), outs[0].of::<U>());
        let row = |[a0, b0]: [usize; 2], step: [usize; 2], y: &mut [U]| match step {
            [1, 1] => {
                let (a, b) = (&a[a0..a0 + y.len()], &b[b0..b0 + y.len()]);
                for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
                    *y = f(a, b);
                }
            }
            [1, 0] => {
                let (a, b) = (&a[a0..a0 + y.len()], b[b0]);
                y.iter_mut().zip(a).for_each(|(y, &a)| *y = f(a, b));
            }
            _ => {
                for (i, y) in y.iter_mut().enumerate() {
                    *y = f(a[a0 + i * step[0]], b[b0 + i * step[1]]);
                }
            }
        };
        rows.shared_out(y, piece(2), team, row);
        Ok(())
    })
}

/// Like [`zip`] for integer division, which has no value where `b` is zero.
fn zip_divide<T: Number>(rows: Rows<2>, f: impl Fn(T, T) -> T + Send + Sync + 'static) -> Work {
    let inner = zip::<T, T>(rows, f);
    Box::new(move |ins: &[View], outs: &mut [ViewMut], team: Team| {
        if T::INTEGER && ins[1].of::<T>().contains(&T::ZERO) {
            return Err("an integer division by zero".to_string());
        }
        inner(ins, outs, team)
    })
}

pub(super) fn binary(
    op: Binary,
    activation: Activation,
    ins: &[TensorInfo],
    outs: &[TensorInfo],
) -> Result<Work, String> {
    let (a, b) = (&ins[0], &ins[1]);
    if a.dtype != b.dtype {
        return Err(format!("{op:?} of types {:?} and {:?}", a.dtype, b.dtype));
    }
    let dims = broadcast(&a.dims, &b.dims)?;
    expect_dims("a result", &outs[0], &dims)?;
    let rows = Rows::new(
        &dims,
        [
            broadcast_strides(&a.dims, &dims),
            broadcast_strides(&b.dims, &dims),
        ],
    );
    let compares = matches!(
        op,
        Binary::Equal
            | Binary::Greater
            | Binary::GreaterOrEqual
            | Binary::Less
            | Binary::LessOrEqual
            | Binary::And
            | Binary::Or
            | Binary::Xor
    );
    expect_type(
        "a result",
        &outs[0],
        if compares { DType::Bool } else { a.dtype },
    )?;
    if !activation.is_none() && (compares || a.dtype != DType::F32) {
        return Err(format!("a clamp fused to {op:?} of type {:?}", a.dtype));
    }
    let dtype = a.dtype;
    match op {
        Binary::And | Binary::Or | Binary::Xor => {
            expect_type("an operand", a, DType::Bool)?;
            return Ok(match op {
                Binary::And => zip::<u8, u8>(rows, |a, b| a & b),
                Binary::Or => zip::<u8, u8>(rows, |a, b| a | b),
                _ => zip::<u8, u8>(rows, |a, b| a ^ b),
            });
        }
        Binary::Equal if dtype == DType::Bool => {
            return Ok(zip::<u8, u8>(rows, |a, b| u8::from(a == b)));
        }
        _ => {}
    }
    let work: Result<Work, String> = by_number!(dtype, T => Ok(match op {
        Binary::Add => zip::<T, T>(rows, Number::add),
        Binary::Sub => zip::<T, T>(rows, Number::sub),
        Binary::Mul => zip::<T, T>(rows, Number::mul),
        Binary::Div => zip_divide::<T>(rows, Number::div),
        Binary::Mod => zip_divide::<T>(rows, Number::modulo),
        Binary::Pow => zip::<T, T>(rows, Number::pow),
        // NaN wins, as numpy has it.
        Binary::Min => zip::<T, T>(rows, |a, b| if a < b || !is_number(a) { a } else { b }),
        Binary::Max => zip::<T, T>(rows, |a, b| if a > b || !is_number(a) { a } else { b }),
        Binary::PRelu => zip::<T, T>(rows, Number::leak),
        Binary::Equal => zip::<T, u8>(rows, |a, b| u8::from(a == b)),
        Binary::Greater => zip::<T, u8>(rows, |a, b| u8::from(a > b)),
        Binary::GreaterOrEqual => zip::<T, u8>(rows, |a, b| u8::from(a >= b)),
        Binary::Less => zip::<T, u8>(rows, |a, b| u8::from(a < b)),
        Binary::LessOrEqual => zip::<T, u8>(rows, |a, b| u8::from(a <= b)),
        Binary::And | Binary::Or | Binary::Xor => return Err(format!("{op:?} of numbers")),
    }));
    Ok(clamped(work?, activation))
}

#[allow(clippy::eq_op, reason = "only NaN differs from itself")]
fn is_number<T: PartialEq + Copy>(x: T) -> bool {
    x == x
}

/// `work`, and then the clamp on its first output (of floats).
pub(super) fn clamped(work: Work, activation: Activation) -> Work {
    if activation.is_none() {
        return work;
    }
    Box::new(move |ins: &[View], outs: &mut [ViewMut], team: Team| {
        work(ins, outs, team)?;
        team.pieces(outs[0].of::<f32>(), piece(1), |_, y| {
            y.iter_mut()
                .for_each(|y| *y = clamp(*y, activation.low, activation.high));
        });
        Ok(())
    })
}

pub(super) fn cast(to: DType, ins: &[TensorInfo], outs: &[TensorInfo]) -> Result<Work, String> {
    expect_dims("a result", &outs[0], &ins[0].dims)?;
    expect_type("a result", &outs[0], to)?;
    let from = ins[0].dtype;
    if from == to {
        return super::arrange::copy(ins, outs);
    }
    match (from, to) {
        (DType::Bool, _) => by_number!(to, U => Ok(map::<u8, U>(|x| {
            if x != 0 { U::ONE } else { U::ZERO }
        }))),
        (_, DType::Bool) => by_number!(from, T => Ok(map::<T, u8>(|x| u8::from(x != T::ZERO)))),
        _ => by_number!(from, T => by_number!(to, U => Ok(map::<T, U>(|x| x as U)))),
    }
}
