/*! Points in a plane in braille dots, two by four a cell, with marks and limits over them. */

use super::{number, put, put_right};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

/// What is drawn: smaller x to the left, larger y on top.
#[derive(Debug, Clone)]
pub struct Scatter<'a> {
    pub points: &'a [(f64, f64)],
    /// Symbols over the points, the later over the earlier.
    pub marks: &'a [(f64, f64, &'a str, Style)],
    /// What x and y may be at most and at least.
    pub limits: (Option<f64>, Option<f64>),
    /// What x is, with its unit, and how it is written.
    pub x: (&'a str, fn(f64) -> String),
    /// How y is written.
    pub y: fn(f64) -> String,
    pub style: Style,
    pub limit: Style,
    pub dim: Style,
}

/// Bits of a braille cell by column and row.
const DOTS: [[u32; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

/// Smallest and largest, a little apart where they are one.
fn ends(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.filter(|v| v.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| {
        (l.min(v), h.max(v))
    });
    if low > high {
        return None;
    }
    let room = if high > low {
        0.0
    } else {
        low.abs().max(1.0) * 0.01
    };
    Some((low - room, high + room))
}

impl Scatter<'_> {
    /// Draws the plane with its ends below and to the left.
    pub fn draw(&self, buf: &mut Buffer, area: Rect) {
        let marks = self.marks.iter().map(|m| (m.0, m.1));
        let all: Vec<(f64, f64)> = self.points.iter().copied().chain(marks).collect();
        let (Some(across), Some(up)) =
            (ends(all.iter().map(|p| p.0)), ends(all.iter().map(|p| p.1)))
        else {
            return;
        };
        let labels = [(self.y)(up.1), (self.y)(up.0)];
        let gutter = labels.iter().map(|l| number::width(l)).max().unwrap_or(0) as u16 + 1;
        if area.width < gutter + 10 || area.height < 3 {
            return;
        }
        let plot = super::columns(area, gutter, area.width - gutter);
        let plot = super::rows(plot, 0, area.height - 1);
        put(buf, area, 0, 0, &labels[0], self.dim);
        put(buf, area, 0, plot.height - 1, &labels[1], self.dim);
        let below = super::rows(super::columns(area, gutter, plot.width), area.height - 1, 1);
        put(buf, below, 0, 0, &(self.x.1)(across.0), self.dim);
        let middle = below.width.saturating_sub(number::width(self.x.0) as u16) / 2;
        put(buf, below, middle, 0, self.x.0, self.dim);
        put_right(buf, below, 0, &(self.x.1)(across.1), self.dim);
        let share = |value: f64, (low, high): (f64, f64)| (value - low) / (high - low);
        let cell = |share: f64, cells: u16| (share * f64::from(cells - 1)).round() as u16;
        if let Some(x) = self.limits.0.filter(|x| (across.0..=across.1).contains(x)) {
            let column = cell(share(x, across), plot.width);
            for row in 0..plot.height {
                put(buf, plot, column, row, "┆", self.limit);
            }
        }
        if let Some(y) = self.limits.1.filter(|y| (up.0..=up.1).contains(y)) {
            let row = cell(1.0 - share(y, up), plot.height);
            put(
                buf,
                plot,
                0,
                row,
                &"┄".repeat(plot.width.into()),
                self.limit,
            );
        }
        let (columns, rows) = (plot.width * 2, plot.height * 4);
        let mut dots = vec![0u32; usize::from(plot.width) * usize::from(plot.height)];
        for &(x, y) in self.points.iter().filter(|p| p.0.is_finite()) {
            let column = cell(share(x, across), columns);
            let row = cell(1.0 - share(y, up), rows);
            let at = usize::from(row / 4) * usize::from(plot.width) + usize::from(column / 2);
            dots[at] |= DOTS[usize::from(column % 2)][usize::from(row % 4)];
        }
        for (at, bits) in dots.iter().enumerate().filter(|(_, bits)| **bits != 0) {
            let symbol = char::from_u32(0x2800 + bits).unwrap_or(' ').to_string();
            let (x, y) = (at % usize::from(plot.width), at / usize::from(plot.width));
            put(buf, plot, x as u16, y as u16, &symbol, self.style);
        }
        for &(x, y, symbol, style) in self.marks.iter().filter(|m| m.0.is_finite()) {
            let column = cell(share(x, across), plot.width);
            let row = cell(1.0 - share(y, up), plot.height);
            put(buf, plot, column, row, symbol, style);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_marks_and_limits_lie_where_they_should() {
        let area = Rect::new(0, 0, 14, 5);
        let mut buf = Buffer::empty(area);
        let style = Style::new();
        let scatter = Scatter {
            points: &[(0.0, 0.0), (9.0, 3.0)],
            marks: &[(0.0, 3.0, "P", style)],
            limits: (Some(5.0), Some(1.0)),
            x: ("ms", |x| format!("{x:.0}")),
            y: |y| format!("{y:.0}"),
            style,
            limit: style,
            dim: style,
        };
        scatter.draw(&mut buf, area);
        let line = |y: u16| -> String { (0..14).map(|x| buf[(x, y)].symbol()).collect() };
        let drawn: Vec<String> = (0..5).map(line).collect();
        // A limit of 1 of 3 lies in the third of four rows, one of 5 of 9 in the seventh of twelve columns.
        assert_eq!(
            drawn,
            [
                "3 P     ┆    ⠈",
                "        ┆     ",
                "  ┄┄┄┄┄┄┄┄┄┄┄┄",
                "0 ⡀     ┆     ",
                "  0    ms    9"
            ]
        );
    }
}
