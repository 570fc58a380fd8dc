/*!
What a source may name beside itself: templates to include, and files of networks. Both come in as
data: this room opens nothing.
*/

use super::template::{BLOCKS, TEMPLATES};
use std::collections::BTreeMap;
use std::fmt;

/// Gives the bytes of a file that a source names, or says why not.
pub type Files<'a> = dyn Fn(&str) -> Result<Vec<u8>, String> + 'a;

/// What a source may name beside itself.
#[derive(Default)]
pub struct Library<'a> {
    templates: BTreeMap<String, String>,
    files: Option<&'a Files<'a>>,
}

impl fmt::Debug for Library<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.templates.keys().collect();
        f.debug_struct("Library")
            .field("templates", &names)
            .field("files", &self.files.is_some())
            .finish()
    }
}

impl<'a> Library<'a> {
    /// The templates that ship with the program, and no files.
    pub fn new() -> Self {
        Library::default()
    }

    /// With a template of this name, which goes before one that ships; an include may leave the
    /// ending `.ron.j2` out.
    pub fn with_template(mut self, name: &str, source: &str) -> Self {
        self.templates.insert(stem(name).into(), source.into());
        self
    }

    /// With the files that `Onnx("…")` names.
    pub fn with_files(mut self, files: &'a Files<'a>) -> Self {
        self.files = Some(files);
        self
    }

    /// The templates an include finds, own ones first among those of one name.
    pub(super) fn templates(&self) -> BTreeMap<String, String> {
        let shipped = TEMPLATES.iter().chain([&BLOCKS]);
        let mut all: BTreeMap<String, String> = shipped
            .map(|t| (t.name.to_string(), t.source.to_string()))
            .collect();
        all.extend(self.templates.clone());
        all
    }

    pub(super) fn file(&self, name: &str) -> Result<Vec<u8>, String> {
        match self.files {
            Some(files) => files(name),
            None => Err("there are no files here".into()),
        }
    }
}

/// A template's name without its ending.
pub(super) fn stem(name: &str) -> &str {
    let known = [".ron.j2", ".j2", ".ron"];
    let cut = known.iter().find_map(|ending| name.strip_suffix(ending));
    cut.unwrap_or(name)
}
