/*! Names fit for people: exporters' path marks tidied away, the nearest name to a mistyped one. */

use std::collections::{HashMap, HashSet};

/// Tidies the names of nodes. Where two would become the same, both keep what the file says.
pub(super) fn unique(names: &[&str]) -> Vec<String> {
    let mut siblings: HashMap<&str, usize> = HashMap::new();
    for name in names {
        for (at, _) in name.match_indices('/') {
            *siblings.entry(&name[..at]).or_insert(0) += 1;
        }
    }
    let tidied: Vec<String> = names
        .iter()
        .map(|name| match name.rsplit_once('/') {
            // A scope with a single node in it is a module, and the operator only repeats it.
            Some((scope, _)) if !scope.is_empty() && siblings[scope] == 1 => tidy(scope),
            _ => tidy(name),
        })
        .collect();
    let mut count: HashMap<&str, usize> = HashMap::new();
    for name in &tidied {
        *count.entry(name).or_insert(0) += 1;
    }
    let mut taken: HashSet<String> = HashSet::new();
    let mut out = Vec::with_capacity(names.len());
    for (raw, tidy) in names.iter().zip(&tidied) {
        let wanted = if count[tidy.as_str()] == 1 {
            tidy
        } else {
            *raw
        };
        let wanted = if wanted.is_empty() { "layer" } else { wanted };
        let mut name = wanted.to_string();
        let mut n = 2;
        while !taken.insert(name.clone()) {
            name = format!("{wanted}#{n}");
            n += 1;
        }
        out.push(name);
    }
    out
}

/// `/layer3/layer3.1/conv1/Conv` → `layer3.1.conv1.Conv`: torch writes the scopes of a node as a
/// path, in which each scope may repeat the one above.
pub(super) fn tidy(name: &str) -> String {
    let Some(path) = name.strip_prefix('/') else {
        return name.to_string();
    };
    let mut kept: Vec<&str> = Vec::new();
    for scope in path.split('/').filter(|s| !s.is_empty()) {
        let repeats = |above: &&str| {
            let rest = scope.strip_prefix(above);
            rest.is_some_and(|rest| rest.starts_with('.'))
        };
        if kept.last().is_some_and(repeats) {
            kept.pop();
        }
        kept.push(scope);
    }
    kept.join(".")
}

/// The tidy names that a name typed by the user or found in a file may stand for.
pub(super) fn readings(name: &str) -> [String; 2] {
    let name = name.strip_suffix("_output_0").unwrap_or(name);
    let scope = name.rsplit_once('/').map_or("", |(scope, _)| scope);
    [tidy(name), tidy(scope)]
}

/// The name nearest to `name`, if it is near enough to have been meant.
pub(super) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let wanted = tidy(name);
    let scored = names.map(|n| (strsim::normalized_damerau_levenshtein(&wanted, n), n));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0));
    let (_, name) = best.filter(|(score, _)| *score >= 0.4)?;
    Some(name.to_string())
}
