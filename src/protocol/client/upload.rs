/*! Sending files in pieces, so that a lost connection costs one piece at most. */

use super::{Client, ClientError};
use crate::protocol::message::{Address, RefusalKind, Upload};
use crate::runtime::parts::address;
use hyper::body::Bytes;
use reqwest::Method;
use reqwest::header::CONTENT_RANGE;
use std::time::{Duration, Instant};

/// Bytes of a piece: small enough to get through any link before it counts as silent, large enough
/// not to be slowed down by round trips.
const PIECE: usize = 1 << 20;
/// How long an upload that gets nowhere goes on trying.
const PATIENCE: Duration = Duration::from_secs(15);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

impl Client {
    /// How much of a file it has.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn upload(&self, address: &str) -> Result<Upload, ClientError> {
        self.json(self.request(Method::GET, &format!("blobs/{address}")))
            .await
    }

    /// Whether it has these bytes already.
    pub async fn has(&self, address: &str) -> Result<bool, ClientError> {
        Ok(self.upload(address).await?.whole)
    }

    /// Makes sure that it has these bytes (a model, a part, a data set), and returns their address.
    /// Sends nothing where it has them, and only the rest where an earlier attempt was cut short.
    ///
    /// # Errors
    /// Where they are more than it takes: known before anything is sent. Where the agent is gone for
    /// longer than a moment.
    pub async fn put(&self, bytes: impl Into<Bytes>) -> Result<Address, ClientError> {
        let bytes: Bytes = bytes.into();
        let address = address(&bytes);
        let mut have = self.upload(&address).await?;
        if have.whole {
            return Ok(address);
        }
        if bytes.len() > self.max_body {
            return Err(ClientError::TooLarge {
                url: self.url.clone(),
                bytes: bytes.len(),
                max: self.max_body,
            });
        }
        let patience = self.patience.min(PATIENCE);
        let (mut since, mut pause) = (Instant::now(), FIRST_PAUSE);
        // What lay there from another time may be damaged; what was all sent now may not.
        let mut trusted = have.received == 0;
        loop {
            let error = match self.piece(&address, &bytes, have.received).await {
                Ok(now) if now.whole => return Ok(address),
                Ok(now) if now.received > have.received => {
                    (have, since, pause) = (now, Instant::now(), FIRST_PAUSE);
                    continue;
                }
                Ok(_) => self.answer("the bytes it was sent don't add up"),
                Err(error) => error,
            };
            let again = match &error {
                ClientError::Unreachable { .. } => true,
                ClientError::Refused { kind, .. } => match kind {
                    RefusalKind::Conflict | RefusalKind::Busy => true,
                    // A connection cut in the middle may still bring an answer.
                    RefusalKind::Incomplete => false,
                    _ => return Err(error),
                },
                _ => return Err(error),
            };
            if since.elapsed() > patience {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            // Nobody answers: the next piece says so again.
            if let Ok(now) = self.upload(&address).await {
                if now.whole {
                    return Ok(address);
                }
                let further = now.received > have.received;
                if further {
                    (since, pause) = (Instant::now(), FIRST_PAUSE);
                }
                have = now;
                if !again && !further && std::mem::replace(&mut trusted, true) {
                    return Err(error);
                }
            }
        }
    }

    async fn piece(&self, address: &str, bytes: &Bytes, from: u64) -> Result<Upload, ClientError> {
        let mut request = self.request(Method::PUT, &format!("blobs/{address}"));
        let total = bytes.len();
        let from = usize::try_from(from).unwrap_or(total);
        let body = if from < total {
            let to = total.min(from + PIECE);
            let range = format!("bytes {from}-{}/{total}", to - 1);
            request = request.header(CONTENT_RANGE, range);
            bytes.slice(from..to)
        } else {
            // Nothing to send in pieces, or more there than there is: it begins anew.
            bytes.clone()
        };
        self.json(request.body(body)).await
    }
}
