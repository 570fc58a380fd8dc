/*! The source a command is given. */

use super::{Place, SourceArgs};
use crate::exits::{self, BLOCKS, Classifier, TEMPLATES};
use crate::run::ExitSource;
use anyhow::Context;
use std::io::Read;
use std::path::Path;

/// A source with its name.
pub(super) struct Source {
    /// What it is called on screen.
    pub name: String,
    pub source: ExitSource,
}

impl SourceArgs {
    /// Reads the source and the templates it may include.
    pub(super) fn read(&self, place: &Place) -> anyhow::Result<Source> {
        let given = match (&self.source, &place.session) {
            (Some(given), _) => given,
            (None, None) => "replica",
            (None, Some(session)) => {
                let source = ExitSource::of(&session.exits, &place.network.fused)?;
                let name = match &session.exits.classifier {
                    Classifier::File(path) => path.display().to_string(),
                    _ => "the session's classifier".into(),
                };
                return Ok(Source { name, source });
            }
        };
        let path = Path::new(given);
        let mut folder = None;
        let text = if given == "-" {
            folder = Some(Path::new(""));
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.context("reading the source from standard input")?;
            text
        } else if given == "replica" && !path.exists() {
            exits::replica(&place.network.fused)?
        } else if let Some(text) = shipped(given).filter(|_| !path.exists()) {
            text.to_string()
        } else {
            folder = path.parent();
            std::fs::read_to_string(path).map_err(|error| {
                let names: Vec<&str> = TEMPLATES.iter().map(|t| t.name).collect();
                let hint = format!("there is no such file; templates are {}", names.join(", "));
                match error.kind() {
                    std::io::ErrorKind::NotFound => anyhow::Error::msg(format!("{given}: {hint}")),
                    _ => anyhow::Error::new(error).context(given.to_owned()),
                }
            })?
        };
        Ok(Source {
            name: given.to_owned(),
            source: ExitSource::at(text, folder, self.templates.as_deref())?,
        })
    }
}

fn shipped(name: &str) -> Option<&'static str> {
    let mut all = TEMPLATES.iter().chain([&BLOCKS]);
    all.find(|t| t.name == name).map(|t| t.source)
}
