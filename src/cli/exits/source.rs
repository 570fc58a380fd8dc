/*! The source a command is given, and what it may name beside itself. */

use super::{Place, SourceArgs};
use crate::cli::{CliError, error::Context};
use crate::exits::{self, BLOCKS, Library, TEMPLATES};
use std::io::Read;
use std::path::{Path, PathBuf};

/// A source as text.
pub(super) struct Source {
    /// What it is called on screen.
    pub name: String,
    pub text: String,
    /// Where the files lie that it names.
    folder: PathBuf,
    templates: Vec<(String, String)>,
}

impl SourceArgs {
    /// Reads the source and the folder of templates.
    pub(super) fn read(&self, place: &Place) -> Result<Source, CliError> {
        let path = Path::new(&self.source);
        let text = if self.source == "-" {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.context("reading the source from standard input")?;
            text
        } else if self.source == "replica" && !path.exists() {
            exits::replica(&place.network.fused)?
        } else if let Some(text) = shipped(&self.source).filter(|_| !path.exists()) {
            text.to_string()
        } else {
            std::fs::read_to_string(path).map_err(|error| {
                let names: Vec<&str> = TEMPLATES.iter().map(|t| t.name).collect();
                let hint = format!("there is no such file; templates are {}", names.join(", "));
                match error.kind() {
                    std::io::ErrorKind::NotFound => {
                        CliError::failed(format!("{}: {hint}", self.source))
                    }
                    _ => CliError::from(error).context(self.source.clone()),
                }
            })?
        };
        let mut templates = Vec::new();
        if let Some(folder) = &self.templates {
            let place = || folder.display().to_string();
            for entry in std::fs::read_dir(folder).context(place())? {
                let path = entry.context(place())?.path();
                let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
                let name = name.unwrap_or_default();
                if path.is_file() && (name.ends_with(".j2") || name.ends_with(".ron")) {
                    let text = std::fs::read_to_string(&path);
                    templates.push((name, text.context(path.display().to_string())?));
                }
            }
            // Folders come in any order; which of two files of one name wins must not.
            templates.sort();
        }
        Ok(Source {
            name: self.source.clone(),
            text,
            folder: path.parent().unwrap_or(Path::new("")).to_path_buf(),
            templates,
        })
    }
}

fn shipped(name: &str) -> Option<&'static str> {
    let mut all = TEMPLATES.iter().chain([&BLOCKS]);
    all.find(|t| t.name == name).map(|t| t.source)
}

impl Source {
    /// Gives the bytes of a file that the source names, relative to it.
    pub fn file(&self, name: &str) -> Result<Vec<u8>, String> {
        let path = self.folder.join(name);
        std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// The library with the folder's templates and these files.
    pub fn library<'a>(&self, files: &'a exits::Files<'a>) -> Library<'a> {
        let own = self.templates.iter();
        own.fold(Library::new().with_files(files), |library, (name, text)| {
            library.with_template(name, text)
        })
    }
}
