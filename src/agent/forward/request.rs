/*! The request to a target of the next tier, whichever protocol it speaks. */

use hyper::body::Bytes;
use hyper::header::HeaderMap;

/// What is sent for one sample.
pub(super) struct Request {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}
