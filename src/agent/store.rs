/*!
What an agent was sent (models, parts, data sets): files named by the SHA-256 of their bytes. Bounded,
what is still coming in counted in full; the one not asked for the longest goes first, one in use never.

| file     | what it is                                                        |
|----------|-------------------------------------------------------------------|
| `upload` | a file as it comes in, in pieces, across lost connections         |
*/

mod upload;

use super::error::{AgentError, JobError, Refused};
use crate::model::Graph;
use crate::model::onnx::import_reader;
use crate::protocol::message::{Address, RefusalKind, Upload};
use parking_lot::{Mutex, MutexGuard};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
pub(super) use upload::Piece;
use upload::{Coming, SUFFIX};

/// How long a file that is only partly here waits for the rest of it.
const STALE: Duration = Duration::from_secs(24 * 3600);

struct Entry {
    bytes: u64,
    used: u64,
    /// Held once more by everyone who uses the file.
    pin: Arc<()>,
}

#[derive(Default)]
struct Index {
    blobs: HashMap<Address, Entry>,
    coming: HashMap<Address, Coming>,
    /// Counts uses, so that the oldest is known.
    clock: u64,
}

impl Index {
    fn now(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Bytes that are here, or promised a place.
    fn taken(&self) -> u64 {
        let whole = self.blobs.values().map(|b| b.bytes).sum::<u64>();
        whole + self.coming.values().map(|c| c.reserved).sum::<u64>()
    }
}

/// The files of an agent.
pub(super) struct Store {
    folder: PathBuf,
    max: u64,
    stale: Duration,
    index: Mutex<Index>,
}

/// A file that stays as long as this is held.
#[derive(Debug)]
pub(super) struct Blob {
    pub(super) path: PathBuf,
    _pin: Arc<()>,
}

fn is_address(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The SHA-256 of a file, read piece by piece.
fn address_of(path: &Path) -> std::io::Result<Address> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut bytes = vec![0; 1 << 16];
    loop {
        match file.read(&mut bytes)? {
            0 => break,
            n => hash.update(&bytes[..n]),
        }
    }
    Ok(hex::encode(hash.finalize()))
}

impl Store {
    /// Opens the folder; what lies there from an earlier time is known again, and goes on where it was
    /// where only a part of it came.
    pub(super) fn open(folder: &Path, max: u64) -> Result<Store, AgentError> {
        Store::with(folder, max, STALE)
    }

    fn with(folder: &Path, max: u64, stale: Duration) -> Result<Store, AgentError> {
        let failed = |cause| AgentError::Path {
            path: folder.to_path_buf(),
            cause,
        };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let mut index = Index::default();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let about = entry.metadata().map_err(failed)?;
            let bytes = about.len();
            if is_address(&name) {
                let kept = Entry {
                    bytes,
                    used: 0,
                    pin: Arc::default(),
                };
                index.blobs.insert(name, kept);
            } else if let Some(address) = name.strip_suffix(SUFFIX).filter(|a| is_address(a)) {
                let touched = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                let coming = Coming::found(bytes, touched);
                index.coming.insert(address.to_string(), coming);
            }
        }
        let store = Store {
            folder: folder.to_path_buf(),
            max,
            stale,
            index: Mutex::new(index),
        };
        store.sweep();
        Ok(store)
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        // Every change of the index is whole before anything can panic.
        self.index.lock()
    }

    fn partial(&self, address: &str) -> PathBuf {
        self.folder.join(format!("{address}{SUFFIX}"))
    }

    /// The file, if it is here.
    pub(super) fn get(&self, address: &str) -> Option<Blob> {
        let mut index = self.lock();
        let now = index.now();
        let kept = index.blobs.get_mut(address)?;
        kept.used = now;
        Some(Blob {
            path: self.folder.join(address),
            _pin: kept.pin.clone(),
        })
    }

    /// The file, or the refusal that says what to do.
    pub(super) fn need(&self, address: &str) -> Result<Blob, Refused> {
        let missing = || {
            let what = format!("{address} is not here; send it first");
            Refused::new(RefusalKind::NotStored, what)
        };
        self.get(address).ok_or_else(missing)
    }

    /// The file, its bytes compared with its address: a disk may have changed them. One that was
    /// changed is forgotten, so that it can be sent again.
    pub(super) fn checked(&self, address: &str) -> Result<Blob, Refused> {
        let blob = self.need(address)?;
        let found = address_of(&blob.path);
        self.believe(address, found.map(|found| found == address))?;
        Ok(blob)
    }

    /// The file and its length, to be read from its start; checked like [`Store::checked`], before it is
    /// read once more.
    pub(super) fn reader(&self, address: &str) -> Result<(BufReader<File>, u64), Refused> {
        let blob = self.checked(address)?;
        let open = || {
            let file = File::open(&blob.path)?;
            let length = file.metadata()?.len();
            Ok::<_, std::io::Error>((BufReader::new(file), length))
        };
        open().map_err(Refused::internal)
    }

    /// The network or head in a file, which errors call by `name`.
    pub(super) fn graph(&self, address: &str, name: &str) -> Result<Graph, JobError> {
        let (mut file, length) = self.reader(address)?;
        let graph = import_reader(&mut file, length, name);
        graph.map_err(|e| JobError::invalid(format!("{name} ({address}): {e}")))
    }

    /// Its bytes, checked like [`Store::checked`].
    pub(super) fn read(&self, address: &str) -> Result<Vec<u8>, Refused> {
        let blob = self.need(address)?;
        let read = std::fs::read(&blob.path);
        let same = read.as_ref().map(|bytes| {
            let found = crate::runtime::parts::address(bytes);
            found == address
        });
        self.believe(address, same.map_err(|e| e.kind().into()))?;
        read.map_err(Refused::internal)
    }

    fn believe(&self, address: &str, same: std::io::Result<bool>) -> Result<(), Refused> {
        let what = match same {
            Ok(true) => return Ok(()),
            Ok(false) => format!("{address} was damaged on the agent's disk; send it again"),
            Err(error) => format!("reading {address}: {error}; send it again"),
        };
        self.lock().blobs.remove(address);
        let _ = std::fs::remove_file(self.folder.join(address));
        Err(Refused::internal(what))
    }

    /// How much of a file is here.
    pub(super) async fn state(&self, address: &str) -> Upload {
        let coming = {
            let mut index = self.lock();
            let now = index.now();
            if let Some(kept) = index.blobs.get_mut(address) {
                kept.used = now;
                return Upload {
                    received: kept.bytes,
                    whole: true,
                };
            }
            index.coming.get(address).map(|c| c.writer.clone())
        };
        let received = match coming {
            Some(writer) => writer.lock().await.received,
            None => 0,
        };
        Upload {
            received,
            whole: false,
        }
    }

    /// Lets go of what waits in vain for the rest of it.
    pub(super) fn sweep(&self) {
        let mut index = self.lock();
        let stale = |c: &Coming| {
            let age = c.touched.elapsed().unwrap_or_default();
            !c.in_use() && age >= self.stale
        };
        let gone: Vec<Address> = index
            .coming
            .iter()
            .filter(|(_, c)| stale(c))
            .map(|(address, _)| address.clone())
            .collect();
        for address in gone {
            index.coming.remove(&address);
            let _ = std::fs::remove_file(self.partial(&address));
        }
    }

    /// Makes room for so many bytes more; what goes is whole or not, but never in use. `but` stays.
    fn make_room(&self, index: &mut Index, bytes: u64, but: &str) -> Result<(), Refused> {
        while index.taken().saturating_add(bytes) > self.max {
            let whole = index.blobs.iter();
            let whole = whole.filter(|(_, b)| Arc::strong_count(&b.pin) == 1);
            let whole = whole.map(|(address, b)| (b.used, true, address));
            let partly = index.coming.iter();
            let partly = partly.filter(|(address, c)| !c.in_use() && *address != but);
            let partly = partly.map(|(address, c)| (c.used, false, address));
            let Some((_, is_whole, oldest)) = whole.chain(partly).min() else {
                let max = self.max;
                return Err(Refused::new(
                    RefusalKind::StorageFull,
                    format!(
                        "{bytes} bytes more than the {max} kept here, and the rest is in use; start \
                         the agent with a larger --max-data"
                    ),
                ));
            };
            let oldest = oldest.clone();
            // A file that is gone already frees its room all the same.
            let _ = match is_whole {
                true => {
                    index.blobs.remove(&oldest);
                    std::fs::remove_file(self.folder.join(&oldest))
                }
                false => {
                    index.coming.remove(&oldest);
                    std::fs::remove_file(self.partial(&oldest))
                }
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
