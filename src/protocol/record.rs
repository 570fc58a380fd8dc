/*!
Records as bytes: as wide as the run has tiers, little-endian, so that record n of a job's file is found by
multiplication. What travels has a header in front: `magic "ELPR" · version u16 · width u16 · position of
the first record u64`.

A record of t tiers is `sample u32 · exit u16 · prediction u16 · confidence f32 · latency f32 · t times a
tier's f32 · t − 1 times (encoding f32, network f32, bytes u32) · flags u8 · tiers that worked u8 · links
crossed u8 · 0`: 8 + 16 t bytes, 40 for two tiers.
*/

use crate::plan::Tier;
use crate::predict::{HopRecord, Record};

const MAGIC: &[u8; 4] = b"ELPR";
const VERSION: u16 = 2;
/// Bytes of the header in front of records that travel.
pub const HEADER: usize = 16;

const DEGRADED: u8 = 2;

/// Why bytes are not records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("records: {0}")]
pub struct RecordError(String);

/// Bytes of one record of a run over `tiers` tiers, one to four.
pub const fn width(tiers: usize) -> usize {
    8 + 16 * tiers
}

/// Appends the bytes of a record of a run over `tiers` tiers. What it notes of tiers beyond those is left
/// aside.
pub fn encode(record: &Record, tiers: usize, out: &mut Vec<u8>) {
    let hops = tiers.saturating_sub(1);
    out.extend(record.sample.to_le_bytes());
    out.extend(record.exit.to_le_bytes());
    out.extend(record.prediction.to_le_bytes());
    out.extend(record.confidence.to_le_bytes());
    out.extend(record.latency_ms.to_le_bytes());
    for tier in 0..tiers {
        let ms = record.tier_ms.get(tier).copied().unwrap_or(0.0);
        out.extend(ms.to_le_bytes());
    }
    for hop in 0..hops {
        let hop = record.hops.get(hop).copied().unwrap_or_default();
        out.extend(hop.encode_ms.to_le_bytes());
        out.extend(hop.network_ms.to_le_bytes());
        out.extend(hop.bytes_sent.to_le_bytes());
    }
    out.extend([
        u8::from(record.degraded) * DEGRADED,
        record.tier_ms.len().min(tiers) as u8,
        record.hops.len().min(hops) as u8,
        0,
    ]);
}

/// The header in front of records of a run over `tiers` tiers, from position `from` on.
pub fn header(from: u64, tiers: usize) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((width(tiers) as u16).to_le_bytes());
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
    let found = usize::from(half(6));
    let tiers = (1..=Tier::ALL.len()).find(|tiers| width(*tiers) == found);
    let Some(tiers) = tiers.filter(|_| half(4) == VERSION) else {
        return Err(bad(
            "of another version; use the same release of edgelesspart on all sides",
        ));
    };
    if !body.len().is_multiple_of(found) {
        return Err(bad("they end inside a record"));
    }
    let [.., a, b, c, d, e, f, g, h] = *head;
    let from = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let records = body.chunks_exact(found).map(|bytes| read(bytes, tiers));
    Ok((from, records.collect()))
}

/// A record of `width(tiers)` bytes.
fn read(bytes: &[u8], tiers: usize) -> Record {
    let four = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let float = |at: usize| f32::from_le_bytes(four(at));
    let hops = 16 + 4 * tiers;
    let flags = width(tiers) - 4;
    let (worked, crossed) = (usize::from(bytes[flags + 1]), usize::from(bytes[flags + 2]));
    Record {
        sample: u32::from_le_bytes(four(0)),
        exit: half(4),
        prediction: half(6),
        confidence: float(8),
        latency_ms: float(12),
        degraded: bytes[flags] & DEGRADED != 0,
        tier_ms: (0..worked.min(tiers))
            .map(|tier| float(16 + 4 * tier))
            .collect(),
        hops: (0..crossed.min(tiers - 1))
            .map(|hop| hops + 12 * hop)
            .map(|at| HopRecord {
                encode_ms: float(at),
                network_ms: float(at + 4),
                bytes_sent: u32::from_le_bytes(four(at + 8)),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(1, 24)]
    #[case(2, 40)]
    #[case(3, 56)]
    #[case(4, 72)]
    fn come_back_bit_by_bit(#[case] tiers: usize, #[case] bytes_each: usize) {
        let hop = |at: usize| HopRecord {
            encode_ms: 3.5 + at as f32,
            network_ms: 4.5,
            bytes_sent: 123_456 + at as u32,
        };
        let record = Record {
            sample: 70_000,
            exit: 3,
            prediction: 999,
            confidence: 0.75,
            degraded: false,
            latency_ms: 1.5,
            tier_ms: (0..tiers).map(|tier| 2.5 + tier as f32).collect(),
            hops: (1..tiers).map(hop).collect(),
        };
        let near = Record {
            degraded: true,
            tier_ms: vec![0.5],
            hops: Vec::new(),
            ..record.clone()
        };
        let mut bytes = header(7, tiers);
        encode(&record, tiers, &mut bytes);
        assert_eq!(bytes.len(), HEADER + bytes_each);
        encode(&near, tiers, &mut bytes);
        assert_eq!(decode(&bytes).unwrap(), (7, vec![record, near]));
        assert!(decode(&bytes[..bytes.len() - 1]).is_err());
        bytes[4] = 1;
        assert!(decode(&bytes).unwrap_err().to_string().contains("version"));
    }
}
