/*! The network as a strip: its tiers, the splits between them, exits on it, a cursor below. */

use super::{exit_mark, number, put};
use crate::plan::Tier;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

/// What is drawn. Places are shares of the network's MACs, 0 to 1.
#[derive(Debug, Clone, Default)]
pub struct Strip {
    /// What the first and the last tier are called.
    pub ends: (String, String),
    /// One between each tier and the next, ascending: 0 is before the first layer, 1 behind the last.
    pub splits: Vec<f64>,
    /// Place and tier; ascending.
    pub exits: Vec<(f64, Option<Tier>)>,
    /// The layer under the cursor.
    pub cursor: Option<f64>,
    /// Style of each tier's layers, in order of tiers.
    pub tiers: Vec<Style>,
    pub split_style: Style,
    pub exit_style: Style,
    pub cursor_style: Style,
}

impl Strip {
    /// The strip in the first row of the area, the cursor in the second.
    pub fn draw(&self, buf: &mut Buffer, area: Rect) {
        let (left, right) = (format!("{} ", self.ends.0), format!(" {}", self.ends.1));
        let begin = number::width(&left) as u16;
        let end = number::width(&right) as u16;
        if area.width < begin + end + 8 {
            return;
        }
        let width = area.width - begin - end;
        let column = |place: f64| {
            let place = place.clamp(0.0, 1.0) * f64::from(width - 1);
            begin + place.round() as u16
        };
        let last = self.splits.len();
        let style = |tier: usize| self.tiers.get(tier).copied().unwrap_or_default();
        put(buf, area, 0, 0, &left, style(0));
        put(buf, area, area.width - end, 0, &right, style(last));
        let behind = |x: u16| {
            let mut splits = self.splits.iter();
            let passed = |split: &f64| *split <= 0.0 || (*split < 1.0 && x >= column(*split));
            splits.position(|split| !passed(split)).unwrap_or(last)
        };
        for x in begin..begin + width {
            let tier = behind(x);
            let symbol = match tier {
                0 => "━",
                tier if tier < last => "╍",
                _ => "┄",
            };
            put(buf, area, x, 0, symbol, style(tier));
        }
        // Who gives the final answer.
        let ends = self.splits.iter().position(|split| *split >= 1.0);
        put(buf, area, column(1.0), 0, "■", style(ends.unwrap_or(last)));
        let inside = |split: &&f64| **split > 0.0 && **split < 1.0;
        let marks: Vec<u16> = self
            .splits
            .iter()
            .filter(inside)
            .map(|s| column(*s))
            .collect();
        for &x in &marks {
            put(buf, area, x, 0, "┃", self.split_style);
        }
        // Exits that would share a cell with another mark move aside, on their own side.
        let mut next = begin;
        for (place, tier) in &self.exits {
            let mut x = column(*place).max(next);
            let before = |split: &f64| *split < 1.0 && place <= split && *split > 0.0;
            if let Some(split) = self.splits.iter().find(|s| before(s)) {
                // At the split itself an exit belongs to the tier before it.
                let own = tier.is_none_or(|t| self.splits.get(t.index()) == Some(split));
                if own {
                    x = x.min(column(*split).saturating_sub(1));
                }
            }
            while marks.contains(&x) {
                x += 1;
            }
            let mark = exit_mark(tier.unwrap_or(Tier::First));
            put(buf, area, x, 0, mark, self.exit_style);
            next = x + 1;
        }
        if let Some(cursor) = self.cursor {
            put(buf, area, column(cursor), 1, "▲", self.cursor_style);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(names: (&str, &str), splits: &[f64], exits: &[(f64, Tier)]) -> String {
        let area = Rect::new(0, 0, 31, 1);
        let mut buf = Buffer::empty(area);
        let strip = Strip {
            ends: (names.0.into(), names.1.into()),
            splits: splits.to_vec(),
            exits: exits.iter().map(|(at, tier)| (*at, Some(*tier))).collect(),
            ..Strip::default()
        };
        strip.draw(&mut buf, area);
        (0..31).map(|x| buf[(x, 0)].symbol().to_string()).collect()
    }

    #[test]
    fn shows_every_tier() {
        use Tier::{First, Second, Third};
        let two = ("edge", "cloud");
        let exits = [(0.2, First), (0.49, First), (0.5, Second), (0.8, Second)];
        assert_eq!(
            drawn(two, &[0.5], &exits),
            "edge ━━━━◆━━━━◆┃◇┄┄┄◇┄┄┄■ cloud"
        );
        assert_eq!(drawn(two, &[0.0], &[]), "edge ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄■ cloud");
        assert_eq!(
            drawn(two, &[1.0], &[(0.5, First)]),
            "edge ━━━━━━━━━━◆━━━━━━━━■ cloud"
        );
        let three = ("device", "far");
        let exits = [(0.1, First), (0.4, Second), (0.8, Third)];
        assert_eq!(
            drawn(three, &[0.25, 0.6], &exits),
            "device ━━◆━━┃╍╍◇╍╍┃┄┄┄◇┄┄┄■ far"
        );
        // A tier with nothing to run has no stretch of the strip.
        assert_eq!(
            drawn(three, &[0.5, 0.5], &[]),
            "device ━━━━━━━━━━┃┄┄┄┄┄┄┄┄■ far"
        );
    }
}
