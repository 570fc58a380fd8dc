/*!
A finished screen in ASCII: every other symbol becomes the one that means the same. Folding the screen
at its end, and not each widget, leaves no place where one could be forgotten.
*/

use ratatui::buffer::Buffer;

/// The ASCII symbol of the same meaning; `?` for what a user's own text may hold.
pub fn fold(symbol: &str) -> &'static str {
    match symbol {
        "│" | "┃" | "┆" => "|",
        "─" | "━" => "-",
        "┄" | "┈" | "╌" => ".",
        "╍" => "=",
        "┌" | "┐" | "└" | "┘" | "├" | "┤" | "┬" | "┴" | "┼" => "+",
        "█" | "▉" | "▊" | "▋" | "▌" => "#",
        "▍" | "▎" | "▏" => "-",
        "▁" => "_",
        "▂" | "▃" => ".",
        "▄" | "▅" => "=",
        "▆" | "▇" => "#",
        "◆" => "E",
        "◇" => "e",
        "■" => "#",
        "●" => "@",
        "○" => "o",
        "▸" => ">",
        "▲" => "^",
        "▼" => "v",
        "✓" => "+",
        "✗" => "x",
        "≠" => "!",
        "≈" => "~",
        "≥" | "→" => ">",
        "≤" | "←" => "<",
        "×" => "x",
        "·" => ".",
        "•" => "*",
        "…" => "~",
        "–" => "-",
        "Σ" => "S",
        "°" => "o",
        "µ" => "u",
        other
            if other
                .chars()
                .all(|c| ('\u{2800}'..='\u{28ff}').contains(&c)) =>
        {
            if other == "\u{2800}" {
                " "
            } else {
                "*"
            }
        }
        _ => "?",
    }
}

/// Replaces every symbol of a screen by one of ASCII.
pub fn fold_buffer(buf: &mut Buffer) {
    for cell in &mut buf.content {
        if !cell.symbol().is_ascii() {
            let folded = fold(cell.symbol());
            cell.set_symbol(folded);
        }
    }
}
