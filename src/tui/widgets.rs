/*!
Widgets that know nothing of the state: bars, the plan strip, the slider, curves, numbers as the screen
writes them. They draw in Unicode; `ascii` turns a finished screen into ASCII.
*/

pub mod ascii;
pub mod bar;
pub mod curve;
pub mod number;
pub mod scatter;
pub mod strip;

use crate::plan::Tier;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Block, BorderType, Widget as _};

/// The mark of an exit: filled in the first tier's part, hollow in those behind a link.
pub fn exit_mark(tier: Tier) -> &'static str {
    if tier == Tier::First { "◆" } else { "◇" }
}

/// One line of text in a row of an area; outside of it nothing is drawn.
pub fn line<'a>(buf: &mut Buffer, area: Rect, row: u16, text: impl Into<Line<'a>>) {
    if row < area.height && area.width > 0 {
        buf.set_line(area.x, area.y + row, &text.into(), area.width);
    }
}

/// Text from a column on.
pub fn put(buf: &mut Buffer, area: Rect, column: u16, row: u16, text: &str, style: Style) {
    if row < area.height && column < area.width {
        let room = usize::from(area.width - column);
        buf.set_stringn(area.x + column, area.y + row, text, room, style);
    }
}

/// Text that ends in the last column.
pub fn put_right(buf: &mut Buffer, area: Rect, row: u16, text: &str, style: Style) {
    let width = number::width(text).min(usize::from(area.width)) as u16;
    put(buf, area, area.width - width, row, text, style);
}

/// A frame around an area, and what is inside.
pub fn frame(buf: &mut Buffer, area: Rect, title: Line<'_>, style: Style) -> Rect {
    let block = Block::bordered()
        .border_type(BorderType::Plain)
        .border_style(style)
        .title(title);
    let inside = block.inner(area);
    block.render(area, buf);
    inside
}

/// Only the columns from `x` on, so many.
pub fn columns(area: Rect, x: u16, width: u16) -> Rect {
    let x = x.min(area.width);
    Rect {
        x: area.x + x,
        width: width.min(area.width - x),
        ..area
    }
}

/// Only the rows from `y` on, so many.
pub fn rows(area: Rect, y: u16, height: u16) -> Rect {
    let y = y.min(area.height);
    Rect {
        y: area.y + y,
        height: height.min(area.height - y),
        ..area
    }
}
