/*! Sessions opened, listed and saved, and whatever else is read or written; on a thread of its own. */

use crate::exits::{self, Classifier};
use crate::model::{LayerTable, fuse};
use crate::session::Session;
use crate::tui::error::{FileError, NetworkError};
use crate::tui::message::{Effect, Msg, Opened, Source};
use crate::tui::ports::JobRunner;
use crate::tui::work::{Network, Results};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// Everything that reads or writes files.
pub(super) fn touch(effect: Effect, work: &dyn JobRunner, tell: &Sender<Msg>) {
    let say = |message| {
        let _ = tell.send(message);
    };
    match effect {
        Effect::Open(source) => match open(&source) {
            Ok(opened) => {
                say(Msg::Opened(Box::new(opened.clone())));
                say(Msg::Network(network(&opened).map(Box::new)));
                if let Some(running) = work.running(&named(&opened), &opened.folder) {
                    say(Msg::Running(running));
                }
                say(kept(&opened, work));
            }
            Err(problem) => say(Msg::Failed(problem)),
        },
        Effect::List => say(Msg::Sessions(sessions())),
        Effect::Save {
            file, over: false, ..
        } if file.exists() => say(Msg::Exists(file)),
        Effect::Save {
            session,
            file,
            journal,
            ..
        } => match session.save(&file) {
            Ok(()) => {
                let _ = std::fs::remove_file(journal);
                say(Msg::Saved(file, session));
            }
            Err(error) => say(Msg::Failed(error.into())),
        },
        Effect::Journal { session, file } => {
            let folder = file.parent().map_or(Ok(()), std::fs::create_dir_all);
            let text = session.to_text().map_err(std::io::Error::other);
            let text = folder.and(text);
            if let Err(error) = text.and_then(|text| std::fs::write(&file, text)) {
                say(Msg::Failed(FileError::Journal { file, error }));
            }
        }
        Effect::Forget(file) => {
            let _ = std::fs::remove_file(file);
        }
        Effect::Write { file, text } => match std::fs::write(&file, text) {
            Ok(()) => say(Msg::Wrote(file)),
            Err(error) => say(Msg::Failed(FileError::Io { file, error })),
        },
        _ => {}
    }
}

/// The session by the name its results go under: its own, or its file's.
fn named(opened: &Opened) -> Session {
    let mut session = opened.session.clone();
    if session.name.is_none() {
        let stem = opened.file.as_ref().and_then(|f| f.file_stem());
        session.name = stem.map(|s| s.to_string_lossy().into_owned());
    }
    session
}

/// What earlier runs left: in the session's file, or, for the one that ships, first of all here.
fn kept(opened: &Opened, work: &dyn JobRunner) -> Msg {
    let here = || work.results(&named(opened), &opened.folder);
    let Some(results) = &opened.results else {
        return Msg::Kept(Box::new(here()));
    };
    let ships = opened.file.is_none();
    let ran = |r: &crate::session::Results| r.last("plan").map_or(0, |m| m.at);
    let here = here();
    let newer = here.kept.as_ref().is_some_and(|kept| {
        // What ships was measured on another machine, whenever that was.
        ran(kept) > if ships { 0 } else { ran(results) }
    });
    if newer {
        return Msg::Kept(Box::new(here));
    }
    let names = opened.session.tier_names();
    match (Results::of(results, names).map(Box::new), ships) {
        (Ok(results), true) => Msg::Shipped(results),
        (Ok(results), false) => Msg::Kept(results),
        (Err(problem), _) => Msg::Failed(problem.into()),
    }
}

fn open(source: &Source) -> Result<Opened, FileError> {
    let (mut session, file, folder) = match source {
        Source::Demo => {
            let session = Session::demo()?;
            (session, None, PathBuf::from("sessions"))
        }
        Source::File(file) => {
            let session = Session::read(file)?;
            let folder = file.parent().unwrap_or(Path::new("")).to_owned();
            (session, Some(file.clone()), folder)
        }
    };
    let classifier = match &session.exits.classifier {
        Classifier::File(path) => {
            let path = folder.join(path);
            let text = std::fs::read_to_string(&path);
            Some(text.map_err(|error| Arc::new(FileError::Io { file: path, error })))
        }
        _ => None,
    };
    let journal = journal(file.as_deref());
    let text = std::fs::read_to_string(&journal).ok();
    let recovered = text.and_then(|t| Session::parse(&t, &journal).ok());
    let results = session.results.take();
    Ok(Opened {
        recovered: recovered.filter(|r| *r != session),
        session,
        file,
        folder,
        classifier,
        journal,
        results,
    })
}

/// Where unsaved edits are kept: beside the session's file, or, for the one that ships, in the
/// user's state folder.
fn journal(file: Option<&Path>) -> PathBuf {
    if let Some(file) = file {
        let mut name = file.as_os_str().to_owned();
        name.push(".autosave");
        return name.into();
    }
    let home = || std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".local/state"));
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let state = state.filter(|p| p.is_absolute()).or_else(home);
    let state = state.unwrap_or_else(std::env::temp_dir);
    state.join("edgelesspart/demo.autosave")
}

/// The network of a session; where its file isn't here, what a run left of it in the session.
fn network(opened: &Opened) -> Result<Network, NetworkError> {
    let session = opened.session.resolved(&opened.folder);
    let loaded = session.model.load(session.seed);
    let graph = match (loaded, &opened.results) {
        (Ok(graph), _) => graph,
        (Err(problem), Some(kept)) => {
            return Ok(Network {
                table: Arc::new(kept.layers.clone()),
                points: Arc::new(kept.points.clone()),
                replica: Err(format!("without the network's file: {problem}")),
            });
        }
        (Err(problem), None) => return Err(problem.into()),
    };
    let fused = fuse(&graph);
    let table = LayerTable::new(&fused)?;
    Ok(Network {
        points: Arc::new(exits::points(&table, &fused)),
        replica: exits::replica(&fused).map_err(|e| e.to_string()),
        table: Arc::new(table),
    })
}

/// Session files in this folder, in `sessions/` and in the folders of runs.
fn sessions() -> Vec<PathBuf> {
    let runs = std::fs::read_dir("runs").into_iter().flatten().flatten();
    let folders = [PathBuf::from("sessions"), PathBuf::from(".")].into_iter();
    let mut found: Vec<PathBuf> = folders
        .chain(runs.map(|entry| entry.path()))
        .flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "ron"))
        .collect();
    found.sort();
    found
}
