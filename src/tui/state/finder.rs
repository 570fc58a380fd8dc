/*!
Finding a file: sessions that were opened before, those in and below this folder, and paths as they are
typed. Looking into folders is the files' thread's; here is what it found.
*/

use super::State;
use super::overlay::Overlay;
use super::typed::Typed;
use crate::tui::message::{Effect, Source};
use nucleo_matcher::pattern::{CaseMatching, Normalization, Pattern};
use nucleo_matcher::{Config, Matcher};
use std::path::{Path, PathBuf};

/// What the files' thread found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Sessions opened before, the last one first.
    pub recent: Vec<PathBuf>,
    /// Session files in and below this folder.
    pub below: Vec<PathBuf>,
}

/// A folder that was looked into, as it was typed, and the names in it; folders end in `/`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Folder {
    pub typed: String,
    pub names: Vec<String>,
}

/// Something that can be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    Demo,
    /// A session, and whether it was opened before.
    Session(PathBuf, bool),
    /// A path that goes on from what is typed.
    Path(String),
}

/// The folder part of a path as it is typed, its `/` included.
fn folder_of(typed: &str) -> &str {
    typed.rfind('/').map_or("", |at| &typed[..=at])
}

/// Whether what is typed is a path rather than letters of one.
fn is_path(typed: &str) -> bool {
    typed.contains('/') || typed.starts_with('~')
}

impl State {
    /// Asks what lies in the folder of a typed path, unless that is known.
    pub fn look_into(&mut self, typed: &str) -> Vec<Effect> {
        let folder = folder_of(typed);
        if self.folder.typed == folder && !self.folder.names.is_empty() {
            return Vec::new();
        }
        self.folder = Folder {
            typed: folder.to_owned(),
            names: Vec::new(),
        };
        vec![Effect::LookInto(folder.to_owned())]
    }

    /// Paths that go on from what is typed; hidden ones only where a dot is typed.
    pub fn paths(&self, typed: &str) -> Vec<String> {
        let folder = folder_of(typed);
        if self.folder.typed != folder {
            return Vec::new();
        }
        let begun = &typed[folder.len()..];
        let names = self.folder.names.iter();
        let fits =
            |n: &&String| n.starts_with(begun) && (!n.starts_with('.') || begun.starts_with('.'));
        names.filter(fits).map(|n| format!("{folder}{n}")).collect()
    }

    /// What a typed path is completed to: as far as all that go on from it agree.
    pub fn completed(&self, typed: &str) -> Option<String> {
        common(&self.paths(typed)).filter(|text| text.len() > typed.len())
    }

    /// Opens the finder, and looks for sessions.
    pub fn find_session(&mut self) -> Vec<Effect> {
        self.overlay = Some(Overlay::Picker {
            input: Typed::default(),
            selected: 0,
        });
        vec![Effect::List]
    }

    /// What may be opened, the best first.
    pub fn offers(&self, typed: &str) -> Vec<Offer> {
        if is_path(typed) {
            return self.paths(typed).into_iter().map(Offer::Path).collect();
        }
        let sessions = || {
            let recent = self.found.recent.iter();
            let known = |file: &&PathBuf| !self.found.recent.contains(file);
            let below = self.found.below.iter().filter(known);
            let recent = recent.map(|file| Offer::Session(file.clone(), true));
            recent.chain(below.map(|file| Offer::Session(file.clone(), false)))
        };
        let all = std::iter::once(Offer::Demo).chain(sessions());
        if typed.trim().is_empty() {
            return all.collect();
        }
        let pattern = Pattern::parse(typed, CaseMatching::Smart, Normalization::Smart);
        let mut matcher = Matcher::new(Config::DEFAULT.match_paths());
        let named = all.map(Named).collect::<Vec<Named>>();
        let found = pattern.match_list(named, &mut matcher);
        found.into_iter().map(|(named, _)| named.0).collect()
    }

    /// What is opened by enter: what is under the cursor, or else the path as typed.
    pub fn chosen(&self, typed: &str, selected: usize) -> Option<Source> {
        match self.offers(typed).into_iter().nth(selected) {
            Some(Offer::Demo) => Some(Source::Demo),
            Some(Offer::Session(file, _)) => Some(Source::File(file)),
            Some(Offer::Path(path)) if !path.ends_with('/') => Some(Source::File(path.into())),
            Some(Offer::Path(_)) => None,
            None if typed.trim().is_empty() => None,
            None => Some(Source::File(typed.trim().into())),
        }
    }
}

/// As far as all agree, from the first letter on.
pub fn common(all: &[String]) -> Option<String> {
    let (first, rest) = all.split_first()?;
    let agree = |length: &usize| {
        rest.iter()
            .all(|other| other.starts_with(&first[..*length]))
    };
    let ends = first.char_indices().map(|(at, c)| at + c.len_utf8());
    let length = ends.take_while(agree).last()?;
    Some(first[..length].to_owned())
}

/// An offer that the matcher reads by its name.
struct Named(Offer);

impl AsRef<str> for Named {
    fn as_ref(&self) -> &str {
        match &self.0 {
            Offer::Demo => "demo",
            Offer::Session(file, _) => file.to_str().unwrap_or(""),
            Offer::Path(path) => path,
        }
    }
}

impl Offer {
    /// As the finder shows it.
    pub fn label(&self) -> String {
        match self {
            Offer::Demo => "the demo that ships".into(),
            Offer::Session(file, recent) => {
                let mark = if *recent { "  (opened before)" } else { "" };
                format!("{}{mark}", short(file).display())
            }
            Offer::Path(path) => path.clone(),
        }
    }
}

/// A path without a leading `./`.
fn short(file: &Path) -> &Path {
    file.strip_prefix(".").unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(&["runs/demo", "runs/deep"], Some("runs/de"))]
    #[case(&["a"], Some("a"))]
    #[case(&["a", "b"], None)]
    #[case(&["é1", "é2"], Some("é"))]
    #[case(&[], None)]
    fn what_all_agree_on(#[case] all: &[&str], #[case] expected: Option<&str>) {
        let all: Vec<String> = all.iter().map(ToString::to_string).collect();
        assert_eq!(common(&all).as_deref(), expected);
    }
}
