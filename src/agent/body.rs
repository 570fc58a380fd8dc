/*!
Bodies of requests: read within bounds of time, of size and of the memory that all requests share; and
work that needs a thread of its own.
*/

use super::budget::{Budget, Charge};
use super::error::Refused;
use super::slots::Connection;
use crate::protocol::cause;
use crate::protocol::message::RefusalKind;
use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use memmap2::MmapMut;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes of a refused body that are read all the same: a client that still sends would see a broken
/// connection instead of the refusal.
const DRAINED: usize = 32 << 20;
/// A body that isn't whole by the end of this time must have brought [`PACE`] bytes in it.
const WINDOW: Duration = Duration::from_secs(30);
/// Bytes that a body must bring in every [`WINDOW`]: a modem's pace.
const PACE: usize = 64 << 10;

/// Bytes of a body that are taken in one go.
const TURN: usize = 256 << 10;
/// Bytes of the first place that a body in memory is given, where it announces no fewer.
const FIRST: usize = 256 << 10;
/// Bytes from which on a place is made of pages of its own.
const PAGES: usize = 128 << 10;

/// The body came too slowly.
#[derive(Debug, thiserror::Error)]
#[error("less than {} of the body came within {} s", crate::units::bytes(PACE as f64), WINDOW.as_secs())]
struct TooSlow;

/// The body is whole, and as many requests are at work as may be.
#[derive(Debug, thiserror::Error)]
#[error("too many requests are at work; try again")]
struct TooMany;

/// The refusal for one request more than may be at work.
pub(super) fn too_many() -> Refused {
    Refused::new(RefusalKind::Busy, TooMany.to_string())
}

/// A body that has to come at [`PACE`], and whose bytes are counted for its connection.
pub(super) struct Timed {
    body: Body,
    connection: Arc<Connection>,
    /// When the window ends, and how many bytes came in it.
    end: Pin<Box<Sleep>>,
    came: usize,
    /// Bytes since others last had their turn.
    turn: usize,
}

impl Timed {
    pub(super) fn new(body: Body, connection: Arc<Connection>) -> Timed {
        Timed {
            body,
            connection,
            end: Box::pin(sleep_until(Instant::now() + WINDOW)),
            came: 0,
            turn: 0,
        }
    }
}

impl HttpBody for Timed {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        if self.turn > TURN {
            // A client on this machine sends as fast as memory: others have their turn in between.
            self.turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let count = frame.data_ref().map_or(0, Bytes::len);
                self.turn += count;
                self.came += count;
                self.connection.received(count);
                if self.body.is_end_stream() && !self.connection.received_all() {
                    return Poll::Ready(Some(Err(TooMany.into())));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => match self.connection.received_all() {
                true => Poll::Ready(None),
                false => Poll::Ready(Some(Err(TooMany.into()))),
            },
            Poll::Pending => {
                while self.end.as_mut().poll(cx).is_ready() {
                    if self.came < PACE {
                        return Poll::Ready(Some(Err(TooSlow.into())));
                    }
                    self.came = 0;
                    self.end.as_mut().reset(Instant::now() + WINDOW);
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Keeps something until the body of an answer has been sent, or its client is gone.
pub(super) fn keep_until_sent<T: Send + 'static>(response: Response, kept: T) -> Response {
    response.map(|body| {
        Body::new(body.map_err(move |error| {
            let _ = &kept;
            error
        }))
    })
}

/// Reads and forgets the rest of a body that is refused. Only for those who may send one.
pub(super) async fn drain(mut body: Body) {
    let mut read = 0;
    while read < DRAINED {
        match next(&mut body).await {
            Ok(Some(data)) => read += data.len(),
            _ => return,
        }
    }
}

/// The next bytes of a body.
pub(super) async fn next(body: &mut Body) -> Result<Option<Bytes>, Refused> {
    loop {
        // Bytes that are unpacked come without a wait: others have their turn in between.
        tokio::task::consume_budget().await;
        match body.frame().await {
            None => return Ok(None),
            Some(Ok(frame)) => {
                // Trailers say nothing that anybody here wants to know.
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Some(Err(error)) if cause::chain(&error).any(|e| e.is::<TooSlow>()) => {
                let what = format!("{TooSlow}; send it again");
                return Err(Refused::new(RefusalKind::TooSlow, what));
            }
            Some(Err(error)) if cause::chain(&error).any(|e| e.is::<TooMany>()) => {
                return Err(too_many());
            }
            Some(Err(error)) => {
                let what = format!("the body can't be read to its end: {error}");
                return Err(Refused::new(RefusalKind::Incomplete, what));
            }
        }
    }
}

/// Where the bytes of a body lie. Large places are the system's pages: the allocator would keep some that
/// were given back, and the process then be larger than all bodies together may be.
#[derive(Debug)]
enum Place {
    Small(Vec<u8>),
    Pages { pages: MmapMut, filled: usize },
}

impl Place {
    /// An empty place for so many bytes; `None` where the system has none.
    fn with_capacity(bytes: usize) -> Option<Place> {
        if bytes < PAGES {
            let mut small = Vec::new();
            small.try_reserve_exact(bytes).ok()?;
            return Some(Place::Small(small));
        }
        let pages = MmapMut::map_anon(bytes).ok()?;
        Some(Place::Pages { pages, filled: 0 })
    }

    fn capacity(&self) -> usize {
        match self {
            Place::Small(small) => small.capacity(),
            Place::Pages { pages, .. } => pages.len(),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Place::Small(small) => small,
            Place::Pages { pages, filled } => &pages[..*filled],
        }
    }

    /// Appends what fits the capacity, of which the caller has seen to it.
    fn extend(&mut self, data: &[u8]) {
        match self {
            Place::Small(small) => small.extend_from_slice(data),
            Place::Pages { pages, filled } => {
                let end = *filled + data.len();
                pages[*filled..end].copy_from_slice(data);
                *filled = end;
            }
        }
    }
}

/// A body in memory, and what it takes of the budget.
#[derive(Debug)]
pub(super) struct Whole {
    place: Place,
    charge: Charge,
}

impl Whole {
    /// Counts other bytes of the budget together with the body's, for as long as either is needed.
    pub(super) fn charge(&mut self, more: Charge) {
        self.charge.add(more);
    }

    /// What the body takes of the budget, where the body itself is no longer needed.
    pub(super) fn into_charge(self) -> Charge {
        self.charge
    }

    /// The body as it is passed on, without a copy; counted until the last of it is dropped.
    pub(super) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Deref for Whole {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.place.bytes()
    }
}

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// The whole body, at most `max` bytes of it. What is refused is drained.
pub(super) async fn whole(mut body: Body, max: usize, budget: &Budget) -> Result<Whole, Refused> {
    let read = read(&mut body, max.min(budget.bytes()), budget).await;
    if let Err(Refused { kind, .. }) = &read
        && matches!(kind, RefusalKind::TooLarge | RefusalKind::Busy)
    {
        drain(body).await;
    }
    read
}

async fn read(body: &mut Body, max: usize, budget: &Budget) -> Result<Whole, Refused> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > max {
        return Err(Refused::too_large(max));
    }
    let most = if announced > 0 { announced } else { max };
    let mut place = Place::Small(Vec::new());
    let mut charge = Charge::default();
    while let Some(data) = next(body).await? {
        let needed = place.bytes().len() + data.len();
        if needed > max {
            return Err(Refused::too_large(max));
        }
        if needed > place.capacity() {
            // No more than four times what came, whatever was announced.
            let step = place.capacity().saturating_mul(4).max(FIRST);
            let capacity = step.min(most).max(needed);
            let more = budget.take(capacity)?;
            let larger = Place::with_capacity(capacity);
            let mut larger = larger.ok_or_else(|| budget.exhausted())?;
            larger.extend(place.bytes());
            (place, charge) = (larger, more);
        }
        place.extend(&data);
    }
    Ok(Whole { place, charge })
}

/// Counts the bytes of a body, and keeps none.
pub(super) async fn count(mut body: Body, max: usize) -> Result<usize, Refused> {
    let mut count = 0;
    while let Some(data) = next(&mut body).await? {
        count += data.len();
        if count > max {
            drain(body).await;
            return Err(Refused::too_large(max));
        }
    }
    Ok(count)
}

/// Runs what takes its time on a thread for that.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Refused::internal("the agent failed; its log says where")))
}
