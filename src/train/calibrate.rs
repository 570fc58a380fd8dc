/*! The temperature that makes confidences honest (Guo et al. 2017, temperature scaling). */

/// Mean negative log-likelihood of `labels` under softmax(logits / temperature).
fn loss(logits: &[f32], classes: usize, labels: &[u16], temperature: f64) -> f64 {
    let mut sum = 0.0;
    for (row, &label) in logits.chunks_exact(classes).zip(labels) {
        let scaled = row.iter().map(|&v| f64::from(v) / temperature);
        let top = scaled.clone().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = scaled.map(|v| (v - top).exp()).sum();
        sum += total.ln() + top - f64::from(row[usize::from(label)]) / temperature;
    }
    sum / labels.len().max(1) as f64
}

/// The temperature (between 0.05 and 20) that minimises the negative log-likelihood of `labels`
/// over `logits` `[samples, classes]`, by golden section on its logarithm: the loss has one minimum
/// there. 1 where there is nothing to fit. A label past `classes` is ignored.
pub fn fit_temperature(logits: &[f32], classes: usize, labels: &[u16]) -> f32 {
    if classes == 0 {
        return 1.0;
    }
    let rows = logits.chunks_exact(classes).zip(labels);
    let usable =
        rows.filter(|(r, l)| usize::from(**l) < classes && r.iter().all(|v| v.is_finite()));
    let (mut kept, mut truth) = (Vec::new(), Vec::new());
    for (row, &label) in usable {
        kept.extend_from_slice(row);
        truth.push(label);
    }
    if truth.is_empty() {
        return 1.0;
    }
    let at = |log: f64| loss(&kept, classes, &truth, log.exp());
    let ratio = (5f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (0.05f64.ln(), 20f64.ln());
    let (mut a, mut b) = (high - ratio * (high - low), low + ratio * (high - low));
    let (mut fa, mut fb) = (at(a), at(b));
    while high - low > 1e-5 {
        if fa < fb {
            (high, b, fb) = (b, a, fa);
            a = high - ratio * (high - low);
            fa = at(a);
        } else {
            (low, a, fa) = (a, b, fb);
            b = low + ratio * (high - low);
            fb = at(b);
        }
    }
    ((low + high) / 2.0).exp() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_temperature_matches_the_accuracy() {
        // Two classes, margin 4, right three times of four: sigmoid(4 / T) = 3/4.
        let logits = [4.0, 0.0].repeat(400);
        let labels: Vec<u16> = (0..400).map(|i| u16::from(i % 4 == 0)).collect();
        let t = fit_temperature(&logits, 2, &labels);
        assert!((t - 4.0 / 3f32.ln()).abs() < 1e-2, "{t}");
    }

    #[test]
    fn nothing_to_fit_is_one() {
        assert_eq!(fit_temperature(&[], 10, &[]), 1.0);
    }
}
