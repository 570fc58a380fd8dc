/*! Numbers as the screen writes them: three digits that matter, and their unit. */

use crate::units::three;
use ratatui::text::Span;

pub use crate::units::{bytes, energy};

/// What stands where there is no number.
pub const NONE: &str = "–";

/// Columns a text takes.
pub fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// Cut at the front where too long: the end of a long name says more than its beginning.
pub fn clip(text: &str, width: usize) -> String {
    let count = text.chars().count();
    match count > width {
        true if width == 0 => String::new(),
        true => format!(
            "…{}",
            text.chars().skip(count + 1 - width).collect::<String>()
        ),
        false => text.to_string(),
    }
}

/// Writes milliseconds as `1.91`, `12.3` or `123`.
pub fn ms(n: f64) -> String {
    three(n)
}

/// Writes a share (0 to 1) as `91.3 %`.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// `123`, `45.6 k`, `7.89 M`.
pub fn count(n: f64) -> String {
    match n {
        n if n < 1000.0 => format!("{n:.0}"),
        n if n < 1e6 => format!("{} k", three(n / 1e3)),
        n if n < 1e9 => format!("{} M", three(n / 1e6)),
        n => format!("{} G", three(n / 1e9)),
    }
}

/// Writes US dollars as `$0.21`.
pub fn usd(n: f64) -> String {
    format!("${}", dollars(n))
}

/// `0.21`, where the unit stands elsewhere.
pub fn dollars(n: f64) -> String {
    match n {
        n if n > 0.0 && n < 0.01 => format!("{n:.4}"),
        n => format!("{n:.2}"),
    }
}

/// Writes milliseconds as `0:04`, `12:34` or `1:02:03`.
pub fn clock(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..3600 => format!("{}:{:02}", s / 60, s % 60),
        _ => format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(ms(1.914), "1.91")]
    #[case(ms(9.999), "10.0")]
    #[case(ms(123.4), "123")]
    #[case(count(84_210.0), "84.2 k")]
    #[case(usd(0.2149), "$0.21")]
    #[case(usd(0.0012), "$0.0012")]
    #[case(usd(0.0), "$0.00")]
    #[case(percent(0.9126), "91.3 %")]
    #[case(clock(3_723_000), "1:02:03")]
    #[case(clip("stage3.2.conv1", 8), "…2.conv1")]
    #[case(clip("stem", 8), "stem")]
    fn reads(#[case] shown: String, #[case] expected: &str) {
        assert_eq!(shown, expected);
    }
}
