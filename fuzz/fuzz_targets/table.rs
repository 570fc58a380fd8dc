//! What travels between agents and is kept: tensors, records, data sets, packed tables and heads. The first
//! byte says which.

#![no_main]

use edgelesspart::protocol::message::DataSet;
use edgelesspart::protocol::{record, wire};
use edgelesspart::session::Results;
use libfuzzer_sys::fuzz_target;

/// Elements of the largest tensor that is taken.
const ELEMENTS: usize = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, rest)) = bytes.split_first() else {
        return;
    };
    match kind % 4 {
        0 => drop(wire::decode(rest, ELEMENTS)),
        1 => drop(record::decode(rest)),
        2 => drop(DataSet::decode(rest)),
        _ => results(rest),
    }
});

fn results(bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let Ok(results) = ron::from_str::<Results>(text) else {
        return;
    };
    let _ = results.tables();
    for head in results.heads.iter() {
        let _ = head.unpack();
    }
}
