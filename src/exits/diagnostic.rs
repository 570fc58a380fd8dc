/*! What is wrong with a head's source, and where in the user's own text. */

use std::fmt;

/// One finding. Positions are in the source as the user wrote it, also for what was only found
/// after rendering.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Diagnostic {
    /// Number of the line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Characters to underline, at least 1.
    pub length: usize,
    /// What was found, in one sentence without a full stop.
    pub message: String,
    /// A way out, where there is one.
    pub help: Option<String>,
}

/// Why no head could be made of a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct ExitError {
    /// The exit point it was made for (the name of its layer), if it got that far.
    pub after: Option<String>,
    /// The source as the user wrote it.
    pub source_text: String,
    /// In order of position, at least one.
    pub diagnostics: Vec<Diagnostic>,
}

impl ExitError {
    /// All findings with the line they are in and a caret under the place.
    pub fn text(&self) -> String {
        let at = self.after.as_ref();
        let at = at.map_or(String::new(), |a| format!(" after layer `{a}`"));
        let mut text = format!("the exit classifier can't be built{at}");
        for d in &self.diagnostics {
            text.push('\n');
            text.push_str(&d.text(&self.source_text));
        }
        text
    }
}

impl Diagnostic {
    /// A finding about the whole, placed at its start.
    pub fn at_start(message: impl Into<String>) -> Diagnostic {
        Finding::new((0, 1), message).locate("")
    }

    /// The finding with the line of `source` it is in and a caret under the place.
    pub fn text(&self, source: &str) -> String {
        Caret(self, source).to_string()
    }
}

struct Caret<'a>(&'a Diagnostic, &'a str);

impl fmt::Display for Caret<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let d = self.0;
        let line = self.1.lines().nth(d.line.saturating_sub(1)).unwrap_or("");
        let number = d.line.to_string();
        let margin = " ".repeat(number.len());
        let before = line.chars().take(d.column.saturating_sub(1));
        let before: String = before.map(|c| if c == '\t' { c } else { ' ' }).collect();
        writeln!(f, "{}:{}: {}", d.line, d.column, d.message)?;
        writeln!(f, "{number} | {line}")?;
        write!(f, "{margin} | {before}{}", "^".repeat(d.length.max(1)))?;
        if let Some(help) = &d.help {
            write!(f, "\n{margin} = {help}")?;
        }
        Ok(())
    }
}

/// A finding by byte range of the source, before it becomes line and column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub start: usize,
    pub end: usize,
    pub message: String,
    pub help: Option<String>,
}

impl Finding {
    pub fn new(span: (usize, usize), message: impl Into<String>) -> Self {
        Finding {
            start: span.0,
            end: span.1,
            message: message.into(),
            help: None,
        }
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Line and column in `source`; an underline never leaves its line.
    pub fn locate(self, source: &str) -> Diagnostic {
        let floor = |mut at: usize| {
            at = at.min(source.len());
            while !source.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let start = floor(self.start);
        let end = floor(self.end.max(start));
        let line_start = source[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_end = source[start..]
            .find('\n')
            .map_or(source.len(), |i| i + start);
        Diagnostic {
            line: source[..start].matches('\n').count() + 1,
            column: source[line_start..start].chars().count() + 1,
            length: source[start..end.min(line_end).max(start)]
                .chars()
                .count()
                .max(1),
            message: self.message,
            help: self.help,
        }
    }
}

/// The nearest of `names` by edit distance (case aside), if any is near enough to be meant.
pub(super) fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let best = names
        .into_iter()
        .map(|n| (distance(&word, &n.to_lowercase()), n))
        .min_by_key(|(d, _)| *d)?;
    (best.0 <= (word.chars().count() / 3).max(1)).then_some(best.1)
}

/// Levenshtein distance: insertions, deletions and replacements between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let replace = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
