/*!
What travelling does to what is sent: images coded as JPEG files, put through the whole network once more,
so that a plan that sends them is predicted with what they lose; and how far tensors are compressed.
*/

use super::stage_cache::Reporter;
use super::{Network, RunError};
use crate::backend::{Backend, CompileOptions, Native};
use crate::data::{DataError, LoadedData, Preprocessing, Set, jpeg};
use crate::engine::Cancel;
use crate::model::ValueId;
use crate::plan::{Compression, Wire};
use crate::predict::policy::Output;
use crate::predict::{Column, CompressionRatio, ConfidenceTable};
use crate::protocol::wire;
use crate::session::Session;
use crate::session::results::ImageTables;
use crate::session::tables::PackedTable;
use crate::train::{Samples, forward_scores};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Calibration images whose tensors are compressed: a ratio hardly differs from image to image.
const COMPRESSED: usize = 32;

/// Images of a set as they arrive: coded, decoded, preprocessed.
struct Coded<'a> {
    data: &'a LoadedData,
    set: Set,
    preprocessing: &'a Preprocessing,
    quality: u8,
    /// Bytes of all files so far.
    bytes: AtomicU64,
    failed: Mutex<Option<DataError>>,
}

impl Coded<'_> {
    fn deliver(&self, index: usize, out: &mut [f32]) -> Result<(), DataError> {
        let shape = self.data.shape();
        let file = jpeg::encode(shape, self.data.pixels(self.set, index), self.quality)?;
        self.bytes.fetch_add(file.len() as u64, Ordering::Relaxed);
        let pixels = jpeg::decode(shape, &file)?;
        self.preprocessing.apply(shape, &pixels, out)
    }
}

impl Samples for Coded<'_> {
    fn len(&self) -> usize {
        self.data.len(self.set)
    }

    fn label(&self, index: usize) -> u16 {
        self.data.label(self.set, index)
    }

    fn input(&self, index: usize, out: &mut [f32]) {
        if let Err(error) = self.deliver(index, out) {
            out.fill(f32::NAN);
            if let Ok(mut failed) = self.failed.lock() {
                failed.get_or_insert(error);
            }
        }
    }

    fn identity(&self) -> String {
        let quality = self.quality;
        format!("{} JPEG {quality}", self.data.hash(self.set))
    }
}

/// Both sets through the whole network, their images coded as the session says.
pub(super) fn images(
    reporter: &mut Reporter,
    session: &Session,
    network: &Network,
    data: &LoadedData,
    cancel: &Cancel,
) -> Result<ImageTables, RunError> {
    let total = data.len(Set::Calibration) + data.len(Set::Test);
    let mut before = 0;
    let mut made = Vec::new();
    for set in [Set::Calibration, Set::Test] {
        let samples = Coded {
            data,
            set,
            preprocessing: session.pixels(),
            quality: session.jpeg_quality,
            bytes: AtomicU64::new(0),
            failed: Mutex::new(None),
        };
        let scores = forward_scores(&network.fused, &[], &samples, cancel, &mut |done| {
            reporter.progress(before + done, total, "images as JPEG files deliver them");
        });
        if let Ok(Some(error)) = samples.failed.into_inner() {
            return Err(error.into());
        }
        let scores = scores?;
        let mut column = Column::new(None, "", 1.0);
        let output = match network.ends_in_softmax {
            true => Output::Probabilities,
            false => Output::Logits,
        };
        for scores in &scores {
            column.extend(scores, network.table.classes, output)?;
        }
        let mut table = ConfidenceTable::new(set, data.labels(set).to_vec());
        table.push(column)?;
        let mean = samples.bytes.into_inner() as f64 / data.len(set).max(1) as f64;
        made.push((mean, PackedTable::pack(&table)?));
        before += data.len(set);
    }
    let [(on_calibration, calibration), (on_test, test)] =
        <[_; 2]>::try_from(made).map_err(|_| RunError::NothingToRun)?;
    Ok(ImageTables {
        quality: session.jpeg_quality,
        bytes: (on_calibration, on_test),
        calibration,
        test,
    })
}

/// What the session's compression leaves of the tensors behind each layer where it may be split, over a
/// few calibration images.
pub(super) fn ratios(
    session: &Session,
    network: &Network,
    data: &LoadedData,
    cancel: &Cancel,
) -> Result<Vec<CompressionRatio>, RunError> {
    let plain = Wire {
        compression: Compression::None,
        ..session.wire
    };
    let (fused, layers) = (&network.fused, &network.table.layers);
    let rows: Vec<usize> = network.table.splits().collect();
    let ends: Vec<ValueId> = rows
        .iter()
        .map(|&row| fused.find(&layers[row].value))
        .collect::<Result<_, _>>()?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let pieces = fused.subgraph(&fused.inputs, &ends)?;
    let pieces = Native::default().compile(pieces, &CompileOptions { threads: 1 })?;
    let mut bytes = vec![(0, 0); rows.len()];
    let mut input = vec![0.0; data.shape().iter().product()];
    for index in 0..data.len(Set::Calibration).min(COMPRESSED) {
        data.input(Set::Calibration, index, session.pixels(), &mut input)?;
        let tensors = pieces.run_f32(1, &[&input], cancel)?;
        for (((small, large), &row), tensor) in bytes.iter_mut().zip(&rows).zip(&tensors) {
            let shape = layers[row].shape.at(1);
            *small += wire::encode(session.wire, &shape, tensor)?.len();
            *large += wire::encode(plain, &shape, tensor)?.len();
        }
    }
    let ratio = |(&row, (small, large)): (&usize, &(usize, usize))| CompressionRatio {
        after: layers[row].name.clone(),
        wire: session.wire,
        ratio: *small as f64 / (*large).max(1) as f64,
    };
    Ok(rows.iter().zip(&bytes).map(ratio).collect())
}
