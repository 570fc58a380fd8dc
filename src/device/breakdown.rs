/*!
What a profile tells of pieces of a network: of each layer, of the network up to the places where it may
be cut, or of the whole alone. Which of the three it is follows from the backend that ran it.
*/

use super::{Boundary, CodecTime, Form, Profile, SegmentMemory};
use crate::model::LayerTable;
use std::ops::Range;

/// Layers whose time a profile doesn't tell.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "{target} was timed without a time up to `{after}`, since what ran it there fuses layers; profile \
     it again, or by another --engine"
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

    /// Milliseconds of a usual run of a segment of these rows: the layers' medians, scaled so that all
    /// together take what the whole network does (a clock is read between them when they are timed), and
    /// what the cuts at both its ends add. 0 of no rows.
    ///
    /// # Errors
    /// [`NotTimed`] where the profile doesn't tell.
    pub fn segment_ms(&self, table: &LayerTable, rows: Range<usize>) -> Result<f64, NotTimed> {
        if rows.is_empty() {
            return Ok(0.0);
        }
        let all = self.rows_ms(table, 0..table.layers.len())?;
        let scale = if all > 0.0 {
            self.total_ms.median / all
        } else {
            1.0
        };
        let cuts = self.boundary(rows.start).map_or(0.0, |b| b.enter_ms)
            + self.boundary(rows.end).map_or(0.0, |b| b.leave_ms);
        Ok(scale * self.rows_ms(table, rows)? + cuts)
    }

    /// Milliseconds to write and to read so many elements in a form; between two sizes that were timed by
    /// interpolation, beyond them in proportion. `None` where the form wasn't timed.
    pub fn codec_ms(&self, form: Form, elements: usize) -> Option<(f64, f64)> {
        let mut known: Vec<&CodecTime> = self.codec.iter().filter(|t| t.form == form).collect();
        known.sort_by_key(|t| t.elements);
        let above = known.iter().position(|t| t.elements >= elements);
        let (low, high) = match above {
            Some(at) => (at.checked_sub(1).map(|at| known[at]), known[at]),
            None => (None, *known.last()?),
        };
        let (n, scale) = (elements as f64, |t: &CodecTime| t.elements.max(1) as f64);
        Some(match low {
            Some(low) => {
                let share = (n - scale(low)) / (scale(high) - scale(low));
                let between = |a: f64, b: f64| a + share * (b - a);
                (
                    between(low.encode_ms, high.encode_ms),
                    between(low.decode_ms, high.decode_ms),
                )
            }
            // Below the smallest that was timed all take what it does.
            None => {
                let times = (n / scale(high)).max(1.0);
                (times * high.encode_ms, times * high.decode_ms)
            }
        })
    }

    fn boundary(&self, rows: usize) -> Option<&Boundary> {
        let found = self.boundaries.binary_search_by_key(&rows, |b| b.rows);
        found.ok().map(|at| &self.boundaries[at])
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
