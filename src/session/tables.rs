/*!
Confidence tables as one string of a session file: columns of byte planes (which compress far better
than floats side by side), deflated, base64. Lossless: replays must equal the table to the last bit.
*/

use crate::data::Set;
use crate::predict::{Column, ConfidenceTable};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};

/// Bytes of one sample in one column: prediction and three confidences.
const SAMPLE: usize = 2 + 3 * 4;

/// A packed table that isn't whole.
#[derive(Debug, thiserror::Error)]
#[error("the {set} confidence table is damaged: {problem}; run the session again to rebuild it")]
pub struct PackError {
    /// Set of samples that the table is of.
    pub set: Set,
    /// What is wrong with the packed table.
    pub problem: String,
}

/// A confidence table in a session file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackedTable {
    /// Set of samples that this is of.
    pub set: Set,
    /// Number of samples.
    pub samples: usize,
    /// In order of depth.
    pub columns: Vec<PackedColumn>,
    /// Labels and columns, packed and in base64.
    pub data: String,
}

/// What a packed column is of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackedColumn {
    /// Layer of the head, as in [`Column::after`].
    pub after: Option<String>,
    /// Hash of the head, as in [`Column::head`].
    pub head: String,
    /// Temperature of the head, as in [`Column::temperature`].
    pub temperature: f32,
    /// Calibration error at a temperature of 1, as in [`Column::raw_error`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_error: Option<f32>,
}

pub(super) fn planes<const N: usize>(
    out: &mut Vec<u8>,
    values: impl Iterator<Item = [u8; N]> + Clone,
) {
    for plane in 0..N {
        out.extend(values.clone().map(|bytes| bytes[plane]));
    }
}

/// Takes `samples` values of `N` bytes off the front.
pub(super) fn values<const N: usize>(data: &mut &[u8], samples: usize) -> Vec<[u8; N]> {
    let (mine, rest) = data.split_at(N * samples);
    *data = rest;
    (0..samples)
        .map(|i| std::array::from_fn(|plane| mine[plane * samples + i]))
        .collect()
}

impl PackedTable {
    /// Packs a table.
    ///
    /// # Errors
    /// A column is of another length than the labels.
    pub fn pack(table: &ConfidenceTable) -> Result<Self, PackError> {
        let samples = table.labels.len();
        let fail = |problem: String| PackError {
            set: table.set,
            problem,
        };
        let mut bytes = Vec::with_capacity(samples * (2 + SAMPLE * table.columns.len()));
        planes(&mut bytes, table.labels.iter().map(|v| v.to_le_bytes()));
        for column in &table.columns {
            let confidences = [&column.max_probability, &column.entropy, &column.margin];
            if column.prediction.len() != samples || confidences.iter().any(|c| c.len() != samples)
            {
                return Err(fail(format!("a column not of {samples} samples")));
            }
            planes(
                &mut bytes,
                column.prediction.iter().map(|v| v.to_le_bytes()),
            );
            for values in confidences {
                planes(&mut bytes, values.iter().map(|v| v.to_le_bytes()));
            }
        }
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&bytes).map_err(|e| fail(e.to_string()))?;
        let packed = encoder.finish().map_err(|e| fail(e.to_string()))?;
        Ok(PackedTable {
            set: table.set,
            samples,
            columns: table
                .columns
                .iter()
                .map(|column| PackedColumn {
                    after: column.after.clone(),
                    head: column.head.clone(),
                    temperature: column.temperature,
                    raw_error: column.raw_error,
                })
                .collect(),
            data: STANDARD.encode(packed),
        })
    }

    /// The table again, bit for bit.
    ///
    /// # Errors
    /// The data is damaged, or not as long as its samples and columns say.
    pub fn unpack(&self) -> Result<ConfidenceTable, PackError> {
        let fail = |problem: String| PackError {
            set: self.set,
            problem,
        };
        let expected = self
            .columns
            .len()
            .checked_mul(SAMPLE)
            .and_then(|bytes| (bytes + 2).checked_mul(self.samples))
            .ok_or_else(|| fail(format!("{} samples", self.samples)))?;
        let packed = STANDARD
            .decode(&self.data)
            .map_err(|e| fail(e.to_string()))?;
        let mut bytes = Vec::new();
        // One byte more than expected tells too long from right, and nothing unpacks without end.
        ZlibDecoder::new(&packed[..])
            .take(expected as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| fail(e.to_string()))?;
        if bytes.len() != expected {
            return Err(fail(format!(
                "{} bytes where {} samples in {} columns take {expected}",
                bytes.len(),
                self.samples,
                self.columns.len()
            )));
        }
        let mut data = &bytes[..];
        let words = |data: &mut &[u8]| -> Vec<u16> {
            let found = values(data, self.samples);
            found.into_iter().map(u16::from_le_bytes).collect()
        };
        let floats = |data: &mut &[u8]| -> Vec<f32> {
            let found = values(data, self.samples);
            found.into_iter().map(f32::from_le_bytes).collect()
        };
        let labels = words(&mut data);
        let columns = self
            .columns
            .iter()
            .map(|column| Column {
                after: column.after.clone(),
                head: column.head.clone(),
                temperature: column.temperature,
                raw_error: column.raw_error,
                prediction: words(&mut data),
                max_probability: floats(&mut data),
                entropy: floats(&mut data),
                margin: floats(&mut data),
            })
            .collect();
        Ok(ConfidenceTable {
            set: self.set,
            labels,
            columns,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    fn table(samples: usize, columns: usize) -> ConfidenceTable {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let mut floats = || -> Vec<f32> { (0..samples).map(|_| rng.random()).collect() };
        ConfidenceTable {
            set: Set::Test,
            labels: (0..samples).map(|i| (i * 7919 % 10) as u16).collect(),
            columns: (0..columns)
                .map(|c| Column {
                    after: (c + 1 < columns).then(|| format!("layer{c}")),
                    head: format!("{c:016x}"),
                    temperature: 1.0 / 3.0,
                    raw_error: Some(0.125),
                    prediction: floats().iter().map(|v| (v * 10.0) as u16).collect(),
                    max_probability: floats(),
                    entropy: floats(),
                    margin: floats(),
                })
                .collect(),
        }
    }

    #[test]
    fn ten_thousand_samples_fit_their_bound() {
        // Uniform confidences are the worst case: nothing in their mantissas compresses.
        let packed = PackedTable::pack(&table(10_000, 10)).unwrap();
        assert!(2 * packed.data.len() <= 4_000_000, "{}", packed.data.len());
        assert_eq!(packed.unpack().unwrap(), table(10_000, 10));
    }

    #[test]
    fn damage_is_told() {
        let good = PackedTable::pack(&table(50, 3)).unwrap();
        let mut short = good.clone();
        short.data.truncate(good.data.len() / 8 * 4);
        let mut more = good.clone();
        more.samples = 51;
        let mut fewer = good.clone();
        fewer.columns.pop();
        let mut huge = good.clone();
        huge.samples = usize::MAX;
        for bad in [short, more, fewer, huge] {
            let text = bad.unpack().unwrap_err().to_string();
            assert!(text.contains("test confidence table is damaged"), "{text}");
        }
    }
}
