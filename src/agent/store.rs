/*!
What an agent was sent (models, parts, data sets): files named by the SHA-256 of their bytes. Bounded;
the one not asked for the longest goes first, one in use never.
*/

use super::error::{AgentError, Refused};
use crate::remote::message::Address;
use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

struct Kept {
    bytes: u64,
    used: u64,
    /// Held once more by everyone who uses the file.
    pin: Arc<()>,
}

#[derive(Default)]
struct Index {
    blobs: HashMap<Address, Kept>,
    /// Counts uses, so that the oldest is known.
    clock: u64,
}

/// The files of an agent.
pub(super) struct Store {
    folder: PathBuf,
    max: u64,
    index: Mutex<Index>,
}

/// A file that stays as long as this is held.
pub(super) struct Blob {
    pub(super) path: PathBuf,
    address: Address,
    _pin: Arc<()>,
}

impl Blob {
    /// Its bytes, checked again: a disk may have changed them.
    pub(super) fn read(&self) -> Result<Vec<u8>, Refused> {
        let bytes = std::fs::read(&self.path)
            .map_err(|e| Refused::internal(format!("reading {}: {e}", self.address)))?;
        if crate::partition::parts::address(&bytes) != self.address {
            let what = format!(
                "{} was damaged on the agent's disk; send it again",
                self.address
            );
            return Err(Refused::internal(what));
        }
        Ok(bytes)
    }
}

fn is_address(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl Store {
    /// Opens the folder; what lies there from an earlier time is known again.
    pub(super) fn open(folder: &Path, max: u64) -> Result<Store, AgentError> {
        let failed = |cause| AgentError::Path {
            path: folder.to_path_buf(),
            cause,
        };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let mut index = Index::default();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_address(&name) {
                let kept = Kept {
                    bytes: entry.metadata().map_err(failed)?.len(),
                    used: 0,
                    pin: Arc::default(),
                };
                index.blobs.insert(name, kept);
            }
        }
        Ok(Store {
            folder: folder.to_path_buf(),
            max,
            index: Mutex::new(index),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        // Every change of the index is whole before anything can panic.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file, if it is here.
    pub(super) fn get(&self, address: &str) -> Option<Blob> {
        let mut index = self.lock();
        index.clock += 1;
        let now = index.clock;
        let kept = index.blobs.get_mut(address)?;
        kept.used = now;
        Some(Blob {
            path: self.folder.join(address),
            address: address.to_string(),
            _pin: kept.pin.clone(),
        })
    }

    /// The file, or the refusal that says what to do.
    pub(super) fn need(&self, address: &str) -> Result<Blob, Refused> {
        let missing = || Refused::missing(format!("{address} is not here; send it first"));
        self.get(address).ok_or_else(missing)
    }

    /// Takes a file as it comes in; nothing stays of one that isn't what its address says.
    pub(super) async fn put(
        &self,
        address: &str,
        mut body: Body,
        max_body: usize,
    ) -> Result<(), Refused> {
        if !is_address(address) {
            return Err(Refused::bad(
                "an address is the SHA-256 of the bytes, in lower-case hex",
            ));
        }
        let disk = |e: std::io::Error| {
            Refused::new(
                StatusCode::INSUFFICIENT_STORAGE,
                format!("writing {address}: {e}"),
            )
        };
        let announced = body.size_hint().lower();
        self.make_room(announced)?;
        let file = NamedTempFile::new_in(&self.folder).map_err(disk)?;
        let mut writer = tokio::fs::File::from_std(file.reopen().map_err(disk)?);
        let mut hash = Sha256::new();
        let mut bytes = 0u64;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| Refused::bad(format!("the body ended early: {e}")))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            bytes += data.len() as u64;
            if bytes > max_body as u64 {
                return Err(Refused::too_large(max_body));
            }
            hash.update(&data);
            writer.write_all(&data).await.map_err(disk)?;
        }
        writer.flush().await.map_err(disk)?;
        let found: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        if found != address {
            return Err(Refused::bad(format!(
                "the bytes have the SHA-256 {found}, not {address}: damaged on the way; send again"
            )));
        }
        self.make_room(bytes)?;
        let mut index = self.lock();
        file.persist(self.folder.join(address))
            .map_err(|e| disk(e.error))?;
        index.clock += 1;
        let used = index.clock;
        let kept = index.blobs.entry(address.to_string()).or_insert(Kept {
            bytes,
            used,
            pin: Arc::default(),
        });
        (kept.bytes, kept.used) = (bytes, used);
        Ok(())
    }

    fn make_room(&self, bytes: u64) -> Result<(), Refused> {
        let mut index = self.lock();
        while index.blobs.values().map(|b| b.bytes).sum::<u64>() + bytes > self.max {
            let free = index
                .blobs
                .iter()
                .filter(|(_, b)| Arc::strong_count(&b.pin) == 1);
            let Some(oldest) = free.min_by_key(|(_, b)| b.used).map(|(a, _)| a.clone()) else {
                let max = self.max;
                return Err(Refused::new(
                    StatusCode::INSUFFICIENT_STORAGE,
                    format!(
                        "{bytes} bytes more than the {max} kept here, and the rest is in use; start \
                         the agent with a larger --max-data"
                    ),
                ));
            };
            index.blobs.remove(&oldest);
            // A file that is gone already frees its room all the same.
            let _ = std::fs::remove_file(self.folder.join(&oldest));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::parts::address;

    #[tokio::test]
    async fn the_oldest_goes_first_and_one_in_use_never() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), 100).unwrap();
        let blobs: Vec<Vec<u8>> = (0..4u8).map(|i| vec![i; 40]).collect();
        let names: Vec<String> = blobs.iter().map(|b| address(b)).collect();
        let put = |i: usize| store.put(&names[i], Body::from(blobs[i].clone()), 50);
        put(0).await.unwrap();
        put(1).await.unwrap();
        let held = store.get(&names[0]).unwrap();
        put(2).await.unwrap();
        assert!(store.get(&names[1]).is_none(), "0 is in use, so 1 went");
        assert_eq!(held.read().unwrap(), blobs[0]);
        let other = store.get(&names[2]).unwrap();
        let full = put(3).await.unwrap_err();
        assert_eq!(full.status, StatusCode::INSUFFICIENT_STORAGE);
        drop((held, other));
        put(3).await.unwrap();
        // A new process finds what is there.
        let again = Store::open(folder.path(), 100).unwrap();
        assert!(again.get(&names[3]).is_some());
    }

    #[tokio::test]
    async fn nothing_stays_of_what_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), 100).unwrap();
        let name = address(b"right");
        for (name, bytes) in [
            (name.as_str(), &b"wrong"[..]),
            (name.as_str(), &[0; 60][..]),
            ("../../etc/passwd", &b"right"[..]),
        ] {
            let refused = store.put(name, Body::from(bytes.to_vec()), 50).await;
            assert!(refused.unwrap_err().status.is_client_error());
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_damaged_file_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), 100).unwrap();
        let name = address(b"right");
        store.put(&name, Body::from("right"), 50).await.unwrap();
        std::fs::write(folder.path().join(&name), b"wrong").unwrap();
        assert!(store.get(&name).unwrap().read().is_err());
    }
}
