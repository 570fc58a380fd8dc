/*!
Template → rendered text, and the way back from each byte of it to the user's source.
*/

mod marks;
mod tags;

use super::diagnostic::{Finding, nearest};
use super::library::stem;
use super::template::BLOCKS;
use super::{ExitPoint, Library};
use marks::Origin;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value, context};
use std::collections::BTreeMap;
use std::error::Error as _;
use std::io::{self, Write};
use tags::{find_in_tags, tags};

/// What a template may use, and what it is.
pub(super) const VARIABLES: [(&str, &str); 9] = [
    (
        "channels",
        "channels at the exit point; features, where it has no extents",
    ),
    (
        "height",
        "height at the exit point; tokens, where it has tokens; else 1",
    ),
    ("width", "width at the exit point; else 1"),
    ("classes", "classes of the network"),
    (
        "index",
        "number of the exit point among all legal ones, from 0",
    ),
    ("count", "how many legal exit points the network has"),
    (
        "depth",
        "share of the network's multiply-accumulates before the point, 0 to 1",
    ),
    ("macs", "multiply-accumulates before the point"),
    (
        "part",
        "\"edge\" or \"cloud\": a source that uses it is trained for both where they differ",
    ),
];
/// What no hand-written head needs; a source that loops without end stops here.
const MAX_TEXT: usize = 256 * 1024;
const FUEL: u64 = 200_000;
/// Macros in macros, includes in includes.
const MAX_DEPTH: usize = 100;
/// The name of the user's own source among the templates.
const ROOT: &str = "<source>";

/// Rendered text and, for each byte of it, where it came from.
#[derive(Debug)]
pub(super) struct Rendered {
    pub text: String,
    /// Empty where a template does to its text what hides its origin.
    origins: Vec<Origin>,
    /// Names and sources of the files that origins count from 1.
    files: Vec<(String, String)>,
}

impl Rendered {
    /// Moves a finding in the rendered text to the user's source.
    pub fn to_source(&self, mut finding: Finding) -> Finding {
        let last = self.origins.len().saturating_sub(1);
        let Some(first) = self.origins.get(finding.start.min(last)) else {
            (finding.start, finding.end) = (0, 1);
            return finding;
        };
        let end = finding.end.saturating_sub(1).min(last);
        let end = self.origins[end.max(finding.start.min(last))];
        (finding.start, finding.end) = match (first.file, end.file) {
            (0, 0) => (first.start, end.end.max(first.start + 1)),
            _ => (first.root.0, first.root.1.max(first.root.0 + 1)),
        };
        if let Some((name, source)) = first.file.checked_sub(1).and_then(|i| self.files.get(i)) {
            let before = &source.as_bytes()[..first.start.min(source.len())];
            let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
            finding.message = format!("in `{name}`, line {line}: {}", finding.message);
        }
        finding
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
    env.set_recursion_limit(MAX_DEPTH);
    env.set_debug(true);
    env
}

/// With templates that includes find under their name, ending or not.
fn with_templates<'a>(templates: BTreeMap<String, String>) -> Environment<'a> {
    let mut env = environment();
    env.set_loader(move |name| Ok(templates.get(stem(name)).cloned()));
    env
}

fn values(point: &ExitPoint, part: &str) -> Value {
    let [channels, height, width] = extents(point);
    context! {
        channels, height, width, part, classes => point.classes, index => point.index,
        count => point.count, depth => point.depth, macs => point.macs,
    }
}

fn run(source: &str, values: &Value, library: &Library) -> Result<Rendered, Error> {
    let env = with_templates(library.templates());
    let template = env.template_from_named_str(ROOT, source)?;
    // Once into a bounded buffer, so that the second time nothing can grow without end.
    template.render_captured_to(values, Bounded(0))?;
    let text = template.render(values)?;
    let (origins, files) = origins(source, values, library, &text).unwrap_or_default();
    Ok(Rendered {
        text,
        origins,
        files,
    })
}

type Origins = (Vec<Origin>, Vec<(String, String)>);

/// Where each byte of `text` came from, by rendering once more with marks in the templates. `None`
/// where the marks changed what is rendered: a template that counts or compares its own text.
fn origins(source: &str, values: &Value, library: &Library, text: &str) -> Option<Origins> {
    let files: Vec<(String, String)> = library.templates().into_iter().collect();
    let marked = files.iter().enumerate().map(|(i, (name, source))| {
        let marked = marks::mark(source, i + 1)?;
        Some((name.clone(), marked))
    });
    let env = with_templates(marked.collect::<Option<_>>()?);
    let root = marks::mark(source, 0)?;
    let template = env.template_from_named_str(ROOT, &root).ok()?;
    let (found, origins) = marks::read(&template.render(values).ok()?)?;
    (found == text).then_some((origins, files))
}

/// Renders `source` for a point.
pub(super) fn render(
    source: &str,
    point: &ExitPoint,
    part: &str,
    library: &Library,
) -> Result<Rendered, Vec<Finding>> {
    if source.len() > MAX_TEXT {
        let finding = Finding::new((0, 1), "the source is longer than 256 KiB");
        return Err(vec![finding]);
    }
    let unknown = undeclared(source);
    if !unknown.is_empty() {
        return Err(unknown);
    }
    run(source, &values(point, part), library)
        .map_err(|e| vec![template_error(source, &e, library)])
}

/// Names the source uses that no template has, each at its place.
fn undeclared(source: &str) -> Vec<Finding> {
    let env = environment();
    let Ok(template) = env.template_from_str(source) else {
        return vec![];
    };
    let names = VARIABLES.map(|(name, _)| name);
    let mut findings: Vec<Finding> = template
        .undeclared_variables(false)
        .iter()
        .filter(|n| !names.contains(&n.as_str()) && !known_function(&env, n))
        .map(|name| {
            let span = find_in_tags(source, name).unwrap_or((0, 1));
            let finding = Finding::new(span, format!("there is no variable `{name}`"));
            let block = format!("macro {name}(");
            match nearest(name, names) {
                _ if BLOCKS.source.contains(&block) => finding.help(format!(
                    "`{name}` is a block to import: {{% from \"blocks\" import {name} %}}"
                )),
                Some(near) => finding.help(format!("did you mean `{near}`?")),
                None => finding.help(format!("a template may use {}", names.join(", "))),
            }
        })
        .collect();
    findings.sort_by_key(|f| f.start);
    findings
}

/// The last statement that is opened and not closed, and its word.
fn unclosed(source: &str) -> Option<(usize, usize, &str)> {
    let mut open: Vec<(usize, usize, &str)> = Vec::new();
    for (start, end) in tags(source) {
        let inner = source[start..end].strip_prefix("{%");
        let Some(inner) = inner.map(|t| t.trim_start_matches('-')) else {
            continue;
        };
        let inner = inner.trim_end_matches("%}").trim_end_matches('-').trim();
        let word = inner.split_whitespace().next().unwrap_or_default();
        match word {
            "if" | "for" | "macro" | "filter" | "call" | "with" | "raw" => {
                open.push((start, end, word))
            }
            // With `=` it is a statement of its own.
            "set" if !inner.contains('=') => open.push((start, end, word)),
            _ => {
                if let Some(closed) = word.strip_prefix("end")
                    && let Some(at) = open.iter().rposition(|(_, _, w)| *w == closed)
                {
                    open.remove(at);
                }
            }
        }
    }
    open.pop()
}

fn known_function(env: &Environment, name: &str) -> bool {
    env.globals().any(|(n, _)| n == name)
}

fn beneath(error: &Error) -> Option<&Error> {
    error.source()?.downcast_ref()
}

fn template_error(source: &str, error: &Error, library: &Library) -> Finding {
    let line_start = |line: usize| {
        let before = source.split_inclusive('\n').take(line.saturating_sub(1));
        before.map(str::len).sum::<usize>()
    };
    // What an include, an import or a macro fails with is told by the error beneath.
    let chain = || std::iter::successors(Some(error), |&e| beneath(e));
    let inner = chain().last().unwrap_or(error);
    let own = chain().filter(|e| e.name() == Some(ROOT)).last();
    let foreign = inner.name().filter(|n| *n != ROOT);
    let span = match (own.and_then(Error::range), own.and_then(Error::line)) {
        (Some(range), _) => (range.start, range.end),
        (None, Some(line)) => {
            let start = line_start(line).min(source.len());
            let text = source[start..].lines().next().unwrap_or("");
            (start, start + text.len())
        }
        (None, None) => foreign
            .and_then(|name| find_in_tags(source, name))
            .unwrap_or((0, 1)),
    };
    let mut finding = match inner.kind() {
        ErrorKind::OutOfFuel => Finding::new(span, "the template runs too long")
            .help("a head is a short list of layers; bound the loop"),
        ErrorKind::WriteFailure => Finding::new(span, "the rendered head is longer than 256 KiB")
            .help("a head is a short list of layers; bound the loop"),
        ErrorKind::TemplateNotFound => {
            let names: Vec<String> = library.templates().into_keys().collect();
            let detail = inner.detail().unwrap_or_default();
            let asked = detail.split(['"', '\'']).nth(1).unwrap_or_default();
            let finding = Finding::new(span, format!("there is no template `{asked}` to include"));
            match nearest(stem(asked), names.iter().map(String::as_str)) {
                Some(near) => finding.help(format!("did you mean `{near}`?")),
                None => finding.help(format!("there are {}", names.join(", "))),
            }
        }
        ErrorKind::SyntaxError if unclosed(source).is_some() && foreign.is_none() => {
            let (start, end, word) = unclosed(source).unwrap_or_default();
            Finding::new((start, end), format!("`{{% {word} … %}}` is never closed"))
                .help(format!("end it by `{{% end{word} %}}`"))
        }
        kind => {
            let detail = inner.detail().map_or(kind.to_string(), str::to_string);
            Finding::new(span, format!("in the template: {detail}"))
        }
    };
    if let Some(name) = foreign {
        let line = inner
            .line()
            .map_or(String::new(), |l| format!(", line {l}"));
        finding.message = format!("in `{}`{line}: {}", stem(name), finding.message);
    }
    finding
}
