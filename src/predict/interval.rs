/*!
How sure a measured figure is: 95 % intervals and a test of paired answers.

A share of samples has Wilson's interval (Wilson 1927). A mean, a percentile and a bill have the
percentile bootstrap's, seeded, of a thousand resamples. Two classifiers over the same samples are
compared by McNemar's exact test of the samples that one of them alone has right.
*/

use crate::device::{percentile, percentiles};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Half the width of a 95 % interval of a normal distribution, in standard deviations.
pub const Z95: f64 = 1.959_963_984_540_054;
/// Resamples of a bootstrap.
const RESAMPLES: usize = 1000;

/// A 95 % interval, and of how many samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end of the interval, in the figure's unit.
    pub low: f64,
    /// Upper end of the interval, in the figure's unit.
    pub high: f64,
    /// Samples that the figure is of.
    pub samples: usize,
}

/// Intervals of what a run measured of its samples.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Intervals {
    /// Of the mean latency, milliseconds.
    pub mean_ms: Option<Interval>,
    /// Of the 95th percentile of latency, milliseconds.
    pub p95_ms: Option<Interval>,
    /// Of the rounded bill, US dollars per million inferences.
    pub cost_per_million: Option<Interval>,
}

/// Wilson's interval of a share, of which `right` of `samples` were counted, 0 to 1.
pub fn wilson(right: usize, samples: usize) -> Option<Interval> {
    if samples == 0 {
        return None;
    }
    let n = samples as f64;
    let share = right as f64 / n;
    let z2 = Z95 * Z95;
    let middle = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z95 / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    Some(Interval {
        low: (middle - half).max(0.0),
        high: (middle + half).min(1.0),
        samples,
    })
}

/// The bootstrap's intervals of figures that `of` makes of a resample; `None` without samples.
pub fn bootstrap<const N: usize>(
    values: &[f32],
    seed: u64,
    of: impl Fn(&[f32]) -> [f64; N],
) -> Option<[Interval; N]> {
    if values.is_empty() || values.iter().any(|value| value.is_nan()) {
        return None;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut found = [(); N].map(|()| Vec::with_capacity(RESAMPLES));
    let mut resample = vec![0.0; values.len()];
    for _ in 0..RESAMPLES {
        for value in &mut resample {
            *value = values[rng.random_range(0..values.len())];
        }
        for (found, figure) in found.iter_mut().zip(of(&resample)) {
            found.push(figure);
        }
    }
    Some(found.map(|mut figures| {
        figures.sort_by(f64::total_cmp);
        Interval {
            low: percentile(&figures, 2.5),
            high: percentile(&figures, 97.5),
            samples: values.len(),
        }
    }))
}

/// The arithmetic mean of values, summed in double; NaN of none.
pub fn mean(values: &[f32]) -> f64 {
    values.iter().copied().map(f64::from).sum::<f64>() / values.len() as f64
}

/// The 95th percentile of values.
pub fn p95(values: &[f32]) -> f64 {
    percentiles(values, [95.0])[0]
}

/// McNemar's exact test, two-sided: the probability that two classifiers equally good differ at least so
/// much, where `only_one` samples are right by the one alone and `only_other` by the other alone.
pub fn mcnemar(only_one: usize, only_other: usize) -> f64 {
    let n = only_one + only_other;
    // Terms of the binomial distribution at one half, as logarithms: the first of many is no float.
    let mut log = -(n as f64) * std::f64::consts::LN_2;
    let mut below = log.exp();
    for k in 1..=only_one.min(only_other) {
        log += ((n - k + 1) as f64 / k as f64).ln();
        below += log.exp();
    }
    (2.0 * below).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    // Expected values are statsmodels' proportion_confint(right, samples, 0.05, "wilson").
    #[rstest]
    #[case(4484, 5000, 0.888_060_719_584_259_3, 0.904_930_032_152_143_5)]
    #[case(461, 500, 0.895_146_450_126_611_5, 0.942_418_606_523_838_5)]
    #[case(0, 20, 0.0, 0.161_125_158_052_819_4)]
    #[case(20, 20, 0.838_874_841_947_180_6, 1.0)]
    #[case(1, 2, 0.094_531_205_734_230_68, 0.905_468_794_265_769_3)]
    fn a_share_has_wilson_s_interval(
        #[case] right: usize,
        #[case] samples: usize,
        #[case] low: f64,
        #[case] high: f64,
    ) {
        let found = wilson(right, samples).unwrap();
        assert!((found.low - low).abs() < 1e-12, "{found:?}");
        assert!((found.high - high).abs() < 1e-12, "{found:?}");
        assert_eq!(found.samples, samples);
        assert_eq!(wilson(0, 0), None);
    }

    // Expected values are statsmodels' mcnemar([[0, b], [c, 0]], exact=True).
    #[rstest]
    #[case(5, 15, 0.041_389_465_332_031_25)]
    #[case(0, 3, 0.25)]
    #[case(12, 12, 1.0)]
    #[case(40, 71, 0.004_195_534_185_394_861)]
    #[case(300, 420, 8.807_756_168_615_114e-6)]
    #[case(0, 0, 1.0)]
    #[case(1, 0, 1.0)]
    fn paired_answers_are_tested_exactly(#[case] b: usize, #[case] c: usize, #[case] p: f64) {
        assert!((mcnemar(b, c) - p).abs() < 1e-9 * p, "{}", mcnemar(b, c));
        assert_eq!(mcnemar(b, c), mcnemar(c, b));
    }

    /// Beside scipy.stats.bootstrap(method="percentile", n_resamples=20000) of the same values: 4.596 to
    /// 5.4135 for the mean, 9.11 to 9.8 for the 95th percentile. A thousand resamples are near that.
    #[test]
    fn the_bootstrap_is_near_scipy_s() {
        let values: Vec<f32> = (0..200_u16)
            .map(|i| f32::from(i * 37 % 101) / 10.0)
            .collect();
        let [middle, high] = bootstrap(&values, 7, |v| [mean(v), p95(v)]).unwrap();
        assert!((middle.low - 4.596).abs() < 0.05, "{middle:?}");
        assert!((middle.high - 5.4135).abs() < 0.05, "{middle:?}");
        assert!((high.low - 9.11).abs() < 0.15, "{high:?}");
        assert!((high.high - 9.8).abs() < 0.15, "{high:?}");
        assert_eq!(middle.samples, 200);
        let again = bootstrap(&values, 7, |v| [mean(v), p95(v)]).unwrap();
        assert_eq!(again, [middle, high]);
        assert_eq!(bootstrap(&[], 7, |v| [mean(v)]), None);
        assert_eq!(bootstrap(&[1.0, f32::NAN], 7, |v| [mean(v)]), None);
    }
}
