/*! The numbers of a tensor in JSON, nested or flat. */

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Numbers from an array, however deeply nested; JSON's own limit of depth bounds that.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Flat {
    /// Numbers in row-major order.
    pub values: Vec<f32>,
    /// Whether they are written as whole ones.
    pub whole: bool,
}

impl Serialize for Flat {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.whole {
            true => serializer.collect_seq(self.values.iter().map(|v| *v as i64)),
            false => self.values.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Flat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Flat, D::Error> {
        let mut flat = Vec::new();
        deserializer.deserialize_seq(Rows(&mut flat))?;
        Ok(Flat {
            values: flat,
            whole: false,
        })
    }
}

/// Appends what it visits.
struct Rows<'a>(&'a mut Vec<f32>);

impl<'de> serde::de::DeserializeSeed<'de> for Rows<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("numbers, or arrays of them")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        while rows.next_element_seed(Rows(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.0.push(value as f32);
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.visit_f64(value as f64)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.visit_f64(value as f64)
    }
}
