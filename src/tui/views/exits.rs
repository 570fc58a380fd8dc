/*! The exit classifier: its source with highlighting and underlined findings, and the head it makes. */

use super::hint;
use crate::predict::Kind;
use crate::tui::state::State;
use crate::tui::widgets::{columns, line, number, put, rows};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::Span;
use ratatui::widgets::Widget as _;
use std::ops::Range;

pub fn title(state: &State) -> Vec<Span<'static>> {
    let theme = &state.theme;
    let editor = &state.editor;
    let mut words = vec![match (&editor.error, editor.checking) {
        (_, true) => Span::styled("checking … ", theme.dim),
        (Some(error), _) => {
            let n = error.diagnostics.len();
            let s = if n == 1 { "" } else { "s" };
            Span::styled(
                format!("✗ {n} finding{s}, the last good heads stay "),
                theme.error,
            )
        }
        (None, _) if editor.heads.is_empty() => Span::raw(""),
        (None, _) => {
            let params: usize = editor.heads.iter().map(|h| h.params).sum();
            let text = format!(
                "✓ {} heads, {} parameters ",
                editor.heads.len(),
                number::count(params as f64)
            );
            Span::styled(text, theme.good)
        }
    }];
    let warned = editor.heads.iter().filter(|h| !h.warnings.is_empty());
    match (warned.count(), &editor.error) {
        (0, _) | (_, Some(_)) => {}
        (n, None) => words.push(Span::styled(format!("· ! {n} warned "), theme.warning)),
    }
    if editor.typing {
        words.push(Span::styled("· typing ", theme.focus));
    }
    words
}

/// What a stretch of source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Layer,
    Number,
    Template,
    Comment,
}

/// Stretches of a line, in characters.
fn highlight(text: &str) -> Vec<(Range<usize>, Class)> {
    let chars: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut i = 0;
    let starts =
        |i: usize, a: char, b: char| chars.get(i) == Some(&a) && chars.get(i + 1) == Some(&b);
    while i < chars.len() {
        let from = i;
        let class = if starts(i, '/', '/') {
            i = chars.len();
            Class::Comment
        } else if starts(i, '{', '{') || starts(i, '{', '%') || starts(i, '{', '#') {
            let close = match chars[i + 1] {
                '{' => '}',
                c => c,
            };
            i += 2;
            while i < chars.len() && !starts(i, close, '}') {
                i += 1;
            }
            i = (i + 2).min(chars.len());
            if chars[from + 1] == '#' {
                Class::Comment
            } else {
                Class::Template
            }
        } else if chars[i].is_ascii_digit() {
            while i < chars.len() && (chars[i].is_ascii_digit() || chars[i] == '.') {
                i += 1;
            }
            Class::Number
        } else if chars[i].is_alphabetic() || chars[i] == '_' {
            while i < chars.len() && (chars[i].is_alphanumeric() || chars[i] == '_') {
                i += 1;
            }
            if !chars[from].is_uppercase() {
                continue;
            }
            Class::Layer
        } else {
            i += 1;
            continue;
        };
        found.push((from..i, class));
    }
    found
}

pub fn draw(state: &State, buf: &mut Buffer, area: Rect) {
    let side = area.width >= 60;
    let (source, head) = if side {
        let width = (area.width * 6 / 10).max(34);
        for y in 0..area.height {
            put(buf, area, width, y, "┆", state.theme.border);
        }
        (
            columns(area, 0, width),
            columns(area, width + 2, area.width),
        )
    } else {
        let height = area.height * 6 / 10;
        (rows(area, 0, height), rows(area, height, area.height))
    };
    if let Some(missing) = &state.editor.missing {
        let used = super::wrapped(buf, source, 0, missing, state.theme.warning);
        line(
            buf,
            source,
            used,
            hint(state, "", "template", " starts from one that ships"),
        );
    } else {
        let findings = match state.editor.marks(state.layers.cursor) {
            ([], _) => 0,
            _ => 3.min(source.height / 3),
        };
        let text = rows(source, 0, source.height - findings);
        draw_source(state, buf, text);
        draw_findings(state, buf, rows(source, text.height, findings));
    }
    draw_head(state, buf, head);
}

fn draw_source(state: &State, buf: &mut Buffer, area: Rect) {
    let theme = &state.theme;
    let editor = &state.editor;
    if area.is_empty() {
        return;
    }
    editor.area.render(area, buf);
    if !editor.typing {
        // A cursor where no key goes would mislead.
        for y in area.top()..area.bottom() {
            for x in area.left()..area.right() {
                buf[(x, y)].modifier.remove(Modifier::REVERSED);
            }
        }
    }
    let (top, left) = editor.area.scroll_offset();
    let margin = editor.area.line_number_width();
    let lines = editor.area.lines();
    for y in area.top()..area.bottom() {
        for x in area.left()..area.right().min(area.left() + margin) {
            buf[(x, y)].set_style(theme.dim);
        }
    }
    let mut paint = |row: usize, range: Range<usize>, style: Style| {
        let Some(y) = row
            .checked_sub(usize::from(top))
            .and_then(|y| u16::try_from(y).ok())
        else {
            return;
        };
        for column in range {
            let Some(x) = column.checked_sub(usize::from(left)) else {
                continue;
            };
            let x = x + usize::from(margin);
            if y < area.height && x < usize::from(area.width) {
                buf[(area.x + x as u16, area.y + y)].set_style(style);
            }
        }
    };
    let visible = usize::from(top)..(usize::from(top) + usize::from(area.height)).min(lines.len());
    for row in visible {
        for (range, class) in highlight(&lines[row]) {
            let style = match class {
                Class::Layer => theme.layer,
                Class::Number => theme.number,
                Class::Template => theme.template,
                Class::Comment => theme.comment,
            };
            paint(row, range, style);
        }
    }
    let mut marked = Vec::new();
    let (marks, wrong) = editor.marks(state.layers.cursor);
    let (mark, style) = if wrong {
        ("✗", theme.error)
    } else {
        ("!", theme.warning)
    };
    for finding in marks {
        let row = finding.line.saturating_sub(1);
        let from = finding.column.saturating_sub(1);
        let style = style.add_modifier(Modifier::UNDERLINED);
        paint(row, from..from + finding.length, style);
        marked.push(row);
    }
    for row in marked {
        if let Some(y) = row
            .checked_sub(usize::from(top))
            .filter(|y| *y < usize::from(area.height))
        {
            put(buf, area, 0, y as u16, mark, style);
        }
    }
}

fn draw_findings(state: &State, buf: &mut Buffer, area: Rect) {
    let (marks, wrong) = state.editor.marks(state.layers.cursor);
    let style = if wrong {
        state.theme.error
    } else {
        state.theme.warning
    };
    if let Some(first) = marks.first() {
        let text = format!("{}:{} {}", first.line, first.column, first.message);
        let used = super::wrapped(buf, area, 0, &text, style);
        if let Some(help) = &first.help {
            let help = Span::styled(format!("    {help}"), state.theme.dim);
            line(buf, area, used, help);
        }
    }
}

/// The head at the exit under the cursor: where, what it costs, its layers. A time that isn't measured
/// yet is predicted, and says so.
fn draw_head(state: &State, buf: &mut Buffer, area: Rect) {
    let theme = &state.theme;
    let (Some(head), Some(network)) = (state.editor.head_at(state.layers.cursor), &state.network)
    else {
        return;
    };
    let after = network
        .table
        .layers
        .get(head.layer)
        .map_or("", |l| l.name.as_str());
    line(
        buf,
        area,
        0,
        Span::styled(format!("head after {after}"), theme.title),
    );
    let share = head.macs as f64 / network.table.macs.max(1) as f64;
    let text = format!("{} parameters", number::count(head.params as f64));
    line(buf, area, 1, Span::raw(text));
    let macs = number::count(head.macs as f64);
    let text = format!("{macs} MACs ({:.2} %)", 100.0 * share);
    line(buf, area, 2, Span::raw(text));
    let results = &state.results;
    let names = state.document.session.tier_names();
    let write = |ms: Option<(f64, Kind)>| match ms {
        Some((ms, Kind::Measured)) => number::ms(ms),
        Some((ms, Kind::Predicted)) => format!("≈{}", number::ms(ms)),
        None => number::NONE.to_string(),
    };
    let on = |tier| {
        let ms = results
            .profile(tier)
            .and_then(|p| head.ms(&network.table, p));
        format!("{} {}", names.name(tier), write(ms))
    };
    let each: Vec<String> = names.tiers().map(on).collect();
    let text = format!("{} ms", each.join(", "));
    line(buf, area, 3, Span::raw(text));
    let lines = head.shapes.iter();
    for (i, shape) in lines.enumerate() {
        line(
            buf,
            area,
            4 + i as u16,
            Span::styled(format!("  {shape}"), theme.dim),
        );
    }
    let from = 5 + head.shapes.len() as u16;
    for (i, text) in head.rendered.lines().enumerate() {
        line(
            buf,
            area,
            from + i as u16,
            Span::styled(text.to_string(), theme.dim),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_layers_numbers_templates_and_comments_apart() {
        let text = "  Linear({{ channels }}, 64), // wide";
        let found: Vec<(String, Class)> = highlight(text)
            .into_iter()
            .map(|(r, c)| (text.chars().skip(r.start).take(r.len()).collect(), c))
            .collect();
        let expected = [
            ("Linear", Class::Layer),
            ("{{ channels }}", Class::Template),
            ("64", Class::Number),
            ("// wide", Class::Comment),
        ];
        assert_eq!(found, expected.map(|(t, c)| (t.to_string(), c)));
        assert_eq!(highlight("{% if"), [(0..5, Class::Template)]);
        assert_eq!(highlight("Conv2d(3)")[0], (0..6, Class::Layer));
    }
}
