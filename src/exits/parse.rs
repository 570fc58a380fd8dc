/*!
Rendered text → typed layers. RON's grammar for a list of tuple and named structs, read by hand for
two reasons: a field may be named by an identifier (`Linear(classes)`), and after an error reading
goes on at the next layer, so that a user sees all findings at once.
*/

use super::diagnostic::{Finding, nearest};
use super::layer::{Default, Field, LAYERS, Layer, Spec, Takes};

type Span = (usize, usize);

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Number(f64),
    Sign(char),
    Odd(String),
}

/// Names that stand for a number: `classes`, `channels`, `height`, `width`.
pub(super) type Names<'a> = &'a [(&'static str, usize)];

/// The layers of a head. On error every finding, spans being ranges of `text`.
pub(super) fn parse(text: &str, names: Names) -> Result<Vec<Layer>, Vec<Finding>> {
    let mut reader = Reader {
        tokens: tokens(text),
        at: 0,
        end: text.trim_end().len(),
        names,
        findings: Vec::new(),
    };
    let layers = reader.list();
    if reader.findings.is_empty() {
        Ok(layers)
    } else {
        Err(reader.findings)
    }
}

fn tokens(text: &str) -> Vec<(Token, Span)> {
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

struct Reader<'a> {
    tokens: Vec<(Token, Span)>,
    at: usize,
    end: usize,
    names: Names<'a>,
    findings: Vec<Finding>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(t, _)| t)
    }

    fn span(&self) -> Span {
        let end = (self.end.saturating_sub(1), self.end.max(1));
        self.tokens.get(self.at).map_or(end, |(_, s)| *s)
    }

    fn take(&mut self, sign: char) -> bool {
        let here = self.peek() == Some(&Token::Sign(sign));
        self.at += usize::from(here);
        here
    }

    fn says(&self) -> String {
        match self.peek() {
            None => "the end".to_string(),
            Some(Token::Word(w) | Token::Odd(w)) => format!("`{w}`"),
            Some(Token::Number(n)) => format!("`{n}`"),
            Some(Token::Sign(c)) => format!("`{c}`"),
        }
    }

    fn expected(&mut self, what: &str) {
        let message = format!("expected {what}, found {}", self.says());
        self.findings.push(Finding::new(self.span(), message));
    }

    fn list(&mut self) -> Vec<Layer> {
        let mut layers = Vec::new();
        if !self.take('[') {
            let message = format!("expected `[`, found {}", self.says());
            let help = "a head is a list of layers: [GlobalAvgPool, Linear(classes)]";
            self.findings
                .push(Finding::new(self.span(), message).help(help));
            // Layers without a list around them are worth checking all the same.
            if !matches!(self.peek(), Some(Token::Word(_))) {
                return layers;
            }
        }
        loop {
            if self.take(']') {
                if self.peek().is_some() {
                    self.expected("nothing more after the list");
                }
                return layers;
            }
            match self.peek().cloned() {
                Some(Token::Word(name)) => {
                    if let Some(layer) = self.layer(&name) {
                        layers.push(layer);
                    }
                    if !self.take(',') && self.peek() != Some(&Token::Sign(']')) {
                        self.expected("`,` or `]` after the layer");
                        self.skip_to_next();
                    }
                }
                None => {
                    self.expected("`]` to close the list");
                    return layers;
                }
                Some(_) => {
                    self.expected("a layer");
                    self.at += 1;
                    self.skip_to_next();
                }
            }
        }
    }

    /// To the next layer, or the list's end.
    fn skip_to_next(&mut self) {
        let mut depth = 0usize;
        while let Some(token) = self.peek() {
            match token {
                Token::Sign('(') => depth += 1,
                Token::Sign(')') => depth = depth.saturating_sub(1),
                Token::Sign(',') if depth == 0 => {
                    self.at += 1;
                    return;
                }
                Token::Sign(']') => return,
                Token::Word(w) if depth == 0 && LAYERS.iter().any(|s| s.name == w) => return,
                _ => {}
            }
            self.at += 1;
        }
    }

    fn layer(&mut self, name: &str) -> Option<Layer> {
        let span = self.span();
        self.at += 1;
        let Some(spec) = LAYERS.iter().find(|s| s.name == name) else {
            let finding = Finding::new(span, format!("there is no layer `{name}`"));
            self.findings
                .push(match nearest(name, LAYERS.iter().map(|s| s.name)) {
                    Some(near) => finding.help(format!("did you mean `{near}`?")),
                    None => {
                        let all: Vec<&str> = LAYERS.iter().map(|s| s.name).collect();
                        finding.help(format!("there are {}", all.join(", ")))
                    }
                });
            if self.peek() == Some(&Token::Sign('(')) {
                self.at += 1;
                while self.peek().is_some_and(|t| *t != Token::Sign(']')) && !self.take(')') {
                    self.at += 1;
                }
            }
            return None;
        };
        let before = self.findings.len();
        let mut given: Vec<Option<f64>> = vec![None; spec.fields.len()];
        if self.take('(') {
            self.arguments(spec, &mut given);
        }
        if self.findings.len() > before {
            return None;
        }
        let mut values: Vec<f64> = Vec::new();
        for (field, value) in spec.fields.iter().zip(&given) {
            let default = match field.default {
                Some(Default::Is(d)) => Some(d),
                Some(Default::As(other)) => {
                    let at = spec.fields.iter().position(|f| f.name == other);
                    at.and_then(|i| values.get(i).copied())
                }
                None => None,
            };
            let Some(value) = value.or(default) else {
                let message = format!("`{name}` needs `{}`", field.name);
                let help = format!("`{}`: {}", field.name, field.takes.says());
                self.findings.push(Finding::new(span, message).help(help));
                return None;
            };
            values.push(value);
        }
        let end = self.tokens[self.at - 1].1.1;
        Some(Layer {
            spec,
            values,
            span: (span.0, end),
        })
    }

    /// Up to and with the closing bracket.
    fn arguments(&mut self, spec: &'static Spec, given: &mut [Option<f64>]) {
        let mut first = true;
        loop {
            if self.take(')') {
                return;
            }
            match self.peek().cloned() {
                None | Some(Token::Sign(']')) => {
                    self.expected("`)` to close the layer's fields");
                    return;
                }
                Some(Token::Word(word))
                    if self.tokens.get(self.at + 1).map(|t| &t.0) == Some(&Token::Sign(':')) =>
                {
                    let span = self.span();
                    self.at += 2;
                    let at = spec.fields.iter().position(|f| f.name == word);
                    if at.is_none() {
                        self.unknown_field(spec, &word, span);
                    }
                    self.value(spec, at, given);
                }
                Some(_) if first && !spec.fields.is_empty() => self.value(spec, Some(0), given),
                Some(_) if spec.fields.is_empty() => {
                    let message = format!("`{}` takes no fields", spec.name);
                    self.findings.push(Finding::new(self.span(), message));
                    self.at += 1;
                }
                Some(_) => {
                    let names: Vec<&str> = spec.fields.iter().map(|f| f.name).collect();
                    let what = format!("`field: value`, a field being {}", names.join(", "));
                    self.expected(&what);
                    self.at += 1;
                }
            }
            first = false;
            let closing = matches!(self.peek(), None | Some(Token::Sign(')' | ']')));
            if !self.take(',') && !closing {
                self.expected("`,` or `)`");
                self.at += 1;
            }
        }
    }

    fn unknown_field(&mut self, spec: &'static Spec, word: &str, span: Span) {
        let message = format!("`{}` has no field `{word}`", spec.name);
        let finding = Finding::new(span, message);
        let names: Vec<&str> = spec.fields.iter().map(|f| f.name).collect();
        let finding = match nearest(word, names.iter().copied()) {
            Some(near) => finding.help(format!("did you mean `{near}`?")),
            None if names.is_empty() => finding.help("it has none"),
            None => finding.help(format!("it has {}", names.join(", "))),
        };
        self.findings.push(finding);
    }

    fn value(&mut self, spec: &'static Spec, at: Option<usize>, given: &mut [Option<f64>]) {
        let span = self.span();
        let number = match self.peek() {
            Some(Token::Number(n)) => Ok((*n, false)),
            Some(Token::Word(w)) if w == "true" => Ok((1.0, true)),
            Some(Token::Word(w)) if w == "false" => Ok((0.0, true)),
            Some(Token::Word(w)) => match self.names.iter().find(|(n, _)| n == w) {
                Some(&(_, n)) => Ok((n as f64, false)),
                None => Err(nearest(w, self.names.iter().map(|n| n.0)).map(str::to_string)),
            },
            _ => Err(None),
        };
        let Some((at, field)) = at.and_then(|i| spec.fields.get(i).map(|f| (i, f))) else {
            self.skip_value();
            return;
        };
        let good = matches!(number, Ok((n, flag)) if fits(field, n, flag));
        if !good {
            let (name, takes) = (field.name, field.takes.says());
            let message = format!("`{name}` takes {takes}, not {}", self.says());
            let finding = Finding::new(span, message);
            self.findings.push(match number {
                Err(Some(near)) => finding.help(format!("did you mean `{near}`?")),
                _ => finding,
            });
        } else if given[at].is_some() {
            let message = format!("`{}` is given twice", field.name);
            self.findings.push(Finding::new(span, message));
        } else if let Ok((n, _)) = number {
            given[at] = Some(n);
        }
        self.skip_value();
    }

    fn skip_value(&mut self) {
        if !matches!(self.peek(), None | Some(Token::Sign(',' | ')' | ']'))) {
            self.at += 1;
        }
    }
}

fn fits(field: &Field, n: f64, flag: bool) -> bool {
    match field.takes {
        Takes::Flag => flag,
        Takes::Whole(low, high) => {
            !flag && n.fract() == 0.0 && (f64::from(low)..=f64::from(high)).contains(&n)
        }
        Takes::Real(low, high) => !flag && (low..=high).contains(&n),
    }
}
