/*! Making a connection, and a request on it, with an eye on the clock and on the cancel token. */

use super::exchange::{OffloadError, Reply};
use crate::agent::paced::Paced;
use crate::engine::Cancel;
use crate::plan::Link;
use crate::protocol::cause;
use crate::runtime::emulation;
use axum::BoxError;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const CONNECT: Duration = Duration::from_secs(5);
/// Longest time between two looks at the cancel token.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// What making a connection and using it share.
pub(super) struct Connection<'a> {
    pub(super) url: &'a str,
    pub(super) authority: &'a str,
    pub(super) tls: Option<&'a (TlsConnector, ServerName<'static>)>,
    pub(super) link: Link,
    pub(super) cancel: &'a Cancel,
    /// Bytes of the largest reply that is read.
    pub(super) largest: usize,
    pub(super) due: Option<Instant>,
    pub(super) deadline: Option<Duration>,
}

impl Connection<'_> {
    pub(super) fn broken(&self, cause: &str) -> OffloadError {
        OffloadError::Unreachable {
            url: self.url.to_string(),
            cause: cause.to_string(),
        }
    }

    fn failed(&self, error: &(dyn std::error::Error + 'static)) -> OffloadError {
        self.broken(&cause::of(error))
    }

    /// Waits, and looks at token and deadline in between.
    async fn patient<F: Future>(&self, future: F) -> Result<F::Output, OffloadError> {
        let mut future = std::pin::pin!(future);
        loop {
            if self.cancel.is_cancelled() {
                return Err(OffloadError::Cancelled);
            }
            let left = self
                .due
                .map(|d| d.saturating_duration_since(Instant::now()));
            if left.is_some_and(|l| l.is_zero()) {
                return Err(OffloadError::Late {
                    url: self.url.to_string(),
                    ms: self.deadline.map_or(0.0, |d| d.as_secs_f64() * 1e3),
                });
            }
            let look = left.map_or(POLL_INTERVAL, |l| l.min(POLL_INTERVAL));
            if let Ok(output) = timeout(look, &mut future).await {
                return Ok(output);
            }
        }
    }

    pub(super) async fn make(&self) -> Result<SendRequest<Full<Bytes>>, OffloadError> {
        let connect = timeout(CONNECT, TcpStream::connect(self.authority));
        let stream = match self.patient(connect).await? {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(self.broken(&error.to_string())),
            Err(_) => return Err(self.broken("no connection within 5 s")),
        };
        let nodelay = stream.set_nodelay(true);
        nodelay.map_err(|e| self.broken(&e.to_string()))?;
        match self.link {
            Link::Measured => self.secure(stream).await,
            Link::Emulated { mbit, rtt_ms } => {
                emulation::until(
                    Instant::now() + Duration::from_secs_f64(rtt_ms.max(0.0) / 1e3),
                    self.cancel,
                );
                let paced = Paced::new(stream, mbit, rtt_ms, self.cancel.clone());
                self.secure(paced).await
            }
        }
    }

    /// Encrypts, where the address says so; below that the bytes are paced.
    async fn secure(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<SendRequest<Full<Bytes>>, OffloadError> {
        let Some((connector, name)) = self.tls else {
            return self.shake_hands(stream).await;
        };
        let connect = timeout(CONNECT, connector.connect(name.clone(), stream));
        match self.patient(connect).await? {
            Ok(Ok(stream)) => self.shake_hands(stream).await,
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(_) => Err(self.broken("no encryption agreed on within 5 s")),
        }
    }

    async fn shake_hands(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<SendRequest<Full<Bytes>>, OffloadError> {
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.failed(&e))?;
        // Its errors come back with the request.
        tokio::spawn(connection);
        Ok(sender)
    }

    pub(super) async fn send(
        &mut self,
        open: &mut SendRequest<Full<Bytes>>,
        request: Request<Full<Bytes>>,
    ) -> Result<Reply, OffloadError> {
        let answer = async {
            open.ready().await?;
            let (head, body) = open.send_request(request).await?.into_parts();
            Ok(Reply {
                status: head.status,
                headers: head.headers,
                body: Limited::new(body, self.largest).collect().await?.to_bytes(),
            })
        };
        let answer: Result<_, BoxError> = self.patient(answer).await?;
        answer.map_err(|error| match error.is::<LengthLimitError>() {
            true => OffloadError::Answer {
                url: self.url.to_string(),
                what: format!("more than {} bytes", self.largest),
            },
            false => self.failed(&*error),
        })
    }
}
