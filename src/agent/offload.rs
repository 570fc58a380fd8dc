/*!
The edge's connection to the cloud: one, kept alive, on a runtime of its own that runs nowhere but on
the thread that waits for the answer. No other thread has to wake up for a byte to get through, and an
emulated link can be paced byte by byte.
*/

use super::paced::Paced;
use super::wait;
use crate::engine::Cancel;
use crate::remote::Link;
use crate::remote::message::{CloudTarget, Refusal};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

const CONNECT: Duration = Duration::from_secs(5);
/// Longest time between two looks at the cancel token.
const LOOK: Duration = Duration::from_millis(50);

/// Why the cloud doesn't answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OffloadError {
    /// An address that can't be one.
    #[error("`{url}` is no address of an agent: {what}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong.
        what: String,
    },
    /// Nobody answers, or the connection broke twice.
    #[error("the cloud at {url} doesn't answer: {cause}")]
    Unreachable {
        /// Its address.
        url: String,
        /// What the connection said.
        cause: String,
    },
    /// Not in time.
    #[error("the cloud at {url} didn't answer within {ms} ms")]
    Late {
        /// Its address.
        url: String,
        /// The deadline.
        ms: f64,
    },
    /// It answers, and says no.
    #[error("the cloud at {url} refuses ({status}): {error}")]
    Refused {
        /// Its address.
        url: String,
        /// HTTP status.
        status: u16,
        /// Its own words.
        error: String,
    },
    /// An answer that isn't what was agreed on.
    #[error("the cloud at {url} answers what this release doesn't understand: {what}")]
    Answer {
        /// Its address.
        url: String,
        /// What.
        what: String,
    },
    /// Somebody asked to stop.
    #[error("stopped")]
    Cancelled,
}

/// The connection to a cloud agent.
pub struct Offload {
    runtime: Runtime,
    url: String,
    authority: String,
    host: HeaderValue,
    token: Option<HeaderValue>,
    link: Link,
    sender: Option<SendRequest<Full<Bytes>>>,
    cancel: Cancel,
}

impl Offload {
    /// Prepares a connection; it is made with the first request.
    ///
    /// # Errors
    /// Where the address can't be one.
    pub fn new(cloud: &CloudTarget, link: Link, cancel: &Cancel) -> Result<Offload, OffloadError> {
        let url = cloud.url.trim_end_matches('/').to_string();
        let wrong = |what: &str| OffloadError::Url {
            url: url.clone(),
            what: what.to_string(),
        };
        if url.starts_with("https://") || cloud.fingerprint.is_some() {
            return Err(wrong(
                "agents don't speak TLS yet; use http:// over a tunnel or a private network",
            ));
        }
        let parsed = reqwest::Url::parse(&url).map_err(|e| wrong(&e.to_string()))?;
        let (Some(host), "http") = (parsed.host_str(), parsed.scheme()) else {
            return Err(wrong("it is of the form http://host:port"));
        };
        let port = parsed.port_or_known_default().unwrap_or(80);
        let authority = format!("{host}:{port}");
        let header = |text: &str| HeaderValue::from_str(text).map_err(|e| wrong(&e.to_string()));
        let token = match &cloud.token {
            Some(token) => Some(header(&format!("Bearer {token}"))?),
            None => None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| wrong(&e.to_string()))?;
        Ok(Offload {
            host: header(&authority)?,
            runtime,
            authority,
            token,
            link,
            sender: None,
            cancel: cancel.clone(),
            url,
        })
    }

    /// Sends a request and waits for its answer: status is success, or it is an error. A connection
    /// that is lost is made again once; a refusal is never repeated, and neither is what is late.
    ///
    /// # Errors
    /// See [`OffloadError`].
    pub fn exchange(
        &mut self,
        method: Method,
        path: &str,
        header: Option<(&HeaderName, &HeaderValue)>,
        body: Bytes,
        deadline: Option<Duration>,
    ) -> Result<Bytes, OffloadError> {
        let due = deadline.map(|d| Instant::now() + d);
        let mut connection = Connection {
            url: &self.url,
            authority: &self.authority,
            link: self.link,
            cancel: &self.cancel,
            due,
            deadline,
        };
        let mut headers = HeaderMap::with_capacity(3);
        headers.insert(HOST, self.host.clone());
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, token.clone());
        }
        if let Some((name, value)) = header {
            headers.insert(name.clone(), value.clone());
        }
        let sender = &mut self.sender;
        let result = self.runtime.block_on(async {
            let mut fresh = false;
            loop {
                if sender.as_ref().is_none_or(SendRequest::is_closed) {
                    *sender = Some(connection.make().await?);
                    fresh = true;
                }
                let Some(open) = sender.as_mut() else {
                    return Err(connection.broken("it was never made"));
                };
                let mut request = Request::new(Full::new(body.clone()));
                *request.method_mut() = method.clone();
                *request.uri_mut() = path
                    .parse()
                    .map_err(|e| connection.broken(&format!("{path}: {e}")))?;
                *request.headers_mut() = headers.clone();
                match connection.send(open, request).await {
                    Err(OffloadError::Unreachable { .. }) if !fresh => *sender = None,
                    other => return other,
                }
            }
        });
        if matches!(
            result,
            Err(OffloadError::Unreachable { .. }
                | OffloadError::Late { .. }
                | OffloadError::Cancelled)
        ) {
            // An answer that still comes must not be taken for that of the next request.
            self.sender = None;
        }
        let (status, bytes) = result?;
        if status.is_success() {
            return Ok(bytes);
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Err(OffloadError::Refused {
            url: self.url.clone(),
            status: status.as_u16(),
            error: serde_json::from_slice::<Refusal>(&bytes).map_or(text, |r| r.error),
        })
    }

    /// Like [`Offload::exchange`] for small requests whose answer is JSON.
    pub fn ask<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
    ) -> Result<T, OffloadError> {
        let bytes = self.exchange(method, path, None, Bytes::new(), None)?;
        self.parse(&bytes)
    }

    /// Reads an answer.
    pub fn parse<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, OffloadError> {
        serde_json::from_slice(bytes).map_err(|e| OffloadError::Answer {
            url: self.url.clone(),
            what: e.to_string(),
        })
    }

    /// Where it goes.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// What making a connection and using it share.
struct Connection<'a> {
    url: &'a str,
    authority: &'a str,
    link: Link,
    cancel: &'a Cancel,
    due: Option<Instant>,
    deadline: Option<Duration>,
}

impl Connection<'_> {
    fn broken(&self, cause: &str) -> OffloadError {
        OffloadError::Unreachable {
            url: self.url.to_string(),
            cause: cause.to_string(),
        }
    }

    fn failed(&self, error: &hyper::Error) -> OffloadError {
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        self.broken(&cause.to_string())
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
            let look = left.map_or(LOOK, |l| l.min(LOOK));
            if let Ok(output) = timeout(look, &mut future).await {
                return Ok(output);
            }
        }
    }

    async fn make(&self) -> Result<SendRequest<Full<Bytes>>, OffloadError> {
        let connect = timeout(CONNECT, TcpStream::connect(self.authority));
        let stream = match self.patient(connect).await? {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(self.broken(&error.to_string())),
            Err(_) => return Err(self.broken("no connection within 5 s")),
        };
        let nodelay = stream.set_nodelay(true);
        nodelay.map_err(|e| self.broken(&e.to_string()))?;
        match self.link {
            Link::Measured => self.shake_hands(stream).await,
            Link::Emulated { mbit, rtt_ms } => {
                wait::until(
                    Instant::now() + Duration::from_secs_f64(rtt_ms.max(0.0) / 1e3),
                    self.cancel,
                );
                let paced = Paced::new(stream, mbit, rtt_ms, self.cancel.clone());
                self.shake_hands(paced).await
            }
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

    async fn send(
        &mut self,
        open: &mut SendRequest<Full<Bytes>>,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), OffloadError> {
        let answer = async {
            open.ready().await?;
            let response = open.send_request(request).await?;
            let status = response.status();
            Ok((status, response.into_body().collect().await?.to_bytes()))
        };
        let answer: Result<_, hyper::Error> = self.patient(answer).await?;
        answer.map_err(|e| self.failed(&e))
    }
}
