/*! The layer table as a file: CSV or JSON, with what was measured beside what is known. */

use super::State;
use super::layers::{Row, rows};
use crate::tui::error::ExportError;
use crate::tui::message::Effect;
use serde_json::{Map, Value};
use std::path::PathBuf;

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
        let names = self.document.session.tier_names();
        let columns = |row: &Row| {
            let mut columns: Vec<(String, Value)> = vec![
                ("name".into(), row.name.clone().into()),
                ("op".into(), row.op.clone().into()),
                ("macs".into(), row.macs.into()),
                ("memory_bytes".into(), row.bytes.into()),
                ("prefix_memory_share".into(), row.prefix.into()),
            ];
            let times = names.tiers().zip(&row.ms);
            columns
                .extend(times.map(|(tier, ms)| (format!("{}_ms", names.name(tier)), (*ms).into())));
            columns.push(("split".into(), legal(row, &|l| l.split_legal).into()));
            columns.push(("exit".into(), legal(row, &|l| l.exit_legal).into()));
            columns
        };
        let all: Vec<_> = rows(self).iter().map(columns).collect();
        if file.ends_with(".json") {
            let all: Vec<Map<String, Value>> = all
                .into_iter()
                .map(|row| row.into_iter().collect())
                .collect();
            return Ok(serde_json::to_string_pretty(&all)?);
        }
        if !file.ends_with(".csv") {
            return Err(ExportError::Format);
        }
        let mut csv = csv::Writer::from_writer(Vec::new());
        if let Some(first) = all.first() {
            csv.write_record(first.iter().map(|(name, _)| name))?;
        }
        for row in &all {
            let cell = |value: &Value| match value {
                Value::String(text) => text.clone(),
                Value::Null => String::new(),
                other => other.to_string(),
            };
            csv.write_record(row.iter().map(|(_, value)| cell(value)))?;
        }
        let bytes = csv
            .into_inner()
            .map_err(|e| csv::Error::from(e.into_error()))?;
        // Made of strings and numbers alone.
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
