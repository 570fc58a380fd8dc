/*! Where the tags of a template are, and the names in them. */

/// The byte ranges of all tags.
pub(super) fn tags(source: &str) -> Vec<(usize, usize)> {
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

/// The first place in a tag where `name` stands as a word of its own.
pub(super) fn find_in_tags(source: &str, name: &str) -> Option<(usize, usize)> {
    let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    tags(source).into_iter().find_map(|(start, end)| {
        if source[start..].starts_with("{#") {
            return None;
        }
        let mut hits = source[start..end].match_indices(name);
        hits.find_map(|(i, _)| {
            let (a, b) = (start + i, start + i + name.len());
            let alone = !word(source[..a].chars().next_back()) && !word(source[b..].chars().next());
            alone.then_some((a, b))
        })
    })
}
