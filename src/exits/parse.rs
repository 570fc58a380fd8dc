/*!
Rendered text → typed layers. RON's grammar for a list of tuple and named structs, read by hand for
two reasons: a value may be an identifier (`Linear(classes)`, `Parallel([…], sum)`), and after an
error reading goes on at the next layer, so that a user sees all findings at once.
*/

mod token;

use super::diagnostic::{Finding, nearest};
use super::layer::{Default, Field, LAYERS, Layer, Spec, Takes, Value};
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

    /// The whole text.
    fn head(&mut self) -> Vec<Layer> {
        if !self.take('[') {
            let message = format!("expected `[`, found {}", self.says());
            let help = "a head is a list of layers: [GlobalAvgPool, Linear(classes)]";
            self.findings
                .push(Finding::new(self.span(), message).help(help));
            // Layers without a list around them are worth checking all the same.
            if !matches!(self.peek(), Some(Token::Word(_))) {
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
                    self.expected("`]` to close the list");
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
            self.expected(what);
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
            self.findings
                .push(match nearest(name, LAYERS.iter().map(|s| s.name)) {
                    Some(near) => finding.help(format!("did you mean `{near}`?")),
                    None => {
                        let all: Vec<&str> = LAYERS.iter().map(|s| s.name).collect();
                        finding.help(format!("there are {}", all.join(", ")))
                    }
                });
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

    /// Up to and with the closing bracket.
    fn arguments(&mut self, spec: &'static Spec, given: &mut [Option<Value>]) {
        // Fields given by position stand before the named ones.
        let mut position = 0;
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
                    position = spec.positional;
                    let at = spec.fields.iter().position(|f| f.name == word);
                    if at.is_none() {
                        self.unknown_field(spec, &word, span);
                    }
                    self.value(spec, at, given);
                }
                Some(_) if position < spec.positional.min(spec.fields.len()) => {
                    self.value(spec, Some(position), given);
                    position += 1;
                }
                Some(_) if spec.fields.is_empty() => {
                    let message = format!("`{}` takes no fields", spec.name);
                    self.findings.push(Finding::new(self.span(), message));
                    self.skip_one();
                }
                Some(_) => {
                    let names: Vec<&str> = spec.fields.iter().map(|f| f.name).collect();
                    let what = format!("`field: value`, a field being {}", names.join(", "));
                    self.expected(&what);
                    self.skip_one();
                }
            }
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

    fn value(&mut self, spec: &'static Spec, at: Option<usize>, given: &mut [Option<Value>]) {
        let span = self.span();
        let Some((at, field)) = at.and_then(|i| spec.fields.get(i).map(|f| (i, f))) else {
            self.skip_value();
            return;
        };
        let says = self.says();
        let found = match field.takes {
            Takes::List | Takes::Branches if self.peek() == Some(&Token::Sign('[')) => {
                match self.lists(field.takes) {
                    Some(lists) => Ok(Value::Lists(lists)),
                    None => return,
                }
            }
            Takes::List | Takes::Branches => Err(None),
            Takes::Text => match self.peek() {
                Some(Token::Text(text)) => Ok(Value::Text(text.clone())),
                _ => Err(None),
            },
            Takes::Word(words) => match self.peek() {
                Some(Token::Word(w)) => match words.iter().position(|known| known == w) {
                    Some(i) => Ok(Value::Number(i as f64)),
                    None => Err(nearest(w, words.iter().copied()).map(str::to_string)),
                },
                _ => Err(None),
            },
            Takes::Flag | Takes::Whole(..) | Takes::Real(..) => self.number(field),
        };
        // A list is read already.
        if !matches!(found, Ok(Value::Lists(_))) {
            self.skip_value();
        }
        match found {
            Err(near) => {
                let (name, takes) = (field.name, field.takes.says());
                let message = format!("`{name}` takes {takes}, not {says}");
                let finding = Finding::new(span, message);
                self.findings.push(match near {
                    Some(near) => finding.help(format!("did you mean `{near}`?")),
                    None => finding,
                });
            }
            Ok(_) if given[at].is_some() => {
                let message = format!("`{}` is given twice", field.name);
                self.findings.push(Finding::new(span, message));
            }
            Ok(value) => given[at] = Some(value),
        }
    }

    /// A list of layers as its only branch, or branches.
    fn lists(&mut self, takes: Takes) -> Option<Vec<Vec<Layer>>> {
        if self.depth >= MAX_DEPTH {
            let message = format!("lists in lists more than {MAX_DEPTH} deep");
            let finding = Finding::new(self.span(), message);
            self.findings.push(finding.help("take one list apart"));
            self.skip_one();
            return None;
        }
        self.at += 1;
        self.depth += 1;
        let lists = match takes {
            Takes::Branches => self.branches(),
            _ => vec![self.list()],
        };
        self.depth -= 1;
        Some(lists)
    }

    /// A number or flag that fits the field; else the name that may have been meant.
    fn number(&self, field: &Field) -> Result<Value, Option<String>> {
        let (n, flag) = match self.peek() {
            Some(Token::Number(n)) => (*n, false),
            Some(Token::Word(w)) if w == "true" => (1.0, true),
            Some(Token::Word(w)) if w == "false" => (0.0, true),
            Some(Token::Word(w)) => match self.names.iter().find(|(n, _)| n == w) {
                Some(&(_, n)) => (n as f64, false),
                None => return Err(nearest(w, self.names.iter().map(|n| n.0)).map(str::to_string)),
            },
            _ => return Err(None),
        };
        match fits(field, n, flag) {
            true => Ok(Value::Number(n)),
            false => Err(None),
        }
    }

    fn skip_value(&mut self) {
        if !matches!(self.peek(), None | Some(Token::Sign(',' | ')' | ']'))) {
            self.skip_one();
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
        _ => false,
    }
}
