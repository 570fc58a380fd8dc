/*!
Taking connections, encrypted or not, and serving them. A handshake happens beside the listening and
within a bounded time, and so does the reading of a request's head: one who connects and says nothing
keeps nobody out. There are so many connections at a time and no more; others wait unaccepted.
*/

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes under way; more wait unaccepted.
const UNDER_WAY: usize = 256;
/// How long a connection may say nothing between two requests, or be about one's head.
const HEAD: Duration = Duration::from_secs(30);
/// Connections served at a time: fewer than the files a process may usually have open.
const CONNECTIONS: usize = 512;

/// Serves until `end`, and then what was begun.
pub(super) async fn serve(mut incoming: Incoming, router: Router, end: Arc<Notify>) {
    let (closing, closed) = watch::channel(false);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let mut served = JoinSet::new();
    let mut end = std::pin::pin!(end.notified());
    loop {
        let room = served.len() < CONNECTIONS;
        tokio::select! {
            () = &mut end => break,
            (stream, _) = incoming.accept(), if room => {
                let service = TowerToHyperService::new(router.clone());
                let connection = http.serve_connection(TokioIo::new(stream), service);
                let mut closed = closed.clone();
                served.spawn(async move {
                    let mut connection = std::pin::pin!(connection);
                    // How one ended is its client's business.
                    tokio::select! {
                        _ = connection.as_mut() => return,
                        _ = closed.changed() => connection.as_mut().graceful_shutdown(),
                    }
                    let _ = connection.await;
                });
            }
            Some(_) = served.join_next() => {}
        }
    }
    // Nobody is let in any more.
    drop(incoming);
    closing.send_replace(true);
    while served.join_next().await.is_some() {}
}

/// A connection.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Where connections come in.
pub(super) struct Incoming {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    shaking: JoinSet<Option<(TlsStream<TcpStream>, SocketAddr)>>,
}

impl Incoming {
    pub(super) fn new(listener: TcpListener, tls: Option<ServerConfig>) -> Incoming {
        Incoming {
            listener,
            tls: tls.map(|config| TlsAcceptor::from(Arc::new(config))),
            shaking: JoinSet::new(),
        }
    }

    async fn tcp(listener: &mut TcpListener) -> (TcpStream, SocketAddr) {
        let (stream, from) = Listener::accept(listener).await;
        // Without it the last packet of an answer may wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        (stream, from)
    }
}

impl Listener for Incoming {
    type Io = Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Stream, SocketAddr) {
        let Some(tls) = &self.tls else {
            let (stream, from) = Self::tcp(&mut self.listener).await;
            return (Stream::Plain(stream), from);
        };
        loop {
            let room = self.shaking.len() < UNDER_WAY;
            tokio::select! {
                (stream, from) = Self::tcp(&mut self.listener), if room => {
                    let shake = tls.accept(stream);
                    self.shaking.spawn(async move {
                        // One that fails was no client of this agent; there is nothing to answer.
                        let stream = tokio::time::timeout(HANDSHAKE, shake).await.ok()?;
                        Some((stream.ok()?, from))
                    });
                }
                Some(done) = self.shaking.join_next() => {
                    if let Ok(Some((stream, from))) = done {
                        return (Stream::Tls(Box::new(stream)), from);
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(s) => Pin::new(s).poll_read(cx, out),
            Stream::Tls(s) => Pin::new(s).poll_read(cx, out),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(s) => Pin::new(s).poll_write(cx, bytes),
            Stream::Tls(s) => Pin::new(s).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(s) => Pin::new(s).poll_flush(cx),
            Stream::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(s) => Pin::new(s).poll_write_vectored(cx, bytes),
            Stream::Tls(s) => Pin::new(s).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(s) => s.is_write_vectored(),
            Stream::Tls(s) => s.is_write_vectored(),
        }
    }
}
