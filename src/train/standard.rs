/*!
Features of mean 0, variance 1 and no correlation before a head's first linear layer, while it learns.

Pooled features of one network differ in scale by a hundred times, between cuts and within one, and
neighbouring channels say much the same. On them as they are, an optimizer needs far more epochs than
a head is worth: linear heads of resnet20 came 8 to 12 points short of the optimum after 15. Scaled
they still miss up to 0.4 points, and those of early cuts a cross-entropy of 0.02; whitened they
reach the optimum to 0.0002. The optimum itself is the same, and so is the head: what was learnt on
whitened features is folded into the layer's weight and bias.
*/

use super::TrainError;
use crate::model::{Constant, Graph, Op, ValueId};
use candle_core::{Device, Tensor};

/// A feature that varies less is left as it is: it says nothing, and scaling would let it shout.
const LEAST: f64 = 1e-4;
/// Beyond so many features only their scale is mended: whitening would cost more than the head.
const WIDEST: usize = 256;
/// Samples a feature there must be: what few samples say in faint directions is mostly chance, and
/// whitened they would be learnt first.
const EACH: usize = 64;
/// Added to the variances of what is whitened, as a share of them, so that noise isn't made loud.
const NOISE: f64 = 1e-3;

/// What is done to the features of one head.
#[derive(Debug, Clone)]
pub(super) struct Standard {
    mean: Vec<f32>,
    /// Reciprocal of each feature's standard deviation.
    scale: Vec<f32>,
    /// What then takes their correlation away, `[deep, deep]`: row k is what scaled feature k adds
    /// to each. None: they stay correlated.
    mix: Option<Vec<f32>>,
    weight: ValueId,
    /// None: nothing could take the mean in, so it is left in the features.
    bias: Option<ValueId>,
    /// The weight is `[out, in]`, not `[in, out]`.
    turned: bool,
}

impl Standard {
    /// For a head whose input goes to one linear layer and nowhere else, from the features of some
    /// of the `samples` it learns from; none for other heads.
    pub(super) fn new(head: &Graph, features: &[f32], samples: usize) -> Option<Standard> {
        let input = *head.inputs.first()?;
        let consumers = head.consumers();
        let [only] = consumers.get(&input)?.as_slice() else {
            return None;
        };
        let node = &head.nodes[*only];
        let Op::Gemm {
            trans_a: false,
            trans_b,
            alpha,
            beta,
            ..
        } = node.op
        else {
            return None;
        };
        let own = |at: usize| {
            let id = *node.inputs.get(at)?;
            let alone = consumers.get(&id).is_some_and(|c| c.len() == 1);
            (alone && head.constants.get(&id)?.floats().is_some()).then_some(id)
        };
        let weight = own(1)?;
        let shape = &head.constants[&weight].shape;
        let (&[rows, columns], true) = (shape.as_slice(), node.inputs[0] == input) else {
            return None;
        };
        let (wide, deep) = match trans_b {
            true => (rows, columns),
            false => (columns, rows),
        };
        if deep == 0 || alpha != 1.0 || beta != 1.0 || features.len() < 2 * deep {
            return None;
        }
        let bias = own(2).filter(|id| head.constants[id].shape == [wide]);
        let count = (features.len() / deep) as f64;
        let (mut mean, mut scale) = (Vec::new(), Vec::new());
        for k in 0..deep {
            let column = features.iter().skip(k).step_by(deep);
            let column = column.map(|&v| f64::from(v));
            let middle = column.clone().sum::<f64>() / count;
            let variance = column.map(|v| (v - middle).powi(2)).sum::<f64>() / count;
            let deviation = variance.sqrt();
            let varies = deviation > LEAST;
            mean.push(if varies && bias.is_some() {
                middle as f32
            } else {
                0.0
            });
            scale.push(if varies {
                (1.0 / deviation) as f32
            } else {
                1.0
            });
        }
        let mix = match bias {
            // With the mean left in, the features' products are no covariance.
            Some(_) if deep <= WIDEST && samples >= EACH * deep => {
                whitening(features, &mean, &scale)
            }
            _ => None,
        };
        Some(Standard {
            mean,
            scale,
            mix,
            weight,
            bias,
            turned: trans_b,
        })
    }

    /// Subtracts each feature's mean and divides by its standard deviation.
    pub(super) fn apply(&self, mut features: Vec<f32>) -> Result<Vec<f32>, TrainError> {
        let deep = self.mean.len();
        for row in features.chunks_exact_mut(deep) {
            for ((v, mean), scale) in row.iter_mut().zip(&self.mean).zip(&self.scale) {
                *v = (*v - mean) * scale;
            }
        }
        let Some(mix) = &self.mix else {
            return Ok(features);
        };
        let rows = features.len() / deep;
        let x = Tensor::from_vec(features, (rows, deep), &Device::Cpu)?;
        let mix = Tensor::from_slice(mix, (deep, deep), &Device::Cpu)?;
        Ok(x.matmul(&mix)?.flatten_all()?.to_vec1()?)
    }

    /// Makes of a head over standardised features the same over features as they come.
    pub(super) fn fold(&self, head: &mut Graph) {
        let Some(weight) = head.constants.get(&self.weight) else {
            return;
        };
        let (shape, deep) = (weight.shape.clone(), self.mean.len());
        let mut values = weight.floats().unwrap_or_default().to_vec();
        let wide = values.len() / deep;
        let at = |o: usize, k: usize| match self.turned {
            true => o * deep + k,
            false => k * wide + o,
        };
        let mut shift = vec![0.0f64; wide];
        for (o, shift) in shift.iter_mut().enumerate() {
            let learnt: Vec<f64> = (0..deep).map(|k| f64::from(values[at(o, k)])).collect();
            for k in 0..deep {
                let mixed = match &self.mix {
                    Some(mix) => {
                        let row = mix[k * deep..][..deep].iter();
                        row.zip(&learnt).map(|(&m, w)| f64::from(m) * w).sum()
                    }
                    None => learnt[k],
                };
                let w = mixed * f64::from(self.scale[k]);
                values[at(o, k)] = w as f32;
                *shift += w * f64::from(self.mean[k]);
            }
        }
        let weight = Constant::f32(&shape, values);
        head.constants.insert(self.weight, weight);
        if let Some(id) = self.bias
            && let Some(bias) = head.constants.get(&id)
        {
            let shape = bias.shape.clone();
            let values = bias.floats().unwrap_or_default().iter().zip(&shift);
            let values = values.map(|(&b, s)| (f64::from(b) - s) as f32).collect();
            head.constants.insert(id, Constant::f32(&shape, values));
        }
    }
}

/// The matrix that takes the correlation of scaled features away: the inverse of the Cholesky factor
/// of their covariance, turned. The correlations found in n samples of d features are believed
/// n / (n + d), since few samples of many features correlate by chance.
fn whitening(features: &[f32], mean: &[f32], scale: &[f32]) -> Option<Vec<f32>> {
    let deep = mean.len();
    let count = features.len() / deep;
    let believed = count as f64 / (count + deep) as f64;
    let mut factor = vec![0.0f64; deep * deep];
    let mut row = vec![0.0f64; deep];
    for sample in features.chunks_exact(deep) {
        for (k, v) in row.iter_mut().enumerate() {
            *v = f64::from((sample[k] - mean[k]) * scale[k]);
        }
        for i in 0..deep {
            let by = row[i];
            let sums = factor[i * deep..].iter_mut().zip(&row[..=i]);
            sums.for_each(|(sum, v)| *sum += by * v);
        }
    }
    for i in 0..deep {
        for j in 0..=i {
            let share = if i == j { 1.0 + NOISE } else { believed };
            factor[i * deep + j] *= share / count as f64;
        }
        // A feature that stands still has no variance to divide by.
        if factor[i * deep + i] < LEAST {
            factor[i * deep + i] = 1.0;
        }
    }
    // Cholesky's L, in place, row by row.
    for i in 0..deep {
        for j in 0..=i {
            let (above, own) = factor.split_at_mut(i * deep);
            let known = if j < i {
                &above[j * deep..][..j]
            } else {
                &own[..j]
            };
            let sum: f64 = known.iter().zip(&own[..j]).map(|(a, b)| a * b).sum();
            let rest = own[j] - sum;
            own[j] = match j < i {
                true => rest / above[j * deep + j],
                false if rest > 0.0 => rest.sqrt(),
                false => return None,
            };
        }
    }
    // Its inverse, column by column, written turned: mix[k][i] is L⁻¹[i][k].
    let mut mix = vec![0.0f32; deep * deep];
    let mut column = vec![0.0f64; deep];
    for k in 0..deep {
        column.fill(0.0);
        for i in k..deep {
            let known = factor[i * deep + k..][..i - k].iter().zip(&column[k..i]);
            let sum: f64 = known.map(|(a, b)| a * b).sum();
            let unit = if i == k { 1.0 } else { 0.0 };
            column[i] = (unit - sum) / factor[i * deep + i];
            mix[k * deep + i] = column[i] as f32;
        }
    }
    Some(mix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Compiled;
    use crate::engine::{Cancel, Engine, Options};
    use crate::model::{Activation, Builder, Shape};
    use rstest::rstest;

    #[rstest]
    fn a_folded_head_gives_the_same(
        #[values(false, true)] turned: bool,
        #[values(false, true)] bias: bool,
    ) {
        let mut b = Builder::new("head");
        let x = b.input("x", Shape::batched(&[3]));
        let shape: &[usize] = if turned { &[2, 3] } else { &[3, 2] };
        let values = vec![0.5, -1.0, 2.0, 0.25, 1.5, -0.75];
        let mut ins = vec![x, b.constant("w", Constant::f32(shape, values))];
        if bias {
            ins.push(b.constant("b", Constant::f32(&[2], vec![0.5, -0.5])));
        }
        let op = Op::Gemm {
            trans_a: false,
            trans_b: turned,
            alpha: 1.0,
            beta: 1.0,
            activation: Activation::NONE,
        };
        let y = b.node("y", op, &ins, Shape::batched(&[2]), 0);
        b.output(y);
        let head = b.finish();
        // The second feature stands still.
        let features = [
            1.0, 7.0, 0.01, 3.0, 7.0, 0.03, 5.0, 7.0, -0.02, 9.0, 7.0, 0.08,
        ];
        let standard = Standard::new(&head, &features, 1000).unwrap();
        let scaled = Standard {
            mix: None,
            ..standard.clone()
        };
        let standardised = scaled.apply(features.to_vec()).unwrap();
        for k in [0, 2] {
            let column = || standardised.iter().skip(k).step_by(3);
            let squares: f32 = column().map(|v| v * v).sum();
            let mean = column().sum::<f32>() / 4.0;
            assert!(!bias || (squares / 4.0 - 1.0).abs() < 1e-5);
            assert_eq!(mean.abs() < 1e-5, bias);
        }
        let run = |head: &Graph, x: &[f32]| {
            let engine = Engine::new(head.clone(), &Options::default()).unwrap();
            engine.run_f32(4, &[x], &Cancel::new()).unwrap().remove(0)
        };
        assert_eq!(standard.mix.is_some(), bias);
        for standard in [standard, scaled] {
            let mut folded = head.clone();
            standard.fold(&mut folded);
            let standardised = standard.apply(features.to_vec()).unwrap();
            let (a, b) = (run(&head, &standardised), run(&folded, &features));
            for (a, b) in a.iter().zip(b) {
                assert!((a - b).abs() < 1e-4, "{a} {b}");
            }
        }
    }

    #[test]
    fn whitened_features_are_uncorrelated() {
        // The third is for the most part the sum of the other two.
        let noise = |i: usize| ((i as f32 * 12.9898).sin() * 43758.547).fract();
        let features: Vec<f32> = (0..2000)
            .flat_map(|i| {
                let (a, b) = (noise(i), 3.0 * noise(i + 5000));
                [a, b, a + b + noise(i + 9000)]
            })
            .collect();
        let mean: Vec<f32> = (0..3)
            .map(|k| features.iter().skip(k).step_by(3).sum::<f32>() / 2000.0)
            .collect();
        let scale = vec![1.0, 0.5, 2.0];
        let standard = Standard {
            mix: whitening(&features, &mean, &scale),
            mean,
            scale,
            weight: ValueId(0),
            bias: None,
            turned: true,
        };
        let white = standard.apply(features).unwrap();
        for i in 0..3 {
            for j in 0..3 {
                let rows = white.chunks_exact(3);
                let products = rows.map(|r| f64::from(r[i]) * f64::from(r[j]));
                let product = products.sum::<f64>() / 2000.0;
                let expected = if i == j { 1.0 } else { 0.0 };
                // The noise that is allowed for takes a little off, most where most is shared.
                assert!((product - expected).abs() < 0.15, "{i} {j} {product}");
            }
        }
    }
}
