/*!
Records as bytes: fixed width, little-endian, so that record n of a job's file is found by
multiplication. What travels has a header in front: `magic "ELPR" · version u16 · width u16 ·
position of the first record u64`.
*/

use crate::predict::Record;

const MAGIC: &[u8; 4] = b"ELPR";
const VERSION: u16 = 1;
/// Bytes of the header in front of records that travel.
pub const HEADER: usize = 16;
/// Bytes of one record.
pub const WIDTH: usize = 40;

const OFFLOADED: u8 = 1;
const DEGRADED: u8 = 2;

/// Why bytes are not records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("records: {0}")]
pub struct RecordError(String);

/// Appends the record's bytes.
pub fn encode(record: &Record, out: &mut Vec<u8>) {
    let flags = (u8::from(record.offloaded) * OFFLOADED) | (u8::from(record.degraded) * DEGRADED);
    out.extend(record.sample.to_le_bytes());
    out.extend(record.exit.to_le_bytes());
    out.extend(record.prediction.to_le_bytes());
    for value in [
        record.confidence,
        record.latency_ms,
        record.edge_ms,
        record.encode_ms,
        record.network_ms,
        record.cloud_ms,
    ] {
        out.extend(value.to_le_bytes());
    }
    out.extend(record.bytes_sent.to_le_bytes());
    out.extend([flags, 0, 0, 0]);
}

/// The header in front of records from position `from` on.
pub fn header(from: u64) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((WIDTH as u16).to_le_bytes());
    out.extend(from.to_le_bytes());
    out
}

/// Reads records that travelled: the position of the first, and all of them.
///
/// # Errors
/// Where the bytes are anything else, or of another version.
pub fn decode(bytes: &[u8]) -> Result<(u64, Vec<Record>), RecordError> {
    let bad = |what: &str| RecordError(what.to_string());
    let Some((head, body)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(bad("shorter than their header"));
    };
    let half = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    if &head[..4] != MAGIC {
        return Err(bad("these are none"));
    }
    if half(4) != VERSION || usize::from(half(6)) != WIDTH {
        return Err(bad(
            "of another version; use the same release of edgelesspart on all sides",
        ));
    }
    let (records, rest) = body.as_chunks::<WIDTH>();
    if !rest.is_empty() {
        return Err(bad("they end inside a record"));
    }
    let [.., a, b, c, d, e, f, g, h] = *head;
    let from = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    Ok((from, records.iter().map(read).collect()))
}

fn read(bytes: &[u8; WIDTH]) -> Record {
    let four = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let float = |at: usize| f32::from_le_bytes(four(at));
    Record {
        sample: u32::from_le_bytes(four(0)),
        exit: half(4),
        prediction: half(6),
        confidence: float(8),
        latency_ms: float(12),
        edge_ms: float(16),
        encode_ms: float(20),
        network_ms: float(24),
        cloud_ms: float(28),
        bytes_sent: u32::from_le_bytes(four(32)),
        offloaded: bytes[36] & OFFLOADED != 0,
        degraded: bytes[36] & DEGRADED != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn come_back_bit_by_bit() {
        let record = Record {
            sample: 70_000,
            exit: 3,
            prediction: 999,
            confidence: 0.75,
            offloaded: true,
            degraded: false,
            latency_ms: 1.5,
            edge_ms: 2.5,
            encode_ms: 3.5,
            network_ms: 4.5,
            cloud_ms: 5.5,
            bytes_sent: 123_456,
        };
        let other = Record {
            offloaded: false,
            degraded: true,
            ..record
        };
        let mut bytes = header(7);
        encode(&record, &mut bytes);
        assert_eq!(bytes.len(), HEADER + WIDTH);
        encode(&other, &mut bytes);
        assert_eq!(decode(&bytes).unwrap(), (7, vec![record, other]));
        assert!(decode(&bytes[..bytes.len() - 1]).is_err());
        bytes[4] = 2;
        assert!(decode(&bytes).unwrap_err().to_string().contains("version"));
    }
}
