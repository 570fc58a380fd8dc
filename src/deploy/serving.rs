/*! What servers that other people wrote are told of the device on which a tier was measured. */

use crate::plan::Tier;

/// What was measured of a tier, as far as its server has to know.
#[derive(Debug, Clone, PartialEq)]
pub struct Serving {
    /// The tier.
    pub tier: Tier,
    /// CPU threads that ran the tier's part, 1 at least.
    pub threads: usize,
    /// Whether an NVIDIA GPU ran it.
    pub gpu: bool,
    /// Milliseconds per sample of all segments of the part; `None` where the engine tells no layer's time.
    pub part_ms: Option<f64>,
    /// Memory in MiB that the plan's bill rents for the tier; `None` of the first, which isn't rented.
    pub memory_mib: Option<usize>,
}

impl Serving {
    /// Of a tier of which nothing is known.
    pub fn unknown(tier: Tier) -> Serving {
        Serving {
            tier,
            threads: 1,
            gpu: false,
            part_ms: None,
            memory_mib: None,
        }
    }

    /// What is known of a tier.
    pub(super) fn find(all: &[Serving], tier: Tier) -> Serving {
        let own = all.iter().find(|serving| serving.tier == tier);
        own.cloned().unwrap_or_else(|| Serving::unknown(tier))
    }

    /// Microseconds that a request may wait for others to make a batch with: a quarter of what it takes alone.
    pub(super) fn queue_us(&self) -> Option<i64> {
        self.part_ms.map(|ms| (ms * 1000.0 / 4.0).round() as i64)
    }
}
