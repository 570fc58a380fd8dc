/*! The report as one JSON document. */

use super::{Report, ReportError};

/// Indented, with a line end.
///
/// # Errors
/// Where it can't be serialised.
pub fn json(report: &Report) -> Result<String, ReportError> {
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    Ok(text)
}
