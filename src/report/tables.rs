/*!
Tables for the analyst: what a run left, one row per sample and classifier, per record, per measured
time, and per run and tier, so that every figure of the report can be computed again elsewhere.

A [`Table`] is columns; [`Table::csv`], [`Table::json`] and [`Table::ndjson`] only print it. What there is
no value for (NaN, too) is an empty field in CSV and null in JSON.
*/

mod profile;
mod records;
mod samples;

pub use profile::profile;
pub use records::{Ran, records, runs};
pub use samples::samples;

use super::ReportError;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use std::sync::Arc;

/// The values of one column.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Words; an empty one stands for none.
    Text(Vec<Arc<str>>),
    /// Whole numbers from 0, absent where a row has none.
    Whole(Vec<Option<u64>>),
    /// Numbers as they were measured, NaN for none.
    Single(Vec<f32>),
    /// Numbers as they were computed, NaN for none.
    Double(Vec<f64>),
    /// A flag per row.
    Flag(Vec<bool>),
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Values::Text(v) => v.len(),
            Values::Whole(v) => v.len(),
            Values::Single(v) => v.len(),
            Values::Double(v) => v.len(),
            Values::Flag(v) => v.len(),
        }
    }

    /// A field of CSV; the shortest digits that give the same number again.
    fn field(&self, row: usize) -> String {
        match self {
            Values::Text(v) => v[row].to_string(),
            Values::Whole(v) => v[row].map_or_else(String::new, |n| n.to_string()),
            Values::Single(v) if v[row].is_nan() => String::new(),
            Values::Single(v) => v[row].to_string(),
            Values::Double(v) if v[row].is_nan() => String::new(),
            Values::Double(v) => v[row].to_string(),
            Values::Flag(v) => v[row].to_string(),
        }
    }
}

/// A value on its way to JSON.
struct Cell<'a>(&'a Values, usize);

impl Serialize for Cell<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Cell(values, row) = *self;
        match values {
            Values::Text(v) if v[row].is_empty() => to.serialize_none(),
            Values::Text(v) => to.serialize_str(&v[row]),
            Values::Whole(v) => v[row].serialize(to),
            Values::Single(v) => to.serialize_f32(v[row]),
            Values::Double(v) => to.serialize_f64(v[row]),
            Values::Flag(v) => to.serialize_bool(v[row]),
        }
    }
}

/// A row on its way to JSON.
struct Row<'a>(&'a Table, usize);

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.columns.len()))?;
        for (name, values) in &self.0.columns {
            map.serialize_entry(name, &Cell(values, self.1))?;
        }
        map.end()
    }
}

/// Columns of the same length, each with its name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    columns: Vec<(String, Values)>,
}

impl Table {
    /// A table of these columns, which are of one length.
    fn of(columns: Vec<(&str, Values)>) -> Table {
        let columns: Vec<_> = columns
            .into_iter()
            .map(|(name, values)| (name.to_owned(), values))
            .collect();
        debug_assert!(columns.windows(2).all(|c| c[0].1.len() == c[1].1.len()));
        Table { columns }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, |(_, values)| values.len())
    }

    /// Names of the columns, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(name, _)| name.as_str())
    }

    /// Comma-separated values, a header line first.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn csv(&self) -> Result<Vec<u8>, ReportError> {
        let mut writer = ::csv::Writer::from_writer(Vec::new());
        writer.write_record(self.names())?;
        for row in 0..self.rows() {
            writer.write_record(self.columns.iter().map(|(_, values)| values.field(row)))?;
        }
        writer
            .into_inner()
            .map_err(|e| ReportError::Csv(e.into_error().into()))
    }

    /// One JSON document: an array of an object per row.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn json(&self) -> Result<Vec<u8>, ReportError> {
        let mut out = Vec::new();
        let mut to = serde_json::Serializer::new(&mut out);
        to.collect_seq((0..self.rows()).map(|row| Row(self, row)))?;
        out.push(b'\n');
        Ok(out)
    }

    /// A JSON object per line, one line per row.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn ndjson(&self) -> Result<Vec<u8>, ReportError> {
        let mut out = Vec::new();
        for row in 0..self.rows() {
            serde_json::to_writer(&mut out, &Row(self, row))?;
            out.push(b'\n');
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn table() -> Table {
        Table::of(vec![
            ("name", Values::Text(vec!["a,b".into(), "".into()])),
            ("n", Values::Whole(vec![None, Some(u64::MAX)])),
            ("x", Values::Single(vec![0.1, f32::NAN])),
            ("y", Values::Double(vec![f64::NAN, 0.1])),
            ("right", Values::Flag(vec![true, false])),
        ])
    }

    #[test]
    fn csv_quotes_and_leaves_out_what_is_not_there() {
        let csv = String::from_utf8(table().csv().unwrap()).unwrap();
        let expected = "name,n,x,y,right\n\"a,b\",,0.1,,true\n,18446744073709551615,,0.1,false\n";
        assert_eq!(csv, expected);
    }

    #[test]
    fn json_has_a_null_there_and_no_digits_that_were_not_measured() {
        let first = r#"{"name":"a,b","n":null,"x":0.1,"y":null,"right":true}"#;
        let second = r#"{"name":null,"n":18446744073709551615,"x":null,"y":0.1,"right":false}"#;
        let json = String::from_utf8(table().json().unwrap()).unwrap();
        assert_eq!(json, format!("[{first},{second}]\n"));
        let lines = String::from_utf8(table().ndjson().unwrap()).unwrap();
        assert_eq!(lines, format!("{first}\n{second}\n"));
    }
}
