//! Parts in archives, and the manifests in them.

#![no_main]

use edgelesspart::runtime::manifest::Manifest;
use edgelesspart::runtime::parts::Part;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut source = bytes;
    let _ = Part::read(&mut source, bytes.len() as u64);
    let _ = Manifest::parse(bytes);
});
