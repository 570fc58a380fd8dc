/*! Summaries of a sample of durations: the one definition of a percentile in this house. */

use super::Stats;

/// The `q`-th percentile (0 to 100) of values in ascending order, by linear interpolation between
/// the two nearest: the value at position `q/100 · (n − 1)`, counted from 0 (Hyndman and Fan's
/// type 7, NumPy's default). NaN where there are no values.
pub fn percentile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let position = (q / 100.0).clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let (low, high) = (sorted[below], sorted[last.min(below + 1)]);
    low + (position - below as f64) * (high - low)
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
