/*!
An emulated link: a stream on which every byte takes its time and every round trip is delayed. Both
directions are paced at this end, in pieces of a packet's size, without burst.

Timers of the runtime tick in milliseconds, which is a packet's time at 12 Mbit/s. So waits happen on
the calling thread, in [`crate::runtime::emulation`], at most a millisecond at a time, so that deadlines are still
seen: a paced stream belongs on a runtime of its own.
*/

use crate::engine::Cancel;
use crate::runtime::emulation;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are passed on at once: the load of an Ethernet packet.
const PACKET: usize = 1448;
/// Bytes that wait at most, as in a socket's buffer, before a write has to wait.
const WAITING: usize = 1 << 18;
/// Longest wait before other tasks get their turn.
const SLICE: Duration = Duration::from_millis(1);

/// One direction: when its line is free again, and what is under way.
struct Lane {
    free: Instant,
    under_way: VecDeque<(Instant, Vec<u8>)>,
    /// Bytes of the first piece that are through.
    at: usize,
    waiting: usize,
}

impl Lane {
    fn new() -> Lane {
        Lane {
            free: Instant::now(),
            under_way: VecDeque::new(),
            at: 0,
            waiting: 0,
        }
    }

    fn enter(&mut self, since: Instant, bytes: &[u8], rate: f64, delay: Duration) {
        for piece in bytes.chunks(PACKET) {
            let time = Duration::from_secs_f64(piece.len() as f64 / rate);
            self.free = self.free.max(since) + time;
            self.under_way
                .push_back((self.free + delay, piece.to_vec()));
        }
        self.waiting += bytes.len();
    }

    /// Ready with what is left of the first piece once it is due; `None` where nothing is under way.
    fn due(&self, cancel: &Cancel, cx: &mut Context<'_>) -> Poll<Option<&[u8]>> {
        let Some((due, piece)) = self.under_way.front() else {
            return Poll::Ready(None);
        };
        let now = Instant::now();
        if *due > now {
            emulation::until((*due).min(now + SLICE), cancel);
            if *due > Instant::now() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        Poll::Ready(Some(&piece[self.at..]))
    }

    fn through(&mut self, bytes: usize) {
        self.at += bytes;
        self.waiting -= bytes;
        if self.under_way.front().is_some_and(|p| p.1.len() == self.at) {
            self.under_way.pop_front();
            self.at = 0;
        }
    }
}

/// A stream with the bandwidth and the round trip of an emulated link.
pub struct Paced<S> {
    inner: S,
    rate: f64,
    delay: Duration,
    up: Lane,
    down: Lane,
    /// When the last bytes from the other side came in; they came earlier if nobody was waiting.
    arrived: Instant,
    waited: bool,
    cancel: Cancel,
}

impl<S> Paced<S> {
    /// Paces `inner` to `mbit` megabits a second, each way, and half of `rtt_ms` of delay each way.
    /// What waits stops when somebody raises `cancel`.
    pub fn new(inner: S, mbit: f64, rtt_ms: f64, cancel: Cancel) -> Paced<S> {
        Paced {
            inner,
            rate: (mbit * 1e6 / 8.0).max(1.0),
            delay: Duration::from_secs_f64(rtt_ms.max(0.0) / 2e3),
            up: Lane::new(),
            down: Lane::new(),
            arrived: Instant::now(),
            waited: false,
            cancel,
        }
    }

    fn stopped(&self) -> io::Result<()> {
        match self.cancel.is_cancelled() {
            true => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "stopped")),
            false => Ok(()),
        }
    }
}

impl<S: AsyncWrite + Unpin> Paced<S> {
    /// Passes on what is due, until at most `left` bytes wait.
    fn drain(&mut self, left: usize, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.up.waiting > left {
            self.stopped()?;
            let Some(piece) = ready!(self.up.due(&self.cancel, cx)) else {
                break;
            };
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, piece))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.up.through(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.drain(WAITING, cx))?;
        let bytes = &bytes[..bytes.len().min(WAITING)];
        let (rate, delay) = (self.rate, self.delay);
        self.up.enter(Instant::now(), bytes, rate, delay);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.drain(0, cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.drain(0, cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.down.under_way.is_empty() {
            this.stopped()?;
            let mut bytes = [0; 1 << 14];
            let mut read = ReadBuf::new(&mut bytes);
            if Pin::new(&mut this.inner)
                .poll_read(cx, &mut read)?
                .is_pending()
            {
                this.waited = true;
                return Poll::Pending;
            }
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            if std::mem::take(&mut this.waited) {
                this.arrived = Instant::now();
            }
            let (rate, delay) = (this.rate, this.delay);
            this.down.enter(this.arrived, read.filled(), rate, delay);
        }
        if let Some(piece) = ready!(this.down.due(&this.cancel, cx)) {
            let n = piece.len().min(out.remaining());
            out.put_slice(&piece[..n]);
            this.down.through(n);
        }
        Poll::Ready(Ok(()))
    }
}
