/*! The layers on screen: sorted, filtered, folded by block, with a cursor that the plan shares. */

use super::State;
use crate::device::Profile;
use crate::model::{Layer, LayerTable};
use crate::plan::{Tier, TierNames};
use std::ops::Range;

/// In which order rows stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    #[default]
    Order,
    /// By the time on a tier: the first, or the last.
    FirstTime,
    LastTime,
    Memory,
    Macs,
}

impl Sort {
    pub fn next(self) -> Sort {
        match self {
            Sort::Order => Sort::FirstTime,
            Sort::FirstTime => Sort::LastTime,
            Sort::LastTime => Sort::Memory,
            Sort::Memory => Sort::Macs,
            Sort::Macs => Sort::Order,
        }
    }

    pub fn name(self, tiers: &TierNames) -> String {
        let last = tiers.tiers().next_back().unwrap_or(Tier::First);
        match self {
            Sort::Order => "in order".into(),
            Sort::FirstTime => format!("by {} time", tiers.name(Tier::First)),
            Sort::LastTime => format!("by {} time", tiers.name(last)),
            Sort::Memory => "by memory".into(),
            Sort::Macs => "by MACs".into(),
        }
    }
}

/// How the table is shown.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Layers {
    /// Row of the layer table.
    pub cursor: usize,
    pub sort: Sort,
    pub log: bool,
    pub folded: bool,
    /// Tier of a name or an op; empty shows all.
    pub filter: String,
    /// Which of the plan's splits the keys change, from 0; the last where there are fewer.
    pub split: usize,
}

/// A row on screen: a layer, or a block of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Rows of the layer table.
    pub layers: Range<usize>,
    pub name: String,
    pub op: String,
    /// Median milliseconds on each tier, in order.
    pub ms: Vec<Option<f64>>,
    /// F32 parameters and outputs.
    pub bytes: usize,
    pub macs: u64,
    /// Split memory up to and including it, as a share of the network's.
    pub prefix: f64,
}

/// `stage2.0.conv1` → `stage2.0`; a name without a dot is a block of its own.
fn block(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(block, _)| block)
}

/// Median milliseconds of some layers; none where the profile doesn't tell.
fn time(table: &LayerTable, profile: Option<&Profile>, layers: &Range<usize>) -> Option<f64> {
    profile?.rows_ms(table, layers.clone()).ok()
}

fn row(table: &LayerTable, layers: Range<usize>, profiles: &[Option<&Profile>]) -> Row {
    let inside = &table.layers[layers.clone()];
    let last = inside.last();
    let one = inside.len() == 1;
    let name = inside.first().map_or("", |l| l.name.as_str());
    Row {
        name: if one { name.into() } else { block(name).into() },
        op: match (one, inside.first()) {
            (true, Some(l)) => l.op.clone(),
            _ => format!("{} layers", inside.len()),
        },
        ms: profiles.iter().map(|p| time(table, *p, &layers)).collect(),
        bytes: inside
            .iter()
            .map(|l| l.param_bytes + l.activation_bytes)
            .sum(),
        macs: inside.iter().map(|l| l.macs).sum(),
        prefix: last.map_or(0.0, |l| {
            l.prefix_memory_bytes as f64 / table.memory_bytes.max(1) as f64
        }),
        layers,
    }
}

/// The rows to show.
pub fn rows(state: &State) -> Vec<Row> {
    let Some(network) = &state.network else {
        return Vec::new();
    };
    let table = &network.table;
    let view = &state.layers;
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for (i, layer) in table.layers.iter().enumerate() {
        let same = |r: &Range<usize>| block(&table.layers[r.start].name) == block(&layer.name);
        match ranges.last_mut() {
            Some(last) if view.folded && layer.name.contains('.') && same(last) => last.end = i + 1,
            _ => ranges.push(i..i + 1),
        }
    }
    let tiers = state.document.session.chain();
    let profiles: Vec<_> = tiers.map(|tier| state.results.profile(tier)).collect();
    let needle = view.filter.to_lowercase();
    let wanted = |r: &Row| {
        let hit = |text: &str| text.to_lowercase().contains(&needle);
        needle.is_empty() || hit(&r.name) || hit(&r.op)
    };
    let all = ranges.into_iter().map(|range| row(table, range, &profiles));
    let mut rows: Vec<Row> = all.filter(wanted).collect();
    let down = |a: f64, b: f64| b.total_cmp(&a);
    let ms = |own: Option<&Option<f64>>| own.copied().flatten().unwrap_or(0.0);
    match view.sort {
        Sort::Order => {}
        Sort::FirstTime => rows.sort_by(|a, b| down(ms(a.ms.first()), ms(b.ms.first()))),
        Sort::LastTime => rows.sort_by(|a, b| down(ms(a.ms.last()), ms(b.ms.last()))),
        Sort::Memory => rows.sort_by_key(|r| std::cmp::Reverse(r.bytes)),
        Sort::Macs => rows.sort_by_key(|r| std::cmp::Reverse(r.macs)),
    }
    rows
}

/// Which of the rows the cursor is in; the nearest where its own isn't shown.
pub fn position(rows: &[Row], cursor: usize) -> usize {
    let own = rows.iter().position(|r| r.layers.contains(&cursor));
    let near = || {
        let distances = rows.iter().enumerate();
        distances
            .min_by_key(|(_, r)| r.layers.start.abs_diff(cursor))
            .map(|(i, _)| i)
    };
    own.or_else(near).unwrap_or(0)
}

/// Why no split or exit may stand behind a row, in words a person knows, and where one may.
pub fn refusal(table: &LayerTable, row: usize, legal: fn(&Layer) -> bool) -> String {
    let Some(layer) = table.layers.get(row) else {
        return "there is no such layer".into();
    };
    let why = layer.why_not.as_deref().unwrap_or("no cut");
    let why = if layer.is_cut {
        why.to_string()
    } else {
        format!("a skip connection crosses here ({why})")
    };
    let name = |i: usize| table.layers[i].name.as_str();
    let before = (0..row).rfind(|&i| legal(&table.layers[i]));
    let after = (row + 1..table.layers.len()).find(|&i| legal(&table.layers[i]));
    match (before, after) {
        (Some(one), Some(other)) => format!(
            "{why}; the nearest places are after {} and {}",
            name(one),
            name(other)
        ),
        (Some(one), None) | (None, Some(one)) => {
            format!("{why}; the nearest place is after {}", name(one))
        }
        (None, None) => why,
    }
}

impl State {
    /// Moves the cursor by rows as they are shown.
    pub fn move_cursor(&mut self, by: isize) {
        let rows = rows(self);
        if rows.is_empty() {
            return;
        }
        let at = position(&rows, self.layers.cursor);
        let to = at.saturating_add_signed(by).min(rows.len() - 1);
        if to != at {
            let layers = &rows[to].layers;
            // Of a block the last layer counts: behind it is its cut.
            self.layers.cursor = layers.end.saturating_sub(1);
        }
    }

    /// Moves the cursor to the next place where a split or an exit may stand.
    pub fn move_to_legal(&mut self, forward: bool) {
        let Some(network) = &self.network else {
            return;
        };
        let at = self.layers.cursor;
        let layers = network.table.layers.iter().enumerate();
        let mut legal = layers
            .filter(|(_, l)| l.split_legal || l.exit_legal)
            .map(|(i, _)| i);
        let to = if forward {
            legal.find(|&i| i > at)
        } else {
            legal.rfind(|&i| i < at)
        };
        if let Some(to) = to {
            self.layers.cursor = to;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_named_by_what_their_layers_share() {
        assert_eq!(block("stage2.0.conv1"), "stage2.0");
        assert_eq!(block("stem"), "stem");
    }
}
