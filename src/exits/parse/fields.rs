/*! What stands between the brackets of a layer. */

use super::token::{Span, Token};
use super::{MAX_DEPTH, Reader, hints};
use crate::exits::diagnostic::Finding;
use crate::exits::layer::{Field, FieldKind, Layer, Spec, Value};

impl Reader<'_> {
    /// Up to and with the closing bracket.
    pub(super) fn arguments(&mut self, spec: &'static Spec, given: &mut [Option<Value>]) {
        // Fields given by position stand before the named ones.
        let (mut position, mut read) = (0, 0);
        loop {
            if self.take(')') {
                return;
            }
            let next = self.tokens.get(self.at + 1).map(|t| &t.0);
            let (colon, equals) = (
                next == Some(&Token::Sign(':')),
                next == Some(&Token::Odd("=".to_string())),
            );
            match self.peek().cloned() {
                None | Some(Token::Sign(']')) => {
                    self.expected("`)` to close the layer's fields");
                    return;
                }
                Some(Token::Word(word)) if colon || equals => {
                    let span = self.span();
                    self.at += 1;
                    if equals {
                        self.expected_or("`:`", format!("write `{word}: …`"));
                    }
                    self.at += 1;
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
                    let help = hints::unnamed(spec, read, &self.says());
                    self.expected_or(&what, help);
                    self.skip_one();
                }
            }
            read += 1;
            let closing = |t: Option<&Token>| matches!(t, None | Some(Token::Sign(')' | ']')));
            if !self.take(',') && !closing(self.peek()) {
                let help = hints::behind_value(self.peek());
                self.expected_or("`,` or `)`", help);
                while !closing(self.peek()) && !self.take(',') {
                    self.skip_one();
                }
            }
        }
    }

    fn unknown_field(&mut self, spec: &'static Spec, word: &str, span: Span) {
        let message = format!("`{}` has no field `{word}`", spec.name);
        let finding = Finding::new(span, message).help(hints::field(spec, word));
        self.findings.push(finding);
    }

    fn value(&mut self, spec: &'static Spec, at: Option<usize>, given: &mut [Option<Value>]) {
        let span = self.span();
        let Some((at, field)) = at.and_then(|i| spec.fields.get(i).map(|f| (i, f))) else {
            self.skip_value();
            return;
        };
        let says = self.says();
        let help = hints::value(field, self.peek(), self.names);
        let found = match field.takes {
            FieldKind::List | FieldKind::Branches if self.peek() == Some(&Token::Sign('[')) => {
                match self.lists(field.takes) {
                    Some(lists) => Some(Value::Lists(lists)),
                    None => return,
                }
            }
            FieldKind::List | FieldKind::Branches => None,
            FieldKind::Text => match self.peek() {
                Some(Token::Text(text)) => Some(Value::Text(text.clone())),
                _ => None,
            },
            FieldKind::Word(words) => match self.peek() {
                Some(Token::Word(w)) => {
                    let at = words.iter().position(|known| known == w);
                    at.map(|i| Value::Number(i as f64))
                }
                _ => None,
            },
            FieldKind::Flag | FieldKind::Whole(..) | FieldKind::Real(..) => self.number(field),
        };
        // A list is read already.
        if !matches!(found, Some(Value::Lists(_))) {
            self.skip_value();
        }
        match found {
            None => {
                let (name, takes) = (field.name, field.takes.says());
                let message = format!("`{name}` takes {takes}, not {says}");
                let finding = Finding::new(span, message);
                self.findings.push(match help {
                    Some(help) => finding.help(help),
                    None => finding,
                });
            }
            Some(_) if given[at].is_some() => {
                let message = format!("`{}` is given twice", field.name);
                self.findings.push(Finding::new(span, message));
            }
            Some(value) => given[at] = Some(value),
        }
    }

    /// A list of layers as its only branch, or branches.
    fn lists(&mut self, takes: FieldKind) -> Option<Vec<Vec<Layer>>> {
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
            FieldKind::Branches => self.branches(),
            _ => vec![self.list()],
        };
        self.depth -= 1;
        Some(lists)
    }

    /// A number or flag that fits the field.
    fn number(&self, field: &Field) -> Option<Value> {
        let (n, flag) = match self.peek()? {
            Token::Number(n) => (*n, false),
            Token::Word(w) if w == "true" => (1.0, true),
            Token::Word(w) if w == "false" => (0.0, true),
            Token::Word(w) => (self.names.iter().find(|(n, _)| n == w)?.1 as f64, false),
            _ => return None,
        };
        fits(field, n, flag).then_some(Value::Number(n))
    }

    fn skip_value(&mut self) {
        if !matches!(self.peek(), None | Some(Token::Sign(',' | ')' | ']'))) {
            self.skip_one();
        }
    }
}

fn fits(field: &Field, n: f64, flag: bool) -> bool {
    match field.takes {
        FieldKind::Flag => flag,
        FieldKind::Whole(low, high) => {
            !flag && n.fract() == 0.0 && (f64::from(low)..=f64::from(high)).contains(&n)
        }
        FieldKind::Real(low, high) => !flag && (low..=high).contains(&n),
        _ => false,
    }
}
