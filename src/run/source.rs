/*!
The source of exit classifiers as a session or a command names it, with what it may name in turn: the
templates of a folder, and files of networks below the folder it lies in. Whatever renders heads (a
run, the commands, the workbench) reads them here, so that all see the same.
*/

use super::{Refused, RunError};
use crate::exits::{self, Classifier, ExitError, ExitPoint, Library};
use crate::model::export::to_onnx;
use crate::model::{Graph, LayerTable};
use crate::plan::{Tier, TierHead, TierNames};
use crate::session::ExitSettings;
use std::io;
use std::path::{Component, Path, PathBuf};

/// More than any source has, which may be 256 KiB; a file beyond is no template.
const MAX_TEMPLATE: u64 = 256 << 10;

/// A source of heads as text, and what it may name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExitSource {
    /// Text of the exit source.
    pub text: String,
    /// Where files it names lie; none: it can't name any.
    folder: Option<PathBuf>,
    /// Templates it may include: names and sources, in order of name.
    templates: Vec<(String, String)>,
    /// Exits of the network's own file; where there are any, no other point has a head.
    own: Vec<OwnFile>,
}

/// An exit of the network's own file, as a file that the source names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct OwnFile {
    /// Name of the value that the exit reads.
    value: String,
    name: String,
    onnx: Vec<u8>,
}

impl ExitSource {
    /// The source that a session's settings name, its paths resolved.
    ///
    /// # Errors
    /// Where a file can't be read, or the network's own classifier has no form known here.
    pub fn of(settings: &ExitSettings, fused: &Graph) -> Result<ExitSource, RunError> {
        let text = match &settings.classifier {
            Classifier::Replica => exits::replica(fused)?,
            Classifier::Template(text) => text.clone(),
            Classifier::File(path) => read(path)?,
            Classifier::OwnExits => return ExitSource::own(fused),
        };
        ExitSource::with_text(settings, text)
    }

    /// The exits that a network's own file brings along.
    ///
    /// # Errors
    /// Where none of them stands where an exit may.
    pub fn own(fused: &Graph) -> Result<ExitSource, RunError> {
        let table = LayerTable::new(fused)?;
        let points = exits::points(&table, fused);
        let mut own = Vec::new();
        let mut text = String::from("// The exits that the network's file brings along.\n");
        for exit in fused.own_exits.iter() {
            let Some(point) = points.iter().find(|point| point.value == exit.value) else {
                continue;
            };
            let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
            let name = exit.output.chars().map(plain).collect::<String>() + ".onnx";
            let test = if own.is_empty() { "if" } else { "elif" };
            text += &format!(
                "{{% {test} index == {} %}}[Onnx(\"{name}\", trainable: false)]\n",
                point.index
            );
            own.push(OwnFile {
                value: exit.value.clone(),
                name,
                onnx: to_onnx(&exit.graph)?,
            });
        }
        if own.is_empty() {
            let outputs = fused.own_exits.iter().map(|exit| exit.output.clone());
            return Err(Refused::NoOwnExits {
                network: fused.name.clone(),
                outputs: outputs.collect(),
            }
            .into());
        }
        Ok(ExitSource {
            text: text + "{% endif %}\n",
            own,
            ..ExitSource::default()
        })
    }

    /// Names of the outputs of a network's file that are the exits of this source.
    pub fn own_outputs(&self, fused: &Graph) -> Vec<String> {
        let stands = |value: &str| self.own.iter().any(|own| own.value == value);
        let exits = fused.own_exits.iter().filter(|exit| stands(&exit.value));
        exits.map(|exit| exit.output.clone()).collect()
    }

    /// Whether the heads come trained.
    pub fn is_trained(&self) -> bool {
        !self.own.is_empty()
    }

    /// A text in place of the one that the settings name, as an editor has it.
    ///
    /// # Errors
    /// Where a template can't be read.
    pub fn with_text(settings: &ExitSettings, text: String) -> Result<ExitSource, RunError> {
        let beside = match &settings.classifier {
            Classifier::File(path) => path.parent(),
            _ => None,
        };
        let folder = settings.templates.as_deref().or(beside);
        ExitSource {
            text,
            folder: beside.or(folder).map(Path::to_owned),
            templates: Vec::new(),
            own: Vec::new(),
        }
        // The folder of a session that ships inside the program is nowhere.
        .including(folder.filter(|f| f.as_os_str().is_empty() || f.exists()))
    }

    /// A text that lies in `folder`, with the templates there and those of `templates`, which go
    /// first.
    ///
    /// # Errors
    /// Where a template can't be read.
    pub fn at(
        text: String,
        folder: Option<&Path>,
        templates: Option<&Path>,
    ) -> Result<ExitSource, RunError> {
        let source = ExitSource {
            text,
            folder: folder.map(Path::to_owned),
            templates: Vec::new(),
            own: Vec::new(),
        };
        source.including(folder)?.including(templates)
    }

    /// With the templates of a folder, which go before those there are.
    fn including(mut self, folder: Option<&Path>) -> Result<ExitSource, RunError> {
        let Some(folder) = folder else {
            return Ok(self);
        };
        let here = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        let failed = |file: &Path, source: io::Error| RunError::Io {
            file: file.to_owned(),
            source,
        };
        for entry in std::fs::read_dir(here).map_err(|e| failed(here, e))? {
            let path = entry.map_err(|e| failed(here, e))?.path();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
            let Some(name) = name.filter(|n| n.ends_with(".j2")) else {
                continue;
            };
            let fits = path
                .metadata()
                .is_ok_and(|m| m.is_file() && m.len() <= MAX_TEMPLATE);
            if fits {
                self.templates.retain(|(other, _)| *other != name);
                self.templates.push((name, read(&path)?));
            }
        }
        // Folders come in any order; which of two files of one name wins must not.
        self.templates.sort();
        Ok(self)
    }

    /// The heads to train at a point: one for the first tier, which stands for all the others but
    /// those for which the source makes another.
    ///
    /// # Errors
    /// Where the source fits the point in no tier or not in all.
    pub fn heads(
        &self,
        point: &ExitPoint,
        tiers: &TierNames,
        seed: u64,
    ) -> Result<Vec<TierHead>, ExitError> {
        if self.is_trained() && !self.own.iter().any(|own| own.value == point.value) {
            return Ok(Vec::new());
        }
        let names = tiers.all();
        let heads = self
            .with_library(|library| exits::heads_with(&self.text, point, &names, seed, library))?;
        let tiers: Vec<Tier> = tiers.tiers().collect();
        Ok(heads
            .into_iter()
            .map(|(i, head)| TierHead::new(tiers[i], head))
            .collect())
    }

    /// Does something with the library that heads of this source are made with.
    pub fn with_library<T>(&self, f: impl FnOnce(&Library) -> T) -> T {
        let files = |name: &str| self.file(name);
        let own = self.templates.iter();
        let library = own.fold(
            Library::new().with_files(&files),
            |library, (name, text)| library.with_template(name, text),
        );
        f(&library)
    }

    /// The bytes of a file beside the source or below. What a source from elsewhere names must not
    /// lead out of there.
    fn file(&self, name: &str) -> Result<Vec<u8>, String> {
        if let Some(own) = self.own.iter().find(|own| own.name == name) {
            return Ok(own.onnx.clone());
        }
        let Some(folder) = &self.folder else {
            return Err("a source that lies in no folder has no files beside it".into());
        };
        let path = Path::new(name);
        let inside = path
            .components()
            .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if !inside || name.is_empty() {
            return Err("a file must lie beside the source or below it, named without `..`".into());
        }
        std::fs::read(folder.join(path)).map_err(|e| match folder.as_os_str().is_empty() {
            true => e.to_string(),
            false => format!("{e} in {}", folder.display()),
        })
    }
}

fn read(path: &Path) -> Result<String, RunError> {
    std::fs::read_to_string(path).map_err(|source| RunError::Io {
        file: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    fn names(source: &ExitSource) -> Vec<&str> {
        source.templates.iter().map(|(n, _)| n.as_str()).collect()
    }

    #[test]
    fn templates_lie_beside_the_source_or_where_the_settings_say() {
        let dir = tempfile::tempdir().unwrap();
        let (here, there) = (dir.path().join("here"), dir.path().join("there"));
        for (folder, name) in [(&here, "a.ron.j2"), (&there, "b.j2"), (&there, "c.ron")] {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(folder.join(name), name).unwrap();
        }
        std::fs::write(here.join("head.ron.j2"), "[]").unwrap();
        let with = |classifier, templates: Option<&PathBuf>| {
            let settings = ExitSettings {
                classifier,
                templates: templates.cloned(),
                ..ExitSettings::default()
            };
            ExitSource::with_text(&settings, String::new()).unwrap()
        };
        let file = || Classifier::File(here.join("head.ron.j2"));
        let text = || Classifier::Template("[]".into());
        assert_eq!(names(&with(file(), None)), ["a.ron.j2", "head.ron.j2"]);
        assert_eq!(names(&with(file(), Some(&there))), ["b.j2"]);
        assert_eq!(
            names(&with(text(), Some(&here))),
            ["a.ron.j2", "head.ron.j2"]
        );
        assert_eq!(names(&with(text(), None)), Vec::<&str>::new());
        // A folder that is named goes before the one beside.
        std::fs::write(there.join("a.ron.j2"), "other").unwrap();
        let both = ExitSource::at(String::new(), Some(&here), Some(&there)).unwrap();
        assert_eq!(both.templates[0], ("a.ron.j2".into(), "other".into()));
        assert_eq!(names(&both), ["a.ron.j2", "b.j2", "head.ron.j2"]);
    }

    #[rstest]
    #[case("../secret.onnx")]
    #[case("/etc/hostname")]
    #[case("below/../../secret.onnx")]
    #[case("")]
    fn paths_that_lead_out_are_refused(#[case] name: &str) {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        std::fs::create_dir_all(inner.join("below")).unwrap();
        std::fs::write(dir.path().join("secret.onnx"), "x").unwrap();
        std::fs::write(inner.join("below/own.onnx"), "y").unwrap();
        let source = ExitSource::at(String::new(), Some(&inner), None).unwrap();
        let why = source.file(name).unwrap_err();
        assert!(why.contains("beside the source"), "{why}");
        assert_eq!(source.file("below/own.onnx").unwrap(), b"y");
        assert_eq!(source.file("./below/own.onnx").unwrap(), b"y");
    }
}
