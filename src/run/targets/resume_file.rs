/*!
What a run leaves behind that is killed: its targets on this machine go on for a while, and its jobs
run to their end. The next run of the session finds both by a file in the out folder, and goes on with
them. No token stands there: each of these targets keeps its own, in its own folder.
*/

use crate::plan::Tier;
use crate::protocol::message::JobRequest;
use crate::protocol::message::Ready;
use crate::protocol::tls;
use crate::run::RunError;
use crate::run::local::{LocalAgent, LocalOptions};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Of the file, in the out folder.
const FILE: &str = "targets.json";

#[derive(Debug, Default, Serialize, Deserialize)]
struct Written {
    /// Tells the jobs of this run from those of one that was done before, or is done afresh.
    run: String,
    targets: Vec<Entry>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    part: Tier,
    index: usize,
    /// Another session may want others.
    options: String,
    ready: Ready,
}

/// The file, and what it said of an earlier run.
#[derive(Debug)]
pub(super) struct ResumeFile {
    file: PathBuf,
    before: Vec<Entry>,
    now: Written,
}

impl ResumeFile {
    /// Reads what an earlier run left in a folder; with `fresh` its jobs are not to be taken up.
    pub(super) fn open(out: &Path, fresh: bool) -> Result<ResumeFile, RunError> {
        let file = out.join(FILE);
        // A file that a killed run left half written says nothing; so does none.
        let found = std::fs::read(&file).ok();
        let found = found.and_then(|bytes| serde_json::from_slice::<Written>(&bytes).ok());
        let found = found.unwrap_or_default();
        let run = match found.run.is_empty() || fresh {
            true => tls::token().map_err(|e| RunError::Io {
                file: file.clone(),
                source: std::io::Error::other(e),
            })?,
            false => found.run,
        };
        Ok(ResumeFile {
            file,
            before: found.targets,
            now: Written {
                run,
                targets: Vec::new(),
            },
        })
    }

    /// Under which a job is handed in: the same for the same job of this run, however often the run is
    /// begun again.
    pub(super) fn key(&self, request: &JobRequest) -> String {
        let mut hash = Sha256::new();
        hash.update(&self.now.run);
        hash.update(serde_json::to_vec(request).unwrap_or_default());
        hex::encode(hash.finalize())
    }

    /// The target that an earlier run left at this place, if it answers and is what is wanted now.
    pub(super) async fn rejoin(
        &mut self,
        part: Tier,
        index: usize,
        options: &LocalOptions,
    ) -> Option<LocalAgent> {
        let here = |e: &Entry| e.part == part && e.index == index;
        let at = self.before.iter().position(here)?;
        let entry = self.before.swap_remove(at);
        let agent = LocalAgent::rejoin(&entry.ready).await?;
        match entry.options == wanted(options) {
            true => Some(agent),
            false => {
                agent.stop().await;
                None
            }
        }
    }

    /// Writes down a target, so that it can be found.
    pub(super) fn note(
        &mut self,
        part: Tier,
        index: usize,
        options: &LocalOptions,
        agent: &LocalAgent,
    ) -> Result<(), RunError> {
        let failed = |source| RunError::Io {
            file: self.file.clone(),
            source,
        };
        self.now.targets.push(Entry {
            part,
            index,
            options: wanted(options),
            ready: agent.persist().map_err(failed)?,
        });
        self.write()
    }

    /// Writes that a run goes on, whose jobs can be taken up.
    pub(super) fn write(&self) -> Result<(), RunError> {
        let failed = |source| RunError::Io {
            file: self.file.clone(),
            source,
        };
        // Those of before that nobody has come to yet stay findable.
        let targets = self.now.targets.iter().chain(&self.before).cloned();
        let written = Written {
            run: self.now.run.clone(),
            targets: targets.collect(),
        };
        let bytes = serde_json::to_vec(&written).map_err(|e| failed(e.into()))?;
        let folder = self.file.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(failed)?;
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        std::io::Write::write_all(&mut file, &bytes).map_err(failed)?;
        file.persist(&self.file).map_err(|e| failed(e.error))?;
        Ok(())
    }

    /// Ends what an earlier run left and this one had no use for.
    pub(super) async fn end(&mut self) {
        for entry in std::mem::take(&mut self.before) {
            if let Some(agent) = LocalAgent::rejoin(&entry.ready).await {
                agent.stop().await;
            }
        }
    }
}

impl Drop for ResumeFile {
    /// Who comes to an end takes its targets along, and leaves nothing to be found.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// What makes a target the one that is wanted.
fn wanted(options: &LocalOptions) -> String {
    let LocalOptions {
        program,
        cores,
        threads,
        slowdown,
        engine,
        idle_exit: _,
    } = options;
    let version = env!("CARGO_PKG_VERSION");
    let program = program.clone().or_else(|| std::env::current_exe().ok());
    format!("{version} {program:?} {cores:?} {threads:?} {slowdown} {engine}")
}
