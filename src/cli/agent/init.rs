/*! `agent --init`: a certificate and a token for this machine, and the line that names them. */

use crate::protocol::tls::{self_signed, token};
use anyhow::Context;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes `cert.pem`, `key.pem` and `token` into the folder, readable by their owner alone, and
/// returns what to do with them. Never writes over anything: a certificate that clients believe would
/// be gone.
pub(super) fn init(folder: &Path, listen: SocketAddr) -> anyhow::Result<String> {
    std::fs::create_dir_all(folder).context(folder.display().to_string())?;
    let host = host();
    let mut names = vec!["localhost".into(), "127.0.0.1".into(), "::1".into()];
    if host != "localhost" {
        names.push(host.clone());
    }
    if !listen.ip().is_unspecified() && !listen.ip().is_loopback() {
        names.push(listen.ip().to_string());
    }
    let made = self_signed(names)?;
    let secret = token()?;
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let token_file = folder.join("token");
    for file in [&certificate, &key, &token_file] {
        if file.exists() {
            let what = format!(
                "{} is there already; remove it first if clients may forget it",
                file.display()
            );
            return Err(anyhow::Error::msg(what));
        }
    }
    private(&key, &made.key)?;
    private(&certificate, &made.certificate)?;
    private(&token_file, &format!("{secret}\n"))?;
    let port = listen.port();
    Ok(format!(
        "Start it:\n  edgelesspart agent --listen 0.0.0.0:{port} --tls-cert {} --tls-key {} \
         --token-file {}\nIn the session:\n  Agent(url: \"https://{host}:{port}\", token: \
         Env(\"EDGELESSPART_TOKEN\"), trust: Fingerprint(\"{}\"))\nBefore the workbench starts, set \
         EDGELESSPART_TOKEN to what {} holds.\n",
        certificate.display(),
        key.display(),
        token_file.display(),
        made.fingerprint,
        token_file.display(),
    ))
}

/// This machine's name, where it is one that can stand in a certificate.
fn host() -> String {
    let name = nix::unistd::gethostname().ok();
    let name = name.and_then(|n| n.into_string().ok()).unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    match !name.is_empty() && name.chars().all(plain) {
        true => name,
        false => "localhost".to_string(),
    }
}

fn private(file: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    let opened = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .context(file.display().to_string());
    opened?
        .write_all(text.as_bytes())
        .context(file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_it_writes_is_its_owner_s_alone_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let listen = "10.0.0.7:7070".parse().unwrap();
        let said = init(folder.path(), listen).unwrap();
        let secret = std::fs::read_to_string(folder.path().join("token")).unwrap();
        assert!(said.contains("trust: Fingerprint(\"sha256:") && !said.contains(secret.trim()));
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let again = init(folder.path(), listen).unwrap_err();
        assert!(again.to_string().contains("is there already"));
        let still = std::fs::read_to_string(folder.path().join("token")).unwrap();
        assert_eq!(still, secret);
        // The certificate serves, and clients believe it.
        let (certificate, key) = (
            folder.path().join("cert.pem"),
            folder.path().join("key.pem"),
        );
        crate::protocol::tls::server(&certificate, &key).unwrap();
    }
}
