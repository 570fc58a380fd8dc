/*!
Template → rendered text, and the way back from each byte of it to the user's source, which the
template engine keeps.
*/

use super::diagnostic::{Finding, nearest};
use super::{ExitPoint, Part};
use minijinja::{Environment, Error, OutputSpanKind, UndefinedBehavior, context};
use std::io::{self, Write};

const VARIABLES: [&str; 9] = [
    "channels", "height", "width", "classes", "index", "count", "depth", "macs", "part",
];
/// What no hand-written head needs; a source that loops without end stops here.
const MAX_TEXT: usize = 256 * 1024;
const FUEL: u64 = 200_000;

/// Rendered text and, for each byte of it, the bytes of the source it came from.
#[derive(Debug)]
pub(super) struct Rendered {
    pub text: String,
    origin: Vec<(usize, usize)>,
}

impl Rendered {
    /// The source range of a range of the rendered text.
    pub fn source_span(&self, span: (usize, usize)) -> (usize, usize) {
        let last = self.origin.last().copied().unwrap_or((0, 1));
        let start = self.origin.get(span.0).copied().unwrap_or(last);
        let end = span.1.checked_sub(1).and_then(|i| self.origin.get(i));
        (start.0, end.map_or(start.1, |e| e.1).max(start.0 + 1))
    }
}

/// Counts what is written, up to a bound.
struct Bounded(usize);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        if self.0 > MAX_TEXT {
            return Err(io::Error::other("the rendered head is longer than 256 KiB"));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `[channels, height, width]` of a point, 1 where it has no such axis. Tokens count as height.
pub(super) fn extents(point: &ExitPoint) -> [usize; 3] {
    match point.sample[..] {
        [c, h, w] => [c, h, w],
        [t, c] => [c, t, 1],
        [c] => [c, 1, 1],
        _ => [1, 1, 1],
    }
}

fn environment<'a>() -> Environment<'a> {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_fuel(Some(FUEL));
    env.set_debug(true);
    env
}

fn run(source: &str, point: &ExitPoint, part: Part) -> Result<Rendered, Error> {
    let [channels, height, width] = extents(point);
    let part = match part {
        Part::Edge => "edge",
        Part::Cloud => "cloud",
    };
    let values = context! {
        channels, height, width, part, classes => point.classes, index => point.index,
        count => point.count, depth => point.depth, macs => point.macs,
    };
    let env = environment();
    let template = env.template_from_str(source)?;
    // Once into a bounded buffer, so that the second time nothing can grow without end.
    template.render_captured_to(&values, Bounded(0))?;
    let (text, spans) = template.render_with_spans(values)?;
    let mut origin = vec![(0, 0); text.len()];
    for span in spans {
        let (out, from) = (span.output_range(), span.source_range());
        let whole = (from.start, from.end);
        for (i, place) in origin[out.clone()].iter_mut().enumerate() {
            *place = match span.kind() {
                OutputSpanKind::Raw => (from.start + i, from.start + i + 1),
                _ => whole,
            };
        }
    }
    Ok(Rendered { text, origin })
}

/// Renders `source` for a point.
pub(super) fn render(
    source: &str,
    point: &ExitPoint,
    part: Part,
) -> Result<Rendered, Vec<Finding>> {
    if source.len() > MAX_TEXT {
        let finding = Finding::new((0, 1), "the source is longer than 256 KiB");
        return Err(vec![finding]);
    }
    let unknown = undeclared(source);
    if !unknown.is_empty() {
        return Err(unknown);
    }
    run(source, point, part).map_err(|e| vec![template_error(source, &e)])
}

/// Names the source uses that no template has, each at its place.
fn undeclared(source: &str) -> Vec<Finding> {
    let env = environment();
    let Ok(template) = env.template_from_str(source) else {
        return vec![];
    };
    let mut findings: Vec<Finding> = template
        .undeclared_variables(false)
        .iter()
        .filter(|n| !VARIABLES.contains(&n.as_str()) && !known_function(&env, n))
        .map(|name| {
            let span = find_in_tags(source, name).unwrap_or((0, 1));
            let finding = Finding::new(span, format!("there is no variable `{name}`"));
            match nearest(name, VARIABLES) {
                Some(near) => finding.help(format!("did you mean `{near}`?")),
                None => finding.help(format!("a template may use {}", VARIABLES.join(", "))),
            }
        })
        .collect();
    findings.sort_by_key(|f| f.start);
    findings
}

fn known_function(env: &Environment, name: &str) -> bool {
    env.globals().any(|(n, _)| n == name)
}

/// Where the tags of a template are.
fn tags(source: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(i) = source[at..].find('{') {
        let start = at + i;
        let close = match source.as_bytes().get(start + 1) {
            Some(b'{') => "}}",
            Some(b'%') => "%}",
            Some(b'#') => "#}",
            _ => {
                at = start + 1;
                continue;
            }
        };
        let Some(end) = close_of(source, start + 2, close) else {
            break;
        };
        found.push((start, end));
        at = end;
    }
    found
}

/// The end of a tag, minding strings inside it.
fn close_of(source: &str, from: usize, close: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (i, c) in source[from..].char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if close != "#}" && (c == '"' || c == '\'') => quote = Some(c),
            None if source[from + i..].starts_with(close) => return Some(from + i + 2),
            None => {}
        }
    }
    None
}

fn find_in_tags(source: &str, name: &str) -> Option<(usize, usize)> {
    let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    tags(source).into_iter().find_map(|(start, end)| {
        let mut hits = source[start..end].match_indices(name);
        hits.find_map(|(i, _)| {
            let (a, b) = (start + i, start + i + name.len());
            let alone = !word(source[..a].chars().next_back()) && !word(source[b..].chars().next());
            alone.then_some((a, b))
        })
    })
}

fn template_error(source: &str, error: &Error) -> Finding {
    let line_start = |line: usize| {
        let before = source.split_inclusive('\n').take(line.saturating_sub(1));
        before.map(str::len).sum::<usize>()
    };
    let span = match (error.range(), error.line()) {
        (Some(range), _) => (range.start, range.end),
        (None, Some(line)) => {
            let start = line_start(line);
            let text = source[start.min(source.len())..]
                .lines()
                .next()
                .unwrap_or("");
            (start, start + text.len())
        }
        (None, None) => (0, 1),
    };
    use minijinja::ErrorKind as K;
    match error.kind() {
        K::OutOfFuel => Finding::new(span, "the template runs too long")
            .help("a head is a short list of layers; bound the loop"),
        K::WriteFailure => Finding::new(span, "the rendered head is longer than 256 KiB")
            .help("a head is a short list of layers; bound the loop"),
        kind => {
            let detail = error.detail().map_or(kind.to_string(), str::to_string);
            Finding::new(span, format!("in the template: {detail}"))
        }
    }
}
