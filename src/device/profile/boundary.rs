/*!
What it takes to begin and to end a segment. A network in one piece keeps its tensors as its kernels like
them; one that is cut hands them over as the network has them, and takes them so again, which costs a
tenth of the time of a small network. The network up to a place and the network from there are run in turn
with the whole, so that a change of pace meets all three.
*/

use super::{Segment, Timed};
use crate::device::profile::ProfileOptions;
use crate::device::{Boundary, DeviceError, LayerProfile, Stats};
use crate::engine::Cancel;
use std::time::{Duration, Instant};

/// Runs of each kind at a place: the more, the shorter they are.
const MOST_RUNS: usize = 30;
const LEAST_RUNS: usize = 3;
/// What all places may take together; a place has its least runs all the same.
const BUDGET: Duration = Duration::from_secs(3);

/// Of every place where the network may be cut; none where the backend can't run pieces over the weights
/// of the whole. `layers` are the medians of the rows, `whole_ms` that of the whole network.
pub(super) fn boundaries(
    whole: &mut Timed,
    segments: &[Segment],
    layers: &[LayerProfile],
    whole_ms: f64,
    options: &ProfileOptions,
    cancel: &Cancel,
) -> Result<Vec<Boundary>, DeviceError> {
    let rows = layers.len();
    let prefixes: Vec<&Segment> = segments
        .iter()
        .filter(|s| s.rows.start == 0 && s.rows.end < rows)
        .collect();
    let start = Instant::now();
    let mut found = Vec::with_capacity(prefixes.len());
    for (done, prefix) in prefixes.iter().enumerate() {
        let at = prefix.rows.end;
        let suffix = segments.iter().find(|s| s.rows == (at..rows));
        let Some(suffix) = suffix else { continue };
        let (Some(mut before), Some(mut behind)) = (
            whole.between(&prefix.ends, options)?,
            whole.between(&suffix.ends, options)?,
        ) else {
            return Ok(Vec::new());
        };
        let mut times = [const { Vec::new() }; 3];
        let until = start + BUDGET.mul_f64((done + 1) as f64 / prefixes.len() as f64);
        for run in 0..=MOST_RUNS {
            let ran = [
                whole.run(options, cancel)?,
                before.run(options, cancel)?,
                behind.run(options, cancel)?,
            ];
            // The first finds cold caches.
            if run > 0 {
                for (times, time) in times.iter_mut().zip(ran) {
                    times.push(options.ms(time));
                }
            }
            if run >= LEAST_RUNS && Instant::now() > until {
                break;
            }
        }
        let [now_ms, before_ms, behind_ms] = times.map(|times| Stats::of(&times).median);
        found.push(boundary(at, layers, whole_ms, now_ms, before_ms, behind_ms));
    }
    Ok(found)
}

/// Of medians: `whole_ms` is the whole network's when the layers were timed, the others were taken in
/// turn and tell the pace of their time.
fn boundary(
    at: usize,
    layers: &[LayerProfile],
    whole_ms: f64,
    now_ms: f64,
    before_ms: f64,
    behind_ms: f64,
) -> Boundary {
    let sum = |rows: &[LayerProfile]| rows.iter().map(|row| row.ms.median).sum::<f64>();
    let (before, behind) = layers.split_at(at);
    let (before, behind) = (sum(before), sum(behind));
    if now_ms <= 0.0 || before + behind <= 0.0 {
        return Boundary::default();
    }
    let (share, pace) = (before / (before + behind), whole_ms / now_ms);
    // Noise must not make a cut gain time.
    let over = |ms: f64, share: f64| (pace * ms - share * whole_ms).max(0.0);
    Boundary {
        rows: at,
        leave_ms: over(before_ms, share),
        enter_ms: over(behind_ms, 1.0 - share),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str, median: f64) -> LayerProfile {
        LayerProfile {
            name: name.into(),
            ms: Stats {
                median,
                ..Stats::default()
            },
            bytes: 0,
        }
    }

    #[test]
    fn what_is_over_the_layers_is_the_cuts() {
        let layers = [layer("a", 1.0), layer("b", 2.0), layer("c", 1.0)];
        // Together they take 4.0; the pace has halved when the pieces are run.
        let found = boundary(1, &layers, 4.0, 8.0, 2.6, 6.4);
        assert!((found.leave_ms - 0.3).abs() < 1e-12, "{found:?}");
        assert!((found.enter_ms - 0.2).abs() < 1e-12, "{found:?}");
        assert_eq!(found.rows, 1);
        // A piece that seems faster than its layers gains nothing.
        assert_eq!(boundary(1, &layers, 4.0, 4.0, 0.5, 3.0).leave_ms, 0.0);
    }
}
