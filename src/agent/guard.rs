/*!
Who is let in: by token, and where none is asked for, by where the request comes from. A request is
counted from here to the last byte of its answer, and so is its body.
*/

use super::body::{Timed, drain, keep_until_sent, too_many};
use super::error::Refused;
use super::metrics::kind;
use super::slots::Connection;
use super::state::Agent;
use crate::protocol::message::RefusalKind;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;
use url::{Host, Url};

/// Counts the client and its bytes, and lets it in or not.
pub(super) async fn admit(
    State(agent): State<Arc<Agent>>,
    request: Request,
    next: Next,
) -> Response {
    let _served = agent.serve_one();
    let (start, kind) = (Instant::now(), kind(request.uri().path()));
    let metrics = &agent.metrics;
    // Chunked bodies announce nothing, and are not counted.
    metrics.received.inc_by(request.body().size_hint().lower());
    let response = match let_in(&agent, request, next).await {
        Ok(response) => response,
        Err(refused) => refused.into_response(),
    };
    metrics.sent.inc_by(response.body().size_hint().lower());
    let status = response.status();
    metrics.answered(kind, status.as_u16(), start.elapsed());
    if status.is_client_error() || status.is_server_error() {
        tracing::debug!(kind, status = status.as_u16(), "refused");
    }
    response
}

async fn let_in(agent: &Agent, request: Request, next: Next) -> Result<Response, Refused> {
    // Whether it lives may be asked by whoever watches over it.
    if request.uri().path().starts_with("/v2/health/") {
        return Ok(next.run(request).await);
    }
    // A body of one that isn't let in is not read: its connection closes.
    if let Err(refused) = may_ask(agent, request.headers()) {
        let mut response = refused.into_response();
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
        return Ok(response);
    }
    let Some(connection) = request.extensions().get::<Arc<Connection>>().cloned() else {
        return Err(Refused::internal("the request came on no connection"));
    };
    let slot = connection.begin();
    if request.body().is_end_stream() && !connection.received_all() {
        return Err(too_many());
    }
    let request = request.map(|body| Body::new(Timed::new(body, connection.clone())));
    if request.body().size_hint().lower() > agent.max_body as u64 {
        drain(request.into_body()).await;
        return Err(Refused::too_large(agent.max_body));
    }
    let response = next.run(request).await;
    connection.answers();
    Ok(keep_until_sent(response, slot))
}

fn may_ask(agent: &Agent, headers: &HeaderMap) -> Result<(), Refused> {
    if agent.is_open() {
        return comes_from_here(agent.loopback, headers);
    }
    let shown = headers.get(header::AUTHORIZATION);
    let shown = shown.and_then(|v| v.to_str().ok()).and_then(bearer);
    if !agent.admits(shown) {
        let what = "the token is missing or wrong; it is what the agent's --token-file holds";
        return Err(Refused::new(RefusalKind::Unauthorized, what));
    }
    Ok(())
}

/// The token of `Bearer TOKEN`; the scheme is of any case (RFC 9110, section 11.1).
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Refuses what a web page elsewhere makes a browser send to an agent that asks for no token: a page
/// names its origin, and one that had its own name point to this machine is known by that name.
fn comes_from_here(loopback: bool, headers: &HeaderMap) -> Result<(), Refused> {
    let foreign = |what: String| Err(Refused::new(RefusalKind::Foreign, what));
    let host = headers.get(header::HOST).map(|v| v.to_str().unwrap_or("?"));
    if let Some(host) = host.filter(|host| loopback && !is_loopback(&format!("http://{host}"))) {
        let host = host.escape_debug();
        return foreign(format!(
            "this agent answers under the names of this machine alone, `{host}` is none of them; \
             reach it at 127.0.0.1, or give it a token"
        ));
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or("?");
        let own = origin.split_once("://").map(|(_, origin)| origin);
        if own != host || own.is_none() {
            let origin = origin.escape_debug();
            return foreign(format!(
                "requests of web pages ({origin}) are not answered by an agent without a token"
            ));
        }
    }
    Ok(())
}

fn is_loopback(url: &str) -> bool {
    match Url::parse(url).ok().as_ref().and_then(Url::host) {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).to_canonical().is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("Bearer secret", Some("secret"))]
    #[case("bearer secret", Some("secret"))]
    #[case("BEARER   secret ", Some("secret"))]
    #[case("Basic secret", None)]
    #[case("Bearersecret", None)]
    #[case("", None)]
    fn a_token_is_read_whatever_the_case_of_its_scheme(
        #[case] header: &str,
        #[case] token: Option<&str>,
    ) {
        assert_eq!(bearer(header), token);
    }

    #[rstest]
    #[case(true, "127.0.0.1:7070", None, true)]
    #[case(true, "localhost", None, true)]
    #[case(true, "agent.localhost:1", None, true)]
    #[case(true, "[::1]:7070", None, true)]
    #[case(true, "127.1.2.3", None, true)]
    #[case(true, "evil.example:7070", None, false)]
    #[case(true, "localhost.evil.example", None, false)]
    #[case(true, "127.0.0.1.evil.example", None, false)]
    #[case(true, "10.0.0.1", None, false)]
    #[case(false, "10.0.0.1", None, true)]
    #[case(true, "127.0.0.1:7070", Some("http://127.0.0.1:7070"), true)]
    #[case(true, "127.0.0.1:7070", Some("http://127.0.0.1:3000"), false)]
    #[case(true, "127.0.0.1:7070", Some("https://evil.example"), false)]
    #[case(false, "10.0.0.1:7070", Some("https://evil.example"), false)]
    #[case(true, "127.0.0.1:7070", Some("null"), false)]
    fn pages_from_elsewhere_are_refused(
        #[case] loopback: bool,
        #[case] host: &str,
        #[case] origin: Option<&str>,
        #[case] admitted: bool,
    ) {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        assert_eq!(comes_from_here(loopback, &headers).is_ok(), admitted);
    }
}
