/*!
Encryption between workbench, edge and cloud: whom a client believes, what a server shows, and the
certificate that an agent makes for itself. One provider of cryptography (ring) everywhere, handed to
every configuration: nothing here depends on what a process has installed.
*/

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of randomness in a token.
const TOKEN: usize = 32;

/// What an encrypted key says of itself: in PKCS #8 (RFC 5958), and in OpenSSL's older form.
const ENCRYPTED: [&str; 2] = [
    "-----BEGIN ENCRYPTED PRIVATE KEY-----",
    "Proc-Type: 4,ENCRYPTED",
];

/// Why a text is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The token is empty.
    #[error("it is empty; leave it out where none is asked for")]
    Empty,
    /// It has characters that no header carries.
    #[error(
        "it holds a line break, or another character that can't be sent; a token is one line of ASCII"
    )]
    Characters,
}

/// Checks that a token can be sent, and gives it without the blanks around it.
///
/// # Errors
/// Where it is empty, or holds anything but printable ASCII.
pub fn check_token(token: &str) -> Result<&str, TokenError> {
    let token = token.trim();
    match token.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        true if token.is_empty() => Err(TokenError::Empty),
        true => Ok(token),
        false => Err(TokenError::Characters),
    }
}

/// Why there is no encryption.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A fingerprint that can't be one.
    #[error("`{0}` is no fingerprint; it is sha256: and 64 hex digits")]
    Fingerprint(String),
    /// A file that can't be read.
    #[error("{}: {cause}", .path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Reason that the file can't be used.
        cause: String,
    },
    /// A key that only a passphrase opens.
    #[error(
        "{}: the key is encrypted, and an agent asks nobody for a passphrase; decrypt it with \
         `openssl pkey -in {} -out FILE`, readable by the agent's user alone", .0.display(), .0.display()
    )]
    EncryptedKey(PathBuf),
    /// A text without certificates.
    #[error("no certificate in PEM form: {0}")]
    NoCertificate(String),
    /// A key that doesn't belong to the certificate, or anything else that doesn't fit.
    #[error("TLS: {0}")]
    Refused(#[from] rustls::Error),
    /// The system has no authorities, or these can't verify anything.
    #[error("TLS: {0}")]
    Authorities(String),
    /// A certificate that can't be made.
    #[error("making a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// Which certificate of a server is believed. Travels with the address of a cloud, so it holds the
/// certificates of an authority and no file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum TlsTrust {
    /// One the system's authorities vouch for.
    #[default]
    System,
    /// The one of this SHA-256, as `sha256:` and 64 hex digits; whatever name it is for.
    Fingerprint(String),
    /// One that these authorities (PEM) vouch for.
    Authorities(String),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// How a client believes.
///
/// # Errors
/// Where the fingerprint is none, or the authorities can't be read.
pub fn client(believed: &TlsTrust) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let verifier: Arc<dyn ServerCertVerifier> = match believed {
        TlsTrust::System => Arc::new(rustls_platform_verifier::Verifier::new(provider.clone())?),
        TlsTrust::Fingerprint(print) => Arc::new(Pinned {
            digest: digest(print)?,
            provider: provider.clone(),
        }),
        TlsTrust::Authorities(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(pem)? {
                roots.add(certificate)?;
            }
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            verifier
                .build()
                .map_err(|e| TlsError::Authorities(e.to_string()))?
        }
    };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

/// Believes nobody: for a client that won't encrypt, which then needs no authorities of its system.
///
/// # Errors
/// None that is known.
pub fn no_trust() -> Result<ClientConfig, TlsError> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

/// What a server shows: the chain in one PEM file, the key in another.
///
/// # Errors
/// Where a file can't be read or holds something else, or the two don't belong together.
pub fn server(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let file = |path: &Path, cause: &dyn std::fmt::Display| TlsError::File {
        path: path.to_path_buf(),
        cause: cause.to_string(),
    };
    let pem = std::fs::read_to_string(certificate).map_err(|e| file(certificate, &e))?;
    let chain = certificates(&pem).map_err(|e| file(certificate, &e))?;
    let text = std::fs::read_to_string(key).map_err(|e| file(key, &e))?;
    if ENCRYPTED.iter().any(|mark| text.contains(mark)) {
        return Err(TlsError::EncryptedKey(key.to_path_buf()));
    }
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|e| file(key, &e))?;
    Ok(ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?)
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let all = all.map_err(|e| TlsError::NoCertificate(e.to_string()))?;
    if all.is_empty() {
        return Err(TlsError::NoCertificate("it holds none".to_string()));
    }
    Ok(all)
}

fn digest(print: &str) -> Result<[u8; 32], TlsError> {
    let wrong = || TlsError::Fingerprint(print.to_string());
    let hex = print.strip_prefix("sha256:").ok_or_else(wrong)?;
    let mut digest = [0; 32];
    hex::decode_to_slice(hex, &mut digest).map_err(|_| wrong())?;
    Ok(digest)
}

/// The fingerprint of a certificate (DER), as a session names it.
pub fn fingerprint(certificate: &[u8]) -> String {
    let digest = Sha256::digest(certificate);
    format!("sha256:{}", hex::encode(digest))
}

/// A certificate that an agent made for itself.
pub struct SelfSigned {
    /// Certificate as PEM.
    pub certificate: String,
    /// Private key as PEM.
    pub key: String,
    /// SHA-256 of the certificate, in hex.
    pub fingerprint: String,
}

/// Makes a certificate for these names and addresses. It ends in the year 4096: what is believed is
/// the certificate itself, and a board whose clock starts in 1970 must not be locked out.
///
/// # Errors
/// Where a name can't stand in a certificate.
pub fn self_signed(names: Vec<String>) -> Result<SelfSigned, TlsError> {
    let made = rcgen::generate_simple_self_signed(names)?;
    Ok(SelfSigned {
        certificate: made.cert.pem(),
        key: made.signing_key.serialize_pem(),
        fingerprint: fingerprint(made.cert.der()),
    })
}

/// A token that nobody guesses.
///
/// # Errors
/// Where the system has no randomness.
pub fn token() -> Result<String, TlsError> {
    let mut bytes = [0; TOKEN];
    let filled = provider().secure_random.fill(&mut bytes);
    filled.map_err(|_| TlsError::Authorities("the system has no randomness".to_string()))?;
    Ok(hex::encode(bytes))
}

/// Believes one certificate, by its digest. That it holds the key is verified as for any other.
#[derive(Debug)]
struct Pinned {
    digest: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found: [u8; 32] = Sha256::digest(end_entity).into();
        if found == self.digest {
            return Ok(ServerCertVerified::assertion());
        }
        let found = fingerprint(end_entity);
        Err(rustls::Error::General(format!(
            "its certificate is another than the session believes ({found}); if that is the agent's, \
             put it there"
        )))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let known = &self.provider.signature_verification_algorithms;
        known.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("")]
    #[case("sha256:")]
    #[case("sha256:zz")]
    #[case(&"ab".repeat(32))]
    #[case(&format!("sha256:{}", "ab".repeat(31)))]
    #[case(&format!("sha256:{}x", "ab".repeat(32)))]
    fn what_is_no_fingerprint_is_told(#[case] print: &str) {
        let error = client(&TlsTrust::Fingerprint(print.to_string())).unwrap_err();
        assert!(error.to_string().contains("64 hex digits"), "{error}");
    }

    #[test]
    fn a_certificate_is_known_by_its_fingerprint_and_serves() {
        let made = self_signed(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
        let der = certificates(&made.certificate).unwrap().remove(0);
        assert_eq!(fingerprint(&der), made.fingerprint);
        digest(&made.fingerprint).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("c"), folder.path().join("k"));
        std::fs::write(&certificate, &made.certificate).unwrap();
        std::fs::write(&key, &made.key).unwrap();
        server(&certificate, &key).unwrap();
        // The key of another.
        let other = self_signed(vec!["localhost".into()]).unwrap();
        std::fs::write(&key, &other.key).unwrap();
        assert!(matches!(
            server(&certificate, &key),
            Err(TlsError::Refused(_))
        ));
        assert!(client(&TlsTrust::Authorities(made.certificate)).is_ok());
        assert!(client(&TlsTrust::Authorities("none".into())).is_err());
    }

    #[rstest]
    #[case("secret", Ok("secret"))]
    #[case(" open sesame\n", Ok("open sesame"))]
    #[case("", Err(TokenError::Empty))]
    #[case(" \n", Err(TokenError::Empty))]
    #[case("open\nsesame", Err(TokenError::Characters))]
    #[case("ouvre-toi, sésame", Err(TokenError::Characters))]
    fn a_token_is_one_line_of_ascii(#[case] text: &str, #[case] token: Result<&str, TokenError>) {
        assert_eq!(check_token(text), token);
    }

    #[rstest]
    #[case("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMII=\n-----END ENCRYPTED PRIVATE KEY-----\n")]
    #[case("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMII=\n")]
    fn an_encrypted_key_is_told_from_a_broken_one(#[case] key: &str) {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, path) = (folder.path().join("c"), folder.path().join("k"));
        let made = self_signed(vec!["localhost".into()]).unwrap();
        std::fs::write(&certificate, &made.certificate).unwrap();
        std::fs::write(&path, key).unwrap();
        let error = server(&certificate, &path).unwrap_err();
        assert!(
            matches!(&error, TlsError::EncryptedKey(p) if *p == path),
            "{error}"
        );
    }

    #[test]
    fn tokens_differ() {
        let (a, b) = (token().unwrap(), token().unwrap());
        assert!(a != b && a.len() == 2 * TOKEN);
    }
}
