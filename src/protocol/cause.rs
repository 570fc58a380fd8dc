/*! Why a connection failed, in words that name the remedy where there is one. */

use rustls::InvalidMessage;
use std::error::Error;
use std::io;

/// An error and what caused it, outermost first.
pub(crate) fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        // An I/O error names the cause of its cause.
        let within = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        let within = within.map(|e| e as &(dyn Error + 'static));
        within.or_else(|| error.source())
    })
}

/// The innermost cause, or the remedy where the two sides speak different protocols.
pub(crate) fn of(error: &(dyn Error + 'static)) -> String {
    for cause in chain(error) {
        let http = cause.downcast_ref::<hyper::Error>();
        if http.is_some_and(hyper::Error::is_parse) {
            return "it doesn't answer in HTTP; if it encrypts, its address starts with https://"
                .to_string();
        }
        let tls = cause.downcast_ref::<rustls::Error>();
        if let Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) = tls {
            return "it doesn't encrypt: its address starts with http://, or it is started with \
                    --tls-cert and --tls-key"
                .to_string();
        }
    }
    chain(error)
        .last()
        .map_or_else(String::new, |e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_within_an_io_error_is_found() {
        let inner = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
        let error = io::Error::new(io::ErrorKind::InvalidData, inner);
        assert!(of(&error).contains("http://"), "{}", of(&error));
        let other = io::Error::other(rustls::Error::EncryptError);
        assert_eq!(of(&other), rustls::Error::EncryptError.to_string());
    }
}
