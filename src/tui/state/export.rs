/*! The layer table as a file: CSV or JSON, with what was measured beside what is known. */

use super::State;
use super::layers::{Row, rows};
use crate::tui::error::ExportError;
use crate::tui::message::Effect;
use serde::Serialize;
use std::path::PathBuf;

#[derive(Debug, Serialize)]
struct Exported {
    name: String,
    op: String,
    macs: u64,
    memory_bytes: usize,
    prefix_memory_share: f64,
    edge_ms: Option<f64>,
    cloud_ms: Option<f64>,
    split: bool,
    exit: bool,
}

impl State {
    /// Writes the rows as they are shown to a file.
    ///
    /// # Errors
    /// As [`State::export`].
    pub fn export_to(&self, file: PathBuf, over: bool) -> Result<Effect, ExportError> {
        let text = self.export(&file.to_string_lossy())?;
        Ok(Effect::Write { file, text, over })
    }

    /// The rows as they are shown, in the format that the file's name asks for.
    ///
    /// # Errors
    /// The name asks for another format.
    pub fn export(&self, file: &str) -> Result<String, ExportError> {
        let legal = |row: &Row, of: &dyn Fn(&crate::model::Layer) -> bool| {
            let network = self.network.as_ref();
            let last = network.and_then(|n| n.table.layers.get(row.layers.end.saturating_sub(1)));
            last.is_some_and(of)
        };
        let all: Vec<Exported> = rows(self)
            .into_iter()
            .map(|row| Exported {
                split: legal(&row, &|l| l.split_legal),
                exit: legal(&row, &|l| l.exit_legal),
                name: row.name,
                op: row.op,
                macs: row.macs,
                memory_bytes: row.bytes,
                prefix_memory_share: row.prefix,
                edge_ms: row.edge_ms,
                cloud_ms: row.cloud_ms,
            })
            .collect();
        if file.ends_with(".json") {
            return Ok(serde_json::to_string_pretty(&all)?);
        }
        if !file.ends_with(".csv") {
            return Err(ExportError::Format);
        }
        let mut csv = csv::Writer::from_writer(Vec::new());
        for row in &all {
            csv.serialize(row)?;
        }
        let bytes = csv
            .into_inner()
            .map_err(|e| csv::Error::from(e.into_error()))?;
        // Written by serde from strings and numbers alone.
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
