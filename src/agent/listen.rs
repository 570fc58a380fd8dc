/*!
Taking connections, encrypted or not. A handshake happens beside the listening and within a bounded
time, so that one who connects and says nothing keeps nobody out.
*/

use axum::serve::Listener;
use rustls::ServerConfig;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes under way; more wait unaccepted.
const UNDER_WAY: usize = 256;

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
