/*!
A data set on the way to an agent: `magic "ELPD" · version u32 · c, h, w, samples u32 · pixels`, all
little-endian. Pixels travel as bytes; labels stay at the workbench.
*/

use super::message::DataSet;

const MAGIC: &[u8; 4] = b"ELPD";
const VERSION: u32 = 1;
/// Bytes in front of the pixels.
pub const HEADER: usize = 24;

/// Why bytes are not a data set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("data set: {0}; send it again")]
pub struct DataSetError(String);

impl DataSet {
    /// Bytes of one sample.
    pub fn sample_bytes(&self) -> usize {
        self.shape.iter().product()
    }

    /// Its bytes; the same set always gives the same bytes.
    ///
    /// # Errors
    /// Where extents and pixels don't belong together, or an extent doesn't fit 32 bits.
    pub fn encode(&self) -> Result<Vec<u8>, DataSetError> {
        let [c, h, w] = self.shape;
        let size = size(&[c, h, w, self.samples])?;
        if size != self.pixels.len() {
            return Err(DataSetError(format!(
                "{} bytes of pixels, its extents say {size}",
                self.pixels.len()
            )));
        }
        let mut out = Vec::with_capacity(HEADER + size);
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        for extent in [c, h, w, self.samples] {
            let extent = u32::try_from(extent)
                .map_err(|_| DataSetError(format!("an extent of {extent} is too large")))?;
            out.extend(extent.to_le_bytes());
        }
        out.extend(&self.pixels);
        Ok(out)
    }

    /// Reads what [`DataSet::encode`] wrote.
    ///
    /// # Errors
    /// Where the bytes are anything else.
    pub fn decode(bytes: &[u8]) -> Result<DataSet, DataSetError> {
        let Some((head, pixels)) = bytes.split_first_chunk::<HEADER>() else {
            return Err(DataSetError("shorter than its header".to_string()));
        };
        let (shape, samples) = extents(head, pixels.len() as u64)?;
        Ok(DataSet {
            shape,
            samples,
            pixels: pixels.to_vec(),
        })
    }
}

/// Shape and count of the samples, from the header in front of `pixels` bytes.
///
/// # Errors
/// Where it is no header, or of other bytes.
pub fn extents(head: &[u8; HEADER], pixels: u64) -> Result<([usize; 3], usize), DataSetError> {
    let word = |at: usize| {
        u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize
    };
    if &head[..4] != MAGIC || word(4) != VERSION as usize {
        return Err(DataSetError("not a data set of version 1".to_string()));
    }
    let shape = [word(8), word(12), word(16)];
    let samples = word(20);
    let size = size(&[shape[0], shape[1], shape[2], samples])?;
    if pixels != size as u64 {
        return Err(DataSetError(format!(
            "{pixels} bytes of pixels, its extents say {size}"
        )));
    }
    Ok((shape, samples))
}

fn size(extents: &[usize]) -> Result<usize, DataSetError> {
    let size = extents.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    size.ok_or_else(|| DataSetError(format!("its extents {extents:?} overflow")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_and_nothing_else_does() {
        let set = DataSet {
            shape: [3, 2, 2],
            samples: 2,
            pixels: (0..24).collect(),
        };
        let bytes = set.encode().unwrap();
        assert_eq!(DataSet::decode(&bytes).unwrap(), set);
        assert!(DataSet::decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(DataSet::decode(&bytes[..10]).is_err());
        let mut huge = bytes.clone();
        huge[8..24].fill(0xff);
        assert!(DataSet::decode(&huge).is_err());
        let short = DataSet { samples: 3, ..set };
        assert!(short.encode().is_err());
    }
}
