/*!
A file as it comes in: in pieces, each where the one before ended, so that a client whose connection
broke goes on where it was. The bytes lie beside the finished files until all are there; then they are
compared with their address, and kept or thrown away.

Two clients that send the same file don't get into each other's way: the later one goes on from what
is here, and the one before is told so with the next bytes it sends.
*/

use super::{Entry, Index, Store, address_of, is_address};
use crate::agent::body::next;
use crate::agent::error::Refused;
use crate::protocol::message::{RefusalKind, Upload};
use axum::body::{Body, HttpBody};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::Mutex;

/// Behind the address in the name of a file that is not whole.
pub(super) const SUFFIX: &str = ".part";

/// A file that is not whole.
pub(super) struct Coming {
    /// Bytes it has been promised a place for.
    pub(super) reserved: u64,
    pub(super) used: u64,
    /// When the last of it came.
    pub(super) touched: SystemTime,
    /// Held once more by whoever sends.
    pub(super) writer: Arc<Mutex<Writer>>,
}

impl Coming {
    /// One that an earlier life of the agent left.
    pub(super) fn found(bytes: u64, touched: SystemTime) -> Coming {
        Coming {
            reserved: bytes,
            used: 0,
            touched,
            writer: Arc::new(Mutex::new(Writer {
                received: bytes,
                turn: 0,
            })),
        }
    }

    pub(super) fn in_use(&self) -> bool {
        Arc::strong_count(&self.writer) > 1
    }
}

/// Who writes, and how far.
pub(super) struct Writer {
    pub(super) received: u64,
    /// Counts those who began to send; the last of them writes.
    turn: u64,
}

/// Which bytes of a file a request holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::agent) struct Piece {
    from: u64,
    to: u64,
    total: u64,
}

impl Piece {
    /// Reads `bytes 0-99/1000`, the form of a Content-Range.
    pub(in crate::agent) fn parse(text: &str) -> Result<Piece, Refused> {
        let parts = || {
            let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
            let (from, last) = range.split_once('-')?;
            let number = |text: &str| text.trim().parse::<u64>().ok();
            let (from, last, total) = (number(from)?, number(last)?, number(total)?);
            (from <= last && last < total).then_some(Piece {
                from,
                to: last + 1,
                total,
            })
        };
        let shown = text.chars().take(80).collect::<String>();
        parts().ok_or_else(|| {
            let shown = shown.escape_debug();
            Refused::bad(format!(
                "`{shown}` is no piece of a file; it is of the form `bytes FROM-TO/TOTAL`"
            ))
        })
    }
}

fn disk(address: &str, error: &std::io::Error) -> Refused {
    Refused::new(
        RefusalKind::StorageFull,
        format!(
            "writing {address}: {error}; free disk on the agent's machine, or give it another --data"
        ),
    )
}

fn gone(address: &str) -> Refused {
    conflict(format!("what was here of {address} is gone; send it again"))
}

fn conflict(what: String) -> Refused {
    Refused::new(RefusalKind::Conflict, what)
}

impl Store {
    /// Takes a file, or the piece of it that the body is, and says how much of it is here then. What
    /// came before a connection broke stays; nothing stays of a file that isn't what its address says.
    pub(in crate::agent) async fn put(
        &self,
        address: &str,
        piece: Option<Piece>,
        body: &mut Body,
        max: usize,
    ) -> Result<Upload, Refused> {
        if !is_address(address) {
            return Err(Refused::bad(
                "an address is the SHA-256 of the bytes, in lower-case hex",
            ));
        }
        let announced = piece.map_or_else(|| body.size_hint().lower(), |p| p.total);
        if announced > max as u64 {
            return Err(Refused::too_large(max));
        }
        let state = self.state(address).await;
        if state.whole {
            return Ok(state);
        }
        let sending = self.begin(address, piece, announced).await?;
        self.receive(&sending, body, max).await?;
        self.end(&sending).await
    }

    /// Has a place for it, and everybody else who sends it stand back.
    async fn begin(
        &self,
        address: &str,
        piece: Option<Piece>,
        announced: u64,
    ) -> Result<Sending, Refused> {
        let writer = {
            let mut index = self.lock();
            let reserved = index.coming.get(address).map_or(0, |c| c.reserved);
            self.make_room(&mut index, announced.saturating_sub(reserved), address)?;
            let used = index.now();
            let coming = index.coming.entry(address.to_string());
            let coming = coming.or_insert_with(|| Coming::found(0, SystemTime::now()));
            coming.reserved = coming.reserved.max(announced);
            coming.used = used;
            coming.writer.clone()
        };
        let path = self.partial(address);
        let mut state = writer.lock().await;
        let from = piece.map_or(0, |p| p.from);
        // One that says nothing of pieces begins anew.
        if piece.is_some() && from != state.received {
            let received = state.received;
            let what = format!(
                "{received} bytes of {address} are here; go on from there, not from {from}"
            );
            return Err(conflict(what));
        }
        let mut options = File::options();
        let open = options.create(true).truncate(false).write(true).open(&path);
        let file = open.and_then(|file| file.set_len(from).map(|()| file));
        let file = match file {
            Ok(file) => file,
            Err(error) => {
                self.drop_partial(address);
                return Err(disk(address, &error));
            }
        };
        state.received = from;
        state.turn += 1;
        let turn = state.turn;
        drop(state);
        Ok(Sending {
            address: address.to_string(),
            piece,
            file: Arc::new(file),
            writer,
            turn,
        })
    }

    async fn receive(&self, sending: &Sending, body: &mut Body, max: usize) -> Result<(), Refused> {
        let address = &sending.address;
        while let Some(data) = next(body).await? {
            let mut state = sending.writer.lock().await;
            self.has_its_turn(sending, &state)?;
            let (at, to) = (state.received, state.received + data.len() as u64);
            match sending.piece {
                Some(piece) if to > piece.to => {
                    let what =
                        format!("more bytes than the {} of the piece", piece.to - piece.from);
                    return Err(Refused::bad(what));
                }
                _ if to > max as u64 => {
                    self.drop_partial(address);
                    return Err(Refused::too_large(max));
                }
                _ => {}
            }
            self.grow(address, to)?;
            let file = sending.file.clone();
            let written = tokio::task::spawn_blocking(move || file.write_all_at(&data, at));
            match written.await {
                Ok(Ok(())) => state.received = to,
                Ok(Err(error)) => {
                    // What there is of it would only keep the disk full.
                    self.drop_partial(address);
                    return Err(disk(address, &error));
                }
                Err(error) => return Err(Refused::internal(error)),
            }
        }
        Ok(())
    }

    /// Counts bytes that nobody announced.
    fn grow(&self, address: &str, bytes: u64) -> Result<(), Refused> {
        let mut index = self.lock();
        let Some(coming) = index.coming.get_mut(address) else {
            return Err(gone(address));
        };
        coming.touched = SystemTime::now();
        let reserved = coming.reserved;
        if bytes > reserved {
            self.make_room(&mut index, bytes - reserved, address)?;
            if let Some(coming) = index.coming.get_mut(address) {
                coming.reserved = bytes;
            }
        }
        Ok(())
    }

    /// Where all of it is here, compares it with its address and keeps it.
    async fn end(&self, sending: &Sending) -> Result<Upload, Refused> {
        let address = &sending.address;
        let state = sending.writer.lock().await;
        self.has_its_turn(sending, &state)?;
        let received = state.received;
        match sending.piece {
            Some(piece) if received < piece.to => {
                let what = format!(
                    "the body ended {} bytes early; what came of it is kept",
                    piece.to - received
                );
                return Err(Refused::new(RefusalKind::Incomplete, what));
            }
            Some(piece) if received < piece.total => {
                return Ok(Upload {
                    received,
                    whole: false,
                });
            }
            _ => {}
        }
        let path = self.partial(address);
        let hashed = tokio::task::spawn_blocking(move || address_of(&path)).await;
        let found = hashed.map_err(Refused::internal)?;
        let found = found.map_err(|e| disk(address, &e))?;
        if found != *address {
            self.drop_partial(address);
            return Err(Refused::new(
                RefusalKind::Incomplete,
                format!(
                    "the bytes have the SHA-256 {found}, not {address}: damaged on the way; send \
                     again"
                ),
            ));
        }
        let mut index = self.lock();
        let index: &mut Index = &mut index;
        index.coming.remove(address);
        let moved = std::fs::rename(self.partial(address), self.folder.join(address));
        moved.map_err(|e| disk(address, &e))?;
        let kept = Entry {
            bytes: received,
            used: index.now(),
            pin: Arc::default(),
        };
        index.blobs.insert(address.clone(), kept);
        Ok(Upload {
            received,
            whole: true,
        })
    }

    fn has_its_turn(&self, sending: &Sending, state: &Writer) -> Result<(), Refused> {
        let address = &sending.address;
        if state.turn != sending.turn {
            return Err(conflict(format!(
                "another client sends {address} now; go on from what is here"
            )));
        }
        // Another may have begun it anew, too.
        let index = self.lock();
        let same = |c: &Coming| Arc::ptr_eq(&c.writer, &sending.writer);
        match index.coming.get(address).is_some_and(same) {
            true => Ok(()),
            false => Err(gone(address)),
        }
    }

    fn drop_partial(&self, address: &str) {
        self.lock().coming.remove(address);
        let _ = std::fs::remove_file(self.partial(address));
    }
}

/// A request that sends.
struct Sending {
    address: String,
    piece: Option<Piece>,
    file: Arc<File>,
    writer: Arc<Mutex<Writer>>,
    turn: u64,
}
