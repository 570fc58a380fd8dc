/*!
Whether confidences are honest: of images that a classifier is 80 % sure of, 80 % should be right.

Expected calibration error over bins of equal width (Guo et al. 2017, "On Calibration of Modern Neural
Networks", arXiv 1706.04599), of the largest probability.
*/

use serde::{Deserialize, Serialize};

/// Bins from 0 to 1.
pub const BINS: usize = 15;

/// Samples whose confidence lies in one bin.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Bin {
    /// Number of samples.
    pub samples: usize,
    /// Mean of their confidences, 0 to 1; 0 without samples.
    pub confidence: f64,
    /// Share of them answered right, 0 to 1; 0 without samples.
    pub accuracy: f64,
}

/// How confidence and accuracy go together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reliability {
    /// Bins of equal width, (0, 1/15] first.
    pub bins: Vec<Bin>,
    /// Expected calibration error: the mean distance of a bin's confidence from its accuracy, weighed by its
    /// samples, 0 to 1.
    pub error: f64,
}

/// The reliability of answers: each sample's confidence, 0 to 1, and whether it is right.
pub fn reliability(answers: impl IntoIterator<Item = (f32, bool)>) -> Reliability {
    let mut bins = vec![Bin::default(); BINS];
    let mut samples = 0;
    for (confidence, right) in answers {
        let confidence = f64::from(confidence);
        // A confidence on a border belongs to the bin below it, as in the authors' program.
        let at = (confidence * BINS as f64).ceil() as usize;
        let bin = &mut bins[at.clamp(1, BINS) - 1];
        bin.samples += 1;
        bin.confidence += confidence;
        bin.accuracy += f64::from(u8::from(right));
        samples += 1;
    }
    let mut error = 0.0;
    for bin in bins.iter_mut().filter(|bin| bin.samples > 0) {
        let n = bin.samples as f64;
        (bin.confidence, bin.accuracy) = (bin.confidence / n, bin.accuracy / n);
        error += (bin.confidence - bin.accuracy).abs() * n / samples as f64;
    }
    Reliability { bins, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beside numpy: 1,000 answers with c = (i · 37 mod 1000 + 1) / 1000, right where i · 7 mod 10 < 6.
    #[test]
    fn the_error_is_numpy_s() {
        let answers = (0..1000_u16).map(|i| {
            let c = f32::from(i * 37 % 1000 + 1) / 1000.0;
            (c, u32::from(i) * 7 % 10 < 6)
        });
        let found = reliability(answers);
        assert!(
            (found.error - 0.261_100_000_007).abs() < 1e-6,
            "{}",
            found.error
        );
        assert_eq!(found.bins.iter().map(|b| b.samples).sum::<usize>(), 1000);
    }

    #[test]
    fn borders_and_nothing() {
        let found = reliability([(0.0, false), (1.0, true)]);
        assert_eq!(
            (found.bins[0].samples, found.bins[BINS - 1].samples),
            (1, 1)
        );
        assert_eq!(found.error, 0.0);
        assert_eq!(reliability([]).error, 0.0);
    }
}
