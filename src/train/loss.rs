/*! What a batch's logits come to: against labels, smoothed or not, and against a teacher's answers. */

use super::TrainError;
use super::settings::Distill;
use candle_core::Tensor;

/// What a batch's logits come to.
pub(super) struct Loss {
    /// Mean over the batch.
    pub mean: f64,
    /// How many were right.
    pub right: usize,
    /// Of the mean, by the logits.
    pub gradient: Vec<f32>,
}

/// What logits are held against.
#[derive(Clone, Copy)]
pub(super) struct LossTarget<'a> {
    pub labels: &'a [u16],
    /// Share of the target spread over all classes.
    pub smoothing: f64,
    /// A teacher's logits for the same samples, and what they count.
    pub teacher: Option<(Distill, &'a [f32])>,
}

/// The loss of logits `[samples, classes]`: cross-entropy with label smoothing, and, with a teacher,
/// that weighed against T² times the divergence of its softened answers from theirs, so that
/// gradients stay of one size at any temperature T (Hinton et al. 2015, section 2.1).
pub(super) fn loss(logits: &Tensor, target: &LossTarget<'_>) -> Result<Loss, TrainError> {
    let logits = logits.flatten_all()?.to_vec1::<f32>()?;
    let LossTarget {
        labels,
        smoothing,
        teacher,
    } = *target;
    let teacher = teacher.filter(|(distill, _)| distill.weight > 0.0);
    let classes = logits.len() / labels.len().max(1);
    let low = smoothing as f32 / classes as f32;
    let share = 1.0 / labels.len() as f32;
    let weight = teacher.map_or(0.0, |(distill, _)| distill.weight);
    let own = 1.0 - weight;
    let mut loss = Loss {
        mean: 0.0,
        right: 0,
        gradient: logits,
    };
    let rows = loss.gradient.chunks_exact_mut(classes.max(1));
    for (i, (row, &label)) in rows.zip(labels).enumerate() {
        let label = usize::from(label);
        if label >= classes {
            return Err(TrainError::Request(format!(
                "a sample has label {label}, the network only {classes} classes"
            )));
        }
        let (mut top, mut best) = (f32::NEG_INFINITY, 0);
        for (i, &v) in row.iter().enumerate() {
            if v > top {
                (top, best) = (v, i);
            }
        }
        loss.right += usize::from(best == label);
        let taught = match teacher {
            Some((distill, all)) => {
                let Some(theirs) = all.get(i * classes..(i + 1) * classes) else {
                    return Err(TrainError::Request(
                        "the final classifier has other classes than the heads".into(),
                    ));
                };
                Some(divergence(row, theirs, distill.temperature as f32))
            }
            None => None,
        };
        let total = row.iter().map(|v| (v - top).exp()).sum::<f32>();
        let log_total = total.ln() + top;
        for (i, v) in row.iter_mut().enumerate() {
            let hit = if i == label {
                1.0 - smoothing as f32
            } else {
                0.0
            };
            let target = low + hit;
            loss.mean += own * f64::from(target) * f64::from(log_total - *v);
            *v = own as f32 * share * ((*v - log_total).exp() - target);
        }
        if let Some((apart, slope)) = taught {
            loss.mean += weight * apart;
            for (v, slope) in row.iter_mut().zip(slope) {
                *v += weight as f32 * share * slope;
            }
        }
    }
    loss.mean /= labels.len() as f64;
    Ok(loss)
}

/// log softmax(row / temperature).
fn softened(row: &[f32], temperature: f32) -> Vec<f32> {
    let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f32 = row.iter().map(|v| ((v - top) / temperature).exp()).sum();
    row.iter()
        .map(|v| (v - top) / temperature - total.ln())
        .collect()
}

/// T² times the Kullback-Leibler divergence of a teacher's softened answer from one's own, and its
/// gradient by one's own logits.
fn divergence(own: &[f32], theirs: &[f32], temperature: f32) -> (f64, Vec<f32>) {
    let (own, theirs) = (softened(own, temperature), softened(theirs, temperature));
    let pairs = || own.iter().zip(&theirs);
    let apart: f64 = pairs()
        .map(|(o, t)| f64::from(t.exp()) * f64::from(t - o))
        .sum();
    let slope = pairs().map(|(o, t)| temperature * (o.exp() - t.exp()));
    (apart * f64::from(temperature).powi(2), slope.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    const LOGITS: [f32; 6] = [0.3, -1.2, 0.8, 2.0, 0.1, -0.4];

    fn at(logits: &[f32], teacher: Option<(Distill, &[f32])>) -> Loss {
        let logits = Tensor::from_slice(logits, (2, 3), &Device::Cpu).unwrap();
        let target = LossTarget {
            labels: &[2, 1],
            smoothing: 0.1,
            teacher,
        };
        loss(&logits, &target).unwrap()
    }

    fn slopes_agree(teacher: Option<(Distill, &[f32])>) {
        let found = at(&LOGITS, teacher);
        for i in 0..6 {
            let mut moved = LOGITS;
            moved[i] += 1e-2;
            let up = at(&moved, teacher).mean;
            moved[i] -= 2e-2;
            let slope = (up - at(&moved, teacher).mean) / 2e-2;
            assert!((slope - f64::from(found.gradient[i])).abs() < 1e-4);
        }
    }

    #[test]
    fn the_loss_and_its_gradient_agree() {
        let found = at(&LOGITS, None);
        assert_eq!(found.right, 1);
        // -log softmax of the label's logit weighs 0.9 + 0.1 / 3, the others' 0.1 / 3.
        let plain = |row: [f64; 3], label: usize| -> f64 {
            let total: f64 = row.iter().map(|v| v.exp()).sum();
            let terms = row.iter().enumerate().map(|(i, v)| {
                let weight = 0.1 / 3.0 + if i == label { 0.9 } else { 0.0 };
                weight * (total.ln() - v)
            });
            terms.sum()
        };
        let mean = (plain([0.3, -1.2, 0.8], 2) + plain([2.0, 0.1, -0.4], 1)) / 2.0;
        assert!((found.mean - mean).abs() < 1e-6);
        slopes_agree(None);
    }

    #[test]
    fn a_teacher_adds_its_divergence() {
        let teacher = [1.0f32, 0.0, -1.0, -0.5, 0.5, 2.0];
        let distill = |temperature, weight| Distill {
            temperature,
            weight,
        };
        for (temperature, weight) in [(1.0, 0.3), (4.0, 0.7), (2.0, 1.0)] {
            slopes_agree(Some((distill(temperature, weight), &teacher)));
        }
        // Nothing to learn from oneself, and nothing from a teacher that doesn't count.
        let same = at(&LOGITS, Some((distill(3.0, 1.0), &LOGITS)));
        assert!(same.mean.abs() < 1e-6, "{}", same.mean);
        assert!(same.gradient.iter().all(|g| g.abs() < 1e-6));
        let unheard = at(&LOGITS, Some((distill(3.0, 0.0), &teacher)));
        assert_eq!(unheard.mean, at(&LOGITS, None).mean);
        // By hand: two classes, teacher (ln 3, 0), own (0, 0), T = 1: ¾ ln(¾ / ½) + ¼ ln(¼ / ½).
        let (apart, slope) = divergence(&[0.0, 0.0], &[3f32.ln(), 0.0], 1.0);
        let expected = 0.75 * 1.5f64.ln() + 0.25 * 0.5f64.ln();
        assert!((apart - expected).abs() < 1e-6, "{apart}");
        assert!((slope[0] + 0.25).abs() < 1e-6);
    }
}
