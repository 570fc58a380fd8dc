/*! A curve in braille dots, two by four a cell, with the current point on it. */

use super::{number, put, put_right};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

/// One line of a chart: its points and its style.
#[derive(Debug, Clone)]
pub struct Curve<'a> {
    pub title: &'a str,
    /// Ascending x from 0 to 1; a y that is no number is a gap.
    pub points: &'a [(f64, f64)],
    /// Where the slider is, 0 to 1.
    pub at: f64,
    /// How a y is written.
    pub write: fn(f64) -> String,
    pub style: Style,
    pub point: Style,
    pub dim: Style,
}

/// Bits of a braille cell by column and row.
const DOTS: [[u32; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

impl Curve<'_> {
    /// The y at an x, between its neighbours.
    fn value(&self, x: f64) -> Option<f64> {
        let after = self.points.iter().position(|p| p.0 >= x)?;
        let (x1, y1) = self.points[after];
        let (x0, y0) = self.points[after.saturating_sub(1)];
        let share = if x1 > x0 { (x - x0) / (x1 - x0) } else { 1.0 };
        let y = y0 + share * (y1 - y0);
        y.is_finite().then_some(y)
    }

    /// Draws lowest and highest to the left, 0 and 1 below, where there is room; gives what is left.
    fn axes(&self, buf: &mut Buffer, area: Rect, (low, high): (f64, f64)) -> Rect {
        let ends = [(self.write)(high), (self.write)(low)];
        let gutter = ends.iter().map(|e| number::width(e)).max().unwrap_or(0) as u16 + 1;
        let mut plot = area;
        if area.height >= 2 && area.width >= gutter + 10 {
            plot = super::columns(area, gutter, area.width - gutter);
        }
        if area.height >= 4 {
            plot = super::rows(plot, 0, area.height - 1);
            let below = super::rows(area, area.height - 1, 1);
            let from = plot.x - area.x;
            put(buf, below, from, 0, "0", self.dim);
            if plot.width >= 14 {
                put(
                    buf,
                    below,
                    from + (plot.width - 9) / 2,
                    0,
                    "threshold",
                    self.dim,
                );
            }
            put_right(buf, below, 0, "1", self.dim);
        }
        if plot.x > area.x {
            put(buf, area, 0, 0, &ends[0], self.dim);
            put(buf, area, 0, plot.height - 1, &ends[1], self.dim);
        }
        plot
    }

    /// Draws title, value, curve and, where there is room, its axes.
    pub fn draw(&self, buf: &mut Buffer, area: Rect) {
        let now = self.value(self.at);
        let text = now.map_or(number::NONE.to_string(), self.write);
        let room = usize::from(area.width).saturating_sub(number::width(&text) + 1);
        let title: String = self.title.chars().take(room).collect();
        put(buf, area, 0, 0, &title, self.dim);
        put_right(buf, area, 0, &text, self.point);
        let plot = super::rows(area, 1, area.height.saturating_sub(1));
        let finite = self.points.iter().map(|p| p.1).filter(|y| y.is_finite());
        let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), y| {
            (l.min(y), h.max(y))
        });
        if plot.height == 0 || plot.width == 0 || low > high {
            return;
        }
        let plot = self.axes(buf, plot, (low, high));
        let (across, down) = (usize::from(plot.width) * 2, usize::from(plot.height) * 4);
        // A flat curve runs through the middle.
        let flat = high - low <= 1e-9 * high.abs().max(1.0);
        let level = |y: f64| {
            let share = if flat { 0.5 } else { (y - low) / (high - low) };
            ((1.0 - share) * (down - 1) as f64).round() as usize
        };
        let mut cells = vec![0u32; usize::from(plot.width) * usize::from(plot.height)];
        let mut before: Option<usize> = None;
        for column in 0..across {
            let x = column as f64 / (across - 1).max(1) as f64;
            let Some(y) = self.value(x).map(level) else {
                before = None;
                continue;
            };
            // Steep parts stay connected.
            let (from, to) = match before {
                Some(b) if b + 1 < y => (b + 1, y),
                Some(b) if y + 1 < b => (y, b - 1),
                _ => (y, y),
            };
            for row in from..=to {
                cells[row / 4 * usize::from(plot.width) + column / 2] |= DOTS[column % 2][row % 4];
            }
            before = Some(y);
        }
        for (i, bits) in cells.iter().enumerate().filter(|(_, bits)| **bits != 0) {
            let symbol = char::from_u32(0x2800 + bits).unwrap_or(' ').to_string();
            let (x, y) = (i % usize::from(plot.width), i / usize::from(plot.width));
            put(buf, plot, x as u16, y as u16, &symbol, self.style);
        }
        if let Some(y) = now.map(level) {
            let x = (self.at * f64::from(plot.width - 1)).round() as u16;
            put(buf, plot, x, (y / 4) as u16, "●", self.point);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(points: &[(f64, f64)], at: f64) -> Vec<String> {
        let area = Rect::new(0, 0, 8, 3);
        let mut buf = Buffer::empty(area);
        let style = Style::new();
        let curve = Curve {
            title: "t",
            points,
            at,
            write: number::ms,
            style,
            point: style,
            dim: style,
        };
        curve.draw(&mut buf, area);
        let row = |y: u16| {
            (0..8)
                .map(|x| buf[(x, y)].symbol().to_string())
                .collect::<String>()
        };
        (0..3).map(row).collect()
    }

    #[test]
    fn rises_from_corner_to_corner_with_its_point() {
        let rows = drawn(&[(0.0, 0.0), (1.0, 10.0)], 0.0);
        assert_eq!(rows[0], "t   0.00");
        assert_eq!(&rows[1].chars().last(), &Some('⠉'), "{rows:?}");
        assert_eq!(&rows[2].chars().next(), &Some('●'), "{rows:?}");
    }

    #[test]
    fn gaps_and_nothing_draw_no_dots() {
        assert_eq!(drawn(&[], 0.5)[0], "t      –");
        let rows = drawn(&[(0.0, f64::NAN), (1.0, f64::NAN)], 0.5);
        assert_eq!(rows[1].trim(), "");
        let flat = drawn(&[(0.0, 1.0), (1.0, 1.0)], 0.5);
        assert!(flat[1].contains('⣀') || flat[2].contains('⠉'), "{flat:?}");
    }
}
