//! Bytes sent to an agent, as whole connections: requests, bodies, tensors, whatever a client may say. The
//! agent answers or hangs up; afterwards it still says that it lives.

#![no_main]

use edgelesspart::agent::{AgentConfig, serve};
use edgelesspart::backend::BackendId;
use libfuzzer_sys::fuzz_target;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::LazyLock;
use std::sync::mpsc::channel;
use std::time::Duration;

/// Address of an agent in this process.
static AGENT: LazyLock<SocketAddr> = LazyLock::new(|| {
    let config = AgentConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        insecure: false,
        tls: None,
        backend: BackendId::Native,
        threads: 1,
        cores: Vec::new(),
        slowdown: 1.0,
        data: None,
        max_body: 1 << 22,
        max_in_flight: 1 << 26,
        clouds: Vec::new(),
        models: Vec::new(),
        max_data: 1 << 26,
        token: None,
        idle_exit: None,
    };
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let ended = serve(&config, |ready| {
            let _ = tell.send(ready.url.clone());
        });
        // It serves as long as the process lives.
        eprintln!("the agent ended: {ended:?}");
        std::process::abort();
    });
    let url = told.recv().expect("the agent says where it serves");
    let address = url.trim_start_matches("http://");
    address.parse().expect("an address with a port")
});

/// What the agent answers within `patience` of a time without a byte; empty where it hangs up. Bytes that are
/// no whole request are waited for, until this end closes.
fn answer(bytes: &[u8], patience: Duration) -> Vec<u8> {
    let mut got = Vec::new();
    let Ok(mut stream) = TcpStream::connect(*AGENT) else {
        return got;
    };
    let _ = stream.set_read_timeout(Some(patience));
    let _ = stream.write_all(bytes);
    let _ = stream.read_to_end(&mut got);
    got
}

fuzz_target!(|bytes: &[u8]| {
    answer(bytes, Duration::from_millis(20));
    let question = b"GET /v2/health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let alive = answer(question, Duration::from_secs(10));
    assert!(alive.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&alive));
});
