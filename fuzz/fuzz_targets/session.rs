//! Session files; what is read is written again as the same session.

#![no_main]

use edgelesspart::session::Session;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|text: &str| {
    let Ok(session) = Session::parse(text, Path::new("fuzz.ron")) else {
        return;
    };
    // Results in a file of their own lie beside the session that was read.
    if session.recorded.is_some() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder for what is written");
    let file = folder.path().join("again.ron");
    session.save(&file).expect("a session that was read can be written");
    let again = Session::read(&file);
    assert!(again.is_ok(), "{:?}", again.err());
});
