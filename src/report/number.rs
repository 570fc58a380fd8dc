/*! Numbers as people read them: three significant digits, a unit, a dash for what isn't there. */

use crate::units::three;

pub use crate::units::{bytes, energy};

/// What stands for a number that isn't there.
pub const NONE: &str = "–";

/// Writes a count with separators: 1,234,567.
pub fn count(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A share, 0 to 1, as 41.2 %.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// Writes milliseconds with three digits that count.
pub fn ms(x: f64) -> String {
    if x.is_finite() {
        format!("{} ms", three(x))
    } else {
        NONE.to_string()
    }
}

/// Writes US dollars, small amounts with more digits.
pub fn dollars(x: f64) -> String {
    if x > 0.0 && x < 0.01 {
        return format!("${x:.4}");
    }
    format!("${x:.2}")
}

/// Writes a threshold with two digits behind the point, or more where it has them.
pub fn threshold(x: f64) -> String {
    let short = format!("{x:.2}");
    let exact = (x * 100.0 - (x * 100.0).round()).abs() < 1e-9;
    if exact { short } else { format!("{x:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(count(0), "0")]
    #[case(count(999), "999")]
    #[case(count(1_234_567), "1,234,567")]
    #[case(percent(0.4123), "41.2 %")]
    #[case(ms(0.0431), "0.04 ms")]
    #[case(ms(9.996), "10.0 ms")]
    #[case(ms(123.4), "123 ms")]
    #[case(ms(f64::NAN), "–")]
    #[case(dollars(0.0), "$0.00")]
    #[case(dollars(0.0042), "$0.0042")]
    #[case(dollars(3.175), "$3.17")]
    #[case(threshold(0.7), "0.70")]
    #[case(threshold(0.725), "0.725")]
    fn reads_well(#[case] found: String, #[case] expected: &str) {
        assert_eq!(found, expected);
    }
}
