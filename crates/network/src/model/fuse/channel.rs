/*! What scales or shifts each channel goes into the weights and the bias before it. */

use super::{Rewriting, constant_operand};
use crate::model::constant::Constant;
use crate::model::graph::ValueId;
use crate::model::op::{Binary, Op};
use crate::model::shape::Shape;

/// `x·scale + shift`, one pair an output channel.
struct PerChannel {
    scale: Vec<f64>,
    shift: Vec<f64>,
}

/// A batch norm goes into the convolution before it.
pub(super) fn batch_norm(work: &mut Rewriting, i: usize) -> bool {
    let Some(node) = work.node(i) else {
        return false;
    };
    let Op::BatchNorm { epsilon } = node.op else {
        return false;
    };
    let x = node.inputs[0];
    let stored: Option<Vec<&[f32]>> = node.inputs[1..].iter().map(|&v| work.floats(v)).collect();
    let Some([gamma, beta, mean, variance]) = stored.as_deref() else {
        return false;
    };
    let scale: Vec<f64> = gamma
        .iter()
        .zip(*variance)
        .map(|(&g, &v)| f64::from(g) / (f64::from(v) + f64::from(epsilon)).sqrt())
        .collect();
    let shift = scale.iter().zip(mean.iter().zip(*beta));
    let shift = shift
        .map(|(s, (&m, &b))| f64::from(b) - f64::from(m) * s)
        .collect();
    into_convolution(work, x, i, &PerChannel { scale, shift })
}

/// A constant factor or offset a channel goes into the convolution before it.
pub(super) fn affine(work: &mut Rewriting, i: usize) -> bool {
    for op in [Binary::Mul, Binary::Add, Binary::Sub, Binary::Div] {
        let Some((x, c)) = constant_operand(work, i, op) else {
            continue;
        };
        let Some(channels) = work.shape(x).0.get(1).and_then(|d| d.fixed()) else {
            return false;
        };
        let output = work.node(i).map(|n| n.outputs[0]);
        let kept = output.is_some_and(|y| work.shape(y) == work.shape(x));
        let Some(values) = per_channel(work, c, work.shape(x), channels).filter(|_| kept) else {
            return false;
        };
        let ones = || vec![1.0; channels];
        let zeros = || vec![0.0; channels];
        let map = |f: fn(f64) -> f64| values.iter().map(|&v| f(v)).collect();
        let (scale, shift) = match op {
            Binary::Mul => (values, zeros()),
            Binary::Div => (map(|v| 1.0 / v), zeros()),
            Binary::Sub => (ones(), map(|v| -v)),
            _ => (ones(), values),
        };
        if scale.iter().any(|s| !s.is_finite()) {
            return false;
        }
        return into_convolution(work, x, i, &PerChannel { scale, shift });
    }
    false
}

/// The constant as one number a channel, if it is constant over all other axes.
fn per_channel(work: &Rewriting, c: ValueId, x: &Shape, channels: usize) -> Option<Vec<f64>> {
    let values = work.floats(c)?;
    if values.len() == 1 {
        return Some(vec![f64::from(values[0]); channels]);
    }
    let shape = work.shape(c).at(1);
    let axis = x.rank() - 1;
    // Aligned from the back, as broadcasting does: [C, 1, 1] and [1, C, 1, 1] for images.
    let from_back = shape.iter().rev().position(|&d| d == channels)?;
    let only = shape.iter().product::<usize>() == channels;
    (only && from_back + 1 == axis && values.len() == channels)
        .then(|| values.iter().map(|&v| f64::from(v)).collect())
}

/// The weights of filters, each times its factor: in place where nobody else has them.
fn scaled(work: &mut Rewriting, id: ValueId, factors: &[f64]) -> ValueId {
    let scale = |weights: &mut [f32]| {
        let each = (weights.len() / factors.len().max(1)).max(1);
        for (filter, &s) in weights.chunks_mut(each).zip(factors) {
            filter
                .iter_mut()
                .for_each(|w| *w = (f64::from(*w) * s) as f32);
        }
    };
    if let Some(weights) = work.own_floats(id) {
        scale(weights);
        return id;
    }
    let mut weights = work.floats(id).unwrap_or_default().to_vec();
    scale(&mut weights);
    let shape = work.shape(id).at(1);
    work.replace(id, Constant::f32(&shape, weights))
}

/// Folds `map`, which node `i` applies to `x`, into the convolution that alone produces `x`.
fn into_convolution(work: &mut Rewriting, x: ValueId, i: usize, map: &PerChannel) -> bool {
    let Some(c) = work.sole_producer(x) else {
        return false;
    };
    let Some(conv) = work.node(c) else {
        return false;
    };
    let Op::Conv {
        bias,
        residual: false,
        activation,
        ..
    } = &conv.op
    else {
        return false;
    };
    let channels = map.scale.len();
    if !activation.is_none() || work.shape(conv.inputs[1]).at(1)[0] != channels {
        return false;
    }
    let had_bias = *bias;
    let (name, inputs, mut op) = (conv.name.clone(), conv.inputs.clone(), conv.op.clone());
    if work.floats(inputs[1]).is_none() {
        return false;
    }
    let old_bias = if had_bias {
        let Some(values) = work.floats(inputs[2]) else {
            return false;
        };
        values.to_vec()
    } else {
        vec![0.0; channels]
    };
    let unscaled = map.scale.iter().all(|&s| s == 1.0);
    let weight = match unscaled {
        true => inputs[1],
        false => scaled(work, inputs[1], &map.scale),
    };
    let shifted = old_bias
        .iter()
        .zip(map.scale.iter().zip(&map.shift))
        .map(|(&b, (s, t))| (f64::from(b) * s + t) as f32)
        .collect();
    let shifted = Constant::f32(&[channels], shifted);
    let new_bias = if had_bias {
        work.replace(inputs[2], shifted)
    } else {
        work.add(&format!("{name}.bias"), shifted)
    };
    if let Op::Conv { bias, .. } = &mut op {
        *bias = true;
    }
    work.set(c, op, vec![inputs[0], weight, new_bias]);
    work.absorb(c, i);
    true
}
