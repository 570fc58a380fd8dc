/*!
Marks in a template that survive rendering and say where each byte came from, through macros and
includes too: what the template engine keeps by itself ends where output is captured.

A mark stands behind each tag ("from here on verbatim, from byte so and so") and before each tag
("what now comes is made by the tag at this range"). Marks are written with characters of a private
plane. White space that a tag trims (`{%-`, `-%}`) must still touch it, so marks stand beyond it.
*/

use super::tags::tags;
use std::fmt::Write;

const OPEN: char = '\u{f3a01}';
const CLOSE: char = '\u{f3a02}';

/// Where a byte of rendered text came from: file (0 is the user's source), and range in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    pub file: usize,
    pub start: usize,
    pub end: usize,
    /// The range in the user's own source that brought it in, for other files.
    pub root: (usize, usize),
}

/// `source` with marks; `None` where it holds characters that marks are made of.
pub(super) fn mark(source: &str, file: usize) -> Option<String> {
    if source.contains([OPEN, CLOSE]) {
        return None;
    }
    let mut out = String::with_capacity(2 * source.len());
    let mut at = 0;
    let mut trims = false;
    let raw =
        |out: &mut String, from: usize, to: usize, trims: bool, tag: Option<(usize, usize)>| {
            let text = &source[from..to];
            let inner = match trims {
                true => text.trim_start(),
                false => text,
            };
            let lead = text.len() - inner.len();
            out.push_str(&text[..lead]);
            let start = from + lead;
            let _ = write!(out, "{OPEN}{file},{start},{start}{CLOSE}");
            let Some((a, b)) = tag else {
                out.push_str(inner);
                return;
            };
            let kept = match source.as_bytes().get(a + 2) {
                Some(b'-') => inner.trim_end(),
                _ => inner,
            };
            out.push_str(kept);
            let _ = write!(out, "{OPEN}{file},{a},{b}{CLOSE}");
            out.push_str(&inner[kept.len()..]);
        };
    for (a, b) in tags(source) {
        raw(&mut out, at, a, trims, Some((a, b)));
        out.push_str(&source[a..b]);
        trims = source[..b.saturating_sub(2)].ends_with('-');
        at = b;
    }
    raw(&mut out, at, source.len(), trims, None);
    Some(out)
}

/// The text without its marks, and the origin of each of its bytes; `None` where marks are damaged,
/// as by a filter that reorders text.
pub(super) fn read(marked: &str) -> Option<(String, Vec<Origin>)> {
    let mut text = String::with_capacity(marked.len());
    let mut origins = Vec::with_capacity(marked.len());
    let mut at = Origin {
        file: 0,
        start: 0,
        end: 0,
        root: (0, 0),
    };
    let mut rest = marked;
    while let Some(i) = rest.find([OPEN, CLOSE]) {
        verbatim(&rest[..i], &mut at, &mut text, &mut origins);
        let body = rest[i..].strip_prefix(OPEN)?;
        let (numbers, behind) = body.split_once(CLOSE)?;
        let mut numbers = numbers.split(',').map(str::parse::<usize>);
        let mut next = || numbers.next()?.ok();
        at.file = next()?;
        (at.start, at.end) = (next()?, next()?);
        if at.file == 0 {
            at.root = (at.start, at.end);
        }
        rest = behind;
    }
    verbatim(rest, &mut at, &mut text, &mut origins);
    Some((text, origins))
}

/// FieldKind over what stands between two marks.
fn verbatim(piece: &str, at: &mut Origin, text: &mut String, origins: &mut Vec<Origin>) {
    text.push_str(piece);
    let made = at.end > at.start;
    for i in 0..piece.len() {
        let mut origin = *at;
        if !made {
            origin.start += i;
            origin.end = origin.start + 1;
        }
        if origin.file == 0 {
            origin.root = (origin.start, origin.end);
        }
        origins.push(origin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn marks_come_off_and_say_where_text_stood() {
        let source = "a {%- if true -%} b {% endif %}{{ x }}é";
        let marked = mark(source, 0).unwrap();
        let mut env = minijinja::Environment::new();
        env.add_template("t", &marked).unwrap();
        let context = minijinja::context! { x => 12 };
        let rendered = env.get_template("t").unwrap().render(&context).unwrap();
        let plain = env.render_str(source, &context).unwrap();
        let (text, origins) = read(&rendered).unwrap();
        assert_eq!(text, plain);
        assert_eq!(text, "ab 12é");
        let at = |i: usize| &source[origins[i].start..origins[i].end];
        assert_eq!(
            (at(0), at(1), at(3), at(4)),
            ("a", "b", "{{ x }}", "{{ x }}")
        );
        assert_eq!(origins[5].start, source.len() - 2);
    }
}
