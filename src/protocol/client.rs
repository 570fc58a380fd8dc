/*!
The client of an agent: uploads, jobs, their events and records. Every call is idempotent or can be
asked again after a lost connection; nothing has a total timeout that a slow link could run into.
*/

mod follow;
mod upload;

use super::cause;
use super::message::{
    AgentInfo, FailureKind, JOB_KEY, JobRequest, Refusal, RefusalKind, Submitted,
};
use super::record;
use super::tls::{self, TlsTrust, TokenError};
use crate::predict::Record;
use hyper::body::Bytes;
use reqwest::{Method, RequestBuilder, Response};
use serde::de::DeserializeOwned;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For requests whose answer is short and needs no work.
const SHORT: Duration = Duration::from_secs(20);
/// How long [`Client::follow`] tries to reach an agent again.
const PATIENCE: Duration = Duration::from_secs(60);
/// An agent that works says something every 15 seconds; a connection on which nothing came for longer
/// than this is lost.
const SILENCE: Duration = Duration::from_secs(40);
/// Bytes of the longest answer that holds JSON or records; also of the longest event.
const LARGEST_ANSWER: usize = 64 << 20;
/// Bytes of the largest thing a job made: a trained head, with its weights.
const LARGEST_RESULT: usize = 1 << 30;
/// Bytes of a refusal that are read; some servers send a page.
const LARGEST_REFUSAL: usize = 64 << 10;
/// How often a job is handed in again whose answer got lost, and the pause before.
const AGAIN: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);

/// Why an agent doesn't do what it was asked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ClientError {
    /// An address that can't be one.
    #[error("`{url}` is no address of an agent: {what}")]
    Url {
        /// Address as it was given.
        url: String,
        /// What is wrong with the address.
        what: String,
    },
    /// A token that can't be sent.
    #[error("the token for the agent at {url}: {cause}")]
    Token {
        /// Address of the agent.
        url: String,
        /// What is wrong with it.
        cause: TokenError,
    },
    /// No answer comes from the address.
    #[error("the agent at {url} doesn't answer ({cause}); is it running, and reachable from here?")]
    Unreachable {
        /// Address of the agent.
        url: String,
        /// What the connection said.
        cause: String,
    },
    /// It answers, and says no.
    #[error("the agent at {url} refuses ({status}): {error}")]
    Refused {
        /// Address of the agent.
        url: String,
        /// Status of the HTTP answer.
        status: u16,
        /// The kind of the reason.
        kind: RefusalKind,
        /// What the agent said.
        error: String,
    },
    /// More than it takes.
    #[error(
        "{bytes} bytes are more than the agent at {url} takes ({max}); start it with a larger --max-body"
    )]
    TooLarge {
        /// Address of the agent.
        url: String,
        /// What was to be sent.
        bytes: usize,
        /// Most bytes that the agent takes.
        max: usize,
    },
    /// An answer that isn't what was agreed on.
    #[error(
        "the agent at {url} answers what this release doesn't understand ({what}); use the same release on all sides"
    )]
    Answer {
        /// Address of the agent.
        url: String,
        /// What of the answer can't be read.
        what: String,
    },
    /// The job failed on the agent.
    #[error("{error}")]
    Job {
        /// The kind of the reason.
        kind: FailureKind,
        /// The agent's own words.
        error: String,
    },
    /// The job was cancelled.
    #[error("the job was cancelled")]
    Cancelled,
}

/// A connection to one agent. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    token: Option<String>,
    max_body: usize,
    patience: Duration,
    silence: Duration,
}

impl std::fmt::Debug for Client {
    /// Without the token, which belongs in no log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.url)
    }
}

impl Client {
    /// A client that has reached nobody, for tests of what is done with one.
    #[cfg(test)]
    pub(crate) fn of_nobody() -> Client {
        let http = reqwest::Client::builder().tls_backend_preconfigured(tls::no_trust().unwrap());
        Client {
            http: http.build().unwrap(),
            url: "http://127.0.0.1:9".to_owned(),
            token: None,
            max_body: 0,
            patience: PATIENCE,
            silence: SILENCE,
        }
    }

    /// Reaches the agent at `url` as [`Client::connect_to`] does, and believes whom the system's
    /// authorities vouch for.
    ///
    /// # Errors
    /// See [`Client::connect_to`].
    pub async fn connect(url: &str, token: Option<&str>) -> Result<Client, ClientError> {
        Client::connect_to(url, token, &TlsTrust::System).await
    }

    /// Reaches the agent at `url` (`https://host:port`, or `http://` without encryption), and checks
    /// that it is one.
    ///
    /// # Errors
    /// Where nobody answers within 5 seconds, its certificate isn't believed, the token is refused,
    /// or it is something else.
    pub async fn connect_to(
        url: &str,
        token: Option<&str>,
        believed: &TlsTrust,
    ) -> Result<Client, ClientError> {
        let url = url.trim_end_matches('/').to_string();
        let wrong = |what: &str| ClientError::Url {
            url: url.clone(),
            what: what.to_string(),
        };
        match url::Url::parse(&url) {
            Err(e) => return Err(wrong(&e.to_string())),
            Ok(u) if !matches!(u.scheme(), "http" | "https") => {
                return Err(wrong("it starts with https:// or http://"));
            }
            Ok(u) if u.scheme() == "http" && *believed != TlsTrust::System => {
                return Err(wrong(
                    "a certificate is believed there, so it starts with https://",
                ));
            }
            Ok(_) => {}
        }
        if let Some(token) = token.filter(|token| !token.is_empty()) {
            let url = url.clone();
            tls::check_token(token).map_err(|cause| ClientError::Token { url, cause })?;
        }
        let tls = match url.starts_with("https:") {
            true => tls::client(believed),
            false => tls::no_trust(),
        };
        let tls = tls.map_err(|e| wrong(&e.to_string()))?;
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            // Before the agent closes it, which it does after half a minute.
            .pool_idle_timeout(Duration::from_secs(20))
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(10))
            .no_proxy()
            // The address is what was believed: what leads elsewhere gets neither jobs nor tokens.
            .redirect(reqwest::redirect::Policy::none())
            .tls_backend_preconfigured(tls)
            .build()
            .map_err(|e| wrong(&e.to_string()))?;
        let mut client = Client {
            http,
            url,
            token: token.map(str::to_string),
            max_body: 0,
            patience: PATIENCE,
            silence: SILENCE,
        };
        client.max_body = client.info().await?.max_body;
        Ok(client)
    }

    /// Sets for how long [`Client::follow`] tries to reach an agent that is gone; 60 s otherwise.
    pub fn patience(mut self, patience: Duration) -> Client {
        self.patience = patience;
        self
    }

    /// Sets for how long a connection may be silent before it counts as lost; 40 s otherwise.
    pub fn silence(mut self, silence: Duration) -> Client {
        self.silence = silence;
        self
    }

    /// Waits for something from the other side, but not for ever. Every wait is its own: a transfer
    /// may take as long as it gets on.
    async fn heard<T>(
        &self,
        future: impl Future<Output = Result<T, reqwest::Error>>,
    ) -> Result<T, ClientError> {
        match tokio::time::timeout(self.silence, future).await {
            Ok(Ok(heard)) => Ok(heard),
            Ok(Err(error)) => Err(self.lost(&error)),
            Err(_) => Err(self.broken("it has been silent for too long")),
        }
    }

    /// Address of the agent.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}/v1/{path}", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = self.heard(request.send()).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = self
            .limited(response, LARGEST_REFUSAL)
            .await
            .unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let refusal = serde_json::from_str(&text);
        let Refusal { error, kind } = refusal.unwrap_or(Refusal {
            error: text,
            kind: RefusalKind::Other,
        });
        Err(ClientError::Refused {
            url: self.url.clone(),
            status: status.as_u16(),
            kind,
            error,
        })
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let bytes = self.bytes(request, LARGEST_ANSWER).await?;
        serde_json::from_slice(&bytes).map_err(|e| self.answer(e))
    }

    async fn bytes(&self, request: RequestBuilder, max: usize) -> Result<Bytes, ClientError> {
        let response = self.send(request).await?;
        self.limited(response, max).await
    }

    /// The body, of `max` bytes at most: whatever answers there fills no memory here.
    async fn limited(&self, mut response: Response, max: usize) -> Result<Bytes, ClientError> {
        let mut all = Vec::new();
        while let Some(piece) = self.heard(response.chunk()).await? {
            if all.len() + piece.len() > max {
                return Err(self.answer(format!("more than {max} bytes")));
            }
            all.extend_from_slice(&piece);
        }
        Ok(Bytes::from(all))
    }

    /// What a connection says that broke. The text of the outermost error is only "error sending
    /// request for url".
    fn lost(&self, error: &reqwest::Error) -> ClientError {
        self.broken(&cause::of(error))
    }

    fn broken(&self, cause: &str) -> ClientError {
        ClientError::Unreachable {
            url: self.url.clone(),
            cause: cause.to_string(),
        }
    }

    /// The error for an answer that isn't what was agreed on.
    pub(crate) fn answer(&self, what: impl std::fmt::Display) -> ClientError {
        ClientError::Answer {
            url: self.url.clone(),
            what: what.to_string(),
        }
    }

    /// What the agent says of itself now.
    pub async fn info(&self) -> Result<AgentInfo, ClientError> {
        self.json(self.request(Method::GET, "info").timeout(SHORT))
            .await
    }

    /// Lets the agent's peak of resident memory count from now.
    ///
    /// # Errors
    /// Where it can't be asked, or its system can't.
    pub async fn reset_memory(&self) -> Result<(), ClientError> {
        let request = self.request(Method::POST, "memory/reset").timeout(SHORT);
        self.bytes(request, LARGEST_ANSWER).await.map(drop)
    }

    /// Hands a job in, and returns its id. It may wait behind others; [`Client::follow`] tells.
    pub async fn submit(&self, job: &JobRequest) -> Result<String, ClientError> {
        let key = tls::token().map_err(|e| self.answer(e))?;
        self.submit_as(&key, job).await
    }

    /// The same under a key: what was handed in under it before, and has not failed, is the same job.
    pub async fn submit_as(&self, key: &str, job: &JobRequest) -> Result<String, ClientError> {
        let mut tries = 0;
        loop {
            let request = self.request(Method::POST, "jobs").header(JOB_KEY, key);
            let submitted = self.json(request.json(job).timeout(SHORT)).await;
            tries += 1;
            match submitted {
                Ok(Submitted { id }) => return Ok(id),
                // The agent may have taken it all the same; under its key it is taken once.
                Err(ClientError::Unreachable { .. }) if tries < AGAIN => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Something a job made, by its place among all it made.
    pub async fn result(&self, job: &str, at: usize) -> Result<Bytes, ClientError> {
        let path = format!("jobs/{job}/results/{at}");
        self.bytes(self.request(Method::GET, &path), LARGEST_RESULT)
            .await
    }

    /// A job's records from a position on: as many as one answer holds, none if there are no more.
    pub async fn records(&self, job: &str, from: u64) -> Result<Vec<Record>, ClientError> {
        let path = format!("jobs/{job}/records/{from}");
        let request = self.request(Method::GET, &path);
        let bytes = self.bytes(request, LARGEST_ANSWER).await?;
        let (at, records) = record::decode(&bytes).map_err(|e| self.answer(e))?;
        if at != from {
            return Err(self.answer(format!("records from {at}, not from {from}")));
        }
        Ok(records)
    }

    /// All records of a job so far.
    pub async fn all_records(&self, job: &str) -> Result<Vec<Record>, ClientError> {
        let mut all = Vec::new();
        loop {
            let more = self.records(job, all.len() as u64).await?;
            if more.is_empty() {
                return Ok(all);
            }
            all.extend(more);
        }
    }

    /// Lets a job wait, at most a minute from the last time it was asked to, or go on.
    ///
    /// # Errors
    /// `Refused` by an agent that can't.
    pub async fn pause(&self, job: &str, waits: bool) -> Result<(), ClientError> {
        let method = if waits { Method::PUT } else { Method::DELETE };
        let request = self.request(method, &format!("jobs/{job}/hold"));
        self.send(request.timeout(SHORT)).await.map(drop)
    }

    /// Asks a job to stop; its work ends within 200 ms, its records stay.
    pub async fn cancel(&self, job: &str) -> Result<(), ClientError> {
        let request = self.request(Method::DELETE, &format!("jobs/{job}"));
        self.send(request.timeout(SHORT)).await.map(drop)
    }
}
