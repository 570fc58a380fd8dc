/*!
A frame as bytes: what differs from the frame before, cursor moves and attributes only where they
change, all within one synchronized update. Nothing at all where nothing differs.
*/

use super::color::Depth;
use ratatui::buffer::{Buffer, Cell, CellWidth as _};
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier};
use std::io::Write as _;

const BEGIN: &[u8] = b"\x1b[?2026h";
const END: &[u8] = b"\x1b[?2026l";

/// What the terminal shows, and how to make it show something else.
#[derive(Debug)]
pub struct Screen {
    shown: Buffer,
    depth: Depth,
    /// Whether the terminal's content is unknown: at the start, after a resize, after a stop.
    stale: bool,
}

type Pen = (Color, Color, Modifier);

impl Screen {
    /// A screen nothing has been written to.
    pub fn new(depth: Depth) -> Screen {
        Screen {
            shown: Buffer::empty(Rect::ZERO),
            depth,
            stale: true,
        }
    }

    /// The next frame is written in full.
    pub fn invalidate(&mut self) {
        self.stale = true;
    }

    /// The bytes that turn what is shown into `next`; empty where they are the same.
    pub fn frame(&mut self, next: Buffer) -> Vec<u8> {
        let fresh = self.stale || self.shown.area != next.area;
        if fresh {
            self.shown = Buffer::empty(next.area);
        }
        let changes = self.shown.diff(&next);
        if changes.is_empty() && !fresh {
            return Vec::new();
        }
        let mut out = BEGIN.to_vec();
        if fresh {
            // Inside the synchronized update the cleared screen is never seen.
            out.extend_from_slice(b"\x1b[0m\x1b[2J");
        }
        let mut pen: Pen = (Color::Reset, Color::Reset, Modifier::empty());
        let mut at: Option<(u16, u16)> = None;
        for (x, y, cell) in changes {
            // Writing into a vector can't fail.
            let _ = match at {
                Some(place) if place == (x, y) => Ok(()),
                Some((from, row)) if row == y && x > from => {
                    write!(out, "\x1b[{}C", x - from)
                }
                _ => write!(out, "\x1b[{};{}H", y + 1, x + 1),
            };
            self.pick(&mut out, &mut pen, cell);
            let symbol = cell.symbol();
            // A control character would move the cursor or worse.
            let bad = symbol.chars().any(char::is_control);
            out.extend_from_slice(if bad { b" " } else { symbol.as_bytes() });
            let width = if bad { 1 } else { cell.cell_width().max(1) };
            // In the last column the terminal's cursor is in a state of its own.
            at = (x + width < next.area.right()).then_some((x + width, y));
        }
        if pen != (Color::Reset, Color::Reset, Modifier::empty()) {
            out.extend_from_slice(b"\x1b[0m");
        }
        out.extend_from_slice(END);
        self.shown = next;
        self.stale = false;
        out
    }

    fn pick(&self, out: &mut Vec<u8>, pen: &mut Pen, cell: &Cell) {
        let next = (
            self.depth.reduce(cell.fg),
            self.depth.reduce(cell.bg),
            cell.modifier,
        );
        if *pen == next {
            return;
        }
        let mut codes: Vec<String> = Vec::new();
        let reset = next.2 != pen.2;
        if reset {
            codes.push("0".into());
            for (modifier, code) in [
                (Modifier::BOLD, "1"),
                (Modifier::DIM, "2"),
                (Modifier::ITALIC, "3"),
                (Modifier::UNDERLINED, "4"),
                (Modifier::REVERSED, "7"),
                (Modifier::CROSSED_OUT, "9"),
            ] {
                if next.2.contains(modifier) {
                    codes.push(code.into());
                }
            }
        }
        let old = if reset {
            (Color::Reset, Color::Reset)
        } else {
            (pen.0, pen.1)
        };
        if next.0 != old.0 {
            codes.push(code(next.0, 30));
        }
        if next.1 != old.1 {
            codes.push(code(next.1, 40));
        }
        let _ = write!(out, "\x1b[{}m", codes.join(";"));
        *pen = next;
    }
}

fn code(color: Color, base: u8) -> String {
    let plain = |n: u8| (base + n).to_string();
    let bright = |n: u8| (base + 60 + n).to_string();
    match color {
        Color::Reset => plain(9),
        Color::Black => plain(0),
        Color::Red => plain(1),
        Color::Green => plain(2),
        Color::Yellow => plain(3),
        Color::Blue => plain(4),
        Color::Magenta => plain(5),
        Color::Cyan => plain(6),
        Color::Gray => plain(7),
        Color::DarkGray => bright(0),
        Color::LightRed => bright(1),
        Color::LightGreen => bright(2),
        Color::LightYellow => bright(3),
        Color::LightBlue => bright(4),
        Color::LightMagenta => bright(5),
        Color::LightCyan => bright(6),
        Color::White => bright(7),
        Color::Indexed(i) => format!("{};5;{i}", base + 8),
        Color::Rgb(r, g, b) => format!("{};2;{r};{g};{b}", base + 8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use ratatui::style::Style;

    fn lines(text: &[&str]) -> Buffer {
        Buffer::with_lines(text.to_vec())
    }

    #[test]
    fn nothing_changed_is_nothing_written() {
        let mut screen = Screen::new(Depth::True);
        assert!(!screen.frame(lines(&["ab", "cd"])).is_empty());
        assert_eq!(screen.frame(lines(&["ab", "cd"])), b"");
    }

    #[test]
    fn a_change_is_one_synchronized_update() {
        let mut screen = Screen::new(Depth::Sixteen);
        screen.frame(lines(&["abcdef"]));
        let mut next = lines(&["aXcYef"]);
        next.set_style(Rect::new(3, 0, 1, 1), Style::new().red().bold());
        let bytes = screen.frame(next);
        let expected = "\x1b[?2026h\x1b[1;2HX\x1b[1C\x1b[0;1;31mY\x1b[0m\x1b[?2026l";
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[test]
    fn another_terminal_sees_the_same() {
        let mut screen = Screen::new(Depth::True);
        let mut parser = vt100::Parser::new(3, 8, 0);
        for text in [
            ["│ ä  ▌│", "漢字 ok", "-------"],
            ["│ b  ▉│", "字漢 no", "---x---"],
        ] {
            parser.process(&screen.frame(lines(&text)));
            let seen: Vec<String> = parser.screen().rows(0, 7).collect();
            assert_eq!(seen, text);
        }
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        let mut screen = Screen::new(Depth::True);
        let mut buffer = lines(&["abc"]);
        buffer[(1, 0)].set_symbol("\u{1b}");
        let bytes = screen.frame(buffer);
        assert!(String::from_utf8(bytes).unwrap().contains("a c"));
    }

    #[test]
    fn no_colour_keeps_attributes() {
        let mut screen = Screen::new(Depth::None);
        let mut buffer = lines(&["ab"]);
        buffer.set_style(buffer.area, Style::new().red().on_blue().reversed());
        let text = String::from_utf8(screen.frame(buffer)).unwrap();
        assert!(text.contains("\x1b[0;7mab"), "{text:?}");
    }
}
