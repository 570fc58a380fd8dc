/*!
What runs noted of each sample, as one string of a session file: columns of byte planes, deflated,
base64, as the confidence tables are. About 20 bytes per record.
*/

use super::results::{pack, unpack};
use super::tables::{planes, values};
use crate::predict::{HopRecord, Record};
use serde::{Deserialize, Serialize};

/// Bytes of a record beside its tiers' and hops': sample, exit, prediction, confidence, latency,
/// whether it is degraded, and how many tiers and hops it has.
const FIXED: usize = 4 + 2 + 2 + 4 + 4 + 1 + 1 + 1;
/// Bytes of a hop: encoding, network, bytes sent.
const HOP: usize = 4 + 4 + 4;

/// Packed records that aren't whole.
#[derive(Debug, thiserror::Error)]
#[error("the records of the run of `{what}` are damaged: {problem}; run the session again")]
pub struct RecordsError {
    /// Run whose records are damaged: the plan or a baseline.
    pub what: String,
    /// What is wrong with the packed records.
    pub problem: String,
}

/// The records of one run in a session file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackedRecords {
    /// `plan`, `original`, `cloud_only` or `edge_only`.
    pub what: String,
    /// Layers behind which the run's exits stand, in order of depth; a record's exit is counted over them.
    pub exits: Vec<String>,
    /// Number of records.
    pub count: usize,
    /// The records, packed and in base64.
    pub data: String,
}

impl PackedRecords {
    /// Packs the records of a run.
    ///
    /// # Errors
    /// A record tells of more tiers or hops than a chain can have.
    pub fn pack(
        what: &str,
        exits: Vec<String>,
        records: &[Record],
    ) -> Result<PackedRecords, RecordsError> {
        let fail = |problem: String| RecordsError {
            what: what.to_owned(),
            problem,
        };
        let mut out = Vec::with_capacity(records.len() * (FIXED + 8 + HOP));
        planes(&mut out, records.iter().map(|r| r.sample.to_le_bytes()));
        planes(&mut out, records.iter().map(|r| r.exit.to_le_bytes()));
        planes(&mut out, records.iter().map(|r| r.prediction.to_le_bytes()));
        planes(&mut out, records.iter().map(|r| r.confidence.to_le_bytes()));
        planes(&mut out, records.iter().map(|r| r.latency_ms.to_le_bytes()));
        planes(&mut out, records.iter().map(|r| [u8::from(r.degraded)]));
        for lengths in [
            records.iter().map(|r| r.tier_ms.len()).collect::<Vec<_>>(),
            records.iter().map(|r| r.hops.len()).collect(),
        ] {
            let bytes = lengths.into_iter().map(u8::try_from);
            out.extend(
                bytes
                    .collect::<Result<Vec<u8>, _>>()
                    .map_err(|e| fail(e.to_string()))?,
            );
        }
        let tiers = records.iter().flat_map(|r| &r.tier_ms);
        planes(&mut out, tiers.map(|ms| ms.to_le_bytes()));
        let hops = || records.iter().flat_map(|r| &r.hops);
        planes(&mut out, hops().map(|h| h.encode_ms.to_le_bytes()));
        planes(&mut out, hops().map(|h| h.network_ms.to_le_bytes()));
        planes(&mut out, hops().map(|h| h.bytes_sent.to_le_bytes()));
        Ok(PackedRecords {
            what: what.to_owned(),
            exits,
            count: records.len(),
            data: pack(&out).map_err(fail)?,
        })
    }

    /// The records again, bit for bit.
    ///
    /// # Errors
    /// The data is damaged, or not as long as its records say.
    pub fn unpack(&self) -> Result<Vec<Record>, RecordsError> {
        let fail = |problem: String| RecordsError {
            what: self.what.clone(),
            problem,
        };
        let bytes = unpack(&self.data).map_err(fail)?;
        let n = self.count;
        let fixed = n.checked_mul(FIXED).filter(|fixed| *fixed <= bytes.len());
        let fixed = fixed.ok_or_else(|| fail(format!("{} bytes for {n} records", bytes.len())))?;
        let lengths = |of: &[u8]| of.iter().map(|&len| usize::from(len)).collect::<Vec<_>>();
        let tiers = lengths(&bytes[fixed - 2 * n..fixed - n]);
        let hops = lengths(&bytes[fixed - n..fixed]);
        let (all_tiers, all_hops) = (tiers.iter().sum::<usize>(), hops.iter().sum::<usize>());
        let expected = fixed + 4 * all_tiers + HOP * all_hops;
        if bytes.len() != expected {
            return Err(fail(format!(
                "{} bytes where {n} records take {expected}",
                bytes.len()
            )));
        }
        let mut data = &bytes[..];
        let floats =
            |data: &mut &[u8], count| values(data, count).into_iter().map(f32::from_le_bytes);
        let sample = values(&mut data, n).into_iter().map(u32::from_le_bytes);
        let mut exit = values(&mut data, n).into_iter().map(u16::from_le_bytes);
        let mut prediction = values(&mut data, n).into_iter().map(u16::from_le_bytes);
        let mut confidence = floats(&mut data, n);
        let mut latency = floats(&mut data, n);
        let mut degraded = values::<1>(&mut data, n).into_iter();
        data = &data[2 * n..];
        let mut tier_ms = floats(&mut data, all_tiers);
        let mut encode = floats(&mut data, all_hops);
        let mut network = floats(&mut data, all_hops);
        let mut sent = values(&mut data, all_hops)
            .into_iter()
            .map(u32::from_le_bytes);
        let mut records = Vec::with_capacity(n);
        for ((sample, tiers), hops) in sample.zip(tiers).zip(hops) {
            let hop = |_| {
                Some(HopRecord {
                    encode_ms: encode.next()?,
                    network_ms: network.next()?,
                    bytes_sent: sent.next()?,
                })
            };
            // Never short of any: the length was checked.
            let hops = (0..hops).filter_map(hop).collect();
            records.push(Record {
                sample,
                exit: exit.next().unwrap_or_default(),
                prediction: prediction.next().unwrap_or_default(),
                confidence: confidence.next().unwrap_or(f32::NAN),
                degraded: degraded.next() == Some([1]),
                latency_ms: latency.next().unwrap_or(f32::NAN),
                tier_ms: tier_ms.by_ref().take(tiers).collect(),
                hops,
            });
        }
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let record = |sample: u32| Record {
            sample: 3 * sample,
            exit: (sample % 3) as u16,
            prediction: (sample % 10) as u16,
            confidence: 1.0 / (1.0 + sample as f32),
            degraded: sample == 4,
            latency_ms: 0.1 * sample as f32,
            tier_ms: (0..1 + sample % 3).map(|t| t as f32 / 3.0).collect(),
            hops: (0..sample % 3)
                .map(|h| HopRecord {
                    encode_ms: 0.01 * h as f32,
                    network_ms: 1.0 / 7.0,
                    bytes_sent: 1_000_000 + sample,
                })
                .collect(),
        };
        (0..50).map(record).collect()
    }

    #[test]
    fn records_come_back_bit_for_bit() {
        let before = records();
        let packed = PackedRecords::pack("plan", vec!["a".into(), "b".into()], &before).unwrap();
        assert_eq!(packed.unpack().unwrap(), before);
        let none = PackedRecords::pack("plan", Vec::new(), &[]).unwrap();
        assert_eq!(none.unpack().unwrap(), []);
    }

    #[test]
    fn damaged_records_are_told_with_the_remedy() {
        let whole = PackedRecords::pack("plan", Vec::new(), &records()).unwrap();
        let count = |count| PackedRecords {
            count,
            ..whole.clone()
        };
        let mut cut = whole.clone();
        cut.data.truncate(16);
        for damaged in [count(49), count(51), count(usize::MAX), cut] {
            let text = damaged.unpack().unwrap_err().to_string();
            assert!(text.contains("`plan`") && text.contains("again"), "{text}");
        }
    }
}
