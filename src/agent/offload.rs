/*!
The edge's connection to the cloud: one, kept alive, on a runtime of its own that runs nowhere but on
the thread that waits for the answer. No other thread has to wake up for a byte to get through, and an
emulated link can be paced byte by byte.
*/

mod connection;
mod exchange;

pub use exchange::{OffloadError, Reply};

use crate::engine::Cancel;
use crate::plan::Link;
use crate::protocol::message::{CloudTarget, Refusal, RefusalKind};
use crate::protocol::tls;
use crate::protocol::tls::TlsTrust;
use connection::Connection;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request};
use rustls::pki_types::ServerName;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

/// Characters of a refusal that are repeated; some servers send a page.
const LONGEST_REFUSAL: usize = 500;
/// Bytes of the largest reply that is read, where nobody knows better.
const LARGEST_REPLY: usize = 64 << 20;

/// The connection to a cloud target.
pub struct Offload {
    runtime: Runtime,
    url: String,
    /// Path in front of every other, where the address has one.
    prefix: String,
    authority: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    host: HeaderValue,
    token: Option<HeaderValue>,
    link: Link,
    sender: Option<SendRequest<Full<Bytes>>>,
    cancel: Cancel,
    /// Bytes of the largest reply that is read.
    largest: usize,
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
        let parsed = url::Url::parse(&url).map_err(|e| wrong(&e.to_string()))?;
        if !parsed.username().is_empty() || parsed.password().is_some() {
            // Addresses are shown; what this one holds isn't.
            return Err(OffloadError::Url {
                url: parsed.host_str().unwrap_or_default().to_string(),
                what: "there is a name or a password in it; use a token".to_string(),
            });
        }
        let (Some(host), "http" | "https") = (parsed.host_str(), parsed.scheme()) else {
            return Err(wrong("it is of the form https://host:port"));
        };
        let tls = match parsed.scheme() {
            "https" => {
                let config = tls::client(&cloud.believed).map_err(|e| wrong(&e.to_string()))?;
                let name = host
                    .trim_start_matches('[')
                    .trim_end_matches(']')
                    .to_string();
                let name = ServerName::try_from(name).map_err(|e| wrong(&e.to_string()))?;
                Some((TlsConnector::from(Arc::new(config)), name))
            }
            _ if cloud.believed != TlsTrust::System => {
                return Err(wrong(
                    "a certificate is believed there, so it starts with https://",
                ));
            }
            _ => None,
        };
        let port = parsed.port_or_known_default().unwrap_or(80);
        let authority = format!("{host}:{port}");
        let header = |text: &str| HeaderValue::from_str(text).map_err(|e| wrong(&e.to_string()));
        let token = match &cloud.token {
            Some(token) => {
                tls::check_token(token).map_err(|e| wrong(&e.to_string()))?;
                Some(header(&format!("Bearer {token}"))?)
            }
            None => None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| wrong(&e.to_string()))?;
        Ok(Offload {
            host: header(&authority)?,
            runtime,
            prefix: parsed.path().trim_end_matches('/').to_string(),
            authority,
            tls,
            token,
            link,
            sender: None,
            cancel: cancel.clone(),
            largest: LARGEST_REPLY,
            url,
        })
    }

    /// Reads no larger replies than this.
    #[must_use]
    pub fn reads_at_most(self, bytes: usize) -> Offload {
        Offload {
            largest: bytes,
            ..self
        }
    }

    /// An answer that isn't what was agreed on.
    pub fn misunderstood(&self, what: impl Into<String>) -> OffloadError {
        OffloadError::Answer {
            url: self.url.clone(),
            what: what.into(),
        }
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
        let mut headers = HeaderMap::with_capacity(3);
        if let Some((name, value)) = header {
            headers.insert(name.clone(), value.clone());
        }
        let reply = self.answered(method, path, headers, body, deadline)?;
        Ok(reply.body)
    }

    /// Like [`Offload::call`], but only a success is an answer.
    ///
    /// # Errors
    /// See [`OffloadError`].
    pub fn answered(
        &mut self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
        deadline: Option<Duration>,
    ) -> Result<Reply, OffloadError> {
        let reply = self.call(method, path, headers, body, deadline)?;
        match reply.status.is_success() {
            true => Ok(reply),
            false => Err(self.refused(&reply)),
        }
    }

    /// A refusal as an error, in the server's own words wherever it puts them.
    pub fn refused(&self, reply: &Reply) -> OffloadError {
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        let error = match serde_json::from_slice(&reply.body) {
            Ok(serde_json::Value::Object(object)) => {
                let said = object.get("error").or_else(|| object.get("detail"));
                said.map_or(text, |said| match said.as_str() {
                    Some(said) => said.to_string(),
                    None => said.to_string(),
                })
            }
            _ => text,
        };
        OffloadError::Refused {
            url: self.url.clone(),
            status: reply.status.as_u16(),
            kind: serde_json::from_slice::<Refusal>(&reply.body)
                .map_or_else(|_| RefusalKind::Other, |refusal| refusal.kind),
            error: error.chars().take(LONGEST_REFUSAL).collect(),
        }
    }

    /// Like [`Offload::exchange`], but every answer is one, whatever its status.
    ///
    /// # Errors
    /// See [`OffloadError`].
    pub fn call(
        &mut self,
        method: Method,
        path: &str,
        mut headers: HeaderMap,
        body: Bytes,
        deadline: Option<Duration>,
    ) -> Result<Reply, OffloadError> {
        let due = deadline.map(|d| Instant::now() + d);
        let mut connection = Connection {
            url: &self.url,
            authority: &self.authority,
            tls: self.tls.as_ref(),
            link: self.link,
            cancel: &self.cancel,
            largest: self.largest,
            due,
            deadline,
        };
        let path = format!("{}{path}", self.prefix);
        headers.insert(HOST, self.host.clone());
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, token.clone());
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
        result
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

    /// Reads the body of an answer as JSON.
    pub fn parse<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, OffloadError> {
        serde_json::from_slice(bytes).map_err(|e| self.misunderstood(e.to_string()))
    }

    /// Gives the address that requests go to.
    pub fn url(&self) -> &str {
        &self.url
    }
}
