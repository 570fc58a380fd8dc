/*! Rendered text → tokens. */

pub(super) type Span = (usize, usize);

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Word(String),
    Number(f64),
    /// In double quotes, within a line.
    Text(String),
    Sign(char),
    /// Nothing a head is made of.
    Odd(String),
}

/// The tokens of a text and where they stand; comments and white space are none.
pub(super) fn tokens(text: &str) -> Vec<(Token, Span)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let run = |ok: &dyn Fn(char) -> bool| rest.find(|c| !ok(c)).unwrap_or(rest.len());
        let (length, token) = if c.is_whitespace() {
            (c.len_utf8(), None)
        } else if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), None)
        } else if rest.starts_with("/*") {
            (rest.find("*/").map_or(rest.len(), |i| i + 2), None)
        } else if c.is_alphabetic() || c == '_' {
            let n = run(&|c| c.is_alphanumeric() || c == '_');
            (n, Some(Token::Word(rest[..n].to_string())))
        } else if c.is_ascii_digit() || ((c == '-' || c == '.' || c == '+') && rest.len() > 1) {
            let n = run(&|c| c.is_ascii_alphanumeric() || "._+-".contains(c));
            let word = &rest[..n];
            let number = word.replace('_', "").parse::<f64>().ok();
            let token = number.filter(|n| n.is_finite()).map(Token::Number);
            (
                n,
                Some(token.unwrap_or_else(|| Token::Odd(word.to_string()))),
            )
        } else if c == '"' {
            let body = &rest[1..];
            match body.find(['"', '\n']) {
                Some(n) if body[n..].starts_with('"') => {
                    (n + 2, Some(Token::Text(body[..n].to_string())))
                }
                found => {
                    let n = found.unwrap_or(body.len());
                    (n + 1, Some(Token::Odd(rest[..n + 1].to_string())))
                }
            }
        } else if "[](),:".contains(c) {
            (1, Some(Token::Sign(c)))
        } else {
            (c.len_utf8(), Some(Token::Odd(c.to_string())))
        };
        if let Some(token) = token {
            found.push((token, (at, at + length)));
        }
        at += length;
    }
    found
}
