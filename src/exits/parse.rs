/*!
Rendered text → typed layers. RON's grammar for a list of tuple and named structs, read by hand for
two reasons: a value may be an identifier (`Linear(classes)`, `Parallel([…], sum)`), and after an
error reading goes on at the next layer, so that a user sees all findings at once.
*/

mod fields;
mod hints;
mod token;

use super::diagnostic::Finding;
use super::layer::{Default, LAYERS, Layer, Value};
use token::{Span, Token, tokens};

/// Lists in lists deeper than any head needs; what is deeper would need a stack to match.
const MAX_DEPTH: usize = 16;

/// Names that stand for a number: `classes`, `channels`, `height`, `width`.
pub(super) type Names<'a> = &'a [(&'static str, usize)];

/// The layers of a head. On error every finding, spans being ranges of `text`.
pub(super) fn parse(text: &str, names: Names) -> Result<Vec<Layer>, Vec<Finding>> {
    let mut reader = Reader {
        tokens: tokens(text),
        at: 0,
        end: text.trim_end().len(),
        names,
        depth: 0,
        opened: false,
        findings: Vec::new(),
    };
    let layers = reader.head();
    if reader.findings.is_empty() {
        Ok(layers)
    } else {
        Err(reader.findings)
    }
}

struct Reader<'a> {
    tokens: Vec<(Token, Span)>,
    at: usize,
    end: usize,
    names: Names<'a>,
    /// How many lists are open around the layer being read.
    depth: usize,
    /// Whether the text begins with a bracket: what was never opened needn't be closed.
    opened: bool,
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
            Some(Token::Text(text)) => format!("`\"{text}\"`"),
            Some(Token::Sign(c)) => format!("`{c}`"),
        }
    }

    fn expected(&mut self, what: &str) {
        let message = format!("expected {what}, found {}", self.says());
        self.findings.push(Finding::new(self.span(), message));
    }

    /// The same with a way out.
    fn expected_or(&mut self, what: &str, help: impl Into<String>) {
        let message = format!("expected {what}, found {}", self.says());
        let finding = Finding::new(self.span(), message).help(help);
        self.findings.push(finding);
    }

    /// Reads the whole source as a list of layers.
    fn head(&mut self) -> Vec<Layer> {
        self.opened = self.take('[');
        if !self.opened {
            let help = "a head is a list of layers: [GlobalAvgPool, Linear(classes)]";
            match self.peek() {
                None => {
                    let finding = Finding::new(self.span(), "there is nothing here");
                    self.findings.push(finding.help(help));
                }
                Some(_) => self.expected_or("`[`", help),
            }
            // Layers without a list around them are worth checking all the same.
            let layer = |name: &String| LAYERS.iter().any(|s| s.name == name);
            if !matches!(self.peek(), Some(Token::Word(name)) if layer(name)) {
                return Vec::new();
            }
        }
        let layers = self.list();
        if self.peek().is_some() && self.findings.is_empty() {
            self.expected("nothing more after the list");
        }
        layers
    }

    /// Layers up to and with the closing bracket; the opening one is read.
    fn list(&mut self) -> Vec<Layer> {
        let mut layers = Vec::new();
        loop {
            if self.take(']') {
                return layers;
            }
            match self.peek().cloned() {
                Some(Token::Word(name)) => {
                    layers.extend(self.layer(&name));
                    self.comma();
                }
                None => {
                    if self.opened {
                        self.expected("`]` to close the list");
                    }
                    return layers;
                }
                Some(_) => {
                    self.expected("a layer");
                    self.skip_one();
                    self.skip_to_next();
                }
            }
        }
    }

    /// Branches up to and with the closing bracket; a layer that stands alone is a branch.
    fn branches(&mut self) -> Vec<Vec<Layer>> {
        let mut branches = Vec::new();
        loop {
            if self.take(']') {
                return branches;
            }
            match self.peek().cloned() {
                Some(Token::Word(name)) => {
                    branches.extend(self.layer(&name).map(|l| vec![l]));
                    self.comma();
                }
                Some(Token::Sign('[')) => {
                    self.at += 1;
                    branches.push(self.list());
                    self.comma();
                }
                None => {
                    self.expected("`]` to close the branches");
                    return branches;
                }
                Some(_) => {
                    self.expected("a list of layers");
                    self.skip_one();
                    self.skip_to_next();
                }
            }
        }
    }

    fn comma(&mut self) {
        if !self.take(',') && self.peek() != Some(&Token::Sign(']')) {
            // A list that the text's end cuts off is one finding, not two.
            let what = match self.peek() {
                None => return,
                Some(_) => "`,` or `]` after the layer",
            };
            self.expected_or(what, "part layers by commas");
            self.skip_to_next();
        }
    }

    /// One token, or with an opening bracket all it encloses.
    fn skip_one(&mut self) {
        let mut open = 0usize;
        while let Some(token) = self.peek() {
            match token {
                Token::Sign('(' | '[') => open += 1,
                Token::Sign(')' | ']') => open = open.saturating_sub(1),
                _ => {}
            }
            self.at += 1;
            if open == 0 {
                return;
            }
        }
    }

    /// To the next layer, or the list's end.
    fn skip_to_next(&mut self) {
        while let Some(token) = self.peek() {
            match token {
                Token::Sign(',') => {
                    self.at += 1;
                    return;
                }
                Token::Sign(']') => return,
                Token::Word(w) if LAYERS.iter().any(|s| s.name == w) => return,
                _ => self.skip_one(),
            }
        }
    }

    fn layer(&mut self, name: &str) -> Option<Layer> {
        let span = self.span();
        self.at += 1;
        let Some(spec) = LAYERS.iter().find(|s| s.name == name) else {
            let finding = Finding::new(span, format!("there is no layer `{name}`"));
            self.findings.push(finding.help(hints::layer(name)));
            if self.peek() == Some(&Token::Sign('(')) {
                self.skip_one();
            }
            return None;
        };
        let before = self.findings.len();
        let mut given: Vec<Option<Value>> = vec![None; spec.fields.len()];
        if self.take('(') {
            self.arguments(spec, &mut given);
        }
        if self.findings.len() > before {
            return None;
        }
        let mut values: Vec<Value> = Vec::new();
        for (field, value) in spec.fields.iter().zip(given) {
            let default = match field.default {
                Some(Default::Is(d)) => Some(Value::Number(d)),
                Some(Default::As(other)) => {
                    let at = spec.fields.iter().position(|f| f.name == other);
                    at.and_then(|i| values.get(i).cloned())
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
}
