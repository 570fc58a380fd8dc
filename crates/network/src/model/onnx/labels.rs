/*!
Names of the classes in a file's metadata. Nothing in ONNX says where they stand; exporters write them as
Python or JSON, or one per line: `{0: 'tench', 1: 'goldfish'}` (Ultralytics), `["tench", "goldfish"]`,
`tench,goldfish`.
*/

use candle_onnx::onnx as proto;
use std::collections::{BTreeMap, HashSet};

/// Keys of the metadata that hold names of classes, in lower case; the first that does is read.
const KEYS: &[&str] = &[
    "names",
    "class_names",
    "classnames",
    "classes",
    "labels",
    "id2label",
    "class_labels",
];

/// The names of the outputs, in order; empty where the file has none that are whole and differ.
pub(super) fn class_names(model: &proto::ModelProto) -> Vec<String> {
    let of_key = |key: &&str| {
        let mut props = model.metadata_props.iter();
        let found = props.find(|p| p.key.eq_ignore_ascii_case(key))?;
        parse(&found.value)
    };
    KEYS.iter().find_map(of_key).unwrap_or_default()
}

/// Names as written; `None` where they leave a gap, are empty or repeat.
fn parse(text: &str) -> Option<Vec<String>> {
    let text = text.trim();
    let inside = |open, close| text.strip_prefix(open)?.strip_suffix(close);
    let names = if let Some(inner) = inside('{', '}') {
        by_number(inner)?
    } else if let Some(inner) = inside('[', ']').or(inside('(', ')')) {
        items(inner, &[','])?
    } else if text.contains('\n') {
        items(text, &['\n'])?
    } else {
        items(text, &[','])?
    };
    let differ: HashSet<&String> = names.iter().collect();
    let whole = names.len() > 1 && differ.len() == names.len() && !differ.contains(&String::new());
    whole.then_some(names)
}

/// Values by their keys, which are the numbers from 0 on.
fn by_number(text: &str) -> Option<Vec<String>> {
    let pieces = items(text, &[',', ':'])?;
    let pairs: Option<BTreeMap<usize, String>> = pieces
        .chunks(2)
        .map(|pair| match pair {
            [key, name] => Some((key.parse().ok()?, name.clone())),
            _ => None,
        })
        .collect();
    let pairs = pairs?;
    let in_order = pairs.keys().copied().eq(0..pairs.len());
    (in_order && 2 * pairs.len() == pieces.len()).then(|| pairs.into_values().collect())
}

/// What stands between separators, quotes and the blanks around it taken away; one at the end may be
/// left hanging. `None` where a quote is never closed.
fn items(text: &str, separators: &[char]) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let mut piece = String::new();
    // Whether a quoted text has ended, behind which only blanks may stand.
    let mut quoted = false;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' | '"' if piece.trim().is_empty() && !quoted => {
                piece.clear();
                loop {
                    match letters.next()? {
                        '\\' => piece.push(letters.next()?),
                        end if end == letter => break,
                        other => piece.push(other),
                    }
                }
                quoted = true;
            }
            end if separators.contains(&end) => {
                let name = std::mem::take(&mut piece);
                found.push(name.trim().to_string());
                quoted = false;
            }
            _ if quoted => {
                if !letter.is_whitespace() {
                    return None;
                }
            }
            other => piece.push(other),
        }
    }
    if quoted || !piece.trim().is_empty() {
        found.push(piece.trim().to_string());
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    #[rstest]
    #[case::ultralytics("{0: 'tench', 1: \"cock's comb\", 2: 'a, b: c'}", &["tench", "cock's comb", "a, b: c"])]
    #[case::json_by_number(r#"{"0": "cat", "1": "dog"}"#, &["cat", "dog"])]
    #[case::out_of_order("{1: 'dog', 0: 'cat'}", &["cat", "dog"])]
    #[case::json(r#"["cat", "dog \"big\""]"#, &["cat", "dog \"big\""])]
    #[case::python("('cat', 'dog',)", &["cat", "dog"])]
    #[case::lines("cat\nsea lion\n", &["cat", "sea lion"])]
    #[case::commas("cat, dog", &["cat", "dog"])]
    fn names_are_read_as_exporters_write_them(#[case] text: &str, #[case] names: &[&str]) {
        assert_eq!(parse(text).unwrap(), names);
    }

    #[rstest]
    #[case::gap("{0: 'cat', 2: 'dog'}")]
    #[case::words_as_keys("{'cat': 0, 'dog': 1}")]
    #[case::twice("['cat', 'cat']")]
    #[case::empty("['', 'cat']")]
    #[case::one("cat")]
    #[case::open("['cat', 'dog]")]
    #[case::rest("['cat' x, 'dog']")]
    fn what_names_no_class_or_not_all_is_left(#[case] text: &str) {
        assert_eq!(parse(text), None);
    }
}
