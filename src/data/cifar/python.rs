/*! The Python version of CIFAR, as torchvision downloads it: pickled dictionaries. */

use super::super::DataError;
use super::super::error::FETCH_AGAIN;
use super::{Format, Half, PIXELS};
use crate::model::Signature;
use serde_pickle::{DeOptions, HashableValue, Value};
use std::collections::BTreeMap;
use std::path::Path;

const REMEDY: &str = "it must be the file of the Python version as published: fetch it again";

/// What a pickled file holds.
fn unpickle(file: &Path) -> Result<BTreeMap<HashableValue, Value>, DataError> {
    let bytes = std::fs::read(file).map_err(|error| DataError::io(file, error, FETCH_AGAIN))?;
    if let Some(other) = Signature::of(&bytes).filter(|found| *found != Signature::Pickle) {
        return Err(DataError::file(
            file,
            other.to_string(),
            other.remedy_for_data(),
        ));
    }
    // NumPy's own types aren't made: of an array, the state it would be restored from is left.
    let options = DeOptions::new().replace_unresolved_globals();
    match serde_pickle::value_from_slice(&bytes, options) {
        Ok(Value::Dict(entries)) => Ok(entries),
        Ok(_) => Err(DataError::file(
            file,
            "a pickle, but of no dictionary",
            REMEDY,
        )),
        Err(error) => Err(DataError::file(
            file,
            format!("not a pickle: {error}"),
            REMEDY,
        )),
    }
}

/// The value under `key`, which Python 2 wrote as bytes and Python 3 as text.
fn under<'a>(entries: &'a BTreeMap<HashableValue, Value>, key: &str) -> Option<&'a Value> {
    let text = HashableValue::String(key.into());
    let bytes = HashableValue::Bytes(key.into());
    entries.get(&text).or_else(|| entries.get(&bytes))
}

/// Appends the records of a file of the Python version and says how many they are.
pub(super) fn read(half: &mut Half, file: &Path, format: &Format) -> Result<usize, DataError> {
    let entries = unpickle(file)?;
    let bad = |problem: String| DataError::file(file, problem, REMEDY);
    let lacks = |key: &str| bad(format!("no `{key}` of the expected form"));
    // The state of an array is (version, shape, type, order, elements).
    let pixels = match under(&entries, "data") {
        Some(Value::Tuple(state)) => match state.as_slice() {
            [
                _,
                Value::Tuple(_),
                _,
                Value::Bool(false),
                Value::Bytes(pixels),
            ] => pixels,
            _ => return Err(lacks("data")),
        },
        _ => return Err(lacks("data")),
    };
    let Some(Value::List(labels)) = under(&entries, format.label_key) else {
        return Err(lacks(format.label_key));
    };
    if pixels.len() != labels.len() * PIXELS || labels.is_empty() {
        return Err(bad(format!(
            "{} labels and {} bytes of pixels; {PIXELS} bytes per label were expected",
            labels.len(),
            pixels.len()
        )));
    }
    for (record, label) in labels.iter().enumerate() {
        match label {
            Value::I64(label) if (0..format.classes as i64).contains(label) => {
                half.labels.push(*label as u16);
            }
            other => {
                return Err(bad(format!(
                    "record {record}: label {other}, but classes go from 0 to {}",
                    format.classes - 1
                )));
            }
        }
    }
    half.pixels.extend_from_slice(pixels);
    Ok(labels.len())
}

pub(super) fn names(file: &Path, format: &Format) -> Result<Vec<String>, DataError> {
    let entries = unpickle(file)?;
    let found: Vec<String> = match under(&entries, format.meta_key) {
        Some(Value::List(names)) => names
            .iter()
            .filter_map(|name| match name {
                Value::String(name) => Some(name.clone()),
                Value::Bytes(name) => Some(String::from_utf8_lossy(name).into_owned()),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    if found.len() != format.classes {
        return Err(DataError::file(
            file,
            format!("{} names for {} classes", found.len(), format.classes),
            REMEDY,
        ));
    }
    Ok(found)
}
