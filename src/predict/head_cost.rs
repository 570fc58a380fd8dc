/*!
What a head takes on a device: measured, or predicted from the times of the network's layers there. The
one formula for it; the workbench and the commands both ask here.
*/

use super::Kind;
use crate::device::Profile;
use crate::model::Graph;
use crate::model::layers::LayerTable;

/// What a fused head has to do per sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeadWork {
    /// Number of layers in the head.
    pub layers: usize,
    /// Multiply-accumulates per sample.
    pub macs: u64,
    /// Bytes read and written: parameters, inputs and outputs of its layers.
    pub bytes: usize,
}

impl HeadWork {
    /// The work of a fused head; `None` where it has no layers.
    pub fn of(head: &Graph) -> Option<HeadWork> {
        let table = LayerTable::new(head).ok()?;
        let mut read = 4 * table.input.elements(1);
        let mut work = HeadWork::default();
        for row in &table.layers {
            work.layers += 1;
            work.macs += row.macs;
            work.bytes += row.param_bytes + row.activation_bytes + read;
            read = row.activation_bytes;
        }
        Some(work)
    }
}

/// Milliseconds that a head takes on the device of a profile, and whether this very head was timed
/// there (median) or it is predicted. `None` where there is too little to predict from.
pub fn head_ms(
    profile: &Profile,
    layers: &LayerTable,
    (after, hash): (&str, &str),
    work: Option<HeadWork>,
) -> Option<(f64, Kind)> {
    let mut timed = profile.heads.iter();
    if let Some(own) = timed.find(|h| h.after == after && h.hash == hash) {
        return Some((own.ms.median, Kind::Measured));
    }
    let rates = Rates::of(profile, layers)?;
    Some((rates.predict(&work?), Kind::Predicted))
}

/// What a device takes for a layer: something each, by its multiply-accumulates, and by the bytes it
/// moves. Fitted to the layers of a profile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates([f64; 3]);

impl Rates {
    /// The rates, none below 0, that come nearest to the times of a network's layers, each by its
    /// share. None where there is too little to tell from.
    pub fn of(profile: &Profile, layers: &LayerTable) -> Option<Rates> {
        let rows = layers.layers.iter().zip(&profile.layers);
        let known = rows.filter(|(_, p)| p.ms.median > 0.0 && p.ms.median.is_finite());
        let rows: Vec<[f64; 3]> = known
            .map(|(row, p)| [1.0, row.macs as f64, p.bytes as f64].map(|v| v / p.ms.median))
            .collect();
        let loss = |r: &[f64; 3]| -> f64 {
            let misses = rows.iter().map(|row| {
                let at: f64 = row.iter().zip(r).map(|(a, b)| a * b).sum();
                (at - 1.0).powi(2)
            });
            misses.sum()
        };
        // The best without one or two of them, where the best with all would have one below 0.
        let subsets = (1..8_usize).filter_map(|set| {
            let used: Vec<usize> = (0..3).filter(|i| set >> i & 1 == 1).collect();
            let found = least_squares(&rows, &used)?;
            found.iter().all(|r| *r >= 0.0).then_some(found)
        });
        let best = subsets.min_by(|a, b| loss(a).total_cmp(&loss(b)));
        best.filter(|_| rows.len() >= 3).map(Rates)
    }

    /// Milliseconds that a head of this work takes, at these rates.
    pub fn predict(&self, work: &HeadWork) -> f64 {
        let Rates([fixed, mac, byte]) = self;
        fixed * work.layers as f64 + mac * work.macs as f64 + byte * work.bytes as f64
    }
}

/// Σ over rows (row · r − 1)² at its least, r being 0 but for `used`: the normal equations.
fn least_squares(rows: &[[f64; 3]], used: &[usize]) -> Option<[f64; 3]> {
    let n = used.len();
    // Scaled to one size, so that elimination can tell what is 0.
    let scale: Vec<f64> = used
        .iter()
        .map(|&i| rows.iter().map(|r| r[i] * r[i]).sum::<f64>().sqrt())
        .collect();
    if scale.iter().any(|s| *s <= 0.0 || !s.is_finite()) {
        return None;
    }
    let mut m = vec![vec![0.0; n + 1]; n];
    for (i, row) in m.iter_mut().enumerate() {
        for (j, cell) in row.iter_mut().take(n).enumerate() {
            let products = rows.iter().map(|r| r[used[i]] * r[used[j]]);
            *cell = products.sum::<f64>() / (scale[i] * scale[j]);
        }
        row[n] = rows.iter().map(|r| r[used[i]]).sum::<f64>() / scale[i];
    }
    for k in 0..n {
        if m[k][k].abs() < 1e-9 {
            return None;
        }
        let pivot = m[k].clone();
        for (i, row) in m.iter_mut().enumerate() {
            if i != k {
                let factor = row[k] / pivot[k];
                let pairs = row.iter_mut().zip(&pivot);
                pairs.for_each(|(a, b)| *a -= factor * b);
            }
        }
    }
    let mut found = [0.0; 3];
    for (k, &i) in used.iter().enumerate() {
        found[i] = m[k][n] / m[k][k] / scale[k];
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{LayerProfile, Stats};
    use crate::exits::{head, points};
    use crate::model::fuse;
    use crate::model::zoo::ZooModel;

    fn fitted(rates: [f64; 3]) -> (Rates, Graph) {
        let network = ZooModel::ResNet { depth: 8, width: 4 };
        let fused = fuse(&network.build((3, 32, 32), 10, 1).unwrap());
        let layers = LayerTable::new(&fused).unwrap();
        let timed = layers.layers.iter().enumerate().map(|(i, row)| {
            let bytes = 1000 * (i + 1) + row.param_bytes;
            let ms = rates[0] + rates[1] * row.macs as f64 + rates[2] * bytes as f64;
            LayerProfile {
                name: row.name.clone(),
                ms: Stats::of(&[ms]),
                bytes,
            }
        });
        let mut profile = crate::session::Session::demo()
            .unwrap()
            .results
            .unwrap()
            .profiles
            .remove(0)
            .unwrap();
        profile.layers = timed.collect();
        let point = &points(&layers, &fused)[0];
        let head = head("[GlobalAvgPool, Linear(classes)]", point, "edge", 1).unwrap();
        (Rates::of(&profile, &layers).unwrap(), fuse(&head.graph))
    }

    #[test]
    fn rates_of_layers_are_found_again() {
        let expected = [2e-3, 1e-7, 3e-8];
        let (Rates(found), head) = fitted(expected);
        for (a, b) in found.iter().zip(expected) {
            assert!((a / b - 1.0).abs() < 1e-6, "{found:?}");
        }
        let table = LayerTable::new(&head).unwrap();
        let ms = Rates(found).predict(&HeadWork::of(&head).unwrap());
        // Input 4×32×32, pooled 4, logits 10, 50 parameters.
        let bytes = 4 * (4 * 32 * 32 + 4 + 4 + 10 + 50);
        let by_hand = 2.0 * 2e-3 + table.macs as f64 * 1e-7 + f64::from(bytes) * 3e-8;
        assert_eq!(table.layers.len(), 2);
        assert!((ms / by_hand - 1.0).abs() < 1e-6, "{ms} {by_hand}");
    }

    #[test]
    fn what_costs_nothing_is_never_below_nothing() {
        let (Rates(found), _) = fitted([0.0, 2e-7, 0.0]);
        assert!(found.iter().all(|r| *r >= 0.0), "{found:?}");
        assert!((found[1] / 2e-7 - 1.0).abs() < 1e-3, "{found:?}");
    }
}
