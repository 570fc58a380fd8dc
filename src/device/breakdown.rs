/*!
What a profile tells of pieces of a network: of each layer, of the network up to the places where it may
be cut, or of the whole alone. Which of the three it is follows from the backend that ran it.
*/

use super::{Profile, Stats};
use crate::model::LayerTable;
use std::ops::{AddAssign, Range};

/// Milliseconds of consecutive layers; means add up, and so, near enough, do medians.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RowsTime {
    /// Sum of the layers' mean times.
    pub mean: f64,
    /// Sum of the layers' median times.
    pub median: f64,
}

impl From<Stats> for RowsTime {
    fn from(stats: Stats) -> RowsTime {
        RowsTime {
            mean: stats.mean,
            median: stats.median,
        }
    }
}

impl AddAssign for RowsTime {
    fn add_assign(&mut self, other: RowsTime) {
        self.mean += other.mean;
        self.median += other.median;
    }
}

/// Layers whose time a profile doesn't tell.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "{target} was timed without a time up to `{after}`, since what ran it there fuses layers; profile \
     it again, or on another --device"
)]
pub struct NotTimed {
    /// Machine that was profiled.
    pub target: String,
    /// Layer up to which the time is missing.
    pub after: String,
}

impl Profile {
    /// Whether all it names are layers of `table`, and none of them is missing where it has a time for
    /// each. A profile of the whole network alone names none.
    pub fn fits(&self, table: &LayerTable) -> bool {
        let rows = self.layers.iter().zip(&table.layers);
        let all = self.layers.is_empty() || self.layers.len() == table.layers.len();
        let mut prefixes = self.prefixes.iter();
        all && rows.into_iter().all(|(p, l)| p.name == l.name)
            && prefixes.all(|p| table.layers.iter().any(|l| l.name == p.after))
    }

    /// The time of some consecutive rows of `table`: the sum of the layers' times, or else the
    /// difference of two prefixes', of which none is above the whole network's.
    ///
    /// # Errors
    /// [`NotTimed`] where the profile has neither.
    pub fn rows_ms(&self, table: &LayerTable, rows: Range<usize>) -> Result<RowsTime, NotTimed> {
        let mut sum = RowsTime::default();
        if let Some(layers) = self.layers.get(rows.clone())
            && !self.layers.is_empty()
        {
            layers.iter().for_each(|layer| sum += layer.ms.into());
            return Ok(sum);
        }
        if rows.is_empty() {
            return Ok(sum);
        }
        let (from, to) = (self.up_to(table, rows.start)?, self.up_to(table, rows.end)?);
        // Noise must not make a layer take less than no time.
        Ok(RowsTime {
            mean: (to.mean - from.mean).max(0.0),
            median: (to.median - from.median).max(0.0),
        })
    }

    /// The time of the first `rows` rows of `table`, as a whole.
    fn up_to(&self, table: &LayerTable, rows: usize) -> Result<RowsTime, NotTimed> {
        if rows >= table.layers.len() {
            return Ok(self.total_ms.into());
        }
        let Some(last) = rows.checked_sub(1).and_then(|at| table.layers.get(at)) else {
            return Ok(RowsTime::default());
        };
        let prefix = self.prefixes.iter().find(|p| p.after == last.name);
        match prefix {
            Some(prefix) => Ok(prefix.ms.into()),
            None => Err(NotTimed {
                target: self.target.clone(),
                after: last.name.clone(),
            }),
        }
    }
}
