/*! Sessions opened, listed and saved, and whatever else is read or written; on a thread of its own. */

mod journal;
mod recent;

use super::questions::make_heads;
use crate::exits::{self, Classifier};
use crate::model::{LayerTable, fuse};
use crate::plan::Tier;
use crate::run::ExitSource;
use crate::session::{Session, open_plain, read_plain, write_atomically};
use crate::tui::error::{FileError, NetworkError, NoReplica};
use crate::tui::message::{Content, Effect, HeadsRequest, Msg, Opened, Over, Source};
use crate::tui::ports::JobRunner;
use crate::tui::state::finder::{Folder, Found};
use crate::tui::work::{HeadFacts, NetworkFacts, Results};
use journal::Claim;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// Everything that reads or writes files.
pub(in crate::tui) struct Files {
    jobs: Arc<dyn JobRunner>,
    tell: Sender<Msg>,
    /// The journal of the session that is open.
    journal: Option<Claim>,
}

impl Files {
    pub(in crate::tui) fn new(jobs: Arc<dyn JobRunner>, tell: Sender<Msg>) -> Files {
        Files {
            jobs,
            tell,
            journal: None,
        }
    }

    fn say(&self, message: Msg) {
        let _ = self.tell.send(message);
    }

    pub(in crate::tui) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Open(source) => self.open(&source),
            Effect::List => self.say(Msg::Sessions(Found {
                recent: recent::read(),
                below: sessions(Path::new(".")),
            })),
            Effect::LookInto(typed) => {
                let names = names_in(&typed);
                self.say(Msg::Names(Folder { typed, names }));
            }
            Effect::Reload {
                session,
                folder,
                network: anew,
            } => {
                self.say(Msg::Classifier(classifier(&session, &folder)));
                if anew {
                    let read = network(&session, &folder, None);
                    self.say(Msg::Network(read.map(Box::new)));
                }
                let here = self.jobs.results(&session, &folder);
                self.say(Msg::Kept(Box::new(here)));
            }
            Effect::Save {
                session,
                file,
                over,
                draft,
                journal,
            } => self.save(session, file, over, draft, &journal),
            Effect::Journal {
                session,
                draft,
                file,
            } => {
                if let Err(error) = journal::write(&file, &session, draft.as_deref()) {
                    self.say(Msg::Failed(FileError::Journal { file, error }));
                }
            }
            Effect::Forget(file) => journal::forget(&file),
            Effect::Write { file, over, .. } if !over && file.symlink_metadata().is_ok() => {
                self.say(Msg::Exists { file, export: true });
            }
            Effect::Write { file, text, .. } => match write_atomically(&file, text.as_bytes()) {
                Ok(()) => self.say(Msg::Wrote(file)),
                Err(error) => self.say(Msg::Failed(FileError::Io { file, error })),
            },
            _ => {}
        }
    }

    fn open(&mut self, source: &Source) {
        // The one before is let go of first, so that the same session can be opened again.
        let before = self.journal.take();
        match open(source) {
            Ok((opened, claim)) => {
                self.journal = claim;
                self.say(Msg::Opened(Box::new(opened.clone())));
                if let Some(file) = &opened.file {
                    recent::add(file);
                }
                let results = opened.results.as_deref();
                let network = network(&opened.session, &opened.folder, results).map(Box::new);
                let heads = network.as_ref().ok().and_then(|n| heads(&opened, n));
                self.say(Msg::Network(network));
                let session = named(&opened);
                if let Some(running) = self.jobs.running(&session, &opened.folder) {
                    self.say(Msg::Running(running));
                }
                for message in kept(&opened, heads.as_deref(), &*self.jobs) {
                    self.say(message);
                }
            }
            Err(problem) => {
                self.journal = before;
                self.say(Msg::NotOpened(problem));
            }
        }
    }

    /// Writes a session, unless somebody else has written to its file.
    fn save(
        &self,
        session: Box<Session>,
        file: PathBuf,
        over: Over,
        draft: Option<String>,
        journal: &Path,
    ) {
        let there = content(&file);
        match (over, there) {
            (Over::Nothing, Some(_)) => {
                return self.say(Msg::Exists {
                    file,
                    export: false,
                });
            }
            (Over::Known(before), Some(now)) if before != now => {
                return self.say(Msg::Changed(file));
            }
            _ => {}
        }
        if let Err(error) = session.save(&file) {
            return self.say(Msg::Failed(error.into()));
        }
        let Some(content) = content(&file) else {
            return;
        };
        match draft {
            None => journal::forget(journal),
            Some(draft) => {
                if let Err(error) = journal::write(journal, &session, Some(&draft)) {
                    let file = journal.to_owned();
                    self.say(Msg::Failed(FileError::Journal { file, error }));
                }
            }
        }
        recent::add(&file);
        self.say(Msg::Saved {
            file,
            session,
            content,
        });
    }
}

/// What a plain file holds; `None` where there is none.
fn content(file: &Path) -> Option<Content> {
    let mut hasher = DefaultHasher::new();
    read_plain(file).ok()?.hash(&mut hasher);
    Some(Content(hasher.finish()))
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

/// The heads of the session's exit source, where it makes any.
fn heads(opened: &Opened, network: &NetworkFacts) -> Option<Vec<HeadFacts>> {
    let source = match &opened.session.exits.classifier {
        Classifier::Replica => network.replica.clone().ok()?,
        Classifier::Template(text) => text.clone(),
        Classifier::File(_) => opened.classifier.clone()?.ok()?,
        Classifier::OwnExits => network.own.as_ref()?.text.clone(),
    };
    let request = HeadsRequest {
        generation: 0,
        source,
        settings: Box::new(opened.session.resolved(&opened.folder).exits),
        network: Arc::new(network.clone()),
        seed: opened.session.seed,
        tiers: opened.session.tier_names(),
        first: 0,
    };
    make_heads(&request).ok()
}

/// Whether the heads that results are of are those of the session's source.
fn belong(results: &crate::session::Results, heads: Option<&[HeadFacts]>) -> bool {
    let mut kept = results.heads.iter();
    kept.all(|head| {
        let own = heads.and_then(|all| all.iter().find(|h| h.layer == head.point.layer));
        own.is_none_or(|own| own.hash_on(head.tier) == head.hash)
    })
}

/// What earlier runs left: in the session's file, or, for the one that ships, first of all here. What
/// is of other heads than the session's gives way to what is of its own.
fn kept(opened: &Opened, heads: Option<&[HeadFacts]>, jobs: &dyn JobRunner) -> Vec<Msg> {
    let here = jobs.results(&named(opened), &opened.folder);
    let Some(results) = &opened.results else {
        return vec![Msg::Kept(Box::new(here))];
    };
    let ships = opened.file.is_none();
    let ran = |r: &crate::session::Results| r.last("plan").map_or(0, |m| m.at);
    let newer = here.kept.as_ref().is_some_and(|kept| {
        // What ships was measured on another machine, whenever that was.
        let newer = ran(kept) > if ships { 0 } else { ran(results) };
        newer && (belong(kept, heads) || !belong(results, heads))
    });
    if newer {
        return vec![Msg::Kept(Box::new(here))];
    }
    let names = opened.session.tier_names();
    match (Results::of(results, names).map(Box::new), ships) {
        (Ok(results), true) => {
            let mut messages = vec![Msg::Shipped(results)];
            if here.profile(Tier::First).is_some() {
                // Whatever heads it was run with: the machine is this one.
                messages.push(Msg::Kept(Box::new(Results {
                    profiles: here.profiles,
                    links: here.links,
                    ..Results::default()
                })));
            }
            messages
        }
        (Ok(results), false) => vec![Msg::Kept(results)],
        (Err(problem), _) => vec![Msg::Failed(problem.into())],
    }
}

/// A session, and its journal where that could be claimed.
fn open(source: &Source) -> Result<(Opened, Option<Claim>), FileError> {
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
    let classifier = classifier(&session, &folder);
    let claimed = journal::claim(&journal_of(file.as_deref()));
    let recovered = journal::read(&claimed.file);
    let results = session.results.take();
    let opened = Opened {
        content: file.as_deref().and_then(content),
        recovered: recovered.filter(|r| r.session != session || r.draft.is_some()),
        session,
        file,
        folder,
        classifier,
        journal: claimed.file,
        shared: claimed.shared,
        results,
    };
    Ok((opened, claimed.claim))
}

/// The exit classifier's text, where the session names a file.
fn classifier(session: &Session, folder: &Path) -> Option<Result<String, Arc<FileError>>> {
    let Classifier::File(path) = &session.exits.classifier else {
        return None;
    };
    let path = folder.join(path);
    let text = std::fs::read_to_string(&path);
    Some(text.map_err(|error| Arc::new(FileError::Io { file: path, error })))
}

/// Where unsaved edits are kept: beside the session's file, or, for the one that ships, in the
/// user's state folder.
fn journal_of(file: Option<&Path>) -> PathBuf {
    if let Some(file) = file {
        let mut name = file.as_os_str().to_owned();
        name.push(".autosave");
        return name.into();
    }
    state_folder().join("demo.autosave")
}

/// Where the program keeps what is nobody's document: the user's state folder.
fn state_folder() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".local/state"));
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let state = state.filter(|p| p.is_absolute()).or_else(home);
    // A folder of one's own, where others write too.
    let own = || {
        let user = Path::new("/proc/self").metadata().map_or(0, |m| m.uid());
        std::env::temp_dir().join(format!("edgelesspart-{user}"))
    };
    state.unwrap_or_else(own).join("edgelesspart")
}

/// The network of a session; where its file isn't here, what a run left of it in the session.
fn network(
    session: &Session,
    folder: &Path,
    results: Option<&crate::session::Results>,
) -> Result<NetworkFacts, NetworkError> {
    let session = session.resolved(folder);
    let loaded = session.model.load(session.seed);
    let graph = match (loaded, results) {
        (Ok(graph), _) => graph,
        (Err(problem), Some(kept)) => {
            return Ok(NetworkFacts {
                table: Arc::new(kept.layers.clone()),
                points: Arc::new(kept.points.clone()),
                replica: Err(NoReplica::NoFile {
                    why: problem.to_string(),
                }),
                own: None,
            });
        }
        (Err(problem), None) => return Err(problem.into()),
    };
    let fused = fuse(&graph);
    let table = LayerTable::new(&fused)?;
    Ok(NetworkFacts {
        points: Arc::new(exits::points(&table, &fused)),
        replica: exits::replica(&fused).map_err(NoReplica::from),
        own: ExitSource::own(&fused).ok().map(Arc::new),
        table: Arc::new(table),
    })
}

/// The deepest folder that sessions are looked for in, below this one.
const DEEPEST: usize = 4;
/// Entries that are looked at, so that a home folder takes no minutes.
const MOST_ENTRIES: usize = 20_000;

/// Session files in a folder and below, those less deep first; their paths start there.
fn sessions(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = std::collections::VecDeque::from([(top.to_owned(), 0)]);
    let mut seen = 0;
    while let Some((folder, depth)) = folders.pop_front() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            seen += 1;
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            // A link may lead round in circles.
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            let path = entry.path();
            if kind.is_dir() && !hidden && depth < DEEPEST && !is_ours(&path) {
                folders.push_back((path, depth + 1));
            } else if path.extension().is_some_and(|e| e == "ron") && is_session(&path) {
                let path = path.strip_prefix(top).unwrap_or(&path).to_owned();
                found.push((depth, path));
            }
        }
        if seen > MOST_ENTRIES {
            break;
        }
    }
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// Whether a folder holds what programs leave there for themselves: builds, jobs, finished stages.
fn is_ours(folder: &Path) -> bool {
    let name = folder.file_name();
    ["target", "job", "stages"]
        .iter()
        .any(|own| name == Some(std::ffi::OsStr::new(own)))
}

/// Whether a file begins as a session does, its comments aside.
fn is_session(file: &Path) -> bool {
    use std::io::Read as _;
    let mut head = Vec::new();
    let read = open_plain(file).and_then(|file| file.take(4096).read_to_end(&mut head));
    if read.is_err() {
        return false;
    }
    let text = String::from_utf8_lossy(&head);
    let mut lines = text.lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with("//"));
    first.is_some_and(|line| line.starts_with("Session(") || line.starts_with("#!["))
}

/// Names in a folder as it is typed, folders with a `/` behind; none where it can't be read.
fn names_in(typed: &str) -> Vec<String> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let folder = match (typed, typed.strip_prefix("~/"), home) {
        ("", ..) => PathBuf::from("."),
        (_, Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(typed),
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let name = |entry: std::fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let end = if entry.path().is_dir() { "/" } else { "" };
        format!("{name}{end}")
    };
    let mut names: Vec<String> = entries.take(MOST_ENTRIES).map(name).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_pipe_that_is_called_a_session_holds_nothing_up() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let text = "// mine\nSession(version: 2, model: Demo, data: Synthetic(seed: 7))";
        std::fs::create_dir(at("deep")).unwrap();
        std::fs::write(at("deep/mine.ron"), text).unwrap();
        symlink(at("deep/mine.ron"), at("link.ron")).unwrap();
        nix::unistd::mkfifo(&at("pipe.ron"), Mode::S_IRWXU).unwrap();
        symlink(at("pipe.ron"), at("to-pipe.ron")).unwrap();
        symlink("/dev/zero", at("to-device.ron")).unwrap();
        let found = sessions(folder.path());
        assert_eq!(found, [Path::new("link.ron"), Path::new("deep/mine.ron")]);
        assert_eq!(content(&at("pipe.ron")), None);
        let session = Session::demo().unwrap();
        let refused = session.save(&at("pipe.ron")).unwrap_err().to_string();
        assert!(refused.contains("not a plain file"), "{refused}");
    }
}
