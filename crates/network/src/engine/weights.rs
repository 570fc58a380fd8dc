/*!
Weights in the order in which the kernels read them, packed once in a process: programs for other
batch sizes and engines for other pieces of the same network find them here as long as one lives.
*/

use super::kernels::loops::{PANEL, WinogradTile};
use super::kernels::memory::Memory;
use super::kernels::step::Packed;
use crate::model::ValueId;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

/// How a tensor is packed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Packing {
    /// `[Cout, Cin/groups, rows, columns]` into panels, for these taps only.
    Panels {
        groups: usize,
        channels: usize,
        deep: usize,
        kernel: [usize; 2],
        taps: Vec<(usize, usize)>,
        /// A tap is a whole row of the kernel.
        rows: bool,
    },
    /// `[Cout, Cin, 3, 3]` into panels for each of Winograd's products.
    Winograd {
        tile: WinogradTile,
        channels: usize,
        deep: usize,
    },
    /// A matrix `[Cin, Cout]` into panels.
    Columns { channels: usize, deep: usize },
    /// `[C, 1, rows, columns]` into `[tap][C]`.
    Depthwise { channels: usize, taps: usize },
}

/// The packed weights of a program, by the constant and the way of packing.
pub(crate) type Weights = BTreeMap<(ValueId, Packing), Arc<Packed>>;

type Key = (usize, Packing);
type Entry = (Weak<Vec<f32>>, Weak<Packed>);

/// The packed form of `source`, made if nobody holds it yet.
pub(crate) fn packed(source: &Arc<Vec<f32>>, packing: Packing) -> Arc<Packed> {
    // The weak reference to the source keeps its address from being given to another tensor while
    // the entry stands.
    static STORE: Mutex<Option<HashMap<Key, Entry>>> = Mutex::new(None);
    let key = (Arc::as_ptr(source) as usize, packing);
    let mut store = STORE.lock();
    let store = store.get_or_insert_default();
    if let Some((_, kept)) = store.get(&key)
        && let Some(kept) = kept.upgrade()
    {
        return kept;
    }
    store.retain(|_, (_, kept)| kept.strong_count() > 0);
    let made = Arc::new(pack(source, &key.1));
    store.insert(key, (Arc::downgrade(source), Arc::downgrade(&made)));
    made
}

fn pack(source: &[f32], packing: &Packing) -> Packed {
    let floats = match packing {
        Packing::Panels {
            groups,
            channels,
            deep,
            kernel,
            taps,
            rows,
        } => {
            let run = if *rows { kernel[1] * deep } else { *deep };
            groups * (channels / groups).div_ceil(PANEL) * taps.len() * run * PANEL
        }
        Packing::Winograd {
            tile,
            channels,
            deep,
        } => tile.products() * channels.div_ceil(PANEL) * deep * PANEL,
        Packing::Columns { channels, deep } => channels.div_ceil(PANEL) * deep * PANEL,
        Packing::Depthwise { channels, taps } => channels * taps,
    };
    let mut weights = Memory::shelved(floats * 4);
    fill(
        bytemuck::cast_slice_mut(weights.bytes_mut()),
        source,
        packing,
    );
    Packed { weights, floats }
}

/// Puts the elements of `source` where the packing has them; what it has besides is zero already.
fn fill(out: &mut [f32], source: &[f32], packing: &Packing) {
    match packing {
        Packing::Panels {
            groups,
            channels,
            deep,
            kernel,
            taps,
            rows,
        } => {
            let wide = channels / groups;
            let run = if *rows { kernel[1] * deep } else { *deep };
            let mut lines = out.chunks_exact_mut(PANEL);
            for group in 0..*groups {
                for panel in 0..wide.div_ceil(PANEL) {
                    for &(ky, kx) in taps {
                        for (k, line) in (&mut lines).take(run).enumerate() {
                            let (kx, c) = if *rows { (k / deep, k % deep) } else { (kx, k) };
                            for (i, w) in line.iter_mut().enumerate() {
                                let o = panel * PANEL + i;
                                if o < wide {
                                    let at = (group * wide + o) * deep + c;
                                    *w = source[(at * kernel[0] + ky) * kernel[1] + kx];
                                }
                            }
                        }
                    }
                }
            }
        }
        Packing::Winograd {
            tile,
            channels,
            deep,
        } => {
            let (weights, cells) = (tile.weights(), tile.cells());
            let panels = channels.div_ceil(PANEL);
            for (line, w) in out.chunks_exact_mut(PANEL).enumerate() {
                let (product, panel, c) = (line / deep / panels, line / deep % panels, line % deep);
                let (rows, columns) = (weights[product / cells], weights[product % cells]);
                for (w, o) in w.iter_mut().zip(panel * PANEL..*channels) {
                    let kernel = &source[(o * deep + c) * 9..][..9];
                    let terms = kernel.iter().enumerate();
                    let terms = terms.map(|(i, &w)| rows[i / 3] * columns[i % 3] * f64::from(w));
                    *w = terms.sum::<f64>() as f32;
                }
            }
        }
        Packing::Columns { channels, deep } => {
            for (i, line) in out.chunks_exact_mut(PANEL).enumerate() {
                let (panel, k) = (i / deep, i % deep);
                let from = panel * PANEL;
                let live = PANEL.min(channels - from);
                line[..live].copy_from_slice(&source[k * channels + from..][..live]);
            }
        }
        Packing::Depthwise { channels, taps } => {
            for (i, w) in out.iter_mut().enumerate() {
                let (tap, c) = (i / channels, i % channels);
                *w = source[c * taps + tap];
            }
        }
    }
}
