/*!
Summaries of a sample of durations: the one definition of a percentile in this house, for what was
profiled, predicted and measured alike.

The `q`-th percentile (0 to 100) of n values in ascending order is the value at position
`q/100 · (n − 1)`, counted from 0, by linear interpolation between the two nearest: type 7 of Hyndman and
Fan (Sample Quantiles in Statistical Packages, The American Statistician 50, 1996), NumPy's default.
*/

use super::Stats;

/// The `q`-th percentile (0 to 100) of values in ascending order. NaN where there are no values.
pub fn percentile(sorted: &[f64], q: f64) -> f64 {
    let Some((below, share)) = position(sorted.len(), q) else {
        return f64::NAN;
    };
    let (low, high) = (sorted[below], sorted[(below + 1).min(sorted.len() - 1)]);
    low + share * (high - low)
}

/// Percentiles (0 to 100, the largest first) of values in any order: they are selected, not sorted, so that
/// what follows a held key can afford it. NaN where there are no values.
pub fn percentiles<const N: usize>(values: &[f32], falling: [f64; N]) -> [f64; N] {
    // Whole numbers of the order of floats, which compare faster than these.
    let key = |value: &f32| {
        let bits = value.to_bits() as i32;
        bits ^ ((bits >> 31) as u32 >> 1) as i32
    };
    let value = |key: i32| {
        let bits = key ^ ((key >> 31) as u32 >> 1) as i32;
        f64::from(f32::from_bits(bits as u32))
    };
    let mut keys: Vec<i32> = values.iter().map(key).collect();
    let mut found = [f64::NAN; N];
    let mut from = 0;
    // The smallest first: each search is in what the one before left from it on.
    for (found, q) in found.iter_mut().zip(falling).rev() {
        let Some((below, share)) = position(keys.len(), q) else {
            break;
        };
        let at = below.saturating_sub(from);
        let (_, low, behind) = keys[from..].select_nth_unstable(at);
        let low = value(*low);
        let high = behind.iter().min().map_or(low, |key| value(*key));
        *found = low + share * (high - low);
        from = below;
    }
    found
}

/// Where a percentile of `count` values lies: behind which of them, from 0, and how far to the next, 0
/// to 1. `None` without values.
fn position(count: usize, q: f64) -> Option<(usize, f64)> {
    let last = count.checked_sub(1)?;
    let position = (q / 100.0).clamp(0.0, 1.0) * last as f64;
    let below = position.floor();
    Some((below as usize, position - below))
}

/// The mean of a sample in which what lies above its 95th percentile counts as that percentile
/// (winsorised above): what a stall of a few runs adds to a plain mean, it doesn't add to this one,
/// which is never above the 95th percentile itself. NaN where there are no values.
pub fn winsorised_mean(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let most = percentile(&sorted, 95.0);
    let sum: f64 = sorted.iter().map(|&value| value.min(most)).sum();
    sum / sorted.len() as f64
}

impl Stats {
    /// Summarises a sample, in any order; all zero where it is empty (nothing was run, and nothing
    /// took no time).
    pub fn of(values: &[f64]) -> Stats {
        if values.is_empty() {
            return Stats::default();
        }
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Stats {
            min: sorted[0],
            median: percentile(&sorted, 50.0),
            mean: sorted.iter().sum::<f64>() / sorted.len() as f64,
            p95: percentile(&sorted, 95.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    // Expected values are numpy.percentile's.
    #[rstest]
    #[case(&[7.0], 95.0, 7.0)]
    #[case(&[1.0, 2.0], 50.0, 1.5)]
    #[case(&[1.0, 2.0, 3.0, 4.0], 25.0, 1.75)]
    #[case(&[1.0, 2.0, 3.0, 4.0, 10.0], 95.0, 8.8)]
    #[case(&[1.0, 2.0, 3.0], 100.0, 3.0)]
    #[case(&[1.0, 2.0, 3.0], 0.0, 1.0)]
    fn a_percentile_lies_between_its_neighbours(
        #[case] sorted: &[f64],
        #[case] q: f64,
        #[case] expected: f64,
    ) {
        assert!((percentile(sorted, q) - expected).abs() < 1e-12);
        let any_order: Vec<f32> = sorted.iter().rev().map(|v| *v as f32).collect();
        let [selected] = percentiles(&any_order, [q]);
        assert!((selected - expected).abs() < 1e-6);
    }

    #[test]
    fn several_are_selected_at_once() {
        // numpy.percentile(range(1, 201), [99, 95, 50, 0]).
        let values: Vec<f32> = (1..=200).rev().map(|i| i as f32).collect();
        let found = percentiles(&values, [99.0, 95.0, 50.0, 0.0]);
        for (found, expected) in found.iter().zip([198.01, 190.05, 100.5, 1.0]) {
            assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        }
        assert!(percentiles(&[], [50.0])[0].is_nan());
        // numpy.percentile([-3, -1, 0, 2], [75, 25]).
        assert_eq!(
            percentiles(&[2.0, -1.0, 0.0, -3.0], [75.0, 25.0]),
            [0.5, -1.5]
        );
    }

    // Expected values are numpy.minimum(x, numpy.percentile(x, 95)).mean()'s.
    #[rstest]
    #[case(&[7.0], 7.0)]
    #[case(&[45.0, 20.0, 30.0, 25.0], 29.4375)]
    #[case(&[2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1000.0], 56.89)]
    fn a_stall_moves_the_winsorised_mean_little(#[case] values: &[f64], #[case] expected: f64) {
        assert!((winsorised_mean(values) - expected).abs() < 1e-9);
        assert!(winsorised_mean(&[]).is_nan());
    }

    #[test]
    fn a_sample_is_summarised_in_any_order() {
        let stats = Stats::of(&[4.0, 1.0, 10.0, 3.0, 2.0]);
        assert_eq!((stats.min, stats.median, stats.mean), (1.0, 3.0, 4.0));
        assert!((stats.p95 - 8.8).abs() < 1e-12);
        assert_eq!(Stats::of(&[]), Stats::default());
        assert!(percentile(&[], 50.0).is_nan());
    }
}
