/*! The network as a strip: edge and cloud, the split between them, exits on it, a cursor below. */

use super::put;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

/// What is drawn. Places are shares of the network's MACs, 0 to 1.
#[derive(Debug, Clone, Default)]
pub struct Strip {
    /// 0 is all in the cloud, 1 all on the edge.
    pub split: f64,
    /// Place, and whether it stands before the split; ascending.
    pub exits: Vec<(f64, bool)>,
    /// The layer under the cursor.
    pub cursor: Option<f64>,
    pub edge: Style,
    pub cloud: Style,
    pub split_style: Style,
    pub exit_style: Style,
    pub cursor_style: Style,
}

impl Strip {
    /// The strip in the first row of the area, the cursor in the second.
    pub fn draw(&self, buf: &mut Buffer, area: Rect) {
        let (left, right) = ("edge ", " cloud");
        let ends = (left.len() + right.len()) as u16;
        if area.width < ends + 8 {
            return;
        }
        let width = area.width - ends;
        let column = |place: f64| {
            let place = place.clamp(0.0, 1.0) * f64::from(width - 1);
            left.len() as u16 + place.round() as u16
        };
        put(buf, area, 0, 0, left, self.edge);
        put(
            buf,
            area,
            area.width - right.len() as u16,
            0,
            right,
            self.cloud,
        );
        let split = column(self.split);
        for x in 0..width {
            let x = x + left.len() as u16;
            let edge = self.split >= 1.0 || (x < split && self.split > 0.0);
            let (symbol, style) = if edge {
                ("━", self.edge)
            } else {
                ("┄", self.cloud)
            };
            put(buf, area, x, 0, symbol, style);
        }
        put(
            buf,
            area,
            column(1.0),
            0,
            "■",
            if self.split >= 1.0 {
                self.edge
            } else {
                self.cloud
            },
        );
        let inside = self.split > 0.0 && self.split < 1.0;
        if inside {
            put(buf, area, split, 0, "┃", self.split_style);
        }
        // Exits that would share a cell with another mark move aside, on their own side.
        let mut last = left.len() as u16;
        for (place, edge) in &self.exits {
            let mut x = column(*place).max(last);
            if inside && *edge {
                x = x.min(split.saturating_sub(1));
            } else if inside {
                x = x.max(split + 1);
            }
            put(
                buf,
                area,
                x,
                0,
                if *edge { "◆" } else { "◇" },
                self.exit_style,
            );
            last = x + 1;
        }
        if let Some(cursor) = self.cursor {
            put(buf, area, column(cursor), 1, "▲", self.cursor_style);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(split: f64, exits: &[(f64, bool)]) -> String {
        let area = Rect::new(0, 0, 31, 1);
        let mut buf = Buffer::empty(area);
        let strip = Strip {
            split,
            exits: exits.to_vec(),
            ..Strip::default()
        };
        strip.draw(&mut buf, area);
        (0..31).map(|x| buf[(x, 0)].symbol().to_string()).collect()
    }

    #[test]
    fn shows_both_sides() {
        let exits = [(0.2, true), (0.49, true), (0.5, false), (0.8, false)];
        assert_eq!(drawn(0.5, &exits), "edge ━━━━◆━━━━◆┃◇┄┄┄◇┄┄┄■ cloud");
        assert_eq!(drawn(0.0, &[]), "edge ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄■ cloud");
        assert_eq!(
            drawn(1.0, &[(0.5, true)]),
            "edge ━━━━━━━━━━◆━━━━━━━━■ cloud"
        );
    }
}
