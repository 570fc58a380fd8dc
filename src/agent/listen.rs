/*!
Taking connections, encrypted or not, and serving them. Handshakes and heads have a bounded time each
and happen beside the listening, so that one who connects and says nothing keeps nobody out; where
there are too many connections, [`Slots`] says which of them goes.
*/

use super::error::Refused;
use super::slots::{Connection, Slot, Slots};
use crate::protocol::message::RefusalKind;
use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::ServerConfig;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

/// How long a handshake may take in all.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection may take from one answer to the whole head of the next request. Longer than
/// a client keeps an idle connection.
const HEAD: Duration = Duration::from_secs(30);
/// The pause after a failure to take a connection, which is most often a lack of open files.
const PAUSE: Duration = Duration::from_millis(100);
/// How long one more waits for a place, and how long none does after that was in vain.
const ROOM: Duration = Duration::from_millis(100);
const IMPATIENT: Duration = Duration::from_millis(250);
/// Bytes of the longest greeting that is looked at before it is read.
const GREETING: usize = 4096;
/// Begins every question about health, where nothing is encrypted.
const HEALTH: &[u8] = b"GET /v2/health/";
/// Begins every TLS handshake: the content type of RFC 8446, section 5.1.
const TLS_HANDSHAKE: u8 = 0x16;

/// Serves until `end`, and then what was begun.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<ServerConfig>,
    router: Router,
    connections: usize,
    end: Arc<Notify>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let server = Server {
        tls: tls.map(|config| TlsAcceptor::from(Arc::new(config))),
        http,
        router,
    };
    let server = Arc::new(server);
    let (slots, graceful) = (Slots::new(connections), GracefulShutdown::new());
    let mut impatient = Instant::now();
    let mut end = std::pin::pin!(end.notified());
    loop {
        let (stream, from) = tokio::select! {
            () = &mut end => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "taking a connection");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
        };
        let Ok((stream, urgent)) = asks_after_health(stream) else {
            continue;
        };
        // Where places come free by themselves, nobody's has to be taken.
        if !urgent && Instant::now() >= impatient && !slots.room(from.ip(), ROOM).await {
            impatient = Instant::now() + IMPATIENT;
        }
        let Some(slot) = slots.take(from.ip(), urgent) else {
            tracing::debug!(%from, "every connection is at work: one more is closed");
            continue;
        };
        // Without it the last packet of an answer may wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let (number, server, watcher) = (slot.number(), server.clone(), graceful.watcher());
        let task = tokio::spawn(async move { server.serve(stream, slot, watcher).await });
        slots.serves(number, task.abort_handle());
    }
    // Nobody is let in any more.
    drop(listener);
    graceful.shutdown().await;
}

/// Looks whether a connection came with a question about health, without waiting for one.
fn asks_after_health(stream: TcpStream) -> std::io::Result<(TcpStream, bool)> {
    let mut start = [0; HEALTH.len()];
    let stream = stream.into_std()?;
    // Nothing may have come yet.
    let urgent = stream.peek(&mut start).is_ok_and(|n| start[..n] == *HEALTH);
    Ok((TcpStream::from_std(stream)?, urgent))
}

/// Whether the first record of TLS is there with all that it announces (RFC 8446, section 5.1).
fn is_whole(record: &[u8]) -> bool {
    match record {
        [_, _, _, high, low, rest @ ..] => {
            rest.len() >= usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ => false,
    }
}

/// What all connections share.
struct Server {
    tls: Option<TlsAcceptor>,
    http: http1::Builder,
    router: Router,
}

impl Server {
    /// Serves a connection to its end; how it ends is its client's business.
    async fn serve(&self, stream: TcpStream, slot: Slot, watcher: Watcher) {
        let Some(tls) = &self.tls else {
            return self.requests(stream, &slot, watcher).await;
        };
        let shaken = timeout(HANDSHAKE, async {
            let mut start = [0; GREETING];
            let came = stream.peek(&mut start).await.ok()?;
            if came > 0 && start[0] != TLS_HANDSHAKE {
                refuse_plain(stream).await;
                return None;
            }
            if is_whole(&start[..came]) {
                slot.connection.hurry();
            }
            tls.accept(stream).await.ok()
        });
        if let Ok(Some(stream)) = shaken.await {
            self.requests(stream, &slot, watcher).await;
        }
    }

    async fn requests(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        slot: &Slot,
        watcher: Watcher,
    ) {
        let service = service_fn(|mut request: Request<Incoming>| {
            let connection: Arc<Connection> = slot.connection.clone();
            request.extensions_mut().insert(connection);
            self.router.clone().oneshot(request.map(Body::new))
        });
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        let _ = watcher.watch(connection).await;
    }
}

/// Answers one that speaks HTTP where TLS is spoken, in HTTP.
async fn refuse_plain(mut stream: TcpStream) {
    let what = "this agent encrypts: its address starts with https://";
    let refusal = Refused::new(RefusalKind::Encrypted, what).into_response();
    let Ok(body) = refusal.into_body().collect().await else {
        return;
    };
    let body = body.to_bytes();
    let head = format!(
        "HTTP/1.1 {}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        StatusCode::BAD_REQUEST,
        body.len()
    );
    // A client that is gone needs no answer.
    let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
    // What it still sends is read for a moment: closing on unread bytes would take the answer back.
    let _ = timeout(Duration::from_secs(1), async {
        let _ = stream.shutdown().await;
        let mut rest = tokio::io::AsyncReadExt::take(stream, 1 << 16);
        let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(&[], false)]
    #[case(&[0x16, 3, 1, 0], false)]
    #[case(&[0x16, 3, 1, 0, 2, 7], false)]
    #[case(&[0x16, 3, 1, 0, 2, 7, 7], true)]
    #[case(&[0x16, 3, 1, 1, 0, 7, 7], false)]
    fn a_greeting_is_whole_when_all_that_it_announces_is_there(
        #[case] record: &[u8],
        #[case] whole: bool,
    ) {
        assert_eq!(is_whole(record), whole);
    }
}
