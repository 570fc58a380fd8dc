/*!
The one way in which bytes are written and read, and energies written: decimal units, 1 kB = 1,000 B, on screen, in
reports, by commands and in sessions. What is counted in units of 1,024 says so: KiB, MiB, GiB.
*/

use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected, Visitor};
use std::fmt;

/// Three significant digits, without an exponent.
pub fn three(n: f64) -> String {
    match n.abs() {
        size if size < 9.995 => format!("{n:.2}"),
        size if size < 99.95 => format!("{n:.1}"),
        _ => format!("{n:.0}"),
    }
}

/// Writes bytes as `123 B`, `45.6 kB`, `7.89 MB` or `1.23 GB`.
pub fn bytes(n: f64) -> String {
    if n < 999.5 {
        return format!("{n:.0} B");
    }
    let units = ["kB", "MB", "GB", "TB"];
    let mut size = n / 1e3;
    let mut unit = 0;
    while size >= 999.5 && unit + 1 < units.len() {
        size /= 1e3;
        unit += 1;
    }
    format!("{} {}", three(size), units[unit])
}

/// What text is read as bytes.
pub const BYTES: &str = "bytes as 600000, 600 kB or 1.5 MiB";

/// A number that is no number of bytes, or has a unit that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}`: write {BYTES}")]
pub struct NoBytes(String);

/// The number and the unit of bytes; the unit is empty where there is none.
fn parted(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| c.is_ascii_alphabetic() && !matches!(c, 'e' | 'E'));
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    (number.trim(), unit)
}

/// Whether bytes are written with their unit.
pub fn has_unit(text: &str) -> bool {
    !parted(text).1.is_empty()
}

/// Reads bytes as they are typed: a number, and perhaps B, kB, MB, GB, TB, KiB, MiB, GiB or TiB, in any case.
///
/// # Errors
/// The text is something else, negative, or more than 2^53.
pub fn read(text: &str) -> Result<u64, NoBytes> {
    let wrong = || NoBytes(text.to_owned());
    let (number, unit) = parted(text);
    let scale = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return Err(wrong()),
    };
    let bytes = number.parse::<f64>().map_err(|_| wrong())? * scale;
    // All whole numbers up to there are exact.
    let most = (1_u64 << 53) as f64;
    match (0.0..=most).contains(&bytes) {
        true => Ok(bytes.round() as u64),
        false => Err(wrong()),
    }
}

/// Reads bytes as they are typed, of what lies in memory.
///
/// # Errors
/// As with [`read`].
pub fn read_memory(text: &str) -> Result<usize, NoBytes> {
    usize::try_from(read(text)?).map_err(|_| NoBytes(text.to_owned()))
}

/// Reads bytes of a session: a number, or a text with a unit; nothing is none.
///
/// # Errors
/// It is something else.
pub fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let found = Option::<InFile>::deserialize(deserializer)?;
    Ok(found.map(|InFile(bytes)| bytes))
}

struct InFile(usize);

impl<'de> Deserialize<'de> for InFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InFileVisitor)
    }
}

struct InFileVisitor;

impl Visitor<'_> for InFileVisitor {
    type Value = InFile;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{BYTES}, in quotes where they have a unit")
    }

    fn visit_u64<E: Error>(self, bytes: u64) -> Result<InFile, E> {
        let bytes = usize::try_from(bytes).map(InFile);
        bytes.map_err(|_| E::custom("more bytes than this machine can count"))
    }

    fn visit_i64<E: Error>(self, bytes: i64) -> Result<InFile, E> {
        match u64::try_from(bytes) {
            Ok(bytes) => self.visit_u64(bytes),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(bytes), &self)),
        }
    }

    fn visit_f64<E: Error>(self, bytes: f64) -> Result<InFile, E> {
        self.visit_str(&bytes.to_string())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<InFile, E> {
        read_memory(text).map(InFile).map_err(E::custom)
    }
}

/// Writes millijoules as `123 nJ`, `45.6 µJ`, `7.89 mJ` or `1.23 J`.
pub fn energy(mj: f64) -> String {
    let (size, unit) = match mj.abs() {
        0.0 => (0.0, "mJ"),
        size if size < 0.999_5e-3 => (mj * 1e6, "nJ"),
        size if size < 0.999_5 => (mj * 1e3, "µJ"),
        size if size < 999.5 => (mj, "mJ"),
        _ => (mj / 1e3, "J"),
    };
    format!("{} {unit}", three(size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    #[rstest]
    #[case(0.0, "0 B")]
    #[case(999.0, "999 B")]
    #[case(999.7, "1.00 kB")]
    #[case(1_024.0, "1.02 kB")]
    #[case(16_412.0, "16.4 kB")]
    #[case(999_600.0, "1.00 MB")]
    #[case(1_048_576.0, "1.05 MB")]
    #[case(4_100_000_000.0, "4.10 GB")]
    fn three_digits_and_decimal_units(#[case] n: f64, #[case] expected: &str) {
        assert_eq!(bytes(n), expected);
    }

    #[rstest]
    #[case("200000", Some(200_000))]
    #[case("2e5", Some(200_000))]
    #[case("200KB", Some(200_000))]
    #[case("200 kB", Some(200_000))]
    #[case("0.2 mb", Some(200_000))]
    #[case("1.5 MiB", Some(1_572_864))]
    #[case("1GiB", Some(1 << 30))]
    #[case("8 GB", Some(8_000_000_000))]
    #[case("16 B", Some(16))]
    #[case("", None)]
    #[case("kB", None)]
    #[case("12 apples", None)]
    #[case("12 Mbit", None)]
    #[case("-1 kB", None)]
    #[case("NaN", None)]
    #[case("1e300", None)]
    fn bytes_are_read_with_or_without_their_unit(
        #[case] text: &str,
        #[case] expected: Option<u64>,
    ) {
        assert_eq!(read(text).ok(), expected);
    }

    #[rstest]
    #[case("Some(600000)", Some(600_000))]
    #[case("600000", Some(600_000))]
    #[case("6e5", Some(600_000))]
    #[case("\"600 kB\"", Some(600_000))]
    #[case("Some(\"0.5 MiB\")", Some(524_288))]
    #[case("None", None)]
    fn a_sessions_bytes_may_have_a_unit(#[case] text: &str, #[case] expected: Option<usize>) {
        let dialect = ron::Options::default()
            .with_default_extension(ron::extensions::Extensions::IMPLICIT_SOME);
        let mut deserializer = ron::Deserializer::from_str_with_options(text, &dialect).unwrap();
        assert_eq!(limit(&mut deserializer).unwrap(), expected);
    }

    #[rstest]
    #[case(0.0, "0.00 mJ")]
    #[case(0.000_12, "120 nJ")]
    #[case(0.012, "12.0 µJ")]
    #[case(0.999_7, "1.00 mJ")]
    #[case(315.0, "315 mJ")]
    #[case(12_296.0, "12.3 J")]
    fn energies_too(#[case] mj: f64, #[case] expected: &str) {
        assert_eq!(energy(mj), expected);
    }
}
