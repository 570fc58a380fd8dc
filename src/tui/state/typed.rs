/*! A line while it is typed: its text, where the cursor stands, and whether it was only offered. */

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use tui_input::{Input, InputRequest};

/// A line of input. What it was opened with is an offer: the first letter typed replaces it.
#[derive(Debug, Clone, Default)]
pub struct Typed {
    input: Input,
    offered: bool,
}

impl PartialEq for Typed {
    fn eq(&self, other: &Typed) -> bool {
        (self.text(), self.cursor(), self.offered) == (other.text(), other.cursor(), other.offered)
    }
}

impl Typed {
    /// A line with a text to be taken or typed over.
    pub fn offer(text: impl Into<String>) -> Typed {
        let input = Input::new(text.into());
        Typed {
            offered: !input.value().is_empty(),
            input,
        }
    }

    /// A line with a text to be changed.
    pub fn of(text: impl Into<String>) -> Typed {
        Typed {
            input: Input::new(text.into()),
            offered: false,
        }
    }

    pub fn text(&self) -> &str {
        self.input.value()
    }

    /// Where the next letter goes, in characters from the line's start.
    pub fn cursor(&self) -> usize {
        self.input.cursor()
    }

    /// Whether nothing was typed yet over what it was opened with.
    pub fn is_offered(&self) -> bool {
        self.offered
    }

    /// What a key changes; keys that edit no line change nothing.
    pub fn key(&mut self, event: KeyEvent) {
        let control = event.modifiers.contains(KeyModifiers::CONTROL);
        let request = match (event.code, control) {
            (KeyCode::Backspace, _) => InputRequest::DeletePrevChar,
            (KeyCode::Delete, _) => InputRequest::DeleteNextChar,
            (KeyCode::Left, _) => InputRequest::GoToPrevChar,
            (KeyCode::Right, _) => InputRequest::GoToNextChar,
            (KeyCode::Home, _) | (KeyCode::Char('a'), true) => InputRequest::GoToStart,
            (KeyCode::End, _) | (KeyCode::Char('e'), true) => InputRequest::GoToEnd,
            (KeyCode::Char('w'), true) => InputRequest::DeletePrevWord,
            (KeyCode::Char('k'), true) => InputRequest::DeleteTillEnd,
            (KeyCode::Char('u'), true) => InputRequest::DeleteLine,
            (KeyCode::Char(c), false) => {
                if self.offered {
                    self.input.reset();
                }
                InputRequest::InsertChar(c)
            }
            _ => return,
        };
        self.offered = false;
        self.input.handle(request);
    }

    /// Puts a pasted text at the cursor, in one line.
    pub fn paste(&mut self, text: &str) {
        if std::mem::take(&mut self.offered) {
            self.input.reset();
        }
        for c in text.chars().filter(|c| !c.is_control()) {
            self.input.handle(InputRequest::InsertChar(c));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn key(code: KeyCode) -> KeyEvent {
        KeyEvent::from(code)
    }

    #[rstest]
    #[case(Typed::offer("demo.ron"), &[KeyCode::Char('x')], "x")]
    #[case(Typed::offer("demo.ron"), &[KeyCode::Home, KeyCode::Char('x')], "xdemo.ron")]
    #[case(Typed::offer("demo.ron"), &[KeyCode::Backspace], "demo.ro")]
    #[case(Typed::of("0.7"), &[KeyCode::Char('5')], "0.75")]
    #[case(Typed::of("0.7"), &[KeyCode::Left, KeyCode::Delete, KeyCode::Char('9')], "0.9")]
    fn keys_edit_where_the_cursor_stands(
        #[case] mut line: Typed,
        #[case] keys: &[KeyCode],
        #[case] expected: &str,
    ) {
        keys.iter().for_each(|code| line.key(key(*code)));
        assert_eq!(line.text(), expected);
    }

    #[test]
    fn a_paste_takes_the_place_of_an_offer_and_stays_a_line() {
        let mut line = Typed::offer("demo.ron");
        line.paste("a\r\nb");
        line.paste("c");
        assert_eq!(line.text(), "abc");
    }
}
