/*! Bars in eighths of a cell, bars of shares, sparklines. */

use super::put;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

const EIGHTHS: [&str; 9] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"];
const HEIGHTS: [&str; 8] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

/// A bar of a share of the width. What is not nothing is seen: at least an eighth.
pub fn bar(share: f64, width: u16) -> String {
    let share = if share.is_finite() {
        share.clamp(0.0, 1.0)
    } else {
        0.0
    };
    let mut eighths = (share * f64::from(width) * 8.0).round() as usize;
    if share > 0.0 && width > 0 {
        eighths = eighths.max(1);
    }
    let full = eighths / 8;
    format!("{}{}", "█".repeat(full), EIGHTHS[eighths % 8])
}

/// A value's share of the largest, on a linear or a logarithmic scale (three decades).
pub fn scaled(value: f64, largest: f64, log: bool) -> f64 {
    if value <= 0.0 || largest <= 0.0 {
        return 0.0;
    }
    let share = (value / largest).min(1.0);
    if log {
        (1.0 + share.log10() / 3.0).clamp(0.02, 1.0)
    } else {
        share
    }
}

/// Shares beside each other, each in its style with its label where it fits.
pub fn shares(buf: &mut Buffer, area: Rect, row: u16, parts: &[(f64, String, Style)]) {
    let total: f64 = parts.iter().map(|p| p.0).sum();
    if total <= 0.0 {
        return;
    }
    let (mut sum, mut x) = (0.0, 0);
    for (share, label, style) in parts {
        sum += share;
        let end = (sum / total * f64::from(area.width)).round() as u16;
        let room = end.saturating_sub(x);
        let fits = super::number::width(label) < usize::from(room);
        let fill = usize::from(room);
        let text = if fits {
            format!("{label:<fill$}")
        } else {
            " ".repeat(fill)
        };
        put(buf, area, x, row, &text, *style);
        // Where styles are alike, a mark keeps the shares apart.
        if room > 0 && end < area.width {
            put(buf, area, end - 1, row, "▏", *style);
        }
        x = end;
    }
}

/// The last values, each a column, on a scale from nothing to the largest.
pub fn sparkline(values: impl DoubleEndedIterator<Item = f64>, width: u16) -> String {
    let mut last: Vec<f64> = values.rev().take(usize::from(width)).collect();
    last.reverse();
    let most = last.iter().copied().fold(0.0, f64::max);
    let step = |v: &f64| {
        let i = if most > 0.0 { v / most * 8.0 } else { 0.0 };
        HEIGHTS[(i.ceil() as usize).clamp(1, 8) - 1]
    };
    last.iter().map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(0.0, "")]
    #[case(0.001, "▏")]
    #[case(0.5, "██")]
    #[case(0.53, "██▏")]
    #[case(1.0, "████")]
    #[case(7.0, "████")]
    #[case(f64::NAN, "")]
    fn bars_grow_by_eighths(#[case] share: f64, #[case] expected: &str) {
        assert_eq!(bar(share, 4), expected);
    }

    #[test]
    fn a_log_scale_lifts_the_small() {
        assert_eq!(scaled(1.0, 10.0, false), 0.1);
        assert!((scaled(1.0, 10.0, true) - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(scaled(0.0, 10.0, true), 0.0);
        assert_eq!(scaled(10.0, 10.0, true), 1.0);
    }

    #[test]
    fn sparklines_show_the_last_values() {
        assert_eq!(sparkline([9.0, 1.0, 4.0, 8.0].into_iter(), 3), "▁▄█");
        assert_eq!(sparkline([0.0].into_iter(), 3), "▁");
        assert_eq!(sparkline(std::iter::empty(), 3), "");
    }
}
