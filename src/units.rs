/*! The one way in which bytes are written: decimal units, 1 kB = 1,000 B, on screen, in reports and by commands. */

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

#[cfg(test)]
mod tests {
    use super::*;
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
}
