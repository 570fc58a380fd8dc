/*! What must stay between this machine and its targets, and whom they are believed to be. */

use crate::protocol::TlsTrust;
use crate::run::RunError;
use crate::session::{Token, Trust};
use url::{Host, Url};

/// Whether nobody can listen in on the way to an address: encrypted, or on this machine (where the end
/// of a tunnel is, too).
pub(super) fn is_private(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else {
        return false;
    };
    match url.host() {
        _ if url.scheme() == "https" => true,
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

pub(super) fn believed(trust: &Trust) -> Result<TlsTrust, RunError> {
    Ok(match trust {
        Trust::System => TlsTrust::System,
        Trust::Fingerprint(print) => TlsTrust::Fingerprint(print.clone()),
        Trust::Ca(file) => {
            let read = std::fs::read_to_string(file);
            TlsTrust::Authorities(read.map_err(|source| RunError::Io {
                file: file.clone(),
                source,
            })?)
        }
    })
}

pub(super) fn read_token(token: &Token) -> Result<String, RunError> {
    match token {
        Token::Env(name) => std::env::var(name).map_err(|_| RunError::Token(name.clone())),
        Token::File(path) => {
            let text = std::fs::read_to_string(path).map_err(|source| RunError::Io {
                file: path.clone(),
                source,
            })?;
            Ok(text.trim().to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("https://jetson:7070", true)]
    #[case("http://127.0.0.1:7070", true)]
    #[case("http://[::1]:7070", true)]
    #[case("http://localhost", true)]
    #[case("http://jetson:7070", false)]
    #[case("http://127.0.0.1.example.com", false)]
    #[case("http://10.0.0.7/", false)]
    #[case("HTTP://jetson:7070", false)]
    #[case("http://127.0.0.1:80@jetson:7070", false)]
    #[case("http://127.0.0.1\\@jetson:7070", true)]
    #[case("no address", false)]
    fn a_token_goes_only_where_nobody_listens(#[case] url: &str, #[case] private: bool) {
        assert_eq!(is_private(url), private);
    }
}
