/*!
What a profile tells of pieces of a network: of each layer, of the network up to the places where it may
be cut, or of the whole alone. Which of the three it is follows from the backend that ran it.
*/

use super::{Profile, SegmentMemory};
use crate::model::LayerTable;
use std::ops::Range;

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

    /// Milliseconds of some consecutive rows of `table`: the sum of the layers' medians, or else the
    /// difference of two prefixes', of which none is above the whole network's.
    ///
    /// # Errors
    /// [`NotTimed`] where the profile has neither.
    pub fn rows_ms(&self, table: &LayerTable, rows: Range<usize>) -> Result<f64, NotTimed> {
        if let Some(layers) = self.layers.get(rows.clone())
            && !self.layers.is_empty()
        {
            return Ok(layers.iter().map(|layer| layer.ms.median).sum());
        }
        if rows.is_empty() {
            return Ok(0.0);
        }
        let (from, to) = (self.up_to(table, rows.start)?, self.up_to(table, rows.end)?);
        // Noise must not make a layer take less than no time.
        Ok((to - from).max(0.0))
    }

    /// Memory of a segment of these rows; none where such a segment can't be, or the profile was made
    /// before profiles had it.
    pub fn segment(&self, rows: &Range<usize>) -> Option<&SegmentMemory> {
        let sought = (rows.start, rows.end);
        let found = self
            .segments
            .binary_search_by_key(&sought, |s| (s.from, s.to));
        found.ok().map(|at| &self.segments[at])
    }

    /// The time of the first `rows` rows of `table`, as a whole.
    fn up_to(&self, table: &LayerTable, rows: usize) -> Result<f64, NotTimed> {
        if rows >= table.layers.len() {
            return Ok(self.total_ms.median);
        }
        let Some(last) = rows.checked_sub(1).and_then(|at| table.layers.get(at)) else {
            return Ok(0.0);
        };
        let prefix = self.prefixes.iter().find(|p| p.after == last.name);
        match prefix {
            Some(prefix) => Ok(prefix.ms.median),
            None => Err(NotTimed {
                target: self.target.clone(),
                after: last.name.clone(),
            }),
        }
    }
}
